"""DECTRIS file writer's HDF5: a master file with links to data files.

Layout: `entry/data/data_000001` … are external links to files of at most `nimages_per_file` frames,
all made when the master is; those at the end whose file is not there are not written. Geometry lies in
`entry/instrument` (NXmx, SIMPLON API reference, "FileWriter"; DECTRIS NeXus documentation). A virtual
`entry/data/data` may join the parts.
"""
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py

from ptyprep.errors import SourceError
from ptyprep.filesystem.order import with_gaps
from ptyprep.hdf5.files import dataset_in, member, reading, scalar, text_in
from ptyprep.hdf5.guarded import is_hdf5, place_of
from ptyprep.processing.masks import DETECTOR as MASKED
from ptyprep.processing.masks import of_nexus
from ptyprep.sources.formats import DECTRIS
from ptyprep.sources.hdf5 import Hdf5Stack
from ptyprep.sources.pieces import Piece, pieces_of
from ptyprep.sources.recorded import note_fields, read_mask, read_quantity, read_saturation, record_size
from ptyprep.units import electron_energy, photon_energy

DETECTOR = "entry/instrument/detector"
SPECIFIC = f"{DETECTOR}/detectorSpecific"
ELECTRON_DETECTORS = ("arina", "ela", "quadro", "singla")
CUTOFF = "countrate_correction_count_cutoff"


class DectrisMaster(Hdf5Stack):
    """DECTRIS master file (EIGER, EIGER2, PILATUS4, ARINA, …) with its data files.

    electrons : whether the master names a detector made for electrons
    expected : frames the master announces (images x triggers), or None
    """
    format = DECTRIS

    def __init__(self, path):
        self.path = Path(path)
        self.recorded, self.notes = {}, []
        with reading(path, "a DECTRIS master file") as file:
            self._find_frames(file)
            self._read_detector(file)

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
        each = triggers.value if triggers else 1        # odin writes no ntrigger
        self.expected = int(images.value * each) if images else None
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
        where = place_of(data.file, link.filename) if isinstance(link, h5py.ExternalLink) else self.path
        try:
            return _Part(dataset_in(data, name))
        except SourceError as err:
            reason = str(err) if where.exists() else f"{where}: no such file"
            return Piece(where, getattr(link, "path", name), 0, 0, missing=reason)

    def _read_detector(self, file):
        """Geometry, limits of counts and the mask."""
        detector = file[DETECTOR]
        self.description = text_in(member(detector, "description"))
        self.electrons = any(k in self.description.lower().split() for k in ELECTRON_DETECTORS)
        if energy := self._energy(file):
            self.recorded["energy"] = energy
        record_size(self, scalar(detector, "detector_distance", "distance"),
                    [scalar(detector, f"{k}_pixel_size") for k in "yx"],
                    [scalar(detector, f"beam_center_{k}") for k in "yx"])
        bits = scalar(file, f"{DETECTOR}/bit_depth_image", f"{SPECIFIC}/bit_depth_image")
        self.bits = int(bits.value) if bits and 0 < bits.value <= 64 else None
        read_saturation(self, file, f"{DETECTOR}/saturation_value", f"{SPECIFIC}/{CUTOFF}",
                        f"{SPECIFIC}/detectorModule_000/{CUTOFF}")
        specific = member(file, SPECIFIC)
        any_bit = partial(of_nexus, others=MASKED)       # SIMPLON API
        for group in (detector, specific):
            for name in sorted(name for name in group or () if re.fullmatch(r"pixel_mask(_\d+)?", name)):
                read_mask(self, group, name, any_bit, -1)
        note_fields(self, detector, specific)

    def _energy(self, file):
        """Energy [keV]; of electrons the kinetic one. None where it is not recorded."""
        energy = scalar(file, f"{SPECIFIC}/photon_energy", "entry/instrument/beam/incident_energy",
                        f"{DETECTOR}/photon_energy")
        wavelength = scalar(file, "entry/instrument/beam/incident_wavelength", "entry/sample/beam/incident_wavelength",
                            "entry/instrument/monochromator/wavelength")
        if (energy is None or not energy.value > 0) and wavelength is not None and wavelength.value > 0:
            length = read_quantity(self, "wavelength", wavelength)
            return length and (electron_energy if self.electrons else photon_energy)(length[0])
        found = read_quantity(self, "energy", energy)
        return found and found[0]


def _data_names(data):
    """The links to data files in entry/data; where there are none, the dataset with all frames, which is virtual, or in
    the master itself (nimages_per_file = 0)."""
    if not isinstance(data, h5py.Group):
        return []
    whole = member(data, "data")
    return [k for k in data if re.fullmatch("data_[0-9]+", k)] or ["data"] * isinstance(whole, h5py.Dataset)


class _Part:
    """A data file that is there: its pieces, shape and the number of its first image."""

    def __init__(self, dataset):
        if dataset.ndim != 3 or not dataset.size:
            raise SourceError(f"{dataset.file.filename}: {dataset.name} has shape {dataset.shape}, expected (n, h, w)")
        self.path, self.shape, self.dtype = Path(dataset.file.filename), dataset.shape, dataset.dtype
        self.pieces = pieces_of(dataset)
        number = dataset.attrs.get("image_nr_low")
        self.number = None if number is None else int(number)
