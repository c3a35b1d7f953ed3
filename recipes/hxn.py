"""NSLS-II HXN (3-ID) and CSX (23-ID): files that the beamline's ptychography program exports, and raw ones."""
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from ptyprep import FileScan, Par
from ptyprep.errors import PositionError, SourceError
from ptyprep.hdf5.files import dataset_in, read_numbers, reading, scalar, stacks_in, text_in
from ptyprep.hdf5.guarded import is_hdf5
from ptyprep.processing.plan import whole
from ptyprep.processing.positions import Points
from ptyprep.sources import Hdf5Stack
from ptyprep.units import convert
from ptyprep.words.spelling import option

FRAMES = ("/entry/data/data", "/diff_data/*/det_images", "/entry/instrument/detector/data")
HC = 1.2398     # keV nm, as the export has it when it makes a wavelength of the energy


class Hxn(FileScan):
    """A scan of HXN or CSX: an export scan_<id>.h5, with its frames or with a link to them; or a raw HDF5 file.

    An export holds square roots of counts (below a threshold 0) in the region around the optical axis, which is in the
    corner, turned by 90 degrees clockwise. They are squared and turned back; which pixels were bad is lost. The optical
    axis is the middle of the region, known to a pixel.
    Position = (+points[1], -points[0] * cos(angle)), or sin beyond 45 degrees, as follows from the signs that the
    beamline's program takes for its own frames; frames that are not turned back have (-points[0] * cos(angle),
    -points[1]). Readings from a table or by keys are taken as they are. Frames of an export are divided by the ion
    chamber `ic` already; linked ones are not (normalisation.file, normalisation.key).

    Layout: NSLS-II ptycho_gui (`nsls2ptycho/core/HXN_databroker.py`, `CSX_databroker.py`) and ptychodus
    (`nsls2_diffraction_file.py`, `nsls2_position_file.py`, `nsls2_product_file.py`).
    Not tried on real data of this beamline.
    """
    source_type = None

    file: Path = Par(source=True, level=0, doc="Exported file, such as scan_34784.h5, or a detector's HDF5 file.")
    key: str | None = Par(None, doc="Dataset with the frames; diffamp holds square roots, all others counts. None: "
                                    "what the file has.")
    rotate_back: bool = Par(True, doc="Turn exported frames back to how they were on the detector.")
    stage_rotation: float | None = Par(None, unit="deg", doc="Rotation of the sample stage, which makes steps in x "
                                                             "shorter. None: as in the file; 0: none.")

    def open(self):
        path, key, region = self.p.file, self.p.key, None
        with reading(path, "a scan of HXN") as file:
            if key is None and "diffamp" in file:
                key = "diffamp"
            elif "raw_data/filename" in file and (key is None or key not in file):
                name = Path(text_in(dataset_in(file, "raw_data/filename")))
                region = read_numbers(dataset_in(file, "raw_data/roi")) if "raw_data/roi" in file else None
                path = next((at for at in (path.parent / name, path.parent / name.name) if at.is_file()), None)
                if path is None:
                    raise SourceError(f"{self.p.file}: its frames are in {name}, which is neither there nor beside it")
        if key is not None and key.rpartition("/")[2] == "diffamp":
            return _Amplitudes(path, key, self.p.rotate_back)
        source = Hdf5Stack(path, key or _frames_in(path))
        if region is not None and region.shape == (2, 2):
            source.recorded["center"] = tuple((region.sum(axis=1) // 2).tolist())
            rows, cols = np.diff(region.astype(int)).ravel()
            self.note(f"{self.p.file}: the region of the export is {option('shape', (rows, cols))}")
        return source

    def load_geometry(self):
        found, named = {}, {}
        for path in filter(is_hdf5, filter(None, (self.p.positions.file, self.p.file))):
            with reading(path, "a scan of HXN") as file:
                named |= {name: said for name in ("lambda_nm", "z_m", "ccd_pixel_um", "scan/energy")
                          if (said := scalar(file, name)) and np.isfinite(said.value) and said.value > 0}
        energy = named.get("scan/energy")
        if length := self.quantity("wavelength", named.get("lambda_nm"), usual="nm"):
            found["energy"] = HC / (length[0] * 1e9)
        elif energy:
            usual = "keV" if energy.value < 100 else "eV"
            if not energy.unit:
                self.note(f"scan/energy = {energy.value:g} has no unit and is taken as {usual}")
            found["energy"], = self.quantity("energy", energy, usual=usual) or [None]
        found["distance"], = self.quantity("distance", named.get("z_m"), usual="m") or [None]
        if psize := self.quantity("psize", named.get("ccd_pixel_um"), usual="um"):
            found["psize"] = psize[0]
            self.note(f"the export says pixels of {psize[0] * 1e6:g} um whatever the detector (EIGER: 75 um), and a "
                       f"distance that was typed in: compare {option('psize')} and {option('distance')}")
        found = {name: value for name, value in found.items() if value is not None}
        return found | super().load_geometry()

    def readings(self, path):
        p, path = self.p.positions, self.p.positions.file or self.p.file
        if p.slow_key or p.fast_key or not is_hdf5(path):
            return super().readings(path)
        with reading(path, "a scan of HXN") as file:
            key = next((name for name in ("points", "scan/scan_positions") if name in file), None)
            if key is None:
                return super().readings(path)
            points, angle = read_numbers(dataset_in(file, key)), scalar(file, "angle")
        if points.ndim != 2 or len(points) != 2:
            raise PositionError(f"{path}: {key} has shape {points.shape}; expected (2, frames), x and y")
        x = points[0] * self.metres(p.fast_multiplier, "um", f"{path}: {key}") * self._along_x(path, angle)
        y = points[1] * self.metres(p.slow_multiplier, "um", f"{path}: {key}")
        turned = isinstance(self.source, _Amplitudes) and not self.p.rotate_back
        return Points(-x, -y) if turned else Points(y, -x)

    def _along_x(self, path, recorded):
        """What makes x across the beam of x of a stage that is turned."""
        angle = self.p.stage_rotation
        if angle is None and recorded is None:
            self.note(f"{path}: no angle of the stage in it: x is taken as it is; set {option('stage_rotation')}")
        if angle is None:
            angle = (convert(recorded.value, recorded.unit or "deg", "deg") if recorded else 0.0)
        if angle is None:
            raise PositionError(f"{path}: angle of the stage in {recorded.unit!r}, no unit of an angle; set "
                                f"{option('stage_rotation')}")
        of_angle = np.cos if abs(angle) <= 45 else np.sin
        return abs(of_angle(np.deg2rad(angle))) * (-1 if angle <= -45 else 1)


class _Amplitudes(Hdf5Stack):
    """Square roots of counts, their centre in the corner and turned by 90 degrees clockwise, as counts."""

    def __init__(self, path, key, rotate_back):
        super().__init__(path, key)
        n, h, w = self.shape
        self._stored, self._back = (h, w), rotate_back
        self.shape = (n, w, h) if rotate_back else (n, h, w)
        self.recorded["center"] = tuple(size // 2 for size in self.shape[1:])

    @contextmanager
    def reader(self, window=None):
        window = window or whole(self.shape[1:])
        with super().reader(whole(self._stored)) as fill:
            def counts(indices, out):
                frames = np.empty((len(indices), *self._stored), self.dtype)
                fill(indices, frames)
                frames = np.fft.fftshift(frames ** 2, axes=(1, 2))
                out[...] = window.cut(np.rot90(frames, axes=(1, 2)) if self._back else frames)
            counts.ready = fill.ready
            yield counts


def _frames_in(path):
    """The dataset with the frames in a file that is no export."""
    with reading(path, "a scan of HXN") as file:
        stacks = stacks_in(file)
    found = next(filter(None, ([key for key in stacks if fnmatch(key, name)] for name in FRAMES)), [])
    if len(found) != 1:
        there = ", ".join(f"{key} {shape}" for key, shape in stacks.items()) or "none"
        raise SourceError(f"{path}: which are the frames? Expected diffamp, or one of {', '.join(FRAMES)}; the stacks "
                          f"in it are {there}. Set {option('key')}")
    return found[0]
