"""`ptyprep new-recipe` writes something that works at once."""
import os
import subprocess
import sys

import numpy as np
import pytest

from ptyprep import OutputError, ParameterError
from ptyprep.cli.skeleton import write_skeleton
from ptyprep.testing import Tiny, read_ptyd

PTYPREP = [sys.executable, "-m", "ptyprep"]


def run(*command, cwd):
    return subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
                          env={**os.environ, "PYTEST_ADDOPTS": ""})


@pytest.mark.mpi
def test_the_skeleton_passes_its_own_tests_and_prepares_from_the_command_line(tmp_path):
    made = run(*PTYPREP, "new-recipe", "blue_line", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert made.stdout.split() == [f"blue_line/{name}" for name in (
        "blue_line.py", "layout_blue_line.py", "test_blue_line.py", "README.md")]
    tests = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path / "blue_line")
    assert tests.returncode == 0 and "3 passed" in tests.stdout, tests.stdout
    style = run(sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "120", "--select", "E,F,W", ".",
                cwd=tmp_path / "blue_line")
    assert style.returncode == 0, style.stdout
    sys.path.insert(0, str(tmp_path / "blue_line"))
    try:
        import layout_blue_line
        pars, tiny = layout_blue_line.one_file(tmp_path, Tiny.make())
    finally:
        sys.path.pop(0)
    job = run(*PTYPREP, "prepare", "blue_line/blue_line.py", "scan_0001.h5", "--distance", "2.25 m", "--psize", "55 um",
              "--center", "8,10", "-o", "s.ptyd", cwd=tmp_path)
    assert job.returncode == 0, job.stderr
    got = read_ptyd(tmp_path / "s.ptyd")
    assert np.array_equal(got["data"], tiny.frames) and np.allclose(got["positions"], tiny.positions)
    told = run(*PTYPREP, "params", "blue_line/blue_line.py", cwd=tmp_path)
    assert told.returncode == 0 and "Names of the motors" in told.stdout


@pytest.mark.parametrize("name", ["Blue", "blue-line", "1st", "class", ""])
def test_what_cannot_be_a_name_is_refused(tmp_path, name):
    with pytest.raises(ParameterError, match="a word in lower case, such as my_beamline"):
        write_skeleton(name, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced(tmp_path):
    with pytest.raises(ParameterError, match="'eiger' is installed already"):
        write_skeleton("eiger", tmp_path / "x")
    (tmp_path / "blue").mkdir()
    with pytest.raises(OutputError, match="cannot be made"):
        write_skeleton("blue", tmp_path / "blue")
