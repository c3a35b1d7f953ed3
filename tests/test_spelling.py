"""Advice in messages is spelt as the user writes parameters, in Python and at the command line."""
import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import h5py
import numpy as np
import ptyprep_recipes
import pytest
from click.testing import CliRunner

import ptyprep
from ptyprep import recipe
from ptyprep.cli.commands import main
from ptyprep.errors import ParameterError
from ptyprep.params.declare import walk
from ptyprep.registry import installed
from ptyprep.words.spelling import at_command_line, option, options

PARAMETERS = [(name, dotted) for name in installed() for dotted, _ in walk(recipe(name))]

#: A value for each kind of parameter whose default says nothing.
EXAMPLES = {"path": "a folder/it's.h5", "text": "of 2 words; $HOME", "yes/no": True, "whole number": 3, "number": 0.5,
            "whole number or pair": (256, 128), "text or number or pair": (12.5, -3.0),
            "number or pair": (5e-5, 7.5e-5),
            "whole number or 3 yes/no": (True, False, False), "whole number or 4 whole numbers": (1, 2, 3, 4),
            "array": np.arange(6.).reshape(3, 2), "pair of numbers": (-1e-6, 2e-6), "pair of texts": ("a b", "c"),
            "pair of whole numbers": (3, 4), "list of paths": ("a.h5", "b c.h5"), "list of texts": ("a", "b"),
            "whole number or list of whole numbers": (3, 4), "whole number or text": 3}


def values_for(par):
    """The default, and an example; several where there are choices, a unit or yes and no."""
    values = [] if par.required or par.default is None else [par.default]
    values += par.choices or ()
    if par.kind == "yes/no":
        return [True, False]
    if not any(isinstance(choice, str) for choice in par.choices or ()) or "pair" in par.kind:
        values.append(EXAMPLES[par.kind])
    if par.physical and par.kind in ("number", "number or pair"):
        values.append({"keV": "7200 eV", "m": "75 um", "deg": "0.1 rad"}[par.unit])
    return [value for value in values if np.ndim(value) < 2 and may_be(par, value)]     # arrays as text are files


def may_be(par, value):
    try:
        return par.convert(value) is not None
    except ParameterError:      # beyond a limit
        return False


def as_given_on_the_command_line(cls, words):
    """{dotted name: value} as `prepare` understands the words."""
    command = main.commands["prepare"]
    context = command.make_context("prepare", [cls.recipe_name, *words], parent=main.make_context(
        "ptyprep", ["prepare"], resilient_parsing=True))
    given = {par.dotted: context.params[par.name] for par in command.params
             if getattr(par, "of_recipe", False) and context.params[par.name] is not None}
    if context.params["output"] is not None:
        given["dfile"] = context.params["output"]
    return given


@pytest.mark.parametrize("name", installed())
def test_advice_gives_the_value_back_wherever_it_is_followed(name):
    """Every parameter of every recipe: the first value of each in one command, then the second, and so on."""
    cls = recipe(name)
    pars = {dotted: (par, values_for(par)) for dotted, par in walk(cls)}
    assert [dotted for dotted, (par, values) in pars.items() if not values and par.kind != "array"] == []
    for number in range(max(len(values) for _, values in pars.values())):
        chosen = {dotted: (par, values[number]) for dotted, (par, values) in pars.items() if number < len(values)}
        for dotted, (par, value) in chosen.items():
            keyword, _, text = option(dotted, value).partition("=")
            assert keyword == dotted and same(par.convert(ast.literal_eval(text)), par.convert(value)), (dotted, value)
        with at_command_line():
            words = shlex.split(" ".join(option(dotted, value) for dotted, (_, value) in chosen.items()))
        given = as_given_on_the_command_line(cls, words)
        assert given.keys() == chosen.keys()
        for dotted, (par, value) in chosen.items():
            assert same(par.convert(given[dotted]), par.convert(value)), (dotted, value, given[dotted])


def same(one, other):
    return type(one) is type(other) and np.array_equal(one, other)


def test_each_kind_in_both_faces():
    cases = [(("auto_center", True), "auto_center=True", "--auto_center"),
             (("outer_axis", False), "outer_axis=False", "--no-outer_axis"),
             (("shape", None), "shape=None", "--shape none"),
             (("distance", "2.1 m"), "distance='2.1 m'", "--distance '2.1 m'"),
             (("shape", (256, 128)), "shape=(256, 128)", "--shape 256,128"),
             (("shape", np.array([256, 128])), "shape=(256, 128)", "--shape 256,128"),
             (("mask.file", Path("m.h5")), "mask.file='m.h5'", "--mask.file m.h5"),
             (("dfile", Path("o.ptyd")), "dfile='o.ptyd'", "--output o.ptyd"),
             (("positions.slow_key",), "positions.slow_key", "--positions.slow_key"),
             (("save", "link", "virtual"), "save='link' or 'virtual'", "--save link or --save virtual")]
    for given, in_python, in_shell in cases:
        assert option(*given) == in_python
        with at_command_line():
            assert option(*given) == in_shell
    assert option("center", words=("row", "column")) == "center=(row, column)"
    with at_command_line():
        assert option("center", words=("row", "column")) == "--center row,column"
        assert options(["mask.file", "mask.key"]) == "--mask.file and --mask.key"


def test_the_command_line_does_not_leave_its_spelling_behind(tmp_path):
    """After one that fails, too."""
    failed = CliRunner().invoke(main, ["prepare", "hdf5", str(tmp_path / "none.h5"), "--save", "parsnip"])
    assert failed.exit_code == 1 and option("center") == "center"
    assert CliRunner().invoke(main, ["recipes"]).exit_code == 0 and option("resume", True) == "resume=True"


