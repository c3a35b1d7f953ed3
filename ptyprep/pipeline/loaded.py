"""What a recipe's `load` returned, as arrays; and frames that cannot be read left out or blanked, never shifted."""
from dataclasses import dataclass

import numpy as np

from ptyprep.errors import ChangedError, PtyprepError, RecipeError, SourceError, in_words


@dataclass(frozen=True)
class Loaded:
    """Raw frames of some scan points.

    points : the scan points, in order; frames : (n, h, w)
    positions : (n, 2) [m] and weights : (n, h, w), or None where `load` gave none
    bad : ((scan point, reason), ...) of those that could not be read; with blanks they are among `points` too
    """
    points: list
    frames: np.ndarray | None
    positions: np.ndarray | None = None
    weights: np.ndarray | None = None
    bad: tuple = ()

    @classmethod
    def of(cls, result, points, who):
        """From what `load` returned: an array, a dict by scan point, or (frames, positions, weights) of these.

        Raises RecipeError, naming the recipe `who`, for anything else.
        """
        parts = result if isinstance(result, tuple) else (result, None, None)
        if len(parts) != 3:
            raise RecipeError(f"{who}.load() returned {len(parts)} things; expected frames, or (frames, positions, "
                              f"weights)")
        frames, positions, weights = (_stacked(part, points, who) for part in parts)
        n = len(points)
        if frames is None or frames.ndim != 3 or len(frames) != n or frames.dtype.kind not in "biuf":
            got = ("nothing" if frames is None else "no frame" if not len(frames) else
                   f"{frames.dtype} of shape {frames.shape}")
            raise RecipeError(f"{who}.load() returned {got} for {n} scan points; expected real numbers ({n}, h, w), "
                              f"or (frames, positions, weights)")
        if positions is not None and positions.shape != (n, 2):
            raise RecipeError(f"{who}.load() returned positions of shape {positions.shape} for {n} scan points; "
                              f"expected ({n}, 2)")
        if weights is not None and weights.ndim == 2:
            weights = np.broadcast_to(weights, (n, *weights.shape))
        if weights is not None and (weights.ndim != 3 or len(weights) != n):
            raise RecipeError(f"{who}.load() returned weights of shape {weights.shape} for {n} scan points; "
                              f"expected (h, w) or ({n}, h, w)")
        return cls(list(points), frames, positions, weights)


    def part(self, some):
        """A slice of them, with those that could not be read among them."""
        points = self.points[some]
        mine = set(points)
        return Loaded(points, self.frames[some], None if self.positions is None else self.positions[some],
                      None if self.weights is None else self.weights[some],
                      tuple(bad for bad in self.bad if bad[0] in mine))


def unreadable(err):
    """Whether an error from `load` means that a frame cannot be read, rather than that the recipe is wrong.

    NumPy says ValueError or EOFError of a file that is cut off.
    """
    if isinstance(err, PtyprepError):
        return isinstance(err, SourceError) and not isinstance(err, ChangedError)
    return isinstance(err, OSError | EOFError | ValueError)


def load_readable(load, points, who, shapes, *, blank=None):
    """Load scan points one by one, after they could not be read together.

    shapes : the (h, w) that a frame may have; another one is as bad as none
    blank : None to leave out what cannot be read, else the frame (h, w) to put in its place
    """
    good, bad = {}, []
    for point in points:
        try:
            loaded = Loaded.of(load([point]), [point], who)
        except Exception as err:
            if not unreadable(err):
                raise
            bad.append((point, in_words(err, kind=not isinstance(err, SourceError))))
            continue
        if loaded.frames.shape[1:] in shapes:
            good[point] = loaded
        else:
            bad.append((point, f"a frame of {loaded.frames.shape[1:]} pixels"))
    if blank is not None:
        example = next(iter(good.values()), None)       # whole, or only the region
        shape = blank.shape if example is None else example.frames.shape[1:]
        good |= {point: Loaded([point], np.zeros((1, *shape), blank.dtype)) for point, _ in bad}
    kept = [good[point] for point in points if point in good]
    if not kept:
        return Loaded([], None, bad=tuple(bad))
    positions, weights = [part.positions for part in kept], [part.weights for part in kept]
    if all(w is None for w in weights):
        weights = None
    else:
        weights = np.concatenate([np.ones_like(part.frames, bool) if w is None else w > 0
                                  for part, w in zip(kept, weights)])
    return Loaded([point for part in kept for point in part.points], np.concatenate([part.frames for part in kept]),
                  None if any(p is None for p in positions) else np.concatenate(positions), weights, tuple(bad))


def _stacked(part, points, who):
    if part is None or isinstance(part, dict) and not part:
        return None
    if isinstance(part, dict):
        absent = [i for i in points if i not in part]
        if absent:
            raise RecipeError(f"{who}.load() returned no entry for scan point {absent[0]}; it has {list(part)[:5]}")
        part = [part[i] for i in points]
    if not hasattr(part, "__len__"):
        raise RecipeError(f"{who}.load() returned {type(part).__name__} for {len(points)} scan points; expected arrays")
    return np.asarray(part) if len(part) else None
