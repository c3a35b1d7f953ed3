"""NeXus files: frames, geometry, mask and scan axes by what classes and attributes say, whatever the groups' names.

Written from the definitions of NXroot, NXdata, NXdetector, NXbeam, NXtransformations, NXmx and NXcxi_ptycho
(manual.nexusformat.org) and from what DECTRIS, odin, nexgen and GDA write.
"""
import re
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from ptyprep.errors import SourceError
from ptyprep.hdf5.files import (
    can_be_frames,
    identity,
    leads_to,
    listed_links,
    listed_stacks,
    member,
    read_numbers,
    reading,
    scalar,
    text_attribute,
    text_in,
    unit_of,
)
from ptyprep.hdf5.guarded import is_hdf5
from ptyprep.processing.masks import of_nexus
from ptyprep.sources.dectris import CUTOFF, DectrisMaster
from ptyprep.sources.formats import NEXUS, NEXUS_DECTRIS
from ptyprep.sources.hdf5 import Hdf5Stack
from ptyprep.sources.recorded import note_fields, note_monitor, read_mask, read_quantity, read_saturation, record_size
from ptyprep.units import factor, photon_energy
from ptyprep.words.spelling import option

NO_FRAMES = ("mask", "flat", "dark", "applied", "value", "number", "bit_depth")     # in names of a detector's fields
DECTRIS_MAKES = ("dectris", "eiger", "pilatus")     # in the description of a detector
DEEP = 8                    # groups in groups that are looked through
SLOW, FAST = (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0)     # of a detector that says nothing: y up, x left seen downstream


class Axis(NamedTuple):
    """One motion of the scan.

    name : in the file; values : for each frame, of the shape of the raster or (n,); units : or None
    vector : direction of the motion in the laboratory (McStas: z along the beam, y up), or None
    """
    name: str
    values: np.ndarray
    units: str | None
    vector: tuple | None


