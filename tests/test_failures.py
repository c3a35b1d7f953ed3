"""What fails on one rank, or below us, ends the whole job with a word about it, and what was finished stays."""
import errno
import json
import os
import re
import resource
import secrets
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from weakref import WeakSet

import h5py
import in_memory
import numpy as np
import pytest

from ptyprep import Par, PtyScan, recipe
from ptyprep.errors import OutputError, RecipeError
from ptyprep.parallel.threads import HookThreads
from ptyprep.ptyd.verify import problems
from ptyprep.sinks import SINKS, disk
from ptyprep.testing import messages, mpirun, read_part, read_ptyd, run_on_ranks

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "mpi"), str(HERE / "soak")]
import failing  # noqa: E402
import lines  # noqa: E402

RECIPE = '''
import os
import numpy as np
from ptyprep import Par, PtyScan

class Noise(PtyScan):
    """Forty frames that hardly compress."""
    energy, distance, psize, center = Par(7.0), Par(2.0), Par(75e-6), Par("fftshift")
    def load_positions(self):
        return np.arange(80.0).reshape(40, 2) * 1e-7
    def load(self, indices):
        return np.stack([np.random.default_rng(i).integers(0, 60000, (128, 128)).astype("u2") for i in indices])
'''
exec(RECIPE)                # noqa: S102  the class, for the tests that need no other process
Noise = globals()["Noise"]
PREPARE = ("-m", "ptyprep", "prepare", "noise.py", "-o", "out/s.ptyd", "--frames_per_chunk", "4", "--compression",
           "none")
MESSAGE = {"raises": "ValueError: bad luck", "is odd": "Odd (whose message raises RuntimeError)",
           "leaves": "SystemExit: enough", "is stopped": "KeyboardInterrupt: stop",
           "has no memory": "MemoryError: Unable to allocate"}
IGNORED = ("post_initialize", "close")      # whose answer nobody looks at


# --- hooks --------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def where(tmp_path_factory):
    return tmp_path_factory.mktemp("failing")


@pytest.fixture(scope="module")
def heard(where):
    """What each of three ranks heard in each case of mpi/failing.py."""
    assert mpirun(), "make test installs one"
    job = run_on_ranks(3, HERE / "mpi" / "failing.py", where, timeout=120)
    assert job.returncode == 0, job.stderr
    return [json.loads((where / f"{rank}.json").read_text()) for rank in range(3)]


@pytest.mark.mpi
@pytest.mark.parametrize("how", failing.WAYS)
@pytest.mark.parametrize("rank", range(3))
@pytest.mark.parametrize("hook", failing.HOOKS)
def test_a_hook_that_fails_on_one_rank_fails_on_all_with_its_rank_and_reason(heard, hook, rank, how):
    if hook == "check" and rank:
        assert f"{hook} on {rank}: {how}" not in heard[0]       # root alone is asked
        return
    told = [of_rank[f"{hook} on {rank}: {how}"] for of_rank in heard]
    if "thread" in how:
        words = f"failing: the thread 'poller', which {hook}() started, failed: ValueError: bad luck"
        assert [words in text for text in told] == [True] * 3, told
        assert [text.startswith("RecipeError: ") for text in told] == [r == rank for r in range(3)]
    elif how in MESSAGE:
        assert told[rank].startswith(MESSAGE[how])
        others = [text for r, text in enumerate(told) if r != rank]
        assert all(text.startswith("PeerError: ") and f"rank {rank}: {MESSAGE[how]}" in text for text in others)
    elif hook in IGNORED:
        assert told == ["all is well"] * 3
    else:
        assert all(text.startswith(("RecipeError", "PeerError", "AttributeError: Can't pickle")) for text in told), told
        assert all(f"rank {rank}" in text or hook in text or "pickle" in text for text in told)


@pytest.mark.mpi
@pytest.mark.parametrize("rank", range(3))
@pytest.mark.parametrize("mode", SINKS)
def test_a_disk_that_fails_on_one_rank_fails_on_all(heard, mode, rank):
    told = [of_rank[f"{mode} on {rank}"] for of_rank in heard]
    assert "No space left on device" in told[rank]
    assert all(f"rank {rank}: O" in text for r, text in enumerate(told) if r != rank), told


