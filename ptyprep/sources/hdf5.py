"""Frames in HDF5: a stack is a list of pieces, each a dataset in some file.

One dataset is one piece; a master file with links has a piece for each linked file; a virtual
dataset has one for each of its sources. So everything is read the same way, a missing file is known
before it is needed, and neither a virtual dataset nor a chunk that was never written answers with zeros.

MATLAB keeps the first index running fastest: its array (h, w, n) is (n, w, h) in HDF5. Its frames are turned to (h, w)
while they are read. Of NeXus, CXI, DECTRIS and .ptyd files the format defines the axes, whoever wrote them.
"""
import os
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from ptyprep.errors import PtyprepError, SourceError
from ptyprep.hdf5 import codec
from ptyprep.hdf5.chunk_index import Stored, all_written, depth_of, filter_hint, reason, safe_filters
from ptyprep.hdf5.guarded import LINKS, is_hdf5, open_hdf5, place_of
from ptyprep.processing.masks import DETECTOR, GAP
from ptyprep.sources.blocks import InBlocks
from ptyprep.sources.formats import PLAIN
from ptyprep.words.spelling import option

MATLAB = b"MATLAB 7.3 MAT-file"     # how the user block of its files begins ("MAT-File Versions", MathWorks)
PACKED = {codec.BITSHUFFLE, codec.LZ4}      # what HDF5's plug-ins do not undo safely
LOOKED_AT = 32              # members of a file's root
OPEN = 32                   # files that are open at a time
SETTLED = 2                 # seconds; a file that was changed since may be changed again under the same time
LARGEST = 1 << 29           # pixels of a frame: what a file declares is not allocated before it is believed
LONGEST = 8                 # times the other side of a frame: see `can_be_frames`
LISTED = 5                  # links that a message names
MOST, DEEPEST = 1 << 20, 32     # names of a group, groups in groups: that are looked through


@contextmanager
def reading(path, what="this file", within=None):
    """An open HDF5 file whose structure is read: what is not laid out as `what` should be is a SourceError.

    within : folders that it must not lead out of; None where it may lead anywhere

    Not for frames: an error there may mean one frame only.
    """
    with open_hdf5(path, within) as file:
        try:
            yield file
        except PtyprepError:
            raise
        except MemoryError as err:
            raise SourceError(f"{path}: what it declares does not fit into memory ({err}): is it damaged?") from err
        except OSError as err:
            raise SourceError(f"{path}: cannot be read: {reason(err)}") from err
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError,
                SystemError) as err:
            raise SourceError(f"{path}: not laid out as {what} should be ({type(err).__name__}: {reason(err)}); "
                              f"ptyprep show, or h5dump -n, lists what is in it") from err


def stacks_in(file):
    """{name: shape} of the datasets in an open file that could be frames: real numbers of three dimensions or more."""
    return datasets_in(file, lambda node: node.ndim in (3, 4, 5) and node.dtype.kind in "biuf"
                       and min(node.shape[-2:]) > 1)


def datasets_in(group, which):
    """{name: shape} of the datasets in an open file or group for which which(dataset) holds.

    Links that lead nowhere are passed over; links that lead to a group twice are followed once.
    """
    return {name: node.shape for name, node, _ in _walk(group) if isinstance(node, h5py.Dataset) and which(node)}


def dead_links(group):
    """{name: where it leads} of the links in an open file or group that lead nowhere."""
    return {name: to for name, node, to in _walk(group) if node is None}


def _walk(group, at="", seen=None, depth=0):
    """(name, object or None where its link leads nowhere, where that leads) of all that is in a group, groups once.

    Raises SourceError where there is more than a scan can have.
    """
    seen = {identity(group)} if seen is None else seen
    for number, name in enumerate(group):
        if len(seen) + number > MOST:
            raise SourceError(f"{group.file.filename}: more than {MOST} names in it; expected a scan. Name the "
                              f"datasets that are to be read")
        node = member(group, name)
        yield f"{at}/{name}", node, leads_to(group, name) if node is None else ""
        if isinstance(node, h5py.Group) and identity(node) not in seen and depth < DEEPEST:
            seen.add(identity(node))
            yield from _walk(node, f"{at}/{name}", seen, depth + 1)


