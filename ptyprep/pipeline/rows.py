"""What one rank makes of its share of the scan points: load, mask, correct, cut. Nothing here talks to other ranks."""
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import NamedTuple

import numpy as np

from ptyprep.errors import PositionError, RecipeError
from ptyprep.parallel.buffers import empty
from ptyprep.parallel.threads import Begun, in_threads
from ptyprep.pipeline.loaded import Loaded, load_readable, unreadable
from ptyprep.processing.corrections import below_zero, judge
from ptyprep.processing.masks import Masks
from ptyprep.processing.plan import FramePlan, whole
from ptyprep.processing.positions import checked, refuse_unknown
from ptyprep.sources.blocks import block, slices
from ptyprep.words.spelling import option


@dataclass(frozen=True)
class Rows:
    """Prepared frames of some scan points.

    frame : (n,) raw frame numbers; position : (n, 2) [m]
    data : (n, h, w); weight : (n, h, w) bool, see `Masks.stack`; None where they are not kept
    dtype : of the frames
    packed : (frames, masks) as the bytes that a file holds, where the scan is saved
    bad : ((raw frame number, reason), ...) of those that could not be read
    blind : how many that could be read have no good pixel
    lost : uint8, of the scan's window; why the counts of a pixel are not believed in some frame: `corrections.LOST`
    counted : how many counts of all frames are below 0, how many of them -1 or -2, and how many near overflow
    """
    frame: np.ndarray
    data: np.ndarray | None
    weight: np.ndarray | None
    position: np.ndarray
    dtype: np.dtype
    packed: tuple = ([], [])
    bad: tuple = ()
    blind: int = 0
    lost: np.ndarray | bool = False
    counted: tuple = (0, 0, 0)

    @classmethod
    def none(cls, shape, bad=()):
        return cls(np.zeros(0, np.int64), np.zeros((0, *shape)), np.zeros((0, *shape), bool), np.zeros((0, 2)),
                   np.dtype(float), bad=bad)

    def __len__(self):
        return len(self.frame)


def prepare(scan, points, loaded=None, *, keep=True):
    """The rows of these raw scan points: good pixels told from bad ones, corrected, and made to the plan; before there
    is one, whole frames.

    loaded : what root has loaded already, or None
    keep : whether somebody looks at the frames; else they are compressed a few at a time, and gone
    """
    if loaded is None and scan.streams:
        with scan.source.reader(scan.window) as fill:
            return begin(scan, fill, points, keep=keep)()
    plan = scan.plan or FramePlan.make(scan.raw_shape)
    loaded = loaded or load(scan, points)
    if not loaded.points:
        return Rows.none(plan.shape, _reported(scan, loaded.bad))
    loaded = replace(loaded, frames=_region_of(scan, loaded.frames, "frames"),
                     weights=None if loaded.weights is None else _region_of(scan, loaded.weights, "weights"))
    n = len(loaded.points)
    blocks = slices(n, block(n, loaded.frames.shape[1:], loaded.frames.dtype, scan.threads))
    dtype, lost, counted = scan.counts_dtype, False, (0, 0, 0)
    if scan.corrects:           # a hook: all at once, on this thread
        frames, masks, lost, counted = zip(*in_threads(lambda some: _believed(scan, loaded.part(some)), blocks,
                                                       scan.threads))
        lost, counted = reduce(np.bitwise_or, lost), added(counted)
        frames, good = _corrected(scan, np.concatenate(frames), Masks.joined(masks).stack().copy())
        window = plan.window if scan.full_frames else whole(frames.shape[1:])
        loaded, dtype = replace(loaded, frames=window.cut(frames), weights=window.cut(good)), frames.dtype
    make = BlockMaker(scan, plan, loaded.points, dtype, blocks, keep, lambda some, out: loaded.part(some))
    rows = make.rows(in_threads(make, blocks, scan.threads))
    return replace(rows, bad=_reported(scan, loaded.bad),       # those that were left out, too
                   lost=rows.lost | lost, counted=added([rows.counted, counted]))


class begin:
    """`prepare`, begun in the rank's threads, of a scan that `streams`; call it for the rows, or `stop` it.

    fill : the source's `reader`, which stays open until then
    """

    def __init__(self, scan, fill, points, *, keep):
        plan = scan.plan or FramePlan.make(scan.raw_shape)
        blocks = scan.source.blocks(points, block(len(points), scan.window.shape, scan.raw_dtype, scan.threads))
        self._shape = plan.shape
        if hasattr(fill, "ready"):
            fill.ready(points)
        self._make = BlockMaker(scan, plan, points, scan.counts_dtype, blocks, keep,
                                lambda some, out: _read(scan, fill, points[some], out))
        self._begun = Begun(self._make, blocks, scan.threads)

    def __call__(self):
        made = self._begun.results()
        return self._make.rows(made) if made else Rows.none(self._shape)

    def stop(self):
        self._begun.stop()


