"""Frames in HDF5: a stack is a list of pieces, each a dataset in some file.

A master file with links has a piece for each linked file. Frames that MATLAB wrote are turned while they are read.
"""
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from ptyprep.errors import SourceError
from ptyprep.hdf5 import codec
from ptyprep.hdf5.chunk_index import Stored, reason
from ptyprep.hdf5.files import (
    LARGEST,
    can_be_frames,
    dataset_in,
    dead_links,
    listed_links,
    listed_stacks,
    reading,
    stacks_in,
)
from ptyprep.hdf5.guarded import is_hdf5, open_hdf5, state_of
from ptyprep.processing.masks import DETECTOR, GAP
from ptyprep.sources.blocks import InBlocks
from ptyprep.sources.formats import PLAIN
from ptyprep.sources.pieces import covered, frames_in
from ptyprep.words.spelling import option

OPEN = 32                   # files that are open at a time
SETTLED = 2 * 10**9         # nanoseconds; a file that was changed since may be changed again under the same time


class Hdf5Stack(InBlocks):
    """HDF5 file with a stack of frames (n, h, w) or a raster of them (rows, cols, h, w).

    key : dataset; None where there is only one stack
    outer : place along the first axis, of frames with an axis more in front

    format : what its format defines
    bits : of an image of the detector, whatever the container has; None where the file does not say
    underload : counts below this are not to be believed, or None
    mask_problem : why a mask that the file announces cannot be read, or None
    frame_masks : (source of a mask for each frame, bits that make a pixel bad), or None
    applied : {dataset: what says that it is applied already} of dark and flat fields
    waiting : {dataset: sentence with the parameter that applies it} of those that are not, and of monitors
    outer_size : length of that axis, None without
    parts : [(file, frames, raster or None)] of those that were joined; None for one file
    turned : whether MATLAB wrote the frames
    """
    format = PLAIN
    mask = mask_reasons = mask_problem = frame_masks = None
    saturation = underload = bits = parts = outer_size = None

    def __init__(self, path, key=None, outer=None):
        self.path = Path(path)
        self.recorded, self.notes = {}, []
        with reading(path, "a stack of frames") as file:
            self._set_pieces(file, self._only_stack(file) if key is None else key, outer)

    @classmethod
    def joined(cls, paths, key=None, outer=None):
        """The frames of several files of the same layout, one after the other.

        Raises SourceError where their frames differ in size or kind of number.
        """
        stacks = [Hdf5Stack(path, key, outer) for path in paths]
        first, pieces, start = stacks[0], [], 0
        for stack in stacks:
            if (stack.shape[1:], stack.dtype) != (first.shape[1:], first.dtype):
                raise SourceError(f"{stack.path}: frames of {stack.dtype} {stack.shape[1:]}, but those of {first.path} "
                                  f"are {first.dtype} {first.shape[1:]}: they cannot be joined")
            pieces += [replace(piece, start=start + piece.start) for piece in stack.pieces]
            start += stack.shape[0]
        whole = cls.of_pieces(first.path, pieces, (start, *first.shape[1:]))
        whole.notes = list(dict.fromkeys(note for stack in stacks for note in stack.notes))
        whole.outer_size = first.outer_size
        whole.parts = [(stack.path, stack.shape[0], stack.grid) for stack in stacks]
        whole.files = list(dict.fromkeys(file for stack in stacks for file in stack.files))
        return whole

    @classmethod
    def of_pieces(cls, path, pieces, shape):
        """A stack put together from pieces of the same kind of number."""
        stack = object.__new__(Hdf5Stack)
        stack.path, stack.recorded, stack.notes, stack.grid = Path(path), {}, [], None
        there = next((piece for piece in pieces if not piece.missing), None)
        if there is None:
            raise SourceError(f"{path}: {pieces[0].missing}")
        with open_hdf5(there.path) as file:
            stack._finish(pieces, shape, dataset_in(file, there.key).dtype)
        return stack

    def _only_stack(self, file):
        stacks, dead = stacks_in(file), dead_links(file)
        hint = f"Set the key of the frames ({option('intensities.key')} of recipe hdf5)"
        if dead:        # nobody knows whether they were the frames
            raise SourceError(f"{self.path}: links that lead nowhere, and may be the frames: {listed_links(dead)}. "
                              f"Stacks that are there: {listed_stacks(stacks) or 'none at all'}. {hint}, or bring the "
                              f"files that are missing")
        images = [name for name, shape in stacks.items() if can_be_frames(shape)]
        if len(images) != 1:
            raise SourceError(f"{self.path}: expected one stack of frames, found "
                              f"{listed_stacks(stacks) or 'none at all'}. {hint}")
        return images[0]

    def _set_pieces(self, file, key, outer=None):
        dataset, more = dataset_in(file, key), outer is not None
        if dataset.ndim - more not in (2, 3, 4) or dataset.dtype.kind not in "biuf" or not dataset.size:
            hint = "" if dataset.ndim != 5 else \
                f"; with an axis more in front, say which place ({option('outer_index')})"
            raise SourceError(f"{self.path}: {key} is {dataset.dtype} of shape {dataset.shape}; expected frames as "
                              f"{'(outer, n, h, w) or (outer, rows' if more else '(n, h, w) or (rows'}, cols, h, w)"
                              f"{hint}")
        pieces, shape = frames_in(dataset)
        inner = shape[more:]
        self.grid = inner[:2] if len(inner) == 4 else None
        n, (h, w) = int(np.prod(inner[:-2])), inner[-2:]
        if more:
            self.outer_size = dataset.shape[0]
            if not 0 <= outer < self.outer_size:
                raise SourceError(f"{self.path}: {key} of shape {dataset.shape} has no place {outer} along its first "
                                  f"axis; expected 0 to {self.outer_size - 1}")
            if dataset.is_virtual:
                raise SourceError(f"{self.path}: {key} is a virtual dataset with an outer axis; give the dataset that "
                                  f"it is made of")
            pieces = [replace(pieces[0], first=outer * n, count=n)]
        self._finish(pieces, (n, h, w), dataset.dtype)

    def _finish(self, pieces, shape, dtype):
        if shape[1] * shape[2] > LARGEST:
            raise SourceError(f"{self.path}: it declares frames of {shape[1]} x {shape[2]} pixels, more than any "
                              f"detector has; the header is damaged, or these are no frames")
        self.applied, self.waiting = {}, {}
        pieces = [piece if piece.shape else replace(piece, shape=shape[1:]) for piece in pieces]
        self.pieces, self.shape, self.dtype = pieces, shape, dtype.newbyteorder("=")
        self.turned = any(piece.turned for piece in pieces)
        if self.turned:
            self.notes.append(f"MATLAB wrote the frames: each is turned from {shape[:0:-1]}, as HDF5 has it, to "
                              f"{shape[1:]}, as MATLAB shows it. An orientation that was set to turn them does so once "
                              f"too often now, and a centre that was given for them has row and column exchanged")
        self._places = {}           # where the chunks of some datasets lie, and what the file was then
        self._first, self._stop = (np.array([getattr(p.frames, end) for p in pieces]) for end in ("start", "stop"))
        self._deep = any(piece.depth > 1 for piece in pieces)
        self.covered = covered(pieces, shape[1:])
        if self.covered is not None:
            self.mark_bad(~self.covered, GAP)
        self.files = list(dict.fromkeys([self.path] + [p.path for p in pieces if not p.missing]))

    def mark_bad(self, bad, reason=DETECTOR):
        """Mask pixels besides those that are masked already.

        bad : bool (h, w), or uint8 (h, w) of reasons (see `processing.masks`), which are 0 where a pixel is good
        reason : of all of them, for bool
        """
        reasons = bad * np.uint8(reason) if bad.dtype == bool else bad.astype(np.uint8)
        self.mask_reasons = reasons if self.mask_reasons is None else self.mask_reasons | reasons
        self.mask = self.mask_reasons == 0

    @property
    def missing(self):
        return [(p.frames, p.missing) for p in self.pieces if p.missing]

    @classmethod
    def understands(cls, path):
        return is_hdf5(path)

    def progress(self):
        return self.shape[0], True

    @contextmanager
    def reader(self, window=None):
        """What reads frames while files stay open, in any thread: fill(indices, out).

        It raises SourceError naming file, dataset and frame for what is missing or damaged.
        """
        h, w = self.shape[1:]
        yield _Reader(self, _Opened(self.dtype, self._places), window or (slice(0, h), slice(0, w)))

    def blocks(self, indices, most):
        """Slices of frame numbers that are best read together: `most`, or more where the last lies in a chunk with
        others, for no chunk is in two of them."""
        indices = np.asarray(indices, int)
        breaks = np.ones(len(indices), bool)
        if self._deep:
            chunk = np.full(len(indices), -1)
            for number, piece in enumerate(self.pieces):
                where, frames = piece.places(indices)
                chunk[where] = number + len(self.pieces) * (frames // piece.depth)
            breaks[1:] = np.diff(chunk) != 0
        starts = []
        for start in np.flatnonzero(breaks).tolist():
            if not starts or start - starts[-1] >= most:
                starts.append(start)
        return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(indices)])]

    def _near(self, indices):
        """The pieces that some frames can be in."""
        near = (self._first <= indices.max(initial=-1)) & (self._stop > indices.min(initial=self.shape[0]))
        return [self.pieces[number] for number in np.flatnonzero(near)]

    def _fill(self, opened, rows, cols, indices, out):
        """Read rows and columns of some frames into out (n, h, w)."""
        indices = np.asarray(indices, int)
        filled, whole = np.zeros(len(indices), int), out[0].size if len(indices) else 0
        if self.covered is not None:
            gap = ~self.covered[rows, cols]
            out[:, gap], whole = 0, whole - int(gap.sum())
        for piece in self._near(indices):
            where, frames = piece.places(indices)
            ph, pw = piece.shape
            r0, r1 = max(rows.start, piece.row), min(rows.stop, piece.row + ph)
            c0, c1 = max(cols.start, piece.col), min(cols.stop, piece.col + pw)
            if not len(where) or r0 >= r1 or c0 >= c1:
                continue
            if piece.missing:
                raise SourceError(f"{piece.path}: frame {indices[where[0]]} of the scan: {piece.missing}")
            some = slice(where[0], where[-1] + 1)
            target = out[some, r0 - rows.start:r1 - rows.start, c0 - cols.start:c1 - cols.start]
            part = slice(r0 - piece.row, r1 - piece.row), slice(c0 - piece.col, c1 - piece.col)
            whole_run = len(where) == some.stop - some.start
            own = target if whole_run else np.empty((len(where), *target.shape[1:]), out.dtype)
            opened.read(piece, frames, *part, own, indices[where])
            if not whole_run:
                target[where - where[0]] = own
            filled[where] += (r1 - r0) * (c1 - c0)
        if len(indices) and filled.min() < whole:
            bad = indices[filled.argmin()]
            raise SourceError(f"{self.path}: frame {bad} has no data in part of the region: the virtual dataset "
                              f"maps no source there")

    def close(self):
        pass        # files are open while they are read, not longer

    def road(self):
        """How frames are read, and why: a few words for a plan."""
        piece = next((p for p in self.pieces if not p.missing), None)
        if piece is None:
            return "nothing to read"
        return self._opened(piece).road() + ("; turned as MATLAB shows them" if piece.turned else "")

    def is_open_while_read(self):
        """Whether HDF5 has files open while frames are read, so that nobody else may open them in another way; told by
        the first that can be opened."""
        for piece in self.pieces:
            with suppress(SourceError):
                if not piece.missing:
                    return not self._opened(piece).is_let_go
        return False

    def _opened(self, piece):
        return _Opened(self.dtype, self._places)(piece)


