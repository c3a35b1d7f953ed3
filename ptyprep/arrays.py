"""One array out of a file: a dataset, a column of a table, an image; with the unit that the file says.

For what stands beside the frames: motor readings, masks, dark and flat fields, monitors. Frames are a source's.
"""
import re
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from ptyprep.errors import PositionError, SourceError
from ptyprep.filesystem.raw_files import opening
from ptyprep.hdf5.files import by_matlab, dataset_in, datasets_in, read_dataset, reading, unit_of
from ptyprep.hdf5.guarded import is_hdf5
from ptyprep.sources.images import SUFFIXES, ImageFiles
from ptyprep.tables.spec import read_scan
from ptyprep.tables.text import Table, read_table
from ptyprep.words.spelling import options

IMAGES = (2, 3, 4, 5)       # dimensions of one image, or of several


class Named(NamedTuple):
    """An array as a file has it.

    values : real numbers, any shape; units : what the file says they are in, or None; where : file and name, to say
    columns : what the columns of `values` (n, columns) are called, of a table or .npy array of which none was chosen
    """
    values: np.ndarray
    units: str | None
    where: str
    columns: tuple = ()

    def column(self, index):
        """One column of an array (n, columns); itself for None. Raises SourceError where there is no such column."""
        if index is None:
            return self
        if self.values.ndim != 2 or index >= self.values.shape[1]:
            raise SourceError(f"{self.where} of shape {self.values.shape} has no column {index}")
        return Named(self.values[:, index], self.units, f"{self.where}, column {index}")


def read_array(path, key=None, *, parameter, dims=None, like_frames=None):
    """An array by name.

    path : HDF5 file, text or CSV table, SPEC file, NumPy .npy, MATLAB .mat or, with `fabio`, an image (TIFF, EDF, CBF)
    key : dataset, variable, column (name or number) of a table, column (number) of a .npy array, or number of the scan
        and column of a SPEC file ("12/samx"); None where only one thing can be meant
    parameter : what to set where the key is wrong, for messages: a name, or several that go together
    dims : how many dimensions it may have, a tuple; None: any. Those of `IMAGES` say that its last two are (h, w)
    like_frames : asked of an array that MATLAB wrote, by its shape in HDF5, whether it goes element by element with
        frames that MATLAB wrote, like_frames(shape); None: it does not

    Returns `Named`. What MATLAB wrote is as MATLAB shows it; of images (h, w, n) each is, and they are (n, h, w). An
    array that goes with MATLAB's frames is as HDF5 has it, as these are: frames (h, w, a, b) count a fastest.
    Raises SourceError naming what is there.
    """
    path = Path(path)
    if not path.is_file():
        files = [re.sub("key$", "file", name) for name in ([parameter] if isinstance(parameter, str) else parameter)]
        raise SourceError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; "
                          f"{options(files)} should name a file with it")
    if is_hdf5(path):
        found = _from_hdf5(path, key, parameter, dims, like_frames)
    elif path.suffix == ".npy":
        found = _from_npy(path, key, parameter)
    elif path.suffix == ".mat":
        found = _from_matlab(path, key, parameter, dims, like_frames)
    elif path.suffix.lower() in SUFFIXES:
        found = Named(_image(path), None, str(path))
    elif is_spec(path):
        found = _from_spec(path, key, parameter)
    else:
        found = _from_table(path, key, parameter)
    if found.values.dtype.kind not in "biuf":
        raise SourceError(f"{found.where} is {found.values.dtype}; expected real numbers")
    if dims and found.values.ndim not in dims:
        raise SourceError(f"{found.where} has shape {found.values.shape}; expected "
                          f"{' or '.join(map(str, dims))} dimensions")
    return found


def columns_of(path):
    """The `Table` in a text file, or of a .npy array (n, columns), whose columns are numbers."""
    if Path(path).suffix != ".npy":
        return read_table(path)
    array = npy(Path(path))
    if array.ndim != 2 or array.shape[1] < 2 or array.dtype.kind not in "iuf":
        raise PositionError(f"{path}: {array.dtype} of shape {array.shape}; expected numbers (n, 2), (y, x)")
    return Table(str(path), dict(enumerate(array.T.astype(float))), array.shape[1], {}, {})


def numbers_in(file, dims=None):
    """{name: shape} of the datasets of real numbers in an open HDF5 file that have so many dimensions, None: any."""
    return datasets_in(file, lambda node: (not dims or node.ndim in dims) and node.dtype.kind in "biuf")


def only_one(file, dims=None):
    """The name of the only dataset of numbers in an open file that has so many dimensions, or of the only one with the
    fewest of them; None where several are alike."""
    there = numbers_in(file, dims)
    fewest = min((len(shape) for shape in there.values()), default=0)
    found = [name for name, shape in there.items() if len(shape) == fewest]
    return found[0] if len(found) == 1 else None


