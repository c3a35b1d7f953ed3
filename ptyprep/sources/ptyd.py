"""Prepared scans: `.ptyd` files, ours and PtyPy's."""
import os
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from ptyprep.errors import SourceError
from ptyprep.hdf5 import h5rw
from ptyprep.hdf5.files import read_dataset, read_numbers, reading
from ptyprep.hdf5.guarded import is_hdf5, look_at, places_of
from ptyprep.sources.hdf5 import Hdf5Stack
from ptyprep.sources.pieces import Piece, pieces_of
from ptyprep.words.spelling import option


def folders_of(path, parts=None, *, follow_links=False):
    """The folders that a prepared file must not lead out of: its own, by its name and by what that is a symbolic link
    to, and the one in which its parts are said to be; with `follow_links` any."""
    if follow_links:
        return [Path("/")]
    return [Path(path).parent, Path(os.path.realpath(path)).parent, *([parts] if parts else [])]


def part_of(file, number, parts=None, *, moved=False):
    """Where a chunk of an open `.ptyd` is: its part file, or the file itself; None where it is not there.

    parts : folder to look in as well, and alone where the parts were `moved`

    Raises SourceError for a link that leads out of the folders of the main file, or to what is no file.
    """
    link = file["chunks"].get(str(number), getlink=True)
    if not isinstance(link, h5py.ExternalLink):
        return None if link is None or file["chunks"].get(str(number)) is None else Path(file.filename)
    name, places = Path(link.filename), [] if moved else places_of(file, link.filename)
    places += [Path(parts) / name.name, Path(parts) / name] if parts else []
    place = next((place for place in places if place.exists()), None)
    if place is not None:
        look_at(file, place, f"its link to {name}")
    return place


@contextmanager
def open_chunk(file, number, parts=None, *, moved=False):
    """A chunk of an open `.ptyd`; see `part_of`.

    Raises SourceError where it is not there, or of another run than the main file.
    """
    path = part_of(file, number, parts, moved=moved)
    link = file["chunks"].get(str(number), getlink=True)
    if path is None:
        where = f"its part {link.filename} is" if isinstance(link, h5py.ExternalLink) else "it is"
        raise SourceError(f"{where} not there" + (f", nor in {parts}" if parts else ""))
    with reading(path, "a part of a .ptyd file", file.within) as part:
        if isinstance(link, h5py.ExternalLink):
            runs = [h5rw.text_of(of.attrs.get(h5rw.RUN)) for of in (file, part)]
            if all(runs) and runs[0] != runs[1]:
                raise SourceError(f"{path} is a part of another run, {runs[1]}; expected one of {runs[0]}")
        node = part[link.path if isinstance(link, h5py.ExternalLink) else f"chunks/{number}"]
        if not isinstance(node, h5py.Group):
            raise SourceError("it is no group")
        yield node


def numbers_of(chunks):
    """The numbers of the chunks that an open file names, in order."""
    return sorted({int(name) for name in chunks if name.isascii() and name.isdigit()})


