"""Which scan points are prepared, and in what order they stand in the output."""
from dataclasses import dataclass, field

import numpy as np

from ptyprep.errors import ParameterError
from ptyprep.words.spelling import option


@dataclass(frozen=True)
class Selection:
    """Every `step`-th raw scan point from `first` on, `count` of them (None: not known yet); or those of a list.

    points : raw scan points in the order of the output, (count,) int64; None for `first`, `first + step` …

    >>> s = Selection.of("10:20:3", available=100)
    >>> s.count, list(s.raw(range(1, 3)))
    (4, [13, 16])
    >>> list(Selection.of("1:", points=[7, 5, 3], available=100).raw(range(2)))
    [5, 3]
    """
    first: int = 0
    step: int = 1
    count: int | None = None
    points: np.ndarray | None = field(default=None, compare=False)

    @classmethod
    def of(cls, frames=None, *, available=None, num_frames=None, points=None):
        """A selection from the parameters.

        frames : text "first:last:step" as in Python, last excluded; None for all
        available : raw scan points that there are; None if not known yet
        num_frames : at most so many
        points : the scan points that `frames` counts in, in the order of the output; None for all as they come

        Raises ParameterError when the text is not of that form, nothing is left, or a point is not there.
        """
        first, last, step = _parse(frames)
        if points is not None:
            listed = np.asarray(points, np.int64)
            most = np.iinfo(np.int64).max if available is None else available
            odd = listed[(listed < 0) | (listed >= most)]
            if len(odd):
                raise ParameterError(f"scan point {odd[0]} was selected, but the scan has {available}, counted from 0")
            chosen = listed[first:last:step][:num_frames]
            if not len(chosen):
                raise ParameterError(f"no scan point is left of the {available} that there are"
                                     + (f": {option('frames', frames)} selects none of the {len(listed)} that other "
                                        "parameters leave" if len(listed) else ""))
            return cls(count=len(chosen), points=chosen)
        if last is not None and available is not None:
            last = min(last, available)
        end = last if available is None or last is not None else available
        count = None if end is None else max(0, -(-(end - first) // step))
        if num_frames is not None:
            count = num_frames if count is None else min(count, num_frames)
        if count == 0:
            raise ParameterError(f"{option('frames', frames)} selects none of the {available} scan points")
        return cls(first, step, count)

    def raw(self, span):
        """The raw scan points of a range of output places."""
        if self.points is not None:
            return self.points[span.start:span.stop].tolist()
        return range(self.first + span.start * self.step, self.first + span.stop * self.step, self.step)

    def without(self, points):
        """The same list without some scan points."""
        kept = self.points[~np.isin(self.points, points)]
        return Selection(count=len(kept), points=kept)

    def extent(self, span):
        """The smallest range of raw scan points that holds those of a range of output places, which is not empty."""
        raw = self.raw(span)
        return range(min(raw), max(raw) + 1) if self.points is not None else range(raw[0], raw[-1] + 1)

    def reached(self, raw_count, start=0):
        """How many of the selected points from output place `start` on, without a gap, lie among the first `raw_count`
        raw ones."""
        if self.points is not None:
            later = np.flatnonzero(self.points[start:] >= raw_count)
            return int(later[0]) if len(later) else self.count - start
        reached = max(0, -(-(raw_count - self.first) // self.step))
        return max(0, (reached if self.count is None else min(reached, self.count)) - start)

    def among(self, raw):
        """How many of the selected points lie in a range of raw ones."""
        if self.points is not None:
            return int(((self.points >= raw.start) & (self.points < raw.stop)).sum())
        return self.reached(raw.stop) - self.reached(raw.start)


def _parse(frames):
    parts = [p.strip() for p in (frames or "").split(":")]
    try:
        if frames and not 2 <= len(parts) <= 3:
            raise ValueError(frames)
        first, last, step = (int(p) if p else None for p in (parts + ["", ""])[:3])
        first, step = first or 0, 1 if step is None else step
        if first < 0 or step < 1 or last is not None and last <= first:
            raise ValueError(frames)
    except ValueError:
        raise ParameterError(f"{option('frames', frames)}: expected first:last:step, such as 0:500 or ::2, counted "
                             "from 0, last excluded") from None
    return first, last, step
