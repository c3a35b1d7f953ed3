"""The centre of planted patterns, under all that a detector does to them.

Each case is right to the tolerance beside it [pixel]; none is coarser than half a pixel.
"""
import re

import numpy as np
import pytest
from far_fields import beam, patterns, without_center

from ptyprep.errors import FrameError
from ptyprep.processing.center import find_center

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
    "spot near a corner": (lambda c: gauss(c, 5), (9.3, 289.7), 50, 0.5, None, (), 0.1),
    "spot cut by the edge": (gauss, (14.3, 150.7), 50, 0.5, None, (), 0.4),
    "spot with its middle in a gap": (gauss, (110.3, 149.7), 100, 0.1, GAPS, (), 0.2),
    "spot under stripes": (lambda c: gauss(c, 15), (70.3, 70.7), 100, 0.1, STRIPES, (), 0.2),
    "spot, half of it masked": (lambda c: gauss(c, 15), (70.3, 70.7), 100, 0.1, Y > 50, (), 0.3),
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
    "wide light that is no slope": (lambda c: gauss(c, 60), (100.3, 130.7), 100, 0.1, None, (), 0.1),
    "hot pixels in a weak pattern": (gauss, (120.3, 170.7), 0.5, 0.01, None, HOT, 0.3),
    "hot pixels and gaps": (gauss, (120.3, 160.7), 100, 1, GAPS, HOT, 0.2),
    "rings with their middle in a gap": (lambda c: rings(c, 8), (108.3, 165.7), 1000, 0.1, GAPS, (), 0.3),
    "bright-field disc": (disc, (90.3, 200.2), 5, 0.1, GAPS, HOT, 0.2),
    "bright-field disc that fills most of the frame": (lambda c: disc(c, 125), (126.3, 148.2), 5, 0.1, None, HOT, 0.1),
    "bright-field disc cut by two edges": (disc, (36.3, 263.2), 5, 0.1, GAPS, (), 0.5),
    "donut": (donut, (90.3, 200.2), 5, 0.5, None, HOT, 0.1),
    "donut with a beam stop beside its middle": (
        donut, (90.3, 200.2), 5, 0.1, (np.hypot(Y - 92, X - 198) > 22) & ~((np.abs(X - 198) < 4) & (Y > 92)) & GAPS,
        (), 0.1)}


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("at", [(80.0, 120.0), (80.5, 120.5), (80.25, 120.75), (79.9, 120.1)])
def test_without_noise_the_centre_is_right_to_a_fiftieth(at):
    assert off(at, gauss(at), np.ones(SHAPE)) < 0.02
    assert off(at, disc(at, 30.3), np.ones(SHAPE)) < 0.02


def test_a_pixel_that_was_bad_in_some_frames_weighs_as_much_as_its_neighbours():
    counted = np.full(SHAPE, FRAMES)
    counted[:, 160:] = FRAMES // 4
    assert off((120.3, 160.7), gauss((120.3, 160.7)) * counted, counted) < 0.05


def test_a_frame_that_is_lit_to_its_edges_is_no_beam():
    for shape in ((4, 5), (12, 9), (1, 40), (8, 4000), (4000, 20)):
        frame = np.zeros(shape)
        frame[-3:, -3:] = 10
        with pytest.raises(FrameError, match="set center=.row, column"):
            find_center(frame, np.ones(shape))


def test_a_frame_that_is_all_masked_is_an_error_that_says_what_to_set():
    with pytest.raises(FrameError, match="every pixel is masked; set center=.row, column"):
        find_center(gauss((100, 100)), np.zeros(SHAPE))


@pytest.mark.parametrize("level", [0.0, 7.0])
def test_frames_without_light_are_an_error_that_says_what_to_set(level):
    with pytest.raises(FrameError, match="no light above their background; set center=.row, column"):
        find_center(np.full(SHAPE, level), np.ones(SHAPE))


def test_light_that_is_all_masked_is_no_light():
    with pytest.raises(FrameError, match="no light"):
        find_center(np.where(Y > 120, 100.0 * (Y < 120), 0), (Y > 120).astype(int))


def test_a_small_good_part_of_the_frame_is_enough():
    good = np.zeros(SHAPE, bool)
    good[90:131, 130:171] = True
    found = find_center(np.where(good, gauss((110, 150), 3), 0), good.astype(int))
    assert found[:2] == pytest.approx((110, 150), abs=0.01)



# --- how certain it is ----------------------------------------------------------------------------------


def outcomes(seed):
    """{kind: [(within 3 sigma, sigma [pixel], sigma [radius])]}, an empty tuple where it cannot tell."""
    table = {}
    for pattern in patterns(seed):
        try:
            found = find_center(pattern.total, pattern.counted)
        except FrameError as err:
            assert "set center=(row, column)" in str(err)
            result = ()
        else:
            error = np.inf if pattern.center is None else np.abs(np.subtract(found[:2], pattern.center))
            sigma = np.array(found[2:])
            result = bool((error <= 3 * sigma).all()), sigma.max(), sigma.max() / pattern.radius
        table.setdefault((pattern.center is not None, pattern.kind), []).append(result)
    return table


def as_rows(table):
    return "\n" + "\n".join(
        f"{kind:28} {len(seen):3} patterns, {len(told):3} answered, {sum(r[0] for r in told):3} within 3 sigma, sigma "
        f"{np.median([r[1] for r in told] or [np.nan]):.2f}"
        for (_, kind), seen in sorted(table.items()) for told in [[r for r in seen if r]])


