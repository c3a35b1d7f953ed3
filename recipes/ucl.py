"""UCL laser laboratory: a NeXus file for each frame, positions in a file beside them."""
import re
from pathlib import Path

from ptyprep import FileScan, Par
from ptyprep.arrays import read_array
from ptyprep.errors import ParameterError, SourceError
from ptyprep.processing.corrections import Corrections
from ptyprep.processing.positions import Points
from ptyprep.sources.gathered import hdf5_files, mean_frame, one_frame_in_each
from ptyprep.units import photon_energy
from ptyprep.words.spelling import option


class Ucl(FileScan):
    """A scan of the laser setup at UCL: a folder raw/000005 with 000005_0001.nxs and so on, one frame in each, and
    000005_metadata.h5 with the positions.

    Position = (+column 0, +column 1) of the metadata's `positions`, in millimetres. Which motor is which column is not
    documented: `positions.swap` exchanges them. Frames are counted from 1; one whose file is not there is missing, and
    none after it moves. The dark frames' mean is subtracted from frames and flat field. A mask's file has non-zero
    where pixels are good. `bad_pixels.find` takes out hot pixels, with weight 0 rather than by a median of the
    neighbours. Richardson-Lucy deconvolution of the frames is out of scope.

    Layout: PtyPy (`experiment/UCL.py`), the only public reader.
    Not tried on real data of this beamline.
    """
    source_type = None

    folder: Path = Par(source=True, level=0, doc="Folder of the scan, such as raw/000005.")
    key: str = Par("entry/instrument/detector/data", level=2, doc="Dataset of a frame, (1, h, w) or (h, w).")
    first_number: int = Par(1, ge=0, level=2, doc="Number in the name of the first frame's file.")
    positions_key: str = Par("positions", level=2, doc="Dataset (n, 2) with (y, x) in the scan's metadata file.")
    dark_files: Path | None = Par(None, doc="Folder of the dark frames, such as raw/000003, a pattern, or one file.")
    flat_files: Path | None = Par(None, doc="Folder of the flat frames, such as raw/000004, a pattern, or one file. "
                                            "Their mean, less the dark frames', is what frames are divided by.")
    wavelength: float | None = Par(None, unit="m", gt=0, le=1e-3, level=0, doc="Wavelength of the laser, instead of "
                                                                               "energy.")

    def open(self):
        folder, first = self.p.folder, self.p.first_number
        if not folder.is_dir():
            raise SourceError(f"{folder}: no such folder; expected that of a scan, such as raw/000005")
        files = hdf5_files(folder, "*.nxs")
        names = [re.fullmatch(r"(.*?)([0-9]+)", file.stem) for file in files]
        numbers = [int(name[2]) for name in names if name]
        if None in names or len({name[1] for name in names}) > 1 or len(set(numbers)) < len(numbers):
            raise SourceError(f"{folder}: its .nxs files, {files[0].name} to {files[-1].name}, are not those of one "
                              f"scan; expected names such as 000005_0001.nxs, with a number for each frame")
        if min(numbers) < first:
            raise SourceError(f"{folder}: {files[0].name} is before {option('first_number', first)}: set it lower")
        self._prefix, digits = names[0][1], min(len(name[2]) for name in names)
        there = dict(zip(numbers, files))
        return one_frame_in_each([there.get(number, folder / f"{self._prefix}{number:0{digits}}.nxs")
                                  for number in range(first, max(numbers) + 1)], self.p.key)

    def load_geometry(self):
        found, length = dict(super().load_geometry()), self.p.wavelength
        if length is not None and self.p.given("energy"):
            raise ParameterError(f"{option('energy')} and {option('wavelength')} were both given: leave out one of "
                                 "them")
        return found if length is None else {**found, "energy": photon_energy(length)}

    def readings(self, path):
        p, given = self.p.positions, super().readings(path)
        beside = self.p.folder / f"{self._prefix}metadata.h5"
        if given is not None:
            return given
        if not beside.exists():
            self.note(f"{beside}: no such file, which would have the positions")
            return None
        found = read_array(beside, self.p.positions_key, parameter="positions_key", dims=(2,))
        unit = p.unit or found.units or "mm"
        return Points(*(found.column(column).values * self.metres(multiplier, unit, found.where)
                        for column, multiplier in enumerate((p.slow_multiplier, p.fast_multiplier))))

    def load_corrections(self):
        found, p = super().load_corrections(), self.p
        if p.flat_files is not None:
            found = (found or Corrections()).also(flat=mean_frame(p.flat_files, p.key, "*.nxs"))
        if p.dark_files is not None:
            found = (found or Corrections()).with_dark(mean_frame(p.dark_files, p.key, "*.nxs"))
        return found

    def needs(self):
        return [(name, option("wavelength", "635 nm") if name == "energy" else how) for name, how in super().needs()]
