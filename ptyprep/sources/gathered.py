"""Frames that lie in many files or datasets, put in order; those that are missing are known, and move no others."""
from dataclasses import replace

import numpy as np

from ptyprep.errors import SourceError
from ptyprep.filesystem.order import in_order, matching
from ptyprep.hdf5.files import by_matlab, dataset_in, reading, shape_of
from ptyprep.processing.corrections import average, believable
from ptyprep.sources.formats import limits_of
from ptyprep.sources.hdf5 import Hdf5Stack
from ptyprep.sources.pieces import Piece, frames_in

SUFFIXES = (".h5", ".hdf5", ".hdf", ".nxs")


def files_at(path, names="*", *, notes=None):
    """The HDF5 files that a path means (see `filesystem.order.matching`), ordered by the numbers in their names."""
    return in_order(hdf5_files(path, names), notes)


def hdf5_files(path, names="*"):
    """The same in no order of numbers."""
    found = matching(path, names)
    if found == [path]:
        return found
    found = [file for file in found if file.suffix.lower() in SUFFIXES]
    if not found:
        raise SourceError(f"{path}: no HDF5 file {names if path.is_dir() else path.name} there "
                          f"({', '.join(SUFFIXES)}); expected a folder of them, a pattern, or one file")
    return found


def one_frame_in_each(files, key):
    """A stack of one frame, (h, w) or (1, h, w), from each file; one that is not there or damaged is missing."""
    shapes, broken, turned = {}, {}, {}
    for file in files:
        try:
            with reading(file, "a file with a frame") as opened:
                dataset = dataset_in(opened, key)
                if dataset.ndim not in (2, 3) or dataset.ndim == 3 and len(dataset) != 1:
                    raise SourceError(f"{file}: {key} has shape {dataset.shape}; expected one frame, (h, w)")
                shapes[file], turned[file] = shape_of(dataset)[-2:], by_matlab(dataset)
        except SourceError as err:
            broken[file] = str(err)
    shape = next(iter(shapes.values()), (0, 0))
    broken |= {file: f"{file}: {key} is a frame of {other} pixels, those before are of {shape}"
               for file, other in shapes.items() if other != shape}
    pieces = [Piece(file, key, number, 1, shape=shape, missing=broken.get(file), turned=turned.get(file, False))
              for number, file in enumerate(files)]
    return Hdf5Stack.of_pieces(next(iter(shapes), files[0]), pieces, (len(files), *shape))


def mean_frame(path, key, names="*"):
    """The average (h, w) of the believable counts of the frames in some files, or of those in one."""
    files = hdf5_files(path, names)        # whose order does not matter
    return mean_of(one_frame_in_each(files, key) if len(files) > 1 else Hdf5Stack(files[0], key))


def mean_of(source):
    """The average (h, w) of the believable counts of a source's frames, read one after the other."""
    return average((source.read([number])[0] for number in range(source.shape[0])), limits_of(source, source.dtype))


def frames_of(file, key, must=False):
    """(pieces, shape (n, h, w)) of a dataset with frames; (why it is missing, None) unless it must be there."""
    try:
        dataset = dataset_in(file, key)
        if dataset.ndim < 2 or dataset.dtype.kind not in "iuf" or not dataset.size:
            raise SourceError(f"{dataset.file.filename}: {dataset.name} is {dataset.dtype} of shape {dataset.shape}; "
                              f"expected frames (n, h, w)")
        pieces, (*_, h, w) = frames_in(dataset)
        return pieces, (dataset.size // (h * w), h, w)
    except SourceError as err:
        if must:
            raise
        return str(err), None


def end_to_end(parts, path):
    """Datasets of frames one after the other: (pieces, frames in each, size of a frame). A missing one counts as many
    frames as the largest.

    parts : what `frames_of` gives for each; path : of the scan, for messages
    """
    there = [shape for _, shape in parts if shape]
    if not there:
        raise SourceError(f"{path}: none of its frames can be read; the first: {parts[0][0]}")
    if odd := [shape for shape in there if shape[1:] != there[0][1:]]:
        raise SourceError(f"{path}: frames of {there[0][1:]} and of {odd[0][1:]} pixels; expected the same")
    counts = [shape[0] if shape else max(there)[0] for _, shape in parts]
    pieces = []
    for (some, shape), start, count in zip(parts, np.cumsum([0, *counts]).tolist(), counts):
        pieces += ([replace(piece, start=start + piece.start) for piece in some] if shape else
                   [Piece(path, "", start, count, missing=some)])
    return pieces, counts, there[0][1:]


class Bursts:
    """A source's frames in bursts of so many, added up, or only the first of each. A pixel that is not to be believed
    in one frame of a burst is marked in the sum."""
    saturation = grid = parts = None       # of a sum; that of a frame is believed before
    threads = 1

    def __init__(self, source, burst, *, first_only=False):
        self._source, self._burst, self._first_only = source, burst, first_only
        n, h, w = source.shape
        if n % burst:
            raise SourceError(f"{source.path}: {n} frames are not bursts of {burst}; {n % burst} are left over")
        self.mask, self.mask_reasons = source.mask, getattr(source, "mask_reasons", None)
        self.mask_problem = getattr(source, "mask_problem", None)
        self.turned = source.turned
        self.path, self.files, self.notes, self.recorded = source.path, source.files, source.notes, source.recorded
        self.shape, kind = (n // burst, h, w), source.dtype.kind
        self.dtype = source.dtype if first_only or kind not in "iu" else np.dtype(f"{kind}8")
        self.missing = [(range(frames.start // burst, (frames.stop - 1) // burst + 1), why)
                        for frames, why in source.missing]

    def read(self, indices, window=None):
        """Frames by number; see `FrameSource.read`."""
        self._source.threads = self.threads
        h, w = window.shape if window else self.shape[1:]
        out = np.empty((len(indices), h, w), self.dtype)
        for place, index in enumerate(indices):     # all bursts at once might not fit into memory
            start = int(index) * self._burst
            frames = self._source.read(range(start, start + (1 if self._first_only else self._burst)), window)
            frames.sum(axis=0, dtype=self.dtype, out=out[place])
            if self.dtype.kind in "iu":
                good = believable(frames, limits_of(self._source, frames.dtype)).all(axis=0)
                out[place][~good] = np.iinfo(self.dtype).max
        return out

    def progress(self):
        return self.shape[0], True

    def close(self):
        self._source.close()

    def road(self):
        """How frames are read: a few words for a plan."""
        return f"{self._source.road()}; bursts of {self._burst}"
