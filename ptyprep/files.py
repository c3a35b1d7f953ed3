"""FileScan: a scan whose positions and mask lie in files, in whatever dataset or column; for most recipes."""
from pathlib import Path

import h5py
import numpy as np

from ptyprep.errors import ParameterError, PositionError, SourceError
from ptyprep.params import Group, Par
from ptyprep.positions import AXES, count_positions, pair_positions, read_table, turn, unit_in_metres
from ptyprep.scan import PtyScan
from ptyprep.sources.hdf5 import dataset_in, is_hdf5, read_dataset, read_numbers, reading


class FileScan(PtyScan):
    """A scan whose frames, positions and mask are in files. A recipe answers `open`, and the rest is parameters."""

    class positions(Group):
        """Where the positions are, and how they lie. Positions are those of the illumination on the object."""
        file: Path | None = Par(None, level=0,
                                doc="HDF5 file, text or CSV table, or .npy array (n, 2) with the positions; "
                                                   "none for the file of the frames.")
        slow_key: str | None = Par(None, level=0,
                                   doc="Dataset of the slow axis (y), or the name or number of its column.")
        slow_multiplier: float | None = Par(None, doc="What makes metres of the slow axis; instead of a unit.")
        slow_index: int | None = Par(None, ge=0, level=2,
                                     doc="Column of the slow axis in a dataset that holds several.")
        fast_key: str | None = Par(None, level=0,
                                   doc="Dataset of the fast axis (x), or the name or number of its column.")
        fast_multiplier: float | None = Par(None, doc="What makes metres of the fast axis; instead of a unit.")
        fast_index: int | None = Par(None, ge=0, level=2,
                                     doc="Column of the fast axis in a dataset that holds several.")
        unit: str | None = Par(None, doc="Unit of the readings. None: as the file says, else metres.")
        swap: bool = Par(False, doc="Exchange slow and fast; done first.")
        flip_y: bool = Par(False, doc="Change the sign of y: for sample motion, or a motor that runs the other way.")
        flip_x: bool = Par(False, doc="Change the sign of x.")
        angle: float = Par(0.0, unit="deg", level=2, doc="Turn the positions from x towards y; done last.")

    class mask(Group):
        """A mask of bad pixels besides the detector's own."""
        file: Path | None = Par(None, doc="HDF5 or .npy file with the mask (h, w).")
        key: str | None = Par(None, doc="Its dataset. Non-zero is good, unless inverted.")
        invert: bool = Par(False, doc="Non-zero is bad.")

    def load_positions(self):
        p, readings = self.p.positions, self._readings()
        if readings is None:
            return None
        slow, fast = readings
        frames = self.source.shape[0] if self.source else None
        found = pair_positions(slow, fast, count_positions(slow, fast, frames))    # the base compares it with frames
        return turn(found, swap=p.swap, flip_y=p.flip_y, flip_x=p.flip_x, angle=p.angle)

    def load_weight(self):
        recorded, group = super().load_weight(), self.p.mask
        if group.file is None:
            return recorded
        mask = _mask_in(group.file, group.key) != 0
        mask = ~mask if group.invert else mask
        if self.source is not None and mask.shape != tuple(self.source.shape[-2:]):
            raise SourceError(f"{group.file}: the mask has shape {mask.shape}, the frames have "
                              f"{self.source.shape[-2:]}")
        return mask if recorded is None else mask & (np.asarray(recorded) > 0)

    def needs(self):
        return [(name, how if name != "positions" else
                 "positions.file (a table, or an HDF5 file with positions.slow_key and positions.fast_key)")
                for name, how in super().needs()]

    def _readings(self):
        """(slow, fast) in metres as the files have them, or None when no parameter says where they are."""
        p = self.p.positions
        path = p.file or (self.source.path if p.slow_key or p.fast_key else None)
        if path is None:
            return None
        if not path.is_file():
            raise PositionError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; positions.file should "
                                f"name an HDF5 file, a table or a .npy array")
        if path.suffix == ".npy":
            columns, units = _columns(_npy(path), path), {}
        elif is_hdf5(path):
            return self._from_hdf5(path)
        else:
            columns, units = read_table(path)
        slow, fast = self._keys_in(columns, path)
        return [columns[key] * self._metres(multiplier, units.get(key), f"{path}: {key}")
                for key, multiplier in ((slow, p.slow_multiplier), (fast, p.fast_multiplier))]

    def _keys_in(self, columns, path):
        p, there = self.p.positions, ", ".join(columns)
        keys = [p.slow_key, p.fast_key]
        if keys == [None, None]:
            lower = {name.lower(): name for name in columns}
            keys = next(([lower[a], lower[b]] for a, b in AXES if {a, b} <= lower.keys()), None)
            if keys is None and len(columns) == 2:
                keys = list(columns)
                self._note(f"{path}: column {keys[0]} is taken as y and {keys[1]} as x")
            if keys is None:
                raise PositionError(f"{path}: which of its columns {there} are y and x? Set positions.slow_key and "
                                    f"positions.fast_key")
        for key in keys:
            if key not in columns:
                raise PositionError(f"{path}: no column {key!r}; its columns of numbers are {there}. Set "
                                    f"positions.slow_key and positions.fast_key")
        return keys

    def _from_hdf5(self, path):
        p = self.p.positions
        if p.slow_key is None or p.fast_key is None:
            raise PositionError(f"{path}: which dataset holds the positions? Set positions.slow_key and "
                                f"positions.fast_key")
        with reading(path) as file:
            return [self._axis_in(file, path, *axis) for axis in (
                (p.slow_key, p.slow_index, p.slow_multiplier), (p.fast_key, p.fast_index, p.fast_multiplier))]

    def _axis_in(self, file, path, key, index, multiplier):
        dataset = _dataset(file, key, (1, 2), "positions.slow_key and positions.fast_key")
        values = read_numbers(dataset)
        if index is not None:
            if values.ndim != 2 or index >= values.shape[1]:
                raise PositionError(f"{path}: {key} of shape {values.shape} has no column {index}")
            values = values[:, index]
        units = dataset.attrs.get("units")
        units = units.decode() if isinstance(units, bytes) else units
        return values * self._metres(multiplier, units, f"{path}: {key}")

    def _metres(self, multiplier, recorded, where):
        """The factor that makes metres: the multiplier, else the unit given, else the one in the file."""
        given = self.p.positions.unit
        if multiplier is not None:
            if given:
                raise ParameterError(f"positions.unit={given!r} and a multiplier {multiplier:g} were both given: leave "
                                     f"out one of them")
            return multiplier
        if not given and not recorded:
            self._note(f"{where} has no unit and is taken as metres")
            return 1.0
        if given and recorded and given != recorded:
            self._note(f"{where} is in {recorded} by what the file says; positions.unit={given!r} is taken")
        try:
            return unit_in_metres(given or recorded)
        except PositionError as err:
            raise PositionError(f"{where}: {err}; set positions.unit") from None