class NexusFile(Hdf5Stack):
    """NeXus file of any definition with one detector's frames.

    key : the dataset of the frames; entry : the group that it was looked for in
    axes : [`Axis`], motions of the sample or the beam that the file names as the scan's
    slow, fast : unit vectors of the detector's pixel axes in the laboratory
    """
    format = NEXUS

    def __init__(self, path, key=None, entry=None):
        self.path, self.recorded, self.notes = Path(path), {}, []
        linked = key is None and DectrisMaster.understands(path)       # data_000001 and so on, without a signal
        if linked:
            vars(self).update(vars(DectrisMaster(path)), format=DectrisMaster.format)
        with reading(path, "a NeXus file") as file:
            at = self._entry(file, entry)
            self.entry, self.key = at.name, self.pieces[0].key if linked else key or self._frames(at)
            if not linked:
                self._set_pieces(file, self.key)
            detector = self._detector(at)
            self.slow, self.fast = (self._direction(detector, name, usual) for name, usual in
                                    (("slow", SLOW), ("fast", FAST)))
            if not linked:          # what the file writer means is read by its own rules
                self._read_beam(at)
                self._read_detector(detector)
            self._note_monitors(at)
            self.axes = self._scan_axes(at)

    @classmethod
    def understands(cls, path):
        if not is_hdf5(path):
            return False
        with reading(path, "a NeXus file") as file:
            return any(_class(node) == "NXentry" for node in _groups(file))

    # --- where the frames are ----------------------------------------------------------------------------

    def _entry(self, file, name):
        if name is not None:
            if not isinstance(file.get(name), h5py.Group):
                raise SourceError(f"{self.path}: no group {name}; it holds {', '.join(file) or 'nothing'}")
            return file[name]
        entries = [node for node in _groups(file) if _class(node) == "NXentry"]
        if not entries:
            raise SourceError(f"{self.path}: no NXentry in it; expected a NeXus file. Its groups are "
                              f"{', '.join(file) or 'none'}")
        said = text_attribute(file, "default")
        default = next((e for e in entries if said and e.name == "/" + said.strip("/")), None)
        if default is not None and (self._candidates(default) or self._announced(default)):
            return default
        ptycho = [e for e in entries if "cxi_ptycho" in text_in(e.get("definition")).lower()]
        holding = ptycho or [e for e in entries if self._candidates(e) or self._announced(e)] or entries
        if len(holding) > 1:
            raise SourceError(f"{self.path}: frames are in {', '.join(e.name for e in holding)}: set {option('entry')} "
                              "to one of them")
        return holding[0]

    def _candidates(self, entry):
        """{name: dataset} of what could be frames: signals of NXdata and data of NXdetector, each object once."""
        found, seen = {}, set()
        for group in _walk(entry):
            kind = _class(group)
            names = ["data"] if kind == "NXdetector" else _signal(group) if kind == "NXdata" else []
            for name in names:
                node = member(group, name)
                if isinstance(node, h5py.Dataset) and node.ndim >= 3 and node.dtype.kind in "biuf" \
                        and min(node.shape[-2:]) > 1 and identity(node) not in seen:
                    seen.add(identity(node))
                    found[f"{group.name}/{name}"] = node
        return found

    def _announced(self, entry, *, others=True):
        """{name: where it leads} of links that lead nowhere where frames should be: signals of NXdata and data of
        NXdetector; with `others`, what else is in another file and may be frames."""
        found = {}
        for group in _walk(entry):
            kind, said = _class(group), text_attribute(group, "signal") or "data"
            for name in group:
                frames = name == "data" and kind == "NXdetector" or name == said and kind == "NXdata"
                elsewhere = others and isinstance(group.get(name, getlink=True), h5py.ExternalLink) and not any(
                    word in name for word in NO_FRAMES)
                if (frames or elsewhere) and member(group, name) is None:
                    found[f"{group.name}/{name}"] = leads_to(group, name)
        return found

    def _frames(self, entry):
        found, dead = self._candidates(entry), self._announced(entry)
        could_be = f"In {entry.name} could be " + (
            listed_stacks({name: node.shape for name, node in found.items()}) or
            "none: no NXdata with a signal and no NXdetector with data of three dimensions or more"
        ) + f". Set {option('key')}"
        found = {name: node for name, node in found.items() if can_be_frames(node.shape)}
        recorded = {name for name, node in found.items() if self._of_detector(entry, node)}
        default = _default_data(entry)
        signal = None if default is None else next(
            (name for name, node in found.items() for at in _signal(default)
             if member(default, at) is not None and identity(member(default, at)) == identity(node)), None)
        if signal and (signal in recorded or not recorded and not self._announced(entry, others=False)):
            return signal
        if dead:
            raise SourceError(f"{self.path}: links that lead nowhere, and may be the frames: {listed_links(dead)}. "
                              f"{could_be}, or bring the files that are missing")
        for names in (recorded, set(found)):
            if len(names) == 1:
                return names.pop()
        raise SourceError(f"{self.path}: which are the frames? {could_be}")

    def _of_detector(self, entry, dataset):
        return any(isinstance(node := member(group, "data"), h5py.Dataset) and identity(node) == identity(dataset)
                   for group in _walk(entry) if _class(group) == "NXdetector")

    def _detector(self, entry):
        """The NXdetector that the frames are of: the one that holds them, else the only one; or None."""
        groups = [group for group in _walk(entry) if _class(group) == "NXdetector"]
        frames = member(entry.file, self.key)
        holding = [g for g in groups if any(isinstance(node := member(g, name), h5py.Dataset) and frames is not None
                                            and identity(node) == identity(frames) for name in g)]
        found = holding or groups
        if len(found) == 1:
            return found[0]
        self.notes.append(f"{self.key}: " + (f"which of the detectors {', '.join(g.name for g in found)} they are of "
                          f"cannot be told: distance, pixel size and mask count as not recorded" if found else
                          "no NXdetector: distance, pixel size and mask are not recorded"))
        return None

    # --- geometry ------------------------------------------------------------------------------------------

    def _read_beam(self, entry):
        beams = [group for group in _walk(entry) if _class(group) in ("NXbeam", "NXmonochromator")]
        for group in sorted(beams, key=lambda g: _class(g) != "NXbeam"):
            for name in ("incident_wavelength", "wavelength", "incident_energy", "incident_beam_energy", "energy"):
                found = scalar(group, name)
                if found is None or not found.value > 0:
                    continue
                quantity = "wavelength" if "wavelength" in name else "energy"
                if values := read_quantity(self, quantity, found):
                    self.recorded["energy"] = photon_energy(values[0]) if quantity == "wavelength" else values[0]
                    return

    def _read_detector(self, group):
        if group is None:
            return
        bits = scalar(group, "bit_depth_image")
        if bits or any(maker in text_in(member(group, "description")).lower() for maker in DECTRIS_MAKES):
            self.format, self.bits = NEXUS_DECTRIS, int(bits.value) if bits and 0 < bits.value <= 64 else None
        record_size(self, scalar(group, "distance", "detector_distance"),
                    [scalar(group, f"{k}_pixel_size") for k in "yx"], [scalar(group, f"beam_center_{k}") for k in "yx"])
        specific = f"detectorSpecific/{CUTOFF}", f"detectorSpecific/detectorModule_000/{CUTOFF}"
        read_saturation(self, group, "saturation_value", *specific)
        underload = scalar(group, "underload_value")
        self.underload = underload.value if underload else None
        for name in sorted(name for name in group if re.fullmatch(r"pixel_mask(_\d+)?", name)):
            read_mask(self, group, name, of_nexus, 0xFFFF)
        note_fields(self, group, member(group, "detectorSpecific"))

    def _note_monitors(self, entry):
        for group in _walk(entry):
            if _class(group) == "NXmonitor":
                note_monitor(self, member(group, "data"))

    def _direction(self, detector, name, usual):
        """A pixel axis's direction in the laboratory."""
        for group in () if detector is None else _walk(detector):
            node = member(group, f"{name}_pixel_direction")
            vector = None if node is None else node.attrs.get("vector")
            if vector is not None and np.size(vector) == 3 and np.linalg.norm(vector) > 0:
                return np.ravel(vector) / np.linalg.norm(vector)
        return np.array(usual)

    # --- the scan -------------------------------------------------------------------------------------------

    def _scan_axes(self, entry):
        """The scan's motions: the axes of an NXdata with these frames, else the sample's translations, else what
        positioners read; those that are lengths and that move."""
        frames, lead = member(entry.file, self.key), self.grid or self.shape[:1]
        datas = [group for group in _walk(entry) if _class(group) == "NXdata" and any(
            isinstance(node := member(group, name), h5py.Dataset) and frames is not None
            and identity(node) == identity(frames) for name in group)]
        found = [self._axes_of(group, lead) for group in datas]
        transformations = [group for group in _walk(entry) if _class(group) == "NXtransformations"
                           and _class(group.parent) != "NXdetector"]
        found += [[self._axis(group[name], name, None, lead) for name in group if isinstance(
            member(group, name), h5py.Dataset)] for group in transformations]
        found.append([self._axis(node, group.name.rsplit("/", 1)[-1], None, lead)
                      for group in _walk(entry) if _class(group) == "NXpositioner"
                      if (node := next((n for k in ("value", "raw_value", "target_value")
                                        if isinstance(n := member(group, k), h5py.Dataset)), None)) is not None])
        for axes in found:
            axes = self._measured([axis for axis in axes if axis is not None])
            if len(axes) >= 2:
                return axes
        return []

    def _measured(self, axes):
        """Axes without those that say of another one where it was sent, or where it was when the exposure ended; of
        start and end the mean is taken (NXmx: values are those at the start)."""
        by_name = {axis.name: axis for axis in axes}
        kept = []
        for axis in axes:
            stem = re.sub(r"_(end|increment_set|set|rbv|readback)$", "", axis.name)
            if stem != axis.name and stem in by_name:
                continue
            end = by_name.get(f"{axis.name}_end")
            if end is not None and end.units == axis.units and end.values.shape == axis.values.shape:
                self.notes.append(f"positions are the means of {axis.name} and {end.name}")
                axis = axis._replace(values=(axis.values + end.values) / 2)
            kept.append(axis)
        return kept

    def _axes_of(self, group, lead):
        said = group.attrs.get("axes")
        said = [] if said is None else [s.decode() if isinstance(s, bytes) else str(s) for s in np.ravel(said)]
        if len(said) == 1:
            said = [name for name in re.split(r"[\s:,\[\]]+", said[0]) if name]
        names = list(dict.fromkeys([name for name in said if name != "."] + [
            key.removesuffix("_indices") for key in group.attrs if key.endswith("_indices")]))
        found = []
        for name in names:
            node, indices = member(group, name), group.attrs.get(f"{name}_indices")
            if isinstance(node, h5py.Dataset):
                if indices is None and name in said and len(said) > 1:
                    indices = said.index(name)
                found.append(self._axis(node, name, indices, lead))
        return found

    def _axis(self, node, name, indices, lead):
        """A dataset as an `Axis`, None where it does not move, is no length or does not span the frames.

        indices : of the frames' dimensions that it spans, or None
        """
        units = unit_of(node)
        kind = text_attribute(node, "transformation_type")
        if node.size < 2 or node.dtype.kind not in "iuf" or units and factor(units) is None or kind == "rotation":
            return None
        values = read_numbers(node)
        if not np.nanmax(values) > np.nanmin(values):
            return None
        values = values.reshape([n for n in values.shape if n > 1])
        vector = node.attrs.get("vector")
        vector = tuple(np.ravel(vector).tolist()) if vector is not None and np.size(vector) == 3 else None
        if values.size == np.prod(lead):
            values = values.reshape(lead)
        elif values.ndim == 1 and len(lead) == 2 and values.size in lead:
            along = [int(i) for i in np.ravel(indices)] if indices is not None else [
                i for i, n in enumerate(lead) if n == values.size]
            if len(along) != 1 or along[0] > 1 or lead[along[0]] != values.size:
                self.notes.append(f"{node.name} of {values.size} readings: along which axis of the raster cannot be "
                                  f"told")
                return None
            values = np.broadcast_to(values[:, None] if along[0] == 0 else values, lead)
        else:
            return None
        return Axis(name, values, units, vector)


