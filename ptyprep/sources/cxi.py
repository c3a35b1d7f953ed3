"""CXI files (Coherent X-ray Imaging, cxidb.org, versions 1.4 to 1.6): frames, mask, geometry, translations."""
import h5py
import numpy as np

from ptyprep.errors import SourceError
from ptyprep.hdf5.files import dead_links, listed_links, member, read_dataset, read_numbers, reading, scalar, unit_of
from ptyprep.hdf5.guarded import is_hdf5
from ptyprep.sources.formats import CXI
from ptyprep.sources.hdf5 import Hdf5Stack
from ptyprep.sources.recorded import note_fields, read_mask, read_quantity, record_size
from ptyprep.units import factor, photon_energy

DETECTOR = "entry_1/instrument_1/detector_1"
GOOD_BITS = 0x1000          # CXI: "pixel has signal" is no fault
FRAMES = ("entry_1/data_1/data", "entry_1/instrument_1/detector_1/data")


class CxiFile(Hdf5Stack):
    """CXI file with frames in entry_1.

    translation : (n, 3) as the file has it (x, y, z), or None [m]
    fast, slow : unit vectors (x, y, z) of the pixel axes in the laboratory, or None
    """
    format = CXI

    def __init__(self, path, key=None):
        with reading(path, "a CXI file") as file:
            key = key or next((k for k in FRAMES if isinstance(file.get(k), h5py.Dataset)), None)
            if key is None:
                dead = dead_links(file)
                raise SourceError(f"{path}: no {FRAMES[0]}; expected a CXI file, found {', '.join(file) or 'nothing'}"
                                  + (f". Links that lead nowhere: {listed_links(dead)}" if dead else ""))
        super().__init__(path, key)
        with reading(path, "a CXI file") as file:
            self._read_geometry(file)

    @classmethod
    def understands(cls, path):
        if not is_hdf5(path):
            return False
        with reading(path, "a CXI file") as file:
            named = file.get("entry_1/definition")     # NXcxi_ptycho is NeXus, and means other things by the same names
            if isinstance(named, h5py.Dataset) and named.shape == () and b"ptycho" in np.bytes_(read_dataset(named)):
                return False
            return "entry_1" in file and ("cxi_version" in file or any(k in file for k in FRAMES))

    def _read_geometry(self, file):
        detector = member(file, DETECTOR)
        detector = detector if isinstance(detector, h5py.Group) else {}
        if energy := self._energy(file):
            self.recorded["energy"] = energy
        record_size(self, scalar(detector, "distance"), [scalar(detector, f"{k}_pixel_size") for k in "yx"], [None])
        read_mask(self, file, f"{DETECTOR}/mask", lambda bits: (bits.astype(np.int64) & ~GOOD_BITS) != 0, ~GOOD_BITS)
        self.translation = self._translation(file)
        self.fast, self.slow = self._axes(detector.get("basis_vectors"))
        corner = detector.get("corner_position")
        if isinstance(corner, h5py.Dataset) and corner.size == 3 and self.slow is not None and "psize" in self.recorded:
            # where the corner of the first pixel is, seen from the optical axis
            y, x = (-(np.ravel(self._metres(corner)) @ axis) / p - 0.5 for axis, p in
                    zip((self.slow, self.fast), self.recorded["psize"]))
            self.recorded["center"] = (float(y), float(x))
        note_fields(self, detector or None)

    def _energy(self, file):
        """Energy [keV], None where it is not recorded."""
        source = "entry_1/instrument_1/source_1"
        energy, wavelength = (scalar(file, f"{source}/{name}") for name in ("energy", "wavelength"))
        if energy and energy.value > 0 and (found := read_quantity(self, "energy", energy)):
            return found[0]
        found = read_quantity(self, "wavelength", wavelength)
        return found and photon_energy(found[0])

    def _metres(self, node):
        """Lengths in the unit that the file has, else in metres. Raises SourceError for what is no length."""
        unit = unit_of(node) or self.format.units["position"]
        metres = factor(unit)
        if metres is None:
            raise SourceError(f"{self.path}: {node.name} in {unit!r}, no unit of length; expected m, mm, um and so on")
        return read_numbers(node) * metres

    def _translation(self, file):
        for key in ("entry_1/data_1/translation", "entry_1/sample_1/geometry_1/translation",
                    "entry_1/instrument_1/detector_1/translation"):
            node = file.get(key)
            if isinstance(node, h5py.Dataset):
                if node.ndim == 2 and 3 in node.shape:
                    # CXI 1.6 says (n, 3); older writers have rows x, y, z. For n = 3 the newer one is taken.
                    return self._metres(node) if node.shape[1] == 3 else self._metres(node).T
                raise SourceError(f"{self.path}: {key} has shape {node.shape}, expected (n, 3) or (3, n)")
        return None

    def _axes(self, node):
        """(fast, slow) from `basis_vectors`: slow is the first vector, fast the second."""
        if not isinstance(node, h5py.Dataset):
            return None, None
        vectors = read_numbers(node)
        if vectors.shape == (3, 2):
            vectors = vectors.T
        if vectors.shape != (2, 3) or not np.isfinite(vectors).all() or not np.linalg.norm(vectors, axis=1).all():
            self.notes.append(f"basis_vectors of shape {node.shape} are not two directions and count as not recorded")
            return None, None
        slow, fast = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return fast, slow