class _Made(NamedTuple):
    """What came of a block: `part` without frames and weights, how many frames are `blind`, and as `Rows` names it."""
    part: Loaded
    masks: Masks | None = None
    packed: tuple = ([], [])
    blind: int = 0
    lost: np.ndarray | bool = False
    counted: tuple = (0, 0, 0)


class BlockMaker:
    """The rows of these scan points, made in blocks of a few frames: any thread may call it with a block, a slice of
    the points, and `rows` puts together what came of all. A block is read, judged, corrected, cut and compressed.

    dtype : of the frames; blocks : slices of the points; keep : see `prepare`
    take : gives a block as `Loaded`, by take(slice, out); frames (n, h, w) may be put into out, where it is not None
    """

    def __init__(self, scan, plan, points, dtype, blocks, keep, take):
        self._scan, self._plan, self._points, self._blocks, self._take = scan, plan, points, blocks, take
        self._dtype = plan.dtype(dtype)
        self._straight = plan.only_cuts and dtype.kind != "f"       # corrected counts are floats
        self._data = empty((len(points), *plan.shape), self._dtype) if keep else None
        self._last = None, None, False      # of most frames: the mask, what the plan makes of it, whether any is good

    def __call__(self, some):
        out = empty((some.stop - some.start, *self._plan.shape), self._dtype) if self._data is None else \
            self._data[some]
        part = self._take(some, out if self._straight else None)
        if not part.points:
            return _Made(part)
        out = out[:len(part.points)]
        frames, masks, lost, counted = (part.frames, Masks.each(part.weights), False, (0, 0, 0)) if \
            self._scan.corrects else _believed(self._scan, part, self._last[0])
        frames, masks = _finite(frames, masks)
        if frames is not out and not np.may_share_memory(frames, out):
            self._plan.apply(frames, out=out)
        masks, seen = self._planned(masks)
        blind = ~seen & ~_unread(part) if part.bad else ~seen
        packed = ([], []) if self._scan.sink is None else self._scan.sink.pack(out, masks)
        part = replace(part, frames=None, weights=None)     # or no memory is taken again before the last block is done
        return _Made(part, None if self._data is None else masks, packed, int(blind.sum()), lost, counted)

    def _planned(self, masks):
        """(what the plan makes of masks; for each frame, whether any of its pixels is good)."""
        planned, known = [], self._last         # another thread may have another one next
        for mask in masks.different:
            if mask is not known[0]:
                ready = mask if self._plan.only_cuts else self._plan.apply_weight(mask)
                self._last = known = mask, ready, bool(ready.any())
            planned.append(known)
        return (replace(masks, different=[ready for _, ready, _ in planned]),
                np.array([sees for *_, sees in planned])[masks.which])

    def rows(self, made):
        """The `Rows` of all blocks, of what came of each, in order."""
        parts = [one.part for one in made]
        kept, bad = ([one for part in parts for one in getattr(part, what)] for what in ("points", "bad"))
        frames = weight = None
        if self._data is not None:
            frames, weight = self._data, np.zeros((0, *self._plan.shape), bool)
            if len(kept) < len(self._points):
                frames = frames[np.concatenate([np.arange(some.start, some.start + len(part.points))
                                                for some, part in zip(self._blocks, parts)])]
            if kept:
                weight = Masks.joined([one.masks for one in made if one.masks is not None]).stack()
        positions = [part.positions for part in parts if part.points]
        positions = None if any(p is None for p in positions) or not kept else np.concatenate(positions)
        return Rows(numbers(self._scan, kept), frames, weight,
                    _positions_of(self._scan, Loaded(kept, None, positions, bad=bad)), self._dtype,
                    tuple([one for block in made for one in block.packed[i]] for i in (0, 1)),
                    _reported(self._scan, bad), sum(one.blind for one in made),
                    reduce(np.bitwise_or, [one.lost for one in made]), added([one.counted for one in made]))


def _finite(frames, masks):
    """Frames and their masks, where numbers that are not finite are 0 and masked: 0 x NaN is NaN, and an engine that
    only multiplies by the mask would be lost."""
    if frames.dtype.kind != "f" or (finite := np.isfinite(frames)).all():
        return frames, masks
    return np.where(finite, frames, 0), Masks.each(masks.stack() & finite)


def added(pairs):
    """
    >>> added([(1, 2), (3, 4)])
    (4, 6)
    """
    return tuple(map(sum, zip(*pairs)))


