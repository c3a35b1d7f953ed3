"""From raw frames to prepared frames: centre, crop or pad, orientation and rebin, decided once."""
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ptyprep.errors import FrameError
from ptyprep.kernels import compiled
from ptyprep.processing.masks import OUTSIDE
from ptyprep.words.spelling import option

LINE = 64                   # bytes that a processor fetches together
CENTERS = ("fftshift", "geometric", "fft")


class Window(NamedTuple):
    """The raw rows and columns that a region needs: two slices, inside the frame."""
    rows: slice
    cols: slice

    @property
    def shape(self):
        return self.rows.stop - self.rows.start, self.cols.stop - self.cols.start

    def cut(self, frames):
        """The window of frames (..., h, w), as a view."""
        return frames[..., self.rows, self.cols]


def whole(shape):
    """The window that is the whole frame."""
    return Window(slice(0, shape[0]), slice(0, shape[1]))


@dataclass(frozen=True)
class FramePlan:
    """What happens to every frame of a scan; the same for each chunk and each rank.

    raw : (h, w) of a raw frame [pixel]
    region : (h, w) of the region that is kept [raw pixel, axes of the raw frame]
    center : (row, col) of the optical axis [raw pixel, 0 = middle of the first pixel]
    transpose, flipud, fliplr : applied in this order
    rebin : raw pixels along each side of a prepared pixel
    mean : average the rebinned counts instead of adding them

    The region starts where the optical axis falls in the middle of prepared pixel N // 2, as
    nearly as whole raw pixels allow: never more than half a raw pixel off.

    >>> plan = FramePlan.make((1062, 1028), shape=512, center=(500.2, 480), rebin=2)
    >>> plan.shape, plan.window.rows, plan.axis[1]
    ((256, 256), slice(244, 756, None), 127.75)
    """
    raw: tuple
    region: tuple
    center: tuple
    transpose: bool = False
    flipud: bool = False
    fliplr: bool = False
    rebin: int = 1
    mean: bool = False

    @classmethod
    def make(cls, raw, *, shape=None, center="fftshift", orientation=0, rebin=1, mean=False, margin=0):
        """The plan for raw frames of shape `raw`, checked.

        shape : int, (h, w) or None for the size of the whole frame [raw pixel]
        center : one of `CENTERS`, a number for both axes or (row, col) [raw pixel]
        orientation : 0-7, or (transpose, flipud, fliplr)
        margin : rows and columns around the frame that belong to it and are not good, one number or (top, bottom,
            left, right); a centre or a shape that is not given in numbers is that of all

        Raises FrameError when the region cannot be cut like this.
        """
        raw = tuple(int(n) for n in raw)
        top, bottom, left, right = (int(n) for n in np.broadcast_to(margin, 4))
        whole = raw[0] + top + bottom, raw[1] + left + right
        region = whole if shape is None else tuple(int(n) for n in np.broadcast_to(shape, 2))
        if min(region) < 1:
            raise FrameError(f"{option('shape', region)}: a region needs at least one pixel on each side")
        rebin = 1 if rebin is None else int(rebin)
        if any(n % rebin for n in region):
            fit = tuple(max(n - n % rebin, rebin) for n in region)
            raise FrameError(f"{option('rebin', rebin)} does not divide the region {region} [pixel]: set "
                             f"{option('shape', fit)}, or another {option('rebin')}")
        if isinstance(center, str):
            center = tuple(c - before for c, before in zip(center_of(whole, center), (top, left)))
        center = center_of(raw, center)
        rows, cols = (-top, raw[0] + bottom - 1), (-left, raw[1] + right - 1)
        if not all(lo - 0.5 <= c < hi + 0.5 for c, (lo, hi) in zip(center, (rows, cols))):
            inside = all(lo - 0.5 <= c < hi + 0.5 for c, (lo, hi) in zip(center, (cols, rows)))
            raise FrameError(f"{option('center', center)} (row, col) lies outside the raw frame of {raw} pixels: "
                             f"expected rows {rows[0]} to {rows[1]} and columns {cols[0]} to {cols[1]}"
                             + (f". {center[::-1]} lies on it: are rows and columns exchanged?" if inside else ""))
        transpose, flipud, fliplr = orientation_flags(orientation)
        plan = cls(raw, region, center, transpose, flipud, fliplr, rebin, mean)
        if any(lo >= n or lo + size <= 0 for lo, size, n in zip(plan._starts, region, raw)):
            raise FrameError(f"{option('center', center)} and {option('shape', region)}: not one pixel of the raw "
                             f"frame of {raw} pixels lies in this region")
        return plan

    @property
    def shape(self):
        """(h, w) of a prepared frame."""
        h, w = (n // self.rebin for n in self.region)
        return (w, h) if self.transpose else (h, w)

    @property
    def _raw_flips(self):
        return (self.fliplr, self.flipud) if self.transpose else (self.flipud, self.fliplr)

    @property
    def _starts(self):
        """First raw row and column of the region; may lie outside the frame.

        DESIGN 5.2: round(c - b (N // 2) - (b - 1) / 2), mirrored where the axis is flipped.
        """
        b = self.rebin
        starts = []
        for c, size, flip in zip(self.center, self.region, self._raw_flips):
            middle = b * (size // b // 2) + (b - 1) / 2
            starts.append(math.floor(c - (size - 1 - middle if flip else middle) + 0.5))
        return tuple(starts)

    @property
    def window(self):
        """The raw rows and columns to read: the part of the region that lies inside the frame."""
        return Window(*(slice(max(lo, 0), min(lo + size, n))
                        for lo, size, n in zip(self._starts, self.region, self.raw)))

    @property
    def padding(self):
        """((top, bottom), (left, right)): how far the region reaches beyond the raw frame."""
        return tuple((max(-lo, 0), max(lo + size - n, 0))
                     for lo, size, n in zip(self._starts, self.region, self.raw))

    @property
    def axis(self):
        """(y, x) of the optical axis in a prepared frame [prepared pixel]; near shape // 2."""
        inside = [(lo + size - 1 - c if flip else c - lo)
                  for c, lo, size, flip in zip(self.center, self._starts, self.region, self._raw_flips)]
        y, x = ((i - (self.rebin - 1) / 2) / self.rebin for i in inside)
        return (x, y) if self.transpose else (y, x)

    @property
    def only_cuts(self):
        """Whether a prepared frame is the window of the raw one as it is."""
        turned = self.transpose or self.flipud or self.fliplr
        return self.rebin == 1 and not self.mean and not turned and not any(map(any, self.padding))

    def psize(self, raw):
        """Pixel size (y, x) of a prepared frame from that of the raw detector, in the same unit."""
        y, x = (float(p) * self.rebin for p in raw)
        return (x, y) if self.transpose else (y, x)

    def dtype(self, raw):
        """The kind of number that `apply` makes of counts of dtype `raw`.

        Sums of 8- and 16-bit counts need 32 bits, all others 64.
        """
        raw = np.dtype(raw)
        if self.rebin == 1:
            return raw
        if self.mean:
            return np.dtype(float)
        if raw.kind in "ui":
            return np.dtype(f"{raw.kind}{4 if raw.itemsize < 4 else 8}")
        return np.dtype("u4") if raw.kind == "b" else raw

    def apply(self, frames, out=None):
        """Prepared frames from the window of raw frames: pad with 0, rebin, orient.

        frames : (n, *window.shape)
        out : where to put them, None for a new array
        Returns (n, *shape), C-contiguous, of dtype `dtype(frames.dtype)`. A sum beyond 64 bits
        stops at the largest value, the detector's mark for overflow.
        """
        padded = self._pad(frames)
        b = self.rebin
        if b > 1:
            parts = [padded[..., i::b, j::b] for i in range(b) for j in range(b)]
            total = parts[0].astype(float if self.mean else self.dtype(frames.dtype))
            for part in parts[1:]:
                before = total.copy() if total.dtype == frames.dtype and total.dtype.kind in "iu" else None
                total += part
                if before is not None:
                    total[(total < before) & (part > 0)] = np.iinfo(total.dtype).max
                    total[(total > before) & (part < 0)] = np.iinfo(total.dtype).min
            padded = total / b**2 if self.mean else total
        return self._orient(padded, out)

    def apply_weight(self, weight):
        """A prepared mask from the window of a raw one: True only where every part is good.

        weight : (..., *window.shape), anything above 0 is good
        Returns bool (..., *shape); padded pixels are False.
        """
        weight = np.asarray(weight)
        padded = self._pad(weight if weight.dtype == bool else weight > 0)
        b = self.rebin
        good = padded[..., ::b, ::b]
        if b > 1:
            good = np.logical_and.reduce([padded[..., i::b, j::b] for i in range(b) for j in range(b)])
        return self._orient(good)

    def apply_reasons(self, reasons):
        """Why prepared pixels are not good, from the reasons (bits, see `masks`) of the window's raw ones.

        reasons : (*window.shape) uint16. Returns (*shape) uint16: those of all parts of a pixel; padded ones are
            OUTSIDE.
        """
        padded, b = self._pad(reasons, OUTSIDE), self.rebin
        return self._orient(np.bitwise_or.reduce([padded[i::b, j::b] for i in range(b) for j in range(b)]))

    def _pad(self, frames, value=0):
        if frames.shape[-2:] != self.window.shape:
            raise FrameError(f"frames of {frames.shape[-2:]} pixels where the window has {self.window.shape}")
        if not any(map(any, self.padding)):
            return frames
        return np.pad(frames, [(0, 0)] * (frames.ndim - 2) + list(self.padding), constant_values=value)

    def _orient(self, frames, out=None):
        if self.transpose:
            frames = np.swapaxes(frames, -1, -2)
        if self.flipud:
            frames = frames[..., ::-1, :]
        if self.fliplr:
            frames = frames[..., ::-1]
        if out is None:
            out = np.empty(frames.shape, frames.dtype)
        if self.transpose and compiled.core is not None and frames.ndim == out.ndim == 3 and frames.dtype == out.dtype \
                and abs(frames.strides[1]) == frames.itemsize == out.strides[2] and frames.itemsize in compiled.SIZES:
            compiled.core.transposed(frames, out)
            return out
        # columns of one cache line at a time: a transposed frame would fetch each of its lines many times
        step = max(LINE // frames.itemsize, 1) if self.transpose else max(frames.shape[-1], 1)
        for start in range(0, frames.shape[-1], step):
            out[..., start:start + step] = frames[..., start:start + step]
        return out


def center_of(raw, center):
    """(row, col) [raw pixel] of a centre given by name, by one number or as a pair.

    >>> center_of((8, 5), "fftshift"), center_of((8, 5), "geometric"), center_of((8, 5), 3)
    ((4.0, 2.0), (3.5, 2.0), (3.0, 3.0))
    """
    if isinstance(center, str):
        if center not in CENTERS:
            raise FrameError(f"{option('center', center)}: expected one of {', '.join(CENTERS)}, a number or (row, "
                             "col)")
        return tuple({"fftshift": float(n // 2), "geometric": (n - 1) / 2, "fft": 0.0}[center] for n in raw)
    return tuple(float(c) for c in np.broadcast_to(center, 2))


def orientation_flags(orientation):
    """(transpose, flipud, fliplr) of an orientation 0-7 or of three booleans, as PtyPy counts them.

    >>> orientation_flags(5)
    (True, False, True)
    """
    if orientation is None:
        return False, False, False
    if np.ndim(orientation):
        return tuple(bool(f) for f in orientation)
    return bool(orientation & 4), bool(orientation & 2), bool(orientation & 1)
