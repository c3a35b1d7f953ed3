"""ESRF ID16A, near-field ptychography: EDF series, or HDF5 files of the detector."""
from pathlib import Path

import h5py
import numpy as np

from ptyprep import FileScan, Group, Par
from ptyprep.arrays import read_array
from ptyprep.errors import ParameterError, PositionError, SourceError
from ptyprep.filesystem.order import matching, with_gaps
from ptyprep.filesystem.raw_files import opening
from ptyprep.hdf5.files import read_dataset, reading
from ptyprep.hdf5.guarded import is_hdf5
from ptyprep.processing.corrections import Corrections, average
from ptyprep.processing.positions import Points
from ptyprep.sources import Hdf5Stack, ImageFiles
from ptyprep.sources.pieces import Piece
from ptyprep.words.spelling import option

# Frames and the motors' header in HDF5 files, of detector {0}
FRAMES = ("measurement/{0}/data", "ESRF-ID16A/{0}/data", "instrument/{0}/data", "measurement/data")
HEADERS = ("measurement/{0}/parameters", "ESRF-ID16A/{0}/header", "instrument/{0}/header")


class Id16a(FileScan):
    """A near-field scan of ID16A: an EDF or HDF5 file for each frame, or one HDF5 file, with motors in the headers.

    Position = (-spz, +spy) in um, on frames that are not turned: spz is vertical. The sign of both together is not
    proven (in the near field it matters): turn it with positions.flip_y and flip_x. PtyPy's default is
    motors=spy,spz motors_multiplier=1e-6,1e-6 orientation=2. In the cone beam, distance and psize are the effective
    ones, z1 z2 / (z1 + z2) and detector pixel times z1 / (z1 + z2), from focus to sample z1 and to detector z1 + z2.

    Layout: near-field scripts of holotomocupy (`experimental/*/step0.py`) for the signs, PyNX's runner for ID16A, toupy
    (`filesrw.py`), and PtyPy (`ID16Anfp.py`) for dark, reference, monitor and distortion. Its line for the FReLoN's
    gap and its white field, which no version uses, and NXtomo files (2026) are left out.
    Not tried on real data of this beamline.
    """

    files: Path = Par(source=True, level=0, doc="Pattern of the frames, such as raw/sample_*.edf; a folder, whose "
                                                "EDF files are taken but for dark and reference frames, else its HDF5 "
                                                "files; or one HDF5 file with all frames.")
    detector: str = Par("Frelon", doc="Name of the detector in HDF5 files: Frelon, PCIe, balor.")
    key: str | None = Par(None, level=2, doc="Dataset of the frames. None: as ID16A has it, in entry_0000.")
    header: str | None = Par(None, level=2, doc="HDF5 group with the motors. None: as ID16A has it, in entry_0000.")
    motors: tuple[str, str] = Par(("spz", "spy"), doc="Motors of the positions, rows and columns.")
    motors_multiplier: tuple[float, float] = Par((-1e-6, 1e-6), doc="What makes metres of the motors, rows and "
                                                                    "columns.")
    dark_subtraction: bool = Par(False, doc="Subtract the mean of the dark frames.")
    dark_files: str = Par("dark*", doc="Pattern of the dark frames, in the folder of the frames or in another.")
    flat_division: bool = Par(False, doc="Divide by the mean of the reference frames, without the dark if that is "
                                         "subtracted. A detector's own response is flatfield.file.")
    flat_files: str = Par("ref*", doc="Pattern of the reference frames.")
    counter: str | None = Par(None, doc="Counter of the beam in the headers, such as bpm5_ct: frames are divided by "
                                        "its readings relative to their mean.")

    class distortion(Group):
        """Where the detector sees what belongs to a pixel: at (row - row_file, column - column_file)."""
        row_file: Path | None = Par(None, level=2, doc="EDF file of displacements along rows, (h, w) [pixel]; at the "
                                                       "beamline, against its name, detector_distortion2d_h.edf.")
        column_file: Path | None = Par(None, level=2, doc="The same along columns; detector_distortion2d_v.edf.")

    @property
    def full_frames(self):
        """Frames are needed whole to set them right, only then."""
        return bool(self.p.distortion.row_file or self.p.distortion.column_file)

    def open(self):
        place, p = self.p.files, self.p
        self._folder = place if place.is_dir() else place.parent
        found = _there(place)
        if place.is_dir():
            others = {file for name in (p.dark_files, p.flat_files) for file in matching(place / Path(name).name)}
            frames = [file for file in found if file not in others]
            found = next(filter(None, ([file for file in frames if file.suffix.lower() == kind]
                                       for kind in (".edf", ".h5"))), [])
        if not found:
            raise SourceError(f"{place}: no frames there; expected a pattern such as sample_*.edf, or an HDF5 file")
        return self._stack(found)

    def readings(self, path):
        given = super().readings(path)
        if given is not None:
            return given
        return Points(*(self._told(motor) * factor for motor, factor in zip(self.p.motors, self.p.motors_multiplier)))

    def load_corrections(self):
        p, given, more = self.p, super().load_corrections(), {}
        for mine, group in (("dark_subtraction", "darkfield"), ("counter", "normalisation")):
            if getattr(p, mine) and (getattr(p, group).file or getattr(p, group).key):
                raise ParameterError(f"{option(mine)} and {group} were both given: leave out one of them")
        if p.dark_subtraction:
            more["dark"] = self._mean("dark_files")
        if p.flat_division:
            own = getattr(given, "flat", None)
            if own is not None and not isinstance(own, np.ndarray):
                raise ParameterError(f"{option('flat_division')} and a flatfield with a frame for each point were both "
                                     f"given: leave out one of them, or set {option('flatfield.average', True)}")
            more["flat"] = (self._mean("flat_files") - more.get("dark", 0)) * (1 if own is None else own)
        if p.counter:
            flux = self._told(p.counter)
            if odd := np.flatnonzero(flux <= 0).tolist():
                raise SourceError(f"{self.source.path}: {p.counter} is not above 0 in frames {odd}; leave them out "
                                  f"with {option('frames')}, or give the readings as {option('normalisation.file')}")
            more["monitor"] = np.where(np.isfinite(flux), flux / np.nanmean(flux), 1)
        return (given or Corrections(negative=p.darkfield.negative)).also(**more) if more else given

    def load_common(self):
        maps, shape = {}, self.source.shape[1:]
        for axis in ("row", "column") if self.full_frames else ():
            file = getattr(self.p.distortion, f"{axis}_file")
            maps[axis] = read_array(file, parameter=f"distortion.{axis}_file").values if file else np.zeros(shape)
            if maps[axis].shape != shape or not np.isfinite(maps[axis]).all():
                raise SourceError(f"{file}: {maps[axis].shape} displacements; expected {shape}, all of them finite")
        return maps

    def correct(self, raw, weights, common):
        """Frames as they were before the detector distorted them, by bilinear interpolation; as float. What would come
        from outside the frame, or from a bad pixel, has weight 0."""
        if not common:
            return raw, weights
        h, w = raw.shape[1:]
        rows, cols = np.arange(h)[:, None] - common["row"], np.arange(w) - common["column"]
        inside = (rows >= 0) & (rows <= h - 1) & (cols >= 0) & (cols <= w - 1)
        top, left = (np.where(inside, np.floor(at), 0).astype(int) for at in (rows, cols))
        down, right = np.where(inside, rows - top, 0), np.where(inside, cols - left, 0)
        raw, out = np.where(weights, raw, 0), np.zeros(raw.shape, np.result_type(raw, np.float32))
        good = np.broadcast_to(inside, raw.shape).copy()
        for r, high in ((top, 1 - down), (np.minimum(top + 1, h - 1), down)):
            for c, wide in ((left, 1 - right), (np.minimum(left + 1, w - 1), right)):
                out += raw[:, r, c] * (high * wide * inside).astype(out.dtype)
                good &= weights[:, r, c] | (high * wide == 0)
        return out, good

    def _stack(self, files):
        if not is_hdf5(files[0]):
            return ImageFiles(files)
        key = self.p.key or self._inside(files[0], FRAMES, h5py.Dataset, "key")
        if len(files) == 1:
            return Hdf5Stack(files[0], key)
        notes, pieces, before, first = [], [], None, Hdf5Stack(files[0], key)
        for place, file in enumerate(with_gaps(files, notes)):
            pieces.append(Piece(file or before, key, place, 1, missing=None if file else f"no file between "
                                f"{before.name} and the next: frame {place} is missing", turned=first.turned))
            before = file or before
        stack = Hdf5Stack.of_pieces(files[0], pieces, (len(pieces), *first.shape[1:]))
        stack.notes += notes
        return stack

    def _inside(self, path, places, kind, parameter):
        """The first of some places that is in an HDF5 file."""
        names = [f"entry_0000/{place.format(self.p.detector)}" for place in places]
        with reading(path, "frames of ID16A") as file:
            found = next((name for name in names if isinstance(file.get(name), kind)), None)
        if found is None:
            raise SourceError(f"{path}: none of {', '.join(names)} is in it; set {option('detector')} or "
                              f"{option(parameter)}")
        return found

    def _mean(self, name):
        """The mean (h, w) of the frames that match a pattern."""
        pattern = self._folder / getattr(self.p, name)
        suffix = self.source.files[0].suffix
        files = [file for file in _there(pattern) if file.suffix == suffix]
        if not files:
            raise SourceError(f"{pattern}: no {suffix} file there; set {option(name)}")
        lots = [self._stack([file]) for file in files]
        for lot in lots:
            if lot.shape[1:] != self.source.shape[1:]:
                raise SourceError(f"{lot.path}: frames of {lot.shape[1:]} pixels; the scan has "
                                  f"{self.source.shape[1:]}")
        self.note(f"{name}: the mean of {sum(lot.shape[0] for lot in lots)} frames {pattern}")
        return average(lot.read([i])[0] for lot in lots for i in range(lot.shape[0]))

    def _told(self, name):
        """Readings (n,) of a motor or counter for each frame, by the headers; NaN where the frame is missing."""
        files, absent = self.source.files, [i for frames, _ in self.source.missing for i in frames]
        if absent and self.p.bad_frames == "raise":
            raise SourceError(self.source.missing[0][1])
        read = self._hdf5_header if is_hdf5(files[0]) else _edf_header
        told = [_numbers(read(file), name, file) for file in files]
        if len(files) == 1:
            return told[0]
        values = np.full(self.source.shape[0], np.nan)
        values[np.setdiff1d(np.arange(len(values)), absent)] = [one[0] for one in told]
        return values

    def _hdf5_header(self, path):
        group = self.p.header or self._inside(path, HEADERS, h5py.Group, "header")
        with reading(path, "frames of ID16A") as file:
            return {name.strip(): _words(read_dataset(node)) for name, node in file[group].items()
                    if isinstance(node, h5py.Dataset)}      # names may end with a blank


