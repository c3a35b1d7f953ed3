"""Is a prepared file whole, and does it hold what it says? And, if not all of it, what can be saved."""
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from isal import isal_zlib

from ptyprep import h5rw
from ptyprep.codec import Encoder, filter_of
from ptyprep.errors import OutputError, SourceError
from ptyprep.sinks.disk import publish
from ptyprep.sinks.parts import CHECKSUM, WEIGHTS, checksum_of_frames, write_columns, write_main, write_stack
from ptyprep.sources.hdf5 import Hdf5Stack, open_hdf5, pieces_of, read_dataset

STACKS, COLUMNS = ("data", "weights"), ("indices", "frame_ids", "positions")
GEOMETRY = ("energy", "distance", "psize", "shape")
BLOCK = 64              # frames that are decoded at a time


def problems(path):
    """What is wrong with a `.ptyd`, one sentence each; nothing where all is well.

    Looks at the structure, counts, links, checksums (or, without them, whether frames decode), positions and
    geometry. Raises SourceError when it is no `.ptyd` at all.
    """
    with open_hdf5(path) as file:
        meta, chunks = _groups(file)
        yield from _meta_problems(meta)
        shape, kind, frames = None, None, 0
        for number in _numbers(chunks):
            try:
                with chunk(file, number) as group:
                    found = list(_chunk_problems(group, frames))
                    data = group.get("data")
                    if data is not None and data.ndim == 3:
                        names = sorted(n for n in group if n in STACKS + COLUMNS)
                        kind = kind or (data.dtype, names)
                        if data.shape[1:] != (shape or data.shape[1:]) or (data.dtype, names) != kind:
                            found.append(f"frames of {data.dtype} {data.shape[1:]} with {', '.join(names)}; chunk 0 "
                                         f"has {kind[0]} {shape} with {', '.join(kind[1])}")
                        shape, frames = shape or data.shape[1:], frames + len(data)
            except (SourceError, OSError, KeyError, RuntimeError) as err:
                found = [str(err)]
            yield from (f"chunk {number}: {what}" for what in found)
        yield from _count_problems(meta, shape, frames)
        for name in ("meta", "info"):
            yield from _pickles(file.get(name))


def merge(source, target, *, parts=None, drop=False, overwrite=False):
    """Make one portable file with a single chunk of a `.ptyd`, ours or PtyPy's; frames, positions, masks and meta are
    the same. Compressed frames are copied as they are, where each is stored by itself.

    parts : folder to look for part files in, that are not where the links say
    drop : leave out chunks that cannot be read; else they are an error

    Returns sentences about what was left out. Raises SourceError naming the chunks that cannot be read, OutputError
    when the target is there and `overwrite` is not set.
    """
    source, target = Path(source), Path(target)
    if target.exists() and (not overwrite or target.samefile(source)):
        raise OutputError(f"{target} exists; choose another name, or set overwrite to replace it"
                          if not target.samefile(source) else f"{target} is the file that is read; name another output")
    with open_hdf5(source) as file:
        meta, chunks = _groups(file)
        good, lost = [], []
        for number in _numbers(chunks):
            try:
                with chunk(file, number, parts) as group:
                    bad = list(_chunk_problems(group, None))
            except (SourceError, OSError, KeyError, RuntimeError) as err:
                bad = [str(err)]
            if bad:
                lost.append(f"chunk {number}: {bad[0]}")
            else:
                good.append(number)
        if lost and not drop:
            raise SourceError(f"{source}: {'; '.join(lost)}. Drop them (repair --drop) to keep the others")
        if not good:
            raise SourceError(f"{source}: not one chunk can be read: {'; '.join(lost)}")
        notes = [f"left out {what}" for what in lost]
        told = {name: value for name, value in _readable(meta, notes)}
        info = {name: value for name, value in _readable(file.get("info"), notes)}
        joined = _Joined(file, good, parts)
        told["num_frames"] = joined.frames
        mask = joined.one_mask()
        if mask is not None:
            told["weight2d"] = mask
        weights = joined.masked and mask is None
        temporary = write_main(target.with_name(f".{target.name}.tmp"), told, info,
                               lambda group: joined.write(group, weights))
    publish(temporary, target, replace=overwrite)
    return notes