class PtydFile(Hdf5Stack):
    """Prepared scan (.ptyd) with its chunks, in one file or linked.

    Frames that were planned and are not there, or no longer, are counted and `missing`.

    meta : what the file says of all frames
    there : frames that are there
    positions : (there, 2) (y, x) [m], None where the file has none
    frame_ids : (n,) raw frame numbers, dense where the file has none, -1 for missing frames
    """

    def __init__(self, path, follow_links=False):
        """follow_links : whether it may lead out of its folder"""
        self.path = Path(path)
        self.recorded, self.notes, self.saturation = {}, [], None
        self._weights = []
        with reading(path, "a .ptyd file", folders_of(path, follow_links=follow_links)) as file:
            if "chunks" not in file or "meta" not in file:
                raise SourceError(f"{path}: no chunks and meta in it; expected a .ptyd file, "
                                  f"found {', '.join(file) or 'nothing'}")
            self.meta = h5rw.read(file["meta"], read_dataset)
            axis = file.get("info/axis")        # ours: meta/center is the whole pixel that holds it
            self.axis = None if axis is None else tuple(map(float, np.ravel(read_numbers(axis))))
            self._read_chunks(file)
            self._read_meta()

    @classmethod
    def understands(cls, path):
        if not is_hdf5(path):
            return False
        with reading(path, "a .ptyd file") as file:
            return "chunks" in file and "meta" in file

    def _read_chunks(self, file):
        numbers = numbers_of(file["chunks"])
        if not numbers:
            raise SourceError(f"{self.path}: no chunk in it; the scan was not prepared, or is not yet")
        if gap := next((n for n, number in enumerate(numbers) if n != number), None):   # others number as they like
            self.notes.append(f"there is no chunk {gap}, though chunk {numbers[gap]} is there: it was left out, or "
                              f"lost")
        pieces, positions, ids, start, shape, dtype = [], [], [], 0, None, None
        absent = []
        for number in numbers:
            if part_of(file, number) is None:
                absent.append(number)
                continue
            if absent:
                raise SourceError(f"{self.path}: chunk {absent[0]} is missing, though chunk {number} is there: "
                                  f"its part file is lost")
            with open_chunk(file, number) as chunk:
                data = self._stack_in(chunk, number, shape, dtype)
                shape, dtype, count = data.shape[1:], data.dtype, len(data)
                pieces += pieces_of(data, start)
                if "weights" in chunk:
                    weights = chunk["weights"]
                    if weights.shape != data.shape or weights.dtype.kind not in "biuf":
                        raise SourceError(f"{self.path}: chunk {number} has weights of {weights.dtype} "
                                          f"{weights.shape}, expected numbers {data.shape}")
                    self._weights += pieces_of(weights, start)
                if "positions" in chunk:
                    positions.append(self._column(chunk, number, "positions", read_numbers))
                ids.append(self._column(chunk, number, "frame_ids", read_dataset) if "frame_ids" in chunk else
                           np.arange(start, start + count))
            start += count
        self.chunks = len(ids)
        self.planned = len(numbers)
        if not pieces:
            raise SourceError(f"{self.path}: none of its {len(numbers)} chunks is there yet")
        self.there = start
        self.positions = np.concatenate(positions) if sum(map(len, positions)) == start else None
        # all chunks but the last have as many frames as the first
        frames = self._frames_told() or start + len(absent) * len(ids[0])
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

    def _stack_in(self, chunk, number, shape, dtype):
        """The frames of a chunk, which are as those before: `dtype` and `shape`, None for the first."""
        if "data" not in chunk:
            raise SourceError(f"{self.path}: chunk {number} has no data; it holds {', '.join(chunk) or 'nothing'}")
        data = chunk["data"]
        if data.ndim != 3 or data.dtype.kind not in "biuf" or shape and (data.shape[1:], data.dtype) != (shape, dtype):
            raise SourceError(f"{self.path}: chunk {number} holds {data.dtype} {data.shape}, expected " + (
                f"{dtype} frames of {shape}" if shape else "frames (n, h, w) of real numbers"))
        return data

    def _column(self, chunk, number, name, read):
        values = read(chunk[name])
        if not h5rw.is_intact(chunk[name], values):
            raise SourceError(f"{self.path}: chunk {number}: the checksum of {name} is wrong, its bytes have changed "
                              f"since they were written. To keep the other chunks, repair it with "
                              f"{option('drop', True)}")
        return values

    def _frames_told(self):
        """What meta/num_frames says; None where it is not there."""
        told = self.meta.get("num_frames")
        if told is None:
            return None
        if np.size(told) != 1 or not np.isreal(told) or not 0 <= told < 2**40 or int(told) != told:
            raise SourceError(f"{self.path}: meta/num_frames is {told!r}; expected a whole number")
        return int(told)

    def _numbers(self, name, size):
        """So many numbers in meta, or one for all of them; None, with a note, where they are no numbers that can be."""
        value = self.meta.get(name)
        if value is None or isinstance(value, str):     # PtyPy keeps names of centres
            return None
        array = np.asarray(value)
        if array.dtype.kind in "biuf" and array.size in (1, size) and np.isfinite(array).all():
            if name == "center" or (array > 0).all():
                return tuple(map(float, np.broadcast_to(array.ravel(), size)))
        self.notes.append(f"meta/{name} is {value!r} and counts as not recorded")
        return None

    def _read_meta(self):
        h, w = self.shape[1:]
        for name in ("energy", "distance"):
            if value := self._numbers(name, 1):
                self.recorded[name] = value[0]
        if psize := self._numbers("psize", 2):
            self.recorded["psize"] = psize
        if center := self.axis or self._numbers("center", 2):
            self.recorded["center"] = center
        common = self.meta.get("weight2d")
        if np.shape(common) == (h, w):
            self.mask = np.asarray(common) > 0
        elif np.size(common) > 1:
            self.mask_problem = (f"{self.path}: meta/weight2d has shape {np.shape(common)}, the frames have {(h, w)}: "
                                 f"expected the same")

    def weights(self, indices, window=None):
        """Per-frame masks (n, h, w) bool, or None when one mask serves all; see `read`."""
        if not self._weights:
            return None
        if sum(p.count for p in self._weights) != self.shape[0]:
            raise SourceError(f"{self.path}: only some of its chunks have weights")
        stack = Hdf5Stack.of_pieces(self.path, self._weights, self.shape)
        stack.threads = self.threads
        return stack.read(indices, window) > 0
