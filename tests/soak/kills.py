"""Kills preparations at random moments and resumes them: python tests/soak/kills.py [--count 500] [--seed 1] [--keep].

Each is of a way to save, on one rank or three, of a file or of a scan that still grows. It is killed with SIGKILL, one
of three ranks or all of them, resumed in another time zone, perhaps killed again, and resumed until it ends. Then the
output is compared with that of an undisturbed run: frames, masks, positions, indices and numbers of frames; `verify`
must find nothing, no temporary file may be left, and one more `resume` must have nothing to do.
Prints a table, and ends with 1 if anything is wrong. What is wrong stays in its folder.
"""
import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from functools import cache
from pathlib import Path

import h5py
import numpy as np

from ptyprep import PtyScan, recipe
from ptyprep.ptyd.verify import problems
from ptyprep.sinks import SINKS
from ptyprep.testing import launch, read_ptyd

FRAMES, SIZE, ZONES = 30, 2, ("UTC", "Asia/Tokyo", "America/New_York", "XYZ-5:30")
HANGS = 120         # seconds


class Growing(PtyScan):
    """Frames of which a few more are there at each look."""
    seen = 0

    def load_geometry(self):
        return {"energy": 7.0, "distance": 2.0, "psize": 75e-6, "center": (8, 8)}

    def load_positions(self):
        return positions()

    def check(self, frames, start):
        self.seen = min(max(self.seen, start) + 3, FRAMES)
        return min(frames, self.seen - start), self.seen == FRAMES

    def load(self, indices):
        return raw()[list(indices)]


def raw():
    frames = np.random.default_rng(8).poisson(9, (FRAMES, 16, 16)).astype("u2")
    frames[17, 2, 2] = 2**16 - 1            # one mask differs
    return frames


def positions():
    return np.arange(2.0 * FRAMES).reshape(FRAMES, 2) * 1e-7


def make_raw(folder):
    with h5py.File(folder / "raw.h5", "w") as file:
        file.create_dataset("data", data=raw(), chunks=(1, 16, 16))
    np.savetxt(folder / "positions.txt", positions())


def prepare(kind, mode, folder, raw_folder, resume):
    """One preparation; True where an earlier one had finished it."""
    pars = {"dfile": folder / "s.ptyd", "save": mode, "resume": resume, "frames_per_chunk": SIZE}
    if kind == "file":
        scan = recipe("hdf5")({**pars, "intensities.file": raw_folder / "raw.h5", "energy": 7, "distance": 2,
                               "psize": 75e-6, "center": (8, 8), "positions.file": raw_folder / "positions.txt"})
    else:
        scan = Growing(pars)
    scan.initialize()
    if folder.exists():
        (folder / f"began.{scan.comm.rank}").write_text(str(os.getpid()))
    for _ in scan.batches(pause=0.001):
        pass
    return scan.was_finished


class Job:
    """A preparation in processes of its own: a child of this one, or ranks of mpirun."""

    def __init__(self, ranks, zone, *case):
        self.folder, self.ranks, self._job = case[2], ranks, None
        for path in self.folder.glob("began.*"):
            path.unlink()
        self.log = open(self.folder.with_suffix(".log"), "a")       # noqa: SIM115  closed by `ended`
        if ranks == 1:
            self.child = os.fork()
            if self.child == 0:
                self._in_child(zone, case)
        else:
            words = [*case[:4], "resume" if case[4] else "begin"]
            self._job = subprocess.Popen(launch(ranks, Path(__file__), "--one", *words), stdout=self.log,
                                         stderr=self.log, env={**os.environ, "TZ": zone})

    def _in_child(self, zone, case):
        code = 1
        try:
            os.environ["TZ"] = zone
            time.tzset()
            os.dup2(self.log.fileno(), 2)
            code = 7 if prepare(*case) else 0
        except BaseException:       # noqa: BLE001
            traceback.print_exc(file=self.log)
            self.log.flush()
        finally:
            os._exit(code)

    def kill(self, after, who):
        """SIGKILL so many seconds after all ranks began; `who` of them, None for all."""
        until = time.monotonic() + HANGS
        while len(found := [p for p in self.folder.glob("began.*") if p.read_text()]) < self.ranks:
            if self.poll() is not None or time.monotonic() > until:
                return
            time.sleep(0.001)
        time.sleep(after)
        pids = [int(path.read_text()) for path in sorted(found)]
        for pid in pids if who is None else pids[who:who + 1]:
            if self.poll() is None:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def ended(self):
        """How it ended: an exit code, minus a signal, or "hang"."""
        until = time.monotonic() + HANGS
        while (code := self.poll()) is None and time.monotonic() < until:
            time.sleep(0.002)
        if code is None:
            code = "hang"
            os.kill(self.child if self._job is None else self._job.pid, signal.SIGKILL)
        self.log.close()
        for path in self.folder.glob("began.*"):
            path.unlink()
        return code

    _ended = None

    def poll(self):
        if self._job is not None:
            return self._job.poll()
        if self._ended is None:
            pid, status = os.waitpid(self.child, os.WNOHANG)
            self._ended = os.waitstatus_to_exitcode(status) if pid else None
        return self._ended


