"""APS 2-ID-D, 2-ID-E and Bionanoprobe, Advanced Photon Source: an HDF5 file for each line, positions in an MDA file."""
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from ptyprep import FileScan, Group, Par
from ptyprep.errors import PositionError, SourceError
from ptyprep.hdf5.files import dataset_in, read_numbers, reading, unit_of
from ptyprep.hdf5.guarded import is_hdf5
from ptyprep.sources import Hdf5Stack
from ptyprep.sources.pieces import Piece
from ptyprep.tables.mda import read_mda
from ptyprep.words.spelling import option


class Aps2Id(FileScan):
    """A fly scan of APS 2-ID-D, 2-ID-E or the Bionanoprobe: an HDF5 file for each line, positions in an MDA file.

    Position = (+y, +x): y was read at each point of the outer scan, x at each point of that line's inner scan. A line
    has more points than frames: its frames belong to its first points. Whether the sample or the optics moved is not
    recorded; positions.flip_y and flip_x are for the sample. Energy, distance and pixel size are not recorded either.

    Layout: ptychodus (`aps02id_diffraction_file.py`, `mda_position_file.py`, `aps02id_bnp_position_file.py` and
    `reconstruct_2ide.py` of its command line) and epics-modules/sscan (`docs/saveData_fileFormat.txt`).
    Not tried on real data of this beamline, except an MDA file of 2-ID-D.
    """
    source_type = None
    recipe_name = "aps_2id"

    file: Path = Par(source=True, level=0, doc="Frames of any line, such as fly001_data_001.h5. The files of the other "
                                               "lines, which differ in the last number, are beside it.")
    series: bool = Par(True, doc="There is a file for each line. No: all frames are in this one.")
    key: str = Par("entry/data/data", doc="Dataset with the frames of a line.")
    first_line: int | None = Par(None, ge=0, doc="Number in the name of the first line's file. None: 0 or 1, where "
                                                 "there is one of that number.")
    skip_points: int = Par(0, ge=0, doc="So many points at the beginning of each line are left out, with their frames; "
                                        "2 is usual at 2-ID-E.")
    min_points: int = Par(1, ge=1, doc="Lines with fewer frames are left out. A line that cannot be read counts as "
                                       "long as the longest one; see bad_frames.")

    class positions(Group):
        file: Path | None = Par(None, doc="MDA file, such as 2xfm_0001.mda; MAPS file of the Bionanoprobe before 2025, "
                                          "such as bnp_fly0001.mda.h5; or a table.")
        slow_key: str | None = Par(None, doc="Which reading of the outer scan is y: P0 (a positioner) or D5 (a "
                                             "detector), counted from 0 as the file lists them, or a PV. None: P0, "
                                             "and P1 where there is no inner scan.")
        fast_key: str | None = Par(None, doc="Which reading of the inner scan is x. None: P0.")
        unit: str | None = Par(None, doc="Unit of the readings. None: as the file says, else mm, and um in MAPS files.")

    def open(self):
        p = self.p
        found = [_line(path, p.key) for path in (_series(p.file, p.first_line) if p.series else [p.file])]
        there = [piece for piece in found if not piece.missing]
        if not there:
            raise SourceError(found[0].missing)
        longest, shape = max(piece.count for piece in there), there[0].shape
        pieces, start, self._counts = [], 0, []         # frames of each line
        for piece in found:
            points = longest if piece.missing else piece.count
            count = points - p.skip_points if points >= max(p.min_points, p.skip_points + 1) else 0
            self._counts.append(count)
            if not count:
                self.note(f"{piece.path}: a line of {points} frames is left out")
                continue
            if piece.shape not in (None, shape):
                raise SourceError(f"{piece.path}: frames of {piece.shape} pixels; expected {shape} as in "
                                  f"{there[0].path}")
            pieces.append(replace(piece, start=start, first=p.skip_points, count=count))
            start += count
        if not pieces:
            raise SourceError(f"{p.file}: no line is long enough; see {option('skip_points')} and "
                              f"{option('min_points')}")
        source = Hdf5Stack.of_pieces(p.file, pieces, (start, *shape))
        if len(pieces) > 1 and len(set(self._counts)) == 1:
            source.grid = len(pieces), pieces[0].count
        return source

    def readings(self, path):
        p = self.p.positions
        if p.file is not None and p.file.suffix.lower() == ".mda":
            return self._of_mda(path)
        if p.file is not None and p.slow_key is None and p.fast_key is None and is_hdf5(path):
            with reading(path, "a MAPS file") as file:
                if "MAPS/y_axis" in file:
                    axes = [dataset_in(file, f"MAPS/{name}_axis") for name in "yx"]
                    y, x = (read_numbers(axis).ravel()
                            * self.metres(multiplier, unit_of(axis) or "um", f"{path}: {axis.name}")
                            for axis, multiplier in zip(axes, (p.slow_multiplier, p.fast_multiplier)))
                    return self._of_lines(path, y, [x] * len(y))
        return super().readings(path)

    def _of_mda(self, path):
        p, scan = self.p.positions, read_mda(path)
        if scan.rank > 2:
            raise PositionError(f"{path}: a scan of {scan.rank} dimensions; expected 2, lines of points, or 1")
        lines = [scan] if scan.rank == 1 else [line for line in scan.lower if line]
        if not lines:
            raise PositionError(f"{path}: no line of this scan was done")
        slow = scan.readings(p.slow_key or ("P1" if scan.rank == 1 else "P0"))
        fast = [line.readings(p.fast_key or "P0") for line in lines]
        y = slow.values * self._factor(p.slow_multiplier, slow, path)
        to_metres = self._factor(p.fast_multiplier, fast[0], path)
        along = iter([line.values * to_metres for line in fast])
        if scan.rank == 1:
            return y[self.p.skip_points:], next(along)[self.p.skip_points:]
        return self._of_lines(path, y, [next(along) if line else np.zeros(0) for line in scan.lower])

    def _factor(self, multiplier, readings, path):
        """What makes metres of readings, which are in mm where nobody says a unit."""
        where = f"{path}: {readings.name}"
        if not readings.units and multiplier is None and self.p.positions.unit is None:
            self.note(f"{where} has no unit and is taken as mm; {option('positions.unit')} is to change that")
            return 1e-3
        return self.metres(multiplier, readings.units, where)

    def _of_lines(self, path, y, x):
        """(slow, fast) of each frame, from y of each line and x of each of its points; NaN beyond those."""
        skip = self.p.skip_points
        if not self.p.series:
            return np.repeat(y, [len(line) for line in x])[skip:], np.concatenate(x)[skip:]
        if len(y) != len(self._counts):
            self.note(f"{path} has {len(y)} lines, {len(self._counts)} have frames: the first ones belong together")
        found, start = np.full((2, sum(self._counts)), np.nan), 0
        for line, count in enumerate(self._counts[:len(y)]):
            along = x[line][skip:][:count]
            found[0, start:start + len(along)], found[1, start:start + len(along)] = y[line], along
            start += count
        return found


