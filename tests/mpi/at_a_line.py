"""One rank fails at a line that it executes, and every rank must hear of it. Run by test_failures.py and soak/lines.py.

usage: at_a_line.py FOLDER look        which lines each rank executes: FOLDER/<rank>.json
       at_a_line.py FOLDER try         the trials in FOLDER/trials.json, from the one on that FOLDER/next names

Under mpirun. A trial is {"case", "rank", "line": [file, number], "time", "how"}: at the `time`-th execution of the
line. What came of each is in FOLDER/told.<rank>.jsonl. A rank that waits too long ends the job, with the lines where
it waits.
"""
import faulthandler
import json
import linecache
import os
import shutil
import sys
import threading
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import dropped
import numpy as np
from dropped import CHUNK, POINTS, Brings, Corrects, Streams
from prepare import make_frames

import ptyprep
from ptyprep import EOS, WAIT
from ptyprep.parallel.mpi import room
from ptyprep.sources import ArrayFrames

PACKAGE = os.path.dirname(ptyprep.__file__) + os.sep
PATIENCE = 20               # seconds; then a trial hangs
FRAMES = 13                 # three chunks, and no frame of the last one for two of three ranks
# what a user calls begins outside of what is agreed on, and ends there: a rank alone there is in the user's own code
ENTRANCES = {"_decide", "_survey", "_next", "progress"}


class Odd(RuntimeError):
    """Its message cannot be made, nor can it be pickled."""

    def __str__(self):
        raise ValueError("no words")

    __repr__ = __str__

    def __reduce__(self):
        raise ValueError("no pickles")


class Lit(Streams):
    """Light in the middle."""

    def open(self):
        return ArrayFrames(make_frames(POINTS))


KINDS = {"raises": RuntimeError, "is odd": Odd, "is stopped": KeyboardInterrupt, "has no memory": MemoryError}
CASES = {"streams": (Streams, {}), "loads": (Brings, {"load_parallel": None}), "corrects": (Corrects, {}),
         "finds": (Lit, {"auto_center": True, "center": None, "bad_pixels.find": True}),
         "drops": (type("Dropping", (Streams,), {"__doc__": "Some are burnt.", "burnt": range(7, 12)}),
                   {"bad_frames": "drop"}),
         "waits": (type("Live", (Streams,), {"__doc__": "Frames come.", "live": True}), {}),
         **{mode: (Streams, {"save": mode}) for mode in dropped.SINKS}}


def scan_to_its_end(case, comm):
    """Prepare all of it; the frames that come are the right ones."""
    recipe, pars = CASES[case]
    if "save" in pars:
        pars = {**pars, "dfile": f"{case}.ptyd"}
    scan = recipe(pars, comm=comm, num_frames=FRAMES, threads=2, frames_per_chunk=CHUNK, min_frames=CHUNK).initialize()
    if "save" in pars:
        scan.prepare(CHUNK, progress=lambda n: None)
    elif case == "loads":
        while (package := scan.auto(CHUNK)) is not EOS:
            assert package is not WAIT
    else:
        for batch in scan.batches(CHUNK, pause=0.001):
            assert recipe is Lit or np.array_equal(batch.data[:, 0, 0], batch.frame + 1)
    assert scan.frames_done == len(set(range(FRAMES)) - set(recipe.burnt))


class Watcher:
    """Counts executed lines of the package, or raises at one of them."""

    def __init__(self, trial=None):
        self.seen, self.fired = Counter(), False
        self._file, self._at = (trial["line"][0], (*trial["line"], trial["time"])) if trial else ("", None)
        self._failure = trial and KINDS[trial["how"]]()
        self._lock = threading.Lock()

    def __enter__(self):
        threading.settrace(self.trace)
        sys.settrace(self.trace)
        return self

    def __exit__(self, *failure):
        sys.settrace(None)
        threading.settrace(None)

    def trace(self, frame, event, arg):
        path = frame.f_code.co_filename
        if path.startswith(PACKAGE) and path.endswith(self._file) and not self.fired and agreed(frame):
            return self.line
        return None

    def line(self, frame, event, arg):
        if event == "line" and not self.fired:
            line = frame.f_code.co_filename[len(PACKAGE):], frame.f_lineno
            with self._lock:        # of many threads one fails
                self.seen[line] += 1
                here = not self.fired and (*line, self.seen[line]) == self._at
                self.fired = self.fired or here
            if here:
                raise self._failure
        return self.line


def agreed(frame):
    """Whether a frame is below an entrance, or in a thread of its own."""
    main = threading.current_thread() is threading.main_thread()
    while frame is not None and main:
        if frame.f_code.co_name in ENTRANCES and frame.f_code.co_filename.startswith(PACKAGE):
            return True
        frame = frame.f_back
    return not main


def forget_pools():
    """Threads that are begun now are traced; those of before were not."""
    from ptyprep.parallel import threads
    threads._pool.cache_clear()


def clean(world):
    world.Barrier()
    if world.rank == 0:
        for path in Path().iterdir():
            if any(path.name.startswith(f"{mode}.") for mode in dropped.SINKS):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    world.Barrier()


def attempt(case, world, watcher):
    """What this rank heard, in words; "" where all went well."""
    comm = world.Dup()
    forget_pools()
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    try:
        with watcher:
            scan_to_its_end(case, comm)
        heard = ""
    except BaseException as err:    # noqa: BLE001  that is what is tested
        sys.settrace(None)
        heard = ptyprep.errors.in_words(err)
    clean(world)
    faulthandler.cancel_dump_traceback_later()
    comm.Free()
    return heard


def look(world):
    seen = {}       # but where a lock is given back: a failure there, which no code can have, leaves it locked for good
    for case in CASES:
        watcher = Watcher()
        heard = attempt(case, world, watcher)
        assert not heard, heard
        seen[case] = [[file, line, times] for (file, line), times in watcher.seen.items()
                      if "with _lock:" not in linecache.getline(PACKAGE + file, line)]
    Path(f"{world.rank}.json").write_text(json.dumps(seen))


def tries(world):
    trials = json.loads(Path("trials.json").read_text())
    first = world.bcast(int(Path("next").read_text()) if world.rank == 0 else None)
    clean(world)        # a job before may have ended in the middle
    with open(f"told.{world.rank}.jsonl", "a") as told:
        for number, trial in enumerate(trials[first:], first):
            if world.rank == 0:
                Path("next.new").write_text(str(number + 1))
                os.replace("next.new", "next")
            watcher = Watcher(trial) if trial["rank"] == world.rank else nullcontext()
            heard = attempt(trial["case"], world, watcher)
            print(json.dumps([number, heard, getattr(watcher, "fired", False)]), file=told, flush=True)


def main(folder, what):
    os.chdir(folder)
    world = room().comm
    {"look": look, "try": tries}[what](world)


if __name__ == "__main__":
    main(*sys.argv[1:])
