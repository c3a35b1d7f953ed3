"""Where the optical axis is, found from frames of the whole scan, and how uncertain that is.

The light of a far-field pattern is uneven, but the shape that it lights is symmetric. So the centre is the point about
which the shape mirrors itself, on several levels of brightness. A pixel whose mirror image is masked or beyond the
frame is no evidence. Decision 20 has the reasons, and how often this is right.
"""
from typing import NamedTuple

import numpy as np

from ptyprep.errors import FrameError
from ptyprep.processing.light import NOISE, background, binned, noise_of, photon, slopes, smoothed, without_hot
from ptyprep.words.spelling import option

SIDE = 256          # larger frames are binned to so many rows and columns, and the beam is then looked at closer
SMALL = 5           # no picture has fewer
BINS = 1, 2, 4      # light too weak for single pixels is looked at in larger ones
REACH = 3           # the closer look reaches so many radii of the beam around its centre
CLUSTER = 9         # so many lit pixels may all be hot
DARK = 0.002        # less than this part of the brightest light is background; so is what NOISE and one photon make
CLEAR = 4           # the brightest light must be this many times brighter than background
BEAM = 0.1          # light brighter than this part of the brightest is the beam
LEVELS, HIGHEST = 6, 0.3        # how many levels are looked at; the highest is this part of the brightest light
MISMATCH = 0.3      # mirror images that differ by more, on a scale of 0 (dark) to 1 (lit), count little
STEPS = 10
WEDGES = 12         # pairs of opposite sectors, each of which is left out once
UNEVEN = 0.25       # standard deviation of (brightness at the rim of the beam / brightness in the middle) - 1
FLOOR = 0.03        # no centre is more certain [pixel of the picture]

# doubts; lengths in radii of the beam
ALIKE, ALIKE_AT_EDGE = 0.8, 0.95    # how alike mirror images must be; and where the frame's edge cuts the beam
INSIDE = 0.4        # how far inside the frame the centre of a beam that its edge cuts must lie
OUTLINE = 0.25      # part of the beam's outline that must have a mirror image
OTHERS = 0.2        # a centre with this part of the best one's outline is another candidate
AWAY, LARGE = 0.45, 0.15        # how far away another candidate, and how large the uncertainty may be
HOLLOW, ROUND, THIN = 0.3, 0.75, 0.58       # see `_refuse_rings`


class Center(NamedTuple):
    """The optical axis on the raw frame, and the standard deviations of its error [pixel]."""

    row: float
    col: float
    sigma_row: float
    sigma_col: float


class _Fit(NamedTuple):
    """A centre in a picture and its uncertainty, (row, col) each; and of the beam, how alike its mirror images are (0
    to 1), and which part of its light has one."""

    at: np.ndarray
    sigma: np.ndarray
    alike: float = 0.0
    seen: float = 0.0


def find_center(total, counted):
    """The `Center` of the light: the point about which its shape mirrors itself.

    total : (h, w) counts added up over frames, bad pixels left out
    counted : (h, w) frames in which the pixel was good; 0 where it never was

    Hot pixels (clusters up to 3 x 3), noise, and a background that rises evenly across the frame are no light.

    Raises FrameError when there is no light, and when nobody can tell where its centre is.

    >>> spot = np.zeros((40, 60)); spot[8:13, 39:44] = 100.
    >>> find_center(spot, np.ones((40, 60)))[:2]
    (10.0, 41.0)
    """
    good = np.asarray(counted) > 0
    if not good.any():
        raise FrameError("no centre can be found: every pixel is masked; set "
                         f"{option('center', words=('row', 'column'))}")
    light = without_hot(np.where(good, total, 0.0) / np.maximum(counted, 1))
    light /= np.abs(light).max() or 1
    picture = _bright_enough(light, good, np.s_[:, :])
    fit = picture.best()
    if picture.bin > 1 and fit:
        picture = _bright_enough(light, good, picture.about(fit.at))
        fit = picture.best()
    if not fit:
        raise _cannot_tell("the light has no shape that mirrors itself")
    sigma = _sigma_without_doubt(picture, fit)
    return Center(*(round(float(v), 4) for v in (*picture.on_frame(fit.at), *sigma * picture.bin)))


