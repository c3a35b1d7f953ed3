"""FileScan: a scan whose positions, mask and corrections lie in files, in any dataset or column; for most recipes."""
from pathlib import Path

import numpy as np

from ptyprep.arrays import Named, columns_of, is_spec, numbers_in, read_array
from ptyprep.correct import Corrections, relative_flux
from ptyprep.errors import ParameterError, PositionError, SourceError
from ptyprep.masks import shapes
from ptyprep.params import Array, Group, Par
from ptyprep.positions import (
    AXES,
    by_clock,
    by_trigger,
    count_positions,
    fill_gaps,
    pair_positions,
    raster_of,
    turn,
    unit_in_metres,
)
from ptyprep.reading import read
from ptyprep.scan import PtyScan
from ptyprep.sources.array import NpyFile
from ptyprep.sources.hdf5 import Hdf5Stack, dataset_in, is_hdf5, reading

SHOWN = 20          # numbers of frames in a note; info has them all


class FileScan(PtyScan):
    """A scan whose frames, positions, mask and corrections are in files. A recipe answers `open`, and the rest is
    parameters. A `file` that is not given is that of the frames."""

    class positions(Group):
        """Where the positions are, and how they lie. Positions are those of the illumination on the object."""
        file: Path | None = Par(None, level=0,
                                doc="HDF5 file, text or CSV table, SPEC file, or .npy array (n, 2) with the "
                                    "positions; none for the file of the frames.")
        slow_key: str | None = Par(None, level=0,
                                   doc="Dataset of the slow axis (y), or the name or number of its column; of a "
                                       "SPEC file number of the scan and column, such as 12/samy.")
        slow_multiplier: float | None = Par(None, doc="What makes metres of the slow axis; instead of a unit.")
        slow_index: int | None = Par(None, ge=0, level=2,
                                     doc="Column of the slow axis in a dataset that holds several.")
        fast_key: str | None = Par(None, level=0,
                                   doc="Dataset of the fast axis (x), or the name or number of its column.")
        fast_multiplier: float | None = Par(None, doc="What makes metres of the fast axis; instead of a unit.")
        fast_index: int | None = Par(None, ge=0, level=2,
                                     doc="Column of the fast axis in a dataset that holds several.")
        unit: str | None = Par(None, doc="Unit of the readings. None: as the file says, else metres.")
        swap: bool = Par(False, doc="Exchange slow and fast; done first.")
        flip_y: bool = Par(False, doc="Change the sign of y: for sample motion, or a motor that runs the other way.")
        flip_x: bool = Par(False, doc="Change the sign of x.")
        skew: float = Par(0.0, unit="deg", level=2, doc="How far the x axis leans towards y; done after the signs.")
        angle: float = Par(0.0, unit="deg", level=2, doc="Turn the positions from x towards y; done last.")
        skip: int = Par(1, ge=1, doc="Take every n-th position; of a raster in both directions.")
        trigger_key: str | None = Par(None, level=2,
                                      doc="Dataset or column with the number of the frame that each reading belongs "
                                          "to.")
        trigger_start: int = Par(0, level=2, doc="Number of the first frame in trigger_key; readings with lower ones, "
                                                 "from before the first exposure, are left out.")
        trigger_reduce: str = Par("mean", choices=("mean", "median", "ends"), level=2,
                                  doc="Position of a frame: the mean or the median of its readings, or the middle "
                                      "between the first and the last.")
        time_key: str | None = Par(None, level=2,
                                   doc="Dataset or column with the time of each reading. Positions are interpolated "
                                       "to the times of the frames.")
        frame_time_key: str | None = Par(None, level=2,
                                         doc="Dataset with the time of each frame, in the file of the frames; of the "
                                             "same clock and unit as time_key.")
        mismatch: str = Par("raise", choices=("raise", "first", "drop", "interpolate"),
                            doc="What to do where frames and positions are not one to one: stop; take the first of "
                                "both as long as there are both; leave out frames without a position; or interpolate "
                                "those between two that have one. The file's info lists them.")

        class bounding_box(Group):
            """The part of the scan to keep."""
            slow_axis_bounds: int | tuple[int, int] | None = Par(
                None, ge=0, level=2, doc="Rows of the raster: first, or first and last, which is excluded.")
            fast_axis_bounds: int | tuple[int, int] | None = Par(
                None, ge=0, level=2, doc="Columns of the raster, or frames of a list: first, or first and last, which "
                                         "is excluded.")
            y: tuple[float, float] | None = Par(None, unit="m", level=2, doc="Smallest and largest y that is kept.")
            x: tuple[float, float] | None = Par(None, unit="m", level=2, doc="Smallest and largest x that is kept.")

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
        negative: str = Par("zero", choices=("zero", "keep"), level=2, doc="What becomes of counts below 0.")

    class flatfield(Group):
        """The response of each pixel, by which frames are divided."""
        file: Path | None = Par(None, doc="HDF5, .npy, .mat or image file: (h, w), one for each frame, or others, "
                                          "which are averaged.")
        key: str | None = Par(None, doc="Its dataset. A pixel that is not above 0 is bad.")
        average: bool | None = Par(None, level=2, doc="Average them. None: if they are not as many as the frames.")

    class normalisation(Group):
        """A monitor of the beam: frames are divided by its readings relative to their mean."""
        file: Path | None = Par(None, doc="HDF5 file, table or .npy array with a reading for each frame; where there "
                                          "are several for each, they are averaged.")
        key: str | None = Par(None, doc="Its dataset or column.")
        sigma: float = Par(3.0, unit="", gt=0, doc="A reading that is further from the mean than so many standard "
                                                   "deviations is an outlier, as is one that is not above 0.")
        outliers: str = Par("normalise", choices=("normalise", "mask", "drop", "raise"),
                            doc="Outliers' frames: normalise them as all others (one that is not above 0 is an error), "
                                "keep them with weight 0, leave them out, or stop. They are named in any case.")

    class framefilter(Group):
        """Which frames are wanted."""
        file: Path | None = Par(None, level=2, doc="HDF5 file, table or .npy array with a number for each frame.")
        key: str | None = Par(None, level=2, doc="Its dataset or column. Above 0 is wanted.")

    class frameorder(Group):
        """In what order frames are wanted."""
        indices: Array | None = Par(None, unit="", level=2,
                                    doc="Places in what bounds, skip and filter leave, counted from 0, in the order of "
                                        "the output. A frame may come twice.")

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

    positions_unit = None       # a recipe's class may say what readings are in where neither the user nor the file does

    # --- hooks --------------------------------------------------------------------------------------

    def load_geometry(self):
        found = dict(super().load_geometry())
        for name, unit in (("energy", "keV"), ("distance", "m"), ("psize", "m")):
            group = getattr(self.p, f"recorded_{name}")
            if group.file or group.key:
                found[name] = self._recorded(f"recorded_{name}", unit)
        group = self.p.recorded_center
        if group.file or group.y_key or group.x_key:
            found["center"] = tuple(self._one_number(f"recorded_center.{axis}_key", group.file, key).values.item()
                                    for axis, key in (("y", group.y_key), ("x", group.x_key)))
        return found

    def load_positions(self):
        scans = self._scans()
        found = [self._placed(*scan) for scan in scans]
        self._rasters = [raster for _, raster in found]
        if any(positions is None for positions, _ in found):
            return None
        return self._reconciled(np.concatenate([self._as_many(positions, frames, path) for (positions, _), (
            path, frames, _) in zip(found, scans)]))

    def select(self):
        p, frames = self.p, self._frames()
        if frames is not None and self.positions is not None and len(self.positions) != frames:
            return None         # and that will be an error
        box, keep = p.positions.bounding_box, self._wanted()
        asked = (p.positions.skip > 1, box.slow_axis_bounds, box.fast_axis_bounds, box.y, box.x, p.frameorder.indices)
        if keep is None and not any(wish is not None and wish is not False for wish in asked):
            return None
        if frames is None:
            raise ParameterError("positions.skip, bounds, filter and order need to know how many scan points there "
                                 "are: give positions, or a source")
        points = self._cut_raster(p.positions.skip, box.slow_axis_bounds, box.fast_axis_bounds)
        for axis, bounds in ((0, box.y), (1, box.x)):
            if bounds is not None:
                if self.positions is None:
                    raise PositionError("positions.bounding_box: the positions come with the frames, so that a box in "
                                        "metres cannot be cut before; use frames, or bounds in numbers")
                at = self.positions[points, axis]
                points = points[(at >= min(bounds)) & (at <= max(bounds))]
        if keep is not None:
            points = points[keep[points]]
        order = p.frameorder.indices
        if order is not None:
            odd = order[(order < 0) | (order >= len(points)) | (order != np.round(order))]
            if odd.size:
                raise ParameterError(f"frameorder.indices holds {odd.flat[0]:g}; expected places 0 to "
                                     f"{len(points) - 1}")
            points = points[order.astype(int).ravel()]
        return points

    def load_weight(self):
        recorded, group = super().load_weight(), self.p.mask
        masks = [] if recorded is None else [np.asarray(recorded) > 0]
        if (group.file or group.key) and self._per_frame("mask") is None:
            mask = self._image("mask")
            masks.append(mask == 0 if group.invert else (mask.astype(np.int64) & group.bits) == 0 if group.bits else
                         mask != 0)
        if group.shapes:
            if self.source is None:
                raise ParameterError("mask.shapes needs a source, whose frames' size is known")
            masks.append(~shapes(group.shapes, tuple(self.source.shape[-2:])))
        for mask in masks:
            if self.source is not None and mask.shape != tuple(self.source.shape[-2:]):
                raise SourceError(f"{group.file}: the mask has shape {mask.shape}, the frames have "
                                  f"{self.source.shape[-2:]}")
        return np.logical_and.reduce(masks) if masks else None

    def load_corrections(self):
        p, made = self.p, {}
        for name, group in (("dark", "darkfield"), ("flat", "flatfield")):
            if getattr(p, group).file or getattr(p, group).key:
                stack = None if getattr(p, group).average else self._per_frame(group)
                made[name] = np.asarray(self._image(group, average=True), float) if stack is None else stack
        if (p.mask.file or p.mask.key) and (stack := self._per_frame("mask")) is not None:
            made |= {"mask": stack, "bad_bits": -1 if p.mask.invert else p.mask.bits}
        if (flux := self._flux()) is not None:
            relative, outliers, policy = *flux, p.normalisation.outliers
            made["monitor"] = np.where(outliers & (policy != "normalise"), 1.0, relative)
            if policy == "mask":
                made["blank"] = outliers
        return Corrections(**made, negative=p.darkfield.negative) if made else None

    def needs(self):
        return [(name, how if name != "positions" else
                 "positions.file (a table, or an HDF5 file with positions.slow_key and positions.fast_key)")
                for name, how in super().needs()]

    # --- positions ----------------------------------------------------------------------------------

    def _scans(self):
        """[(file with the positions or None, frames or None, raster or None)] of the scans that are joined."""
        file, parts = self.positions_file(), getattr(self.source, "parts", None)
        if file is None and parts:
            return [(path, count, None) for path, count in parts]
        if self.source is None:
            return [(file, None, None)]
        return [(file or getattr(self.source, "path", None), self.source.shape[0], self.source.grid)]

    def _placed(self, path, frames, grid):
        """(positions (n, 2), raster or None) of one scan; (None, raster) when nothing says where they are."""
        p, readings = self.p.positions, self.readings(path)
        if readings is None:
            return None, grid
        slow, fast = (self.inner(axis, lambda shape: np.prod(shape) in (frames, max(shape, default=1)))
                      for axis in readings)
        clock = self._clock(path, frames)
        if clock is not None:
            found, raster = clock(pair_positions(slow, fast, None)), None
        else:
            found = pair_positions(slow, fast, count_positions(slow, fast, frames))    # compared with frames later
            raster = raster_of(slow, fast, len(found), grid)
        return turn(found, swap=p.swap, flip_y=p.flip_y, flip_x=p.flip_x, skew=p.skew, angle=p.angle), raster

    def _clock(self, path, frames):
        """What makes a position for each frame of readings that have a frame number or a time; None without."""
        p = self.p.positions
        if p.trigger_key is None and p.time_key is None:
            if p.frame_time_key:
                raise ParameterError("positions.frame_time_key is given: set positions.time_key too, the times of the "
                                     "readings")
            return None
        if p.trigger_key and p.time_key:
            raise ParameterError("positions.trigger_key and positions.time_key were both given: leave out one of them")
        if frames is None:
            raise ParameterError("positions.trigger_key and positions.time_key need a source that knows how many "
                                 "frames there are")
        if p.trigger_key:
            numbers = self._list(path, p.trigger_key, "positions.trigger_key") - p.trigger_start
            return lambda readings: self._triggered(numbers, readings, frames)
        if p.frame_time_key is None:
            raise ParameterError("positions.time_key is given: set positions.frame_time_key too, the times of the "
                                 "frames")
        times = self._list(path, p.time_key, "positions.time_key")
        frame_times = self._list(self.source.path, p.frame_time_key, "positions.frame_time_key")
        if len(frame_times) != frames:
            raise PositionError(f"{self.source.path}: {p.frame_time_key} has {len(frame_times)} times, there are "
                                f"{frames} frames")
        return lambda readings: by_clock(times, readings, frame_times)

    def _triggered(self, numbers, readings, frames):
        start, early = self.p.positions.trigger_start, int((numbers < 0).sum())
        if early:
            self.note(f"position readings of triggers before {start} that are left out: {early}")
        found, count = by_trigger(numbers, readings, frames, self.p.positions.trigger_reduce)
        extra = np.unique(numbers[numbers >= frames]).astype(np.int64)
        usual = int(np.median(count[count > 0])) if (count > 0).any() else 0
        odd = np.flatnonzero((count != usual) & (count > 0))
        report = self.report.setdefault("positions", {})
        report |= {"readings_of_a_frame": usual, "frames_with_other_readings": odd,
                   "triggers_without_frame": extra + start}
        if len(odd):
            self.note(f"frames with another number of position readings than {usual}: {_listed(odd)}")
        if len(extra):
            self._complain(f"position readings of frames that are not there: {_listed(extra)}")
        return found

    def _complain(self, what):
        """Stop because of positions that do not match, or only say so, as `positions.mismatch` has it."""
        if self.p.positions.mismatch == "raise":
            raise PositionError(f"{self.where}{what}. Set positions.mismatch to drop or interpolate to go on")
        self.note(what)

    def _as_many(self, found, frames, path):
        """As many positions as a scan has frames, NaN for those without one, where a policy allows that. Each scan that
        is joined is looked at by itself, so that none moves the next."""
        policy, joined = self.p.positions.mismatch, getattr(self.source, "parts", None)
        if frames in (None, len(found)) or not self.source.progress()[1] or policy == "raise" and not joined:
            return found            # a single scan is refused where frames are counted
        both, said = min(frames, len(found)), f"{path}: {frames} frames but {len(found)} positions"
        if policy == "raise":
            raise PositionError(f"{said}, of one of {len(joined)} files that are joined. Mend its positions, or set "
                                f"positions.mismatch='first' to take the first {both} of both")
        if policy != "first":
            raise PositionError(f"{said}: without positions.trigger_key or positions.time_key nobody can tell which "
                                f"frames have none; positions.mismatch='first' takes the first {both} of both")
        self.note(f"{said}: the first {both} of both are taken")
        return np.concatenate([found[:both], np.full((frames - both, 2), np.nan)])

    def _reconciled(self, found):
        """Positions, NaN where there is none and a policy allows that."""
        policy, report = self.p.positions.mismatch, self.report.setdefault("positions", {})
        unknown = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if not len(unknown):
            self.report = {name: value for name, value in self.report.items() if value != {}}
            return found
        if policy == "interpolate":
            found = fill_gaps(found)
            filled = unknown[np.isfinite(found[unknown]).all(axis=1)]
            report["frames_interpolated"] = filled
            if len(filled):
                self.note(f"positions interpolated for frames {_listed(filled)}")
            unknown = np.setdiff1d(unknown, filled)
        report["frames_without_position"] = unknown
        if len(unknown):
            self._complain(f"frames without a position: {_listed(unknown)}")
        return found

    # --- which of them --------------------------------------------------------------------------------

    def _frames(self):
        """How many scan points there are, as far as anybody knows."""
        if self.source is not None and (self.positions is None or self.source.progress()[1]):
            return self.source.shape[0]
        return None if self.positions is None else len(self.positions)

    def _wanted(self):
        """bool (n,), which frames filter, monitor and positions leave; None for all."""
        p, keep = self.p, None
        if self.positions is not None:
            keep = np.isfinite(self.positions).all(axis=1)
        group = p.framefilter
        if group.file or group.key:
            wanted = self._each("framefilter") > 0
            self.note(f"framefilter leaves {wanted.sum()} of {len(wanted)} frames")
            keep = wanted if keep is None else keep & wanted
        if p.normalisation.outliers == "drop" and (flux := self._flux()) is not None:
            keep = ~flux[1] if keep is None else keep & ~flux[1]
        return None if keep is None or keep.all() else keep

    def _cut_raster(self, skip, rows, cols):
        """The scan points that bounds in numbers leave, and every `skip`-th of them."""
        points, start = [], 0
        counts = [count for _, count in getattr(self.source, "parts", None) or ()]
        if len(counts) != len(self._rasters):
            counts = [self._frames()]
        for count, raster in zip(counts, self._rasters):
            numbers = start + np.arange(count)
            start += count
            if raster is not None and raster[0] * raster[1] == count:
                points.append(numbers.reshape(raster)[_bounds(rows), _bounds(cols)][::skip, ::skip].ravel())
                continue
            if rows is not None:
                raise ParameterError(f"positions.bounding_box.slow_axis_bounds={rows}: these positions are a list and "
                                     f"no raster; fast_axis_bounds counts in it, or give y and x in metres")
            points.append(numbers[_bounds(cols)][::skip])
        return np.concatenate(points)

    # --- arrays beside the frames -----------------------------------------------------------------------

    def _file(self, group):
        if group.file is not None:
            return group.file
        if self.source is None:
            raise ParameterError("a key was given without a file, and there is no file of frames: set the file too")
        return self.source.path

    def named(self, name, dims=None):
        """An array beside the frames, a `Named`, for a group of parameters: normalisation, framefilter, mask and so on.
        A recipe whose arrays lie elsewhere answers this for the groups that it knows.

        dims : how many dimensions it may have, a tuple; None: any
        """
        group = getattr(self.p, name)
        return read_array(self._file(group), group.key, parameter=f"{name}.key", dims=dims)

    def _image(self, name, average=False):
        """An array of the detector's size; (1, h, w) counts as one, and of several the average if that is wanted."""
        found = self.named(name, (2, 3))
        values = self.inner(found.values, lambda shape: len(shape) == 2)
        if values.ndim == 3 and average and getattr(self.p, name).average is not False:
            if len(values) > 1:
                self.note(f"{found.where}: the average of {len(values)} is taken")
            values = values.mean(axis=0)
        values = values[0] if values.ndim == 3 and len(values) == 1 else values
        if values.ndim != 2:
            raise SourceError(f"{found.where} has shape {found.values.shape}; expected (h, w), or one for each of the "
                              f"{self.source.shape[0] if self.source else 'scan'} frames")
        return values

    def _per_frame(self, name):
        """A source of as many frames as the scan has, where a file has that; None where it has another number."""
        group = getattr(self.p, name)
        path = self._file(group)
        if path.suffix == ".npy" and self.source is not None:
            stack = np.load(path, mmap_mode="r", allow_pickle=False) if path.is_file() else np.zeros(0)
            return NpyFile(path) if stack.ndim > 2 and np.prod(stack.shape[:-2]) == self.source.shape[0] > 1 else None
        if self.source is None or not is_hdf5(path) or path.suffix == ".mat":
            return None
        found, n = _shape_of(path, group.key), self.source.shape[0]
        if found is None or len(found) < 3 or found[-2:] != tuple(self.source.shape[-2:]):
            return None
        if np.prod(found[:-2]) == n > 1:
            return Hdf5Stack(path, group.key)
        outer = getattr(self.p, "outer_index", None)
        if outer is not None and len(found) > 3 and found[0] == self.source.outer_size and np.prod(found[1:-2]) == n:
            return Hdf5Stack(path, group.key, outer)
        return None

    def _each(self, name):
        """One number for each frame: an array of as many, or with more axes behind, over which it is averaged."""
        found, count = self.named(name), self._frames()
        values = np.asarray(self.inner(found.values, lambda shape: any(
            np.prod(shape[:k]) == count for k in range(1, len(shape) + 1))), float)
        if count is None or values.size == count:
            return values.ravel()
        lead = next((k for k in range(1, values.ndim) if np.prod(values.shape[:k]) == count), None)
        if lead is None:
            raise SourceError(f"{found.where} has shape {values.shape}; expected a number for each of the {count} "
                              f"frames")
        self.note(f"{found.where} of shape {values.shape}: several numbers for each frame are averaged")
        return values.reshape(count, -1).mean(axis=1)

    def _flux(self):
        """(flux relative to its mean, outliers) of the monitor, each for every frame; None without."""
        group = self.p.normalisation
        if not (group.file or group.key):
            return None
        if not hasattr(self, "_monitor"):
            relative, outliers = relative_flux(self._each("normalisation"), group.sigma)
            numbers = np.flatnonzero(outliers)
            useless = np.flatnonzero(~(np.isfinite(relative) & (relative > 0)))
            self.report["normalisation"] = {"outliers": numbers, "policy": group.outliers}
            if len(numbers):
                said = f"monitor readings beyond {group.sigma:g} sigma, or not above 0: frames {_listed(numbers)}"
                if group.outliers == "raise" or group.outliers == "normalise" and len(useless):
                    raise SourceError(f"{self.where}{said}. "
                                      + (f"By those of {_listed(useless)} nothing can be divided. " if len(useless)
                                         else "") + "Set normalisation.outliers to mask or drop")
                self.note(f"{said}; normalisation.outliers={group.outliers!r}")
            self._monitor = np.where(outliers & ~(relative > 0), 1.0, relative), outliers
        return self._monitor

    def positions_file(self):
        """The file with the positions, None for that of the frames. A recipe that knows where its beamline puts them
        answers this where the user did not say."""
        return self.p.positions.file

    def readings(self, path):
        """Where the illumination was on the object, as motors have it: (slow, fast) [m], each with a reading for every
        frame or for every row and column of a raster; signs, axes and angles are set right afterwards. A recipe that
        knows its motors answers this, best where the parameters (this one) say nothing.

        path : what `positions_file` answers, else the file of the frames; None without any. Returns None where nobody
            says.
        """
        p = self.p.positions
        if path is None or self.positions_file() is None and p.slow_key is None and p.fast_key is None:
            return None
        if not path.is_file():
            raise PositionError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; positions.file should "
                                f"name an HDF5 file, a table or a .npy array")
        axes = ((p.slow_key, p.slow_index, p.slow_multiplier), (p.fast_key, p.fast_index, p.fast_multiplier))
        if is_hdf5(path) or is_spec(path):
            if p.slow_key is None or p.fast_key is None:
                raise PositionError(f"{path}: which dataset holds the positions? Set positions.slow_key and "
                                    f"positions.fast_key")
            found = [self._column(path, key, index) for key, index, _ in axes]
            named = [(np.asarray(values, float), units, where) for values, units, where in found]
        else:
            columns, units = columns_of(path)
            named = [(columns[key], units.get(key), f"{path}: {key}") for key in self._keys_in(columns, path)]
        return [values * self.metres(multiplier, units, where)
                for (values, units, where), (_, _, multiplier) in zip(named, axes)]

    def _column(self, path, key, index):
        found = read_array(path, key, parameter="positions.slow_key and positions.fast_key")
        if index is None:
            return found
        return found._replace(values=self.inner(found.values, lambda shape: len(shape) == 2)).column(index)

    def _keys_in(self, columns, path):
        p, there = self.p.positions, ", ".join(columns)
        keys = [p.slow_key, p.fast_key]
        if keys == [None, None]:
            lower = {name.lower(): name for name in columns}
            keys = next(([lower[a], lower[b]] for a, b in AXES if {a, b} <= lower.keys()), None)
            if keys is None and len(columns) == 2:
                keys = list(columns)
                self.note(f"{path}: column {keys[0]} is taken as y and {keys[1]} as x")
            if keys is None:
                raise PositionError(f"{path}: which of its columns {there} are y and x? Set positions.slow_key and "
                                    f"positions.fast_key")
        for key in keys:
            if key not in columns:
                raise PositionError(f"{path}: no column {key!r}; its columns of numbers are {there}. Set "
                                    f"positions.slow_key and positions.fast_key")
        return keys

    def metres(self, multiplier, recorded, where):
        """The factor that makes metres: the multiplier, else the unit given, else the one in the file."""
        given = self.p.positions.unit
        if multiplier is not None:
            if given:
                raise ParameterError(f"positions.unit={given!r} and a multiplier {multiplier:g} were both given: leave "
                                     f"out one of them")
            return multiplier
        if not given and not recorded and self.positions_unit is None:
            self.note(f"{where} has no unit and is taken as metres")
            return 1.0
        if given and recorded and given != recorded:
            self.note(f"{where} is in {recorded} by what the file says; positions.unit={given!r} is taken")
        try:
            return unit_in_metres(given or recorded or self.positions_unit)
        except PositionError as err:
            raise PositionError(f"{where}: {err}; set positions.unit") from None

    def inner(self, values, fits):
        """An array as it belongs to these frames. Where they are one of several lots of frames along an outer axis (a
        tomography angle, an energy), of an array with that axis the same place; see recipe hdf5.

        fits : whether an array of that shape belongs to the frames as it is, fits(shape)
        """
        return values

    def _list(self, path, key, parameter):
        """Numbers (k,) by name, for as many readings."""
        return np.asarray(read_array(path, key, parameter=parameter).values, float).ravel()

    # --- geometry -------------------------------------------------------------------------------------

    def _recorded(self, name, unit):
        """A number of the geometry, or two, in a unit."""
        group = getattr(self.p, name)
        found = self._one_number(f"{name}.key", group.file, group.key, most=2 if name == "recorded_psize" else 1)
        if group.multiplier is not None:
            values = [value * group.multiplier for value in found.values.tolist()]
        elif found.units:
            try:
                values = [read(f"{value!r} {found.units}", float, unit=unit) for value in found.values.tolist()]
            except ParameterError as err:
                raise SourceError(f"{found.where}: {err}. Set {name}.multiplier") from None
        else:
            self.note(f"{found.where} has no unit and is taken as {unit}")
            values = found.values.tolist()
        values = [value + getattr(group, "offset", 0) for value in values]
        return values[0] if len(values) == 1 else tuple(values)

    def _one_number(self, parameter, file, key, most=1):
        """One number by name, as an array (1,), or up to so many."""
        path = file or (self.source.path if self.source else None)
        if path is None or key is None:
            raise ParameterError(f"{parameter} is not set, or no file for it")
        found = read_array(path, key, parameter=parameter)
        values = np.asarray(self.inner(found.values, lambda shape: np.prod(shape) <= 1), float).ravel()
        if not 1 <= values.size <= most:
            raise SourceError(f"{found.where} holds {values.size} numbers; expected "
                              f"{'one' if most == 1 else 'one or two'}")
        return Named(values, found.units, found.where)


def _bounds(bounds):
    return slice(None) if bounds is None else slice(bounds, None) if isinstance(bounds, int) else slice(*bounds)


def _shape_of(path, key):
    """The shape of a dataset, None where it is not named and cannot be told."""
    with reading(path) as file:
        if key is not None:
            return dataset_in(file, key).shape
        there = list(numbers_in(file).values())
        return there[0] if len(there) == 1 else None


def _listed(numbers):
    """Numbers of frames for a note: the first ones, and how many there are."""
    shown = ", ".join(map(str, numbers[:SHOWN]))
    return f"{shown} … ({len(numbers)} in all)" if len(numbers) > SHOWN else shown
