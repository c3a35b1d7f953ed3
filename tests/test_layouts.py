"""Every recipe for files on a tiny scan in each form of its layout."""
import os
import subprocess
import sys

import pytest
from ptyprep_recipes._layouts import layouts

from ptyprep import PtyScan, registry
from ptyprep.testing import Tiny, check_layout, mpirun, read_ptyd

GENERAL = {"cxi", "eiger", "hdf5", "images", "nexus"}       # of no beamline
# Ranks are tried on one form of each road that frames travel: their source, and whether the recipe corrects them.
ROADS = {"cxi-one_file", "eiger-master", "hdf5-raster", "hxn-exported", "id16a-edf_series", "id16a-hdf5_stack",
         "images-cbf", "nanomax-contrast_step", "nexus-raster", "savu-arrays"}
FORMS = [(name, form, write) for name, forms in layouts().items() for form, write in forms.items()]


@pytest.mark.parametrize(("name", "write"), [pytest.param(name, write, id=f"{name}-{form}")
                                             for name, form, write in FORMS if f"{name}-{form}" not in ROADS])
def test_a_recipe_reads_its_layout(name, write):
    assert len(check_layout(registry.recipe(name), write, ranks=1)) >= 8


@pytest.mark.mpi
@pytest.mark.parametrize(("name", "write"), [pytest.param(name, write, id=f"{name}-{form}")
                                             for name, form, write in FORMS if f"{name}-{form}" in ROADS])
def test_a_recipe_reads_its_layout_on_ranks(name, write):
    assert mpirun(), "make test installs one"
    assert len(check_layout(registry.recipe(name), write, ranks=3)) >= 9


def test_ranks_are_tried_on_every_road(tmp_path):
    roads = {}
    for name, form, write in FORMS:
        cls, folder = registry.recipe(name), tmp_path / f"{name}-{form}"
        folder.mkdir()
        scan = cls(write(folder, Tiny.make())[0])
        scan.look()
        roads.setdefault((type(scan.source), cls.correct is PtyScan.correct, cls.load is PtyScan.load),
                         set()).add(folder.name)
    assert all(len(ROADS & forms) == 1 for forms in roads.values()), roads


@pytest.mark.slow
@pytest.mark.parametrize("name", layouts())
def test_it_runs_from_the_command_line(tmp_path, name):
    (tmp_path / "scan").mkdir()
    pars, tiny = next(iter(layouts()[name].values()))(tmp_path / "scan", Tiny.make())
    options = []
    for key, value in pars.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
        options += [f"--{key}" if value else f"--no-{key}"] if isinstance(value, bool) else [f"--{key}", text]
    run = [sys.executable, "-m", "ptyprep"]
    job = subprocess.run([*run, "prepare", name, *options, "-o", tmp_path / "out.ptyd"], capture_output=True, text=True,
                         timeout=60, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert job.returncode == 0, job.stderr
    assert len(read_ptyd(tmp_path / "out.ptyd")["data"]) == len(tiny.frames)


def test_every_recipe_for_raw_files_has_a_layout():
    assert set(layouts()) == set(registry.installed()) - {"moonflower", "ptyd"}


@pytest.mark.parametrize("name", sorted(layouts().keys() - GENERAL))
def test_it_says_where_its_layout_is_described(name):
    doc = registry.recipe(name).__doc__
    assert "Layout:" in doc and ("Tried on" in doc or "Not tried on real data" in doc), doc
