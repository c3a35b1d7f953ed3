"""Names in the order of their numbers; each expected order is that of the numbers that the names were made of."""
import itertools
import random

import pytest

from ptyprep.errors import SourceError
from ptyprep.filesystem.order import in_order, matching, with_gaps

MIXED = random.Random(3)


def shuffled(names):
    return MIXED.sample(names, len(names))


@pytest.mark.parametrize(("form", "values"), [
    ("s_{:g}", [0.5, 1.25, 1.5, 2]), ("s_{}", [0.5, 1.25, 1.5, 2.0]), ("e{:g}keV", [7.95, 8, 8.05, 8.1]),
    ("z{:g}", [-10.5, -2, -1.5, -0.25, 0, 0.5, 1.25]), ("z{:+.2f}", [-1.5, -0.75, 0, 0.75, 10.25]),
    ("z_{:.1f}_mm", [-10.5, -2.0, -1.5]), ("{:.1f}", [-3.5, -2.5]), ("t{:e}", [1.5e-6, 2e-6, 1e-5]),
    ("{:g}s", [2e-6, 1.5e-5, 0.001, 1, 1.5]), ("scan-{}", [1, 2, 9, 10, 100]), ("img.{}", [8, 9, 10]),
    ("s_{:.3f}", [0.995, 1, 1.005, 10]), ("{}", [1.25, 9.5, 10.125])])
def test_one_number(form, values):
    names = [form.format(value) for value in values]
    for _ in range(5):
        assert in_order(shuffled(names)) == names


@pytest.mark.parametrize(("form", "values"), [
    ("x{}_y{}", range(8, 12)), ("x{}_y{}", range(-2, 3)), ("{:02d}-{}", range(8, 12)), ("a{}.5_b{}", range(-3, 1)),
    ("line{:+d},{:+d}", range(-2, 3)), ("scan_{}_{:04d}", range(9, 12))])
def test_several_numbers_count_as_they_stand_the_first_slowest(form, values):
    names = [form.format(slow, fast) for slow, fast in itertools.product(values, range(9, 12))]
    notes = []
    assert in_order(shuffled(names), notes) == names == with_gaps(shuffled(names), [])
    assert f"{names[0]}, {names[1]} … {names[-1]}" in notes[0] and "would not be noticed" in notes[0]


def test_a_decimal_p_is_a_dot():
    assert in_order(["e_8p1", "e_7p95", "e_8p05", "e_8p0"]) == ["e_7p95", "e_8p0", "e_8p05", "e_8p1"]


@pytest.mark.parametrize("names", [["1.2", "1.3", "1.10"], ["1.8", "1.9", "1.11"], ["5.1", "5.9", "5.10"],
                                   ["1.9", "1.10", "2.1"], ["1", "1.2", "1.10"], ["1.5", "1.50", "1.25"]])
def test_a_decimal_number_or_a_series_and_a_count(names):
    with pytest.raises(SourceError, match="which is first, f_(1.25|[15].1.?|1.11).cbf or f_.*Rename"):
        in_order([f"f_{name}.cbf" for name in shuffled(names)])


@pytest.mark.parametrize(("form", "first"), [("s2_{}", 8), ("s-{:03d}", 0), ("scan_5.{:04d}", 8), ("z{:+d}", -2),
                                             ("2024-01-05_{}", 1), ("v1.2.{}", 1)])
def test_a_number_that_is_left_out_leaves_a_gap(form, first):
    names = [form.format(number) for number in range(first, first + 5)]
    assert with_gaps(shuffled(names[:2] + names[3:]), []) == [*names[:2], None, *names[3:]]


def test_decimal_numbers_have_no_gaps():
    notes = []
    assert with_gaps(["s_2.5", "s_0.5", "s_1"], notes) == ["s_0.5", "s_1", "s_2.5"]
    assert "decimal numbers in their names: s_0.5, s_1 … s_2.5" in notes[0]
    assert with_gaps(["e8.04", "e8.01", "e8.02"], notes) == ["e8.01", "e8.02", "e8.04"]


@pytest.mark.parametrize(("names", "words"), [
    (["a_1", "b_1"], "several series, such as a_1 and b_1"), (["a1", "a1_2"], "several series"),
    (["x-1", "x_1"], "several series"), (["a_1", "a_01"], "same number"), (["z-0.0", "z0"], "same number"),
    (["a_1.5", "a_1.50"], "same number"), (["a1.2.3", "a1e-05"], "several kinds")])
def test_what_has_no_order_is_named(names, words):
    with pytest.raises(SourceError, match=words):
        in_order(names)


@pytest.mark.parametrize("name", ["s[1].h5", "s*.h5", "s?1.h5", "[0-9].h5"])
def test_a_file_of_that_name_is_no_pattern(tmp_path, name):
    folder = tmp_path / "run[1]*"
    folder.mkdir()
    for other in (name, "s1.h5", "sx1.h5", "5.h5", ".s1.h5"):
        (folder / other).touch()
    assert matching(folder / name) == [folder / name]
    (folder / name).unlink()
    assert folder / name not in matching(folder / name) and matching(folder / name)     # now it is one
    assert len(matching(folder)) == 3 and matching(folder / "none.h5") == [folder / "none.h5"]
