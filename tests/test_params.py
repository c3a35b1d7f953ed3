"""Parameters: inherited, checked, and asked where they came from."""

from __future__ import annotations

import abc
import copy
import math
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptyprep import recipe
from ptyprep.errors import ParameterError
from ptyprep.params.convert import Array, Pair
from ptyprep.params.declare import ORIGINS, Group, Tree, walk
from ptyprep.params.par import Par


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


def test_a_recipe_may_have_a_metaclass_between_itself_and_its_module():
    class Odd(Base, metaclass=abc.ABCMeta):
        where: Path = Par("here", doc="A folder.")
    assert Odd.make_values().where == Path("here")


@pytest.mark.parametrize("body, words", [
    ({"enrgy": Par(9.5)}, "Mine.enrgy overrides no parameter and has no type"),
    ({"energy": 9.5}, "Mine.energy hides the parameter 'energy'; write energy = Par(9.5)"),
    ({"rebin": Par(77)}, "Mine.rebin: the default must be at most 32, got 77"),
    ({"given": Par(1), "__annotations__": {"given": int}}, "Mine.given: a parameter cannot have the name 'given'"),
    ({"a": Par(1), "__annotations__": {"a": "Flaot"}}, "Mine.a: cannot understand the type 'Flaot'"),
    ({"tree": type("tree", (Group,), {})}, "Mine.tree: a group cannot have the name 'tree'"),
    ({"flat": type("flat", (Group,), {})}, "Mine.flat: a group cannot have the name 'flat'"),
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

@pytest.mark.parametrize("given, name, value", [
    ({"shape": "1124,971"}, "shape", (1124, 971)), ({"energy": "7200 eV"}, "energy", 7.2),
    ({"center": "fft"}, "center", "fft"), ({"center": "3"}, "center", 3.0), ({"patience": "inf"}, "patience", math.inf),
    ({"overwrite": "on"}, "overwrite", True), ({"mask.file": Path("~/a")}, "mask.file", Path.home() / "a"),
    ({"mask": {"hot.sigma": "3"}}, "mask.hot.sigma", 3.0), ({"mask.hot": {"sigma": 2}}, "mask.hot.sigma", 2.0),
    ({"mask": values(mask={"key": "m"}).mask}, "mask.key", "m"),
])
def test_a_value_is_read_under_its_own_name_in_a_group_or_not(given, name, value):
    assert values(**given).changed()[name] == value


def test_values_are_equal_if_all_are_arrays_too():
    p = values(dark=[[0, 1, 2], [3, 4, 5]])
    assert p == values(dark=p.dark) != values(dark=p.dark + 1)
    assert p != values() != p and p != 3
    assert "parameter 'dark' of recipe 'eiger' cannot be read from 'no.npy': No such file" in complaint(dark="no.npy")


def test_an_origin_that_does_not_exist():
    with pytest.raises(ValueError, match="no origin 'file'; it is one of default, detector"):
        values(("file", {"rebin": 2}))


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


def test_a_name_that_is_not_there_is_answered_with_one_that_is():
    with pytest.raises(AttributeError, match="no parameter 'mask.kye' in recipe 'eiger'; did you mean 'mask.key'?"):
        _ = values().mask.kye
    assert not hasattr(values(), "__array__") and copy.deepcopy(values()) == values()
    with pytest.raises(AttributeError, match="'energy' cannot be deleted"):
        del values().energy


def test_defaults_are_not_shared():
    class Deep(Tree):
        """A default that holds lists."""
        pairs: tuple[list[float], ...] = Par(([1.0], [2.0]), doc="Lists.")
    Deep.make_values().pairs[0].append(3.0)
    values().files.append("x")
    assert values().files == [] and Deep.make_values().pairs == ([1.0], [2.0])


# --- what is said when something is wrong -----------------------------------------------------------

@pytest.mark.parametrize("given, words", [
    ({"rebin": 64}, "parameter 'rebin' of recipe 'eiger' must be at most 32, got 64"),
    ({"rebin": "3.7"}, "parameter 'rebin' of recipe 'eiger' must be a whole number, got '3.7'"),
    ({"energy": "5 mm"}, "parameter 'energy' of recipe 'eiger' [keV] must be an energy such as '9.5 keV', "
                         "got '5 mm' (a length)"),
    ({"energy": math.nan}, "parameter 'energy' of recipe 'eiger' [keV] must be finite, got nan"),
    ({"angle": "2 mm"}, "parameter 'angle' of recipe 'eiger' [deg] must be an angle such as '1 deg', "
                         "got '2 mm' (a length)"),
    ({"psize": "75um,0"}, "parameter 'psize' of recipe 'eiger' [m] must be greater than 0, got (7.5e-05, 0.0)"),
    ({"save": "lnk"}, "parameter 'save' of recipe 'eiger' is 'lnk'; choose one of append, link (did you mean 'link'?)"),
    ({"center": "fftshft"}, "parameter 'center' of recipe 'eiger' [pixel] is 'fftshft'; choose one of fftshift, "
                            "geometric, fft, or give a number or a pair (did you mean 'fftshift'?)"),
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


def nested(levels, inner, wrap):
    for _ in range(levels):
        inner = wrap(inner)
    return inner


def circle():
    itself = []
    itself.append(itself)
    return itself


@pytest.mark.parametrize("value", [nested(100_000, 1, lambda v: [v]), nested(100_000, 1, lambda v: (v,)),
                                   nested(100_000, 1, lambda v: {"a": v}), circle(), [1] * 10**6, "9," * 10**6],
                         ids=["lists", "tuples", "tables", "a circle", "long", "text"])
@pytest.mark.parametrize("name", ["shape", "center", "psize", "positions_theory", "positions", "positions.file",
                                  "mask.bits", "orientation", "overwrite", "label"])
def test_values_in_values_without_end_are_refused_in_a_few_words(name, value):
    cls = recipe("hdf5")
    if (name, type(value)) in (("label", str), ("positions.file", str)) or name == "positions_theory" and \
            value == [1] * 10**6:
        return                  # which may be
    with pytest.raises(ParameterError) as failed:
        cls.make_values(("keyword", {"intensities.file": "a", name: value}))
    assert name in str(failed.value) and len(str(failed.value)) < 2000


def test_of_many_names_that_do_not_exist_some_are_told():
    with pytest.raises(ParameterError, match="no parameter 'x19'.*\n.*and 99980 more") as failed:
        recipe("hdf5").make_values(("keyword", {f"x{i}": i for i in range(100_000)}))
    assert len(str(failed.value)) < 3000 and "x20" not in str(failed.value)
