"""Is a prepared file whole, and does it hold what it says? And, if not all of it, what can be saved."""
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from isal import isal_zlib

from ptyprep.errors import OutputError, SourceError
from ptyprep.hdf5 import values as h5rw
from ptyprep.hdf5.codec import Encoder, filter_of
from ptyprep.hdf5.first_look import look_first
from ptyprep.processing.masks import Masks
from ptyprep.sinks.disk import publish
from ptyprep.sinks.parts import CHECKED, WEIGHTS, checksum_of_frames, write_columns, write_main, write_stack
from ptyprep.sinks.runs import FINGERPRINT
from ptyprep.sources.hdf5 import Hdf5Stack, open_hdf5, pieces_of, read_dataset, read_numbers, reading
from ptyprep.sources.ptyd import folders_of, numbers_of, open_chunk, part_of
from ptyprep.words.spelling import option

STACKS, COLUMNS = ("data", "weights"), ("indices", "frame_ids", "positions")
GEOMETRY = ("energy", "distance", "psize", "shape")
BLOCK = 64              # frames that are decoded at a time


def problems(path, *, trusted=False, follow_links=False):
    """What is wrong with a `.ptyd`, one sentence each; nothing where all is well.

    Looks at the structure, counts, links, checksums (or, without them, whether frames decode), positions and
    geometry. Raises SourceError when it is no `.ptyd` at all, or makes HDF5 hang or crash.

    trusted : do without the look at it by another process first, which takes 0.2 s; so in what follows
    follow_links : open what it leads to outside its folder, too; so in what follows
    """
    with _opened(path, trusted=trusted, follow_links=follow_links) as file:
        meta, _ = _groups(file)
        yield from _meta_problems(meta)
        shape, frames = None, 0
        for one in _examine(file):
            yield from (f"{one.name}: {what}" for what in one.problems)
            shape, frames = shape or one.shape, frames + one.frames
        yield from _count_problems(meta, shape, frames)
        for name in ("meta", "info"):
            yield from _pickles(file.get(name))


ALL = None              # the frames that a problem concerns: all of the chunk


@dataclass(frozen=True)
class _Examined:
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
        name = self.name if len(self.good) == 0 else f"{bad} of the {self.frames} frames of {self.name}"
        return f"{name}: {self.problems[0]}"


def _examine(file, parts=None, *, moved=False):
    """Look at each chunk of an open file; see `open_chunk`."""
    numbers, expected, first, after = _numbers(file["chunks"]), 0, None, 0
    there = max((n for n in numbers if _is_there(file, n, parts, moved)), default=-1)
    for number in (n for n in numbers if n <= there):
        if number > after:
            expected = None
            yield _Examined(after, _names(after, number - 1), [("it is not there", ALL)])
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
        yield _Examined(number, f"chunk {number}", found, frames or 0, shape, path)
    if there < numbers[-1]:
        why = (f"not there: still being written, interrupted (prepare with {option('resume', True)} goes on), or "
               f"elsewhere (repair with {option('parts')})"
               if str(there + 1) in file["chunks"] else "not there")
        yield _Examined(there + 1, _names(there + 1, numbers[-1]), [(why, ALL)])


def _names(first, last):
    return f"chunk {first}" if first == last else f"chunks {first} to {last}"


@contextmanager
def _opened(path, parts=None, *, trusted, follow_links, without=False):
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