def _columns(array, path):
    if array.ndim != 2 or array.shape[1] < 2 or array.dtype.kind not in "iuf":
        raise PositionError(f"{path}: {array.dtype} of shape {array.shape}; expected numbers (n, 2), (y, x)")
    return {str(i): column for i, column in enumerate(array.T.astype(float))}


def _npy(path):
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as err:
        raise SourceError(f"{path}: cannot be read as a .npy file ({err})") from err


def _mask_in(path, key):
    if not path.is_file():
        raise SourceError(f"{path}: no such file; mask.file should name an HDF5 or .npy file")
    if path.suffix == ".npy":
        return _npy(path)
    with reading(path) as file:
        if key is None:
            flat = _datasets(file, (2,))
            if len(flat) != 1:
                raise SourceError(f"{path}: which dataset is the mask? Set mask.key; those of two dimensions are "
                                  f"{', '.join(flat) or 'none'}")
            key = flat[0]
        mask = _dataset(file, key, (2,), "mask.key")
        if mask.ndim != 2:
            raise SourceError(f"{path}: {key} has shape {mask.shape}; expected a mask (h, w)")
        return read_dataset(mask)


def _dataset(file, key, dimensions, parameter):
    """The dataset of that name. Raises SourceError that lists those it could be, and what to set."""
    if key not in file and file.get(key, getlink=True) is None:
        there = ", ".join(_datasets(file, dimensions)) or "none"
        raise SourceError(f"{file.filename}: no dataset {key}; those of {' or '.join(map(str, dimensions))} dimensions "
                          f"are {there}. Set {parameter}")
    return dataset_in(file, key)


def _datasets(file, dimensions):
    """Names of the datasets of numbers that have so many dimensions."""
    names = []

    def look(name, node):
        if isinstance(node, h5py.Dataset) and node.ndim in dimensions and node.dtype.kind in "biuf":
            names.append(f"/{name}")
    file.visititems(look)
    return names
