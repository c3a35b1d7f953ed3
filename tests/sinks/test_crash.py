"""The plug is pulled at every step: what was finished is whole, and `resume` ends as if nothing had happened."""
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptyprep.ptyd.verify import problems
from ptyprep.sinks import SINKS
from ptyprep.testing import mpirun, read_part, read_ptyd, run_on_ranks

PLUG = Path(__file__).parent / "plug.py"
KILLS = Path(__file__).parents[1] / "soak" / "kills.py"
SIZE = 3            # frames in a chunk, in plug.py


def pull(*arguments, timeout=120):
    done = subprocess.run([sys.executable, PLUG, *map(str, arguments)], capture_output=True, text=True,
                          timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The frames and all that of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert subprocess.run([sys.executable, PLUG, "merge", folder, "live", "0"], timeout=60).returncode == 0
    return read_ptyd(folder / "0" / "s.ptyd")


def check(folder, step, whole, ended, told):
    """What the first run left in STEP.died is whole as far as it goes, and what the second made is all."""
    left = folder / f"{step}.died"
    for path in sorted(left.glob("s.*/0000??.h5")):         # what has its final name is whole
        with h5py.File(path) as part:
            start = int(path.stem) * SIZE
            assert np.array_equal(read_part(path), whole["data"][start:start + SIZE])
            masks = part["weights"][()] > 0
            masks = masks[part["which"][()]] if "which" in part else masks
            assert np.array_equal(masks, whole["weights"][start:start + SIZE])
    if (left / "s.ptyd").exists():
        with h5py.File(left / "s.ptyd") as file:            # every chunk that a reader sees is whole
            for chunk in filter(None, (file["chunks"].get(number) for number in file["chunks"])):
                ids = chunk["indices"][()]
                assert np.array_equal(chunk["data"][()], whole["data"][ids])
                assert np.array_equal(chunk["positions"][()], whole["positions"][ids])
    assert ended == 0, told         # where the first one died after the end, too
    made = read_ptyd(folder / str(step) / "s.ptyd")
    assert all(np.array_equal(made[name], whole[name]) for name in whole), f"step {step}"
    assert list(problems(folder / str(step) / "s.ptyd")) == []
    strays = [p.name for p in (folder / str(step)).iterdir() if p.name != "s.ptyd" and not p.is_dir()]
    assert all(name.endswith(".tmp") for name in strays)


@pytest.mark.parametrize("how, code", [("kill", -signal.SIGKILL), ("full", 1)])
@pytest.mark.parametrize("mode", SINKS)
def test_whatever_step_it_dies_at(tmp_path, undisturbed, mode, how, code):
    ends = pull(mode, tmp_path, how)
    *died, lived = ends
    assert len(died) > 20 and ends[lived][0] == 0, "the last one lives, because it has no more steps"
    for step in died:
        first, ended, told = ends[step]
        assert first == code, f"it did not die at step {step}"
        check(tmp_path, step, undisturbed, ended, told)


@pytest.mark.mpi
@pytest.mark.long
@pytest.mark.parametrize("mode, rank, stride", [*[(mode, 0, 4) for mode in SINKS], ("virtual", 2, 1)])
def test_whatever_step_one_of_three_ranks_dies_at(tmp_path, undisturbed, mode, rank, stride):
    """The first rank writes in all modes, the others in virtual alone; one rank ends what three began."""
    assert mpirun(), "make test installs one"
    died, step = [], 1
    while run_on_ranks(3, PLUG, mode, tmp_path, "kill", step, rank, timeout=60).returncode:
        died.append(step)
        step += stride
    assert len(died) > 5, "it did not die"
    alive = tmp_path.with_name(f"{tmp_path.name}-alive")
    os.rename(tmp_path / str(step), alive)
    assert np.array_equal(read_ptyd(alive / "s.ptyd")["data"], undisturbed["data"])
    for step, (_, ended, told) in pull(mode, tmp_path, "resume").items():
        check(tmp_path, step, undisturbed, ended, told)


@pytest.mark.mpi
def test_killed_at_random_moments():
    """One in a hundred of what the soak does, the fifth on three ranks; its seed is fixed."""
    assert mpirun(), "make test installs one"
    done = subprocess.run([sys.executable, KILLS, "--count", "5", "--seed", "3"], capture_output=True, text=True,
                          timeout=280, check=False)
    assert done.returncode == 0 and "5 scans" in done.stdout, done.stdout + done.stderr
