"""Scans that still grow: saved while somebody reads along, whatever number of frames comes in the end."""
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptyprep import EOS, Par, PtyScan, recipe
from ptyprep.errors import OutputError
from ptyprep.ptyd.verify import problems
from ptyprep.testing import launch, mpirun, read_ptyd

pytestmark = pytest.mark.slow

FOLLOW = Path(__file__).parent / "follow.py"
CAME = 11           # frames that come, whatever was planned

SCRIPT = '''
import sys, time
from pathlib import Path
import numpy as np
from ptyprep import Par, PtyScan

class Growing(PtyScan):
    """Numbered frames that come one by one, eleven of them; of the fifth one pixel overflows. With a reader, two come
    when it has looked once more."""
    energy, distance, psize, center = Par(7.0), Par(2.0), Par(75e-6), Par("fftshift")
    planned: int | None = Par(None, doc="Positions that are known before.")
    pause: float = Par(0.04, unit="s", doc="Between two frames.")
    reader: Path | None = Par(None, doc="Where a reader writes how often it has looked.")
    came = 11

    def load_positions(self):
        return None if self.p.planned is None else np.arange(self.p.planned)[:, None] * [1e-7, -2e-7]

    def check(self, frames, start):
        began = self.began = getattr(self, "began", time.monotonic())
        there = min(int((time.monotonic() - began) / self.p.pause), self.came)
        if self.p.reader:
            looked = int(self.p.reader.read_text() or 0) if self.p.reader.exists() else 0
            there = min(there, 2 + 2 * looked)
        return min(frames, there - start), there == self.came

    def load(self, indices):
        frames = np.random.default_rng(8).poisson(9, (self.came, 12, 12)).astype("u2")
        frames[4, 2, 2] = 2**16 - 1
        places = None if self.p.planned else np.array(indices)[:, None] * [1e-7, -2e-7]
        return frames[list(indices)], places, None
'''
exec(SCRIPT)                # noqa: S102  the class, for the tests that need no other process
Growing = globals()["Growing"]


def truth(n=CAME):
    """{name: what the first n frames are}, by plain NumPy."""
    frames = np.random.default_rng(8).poisson(9, (CAME, 12, 12)).astype("u2")
    frames[4, 2, 2] = 2**16 - 1
    return {"data": frames[:n], "weights": frames[:n] != 2**16 - 1, "indices": np.arange(n), "frame_ids": np.arange(n),
            "positions": np.arange(n)[:, None] * [1e-7, -2e-7]}


