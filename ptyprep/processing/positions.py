"""Scan positions: from motor readings to one (y, x) in metres for each frame."""
from typing import NamedTuple

import numpy as np

from ptyprep.errors import PositionError
from ptyprep.units import factor


class Points(NamedTuple):
    """Readings of two motors that belong together one by one, as in the rows of a table: never the axes of a raster."""
    slow: np.ndarray
    fast: np.ndarray


def pair_positions(slow, fast, frames):
    """Give every frame its (y, x) position.

    slow, fast : arrays, any shape [m]
        Readings of the two motors. Either one reading per frame in frame order,
        or one reading per row and one per column of a raster.
    frames : int or None
        Number of frames, the fast axis running fastest; None: one reading per frame.

    Returns positions, (frames, 2) float64 [m].
    Raises PositionError when neither reading fits.

    >>> pair_positions([0, 1], [5, 6, 7], frames=6)[3:]
    array([[1., 5.],
           [1., 6.],
           [1., 7.]])
    """
    slow, fast = (np.atleast_1d(np.asarray(a, float).squeeze()) for a in (slow, fast))
    if slow.size == fast.size and frames in (None, slow.size):
        return np.column_stack([slow.ravel(), fast.ravel()])
    if slow.ndim == fast.ndim == 1 and slow.size * fast.size == frames:
        return np.stack(np.meshgrid(slow, fast, indexing="ij"), -1).reshape(-1, 2)
    raise PositionError(
        f"{frames} frames, but slow positions of shape {slow.shape} and fast positions of "
        f"shape {fast.shape}: expected one reading per frame, or rows x columns = {frames}")


def count_positions(slow, fast, frames, axes=None):
    """How many positions the readings of two motors give, whatever the number of frames.

    axes : whether the readings are those of the rows and of the columns of a raster; None: as follows

    One for each reading where both motors have as many as there are frames. Rows x columns for a raster, also for one
    that was cut short: more frames than readings, which run one way, as axes do. Else one for each reading, a list that
    is too short or too long; for unlike numbers of readings `frames`, which `pair_positions` refuses.

    >>> count_positions(range(10), range(10), frames=60), count_positions([0, 0, 1], [5, 6, 5], frames=9)
    (100, 3)
    """
    slow, fast = (np.atleast_1d(np.asarray(a, float).squeeze()) for a in (slow, fast))
    alike, raster = slow.size == fast.size, slow.size * fast.size if slow.ndim == fast.ndim == 1 else 0
    readings = slow.size if alike else frames
    if axes is not None:
        return raster if axes and raster else readings
    if frames is None or frames <= max(slow.size, fast.size) or not raster or frames > raster and not alike:
        return readings
    one_way = all((steps > 0).all() or (steps < 0).all() for steps in (np.diff(slow), np.diff(fast)))
    return raster if one_way or not alike and frames == raster else readings


def unit_in_metres(unit):
    """How many metres a unit of length is.

    >>> unit_in_metres("um")
    1e-06
    """
    metres = factor(unit)
    if metres is None:
        raise PositionError(f"positions in {unit!r}: not a unit of length; expected one of m, cm, mm, um, micron, nm, "
                            f"angstrom, pm")
    return metres


def raster_of(slow, fast, frames, grid=None):
    """(rows, columns) of the raster that readings or frames lie on, None for a list.

    slow, fast : readings as for `pair_positions`; grid : (rows, columns) where the frames say it themselves

    >>> raster_of([0, 1], [5, 6, 7], frames=6), raster_of([0, 1, 2], [5, 6, 7], frames=3)
    ((2, 3), None)
    """
    if grid is not None and grid[0] * grid[1] == frames:
        return tuple(grid)
    slow, fast = (np.atleast_1d(np.asarray(a).squeeze()) for a in (slow, fast))
    if slow.ndim == 2 and slow.shape == fast.shape and slow.size == frames:
        return slow.shape
    if slow.ndim == fast.ndim == 1 and slow.size * fast.size == frames and not slow.size == fast.size == frames:
        return slow.size, fast.size
    return None


