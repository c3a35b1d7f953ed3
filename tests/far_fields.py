"""Far-field patterns as ptychography records them, with a known optical axis, for the tests of `auto_center`.

The physics is that of the experiment, and nothing in it knows the estimator. The pupil is imaged onto the detector: a
disc (pinhole in its far field, lens), an annulus (zone plate with its central stop) or a rectangle (KB mirrors). Or a
focus is: the Airy pattern of a pinhole, or the sinc^2 cross of slits. The object scatters a part of the beam into a
halo that falls off as q^-3.5 and lies about *every* point of the beam (a convolution), and the mean over 64 frames
leaves a little speckle. The optical axis is the middle of the pupil, however uneven the light in it. Then comes the
detector: beam stop, gaps between modules, hot pixels, stray light that rises across the frame, dark counts, Poisson
noise.
"""
from typing import NamedTuple

import numpy as np
from scipy.special import j1

FRAMES = 64
SIZES = [(128, 128), (256, 256), (195, 243), (161, 256), (200, 180)]
BEAMS = ("disc", "annulus", "airy", "rectangle", "cross")
TROUBLES = ("clean", "uneven", "beam stop", "gap", "hot pixels", "background", "cut by the edge", "everything")
NO_CENTER = ("rings", "rings about the beam stop", "beam off the frame", "beam mostly off the frame", "flat", "slope",
             "empty", "one photon", "hot pixels only", "two beams")


class Pattern(NamedTuple):
    """total, counted (h, w) as `find_center` takes them; center (row, col), None where nobody can tell; the kind; and
    the radius of the beam [pixel]."""

    total: np.ndarray
    counted: np.ndarray
    center: tuple | None
    kind: str
    radius: float = np.nan


