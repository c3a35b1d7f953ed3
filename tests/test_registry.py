"""A recipe by name, as module:Class, from a file, or from the data."""
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from ptyprep_recipes.eiger import Eiger
from ptyprep_recipes.moonflower import Moonflower

from ptyprep import recipe, registry
from ptyprep.errors import RecipeError, SourceError

MINE = """
    from ptyprep import Par, PtyScan
    from ptyprep_recipes.eiger import Eiger

    class Mine(PtyScan):
        "Mine."
        level: int = Par(3, unit="", doc="Level.")
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(MINE))
    return path


def test_by_name():
    assert registry.recipe("eiger") is Eiger and registry.recipe("ptyprep_recipes.eiger:Eiger") is Eiger
    folder = Path(__file__).parents[1] / "recipes"
    assert list(registry.installed()) == sorted(path.stem for path in folder.glob("[!_]*.py"))


def test_listing_recipes_imports_none_of_them():
    import subprocess
    code = ("import sys; from ptyprep.registry import installed; installed();"
            "print([m for m in sys.modules if m.startswith('ptyprep_recipes.')])")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout == "[]\n"


def test_from_a_file(mine):
    for name in (str(mine), f"{mine}:Mine"):
        found = registry.recipe(name)
        assert found.__name__ == "Mine" and found().p.level == 3
    assert registry.recipe(f"{mine}:Eiger") is Eiger            # one that it imports, when asked for by name


@pytest.mark.parametrize("name, words", [
    ("eigre", "no recipe 'eigre'; did you mean 'eiger'.*Installed are als, .*eiger.*module:Class or ./file.py:Class"),
    ("qqq", "no recipe 'qqq'. Installed are"),
    ("eiger:Eiger", "no module 'eiger' for recipe 'eiger:Eiger'"),
    ("ptyprep_recipes.eiger:Eigre", "eiger.py: no recipe class 'Eigre'; it defines Eiger"),
    ("absent.py", "absent.py: no such recipe file"),
    ("auto", "give SOURCE"),
])
def test_names_that_lead_nowhere(name, words):
    with pytest.raises(RecipeError, match=words):
        registry.recipe(name)


def test_a_file_with_none_or_several(mine):
    with mine.open("a") as file:
        file.write("class Other(Mine):\n    'Other.'\n")
    with pytest.raises(RecipeError, match="mine.py defines Mine, Other; name one as file.py:Class"):
        registry.recipe(str(mine))
    assert registry.recipe(f"{mine}:Other").__name__ == "Other"
    with pytest.raises(RecipeError, match="mine.py: no recipe class 'Third'; it defines"):
        registry.recipe(f"{mine}:Third")
    mine.write_text("x = 1\n")
    with pytest.raises(RecipeError, match="mine.py defines no subclass of PtyScan; expected one"):
        registry.recipe(str(mine))


def test_two_packages_with_one_name_are_named(monkeypatch, tmp_path):
    (tmp_path / "other_recipes").mkdir()
    for name in ("__init__", "eiger", "_private"):
        (tmp_path / "other_recipes" / f"{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    entries = [SimpleNamespace(value="ptyprep_recipes"), SimpleNamespace(value="other_recipes")]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: entries)
    registry.installed.cache_clear()
    try:
        with pytest.raises(RecipeError,
                           match="two recipes are named 'eiger': ptyprep_recipes.eiger and other_recipes.eiger"):
            registry.installed()
        (tmp_path / "other_recipes" / "eiger.py").rename(tmp_path / "other_recipes" / "beam.py")
        assert registry.installed()["beam"] == "other_recipes.beam" and "_private" not in registry.installed()
    finally:
        registry.installed.cache_clear()


def test_auto_says_what_is_wrong_with_the_file(tmp_path):
    with pytest.raises(SourceError, match="absent.h5: no such file"):
        registry.recipe("auto", tmp_path / "absent.h5")
    np.save(tmp_path / "f.npy", np.zeros((2, 3, 3)))
    with pytest.raises(RecipeError, match="f.npy: no installed recipe reads it; name one of als, "):
        registry.recipe("auto", tmp_path / "f.npy")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["x"] = 1
    assert registry.recipe("auto", tmp_path / "f.h5").__name__ == "Hdf5"


def test_two_recipes_for_one_file_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(Moonflower, "understands", classmethod(lambda cls, path: True))
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(RecipeError, match="f.h5: recipes hdf5, moonflower all read it; name one"):
        registry.recipe("auto", tmp_path / "f.h5")


def test_what_source_fills(mine):
    assert registry.source_parameter(Eiger) == "file" and registry.source_parameter(Moonflower) is None
    mine.write_text("from pathlib import Path\nfrom ptyprep import Par, PtyScan\nclass A(PtyScan):\n    'A.'\n"
                    "    number: int = Par(doc='N.', unit='')\n    path: Path = Par(doc='Folder.')\n")
    assert registry.source_parameter(registry.recipe(str(mine))) == "path"


# --- neighbours ------------------------------------------------------------------------------------------

def test_a_recipe_file_may_import_its_neighbour(tmp_path):
    (tmp_path / "npy_scan.py").write_text("from ptyprep import PtyScan\n\n\nclass NpyScan(PtyScan):\n    'One.'\n")
    (tmp_path / "mine.py").write_text("from npy_scan import NpyScan\n\n\nclass Mine(NpyScan):\n    'Mine.'\n")
    assert recipe(str(tmp_path / "mine.py")).__name__ == "Mine"