def by_trigger(numbers, readings, frames, how="mean"):
    """One position for each frame, from readings that say which frame they belong to.

    numbers : (k,) frame number of each reading, counted from 0
    readings : (k, 2) [m]
    frames : number of frames
    how : "mean" or "median" of a frame's readings, or "ends", the middle between the first and the last

    Returns positions (frames, 2), NaN where a frame has no reading, and how many readings each has (frames,). Readings
    of frames that are not there are left out.
    Raises PositionError where a number is no whole one.

    >>> by_trigger([0, 0, 2], [[0, 1], [0, 3], [5, 5]], frames=3)[0].tolist()
    [[0.0, 2.0], [nan, nan], [5.0, 5.0]]
    """
    numbers, readings = np.ravel(numbers), np.asarray(readings, float)
    if numbers.shape != readings.shape[:1]:
        raise PositionError(f"{len(numbers)} frame numbers for {len(readings)} readings of the positions: expected one "
                            f"for each")
    odd = numbers[(numbers != np.round(numbers)) | ~np.isfinite(numbers)] if numbers.dtype.kind == "f" else ()
    if len(odd):
        raise PositionError(f"a reading belongs to frame {odd[0]}: expected whole numbers")
    there = (numbers >= 0) & (numbers < frames) & np.isfinite(readings).all(axis=1)
    at = numbers[there].astype(int)
    count = np.bincount(at, minlength=frames)
    found, order = np.full((frames, 2), np.nan), np.argsort(at, kind="stable")
    groups = np.split(readings[there][order], np.cumsum(count)[:-1])
    reduce = {"mean": lambda each: each.mean(axis=0), "median": lambda each: np.median(each, axis=0),
              "ends": lambda each: (each[0] + each[-1]) / 2}[how]
    for frame in np.flatnonzero(count):
        found[frame] = reduce(groups[frame])
    return found, count


def by_clock(times, readings, frame_times):
    """One position for each frame, interpolated between the readings before and after it.

    times : (k,) when each reading was taken, in any order; readings : (k, 2) [m]
    frame_times : (n,), of the same clock and unit

    Returns positions (n, 2), NaN for frames before the first and after the last reading: there is nothing to
    interpolate between. Readings of the same time are averaged.

    >>> by_clock([0, 10], [[0, 0], [1, 5]], [5, 12]).tolist()
    [[0.5, 2.5], [nan, nan]]
    """
    times, readings, frame_times = np.ravel(times), np.asarray(readings, float), np.ravel(frame_times)
    if times.shape != readings.shape[:1]:
        raise PositionError(f"{len(times)} times for {len(readings)} readings of the positions: expected one for each")
    known = np.isfinite(times) & np.isfinite(readings).all(axis=1)
    if not known.any():
        raise PositionError(f"none of the {len(times)} readings of the positions is a number with a time")
    clock, at = np.unique(times[known], return_inverse=True)
    count = np.bincount(at)
    return np.column_stack([
        np.interp(frame_times, clock, np.bincount(at, readings[known, axis]) / count, left=np.nan, right=np.nan)
        for axis in (0, 1)])


def fill_gaps(positions):
    """Positions (n, 2), those that are not known interpolated between the nearest known ones, by frame number. Those
    before the first and after the last known one stay NaN.

    >>> fill_gaps([[0, 0], [np.nan, np.nan], [1, 4], [np.nan, np.nan]]).tolist()
    [[0.0, 0.0], [0.5, 2.0], [1.0, 4.0], [nan, nan]]
    """
    positions = np.asarray(positions, float)
    known = np.flatnonzero(np.isfinite(positions).all(axis=1))
    if not len(known):
        return positions
    return np.column_stack([np.interp(np.arange(len(positions)), known, axis[known], left=np.nan, right=np.nan)
                            for axis in positions.T])


def turn(positions, *, swap=False, flip_y=False, flip_x=False, skew=0.0, angle=0.0):
    """Positions in other axes: exchanged, mirrored, then the x axis leaning by `skew` [degree] towards y, and all
    turned by `angle` [degree] from x towards y.

    >>> turn([[1.0, 2.0]], swap=True, flip_x=True)
    array([[ 2., -1.]])
    """
    y, x = np.asarray(positions, float).T
    if swap:
        y, x = x, y
    y, x = (-y if flip_y else y), (-x if flip_x else x)
    if skew:
        y, x = y + x * np.sin(np.deg2rad(skew)), x * np.cos(np.deg2rad(skew))
    if angle:
        c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        y, x = s * x + c * y, c * x - s * y
    return np.column_stack([y, x])


def checked(positions, what="positions"):
    """Positions as (n, 2) float64 metres, from (n, 2) or (rows, cols, 2). Raises PositionError for another shape."""
    array = np.asarray(positions)
    if array.ndim not in (2, 3) or array.shape[-1] != 2 or array.dtype.kind not in "iuf":
        raise PositionError(f"{what}: {array.dtype} of shape {array.shape}; expected (n, 2) or (rows, cols, 2) "
                            f"numbers, (y, x) in metres")
    return array.reshape(-1, 2).astype(float)


def refuse_unknown(positions, points=None, what="positions", hint=""):
    """Raise PositionError where a position (n, 2) is no number; of some scan points only, or of all."""
    wanted = positions if points is None else positions[points]
    bad = np.flatnonzero(~np.isfinite(wanted).all(axis=1))
    if len(bad):
        at = bad[0] if points is None else points[bad[0]]
        raise PositionError(f"{what}: {len(bad)} of {len(wanted)} are not finite, the first at scan point {at}: "
                            f"{positions[at]}{hint}")
    return positions