def patterns(seed, n=200):
    """`n` seeded patterns, three in four with a centre."""
    rng = np.random.default_rng(seed)
    for k in range(n):
        if k % 4 < 3:
            yield beam(rng, BEAMS[k % len(BEAMS)], TROUBLES[(k - k // 4) % len(TROUBLES)])
        else:
            yield without_center(rng, NO_CENTER[k // 4 % len(NO_CENTER)])


def beam(rng, shape, trouble, size=None, center=None):
    """A pattern of a beam of this shape with this trouble."""
    size = size or SIZES[rng.integers(len(SIZES))]
    radius = min(size) * rng.uniform(0.1, 0.3) if shape in ("disc", "annulus", "rectangle") else rng.uniform(3, 12)
    everything = trouble == "everything"
    room = radius * rng.uniform(0.3, 0.8) if trouble == "cut by the edge" else 1.3 * radius
    if center is None:
        center = np.array([rng.uniform(room, n - room) for n in size])
        if trouble == "cut by the edge":
            axis = rng.integers(2)
            center[axis] = room if rng.random() < 0.5 else size[axis] - 1 - room
    uneven = rng.uniform(0.3, 0.8) if trouble == "uneven" or everything else rng.uniform(0, 0.1)
    light = scattered(rng, beam_alone(rng, shape, size, center, radius, uneven))
    peak = 10 ** rng.uniform(0, 3.5)                                    # counts of a bright pixel in a frame
    light *= peak / np.quantile(light[light > 0.1 * light.max()], 0.9)
    mask = np.ones(size, bool)
    if trouble == "beam stop" or everything:
        light, mask = beam_stop(rng, light, mask, center, radius)
    if trouble == "gap" or everything:
        mask &= gaps(rng, size, center, radius)
    stray = peak * 10 ** rng.uniform(-5, -2.5)
    if trouble == "background" or everything:
        stray = slope(rng, size) * peak * rng.uniform(0.003, 0.03)
    return exposed(rng, light + stray, mask, center, f"{shape}, {trouble}", radius,
                   hot=rng.integers(1, 4) if trouble == "hot pixels" or everything else 0)


def coordinates(size, center):
    return (np.arange(n)[:, None] - c if i == 0 else np.arange(n) - c for i, (n, c) in enumerate(zip(size, center)))


def beam_alone(rng, shape, size, center, radius, uneven=0.0):
    """The beam without an object: 1 in its bright part, uneven by that part from one side to the other."""
    y, x = coordinates(size, center)
    r = np.hypot(y, x)
    soft = rng.uniform(0.5, 2.5)

    def edge(distance):
        return 1 / (1 + np.exp(np.clip(distance / soft * 2, -50, 50)))
    if shape in ("disc", "annulus"):
        light = edge(r - radius)
        if shape == "annulus":
            light = light * (1 - edge(r - radius * rng.uniform(0.25, 0.55)))
        if rng.random() < 0.4:                                          # Fresnel's bright rim
            light = light * (1 + rng.uniform(0.2, 1) * np.exp(-(r - radius + 3 * soft) ** 2 / (2 * (2 * soft) ** 2)))
    elif shape == "rectangle":
        light = edge(np.abs(y) - radius) * edge(np.abs(x) - radius * rng.uniform(0.6, 1))
        if uneven > 0.1:                                                # figure errors of the mirrors: stripes
            stripes = [np.convolve(rng.normal(size=n + 8), np.hanning(9) / 2, "valid")[:n] for n in size]
            light = light * np.exp(0.15 * (stripes[0][:, None] + stripes[1][None, :]))
    elif shape == "airy":
        light = airy(r / radius)
    else:
        wide = radius * rng.uniform(0.7, 1.4)
        light = np.sinc(y / radius) ** 2 * np.sinc(x / wide) ** 2
    turn = rng.uniform(0, 2 * np.pi)
    across = (y * np.sin(turn) + x * np.cos(turn)) / radius             # -1 .. 1 over the beam
    light = light * np.clip(1 - uneven / 2 + uneven / 2 * np.tanh(across), 0.02, None)
    if uneven > 0.1:                                                    # vignetting: a broad bright part somewhere
        at = rng.uniform(-0.5, 0.5, 2) * radius
        light = light * (1 + uneven / 2 * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / radius**2))
    return light


def airy(x):
    """(2 J1(u) / u)^2 with its first zero at x = 1."""
    u = 3.8317 * x + 1e-9
    return (2 * j1(u) / u) ** 2


def scattered(rng, light):
    """The mean pattern of an object in that beam: a part of each point's light goes into a halo about it."""
    part = rng.uniform(0.03, 0.4)
    size = [2 * n for n in light.shape]
    qy, qx = (np.fft.fftfreq(n, 1 / n) for n in size)
    halo = (qy[:, None] ** 2 + qx ** 2 + rng.uniform(1, 4) ** 2) ** (-rng.uniform(3, 4) / 2)
    halo /= halo.sum()
    wide = np.fft.irfft2(np.fft.rfft2(light, size) * np.fft.rfft2(halo), size)
    mean = (1 - part) * light + part * np.clip(wide[:light.shape[0], :light.shape[1]], 0, None)
    speckle = rng.gamma(FRAMES, 1 / FRAMES, light.shape)
    return mean * (speckle + np.roll(speckle, 1, 0) + np.roll(speckle, 1, 1) + np.roll(speckle, (1, 1), (0, 1))) / 4


def beam_stop(rng, light, mask, center, radius):
    """A disc with an arm in the beam's middle; half of them masked, half of them mere shadows."""
    y, x = coordinates(light.shape, center + rng.uniform(-0.15, 0.15, 2) * radius)
    stop = np.hypot(y, x) < radius * rng.uniform(0.25, 0.5)
    width, side = rng.uniform(1.5, 0.15 * radius + 2), rng.integers(4)
    along, aside = ((y, x), (-y, x), (x, y), (-x, y))[side]
    stop |= (np.abs(aside) < width) & (along > 0)
    if rng.random() < 0.5:
        return light, mask & ~stop
    return np.where(stop, light * rng.uniform(0, 0.01), light), mask


def gaps(rng, size, center, radius):
    """Bands of rows and columns between modules, of which one goes through the beam."""
    mask = np.ones(size, bool)
    for axis in range(2):
        if axis == 0 or rng.random() < 0.5:
            width = rng.integers(3, 13)
            at = int(center[axis] + rng.uniform(-0.7, 0.7) * radius - width / 2)
            at = max(at, 0)
            mask[(slice(at, at + width), slice(None))[::1 if axis == 0 else -1]] = False
    return mask


def slope(rng, size):
    """Stray light that rises evenly from one side of the frame to the other."""
    y, x = coordinates(size, (0, 0))
    part = rng.uniform(-0.45, 0.45, 2)
    return 0.5 + part[0] * (y / size[0] - 0.5) + part[1] * (x / size[1] - 0.5)


def exposed(rng, light, mask, center, kind, radius=np.nan, hot=0):
    total = rng.poisson(FRAMES * np.clip(light, 0, None)).astype(float)
    for _ in range(hot):
        side = rng.integers(1, 4)
        row, col = (int(rng.integers(0, n - side)) for n in light.shape)
        total[row:row + side, col:col + side] = FRAMES * 10 ** rng.uniform(1, 6)
    counted = np.where(mask, FRAMES, 0)
    return Pattern(np.where(mask, total, 0), counted, None if center is None else tuple(center), kind, radius)


def without_center(rng, kind, size=None):
    """A pattern from which nobody can tell where the axis is."""
    size = size or SIZES[rng.integers(len(SIZES))]
    mask, peak, light = np.ones(size, bool), 10 ** rng.uniform(0, 3.5), np.zeros(size)
    dark = peak * 10 ** rng.uniform(-4, -2)
    if kind.startswith("rings"):
        light, mask = powder(rng, size, "stop" in kind)
    elif "off" in kind:
        light = beyond_the_edge(rng, size, mostly="mostly" in kind)
    elif kind == "two beams":
        light = two_beams(rng, size)
    elif kind == "slope":
        light = slope(rng, size)
    elif kind == "flat":
        light += 1
    elif kind == "hot pixels only":
        dark = 10 ** rng.uniform(-3, 1)
    if kind in ("empty", "one photon"):
        dark = 0
    pattern = exposed(rng, peak * light + dark, mask, None, kind,
                      hot=rng.integers(1, 4) if kind == "hot pixels only" else 0)
    if kind == "one photon":
        pattern.total[tuple(rng.integers(0, n) for n in size)] = 1
    return pattern


def powder(rng, size, stop):
    """(light, mask) of rings about a point on the frame or beside it; with a stop, about a masked middle."""
    center = [n * (rng.uniform(0.3, 0.7) if stop else rng.uniform(-0.1, 1.1)) for n in size]
    y, x = coordinates(size, center)
    r, light = np.hypot(y, x), np.zeros(size)
    inner, width = min(size) * rng.uniform(0.12, 0.3), rng.uniform(1, 4)
    spacing = width * rng.uniform(7, 12)
    for k in range(rng.integers(2, 6)):
        at = inner + k * spacing * rng.uniform(0.9, 1.1)
        light += rng.uniform(0.2, 1) * np.exp(-(r - at) ** 2 / (2 * width**2))
    light *= 1 + rng.uniform(0, 0.5) * np.cos(np.arctan2(y, x) - 1)         # polarisation, texture
    return light, r > inner * rng.uniform(0.3, 0.8) if stop else np.ones(size, bool)


def beyond_the_edge(rng, size, mostly):
    """Light of a beam whose middle lies beyond the edge of the frame, by more than its radius or by less."""
    shape = BEAMS[rng.integers(3)]
    radius = min(size) * rng.uniform(0.1, 0.3) if shape != "airy" else rng.uniform(3, 12)
    axis, center = rng.integers(2), np.array([n * rng.uniform(0.2, 0.8) for n in size])
    beyond = radius * (rng.uniform(0.15, 0.7) if mostly else rng.uniform(1.1, 2.5))
    center[axis] = -beyond if rng.random() < 0.5 else size[axis] - 1 + beyond
    out = int(3 * radius + 2)
    large = tuple(n + 2 * out for n in size)
    light = scattered(rng, beam_alone(rng, shape, large, center + out, radius, rng.uniform(0, 0.4)))
    return light[out:-out, out:-out] / light.max()


def two_beams(rng, size):
    """Light of two beams of like brightness side by side."""
    radius, shape = min(size) * rng.uniform(0.08, 0.15), BEAMS[rng.integers(2) * 2]
    middle = np.array(size) * rng.uniform(0.45, 0.55, 2)
    apart = np.array([1, rng.uniform(-0.3, 0.3)]) * radius * rng.uniform(1.3, 1.7)
    size_of_one = radius / (1 if shape == "disc" else 2)
    return sum(rng.uniform(0.7, 1.3) * scattered(rng, beam_alone(rng, shape, size, middle + side * apart, size_of_one))
               for side in (-1, 1))
