"""P06 (PETRA III), nanoprobe: a context file, and beside it a folder with the files of each device."""
import re
from fnmatch import fnmatch
from pathlib import Path

import h5py
import numpy as np

from ptyprep import FileScan, Group, Par
from ptyprep.arrays import Named, read_array
from ptyprep.errors import PositionError, SourceError
from ptyprep.filesystem.order import in_order, matching
from ptyprep.hdf5.files import Found, member, read_numbers, reading, text_attribute, unit_of
from ptyprep.sources.formats import DECTRIS
from ptyprep.sources.gathered import Bursts, end_to_end, frames_of
from ptyprep.sources.hdf5 import Hdf5Stack
from ptyprep.words.spelling import option

NUMBER = r"([-+.\deE]+)"
MESH = rf"\s*[dc]mesh\s+(\S+)\s+{NUMBER}\s+{NUMBER}\s+(\d+)\s+(\S+)\s+{NUMBER}\s+{NUMBER}\s+(\d+)\s+{NUMBER}\s*"


class P06(FileScan):
    """A scan of the P06 nanoprobe, PETRA III: EIGER data files, positions from encoders or from the scan's command.

    Position = -1e-6 (y, x) of the motors [um], whose assignment to rows and columns is no file's: set `y_motor` and
    `x_motor`. At the angle samr of the sample, scanx = sin samr scanv + cos samr scanu and
    scany = cos samr scanv - sin samr scanu. PtyPy's zDetectorAngle z and xyAxisSkewOffset s are
    positions.angle = z + s / 2 and positions.skew = -s. Without encoders, in step scans, positions are those of the
    command dmesh or cmesh, whose first motor is the slow one. A mask file has non-zero for good.

    Layout: PtyPy's branch P06 (p06.py), the readers of GeoPIXE (read_petra_p06) and of simply-nicky/p06_dp, which
    differ in the encoders' assignment and in frames per file. Not tried on real data of this beamline.
    """
    file: Path = Par(source=True, level=0, doc="Context file, such as scan_00088.nxs, with the folder scan_00088 "
                                               "beside it.")
    detector: str = Par("eiger*4m*", doc="The detector's folder, or a pattern of its name.")
    one_file_per_point: bool = Par(False, doc="The frames of one data file belong to one point and are added up; else "
                                              "each frame is a point.")
    nominal: bool = Par(False, level=0, doc="Positions as the scan's command has them, not the encoders.")
    y_motor: str | None = Par(None, level=0, doc="Rows: one of encoder_axes, scanx or scany; with nominal, a motor of "
                                                 "the command.")
    x_motor: str | None = Par(None, level=0, doc="Columns, as y_motor.")
    motor_multiplier: float = Par(-1e-6, doc="What makes metres of a motor's reading, of the illumination's place on "
                                             "the object.")
    y_motor_angle: float = Par(0.0, unit="deg", level=2, doc="Tilt of the y motor out of the plane of the detector.")
    x_motor_angle: float = Par(0.0, unit="deg", level=2, doc="Tilt of the x motor out of the plane of the detector.")
    encoders: str = Par("pilctriggergenerator_*", doc="The encoders' folder, or a pattern of its name.")
    encoder_axes: tuple[str, ...] = Par(("samr", "scanv", "scanu", "scanw"),
                                        doc="What encoder_1, encoder_2 and so on measured, which differs between "
                                            "set-ups; samr in degrees.")
    psize = Par(doc="Pixel size, not recorded: EIGER 75 um.")

    class normalisation(Group):
        """A monitor of the beam: frames are divided by its readings relative to their mean."""
        key: str | None = Par(None, doc="Dataset or column in the file; without a file, folder and dataset, such as "
                                        "qbpm_02/value1.")

    def open(self):
        p = self.p
        with reading(p.file, "a context file of P06") as file:
            if not isinstance(file.get("scan"), h5py.Group):
                raise SourceError(f"{p.file}: no group scan in it; expected a context file of P06, such as "
                                  f"scan_00088.nxs")
        folder = self._folder(p.detector, "detector")
        files = {int(match[1]): file for file in sorted(folder.iterdir())
                 if (match := re.fullmatch(r".*_data_(\d{6})\.h5", file.name))}
        if not files:
            raise SourceError(f"{folder}: no data file in it; expected {p.file.stem}_data_000001.h5 and so on")
        parts = [self._data_file(files.get(i), f"{folder}: no file with _data_{i:06d}")
                 for i in range(min(1, *files), max(files) + 1)]
        self._file_count = len(parts)
        pieces, counts, size = end_to_end(parts, p.file)
        stack = Hdf5Stack.of_pieces(p.file, pieces, (sum(counts), *size))
        stack.format = DECTRIS
        if not p.one_file_per_point:
            return stack
        if len(set(counts)) > 1:
            raise SourceError(f"{folder}: {min(counts)} to {max(counts)} frames in its files; with "
                              f"{option('one_file_per_point', True)} expected as many in each")
        return Bursts(stack, counts[0])

    def load_geometry(self):
        with reading(self.p.file, "a context file of P06") as file:
            node = member(file, "scan/data/energy")
            first = read_numbers(node).ravel()[:1].tolist() if isinstance(node, h5py.Dataset) else []
            found = [Found(value, unit_of(node) or "", node.name) for value in first if value > 0]
        energy = self.quantity("energy", *found, usual="eV")
        return {**({"energy": energy[0]} if energy else {}), **super().load_geometry()}

    def readings(self, path):
        given, p = super().readings(path), self.p
        if given is not None:
            return given
        if p.y_motor is None or p.x_motor is None:
            raise PositionError(f"{p.file}: which motors are rows and columns? Set {option('y_motor')} and "
                                f"{option('x_motor')}, to two of {', '.join(p.encoder_axes)}, scanx, scany, or with "
                                f"{option('nominal', True)} to those of its command "
                                f"{self._command() or '(which is not recorded)'}")
        axes = self._commanded() if p.nominal else [self._encoded(p.y_motor), self._encoded(p.x_motor)]
        if self._file_count == axes[0].size < self.source.shape[0]:
            raise PositionError(f"{p.file}: {self.source.shape[0]} frames in as many files as there are positions, "
                                f"{axes[0].size}: set {option('one_file_per_point', True)}")
        return [axis * np.cos(np.deg2rad(tilt)) * p.motor_multiplier
                for axis, tilt in zip(axes, (p.y_motor_angle, p.x_motor_angle))]

    def named(self, name, dims=None):
        group = self.p.normalisation
        if name != "normalisation" or group.file:
            return super().named(name, dims)
        folder, _, dataset = group.key.partition("/")
        values = self._of_device(self._folder(folder, "normalisation.key"), dataset, "normalisation.key")
        return Named(values, None, f"{self.p.file}: {group.key}")

    def _encoded(self, name):
        """Readings of one axis, or of what follows from three of them."""
        axes = self.p.encoder_axes
        if name in axes:
            return self._of_device(self._folder(self.p.encoders, "encoders"), f"encoder_{axes.index(name) + 1}",
                                "encoder_axes")
        if name not in ("scanx", "scany") or not {"samr", "scanu", "scanv"} <= set(axes):
            raise PositionError(f"{self.p.file}: no motor {name}; {option('y_motor')} and {option('x_motor')} are two "
                                f"of {', '.join(axes)}, or scanx and scany, which need samr, scanu and scanv among "
                                f"{option('encoder_axes')}")
        samr, u, v = map(self._encoded, ("samr", "scanu", "scanv"))
        s, c = np.sin(np.deg2rad(samr)), np.cos(np.deg2rad(samr))
        return s * v + c * u if name == "scanx" else c * v - s * u

    def _command(self):
        with reading(self.p.file, "a context file of P06") as file:
            node = file.get("scan/program_name")
            return None if node is None else text_attribute(node, "scan_command")

    def _commanded(self):
        """Where the command sends the motors: (y, x), each (rows, columns)."""
        command = self._command()
        if (match := re.fullmatch(MESH, command or "")) is None:
            raise PositionError(f"{self.p.file}: its command is {command!r}; nominal positions are those of dmesh or "
                                f"cmesh with two motors. Give {option('positions.file')}, or set "
                                f"{option('nominal', False)}")
        slow, a, b, n, fast, c, d, m, _ = match.groups()
        at = np.meshgrid(np.linspace(float(a), float(b), int(n) + 1), np.linspace(float(c), float(d), int(m) + 1),
                         indexing="ij")
        if {slow, fast} != {self.p.y_motor, self.p.x_motor}:
            raise PositionError(f"{self.p.file}: the motors of its command {command!r} are {slow} and {fast}; set "
                                f"{option('y_motor')} and {option('x_motor')} to them")
        return at if slow == self.p.y_motor else at[::-1]

    def _folder(self, pattern, parameter):
        scan = self.p.file.with_suffix("")
        if not scan.is_dir():
            raise SourceError(f"{scan}: no such folder; expected those of the detector and the encoders in it")
        there = sorted(path.name for path in scan.iterdir() if path.is_dir())
        found = [name for name in there if name == pattern] or [name for name in there if fnmatch(name, pattern)]
        if len(found) != 1:
            raise SourceError(f"{scan}: {len(found)} of its folders are {pattern!r}, expected one; {option(parameter)} "
                              f"says which. There are {', '.join(there) or 'none'}")
        return scan / found[0]

    def _of_device(self, folder, name, parameter):
        """One number for each frame, from all files of a device."""
        if not (files := in_order(matching(folder, "*.nxs"))):
            raise SourceError(f"{folder}: no .nxs file in it; expected {self.p.file.stem}_00000.nxs")
        return np.concatenate([np.asarray(read_array(file, f"entry/data/{name}", parameter=parameter).values,
                                          float).ravel() for file in files])

    def _data_file(self, path, absent):
        if path is None:
            return absent, None
        try:
            with reading(path, "a data file of EIGER") as file:
                return frames_of(file, "entry/data/data")
        except SourceError as err:
            return str(err), None