def strays(folder, mode):
    """What is in a folder besides the output and its parts."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name != "s.ptyd"]
    runs = [name for name in names if "/" not in name]
    if len(runs) == 1 and mode in ("link", "virtual"):
        return [name for name in names if name not in runs and not name.endswith((".h5", "run.json"))]
    return names


def one_kill(rng, number, work, counts):
    """Kill one, resume it, compare; what is wrong, None where nothing is."""
    kind, mode = rng.choice(("file", "live")), rng.choice(list(SINKS))
    ranks = 3 if number % 5 == 4 else 1
    whole, seconds = undisturbed(kind, mode, ranks, work)
    folder = work / f"{number:04d}-{kind}-{mode}-{ranks}"
    folder.mkdir()
    counts[mode, ranks, "scans"] += 1
    code, resume, kills = None, False, 0
    while code != 0:
        job = Job(ranks, rng.choice(ZONES), kind, mode, folder, work, resume)
        if kills == 0 or kills < 4 and rng.random() < 0.4:
            job.kill(rng.uniform(0, 1.1) * seconds, rng.choice((None, *range(ranks))))
            kills += 1
        code = job.ended()
        counts[mode, ranks, "killed" if code not in (0, 7) else "ended"] += 1
        if code == "hang" or code == 1 and ranks == 1:
            return folder, f"ended with {code} after {kills} kills"
        if code == 7:       # it had ended before this resume
            break
        if resume and code and kills > 8:
            return folder, "never ends"
        kills += code != 0 and ranks > 1 and kills >= 4         # mpirun says little of why
        resume = True
    if Job(1, "UTC", kind, mode, folder, work, True).ended() != 7:
        return folder, "one more resume had something to do"
    made = read_ptyd(folder / "s.ptyd")
    for name, values in whole.items():
        if not np.array_equal(made[name], values):
            return folder, f"{name} differ"
    wrong = [*problems(folder / "s.ptyd"), *strays(folder, mode)]
    if not wrong:
        shutil.rmtree(folder)
        folder.with_suffix(".log").unlink()
    return (folder, "; ".join(wrong)) if wrong else None


@cache
def undisturbed(kind, mode, ranks, work):
    """(the output of a run that nothing happens to, seconds from its beginning to its end)."""
    folder = work / f"undisturbed-{kind}-{mode}-{ranks}"
    folder.mkdir()
    job = Job(ranks, "UTC", kind, mode, folder, work, False)
    while len(list(folder.glob("began.*"))) < ranks and job.poll() is None:
        time.sleep(0.001)
    began = time.monotonic()
    if job.ended() != 0:
        sys.exit(f"an undisturbed run failed: {folder.with_suffix('.log').read_text()}")
    seconds, whole = time.monotonic() - began, read_ptyd(folder / "s.ptyd")
    if not (np.array_equal(whole["data"], raw()) and np.array_equal(whole["positions"], positions())):
        sys.exit(f"an undisturbed run is wrong: {folder}")
    return whole, seconds


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--count", type=int, default=500, help="scans that are killed at least once")
    words.add_argument("--seed", type=int, default=None)
    words.add_argument("--keep", type=Path, help="folder for what is wrong; default: a new one")
    words.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.one:
        kind, mode, folder, work, how = given.one
        prepare(kind, mode, Path(folder), Path(work), how == "resume")
        return
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    work, rng, counts, wrong = given.keep or Path(tempfile.mkdtemp(prefix="kills-")), random.Random(seed), Counter(), []
    print(f"seed {seed}, in {work}", flush=True)
    make_raw(work)
    for number in range(given.count):
        if found := one_kill(rng, number, work, counts):
            wrong.append(found)
            print(f"{found[0].name}: {found[1]}", flush=True)
    print(f"{'mode':10}{'ranks':>6}{'scans':>8}{'killed':>8}{'ended':>8}")
    for mode in SINKS:
        for ranks in (1, 3):
            print(f"{mode:10}{ranks:6}" + "".join(f"{counts[mode, ranks, what]:8}"
                                                  for what in ("scans", "killed", "ended")))
    print(f"{given.count} scans, {sum(n for (*_, what), n in counts.items() if what == 'killed')} killed runs, "
          f"{len(wrong)} wrong")
    if not wrong and given.keep is None:
        shutil.rmtree(work)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
