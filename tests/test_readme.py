"""The README's recipe and commands work as printed."""
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ptyprep import recipe
from ptyprep.testing import check_recipe

README = (Path(__file__).parents[1] / "README.md").read_text()
RECIPE, LOOP = re.findall(r"```python\n(.*?)```", README, re.S)
BLOCKS = re.findall(r"((?:^    .*\n)+)", README, re.M)


@pytest.fixture
def scan_folder(tmp_path):
    """scan_0042/: nine frames of a spot about (40, 44), positions in metres, and the recipe beside it."""
    folder = tmp_path / "scan_0042"
    folder.mkdir()
    y, x = np.indices((80, 90))
    rng = np.random.default_rng(42)
    for i in range(9):
        frame = rng.poisson(1000 * np.exp(-((y - 40) ** 2 + (x - 44) ** 2) / 50))
        np.save(folder / f"{i:04d}.npy", frame.astype(np.uint16))
    np.savetxt(folder / "positions.txt", rng.uniform(-1e-6, 1e-6, (9, 2)))
    (tmp_path / "stepscan.py").write_text(RECIPE)
    return tmp_path


def test_the_recipe_is_ten_lines():
    body = RECIPE[RECIPE.index("class StepScan"):].strip().splitlines()
    assert sum(bool(line.strip()) for line in body) <= 10


@pytest.mark.slow
def test_the_recipe_keeps_the_contract(scan_folder):
    cls = recipe(f"{scan_folder / 'stepscan.py'}:StepScan")
    done = check_recipe(cls, path=str(scan_folder / "scan_0042"), distance=2.1, psize=75e-6, center=(40, 44), shape=32)
    assert len(done) == 8


def test_the_loop_runs_and_finds_the_centre(scan_folder, monkeypatch, capsys):
    monkeypatch.chdir(scan_folder)
    scope = {"StepScan": recipe("stepscan.py:StepScan")}
    exec(LOOP, scope)       # noqa: S102  the README's own lines
    assert "(9, 64, 64)" in capsys.readouterr().out
    assert np.abs(np.array(scope["scan"].plan.center) - (40, 44)).max() < 0.2


def test_the_command_for_it_runs(scan_folder):
    line = next(line for line in README.splitlines() if "./stepscan.py:StepScan" in line).strip()
    words = [w.strip('"') for w in re.findall(r'"[^"]*"|\S+', line)]
    done = subprocess.run([sys.executable, "-m", "ptyprep", *words[1:]], cwd=scan_folder, capture_output=True,
                          text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (scan_folder / "scan_0042.ptyd").exists()
