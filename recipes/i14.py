"""I14, Diamond Light Source, the hard X-ray nanoprobe: NeXus files of GDA's mapping scans."""
from pathlib import Path

import h5py
import numpy as np
from ptyprep_recipes.hdf5 import Hdf5

from ptyprep import Group, Par
from ptyprep.arrays import read_array
from ptyprep.errors import ParameterError, SourceError
from ptyprep.hdf5.files import can_be_frames, leads_to, listed_links, listed_stacks, member, reading, stacks_in, unit_of
from ptyprep.hdf5.guarded import is_hdf5
from ptyprep.processing.corrections import Corrections, median
from ptyprep.sources import Hdf5Stack
from ptyprep.sources.gathered import mean_of
from ptyprep.words.spelling import option, options

# of `motors.slow`, in a group: as a field of its NXdata, as an NXpositioner, as a scannable
SET, READBACK = ("{0}_value_set", "{0}/value_set"), ("{0}_value", "{0}", "{0}/value", "{0}/{0}")
PIXELS = {"merlin": 55e-6, "excalibur": 55e-6, "eiger": 75e-6}      # metres; of the chips, no file has them
SOME = 64                                                           # frames that a dark field is the median of


class I14(Hdf5):
    """A scan of I14: the master file that GDA writes, which links to a file for each detector.

    Rows are SampleY, columns SampleX, set values in mm unless the file has a unit. Position = (+SampleY, +SampleX) with
    frames as they are. The energy is read from the file. Which dataset is the distance depends on the stage that the
    detector sits on, so that it has to be named. Masks are in a file of their own, non-zero = good.

    Layout: the configuration of a beamline run in dls-bxflow (`i14_unknown_probe_dm.yaml`), PtyPy's tutorial of
    position refinement, and nxstacker (`facility/i14.py`), of DiamondLightSource and ptycho on GitHub. Under which name
    the detector's own file keeps frames is not documented; they are read through the link.
    Not tried on real data of this beamline.
    """
    source_type = None

    class intensities(Group):
        """Where the frames are."""
        file = Par(source=True, level=0, doc="NeXus file of the scan, such as <visit>/scan/i14-264401.nxs.")
        key = Par(doc="Dataset with the frames. None: `data` of the detector's group.")

    detector: str | None = Par("merlin_addetector", level=0,
                               doc="Group of the detector in the file, such as merlin_addetector, excalibur_addetector "
                                   "or eiger_addetector. None: the only one with frames.")

    class motors(Group):
        """The motors of the scan, where positions.slow_key and positions.fast_key are not given."""
        slow: tuple[str, ...] = Par(("SampleY",), doc="Motor of the rows; of several the first that was recorded.")
        fast: tuple[str, ...] = Par(("SampleX",), doc="Motor of the columns; as many as motors.slow has.")
        values: str = Par("set", choices=("set", "readback"),
                          doc="Set values or what encoders read. The other ones are taken where these are absent or 0 "
                              "throughout.")
        unit: str = Par("mm", doc="Unit of readings for which the file has none.")

    dark_scan: Path | None = Par(None, doc="NeXus file of a scan without light. The median of its frames, of 64 at "
                                           "most, is subtracted.")
    flat_scan: Path | None = Par(None, doc="NeXus file of a scan without sample. By the mean of its frames, less the "
                                           "dark field, frames are divided.")

    # datasets that may be there, each with its unit where the file has none, and the factor from that
    _known = {"energy": {"entry/instrument/dcm_enrg/value": ("keV", 1.0),
                         "entry/instrument/DCM/dcm_energy": ("keV", 1.0)}, "distance": {}}
    def open(self):
        p = self.p
        if len(p.motors.slow) != len(p.motors.fast):
            raise ParameterError(f"{option('motors.slow')} names {', '.join(p.motors.slow)} and "
                                 f"{option('motors.fast')} {', '.join(p.motors.fast)}: expected as many of both")
        with reading(p.intensities.file, "a NeXus file of GDA") as file:
            p.record("intensities.key", p.intensities.key or self._frames_in(file))
            for name in ("energy", "distance"):
                if not p.given(name):
                    self._take_recorded(file, name)
        return super().open()

    def readings(self, path):
        p = self.p
        if path is None or p.positions.slow_key or p.positions.fast_key or not is_hdf5(path):
            return super().readings(path)
        kinds = {"set": SET, "readback": READBACK}
        order = [p.motors.values, *(kinds.keys() - {p.motors.values})]
        with reading(path, "a NeXus file of GDA") as file:
            keys = {kind: self._motors(file, kinds[kind]) for kind in order}
        found = {kind: [read_array(path, key, parameter=["motors.slow", "motors.fast"]) for key in keys[kind]]
                 for kind in order if keys[kind]}
        kind = next((kind for kind in order if kind in found and any(axis.values.any() for axis in found[kind])), None)
        if kind is None:
            return super().readings(path)
        slow, fast = found[kind]
        if kind != order[0]:
            self.note(f"{path}: {p.motors.values} values are {'0' if order[0] in found else 'not there'}; "
                       f"{slow.where} and {fast.where} are taken")
        return [axis.values * self._factor(axis, multiplier)
                for axis, multiplier in ((slow, p.positions.slow_multiplier), (fast, p.positions.fast_multiplier))]

    def load_geometry(self):
        found = super().load_geometry()
        kind = next((name for name in PIXELS if name in (self.p.intensities.key or "").lower()), None)
        if kind and "psize" not in found and not self.p.given("psize"):
            self.note(f"psize is {PIXELS[kind] * 1e6:g} um, as any {kind} detector has; the file does not say")
            found["psize"] = PIXELS[kind]
        return found

    def load_corrections(self):
        p, made = self.p, super().load_corrections() or Corrections(negative=self.p.darkfield.negative)
        if p.dark_scan:
            dark = self._scan_without(p.dark_scan)
            n = dark.shape[0]
            made = made.also(dark=median(dark.read(np.unique(np.linspace(0, n - 1, min(n, SOME)).astype(int)))))
        if p.flat_scan:
            flat = mean_of(self._scan_without(p.flat_scan))
            made = made.also(flat=flat - made.dark if isinstance(made.dark, np.ndarray) else flat)
        return made

    def needs(self):
        hints, absent = self._hints(), ", ".join(self.p.motors.slow + self.p.motors.fast)
        motors = f"{options(['motors.slow', 'motors.fast'])} (not found: {absent}), or "
        return [(name, hints.get(name, motors + how if name == "positions" else how))
                for name, how in super().needs()]

    def _hints(self):
        """{parameter: how to set it} of what files of this beamline lack."""
        return {"distance": f"{option('distance', '1.2 m')}, or {option('recorded_distance.key')}, such as "
                            "entry/instrument/detectors/xreye_z for the stage of the Merlin"}

    # --- what is in a file ------------------------------------------------------------------------------

    def _frames_in(self, file):
        """The name of the dataset with the detector's frames."""
        wanted, found, dead, seen = self.p.detector, {}, {}, set()
        for place in _places(file, deep=False):
            for name in [wanted] if wanted else _members(file, place):
                key = f"{place}/{name}/data".lstrip("/")
                node = member(file, key)
                if isinstance(node, h5py.Dataset):
                    info = h5py.h5o.get_info(node.id)
                    if node.ndim > 2 and node.dtype.kind in "biuf" and min(node.shape[-2:]) > 1 \
                            and (info.fileno, info.addr) not in seen:
                        found[key] = node.shape
                        seen.add((info.fileno, info.addr))
                elif "data" in _members(file, f"{place}/{name}"):
                    dead[key] = leads_to(file[f"{place}/{name}"], "data")
        images = [key for key, shape in found.items() if wanted or can_be_frames(shape)]
        if len(images) == 1 and (wanted or not dead):
            return images[0]
        if dead and not found and (wanted or len(dead) == 1):
            return next(iter(dead))         # the source says where it leads
        lost = f"links that lead nowhere, and may be the frames: {listed_links(dead)}. " if dead else ""
        raise SourceError(f"{file.filename}: {lost}Expected frames in one group entry*/{wanted or '<detector>'}/data; "
                          f"{'those' if found else 'the stacks'} that are there: "
                          f"{listed_stacks(found or stacks_in(file)) or 'none'}. Set {option('detector')}, or "
                          f"{option('intensities.key')}")

    def _take_recorded(self, file, name):
        """Fill `recorded_<name>` with a dataset that is known to hold it, and its factor where it has no unit."""
        group, known = getattr(self.p, f"recorded_{name}"), self._known[name]
        if group.file:
            return
        there = [key for key in known if isinstance(member(file, key), h5py.Dataset)]
        key = group.key or next(iter(there), None)
        node = member(file, key) if key else None
        if not isinstance(node, h5py.Dataset):
            return
        said = f"{file.filename}: {name} is {key}" + (f", of {' and '.join(there)}" if len(there) > 1 else "")
        self.p.record(f"recorded_{name}.key", key)
        if not unit_of(node) and group.multiplier is None:
            unit, factor = known.get(key, ("keV", 1.0) if name == "energy" else ("mm", 1e-3))
            said += f"; it has no unit and is taken as {unit}"
            self.p.record(f"recorded_{name}.multiplier", factor)
        self.note(said)

    def _motors(self, file, patterns):
        """Names of the datasets with what the two motors read, None where they are not there."""
        near = self.p.intensities.key.rpartition("/")[0] if self.p.intensities.key else ""
        for names in zip(self.p.motors.slow, self.p.motors.fast):
            for place in dict.fromkeys([near, *_places(file, deep=True)]):
                for pattern in patterns:
                    keys = [f"{place}/{pattern.format(name)}" for name in names]
                    nodes = [member(file, key) for key in keys]
                    if all(isinstance(node, h5py.Dataset) for node in nodes) and max(node.size for node in nodes) > 1:
                        return keys
        return None

    def _factor(self, axis, multiplier):
        """What makes metres of the readings of a motor."""
        unit = axis.units
        if not unit and multiplier is None and not self.p.positions.unit:
            unit = self.p.motors.unit
            self.note(f"{axis.where} has no unit and is taken as {unit}")
        return self.metres(multiplier, unit, axis.where)

    def _scan_without(self, path):
        """The frames of a scan without light or sample."""
        with reading(path, "a NeXus file of GDA") as file:
            source = Hdf5Stack(path, self._frames_in(file))
        source.threads = self.threads or 1
        return source


def _members(file, place):
    node = file if not place else member(file, place)
    return list(node) if isinstance(node, h5py.Group) else []


def _places(file, *, deep):
    """Groups where GDA puts detectors and motors: the entries, what is in them, and in their `instrument`."""
    entries = sorted(name for name in file if name.startswith("entry"))
    instruments = [f"{entry}/instrument" for entry in entries]
    if not deep:
        return entries + instruments
    return ["", *entries, *(f"{place}/{name}" for place in entries + instruments for name in _members(file, place))]
