"""Corrections on stacks, against numbers that were worked out by hand."""
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptyprep.errors import SourceError
from ptyprep.kernels import compiled
from ptyprep.processing.corrections import (
    LOST,
    Limits,
    average,
    believable,
    below_zero,
    find_bad_pixels,
    judge,
    median,
    neighbour_median,
    relative_flux,
)
from ptyprep.units import photon_energy_of_electrons

INTEGERS = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_the_largest_integer_is_a_mark_and_no_count_in_that_frame_only(dtype):
    frames = np.zeros((2, 2, 3), dtype)
    frames[1, 0, 2] = 2 ** (8 * frames.itemsize - (dtype[0] == "i")) - 1
    frames[0, 1, 1] = frames[1, 0, 2] - 1
    assert np.argwhere(~believable(frames)).tolist() == [[1, 0, 2]]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_numbers_that_are_not_finite_are_no_measurements(dtype):
    frames = np.array([[[1, np.nan], [np.inf, -np.inf]], [[0, -5], [3e38, 7]]], dtype)
    assert believable(frames).tolist() == [[[True, False], [False, False]], [[True, True], [True, True]]]


@pytest.mark.parametrize("dtype", ["u2", "i4", "f4"])
def test_counts_above_saturation_are_not_believed(dtype):
    frames = np.array([[[99, 100, 101]]], dtype)
    assert believable(frames, Limits(100)).tolist() == [[[True, True, False]]]
    assert believable(frames, None).all()


@pytest.mark.parametrize("dtype", [*(t for t in INTEGERS if t[0] == "i"), "f4", "f8"])
def test_a_negative_number_is_noise_but_for_the_detectors_marks(dtype):
    frames = np.array([[[0, -1, 5], [-2, 7, -3]]], dtype)       # PILATUS: -1 gap, -2 bad pixel
    assert believable(frames).all()
    assert believable(frames, Limits(marks=(-1, -2))).tolist() == [[[True, False, True], [False, True, True]]]
    assert believable(frames, Limits(least=0)).tolist() == [[[True, False, True], [False, True, False]]]
    assert below_zero(frames) == (3, 2) and below_zero(frames, (-1, -2)) == (1, 0) and below_zero(abs(frames)) == (0, 0)


@st.composite
def some_frames(draw):
    """Frames with many marks, as they lie in memory or every second one, and masks for them."""
    dtype, rng = np.dtype(draw(st.sampled_from([*INTEGERS, ">u4", ">i2", "f4", "f8", "?"]))), np.random.default_rng(
        draw(st.integers(0, 2**32 - 1)))
    n, h, w = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 15, 16, 17, 31, 33, 50]))
    marks = {"f": [np.nan, np.inf, -np.inf, 0, 3], "b": [0, 1]}.get(dtype.kind) or \
        [np.iinfo(dtype).max, np.iinfo(dtype).max - 1, np.iinfo(dtype).min, 0, 3, 100, 101]
    choices = np.array(marks, dtype)
    of_frame = rng.choice(choices, (n, h, 2 * w), p=rng.dirichlet(np.ones(len(choices)) / 3))
    for i in range(1, n):
        if draw(st.booleans()):             # a mask as before
            of_frame[i] = of_frame[i - 1]
    frames = of_frame[..., :w] if draw(st.booleans()) else of_frame[..., ::2]
    usable, known = (rng.random((h, 2 * w))[:, :w] < p for p in (draw(st.sampled_from([0, 0.9, 1])), 0.3))
    before = draw(st.sampled_from([None, np.zeros((h, w), bool), usable]))
    limits = Limits(most=draw(st.sampled_from([None, 0, 100, 100.5, 1e30, -1])),
                    least=draw(st.sampled_from([None, None, 0, -1, 1, 3.5])),
                    marks=draw(st.sampled_from([(), (), (-1, -2)])), near=draw(st.sampled_from([None, 100, 101])))
    return frames, usable, known.astype(np.uint8) * draw(st.integers(0, 3)), limits, before


