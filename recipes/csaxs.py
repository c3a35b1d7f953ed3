"""PSI cSAXS (X12SA, Swiss Light Source): CBF or NeXus frames, orchestra or SPEC positions."""
import re
from pathlib import Path

import h5py
import numpy as np

from ptyprep import FileScan, Par
from ptyprep.arrays import matlab, read_array
from ptyprep.errors import ParameterError, PositionError, SourceError
from ptyprep.filesystem.order import in_order, matching
from ptyprep.filesystem.raw_files import opening
from ptyprep.hdf5.files import dataset_in, read_numbers, reading, scalar
from ptyprep.hdf5.guarded import is_hdf5
from ptyprep.processing.plan import orientation_flags
from ptyprep.processing.positions import Points
from ptyprep.sources import Hdf5Stack, ImageFiles
from ptyprep.sources.formats import PILATUS
from ptyprep.tables.spec import read_scan
from ptyprep.words.spelling import option

# By the detector's folder: the turn to what the beamline shows (see `orientation`), and the pixel [m]
DETECTORS = {"pilatus_1": (3, 172e-6), "pilatus_2": (3, 172e-6), "eiger_4": (0, 75e-6), "eiger9": (0, 75e-6),
             "eiger": (6, 75e-6)}
MOTORS = {"orchestra": [("Average_y_st_fzp", "Average_x_st_fzp"), ("Average_y", "Average_x")], "spec": [("py", "px")]}


