"""Prepared scans: `.ptyd` files, ours and PtyPy's."""
from pathlib import Path

import numpy as np

from ptyprep import h5rw
from ptyprep.errors import SourceError
from ptyprep.sources.hdf5 import Hdf5Stack, Piece, is_hdf5, open_hdf5, pieces_of, read_dataset


class PtydFile(Hdf5Stack):
    """Prepared scan (.ptyd) with its chunks, in one file or linked.

    Frames that were planned and are not there, or no longer, are counted and `missing`.

    meta : what the file says of all frames
    there : frames that are there
    positions : (there, 2) (y, x) [m], None where the file has none
    frame_ids : (n,) raw frame numbers, dense where the file has none, -1 for missing frames
    """

    def __init__(self, path):
        self.path = Path(path)
        self.recorded, self.notes, self.saturation = {}, [], None
        self._weights = []
        with open_hdf5(path) as file:
            if "chunks" not in file or "meta" not in file:
                raise SourceError(f"{path}: no chunks and meta in it; expected a .ptyd file, "
                                  f"found {', '.join(file) or 'nothing'}")
            self.meta = h5rw.read(file["meta"], read_dataset)
            axis = file.get("info/axis")        # ours: meta/center is the whole pixel that holds it
            self.axis = None if axis is None else tuple(float(a) for a in np.ravel(h5rw.read(axis, read_dataset)))
            self._read_chunks(file["chunks"])
        self._read_meta()

    @classmethod
    def understands(cls, path):
        if not is_hdf5(path):
            return False
        with open_hdf5(path) as file:
            return "chunks" in file and "meta" in file

    def _read_chunks(self, chunks):
        numbers = sorted(int(k) for k in chunks if k.isdigit())
        if not numbers:
            raise SourceError(f"{self.path}: no chunk in it; the scan was not prepared, or is not yet")
        pieces, positions, ids, start, shape, dtype = [], [], [], 0, None, None
        absent = []
        for number in numbers:
            chunk = chunks.get(str(number))
            if chunk is None:
                absent.append(number)
                continue
            if absent:
                raise SourceError(f"{self.path}: chunk {absent[0]} is missing, though chunk {number} is there: "
                                  f"its part file is lost")
            if "data" not in chunk:
                raise SourceError(f"{self.path}: chunk {number} has no data; it holds {', '.join(chunk) or 'nothing'}")
            data = chunk["data"]
            if data.ndim != 3 or (shape and (data.shape[1:] != shape or data.dtype != dtype)):
                raise SourceError(f"{self.path}: chunk {number} holds {data.dtype} {data.shape}, expected "
                                  f"{dtype} frames of {shape}")
            shape, dtype = data.shape[1:], data.dtype
            count = len(data)
            pieces += pieces_of(data, start)
            if "weights" in chunk:
                self._weights += pieces_of(chunk["weights"], start)
            if "positions" in chunk:
                positions.append(np.asarray(read_dataset(chunk["positions"]), float))
            ids.append(read_dataset(chunk["frame_ids"]) if "frame_ids" in chunk else np.arange(start, start + count))
            start += count
        self.chunks = len(ids)
        self.planned = len(numbers)
        if not pieces:
            raise SourceError(f"{self.path}: none of its {len(numbers)} chunks is there yet")
        self.there = start
        self.positions = np.concatenate(positions) if sum(map(len, positions)) == start else None
        # all chunks but the last have as many frames as the first
        frames = self.meta.get("num_frames") or start + len(absent) * len(ids[0])
        if frames > start:
            reason = f"{self.path}: {start} of the {frames} planned frames are there, the parts with the others are not"
            lost = Piece(self.path, f"chunks/{absent[0] if absent else len(numbers)}", start, frames - start,
                         shape=shape, missing=reason)
            self.notes.append(f"{start} of the {frames} planned frames are there")
            pieces.append(lost)
            self._weights += [lost] if self._weights else []
            ids.append(np.full(lost.count, -1))
        self.frame_ids = np.concatenate(ids)
        self.grid = None
        self._finish(pieces, (len(self.frame_ids), *shape), dtype)

    def _read_meta(self):
        h, w = self.shape[1:]
        for name in ("energy", "distance"):
            if self.meta.get(name):
                self.recorded[name] = float(self.meta[name])
        if self.meta.get("psize") is not None:
            self.recorded["psize"] = tuple(float(p) for p in np.broadcast_to(self.meta["psize"], 2))
        if self.axis is not None:
            self.recorded["center"] = self.axis
        elif self.meta.get("center") is not None and not isinstance(self.meta["center"], str):
            self.recorded["center"] = tuple(float(c) for c in np.broadcast_to(self.meta["center"], 2))
        common = self.meta.get("weight2d")
        if np.shape(common) == (h, w):
            self.mask = np.asarray(common) > 0

    def weights(self, indices, window=None):
        """Per-frame masks (n, h, w) bool, or None when one mask serves all; see `read`."""
        if not self._weights:
            return None
        if sum(p.count for p in self._weights) != self.shape[0]:
            raise SourceError(f"{self.path}: only some of its chunks have weights")
        return Hdf5Stack.of_pieces(self.path, self._weights, self.shape).read(indices, window) > 0