def _from_hdf5(path, key, parameter, dims, like_frames):
    with reading(path) as file:
        if key is None:
            key = only_one(file, dims)
            if key is None:
                raise SourceError(f"{path}: which dataset is it? Set {options(parameter)}; {_those(dims)} are "
                                  f"{', '.join(numbers_in(file, dims)) or 'none'}")
        if key not in file and file.get(key, getlink=True) is None:
            raise SourceError(f"{path}: no dataset {key}; {_those(dims)} are "
                              f"{', '.join(numbers_in(file, dims)) or 'none'}. Set {options(parameter)}")
        dataset = dataset_in(file, key)
        values = np.asarray(read_dataset(dataset))
        if by_matlab(dataset):
            values = _as_matlab_shows(values, dims, like_frames)
        return Named(values, unit_of(dataset), f"{path}: {key}")


def _as_matlab_shows(stored, dims, like_frames):
    """An array of MATLAB's, whose axes HDF5 has in the other order; see `read_array`."""
    as_stored = like_frames is not None and like_frames(stored.shape)
    if dims == IMAGES and stored.ndim > 1:
        return stored.swapaxes(-1, -2)
    return stored if as_stored else stored.T


def matlab(path):
    """{name: value} of a MATLAB file, as MATLAB shows it without axes of length 1; a struct is such a dict again.

    Raises SourceError.
    """
    if is_hdf5(path):
        with reading(path, "a MATLAB file of version 7.3") as file:
            return _struct(file)
    opening(path)
    try:
        from scipy.io import loadmat
    except ImportError as err:
        raise SourceError(f"{path}: a MATLAB file older than 7.3 needs scipy; pip install scipy") from err
    try:
        return loadmat(path, simplify_cells=True)
    except Exception as err:    # noqa: BLE001  scipy raises whatever a damaged file makes it stumble over
        raise SourceError(f"{path}: cannot be read as a MATLAB file ({type(err).__name__}: {err})") from err


def _struct(group):
    return {name: _struct(node) if isinstance(node, h5py.Group) else np.squeeze(np.transpose(read_dataset(node)))
            for name, node in group.items() if not name.startswith("#")}


def _from_matlab(path, key, parameter, dims, like_frames):
    there = {name: np.asarray(value) for name, value in matlab(path).items()
             if isinstance(value, np.ndarray | int | float) and np.asarray(value).dtype.kind in "biuf"}
    fitting = [name for name, value in there.items() if not dims or value.ndim in dims]
    if key is None and len(fitting) == 1:
        key = fitting[0]
    if key not in there:
        raise SourceError(f"{path}: {'which variable is meant?' if key is None else f'no variable {key};'} It has "
                          f"{', '.join(there) or 'no numbers'}. Set {options(parameter)}")
    return Named(_as_matlab_shows(there[key].T, dims, like_frames), None, f"{path}: {key}")


def is_spec(path):
    """Whether a file begins as SPEC's data files do."""
    with open(path, "rb") as file:
        return re.match(rb"#[FS] ", file.read(3)) is not None


def _from_spec(path, key, parameter):
    number, _, name = (key or "").partition("/")
    if not number.isdigit() or not name:
        raise SourceError(f"{path}: a SPEC file; expected number of the scan and column, such as 12/samx, got {key!r}. "
                          f"Set {options(parameter)}")
    scan = read_scan(path, int(number))
    return Named(scan.column(name), None, f"{scan.where}: {name}")


def _from_table(path, key, parameter):
    table = read_table(path)
    if key is None and len(table.columns) > 1:
        return Named(np.column_stack(list(table.columns.values())), None, str(path), tuple(table.keys()))
    try:
        column = next(iter(table.columns)) if key is None else table.find(key, parameter)
    except PositionError as err:
        raise SourceError(str(err)) from None
    return Named(table.columns[column], table.units.get(column), f"{path}: {table.names.get(column, column)}")


def _from_npy(path, key, parameter):
    array = npy(path)
    columns = tuple(map(str, range(array.shape[1]))) if array.ndim == 2 and array.shape[1] > 1 else ()
    if key is None or array.ndim != 2:
        return Named(array, None, str(path), columns)
    if key not in columns:
        raise SourceError(f"{path} of shape {array.shape} has no column {key!r}. Set {options(parameter)} to the "
                          "number of one, counted from 0")
    return Named(array[:, int(key)], None, f"{path}, column {key}")


def _image(path):
    """The image in a file (h, w), or the images (n, h, w)."""
    images = ImageFiles(path)
    frames = images.read(range(images.shape[0]))
    return frames[0] if len(frames) == 1 else frames


def npy(path):
    """The array of a .npy file. Raises SourceError."""
    opening(path)
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as err:
        raise SourceError(f"{path}: cannot be read as a .npy file ({err})") from err


def _those(dims):
    return f"those of {' or '.join(map(str, dims))} dimensions" if dims else "its datasets of numbers"
