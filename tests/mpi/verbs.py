"""Every verb of `World` on several ranks, and every way in which it can fail. Run by test_mpi.py under mpirun.

usage: verbs.py FOLDER. Each rank writes what became of each case to FOLDER/<rank>.json.
"""
import json
import sys
import threading
from pathlib import Path

import numpy as np

from ptyprep.errors import in_words
from ptyprep.parallel import mpi


class Stuck:
    """Can be pickled, but not unpickled."""

    def __reduce__(self):
        return _no, ()


class Odd(Exception):
    """Has no message, and cannot be pickled."""

    def __str__(self):
        raise ValueError("no words")

    __repr__ = __reduce__ = __str__


def _no():
    raise RuntimeError("will not come back")


FAILURES = {"ValueError": lambda: _raise(ValueError("bad luck")), "SystemExit": lambda: sys.exit("enough"),
            "KeyboardInterrupt": lambda: _raise(KeyboardInterrupt("stop")), "unpicklable": threading.Lock,
            "StopIteration": lambda: _raise(StopIteration("dry")), "Odd": lambda: _raise(Odd()), "unloadable": Stuck}


def _raise(err):
    raise err


def outcome(case):
    """What a case gave or raised, as JSON."""
    try:
        return ["gave", case()]
    except BaseException as err:    # noqa: BLE001  that is what is tested
        return [type(err).__name__, in_words(err, kind=False)]


def block(comm, rank, failure):
    with comm.together("measuring"):
        if comm.rank == rank:
            FAILURES[failure]()
    return "all well"


def alone(comm, rank, then):
    """A rank fails between verbs; the others hear of it at their next one, whichever that is."""
    with comm.together("outside"):
        if comm.rank == rank:
            raise ValueError("bad luck")
        then()
    return "all well"


def caught(comm, rank):
    """What failed on all and was caught is past: the next failure of the same exception is told, too."""
    err, heard = ValueError("bad luck"), []
    for _ in range(2):
        try:
            with comm.together("outside"):
                comm.each(1)
                with comm.together("inside"):
                    if comm.rank == rank:
                        raise err
        except (ValueError, mpi.PeerError) as heard_of:
            heard.append(str(heard_of))
    return heard


def rows(comm, counts, dtype="u2", shape=(2, 3)):
    """Rows of rank r hold 100 r, 100 r + 1, ..."""
    n = counts[comm.rank]
    first = np.arange(n) + 100 * comm.rank
    return (first[(...,) + (None,) * len(shape)] * np.ones(shape)).astype(dtype).reshape(n, *shape)


def gathered(comm, *how):
    got = comm.rows_to_root(rows(comm, *how))
    return None if got is None else [got.dtype.str, list(got.shape), [row.ravel().tolist() for row in got]]


def octets(pieces):
    return None if pieces is None else [list(bytes(piece)) for piece in pieces]


def cases(comm):
    ranks = range(comm.size)
    yield "who", lambda: [type(comm).__name__, comm.rank, comm.size, comm.is_root]
    yield "from_root", lambda: comm.from_root(lambda a: {"said by": comm.rank, "a": a}, 5)
    yield "from_root array", lambda: comm.from_root(lambda: np.arange(50) * (comm.rank + 1)).tolist()
    yield "from_root none", lambda: comm.from_root(lambda: None)
    yield "share", lambda: [list(comm.share(range(2, n))) for n in (2, 3, 5, 9, 10)]
    yield "each", lambda: comm.each([comm.rank, "x" * comm.rank])
    yield "total", lambda: comm.total(np.array([0.1, 10.0 ** (15 * comm.rank)])).tolist()
    yield "total of a number", lambda: float(comm.total(comm.rank))
    yield "together", lambda: block(comm, -1, None)
    yield "deal", lambda: comm.deal(lambda: [{"for": r, "data": list(range(r * 5))} for r in ranks])
    yield "deal too few", lambda: comm.deal(lambda: [1] * (comm.size - 1))
    yield "deal too many", lambda: comm.deal(lambda: [1] * (comm.size + 1))
    for dtype in ("u1", "u4", "f8", "?"):
        yield f"rows {dtype}", lambda dtype=dtype: gathered(comm, [2, 3, 1], dtype)
    yield "rows, none on rank 1", lambda: gathered(comm, [2, 0, 1])
    yield "rows, none on root", lambda: gathered(comm, [0, 2, 1])
    yield "rows, none at all", lambda: gathered(comm, [0, 0, 0])
    yield "rows of numbers", lambda: gathered(comm, [1, 2, 3], "i8", ())
    yield "rows not contiguous", lambda: (lambda got: got if got is None else got.tolist())(
        comm.rows_to_root(np.arange(8).reshape(2, 4).T[::2] + 10 * comm.rank))
    yield "rows of two kinds", lambda: comm.rows_to_root(np.zeros(2, "u2" if comm.rank == 1 else "u4"))
    yield "rows of two shapes", lambda: comm.rows_to_root(np.zeros((2, 3 + (comm.rank == 2))))
    for counts in ((2, 3, 1), (0, 2, 1), (2, 0, 0), (0, 0, 0)):
        yield f"pieces {counts}", lambda counts=counts: octets(comm.pieces_to_root(
            [bytes([comm.rank]) * (10 * i) for i in range(counts[comm.rank])]))
    for name in FAILURES:
        yield f"from_root fails: {name}", lambda name=name: comm.from_root(FAILURES[name]) and None
        yield f"deal fails: {name}", lambda name=name: comm.deal(FAILURES[name]) and None
        yield f"deal a piece fails: {name}", lambda name=name: comm.deal(
            lambda: [FAILURES[name]() if r == 1 else r for r in ranks]) and None
        for rank in ranks:
            yield f"together fails on {rank}: {name}", lambda name=name, rank=rank: block(comm, rank, name)
            if name in ("unpicklable", "unloadable"):
                yield f"each fails on {rank}: {name}", lambda name=name, rank=rank: comm.each(
                    FAILURES[name]() if comm.rank == rank else 1) and None
    verbs = {"from_root": lambda: comm.from_root(lambda: 1), "each": lambda: comm.each(1),
             "total": lambda: comm.total(1), "rows_to_root": lambda: gathered(comm, [2, 3, 1]),
             "pieces_to_root": lambda: comm.pieces_to_root([b"1"]),
             "deal": lambda: comm.deal(lambda: [1] * comm.size), "on_node": lambda: comm.on_node(1),
             "together": lambda: block(comm, -1, None), "nothing": lambda: None}
    for verb, then in verbs.items():
        for rank in ranks:
            yield f"alone before {verb}: {rank}", lambda rank=rank, then=then: alone(comm, rank, then)
    for rank in ranks:
        yield f"caught: {rank}", lambda rank=rank: caught(comm, rank)
    yield "after all that", lambda: comm.each(comm.rank)


def main(folder):
    from mpi4py import MPI
    mpi.PIECE = 7       # bytes: so that everything travels in many messages
    world = mpi.room()
    # A sub-communicator of the last two ranks, in reversed order, while rank 0 is alone.
    part = mpi.room(MPI.COMM_WORLD.Split(min(world.rank, 1), -world.rank))
    told = {name: outcome(case) for name, case in cases(world)}
    told["sub-communicator"] = outcome(lambda: [type(part).__name__, part.rank, part.each(world.rank),
                                                part.from_root(lambda: world.rank), list(part.share(range(5)))])
    told["on_node"] = outcome(lambda: [world.on_node(world.rank), part.on_node(world.rank)])
    Path(folder, f"{world.rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
