"""NanoMAX (MAX IV): scans that Contrast or Sardana wrote, step and fly, several joined."""
import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from ptyprep import FileScan, Group, Par
from ptyprep.arrays import Named, numbers_in, read_array
from ptyprep.errors import ParameterError, PositionError, SourceError
from ptyprep.hdf5.files import dataset_in, reading, scalar
from ptyprep.processing.positions import Points
from ptyprep.sources.formats import PILATUS
from ptyprep.sources.gathered import Bursts, end_to_end, frames_of
from ptyprep.sources.hdf5 import Hdf5Stack
from ptyprep.words.spelling import option

MOTORS = (("pseudo/y", "pseudo/x"), ("npoint_buff/y", "npoint_buff/x"), ("samy_buff", "samx_buff"), ("sy", "sx"),
          ("samy", "samx"))
SNAPSHOTS = ("snapshot", "snapshots/pre_scan", "snapshots/post_scan", "measurement")     # the last is Sardana's


class Nanomax(FileScan):
    """Scans of NanoMAX, MAX IV: step and fly scans that Contrast or, before September 2019, Sardana recorded.

    Frames are found wherever `detector` is: stacked in one dataset, one dataset for each point or line, or in Sardana's
    detector files. Position = -1e-6 (y, x) of the motors [um], as PtyPy's readers have it; ptychodus takes +1e-6: check
    `positions.flip_y` and `flip_x` on the reconstruction. PtyPy's zDetectorAngle z and xyAxisSkewOffset s are
    positions.angle = z + s / 2 and positions.skew = -s. What was read once for each line is repeated along it. Readings
    and frames are counted off scan by scan, so that one that was interrupted moves none of the next.
    How frames have to be turned changed with detector and date: set `orientation`. A mask file has non-zero for good.

    Layout: the beamline's writer maxiv-science/contrast (recorders and detectors), its reader
    maxiv-science/nanomax-analysis-utils, and PtyPy's nanomax.py. Tried on a main file of the beamline (Contrast, 2023,
    in maxiv-science/drp-nanomax) with made-up frames; not tried on real frames.
    """
    path: Path = Par(source=True, level=0, doc="Folder of the sample, with 000012.h5 for each scan (Contrast) or one "
                                               "file named as the folder (Sardana); or that file.")
    scans: int | tuple[int, ...] = Par(ge=0, level=0, doc="Number of the scan, or of several that are joined in this "
                                                          "order.")
    detector: str | None = Par(None, level=0, doc="Such as pilatus, merlin, eiger1m. None: the only one of the scan.")
    y_motor: str | None = Par(None, level=0, doc="Rows: dataset in entry/measurement. None: the first pair that is "
                                                 "there of pseudo/y, npoint_buff/y, samy_buff, sy, samy.")
    x_motor: str | None = Par(None, level=0, doc="Columns, as y_motor.")
    motor_multiplier: float = Par(-1e-6, doc="What makes metres of a motor's reading, of the illumination's place on "
                                             "the object. The coarse sams_x and sams_y are in mm: -1e-3.")
    y_motor_angle: float = Par(0.0, unit="deg", level=2, doc="Tilt of the y motor out of the plane of the detector.")
    x_motor_angle: float = Par(0.0, unit="deg", level=2, doc="Tilt of the x motor out of the plane of the detector.")
    burst: str = Par("sum", choices=("sum", "first"), doc="Where a point has several frames: their sum, or the first "
                                                          "as PtyPy takes it.")
    psize = Par(doc="Pixel size, not recorded: Pilatus 172 um, Merlin 55 um, Eiger 75 um.")

    class normalisation(Group):
        """A monitor of the beam: frames are divided by its readings relative to their mean over all scans."""
        key: str | None = Par(None, doc="Dataset or column in the file; without a file, a dataset in "
                                        "entry/measurement of every scan, as alba2/1, ni/counter1, Ni6602_buff. Of "
                                        "several samples at each point the average is taken.")

    def open(self):
        numbers = self.p.scans if isinstance(self.p.scans, tuple) else (self.p.scans,)
        if not numbers:
            raise ParameterError("scans is empty; expected the number of a scan, or of several")
        self._joined = [self._look(number) for number in numbers]
        first, pieces, start = self._joined[0], [], 0
        for scan in self._joined:
            if (scan.size, scan.burst) != (first.size, first.burst):
                raise SourceError(f"{scan.path}: scan {scan.number} has frames of {scan.size} pixels, {scan.burst} for "
                                  f"each point; scan {first.number} has {first.size}, {first.burst}: they cannot be "
                                  f"joined")
            pieces += [replace(piece, start=start + piece.start) for piece in scan.pieces]
            start += sum(scan.counts)
        stack = Hdf5Stack.of_pieces(first.path, pieces, (start, *first.size))
        stack.format = PILATUS          # its marks; Merlin and Eiger count from 0
        stack.files = list(dict.fromkeys([scan.path for scan in self._joined] + stack.files))
        if first.burst == 1:
            return stack
        self.note(f"{first.path}: {first.burst} frames for each point; {option('burst', self.p.burst)}")
        return Bursts(stack, first.burst, first_only=self.p.burst == "first")

    def load_geometry(self):
        each = [self.quantity("energy", self._snapshot(scan, "energy"), usual="eV") for scan in self._joined]
        energies = [energy for found in each if found for energy in found]
        if energies and np.ptp(energies) > 1e-3 * energies[0] and self.p.energy is None:
            raise SourceError(f"{self.p.path}: the scans' energies are {', '.join(f'{e:g}' for e in energies)} keV: "
                              f"join others, or set {option('energy')}")
        recorded = {"energy": energies[0]} if energies else {}
        return {**recorded, **super().load_geometry()}

    def readings(self, path):
        given = super().readings(path)
        if given is not None:
            return given
        p, (moved, widths) = self.p, zip(*map(self._moved, self._joined))
        bases = {tuple(found and found.value for found in (self._snapshot(scan, name) for name in ("basey", "basex")))
                 for scan in self._joined}
        if len(bases) > 1:
            self.note(f"the scans differ in (basey, basex), {', '.join(map(str, bases))}, which is in no position")
        y, x = (np.concatenate(moved) * np.cos(np.deg2rad([p.y_motor_angle, p.x_motor_angle])) * p.motor_multiplier).T
        width, = set(widths) if len(set(widths)) == 1 else [None]
        raster = width and all(len(part) % width == 0 for part in moved)
        return (y.reshape(-1, width), x.reshape(-1, width)) if raster else Points(y, x)

    def named(self, name, dims=None):
        group = self.p.normalisation
        if name != "normalisation" or group.file:
            return super().named(name, dims)
        found = np.concatenate([self._monitored(scan) for scan in self._joined])
        return Named(-found if (found < 0).all() else found, None, group.key)    # of a current only the ratio counts

    # --- looking ----------------------------------------------------------------------------------

    def _look(self, number):
        """What there is of a scan: `_Scan`."""
        folder, name = self.p.path, f"{number:06d}.h5"
        if folder.is_dir():
            main = next((file for file in (folder / name, folder / f"{folder.resolve().name}.h5") if file.is_file()),
                        None)
            if main is None:
                raise SourceError(f"{folder}: neither {name} nor {folder.resolve().name}.h5 in it; expected the folder "
                                  f"of a sample, or Sardana's file of all its scans")
        else:
            main = folder
        with reading(main, "a file of NanoMAX") as file:
            entry = next((entry for entry in (f"entry{number}", "entry") if entry in file), None)
            if entry is None or entry == "entry" and main.name != name:
                raise SourceError(f"{main}: no entry{number} in it, which has {', '.join(file) or 'nothing'}; give the "
                                  f"folder of the sample and the number of one of its scans")
            measured = file[f"{entry}/measurement"]
            stacked, parts = self._parts(measured, main, number)
            motors = self._motors(measured)
            shapes = [dataset_in(measured, motor).shape for motor in motors]
        pieces, counts, size = end_to_end(parts, main)
        lines = not stacked and any(len(shape) == 2 and shape[1] > 1 for shape in shapes)
        points = max((int(np.prod(shape)) for shape in shapes), default=0) if stacked else 0 if lines else len(parts)
        burst = sum(counts) // points if points > 1 and shapes and sum(counts) % points == 0 else 1
        if not stacked and not lines and shapes and len(set(counts)) > 1:
            raise SourceError(f"{main}: scan {number} has {min(counts)} to {max(counts)} frames in its "
                              f"{len(parts)} parts; expected as many in each, or motors with a line of readings for "
                              f"each")
        return _Scan(number, main, entry, pieces, size, counts, lines, motors, max(burst, 1))

    def _parts(self, measured, main, number):
        """(whether frames are stacked in one dataset, [(pieces, shape), or (why they are missing, None)])."""
        groups = {name: list(measured[name]) for name in measured
                  if isinstance(measured.get(name, getlink=True), h5py.HardLink)
                  and isinstance(measured[name], h5py.Group)}
        inside = {name: [key for key in keys if key in ("frames", "data") or re.fullmatch(r"\d{6}", key)]
                  for name, keys in groups.items()}
        inside = {name: keys for name, keys in inside.items() if keys}
        files = {}
        for file in main.parent.iterdir():
            if match := re.fullmatch(rf"scan_{number:04d}_(.+)_(\d{{4}})\.hdf5", file.name):
                files.setdefault(match[1], {})[int(match[2])] = file
        names, wanted = list(inside) or sorted(files), self.p.detector
        if wanted is None and len(names) == 1:
            wanted = names[0]
        if not names:
            raise SourceError(f"{main}: scan {number} has no frames: no detector in {measured.name}, and no file "
                              f"scan_{number:04d}_<detector>_0000.hdf5 beside this one")
        if wanted not in names:
            raise SourceError(f"{main}: scan {number} has frames of "
                              f"{', '.join(names)}{f', none of {wanted}' if wanted else ''}; set {option('detector')} "
                              "to one of them")
        if wanted not in inside:
            return False, _of_files(files[wanted])
        stack = next((key for key in ("frames", "data") if key in inside[wanted]), None)
        if stack:
            return True, [frames_of(measured, f"{wanted}/{stack}", must=True)]
        last = max(map(int, inside[wanted]))
        return False, [frames_of(measured, f"{wanted}/{i:06d}") for i in range(last + 1)]

    def _motors(self, measured):
        """Names of the datasets of y and x; () where positions are elsewhere, or nothing is there."""
        p = self.p
        if p.positions.file or p.positions.slow_key or p.positions.fast_key:
            return ()
        if (p.y_motor is None) != (p.x_motor is None):
            raise ParameterError(f"{option('y_motor')} and {option('x_motor')}: set both of them, or none")
        pairs = MOTORS if p.y_motor is None else [(p.y_motor, p.x_motor)]
        for pair in pairs:
            if all(isinstance(measured.get(name), h5py.Dataset) for name in pair):
                if p.y_motor is None:
                    self.note(f"{measured.file.filename}: positions are those of {' and '.join(pair)}")
                return pair
        found = numbers_in(measured, (1, 2))
        raise PositionError(f"{measured.file.filename}: no {' and '.join(pairs[0])} in {measured.name}; set "
                            f"{option('y_motor')} and {option('x_motor')} to two of "
                            f"{', '.join(name.lstrip('/') for name in found) or 'none'}")

    # --- reading ----------------------------------------------------------------------------------

    def _read(self, scan, parameter, *names):
        return [np.asarray(read_array(scan.path, f"{scan.entry}/measurement/{name}", parameter=parameter).values, float)
                for name in names]

    def _snapshot(self, scan, name):
        """A number of the state of the beamline, as `scalar` gives it; None where it was not recorded."""
        with reading(scan.path, "a file of NanoMAX") as file:
            return scalar(file, *(f"{scan.entry}/{where}/{name}" for where in SNAPSHOTS))

    def _moved(self, scan):
        """(the motors' readings (y, x) for each point of a scan (n, 2), points in a line or None)."""
        y, x = self._read(scan, ["y_motor", "x_motor"], *scan.motors)
        where, width = f"{scan.path}: scan {scan.number}", None
        if scan.lines:
            found = self._of_lines(scan, y, x)
            width = scan.counts[0] if len(set(scan.counts)) == 1 else None
        else:
            y, x = y.ravel(), x.ravel()
            short, long = sorted((y.size, x.size))
            if short != long:
                if not short or long % short:
                    raise PositionError(f"{where}: {y.size} readings of {scan.motors[0]}, {x.size} of "
                                        f"{scan.motors[1]}; expected as many, or one for each line. Set "
                                        f"{option('y_motor')} and {option('x_motor')}")
                width = long // short
                self.note(f"{where}: {scan.motors[y.size > x.size]} was read {short} times and holds for {width} "
                           f"points each")
            found = np.column_stack([np.repeat(axis, long // axis.size) for axis in (y, x)])
        if scan.motors[1].startswith("npoint_buff"):
            self.note(f"{where}: npoint_buff/x probably runs against sx and pseudo/x; if so set "
                      f"{option('positions.flip_x', True)}")
        return self._for_frames(scan, found, "positions"), width

    def _monitored(self, scan):
        values, = self._read(scan, "normalisation.key", self.p.normalisation.key)
        if scan.lines:
            return self._for_frames(scan, self._of_lines(scan, np.atleast_2d(values))[:, 0], "readings of the monitor")
        points = sum(scan.counts) // scan.burst
        if values.ndim > 1 and values.size != points or values.size == points * scan.burst:
            values = values.reshape(points if values.size == points * scan.burst else len(values), -1).mean(axis=1)
        return self._for_frames(scan, values.ravel(), "readings of the monitor")

    def _of_lines(self, scan, *axes):
        """Buffers with a line of readings for each line of frames, (n, axes). NaN where a buffer was not filled."""
        where = f"{scan.path}: scan {scan.number}"
        if len({len(axis) for axis in axes}) > 1 or max(axis.ndim for axis in axes) > 2:
            raise PositionError(f"{where}: {' and '.join(scan.motors)} have shapes "
                                f"{' and '.join(str(axis.shape) for axis in axes)}; expected as many lines of both")
        width = max(max(axis.shape[1] for axis in axes if axis.ndim == 2), *scan.counts)
        tables = [np.full((len(axis), width), np.nan) for axis in axes]
        for table, axis in zip(tables, axes):
            table[:, :axis.shape[1] if axis.ndim == 2 else width] = axis if axis.ndim == 2 else axis[:, None]
        buffers = [table for table, axis in zip(tables, axes) if axis.ndim == 2]
        filled = np.logical_or.reduce([(np.nan_to_num(table) != 0).any(axis=0) for table in buffers])
        end = np.flatnonzero(filled).max(initial=-1) + 1            # Sardana fills up with zeros
        failed = np.logical_and.reduce([(table[:, :end] == -1).all(axis=1) for table in buffers])
        for table in buffers:
            table[:, end:] = table[failed] = np.nan         # Contrast writes -1 where a buffer was not read
        if failed.any():
            self.note(f"{where}: the buffer of lines {', '.join(map(str, np.flatnonzero(failed)))} was not read")
        if end != max(scan.counts):
            self.note(f"{where}: {end} readings for a line of {max(scan.counts)} frames; the first ones are taken")
        counts = scan.counts + scan.counts[:1] * max(len(tables[0]) - len(scan.counts), 0)
        return np.concatenate([np.stack([table[line, :count] for table in tables], axis=-1)
                               for line, count in zip(range(len(tables[0])), counts)])

    def _for_frames(self, scan, values, what):
        """As many as a scan has points; what to do where there are others `positions.mismatch` says."""
        points, there = sum(scan.counts) // scan.burst, len(values)
        if there == points:
            return values
        said = f"{scan.path}: scan {scan.number}: {points} frames but {there} {what}"
        if self.p.positions.mismatch != "first":
            raise PositionError(f"{said}; {option('positions.mismatch', 'first')} takes the first {min(points, there)} "
                                "of both")
        self.note(f"{said}: the first {min(points, there)} of both are taken")
        return np.concatenate([values[:points], np.full((max(points - there, 0), *values.shape[1:]), np.nan)])


class _Scan(NamedTuple):
    """One of the scans that are joined: frames of `size`, `counts` in each dataset, `burst` for each point.

    lines : whether each dataset is a line, and motors have a line of readings for it; motors : names of y and x, or ()
    """
    number: int
    path: Path
    entry: str
    pieces: list
    size: tuple
    counts: list
    lines: bool
    motors: tuple
    burst: int


def _of_files(files):
    """What `frames_of` gives for Lima's files {number: path}: one with an entry for each point or line, or a file for
    each."""
    if len(files) > 1 or 0 not in files:
        first = files[min(files)]
        return [_of_entry(files[i], 0) if i in files else (f"no file with number {i} beside {first}", None)
                for i in range(max(files) + 1)]
    with reading(files[0], "a detector file of Sardana") as file:
        last = max((int(name[6:]) for name in file if re.fullmatch(r"entry_\d{4,}", name)), default=0)
        return [_of_entry(files[0], i, file) for i in range(last + 1)]


def _of_entry(path, number, file=None):
    try:
        if file is None:
            with reading(path, "a detector file of Sardana") as file:
                return _of_entry(path, number, file)
        inside = file.get(f"entry_{number:04d}/measurement")
        names = [] if inside is None else [name for name in inside if f"{name}/data" in inside]
        if len(names) != 1:
            return f"{path}: no frames in entry_{number:04d}/measurement/<detector>/data", None
        return frames_of(inside, f"{names[0]}/data")
    except SourceError as err:
        return str(err), None