def identity(node):
    """What two names of the same object in open files have in common."""
    info = h5py.h5o.get_info(node.id)
    return info.fileno, info.addr


def leads_to(group, name):
    """Where a link in an open group leads that leads nowhere, or is not followed, in words."""
    link, why = _link(group, name), "not there"
    external = isinstance(link, h5py.ExternalLink)
    if external and place_of(group.file, link.filename).exists():
        why = "cannot be opened"
    with suppress(KeyError, OSError, RuntimeError, SystemError, ValueError):
        try:
            group[name]  # noqa: B018  which may be refused
        except SourceError as err:
            why = str(err)
    if external:
        return f"{link.filename}:{link.path} ({why})"
    return f"{link.path} ({why})" if isinstance(link, h5py.SoftLink) else f"what cannot be opened ({why})"


def can_be_frames(shape):
    """Whether the last two axes may be taken for an area detector's where nobody says so: neither is 8 times as long as
    the other.

    Of area detectors the PILATUS 300K-W is the longest, 195 x 1475. X-ray fluorescence has 1 to 16 rows of 1024 to 4096
    channels, a line detector has one row, and pictures in colour end in 3 or 4.

    >>> [can_be_frames(shape) for shape in ((10, 195, 1475), (10, 4, 4096), (10, 512, 512, 3), (10, 1, 1280))]
    [True, False, False, False]
    """
    return max(shape[-2:]) < LONGEST * min(shape[-2:])


def listed_stacks(stacks):
    """{name: shape} of stacks for a message, with a word where their frames can be no images."""
    return ", ".join(f"{name} {shape}" + ("" if can_be_frames(shape) else " (no images)")
                     for name, shape in stacks.items())


def listed_links(dead):
    """{name: where it leads} of links for a message."""
    some = ", ".join(f"{name} -> {to}" for name, to in list(dead.items())[:LISTED])
    return some + (f" and {len(dead) - LISTED} more" if len(dead) > LISTED else "")


def dataset_in(file, key, left=LINKS):
    """The dataset of that name in an open file, over at most so many links to other files.

    Raises SourceError that lists the stacks that are there, or says where a link leads.
    """
    path = file.file.filename
    try:
        node = file[key]
    except SourceError:
        raise
    except KeyError as err:
        link = _link(file, key)
        if isinstance(link, h5py.ExternalLink):
            target = place_of(file.file, link.filename)
            if not left:
                raise SourceError(f"{path}: {key} leads from file to file more than {LINKS} times: its links run in a "
                                  f"circle, perhaps") from err
            if target.exists():
                return dataset_in(open_hdf5(target, file.within), link.path, left - 1)      # which says what is wrong
            raise SourceError(f"{path}: {key} links to {link.path} in {link.filename}, which cannot be opened: "
                              f"is that file beside this one?") from err
        stacks = ", ".join(f"{k} {s}" for k, s in stacks_in(file.file).items())
        raise SourceError(f"{path}: no dataset {key}; " + (
            f"the stacks in it are {stacks}. Set the key to one of them" if stacks else
            "there is no stack of frames in it; ptyprep show lists what is")) from err
    except OSError as err:
        raise SourceError(f"{path}: {key} cannot be opened: {reason(err)}") from err
    if not isinstance(node, h5py.Dataset):
        inside = ", ".join(f"{key.rstrip('/')}/{name}" for name in node) or "nothing"
        raise SourceError(f"{path}: {key} is a group, not a dataset; it holds {inside}")
    return node


