"""Which scan points are prepared, and in what order they stand in the output."""
from dataclasses import dataclass

from ptyprep.errors import ParameterError


@dataclass(frozen=True)
class Selection:
    """Every `step`-th raw scan point from `first` on; `count` of them, None while that is not known.

    >>> s = Selection.of("10:20:3", available=100)
    >>> s.count, list(s.raw(range(1, 3)))
    (4, [13, 16])
    """
    first: int = 0
    step: int = 1
    count: int | None = None

    @classmethod
    def of(cls, frames=None, *, available=None, num_frames=None):
        """A selection from the parameters.

        frames : text "first:last:step" as in Python, last excluded; None for all
        available : raw scan points that there are; None if not known yet
        num_frames : at most so many

        Raises ParameterError when the text is not of that form, or nothing is left.
        """
        first, last, step = _parse(frames)
        if last is not None and available is not None:
            last = min(last, available)
        end = last if available is None or last is not None else available
        count = None if end is None else max(0, -(-(end - first) // step))
        if num_frames is not None:
            count = num_frames if count is None else min(count, num_frames)
        if count == 0:
            raise ParameterError(f"frames={frames!r} selects none of the {available} scan points")
        return cls(first, step, count)

    def raw(self, span):
        """The raw scan points of a range of output places."""
        return range(self.first + span.start * self.step, self.first + span.stop * self.step, self.step)

    def reached(self, raw_count):
        """How many of the selected points lie among the first `raw_count` raw ones."""
        reached = max(0, -(-(raw_count - self.first) // self.step))
        return reached if self.count is None else min(reached, self.count)


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
        raise ParameterError(f"frames={frames!r}: expected first:last:step, such as 0:500 or ::2, counted from 0, "
                             f"last excluded") from None
    return first, last, step
