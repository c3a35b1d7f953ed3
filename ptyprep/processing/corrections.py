"""Corrections: functions on stacks of raw frames, before they are cut to size."""
import math
from dataclasses import dataclass, replace

import numpy as np

from ptyprep.errors import ParameterError, SourceError
from ptyprep.kernels import compiled
from ptyprep.parallel.buffers import scratch
from ptyprep.processing.masks import Masks, same_mask

#: Why the count of a pixel is no measurement, as bits of `judge`.
LOST = {"overflow": 1, "near overflow": 2}


@dataclass(frozen=True)
class Limits:
    """Which numbers of raw frames are counts.

    most : the largest one; None for all but the largest integer of their kind, which is a mark
    least : the smallest one; None for any, negative ones too, but the marks
    marks : negative numbers that are none
    near : a number whose pixels are counted, and told apart where it is above `most`; None
    """
    most: float | None = None
    least: float | None = None
    marks: tuple = ()
    near: int | None = None


def believable(frames, limits=None, out=None):
    """Where the numbers are measurements: not a detector's mark, not saturated, not NaN or infinite.

    frames : (n, h, w); for integers the largest value of their kind marks overflow, gaps and dead pixels (EIGER writes
        2**32 - 1, and 2**16 - 1 in 16-bit mode; SIMPLON API reference)
    limits : `Limits` of the source, None for no others
    out : where to put it, None for a new array

    Returns bool (n, h, w).
    """
    limits, good = limits or Limits(), np.empty(frames.shape, bool) if out is None else out
    if frames.dtype.kind not in "iuf":
        good[...] = True
        return good
    least, most = _range(frames.dtype, limits)
    if frames.dtype.kind == "f":
        np.isfinite(frames, out=good)
        if limits.most is not None:
            good &= frames <= most
    else:
        np.less_equal(frames, most, out=good)
    if least is not None:
        good &= frames >= least
    if limits.marks and frames.dtype.kind in "if" and (least is None or least < 0) and frames.min(initial=0) < 0:
        for mark in limits.marks:
            good &= frames != mark
    return good


def _range(dtype, limits):
    """(smallest, largest) count of a kind of number, None for no smallest."""
    least, most = limits.least, limits.most
    if dtype.kind == "f":
        return least, most
    info = np.iinfo(dtype)
    most = info.max - 1 if most is None or most >= info.max - 1 else -1 if math.isnan(most) else math.floor(most)
    if least is not None:
        least = info.max if math.isnan(least) or least > info.max else math.ceil(least) if least > info.min else None
    return least, most


def judge(frames, usable, known, limits=None, before=None):
    """Which pixels of some frames are good: believable, and of those that can be used at all.

    frames : (n, h, w), n > 0; limits : see `believable`
    usable : bool (h, w); known : uint8 (h, w), why counts of a pixel were not believable before (see `LOST`)
    before : bool (h, w), a mask that the first frame may have again; None

    Returns (`Masks`; uint8 (h, w), why a pixel is not believable in some frame, without what is `known`, or False where
    there is none; how many counts are `limits.near`).
    """
    limits = limits or Limits()
    good = scratch("good", frames.size).view(bool).reshape(frames.shape)
    if (ends := _interval(frames, limits)) and all(array.strides[-1] == array.itemsize for array in
                                                   (frames, usable, known)):
        lost = scratch("lost", usable.size).reshape(usable.shape)
        changed, any_lost, near = compiled.core.judge(frames, *ends, limits.near, usable, known, good, lost, before)
        changed = np.frombuffer(changed, bool)
        return _masks(before, good[:changed.sum()].copy(), changed), any_lost and lost.copy(), near
    believable(frames, limits, out=good)
    at = np.zeros(0, bool) if limits.near is None or frames.dtype.kind not in "iuf" else frames == limits.near
    lost = np.where(np.logical_and.reduce(good | at if at.size else good), 0, LOST["overflow"]).astype(np.uint8)
    if at.any():
        lost |= np.where(np.logical_or.reduce(at & ~good), LOST["near overflow"], 0).astype(np.uint8)
    lost &= ~np.asarray(known, np.uint8)
    good &= usable
    changed = np.array([not same_mask(last, mask) for last, mask in zip([before, *good], good)])
    return _masks(before, good[changed], changed), lost, int(at.sum())


