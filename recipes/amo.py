"""LCLS AMO, Linac Coherent Light Source: HDF5 files with data/photons, data/posx and data/posy."""
from pathlib import Path

import numpy as np

from ptyprep import FileScan, Par
from ptyprep.arrays import read_array
from ptyprep.errors import ParameterError, PositionError, SourceError
from ptyprep.hdf5.files import reading
from ptyprep.processing.corrections import Corrections
from ptyprep.processing.positions import Points
from ptyprep.sources import Hdf5Stack
from ptyprep.sources.gathered import mean_of
from ptyprep.words.spelling import option


class Amo(FileScan):
    """A scan of LCLS AMO: one HDF5 file of a run, with a frame and a position for each shot.

    Position = (+posy, +posx), in millimetres; several shots at one place are kept as they are. Whether a larger posy
    is further down is not certain: in hummingbird's simulation it is further up, motors_multiplier=-1e-3,1e-3. Where
    the file says which shots are valid, the others are left out. Energy, distance and pixel size are not recorded.

    Layout: the reader of PtyPy (`AMO_LCLS.py`), and an older one of it that takes `data/valid` and transposes frames
    (orientation=4). None of them says what dark and flat runs hold: here the same layout, averaged. CXI files that
    hummingbird's examples write (`examples/ptychography/write2cxi.py`) are for recipe cxi, with positions.flip_y.
    Not tried on real data of this beamline.
    """

    data_file: Path = Par(source=True, level=0, doc="HDF5 file of the run, such as r0012.h5.")
    key: str = Par("data/photons", doc="Dataset of the frames (n, h, w), in photons; in dark and flat runs too.")
    motors: tuple[str, str] = Par(("data/posy", "data/posx"), doc="Datasets of the positions, rows and columns.")
    motors_multiplier: tuple[float, float] = Par(
        (1e-3, 1e-3), doc="What makes metres of the motors, rows and columns; at CXI they are in um. PtyPy has columns "
                          "first.")
    valid_key: str = Par("data/valid", level=2, doc="Dataset that is not 0 for the shots that are wanted, where the "
                                                    "file has one; framefilter.key replaces it.")
    dark_file: Path | None = Par(None, doc="HDF5 file of a dark run; its mean is subtracted.")
    flat_file: Path | None = Par(None, doc="HDF5 file of a flat run; frames are divided by its mean without the dark.")
    threshold_correct: float = Par(0.0, unit="", doc="Counts below this become 0, after the corrections.")

    def open(self):
        with reading(self.p.data_file, "a run of AMO") as file:
            filtered = self.p.framefilter.file or self.p.framefilter.key
            if self.p.valid_key in file and not filtered:
                self.p.record("framefilter.key", self.p.valid_key)
        return Hdf5Stack(self.p.data_file, self.p.key)

    def readings(self, path):
        given = super().readings(path)
        if given is not None:
            return given
        found = [read_array(self.p.data_file, name, parameter="motors") for name in self.p.motors]
        for one in found:
            if one.values.shape != self.source.shape[:1]:
                raise PositionError(f"{one.where} has shape {one.values.shape} for {self.source.shape[0]} frames in "
                                    f"{self.p.key}; expected a reading for each")
        return Points(*(one.values * multiplier for one, multiplier in zip(found, self.p.motors_multiplier)))

    def load_corrections(self):
        p, more = self.p, {}
        for name, mine, group in (("dark", p.dark_file, p.darkfield), ("flat", p.flat_file, p.flatfield)):
            if mine and (group.file or group.key):
                raise ParameterError(f"{option(f'{name}_file')} and {name}field were both given: leave out one of them")
            if mine:
                more[name] = self._mean(mine)
        given = super().load_corrections()
        if "flat" in more:
            dark = more.get("dark", getattr(given, "dark", None))
            if dark is not None and not isinstance(dark, np.ndarray):
                raise ParameterError(f"{option('flat_file')} needs one dark field for all frames; "
                                     f"{option('darkfield.file')} has one for each")
            more["flat"] = more["flat"] - (0 if dark is None else dark)
        return (given or Corrections(negative=p.darkfield.negative)).also(**more) if more else given

    def correct(self, raw, weights, common):
        return np.where(raw < self.p.threshold_correct, 0, raw).astype(raw.dtype), weights

    def _mean(self, path):
        """The mean of a run's frames (h, w)."""
        run = Hdf5Stack(path, self.p.key)
        if run.shape[1:] != self.source.shape[1:]:
            raise SourceError(f"{path}: frames of {run.shape[1:]} pixels; those of {self.p.data_file} have "
                              f"{self.source.shape[1:]}")
        return mean_of(run)
