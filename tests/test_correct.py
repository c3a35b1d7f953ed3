"""Corrections on stacks, against numbers that were worked out by hand."""
import math

import numpy as np
import pytest

from ptyprep.correct import believable, photon_energy_of_electrons

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
    assert believable(frames, 100).tolist() == [[[True, True, False]]]
    assert believable(frames, None).all()


@pytest.mark.parametrize("dtype", [t for t in INTEGERS if t[0] == "i"])
def test_a_negative_integer_is_a_mark_and_no_count(dtype):
    frames = np.array([[[0, -1, 5], [-2, 7, 0]]], dtype)       # PILATUS: -1 gap, -2 bad pixel
    assert believable(frames).tolist() == [[[True, False, True], [False, True, True]]]


def test_every_yes_and_no_is_believed():
    assert believable(np.array([[[True, False]]])).all()


def test_what_is_given_is_not_changed():
    frames = np.array([[[1, np.nan]]])
    believable(frames, 0.5)
    assert frames[0, 0, 0] == 1


@pytest.mark.parametrize("kilovolt, picometre", [(60, 4.866), (80, 4.176), (100, 3.701), (200, 2.508), (300, 1.969)])
def test_electrons_get_the_photon_energy_of_their_wavelength(kilovolt, picometre):
    # h / p in SI units with the relativistic momentum, and the wavelengths printed in textbooks (Williams & Carter).
    h, c, e, m = 6.62607015e-34, 299792458.0, 1.602176634e-19, 9.1093837139e-31
    gamma = 1 + kilovolt * 1e3 * e / (m * c**2)
    wavelength = h / (m * c * math.sqrt(gamma**2 - 1))
    assert wavelength * 1e12 == pytest.approx(picometre, abs=0.002)
    assert photon_energy_of_electrons(kilovolt) == pytest.approx(h * c / wavelength / e / 1e3, rel=1e-9)