def _bright_enough(light, good, window):
    """The finest `_Picture` in which light stands out."""
    size = light[window].shape
    if min(size) * SIDE < SMALL * max(size) or min(size) < SMALL:
        raise _cannot_tell(f"a frame of {size[0]} x {size[1]} pixels is too narrow")
    for least in BINS:
        n = max(-(-max(size) // SIDE), least)
        picture = _Picture(light, good, window, n) if min(size) >= SMALL * n else None
        if picture and not picture.dark:
            return picture
    raise FrameError("no centre can be found: the sampled frames hold no light above their background; set "
                     f"{option('center', words=('row', 'column'))}")


def _cannot_tell(why):
    return FrameError(f"cannot tell where the centre is: {why}; set {option('center', words=('row', 'column'))}")


class _Picture:
    """Light without noise and background (h, w), binned where the frame is large or the light weak.

    window : slices (rows, columns) of the frame that it shows
    n : so many rows and columns of the frame are one of the picture
    """

    def __init__(self, light, good, window, n):
        self.frame, self.origin = np.array(good.shape), np.array([rows.start or 0 for rows in window])
        light, good = light[window], good[window]
        self.bin = n
        light, self.good, hit = binned(light, good, self.bin)
        smooth, self.fair = smoothed(light, self.good)
        noise = noise_of(smooth, self.good)
        below = background(smooth, self.good, noise) if self.good.any() else 0.0
        self.light = np.where(self.good, np.clip(smooth - below, 0, None), 0.0)
        self.peak = self.light.max()
        self.lowest = max(DARK * self.peak, NOISE * noise, photon(light, self.good), 1e-9 * np.abs(smooth).max())
        self.dark = self.peak <= CLEAR * self.lowest or hit[self.light > self.lowest].sum() <= CLUSTER
        if not self.dark:
            self.levels = np.geomspace(HIGHEST * self.peak, self.lowest, LEVELS)
            self.beam_level = max(BEAM * self.peak, self.lowest)
            self.bright = self.good & (light - below > self.peak / 2)
            self.beam = self.shape(self.beam_level)
            self.radius = np.sqrt(max((self.beam > 0.5).sum(), 1) / np.pi)

    def shape(self, level):
        """0 where it is darker than the level, 1 where it is brighter; an unfair pixel is 0 and has no mirror image."""
        return np.where(self.fair, self.light**2 / (self.light**2 + level**2), 0.0)

    def on_frame(self, at):
        """A place in the picture as a place on the frame."""
        return (at + 0.5) * self.bin - 0.5 + self.origin

    def about(self, at):
        """The window of the frame that shows the beam and its surroundings alone."""
        reach = int(REACH * self.radius * self.bin) + 16
        middle = np.round(self.on_frame(at)).astype(int)
        return tuple(slice(max(m - reach, 0), m + reach + 1) for m in middle)

    def from_center(self, at):
        """Rows (h, 1) and columns (w) counted from there."""
        return np.arange(self.good.shape[0])[:, None] - at[0], np.arange(self.good.shape[1]) - at[1]

    # --- everywhere: by Fourier transforms --------------------------------------------------------

    def best(self):
        """The `_Fit` whose mirror images are best, None where there is none."""
        fits = [fit for place in self._places() if (fit := self._fit(place))]
        return max(fits, key=lambda fit: (fit.alike - 0.6) * fit.seen, default=None)

    def _places(self):
        """Places (row, col) worth a closer look: where much light has a mirror image much like it."""
        merits = []
        for level in self.levels[::2]:
            shape = self.shape(level)
            if not shape.any():         # no fair pixel is lit
                continue
            common, power = self.mirrored(shape)
            merits += [(common - least * power) / (shape**2).sum() for least in (0.6, 0.85)]
        places = []
        for merit in (*merits, sum(merits)) if merits else ():
            at = np.array(np.unravel_index(merit.argmax(), merit.shape)) / 2
            if all(np.hypot(*(at - place)) > 0.1 * self.radius + 1 for place in places):
                places.append(at)
        return places

    def mirrored(self, shape):
        """(common, power), (2 h - 1, 2 w - 1): what light has in common with its mirror image about each half pixel,
        and what it would have if they were equal."""
        return (_with_mirror_images(shape),
                np.clip(_with_mirror_images(shape**2, self.fair), 1e-9 * (shape**2).sum(), None))

    def mirrored_outline(self):
        """Which part of the beam's outline has a mirror image about each half pixel, (2 h - 1, 2 w - 1)."""
        outline = slopes(np.clip(self.beam, 0.2, None), self.fair)      # without what noise there is outside
        return -sum(map(_with_mirror_images, outline)) / sum((slope**2).sum() for slope in outline)

    # --- near one place: least squares ------------------------------------------------------------

    def _fit(self, place):
        """The `_Fit` near there. The less uncertain a level's centre is, the more it counts."""
        fits = []
        for level in self.levels:       # from the brightest on, each begins where the last one ended
            if fit := self._fit_shape(self.shape(level), fits[-1].at if fits else place):
                fits.append(fit)
        if not fits:
            return None
        at, sigma = (np.array([getattr(fit, name) for fit in fits]) for name in ("at", "sigma"))
        weight = sigma**-4 / (sigma**-4).sum(axis=0)
        mean = (weight * at).sum(axis=0)
        spread = (sigma**-2 * (at - mean) ** 2).sum(axis=0) / (sigma**-2).sum(axis=0)
        sigma = np.sqrt((weight * sigma**2).sum(axis=0) + spread + FLOOR**2)
        pairs = self._pairs(self.beam, np.round(2 * mean).astype(int))
        return _Fit(mean, sigma, *pairs.likeness()) if pairs else None

    def _fit_shape(self, shape, at):
        """The `_Fit` of one level, by Gauss-Newton steps on differences of mirror images; None where it is lost."""
        slope = slopes(shape, self.fair)
        for _ in range(STEPS):
            middle = np.round(2 * np.asarray(at)).astype(int)
            pairs = self._pairs(shape, middle, slope)
            if pairs is None:
                return None
            pairs.weigh(at - middle / 2)
            curvature, pull = (part.sum(axis=-1) for part in pairs.equations())
            if not _solvable(curvature):
                return None
            before, at = at, middle / 2 + np.clip(np.linalg.solve(curvature, pull), -2, 2)
            if np.abs(at - before).max() < 0.003:
                break
        sigma = self._sigma(pairs, at)
        return None if sigma is None else _Fit(at, sigma)

    def _sigma(self, pairs, at):
        """By how much single wedges, and a beam that is brighter on one side, would move the centre (row, col)."""
        y, x = (axis[here] for axis, here in zip(self.from_center(at), pairs.here))
        curvature, pull = pairs.equations((np.arctan2(y, x) * WEDGES / np.pi).astype(int) % WEDGES)
        moved = []
        for wedge in range(WEDGES):
            left = curvature.sum(axis=-1) - curvature[..., wedge]
            if not _solvable(left):
                return None
            moved.append(np.linalg.solve(left, pull.sum(axis=-1) - pull[..., wedge]))
        noise = (WEDGES - 1) * np.var(moved, axis=0)                                # the jackknife
        uneven = np.linalg.solve(curvature.sum(axis=-1), pairs.tilted(y, x)) * UNEVEN / self.radius
        return np.sqrt(noise + (uneven**2).sum(axis=1))

    def _pairs(self, shape, middle, slope=None):
        size = np.array(shape.shape)
        low, high = np.maximum(middle - size + 1, 0), np.minimum(middle, size - 1)
        if (high - low < 1).any():
            return None
        return _Pairs(shape, self.fair, tuple(slice(a, b + 1) for a, b in zip(low, high)), slope)


class _Pairs:
    """Pixels `here` (slices) of a shape and their mirror images about one point.

    slopes : of the shape along rows and along columns, where more is asked for than how alike they are
    """

    def __init__(self, shape, fair, here, slope=None):
        self.here, self._whole = here, (shape**2).sum()
        self._one, self._other = shape[here], self._turned(shape)
        self._fair = fair[here] & self._turned(fair)
        self._off = np.where(self._fair, self._one - self._other, 0.0)
        if slope is not None:       # what a centre one pixel further changes in `off`
            self._down, self._right = (self._turned(along) - along[here] for along in slope)

    def _turned(self, values):
        return values[self.here][::-1, ::-1]

    def likeness(self):
        """(alike, seen): see `_Fit`."""
        power = (self._one**2 + self._other**2)[self._fair].sum() / 2
        return (self._one * self._other)[self._fair].sum() / max(power, 1e-300), power / self._whole

    def weigh(self, shift):
        """Let pairs count that are alike about a centre so far from the middle (row, col): a shadow is no evidence."""
        off = self._off - shift[0] * self._down - shift[1] * self._right
        self._weight = self._fair / (1 + (off / MISMATCH) ** 2) ** 2

    def equations(self, wedges=None):
        """Normal equations for the shift from the middle to the centre, one for each wedge: curvature (2, 2, wedges)
        and pull (2, wedges)."""
        def added(values):
            values = (self._weight * values).ravel()
            return values.sum(keepdims=True) if wedges is None else np.bincount(wedges.ravel(), values, WEDGES)
        across = added(self._down * self._right)
        return (np.array([[added(self._down**2), across], [across, added(self._right**2)]]),
                np.array([added(self._down * self._off), added(self._right * self._off)]))

    def tilted(self, y, x):
        """(2, 2) pull along rows and columns (first axis) of light that doubles in one pixel down, or right (second).

        The shape s = l² / (l² + level²) of light l changes by 2 s (1 - s) where l doubles.
        """
        change = 2 * self._weight * (self._one * (1 - self._one) + self._other * (1 - self._other))
        return np.array([[(change * slope * along).sum() for along in (y, x)] for slope in (self._down, self._right)])


def _with_mirror_images(one, other=None):
    """(2 h - 1, 2 w - 1): sums of products of pixels that mirror each other about each half pixel, one of each pair
    from `one`, the other from `other` or `one` too: the full convolution."""
    size = [2 * n for n in one.shape]
    spectrum = np.fft.rfft2(one, size)
    return np.fft.irfft2(spectrum * (spectrum if other is None else np.fft.rfft2(other, size)), size)[:-1, :-1]


def _solvable(matrix):
    return np.linalg.det(matrix) > 1e-9 * np.trace(matrix) ** 2


# --- doubt ----------------------------------------------------------------------------------------------


def _sigma_without_doubt(picture, fit):
    """The uncertainty of the fit (row, col) [pixel of the picture], other candidates included.

    Raises FrameError where the fit may be anything but the optical axis.
    """
    cut, where = _cut_by_edge(picture), picture.on_frame(fit.at)
    inside = min(*where, *(picture.frame - 1 - where)) / picture.bin
    if inside <= 0 or cut and inside < INSIDE * picture.radius:
        raise _cannot_tell("the light lies at the edge of the frame, and the beam may be beyond it")
    _refuse_cluster(picture, fit.at)
    _refuse_rings(picture, fit.at)
    if fit.alike < ALIKE:
        raise _cannot_tell(f"the light is not symmetric about any point (at best {fit.alike:.0%} of it, expected "
                           f"{ALIKE:.0%})")
    if cut and fit.alike < ALIKE_AT_EDGE:
        raise _cannot_tell("the edge of the frame cuts the light, and what is left does not show where its middle is")
    away, outline = _others(picture, fit)
    if outline < OUTLINE:
        raise _cannot_tell(f"gaps, masks and edges hide too much of the beam: {max(outline, 0):.0%} of its outline has "
                           f"a mirror image (expected {OUTLINE:.0%})")
    sigma = np.hypot(fit.sigma, np.where(away > 0.1 * picture.radius, away / 3, 0))
    if (away > AWAY * picture.radius).any() or (sigma > LARGE * picture.radius).any():
        vague = np.maximum(away, sigma) * picture.bin
        raise _cannot_tell(f"row {where[0]:.1f}, column {where[1]:.1f} fits best, but places {vague[0]:.1f} rows and "
                           f"{vague[1]:.1f} columns away fit as well, for a beam with a radius of "
                           f"{picture.radius * picture.bin:.0f} pixels")
    return sigma


def _cut_by_edge(picture):
    """Whether the beam is lit at the edge of the frame."""
    begins = picture.origin == 0
    ends = picture.origin + np.array(picture.light.shape) * picture.bin > picture.frame - picture.bin
    edges = ((begins[0], np.s_[0]), (ends[0], np.s_[-1]), (begins[1], np.s_[:, 0]), (ends[1], np.s_[:, -1]))
    return any(there and (picture.light[edge] > picture.beam_level).sum() > 2 for there, edge in edges)


def _others(picture, fit):
    """(away, outline): how far away (rows, columns) the farthest centre is that is as good, and which part of the
    beam's outline has a mirror image about the best one."""
    common, power = picture.mirrored(picture.beam)
    alike, outline = common / power, picture.mirrored_outline()
    middle = tuple(np.round(2 * fit.at).astype(int))
    tolerance = 0.001 + (1 - alike[middle]) / 2
    good = (alike > alike[middle] - tolerance) & (outline > OTHERS * outline[middle])
    return np.abs(np.argwhere(good) / 2 - fit.at).max(axis=0, initial=0), outline[middle]


def _refuse_cluster(picture, at):
    """Raise where no more pixels are bright than a few hot clusters have."""
    if picture.bin > 1 or picture.bright.sum() > 4 * CLUSTER:
        return
    near = tuple(slice(max(round(c) - 3, 0), round(c) + 4) for c in at)
    if picture.bright[near].sum() <= CLUSTER and picture.good[near].sum() > 4 * CLUSTER:
        raise _cannot_tell("only a few pixels are bright, as hot ones are")


def _refuse_rings(picture, at):
    """Raise where rings of powder or two beams lie about a dark middle. In an annulus (a zone plate, or a beam with the
    shadow of its stop) light lies all around, and the ring is broad."""
    around, distances = _by_distance(picture, at)
    mean = np.nanmean(around, axis=0)
    top = mean.argmax()
    brightest, within, beyond = mean[top], mean[:top + 1], mean[top:]
    next_ring = beyond[beyond > 2 * np.minimum.accumulate(beyond)].max(initial=0) / brightest
    rings = next_ring > 0.5
    if within.min() < HOLLOW * brightest:
        ring = around[:, top][~np.isnan(around[:, top])]
        if (ring > 0.3 * brightest).mean() < ROUND:
            raise _cannot_tell("the light lies on two sides of a dark middle, as that of two beams does")
        inner = distances[:top + 1][within < 0.5 * brightest].max(initial=0)
        outer = distances[top:][beyond < 0.5 * brightest].min(initial=distances[-1])
        rings = inner > THIN * outer or next_ring > HOLLOW
    if rings:
        raise _cannot_tell("the light forms rings, as that of powder does, and no beam is seen in their middle")


def _by_distance(picture, at):
    """(2 WEDGES, d) mean light in each sector at each distance, NaN where no pixel is good; the distances (d)."""
    y, x = picture.from_center(at)
    distance = np.hypot(y, x).astype(int)
    sector = ((np.arctan2(y, x) / np.pi + 1) * WEDGES).astype(int) % (2 * WEDGES)
    n = distance.max() + 1
    place = (sector * n + distance)[picture.good]
    count, light = (np.bincount(place, values, 2 * WEDGES * n).reshape(-1, n)
                    for values in (None, picture.light[picture.good]))
    known = np.flatnonzero(count.any(axis=0))
    return np.where(count, light / np.maximum(count, 1), np.nan)[:, known], known
