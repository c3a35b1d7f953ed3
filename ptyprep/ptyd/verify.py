"""Is a prepared file whole, and does it hold what it says? Which of its frames can be read?"""
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from isal import isal_zlib

from ptyprep.errors import SourceError
from ptyprep.hdf5 import h5rw
from ptyprep.hdf5.files import read_dataset, read_numbers, reading
from ptyprep.hdf5.first_look import look_first
from ptyprep.hdf5.guarded import open_hdf5
from ptyprep.sinks.chunks import CHECKED, checksum_of_frames
from ptyprep.sources.hdf5 import Hdf5Stack
from ptyprep.sources.pieces import pieces_of
from ptyprep.sources.ptyd import folders_of, numbers_of, open_chunk, part_of
from ptyprep.words.spelling import option

STACKS, COLUMNS = ("data", "weights"), ("indices", "frame_ids", "positions")
GEOMETRY = ("energy", "distance", "psize", "shape")


def problems(path, *, trusted=False, follow_links=False):
    """What is wrong with a `.ptyd`, one sentence each; nothing where all is well.

    Looks at the structure, counts, links, checksums (or, without them, whether frames decode), positions and
    geometry. Raises SourceError when it is no `.ptyd` at all, or makes HDF5 hang or crash.

    trusted : do without the look at it by another process first, which takes 0.2 s; so in what follows
    follow_links : open what it leads to outside its folder, too; so in what follows
    """
    with opened(path, trusted=trusted, follow_links=follow_links) as file:
        meta, _ = groups_of(file)
        yield from _meta_problems(meta)
        shape, frames = None, 0
        for one in examine(file):
            yield from (f"{one.name}: {what}" for what in one.problems)
            shape, frames = shape or one.shape, frames + one.frames
        yield from _count_problems(meta, shape, frames)
        for name in ("meta", "info"):
            yield from _pickles(file.get(name))


ALL = None              # the frames that a problem concerns: all of the chunk


@dataclass(frozen=True)
class Examined:
    """A chunk, or all those at the end that are not there, and what is wrong with it: (sentence, its frames or ALL)."""
    number: int
    name: str
    wrong: list
    frames: int = 0
    shape: tuple | None = None
    path: Path | None = None

    @property
    def problems(self):
        return [what for what, _ in self.wrong]

    @property
    def good(self):
        """The frames that can be read, as they were written."""
        if any(rows is ALL for _, rows in self.wrong):
            return []
        bad = {row for _, rows in self.wrong for row in rows}
        return [row for row in range(self.frames) if row not in bad]

    @property
    def lost(self):
        """What cannot be read of it, in a sentence; None where there is nothing."""
        if not self.wrong:
            return None
        bad = self.frames - len(self.good)
        name = f"{bad} of the {self.frames} frames of {self.name}" if self.good else self.name
        more = f" (and {len(self.wrong) - 1} problems more)" if len(self.wrong) > 1 else ""
        return f"{name}: {self.problems[0]}{more}"


def examine(file, parts=None, *, moved=False):
    """Look at each chunk of an open file; see `open_chunk`."""
    numbers, expected, first, after = numbers_in(file["chunks"]), 0, None, 0
    there = max((n for n in numbers if _is_there(file, n, parts, moved)), default=-1)
    for number in (n for n in numbers if n <= there):
        if number > after:
            expected = None
            yield Examined(after, _names(after, number - 1), [("it is not there", ALL)])
        after, frames, shape, path = number + 1, None, None, None
        try:
            with open_chunk(file, number, parts, moved=moved) as group:
                found = list(_chunk_problems(group, expected))
                path, data = Path(group.file.filename), group.get("data")
                if isinstance(data, h5py.Dataset) and data.ndim == 3:
                    frames, shape = len(data), data.shape[1:]
                    kind = data.dtype, sorted(n for n in group if n in STACKS + COLUMNS), shape
                    first = first or kind
                    if kind != first:
                        found.append((f"frames of {kind[0]} {shape} with {', '.join(kind[1])}; those before are "
                                      f"{first[0]} {first[2]} with {', '.join(first[1])}", ALL))
                    if expected is None and "indices" in group and frames:
                        expected = int(read_dataset(group["indices"])[0])
        except SourceError as err:
            found = [(str(err), ALL)]
        expected = None if frames is None or expected is None else expected + frames
        yield Examined(number, f"chunk {number}", found, frames or 0, shape, path)
    if there < numbers[-1]:
        why = (f"not there: still being written, interrupted (prepare with {option('resume', True)} goes on), or "
               f"elsewhere (repair with {option('parts')})"
               if str(there + 1) in file["chunks"] else "not there")
        yield Examined(there + 1, _names(there + 1, numbers[-1]), [(why, ALL)])


