"""Which pixels of each frame are used; why one is not, one bit for each reason; and masks drawn as shapes."""
import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ptyprep.errors import ParameterError

#: Reasons, as bits. A pixel without any is good.
GAP, DEAD, HOT, OVERFLOW, USER, NON_FINITE, DETECTOR, OUTSIDE, NEAR_OVERFLOW = (1 << bit for bit in range(9))

#: What `info/mask_reasons` tells of each bit.
REASONS = {"gap": GAP, "dead": DEAD, "hot": HOT, "overflow": OVERFLOW, "user": USER, "non-finite": NON_FINITE,
           "detector": DETECTOR, "outside": OUTSIDE, "near overflow": NEAR_OVERFLOW}


@dataclass(frozen=True)
class Masks:
    """The masks of n frames. Mostly they are all the same, and one of them is worth keeping.

    different : bool (h, w) each, True = good, that nobody writes into
    which : (n,) the number of each frame's mask among them
    """
    different: Sequence
    which: np.ndarray

    @classmethod
    def each(cls, stack):
        """Masks (n, h, w) that are taken to be all different."""
        return cls(stack, np.arange(len(stack)))

    @classmethod
    def joined(cls, parts):
        """Those of some frames after those of others.

        >>> few, more = Masks.each(np.array([[[True]]])), Masks.each(np.array([[[True]], [[False]]]))
        >>> Masks.joined([few, more, few]).which
        array([0, 0, 1, 2])
        """
        different, which = [], []
        for part in (part for part in parts if len(part.which)):
            same = bool(different) and same_mask(different[-1], part.different[0])
            which.append(part.which + len(different) - same)
            different.extend(part.different[same:])
        return cls(different, np.concatenate(which))

    def stack(self):
        """bool (n, h, w) that nobody can write into: where all are the same it is one mask, seen n times."""
        if len(self.different) == 1:
            return np.broadcast_to(self.different[0], (len(self.which), *self.different[0].shape))
        every = np.stack([self.different[number] for number in self.which.tolist()])
        every.flags.writeable = False
        return every


def same_mask(one, other):
    """Whether two masks, of which one may be None, are equal."""
    return one is other or one is not None and other is not None and np.array_equal(one, other)


def of_nexus(pixel_mask, others=0):
    """Reasons (h, w) uint8 of the bits of an NXdetector `pixel_mask`; `others` where none but bits above 15 are set.

    Bit 0 is a gap, 1 dead, 2 under- and 3 over-responding, 4 noisy, 5 and 7 undefined, 6 part of a cluster of
    problematic pixels, 8 user-defined; a pixel is bad if `mask & 0xFFFF` (NXdetector and NXmx). The bits above are no
    faults: 31 marks virtual pixels, whose counts are made from others.

    >>> of_nexus(np.array([[0, 1, 2, 8, 64, 256]])).tolist()
    [[0, 1, 2, 4, 64, 16]]
    """
    bits = np.asarray(pixel_mask)
    found = np.zeros(bits.shape, np.uint8)
    bad = np.flatnonzero(bits != 0)         # few
    bits, reasons = bits.reshape(-1)[bad].astype(np.int64), np.zeros(len(bad), np.uint8)
    for mask, reason in ((1 << 0, GAP), (1 << 1, DEAD), (1 << 3 | 1 << 4, HOT),
                         (1 << 2 | 1 << 5 | 1 << 6 | 1 << 7, DETECTOR), (0xff00, USER)):
        reasons[(bits & mask) != 0] |= reason
    reasons[reasons == 0] = others
    found.reshape(-1)[bad] = reasons
    return found


def as_text(mask):
    """A mask as a short text, "" where nothing is set."""
    return b64encode(zlib.compress(np.packbits(mask).tobytes())).decode() if mask.any() else ""


def from_text(shape, *texts):
    """The mask of that shape that is set where any of some masks is, each written by `as_text`.

    >>> from_text((1, 3), as_text(np.array([[1, 0, 0]])), "", as_text(np.array([[0, 0, 1]])))
    array([[ True, False,  True]])
    """
    together = np.zeros(int(np.prod(shape)), bool)
    for text in filter(None, texts):
        bits = np.frombuffer(zlib.decompress(b64decode(text)), np.uint8)
        together |= np.unpackbits(bits, count=together.size).astype(bool)
    return together.reshape(shape)


def shapes(text, shape):
    """Which pixels of a frame (h, w) the shapes in a text cover: bool (h, w).

    One shape after the other, separated by semicolons or lines; numbers in pixels, the middle of the first one is
    (0, 0), rows first:

        circle Y X RADIUS               rectangle Y0 Y1 X0 X1      rows Y0 to Y1 and columns X0 to X1, the last excluded
        polygon Y X Y X Y X ...         line Y0 X0 Y1 X1 WIDTH     with straight ends; for the arm of a beam stop

    `not` before a shape takes all that lies outside.

    Raises ParameterError that names the shape and how it is written.

    >>> shapes("rectangle 0 1 0 2; circle 2 2 0.5", (3, 4)).astype(int)
    array([[1, 1, 0, 0],
           [0, 0, 0, 0],
           [0, 0, 1, 0]])
    """
    y, x = np.ogrid[:shape[0], :shape[1]]
    covered = np.zeros(shape, bool)
    for item in (part.strip() for line in text.splitlines() for part in line.split(";")):
        if not item:
            continue
        words = item.replace(",", " ").split()
        outside = words[0].lower() in ("not", "outside")
        name, *numbers = words[outside:] or [""]
        draw, form = _SHAPES.get(name.lower(), (None, None))
        if draw is None:
            raise ParameterError(f"mask shape {item!r}: expected one of {', '.join(_SHAPES)}, then numbers; such as "
                                 f"{_SHAPES['circle'][1]!r}")
        try:
            inside = draw(y, x, *map(float, numbers))
        except (TypeError, ValueError):
            raise ParameterError(f"mask shape {item!r}: expected {form!r}, with numbers [pixel]") from None
        covered |= np.broadcast_to(~inside if outside else inside, shape)
    return covered


def _circle(y, x, y0, x0, radius):
    return (y - y0) ** 2 + (x - x0) ** 2 <= radius ** 2


def _rectangle(y, x, y0, y1, x0, x1):
    return (y >= y0) & (y < y1) & (x >= x0) & (x < x1)


def _polygon(y, x, *corners):
    if len(corners) < 6 or len(corners) % 2:
        raise ValueError(corners)
    points = np.reshape(corners, (-1, 2))
    inside = np.zeros(np.broadcast_shapes(y.shape, x.shape), bool)
    for (ya, xa), (yb, xb) in zip(points, np.roll(points, -1, axis=0)):
        if ya != yb:            # a ray along the row crosses this edge
            inside ^= ((ya <= y) != (yb <= y)) & (x < (xb - xa) * (y - ya) / (yb - ya) + xa)
    return inside


def _line(y, x, ya, xa, yb, xb, width):
    length = np.hypot(yb - ya, xb - xa)
    if not length:
        raise ValueError("a line of no length")
    along = ((y - ya) * (yb - ya) + (x - xa) * (xb - xa)) / length
    across = ((y - ya) * (xb - xa) - (x - xa) * (yb - ya)) / length
    return (along >= 0) & (along <= length) & (abs(across) <= width / 2)


_SHAPES = {"circle": (_circle, "circle Y X RADIUS"), "rectangle": (_rectangle, "rectangle Y0 Y1 X0 X1"),
           "polygon": (_polygon, "polygon Y X Y X Y X"), "line": (_line, "line Y0 X0 Y1 X1 WIDTH")}