def _there(pattern):
    return [file for file in matching(pattern) if file.is_file()]


def _edf_header(path):
    import fabio
    opening(path)
    try:
        with fabio.open(str(path)) as image:
            return {name: str(text).split() for name, text in image.header.items()}
    except Exception as err:    # noqa: BLE001  fabio raises whatever a damaged file makes it stumble over
        raise SourceError(f"{path}: its header cannot be read ({type(err).__name__}: {err})") from err


def _words(value):
    """The words of a text, or the numbers, of an HDF5 dataset."""
    return [word for each in np.ravel(value).tolist()
            for word in (each.decode(errors="replace") if isinstance(each, bytes) else str(each)).split()]


def _numbers(header, name, path):
    """The readings (k,) of a motor or counter: words of its own, else one among those of all."""
    words = header.get(name)
    for kind in ("motor", "counter"):
        names, values = header.get(f"{kind}_mne", ()), header.get(f"{kind}_pos", ())
        if words is None and name in names and len(names) == len(values):
            words = [values[names.index(name)]]
    try:
        return np.array([float(word) for word in words])
    except (TypeError, ValueError):
        there = ", ".join([*header.get("motor_mne", ()), *header.get("counter_mne", ())]) or ", ".join(header)
        said = f" but {' '.join(words)[:60]!r}" if words else ""
        raise PositionError(f"{path}: no readings of {name!r} in the header{said}; it has {there}") from None
