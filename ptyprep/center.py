"""Where the optical axis is, found from frames of the whole scan."""
import numpy as np

from ptyprep.errors import FrameError

HOT = 4.0       # a pixel this many times brighter than the third-brightest on a ring around it is a fault, not light
RINGS = (1, 3)  # distances of such rings [pixel]: 1 for single hot pixels, 3 for clusters of up to 3 x 3
BOX = 5         # pixels along each side of the neighbourhood that noise is averaged over
DARK = 0.01     # this part of the brightest light, and NOISE standard deviations, are background
NOISE = 5.0
LOW = 0.1       # this part of the pixels lies below the background
MORE = 1.3      # so many times more pixels lie on a plane than on a level, where the background slopes
ROUNDS = 100


def find_center(total, counted):
    """(row, col) of the optical axis [pixel]: the point about which the light balances.

    total : (h, w) counts added up over frames, bad pixels left out
    counted : (h, w) frames in which the pixel was good; 0 where it never was

    The mean pattern is freed of hot pixels (of clusters up to 3 x 3), of its noise and of its background, which
    may rise evenly from one side to the other. Then only light whose mirror image about the estimate is a good pixel
    of the frame is weighed, and the estimate moved, until nothing pulls at it. So neither the frame's edge nor a gap
    or a beam stop does.

    Raises FrameError when there is no light.

    >>> spot = np.zeros((40, 60)); spot[9:12, 40:43] = 100.
    >>> find_center(spot, np.ones((40, 60)))
    (10.0, 41.0)
    """
    good = counted > 0
    if not good.any():
        raise FrameError("no centre can be found: every pixel is masked; set center=row,col")
    light = _above_background(np.where(good, total, 0.0) / np.maximum(counted, 1), good)
    if not light.any():
        raise FrameError("no centre can be found: the sampled frames hold no light above their background; "
                         "set center=row,col")
    at = np.argwhere(light)
    weight = light[tuple(at.T)]

    def pull(middle):
        """How far from `middle` [half pixel, so that mirror = middle - index] the balance is [pixel]."""
        mirror = middle - at
        fair = ((mirror >= 0) & (mirror < good.shape)).all(axis=1)
        fair[fair] = good[tuple(mirror[fair].T)]
        if not fair.any():
            return np.zeros(2)
        return weight[fair] @ at[fair] / weight[fair].sum() - middle / 2

    return _where_nothing_pulls(pull, np.round(2 * (weight @ at) / weight.sum()).astype(int))


def _where_nothing_pulls(pull, middle):
    """The zero of `pull` near `middle` [half pixel], as (row, col) [pixel].

    Behind a gap or an edge the pull is weak, so following it would stop early: it is the sign that counts.
    """
    for _ in range(ROUNDS):
        step = np.round(2 * pull(middle)).astype(int)
        if not step.any():
            break
        middle = middle + step
    found = middle / 2
    for _ in range(3):                                  # each axis moves the other a little
        for axis in (0, 1):
            force = pull(middle)[axis]
            for _ in range(ROUNDS):
                beyond = middle + int(np.sign(force)) * (np.arange(2) == axis)
                next_force = pull(beyond)[axis]
                if force * next_force <= 0:
                    break
                middle, force = beyond, next_force
            part = force / (force - next_force) if force != next_force else 0.0
            found[axis] = (middle + part * (beyond - middle))[axis] / 2
    return tuple(round(float(c), 6) for c in found)


def _above_background(light, good):
    """Light (h, w) without hot pixels and background; 0 where small boxes hold no more than noise."""
    least = light[light > 0].min(initial=np.inf)        # a lone photon is no hot pixel
    light = np.minimum(light, HOT * np.minimum(*(_third_brightest(light, r) for r in RINGS)) + least)
    smooth = np.where(good, _box(light * good) / np.maximum(_box(good), 1), 0.0)
    steps = smooth[:, BOX:] - smooth[:, :-BOX]
    steps = np.abs(steps[good[:, BOX:] & good[:, :-BOX]])
    noise = 1.05 * np.median(steps) if steps.size else 0.0      # standard deviation of one end: 1.48 / sqrt(2)
    dark = _background(smooth, good, noise)
    cut = dark + max(DARK * (smooth - dark)[good].max(), NOISE * noise)
    return np.where(good & (smooth > cut), np.clip(light - cut, 0, None), 0.0)


def _box(values):
    """The sum over the `BOX` x `BOX` pixels around each pixel, those beyond the edge being 0."""
    for axis in (0, 1):
        n = values.shape[axis]
        before = [(0, 0)] * 2
        before[axis] = (BOX // 2 + 1, BOX // 2)
        sums = np.cumsum(np.pad(np.asarray(values, float), before), axis=axis)
        values = np.take(sums, np.arange(BOX, n + BOX), axis) - np.take(sums, np.arange(n), axis)
    return values


def _background(smooth, good, noise):
    """What `LOW` of the good pixels lie below: a plane where most pixels lie on it and not on a level, else a level."""
    def on(background):
        return (np.abs(smooth - background)[good] <= NOISE * noise).mean()
    level = np.quantile(smooth[good], LOW)
    needed = max(0.5, MORE * on(level))
    if needed >= 1:
        return level
    plane = _plane_below(smooth, good)
    return plane if on(plane) > needed else level


def _plane_below(smooth, good):
    """The plane (h, w) that `LOW` of the good pixels lie below: quantile regression, by reweighted least squares."""
    at = np.flatnonzero(good)
    at = np.column_stack(np.unravel_index(at[::-(-len(at) // 20000)], good.shape))
    terms, values = np.column_stack([np.ones(len(at)), at]), smooth[tuple(at.T)]
    plane = np.array([np.quantile(values, LOW), 0, 0])
    for _ in range(ROUNDS // 2):
        above = values - terms @ plane
        weight = np.where(above > 0, LOW, 1 - LOW) / np.maximum(np.abs(above), 1e-6 * np.ptp(values))
        plane = np.linalg.lstsq(terms.T * weight @ terms, terms.T @ (weight * values), rcond=None)[0]
    y, x = np.indices(good.shape, sparse=True)
    return plane[0] + plane[1] * y + plane[2] * x


def _third_brightest(light, distance):
    """The third-largest of the values on the square ring at that distance around each pixel."""
    padded = np.pad(light, distance)
    h, w = light.shape
    first = second = third = np.zeros_like(light)
    for dy in range(2 * distance + 1):
        for dx in range(2 * distance + 1):
            if max(abs(dy - distance), abs(dx - distance)) < distance:
                continue
            value = padded[dy:dy + h, dx:dx + w]
            first, value = np.maximum(first, value), np.minimum(first, value)
            second, value = np.maximum(second, value), np.minimum(second, value)
            third = np.maximum(third, value)
    return third