def _names(first, last):
    return f"chunk {first}" if first == last else f"chunks {first} to {last}"


@contextmanager
def opened(path, parts=None, *, trusted, follow_links, without=False):
    """A prepared file that is read, after the first look at it; `without` parts that make HDF5 hang, or not at all."""
    folders = folders_of(path, parts, follow_links=follow_links)
    look_first(path, folders, trusted=trusted, without=without)
    with reading(path, "a .ptyd file", folders) as file:
        yield file


def _is_there(file, number, parts, moved):
    try:
        return part_of(file, number, parts, moved=moved) is not None
    except SourceError:
        return True     # where it must not be


def groups_of(file):
    for name in ("meta", "chunks"):
        if not isinstance(file.get(name), h5py.Group):
            raise SourceError(f"{file.filename}: no {name} in it; expected a .ptyd file")
    return file["meta"], file["chunks"]


def numbers_in(chunks):
    if not (numbers := numbers_of(chunks)):
        raise SourceError(f"{chunks.file.filename}: no chunk in it")
    return numbers


def _meta_problems(meta):
    for name in (*GEOMETRY, "num_frames", "center"):
        if name not in meta:
            yield f"meta: no {name}"
            continue
        if "type" not in meta[name].attrs:
            yield f"meta: {name} has no attribute type, which PtyPy needs"
        try:
            value = _numbers_of(meta, name)
        except SourceError as err:
            yield f"meta: {err}"
            continue
        if name in GEOMETRY and not (np.isfinite(value) & (value > 0)).all():
            yield f"meta: {name} is {_list(value)}; expected positive numbers"


def _count_problems(meta, shape, frames):
    expected = {"num_frames": [frames], **({"shape": list(shape)} if shape else {})}
    for name, there in expected.items():
        try:
            told = _numbers_of(meta, name).tolist() if name in meta else there
        except SourceError:
            continue                # said already
        if told != there:
            yield f"meta: {name} is {_list(told)}, but the chunks that can be read hold {_list(there)}"
    if shape and "weight2d" in meta and getattr(meta["weight2d"], "shape", None) not in (shape, ()):
        yield f"meta: weight2d is {meta['weight2d']}, but frames have {shape}"


def _numbers_of(meta, name):
    if not isinstance(meta[name], h5py.Dataset) or not meta[name].size:
        raise SourceError(f"{name} holds no numbers")
    return np.ravel(read_numbers(meta[name]))


def _list(values):
    return " x ".join(f"{value:.12g}" for value in values)


def _chunk_problems(group, start):
    """(sentence, frames that it concerns, or ALL); start : place of its first frame in the scan, None where it cannot
    be told."""
    if "data" not in group:
        yield "no data in it", ALL
        return
    n = len(group["data"])
    for name in group:
        if not isinstance(group[name], h5py.Dataset) or group[name].ndim == 0 or len(group[name]) != n:
            yield f"{name} is not one row for each of its {n} frames", ALL
    for name in COLUMNS:
        if name in group and not h5rw.is_intact(group[name], read_dataset(group[name])):
            yield f"{name}: the checksum is wrong, its bytes have changed since they were written", ALL
    if "positions" in group and getattr(group["positions"], "shape", None) != (n, 2):
        yield f"positions are {group['positions']}; expected ({n}, 2)", ALL
    elif "positions" in group:
        bad = np.flatnonzero(~np.isfinite(read_dataset(group["positions"])).all(axis=-1))
        if len(bad):
            yield f"positions of {len(bad)} frames are not finite, the first of frame {bad[0]}", bad.tolist()
    if "frame_ids" in group and n:          # ours: PtyPy's may have gaps
        indices = read_dataset(group["indices"])
        start = indices[0] if start is None else start
        if indices.tolist() != list(range(start, start + n)):
            yield (f"indices are not {start} to {start + n - 1}, but {indices[0]} to {indices[-1]}: in the wrong "
                   f"place?"), ALL
    for name in STACKS:
        if name in group:
            yield from _stack_problems(group[name], name)