@pytest.mark.mpi
@pytest.mark.parametrize("name, words", [
    ("Center", r"load_geometry\(\) must answer the same on every rank: rank 0 got center: \(4, 4\), "
               r"rank 1 center: \(5, 4"),
    ("Energy", r"load_geometry\(\) must answer the same .*rank 0 got energy: 7.0, rank 1 energy: -1.0"),
    ("Common", r"load_common\(\) must answer the same on every rank: rank 0 got , rank 1 1: 2, a: 3"),
    ("Positions", r"load_positions\(\) must answer the same .*rank 0 got float64 \(5, 2\) .*rank 2 float64 \(4, 2\)"),
    ("Missing", "raw.h5: no such file")])
def test_ranks_that_see_different_things_are_told(heard, name, words):
    for of_rank in heard:
        assert re.search(words, of_rank[name]), of_rank[name]


@pytest.mark.mpi
def test_the_ranks_are_still_together_after_all_that(heard):
    assert [of_rank["after all that"] for of_rank in heard] == ["all is well"] * 3


@pytest.mark.mpi
@pytest.mark.parametrize("name, ranks", [("good", 3), ("part0", 2), ("part1", 1)])
def test_a_part_of_the_ranks_can_have_a_scan_of_its_own(heard, where, name, ranks):
    got = read_ptyd(where / f"{name}.ptyd")
    assert np.array_equal(got["data"][:, 0, 0], range(5)) and got["frame_ids"].tolist() == list(range(5))
    assert len(list(where.glob(f"{name}.*/000000.rank*.h5"))) == ranks


@pytest.fixture
def alone(monkeypatch):
    """No scan that an earlier test left half done listens to threads."""
    monkeypatch.setattr(HookThreads, "_listening", WeakSet())


@pytest.mark.parametrize("hook", failing.HOOKS)
def test_a_thread_that_fails_fails_the_scan_of_the_hook_that_started_it(tmp_path, monkeypatch, alone, hook):
    printed = []
    monkeypatch.setattr(threading, "excepthook", before := lambda args: printed.append(args.thread.name))
    scan = failing.failing(hook, 0, "leaves a thread that fails")(dfile=tmp_path / "s.ptyd")
    with pytest.raises(RecipeError, match=rf"'poller', which {hook}\(\) started, failed: ValueError: bad luck"):
        scan.initialize().prepare(2)
    assert set(printed) == {"poller"} and threading.excepthook is before
    assert not (tmp_path / "s.ptyd").exists()


def test_a_thread_that_fails_later_fails_the_scan_and_resume_ends_it(tmp_path, monkeypatch, alone):
    monkeypatch.setattr(threading, "excepthook", before := lambda args: None)
    begin, threads = threading.Event(), []

    class Polling(failing.Good):
        """A thread of its own reads along."""

        def open(self):
            if not begin.is_set():
                threads.append(threading.Thread(target=lambda: begin.wait() and 1 / 0, name="poller"))
                threads[0].start()
    stranger = threading.Thread(target=lambda: begin.wait() and 1 / 0)
    stranger.start()                # is none of the scan's
    scan = Polling(dfile=tmp_path / "s.ptyd").initialize()
    assert scan.auto(2).batch.frame.tolist() == [0, 1] and threading.excepthook is not before
    begin.set()
    for thread in (stranger, *threads):
        thread.join()
    for _ in range(2):              # and does not forget it
        with pytest.raises(RecipeError, match=r"'poller', which open\(\) started, failed: ZeroDivisionError"):
            scan.auto(2)
    assert threading.excepthook is before
    Polling(dfile=tmp_path / "s.ptyd", resume=True).initialize().prepare(2)
    assert read_ptyd(tmp_path / "s.ptyd")["frame_ids"].tolist() == [*range(5)]