class _Joined:
    """Chunks of a file as one."""

    def __init__(self, file, numbers, parts):
        self.stacks, self.columns = {name: [] for name in STACKS}, {name: [] for name in COLUMNS}
        self.path, self.how = file.filename, {}
        self.frames = 0
        for number in numbers:
            with chunk(file, number, parts) as group:
                for name in STACKS:
                    if name in group:
                        self.stacks[name] += pieces_of(group[name], self.frames)
                        self.dtype = group["data"].dtype
                        self.how[name] = self._how(group[name], name)
                for name in COLUMNS:
                    if name in group:
                        self.columns[name].append(read_dataset(group[name]))
                n, self.shape = len(group["data"]), group["data"].shape[1:]
            self.frames += n
        self.masked = bool(self.stacks["weights"])
        self.columns["indices"] = [np.arange(self.frames)]
        if not self.columns["frame_ids"]:
            self.columns["frame_ids"] = self.columns["indices"]

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
        group = chunks.create_group("0")
        group.attrs["type"] = "dict"
        encoder = Encoder(self.how["data"] or "portable")
        write_stack(group, "data", self._stored("data", encoder), self.frames, self.shape, self.dtype, encoder)
        if weights:
            write_stack(group, "weights", self._stored("weights", WEIGHTS), self.frames, self.shape, np.uint8, WEIGHTS)
        write_columns(group, {name: np.concatenate(found) for name, found in self.columns.items() if found})

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
            yield from encoder.encode(block if name == "data" else (block > 0).astype(np.uint8))

    def _byte_masks(self):
        with open_hdf5(self.stacks["weights"][0].path) as file:
            return file[self.stacks["weights"][0].key].dtype == np.uint8

    def _decoded(self, name):
        stack = Hdf5Stack.of_pieces(self.path, self.stacks[name], (self.frames, *self.shape))
        for start in range(0, self.frames, BLOCK):
            yield stack.read(range(start, min(start + BLOCK, self.frames)))


@contextmanager
def chunk(file, number, parts=None):
    """One chunk of an open `.ptyd`, its part file opened beside the main file, or in `parts`.

    Raises SourceError where its link leads nowhere, or out of the folder of the main file.
    """
    link = file["chunks"].get(str(number), getlink=True)
    if not isinstance(link, h5py.ExternalLink):
        if link is None:
            raise SourceError("it is not there, though later ones are")
        yield file["chunks"][str(number)]
        return
    name, folder = Path(link.filename), Path(file.filename).parent
    if name.is_absolute() or ".." in name.parts:
        raise SourceError(f"its link leads out of the folder, to {name}; it is not followed")
    places = [folder / name] + ([Path(parts) / name.name, Path(parts) / name] if parts else [])
    path = next((p for p in places if p.exists()), None)
    if path is None:
        raise SourceError(f"its part {name} is not there")
    with open_hdf5(path) as part:
        yield part[link.path]


def _groups(file):
    for name in ("meta", "chunks"):
        if not isinstance(file.get(name), h5py.Group):
            raise SourceError(f"{file.filename}: no {name} in it; expected a .ptyd file")
    return file["meta"], file["chunks"]


def _numbers(chunks):
    numbers = [int(k) for k in chunks if k.isdigit()]
    if not numbers:
        raise SourceError(f"{chunks.file.filename}: no chunk in it")
    return range(max(numbers) + 1)


def _meta_problems(meta):
    for name in (*GEOMETRY, "num_frames", "center"):
        if name not in meta:
            yield f"meta: no {name}"
            continue
        if "type" not in meta[name].attrs:
            yield f"meta: {name} has no attribute type, which PtyPy needs"
        value = np.asarray(meta[name][()])
        if name in GEOMETRY and (value.dtype.kind not in "iuf" or not (np.isfinite(value) & (value > 0)).all()):
            yield f"meta: {name} is {value.tolist()!r}; expected positive numbers"