@pytest.mark.slow
def test_of_200_patterns_answers_are_right_within_their_uncertainty_or_there_is_none():
    """The rates that `auto_center` promises, on patterns whose axis is known."""
    table = outcomes(seed=2026)
    beams = [result for (has, _), seen in table.items() if has for result in seen]
    nothing = [result for (has, _), seen in table.items() if not has for result in seen]
    answers = [result for result in beams if result]
    assert (len(beams), len(nothing)) == (150, 50)
    assert np.mean([within for within, *_ in answers]) >= 0.99, as_rows(table)
    assert len(answers) >= 0.8 * len(beams), as_rows(table)
    assert not any(nothing), as_rows(table)
    assert np.median([sigma for _, sigma, _ in answers]) < 1, as_rows(table)
    assert np.quantile([relative for *_, relative in answers], 0.95) < 0.2, as_rows(table)


@pytest.mark.parametrize("seed, shape", [(1, "disc"), (2, "annulus"), (3, "rectangle")])
def test_the_centre_of_an_uneven_beam_is_that_of_its_outline(seed, shape):
    """The light balances elsewhere."""
    rng = np.random.default_rng(seed)
    pattern = beam(rng, shape, "uneven", size=(200, 240), center=(92.3, 131.8))
    found = find_center(pattern.total, pattern.counted)
    balance = [(pattern.total * axis).sum() / pattern.total.sum() for axis in np.indices((200, 240))]
    error = np.subtract(found[:2], pattern.center)
    assert np.hypot(*np.subtract(balance, pattern.center)) > max(1, 2 * np.hypot(*error))
    assert (np.abs(error) < 3 * np.array(found[2:])).all()


@pytest.mark.slow
def test_errors_of_weak_light_stay_within_the_uncertainty():
    at = 120.3, 140.7
    for seed in range(12):
        found = find_center(*summed(0.1 * gauss(at, 12), 0.005, seed=seed))
        assert (np.abs(np.subtract(found[:2], at)) < 3 * np.array(found[2:])).all() and max(found[2:]) < 4


@pytest.mark.parametrize("turn", [np.transpose, np.flipud, np.fliplr])
def test_the_answer_turns_with_the_frame_and_knows_no_unit(turn):
    pattern = beam(np.random.default_rng(5), "disc", "gap", size=(120, 150), center=(52.3, 81.8))
    plain, scaled = (find_center(pattern.total * unit, pattern.counted) for unit in (1, 1e-280))
    assert scaled == pytest.approx(plain, abs=1e-3)
    turned = np.array(find_center(turn(pattern.total), turn(pattern.counted))).reshape(2, 2)
    if turn is np.transpose:
        turned = turned[:, ::-1]
    else:
        axis = int(turn is np.fliplr)
        turned[0, axis] = (120, 150)[axis] - 1 - turned[0, axis]
    assert np.abs(turned[0] - plain[:2]).max() < 0.1 and turned[1] == pytest.approx(plain[2:], rel=0.3)


def test_a_wider_beam_without_an_edge_is_less_certain():
    """Light that falls off slowly may be uneven by as much, and nobody would see it."""
    sigma = [max(find_center(gauss((120.3, 140.7), width), np.ones(SHAPE))[2:]) for width in (5, 10, 20)]
    assert np.allclose(np.divide(sigma[1:], sigma[:-1]), 2, atol=0.3)


@pytest.mark.parametrize("kind, words", [
    ("rings", "rings"), ("rings about the beam stop", "rings"), ("beam off the frame", "edge of the frame|symmetric"),
    ("two beams", "two sides"), ("flat", "no light"), ("slope", "no light"), ("empty", "no light"),
    ("one photon", "no light"), ("hot pixels only", "no light|as hot ones are")])
def test_what_has_no_centre_says_why_and_what_to_set(kind, words):
    reasons = []
    for seed in range(4):
        pattern = without_center(np.random.default_rng(seed), kind, size=(160, 200))
        with pytest.raises(FrameError, match="set center=.row, column") as raised:
            find_center(pattern.total, pattern.counted)
        reasons.append(str(raised.value))
    assert any(re.search(words, reason) for reason in reasons), reasons


def test_the_edge_of_the_frame_is_not_the_centre_of_a_beam_beyond_it():
    total, counted = summed(100 * gauss((265.0, 150.7), 12), 0.1)       # ten rows below the last
    with pytest.raises(FrameError, match="edge of the frame"):
        find_center(total, counted)


@pytest.mark.parametrize("size, at", [((195, 487), (88.3, 301.7)), ((514, 1030), (201.6, 733.2)),
                                      ((2167, 2070), (1100.4, 987.3))], ids=["PILATUS 100K", "EIGER 500K", "EIGER 4M"])
def test_a_narrow_beam_on_a_large_frame_is_found_to_a_part_of_a_pixel(size, at):
    rng = np.random.default_rng(0)
    y, x = np.ogrid[:size[0], :size[1]]
    light = 20.0 * (np.hypot(y - at[0], x - at[1]) < 30.4) + 1e-3
    good = np.ones(size, bool)
    good[int(at[0]) + 8:][:12] = False
    found = find_center(np.where(good, rng.poisson(light), 0), good.astype(int))
    assert np.abs(np.subtract(found[:2], at)).max() < min(0.5, 3 * min(found[2:])) and max(found[2:]) < 1.5

