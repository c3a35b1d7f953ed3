"""Pulls the plug at steps of writing: plug.py MODE FOLDER HOW [STEP RANK].

HOW says what is done to one scan, under mpirun or without:
`watch`   it is prepared in FOLDER/alive, and before each step of each rank the folder is copied to FOLDER/RANK-STEP:
          this is what a SIGKILL there leaves, because what a process has written stays when it dies;
`kill`    it is prepared in FOLDER/RANK-STEP, and a SIGKILL ends that rank at that step;
`full`    it is prepared in FOLDER/0-STEP for each step in turn, which fails as on a full disk.
With `resume` each such folder is kept as FOLDER/RANK-STEP.died, and its scan resumed, by one process.
"""
import os
import shutil
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np

from ptyprep import PtyScan
from ptyprep.sinks import disk, parts

FRAMES, SIZE = 7, 3


class Scan(PtyScan):
    """Seven frames, the fourth with an overflow."""

    def load_geometry(self):
        return {"energy": 7.0, "distance": 2.0, "psize": 75e-6, "center": (6, 5)}

    def load_positions(self):
        return np.arange(2.0 * FRAMES).reshape(FRAMES, 2) * 1e-7

    def load(self, indices):
        frames = np.random.default_rng(8).poisson(9, (FRAMES, 12, 10)).astype("u2")
        frames[3, 2, 2] = 2**16 - 1
        return frames[list(indices)]


def prepare(mode, folder, before_step=None, **pars):
    """Prepare the scan, with `before_step(number, rank)` before each step; how many there were."""
    folder.mkdir(exist_ok=True)
    scan = Scan(dfile=folder / "s.ptyd", save=mode, **pars)
    count, turn = 0, threading.Lock()

    def step(what):
        nonlocal count
        with turn:
            count += 1
            if before_step:
                before_step(count, scan.comm.rank)
    disk.step = parts.step = step
    for _ in scan.initialize().batches(SIZE):
        pass
    return count


def listing(folder):
    """What is there, as far as a change shows in it."""
    return sorted((str(path), found.st_ino, found.st_size, found.st_mtime_ns) for path in folder.rglob("*")
                  for found in [path.stat()])


def copy(folder, to):
    """A copy of one moment: again where another thread or rank changed something meanwhile."""
    while True:
        with suppress(FileNotFoundError, shutil.Error):     # something was renamed
            before = listing(folder)
            shutil.copytree(folder, to)
            if before == listing(folder):
                return
        shutil.rmtree(to, ignore_errors=True)


def watch(mode, folder):
    prepare(mode, folder / "alive", lambda step, rank: copy(folder / "alive", folder / f"{rank}-{step}"))


def kill(mode, folder, dies_at, of_rank):
    prepare(mode, folder / f"{of_rank}-{dies_at}",
            lambda step, rank: (step, rank) == (dies_at, of_rank) and os.kill(os.getpid(), signal.SIGKILL))


def full(mode, folder):
    fails_at = 0

    def fail(step, rank):
        if step == fails_at:
            raise OSError(28, "No space left on device")
    while True:
        fails_at += 1
        try:
            prepare(mode, folder / f"0-{fails_at}", fail)
        except OSError:         # an OutputError, where it is told of by then
            continue
        (folder / f"0-{fails_at}").rename(folder / "alive")     # has no more steps
        return


def resume(mode, folder):
    for at in sorted(folder.glob("*-*")):
        shutil.copytree(at, at.with_suffix(".died"))
        try:
            prepare(mode, at, resume=True)
        except Exception as err:
            err.add_note(f"resumed after step {at.name}")
            raise


if __name__ == "__main__":
    mode, folder, how, *at = sys.argv[1:]
    globals()[how](mode, Path(folder), *map(int, at))
