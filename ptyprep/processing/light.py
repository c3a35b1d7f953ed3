"""What of the counts is light: free of hot pixels, noise and background; for finding where its centre is."""
import numpy as np

HOT = 4.0       # a pixel this many times brighter than the third-brightest on a ring around it is a fault, not light
BROKEN = 100.0  # one this many times brighter is no light at all
RINGS = (1, 3)  # distances of such rings [pixel]: 1 for single hot pixels, 3 for clusters of up to 3 x 3
ROWS = 64       # rows looked at together, for they fit into the processor's cache
ASIDE = 0.5     # the good neighbours of a pixel may lie so much to one side on average [pixel]
NOISE = 5.0     # this many standard deviations are no light
LOW = 0.1       # this part of the pixels lies below the background
MORE = 1.3      # so many times more pixels lie on a plane than on a level, where the background slopes
ROUNDS = 50


def without_hot(light):
    """Light (h, w) in which hot pixels, clusters up to 3 x 3 too, are no brighter than their surroundings allow."""
    least = light[light > 0].min(initial=np.inf)        # a lone photon is no hot pixel
    padded, found = np.pad(light, max(RINGS)), np.empty_like(light)
    for top in range(0, len(light), ROWS):
        here = light[top:top + ROWS]
        limit = np.minimum(*(_third_brightest(padded[top:top + ROWS + 2 * max(RINGS)], ring) for ring in RINGS))
        found[top:top + ROWS] = np.where(here > BROKEN * limit + least, limit, np.minimum(here, HOT * limit + least))
    return found


def _third_brightest(padded, distance):
    """The third-largest of the values on the square ring at that distance around each pixel that is no padding."""
    edge, (h, w) = max(RINGS), padded.shape
    first = second = third = np.zeros((h - 2 * edge, w - 2 * edge), padded.dtype)
    for dy in range(-distance, distance + 1):
        for dx in range(-distance, distance + 1):
            if max(abs(dy), abs(dx)) < distance:
                continue
            value = padded[edge + dy:h - edge + dy, edge + dx:w - edge + dx]
            first, value = np.maximum(first, value), np.minimum(first, value)
            second, value = np.maximum(second, value), np.minimum(second, value)
            third = np.maximum(third, value)
    return third


def binned(light, good, n):
    """(light, good, lit) of n x n pixels each: the mean of the good ones, whether half of them are good, and on how
    many any light fell. Less than n rows or columns at the end are left out."""
    h, w = (size // n for size in light.shape)

    def added(values):
        return values[:h * n, :w * n].reshape(h, n, w, n).sum(axis=(1, 3))
    count = added(good)
    return added(np.where(good, light, 0)) / np.maximum(count, 1), count >= n * n / 2, added(good & (light > 0))


def smoothed(light, good):
    """(smooth, fair): light averaged over the good pixels of 5 x 5, the nearer ones more, 0 where the pixel is bad;
    and the good pixels around which it was averaged. Beside a mask or an edge most neighbours lie on one side."""
    count = np.maximum(_box(_box(good.astype(float))), 1)
    smooth = np.where(good, _box(_box(np.where(good, light, 0.0))) / count, 0.0)
    aside = [_box(_box(np.where(good, at, 0.0))) / count - at for at in np.indices(good.shape, sparse=True)]
    return smooth, good & (np.abs(aside) < ASIDE).all(axis=0)


def _box(values):
    """The sum over the 3 x 3 pixels around each pixel, those beyond the edge being 0."""
    for axis in (0, 1):
        n = values.shape[axis]
        padded = np.pad(values, [(1, 1) if a == axis else (0, 0) for a in (0, 1)])
        values = sum(np.take(padded, np.arange(k, k + n), axis) for k in range(3))
    return values


def slopes(values, good):
    """The slope along rows and along columns [(h, w), (h, w)], from the good neighbours of each pixel."""
    found = []
    for axis in (0, 1):
        both = np.delete(good, 0, axis) & np.delete(good, -1, axis)
        rise = np.where(both, np.diff(values, axis=axis), 0)
        ends = [[side if a == axis else (0, 0) for a in (0, 1)] for side in ((1, 0), (0, 1))]
        total, count = (sum(np.pad(part, end) for end in ends) for part in (rise, both.astype(float)))
        found.append(total / np.maximum(count, 1))
    return found


def noise_of(smooth, good):
    """Standard deviation of the noise where it is dark, from pixels five columns apart."""
    steps = np.abs(smooth[:, 5:] - smooth[:, :-5])[good[:, 5:] & good[:, :-5]]
    return 1.05 * np.median(steps) if steps.size else 0.0                 # 1.48 / sqrt(2)


def photon(light, good):
    """What one photon adds to a pixel, from the noise where there is light; 0 where too few pixels can show it."""
    one, other = light[:, 2:], light[:, :-2]
    lit = good[:, 2:] & good[:, :-2] & (one + other > 0)
    one, other = one[lit], other[lit]
    return np.median((one - other) ** 2 / (one + other)) / 0.455 if len(one) > 64 else 0.0     # median of chi squared


def background(smooth, good, noise):
    """What `LOW` of the good pixels lie below: a plane where most pixels lie on it and not on a level, else a level."""
    def on(below):
        return (np.abs(smooth - below)[good] <= NOISE * noise).mean()
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
    for _ in range(ROUNDS):
        above = values - terms @ plane
        weight = np.where(above > 0, LOW, 1 - LOW) / np.maximum(np.abs(above), 1e-6 * np.ptp(values))
        plane = np.linalg.lstsq(terms.T * weight @ terms, terms.T @ (weight * values), rcond=None)[0]
    y, x = np.indices(good.shape, sparse=True)
    return plane[0] + plane[1] * y + plane[2] * x
