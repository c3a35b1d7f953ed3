"""ePSIC (E02, Diamond Light Source): 4D-STEM of electrons in HDF5; positions from step, shape and angle."""
from pathlib import Path

import h5py
import numpy as np

from ptyprep import FileScan, Par
from ptyprep.errors import ParameterError, SourceError
from ptyprep.hdf5.files import read_dataset, reading
from ptyprep.sources import Hdf5Stack
from ptyprep.sources.recorded import read_mask
from ptyprep.words.spelling import option


class Epsic(FileScan):
    """A 4D-STEM scan of ePSIC: frames in HDF5, a raster that follows from its step, shape and rotation.

    Positions, from row r and column c of the raster about its middle, n // 2, with a step s and the rotation b:
    y = -(cos b r - sin b c) s, x = -(sin b r + cos b c) s; the fast axis runs along the columns, without a snake.
    High tension, step and raster come from the microscope's metadata where there are any; the camera length there is
    wrong by design (distance has to be given), and the pixel size is not recorded: 55 um, times the binning. Frames of
    the four chips have a cross of zeros of three pixels, which only the mask knows. Frames of a converted MIB file are
    flipped up-down, so that orientation=2 turns them back. The beam's energy is that of electrons.

    Layout: ePSIC-DLS/epsic_tools (`MIB_convert_submit.py`), ptycho/tutorials (`ptychography_with_electrons`), PtyPy's
    `epsic_loader.py` and PtyREX settings in public repositories. Not tried on real data of this beamline.
    """
    file: Path = Par(source=True, level=0, doc="HDF5 file with the frames: …_data.hdf5, ….hdf or an archived .h5.")
    key: str | None = Par(None, doc="Dataset with the frames. None: data/frames, else Experiments/*/data.")
    metadata: Path | None = Par(None, doc="HDF5 file with /metadata and /data/mask. None: the file itself, or the .hdf "
                                          "beside it that has its name up to _data.")
    scan_shape: tuple[int, int] | None = Par(None, unit="frames", gt=0, level=0,
                                             doc="Rows and columns of the raster. None: as the file says. Rasters with "
                                                 "fly-back have a column less than was set.")
    stepsize: float | tuple[float, float] | None = Par(None, unit="m", gt=0, level=0,
                                                       doc="Step of the raster, one number or (y, x). None: as the "
                                                           "metadata say.")
    rotation: float = Par(0.0, unit="deg", level=0, doc="Angle between scan and detector; not the microscope's nominal "
                                                        "one. PtyREX's is larger by 180.")
    electron_data = Par(True)

    def open(self):
        path, key = self.p.file, self.p.key
        with reading(path, "a converted 4D-STEM scan") as file:
            if key is None:
                groups = file.get("Experiments")
                there = [f"Experiments/{name}/data" for name in groups] if isinstance(groups, h5py.Group) else []
                there = [name for name in ["data/frames", *there] if isinstance(file.get(name), h5py.Dataset)]
                if not there:
                    raise SourceError(f"{path}: neither data/frames nor Experiments/*/data in it; expected a scan that "
                                      f"was converted from MIB. Its groups are {', '.join(file) or 'none'}; set "
                                      f"{option('key')}")
                key = there[0]
        source = Hdf5Stack(path, key)
        with reading(self._metadata_file(), "a file with the microscope's metadata") as file:
            read_mask(source, file, "data/mask", lambda bits: bits != 0, -1)
        return source

    def load_geometry(self):
        found = dict(super().load_geometry())
        if (volts := self._said("ht_value(V)")) is not None and volts > 0:
            found.setdefault("energy", volts / 1e3)
        return found

    def readings(self, path):
        given = super().readings(path)
        if given is not None:
            return given
        frames, step = self.source.shape[0], self.p.stepsize
        if step is None:
            step = self._said("step_size(m)")
        if step is None or not np.all(np.asarray(step) > 0):
            raise ParameterError(f"{path}: the step of the raster is not recorded; set {option('stepsize', '12 pm')}, "
                                 "for example")
        rows, columns = self._raster(frames)
        r, c = np.mgrid[:rows, :columns]
        sy, sx = np.broadcast_to(step, 2)
        y, x, b = (r - rows // 2) * sy, (c - columns // 2) * sx, np.deg2rad(self.p.rotation)
        return -(np.cos(b) * y - np.sin(b) * x), -(np.sin(b) * y + np.cos(b) * x)

    def _raster(self, frames):
        shape = self.p.scan_shape or self.source.grid or self._said("4D_shape", lambda values: tuple(values[:2]))
        if shape is None or int(np.prod(shape)) != frames:
            said = "no raster is recorded" if shape is None else f"a raster of {shape[0]} x {shape[1]}"
            raise ParameterError(f"{self.p.file}: {frames} frames, and {said}; set "
                                 f"{option('scan_shape', words=('rows', 'columns'))}. With fly-back a raster of 256 x "
                                 "256 is 256 x 255")
        return int(shape[0]), int(shape[1])

    def _metadata_file(self):
        beside = self.p.file.with_name(f"{self.p.file.stem.partition('_data')[0]}.hdf")
        return self.p.metadata or (beside if beside.is_file() else self.p.file)

    def _said(self, name, of=lambda values: float(values[0])):
        """A number of the microscope's metadata, None where it is not there."""
        with reading(self._metadata_file(), "a file with the microscope's metadata") as file:
            node = file.get(f"metadata/{name}")
            if not isinstance(node, h5py.Dataset) or node.dtype.kind not in "iuf" or not node.size:
                return None
            return of(np.ravel(read_dataset(node)))
