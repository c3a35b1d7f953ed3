"""Pulls the plug at a step of writing: plug.py MODE FOLDER HOW [STEP RANK].

HOW is `kill` (SIGKILL) or `full` (an error as of a full disk). With STEP, one scan is prepared in FOLDER/STEP, which
dies at that step of that rank, under mpirun or without. Without, a child process for each step dies there, and
another one resumes, until a child lives; FOLDER/STEP.died is what the first one left. With HOW `resume` all folders
are resumed.
Prints {step: [how the first ended, how the other ended, what it said]}.
"""
import json
import os
import shutil
import signal
import sys
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np

from ptyprep import PtyScan
from ptyprep.errors import OutputError
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


def prepare(mode, folder, how, dies_at=0, rank=0):
    scan = Scan(dfile=folder / "s.ptyd", save=mode, resume=how == "resume")
    count = 0

    def step(what):
        nonlocal count
        count += 1
        if count == dies_at and scan.comm.rank == rank:
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(28, "No space left on device")
    disk.step = parts.step = step
    for _ in scan.initialize().batches(SIZE):
        pass
    return count


def in_a_child(*case):
    """How a scan ended in a process of its own: exit code or minus a signal, and what it said."""
    told = case[1].with_suffix(".told")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with open(told, "w") as file, redirect_stderr(file):
                try:
                    prepare(*case)
                    code = 0
                except OutputError as err:
                    file.write(str(err))
        finally:
            os._exit(code)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = told.read_text()
    told.unlink()
    return ended, text


def resumed(mode, folder):
    shutil.copytree(folder, folder.with_suffix(".died"))
    return in_a_child(mode, folder, "resume")


def main(mode, folder, how, step=None, rank=0):
    folder = Path(folder)
    if step is not None:
        (folder / step).mkdir(exist_ok=True)
        return prepare(mode, folder / step, how, int(step), int(rank))
    if how == "resume":
        cases = sorted(int(path.name) for path in folder.iterdir())
        return print(json.dumps({k: [None, *resumed(mode, folder / str(k))] for k in cases}))
    ends, k, ended = {}, 0, 1
    while ended:
        k += 1
        at = folder / str(k)
        at.mkdir()
        ended, _ = in_a_child(mode, at, how, k)
        ends[k] = [ended, *(resumed(mode, at) if ended else (None, None))]
    print(json.dumps(ends))


if __name__ == "__main__":
    main(*sys.argv[1:])
