"""The tutorials run from top to bottom, as a user runs them, and leave what they say."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ptyprep import open_frames, recipe
from ptyprep.testing import mpirun, read_ptyd

pytestmark = pytest.mark.slow

TUTORIAL = Path(__file__).parent.parent / "tutorial"


def run(script, *arguments):
    """What a script prints; it must end well, without a warning, in a minute."""
    done = subprocess.run([sys.executable, "-W", "error", TUTORIAL / script, *arguments], timeout=60, check=False,
                          capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "agg"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "new"
    run("simulated_scan.py", folder, "--frames", "7")
    return folder


def test_simulated_scan_is_as_the_detector_left_it(scan):
    frames = open_frames(scan / "scan_master.h5")
    assert frames.shape == (7, 1062, 1028) and frames.dtype == np.uint16
    assert frames.recorded == {"energy": 8, "distance": 2, "psize": (75e-6, 75e-6), "center": (466, 582)}
    assert (~frames.mask).sum() == 38 * 1028 + 2
    raw = frames.read(range(7))
    assert (raw[:, 512:550] == 65535).all() and (raw[:, 490, 560] == 65535).all()
    assert (raw[:, 455, 601] > 3 * raw[:, frames.mask].max()).all()         # the hot pixel


def test_simulated_scan_becomes_what_was_simulated(scan, tmp_path):
    prepared = recipe("eiger")({"file": scan / "scan_master.h5", "positions.file": scan / "positions.txt"}, shape=128,
                               dfile=tmp_path / "scan.ptyd").initialize()
    for _ in prepared.batches():
        pass
    found = read_ptyd(tmp_path / "scan.ptyd")
    truth = recipe("moonflower")(num_frames=7, shape=192, energy=8, distance=2, psize=75e-6, photons=2e6)
    truth = next(truth.initialize().batches())
    good = found["weights"]
    assert good[:, :110].mean() > 0.999 and not good[:, 110:].any()         # the gap begins 46 rows below the centre
    assert np.array_equal(found["data"][good], truth.data[:, 32:160, 32:160][good])
    assert np.allclose(found["positions"], truth.position, rtol=0, atol=1e-12)


def test_first_conversion(tmp_path):
    said = run("1_first_conversion.py", tmp_path)
    assert "ptyprep: scan_master.h5: positions: neither recorded nor given" in said
    assert "scan.ptyd: 100 frames of 128 x 128 pixels" in said
    assert {p.name for p in tmp_path.glob("*.png")} == {"region.png", "positions.png", "prepared.png"}
    cli, python = read_ptyd(tmp_path / "scan.ptyd"), read_ptyd(tmp_path / "scan_from_python.ptyd")
    assert all(np.array_equal(cli[name], python[name]) for name in cli)


def test_your_beamline(tmp_path):
    said = run("2_your_beamline.py", tmp_path)
    assert "scan_0001.ptyd: 40 frames of 96 x 96 pixels" in said
    assert said.count("\nok: ") == (8 if mpirun() else 7)
    assert "largest difference: 0.0" in said        # nm, of positions that went through a text file
    assert (tmp_path / "corrected.png").exists()