def _series(path, first):
    """The files that differ from this one in the last number of their names, from the first line to the last."""
    prefix, digits = re.fullmatch(r"(.*?)(\d*)", path.stem).groups()
    if not digits or not path.is_file():
        return [path]
    there = {}
    for file in path.parent.iterdir():
        if file.suffix == path.suffix and (match := re.fullmatch(re.escape(prefix) + "([0-9]+)", file.stem)):
            if (other := there.setdefault(int(match[1]), file)) is not file:
                raise SourceError(f"{path.parent}: {min(file, other).name} and {max(file, other).name} have the same "
                                  f"number")
    lowest, highest = min(there), max(there)
    if first is None and lowest > 1:
        raise SourceError(f"{path}: the lowest number beside it is {lowest}: is that the first line, or were others "
                          f"lost? Set {option('first_line')}; or {option('series', False)}, if this file has all "
                          "frames")
    first = lowest if first is None else first
    if not first <= highest < first + 10 * len(there) + 100:
        raise SourceError(f"{path}: {len(there)} files beside it have numbers from {lowest} to {highest}: these are no "
                          f"lines from {first} on. See {option('first_line')} and {option('series')}")
    return [there.get(number, path.with_name(f"{prefix}{number:0{len(digits)}d}{path.suffix}"))
            for number in range(first, highest + 1)]


def _line(path, key):
    """The frames of a line, a `Piece`, which may be missing."""
    try:
        pieces = Hdf5Stack(path, key).pieces
        if len(pieces) > 1:
            raise SourceError(f"{path}: {key} is a virtual dataset; expected plain frames")
        return pieces[0]
    except SourceError as err:
        return Piece(path, key, 0, 0, missing=str(err))
