"""Text, TOML and NumPy mean the same value, and what means none is refused in words."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptyprep.errors import ParameterError
from ptyprep.params import convert
from ptyprep.params.convert import Array, Pair, leaves, read, with_article, words

Shape = int | tuple[int, int] | None
Center = str | float | Pair | None
Orientation = int | tuple[bool, bool, bool]


@pytest.mark.parametrize("given, type, expected", [
    ("512", Shape, 512), ("1124,971", Shape, (1124, 971)), ([1124, 971.0], Shape, (1124, 971)),
    (np.array([3, 4]), Shape, (3, 4)), (np.int32(4), Shape, 4), ("none", Shape, None),
    ("fft", Center, "fft"), ("30,20.5", Center, (30.0, 20.5)), ("3", Center, 3.0), ("None", Center, None),
    ("a,b", Center, "a,b"), ("5 um", Center, "5 um"), ("0,1,0", Orientation, (False, True, False)),
    ("3", Orientation, 3), ("1", Orientation, 1), ("on", bool, True), (" 0", bool, False), (1, bool, True),
    ("1", bool | float, 1.0), ("No", bool | float, False), ("", str | None, ""), ("1,2", str | None, "1,2"),
    ("none", str, "none"), ("a,b", str | list[str], "a,b"), ("1 2", Any, "1 2"), (True, Any, True),
    ("a.h5, b.h5", list[Path], [Path("a.h5"), Path("b.h5")]), ("", list[Path], []), ("a", list[Path], [Path("a")]),
    ([], list[Path], []), (["~/a"], list[Path], [Path.home() / "a"]), (Path("~/a"), Path | None, Path.home() / "a"),
    (Path("none"), Path | None, Path("none")), ("none", Path | None, None), ("none", Array | None, None),
    ("1,2;3,4", list[int] | str, "1,2;3,4"), ("1,2,3", tuple[int, ...], (1, 2, 3)), ("1,2", list, ["1", "2"]),
    ("inf", float, math.inf), ("-1e3", float, -1000.0), (".5", float, 0.5), ("b", Literal["a", "b"], "b"),
])
def test_text_numbers_and_arrays_mean_the_same_from_everywhere(given, type, expected):
    assert repr(read(given, type)) == repr(expected)            # 1 is not True, and 3 is not 3.0


def test_a_choice_is_taken_as_it_is():
    assert read("512 pixel", Shape, unit="pixel") == 512
    assert read("none", str | None, choices=("none",)) == "none" and read("1,2", Center, choices=("1,2",)) == "1,2"


def test_an_array_is_given_as_numbers_or_as_a_file(tmp_path):
    np.save(tmp_path / "dark.npy", np.arange(6).reshape(2, 3))
    np.savetxt(tmp_path / "dark.txt", [[0, 1, 2], [3, 4, 5]])
    for dark in (tmp_path / "dark.npy", str(tmp_path / "dark.txt"), [[0, 1, 2], [3, 4, 5]], np.arange(6).reshape(2, 3)):
        array = read(dark, Array | None)
        assert array.dtype == np.float64 and array.tolist() == [[0, 1, 2], [3, 4, 5]]
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 3
    assert complaint("no.npy", Array | None) == "cannot be read from 'no.npy': No such file or directory"
    given = np.zeros(2)
    read(given, Array)
    given[0] = 1                     # what the caller gave stays his


# The factors are the definitions (SI brochure), not pint's.
FACTORS = {"keV": {"eV": 1e-3, "keV": 1, "MeV": 1e3, "J": 1 / 1.602176634e-16},
           "m": {"um": 1e-6, "µm": 1e-6, "nm": 1e-9, "mm": 1e-3, "angstrom": 1e-10, "inch": 0.0254},
           "deg": {"rad": 180 / math.pi, "mrad": 0.18 / math.pi, "deg": 1, "°": 1}}


@settings(deadline=None)         # the first example may import pint
@given(st.sampled_from([(unit, said) for unit in FACTORS for said in FACTORS[unit]]),
       st.floats(1e-6, 1e6), st.sampled_from(["", " "]))
def test_units_agree_with_their_definition(units, number, gap):
    unit, said = units
    got = read(f"{number!r}{gap}{said}", float, unit=unit)
    assert got == pytest.approx(number * FACTORS[unit][said], rel=1e-12)


def test_units_of_pairs_lists_and_pint_quantities():
    import pint
    for pair in ("75um,50 um", ["75 um", 5e-5], ("75 um", "5e-5")):
        assert read(pair, float | Pair, unit="m") == (7.5e-5, 5e-5)
    assert read(pint.Quantity(7200, "eV"), float, unit="keV") == 7.2


def complaint(value, type, **rest):
    with pytest.raises(ParameterError) as caught:
        read(value, type, **rest)
    return str(caught.value)


@pytest.mark.parametrize("value, type, unit, words", [
    (3.7, int, None, "must be a whole number, got 3.7"),
    ("3.7", int, None, "must be a whole number, got '3.7'"),
    ("high", float, "keV", "must be a number, got 'high'"),
    ("5 mm", float, "keV", "must be an energy such as '1 keV', got '5 mm' (a length)"),
    ("2 mol", float, "lm", "must be a quantity in lm such as '1 lm', got '2 mol' (a quantity in mol)"),
    ("5 foo", float, "keV", "must be in keV, got '5 foo': no unit 'foo' is known"),
    ((1, 2, 3), float | Pair, "m", "must be a number or a pair, got (1, 2, 3)"),
    (True, Shape, None, "must be a whole number or a pair, got True"),
    (True, Array, None, "must be an array, got True"),
    ("5 um", Shape, "pixel", "must be a whole number or a pair, got '5 um'"),
    (7, str | None, None, "must be text, got 7"),
    ("", Path, None, "must be a path, got ''"),
    ("info", float, None, "must be a number, got 'info'"),
])
def test_what_does_not_fit_is_refused_in_one_sentence(value, type, unit, words):
    assert complaint(value, type, unit=unit) == words


def test_a_wrong_unit_is_answered_with_a_number_of_ones_own():
    assert "such as '9.5 keV'" in complaint("5 mm", float, unit="keV", example=9.5)


@pytest.mark.parametrize("unit", ["m/", "m]", "m{", "m**m", "m 5", "m/0", "m if", "m**(2)"])
def test_no_unit_is_so_wrong_that_it_escapes(unit):
    assert repr(f"5 {unit}") in complaint(f"5 {unit}", float, unit="m")
    assert read(f"5 {unit}", float | str, unit="m") == f"5 {unit}"


@pytest.mark.parametrize("type, expected", [
    (Center, ["text", "number", "pair"]), (Pair | None, ["pair of numbers"]),
    (Orientation, ["whole number", "3 yes/no"]), (list[Path], ["list of paths"]), (Array, ["array"]),
    (tuple[int, ...], ["list of whole numbers"]), (dict[str, int], ["table"]), (complex, ["complex"]),
    (Literal["a", "b"], ["a or b"]), (Any, ["anything"]),
])
def test_a_type_in_words(type, expected):
    assert words(type) == expected


def test_words_with_their_article():
    assert with_article(["text", "number", "array"]) == "text, a number or an array"
    assert [with_article(one) for one in (["3 yes/no"], ["path", "pair"])] == ["3 yes/no", "a path or a pair"]


def test_limits_are_compared_with_every_number_and_with_the_extremes_of_an_array():
    assert list(leaves((1, [2.5, "fft"], None, True, Path("a")))) == [1, 2.5, "fft"]
    assert list(leaves(np.array([[3.0, math.nan], [-1.0, 2.0]]))) == [-1, 3]
    assert list(leaves(np.array([math.nan]))) == []


@settings(deadline=None)         # the first example imports pydantic
@given(st.sampled_from([Shape, Center, Orientation, Pair | None, Pair | str, int, float, bool, str, Path, bool | float,
                        int | float, str | None, str | float, Any, tuple[int, float], tuple[Pair, str], list[float],
                        tuple[int | None, bool], Array | str, Array | float | None, Literal[1, 2] | float]),
       st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["a", "1", "2.5", "none"])
                    | st.just(Path("a")) | st.just(np.float32(2)) | st.integers(10**300, 10**400),
                    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner), max_leaves=4))
def test_what_is_clear_means_the_same_without_pydantic(type, value):
    def answer():
        try:
            return repr(read(value, type))
        except ParameterError as err:
            return str(err)
    ours = answer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "_is_one", lambda *_: False)
        patch.setattr(convert, "_widened", lambda value, _: value)
        assert ours == answer()


def test_pydantic_is_loaded_only_for_what_is_not_clear():
    code = ("import sys, ptyprep; from ptyprep import recipe\n"
            "recipe('hdf5')({'intensities.file': 'a.h5', 'center': '3, 4.5', 'psize': '75 um', 'energy': 7})\n"
            "print('pydantic' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == ["False"]


def test_pint_is_loaded_only_for_units_that_need_it():
    code = ("import sys; from ptyprep.params.declare import *; from ptyprep.params.declare import Par, Tree\n"
            "class R(Tree):\n    e: float = Par(1.0, unit='keV')\n"
            "R.make_values(('keyword', {'e': '7.2 keV'})); print('pint' in sys.modules, 'mpi4py' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == ["False"] * 2
