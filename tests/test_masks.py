"""Masks drawn as shapes, against distances and comparisons; bits of NeXus; more of reasons is in test_reasons.py."""
import numpy as np
import pytest

from ptyprep.errors import ParameterError
from ptyprep.processing.masks import REASONS, of_nexus, shapes


@pytest.mark.parametrize(("text", "inside"), [
    ("circle 3 4 2", lambda y, x: np.hypot(y - 3, x - 4) <= 2),
    ("not circle 3 4 2", lambda y, x: np.hypot(y - 3, x - 4) > 2),
    ("rectangle 1 3 0 9", lambda y, x: (y >= 1) & (y < 3) & (x < 9)),
    ("line 0 0 0 5 3", lambda y, x: (y <= 1) & (x <= 5)),
    ("circle 0 0 1\n rectangle 5 6 5 6", lambda y, x: (y + x <= 1) | (y == 5) & (x == 5)),
    ("polygon 0.5 0.5 0.5 6.5 4.5 6.5 4.5 0.5", lambda y, x: (y >= 1) & (y <= 4) & (x >= 1) & (x <= 6)),
    ("polygon -0.5 -0.5 -0.5 8.2 8.2 -0.5", lambda y, x: y + x < 7.7),
])
def test_shapes_cover_the_pixels_whose_middle_they_hold(text, inside):
    y, x = np.mgrid[:7, :10]
    assert np.array_equal(shapes(text, (7, 10)), inside(y, x))


@pytest.mark.parametrize("text", ["square 1 2", "circle 1 2", "circle a b c", "polygon 1 2 3 4", "line 1 1 1 1 2",
                                  "not"])
def test_a_shape_that_is_none_is_refused(text):
    with pytest.raises(ParameterError, match="mask shape"):
        shapes(text, (5, 5))


@pytest.mark.parametrize("dtype", ["u4", "i4", "u8"])
@pytest.mark.parametrize("bit", range(32))
def test_a_pixel_is_bad_with_any_of_the_sixteen_bits_of_nexus_and_with_no_other(bit, dtype):
    pixel_mask = np.zeros((3, 5), dtype)
    pixel_mask[1, 2] = np.array(1 << bit, "u4").view(dtype if dtype == "i4" else "u4")
    bad = pixel_mask & 0xFFFF != 0              # as NXdetector and NXmx say
    assert np.array_equal(of_nexus(pixel_mask) > 0, bad)
    assert np.array_equal(of_nexus(pixel_mask, others=REASONS["detector"]) > 0, pixel_mask != 0)
