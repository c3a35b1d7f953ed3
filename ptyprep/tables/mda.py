"""EPICS MDA files: the scans that saveData of the synApps module sscan writes, with their readings.

Written from epics-modules/sscan, docs/saveData_fileFormat.txt: everything is big-endian and of four bytes, doubles are
of eight. The extra PVs, which follow the scans, are not read.
"""
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ptyprep.errors import SourceError
from ptyprep.filesystem.raw_files import opening

VERSIONS = (1.3, 1.4)       # the same layout, from two writers
MOST = 8                    # dimensions that are believed


class Readings(NamedTuple):
    """What was read at the points of a scan: name of the PV, units as the file says or "", values (points,) float64."""
    name: str
    units: str
    values: np.ndarray


class MdaScan(NamedTuple):
    """One scan: what was read at those of its points that were done.

    lower : for a rank above 1 the scan that ran at each point, None where there was none
    """
    path: Path
    rank: int
    positioners: list
    detectors: list
    lower: list

    def readings(self, name):
        """The `Readings` that "P0" (positioner) or "D5" (detector) names, by place in the file; or a PV.

        Raises SourceError that lists what is there.
        """
        listed = {f"{letter}{i}": each for letter, some in (("P", self.positioners), ("D", self.detectors))
                  for i, each in enumerate(some)}
        found = listed.get(name.upper()) or next((each for each in listed.values() if each.name == name), None)
        if found is None:
            there = ", ".join(f"{key} ({each.name})" for key, each in listed.items()) or "nothing"
            raise SourceError(f"{self.path}: its scan of rank {self.rank} reads no {name}; it reads {there}")
        return found


def read_mda(path):
    """The outermost scan in an MDA file, an `MdaScan`.

    Raises SourceError for what is no MDA file, or is truncated or damaged.
    """
    data = _Bytes(Path(path))
    version, = data.take(">f")
    if not any(abs(version - known) < 0.01 for known in VERSIONS):
        raise SourceError(f"{path}: no MDA file: it begins with version {version:g}; expected "
                          f"{' or '.join(map(str, VERSIONS))}")
    _, rank = data.take(">2i")
    if not 1 <= rank <= MOST:
        raise data.damaged(f"it declares a scan of {rank} dimensions")
    data.take(f">{rank + 2}i")          # dimensions, whether they are regular, where the extra PVs are
    return _scan(data, rank)


def _scan(data, rank):
    said, points, done = data.take(">3i")
    if said != rank or not 0 <= done <= points:
        raise data.damaged(f"a scan of rank {said} with {done} of {points} points done, where one of rank {rank} is "
                           f"expected")
    offsets = data.array(">i4", points).tolist() if rank > 1 else []
    data.text(), data.text()            # names of the scan record and the time
    counts = data.take(">3i")
    named = [[], []]
    for found, count, texts, units in zip(named, counts, (7, 3), ((6, 3), (2,))):
        for _ in range(count):
            data.take(">i")
            words = [data.text() for _ in range(texts)]
            read_back = words[4] if texts == 7 else ""
            found.append((read_back or words[0], next((words[i] for i in units if words[i]), "")))
    for _ in range(counts[2]):          # triggers
        data.take(">i"), data.text(), data.take(">f")
    positioners, detectors = ([Readings(*each, data.array(kind, points)[:done].astype(float)) for each in found]
                              for found, kind in zip(named, (">f8", ">f4")))
    lower = [_scan(data.seek(offset), rank - 1) if offset else None for offset in offsets[:done]]
    return MdaScan(data.path, rank, positioners, detectors, lower)


class _Bytes:
    """The bytes of a file, taken one after the other, each once: scans that overlap would never end."""

    def __init__(self, path):
        opening(path)
        try:
            self._data = path.read_bytes()
        except OSError as err:
            raise SourceError(f"{path}: cannot be read ({err.strerror}); expected an MDA file") from err
        self.path, self._at, self._left = path, 0, len(self._data)

    def seek(self, offset):
        self._at = offset
        return self

    def take(self, form):
        return struct.unpack(form, self._next(struct.calcsize(form)))

    def array(self, kind, count):
        return np.frombuffer(self._next(count * np.dtype(kind).itemsize), kind)

    def text(self):
        if not self.take(">i")[0]:
            return ""
        length, = self.take(">i")
        return self._next(length + -length % 4)[:length].decode(errors="replace").strip("\0 ")

    def damaged(self, what):
        return SourceError(f"{self.path}: damaged, or no MDA file: at byte {self._at} of {len(self._data)} {what}")

    def _next(self, count):
        stop = self._at + count
        if count < 0 or self._at < 0 or stop > len(self._data) or count > self._left:
            raise self.damaged(f"{count} more are declared than can be" if count > 0 else "a length is negative")
        self._at, self._left, start = stop, self._left - count, self._at
        return self._data[start:stop]
