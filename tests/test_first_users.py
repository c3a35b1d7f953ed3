"""What people who met ptyprep for the first time ran into, so that nobody does again."""
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from ptyprep import OutputError, Par, ParameterError, PtyScan, RecipeError, recipe
from ptyprep.testing import check_recipe, read_ptyd

GEOMETRY = {"energy": 7.0, "distance": 2.0, "psize": 75e-6}
FRAMES = np.random.default_rng(3).poisson(20, (12, 16, 18)).astype("u2")
POSITIONS = np.random.default_rng(4).uniform(-1e-6, 1e-6, (12, 2))

NPY_SCAN = '''
from pathlib import Path
import time
import numpy as np
from ptyprep import Par, PtyScan


class NpyScan(PtyScan):
    """One file per frame."""
    path: Path = Par(doc="Folder.")
    slowly: float = Par(0.0, unit="s", doc="Wait before each frame.")

    def load_geometry(self):
        return {"energy": 7.0, "distance": 2.0, "psize": 75e-6, "center": (8, 9)}

    def load_positions(self):
        return np.loadtxt(self.p.path / "positions.txt")

    def load(self, indices):
        time.sleep(self.p.slowly * len(indices))
        return np.stack([np.load(self.p.path / f"{i:04d}.npy") for i in indices])
'''


class Scan(PtyScan):
    """Frames in memory."""
    center = Par((8, 9))

    def load_geometry(self):
        return GEOMETRY

    def load_positions(self):
        return POSITIONS

    def load(self, indices):
        return FRAMES[list(indices)]


@pytest.fixture
def folder(tmp_path):
    for i, frame in enumerate(FRAMES):
        np.save(tmp_path / f"{i:04d}.npy", frame)
    np.savetxt(tmp_path / "positions.txt", POSITIONS)
    (tmp_path / "npy_scan.py").write_text(NPY_SCAN)
    return tmp_path


def command(folder, *words):
    return subprocess.run([sys.executable, "-m", "ptyprep", "prepare", "npy_scan.py", ".", "-o", "out.ptyd", *words],
                          cwd=folder, capture_output=True, text=True, timeout=60, check=False)


# --- frames that cannot be read -----------------------------------------------------------------------

def spoil(folder, number, how):
    path = folder / f"{number:04d}.npy"
    if how == "absent":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut off":
        path.write_bytes(path.read_bytes()[:200])
    else:
        np.save(path, FRAMES[number][:-3])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["absent", "empty", "cut off", "of another shape"])
def test_a_frame_of_any_recipe_can_be_unreadable(folder, how):
    spoil(folder, 5, how)
    stopped = command(folder)
    assert stopped.returncode == 1 and "interrupted" not in stopped.stderr and "Traceback" not in stopped.stderr
    assert not (folder / "out.ptyd").exists()
    for policy in ("drop", "mask"):
        done = command(folder, "--bad_frames", policy, "--overwrite")
        assert done.returncode == 0, done.stderr
        got, kept = read_ptyd(folder / "out.ptyd"), [i for i in range(12) if i != 5]
        places = range(11) if policy == "drop" else kept
        assert got["frame_ids"].tolist() == (kept if policy == "drop" else list(range(12)))
        assert np.array_equal(got["data"][list(places)], FRAMES[kept])
        assert np.array_equal(got["positions"], POSITIONS[got["frame_ids"]])
        if policy == "mask":
            assert not got["weights"][5].any() and got["weights"][kept].all()
        with h5py.File(folder / "out.ptyd") as file:
            assert file["info/bad_frames/frame_ids"][()].tolist() == [5]


def test_an_interrupted_run_remembers_the_frames_that_it_could_not_read(folder):
    for number in (1, 3, 4, 5):             # one chunk of two loses both
        spoil(folder, number, "absent")
    cls = recipe(f"{folder / 'npy_scan.py'}:NpyScan")
    pars = {"path": folder, "bad_frames": "drop", "frames_per_chunk": 2}
    for _ in cls(pars, dfile=folder / "whole.ptyd").initialize().batches():
        pass
    scan = cls(pars, dfile=folder / "again.ptyd").initialize()
    for batch in scan.batches():
        if len(batch) and batch.frame[-1] >= 6:
            break
    again = cls(pars, dfile=folder / "again.ptyd", resume=True).initialize()
    assert again.frames_done > 0
    for _ in again.batches():
        pass
    with h5py.File(folder / "whole.ptyd") as one, h5py.File(folder / "again.ptyd") as other:
        assert [f["info/bad_frames/frame_ids"][()].tolist() for f in (one, other)] == [[1, 3, 4, 5]] * 2
        assert list(one["chunks"]) == list(other["chunks"])
    one, other = read_ptyd(folder / "whole.ptyd"), read_ptyd(folder / "again.ptyd")
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_frame_without_a_good_pixel_is_told(tmp_path):
    class Blind(Scan):
        """One frame is all overflow."""

        def load(self, indices):
            frames = FRAMES[list(indices)]
            frames[np.array(indices) == 7] = 2**16 - 1
            return frames
    scan = Blind().initialize()
    assert len(list(scan.batches(5))) == 3
    assert "frames without one good pixel: 1" in scan.notes


# --- one output, one writer ---------------------------------------------------------------------------

