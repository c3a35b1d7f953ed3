"""Scans with arrays beside their frames: masks, dark and flat fields, monitors, and recorded geometry."""
from functools import reduce
from pathlib import Path

import numpy as np

from ptyprep import units
from ptyprep.arrays import IMAGES, Named, only_one, read_array
from ptyprep.errors import ParameterError, SourceError
from ptyprep.hdf5.files import dataset_in, reading, shape_of
from ptyprep.hdf5.guarded import is_hdf5
from ptyprep.params.declare import Group
from ptyprep.params.par import Par
from ptyprep.processing.corrections import Corrections, average, good_by_value, relative_flux
from ptyprep.processing.masks import shapes
from ptyprep.scan import PtyScan
from ptyprep.sources.array import ArrayFrames, NpyFile, npy_shape
from ptyprep.sources.formats import PLAIN
from ptyprep.sources.hdf5 import Hdf5Stack
from ptyprep.sources.recorded import in_pixels
from ptyprep.words.spelling import option

LARGEST_KEV = 150           # of photons without a unit; more is probably eV
SHOWN = 20          # numbers of frames in a note; info has them all


class Beside(PtyScan):
    """A scan beside whose frames masks, corrections and geometry lie in files. A `file` that is not given is that of
    the frames."""

    class mask(Group):
        """A mask of bad pixels besides the detector's own."""
        file: Path | None = Par(None, doc="HDF5, .npy, .mat or image file with the mask, (h, w) or one for each frame.")
        key: str | None = Par(None, doc="Its dataset. Non-zero is good, unless inverted.")
        invert: bool = Par(False, doc="Non-zero is bad.")
        bits: int | None = Par(None, gt=0, level=2, doc="Bits that make a pixel bad, added up; others do not count.")
        shapes: str | None = Par(None, doc="Bad pixels drawn as shapes, in raw pixels, such as "
                                           "'circle 512 500 20; rectangle 0 8 0 1028; polygon 0 0 9 0 9 9; "
                                           "line 512 500 0 480 6'; `not` before one takes what lies outside.")

    class darkfield(Group):
        """Counts without light, which are subtracted."""
        file: Path | None = Par(None, doc="HDF5, .npy, .mat or image file: (h, w), one for each frame, or others, "
                                          "which are averaged.")
        key: str | None = Par(None, doc="Its dataset.")
        average: bool | None = Par(None, level=2, doc="Average them. None: if they are not as many as the frames.")
        negative: str = Par("zero", choices=("zero", "keep", "mask"), level=2,
                            doc="What to do with counts below 0 after it is subtracted.")

    class flatfield(Group):
        """The response of each pixel, by which frames are divided, or what they are multiplied by."""
        file: Path | None = Par(None, doc="HDF5, .npy, .mat or image file: (h, w), one for each frame, or others, "
                                          "which are averaged.")
        key: str | None = Par(None, doc="Its dataset. A pixel that is not above 0 is bad.")
        average: bool | None = Par(None, level=2, doc="Average them. None: if they are not as many as the frames.")
        multiply: bool | None = Par(None, level=2, doc="Multiply by it instead of dividing. None: as the format of the "
                                                       "frames' file defines for its own flat field (DECTRIS: "
                                                       "multiply); divide by one of another file.")

    class normalisation(Group):
        """A monitor of the beam: frames are divided by its readings relative to their mean."""
        file: Path | None = Par(None, doc="HDF5 file, table or .npy array with a reading for each frame. Of a dataset "
                                          "(rows, columns, …) with several for each point of a raster the average is "
                                          "taken.")
        key: str | None = Par(None, doc="Its dataset or column.")
        index: int | None = Par(None, ge=0, level=2, doc="Which of the readings of a frame, in a dataset that holds "
                                                         "several for each.")
        sigma: float = Par(3.0, unit="", gt=0, doc="A reading that is further from the mean than so many standard "
                                                   "deviations is an outlier, as is one that is not above 0.")
        outliers: str = Par("normalise", choices=("normalise", "mask", "drop", "raise"),
                            doc="Outliers' frames: normalise them as all others (one that is not above 0 is an error), "
                                "keep them with weight 0, leave them out, or stop. They are named in any case.")

    class recorded_energy(Group):
        """Where the energy was recorded."""
        file: Path | None = Par(None, level=2, doc="HDF5 file.")
        key: str | None = Par(None, level=2, doc="Its dataset, with one number, or one for each outer_index.")
        multiplier: float | None = Par(None, level=2, doc="What makes keV of it. None: the unit in the file, else 1.")
        offset: float = Par(0.0, unit="keV", level=2, doc="Added to it.")

    class recorded_distance(Group):
        """Where the distance from sample to detector was recorded."""
        file: Path | None = Par(None, level=2, doc="HDF5 file.")
        key: str | None = Par(None, level=2, doc="Its dataset, with one number.")
        multiplier: float | None = Par(None, level=2, doc="What makes metres of it. None: the unit in the file, "
                                                          "else 1.")

    class recorded_psize(Group):
        """Where the pixel size was recorded."""
        file: Path | None = Par(None, level=2, doc="HDF5 file.")
        key: str | None = Par(None, level=2, doc="Its dataset, with one number or (y, x).")
        multiplier: float | None = Par(None, level=2, doc="What makes metres of it. None: the unit in the file, "
                                                          "else 1.")

    class recorded_center(Group):
        """Where the optical axis was recorded."""
        file: Path | None = Par(None, level=2, doc="HDF5 file.")
        y_key: str | None = Par(None, level=2, doc="Dataset with its row on the raw frame, counted from 0 [pixel].")
        x_key: str | None = Par(None, level=2, doc="Dataset with its column [pixel].")

    _monitor = None

    def __init__(self, pars=None, /, *, comm=None, **keywords):
        super().__init__(pars, comm=comm, **keywords)
        self._asked = set()         # groups of parameters that a hook of ours has read, which a recipe may override

    # --- hooks --------------------------------------------------------------------------------------

    def load_geometry(self):
        found = dict(super().load_geometry())
        for name, unit in (("energy", "keV"), ("distance", "m"), ("psize", "m")):
            group = getattr(self.p, f"recorded_{name}")
            given = self.p.given(name) and getattr(self.p, name) is not None
            if (group.file or group.key) and not given:
                found[name] = self._recorded(f"recorded_{name}", unit)
        group = self.p.recorded_center
        if group.file or group.y_key or group.x_key:
            psize = self.p.psize if self.p.given("psize") else found.get("psize")
            sizes = (None, None) if psize is None else np.broadcast_to(psize, 2).tolist()
            found["center"] = tuple(self._recorded_pixel(f"recorded_center.{axis}_key", group.file, key, size)
                                    for axis, key, size in (("y", group.y_key, sizes[0]), ("x", group.x_key, sizes[1])))
        return found

    def load_weight(self):
        self._asked.add("mask")
        recorded, group = super().load_weight(), self.p.mask
        masks = [] if recorded is None else [np.asarray(recorded) > 0]
        if group.invert and group.bits:
            raise ParameterError(f"{option('mask.invert')} and {option('mask.bits')} were both given: leave out one of "
                                 "them; bits are bad ones")
        if (group.file or group.key) and self._per_frame("mask") is None:
            masks.append(good_by_value(self._image("mask"), -1 if group.invert else group.bits))
        if group.shapes:
            if self.source is None:
                raise ParameterError(f"{option('mask.shapes')} needs a source, whose frames' size is known")
            drawn = shapes(group.shapes, tuple(self.source.shape[-2:]))
            if not drawn.any():
                self.note(f"{option('mask.shapes', group.shapes)} covers no pixel of frames of "
                          f"{self.source.shape[-2:]}")
            masks.append(~drawn)
        for mask in masks:
            if self.source is not None and mask.shape != tuple(self.source.shape[-2:]):
                raise SourceError(f"{group.file}: the mask has shape {mask.shape}, the frames have "
                                  f"{self.source.shape[-2:]}")
        return reduce(np.logical_and, masks) if masks else None

    def load_corrections(self):
        p, made = self.p, {}
        for name, group in (("dark", "darkfield"), ("flat", "flatfield")):
            if getattr(p, group).file or getattr(p, group).key:
                self._refuse_applied(group)
                stack = None if getattr(p, group).average else self._per_frame(group)
                made[name] = self._image(group, averaged=True) if stack is None else stack
        if "flat" in made:
            made["multiply"] = self._multiplies()
        if (p.mask.file or p.mask.key) and (stack := self._per_frame("mask")) is not None:
            made |= {"mask": stack, "bad_bits": -1 if p.mask.invert else p.mask.bits}
        if (flux := self.flux()) is not None:
            relative, outliers, policy = *flux, p.normalisation.outliers
            made["monitor"] = np.where(outliers & (policy != "normalise"), 1.0, relative)
            if policy == "mask":
                made["blank"] = outliers
        return Corrections(**made, negative=p.darkfield.negative) if made else None

    def _refuse_applied(self, group):
        """Not twice: the detector's file may say that its own field is applied already."""
        named, applied = getattr(self.p, group), getattr(self.source, "applied", {})
        by = applied.get("/" + named.key.strip("/")) if named.key and self._is_own(group) else None
        if by:
            raise ParameterError(f"{self.where}{option(f'{group}.key', named.key)}: it is applied already, by {by} in "
                                 f"the file; leave {option(f'{group}.key')} out")

    def _multiplies(self):
        """Whether counts are multiplied by the flat field."""
        own = self._is_own("flatfield") and getattr(self.source, "format", PLAIN).flat == "multiply"
        return own if self.p.flatfield.multiply is None else self.p.flatfield.multiply

    def _is_own(self, group):
        """Whether a group's file is that of the frames, named or not."""
        file, path = getattr(self.p, group).file, getattr(self.source, "path", None)
        return file is None or path is not None and file.resolve() == Path(path).resolve()

    # --- arrays beside the frames -----------------------------------------------------------------------

    def _file(self, name):
        group = getattr(self.p, name)
        if group.file is not None:
            return group.file
        if self.source is None:
            raise ParameterError(f"{option(f'{name}.key')} was given, and there is no file of frames: set "
                                 f"{option(f'{name}.file')} too")
        return self.source.path

    def named(self, name, dims=None):
        """An array beside the frames, a `Named`, for a group of parameters: normalisation, framefilter, mask and so on.
        A recipe whose arrays lie elsewhere answers this for the groups that it knows; it is asked where the user gave
        a file or a key. Of files that are joined the arrays are those of each.

        dims : how many dimensions it may have, a tuple; None: any
        """
        group, parts = getattr(self.p, name), getattr(self.source, "parts", None)
        if group.file is not None or not parts:
            path = self._file(name)
            return read_array(path, group.key, parameter=f"{name}.key", dims=dims, like_frames=self.like_frames(path))
        found = [read_array(path, group.key, parameter=f"{name}.key", dims=dims, like_frames=self.like_frames(path))
                 for path, _, _ in parts]
        if name in ("normalisation", "framefilter"):
            each = [self._for_each(name, named, count) for named, (_, count, _) in zip(found, parts)]
            return found[0]._replace(values=np.concatenate(each), columns=())
        if not all(np.array_equal(named.values, found[0].values, equal_nan=True) for named in found):
            raise SourceError(f"{found[0].where} is another one in the files that are joined: set "
                              f"{option(f'{name}.file')} to the one that holds for all")
        return found[0]

    def _image(self, name, averaged=False):
        """An array of the detector's size; (1, h, w) counts as one. `averaged`: of several the average, NaN where no
        frame has a believable count."""
        found = self.named(name, IMAGES)
        values = self.inner(found.values, lambda shape: len(shape) == 2, found.where)
        if averaged and values.ndim > 3:
            values = self.inner(values, lambda shape: len(shape) == 3, found.where)
        several = values.ndim > 2 and values.shape[:-2] != (1,) * (values.ndim - 2)
        if averaged and (not several or getattr(self.p, name).average is not False):
            if several:
                self.note(f"{found.where}: the average of {int(np.prod(values.shape[:-2]))} is taken")
            return average(values.reshape(-1, *values.shape[-2:]))
        if several:
            raise SourceError(f"{found.where} has shape {found.values.shape}; expected (h, w), or one for each of the "
                              f"{self.source.shape[0] if self.source else 'scan'} frames")
        return values.reshape(values.shape[-2:])

    def _per_frame(self, name):
        """A source of as many frames as the scan has, where a file has that; None where it has another number."""
        group = getattr(self.p, name)
        path = self._file(name)
        joined = group.file is None and getattr(self.source, "parts", None)
        if self.source is None or joined or not path.is_file():
            return None
        if is_hdf5(path):
            shape = _shape_of(path, group.key)
        elif path.suffix == ".npy":
            shape = npy_shape(path)
        elif path.suffix == ".mat":
            values = self.named(name, IMAGES).values
            shape = values.shape
        else:
            return None
        if shape is None or len(shape) < 3 or shape[-2:] != tuple(self.source.shape[-2:]):
            return None
        lot = self.lot_of(shape[:-2], f"{path}: {group.key or name}")
        if lot is None:
            return None
        if is_hdf5(path):
            stack = Hdf5Stack(path, group.key, *lot)
            if stack.turned and not getattr(self.source, "turned", False):
                self._note_matlab(path, shape)
            return stack
        if path.suffix == ".npy":
            return NpyFile(path, *lot)
        stack = ArrayFrames(values[lot], str(path))
        stack.files = [path]
        return stack

    def lot_of(self, lead, where):
        """Of images along axes `lead` those that are one for each frame: () for all of them, None for none. A recipe
        whose frames are one of several lots (see `inner`) answers with the place of theirs, (place,)."""
        return () if np.prod(lead) == self.source.shape[0] > 1 else None

    def each(self, name):
        """One number for each frame (n,): an array of as many, or one of several for each, of which the group's `index`
        says which. Of a monitor of a raster the average of several is taken, as PtyPy does."""
        count = self.points() if self.source is None else self.source.shape[0]
        return self._for_each(name, self.named(name), count)

    def _for_each(self, name, found, count):
        values = np.asarray(self.inner(found.values, lambda shape: any(
            np.prod(shape[:k]) == count for k in range(1, len(shape) + 1)), found.where), float)
        index, named = getattr(self.p, name).index, any(not column.isdigit() for column in found.columns)
        if index is None and not named and count in (None, values.size):
            return values.ravel()
        lead = next((k for k in range(1, values.ndim + 1) if np.prod(values.shape[:k]) == count), None)
        if lead is None:
            raise SourceError(f"{found.where} has shape {values.shape}; expected a number for each of the {count} "
                              f"frames")
        several = values.reshape(count, -1)
        if index is not None:
            if index >= several.shape[1]:
                raise SourceError(f"{found.where} of shape {values.shape} has no number {index} for each frame. Set "
                                  f"{option(f'{name}.index')} lower")
            return several[:, index]
        if name == "normalisation" and lead > 1:
            self.note(f"{found.where} of shape {values.shape}: several numbers for each frame are averaged")
            return several.mean(axis=1)
        hint = f"Set {option(f'{name}.key')} to one of its columns {', '.join(found.columns)}" if found.columns else \
            f"Set {option(f'{name}.index')} to 0 … {several.shape[1] - 1}"
        raise SourceError(f"{found.where} has {several.shape[1]} numbers for each frame: which of them is meant? "
                          f"{hint}")

    def flux(self):
        """(flux relative to its mean, outliers) of the monitor, each for every frame; None without."""
        group = self.p.normalisation
        if not (group.file or group.key):
            return None
        if self._monitor is None:
            relative, outliers = relative_flux(self.each("normalisation"), group.sigma)
            numbers = np.flatnonzero(outliers)
            useless = np.flatnonzero(~(np.isfinite(relative) & (relative > 0)))
            self.report["normalisation"] = {"outliers": numbers, "policy": group.outliers}
            if len(numbers):
                said = f"monitor readings beyond {group.sigma:g} sigma, or not above 0: frames {listed(numbers)}"
                if group.outliers == "raise" or group.outliers == "normalise" and len(useless):
                    raise SourceError(f"{self.where}{said}. "
                                      + (f"By those of {listed(useless)} nothing can be divided. " if len(useless)
                                         else "") + f"Set {option('normalisation.outliers', 'mask', 'drop')}")
                self.note(f"{said}; {option('normalisation.outliers', group.outliers)}")
            self._monitor = np.where(outliers & ~(relative > 0), 1.0, relative), outliers
        return self._monitor

    def inner(self, values, fits, where):
        """An array as it belongs to these frames. Where they are one of several lots of frames along an outer axis (a
        tomography angle, an energy), of an array with that axis the same place; see `OuterScan`.

        fits : whether an array of that shape belongs to the frames as it is, fits(shape)
        where : what array it is, for messages
        """
        return values

    def like_frames(self, path):
        """Whether an array in a file goes with the frames element by element, where MATLAB wrote both; of its shape in
        HDF5, see `read_array`. It has a number for each frame, or the outer axis in front. Where MATLAB wrote only the
        array, the user is told."""
        source = self.source
        counts = {part: count for part, count, _ in getattr(source, "parts", None) or ()}

        def fits(shape):
            if not getattr(source, "turned", False):
                self._note_matlab(path, shape)
                return False
            outer = getattr(source, "outer_size", None)
            return np.prod(shape) == counts.get(path, source.shape[0]) or bool(outer) and shape[:1] == (outer,)
        return fits

    def _note_matlab(self, path, shape):
        note = f"{path}: MATLAB wrote it, and its arrays are taken as MATLAB shows them"
        if len(shape) > 1 and note not in self.notes:
            self.note(note)

    def points(self):
        """How many scan points there are for which a frame and a position may be; None where nobody knows."""
        counts = [] if self.positions is None else [len(self.positions)]
        if self.source is not None and (not counts or self.source.progress()[1]):
            counts.append(self.source.shape[0])
        return min(counts, default=None)

    # --- geometry -------------------------------------------------------------------------------------

    def quantity(self, quantity, *found, usual):
        """Values of a quantity of `units.QUANTITIES` that a file records, in keV or m; None where one of them is not
        there or cannot be, which a note tells.

        found : as `hdf5.scalar` gives it, each
        usual : the unit at this beamline where the file has none; None where that is not known
        """
        values, reasons = units.recorded_each(quantity, found, usual)
        self.note(*reasons)
        return values

    def _recorded(self, name, unit):
        """A number of the geometry, or two, in a unit."""
        group = getattr(self.p, name)
        found = self._one_number(f"{name}.key", group.file, group.key, most=2 if name == "recorded_psize" else 1)
        if group.multiplier is not None:
            values = [value * group.multiplier for value in found.values.tolist()]
        else:
            each = [(value, found.units or "", found.where) for value in found.values.tolist()]
            if unit == "keV" and not found.units and each[0][0] > LARGEST_KEV and not self.p.electron_data:
                raise SourceError(f"{found.where} is {each[0][0]:g} and has no unit: keV, or eV? Set "
                                  f"{option(f'{name}.multiplier')}, 1e-3 for eV, or {option('energy')}")
            values, reasons = units.recorded_each(name.removeprefix("recorded_"), each, unit)
            if values is None:
                raise SourceError(f"{reasons[0]}, or {option(f'{name}.multiplier')}")
            if not found.units:
                self.note(f"{found.where} has no unit and is taken as {unit}")
        values = [value + getattr(group, "offset", 0) for value in values]
        return values[0] if len(values) == 1 else tuple(values)

    def _recorded_pixel(self, parameter, file, key, size):
        """One coordinate of the optical axis [pixel], from pixels, as it is without a unit, or from a length."""
        found = self._one_number(parameter, file, key)
        at = in_pixels(found.values.item(), found.units or "pixel", size)
        if at is None:
            raise SourceError(f"{found.where} is in {found.units!r}; expected pixels, or a length where the pixel size "
                              f"is known. Set {option('center')}")
        return at

    def _one_number(self, parameter, file, key, most=1):
        """One number by name, as an array (1,), or up to so many; of files that are joined the same in each."""
        path = file or (self.source.path if self.source else None)
        if path is None or key is None:
            raise ParameterError(f"{option(parameter)} is not set, or no file for it")
        found = read_array(path, key, parameter=parameter, like_frames=self.like_frames(path))
        for other, _, _ in (getattr(self.source, "parts", None) or ()) if file is None else ():
            there = read_array(other, key, parameter=parameter, like_frames=self.like_frames(other))
            if there.units != found.units or not np.allclose(there.values, found.values, rtol=1e-6, atol=0):
                raise SourceError(f"{there.where} is {there.values.ravel()[:2]} {there.units or ''}, and {found.where} "
                                  f"{found.values.ravel()[:2]} {found.units or ''}: files that are joined should have "
                                  f"the same. Join others, or give the value")
        values = np.asarray(self.inner(found.values, lambda shape: np.prod(shape) <= 1, found.where), float).ravel()
        if not 1 <= values.size <= most:
            raise SourceError(f"{found.where} holds {values.size} numbers; expected "
                              f"{'one' if most == 1 else 'one or two'}")
        return Named(values, found.units, found.where)


def _shape_of(path, key):
    """The shape of a dataset, None where it is not named and cannot be told."""
    with reading(path) as file:
        key = only_one(file, IMAGES) if key is None else key
        node = None if key is None else file.get(key, getlink=True)
        return None if node is None else shape_of(dataset_in(file, key))


def listed(numbers):
    """Numbers of frames for a note: the first ones, and how many there are."""
    shown = ", ".join(map(str, numbers[:SHOWN]))
    return f"{shown} … ({len(numbers)} in all)" if len(numbers) > SHOWN else shown
