"""OuterScan: a scan whose frames are one of several lots along an outer axis: an energy, a tomography angle."""
import numpy as np

from ptyprep.errors import PositionError, SourceError
from ptyprep.filescan.filescan import FileScan
from ptyprep.params.par import Par
from ptyprep.words.spelling import option

CLEARLY = 3     # times as far as the other axis: then it is the one along which readings run


class OuterScan(FileScan):
    """A `FileScan` of frames (outer, n, h, w) or (outer, rows, columns, h, w), of which one place is prepared.
    Positions, masks and so on may have the outer axis too, or not.

    The recipe's source has `outer_size`, the length of that axis.
    """

    outer_index: int | None = Par(None, ge=0, doc="Which place along the first axis of frames (outer, n, h, w) or "
                                                  "(outer, rows, columns, h, w): an angle, an energy.")
    outer_axis: bool | None = Par(None, level=2, doc="Whether arrays beside the frames have that axis in front too; "
                                                     "asked where their shapes fit both ways.")

    def inner(self, values, fits, where):
        here, without = self._may_have_outer(values.shape) and fits(values.shape[1:]), fits(values.shape)
        if here and without:
            here = self._has_outer(f"{where} of shape {values.shape}", SourceError)
        return values[self.p.outer_index] if here else values

    def inner_axes(self, slow, fast, scan):
        ways, axes = {}, (slow, fast)       # which of the two has the outer axis
        have = [self._may_have_outer(axis.shape) for axis in axes]
        for way in ((False, False), (True, True), (True, False), (False, True)):
            pair = [axis[self.p.outer_index] if taken and there else axis
                    for axis, taken, there in zip(axes, way, have)]
            if all(there or not taken for there, taken in zip(have, way)) and \
                    _are_positions(*pair, scan.frames, scan.grid):
                ways[way] = pair
        where = f"{scan.path}: slow positions of shape {slow.shape} and fast ones of shape {fast.shape}"
        alike = [way for way in ways if way[0] == way[1]]
        if len(alike) == 2:
            return ways[(self._has_outer(where, PositionError, _run_along(slow, fast)),) * 2]
        if ways:
            return ways[next(iter(alike or ways))]
        have = [there and axis.ndim > 1 for there, axis in zip(have, axes)]
        taken = any(have) and self._has_outer(f"{where}, for {scan.frames} frames", PositionError)
        return [axis[self.p.outer_index] if taken and there else axis for there, axis in zip(have, axes)]

    def lot_of(self, lead, where):
        every, n = super().lot_of(lead, where), self.source.shape[0]
        if not self._may_have_outer(lead):
            return every
        if np.prod(lead[1:]) == n > 1:
            return (self.p.outer_index,)
        alone = every is not None and len(lead) == 1       # one for each frame, or for each place
        return None if alone and self._has_outer(f"{where} with images along {lead}", SourceError) else every

    def _may_have_outer(self, shape):
        return self.p.outer_index is not None and shape[:1] == (self.source.outer_size,) != (1,)

    def _has_outer(self, what, error, seen=None):
        """Whether an array has the outer axis whose shape does not tell. `seen`: what its numbers tell, else None."""
        if self.p.outer_axis is not None:
            return self.p.outer_axis
        if seen is None:
            raise error(f"{what}: is the first axis that of {option('outer_index')}, which has "
                        f"{self.source.outer_size} places, too? Set {option('outer_axis', True)} if so, else "
                        f"{option('outer_axis', False)}")
        self.note(f"{what} fit with and without the axis of {option('outer_index')}; by the direction in which the "
                  f"readings run, they {'have' if seen else 'do not have'} it. Set {option('outer_axis', not seen)} if "
                  "that is wrong")
        return seen


def _are_positions(slow, fast, frames, grid):
    """Whether two arrays are one reading for each frame, or for each row and column."""
    slow, fast = (np.squeeze(axis) for axis in (slow, fast))
    if slow.size == fast.size == frames:
        return slow.shape == fast.shape and (grid is None or slow.ndim != 2 or slow.shape == tuple(grid))
    sizes = slow.size, fast.size
    return slow.ndim <= 1 and fast.ndim <= 1 and (np.prod(sizes) == frames if grid is None else sizes == tuple(grid))


def _run_along(slow, fast):
    """Whether readings (k, k) of two motors are k times an axis each, as both then run along the second; False where
    one runs along the first: then they are readings of a raster. None where that is not clear."""
    along = []
    for axis in (slow, fast):
        first, second = (np.ptp(axis, axis=number).mean() for number in (0, 1))
        along.append(1 if second > CLEARLY * first else 0 if first > CLEARLY * second else None)
    return {(1, 1): True, (0, 1): False, (1, 0): False}.get(tuple(along))