def merge(source, target, *, parts=None, drop=False, overwrite=False, trusted=False, follow_links=False):
    """Make one portable file with a single chunk of a `.ptyd`, ours or PtyPy's; frames, positions, masks and meta are
    the same. Compressed frames are copied as they are, where each is stored by itself.

    parts : folder to look for part files in, that are not where the links say
    drop : leave out frames that cannot be read, and chunks of which nothing can; else they are an error

    Returns sentences about what was left out. Raises SourceError naming the chunks that cannot be read, OutputError
    when the target is there and `overwrite` is not set.
    """
    source, target = _not_in_place(source, target, overwrite)
    with _opened(source, parts, trusted=trusted, follow_links=follow_links, without=drop) as file:
        meta, _ = _groups(file)
        chunks = list(_examine(file, parts))
        good = {one.number: one.good for one in chunks if one.good}
        lost = [one.lost for one in chunks if one.lost]
        if not good:
            raise SourceError(f"{source}: not one frame can be read: {'; '.join(lost)}")
        if lost and not drop:
            raise SourceError(f"{source}: {'; '.join(lost)}. To keep the others, repair it with "
                              f"{option('drop', True)}")
        notes = [f"left out {what}" for what in lost]
        told, info = (dict(_readable(group, notes)) for group in (meta, file.get("info")))
        joined = _Joined(file, good, parts)
        told["num_frames"] = joined.frames
        info.pop(FINGERPRINT, None)     # it is not what a run has finished
        mask = joined.one_mask()
    if mask is not None:
        told["weight2d"] = mask
    weights = joined.masked and mask is None
    publish(write_main(target, told, info, lambda group: joined.write(group, weights)), target, replace=overwrite)
    return notes


def relink(source, target, *, parts, overwrite=False, trusted=False, follow_links=False):
    """Make a main file whose chunks are links to the part files of `source`, which lie in the folder `parts` now.

    parts : in the folder of the target or below it, so that all can be moved together again

    Raises SourceError naming the parts that are not there or not whole, OutputError when the target is there and
    `overwrite` is not set, or when the parts are not below it.
    """
    source, target = _not_in_place(source, target, overwrite)
    beside = target.parent.resolve()
    if not Path(parts).resolve().is_relative_to(beside):
        raise OutputError(f"{parts} is not in {beside}: links must not lead out of the folder of {target.name}. Move "
                          f"it there, or repair without links")
    with _opened(source, parts, trusted=trusted, follow_links=follow_links) as file:
        meta, chunks = _groups(file)
        if not all(isinstance(chunks.get(str(n), getlink=True), h5py.ExternalLink) for n in _numbers(chunks)):
            raise SourceError(f"{source}: its chunks are no links; repair without links")
        chunks, notes = list(_examine(file, parts, moved=True)), []
        lost = [f"{one.name}: {one.problems[0]}" for one in chunks if one.problems]
        told, info = (dict(_readable(group, notes)) for group in (meta, file.get("info")))
        info.pop(FINGERPRINT, None)
        run = h5rw.text_of(file.attrs.get(h5rw.RUN))        # its parts are told from those of other runs by it
    if lost:
        raise SourceError(f"{source}: {'; '.join(lost)}")

    def link_all(group):
        for one in chunks:
            group[str(one.number)] = h5py.ExternalLink(one.path.resolve().relative_to(beside).as_posix(), "/")
    publish(write_main(target, told, info, link_all, run=run), target, replace=overwrite)
    return notes


def _not_in_place(source, target, overwrite):
    source, target = Path(source), Path(target)
    if target.exists():
        if source.exists() and target.samefile(source):
            raise OutputError(f"{target} is the file that is read; name another output")
        if not overwrite:
            raise OutputError(f"{target} exists; choose another name, or set {option('overwrite', True)} to replace it")
    return source, target