def _interval(frames, limits):
    """(smallest, largest) count, for the loop in C; None where counts are no interval, or the loop is not for them."""
    if compiled.core is None or frames.dtype.kind not in "iu" or not frames.dtype.isnative:
        return None
    least, most = _range(frames.dtype, limits)
    lowest = np.iinfo(frames.dtype).min
    least = lowest if least is None else least
    if least < 0 and limits.marks:
        if frames.min(initial=0) < min(limits.marks):
            return None             # noise beside marks
        least = 0
    return (least, most) if least <= most else None


def below_zero(frames, marks=()):
    """(how many counts of some frames are below 0, without those that are marks; how many of them are -1 or -2)."""
    if frames.dtype.kind not in "if" or not frames.min(initial=0) < 0:
        return 0, 0
    negative = frames[frames < 0]
    ones = {number: int(np.count_nonzero(negative == number)) for number in (-1, -2)} if negative.size else {}
    kept = {number: many for number, many in ones.items() if number not in marks}
    return int(negative.size) - sum(ones.values()) + sum(kept.values()), sum(kept.values())


def _masks(before, new, changed):
    """The `Masks` of frames of which some, bool (n,), have not that of the frame before, but one of the new ones."""
    if changed[0]:
        return Masks(new, np.cumsum(changed) - 1)
    return Masks([before, *new], np.cumsum(changed))


def good_by_value(mask, bad_bits=None):
    """Which pixels are good by the values of a mask, bool of its shape. What is no number is bad.

    bad_bits : bits that make a pixel bad, -1 for any; None: what is not 0 is good

    >>> good_by_value(np.array([0, 1, 2, 3]), 2).tolist()
    [True, True, False, False]
    """
    mask = np.asarray(mask)
    if mask.dtype.kind == "f":
        known = np.isfinite(mask)
        mask = np.where(known, mask, 0)
    else:
        known = True
    return known & (mask != 0 if bad_bits is None else mask == 0 if bad_bits == -1 else
                    (mask.astype(np.int64) & bad_bits) == 0)


def average(frames, limits=None):
    """The average (h, w) float64 of the believable counts of some frames (h, w), one after the other; NaN where there
    is none. limits : see `believable`"""
    total = counted = 0
    for frame in frames:
        good = believable(frame[None], limits)[0]
        total, counted = total + np.where(good, frame, 0).astype(float), counted + good
    return np.divide(total, counted, out=np.full(total.shape, np.nan), where=counted > 0)


def median(frames):
    """The median (h, w) float64 of the believable counts of frames (n, h, w); NaN where there is none."""
    frames = np.asarray(frames)
    return np.ma.median(np.ma.masked_array(frames, ~believable(frames)), axis=0).astype(float).filled(np.nan)