class Csaxs(FileScan):
    """A scan of cSAXS, in the folder of its beamtime.

    Frames are CBF images in `<path>/<detector>/S00000-00999/S00123`, else HDF5 files there, else the NeXus file in
    `<path>/data/S00000-00999/S00123`. Position = (-y, -x) of what interferometers measured on average during the
    exposures, as orchestra wrote it, or of SPEC's py and px, in um; on frames turned as the beamline shows them
    (`orientation`, where it is not given): by 180 degrees for a Pilatus, not for an Eiger 1.5M. PtyPy changes neither,
    which in the far field is the same for a Pilatus. Energy is SPEC's mokev; the distance is not recorded.

    Layout: PtychoShelves' cSAXS packages (`+scans/+positions`, `+detector`, `+beamline`, `+io/spec_read.m`), from which
    are signs and turns, PtyPy's `cSAXS.py`, and ptychodus (`aps31id_lynx_orchestra_position_file.py`), which negates
    too. What PtychoShelves corrects for the stage's rotation (Average_rotz_st) is not, and bursts are not added up.
    Not tried on real data of this beamline.
    """

    path: Path = Par(source=True, level=0, doc="Folder of the beamtime, such as Data10, with the detectors' folders.")
    scan_number: int = Par(level=0, ge=0, doc="Number of the scan.")
    detector: str = Par("pilatus_1", level=0, doc="Folder of the detector: pilatus_1 (2M), pilatus_2 (300k), eiger_4 "
                                                  "(1.5M), eiger (500k) or eiger9 (9M).")
    frames_path: str | None = Par(None, doc="Folder, file or pattern of the frames, from path on. None: by detector "
                                            "and number.")
    key: str | None = Par(None, level=2, doc="Dataset of the frames. None: as the detectors have it.")
    position_source: str = Par("orchestra", choices=tuple(MOTORS), doc="Who wrote the positions.")
    orchestra_file: Path | None = Par(None, doc="Orchestra's text file. None: that of the scan in "
                                                "specES1/scan_positions, else what a NeXus file has of it.")
    spec_file: Path | None = Par(None, doc="SPEC file. None: the newest .dat in specES1/dat-files or spec/dat-files.")
    spec_order: int | None = Par(None, ge=1, level=2, doc="Which of several scans of that number in the SPEC file, "
                                                          "counted from 1.")
    motors: tuple[str, str] | None = Par(None, doc="Columns of the positions, rows and columns. None: Average_y_st_fzp "
                                                   "and Average_x_st_fzp, or as old files have it Average_y and "
                                                   "Average_x; of SPEC py and px.")
    motors_multiplier: tuple[float, float] = Par((-1e-6, -1e-6), doc="What makes metres of the motors, rows and "
                                                                     "columns.")
    burst_frames: int = Par(1, unit="frames", ge=1, doc="Frames of each position; all are kept.")
    burst_number: str = Par("second", choices=("second", "first"), level=2,
                            doc="Which of the two numbers at the end of an image's name counts the frames of a burst; "
                                "the other one counts positions.")
    valid_mask: Path | None = Par(None, doc="The beamline's mask of valid pixels: HDF5 of raw frames, or MATLAB of "
                                            "frames as they are shown.")

    def open(self):
        p, files = self.p, self._files()
        turned, self._pixel = DETECTORS.get(p.detector, (p.orientation, None))
        if p.detector not in DETECTORS and not p.given("orientation"):
            raise ParameterError(f"{option('detector', p.detector)}: how its frames are shown is known of "
                                 f"{', '.join(DETECTORS)} only: set {option('orientation')}")
        self._shown = orientation_flags(turned)
        p.record("orientation", self._shown)
        if orientation_flags(p.orientation) != self._shown and not p.given("motors_multiplier"):
            self.note(f"{option('motors_multiplier')} is that for frames as the beamline shows them, "
                      f"{option('orientation', self._shown)}")
        if not is_hdf5(files[0]):
            return ImageFiles(files)
        source = Hdf5Stack.joined(files, p.key or self._key(files[0]))
        source.format = PILATUS
        source.parts = None                     # positions are those of all of them
        return source

    def load_geometry(self):
        found = dict(super().load_geometry())
        if self._pixel and "psize" not in found and not self.p.given("psize"):
            found["psize"] = self._pixel
            self.note(f"pixels of {self.p.detector} are {self._pixel:g} m wide; no file says it")
        if "energy" not in found and not self.p.given("energy"):
            try:
                found["energy"] = self._mokev()
            except SourceError as err:
                if self.p.spec_file:
                    raise
                self.note(f"energy is not found: {err}")
        return found

    def readings(self, path):
        given = super().readings(path)
        if given is not None:
            return given
        where, names, column = self._table()
        known = [self.p.motors] if self.p.motors else MOTORS[self.p.position_source]
        motors = next((pair for pair in known if set(pair) <= set(names)), None)
        if motors is None:
            raise PositionError(f"{where}: no columns {' or '.join(' and '.join(pair) for pair in known)}; it has "
                                f"{', '.join(names) or 'none'}. Set {option('motors')}")
        found = [column(name) for name in motors]
        frames, n, burst = self.source.shape[0], len(found[0]), self.p.burst_frames
        if not n:
            raise PositionError(f"{where}: not one position; was the scan stopped, or are they elsewhere "
                                f"({option('position_source')})?")
        if burst == 1 and frames > n and frames % n == 0:
            raise PositionError(f"{where}: {n} positions for {frames} frames in {self.source.path}: set "
                                f"{option('burst_frames', frames // n)} if each has so many")
        repeat = np.repeat if self.p.burst_number == "second" else lambda values, k: np.tile(values, k)
        return Points(*(repeat(values, burst) * multiplier
                        for values, multiplier in zip(found, self.p.motors_multiplier)))

    def load_weight(self):
        given, path = super().load_weight(), self.p.valid_mask
        if path is None:
            return given
        if path.suffix == ".mat":
            transpose, flipud, fliplr = self._shown
            good = _matlab_mask(path)[::-1 if flipud else 1, ::-1 if fliplr else 1]
            good = good.T if transpose else good
        else:
            good = read_array(path, "entry/collection/mask", parameter=["mask.file", "mask.key"]).values != 0
        if good.shape != self.source.shape[1:]:
            raise SourceError(f"{path}: a mask of {good.shape} for raw frames of {self.source.shape[1:]}")
        return good if given is None else good & (np.asarray(given) > 0)

    def _files(self):
        p, thousand = self.p, self.p.scan_number // 1000 * 1000
        if not p.path.is_dir():
            raise SourceError(f"{p.path}: {'a file' if p.path.exists() else 'no such folder'}; expected the folder of "
                              f"a beamtime")
        folder = Path(f"S{thousand:05d}-{thousand + 999:05d}", f"S{p.scan_number:05d}")
        nexus = p.path / "data" / folder
        places = [p.path / p.frames_path] if p.frames_path else [p.path / p.detector / folder, nexus]
        for place in places:
            found = [matching(place, kind) for kind in (("*.cbf", "*.h5") if place.is_dir() else "*")]
            found = [file for file in next(filter(None, found), []) if file.exists() or file.is_symlink()]
            if place == nexus and len(found) > 1:
                raise SourceError(f"{place}: which of {', '.join(f.name for f in found)} has the frames? Set "
                                  f"{option('frames_path')}")
            if found:
                notes = []
                found = in_order(found, notes)
                self.note(*(notes if is_hdf5(found[0]) else ()))        # images say it themselves
                return found
        raise SourceError(f"{' and '.join(map(str, places))}: no .cbf and no .h5 file; set {option('detector')}, "
                          f"{option('scan_number')} or {option('frames_path')}")

    def _key(self, path):
        name = self.p.detector
        keys = [f"entry/instrument/{name}/data", f"entry/data/{name}", "eh5/images", "entry/data/data"]
        with reading(path, "frames of cSAXS") as file:
            for key in keys:
                key += "/data" * isinstance(file.get(key), h5py.Group)
                if key in file:
                    return key
        raise SourceError(f"{path}: no frames of {name}: none of {', '.join(keys)}. Set {option('detector')} or "
                          f"{option('key')}")

    def _table(self):
        """(where, names, the column of a name) of the positions."""
        p, n = self.p, self.p.scan_number
        if p.position_source == "spec":
            if (scan := self._spec()) is None:
                raise PositionError(f"{p.path}: no SPEC file in specES1/dat-files or spec/dat-files; set "
                                    f"{option('spec_file')}")
            return scan.where, scan.names, scan.column
        usual, frames = p.path / "specES1" / "scan_positions" / f"scan_{n:05d}.dat", self.source.files[0]
        path = p.orchestra_file or usual
        if p.orchestra_file is None and not usual.is_file() and is_hdf5(frames):
            with reading(frames, "a NeXus file of cSAXS") as file:
                group = file.get("entry/collection/orchestra")
                if isinstance(group, h5py.Group):
                    columns = {name: read_numbers(dataset_in(file, f"{group.name}/{name}")).ravel() for name in group}
                    return f"{frames}: {group.name}", list(columns), columns.get
        columns = _orchestra(path, n)
        return path, list(columns), columns.get

    def _mokev(self):
        """Energy [keV], None where it is not recorded."""
        frames = self.source.files[0]
        if is_hdf5(frames):
            with reading(frames, "a NeXus file of cSAXS") as file:
                for key, usual in (("collection/specES1/mokev", "keV"), ("instrument/monochromator/energy", None)):
                    if found := self.quantity("energy", scalar(file, f"entry/{key}"), usual=usual):
                        return found[0]
        scan = self._spec()
        return scan and scan.motors.get("mokev")

    def _spec(self):
        """The scan in SPEC's file, None where no file was named and there is none."""
        path = self.p.spec_file
        if path is None:
            there = [file for at in ("specES1", "spec") for file in (self.p.path / at / "dat-files").glob("*.dat")]
            if not there:
                return None
            path = max(there, key=lambda file: file.stat().st_mtime)
        scan = read_scan(path, self.p.scan_number, self.p.spec_order)
        if self.p.spec_file is None and len(there) > 1:
            self.note(f"{scan.where}, of the newest of {len(there)} SPEC files, is taken for this one")
        return scan