def test_a_thread_of_somebody_else_is_no_failure_of_the_scan(monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    scan = failing.Good().initialize()
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    assert len(list(scan.batches(2))) == 3


@pytest.mark.parametrize("body, words", [
    ("raise Odd", "Odd (whose message raises RuntimeError)"),
    ("t = threading.Thread(target=lambda: 1 / 0, name='poller'); t.start(); t.join()",
     "noise: the thread 'poller', which correct() started, failed: ZeroDivisionError: division by zero")])
def test_the_command_line_ends_with_what_threads_and_odd_exceptions_say(tmp_path, body, words):
    (tmp_path / "noise.py").write_text(f"""{RECIPE}
    def correct(self, raw, weights, common):
        {body}
        return raw, weights

import threading
class Odd(Exception):
    def __str__(self):
        raise RuntimeError("no words")
""")
    (tmp_path / "out").mkdir()
    job = subprocess.run([sys.executable, *PREPARE], cwd=tmp_path, capture_output=True, text=True, timeout=60,
                         check=False)
    assert job.returncode == 1 and not (tmp_path / "out" / "s.ptyd").exists()
    told = messages(job.stderr)
    assert len(told) == 1 and words in told[0], job.stderr


@pytest.mark.mpi
def test_a_rank_that_fails_at_any_line_is_heard_of_by_all(tmp_path):
    """At 40 of them; soak/lines.py tries all."""
    seed = secrets.randbelow(1 << 30)
    print("seed", seed)
    trials = lines.drawn(list(lines.lines_of(tmp_path)), 40, seed)
    assert len(trials) == 40 and list(lines.wrong(tmp_path, trials)) == []


@pytest.mark.mpi
def test_a_rank_that_runs_out_of_memory_ends_the_job(tmp_path):
    assert mpirun(), "make test installs one"
    (tmp_path / "noise.py").write_text(RECIPE + '''
    def correct(self, raw, weights, common):
        self.calls = getattr(self, "calls", 0) + 1
        if self.comm.rank == 1 and self.calls == 4:
            import resource
            resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
            return np.ones((len(raw), 1 << 14, 1 << 14))
        return raw, weights
''')
    (tmp_path / "out").mkdir()
    began = time.monotonic()
    job = run_on_ranks(3, *PREPARE, timeout=60, cwd=tmp_path)
    assert job.returncode != 0 and time.monotonic() - began < 20
    told = messages(job.stderr)
    assert len(told) == 1 and "rank 1: " in told[0] and "MemoryError" in told[0], job.stderr
    assert len(list((tmp_path / "out").glob("s.*/0000??.h5"))) == 3       # those before it


@pytest.mark.mpi
def test_three_ranks_without_a_working_mpi4py_are_refused(tmp_path):
    """Each would be alone and write the same output."""
    assert mpirun(), "make test installs one"
    (tmp_path / "noise.py").write_text(RECIPE)
    (tmp_path / "out").mkdir()
    (tmp_path / "broken" / "mpi4py").mkdir(parents=True)
    (tmp_path / "broken" / "mpi4py" / "__init__.py").write_text("raise ImportError('libmpi.so.40: cannot open it')")
    job = run_on_ranks(3, *PREPARE, timeout=60, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "broken")})
    told = messages(job.stderr)
    assert job.returncode != 0 and len(told) == 1, job.stderr
    assert "the launcher started 3 ranks, but mpi4py does not work here (libmpi.so.40: cannot open it)" in told[0]
    assert list((tmp_path / "out").iterdir()) == []


# --- disks --------------------------------------------------------------------------------------------

def whole():
    return np.stack([np.random.default_rng(i).integers(0, 60000, (128, 128)).astype("u2") for i in range(40)])


def prepare(folder, mode, *options, limit=None):
    """The command line in a process of its own, whose files may have at most `limit` bytes."""
    def set_limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    (folder / "noise.py").write_text(RECIPE)
    return subprocess.run([sys.executable, *PREPARE, "--save", mode, *options], cwd=folder, capture_output=True,
                          text=True, timeout=60, check=False, preexec_fn=set_limit if limit else None)


def check_failure(job, folder, words):
    """One message that says what and why, nothing under the output's name that is not whole, all parts whole."""
    assert job.returncode == 1 and "Traceback" not in job.stderr, job.stderr
    told = messages(job.stderr)
    assert len(told) == 1 and words in told[0] and "s." in told[0], job.stderr
    frames, parts = whole(), sorted(folder.glob("out/s.*/0000??.h5"))
    for path in parts:
        n = 4 * int(path.stem)
        assert np.array_equal(read_part(path), frames[n:n + 4])
    if (folder / "out" / "s.ptyd").exists():
        assert len(parts) > 0
    return len(parts)