def _believed(scan, part, before=None):
    """A block's frames after the scan's corrections; and, as `corrections.judge` tells them by their counts and the
    detector's mask, and by what came with them: their `Masks`, why pixels are lost, and `Rows.counted`.

    before : a mask that they may have again
    """
    known = np.zeros(scan.window.shape, np.uint8) if scan.lost is None else scan.lost
    frames, limits = part.frames, scan.limits
    masks, lost, near = judge(frames, scan.cut(scan.good), known, limits, before)
    negative, ones = below_zero(frames, limits.marks) if scan.on_negative else (0, 0)
    if negative and scan.on_negative == "zero":
        frames = np.maximum(frames, 0)
    if part.weights is not None or scan.corrections or part.bad:
        good = masks.stack().copy()
        if part.weights is not None:
            good &= part.weights > 0
        if scan.corrections:
            frames, good = scan.corrections(frames, good, part.points, scan.window)
        if part.bad:                # with bad_frames="mask" they keep a place
            good[_unread(part)] = False
        masks = Masks.each(good)
    return frames, masks, lost, (negative, ones, near)


def _unread(part):
    return np.isin(part.points, [point for point, _ in part.bad])


def _reported(scan, bad):
    """((raw frame number, reason), ...) of ((scan point, reason), ...)."""
    return tuple(zip(numbers(scan, [point for point, _ in bad]).tolist(), [reason for _, reason in bad]))


def load(scan, points):
    """Raw scan points as `Loaded`, those that cannot be read as the parameter `bad_frames` says."""
    if not points:
        return Loaded([], None)
    with scan.hook_threads.of("load"):
        return _readable(scan, points, scan.load, scan.load, scan.raw_shape)


def _read(scan, fill, points, out):
    """The same from a source, into out (n, h, w) where it is not None and all can be read."""
    def read(points, out=None):
        if out is None:
            out = empty((len(points), *scan.window.shape), scan.raw_dtype)
        fill(points, out)
        return out
    return _readable(scan, points, partial(read, out=out), read, scan.window.shape)


def _readable(scan, points, together, again, shape):
    """Scan points loaded by `together`, else one by one by `again`; `shape` is that of a frame if none can be read."""
    who, policy = scan.recipe_name, scan.p.bad_frames
    try:
        loaded = Loaded.of(together(list(points)), points, who)
    except Exception as err:
        if policy == "raise" or not unreadable(err):
            err.add_note(f"while in {who}.load() of scan points {points[0]} to {points[-1]}")
            if unreadable(err):
                err.add_note(f"{option('bad_frames', 'drop', 'mask')} goes on without frames that cannot be read")
            raise
        blank = np.zeros(shape, scan.raw_dtype) if policy == "mask" else None
        loaded = load_readable(again, points, who, {scan.raw_shape, scan.window.shape}, blank=blank)
    if loaded.points and loaded.frames.dtype != scan.raw_dtype:
        raise RecipeError(f"{who}.load() returned {loaded.frames.dtype} for scan points {points[0]} to {points[-1]}, "
                          f"and {scan.raw_dtype} for the first: a scan has one kind of number; convert in load()")
    return loaded


def numbers(scan, points):
    """Raw frame numbers of scan points: a prepared scan that is prepared again remembers its own."""
    known = getattr(scan.source, "frame_ids", None)
    points = np.asarray(points, np.int64)
    return points if known is None else np.asarray(known[points], np.int64)


def _corrected(scan, frames, good):
    with scan.hook_threads.of("correct"):
        result = scan.correct(frames, good, scan.common)
    if not isinstance(result, tuple) or len(result) != 2:
        raise RecipeError(f"{scan.recipe_name}.correct() returned {type(result).__name__}; expected (data, weights)")
    data, weights = np.asarray(result[0]), result[1]
    if data.shape != frames.shape:
        raise RecipeError(f"{scan.recipe_name}.correct() made frames of shape {data.shape} from {frames.shape}; "
                          f"expected the same")
    # the hook may have kept what it was given
    return data, good.copy() if weights is None else np.broadcast_to(np.asarray(weights) > 0, data.shape)


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
        what = f"positions from {who}.load()"
        return refuse_unknown(checked(loaded.positions, what), what=what)
    if scan.positions is not None:
        return scan.positions[loaded.points]
    if loaded.bad:
        point, why = loaded.bad[0]
        raise PositionError(f"{who}: scan point {point} cannot be read ({why}), and its position comes with it: "
                            f"{option('bad_frames', 'mask')} cannot keep its place; set {option('bad_frames', 'drop')}")
    raise PositionError(f"{who}: no positions: load_positions() gave none, and load() none with the frames; answer one "
                        f"of them, or set {option('positions_theory')}")
