"""What a scan's geometry means on the object, and whether given values agree with recorded ones: numbers only."""
from typing import NamedTuple

import numpy as np

from ptyprep.units import HC

EFFECTIVE = 0.5e-6      # metres; no detector has such small pixels: this is the effective one of a magnifying beam
SAMPLE = 500            # positions whose nearest neighbour is looked for
SLANT = np.exp(0.5j)    # turns positions
NEAR = 100              # neighbours in the sorted list that a search begins with
TOLERANCE = {"energy": 0.005, "distance": 0.05, "psize": 0.01}      # relative; more is not the same value any more
OFF = 10                # pixels between two centres that are not the same
TILES, AROUND = 64, 8   # tiles along the shorter side of a frame; part of it that counts as around the centre
LOW = 0.1               # this part of the tiles lies below the background
FLAT = 0.1              # light of less than this part of the background stands out nowhere
PHOTONS = 50            # so many are to be expected around the centre, or nothing can be told
SWAPPED = 2             # pixels within which two centres agree, rows and columns exchanged


class Steps(NamedTuple):
    """Medians of the distances between positions [m]: to the next one in the order of the scan, and to the nearest."""
    next: float
    nearest: float


def object_pixel(energy, distance, psize, shape):
    """Size (y, x) [m] of a pixel of the object: wavelength x distance / (frame's pixels x their size), the far field.

    energy [keV], distance [m], psize (y, x) [m] and shape (h, w) of a prepared frame. A psize below 0.5 um is the
    effective one of a magnifying beam: its frames are of the near field, where the object has pixels of this size.

    >>> object_pixel(12.398419843320026, 2.0, (75e-6, 75e-6), (1000, 500))
    (2.666...e-09, 5.333...e-09)
    """
    sizes = [float(size) for size in np.broadcast_to(psize, 2)]
    if max(sizes) < EFFECTIVE:
        return tuple(sizes)
    return tuple(HC * 1e-10 / energy * distance / (n * size) for n, size in zip(shape, sizes))


def steps(positions):
    """`Steps` of positions (n, 2) [m]; None where there are fewer than two places.

    Places that come twice count once for the nearest. Of many positions the neighbours of 500 are looked for, which
    are spread evenly over the scan.

    >>> steps([[0, 0], [0, 3], [0, 6], [2, 0], [2, 3], [2, 6]])
    Steps(next=3.0, nearest=2.0)
    """
    at = np.asarray(positions, float)
    at = at[np.isfinite(at).all(axis=1)] @ [1, 1j]      # as complex numbers, whose absolute values are distances
    places = np.unique(at)
    if len(places) < 2:
        return None
    ahead = (places * SLANT).real                       # along a direction in which no two of a raster are alike
    order = np.argsort(ahead)
    places, ahead = places[order], ahead[order]
    some = np.unique(np.linspace(0, len(places) - 1, SAMPLE).astype(int))
    return Steps(float(np.median(np.abs(np.diff(at)))), float(np.median([_nearest(places, ahead, i) for i in some])))


def _nearest(places, ahead, i):
    """Distance of place i to the nearest other one; `ahead` is sorted, and no two places are further apart in it than
    they are."""
    def closest(start, stop):
        return np.partition(np.abs(places[start:stop] - places[i]), 1)[1]       # the first is i itself
    reach = closest(max(i - NEAR, 0), i + NEAR + 1)
    start, stop = np.searchsorted(ahead, (ahead[i] - 1.01 * reach, ahead[i] + 1.01 * reach))     # i and another
    return min(reach, closest(start, stop)) if stop - start > 1 else reach


def contradicts(name, given, recorded):
    """Whether a given energy, distance or psize is another value than the recorded one, not the same one refined.

    >>> contradicts("energy", 7.2, 8.0), contradicts("energy", 7.9999, 8.0), contradicts("psize", 75e-6, (75e-6, 55e-6))
    (True, False, True)
    """
    given, recorded = np.broadcast_arrays(given, recorded)
    return bool((np.abs(given - recorded) > TOLERANCE[name] * np.abs(recorded)).any())


def off_center(given, recorded):
    """How two centres (row, column) [pixel] differ: "" where they agree, "exchanged" where they would with rows and
    columns exchanged, else "apart".

    >>> [off_center((514, 486), center) for center in ((515.2, 480), (486, 514), (520, 600))]
    ['', 'exchanged', 'apart']
    """
    given, recorded = np.asarray(given, float), np.asarray(recorded, float)
    off, turned = (np.abs(center - recorded).max() for center in (given, given[::-1]))
    if turned <= SWAPPED < off / 2 or turned <= OFF < off and turned < off / 2:
        return "exchanged"
    return "apart" if off > OFF else ""


class Light(NamedTuple):
    """Light above the background [counts in a pixel of a frame]: around a centre, and on the average of the frame; and
    (row, column) of the brightest place [pixel]."""
    around: float
    average: float
    brightest: tuple


def light_around(total, counted, center):
    """`Light` around a centre (row, column) [pixel], as far as an eighth of the frame's shorter side; None where
    nothing can be told: no pixel there is good, or light stands out nowhere, as in the near field.

    total : (h, w) counts added up over frames, bad pixels left out
    counted : (h, w) frames in which the pixel was good

    It is averaged over tiles, of each without its brightest pixel, which may be a hot one.
    """
    side = max(min(total.shape) // TILES, 4)
    frames = counted.max()
    good = _tiles(np.add, counted, side) / max(frames, 1)
    light = (_tiles(np.add, total, side) - _tiles(np.maximum, total, side)) / np.maximum(good - 1, 1) / max(frames, 1)
    known = good > side**2 / 2
    rows, columns = (side * np.arange(n) + (side - 1) / 2 for n in light.shape)
    reach = max(min(total.shape) / AROUND, side)
    near = known & (np.abs(rows - center[0]) <= reach)[:, None] & (np.abs(columns - center[1]) <= reach)
    if not near.any():
        return None
    background = np.quantile(light[known], LOW)
    light = np.where(known, np.maximum(light - background, 0), 0)
    average = light[known].mean()
    if average <= FLAT * background or average * frames * near.sum() * side**2 < PHOTONS:
        return None
    row, column = np.unravel_index(light.argmax(), light.shape)
    return Light(float(light[near].mean()), float(average), (float(rows[row]), float(columns[column])))


def _tiles(reduce, values, side):
    """(rows, columns) of what the pixels of a tile come to, those at the edge being smaller."""
    for axis in (0, 1):
        values = reduce.reduceat(values, np.arange(0, values.shape[axis], side), axis=axis)
    return values