def read_dataset(dataset):
    """All of a dataset, of any rank: what `dataset[()]` is, but damage ends no process and nothing absent is 0.

    Raises SourceError naming file and dataset where it is damaged, was never written, links to what is not there,
    or is stored in a way that is not safe to read.
    """
    where = f"{dataset.file.filename}: {dataset.name}"
    own = safe_filters(dataset)
    if dataset.is_virtual:
        _refuse_unsafe_sources(dataset)
    try:
        if not dataset.size or dataset.is_virtual or all_written(dataset):
            return dataset[()] if not own else Stored(dataset).read_all()
    except codec.DamagedChunk as err:
        raise SourceError(f"{where} is damaged: {err}") from err
    except (OSError, RuntimeError, SystemError) as err:
        raise SourceError(f"{where} cannot be read: {filter_hint(dataset) or reason(err)}") from err
    raise SourceError(f"{where} was never written, or not all of it")


def read_numbers(dataset):
    """`read_dataset` as floats. Raises SourceError for what is not real numbers, which NumPy would cut down to some."""
    values = read_dataset(dataset)
    if np.asarray(values).dtype.kind not in "biuf":
        raise SourceError(f"{dataset.file.filename}: {dataset.name} is {dataset.dtype}; expected real numbers")
    return np.asarray(values, float)


def by_matlab(dataset):
    """Whether MATLAB (7.3) wrote a dataset, so that its axes are in the other order; of a virtual one, its sources.

    Told by the file's user block, or by the attribute MATLAB_class of the dataset or of a variable of the file: these
    lie at its root.
    """
    if _has_marks(dataset) or not dataset.is_virtual:
        return _has_marks(dataset)
    found = set()
    for source in dataset.virtual_sources():
        with suppress(SourceError), open_hdf5(_file_of(dataset, source), dataset.within) as file:
            found.add(by_matlab(dataset_in(file, source.dset_name)))
    return _one_answer(found, f"{dataset.file.filename}: {dataset.name}")


def _has_marks(dataset):
    file = dataset.file
    if "MATLAB_class" in dataset.attrs:
        return True
    if file.userblock_size:
        with open(file.filename, "rb") as block:
            if block.read(len(MATLAB)) == MATLAB:
                return True
    seen = []

    def look(name, link):       # MATLAB marks all its variables, so that a few tell; there may be thousands
        seen.append(link.type == h5py.h5l.TYPE_HARD and h5py.h5a.exists(file.id, b"MATLAB_class", obj_name=name))
        return "enough" if seen[-1] or len(seen) == LOOKED_AT else None
    file.id.links.iterate(look, order=h5py.h5.ITER_NATIVE, info=True)
    return any(seen)


def _one_answer(answers, where):
    if len(answers) > 1:
        raise SourceError(f"{where} joins frames that MATLAB wrote, whose axes are in the other order, with frames "
                          f"that it did not write; give each file by itself")
    return True in answers


def shape_of(dataset):
    """The shape of a dataset of images, the last two axes as (h, w) also where MATLAB wrote it."""
    *lead, h, w = dataset.shape
    return (*lead, w, h) if by_matlab(dataset) else (*lead, h, w)


def _refuse_unsafe_sources(dataset):
    """HDF5 reads a small virtual dataset: with zeros where a source is absent, by its plug-ins where one is packed.

    A source of another shape than was mapped ends the process (HDF5 2.0)."""
    where, mapped = f"{dataset.file.filename}: {dataset.name}", 0
    for source in dataset.virtual_sources():
        name = _file_of(dataset, source)
        with open_hdf5(name, dataset.within) as file:
            part = dataset_in(file, source.dset_name)
            if part.file.filename != file.filename:         # where HDF5 would follow whatever is there by then
                raise SourceError(f"{where} joins {source.dset_name} of {name}, which is a link to "
                                  f"{part.file.filename}; give that file itself")
            if part.is_virtual or PACKED & set(codec.filters_of(part)) or not all_written(part):
                raise SourceError(f"{where} joins {source.dset_name} of {name}, which is virtual, packed or not "
                                  f"written; give that dataset itself")
            space = source.src_space        # of which HDF5 stores as much as was selected
            least = () if space.get_select_type() == h5py.h5s.SEL_ALL else space.get_simple_extent_dims()
            fits = (len(least) == part.ndim and all(n <= m for n, m in zip(least, part.shape)) if least else
                    part.size == source.vspace.get_select_npoints())
            if not fits:
                raise SourceError(f"{where} joins {least or 'all'} of {source.dset_name} of {name}, which has shape "
                                  f"{part.shape}")
        mapped += source.vspace.get_select_npoints()
    if mapped < dataset.size:
        raise SourceError(f"{where} joins datasets that fill {mapped} of its {dataset.size} numbers")


