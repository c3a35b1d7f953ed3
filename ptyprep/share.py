"""What one rank makes of its share of the scan points: load, mask, correct, cut. Nothing here talks to other ranks."""
from dataclasses import dataclass

import numpy as np

from ptyprep.buffers import empty
from ptyprep.codec import in_threads
from ptyprep.correct import believable
from ptyprep.errors import PositionError, RecipeError
from ptyprep.frame import FramePlan
from ptyprep.loaded import Loaded, load_readable, unreadable
from ptyprep.positions import checked

BLOCK = 4           # frames that are masked, cut and turned at a time


@dataclass(frozen=True)
class Rows:
    """Prepared frames of some scan points.

    frame : (n,) raw frame numbers; data : (n, h, w); weight : (n, h, w) bool; position : (n, 2) [m]
    bad : ((raw frame number, reason), ...) of those that could not be read
    blind : how many that could be read have no good pixel
    """
    frame: np.ndarray
    data: np.ndarray
    weight: np.ndarray
    position: np.ndarray
    bad: tuple = ()
    blind: int = 0

    @classmethod
    def none(cls, shape, bad=()):
        return cls(np.zeros(0, np.int64), np.zeros((0, *shape)), np.zeros((0, *shape), bool), np.zeros((0, 2)), bad)

    def __len__(self):
        return len(self.frame)


def prepare(scan, points, loaded=None):
    """The rows of these raw scan points: good pixels told from bad ones, corrected, and made to the plan; before there
    is one, whole frames.

    loaded : what root has loaded already, or None
    """
    loaded, plan = loaded or load(scan, points), scan.plan or FramePlan.make(scan.raw_shape)
    unread = [point for point, _ in loaded.bad]
    bad = tuple(zip(numbers(scan, unread).tolist(), [reason for _, reason in loaded.bad]))
    if not loaded.points:
        return Rows.none(plan.shape, bad)
    frames = _region_of(scan, loaded.frames, "frames")
    weights = None if loaded.weights is None else _region_of(scan, loaded.weights, "weights")
    unread = np.isin(loaded.points, unread)         # with bad_frames="mask" they keep a place
    saturation, pixels = getattr(scan.source, "saturation", None), scan.cut(scan.good)

    def good_of(some):
        good = believable(raw[some], saturation)
        good &= pixels
        if weights is not None:
            good &= weights[some] > 0
        good[unread[some]] = False
        return good

    raw, corrected = frames, None
    if scan.corrects:           # a hook: all at once, on this thread
        frames, corrected = _corrected(scan, raw, np.concatenate(_in_blocks(scan, len(raw), good_of)))
        if scan.full_frames:
            frames, corrected = plan.window.cut(frames), plan.window.cut(corrected)
    as_they_are = plan.only_cuts and frames.dtype.kind != "f" and frames.flags.c_contiguous
    data = frames if as_they_are else empty((len(frames), *plan.shape), plan.dtype(frames.dtype))
    weight = empty((len(frames), *plan.shape), bool)

    def finish(some):
        part, good = frames[some], good_of(some) if corrected is None else corrected[some]
        if part.dtype.kind == "f":
            finite = np.isfinite(part)
            if not finite.all():    # 0 x NaN is NaN: an engine that only multiplies by the mask would be lost
                part, good = np.where(finite, part, 0), good & finite
        if not as_they_are:
            plan.apply(part, out=data[some])
        plan.apply_weight(good, out=weight[some])
        return ~weight[some].any(axis=(1, 2)) & ~unread[some]

    blind = np.concatenate(_in_blocks(scan, len(frames), finish))
    return Rows(numbers(scan, loaded.points), data, weight, _positions_of(scan, loaded), bad, int(blind.sum()))


def _in_blocks(scan, n, fn):
    """[fn(slice)] for a few frames at a time, which stay in the processor's cache, in the rank's threads."""
    return in_threads(fn, [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)], scan.threads)


def light(scan, points):
    """(2, h, w): the good counts of these raw frames added up, and how often each pixel was good."""
    total = np.zeros((2, *scan.raw_shape))
    rows = prepare(scan, points)
    for frame, weight in zip(rows.data, rows.weight):
        np.add(total[0], frame, out=total[0], where=weight)
        total[1] += weight
    return total


def load(scan, points):
    """Raw scan points as `Loaded`, those that cannot be read as the parameter `bad_frames` says."""
    if not points:
        return Loaded([], None)
    who, policy = scan.recipe_name, scan.p.bad_frames
    try:
        loaded = Loaded.of(scan.load(list(points)), points, who)
    except Exception as err:
        if policy == "raise" or not unreadable(err):
            err.add_note(f"while in {who}.load() of scan points {points[0]} to {points[-1]}")
            if unreadable(err):
                err.add_note("bad_frames='drop' or 'mask' goes on without frames that cannot be read")
            raise
        blank = np.zeros(scan.raw_shape, scan.raw_dtype) if policy == "mask" else None
        loaded = load_readable(scan.load, points, who, {scan.raw_shape, scan.window.shape}, blank=blank)
    if loaded.points and loaded.frames.dtype != scan.raw_dtype:
        raise RecipeError(f"{who}.load() returned {loaded.frames.dtype} for scan points {points[0]} to {points[-1]}, "
                          f"and {scan.raw_dtype} for the first: a scan has one kind of number; convert in load()")
    return loaded


def numbers(scan, points):
    """Raw frame numbers of scan points: a prepared scan that is prepared again remembers its own."""
    known = getattr(scan.source, "frame_ids", None)
    points = np.asarray(points, np.int64)
    return points if known is None else known[points]


def _corrected(scan, frames, good):
    result = scan.correct(frames, good, scan.common)
    if not isinstance(result, tuple) or len(result) != 2:
        raise RecipeError(f"{scan.recipe_name}.correct() returned {type(result).__name__}; expected (data, weights)")
    data, weights = np.asarray(result[0]), result[1]
    if data.shape != frames.shape:
        raise RecipeError(f"{scan.recipe_name}.correct() made frames of shape {data.shape} from {frames.shape}; "
                          f"expected the same")
    return data, good if weights is None else np.broadcast_to(np.asarray(weights) > 0, data.shape)


def _region_of(scan, stack, what):
    """The region of a stack that comes whole or as the region."""
    if stack.shape[-2:] == scan.window.shape:
        return stack
    if stack.shape[-2:] == scan.raw_shape:
        return scan.cut(stack)
    raise RecipeError(f"{scan.recipe_name}.load() returned {what} of {stack.shape[-2:]} pixels; expected whole frames "
                      f"of {scan.raw_shape} or the region of {scan.window.shape}")


def _positions_of(scan, loaded):
    who = scan.recipe_name
    if loaded.positions is not None:
        return checked(loaded.positions, f"positions from {who}.load()")
    if scan.positions is not None:
        return scan.positions[loaded.points]
    if loaded.bad:
        point, why = loaded.bad[0]
        raise PositionError(f"{who}: scan point {point} cannot be read ({why}), and its position comes with it: "
                            f"bad_frames='mask' cannot keep its place; set 'drop'")
    raise PositionError(f"{who}: no positions: load_positions() gave none, and load() none with the frames; answer "
                        f"one of them, or set positions_theory")
