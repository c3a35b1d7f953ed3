"""Parameters: inherited, checked, converted, and asked where they came from."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptyprep.errors import ParameterError
from ptyprep.params import ORIGINS, Array, Group, Pair, Par, Tree, walk


class Base(Tree):
    """What every recipe of these stories has."""

    dfile: str | None = Par(None, doc="Output.")
    energy: float | None = Par(None, unit="keV", gt=0, level=0, doc="Photon energy.")
    psize: float | Pair | None = Par(None, unit="m", gt=0, doc="Pixel.")
    angle: float = Par(0.0, unit="deg", doc="Rotation.")
    patience: float = Par(math.inf, unit="s", gt=0, doc="How long to wait.")
    shape: int | tuple[int, int] | None = Par(None, unit="pixel", gt=0, doc="Region.")
    center: str | float | Pair | None = Par(None, choices=("fftshift", "geometric", "fft"), unit="pixel", doc="Centre.")
    orientation: int | tuple[bool, bool, bool] = Par(0, ge=0, le=7, doc="Flips.")
    save: str | None = Par(None, choices=("append", "link"), doc="How to save.")
    rebin: int = Par(1, ge=1, le=32, doc="Pixels to sum.")
    overwrite: bool = Par(False, doc="Replace what is there.")
    files: list[Path] = Par([], doc="Raw files.")
    dark: Array | None = Par(None, doc="Dark frame.")

    class mask(Group):
        """Bad pixels."""
        file: Path | None = Par(None, doc="HDF5 file.")
        key: str = Par("mask", doc="Dataset.")

        class hot(Group):
            """Hot pixels."""
            sigma: float = Par(5.0, gt=0, doc="Limit.")


class Eiger(Base):
    """A recipe that changes a little."""

    energy = Par(9.5)
    path: Path = Par(doc="Folder of the scan.", source=True)

    class mask(Group):
        key = Par("pixel_mask")
        invert: bool = Par(False, doc="One means bad.")


def values(*layers, recipe=Eiger, **given):
    return recipe.make_values(("command line", {"path": "scan"}) if recipe is Eiger else ("keyword", {}),
                              *layers, ("keyword", given))


def complaint(*layers, **given):
    with pytest.raises(ParameterError) as caught:
        values(*layers, **given)
    return str(caught.value)


# --- declaration ------------------------------------------------------------------------------------

def test_a_subclass_changes_a_default_and_the_rest_stays():
    par, parent = Eiger.tree["energy"], Base.tree["energy"]
    assert (par.default, parent.default) == (9.5, None)
    assert (par.unit, par.doc, par.level, par.limits, par.type) == ("keV", parent.doc, 0, {"gt": 0}, parent.type)
    assert not hasattr(Eiger, "energy")


def test_a_group_is_extended_member_by_member_and_the_parent_keeps_its_own():
    assert list(dict(walk(Eiger.mask))) == ["file", "key", "hot.sigma", "invert"]
    assert list(dict(walk(Eiger))) == [*dict(walk(Base)), "mask.invert", "path"]
    assert (values().mask.key, values(recipe=Base).mask.key) == ("pixel_mask", "mask")
    assert values().mask.hot.sigma == 5
    assert Eiger.mask.__doc__ == "Bad pixels." and "invert" not in Base.mask.tree


def test_two_recipes_share_a_group_and_two_parents_join():
    class Stage(Group):
        """Where the sample is."""
        slow_key: str = Par("y", doc="Slow motor.")

    class One(Tree):
        class positions(Stage):
            pass

    class Two(Tree):
        motors = Stage

        class positions(Stage):
            slow_key = Par("z")

    class Both(One, Two):
        pass
    assert One.make_values().positions.slow_key == "y"
    assert Two.make_values().flat() == {"motors.slow_key": "y", "positions.slow_key": "z"}
    assert Both.make_values().flat() == {"motors.slow_key": "y", "positions.slow_key": "y"}
    assert One.positions.__doc__ == "Where the sample is."


def test_a_limit_is_replaced_or_lifted():
    class Loose(Base):
        energy = Par(0.0, ge=0)
        rebin = Par(64, le=None)
    assert Loose.tree["energy"].limits == {"ge": 0}
    assert Loose.make_values(("keyword", {"rebin": 128})).rebin == 128


def test_a_recipe_from_a_file_that_no_module_knows():
    names = {"__name__": "nowhere", "Base": Base, "Par": Par}
    exec("from __future__ import annotations\n"                                                     # noqa: S102
         "from pathlib import Path as Folder\n"
         "class Odd(Base):\n"
         "    where: Folder = Par('here', doc='A folder.')\n", names)
    assert names["Odd"].make_values().where == Path("here")


@pytest.mark.parametrize("body, words", [
    ({"enrgy": Par(9.5)}, "Mine.enrgy overrides no parameter and has no type"),
    ({"energy": 9.5}, "Mine.energy hides the parameter 'energy'; write energy = Par(9.5)"),
    ({"rebin": Par(77)}, "Mine.rebin: the default must be at most 32, got 77"),
    ({"copy": Par(1), "__annotations__": {"copy": int}}, "Mine.copy: a parameter cannot have the name 'copy'"),
    ({"a": Par(1), "__annotations__": {"a": "Flaot"}}, "Mine.a: cannot understand the type 'Flaot'"),
    ({"tree": type("tree", (Group,), {})}, "Mine.tree: a group cannot have the name 'tree'"),
    ({"mask": type("mask", (Group,), {"kye": Par("x")})}, "mask.kye overrides no parameter"),
])
def test_a_mistake_in_a_class_body_is_named_at_once(body, words):
    with pytest.raises(TypeError) as caught:
        type("Mine", (Base,), body)
    assert words in str(caught.value)


def test_an_unknown_option_of_par():
    with pytest.raises(TypeError, match="Par has no option minimum; its limits are gt, ge, lt, le"):
        Par(1, minimum=0)


# --- values -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("given, expected", [
    ({"shape": "512"}, 512), ({"shape": "1124,971"}, (1124, 971)), ({"shape": [1124, 971.0]}, (1124, 971)),
    ({"shape": np.array([3, 4])}, (3, 4)), ({"shape": np.int32(4)}, 4), ({"shape": "none"}, None),
    ({"shape": "512 pixel"}, 512),
    ({"center": "fft"}, "fft"), ({"center": "30,20.5"}, (30.0, 20.5)), ({"center": "3"}, 3.0),
    ({"center": "None"}, None),
    ({"orientation": "0,1,0"}, (False, True, False)), ({"orientation": "3"}, 3),
    ({"overwrite": "on"}, True), ({"overwrite": "0"}, False), ({"overwrite": 1}, True),
    ({"dfile": ""}, ""), ({"dfile": "1,2"}, "1,2"), ({"mask.key": "none"}, "none"),
    ({"files": "a.h5, b.h5"}, [Path("a.h5"), Path("b.h5")]), ({"files": ""}, []),
    ({"files": ["~/a"]}, [Path.home() / "a"]), ({"mask.file": Path("~/a")}, Path.home() / "a"),
    ({"mask": {"hot.sigma": "3"}}, 3.0), ({"mask.hot": {"sigma": 2}}, 2.0), ({"patience": "inf"}, math.inf),
])
def test_text_numbers_and_arrays_mean_the_same_from_everywhere(given, expected):
    got = [value for name, value in values(**given).changed().items() if name != "path"]
    assert repr(got) == repr([expected])            # 1 is not True, and 3 is not 3.0


def test_an_array_is_given_as_numbers_or_as_a_file(tmp_path):
    np.save(tmp_path / "dark.npy", np.arange(6).reshape(2, 3))
    np.savetxt(tmp_path / "dark.txt", [[0, 1, 2], [3, 4, 5]])
    for dark in (tmp_path / "dark.npy", str(tmp_path / "dark.txt"), [[0, 1, 2], [3, 4, 5]]):
        p = values(dark=dark)
        assert p.dark.dtype == np.float64 and p.dark.tolist() == [[0, 1, 2], [3, 4, 5]]
        assert p == values(dark=p.dark) != values(dark=p.dark + 1)
    assert "parameter 'dark' of recipe 'eiger' cannot be read from 'no.npy': No such file" in complaint(dark="no.npy")


# The factors are the definitions (SI brochure), not pint's.
FACTORS = {"energy": {"eV": 1e-3, "keV": 1, "MeV": 1e3, "J": 1 / 1.602176634e-16},
           "psize": {"um": 1e-6, "µm": 1e-6, "nm": 1e-9, "mm": 1e-3, "angstrom": 1e-10, "inch": 0.0254},
           "angle": {"rad": 180 / math.pi, "mrad": 0.18 / math.pi, "deg": 1}}


@settings(deadline=None)         # the first example may import pint
@given(st.sampled_from([(name, unit) for name in FACTORS for unit in FACTORS[name]]),
       st.floats(1e-6, 1e6), st.sampled_from(["", " "]))
def test_units_agree_with_their_definition(quantity, number, gap):
    name, unit = quantity
    got = getattr(values(**{name: f"{number!r}{gap}{unit}"}), name)
    assert got == pytest.approx(number * FACTORS[name][unit], rel=1e-12)


def test_units_of_pairs_lists_and_pint_quantities():
    import pint
    assert values(psize="75um,50 um").psize == values(psize=["75 um", 5e-5]).psize == (7.5e-5, 5e-5)
    assert values(energy=pint.Quantity(7200, "eV")).energy == 7.2


def test_layers_win_in_order_and_every_value_knows_its_origin():
    p = Eiger.make_values(("detector", {"psize": 75e-6, "energy": 8}),
                          ("config file", {"energy": "9 keV", "path": "a"}),
                          ("command line", {"path": "b", "mask": {"key": "m"}}),
                          ("keyword", {"mask.hot.sigma": 3}))
    assert (p.energy, p.path, p.mask.hot.sigma) == (9, Path("b"), 3)
    assert [p.origin(name) for name in ("rebin", "psize", "energy", "mask.key", "mask.hot.sigma")] == list(ORIGINS)
    assert p.mask.hot.origin("sigma") == "keyword" and p.origin("mask.file") == "default"
    assert (p.given("energy"), p.given("psize"), p.given("rebin")) == (True, False, False)
    assert p.changed() == {"energy": 9, "psize": 75e-6, "mask.key": "m", "mask.hot.sigma": 3, "path": Path("b")}


def test_an_assignment_is_checked_and_a_bad_one_changes_nothing():
    p = values()
    p.energy = "7200 eV"
    p.mask = {"key": "m", "hot": {"sigma": 4}}
    p.mask.hot.sigma = "3"
    assert (p.energy, p.origin("energy"), p.mask.key, p.mask.hot.sigma) == (7.2, "keyword", "m", 3)
    with pytest.raises(ParameterError, match=r"parameter 'mask.hot.sigma' of recipe 'eiger' must be greater than 0"):
        p.mask = {"key": "other", "hot.sigma": 0}
    with pytest.raises(ParameterError, match="no parameter 'mask.kye' in recipe 'eiger'; did you mean 'mask.key'?"):
        p.mask.kye = "m"
    assert p.mask.key == "m"


def test_what_the_detector_recorded_never_beats_what_the_user_said():
    p = values(energy=8)
    p.record("energy", 12)
    p.record("psize", ("75 um", 5e-5))
    assert (p.energy, p.psize, p.origin("psize")) == (8, (7.5e-5, 5e-5), "detector")


def test_frozen_values_stay_to_the_last_element():
    p = values(dark=[1, 2])
    p.freeze()
    for name, owner in (("energy", p), ("mask.hot.sigma", p.mask.hot)):
        with pytest.raises(ParameterError, match=f"'{name}' cannot change after initialize"):
            setattr(owner, name.rpartition(".")[2], 3)
    with pytest.raises(ParameterError, match="cannot change"):
        p.record("psize", 1)
    with pytest.raises(ValueError, match="read-only"):
        p.dark[0] = 3


def test_values_travel_to_other_ranks_with_their_origins():
    p = values(energy=8, mask={"key": "m"})
    back = pickle.loads(pickle.dumps(p))                                                            # noqa: S301
    assert back == p and back.origin("mask.key") == "keyword" and repr(back) == repr(p)
    assert "mask.key='m'" in repr(p)


def test_defaults_are_not_shared():
    values().files.append("x")
    assert values().files == []


# --- what is said when something is wrong -----------------------------------------------------------

@pytest.mark.parametrize("given, words", [
    ({"rebin": 64}, "parameter 'rebin' of recipe 'eiger' must be at most 32, got 64"),
    ({"rebin": 3.7}, "parameter 'rebin' of recipe 'eiger' must be a whole number, got 3.7"),
    ({"rebin": "3.7"}, "parameter 'rebin' of recipe 'eiger' must be a whole number, got '3.7'"),
    ({"energy": "high"}, "parameter 'energy' of recipe 'eiger' [keV] must be a number, got 'high'"),
    ({"energy": "5 mm"}, "parameter 'energy' of recipe 'eiger' [keV] must be an energy such as '9.5 keV', "
                         "got '5 mm' (a length)"),
    ({"energy": "5 foo"}, "parameter 'energy' of recipe 'eiger' [keV] must be in keV, "
                          "got '5 foo': no unit 'foo' is known"),
    ({"energy": math.nan}, "parameter 'energy' of recipe 'eiger' [keV] must be finite, got nan"),
    ({"angle": "2 mm"}, "parameter 'angle' of recipe 'eiger' [deg] must be an angle such as '1 deg', "
                         "got '2 mm' (a length)"),
    ({"psize": "75um,0"}, "parameter 'psize' of recipe 'eiger' [m] must be greater than 0, got (7.5e-05, 0.0)"),
    ({"psize": (1, 2, 3)}, "parameter 'psize' of recipe 'eiger' [m] must be a number or a pair, got (1, 2, 3)"),
    ({"shape": True}, "parameter 'shape' of recipe 'eiger' [pixel] must be a whole number or a pair, got True"),
    ({"shape": "5 um"}, "parameter 'shape' of recipe 'eiger' [pixel] must be a whole number or a pair, got '5 um'"),
    ({"save": "lnk"}, "parameter 'save' of recipe 'eiger' is 'lnk'; choose one of append, link (did you mean 'link'?)"),
    ({"center": "fftshft"}, "parameter 'center' of recipe 'eiger' [pixel] is 'fftshft'; choose one of fftshift, "
                            "geometric, fft, or give a number or a pair (did you mean 'fftshift'?)"),
    ({"dfile": 7}, "parameter 'dfile' of recipe 'eiger' must be text, got 7"),
    ({"path": ""}, "parameter 'path' of recipe 'eiger' must be a path, got ''"),
    ({"shpae": 3}, "no parameter 'shpae' in recipe 'eiger'; did you mean 'shape'?"),
    ({"sigma": 3}, "no parameter 'sigma' in recipe 'eiger'; did you mean 'mask.hot.sigma'?"),
    ({"mask": {"fiel": 3}}, "no parameter 'mask.fiel' in recipe 'eiger'; did you mean 'mask.file'?"),
    ({"mask": "x.h5"}, "'mask' of recipe 'eiger' is a group, got 'x.h5'; "
                       "set its members mask.file, mask.key, mask.hot, mask.invert"),
    ({"zzz": 3}, "no parameter 'zzz' in recipe 'eiger'"),
])
def test_one_problem_is_one_sentence(given, words):
    assert complaint(**given) == words


def test_all_problems_of_all_layers_come_together():
    with pytest.raises(ParameterError) as caught:
        Eiger.make_values(("detector", {"psize": -1}), ("config file", {"rebin": 99, "shpae": 1}),
                          ("keyword", {"energy": 0}))
    assert str(caught.value).splitlines() == [
        "parameter 'psize' of recipe 'eiger' [m] must be greater than 0, got -1.0 (from the detector)",
        "no parameter 'shpae' in recipe 'eiger'; did you mean 'shape'? (from the config file)",
        "parameter 'rebin' of recipe 'eiger' must be at most 32, got 99 (from the config file)",
        "parameter 'energy' of recipe 'eiger' [keV] must be greater than 0, got 0.0",
        "recipe 'eiger' needs parameter 'path': Folder of the scan."]


def test_a_recipe_may_have_another_name():
    class Long(Eiger):
        recipe_name = "id13"
    with pytest.raises(ParameterError, match="recipe 'id13' needs parameter 'path'"):
        Long.make_values()


def misfits(par):
    """Values that this parameter must refuse, drawn from its own declaration."""
    wrong = [object(), {"a": 1}, [[["x"]]]]
    if "gt" in par.limits or "ge" in par.limits:
        lowest = par.limits.get("gt", par.limits.get("ge"))
        wrong += [lowest - n for n in range("ge" in par.limits, 3)]
    if "le" in par.limits:
        wrong += [par.limits["le"] + 1]
    if par.choices:
        wrong += ["".join(par.choices)]
    if "text" not in par.kind and "path" not in par.kind and "array" not in par.kind:
        wrong += ["not a number", math.nan]
    return st.sampled_from(wrong)


@settings(deadline=None)         # the first example may import pint
@given(st.sampled_from(list(walk(Eiger))), st.data())
def test_every_parameter_refuses_what_does_not_fit_and_is_named(item, data):
    name, par = item
    assert f"parameter {name!r} of recipe 'eiger'" in complaint(**{name: data.draw(misfits(par))})


def test_pint_is_loaded_only_for_units_that_need_it():
    code = ("import sys; from ptyprep.params import *; from ptyprep.params import Par, Tree\n"
            "class R(Tree):\n    e: float = Par(1.0, unit='keV')\n"
            "R.make_values(('keyword', {'e': '7.2 keV'})); print('pint' in sys.modules, 'mpi4py' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == ["False"] * 2