@dataclass(frozen=True)
class Corrections:
    """What is done to raw counts before a recipe's own `correct`: (counts - dark) / flat / monitor.

    dark, flat : (h, w) of whole frames, or a `FrameSource` with a frame for each scan point; None
    monitor : (n,) for each scan point, the beam relative to its mean, as `relative_flux` gives it; None
    mask : a `FrameSource` with a mask for each scan point; None
    bad_bits : bits that make a pixel bad in `mask`, -1 for any; None: what is not 0 is good
    detector_mask, detector_bits : the same of the detector's own masks
    blank : (n,) bool, scan points whose frames get weight 0; None
    negative : what to do with counts below the dark field: "zero", "keep" or "mask"
    multiply : whether counts are multiplied by the flat field instead of divided by it

    Counts become float32 where that holds them all (8- and 16-bit), else float64 (`numpy.result_type`). A pixel
    where dark or flat field are no finite numbers, or the flat field is not above 0, is not good, and 0.
    """
    dark: np.ndarray | None = None
    flat: np.ndarray | None = None
    monitor: np.ndarray | None = None
    mask: object = None
    bad_bits: int | None = None
    blank: np.ndarray | None = None
    negative: str = "zero"
    multiply: bool = False
    detector_mask: object = None
    detector_bits: int | None = None

    def __str__(self):
        done = [f"{name} field{'' if isinstance(part, np.ndarray) else ' of each frame'}" for name, part in
                (("dark", self.dark), ("flat", self.flat)) if part is not None]
        done += ["monitor"] * (self.monitor is not None) + ["mask of each frame"] * bool(self._masks)
        blank = 0 if self.blank is None else int(self.blank.sum())
        return ", ".join(done + [f"{blank} frames of weight 0"] * (blank > 0)) or "nothing"

    @property
    def changes_counts(self):
        return any(part is not None for part in (self.dark, self.flat, self.monitor))

    @property
    def reads(self):
        """Whether something is read from files for each frame."""
        fields = [part for part in (self.dark, self.flat) if part is not None and not isinstance(part, np.ndarray)]
        return bool(fields + self._masks)

    @property
    def _masks(self):
        return [part for part in (self.mask, self.detector_mask) if part is not None]

    def dtype(self, raw):
        """The kind of number that counts of dtype `raw` become."""
        return np.result_type(raw, np.float32) if self.changes_counts else np.dtype(raw)

    def checked(self, shape, frames=None):
        """These corrections, if they fit frames of shape (h, w), and so many of them.

        Raises SourceError that names what does not fit.
        """
        for name in ("dark", "flat", "mask", "detector_mask"):
            part = getattr(self, name)
            if part is None:
                continue
            if np.shape(part)[-2:] != tuple(shape) or len(np.shape(part)) not in (2, 3):
                raise SourceError(f"the {name} field has shape {np.shape(part)}, the frames {tuple(shape)}: expected "
                                  f"the same, or one for each frame")
            if len(np.shape(part)) == 3 and frames is not None and np.shape(part)[0] != frames:
                raise SourceError(f"the {name} field has {np.shape(part)[0]} frames, the scan has {frames}: expected "
                                  f"one for each, or a single one")
        for name in ("monitor", "blank"):
            part = getattr(self, name)
            if part is not None and frames is not None and len(part) != frames:
                raise SourceError(f"{len(part)} readings of the {name} for {frames} frames: expected one for each")
        return self

    def __call__(self, frames, good, points, window):
        """Corrected frames and which of their pixels are good.

        frames : (n, h, w) raw, of the window; good : bool (n, h, w), changed in place
        points : the raw scan points that they are
        """
        for mask, bits in ((self.mask, self.bad_bits), (self.detector_mask, self.detector_bits)):
            if mask is not None:
                good &= good_by_value(mask.read(points, window), bits)
        if self.blank is not None:
            good[self.blank[points]] = False
        if not self.changes_counts:
            return frames, good
        out = frames.astype(self.dtype(frames.dtype))
        if self.dark is not None:
            dark = _field(self.dark, points, window)
            known = np.isfinite(dark)
            out -= np.where(known, dark, 0)
            good &= known
            if self.negative == "zero":
                np.maximum(out, 0, out=out)
            elif self.negative == "mask":
                good &= out >= 0
        if self.flat is not None:
            flat = _field(self.flat, points, window)
            with np.errstate(invalid="ignore"):
                usable = np.isfinite(flat) & (flat > 0)
            (np.multiply if self.multiply else np.divide)(out, np.where(usable, flat, 1), out=out)
            good &= usable
            out *= usable
        if self.monitor is not None:
            out /= self.monitor[points][:, None, None].astype(out.dtype)
        return out, good

    def also(self, **more):
        """These and some more."""
        return replace(self, **more)

    def with_dark(self, dark):
        """These with a dark field (h, w), which a flat field has too: (counts - dark) / (flat - dark).

        Raises ParameterError where there is one already, SourceError where the flat field is of another size.
        """
        if self.dark is not None:
            raise ParameterError("darkfield and another dark field were both given: leave out one of them")
        if self.flat is None or self.multiply:      # factors have no dark counts
            return self.also(dark=dark)
        if np.shape(self.flat) != dark.shape:
            raise SourceError(f"the flat field has shape {np.shape(self.flat)}, the dark field {dark.shape}: expected "
                              f"the same")
        return self.also(dark=dark, flat=self.flat - dark)