def _stack_problems(dataset, name):
    """(sentence, frames that it concerns), of data or weights."""
    sums, changed = {}, set()       # of each frame of a virtual dataset; the frames that differ from their own file's
    pieces, nowhere = pieces_of(dataset), set(range(len(dataset)))
    for piece in pieces:
        rows = _rows_of(piece, range(piece.first, piece.first + piece.count))
        nowhere.difference_update(rows)
        if piece.missing:
            yield f"{name}: {piece.missing}", rows
            continue
        try:
            with open_hdf5(piece.path) as file:
                stored = file[piece.key]
                if h5rw.CHECKSUM in stored.attrs and stored.chunks == (1, *stored.shape[1:]):
                    found, wrong = _checksums(stored, name)
                    for what, bad in wrong:
                        if bad := [row for row in _rows_of(piece, bad) if row is not None]:
                            changed.update(bad)
                            yield what, bad
                    sums |= dict(zip(_rows_of(piece, range(len(found))), found))
                    continue
        except SourceError as err:
            yield f"{name}: {err}", rows
            continue
        stack = Hdf5Stack.of_pieces(piece.path, [piece], dataset.shape)
        for row in rows:
            try:
                stack.read([row])
            except SourceError as err:
                yield f"{name}: {err}", [row]
    if nowhere:
        yield f"{name}: {len(nowhere)} frames are in no file, the first is {min(nowhere)}", sorted(nowhere)
    if dataset.is_virtual and h5rw.CHECKSUM in dataset.attrs and sums.keys() == set(range(len(dataset))):
        yield from _others(dataset, name, [sums[row] for row in range(len(dataset))], changed)


def _rows_of(piece, frames):
    """Which frames of a stack some frames of a piece's dataset are; None for one that is not used."""
    numbers = [frame - piece.first for frame in frames]
    return [piece.start + number // piece.block * piece.step + number % piece.block if 0 <= number < piece.count
            else None for number in numbers]


def _checksums(stored, name):
    """(checksum of each frame as it is stored, [(sentence, frames that it concerns)])."""
    sums, wrong = [], []
    for i in range(len(stored)):
        try:
            sums.append(isal_zlib.crc32(stored.id.read_direct_chunk((i, 0, 0))[1]))
        except (OSError, RuntimeError, SystemError, ValueError):
            wrong.append((f"{name}: frame {i} of it is not stored", [i]))
            sums.append(0)
    bad = _differing(stored, sums)
    if len(bad):
        wrong.append((f"{name}: the checksums of {len(bad)} of {len(sums)} frames are wrong, the first is {bad[0]}: "
                      f"bytes have changed since they were written"
                      + (f" (one checksum is of {CHECKED} frames)" if len(sums) > CHECKED else ""), bad))
    return sums, wrong


def _others(dataset, name, sums, changed):
    """What a virtual dataset says of the frames in the files of the ranks, but for those that are wrong already."""
    bad = [row for row in _differing(dataset, sums) if row not in changed]
    if bad:
        yield (f"{name}: the files of the ranks hold other frames than were written, {len(bad)} of {len(sums)}, the "
               f"first is {bad[0]}: was a file exchanged?"), bad


def _differing(dataset, sums):
    """The frames of a dataset whose checksums are not those that it was written with; all where they are of others."""
    expected, found = dataset.attrs[h5rw.CHECKSUM], checksum_of_frames(sums)
    if expected.shape != found.shape:
        return list(range(len(sums)))
    each = CHECKED if len(sums) > CHECKED else 1
    return [row for i in np.flatnonzero(expected != found) for row in range(i * each, min((i + 1) * each, len(sums)))]


def _pickles(group):
    found = []

    def look(name, node):
        if h5rw.kind_of(node) in ("pickle", "record_array"):
            found.append(f"{node.name} is a {h5rw.kind_of(node)}, which can run code when PtyPy reads it")
    if isinstance(group, h5py.Group):
        group.visititems(look)
    return found