def followed(folder, ranks, whose, *options):
    """Prepare with the command line while a reader follows: what the reader got."""
    (folder / "growing.py").write_text(SCRIPT)
    reader = subprocess.Popen([sys.executable, FOLLOW, "s.ptyd", "seen.npz", whose], cwd=folder, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
    command = [sys.executable, "-m", "ptyprep", "prepare", "growing.py", "-o", "s.ptyd", "--frames_per_chunk", "2",
               "--reader", "polls", *options]
    try:
        job = subprocess.run(launch(ranks, *command) if ranks > 1 else command, cwd=folder, capture_output=True,
                             text=True, timeout=60, check=False)
        assert job.returncode == 0, job.stderr
        _, err = reader.communicate(timeout=30)
    finally:
        reader.kill()
    assert reader.returncode == 0, err
    with np.load(folder / "seen.npz") as stored:
        return dict(stored)


def same(got, expected):
    return all(np.array_equal(got[name] > 0 if name == "weights" else got[name], expected[name]) for name in expected)


CASES = {       # (options, whose count the reader waits for, frames that it gets)
    "as many as planned": (("--planned", "11"), "first", 11),
    "fewer than planned": (("--planned", "20"), "newest", 11),
    "fewer than planned, filled up": (("--planned", "20", "--finish", "blank"), "first", 20),
    "unknown": (("--max_frames", "200"), "newest", 11),
    "unknown, filled up": (("--max_frames", "17", "--finish", "blank"), "first", 17),
    "more than was thought": (("--max_frames", "4"), "newest", 11),
}


# With `link` root alone writes and counts, as it does without MPI: so two cases on three ranks are enough.
RUNS = [*[(1, mode, case) for mode in ("link", "virtual") for case in CASES],
        *[pytest.param(3, mode, case, marks=pytest.mark.mpi) for mode, cases in {
            "link": ("fewer than planned, filled up", "more than was thought"), "virtual": CASES}.items()
          for case in cases]]


@pytest.mark.parametrize("ranks, mode, case", RUNS)
def test_a_reader_gets_every_frame_once_while_it_grows(tmp_path, ranks, mode, case):
    assert mpirun(), "make test installs one"
    options, whose, count = CASES[case]
    seen = followed(tmp_path, ranks, whose, "--save", mode, *options)
    assert (seen["count"], len(seen["data"])) == (count, count)
    assert seen["polls"] > 5 and seen["chunks"] >= 6, "nobody read along"
    assert same({name: seen[name][:CAME] for name in truth()}, truth())
    blank = {name: seen[name][CAME:] for name in truth()}
    assert not blank["data"].any() and not blank["weights"].any() and (blank["frame_ids"] == -1).all()
    assert (blank["positions"] == truth()["positions"][-1]).all() and np.array_equal(seen["indices"], range(count))

    assert list(problems(tmp_path / "s.ptyd")) == []
    after = read_ptyd(tmp_path / "s.ptyd")
    assert len(after["data"]) == count and same({name: after[name][:CAME] for name in truth()}, truth())
    with h5py.File(tmp_path / "s.ptyd") as file:
        assert file["meta/num_frames"][()] == count and file["info/blank_frames"][()] == count - CAME


@pytest.mark.parametrize("finish", ["count", "blank"])
@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_file_that_nobody_reads_along_has_no_blanks(tmp_path, mode, finish):
    scan = Growing(dfile=tmp_path / "s.ptyd", save=mode, finish=finish, pause=1e-4).initialize()
    assert [len(batch) for batch in scan.batches(4, pause=0.001)] == [4, 4, 3]
    assert same(read_ptyd(tmp_path / "s.ptyd"), truth()) and not scan.blanks


def test_an_engine_in_the_same_process_is_told_the_bound_and_then_a_larger_one():
    scan = Growing(max_frames=6, pause=1e-4).initialize()
    counts = [scan.meta.num_frames for _ in scan.batches(4, pause=0.001)]
    # twice 4 + 4, before 6 can be reached; twice 8 + 4, two chunks before 16 is
    assert counts == [16, 24, 24] and scan.total is None
    assert not any("readers were told" in note for note in scan.notes), "nobody reads along"


class Still(PtyScan):
    """Frames in memory: as many as there are, or all that were planned."""
    energy, distance, psize, center = Par(7.0), Par(2.0), Par(75e-6), Par("fftshift")
    there, ended = CAME, True

    def load_positions(self):
        return np.arange(CAME)[:, None] * [1e-7, -2e-7]

    def check(self, frames, start):
        return min(frames, self.there - start), self.ended

    def load(self, indices):
        return truth()["data"][list(indices)]


@pytest.mark.parametrize("there, ended, mode", [
    (CAME, True, "merge"), (CAME, None, "merge"), (CAME - 1, True, "merge"), (CAME - 1, False, "link"),
    (CAME - 1, None, "link"), (0, False, "link")])
def test_a_finished_scan_is_merged_and_a_growing_one_linked(tmp_path, there, ended, mode):
    kind = type("Kind", (Still,), {"__doc__": "One of them.", "there": there, "ended": ended})
    scan = kind(dfile=tmp_path / "s.ptyd").initialize()
    assert scan.save_mode == mode
    kind.there, kind.ended = CAME, True
    for _ in scan.batches(4):
        pass
    with h5py.File(tmp_path / "s.ptyd") as file:
        assert file["info/save"][()].decode() == mode
        assert len(file["chunks"]) == (1 if mode == "merge" else 3)
    assert same(read_ptyd(tmp_path / "s.ptyd"), truth())


def test_a_scan_whose_first_frame_is_not_there_yet_waits_for_it(tmp_path):
    (tmp_path / "late.py").write_text(SCRIPT.replace("    def load(self, indices):", """    def load(self, indices):
        if not (there := self.check(1, indices[0])[0]) > 0:
            raise FileNotFoundError(f"frame {indices[0]} of {there}")""").replace("0.04", "0.3"))
    done = subprocess.run([sys.executable, "-m", "ptyprep", "prepare", "late.py", "-o", "s.ptyd", "--max_frames", "20"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and done.stderr.count("waiting for the first frame") == 1, done.stderr
    assert same(read_ptyd(tmp_path / "s.ptyd"), truth())


def test_a_scan_that_ended_before_its_first_frame_is_an_error():
    kind = type("Never", (Growing,), {"__doc__": "No frame.", "check": lambda *_: (0, True), "load": lambda *_: 1 / 0})
    kind.load = lambda self, indices: (_ for _ in ()).throw(FileNotFoundError("0000.npy"))
    with pytest.raises(FileNotFoundError, match="0000.npy"):
        kind().initialize()


def test_a_scan_of_unknown_length_that_has_ended_is_merged(tmp_path):
    kind = type("Ended", (Growing,), {"__doc__": "All there.", "check": lambda _, frames, start: (
        min(frames, CAME - start), start + frames >= CAME)})
    scan = kind(dfile=tmp_path / "s.ptyd").initialize()
    assert (scan.save_mode, scan.total) == ("merge", None)
    for _ in scan.batches(4):
        pass
    assert same(read_ptyd(tmp_path / "s.ptyd"), truth())


# --- resume -------------------------------------------------------------------------------------------

Y, X = np.indices((24, 24))
SPOT = 90 * np.exp(-((Y - 12.3) ** 2 + (X - 11.2) ** 2) / 9)
FRAMES_OF_FILE = np.random.default_rng(3).poisson(SPOT, (9, 24, 24)).astype("u2")


class FromFile(PtyScan):
    """Frames of one HDF5 file that is still being written, and their positions beside them."""
    energy, distance, psize = Par(7.0), Par(2.0), Par(75e-6)
    path: Path = Par(doc="Raw file.")
    stops = None        # after so many frames

    def open(self):
        self.now = Path(self.p.path).read_bytes()
        self.frames = np.frombuffer(self.now, "u2").reshape(-1, 24, 24)

        class Source:
            shape, dtype, mask, grid, saturation, missing, recorded, notes = (
                self.frames.shape, self.frames.dtype, None, None, None, [], {}, [])
            files = [Path(self.p.path)]

            def progress(_):
                return len(self.frames), len(self.frames) == len(FRAMES_OF_FILE)

            def read(_, indices, window):
                return self.frames[list(indices)][:, window.rows, window.cols]

            def close(_):
                pass
        return Source()

    def load_positions(self):
        return np.arange(len(self.frames))[:, None] * [1e-7, -2e-7]


def grow(path, frames):
    path.write_bytes(FRAMES_OF_FILE[:frames].tobytes())


def interrupted(folder, frames=5, taken=2, **parameters):
    """A run that stopped after so many chunks of two frames, when so many frames were there."""
    grow(folder / "raw", frames)
    scan = FromFile(path=folder / "raw", dfile=folder / "s.ptyd", **parameters).initialize()
    for _ in range(taken):
        scan.auto(2)
    scan.sink.abandon()
    return scan


@pytest.mark.parametrize("how", [{"center": 12}, {"auto_center": True, "shape": 4}])
def test_a_source_that_only_grew_can_be_resumed(tmp_path, how):
    """The centre too stays what it was, though more frames would give another one."""
    first = interrupted(tmp_path, **how)
    assert first.save_mode == "link"
    grow(tmp_path / "raw", 9)
    scan = FromFile(path=tmp_path / "raw", dfile=tmp_path / "s.ptyd", resume=True, **how).initialize()
    assert (scan.save_mode, scan.frames_done, scan.plan.center) == ("link", 4, first.plan.center)
    for _ in scan.batches(2):
        pass
    got = read_ptyd(tmp_path / "s.ptyd")
    assert np.array_equal(got["data"], scan.plan.apply(FRAMES_OF_FILE[:, scan.plan.window.rows, scan.plan.window.cols]))
    assert np.array_equal(got["positions"], np.arange(9)[:, None] * [1e-7, -2e-7])


def test_a_run_from_before_uncertainties_were_kept_can_be_resumed(tmp_path):
    first = interrupted(tmp_path, auto_center=True, shape=4)
    (run,) = tmp_path.rglob("run.json")
    state = json.loads(run.read_text())
    assert json.loads(state["fingerprint"].pop("uncertainty of the centre found")) == list(first.center_uncertainty)
    run.write_text(json.dumps(state))
    scan = FromFile(path=tmp_path / "raw", dfile=tmp_path / "s.ptyd", resume=True, auto_center=True,
                    shape=4).initialize()
    assert (scan.frames_done, scan.plan.center, scan.center_uncertainty) == (4, first.plan.center, None)


@pytest.mark.parametrize("what", ["smaller", "positions", "was finished", "other number"])
def test_a_source_that_changed_otherwise_cannot(tmp_path, what):
    interrupted(tmp_path, 9 if what == "was finished" else 5, center=12, save="link")
    grow(tmp_path / "raw", {"smaller": 4, "was finished": 9}.get(what, 7))
    if what == "was finished":
        with open(tmp_path / "raw", "ab") as file:
            file.write(bytes(1152))
    kind = FromFile
    if what == "positions":
        kind = type("FromFile", (FromFile,), {"__doc__": "Elsewhere.", "recipe_name": FromFile.recipe_name,
                                              "load_positions": lambda scan: np.ones((len(scan.frames), 2)) * 1e-7})
    other = {"rebin": 2} if what == "other number" else {}
    with pytest.raises(OutputError, match={"smaller": "source .*raw: was 5760 bytes .* is 4608 bytes",
                                           "positions": "positions: was 5: .*is 5: ",
                                           "was finished": "source .*raw: was 10368 bytes .* is 11520 bytes",
                                           "other number": "parameter rebin: was 1, is 2"}[what]):
        kind(path=tmp_path / "raw", dfile=tmp_path / "s.ptyd", resume=True, center=12, **other).initialize()


@pytest.mark.parametrize("stop", range(1, 7))
@pytest.mark.parametrize("finish", ["count", "blank"])
def test_a_run_that_is_resumed_tells_readers_what_it_would_have_told_them(tmp_path, stop, finish):
    """More frames than max_frames, interrupted after each chunk."""
    def made(name, **more):
        return Growing(dfile=tmp_path / f"{name}.ptyd", save="link", max_frames=4, finish=finish, pause=1e-4,
                       **more).initialize()
    for _ in (whole := made("whole")).batches(2, pause=0.001):
        pass
    scan = made("resumed")
    for n, _ in enumerate(scan.batches(2, pause=0.001), 1):
        if n == stop:
            break
    scan.sink.abandon()
    scan = made("resumed", resume=True)
    for _ in scan.batches(2, pause=0.001):
        pass
    assert (scan.frames_done, scan.blanks) == (whole.frames_done, whole.blanks)
    one, other = (read_ptyd(tmp_path / f"{name}.ptyd") for name in ("whole", "resumed"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_frames_without_a_number_of_a_scan_that_is_prepared_again_are_no_blanks(tmp_path):
    for _ in Growing(dfile=tmp_path / "a.ptyd", save="link", max_frames=14, finish="blank", pause=1e-4
                     ).initialize().batches(4, pause=0.001):
        pass
    again = {"source": tmp_path / "a.ptyd", "dfile": tmp_path / "b.ptyd"}
    scan = recipe("ptyd")(again).initialize()
    for batch in scan.batches(6):
        if batch.chunk == 1:
            break
    scan = recipe("ptyd")(again, resume=True).initialize()
    for _ in scan.batches(6):
        pass
    got = read_ptyd(tmp_path / "b.ptyd")
    assert (len(got["data"]), scan.blanks) == (14, 0)
    assert (got["frame_ids"][11:] == -1).all() and not got["weights"][11:].any()


def test_resume_takes_up_the_way_it_was_saved_and_fills_up_what_was_begun(tmp_path):
    made = {"dfile": tmp_path / "s.ptyd", "max_frames": 19, "finish": "blank", "pause": 1e-4}
    scan = Growing(**made).initialize()
    write, count = scan.sink.write, []

    def stop(batch, *rest, **more):
        count.append(batch.chunk)
        if len(count) == 5:         # 4 + 4 + 3 frames, then 4 blank ones; at the next four the light goes out
            raise RuntimeError("the light went out")
        write(batch, *rest, **more)
    scan.sink.write = stop
    with pytest.raises(RuntimeError, match="the light went out"):
        for _ in scan.batches(4, pause=0.001):
            pass
    again = Growing(**made, resume=True).initialize()
    assert (again.save_mode, again.frames_done, again.blanks) == ("link", 15, 4)
    assert again.auto(4) is EOS
    got = read_ptyd(tmp_path / "s.ptyd")
    assert len(got["data"]) == 19 and (got["frame_ids"][CAME:] == -1).all()
    assert same({name: got[name][:CAME] for name in truth()}, truth())
    assert list(problems(tmp_path / "s.ptyd")) == []
