"""The centre of planted patterns, under all that a detector does to them.

Each case is right to the tolerance beside it [pixel]; none is coarser than half a pixel.
"""
import numpy as np
import pytest

from ptyprep.center import find_center
from ptyprep.errors import FrameError

SHAPE, FRAMES = (256, 300), 64
Y, X = np.indices(SHAPE)
GAPS = (np.abs(Y - 105.5) > 6) & (np.abs(X - 152.5) > 3)     # False on 12 rows and 6 columns, as between modules
STRIPES = (X % 16 > 0) & (np.abs(Y - 50) > 10)
HOT = [((5, 5), 1e9), ((250, 290), 1e9), ((200, 20), 6.4e10), ((121, 183), 1e9)]


def radius(center):
    return np.hypot(Y - center[0], X - center[1])


def gauss(center, width=10):
    return np.exp(-radius(center) ** 2 / (2 * width**2))


def rings(center, width=4):
    rho = radius(center) / width + 1e-9
    return (np.sin(rho) / rho) ** 2 / (1 + rho)


def disc(center, size=40):
    return 1 / (1 + np.exp(2 * (radius(center) - size)))


def donut(center):
    return disc(center, 60) - disc(center, 20)


def summed(pattern, background, mask=None, hot=(), seed=0):
    """(total, counted) of FRAMES noisy exposures of a pattern in counts."""
    total = np.random.default_rng(seed).poisson(FRAMES * (pattern + background)).astype(float)
    for at, value in hot:
        total[at] = value
    mask = np.ones(SHAPE, bool) if mask is None else mask
    return np.where(mask, total, 0), FRAMES * mask.astype(int)


def off(center, *seen):
    return np.abs(np.subtract(find_center(*seen)[:2], center)).max()


CASES = {
    "spot": (gauss, (120.3, 170.7), 100, 0.1, None, (), 0.05),
    "spot on much background": (gauss, (60.3, 70.7), 100, 10, None, (), 0.1),
    "weak spot on background": (gauss, (60.3, 70.7), 1, 1, None, (), 0.3),
    "spot near a corner": (lambda c: gauss(c, 5), (6.3, 292.7), 50, 0.5, None, (), 0.1),
    "spot cut by the edge": (gauss, (3.3, 150.7), 50, 0.5, None, (), 0.2),
    "spot with its middle in a gap": (gauss, (110.3, 149.7), 100, 0.1, GAPS, (), 0.2),
    "spot under stripes": (lambda c: gauss(c, 15), (70.3, 70.7), 100, 0.1, STRIPES, (), 0.2),
    "spot, half of it masked": (lambda c: gauss(c, 15), (70.3, 70.7), 100, 0.1, Y > 60, (), 0.3),
    "saturated block in the spot": (gauss, (120.3, 170.7), 100, 0.1,
                                    ~((Y > 112) & (Y < 125) & (X > 162) & (X < 182)), (), 0.2),
    "spot on a background that is brighter below": (lambda c: gauss(c) + 0.005 * Y / 256, (70.3, 130.7), 1000, 0.1,
                                                    GAPS, (), 0.1),
    "hot pixels": (gauss, (120.3, 170.7), 100, 0.1, None, HOT, 0.1),
    "hot clusters": (gauss, (120.3, 140.7), 100, 0.1, None, [(np.s_[40:42, 40:42], 1e7), (np.s_[200:203, 250:253], 1e7),
                                                             (np.s_[118:121, 168:171], 1e7)], 0.1),
    "hot clusters at the edge": (gauss, (120.3, 140.7), 100, 0.1, None, [(np.s_[:3, :3], 1e7), (np.s_[-2:, :2], 1e7)],
                                 0.1),
    "narrow spot": (lambda c: gauss(c, 1.5), (120.3, 140.7), 100, 0.1, None, HOT[:3], 0.1),
    "spot on a slope": (gauss, (60.3, 70.7), 100, 10 * X / 300, None, HOT[:3], 0.1),
    "disc on a slope, cut by the edge": (disc, (30.3, 200.2), 5, 2 * X / 300 + Y / 256, GAPS, (), 0.5),
    "wide light that is no slope": (lambda c: gauss(c, 60), (60.3, 70.7), 100, 0.1, None, (), 0.1),
    "hot pixels in a weak pattern": (gauss, (120.3, 170.7), 0.5, 0.01, None, HOT, 0.3),
    "hot pixels and gaps": (gauss, (120.3, 160.7), 100, 1, GAPS, HOT, 0.2),
    "rings with their middle in a gap": (rings, (110.3, 149.7), 1000, 0.1, GAPS, (), 0.3),
    "bright-field disc": (disc, (90.3, 200.2), 5, 0.1, GAPS, HOT, 0.1),
    "bright-field disc that fills most of the frame": (lambda c: disc(c, 125), (126.3, 148.2), 5, 0.1, None, HOT, 0.1),
    "bright-field disc cut by two edges": (disc, (30.3, 270.2), 5, 0.1, GAPS, (), 0.5),
    "donut": (donut, (90.3, 200.2), 5, 0.5, None, HOT, 0.1),
    "donut with a beam stop beside its middle": (
        donut, (90.3, 200.2), 5, 0.1, (np.hypot(Y - 92, X - 198) > 22) & ~((np.abs(X - 198) < 4) & (Y > 92)) & GAPS,
        (), 0.1)}


