"""What travels: a batch of prepared frames, what all of them share, and the package for an engine."""
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum

import numpy as np


class Signal(StrEnum):
    """What `auto` says when it has no frames to give: wait for more, or the end of the scan."""
    WAIT = "msg1"
    EOS = "msgEOS"


WAIT, EOS = Signal.WAIT, Signal.EOS


@dataclass(frozen=True)
class Meta(Mapping):
    """What all frames of a prepared scan share; read as `meta.energy` or `meta["energy"]`.

    energy : photon energy [keV]; for electrons that of a photon of the same wavelength
    distance : sample to detector [m]
    psize : (y, x) size of a prepared pixel [m]
    shape : (h, w) of a prepared frame [pixel]
    center : (y, x) of the pixel that holds the optical axis [prepared pixel]
    num_frames : frames in the scan, an upper bound while the scan is live
    """
    version: float
    num_frames: int | None
    label: str | None
    shape: tuple
    psize: tuple
    energy: float
    center: tuple
    distance: float

    def __getitem__(self, key):
        if key not in iter(self):       # a method is no item
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self):
        return (f.name for f in fields(self))

    def __len__(self):
        return len(fields(self))

    def asdict(self):
        return asdict(self)


@dataclass(frozen=True)
class Batch:
    """Prepared frames of one chunk: this rank's rows of it.

    index : (n,) place in the prepared scan, 0 ... N - 1
    frame : (n,) number of the raw frame
    data : (n, h, w); weight : bool (n, h, w), False = ignore; it cannot be written into, for where all masks are the
        same it is one, seen n times. None where frames go to a file and nobody looks (`PtyScan.prepare`)
    position : (n, 2) of the illumination on the object, (y, x) [m]
    chunk : number of the chunk
    chunk_index, chunk_frame, chunk_position : the same of all rows of the chunk, whatever rank holds them
    points : range of the selected scan points that the chunk was made from, before any was dropped
    bad : ((raw frame, reason), ...) of its frames that could not be read
    blind : how many of its frames that could be read have no good pixel
    lost, near : pixels of the scan's window that overflowed, or were NaN, for the first time in this chunk, and those
        that came near overflow (see `corrections.LOST`); as `masks.as_text` writes them
    counted : (counts below 0, how many of them are -1 or -2, counts near overflow) in all its frames
    dtype : of the frames
    packed : (frames, masks) of a scan that is saved, each as the bytes that the file holds
    """
    index: np.ndarray
    frame: np.ndarray
    data: np.ndarray
    weight: np.ndarray
    position: np.ndarray
    chunk: int
    chunk_index: np.ndarray
    chunk_frame: np.ndarray
    chunk_position: np.ndarray
    points: range
    bad: tuple = ()
    blind: int = 0
    lost: str = ""
    near: str = ""
    counted: tuple = (0, 0, 0)
    dtype: np.dtype | None = None
    packed: tuple | None = None

    def __len__(self):
        return len(self.index)


class Package(Mapping):
    """A batch as PtyPy's engines take it: 'common', 'chunk' and 'iterable', made when asked for.

    Arrays are views of the batch. A frame that another rank holds has neither data nor mask.
    """

    def __init__(self, meta, batch):
        self.meta, self.batch = meta, batch

    def __getitem__(self, key):
        return {"common": self._common, "chunk": self._chunk, "iterable": self._iterable}[key]()

    def __iter__(self):
        return iter(("common", "chunk", "iterable"))

    def __len__(self):
        return 3

    def _common(self):
        return self.meta

    def _rows(self):
        b = self.batch
        return {int(i): (d, w) for i, d, w in zip(b.index, b.data, b.weight)}

    def _chunk(self):
        b, rows = self.batch, self._rows()
        return {"indices": [int(i) for i in b.chunk_index], "indices_node": [int(i) for i in b.index], "num": b.chunk,
                "data": {i: d for i, (d, _) in rows.items()}, "weights": {i: w for i, (_, w) in rows.items()},
                "positions": b.chunk_position}

    def _iterable(self):
        b, rows = self.batch, self._rows()
        return [{"index": int(i), "position": p, "data": rows.get(int(i), (None, None))[0],
                 "mask": rows.get(int(i), (None, None))[1]} for i, p in zip(b.chunk_index, b.chunk_position)]