class _Reader:
    """Reads frames of a stack into an array: reader(indices, out). Any thread may call it."""

    def __init__(self, stack, opened, window):
        self._stack, self._opened, self._window = stack, opened, window

    def __call__(self, indices, out):
        self._stack._fill(self._opened, *self._window, indices, out)

    def ready(self, indices):
        """Open what some frames need, as many files as are open at a time, and anew what was changed meanwhile: then
        HDF5 has none open in another thread when this one wants to. What cannot be opened is told when it is read."""
        self._opened.look_again()
        for piece in self._stack._near(np.asarray(indices, int))[:OPEN]:
            with suppress(SourceError):
                if not piece.missing:
                    self._opened(piece)


class _Opened:
    """Datasets that stay open while frames are read, of the last `OPEN` pieces. The others close when no thread reads
    them any more."""

    def __init__(self, dtype, kept):
        self._dtype, self._kept, self._lock = dtype, kept, threading.Lock()
        self._stored, self._places = {}, {}

    def read(self, piece, frames, rows, cols, out, numbers):
        """`Stored.read`; once more where the file was changed since it was opened: a chunk may have come."""
        region = (frames, cols, rows, out.transpose(0, 2, 1), numbers) if piece.turned else \
            (frames, rows, cols, out, numbers)
        stored = self(piece)
        try:
            stored.read(*region)
            return
        except SourceError:
            if stored.version == state_of(piece.path):
                raise
        del stored      # nor does the failure hold it here: a file that HDF5 has open, it gives again as it was
        self.look_again()
        self(piece).read(*region)

    def look_again(self):
        """Let go of all files that were changed since they were opened."""
        with self._lock:
            changed = [key for key, stored in self._stored.items() if stored.version != state_of(stored.path)]
            for key in changed:
                del self._stored[key]

    def __call__(self, piece):
        with self._lock:
            if (stored := self._stored.get(id(piece))) is None:
                version = state_of(piece.path)
                stored = self._open(piece)
                stored.path, stored.version = piece.path, version
                while len(self._stored) >= OPEN:
                    del self._stored[next(iter(self._stored))]
                self._stored[id(piece)] = stored
            return stored

    def _open(self, piece):
        """A piece's dataset, if it still is what it was when the stack was made."""
        try:
            dataset = dataset_in(open_hdf5(piece.path), piece.key)
            shape = piece.shape[::-1] if piece.turned else piece.shape
            if dataset.shape[-2:] != shape:
                raise SourceError(f"{piece.path}: {piece.key} has frames of {dataset.shape[-2:]} pixels, expected "
                                  f"{shape}")
            there = dataset.size // (piece.shape[0] * piece.shape[1])
            if there < piece.first + piece.count:
                raise SourceError(f"{piece.path}: {piece.key} has {there} frames, expected "
                                  f"{piece.first + piece.count}: it was written again meanwhile")
            if not np.can_cast(dataset.dtype, self._dtype, "safe"):
                raise SourceError(f"{piece.path}: {piece.key} holds {dataset.dtype}, expected {self._dtype} or what "
                                  f"fits into it")
            return self._stored_of(piece, dataset)
        except SourceError:
            raise
        except (OSError, RuntimeError, SystemError, ValueError, KeyError) as err:
            raise SourceError(f"{piece.path}: {piece.key} cannot be read: {reason(err)}") from err

    def _stored_of(self, piece, dataset):
        """Where a dataset's chunks lie is looked up once for all its pieces, and again where the file has changed."""
        stored = Stored(dataset)
        if stored.handle is None or stored.chunks is None or stored.plain:
            stored.let_go()
            return stored
        version, key = state_of(stored.handle), (piece.path, piece.key)
        known = self._places.get(key) or self._kept.get(key) or (None, None)
        if known[0] != version:
            known = version, codec.Places(dataset)
            if time.time_ns() - version[-1] > SETTLED:
                while len(self._kept) >= OPEN:
                    del self._kept[next(iter(self._kept))]
                self._kept[key] = known
        self._places[key] = known
        stored.places = known[1]
        stored.let_go()
        return stored
