"""An unmodified PtyPy reads what ptyprep writes, and reconstructs the object that was planted in it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ptyprep_recipes.moonflower import Moonflower, diffract, illumination, scan_positions

from ptyprep.testing import launch

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
HOW = ("needs PtyPy 0.9 (academic licence, https://github.com/ptycho/ptypy): install it in this environment, or in "
       "another one and set PTYPREP_PTYPY_PYTHON=/path/to/that/bin/python")


@pytest.fixture(scope="session")
def python():
    """An interpreter that has PtyPy: this one, or the one that PTYPREP_PTYPY_PYTHON names."""
    named = os.environ.get("PTYPREP_PTYPY_PYTHON")
    for program in filter(None, (sys.executable, named)):
        try:
            found = subprocess.run([program, "-W", "ignore", "-c", "import ptypy.core"], capture_output=True,
                                   timeout=60).returncode == 0
        except OSError:
            found = False
        if found:
            return program
    if named:
        pytest.fail(f"PTYPREP_PTYPY_PYTHON={named} cannot import ptypy.core")
    pytest.skip(HOW)


@pytest.fixture
def ptypy(python, tmp_path):
    """Runs one of the scripts beside this file on a .ptyd and gives what it stored."""
    def run(script, file, *options):
        out = tmp_path / f"{script}.npz"
        done = subprocess.run([python, "-W", "ignore", HERE / f"{script}.py", file, out, *options], cwd=tmp_path,
                              capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        with np.load(out) as stored:
            return dict(stored)
    return run


def prepare(recipe, dfile, frames, **parameters):
    scan = recipe(dfile=dfile, **parameters)
    scan.initialize()
    for _ in scan.batches(frames):
        pass
    return scan


# --- PtydScan ---------------------------------------------------------------------------------------

class Shadowed(Moonflower):
    """With a beam stop: one mask for all frames."""

    def load_weight(self):
        good = np.ones((80, 80), bool)
        good[36:45, 38:41] = False
        return good


class Overflowing(Shadowed):
    """With one more pixel, that overflows in frame 3 alone."""

    def load(self, indices):
        frames = super().load(indices)
        frames[np.asarray(indices) == 3, 20, 30] = 2**32 - 1
        return frames


@pytest.mark.parametrize("save", ["append", "link", "merge", "virtual"])
@pytest.mark.parametrize("recipe", [Moonflower, Shadowed, Overflowing])
def test_ptypy_reads_the_scan_that_was_simulated(recipe, save, ptypy, tmp_path):
    prepare(recipe, tmp_path / "scan.ptyd", frames=5, save=save, num_frames=23, detector=80, shape=64,
            density=0.3, seed=4, add_poisson_noise=False, psize=(1e-4, 2e-4), distance=3, energy=8, label="sunflower")
    read = ptypy("read", tmp_path / "scan.ptyd", "--frames", "7")

    truth = recipe(num_frames=23, detector=80, density=0.3, seed=4).truth()
    steps = scan_positions(23, step=0.3 * 0.4 * 80)
    region = np.s_[:, 8:72, 8:72]                # 80 // 2 - 64 // 2 = 8: the axis comes to pixel 64 // 2
    frames = np.round(diffract(truth["probe"], truth["object"], truth["origin"] + steps))[region]
    good = np.ones((23, 80, 80), bool)
    good[:, 36:45, 38:41] = recipe is Moonflower
    good[3, 20, 30] = recipe is not Overflowing
    good = good[region]
    pixel = 12.398419843320026e-10 / 8 * 3 / (80 * np.array([1e-4, 2e-4]))

    assert read["index"].tolist() == list(range(23))
    assert np.array_equal(read["mask"], good)
    assert np.array_equal(read["data"][good], frames[good])
    np.testing.assert_allclose(read["position"], steps * pixel, rtol=1e-12)
    assert (read["energy"], read["distance"], read["num_frames"]) == (8, 3, 23)
    assert read["psize"].tolist() == [1e-4, 2e-4]
    assert read["shape"].tolist() == [64, 64] and read["center"].tolist() == [32, 32]


GROWING = '''
from pathlib import Path
import numpy as np
from ptyprep import Par, PtyScan

class Growing(PtyScan):
    """Frames that come one by one, 23 of them: three, and another each time that the reader has asked."""
    energy, distance, psize, center = Par(7.0), Par(2.0), Par(75e-6), Par("fftshift")
    planned: int | None = Par(None, doc="Positions that are known before.")
    came = 3
    def load_positions(self):
        return None if self.p.planned is None else np.arange(self.p.planned)[:, None] * [1e-7, -2e-7]
    def check(self, frames, start):
        polls = Path("polls")
        looked = int(polls.read_text() or 0) if polls.exists() else 0
        self.came = min(max(3 + looked, self.came), 23)         # the file is empty while it is written
        return min(frames, self.came - start), self.came == 23
    def load(self, indices):
        frames = np.random.default_rng(8).poisson(9, (23, 32, 32)).astype("u2")
        frames[4, 2, 2] = 2**16 - 1
        places = None if self.p.planned else np.array(indices)[:, None] * [1e-7, -2e-7]
        return frames[list(indices)], places, None
'''


@pytest.mark.parametrize("count, options", [
    (23, ("--planned", "23")), (31, ("--planned", "31", "--finish", "blank")),
    (40, ("--max_frames", "40", "--finish", "blank"))])
@pytest.mark.parametrize("save", ["link", "virtual"])
@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.mpi)])
def test_ptypy_reads_a_scan_while_it_is_written(ranks, save, count, options, ptypy, tmp_path):
    """From the first part to the end: each frame once, in order, and blank ones where it waits for more."""
    (tmp_path / "growing.py").write_text(GROWING)
    job = subprocess.Popen(launch(ranks, "-m", "ptyprep", "prepare", "growing.py", "-o", "s.ptyd", "--save", save,
                                  "--frames_per_chunk", "3", *options), cwd=tmp_path, stderr=subprocess.PIPE)
    try:
        read = ptypy("read", tmp_path / "s.ptyd", "--frames", "4")
        assert job.wait(timeout=30) == 0, job.stderr.read()
    finally:
        job.kill()
        job.communicate()
    frames = np.random.default_rng(8).poisson(9, (23, 32, 32))
    frames[4, 2, 2] = 2**16 - 1
    assert read["waits"] > 3, "it was there before it was asked for"
    assert read["index"].tolist() == list(range(count)) and read["num_frames"] == count
    assert np.array_equal(read["data"][:23], frames) and not read["data"][23:].any()
    assert np.array_equal(read["mask"][:23] > 0, frames != 2**16 - 1) and not read["mask"][23:].any()
    assert np.array_equal(read["position"][:23], np.arange(23)[:, None] * [1e-7, -2e-7])


# --- reconstruction ---------------------------------------------------------------------------------

def likeness(found, planted, region):
    """Normalised correlation of two complex objects over a region, between 0 and 1.

    Free are what ptychography leaves free: a factor, a phase ramp, and a shift, of at most 3 pixels.
    """
    fy, fx = np.fft.fftfreq(planted.shape[0])[:, None], np.fft.fftfreq(planted.shape[1])
    spectrum, found = np.fft.fft2(planted), region * found

    def at(shift, fineness=2):
        moved = region * np.fft.ifft2(spectrum * np.exp(-2j * np.pi * (fy * shift[0] + fx * shift[1])))
        ramps = np.fft.fft2(found.conj() * moved, [fineness * n for n in found.shape])    # each pixel one ramp
        return abs(ramps).max() / np.linalg.norm(found) / np.linalg.norm(moved)

    place = max(((y, x) for y in range(-3, 4) for x in range(-3, 4)), key=at)
    for step in (0.5, 0.25, 0.125):
        place = max(((place[0] + y * step, place[1] + x * step) for y in (-1, 0, 1) for x in (-1, 0, 1)), key=at)
    return at(place, fineness=8)


def oriented(array, orientation):
    """As DESIGN says, in NumPy's words: transpose, flipud, fliplr."""
    transpose, flipud, fliplr = (bool(orientation & bit) for bit in (4, 2, 1))
    array = array.T if transpose else array
    return array[::-1 if flipud else 1, ::-1 if fliplr else 1]