def _is_count(number, dtype, limits):
    """Of one number in Python: whether it is a count."""
    if dtype.kind == "b":
        return True
    if not math.isfinite(number) or dtype.kind in "iu" and number == np.iinfo(dtype).max:
        return False
    return (limits.most is None or number <= limits.most) and (limits.least is None or number >= limits.least) \
        and number not in limits.marks


@given(some_frames())
@pytest.mark.parametrize("loops", ["compiled", "NumPy"])
def test_masks_are_told_pixel_by_pixel(loops, given):
    frames, usable, known, limits, before = given
    kept = compiled.core
    try:
        compiled.core = kept if loops == "compiled" else None
        masks, lost, near = judge(frames, usable, known, limits, before)
    finally:
        compiled.core = kept
    expected, first, of_near = np.zeros(frames.shape, bool), np.zeros(usable.shape, np.uint8), 0
    for (i, y, x), number in np.ndenumerate(frames):
        number = number.item()
        right, is_near = _is_count(number, frames.dtype, limits), frames.dtype.kind != "b" and number == limits.near
        of_near += is_near
        expected[i, y, x] = right and usable[y, x]
        if not right:
            first[y, x] |= LOST["near overflow" if is_near else "overflow"] & ~known[y, x]
    assert near == of_near
    assert np.array_equal(masks.stack(), expected) and np.array_equal(first, np.broadcast_to(lost, first.shape))
    changed = [last is None or not np.array_equal(last, mask) for last, mask in zip([before, *expected], expected)]
    assert np.diff(masks.which).tolist() == changed[1:] and masks.which[0] == 0
    assert (masks.different[0] is before) == (not changed[0]) and len(masks.different) == masks.which[-1] + 1


def test_the_loops_refuse_masks_of_another_size():
    core = pytest.importorskip("ptyprep.kernels._core")
    frames, mask, good = np.zeros((2, 3, 4), "u2"), np.ones((3, 4), bool), np.empty((2, 3, 4), bool)
    core.judge(frames, 0, 5, None, mask, mask, good, mask.copy(), None)
    for wrong in ((frames[:, :2], mask, good), (frames, mask[:, :2], good), (frames, mask, good[:1]),
                  (frames.astype("c16"), mask, good), (frames, mask.astype("u2"), good),
                  (frames[..., ::2], mask[:, ::2], good[..., ::2]), (frames[0], mask, good)):
        with pytest.raises((ValueError, BufferError)):
            core.judge(wrong[0], 0, 5, None, wrong[1], mask, wrong[2], mask.copy(), mask)
    with pytest.raises(ValueError, match="different sizes"):
        core.judge(frames, 0, 5, None, mask, mask, good, mask.copy(), mask[:2])


def test_every_yes_and_no_is_believed():
    assert believable(np.array([[[True, False]]])).all()


def test_what_is_given_is_not_changed():
    frames = np.array([[[1, np.nan]]])
    believable(frames, Limits(0.5))
    assert frames[0, 0, 0] == 1


@pytest.mark.parametrize("kilovolt, picometre", [(60, 4.866), (80, 4.176), (100, 3.701), (200, 2.508), (300, 1.969)])
def test_electrons_get_the_photon_energy_of_their_wavelength(kilovolt, picometre):
    # h / p in SI units with the relativistic momentum, and the wavelengths printed in textbooks (Williams & Carter).
    h, c, e, m = 6.62607015e-34, 299792458.0, 1.602176634e-19, 9.1093837139e-31
    gamma = 1 + kilovolt * 1e3 * e / (m * c**2)
    wavelength = h / (m * c * math.sqrt(gamma**2 - 1))
    assert wavelength * 1e12 == pytest.approx(picometre, abs=0.002)
    assert photon_energy_of_electrons(kilovolt) == pytest.approx(h * c / wavelength / e / 1e3, rel=1e-9)