# --- a real scan that lacks things ------------------------------------------------------------------

@pytest.fixture
def bare(tmp_path):
    """A file with frames and positions, and nothing of the geometry."""
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        light = 500 * np.exp(-np.hypot(*np.ogrid[-32:32, -32:32]) / 5)
        file["frames"] = np.random.default_rng(1).poisson(light, (6, 64, 64)).astype(np.uint16)
        file["y"], file["x"] = np.arange(6) * 1e-6, np.arange(6) % 2 * 1e-6
    return tmp_path


def ptyprep_command(folder, *words):
    done = subprocess.run([sys.executable, "-m", "ptyprep", *words], cwd=folder, capture_output=True, text=True,
                          timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_what_a_run_asks_for_can_be_copied(bare):
    prepare = ["prepare", "hdf5", "scan.h5", "--positions.slow_key", "y", "--positions.fast_key", "x"]
    code, asked = ptyprep_command(bare, *prepare)
    assert code == 1 and "ptyprep does not guess. Set --energy '7.2 keV'; --distance '2.1 m'; --psize '75 um'; " \
        "--center row,column in raw pixels, or --auto_center" in asked, asked
    _, help = ptyprep_command(bare, "prepare", "hdf5", "--help")
    named = re.findall(r"--[\w.\-]*\w", asked)
    assert len(named) == 5 and all(re.search(rf"{re.escape(name)}\b", help) for name in named), named
    copied = shlex.split(asked.partition("Set ")[2].partition("--center")[0].replace(";", " "))
    code, done = ptyprep_command(bare, *prepare, *copied, "--auto_center")
    assert code == 0, done
    code, refused = ptyprep_command(bare, *prepare, *copied, "--auto_center")
    assert code == 1 and "scan.ptyd exists; choose another name, or set --overwrite to replace it" in refused, refused
    code, done = ptyprep_command(bare, *prepare, *copied, "--auto_center", "--overwrite")
    assert code == 0, done


def test_the_library_advises_keywords(bare):
    with pytest.raises(ParameterError, match=re.escape("Set energy='7.2 keV'; distance='2.1 m'; psize='75 um'; center="
                                                       "(row, column) in raw pixels, or auto_center=True")):
        recipe("hdf5")({"intensities.file": bare / "scan.h5", "positions.slow_key": "y",
                        "positions.fast_key": "x"}).initialize()


def test_hyphens_and_underscores_are_the_same_in_all_options():
    commands = [main.commands[name] for name in ("show", "verify", "merge", "repair")]
    context = main.make_context("ptyprep", ["recipes"], resilient_parsing=True)
    for command in commands:
        arguments = ["in.ptyd"] + ["out.ptyd"] * (command.name in ("merge", "repair"))
        for spelt in ("--follow_links", "--follow-links"):
            assert command.make_context(command.name, [*arguments, spelt], parent=context).params["follow_links"]
    for spelt in ("--follow_links", "--follow-links"):
        assert as_given_on_the_command_line(recipe("ptyd"), [spelt])["follow_links"] is True
    assert as_given_on_the_command_line(recipe("ptyd"), ["--no-follow-links"])["follow_links"] is False
    with pytest.raises(click.NoSuchOption):
        as_given_on_the_command_line(recipe("ptyd"), ["--follow"])


# --- the source -------------------------------------------------------------------------------------

NAMES = {dotted for _, dotted in PARAMETERS} | {"parts", "drop"}
NAMES = "|".join(re.escape(name) for name in sorted(NAMES, key=len, reverse=True))
ADVICE = re.compile(rf"\b(?:[Ss]et|[Gg]ive|leave out) (?:{NAMES})(?!\w|\.\w)"      # set center
                    rf"|(?<![\w.])(?:{NAMES})=(?!=)"                               # center=
                    r"|(?<!\S)\(?--[a-z]")                                         # --center

#: Texts that look like advice. Each has its reason.
NO_ADVICE = {
    "give positions, or a source",          # arrays and hooks of a recipe's author
    "give positions, a source, check()",
    "parameters are keywords or a mapping, such as {}(shape=256)",      # a call in Python
    "ptyprep repair --drop",                # a command, wherever one reads it
    "--links needs --parts", "--debug shows where",         # options of the command line alone
    "pip install --no-binary", "ptyprep params RECIPE --toml",      # commands, too
}


def literals(tree):
    """(line, text) of what can be part of a message: no docstring, no doc of a parameter, no pattern."""
    left = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in ("doc", "help"):
            left |= {id(part) for part in ast.walk(node)}
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            left.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            left |= {id(part) for part in node.values if isinstance(part, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and id(node) not in left:
            yield node.lineno, "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left:
            yield node.lineno, node.value


def test_no_advice_is_written_in_one_spelling_only():
    found = []
    for package in (ptyprep, ptyprep_recipes):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            if "testing" in path.parts or path.name in ("skeleton.py", "spelling.py"):
                continue
            found += [f"{path.name}:{line}: {text}" for line, text in literals(ast.parse(path.read_text("utf-8")))
                      if " " in text and ADVICE.search(text) and not any(known in text for known in NO_ADVICE)]
    assert found == []


def test_the_search_for_advice_finds_it():
    for text in ("x: Set center", "set positions.unit", "set bad_frames='drop' or 'mask'", "leave out energy",
                 "auto_center=True ", "set overwrite (--overwrite)"):
        assert ADVICE.search(text), text
    for text in ("Set {} to one", "{}: {} frames", "positions.unit is taken"):
        assert not ADVICE.search(text), text