@pytest.mark.parametrize("case", CASES)
def test_the_centre_of_a_planted_pattern_is_found(case):
    make, center, brightness, background, mask, hot, tolerance = CASES[case]
    for seed in range(3):
        assert off(center, *summed(brightness * make(center), background, mask, hot, seed)) < tolerance


def test_a_hot_pixel_changes_nothing_however_small_the_numbers():
    pattern = 1e-4 * gauss((120.3, 170.7))      # as a normalised stack of floats
    hot = pattern.copy()
    hot[200, 20] = 1e9
    assert off((120.3, 170.7), hot, np.ones(SHAPE)) < 0.05


@pytest.mark.parametrize("at", [(80.0, 120.0), (80.5, 120.5), (80.25, 120.75), (79.9, 120.1)])
def test_without_noise_the_centre_is_right_to_a_hundredth(at):
    assert off(at, gauss(at), np.ones(SHAPE)) < 0.01
    assert off(at, disc(at, 30.3), np.ones(SHAPE)) < 0.01


def test_a_pixel_that_was_bad_in_some_frames_weighs_as_much_as_its_neighbours():
    counted = np.full(SHAPE, FRAMES)
    counted[:, 160:] = FRAMES // 4
    assert off((120.3, 160.7), gauss((120.3, 160.7)) * counted, counted) < 0.05


def test_one_lit_pixel_of_a_tiny_frame_is_its_centre():
    frame = np.zeros((4, 5))
    frame[1:4, 2:5] = 10
    assert find_center(frame, np.ones((4, 5)))[:2] == (2, 3)


def test_a_frame_that_is_all_masked_is_an_error_that_says_what_to_set():
    with pytest.raises(FrameError, match="every pixel is masked; set center=row,col"):
        find_center(gauss((100, 100)), np.zeros(SHAPE))


@pytest.mark.parametrize("level", [0.0, 7.0])
def test_frames_without_light_are_an_error_that_says_what_to_set(level):
    with pytest.raises(FrameError, match="no light above their background; set center=row,col"):
        find_center(np.full(SHAPE, level), np.ones(SHAPE))


def test_light_that_is_all_masked_is_no_light():
    with pytest.raises(FrameError, match="no light"):
        find_center(np.where(Y > 120, 100.0 * (Y < 120), 0), (Y > 120).astype(int))


def test_a_few_good_pixels_are_enough():
    good = np.zeros(SHAPE, bool)
    good[100:121, 149:152] = True
    assert find_center(np.where(good, gauss((110, 150), 3), 0), good.astype(int))[:2] == pytest.approx((110, 150), abs=0.01)
