"""Frames that are NumPy arrays, in memory or in a .npy file."""
from pathlib import Path

import numpy as np

from ptyprep.errors import SourceError


class ArrayFrames:
    """Frames in memory: an array (n, h, w), or a raster (rows, cols, h, w)."""
    mask = saturation = path = None
    threads = 1

    def __init__(self, frames, name="array"):
        if getattr(frames, "ndim", 0) not in (3, 4) or frames.dtype.kind not in "biuf":
            raise SourceError(f"{name}: {getattr(frames, 'dtype', type(frames).__name__)} of shape "
                              f"{getattr(frames, 'shape', None)}; expected real numbers (n, h, w) or "
                              f"(rows, cols, h, w)")
        self.grid = frames.shape[:2] if frames.ndim == 4 else None
        self.frames = frames.reshape(-1, *frames.shape[-2:])
        self.shape, self.dtype = self.frames.shape, frames.dtype
        self.recorded, self.notes, self.files, self.missing = {}, [], [], []

    def read(self, indices, window=None):
        frames = self.frames if window is None else window.cut(self.frames)
        return np.array(frames[np.asarray(indices, int)])

    def progress(self):
        return len(self.frames), True

    def close(self):
        pass


class NpyFile(ArrayFrames):
    """NumPy file (.npy) of frames (n, h, w), read piece by piece."""

    def __init__(self, path):
        try:
            frames = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as err:
            raise SourceError(f"{path}: cannot be read as a .npy file ({err})") from err
        super().__init__(frames, str(path))
        self.path = Path(path)
        self.files = [self.path]

    def __reduce__(self):
        return NpyFile, (self.path,)        # other ranks open the file themselves

    @classmethod
    def understands(cls, path):
        with open(path, "rb") as file:
            return file.read(6) == b"\x93NUMPY"