# --- bad pixels that frames show ---------------------------------------------------------------------------

def speckle(n=40, shape=(40, 50)):
    """Frames of a far field whose counts fall over four decades, with Poisson noise; a fixed seed."""
    rng = np.random.default_rng(6)
    y, x = np.mgrid[:shape[0], :shape[1]]
    mean = 3000 / (1 + ((y - 18) ** 2 + (x - 25) ** 2) / 9) ** 1.5
    grain = rng.gamma(4, 0.25, (n, *shape))
    return rng.poisson(mean * grain)


def seen(frames, good=None):
    good = np.ones(frames.shape, bool) if good is None else good
    some = np.where(good, frames, np.nan)
    return (np.where(good, frames, 0).sum(axis=0), good.sum(axis=0), np.fmin.reduce(some), np.fmax.reduce(some))


def test_a_plain_far_field_has_no_bad_pixels():
    hot, dead = find_bad_pixels(*seen(speckle()))
    assert not hot.any() and not dead.any()


def test_planted_bad_pixels_are_found_and_no_others():
    frames = speckle()
    frames[:, 3, 4] = 500                       # hot, and stuck
    frames[:, 35, 45] += np.arange(40) + 100    # hot, and changing
    frames[7, 30, 10] = 5000                    # flickers once
    frames[:, 20, 28] = 77                      # stuck among counts of its size
    frames[:, 17, 22] = 0                       # dead beside the beam
    hot, dead = find_bad_pixels(*seen(frames))
    assert np.argwhere(hot).tolist() == [[3, 4], [20, 28], [30, 10], [35, 45]]
    assert np.argwhere(dead).tolist() == [[17, 22]]


def test_bad_neighbours_do_not_count():
    frames, good = speckle(), np.ones((40, 40, 50), bool)
    frames[:, 9:12, 19:22] = 10**6              # a masked blot
    good[:, 9:12, 19:22] = False
    hot, dead = find_bad_pixels(*seen(frames, good))
    assert not hot.any() and not dead.any()


@pytest.mark.parametrize("rows", [1, 3, 256])
def test_the_median_of_neighbours_is_numpys(rows):
    image = np.random.default_rng(7).normal(size=(9, 7))
    image[2, 3] = image[8, 6] = np.nan
    padded = np.pad(image, 1, constant_values=np.nan)
    expected = [[np.nanmedian(np.delete(padded[y:y + 3, x:x + 3].ravel(), 4)) for x in range(7)] for y in range(9)]
    assert np.allclose(neighbour_median(image, rows), expected)
    assert np.isnan(neighbour_median(np.full((1, 1), 3.0))).all()


# --- the monitor -------------------------------------------------------------------------------------------

def test_flux_is_relative_to_what_can_be_believed():
    readings = np.array([5.0, 5.2, 4.8, 5.0, 5.1, 4.9] * 4 + [np.nan, 0.0, -1.0, 60.0])
    relative, odd = relative_flux(readings)
    assert np.flatnonzero(odd).tolist() == [24, 25, 26, 27]
    assert np.allclose(relative[:24], readings[:24] / 5)
    with pytest.raises(SourceError, match="none of the 2 readings"):
        relative_flux([0, np.nan])


@pytest.mark.parametrize(("join", "numpys"), [(average, np.mean), (median, np.median)])
def test_marks_of_the_detector_are_in_no_average(join, numpys):
    frames = np.random.default_rng(8).integers(0, 60, (7, 4, 5)).astype("u2")
    frames[2, 1, 1] = frames[:, 3, 3] = 2**16 - 1
    expected = numpys(frames.astype(float), axis=0)
    expected[1, 1] = numpys(np.delete(frames[:, 1, 1], 2).astype(float))
    expected[3, 3] = np.nan
    assert np.allclose(join(frames), expected, equal_nan=True)