def _file_of(dataset, source):
    """The file of a virtual dataset's source."""
    file = dataset.file
    return Path(file.filename) if source.file_name == "." else place_of(file, source.file_name)


def _link(file, key):
    try:
        return file.get(key, getlink=True)
    except (KeyError, RuntimeError, SystemError, OSError):
        return None


@dataclass(frozen=True)
class Piece:
    """Part of a stack: frames `start`, `start + step` … of the stack are frames `first`, `first + 1` … of a dataset.

    rows, cols : where the piece lies in the frame, for detectors stored module by module
    missing : why it cannot be read, or None
    turned : whether the file has each frame transposed; row, col and shape are those of the frame as it is read
    """
    path: Path
    key: str
    start: int
    count: int
    first: int = 0
    step: int = 1
    block: int = 1          # so many frames in a row, then on to the next step
    row: int = 0
    col: int = 0
    shape: tuple = None     # (h, w) of the piece
    depth: int = 1          # frames in a chunk
    missing: str | None = None
    turned: bool = False

    def places(self, indices):
        """Which of the stack's frame numbers lie here, and where: (positions in `indices`, frames of the dataset)."""
        ahead = indices - self.start
        turn, inside = np.divmod(ahead, self.step)
        number = turn * self.block + inside
        here = (ahead >= 0) & (inside < self.block) & (number < self.count)
        return np.flatnonzero(here), self.first + number[here]

    @property
    def frames(self):
        """The frames of the stack that lie here, as the smallest range that holds them."""
        turns, rest = divmod(self.count - 1, self.block)
        return range(self.start, self.start + turns * self.step + rest + 1)


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
        self._covered = _covered(pieces, shape[1:])
        if self._covered is not None:
            self.mark_bad(~self._covered, GAP)
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
        if self._covered is not None:
            gap = ~self._covered[rows, cols]
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
            if stored.version == _version_of(piece.path):
                raise
        del stored      # nor does the failure hold it here: a file that HDF5 has open, it gives again as it was
        self.look_again()
        self(piece).read(*region)

    def look_again(self):
        """Let go of all files that were changed since they were opened."""
        with self._lock:
            changed = [key for key, stored in self._stored.items() if stored.version != _version_of(stored.path)]
            for key in changed:
                del self._stored[key]

    def __call__(self, piece):
        with self._lock:
            if (stored := self._stored.get(id(piece))) is None:
                version = _version_of(piece.path)
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
        state, key = os.fstat(stored.handle), (piece.path, piece.key)
        version = _version(state)
        known = self._places.get(key) or self._kept.get(key) or (None, None)
        if known[0] != version:
            known = version, codec.Places(dataset)
            if time.time() - state.st_mtime > SETTLED:
                while len(self._kept) >= OPEN:
                    del self._kept[next(iter(self._kept))]
                self._kept[key] = known
        self._places[key] = known
        stored.places = known[1]
        stored.let_go()
        return stored


def _version(state):
    """What changes with a file, of its `os.stat_result`."""
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def _version_of(path):
    """The same of the file that has this name now, None where there is none."""
    try:
        return _version(os.stat(path))
    except OSError:
        return None