def _orchestra(path, scan_number):
    """{name: readings} of an orchestra file: a line about the scan, one of names, one for each point."""
    opening(path)
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as err:
        raise PositionError(f"{path}: no positions of orchestra ({err.strerror or err}); set "
                            f"{option('orchestra_file')}, or {option('position_source')}") from err
    title, header = (lines + ["", ""])[:2]
    said = re.match(r"Scan\s+(\d+)", title)
    if not said or int(said[1]) != scan_number:
        raise PositionError(f"{path}: it begins with {title[:60]!r}; expected 'Scan {scan_number}, …'")
    names, rows = header.split(), []
    for number, line in enumerate(lines[2:], 3):
        if line.strip() and not line.startswith("#"):
            try:
                rows.append([float(cell) for cell in line.split()])
            except ValueError as err:
                raise PositionError(f"{path}, line {number}: expected numbers ({err})") from None
            if len(rows[-1]) != len(names):
                raise PositionError(f"{path}, line {number}: {len(rows[-1])} numbers for {len(names)} columns")
    return dict(zip(names, np.array(rows, float).reshape(-1, len(names)).T))


def _matlab_mask(path):
    """Good pixels (h, w) of a MATLAB file: its `mask`, or `valid_mask` with indices and framesize, columns first."""
    found = matlab(path)
    try:
        if "mask" in found:
            good = np.asarray(found["mask"]) != 0
        else:
            size = tuple(int(n) for n in found["valid_mask"]["framesize"])
            good = np.isin(np.arange(1, np.prod(size) + 1), found["valid_mask"]["indices"]).reshape(size, order="F")
    except (KeyError, TypeError, ValueError, IndexError) as err:
        raise SourceError(f"{path}: no mask, and no valid_mask with indices and framesize, can be read "
                          f"({type(err).__name__}: {err})") from err
    if good.ndim != 2:
        raise SourceError(f"{path}: a mask of shape {good.shape}; expected (h, w)")
    return good
