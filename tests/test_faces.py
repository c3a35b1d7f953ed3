"""One tree, many faces: each is read back by other means."""

import ast
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptyprep.params import present
from ptyprep.params.convert import Array, Pair
from ptyprep.params.declare import Group, Tree, walk
from ptyprep.params.par import Par


class Base(Tree):
    """Any detector."""

    energy: float | None = Par(None, unit="keV", gt=0, level=0, doc="Photon energy.")
    psize: float | Pair | None = Par((7.5e-5, 5e-5), unit="m", gt=0, doc="Pixel size, one number or two. " * 9)
    center: str | Pair | None = Par("fft", choices=("fft", "com|x"), doc="Centre.")
    seed: int | None = Par(None, ge=0, level=2, doc="For what is random.")
    files: list[Path] = Par(["a b.h5", 'say "c".h5'], doc="Raw files.")
    dark: Array | None = Par([[1, 2], [3, 4.5]], doc="Dark frame.")
    live: bool = Par(False, doc="Frames still arrive.")

    class mask(Group):
        """Bad pixels."""
        key: str = Par("entry\\mask", level=0, doc="Dataset.")

        class hot(Group):
            """Hot pixels."""
            sigma: float = Par(5.0, gt=0, level=2, doc="Limit.")


class Eiger(Base):
    """Frames of an Eiger.

    A second paragraph.
    """

    energy = Par(9.5)
    path: Path = Par(doc="Folder of the scan.")


def test_the_tree_shows_every_parameter_up_to_its_level_within_a_terminal():
    text = present.tree_text(Eiger)
    assert max(map(len, text.splitlines())) <= 100
    assert re.findall(r"^ *(\w+)  +\S", text, re.M)[0] == "energy"
    for name, _ in walk(Eiger):
        assert re.search(rf"^{'  ' * name.count('.')}{name.rpartition('.')[2]} ", text, re.M)
    assert "energy     number [keV] = 9.5; greater than 0" in text
    assert "path       path, required" in text
    assert "    sigma " in text and "  hot: Hot pixels." in text
    assert not re.search(r"^ *(sigma|hot)\b", present.tree_text(Eiger, level=1), re.M)
    assert "psize" not in present.tree_text(Eiger, level=0)


def test_the_tree_shows_values_and_where_they_came_from():
    p = Eiger.make_values(("config file", {"path": "x"}), ("detector", {"psize": 75e-6}))
    text = present.tree_text(Eiger, values=p)
    assert "= 75 um (detector)" in text and "= x (config file)" in text and "= 9.5 keV (default)" in text


def test_an_untouched_template_sets_nothing():
    p = Eiger.make_values(("config file", tomllib.loads(present.toml_template(Eiger))), ("keyword", {"path": "x"}))
    assert list(p.changed()) == ["path"]


@settings(deadline=None)         # the first example may import pint
@given(st.sets(st.sampled_from([name for name, par in walk(Eiger) if not par.required])))
def test_uncommented_lines_of_the_template_load_back_to_their_defaults(names):
    group, lines = "", []
    for line in present.toml_template(Eiger).splitlines():
        if line.startswith("["):
            group = line.strip("[]") + "."
        match = re.match(r"#(\w+) = ", line)
        lines.append(line[1:] if match and group + match[1] in names else line)
    p = Eiger.make_values(("config file", tomllib.loads("\n".join(lines))), ("keyword", {"path": "x"}))
    assert {name for name in p.changed()} - {"path"} == names
    assert p == Eiger.make_values(("keyword", {"path": "x"}))


def test_the_template_tells_what_is_required_and_keeps_to_its_level():
    assert '# path; normal; required\n#path = ""' in present.toml_template(Eiger)
    assert re.findall(r"^#(\w+) =", present.toml_template(Eiger, level=0), re.M) == ["energy", "key"]


def test_the_schema_says_what_the_tree_says():
    schema = present.json_schema(Eiger)
    assert (schema["title"], schema["description"], schema["required"]) == ("eiger", "Frames of an Eiger.", ["path"])
    energy = schema["properties"]["energy"]
    assert (energy["x-unit"], energy["x-level"], energy["default"]) == ("keV", 0, 9.5)
    assert energy["anyOf"][0] == {"type": "number", "exclusiveMinimum": 0}
    assert schema["properties"]["center"]["anyOf"][0]["enum"] == ["fft", "com|x"]
    assert schema["properties"]["dark"]["default"] == [[1, 2], [3, 4.5]]
    mask = schema["properties"]["mask"]
    assert mask["additionalProperties"] is False and list(mask["properties"]) == ["key", "hot"]

    def names(node, prefix=""):
        for name, inner in node["properties"].items():
            yield from names(inner, f"{prefix}{name}.") if "properties" in inner else [prefix + name]
    assert list(names(schema)) == list(dict(walk(Eiger)))


def test_the_docstring_has_own_parameters_in_full_and_the_others_by_name():
    text = present.docstring(Eiger)
    assert text.startswith("Frames of an Eiger.\n\nA second paragraph.\n\n"
                           "Parameters\n----------\nenergy : number [keV]; greater than 0; default 9.5\n")
    assert "    Folder of the scan." in text and "Dataset." not in text
    assert "Inherited: psize, center, seed, files, dark, live, mask.key, mask.hot.sigma." in text.replace("\n    ", " ")

    class Again(Eiger):
        """Twice."""
    Again.__doc__ = present.docstring(Again)
    assert present.docstring(Again) == Again.__doc__ and "Inherited: energy" in Again.__doc__


def test_the_table_has_a_row_each_and_no_bar_breaks_it():
    rows = present.table(Eiger).splitlines()
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {8}
    assert [row.split("`")[1] for row in rows[2:]] == list(dict(walk(Eiger)))
    assert [row.split("`")[1] for row in present.table(Eiger, own_only=True).splitlines()[2:]] == ["energy", "path"]


@pytest.mark.parametrize("value, unit, text", [
    (7.5e-5, "m", "75 um"), (7.19, "m", "7.19 m"), (0.001, "s", "1 ms"), (-2e-9, "m", "-2 nm"), (9.5, "keV", "9.5 keV"),
    ((1, 2), "pixel", "1 pixel, 2 pixel"), (None, "m", "none"), (False, None, "no"), ("", None, '""'),
    ([], None, "empty"), (np.zeros((2, 3)), None, "array (2, 3)"),
    (np.float32(0.5), None, "0.5"), (Path("a"), None, "a"), (0.0, "m", "0 m"),
])
def test_a_value_is_written_for_people(value, unit, text):
    assert present.display(value, unit) == text


@settings(deadline=None)         # the first example may import pint
@given(st.floats(1e-11, 1e4))
def test_a_length_that_is_shown_can_be_typed_in(length):
    shown = present.display(length, "m")
    assert Base.make_values(("keyword", {"psize": shown})).psize == pytest.approx(length, rel=1e-9)
    assert ast.literal_eval(shown.split()[0]) >= 1 - 1e-9
