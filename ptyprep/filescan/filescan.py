"""FileScan: a scan whose positions, mask and corrections lie in files, in any dataset or column; for most recipes."""
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ptyprep.arrays import columns_of, is_spec, read_array
from ptyprep.errors import ParameterError, PositionError, SourceError
from ptyprep.filescan.beside import Beside, listed
from ptyprep.hdf5.guarded import is_hdf5
from ptyprep.params.convert import Array
from ptyprep.params.declare import Group
from ptyprep.params.par import Par
from ptyprep.processing.positions import (
    Points,
    by_clock,
    by_trigger,
    count_positions,
    fill_gaps,
    pair_positions,
    raster_of,
    turn,
    unit_in_metres,
)
from ptyprep.tables.text import AXES, axes_in
from ptyprep.words.spelling import option

GUESSED = 0.01      # metres; positions without a unit that spread further are not taken as metres


class _Scan(NamedTuple):
    """One of the scans that are joined: the file with its positions or None, its frames and their raster as far as they
    are known, the number of its first frame, and the raw files whose frames these are."""
    path: Path | None
    frames: int | None
    grid: tuple | None = None
    start: int = 0
    raw: tuple = ()


class FileScan(Beside):
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
        axes: bool | None = Par(None, level=2,
                                doc="Whether the readings are the axes of a raster, one for each row and one for each "
                                    "column, instead of one for each frame. None: those of a table or of one dataset "
                                    "are not, and two datasets are where their sizes say so.")
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

    class framefilter(Group):
        """Which frames are wanted."""
        file: Path | None = Par(None, level=2, doc="HDF5 file, table or .npy array with a number for each frame.")
        key: str | None = Par(None, level=2, doc="Its dataset or column. Above 0 is wanted.")
        index: int | None = Par(None, ge=0, level=2, doc="Which of the numbers of a frame, in a dataset that holds "
                                                         "several for each.")

    class frameorder(Group):
        """In what order frames are wanted."""
        indices: Array | None = Par(None, unit="", level=2,
                                    doc="Places in what bounds, skip and filter leave, counted from 0, in the order of "
                                        "the output. A frame may come twice.")

    _rasters = _unit_guessed = None
    positions_unit = None       # a recipe's class may say what readings are in where neither the user nor the file does

    # --- hooks --------------------------------------------------------------------------------------

    def load_positions(self):
        self._asked.add("positions")
        scans = self._scans()
        found = [self._placed(scan) for scan in scans]
        self._rasters = [raster for _, raster in found]
        if any(positions is None for positions, _ in found):
            return None
        known = [positions[np.isfinite(positions).all(axis=1)] for positions, _ in found]
        spread = max((np.ptp(positions, axis=0).max() for positions in known if len(positions)), default=0)
        if self._unit_guessed and spread > GUESSED:
            raise PositionError(f"{self._unit_guessed} has no unit, and as metres the positions spread over {spread:g} "
                                f"m: set {option('positions.unit')}")
        return self._reconciled(np.concatenate([self._as_many(positions, scan) for (positions, _), scan in
                                                zip(found, scans)]))

    def select(self):
        p, frames = self.p, self.points()
        box, keep = p.positions.bounding_box, self._wanted()
        asked = (p.positions.skip > 1, box.slow_axis_bounds, box.fast_axis_bounds, box.y, box.x, p.frameorder.indices)
        if keep is None and not any(wish is not None and wish is not False for wish in asked):
            return None
        if frames is None:
            raise ParameterError(f"{option('positions.skip')}, bounds, filter and order need to know how many scan "
                                 "points there are: give positions, or a source")
        points = self._cut_raster(p.positions.skip, box.slow_axis_bounds, box.fast_axis_bounds)
        for axis, bounds in ((0, box.y), (1, box.x)):
            if bounds is not None:
                if self.positions is None:
                    raise PositionError(f"{option('positions.bounding_box.' + 'yx'[axis], bounds)}: the positions come "
                                        "with the frames, so that a box in metres cannot be cut before; use "
                                        f"{option('frames')}, or bounds in numbers, "
                                        f"{option('positions.bounding_box.fast_axis_bounds')}")
                at = self.positions[points, axis]
                points = points[(at >= min(bounds)) & (at <= max(bounds))]
        if keep is not None:
            points = points[keep[points]]
        order = p.frameorder.indices
        if order is not None:
            odd = order[(order < 0) | (order >= len(points)) | (order != np.round(order))]
            if odd.size:
                raise ParameterError(f"{option('frameorder.indices')} holds {odd.flat[0]:g}; expected places 0 to "
                                     f"{len(points) - 1}")
            points = points[order.astype(int).ravel()]
        return points

    def needs(self):
        return [(name, how if name != "positions" else
                 f"{option('positions.file')} (a table, or an HDF5 file with {option('positions.slow_key')} and "
                 f"{option('positions.fast_key')})")
                for name, how in super().needs()]

    @property
    def positions_origin(self):
        said, p = super().positions_origin, self.p.positions
        if said != "recorded" or not (p.file or p.slow_key or p.fast_key):
            return said
        if type(self).load_positions is not FileScan.load_positions and "positions" not in self._asked:
            return "from load_positions()"
        file = self.positions_file() or getattr(self.source, "path", None)
        keys = ", ".join(key for key in (p.slow_key, p.fast_key) if key)
        return ": ".join(filter(None, [str(file or ""), keys]))

    def _unused(self):
        yield from super()._unused()
        for group, hook, instead in (("positions", "load_positions", "readings()"), ("mask", "load_weight", "super()")):
            given = [name for name in self.p.origins() if name.startswith(f"{group}.") and self.p.given(name)
                     and not name.startswith(("positions.bounding_box.", "positions.skip"))]
            if given and group not in self._asked and (group == "mask" or self.p.positions_theory is None):
                yield (f"{self.recipe_name}.{hook}() does not read {', '.join(given)}: they change nothing. A recipe "
                       f"that uses {instead} has them")

    # --- positions ----------------------------------------------------------------------------------

    def _scans(self):
        """The scans that are joined, or the only one."""
        parts, source = getattr(self.source, "parts", None), self.source
        file = self.positions_file() if self.p.positions_theory is None else None
        if source is None:
            return [_Scan(file, None)]
        if file is None and parts:
            starts = np.cumsum([0, *(count for _, count, _ in parts)]).tolist()
            return [_Scan(path, count, grid, start, (path,)) for (path, count, grid), start in zip(parts, starts)]
        path = getattr(source, "path", None)
        raw = tuple(path for path, _, _ in parts) if parts else (path,)
        return [_Scan(file or path, source.shape[0], source.grid, 0, raw)]

    def _placed(self, scan):
        """(positions (n, 2), raster or None) of one scan; (None, raster) when nothing says where they are."""
        p, readings, frames = self.p.positions, self.readings(scan.path), scan.frames
        if readings is None:
            return None, scan.grid
        if p.trigger_key or p.time_key:     # as many readings as may be
            slow, fast = (self.inner(np.asarray(axis), _is_list, f"{scan.path}: positions") for axis in readings)
        else:
            slow, fast = self.inner_axes(*map(np.asarray, readings), scan)
        clock, axes = self._clock(scan), False if p.axes is None and isinstance(readings, Points) else p.axes
        if clock is not None:
            found, raster = clock(pair_positions(slow, fast, None)), None
        else:
            slow, fast = map(_without_end, (slow, fast)) if axes else (slow, fast)
            sizes = tuple(np.size(axis) for axis in (slow, fast))
            if scan.grid and scan.grid == sizes[::-1] != sizes:
                raise PositionError(f"{scan.path}: frames are a raster of {scan.grid[0]} x {scan.grid[1]}, but the "
                                    f"slow axis has {sizes[0]} readings and the fast one {sizes[1]}: exchange "
                                    f"{option('positions.slow_key')} and {option('positions.fast_key')}")
            if axes is False and len(set(sizes)) > 1:
                raise PositionError(f"{scan.path}: {sizes[0]} readings of the slow axis and {sizes[1]} of the fast "
                                    "one; expected as many of both. If they are the axes of a raster, set "
                                    f"{option('positions.axes', True)}")
            found = pair_positions(slow, fast, count_positions(slow, fast, frames, axes))   # compared with frames later
            raster = raster_of(slow, fast, len(found), scan.grid)
            if p.axes is None and frames is not None and len(found) < frames == sizes[0] * sizes[1]:
                self.note(f"{scan.path}: {len(found)} positions for {frames} frames: if they are the axes of a raster, "
                          f"set {option('positions.axes', True)}")
        return turn(found, swap=p.swap, flip_y=p.flip_y, flip_x=p.flip_x, skew=p.skew, angle=p.angle), raster

    def inner_axes(self, slow, fast, scan):
        """Readings of the two motors as they belong to the frames of one scan; as `inner`, of both together."""
        return slow, fast

    def _clock(self, scan):
        """What makes a position for each frame of readings that have a frame number or a time; None without."""
        p = self.p.positions
        if p.trigger_key is None and p.time_key is None:
            if p.frame_time_key:
                raise ParameterError(f"{option('positions.frame_time_key')} is given: set "
                                     f"{option('positions.time_key')} too, the times of the readings")
            return None
        if p.axes:
            raise ParameterError(f"{option('positions.axes')} says that there is a reading for each row and column, "
                                 f"and {option('positions.trigger_key')} or {option('positions.time_key')} that each "
                                 "belongs to a frame: leave out one of them")
        if p.mismatch == "first":
            raise ParameterError(f"{option('positions.mismatch', 'first')} goes by the order of frames and positions, "
                                 f"and {option('positions.trigger_key')} or {option('positions.time_key')} say which "
                                 f"belong together: set {option('positions.mismatch', 'drop', 'interpolate')}")
        if p.trigger_key and p.time_key:
            raise ParameterError(f"{option('positions.trigger_key')} and {option('positions.time_key')} were both "
                                 "given: leave out one of them")
        if scan.frames is None:
            raise ParameterError(f"{option('positions.trigger_key')} and {option('positions.time_key')} need a source "
                                 "that knows how many frames there are")
        if p.trigger_key:
            numbers = self._list(scan.path, p.trigger_key, "positions.trigger_key")[0] - p.trigger_start
            return lambda readings: self._triggered(numbers, readings, scan)
        if p.frame_time_key is None:
            raise ParameterError(f"{option('positions.time_key')} is given: set {option('positions.frame_time_key')} "
                                 "too, the times of the frames")
        times, unit = self._list(scan.path, p.time_key, "positions.time_key")
        parts = [self._list(raw, p.frame_time_key, "positions.frame_time_key") for raw in scan.raw]
        frame_times = np.concatenate([part for part, _ in parts])
        if other := next((other for _, other in parts if unit and other and other != unit), None):
            raise PositionError(f"{scan.path}: {p.time_key} is in {unit} and {p.frame_time_key} in {other}; expected "
                                f"times of one clock, in one unit")
        if len(frame_times) != scan.frames:
            raise PositionError(f"{scan.raw[0]}: {p.frame_time_key} has {len(frame_times)} times, there are "
                                f"{scan.frames} frames")
        return lambda readings: self._timed(times, readings, frame_times, scan)

    def _timed(self, times, readings, frame_times, scan):
        """One position for each frame of a scan, by the times of readings and frames."""
        found, p = by_clock(times, readings, frame_times), self.p.positions
        if not np.isfinite(found).any():
            spans = [f"{np.nanmin(some):.10g} to {np.nanmax(some):.10g}" if np.isfinite(some).any() else "unknown"
                     for some in (frame_times, times)]
            raise PositionError(f"{scan.path}: no frame was taken between two readings of the positions: the times of "
                                f"the frames ({p.frame_time_key}) are {spans[0]}, those of the readings "
                                f"({p.time_key}) {spans[1]}. Expected times of one clock, in one unit")
        return found

    def _triggered(self, numbers, readings, scan):
        """One position for each frame of a scan; what does not match is reported."""
        start, early = self.p.positions.trigger_start, int((numbers < 0).sum())
        if early:
            self.note(f"position readings of triggers before {start} that are left out: {early}")
        found, count = by_trigger(numbers, readings, scan.frames, self.p.positions.trigger_reduce)
        self._ask_first_trigger(numbers[numbers >= 0], scan)
        extra = np.unique(numbers[numbers >= scan.frames]).astype(np.int64)
        usual = int(np.median(count[count > 0])) if (count > 0).any() else 0
        odd = np.flatnonzero((count != usual) & (count > 0)) + scan.start
        report = self.report.setdefault("positions", {})
        for name, new in (("readings_of_a_frame", [usual]), ("frames_with_other_readings", odd),
                          ("triggers_without_frame", extra + start)):
            report[name] = np.concatenate([report.get(name, np.zeros(0, np.int64)), new]).astype(np.int64)
        if len(odd):
            self.note(f"frames with another number of position readings than {usual}: {listed(odd)}")
        if len(extra):
            what = (f"triggers {int(numbers[numbers >= 0].min()) + start} to {int(numbers.max()) + start} have "
                    f"positions, and there are {scan.frames} frames")
            if self.p.positions.mismatch == "raise":
                raise PositionError(f"{self.where}{what}: none for triggers {listed(extra + start)}. Set "
                                    f"{option('positions.trigger_start')}, or "
                                    f"{option('positions.mismatch', 'drop', 'interpolate')} to go on")
            self.note(f"{what}: triggers without a frame {listed(extra + start)}")
        return found

    def _ask_first_trigger(self, numbers, scan):
        """Stop where nothing proves which trigger was the first frame's: the lowest one was lost if counting began
        there, or there is one more than frames, as of a counter that begins before the first exposure.

        numbers : (k,), counted from positions.trigger_start
        """
        start = self.p.positions.trigger_start
        if not numbers.size:
            raise PositionError(f"{self.where}no reading has a trigger from {start} on. Set "
                                f"{option('positions.trigger_start')} to the number of the first frame's")
        first, last = int(numbers.min()), int(numbers.max())
        if self.p.given("positions.trigger_start") or not first and (last != scan.frames or not (numbers == 1).any()):
            return
        *some, other = (str(number + start) for number in sorted({0, 1, first}))
        raise PositionError(f"{self.where}triggers {first + start} to {last + start} have positions, and there are "
                            f"{scan.frames} frames: is the first frame's trigger {', '.join(some)} or {other}? Set "
                            f"{option('positions.trigger_start')}")

    def _as_many(self, found, scan):
        """As many positions as a scan has frames, NaN for those without one, where a policy allows that. Each scan that
        is joined is looked at by itself, so that none moves the next."""
        policy, joined, frames = self.p.positions.mismatch, getattr(self.source, "parts", None), scan.frames
        if frames in (None, len(found)) or not self.source.progress()[1] or policy == "raise" and not joined:
            return found            # a single scan is refused where frames are counted
        both, said = min(frames, len(found)), f"{scan.path}: {frames} frames but {len(found)} positions"
        if policy == "raise":
            raise PositionError(f"{said}, of one of {len(joined)} files that are joined. Mend its positions, or set "
                                f"{option('positions.mismatch', 'first')} to take the first {both} of both")
        if policy != "first":
            raise PositionError(f"{said}: without {option('positions.trigger_key')} or {option('positions.time_key')} "
                                f"nobody can tell which frames have none; {option('positions.mismatch', 'first')} "
                                f"takes the first {both} of both")
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
                self.note(f"positions interpolated for frames {listed(filled)}")
            unknown = np.setdiff1d(unknown, filled)
        report["frames_without_position"] = unknown
        if len(unknown):        # under "raise" only those that are wanted are an error
            self.note(f"frames without a position: {listed(unknown)}")
        return found

    # --- which of them --------------------------------------------------------------------------------

    def _wanted(self):
        """bool (n,), which of the scan points filter, monitor and positions leave; None for all."""
        p, n, wanted = self.p, self.points(), []
        if self.positions is not None and p.positions.mismatch != "raise":
            wanted.append(np.isfinite(self.positions).all(axis=1))
        if p.framefilter.file or p.framefilter.key:
            wanted.append(self.each("framefilter") > 0)
            self.note(f"framefilter leaves {wanted[-1].sum()} of {len(wanted[-1])} frames")
        if p.normalisation.outliers == "drop" and (flux := self.flux()) is not None:
            wanted.append(~flux[1])
        keep = np.logical_and.reduce([some[:n] for some in wanted]) if wanted else None
        return None if keep is None or keep.all() else keep

    def _cut_raster(self, skip, rows, cols):
        """The scan points that bounds in numbers leave, and every `skip`-th of them; also of a raster that was cut
        short."""
        scans, points = self._scans(), []
        rasters = self._rasters or [scan.grid for scan in scans]
        if (theory := self.p.positions_theory) is not None and theory.ndim == 3 and len(scans) == 1:
            rasters = [theory.shape[:2]]
        for scan, raster in zip(scans, rasters):
            count = self.points() if len(scans) == 1 else scan.frames
            if raster is not None and raster[0] * raster[1] >= count:
                numbers = np.arange(raster[0] * raster[1]).reshape(raster)
                numbers = numbers[_bounds(rows), _bounds(cols)][::skip, ::skip].ravel()
                points.append(scan.start + numbers[numbers < count])
                continue
            if rows is not None:
                raise ParameterError(f"{option('positions.bounding_box.slow_axis_bounds', rows)}: these positions are "
                                     f"a list and no raster; {option('positions.bounding_box.fast_axis_bounds')} "
                                     "counts in it, or give y and x in metres, "
                                     f"{option('positions.bounding_box.y')} and {option('positions.bounding_box.x')}")
            points.append(scan.start + np.arange(count)[_bounds(cols)][::skip])
        points = np.concatenate(points)
        return points[points < self.points()]       # positions_theory may be of the first frames only

    def positions_file(self):
        """The file with the positions, None for that of the frames. A recipe that knows where its beamline puts them
        answers this where the user did not say."""
        return self.p.positions.file

    def readings(self, path):
        """Where the illumination was on the object, as motors have it: (slow, fast) [m], each with a reading for every
        frame or for every row and column of a raster; signs, axes and angles are set right afterwards. `Points` are
        never the axes of a raster. A recipe that knows its motors answers this, best where the parameters (this one)
        say nothing.

        path : what `positions_file` answers, else the file of the frames; None without any. Returns None where nobody
            says.
        """
        p = self.p.positions
        if path is None or self.positions_file() is None and p.slow_key is None and p.fast_key is None:
            return None
        if not path.is_file():
            raise PositionError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; "
                                f"{option('positions.file')} should name an HDF5 file, a table or a .npy array")
        axes = ((p.slow_key, p.slow_index, p.slow_multiplier), (p.fast_key, p.fast_index, p.fast_multiplier))
        if is_hdf5(path) or is_spec(path):
            if p.slow_key is None or p.fast_key is None:
                raise PositionError(f"{path}: which dataset holds the positions? Set {option('positions.slow_key')} "
                                    f"and {option('positions.fast_key')}")
            found = [self._column(path, key, index) for key, index, _ in axes]
            named = [(np.asarray(one.values, float), one.units, one.where) for one in found]
            apart = is_hdf5(path) and p.slow_key.strip("/") != p.fast_key.strip("/")
        else:
            table, apart = columns_of(path), False
            places = self._columns_in(table)
            named = [(table.columns[i], table.units.get(i), f"{path}: {table.names.get(i, i)}") for i in places]
            if table.unit_doubt and not p.unit and any(
                    units is None and multiplier is None for (_, units, _), (_, _, multiplier) in zip(named, axes)):
                raise PositionError(f"{table.unit_doubt}. Set {option('positions.unit')}")
        made = [values * self.metres(multiplier, units, where)
                for (values, units, where), (_, _, multiplier) in zip(named, axes)]
        return made if apart else Points(*made)

    def _column(self, path, key, index):
        found = read_array(path, key, parameter=["positions.slow_key", "positions.fast_key"],
                           like_frames=self.like_frames(path) if index is None else None)
        if index is None:
            return found
        try:
            return found._replace(values=self.inner(found.values, lambda shape: len(shape) == 2,
                                                     found.where)).column(index)
        except SourceError as err:
            raise PositionError(str(err)) from None

    def _columns_in(self, table):
        """The numbers of the columns of the slow and the fast axis in a table."""
        p, there, path = self.p.positions, list(table.columns), table.where
        keys = {"positions.slow_key": p.slow_key, "positions.fast_key": p.fast_key}
        if all(key is not None for key in keys.values()):
            return [table.find(key, parameter) for parameter, key in keys.items()]
        given, missing = (next((parameter for parameter, key in keys.items() if (key is None) is absent), None)
                          for absent in (False, True))
        if given:
            raise PositionError(f"{path}: {option(given)} is given: set {option(missing)} too, to one of its columns "
                                f"{', '.join(table.keys())}")
        if table.doubt:
            raise PositionError(f"{table.doubt}. Set {option('positions.slow_key')} and {option('positions.fast_key')} "
                                f"to the numbers of the columns, counted from 0, and {option('positions.unit')}")
        names = [table.names.get(i, "") for i in there]
        places = axes_in(names) if names != [""] * 2 or there != [0, 1] else (0, 1)
        if places is None:
            raise PositionError(f"{path}: which of its columns {', '.join(table.keys())} are y and x? Set "
                                f"{option('positions.slow_key')} and {option('positions.fast_key')}")
        if tuple(names[place].lower() for place in places) not in AXES:
            slow, fast = (table.keys()[place] for place in places)
            self.note(f"{path}: column {slow} is taken as y and {fast} as x")
        return [there[place] for place in places]

    def metres(self, multiplier, recorded, where):
        """The factor that makes metres: the multiplier, else the unit given, else the one in the file."""
        given = self.p.positions.unit
        if multiplier is not None:
            if given:
                raise ParameterError(f"{option('positions.unit', given)} and a multiplier {multiplier:g} were both "
                                     "given: leave out one of them")
            return multiplier
        if not given and not recorded and self.positions_unit is None:
            self.note(f"{where} has no unit and is taken as metres")
            self._unit_guessed = where
            return 1.0
        if given and recorded and given != recorded:
            self.note(f"{where} is in {recorded} by what the file says; {option('positions.unit', given)} is taken")
        try:
            return unit_in_metres(given or recorded or self.positions_unit)
        except PositionError as err:
            raise PositionError(f"{where}: {err}; set {option('positions.unit')}") from None

    def _list(self, path, key, parameter):
        """(numbers (k,) by name, for as many readings, their unit or None)."""
        found = read_array(path, key, parameter=parameter, like_frames=self.like_frames(path))
        return np.asarray(self.inner(found.values, _is_list, found.where), float).ravel(), found.units


def _is_list(shape):
    return len(shape) > 0


def _without_end(axis):
    """Readings (n,) without those at the end that are no numbers: of two columns of a table, the shorter one's empty
    cells."""
    known = np.flatnonzero(np.isfinite(axis)) if np.ndim(axis) == 1 else ()
    return axis[:known[-1] + 1] if len(known) else axis


def _bounds(bounds):
    return slice(None) if bounds is None else slice(bounds, None) if isinstance(bounds, int) else slice(*bounds)
