"""Every hook and the sink fail on each rank in turn, in every way that code fails: failing.py FOLDER, under mpirun.

What each rank heard is in FOLDER/<rank>.json: {"hook on rank: how": "Kind: message"}.
"""
import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np

from ptyprep import Par, PtyScan
from ptyprep.errors import SourceError, in_words
from ptyprep.parallel.mpi import room
from ptyprep.sinks import SINKS, disk, parts
from ptyprep.sources import ArrayFrames

HOOKS = ("open", "load_geometry", "load_common", "load_positions", "load_weight", "check", "load", "correct",
         "post_initialize", "close")
SHARED = ("load_geometry", "load_common", "load_positions", "load_weight")      # each rank's own with load_parallel


class Odd(ValueError):
    """Has no message, and cannot be pickled."""

    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __reduce__ = __str__


class Unanswered(Exception):
    """The hook has still to be answered."""


def fail(how):
    if how == "raises":
        raise ValueError("bad luck")
    if how == "leaves":
        sys.exit("enough")
    if how == "is stopped":
        raise KeyboardInterrupt("stop")
    if how == "is odd":
        raise Odd
    if how == "leaves a thread that fails":
        thread = threading.Thread(target=fail, args=["raises"], name="poller")
        thread.start()
        thread.join()
        raise Unanswered
    if how == "has no memory":
        return np.ones((1 << 20, 1 << 30))
    return lambda: "what cannot be pickled"


WAYS = ("raises", "leaves", "is stopped", "is odd", "has no memory", "leaves a thread that fails",
        "returns what cannot be pickled")


class Good(PtyScan):
    """Five numbered frames."""
    energy, distance, psize, center = Par(7.0), Par(2.0), Par(75e-6), Par("fftshift")

    def load_positions(self):
        return np.arange(10.0).reshape(5, 2) * 1e-7

    def load(self, indices):
        return np.ones((len(indices), 8, 8), "u2") * np.array(indices, "u2")[:, None, None]


def failing(hook, rank, how):
    """A scan that fails in that hook on that rank."""
    def answer(self, *args):
        if self.comm.rank == rank and (hook != "load" or self.plan is not None):
            with suppress(Unanswered):
                return fail(how)
        return getattr(super(kind, self), hook)(*args)
    answer.__name__ = hook
    kind = type("Failing", (Good,), {"__doc__": "It will fail.", hook: answer})
    return kind


def disk_full(*_):
    raise OSError(28, "No space left on device")


def outcome(kind, name, save, load_parallel="data"):
    """What this rank heard."""
    try:
        for _ in kind(dfile=f"{name}.ptyd", save=save, load_parallel=load_parallel).initialize().batches(3):
            pass
    except BaseException as err:    # noqa: BLE001  that is what is tested
        return in_words(err)
    return "all is well"


class Center(Good):
    """Each rank has another centre."""

    def load_geometry(self):
        return {"center": (4 + self.comm.rank, 4)}

    center = Par(None)


class Energy(Good):
    """An energy that cannot be, on one rank."""
    energy = Par(None)

    def load_geometry(self):
        return {"energy": -1.0 if self.comm.rank == 1 else 7.0}


class Common(Good):
    """Names that cannot be sorted, on one rank."""

    def load_common(self):
        return {1: 2, "a": 3} if self.comm.rank == 1 else {}


class Positions(Good):
    """Fewer on one rank."""

    def load_positions(self):
        return super().load_positions()[:5 - (self.comm.rank == 2)]


class Missing(Good):
    """One rank does not see a file; the others, root among them, do."""

    def open(self):
        source = ArrayFrames(np.ones((5, 8, 8), "u2"))
        if self.comm.rank == 1:
            source.missing = [(range(0, 2), "raw.h5: no such file")]

            def read(indices, window=None):
                raise SourceError("raw.h5: no such file")
            source.read = read
        return source

    def load(self, indices):
        return PtyScan.load(self, indices)


DISAGREE = {kind.__name__: kind for kind in (Center, Energy, Common, Positions, Missing)}


def main(folder):
    os.chdir(folder)
    comm, told = room(), {}
    threading.excepthook = lambda args: None
    modes = list(SINKS)
    for hook in HOOKS:
        for rank in range(comm.size if hook != "check" else 1):
            for how in WAYS:
                case = f"{hook} on {rank}: {how}"
                told[case] = outcome(failing(hook, rank, how), case, modes[len(told) % 4],
                                     "all" if hook in SHARED and rank else "data")
    for mode in modes:
        for rank in range(comm.size):
            told[f"{mode} on {rank}"] = outcome(without_disk(mode, rank), f"{mode} {rank}", mode)
    disk.step = parts.step = lambda what: None
    for name, kind in DISAGREE.items():
        told[name] = outcome(kind, name, "link", "all")
    told["after all that"] = outcome(Good, "good", "virtual")
    part = comm.comm.Split(comm.rank % 2)       # ranks 0 and 2, and 1 alone, each with a scan of their own
    for _ in Good(comm=part, dfile=f"part{comm.rank % 2}.ptyd", save="virtual").initialize().batches(3):
        pass
    Path(f"{comm.rank}.json").write_text(json.dumps(told))


def without_disk(mode, rank):
    """A scan whose sink fails on that rank, where it writes or, where root alone does, compresses."""
    def post_initialize(self):
        if self.comm.rank == rank:
            if rank == 0 or mode == "virtual":
                disk.step = parts.step = disk_full
            else:
                self.sink.encoder.encode = disk_full
    disk.step = parts.step = lambda what: None
    return type("Broken", (Good,), {"__doc__": "Its disk will fail.", "post_initialize": post_initialize})


if __name__ == "__main__":
    main(sys.argv[1])