# --- what is in a file ------------------------------------------------------------------------------------------


def _class(node):
    return (text_attribute(node, "NX_class") or "").replace("NX_", "NX")


def _groups(group):
    return [node for name in group if isinstance(node := member(group, name), h5py.Group)]


def _walk(group, depth=0, seen=None):
    """A group and all groups in it, each once."""
    seen = set() if seen is None else seen
    if depth > DEEP or identity(group) in seen:
        return
    seen.add(identity(group))
    yield group
    for node in _groups(group):
        yield from _walk(node, depth + 1, seen)


def _signal(group):
    """Names of what an NXdata shows: by its attribute, by that of a field (before 2014), or all that could be."""
    said = text_attribute(group, "signal")
    if said and isinstance(member(group, said), h5py.Dataset):
        return [said]
    fields = {name: node for name in group if isinstance(node := member(group, name), h5py.Dataset)}
    marked = [name for name, node in fields.items() if text_attribute(node, "signal") == "1"]
    return marked or [name for name, node in fields.items() if node.ndim >= 3]


def _default_data(entry):
    """The NXdata that an entry shows first, None where it does not say."""
    group, steps = entry, 0
    while _class(group) != "NXdata" and steps < DEEP:
        said = text_attribute(group, "default")
        group = member(group, said) if said else None
        if not isinstance(group, h5py.Group):
            datas = [node for node in _groups(entry) if _class(node) == "NXdata"]
            return datas[0] if len(datas) == 1 else None
        steps += 1
    return group
