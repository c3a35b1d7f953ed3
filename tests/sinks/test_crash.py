"""The plug is pulled at every step: what was finished is whole, and `resume` ends as if nothing had happened."""
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

from ptyprep.testing import read_ptyd

MODES = ("append", "link", "merge", "virtual")
N, SIZE = 7, 3

SCRIPT = '''
import os, signal, sys
import numpy as np
from ptyprep import PtyScan, OutputError
from ptyprep.sinks import disk

mode, out, dies_at, how = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
count = 0

class Scan(PtyScan):
    """Seven frames, the fourth with an overflow."""
    def load_geometry(self):
        return {"energy": 7.0, "distance": 2.0, "psize": 75e-6, "center": (6, 5)}
    def load_positions(self):
        return np.arange(14.0).reshape(7, 2) * 1e-7
    def load(self, indices):
        frames = np.random.default_rng(8).poisson(9, (7, 12, 10)).astype("u2")
        frames[3, 2, 2] = 2**16 - 1
        return frames[list(indices)]

def step(what):
    global count
    count += 1
    if count == dies_at:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(28, "No space left on device")
disk.step = step
import ptyprep.sinks.parts
ptyprep.sinks.parts.step = step

scan = Scan(dfile=out, save=mode, resume=how == "resume").initialize()
for batch in scan.batches(3):
    pass
print(count)
'''


def run(folder, mode, dies_at=0, how="kill"):
    return subprocess.run([sys.executable, "-c", SCRIPT, mode, str(folder / "s.ptyd"), str(dies_at), how],
                          capture_output=True, text=True, timeout=60, check=False)


def finished_parts(folder):
    return sorted(p for p in folder.glob("s.*/0000??.h5"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """{mode: (frames and all that, number of steps)} of runs that nothing happened to."""
    whole = {}
    for mode in MODES:
        folder = tmp_path_factory.mktemp(mode)
        done = run(folder, mode)
        assert done.returncode == 0, done.stderr
        whole[mode] = read_ptyd(folder / "s.ptyd"), int(done.stdout)
    return whole


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("how", ["kill", "full disk"])
@pytest.mark.parametrize("mode", MODES)
def test_whatever_step_it_dies_at(tmp_path, undisturbed, mode, how):
    whole, steps = undisturbed[mode]
    assert steps > 15
    died = 0
    for k in range(1, steps + 1, 1 if how == "kill" else 3):
        folder = tmp_path / str(k)
        folder.mkdir()
        done = run(folder, mode, k, how)
        died += done.returncode != 0
        if how == "kill":
            assert done.returncode in (-signal.SIGKILL, 0)
        for path in finished_parts(folder):             # what has its final name is whole
            with h5py.File(path) as part:
                start = int(path.stem) * SIZE
                assert np.array_equal(part["data"][()], whole["data"][start:start + SIZE])
                assert np.array_equal(part["weights"][()] > 0, whole["weights"][start:start + SIZE])
        if (folder / "s.ptyd").exists():
            read_some(folder / "s.ptyd", whole)
        again = run(folder, mode, 0, "resume")
        if again.returncode:                            # it died after the end: then all is there
            assert "finished; there is nothing to resume" in again.stderr, again.stderr
        assert same(read_ptyd(folder / "s.ptyd"), whole), f"step {k}"
        left = {p.name for p in folder.iterdir() if p.name != "s.ptyd" and not p.is_dir()}
        assert not [name for name in left if not name.endswith(".tmp")]
    assert died >= steps * (0.8 if how == "kill" else 0.25)


def read_some(path, whole):
    """Every chunk that a reader sees is whole."""
    with h5py.File(path) as file:
        for number in file["chunks"]:
            chunk = file["chunks"].get(number)
            if chunk is None:
                continue
            ids = chunk["indices"][()]
            assert np.array_equal(chunk["data"][()], whole["data"][ids])
            assert np.array_equal(chunk["positions"][()], whole["positions"][ids])
