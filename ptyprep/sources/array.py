"""Frames that are NumPy arrays, in memory or in a .npy file."""
import os
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from ptyprep.errors import SourceError
from ptyprep.filesystem import system
from ptyprep.filesystem.raw_files import opening
from ptyprep.parallel.buffers import scratch
from ptyprep.sources.blocks import BLOCK_BYTES, InBlocks

# version 3.0 only spells the names of fields in another way, and frames have none
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0, (3, 0): npy.read_array_header_2_0}


class ArrayFrames:
    """Frames in memory: an array (n, h, w), or a raster (rows, cols, h, w)."""
    mask = saturation = path = None
    threads = 1

    def __init__(self, frames, name="array"):
        self.shape, self.grid = _checked(getattr(frames, "shape", None),
                                         getattr(frames, "dtype", type(frames).__name__), name)
        self.frames, self.dtype = frames.reshape(self.shape), frames.dtype
        self.recorded, self.notes, self.files, self.missing = {}, [], [], []

    def read(self, indices, window=None):
        frames = self.frames if window is None else window.cut(self.frames)
        return np.array(frames[np.asarray(indices, int)])

    def progress(self):
        return self.shape[0], True

    def close(self):
        pass


class NpyFile(InBlocks):
    """NumPy file (.npy) of frames (n, h, w), or a raster (rows, cols, h, w), read piece by piece.

    outer : place along the first axis, of frames with an axis more in front

    It is read and never mapped into memory: a mapped file that somebody cuts ends the process (SIGBUS).
    Format: NumPy's `numpy.lib.format`, versions 1.0 to 3.0.
    """
    mask = saturation = None

    def __init__(self, path, outer=None):
        self.path, self._outer = Path(path), outer
        shape, self._fortran, self.dtype, self._start = _header(self.path)
        self._lead, more = shape[:-2], outer is not None
        self.shape, self.grid = _checked(shape[more:], self.dtype, str(path))
        if more and not 0 <= outer < shape[0]:
            raise SourceError(f"{path} of shape {shape} has no place {outer} along its first axis")
        self.recorded, self.notes, self.files, self.missing = {}, [], [self.path], []

    @classmethod
    def understands(cls, path):
        with open(path, "rb") as file:
            return file.read(6) == b"\x93NUMPY"

    def progress(self):
        return self.shape[0], True

    def close(self):
        pass        # the file is open while it is read, not longer

    def road(self):
        """How frames are read: a few words for a plan."""
        return "a .npy file, " + ("the region of all frames at once, for their numbers lie between each other "
                                  "(Fortran order)" if self._fortran else "only the region's rows")

    def blocks(self, indices, most):
        """All frames together where their numbers lie between each other; see `InBlocks.blocks`."""
        return super().blocks(indices, max(len(indices), 1) if self._fortran else most)

    @contextmanager
    def reader(self, window=None):
        """What reads frames, in any thread: fill(indices, out); see `Hdf5Stack.reader`."""
        opening(self.path)
        try:
            handle = os.open(self.path, os.O_RDONLY)
        except OSError as err:
            raise SourceError(f"{self.path}: cannot be read: {err.strerror}") from err
        try:
            yield partial(self._fill, handle, *(window or map(slice, self.shape[1:])))
        finally:
            os.close(handle)

    def _fill(self, handle, rows, cols, indices, out):
        indices = np.asarray(indices, int)
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.shape[0]:
            raise IndexError(f"{self.path} has {self.shape[0]} frames, asked for {indices.tolist()}")
        numbers = indices + (self._outer or 0) * self.shape[0]
        (self._fill_by_pixels if self._fortran else self._fill_by_rows)(handle, rows, cols, numbers, out)

    def _fill_by_rows(self, handle, rows, cols, numbers, out):
        """Each frame's rows lie one after the other."""
        (h, w), size, high = self.shape[1:], self.dtype.itemsize, out.shape[1]
        straight = out.shape[2] == w and out.dtype == self.dtype and out.flags.c_contiguous
        ends = np.flatnonzero(np.diff(numbers) != 1) + 1 if high == h else np.arange(1, len(numbers))
        most = max(len(numbers) if straight else BLOCK_BYTES // (h * w * size), 1)
        for first, last in zip([0, *ends], [*ends, len(numbers)]):
            for at in range(first, last, most):         # of frames that follow on each other
                stop = min(at + most, last)
                start = (int(numbers[at]) * h + (rows.start or 0)) * w * size
                what = f", frame {numbers[at] % self.shape[0]}"
                if straight:
                    self._read(handle, start, out[at:stop].reshape(-1).view(np.uint8), what)
                else:
                    flat = self._read(handle, start, scratch("npy", (stop - at) * high * w * size), what)
                    out[at:stop] = flat.view(self.dtype).reshape(-1, high, w)[..., cols]

    def _fill_by_pixels(self, handle, rows, cols, numbers, out):
        """The numbers of a pixel in all frames lie one after the other, then come those of the pixel below."""
        h, n, size = self.shape[1], prod(self._lead), self.dtype.itemsize
        if len(self._lead) > 1:         # counted with the first axis running fastest
            numbers = np.ravel_multi_index(np.unravel_index(numbers, self._lead), self._lead, order="F")
        most, top, left = max(BLOCK_BYTES // (n * size), 1), rows.start or 0, cols.start or 0
        for x in range(out.shape[2]):
            for y in range(0, out.shape[1], most):
                stop = min(y + most, out.shape[1])
                flat = self._read(handle, ((left + x) * h + top + y) * n * size, scratch("npy", (stop - y) * n * size))
                out[:, y:stop, x] = flat.view(self.dtype).reshape(-1, n)[:, numbers].T

    def _read(self, handle, start, buffer, what=""):
        """Fill bytes (uint8) from a place behind the header on, and return them."""
        done = 0
        while done < len(buffer):
            try:
                got = system.read_into(handle, buffer[done:].data, self._start + start + done)
            except OSError as err:
                raise SourceError(f"{self.path}{what} cannot be read: {err.strerror}") from err
            if not got:
                raise SourceError(f"{self.path}{what} cannot be read: the file ends at {os.fstat(handle).st_size} "
                                  f"bytes, before its array does: was it cut, or is it being written again?")
            done += got
        return buffer


def npy_shape(path):
    """The shape of the array in a .npy file. Raises SourceError."""
    return _header(path)[0]


def _header(path):
    """(shape, whether the first index runs fastest, kind of number, where the numbers begin) of a .npy file."""
    opening(path)
    try:
        with open(path, "rb") as file:
            version = npy.read_magic(file)
            if version not in HEADERS:
                raise ValueError(f"its format has version {version[0]}.{version[1]}, which is not known here")
            shape, fortran, dtype = HEADERS[version](file)
            start, size = file.tell(), os.fstat(file.fileno()).st_size
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are never unpickled")
        if min(shape, default=0) < 0 or start + prod(shape) * dtype.itemsize > size:
            raise ValueError(f"its {size} bytes are fewer than {dtype} of shape {shape} take")
    except (OSError, ValueError, EOFError) as err:
        raise SourceError(f"{path}: cannot be read as a .npy file ({err})") from err
    return shape, fortran and len(shape) > 1, dtype, start


def _checked(shape, dtype, where):
    """((n, h, w), (rows, cols) or None) of an array of frames. Raises SourceError where it can be none."""
    if shape is None or len(shape) not in (3, 4) or getattr(dtype, "kind", "O") not in "biuf":
        raise SourceError(f"{where}: {dtype} of shape {shape}; expected real numbers (n, h, w) or (rows, cols, h, w)")
    return (prod(shape[:-2]), *shape[-2:]), shape[:2] if len(shape) == 4 else None