def _field(field, points, window):
    if isinstance(field, np.ndarray):
        return window.cut(field)
    frames = field.read(points, window)
    return np.where(believable(frames), frames, np.nan)


def relative_flux(readings, sigma=3.0):
    """(relative, outliers) of a monitor's readings (n,).

    relative : readings divided by the mean of those that are no outliers, (n,) float64
    outliers : bool (n,), readings that are not finite, not above 0, or further from the mean than `sigma` standard
        deviations; both are those of the others, so that a large outlier hides no small one (iterated clipping)

    Raises SourceError where no reading is left.

    >>> relative, odd = relative_flux([2.0, 2.0, 2.0, 2.0, 1.0, 0.0], sigma=1.5)
    >>> relative.tolist(), np.flatnonzero(odd).tolist()
    ([1.0, 1.0, 1.0, 1.0, 0.5, 0.0], [4, 5])
    """
    readings = np.asarray(readings, float)
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(readings) & (readings > 0)
    if not usable.any():
        raise SourceError(f"none of the {len(readings)} readings of the monitor is a finite number above 0")
    outliers, before = ~usable, None
    while before is None or (outliers != before).any():
        before, mean, spread = outliers, readings[~outliers].mean(), readings[~outliers].std()
        far = sigma * spread + 1e-9 * mean      # readings that are alike differ by rounding
        outliers = ~usable | (abs(np.where(usable, readings, mean) - mean) > far)
        if outliers.all():
            raise SourceError(f"every reading of the monitor is further than {sigma:g} standard deviations from the "
                              f"mean")
        outliers |= before          # once out, always out: it ends
    return readings / readings[~outliers].mean(), outliers


def find_bad_pixels(total, counted, least, most, *, hot=10.0, dead=20.0):
    """(hot, dead) pixels, bool (h, w), as some frames of a scan show them.

    total, counted : good counts added up over the frames, and how often each pixel was good, (h, w)
    least, most : the smallest and largest count of each pixel where it was good, (h, w)
    hot : so many times the median of the eight neighbours' means makes a pixel hot, if it is beyond what counting
        statistics do by five standard deviations too. So does the largest count in a frame, held against the
        neighbours' largest: a pixel that flickers. And a pixel that has the same count, not 0, in each of eight
        frames or more
    dead : a pixel that never counted, where its neighbours make one expect more than so many counts in all

    A pixel is compared with the good ones of its neighbours; without any it is neither.
    """
    known = counted > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, total / counted, np.nan)
        around, around_most = (neighbour_median(np.where(known, array, np.nan)) for array in (mean, most))
        compared = known & np.isfinite(around)
        floor = np.maximum(around, 1 / np.maximum(counted, 1))
        bright = (mean > hot * floor) & (mean > floor + 5 * np.sqrt(floor / np.maximum(counted, 1)))
        flicker = (most > hot * np.maximum(around_most, 1)) & (most > around_most + 5 * np.sqrt(around_most + 1))
        stuck = (least == most) & (most > 0) & (counted >= 8)
        silent = (total == 0) & (around * counted > dead)
    return compared & (bright | flicker | stuck), compared & silent


def neighbour_median(image, rows=256):
    """The median of the eight neighbours of each pixel that are numbers, NaN where none is: (h, w) float64.

    rows : so many are done at a time, which bounds the memory

    >>> float(neighbour_median(np.arange(9.0).reshape(3, 3))[1, 1])
    4.0
    """
    h, w = image.shape
    padded = np.pad(np.asarray(image, float), 1, constant_values=np.nan)
    out = np.empty((h, w))
    for start in range(0, h, rows):
        stop = min(start + rows, h)
        around = np.stack([padded[start + i:stop + i, j:j + w] for i in range(3) for j in range(3) if (i, j) != (1, 1)])
        around.sort(axis=0)                     # NaN last
        count = np.isfinite(around).sum(axis=0)
        low, high = (np.take_along_axis(around, at[None].clip(0, 7), 0)[0] for at in ((count - 1) // 2, count // 2))
        out[start:stop] = np.where(count > 0, (low + high) / 2, np.nan)
    return out
