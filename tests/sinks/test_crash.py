"""The plug is pulled at every step: what was finished is whole, and `resume` ends as if nothing had happened."""
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

pytestmark = pytest.mark.slow

PLUG = Path(__file__).parent / "plug.py"
KILLS = Path(__file__).parents[1] / "soak" / "kills.py"
SIZE = 3            # frames in a chunk, in plug.py


def pull(*arguments, timeout=120, code=0):
    done = subprocess.run([sys.executable, PLUG, *map(str, arguments)], capture_output=True, text=True,
                          timeout=timeout, check=False)
    assert done.returncode == code, done.stderr


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The frames and all that of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    pull("merge", folder, "kill", 0, 0)
    return read_ptyd(folder / "0-0" / "s.ptyd")


def check_resumed(folder, mode, whole):
    """One process ends what died in each folder; each was whole as far as it went. {rank: number of steps}"""
    pull(mode, folder, "resume")
    died = [path.stem for path in folder.glob("*.died")]
    for step in died:
        check(folder, step, whole)
    return {rank: sum(step.startswith(f"{rank}-") for step in died) for rank in range(3)}


def check(folder, step, whole):
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
    made = read_ptyd(folder / step / "s.ptyd")
    assert all(np.array_equal(made[name], whole[name]) for name in whole), f"step {step}"
    assert list(problems(folder / step / "s.ptyd")) == []
    strays = [p.name for p in (folder / step).iterdir() if p.name != "s.ptyd" and not p.is_dir()]
    assert all(name.endswith(".tmp") for name in strays)


@pytest.mark.parametrize("how", ["watch", "full"])
@pytest.mark.parametrize("mode", SINKS)
def test_whatever_step_it_ends_at(tmp_path, undisturbed, mode, how):
    pull(mode, tmp_path, how)
    assert check_resumed(tmp_path, mode, undisturbed)[0] > 20
    alive = read_ptyd(tmp_path / "alive" / "s.ptyd")
    assert all(np.array_equal(alive[name], undisturbed[name]) for name in undisturbed)


@pytest.mark.parametrize("mode", SINKS)
def test_sigkill_leaves_what_was_there(tmp_path, undisturbed, mode):
    """At a few steps only: at all of them `watch` copies what a SIGKILL leaves."""
    steps = (2, 9, 16, 21)
    for step in steps:
        pull(mode, tmp_path, "kill", step, 0, code=-signal.SIGKILL)
    assert check_resumed(tmp_path, mode, undisturbed)[0] == len(steps)


@pytest.mark.mpi
@pytest.mark.parametrize("mode", SINKS)
def test_whatever_step_three_ranks_end_at(tmp_path, undisturbed, mode):
    """The first rank writes in all modes, the others in virtual alone; one rank ends what three began."""
    assert mpirun(), "make test installs one"
    done = run_on_ranks(3, PLUG, mode, tmp_path, "watch", timeout=120)
    assert done.returncode == 0, done.stderr
    steps = check_resumed(tmp_path, mode, undisturbed)
    assert steps[0] > 20 and (steps[1] > 3 and steps[2] > 3) == (mode == "virtual")
    assert np.array_equal(read_ptyd(tmp_path / "alive" / "s.ptyd")["data"], undisturbed["data"])


@pytest.mark.mpi
@pytest.mark.parametrize("mode, rank", [("append", 0), ("virtual", 0), ("virtual", 2)])
def test_one_of_three_ranks_is_killed(tmp_path, undisturbed, mode, rank):
    assert mpirun(), "make test installs one"
    assert run_on_ranks(3, PLUG, mode, tmp_path, "kill", 5, rank, timeout=60).returncode
    assert check_resumed(tmp_path, mode, undisturbed)[rank] == 1


@pytest.mark.mpi
def test_killed_at_random_moments():
    """One in a hundred of what the soak does, the fifth on three ranks; its seed is fixed."""
    assert mpirun(), "make test installs one"
    done = subprocess.run([sys.executable, KILLS, "--count", "5", "--seed", "3"], capture_output=True, text=True,
                          timeout=280, check=False)
    assert done.returncode == 0 and "5 scans" in done.stdout, done.stdout + done.stderr
