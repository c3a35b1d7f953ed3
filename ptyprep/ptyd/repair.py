"""What can be saved of a prepared file: merged into one chunk, or linked to parts that were moved."""
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from ptyprep.errors import OutputError, SourceError
from ptyprep.hdf5 import h5rw
from ptyprep.hdf5.codec import Encoder, filter_of
from ptyprep.hdf5.files import read_dataset
from ptyprep.hdf5.guarded import open_hdf5
from ptyprep.processing.masks import Masks
from ptyprep.ptyd.verify import COLUMNS, STACKS, examine, groups_of, numbers_in, opened
from ptyprep.sinks.chunks import WEIGHTS, write_columns, write_main, write_stack
from ptyprep.sinks.disk import publish
from ptyprep.sinks.runs import FINGERPRINT
from ptyprep.sources.hdf5 import Hdf5Stack
from ptyprep.sources.pieces import pieces_of
from ptyprep.sources.ptyd import open_chunk
from ptyprep.words.spelling import option

BLOCK = 64              # frames that are decoded at a time


def merge(source, target, *, parts=None, drop=False, overwrite=False, trusted=False, follow_links=False):
    """Make one portable file with a single chunk of a `.ptyd`, ours or PtyPy's; frames, positions, masks and meta are
    the same. Compressed frames are copied as they are, where each is stored by itself.

    parts : folder to look for part files in, that are not where the links say
    drop : leave out frames that cannot be read, and chunks of which nothing can; else they are an error

    Returns sentences about what was left out. Raises SourceError naming the chunks that cannot be read, OutputError
    when the target is there and `overwrite` is not set.
    """
    source, target = _not_in_place(source, target, overwrite)
    with opened(source, parts, trusted=trusted, follow_links=follow_links, without=drop) as file:
        meta, _ = groups_of(file)
        chunks = list(examine(file, parts))
        good = {one.number: one.good for one in chunks if one.good}
        lost = [one.lost for one in chunks if one.lost]
        if not good:
            raise SourceError(f"{source}: not one frame can be read: {'; '.join(lost) or 'its chunks are empty'}")
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
    with opened(source, parts, trusted=trusted, follow_links=follow_links) as file:
        meta, chunks = groups_of(file)
        if not all(isinstance(chunks.get(str(n), getlink=True), h5py.ExternalLink) for n in numbers_in(chunks)):
            raise SourceError(f"{source}: its chunks are no links; repair without links")
        chunks, notes = list(examine(file, parts, moved=True)), []
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
                        pieces = _of_rows(pieces_of(group[name]), rows, self.frames)
                        self.stacks[name] += pieces
                        self.dtype = group["data"].dtype
                        self.how[name] = self._how(pieces, name)
                for name in COLUMNS:
                    if name in group:
                        self.columns[name].append(read_dataset(group[name])[rows])
                self.shape = group["data"].shape[1:]
            self.frames += len(rows)
        self.masked = bool(self.stacks["weights"])
        self.columns = {name: np.concatenate(found) for name, found in self.columns.items() if found}
        self.columns["indices"] = np.arange(self.frames)
        self.columns.setdefault("frame_ids", self.columns["indices"])

    def _how(self, pieces, name):
        """How the frames of all chunks so far are compressed; None where they must be decoded to be copied."""
        ways = {self.how[name]} if name in self.how else set()
        for path, key in dict.fromkeys((piece.path, piece.key) for piece in pieces):
            with open_hdf5(path) as file:
                dataset = file[key]
                ways.add(filter_of(dataset) if dataset.chunks == (1, *dataset.shape[1:]) else None)
        return ways.pop() if len(ways) == 1 else None

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


def _readable(group, notes):
    for name in group if group is not None else ():
        try:
            yield name, h5rw.read(group[name], read_dataset)
        except SourceError as err:
            notes.append(f"left out {group.name}/{name}: {err}")