@pytest.mark.slow
def test_a_running_preparation_is_not_taken_for_an_interrupted_one(folder):
    words = ["prepare", "npy_scan.py", ".", "-o", "out.ptyd", "--frames_per_chunk", "1", "--save", "link"]
    running = subprocess.Popen([sys.executable, "-m", "ptyprep", *words, "--slowly", "0.5"], cwd=folder,
                               stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 30
        while not list(folder.glob("out.*/000001.h5")) and time.monotonic() < deadline:
            time.sleep(0.05)
        for option in ("--overwrite", "--resume", "--no-overwrite"):
            second = command(folder, option, "--save", "link", "--frames_per_chunk", "1")
            assert second.returncode == 1 and "being prepared right now by process" in second.stderr, second.stderr
    finally:
        running.kill()
        running.communicate()
    resumed = command(folder, "--resume", "--save", "link", "--frames_per_chunk", "1", "--slowly", "0.5")
    assert resumed.returncode == 0, resumed.stderr          # killed, it is an interrupted one
    assert np.array_equal(read_ptyd(folder / "out.ptyd")["data"], FRAMES)


@pytest.mark.slow
@pytest.mark.parametrize("save", ["append", "link"])
def test_chunks_of_one_file_have_one_size(tmp_path, save):
    scan = Scan(dfile=tmp_path / "s.ptyd", save=save).initialize()
    scan.auto(5)
    with pytest.raises(OutputError, match="began with 5 frames in each, now 3"):
        scan.auto(3)
    with pytest.raises(OutputError, match="began with 5 frames in each, now 4"):
        for _ in Scan(dfile=tmp_path / "s.ptyd", save=save, resume=True).initialize().batches(4):
            pass
    for _ in Scan(dfile=tmp_path / "s.ptyd", save=save, resume=True).initialize().batches(5):
        pass
    assert np.array_equal(read_ptyd(tmp_path / "s.ptyd")["data"], FRAMES)


def test_an_output_that_is_there_is_refused_before_any_work(tmp_path):
    (tmp_path / "s.ptyd").write_text("precious")

    class Loading(Scan):
        """Must not be asked."""

        def load_positions(self):
            raise AssertionError("asked for positions")
    with pytest.raises(OutputError, match="exists"):
        Loading(dfile=tmp_path / "s.ptyd").initialize()


# --- parameters ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("slip", [{"psize": 75}, {"energy": 7200}, {"distance": 2100}])
def test_a_forgotten_unit_is_out_of_limits(slip):
    with pytest.raises(ParameterError, match=f"{next(iter(slip))}.*must be at most"):
        Scan(slip)


def test_positions_that_are_not_in_metres_are_told():
    scan = Scan()
    scan.load_positions = lambda: POSITIONS * 1e6
    assert any("positions spread over" in note and "metres" in note for note in scan.initialize().notes)


def test_none_says_nothing_and_does_not_hide_what_is_recorded():
    scan = Scan(energy=None, distance=None).initialize()
    assert (scan.meta.energy, scan.meta.distance) == (7.0, 2.0) and scan.p.origin("energy") == "detector"


def test_a_given_centre_wins_over_a_recipe_that_finds_it():
    class Finding(Scan):
        """Finds its centre."""
        auto_center = Par(True)
    assert Finding(center=(3, 4)).initialize().plan.center == (3, 4)
    with pytest.raises(ParameterError, match="both given"):
        Finding(center=(3, 4), auto_center=True).initialize()


@pytest.mark.parametrize("text", ["12,10", "(12, 10)", "[12,10]", "12, 10"])
def test_a_pair_may_be_written_as_messages_show_it(text):
    assert Scan(shape=text).p.shape == (12, 10)


def test_load_geometry_knows_geometry_only():
    scan = Scan()
    scan.load_geometry = lambda: {**GEOMETRY, "num_frames": 3}
    with pytest.raises(RecipeError, match="load_geometry.*num_frames; expected any of energy, distance, psize, center"):
        scan.initialize()


def test_parameters_that_are_no_mapping():
    with pytest.raises(ParameterError, match=r"Scan\('sim'\).*keywords or a mapping"):
        Scan("sim")


def test_batches_before_initialize():
    with pytest.raises(RecipeError, match="call initialize"):
        next(Scan().batches())
    with pytest.raises(ParameterError, match="one frame at least"):
        Scan().initialize().auto(0)


# --- for authors of recipes ---------------------------------------------------------------------------

def test_a_name_that_a_scan_keeps_for_itself_is_refused_at_once():
    with pytest.raises(TypeError, match="keeps its own 'bad'"):
        type("Mine", (Scan,), {"bad": [1, 2], "__doc__": "Bad frames."})


def test_a_hook_that_is_nearly_right_is_named():
    class Nearly(Scan):
        """Misspelt."""

        def load_position(self):
            return POSITIONS
    with pytest.raises(RecipeError, match=r"load_position\(\) is never called; is \['load_positions'\] meant"):
        check_recipe(Nearly, ranks=1)


def test_an_error_in_a_hook_says_in_which():
    scan = Scan()

    def load_positions():
        raise KeyError("motor_y")
    scan.load_positions = load_positions
    with pytest.raises(KeyError) as err:
        scan.initialize()
    assert "while in scan.load_positions()" in err.value.__notes__


def test_a_recipe_file_may_import_its_neighbour(folder):
    (folder / "mine.py").write_text("from npy_scan import NpyScan\n\n\nclass Mine(NpyScan):\n    'Mine.'\n")
    assert recipe(str(folder / "mine.py")).__name__ == "Mine"


def test_a_prepared_scan_prepared_again_keeps_its_axis(tmp_path):
    first = Scan(dfile=tmp_path / "one.ptyd", center=(8.3, 9.4), shape=12).initialize()
    list(first.batches())
    again = recipe("ptyd")(source=tmp_path / "one.ptyd", shape=8).initialize()
    assert np.allclose(first.plan.axis, (6.3, 6.4)) and np.allclose(again.plan.axis, (4.3, 4.4))