class _Joined:
    """Chunks of a file as one."""

    def __init__(self, file, good, parts):
        """good : {number of a chunk: its frames that are taken}"""
        self.stacks, self.columns = {name: [] for name in STACKS}, {name: [] for name in COLUMNS}
        self.path, self.how = file.filename, {}
        self.frames = 0
        for number, rows in good.items():
            with open_chunk(file, number, parts) as group:
                for name in STACKS:
                    if name in group:
                        self.stacks[name] += _of_rows(pieces_of(group[name]), rows, self.frames)
                        self.dtype = group["data"].dtype
                        self.how[name] = self._how(group[name], name)
                for name in COLUMNS:
                    if name in group:
                        self.columns[name].append(read_dataset(group[name])[rows])
                self.shape = group["data"].shape[1:]
            self.frames += len(rows)
        self.masked = bool(self.stacks["weights"])
        self.columns = {name: np.concatenate(found) for name, found in self.columns.items() if found}
        self.columns["indices"] = np.arange(self.frames)
        self.columns.setdefault("frame_ids", self.columns["indices"])

    def _how(self, dataset, name):
        """How its frames are compressed, None where they must be decoded to be copied; of all chunks together."""
        if dataset.is_virtual:
            with open_hdf5(pieces_of(dataset)[0].path) as file:
                return self._how(file[name], name)
        alone = dataset.chunks == (1, *dataset.shape[1:])
        found = filter_of(dataset) if alone else None
        before = self.how.get(name, found)
        return found if found == before else None

    def one_mask(self):
        """The mask (h, w) that all frames share, None where each has its own or there is none."""
        if not self.masked:
            return None
        first = None
        for block in self._decoded("weights"):
            first = block[0] > 0 if first is None else first
            if not np.array_equal(block > 0, np.broadcast_to(first, block.shape)):
                return None
        return first

    def write(self, chunks, weights):
        group = h5rw.mapping(chunks, "0")
        encoder = Encoder(self.how["data"] or "portable")
        write_stack(group, "data", self._stored("data", encoder), self.frames, self.shape, self.dtype, encoder)
        if weights:
            write_stack(group, "weights", self._stored("weights", WEIGHTS), self.frames, self.shape, np.uint8, WEIGHTS)
        write_columns(group, self.columns)

    def _stored(self, name, encoder):
        """The compressed frames: as they lie in the file where that is how they should be, else encoded again."""
        if self.how[name] == encoder.how and (name == "data" or self._byte_masks()):
            for piece in self.stacks[name]:
                with open_hdf5(piece.path) as file:
                    dataset = file[piece.key]
                    for i in range(piece.first, piece.first + piece.count):
                        yield dataset.id.read_direct_chunk((i, 0, 0))[1]
            return
        for block in self._decoded(name):
            yield from encoder.encode(block) if name == "data" else encoder.encode_masks(Masks.each(block > 0))

    def _byte_masks(self):
        with open_hdf5(self.stacks["weights"][0].path) as file:
            return file[self.stacks["weights"][0].key].dtype == np.uint8

    def _decoded(self, name):
        stack = Hdf5Stack.of_pieces(self.path, self.stacks[name], (self.frames, *self.shape))
        for start in range(0, self.frames, BLOCK):
            yield stack.read(range(start, min(start + BLOCK, self.frames)))


def _of_rows(pieces, rows, start):
    """The pieces of some frames of a chunk alone, as frames `start`, `start + 1` … of a stack."""
    kept, rows = [], np.asarray(rows)
    for piece in pieces:
        at, frames = piece.places(rows)
        for run in np.split(np.arange(len(at)), np.flatnonzero((np.diff(at) != 1) | (np.diff(frames) != 1)) + 1):
            if len(run):
                kept.append(replace(piece, start=start + int(at[run[0]]), first=int(frames[run[0]]), count=len(run),
                                    step=1, block=1))
    return kept


def _groups(file):
    for name in ("meta", "chunks"):
        if not isinstance(file.get(name), h5py.Group):
            raise SourceError(f"{file.filename}: no {name} in it; expected a .ptyd file")
    return file["meta"], file["chunks"]


def _numbers(chunks):
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
    for piece in pieces_of(dataset):
        rows = _rows_of(piece, range(piece.first, piece.first + piece.count))
        if piece.missing:
            yield f"{name}: {piece.missing}", rows
            continue
        try:
            with open_hdf5(piece.path) as file:
                stored = file[piece.key]
                if h5rw.CHECKSUM in stored.attrs and stored.chunks == (1, *stored.shape[1:]):
                    found, wrong = _checksums(stored, name)
                    for what, bad in wrong:
                        bad = [row for row in _rows_of(piece, bad) if row is not None]
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


def _readable(group, notes):
    for name in group if group is not None else ():
        try:
            yield name, h5rw.read(group[name], read_dataset)
        except SourceError as err:
            notes.append(f"left out {group.name}/{name}: {err}")
