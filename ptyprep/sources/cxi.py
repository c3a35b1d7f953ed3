"""CXI files (Coherent X-ray Imaging, cxidb.org, versions 1.4 to 1.6): frames, mask, geometry, translations."""
import h5py
import numpy as np

from ptyprep.errors import SourceError
from ptyprep.sources.hdf5 import (
    Hdf5Stack,
    dead_links,
    is_hdf5,
    listed_links,
    read_dataset,
    read_numbers,
    reading,
    scalar,
)
from ptyprep.units import KEV, photon_energy

LARGEST_ENERGY = 1e-12      # J, 6 MeV; a ring's energy stands in the same place in files that are half NeXus
GOOD_BITS = 0x1000          # CXI: "pixel has signal" is no fault
FRAMES = ("entry_1/data_1/data", "entry_1/instrument_1/detector_1/data")


class CxiFile(Hdf5Stack):
    """CXI file with frames in entry_1.

    translation : (n, 3) as the file has it (x, y, z), or None [m]
    fast, slow : unit vectors (x, y, z) of the pixel axes in the laboratory, or None
    """

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
        detector = "entry_1/instrument_1/detector_1"
        energy = scalar(file, "entry_1/instrument_1/source_1/energy")
        wavelength = scalar(file, "entry_1/instrument_1/source_1/wavelength")
        joule = energy[0] if energy else 0
        if joule > LARGEST_ENERGY:
            self.notes.append(f"source_1/energy = {joule:g} cannot be a photon's in joules and counts as not recorded")
            joule = 0
        if not joule > 0 and wavelength and wavelength[0] > 0:
            joule = photon_energy(wavelength[0]) * KEV
        if joule > 0 and np.isfinite(joule):
            self.recorded["energy"] = joule / KEV
        distance = scalar(file, f"{detector}/distance")
        if distance and np.isfinite(distance[0]) and distance[0] > 0:
            self.recorded["distance"] = distance[0]
        psize = [scalar(file, f"{detector}/{k}_pixel_size") for k in "yx"]
        if all(p and np.isfinite(p[0]) and p[0] > 0 for p in psize):
            self.recorded["psize"] = tuple(p[0] for p in psize)
        mask = file.get(f"{detector}/mask")
        if isinstance(mask, h5py.Dataset):
            if mask.shape != self.shape[1:]:
                raise SourceError(f"{self.path}: {detector}/mask has shape {mask.shape}, expected {self.shape[1:]}")
            self.mark_bad((read_dataset(mask).astype(np.int64) & ~GOOD_BITS) != 0)
        self.translation = self._translation(file)
        self.fast, self.slow = self._axes(file.get(f"{detector}/basis_vectors"))
        corner = file.get(f"{detector}/corner_position")
        if isinstance(corner, h5py.Dataset) and corner.size == 3 and self.slow is not None and "psize" in self.recorded:
            # where the corner of the first pixel is, seen from the optical axis
            y, x = (-(np.ravel(read_numbers(corner)) @ axis) / p - 0.5 for axis, p in
                    zip((self.slow, self.fast), self.recorded["psize"]))
            self.recorded["center"] = (float(y), float(x))

    def _translation(self, file):
        for key in ("entry_1/data_1/translation", "entry_1/sample_1/geometry_1/translation",
                    "entry_1/instrument_1/detector_1/translation"):
            node = file.get(key)
            if isinstance(node, h5py.Dataset):
                if node.ndim == 2 and 3 in node.shape:
                    # CXI 1.6 says (n, 3); older writers have rows x, y, z. For n = 3 the newer one is taken.
                    return read_numbers(node) if node.shape[1] == 3 else read_numbers(node).T
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
