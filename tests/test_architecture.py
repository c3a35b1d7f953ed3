"""The house rules that a machine can check."""
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ptyprep import PtyScan, registry
from ptyprep.params.declare import walk
from ptyprep.testing import mpirun

ROOT = Path(__file__).parents[1]
RECIPES = [PtyScan, *map(registry.recipe, registry.installed())]


def run(*command, cwd=ROOT):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_imports_point_down():
    done = run(str(Path(sys.executable).parent / "lint-imports"), "--no-cache")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("shed, text, contract", [
    ("shed.py", "", "imports point down"),
    ("sources/shed.py", "from ptyprep.sinks import disk\n", "imports point down"),
    ("units.py", "from ptyprep.params import Par\n", "imports point down"),
    ("tables/text.py", "from ptyprep.tables import mda, spec\n", "no circle in a room"),
    ("processing/masks.py", "import h5py\n", "processing knows neither files nor ranks"),
    ("processing/light.py", "from ptyprep.parallel import mpi\n", "processing knows neither files nor ranks")])
def test_what_is_in_the_wrong_room_is_seen(tmp_path, shed, text, contract):
    for package, folder in (("ptyprep", "ptyprep"), ("ptyprep_recipes", "recipes")):
        shutil.copytree(ROOT / folder, tmp_path / package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    other = tmp_path / "ptyprep" / "tables" / "spec.py"
    if contract == "no circle in a room":
        other.write_text(other.read_text() + "from ptyprep.tables import text\n")
    with open(tmp_path / "ptyprep" / shed, "a") as file:
        file.write(text)
    done = run(str(Path(sys.executable).parent / "lint-imports"), "--no-cache", cwd=tmp_path)
    broken = re.findall("^(.*) BROKEN", done.stdout, re.MULTILINE)
    assert done.returncode == 1 and contract in broken, done.stdout


def test_ruff_finds_nothing():
    done = run(sys.executable, "-m", "ruff", "check", ".")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("module", ["mpi4py", "matplotlib", "pint", "fabio", "zmq", "hdf5plugin", "click"])
def test_import_is_light(module):
    """`import ptyprep` starts no MPI and loads nothing heavy."""
    done = run(sys.executable, "-c", f"import ptyprep, sys; sys.exit({module!r} in sys.modules)")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("cls", RECIPES, ids=lambda c: c.recipe_name)
def test_every_parameter_is_documented(cls):
    undocumented = [name for name, par in walk(cls) if not (par.doc or "").strip()]
    assert not undocumented


@pytest.mark.parametrize("cls", RECIPES, ids=lambda c: c.recipe_name)
def test_every_physical_number_has_a_unit(cls):
    bare = [name for name, par in walk(cls) if "number" in par.kind and "whole" not in par.kind
            and par.unit is None and "multiplier" not in name and name != "version"]
    assert not bare


def test_geometry_is_not_invented():
    """energy, distance, psize and shape have no default outside simulated scans."""
    for cls in RECIPES:
        if cls.recipe_name == "moonflower":
            continue
        invented = {name: par.default for name, par in walk(cls)
                    if name in ("energy", "distance", "psize", "shape") and par.default is not None}
        assert not invented, cls.recipe_name


def test_no_network_address_and_no_path_of_a_machine_in_the_tree():
    files = run("git", "ls-files").stdout.split()
    ours = "tests/test_architecture.py"
    hits = [f for f in files if f.endswith((".py", ".cfg", ".toml", ".md", "Makefile")) and f != ours
            and any(word in (ROOT / f).read_text() for word in ("pypi.org", "/root/", "/home/"))]
    assert not hits


def test_there_is_an_mpirun():
    """Tests under mpirun are skipped where there is none; that must not go unseen."""
    assert mpirun(), "install one: make test does, with the extra `test`"
