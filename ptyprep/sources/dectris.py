"""DECTRIS file writer's HDF5: a master file with links to data files.

Layout: `entry/data/data_000001` … are external links to files of at most `nimages_per_file` frames,
all made when the master is; those at the end whose file is not there are not written. Geometry lies in
`entry/instrument` (NXmx, SIMPLON API reference, "FileWriter"; DECTRIS NeXus documentation). A virtual
`entry/data/data` may join the parts.
"""
import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from ptyprep import masks
from ptyprep.errors import SourceError
from ptyprep.names import with_gaps
from ptyprep.sources.hdf5 import Hdf5Stack, Piece, dataset_in, is_hdf5, pieces_of, read_dataset, reading, scalar
from ptyprep.units import metres, photon_energy

DETECTOR = "entry/instrument/detector"
SPECIFIC = f"{DETECTOR}/detectorSpecific"
ELECTRON_DETECTORS = ("arina", "ela", "quadro", "singla")
ELECTRON = 510.99895069     # keV, m c² (CODATA 2022)


class DectrisMaster(Hdf5Stack):
    """DECTRIS master file (EIGER, EIGER2, PILATUS4, ARINA, …) with its data files.

    electrons : whether the master names a detector made for electrons
    expected : frames the master announces (images x triggers), or None
    """

    def __init__(self, path):
        self.path = Path(path)
        self.recorded, self.notes = {}, []
        with reading(path, "a DECTRIS master file") as file:
            self._find_frames(file)
            self._read_geometry(file)

    @classmethod
    def understands(cls, path):
        if not is_hdf5(path):
            return False
        with reading(path, "a DECTRIS master file") as file:
            data = file.get("entry/data")
            return SPECIFIC in file and bool(_data_names(data))

    def _find_frames(self, file):
        data = file.get("entry/data")
        names = with_gaps(_data_names(data), [], self.path)
        if names and DETECTOR not in file:
            raise SourceError(f"{self.path}: a data file: it has frames but no {DETECTOR}; give the master file that "
                              f"links to it")
        if not names:
            raise SourceError(f"{self.path}: no entry/data/data_000001 and so on; expected a DECTRIS master file, "
                              f"found {', '.join(file) or 'an empty file'}")
        images, triggers = (scalar(file, f"{SPECIFIC}/{k}") for k in ("nimages", "ntrigger"))
        self.expected = int(images[0] * triggers[0]) if images and triggers else None
        left_out = f"{self.path}: a number between {names[0]} and {names[-1]} is left out of its links"
        found = [self._linked(data, name) if name else Piece(self.path, "", 0, 0, missing=left_out) for name in names]
        readable = [i for i, part in enumerate(found) if isinstance(part, _Part)]
        if not readable:
            raise SourceError(f"{self.path}: none of its {len(names)} data files can be read. {found[0].missing}")
        last = max(i for i, part in enumerate(found) if part.path.exists())     # what is absent after it comes later
        first = found[readable[0]]
        per_file, frame, dtype = self._frames_per_file(found, readable), first.shape[1:], first.dtype
        pieces, start = [], 0
        for i, part in enumerate(found[:last + 1]):
            if isinstance(part, Piece):
                rest = (self.expected or 0) - start
                count = min(per_file, rest) if i == last and rest > 0 else per_file
                later = " (though later ones are there)" if i < last else ""
                pieces.append(replace(part, start=start, count=count, shape=frame, missing=f"{part.missing}{later}"))
                start += count
                continue
            if part.shape[1:] != frame or part.dtype != dtype:
                raise SourceError(f"{part.path}: frames of {part.dtype} {part.shape[1:]}, but those before are "
                                  f"{dtype} {frame}")
            if part.number is not None and part.number != start + 1:
                raise SourceError(f"{part.path}: its first image has number {part.number}, expected {start + 1}: a "
                                  f"file before it holds another number of images than {per_file}, or links are out of "
                                  f"order")
            pieces += [replace(p, start=start + p.start) for p in part.pieces]
            start += part.shape[0]
        self._finish(pieces, (start, *frame), dtype)
        self.grid = None
        if self.expected is not None and start != self.expected:
            self.notes.append(f"the master announces {self.expected} frames, {start} are written")

    def _frames_per_file(self, found, readable):
        """How many frames a file has that cannot be read; only the last one of a scan may have fewer."""
        ahead, first = readable[0], found[readable[0]]
        if ahead == 0:
            return first.shape[0]
        lengths = {found[i].shape[0] for i in readable[:-1]}
        if first.number is None and len(lengths) == 1:
            return lengths.pop()
        if first.number is not None and first.number > ahead and (first.number - 1) % ahead == 0:
            return (first.number - 1) // ahead
        raise SourceError(f"{self.path}: cannot tell how many frames are missing before {first.path.name}: no equal "
                          f"files to compare with, and its image_nr_low is {first.number}. {found[0].missing}")

    def _linked(self, data, name):
        """What a link leads to, or a missing piece; which of them are not yet written is decided later."""
        link = data.get(name, getlink=True)
        where = self.path.parent / link.filename if isinstance(link, h5py.ExternalLink) else self.path
        try:
            return _Part(dataset_in(data, name))
        except SourceError as err:
            reason = str(err) if where.exists() else f"{where}: no such file"
            return Piece(where, getattr(link, "path", name), 0, 0, missing=reason)

    def _read_geometry(self, file):
        name = file.get(f"{DETECTOR}/description")
        text = read_dataset(name) if isinstance(name, h5py.Dataset) and name.shape == () else b""
        self.description = text.decode() if isinstance(text, bytes) else str(text)
        self.electrons = any(k in self.description.lower().split() for k in ELECTRON_DETECTORS)
        energy = scalar(file, f"{SPECIFIC}/photon_energy", "entry/instrument/beam/incident_energy",
                        f"{DETECTOR}/photon_energy")
        wavelength = scalar(file, "entry/instrument/beam/incident_wavelength", "entry/sample/beam/incident_wavelength",
                            "entry/instrument/monochromator/wavelength")
        if (energy is None or not energy[0] > 0) and wavelength is not None and wavelength[0] > 0:
            length = self._metres("wavelength", wavelength, "angstrom")       # what the file writer means
            self._record("energy", None if length is None else self._energy_of(length))
        elif energy is not None:
            self._record("energy", energy[0] * (1 if energy[1].lower() == "kev" else 1e-3))
        self._record("distance", self._length(file, "distance", f"{DETECTOR}/detector_distance",
                                              f"{DETECTOR}/distance"))
        self._record("psize", *(self._length(file, f"{k}_pixel_size", f"{DETECTOR}/{k}_pixel_size") for k in "yx"))
        center = [scalar(file, f"{DETECTOR}/beam_center_{k}") for k in "yx"]
        if all(center):
            y, x = (c[0] for c in center)
            if np.isfinite([y, x]).all() and (y, x) != (0, 0):
                self.recorded["center"] = (y, x)
            else:
                self.notes.append(f"beam centre ({y:g}, {x:g}) counts as not recorded")
        mask = file.get(f"{SPECIFIC}/pixel_mask") or file.get(f"{DETECTOR}/pixel_mask")
        if isinstance(mask, h5py.Dataset) and mask.shape[-2:] == self.shape[1:]:
            bits = read_dataset(mask).reshape(self.shape[1:])
            self.mark_bad(masks.of_nexus(bits, others=masks.DETECTOR))       # any bit (SIMPLON API)
        elif isinstance(mask, h5py.Dataset):
            self.notes.append(f"pixel_mask of shape {mask.shape} does not fit frames of {self.shape[1:]} pixels")
        saturation = scalar(file, f"{DETECTOR}/saturation_value")
        self.saturation = saturation[0] if saturation and saturation[0] > 0 else None

    def _length(self, file, what, *keys):
        found = scalar(file, *keys)
        return None if found is None else self._metres(what, found, "m")       # NXmx

    def _metres(self, what, found, usual):
        """A (value, unit) in metres, without a unit in the usual one; None, with a note, where the unit is none."""
        value, unit = found
        factor = metres(unit or usual)
        if factor is None:
            self.notes.append(f"{what} {value:g} in {unit!r}, no unit of length, counts as not recorded")
        return None if factor is None else value * factor

    def _energy_of(self, wavelength):
        """Energy [keV] of photons of a wavelength [m]; of electrons the kinetic one, from λ = h / p."""
        pc = photon_energy(wavelength)
        return float(np.hypot(pc, ELECTRON) - ELECTRON) if self.electrons else pc

    def _record(self, name, *values):
        if any(v is None for v in values):
            return
        if all(np.isfinite(v) and v > 0 for v in values):
            self.recorded[name] = values[0] if len(values) == 1 else values
        else:
            self.notes.append(f"{name} {', '.join(f'{v:g}' for v in values)} counts as not recorded")


def _data_names(data):
    """The links to data files in entry/data; where there are none, the virtual dataset that joins the files."""
    if not isinstance(data, h5py.Group):
        return []
    joined = data.get("data")
    return [k for k in data if re.fullmatch("data_[0-9]+", k)] or (
        ["data"] if isinstance(joined, h5py.Dataset) and joined.is_virtual else [])


class _Part:
    """A data file that is there: its pieces, shape and the number of its first image."""

    def __init__(self, dataset):
        if dataset.ndim != 3 or not dataset.size:
            raise SourceError(f"{dataset.file.filename}: {dataset.name} has shape {dataset.shape}, expected (n, h, w)")
        self.path, self.shape, self.dtype = Path(dataset.file.filename), dataset.shape, dataset.dtype
        self.pieces = pieces_of(dataset)
        number = dataset.attrs.get("image_nr_low")
        self.number = None if number is None else int(number)
