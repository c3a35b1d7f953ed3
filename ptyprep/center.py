"""Where the optical axis is, found from frames of the whole scan."""
import numpy as np

from ptyprep.errors import FrameError

HOT = 4.0       # a pixel this many times brighter than its third-brightest neighbour is a fault, not light
ROUNDS = 100


def find_center(total, counted):
    """(row, col) of the optical axis [pixel]: the point about which the light balances.

    total : (h, w) counts added up over frames, bad pixels left out
    counted : (h, w) frames in which the pixel was good; 0 where it never was

    The mean pattern, freed of single hot pixels and of its background, is weighed inside the
    largest window that is symmetric about the current estimate, using only pixels whose mirror
    image is good too; then again about the result, until it stays. So neither the frame's edge nor
    a gap or a beam stop pulls at the centre.

    Raises FrameError when there is no light.

    >>> spot = np.zeros((40, 60)); spot[9:12, 40:43] = 100.
    >>> find_center(spot, np.ones((40, 60)))
    (10.0, 41.0)
    """
    good = counted > 0
    if not good.any():
        raise FrameError("no centre can be found: every pixel is masked; set center=row,col")
    light = np.where(good, total, 0.0) / np.maximum(counted, 1)
    light = np.minimum(light, HOT * _third_brightest_neighbour(light) + 1)
    light = np.where(good, np.clip(light - np.median(light[good]), 0, None), 0.0)
    if not light.any():
        raise FrameError("no centre can be found: the sampled frames hold no light above their background; "
                         "set center=row,col")
    center = _balance(light, np.indices(light.shape))
    for _ in range(ROUNDS):
        moved = _balance_about(light, good, center)
        if np.allclose(moved, center, atol=1e-3):
            break
        center = moved
    return tuple(float(c) for c in moved)


def _balance(light, at):
    return np.array([(a * light).sum() for a in at]) / light.sum()


def _balance_about(light, good, center):
    """Centre of mass in the largest window symmetric about `center` (to the nearest half pixel)."""
    middle = np.round(2 * np.asarray(center)).astype(int)      # in half pixels, so that mirror = middle - index
    cuts = []
    for m, n in zip(middle, light.shape):
        reach = min(m, 2 * (n - 1) - m)
        cuts.append(slice((m - reach + 1) // 2, (m + reach) // 2 + 1))
    light, good = light[tuple(cuts)], good[tuple(cuts)]
    both = light * good[::-1, ::-1]
    if not both.any():
        return np.asarray(center)
    return _balance(both, np.indices(both.shape)) + [c.start for c in cuts]


def _third_brightest_neighbour(light):
    """The third-largest of the eight values around each pixel."""
    padded = np.pad(light, 1)
    h, w = light.shape
    first = second = third = np.zeros_like(light)
    for dy in range(3):
        for dx in range(3):
            if dy == dx == 1:
                continue
            value = padded[dy:dy + h, dx:dx + w]
            first, value = np.maximum(first, value), np.minimum(first, value)
            second, value = np.maximum(second, value), np.minimum(second, value)
            third = np.maximum(third, value)
    return third