def frames_in(dataset):
    """(pieces, shape) of a dataset of frames, (h, w) last also where MATLAB wrote it, or the sources of a virtual one.

    Raises what `pieces_of` says.
    """
    pieces, (*lead, h, w) = _pieces(dataset), dataset.shape
    turned = _has_marks(dataset)
    if dataset.is_virtual and not turned:
        turned = _one_answer({piece.turned for piece in pieces if not piece.missing},
                             f"{dataset.file.filename}: {dataset.name}")
    if not turned:
        return pieces, dataset.shape
    return [replace(piece, row=piece.col, col=piece.row, shape=piece.shape[::-1], turned=True)
            for piece in pieces], (*lead, w, h)


def pieces_of(dataset, start=0):
    """The pieces of a dataset of frames as stored; a virtual one is taken apart into its sources, link by link.

    Raises SourceError for a virtual layout that does not keep whole rows of frames together.
    """
    return [replace(piece, turned=False) for piece in _pieces(dataset, start)]


def _pieces(dataset, start=0):
    """The same; `turned` where a virtual dataset's source has MATLAB's marks, though row, col and shape are not yet."""
    path, key = Path(dataset.file.filename), dataset.name
    if dataset.file.get(key) != dataset:    # reached by a soft link to an external one: the name is of the first file
        key = h5py.h5r.get_name(dataset.ref, dataset.file.id).decode()
    h, w = dataset.shape[-2:]
    if not dataset.is_virtual:
        return [Piece(path, key, start, dataset.size // (h * w), shape=(h, w), depth=depth_of(dataset))]
    if dataset.ndim not in (3, 4):
        raise SourceError(f"{path}: {key} is a virtual dataset of {dataset.ndim} dimensions; expected (n, h, w) or "
                          f"(rows, cols, h, w)")
    pieces = []
    for source in dataset.virtual_sources():
        name = _file_of(dataset, source)
        target = _regular(source.vspace, dataset.shape)
        if dataset.ndim == 4 and target is not None:
            target = _flat(target, dataset.shape)
        if target is None or any(turns > 1 for _, _, turns, _ in target[1:]):
            raise SourceError(f"{path}: {key}: its part from {name} is not a regular block of frames; "
                              f"read {name} itself")
        (frame, step, turns, block), (row, _, _, high), (col, _, _, wide) = target
        piece = Piece(name, source.dset_name, start + frame, turns * block, 0, step, block, row, col, (high, wide))
        pieces.append(_checked(piece, source.src_space, f"{path}: {key}", dataset.within))
    return pieces


def _flat(axes, shape):
    """A block of a raster's rows and columns as one of frames: [(start, stride, count, block), ...] with an axis less;
    None where it is not evenly spaced."""
    (row, row_step, row_turns, row_block), (col, col_step, col_turns, col_block), *rest = axes
    width = shape[1]
    if row_turns > 1 and row_block > 1 or col_turns > 1 and col_block > 1:
        return None
    rows, columns = row_turns * row_block, col_turns * col_block
    row_step, col_step = (row_step if row_turns > 1 else 1) * width, col_step if col_turns > 1 else 1
    first = row * width + col
    if rows == 1:
        frames = (first, col_step, columns, 1) if col_step > 1 else (first, columns, 1, columns)
    elif col_step == 1:
        frames = (first, row_step, rows, columns) if row_step > columns else (first, rows * columns, 1, rows * columns)
    elif columns * col_step == width and row_step == width:
        frames = (first, col_step, rows * columns, 1)
    else:
        return None
    return [frames, *rest]


def _checked(piece, selection, whose, within):
    """A piece of a virtual dataset, held against its source: where it begins there, or why it is missing.

    within : see `open_hdf5`
    """
    try:
        with open_hdf5(piece.path, within) as file:
            source = dataset_in(file, piece.key)
            if source.file.filename != file.filename:       # reached by a link
                piece = replace(piece, path=Path(source.file.filename), key=source.name)
            shape, nested, depth, turned = source.shape, source.is_virtual, depth_of(source), _has_marks(source)
    except SourceError as err:
        return replace(piece, missing=str(err))
    axes = _regular(selection, shape)
    if len(shape) == 2:
        shape, axes = (1, *shape), axes and [(0, 1, 1, 1), *axes]
    elif len(shape) == 4:
        axes = axes and _flat(axes, shape)
        shape = (shape[0] * shape[1], *shape[2:])
        if axes and axes[0][2] > 1:
            axes = None         # with gaps between its frames
    if axes is None or nested or any(turns > 1 for _, _, turns, _ in axes):
        raise SourceError(f"{whose}: its part from {piece.path} is {'virtual again' if nested else 'not one block'}; "
                          f"read that file itself")
    (first, _, _, _), (row, _, _, _), (col, _, _, _) = axes
    if (row, col) != (0, 0) or shape[1:] != piece.shape or first + piece.count > shape[0]:
        return replace(piece, missing=f"{piece.path}: {piece.key} has shape {shape}, which does not hold the "
                                      f"{piece.count} frames of {piece.shape} pixels from frame {first} on")
    return replace(piece, first=first, depth=depth, turned=turned)


def _covered(pieces, shape):
    """bool (h, w), which pixels any piece has, where pieces are parts of frames and leave gaps; else None."""
    places = {(piece.row, piece.col, *piece.shape) for piece in pieces}
    if any((high, wide) == tuple(shape) for _, _, high, wide in places):
        return None
    covered = np.zeros(shape, bool)
    for row, col, high, wide in places:
        covered[row:row + high, col:col + wide] = True
    return None if covered.all() else covered


def _regular(space, shape):
    """[(start, stride, count, block)] along each axis of a selection; None where it is the whole or irregular."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return [(0, n, 1, n) for n in shape] if shape else None
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        return None
    axes = [[int(v) for v in axis] for axis in zip(*space.get_regular_hyperslab())]
    # HDF5 keeps what follows without a gap as one block, of stride 1
    return [(start, max(stride, block), n, block) for start, stride, n, block in axes]


class Found(NamedTuple):
    """A number in a file: its value, its unit as the file spells it ("" without), and its name."""
    value: float
    unit: str
    where: str


def scalar(file, *keys):
    """`Found` of the first of these datasets that is there and holds one number; else None."""
    for key in keys:
        node = member(file, key)
        if isinstance(node, h5py.Dataset) and node.size == 1 and node.dtype.kind in "iuf":
            return Found(float(np.ravel(read_dataset(node))[0]), unit_of(node) or "", node.name)
    return None


def unit_of(node):
    """The unit of a dataset by its attribute, as it is spelt; None where it has none.

    NeXus calls the attribute `units`; programs write `unit` too, and capitals. One unit for each of several numbers
    counts where all are the same.
    """
    names = {name.lower(): name for name in reversed(list(node.attrs))}
    name = next((names[name] for name in ("units", "unit") if name in names), None)
    value = None if name is None else node.attrs[name]
    if isinstance(value, np.ndarray) and value.size > 1 and len(set(value.ravel().tolist())) == 1:
        return _text(value.ravel()[0])
    return name and (text_attribute(node, name) or None)


def member(group, name):
    """A member of an open file or group, None where it is absent or a link leads nowhere."""
    try:
        return group.get(name)
    except (KeyError, OSError, RuntimeError, SystemError, ValueError):
        return None


def text_in(node):
    """The text that a dataset holds, "" for anything else."""
    if not isinstance(node, h5py.Dataset) or node.size != 1:
        return ""
    return _text(np.ravel(read_dataset(node))[0])


def text_attribute(node, name):
    """A text attribute of an HDF5 object, None where it has none."""
    value = node.attrs.get(name)
    if isinstance(value, np.ndarray | np.generic) and np.size(value) == 1:
        value = np.ravel(value)[0]
        value = value.item() if isinstance(value, np.generic) else value
    return None if value is None or isinstance(value, h5py.Empty) else _text(value)


def _text(value):
    """Text of bytes or of anything else; bytes that are no UTF-8 are Latin-1, as old programs write µ."""
    if isinstance(value, str):
        value = value.encode(errors="surrogateescape")      # as h5py gives what is no UTF-8
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
