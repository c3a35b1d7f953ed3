"""FERMI DiProI: an HDF5 file for each frame, or one file with all of them."""
from pathlib import Path

import numpy as np

from ptyprep import FileScan, Group, Par
from ptyprep.arrays import Named, read_array
from ptyprep.errors import ParameterError, PositionError, SourceError
from ptyprep.hdf5.files import Found, dataset_in, read_numbers, reading, unit_of
from ptyprep.hdf5.guarded import is_hdf5
from ptyprep.processing.corrections import Corrections
from ptyprep.processing.positions import Points
from ptyprep.sources import Hdf5Stack
from ptyprep.sources.gathered import files_at, mean_frame, one_frame_in_each
from ptyprep.units import photon_energy
from ptyprep.words.spelling import option

MOTORS = ("DPI/SampleX", "DPI/SampleY")


class Diproi(FileScan):
    """A scan of DiProI at FERMI: a folder rawdata with an HDF5 file for each frame, or the merged file of 2018.

    Position = (+SampleX, +SampleY), in millimetres: SampleX runs along rows, as the only public reader has it, whose
    help says to check the orientation; `positions.swap` exchanges them. positions.file may be a file of refined
    positions (2, n), first coordinate for rows. Versions of the reader take those for metres, millimetres or pixels of
    the object, so that positions.unit, or both multipliers, must be given. `normalisation.key`, such as PAM/FQPDSum
    (2021) or DATA/FQPDSum, is looked up in each frame's file, where the shots' readings are added up. A mask's file
    has non-zero where pixels are good. Counts below the noise of the dark frames are kept, unlike in one reader.

    Layout: PtyPy (`experiment/DiProI_FERMI.py`, and its branch FERMI for the merged file and the refined positions),
    and a helper of the Max Born Institute for wavelength and photodiode.
    Not tried on real data of this beamline.
    """
    source_type = None

    files: Path = Par(source=True, level=0, doc="Folder rawdata of the scan, a pattern such as rawdata/A13_*.h5, or "
                                                "the merged file. Frames are in the order of the numbers in the names.")
    key: str = Par("image/ccd1", level=2, doc="Dataset of a frame (h, w), or of all frames (n, h, w).")
    dark_files: Path | None = Par(None, doc="Folder rawdata of the dark frames, of which those named Dark* are taken; "
                                            "a pattern, or one file. Their mean is subtracted, from the flat field "
                                            "too.")
    dark_key: str | None = Par(None, doc="Dataset of a dark frame, or of several; `data` for the merged form. None: as "
                                         "that of the frames.")
    dark_value: float | None = Par(None, unit="", doc="Counts without light, instead of dark frames; 200 in one "
                                                      "version of the reader, 400 in another.")
    refined_key: str = Par("data/probe_positions", level=2, doc="Dataset (2, n) of refined positions, in an HDF5 "
                                                                "positions.file of which no other key is given.")
    subset_key: str | None = Par(None, doc="Dataset in positions.file with the numbers, counted from 1, of the frames "
                                           "to take, such as data/reconstruct_ind.")
    wavelength_key: str = Par("photon_source/FEL01/wavelength", level=2,
                              doc="Dataset of the wavelength; where it is absent, energy must be given.")
    wavelength_multiplier: float | None = Par(None, level=2, gt=0, doc="Factor that converts it to metres. None: the "
                                                                       "unit in the file, else nm.")

    class positions(Group):
        """Where the positions are, and how they lie. Positions are those of the illumination on the object."""
        slow_key = Par(doc="Dataset of the slow axis (y), or the name or number of its column. None: DPI/SampleX of "
                           "each frame, or refined_key of positions.file.")
        fast_key = Par(doc="Dataset of the fast axis (x), or the name or number of its column. None: DPI/SampleY of "
                           "each frame, or refined_key of positions.file.")

    def open(self):
        notes = []
        files = files_at(self.p.files, notes=notes)
        self.note(*notes)
        self._apart = len(files) > 1
        return one_frame_in_each(files, self.p.key) if self._apart else Hdf5Stack(files[0], self.p.key)

    def load_geometry(self):
        found = dict(super().load_geometry())
        with reading(self.source.path, "a frame of DiProI") as file:
            if "energy" not in found and self.p.wavelength_key in file:
                node, many = dataset_in(file, self.p.wavelength_key), self.p.wavelength_multiplier
                unit = (unit_of(node) or "") if many is None else "m"
                length = Found(float(np.median(read_numbers(node))) * (many or 1), unit, self.p.wavelength_key)
                if length := self.quantity("wavelength", length, usual="nm"):
                    found["energy"] = photon_energy(length[0])
        return found

    def readings(self, path):
        p = self.p.positions
        if p.file is None:
            self._refuse_lost()
            found = [self._of_frames(key or motor, np.mean, parameter) for key, motor, parameter in zip(
                (p.slow_key, p.fast_key), MOTORS, ("positions.slow_key", "positions.fast_key"))]
        elif is_hdf5(p.file) and p.slow_key is None and p.fast_key is None:
            whole = read_array(p.file, self.p.refined_key, parameter="refined_key", dims=(2,))
            if len(whole.values) != 2:
                raise PositionError(f"{whole.where} has shape {whole.values.shape}; expected (2, n). Set "
                                    f"{option('refined_key')}, or {option('positions.slow_key')} and "
                                    f"{option('positions.fast_key')}")
            if p.unit is None and None in (p.slow_multiplier, p.fast_multiplier):
                raise ParameterError(f"{whole.where}: nothing says whether refined positions are in metres or in "
                                     f"pixels of the object. Set {option('positions.unit')}, or "
                                     f"{option('positions.slow_multiplier')} and {option('positions.fast_multiplier')}")
            found = [Named(row, None, whole.where) for row in whole.values]
        else:
            return super().readings(path)
        return Points(*(one.values * self.metres(multiplier, p.unit or one.units or "mm", one.where)
                        for one, multiplier in zip(found, (p.slow_multiplier, p.fast_multiplier))))

    def select(self):
        points, key, path = super().select(), self.p.subset_key, self.p.positions.file
        if key is None:
            return points
        if path is None:
            raise ParameterError(f"{option('subset_key')} is given: set {option('positions.file')}, the file that has "
                                 "it")
        n = self.source.shape[0]
        subset = read_array(path, key, parameter="subset_key")
        odd = subset.values[~np.isin(subset.values, np.arange(1, n + 1))]
        if odd.size:
            raise PositionError(f"{subset.where} holds {odd[0]:g}; expected numbers of frames, 1 to {n}")
        points = np.arange(n) if points is None else points
        return points[np.isin(points + 1, subset.values)]

    def load_corrections(self):
        found, p, dark = super().load_corrections(), self.p, None
        if p.dark_files is not None:
            dark = mean_frame(p.dark_files, p.dark_key or p.key, "Dark*")
        elif p.dark_value is not None:
            dark = np.full(self.source.shape[1:], p.dark_value)
        return found if dark is None else (found or Corrections()).with_dark(dark)

    def named(self, name, dims=None):
        group = getattr(self.p, name)
        if self._apart and group.file is None and name in ("normalisation", "framefilter"):
            return self._of_frames(group.key, np.sum, f"{name}.key")
        return super().named(name, dims)

    def _of_frames(self, key, join, parameter):
        """A number for each frame, of what `join` makes of those in its file; NaN where that cannot be read."""
        source = self.source
        if not self._apart:
            return read_array(source.path, key, parameter=parameter)
        found = [None if piece.missing else read_array(piece.path, key, parameter=parameter) for piece in source.pieces]
        units = next(named.units for named in found if named)
        return Named(np.array([join(named.values) if named else np.nan for named in found]), units,
                     f"{source.path}: {key}")

    def _refuse_lost(self):
        lost = self.source.missing
        if lost and self.p.bad_frames == "raise":
            raise SourceError(f"{lost[0][1]}. Frame {lost[0][0].start} has no position therefore; set "
                              f"{option('bad_frames', 'drop')} and {option('positions.mismatch', 'drop')} to prepare "
                              "the others")
