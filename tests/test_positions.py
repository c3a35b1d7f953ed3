"""Motor readings to metres; the answers are written out by hand."""
import numpy as np
import pytest

from ptyprep.errors import PositionError
from ptyprep.processing.positions import (
    by_clock,
    checked,
    count_positions,
    pair_positions,
    refuse_unknown,
    turn,
    unit_in_metres,
)


def test_one_reading_per_frame():
    assert pair_positions([1, 2, 3], [4, 5, 6], 3).tolist() == [[1, 4], [2, 5], [3, 6]]
    assert pair_positions([1, 2], [4, 5], None).tolist() == [[1, 4], [2, 5]]
    assert pair_positions(7, 8, 1).tolist() == [[7, 8]]


def test_a_grid_of_readings_runs_row_by_row():
    slow, fast = [[0, 0, 0], [1, 1, 1]], [[5, 6, 7], [5.5, 6.5, 7.5]]
    assert pair_positions(slow, fast, 6).tolist() == [[0, 5], [0, 6], [0, 7], [1, 5.5], [1, 6.5], [1, 7.5]]


def test_one_reading_per_row_and_per_column():
    assert pair_positions([0, 1], [5, 6, 7], 6).tolist() == [[0, 5], [0, 6], [0, 7], [1, 5], [1, 6], [1, 7]]
    assert pair_positions([[0], [1]], [[5, 6, 7]], 6).tolist()[4] == [1, 6]       # as columns and rows of a file
    assert pair_positions([0, 1], [5, 6], 4).tolist() == [[0, 5], [0, 6], [1, 5], [1, 6]]


@pytest.mark.parametrize("slow, fast, frames", [(2, 3, 5), (5, 6, 6), (3, 3, 8), (0, 0, 4)])
def test_readings_that_do_not_fit_are_refused_with_all_numbers(slow, fast, frames):
    with pytest.raises(PositionError, match=rf"{frames} frames.*\({slow},\).*\({fast},\).*rows x columns = {frames}"):
        pair_positions(np.zeros(slow), np.zeros(fast), frames)


UP, DOWN, TO_AND_FRO = list(range(10)), list(range(10, 0, -1)), [0, 1, 2, 1, 0, 1, 2, 1, 0, 1]


@pytest.mark.parametrize("slow, fast, frames, count", [
    (UP, DOWN, 10, 10),                     # one reading for each frame: a line
    (UP, DOWN, 100, 100),                   # the axes of a raster
    (UP, DOWN, 60, 100),                    # of one that was cut short
    (UP, DOWN, 130, 100),                   # of one with frames too many
    (UP, DOWN, 7, 10),
    (UP, DOWN, None, 10),
    (UP, TO_AND_FRO, 60, 10),               # a list: no axis comes back to where it was
    (TO_AND_FRO, TO_AND_FRO, 11, 10),
    (TO_AND_FRO, TO_AND_FRO, 100, 10),      # ten frames at each position
    (np.zeros((5, 2)), np.zeros((5, 2)), 60, 10),
    (UP, [0, 1, 2], 30, 30),
    (UP, [0, 1, 2], 11, 30),
    (TO_AND_FRO, [0, 1, 2], 30, 30),
    (UP, [0, 1, 0], 11, 11),                # which `pair_positions` refuses, and the next ones
    (UP, [0, 1, 2], 10, 10),
    (UP, [0, 1, 2], 31, 31),
])
def test_readings_are_counted_whatever_the_frames(slow, fast, frames, count):
    assert count_positions(slow, fast, frames) == count


def test_axes_are_what_the_user_says():
    assert count_positions(TO_AND_FRO, UP, 100, axes=True) == count_positions(UP, UP, 10, axes=True) == 100
    assert count_positions(UP, UP, 100, axes=False) == 10


def test_units():
    assert unit_in_metres("mm") == 1e-3 and unit_in_metres(" UM ") == 1e-6 and unit_in_metres("µm") == 1e-6
    assert unit_in_metres("nm") == unit_in_metres("nanometer") == unit_in_metres("nanometers") == 1e-9
    for word in ("m", "micron", "nm"):
        with pytest.raises(PositionError, match=rf"'deg'.*not a unit of length.*\b{word}\b"):
            unit_in_metres("deg")


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_frames_beyond_the_readings_of_a_clock_have_no_position(order):
    times, at = np.array([2.0, 3.0, 7.5, 9.0])[order], np.linspace(0, 12, 49)
    found = by_clock(times, np.column_stack([3 * times - 1, 4 - times]), at)     # motors at constant speed
    between = (at >= 2) & (at <= 9)
    assert np.isnan(found[~between]).all() and 0 < between.sum() < 49
    assert np.allclose(found[between], np.column_stack([3 * at - 1, 4 - at])[between], rtol=1e-12)


@pytest.mark.parametrize("word", ["meter", "meters", "metre", "metres"])
@pytest.mark.parametrize(("prefix", "power"), [("", 0), ("centi", -2), ("milli", -3), ("micro", -6), ("nano", -9),
                                               ("pico", -12)])
def test_lengths_that_are_spelt_out(prefix, power, word):
    spelt = f"{prefix}{word}"
    for unit in (spelt, spelt.capitalize(), f"[{spelt.upper()}]"):
        assert unit_in_metres(unit) == float(f"1e{power}")


def test_turns_come_in_the_order_swap_flip_angle():
    points = np.array([[1.0, 2.0]])
    assert turn(points, swap=True).tolist() == [[2, 1]]
    assert turn(points, flip_y=True).tolist() == [[-1, 2]]
    assert turn(points, swap=True, flip_y=True).tolist() == [[-2, 1]]
    np.testing.assert_allclose(turn([[0.0, 1.0]], angle=90), [[1, 0]], atol=1e-15)      # x turns towards y
    np.testing.assert_allclose(turn([[1.0, 0.0]], angle=90), [[0, -1]], atol=1e-15)
    np.testing.assert_allclose(turn([[0.0, 1.0]], flip_x=True, angle=90), [[-1, 0]], atol=1e-15)
    np.testing.assert_allclose(turn(turn(points, angle=33), angle=-33), points, rtol=1e-12)


def test_positions_are_checked():
    grid = np.arange(12.0).reshape(2, 3, 2)
    assert np.array_equal(checked(grid), grid.reshape(6, 2)) and checked([[1, 2]]).dtype == float
    for odd in (np.zeros(3), np.zeros((3, 3)), np.zeros((2, 2, 2, 2)), np.array([["a", "b"]])):
        with pytest.raises(PositionError, match=r"expected \(n, 2\) or \(rows, cols, 2\)"):
            checked(odd)
    with pytest.raises(PositionError, match="2 of 4 are not finite, the first at scan point 1"):
        refuse_unknown(checked([[0, 0], [np.nan, 1], [1, 1], [np.inf, 0]]))
    with pytest.raises(PositionError, match="1 of 2 are not finite, the first at scan point 3"):
        refuse_unknown(checked([[0, 0], [np.nan, 1], [1, 1], [np.inf, 0]]), [3, 2])