@pytest.mark.parametrize("seed", [0, 1])
def test_likeness_forgives_what_ptychography_leaves_free_and_nothing_else(seed):
    planted = Moonflower(seed=seed).truth()["object"]
    y, x = np.indices(planted.shape) - planted.shape[0] // 2
    region = np.hypot(y, x) < 80
    free = 3j * np.roll(planted, (2, -1), axis=(0, 1)) * np.exp(2j * np.pi * (0.011 * y - 0.017 * x))
    assert likeness(free, planted, region) > 0.98
    others = [oriented(planted, orientation) for orientation in range(1, 8)]
    others += [planted.conj(), np.ones_like(planted)]
    assert max(likeness(other, planted, region) for other in others) < 0.5


def reconstructed(ptypy, dfile, seed, orientation, save="append"):
    """(likeness of PtyPy's object to the planted one, where PtyPy put the frames minus where they were planted)."""
    scan = prepare(Moonflower, dfile, frames=40, save=save, seed=seed, orientation=orientation)
    truth, steps = scan.truth(), scan_positions(100, step=0.2 * 0.4 * 128)
    corner = truth["origin"] + steps
    result = ptypy("reconstruct", dfile)
    offset = result["corner"] - corner[result["index"]]
    light = illumination(truth["probe"], corner, truth["object"].shape)
    found = np.zeros_like(truth["object"])
    (y, x), (h, w) = offset[0], found.shape
    piece = result["object"][max(y, 0):y + h, max(x, 0):x + w]
    found[:piece.shape[0], :piece.shape[1]] = piece
    return likeness(found, truth["object"], light > 0.1 * light.max()), offset, result["psize"] / truth["pixel"]


@pytest.mark.parametrize("save, seed", [("append", 0), ("link", 1)])
def test_ptypy_finds_the_planted_object(save, seed, ptypy, tmp_path):
    like, offset, scale = reconstructed(ptypy, tmp_path / "scan.ptyd", seed, orientation=0, save=save)
    assert (offset == offset[0]).all(), "PtyPy puts frames elsewhere on the object than they were taken"
    np.testing.assert_allclose(scale, 1, rtol=1e-6)
    assert like > 0.95


@pytest.mark.parametrize("orientation", [1, 3, 4])
def test_ptypy_does_not_find_it_in_frames_of_another_orientation(orientation, ptypy, tmp_path):
    like, _, _ = reconstructed(ptypy, tmp_path / "scan.ptyd", 0, orientation)
    assert like < 0.5