def _count_problems(meta, shape, frames):
    planned = meta["num_frames"][()] if "num_frames" in meta else frames
    if int(np.ravel(planned)[0]) != frames:
        yield f"meta: num_frames is {int(np.ravel(planned)[0])}, but the chunks that can be read hold {frames}"
    if shape and "shape" in meta and tuple(np.ravel(meta["shape"][()])) != shape:
        yield f"meta: shape is {tuple(np.ravel(meta['shape'][()]).tolist())}, but frames have {shape}"
    if shape and "weight2d" in meta and meta["weight2d"].shape not in (shape, ()):
        yield f"meta: weight2d has shape {meta['weight2d'].shape}, but frames have {shape}"


def _chunk_problems(group, start):
    """start : place of its first frame in the scan, None not to look at indices."""
    if "data" not in group:
        yield "no data in it"
        return
    n = len(group["data"])
    for name in group:
        if not isinstance(group[name], h5py.Dataset) or group[name].ndim == 0 or len(group[name]) != n:
            yield f"{name} is not one row for each of its {n} frames"
    for name in COLUMNS:
        if name in group and CHECKSUM in group[name].attrs:
            if isal_zlib.crc32(np.ascontiguousarray(read_dataset(group[name]))) != group[name].attrs[CHECKSUM]:
                yield f"{name}: the checksum is wrong, its bytes have changed since they were written"
    if "positions" in group:
        bad = np.flatnonzero(~np.isfinite(read_dataset(group["positions"])).all(axis=-1))
        if len(bad):
            yield f"positions of {len(bad)} frames are not finite, the first of frame {bad[0]}"
    dense = list(range(start, start + n)) if start is not None else None
    if dense is not None and "frame_ids" in group and read_dataset(group["indices"]).tolist() != dense:
        yield f"indices are not {start} to {start + n - 1}"
    for name in STACKS:
        if name in group:
            yield from _stack_problems(group[name], name)


def _stack_problems(dataset, name):
    shape = dataset.shape
    for piece in pieces_of(dataset):
        if piece.missing:
            yield f"{name}: {piece.missing}"
            continue
        with open_hdf5(piece.path) as file:
            stored = file[piece.key]
            if CHECKSUM in stored.attrs and stored.chunks == (1, *stored.shape[1:]):
                yield from _checksum_problems(stored, name)
                continue
        stack = Hdf5Stack.of_pieces(piece.path, [piece], shape)
        for i in range(piece.start, piece.start + piece.count):
            try:
                stack.read([i])
            except SourceError as err:
                yield f"{name}: {err}"


def _checksum_problems(stored, name):
    sums = []
    for i in range(len(stored)):
        try:
            sums.append(isal_zlib.crc32(stored.id.read_direct_chunk((i, 0, 0))[1]))
        except (OSError, RuntimeError, ValueError):
            yield f"{name}: frame {i} of it is not stored"
            sums.append(0)
    expected, found = stored.attrs[CHECKSUM], checksum_of_frames(sums)
    wrong = np.flatnonzero(expected != found) if expected.shape == found.shape else [0]
    if len(wrong):
        yield (f"{name}: the checksums of {len(wrong)} of {len(found)} are wrong, the first is {wrong[0]}: bytes have "
               f"changed since they were written")


def _pickles(group):
    found = []

    def look(name, node):
        if node.attrs.get("type") in ("pickle", b"pickle", "record_array", b"record_array"):
            found.append(f"{node.name} is a {node.attrs['type']}, which can run code when PtyPy reads it")
    if group is not None:
        group.visititems(look)
    return found


def _readable(group, notes):
    for name in group if group is not None else ():
        try:
            yield name, h5rw.read(group[name])
        except SourceError as err:
            notes.append(f"left out {group.name}/{name}: {err}")