def check_resumed(folder, mode):
    job = prepare(folder, mode, "--resume")
    assert job.returncode == 0, job.stderr
    assert np.array_equal(read_ptyd(folder / "out" / "s.ptyd")["data"], whole())
    assert list(problems(folder / "out" / "s.ptyd")) == []


@pytest.fixture
def small_disk(tmp_path):
    """A folder with a file system of 700 kB under `out`: five parts of 131 kB and a little."""
    (tmp_path / "out").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", tmp_path / "out"],
                             capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no right to mount a small file system here ({mounted.stderr.strip()}); "
                    f"test_a_file_that_may_not_grow does the same with a limit of the kernel")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path / "out"], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("mode", SINKS)
def test_a_full_disk_keeps_what_was_finished(small_disk, mode):
    finished = check_failure(prepare(small_disk, mode), small_disk, "No space left on device")
    assert 2 <= finished <= 5
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk / "out"], check=True)
    check_resumed(small_disk, mode)


@pytest.mark.slow
def test_a_disk_that_is_read_only_is_refused(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk / "out"], check=True)
    job = prepare(small_disk, "link")
    assert check_failure(job, small_disk, "s.ptyd cannot be written: Read-only file system") == 0


@pytest.mark.slow
@pytest.mark.parametrize("mode", SINKS)
@pytest.mark.parametrize("limit", [100_000, 400_000])
def test_a_file_that_may_not_grow_keeps_what_was_finished(tmp_path, mode, limit):
    """Parts have 131 kB: no part is written with the first limit; with the other the file of all fails after two."""
    (tmp_path / "out").mkdir()
    job = prepare(tmp_path, mode, limit=limit)
    if limit > 200_000 and mode in ("link", "virtual"):
        assert job.returncode == 0, job.stderr      # has no large file
        return
    finished = check_failure(job, tmp_path, "File too large")
    assert finished == (0 if limit < 200_000 else 2)
    if finished:
        check_resumed(tmp_path, mode)
    else:
        assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("mode", SINKS)
def test_a_folder_that_vanishes_is_an_error_that_says_so(tmp_path, mode):
    class Gone(Noise):
        """Its output's folder is taken away."""

        def load(self, indices):
            while 8 in indices and (tmp_path / "out").exists():     # the chunk before is still being written there
                shutil.rmtree(tmp_path / "out", ignore_errors=True)
            return super().load(indices)
    (tmp_path / "out").mkdir()
    scan = Gone(dfile=tmp_path / "out" / "s.ptyd", save=mode).initialize()
    # whether its files are missed first, or the next one cannot be written, is a matter of threads
    with pytest.raises(OutputError, match=r"cannot be written: No such file or directory|000000.h5 \(not there\)|"
                                          r"is not there any more"):
        for _ in scan.batches(4):
            pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE])
def test_what_the_file_system_says_is_passed_on_and_can_be_resumed(tmp_path, monkeypatch, number):
    def step(what):
        if what == "name 000002.h5":
            raise OSError(number, os.strerror(number))
    scan = Noise(dfile=tmp_path / "s.ptyd").initialize()
    with monkeypatch.context() as patch, pytest.raises(OutputError, match=f"s.*000002.h5 cannot be written: "
                                                                          f"{os.strerror(number)}"):
        patch.setattr(disk, "step", step)
        for _ in scan.batches(4):
            pass
    again = Noise(dfile=tmp_path / "s.ptyd", resume=True).initialize()
    assert again.frames_done == 8
    for _ in again.batches(4):
        pass
    assert np.array_equal(read_ptyd(tmp_path / "s.ptyd")["data"], whole())


# --- recipes that answer what they should not ------------------------------------------------------------

@pytest.mark.parametrize("hook, answer, words", [
    ("check", 5, r"check\(.*\) returned 5; expected \(scan points that can be read, whether the scan ends there\)"),
    ("check", ("many", None), r"check\(.*\) returned \('many', None\)"),
    ("load", len, r"load\(\) returned builtin_function_or_method for .* scan points; expected arrays"),
    ("load_common", [1, 2], r"load_common\(\) returned list; expected a dict"),
    ("load_geometry", 7.0, r"load_geometry\(\) returned float; expected a dict"),
    ("open", "raw.h5", r"open\(\) returned str; expected a FrameSource, such as open_frames gives, or None")])
