"""Where frames come from: files and arrays. No physics, no ranks, no motors.

A source could be used by a tomography program; what is special to a beamline is a recipe's.
"""
from pathlib import Path
from typing import Protocol

import numpy as np

from ptyprep.errors import SourceError
from ptyprep.hdf5.guarded import other_kind
from ptyprep.sources.array import ArrayFrames, NpyFile
from ptyprep.sources.cxi import CxiFile
from ptyprep.sources.dectris import DectrisMaster
from ptyprep.sources.hdf5 import Hdf5Stack
from ptyprep.sources.images import ImageFiles
from ptyprep.sources.nexus import NexusFile
from ptyprep.sources.ptyd import PtydFile

__all__ = ["ArrayFrames", "CxiFile", "DectrisMaster", "FrameSource", "Hdf5Stack", "ImageFiles", "NexusFile", "NpyFile",
           "PtydFile", "layout_of", "open_frames"]

# A layout knows what its file means; NeXus in general knows less, and a container only that there are stacks in it.
LAYOUTS = [DectrisMaster, CxiFile, PtydFile]
GENERAL = [NexusFile]
CONTAINERS = [Hdf5Stack, NpyFile, ImageFiles]


class FrameSource(Protocol):
    """What every source answers.

    shape : (n, h, w)
    dtype : of the raw frames
    grid : (rows, cols) when the file holds a raster, else None
    mask : (h, w) bool, True = good, or None when the file says nothing
    saturation : counts above this are not to be believed, or None
    recorded : {"energy": keV, "distance": m, "psize": (y, x) m, "center": (row, col)}, as far as known
    notes : sentences about what the file says that cannot be true
    files : the files that hold the data
    missing : [(range of frames, reason)] that cannot be read

    A source that any thread may read has two methods more, as `Hdf5Stack` does: `reader(window)`, and `blocks(indices,
    most)`, which tells what to read together. Then frames are read and prepared a few at a time, and the next batch
    while one is looked at: a reader stays open from batch to batch, and its `ready(indices)`, if it has one, is called
    for each before any of it is read. A source that has HDF5 files open meanwhile says so by `is_open_while_read()`,
    and only `prepare`, where nobody looks, goes ahead.
    """
    shape: tuple
    dtype: np.dtype
    grid: tuple | None
    mask: np.ndarray | None
    saturation: float | None
    recorded: dict
    notes: list
    files: list
    missing: list
    threads: int

    def read(self, indices, window=None):
        """Frames by number: (n, h, w), or their window (n, *window.shape)."""

    def progress(self):
        """(frames that can be read now, whether that is all there will be)."""

    def close(self):
        """Let go of all files."""

    @classmethod
    def understands(cls, path):
        """Whether this source reads the file: by its first bytes, then its name; opens one header at most."""


def layout_of(path):
    """The source class that reads a file.

    Raises SourceError when none does, or when two say that they do.
    """
    path = Path(path)
    if not path.is_file():
        raise SourceError(f"{path}: no such file" if not path.exists() else
                          f"{path}: {kind}; expected a file" if (kind := other_kind(path)) else
                          f"{path}: a folder; expected a file, or for a folder of images the recipe images")
    for classes in (LAYOUTS, GENERAL, CONTAINERS):
        found = [c for c in classes if c.understands(path)]
        if len(found) > 1:
            raise SourceError(f"{path}: both {' and '.join(c.__name__ for c in found)} read it; "
                              f"name a recipe instead of auto")
        if found:
            return found[0]
    what = "not a file that is understood" if path.stat().st_size else "an empty file"
    raise SourceError(f"{path}: {what}; expected a DECTRIS master, CXI, .ptyd or NeXus file, another HDF5 file with a "
                      f"stack of frames, a .npy array or images")


def open_frames(path, key=None, *, threads=1):
    """The frames of a file, whatever its layout.

    path : file
    key : dataset inside an HDF5 file; None where the layout says it or only one stack is there
    threads : decoded in that many threads

    Returns a `FrameSource`. Raises SourceError.
    """
    source = Hdf5Stack(path, key) if key is not None else layout_of(path)(path)
    source.threads = threads
    return source