def test_a_hook_with_an_impossible_answer_is_named(hook, answer, words):
    def wrong(self, *args):
        return answer
    wrong.__name__ = hook
    kind = type("Odd", (PtyScan,), {"__doc__": "Odd.", "energy": Par(7.0), "distance": Par(2.0), "psize": Par(75e-6),
                                    "center": Par("fftshift"), "load_positions": lambda self: np.zeros((3, 2)),
                                    "load": lambda self, indices: np.ones((len(indices), 8, 8)),
                                    hook: wrong})
    with pytest.raises(RecipeError, match=words):
        for _ in kind().initialize().batches(2):
            pass


# --- files of single frames ------------------------------------------------------------------------------

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


@pytest.fixture
def folder(tmp_path):
    for i, frame in enumerate(in_memory.FRAMES):
        np.save(tmp_path / f"{i:04d}.npy", frame)
    np.savetxt(tmp_path / "positions.txt", in_memory.POSITIONS)
    (tmp_path / "npy_scan.py").write_text(NPY_SCAN)
    return tmp_path


def npy_command(folder, *words):
    return subprocess.run([sys.executable, "-m", "ptyprep", "prepare", "npy_scan.py", ".", "-o", "out.ptyd", *words],
                          cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def spoil(folder, number, how):
    path = folder / f"{number:04d}.npy"
    if how == "absent":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut off":
        path.write_bytes(path.read_bytes()[:200])
    else:
        np.save(path, in_memory.FRAMES[number][:-3])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["absent", "empty", "cut off", "of another shape"])
def test_a_frame_of_any_recipe_can_be_unreadable(folder, how):
    spoil(folder, 5, how)
    stopped = npy_command(folder)
    assert stopped.returncode == 1 and "interrupted" not in stopped.stderr and "Traceback" not in stopped.stderr
    assert not (folder / "out.ptyd").exists()
    for policy in ("drop", "mask"):
        done = npy_command(folder, "--bad_frames", policy, "--overwrite")
        assert done.returncode == 0, done.stderr
        got, kept = read_ptyd(folder / "out.ptyd"), [i for i in range(12) if i != 5]
        places = range(11) if policy == "drop" else kept
        assert got["frame_ids"].tolist() == (kept if policy == "drop" else list(range(12)))
        assert np.array_equal(got["data"][list(places)], in_memory.FRAMES[kept])
        assert np.array_equal(got["positions"], in_memory.POSITIONS[got["frame_ids"]])
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
            second = npy_command(folder, option, "--save", "link", "--frames_per_chunk", "1")
            assert second.returncode == 1 and "being prepared right now by process" in second.stderr, second.stderr
    finally:
        running.kill()
        running.communicate()
    resumed = npy_command(folder, "--resume", "--save", "link", "--frames_per_chunk", "1", "--slowly", "0.5")
    assert resumed.returncode == 0, resumed.stderr          # killed, it is an in_memory.interrupted one
    assert np.array_equal(read_ptyd(folder / "out.ptyd")["data"], in_memory.FRAMES)


LOST = '''
import sys
from pathlib import Path
import numpy as np
from ptyprep import PtyScan
from ptyprep.sources import ArrayFrames

class Scan(PtyScan):
    "Its file is gone on one rank."
    def open(self):
        source = ArrayFrames(np.ones((9, 8, 8), "u2"))
        source.files = [Path("gone") if self.comm.rank == 1 else Path(sys.argv[0])]
        return source
    def load_geometry(self):
        return {"energy": 7.0, "distance": 2.0, "psize": 75e-6, "center": (4, 4)}
    def load_positions(self):
        return np.zeros((9, 2))

for batch in Scan(dfile=sys.argv[1]).initialize().batches(4):
    pass
'''


@pytest.mark.mpi
def test_a_file_that_only_one_rank_misses_hangs_nobody(tmp_path):
    assert mpirun(), "make test installs one"
    (tmp_path / "scan.py").write_text(LOST)
    job = run_on_ranks(3, sys.executable, tmp_path / "scan.py", tmp_path / "s.ptyd", timeout=60)
    assert job.returncode == 0 and (tmp_path / "s.ptyd").exists(), job.stderr
