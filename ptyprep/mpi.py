"""The one room where ranks talk to each other: `Solo` and `World` have the same verbs.

Any failure inside a verb, on any rank, is raised on every rank: nobody waits for a rank that is
gone. This is the only module that imports mpi4py, and only under an MPI launcher or when a
communicator is given.
"""
import os
import pickle
from contextlib import ExitStack, contextmanager

import numpy as np

from ptyprep.errors import PeerError

LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
PIECE = 1 << 30     # bytes in one message: MPI counts them in an int, so 2 GiB is the end


def room(comm=None):
    """The ranks that prepare this scan.

    comm : an mpi4py communicator (a sub-communicator too), or None for all ranks that the launcher
        started; without a launcher there is one rank and MPI is not touched.

    Raises PeerError when a launcher started several ranks but mpi4py is missing or sees only one:
    they would all write the same output.
    """
    if comm is not None:
        return World(comm) if comm.size > 1 else Solo()
    started = max((int(os.environ[k]) for k in LAUNCHERS if os.environ.get(k, "").isdigit()), default=1)
    if started == 1:
        return Solo()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as err:
        raise PeerError(f"the launcher started {started} ranks, but mpi4py does not work here ({err}); "
                        f"install it with: pip install 'ptyprep[mpi]'") from err
    if MPI.COMM_WORLD.size == 1:
        raise PeerError(f"the launcher started {started} ranks, but mpi4py sees 1: it was built for another MPI; "
                        f"rebuild it with the launcher's: pip install --no-binary mpi4py --force-reinstall mpi4py")
    return World(MPI.COMM_WORLD)


def share(span, rank, size):
    """The contiguous part of a range that belongs to a rank; parts differ by one at most.

    >>> [list(share(range(10, 15), rank, 3)) for rank in range(3)]
    [[10], [11, 12], [13, 14]]
    """
    n = len(span)
    return span[n * rank // size: n * (rank + 1) // size]


class Solo:
    """One rank: every verb is plain Python."""
    rank, size, is_root = 0, 1, True

    def from_root(self, fn, *args):
        """`fn(*args)`, run on root; every rank gets its result."""
        return fn(*args)

    @contextmanager
    def together(self, what):
        """A block that succeeds on every rank or fails on every rank."""
        yield

    def share(self, span):
        """This rank's contiguous part of a range."""
        return span

    def each(self, value):
        """The values of all ranks, in rank order, on every rank."""
        return [value]

    def total(self, array):
        """The sum over all ranks, added in rank order, on every rank."""
        return np.array(array)

    def rows_to_root(self, array):
        """The rows (n, ...) of all ranks in rank order, on root; None elsewhere."""
        return array

    def pieces_to_root(self, pieces):
        """The pieces, bytes, of all ranks in rank order, on root; None elsewhere."""
        return pieces

    def deal(self, make):
        """Root calls `make()`, a list with one piece per rank, and hands each rank its own."""
        return make()[0]

    def on_node(self, value):
        """The values of the ranks on this node, this one included."""
        return [value]

    def abort(self, code):
        """End this rank; in a World, all of them."""
        raise SystemExit(code)


class World:
    """Several ranks. See `Solo` for what each verb gives."""

    def __init__(self, comm):
        self.comm, self.rank, self.size = comm, comm.rank, comm.size
        self.is_root = comm.rank == 0

    def from_root(self, fn, *args):
        packed = failure = None
        if self.is_root:
            try:
                value = fn(*args)
                packed = pickle.dumps(value, protocol=5)
            except BaseException as err:    # noqa: BLE001  SystemExit and Ctrl-C must reach the others too
                failure = err
        told = self.comm.bcast(_say(0, failure) if failure is not None else None)
        if failure is not None:
            raise failure
        if told:
            raise _failed([told])
        packed = self._bcast(packed)
        with self.together("taking a value from rank 0"):
            return value if self.is_root else pickle.loads(packed)      # noqa: S301  from our own rank 0

    @contextmanager
    def together(self, what):
        failure = None
        try:
            yield
        except BaseException as err:        # noqa: BLE001
            failure = err
        told = [t for t in self.comm.allgather(_say(self.rank, failure) if failure is not None else None) if t]
        if failure is not None:
            raise failure
        if told:
            raise _failed(told, f"{what}: ")

    def share(self, span):
        return share(span, self.rank, self.size)

    def each(self, value):
        packed = b""
        with self.together("sharing a value"):
            packed = pickle.dumps(value, protocol=5)
        return [pickle.loads(p) for p in self.comm.allgather(packed)]      # noqa: S301  from our own ranks

    def total(self, array):
        return np.sum(self.each(np.asarray(array)), axis=0)

    def rows_to_root(self, array):
        shapes = self.each((array.shape[1:], array.dtype.str, len(array)))
        if len({s[:2] for s in shapes}) > 1:
            raise PeerError(f"rows of different kinds on the ranks: {shapes}")
        out = None
        with self.together("gathering rows"):       # where memory can run out
            array = np.ascontiguousarray(array)
            if self.is_root:
                out = np.empty((sum(s[2] for s in shapes), *array.shape[1:]), array.dtype)
        if not self.is_root:
            self._send(array, 0)
            return None
        out[:len(array)] = array
        start = len(array)
        for rank in range(1, self.size):
            rows = out[start:start + shapes[rank][2]]
            self._receive(rows, rank)
            start += len(rows)
        return out

    def pieces_to_root(self, pieces):
        sizes, rooms = self.each([len(piece) for piece in pieces]), []
        with ExitStack() as afterwards:
            with self.together("gathering pieces"):     # where memory can run out
                if self.is_root:
                    rooms = [np.empty(sum(of_rank), np.uint8) for of_rank in sizes[1:]]
                else:
                    messages = _as_one(pieces, afterwards)
            if not self.is_root:
                for message in messages:
                    self.comm.Send(message, 0)
                return None
        found = list(pieces)
        for rank, flat in enumerate(rooms, 1):
            self._receive(flat, rank)
            ends = np.cumsum(sizes[rank], dtype=np.int64)
            found += [flat[end - size:end].data for end, size in zip(ends, sizes[rank])]
        return found

    def deal(self, make):
        packed = []
        with self.together("dealing pieces to the ranks"):
            if self.is_root:
                pieces = make()
                if len(pieces) != self.size:
                    raise ValueError(f"{len(pieces)} pieces for {self.size} ranks")
                packed = [pickle.dumps(p, protocol=5) for p in pieces]
        sizes = self.comm.bcast([len(p) for p in packed])
        if self.is_root:
            for rank in range(1, self.size):
                self._send(np.frombuffer(packed[rank], np.uint8), rank)
        else:
            mine = np.empty(sizes[self.rank], np.uint8)
            self._receive(mine, 0)
        with self.together("taking a piece from rank 0"):
            return pieces[0] if self.is_root else pickle.loads(mine.data)      # noqa: S301  from our own rank 0

    def on_node(self, value):
        from mpi4py import MPI
        node = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
        try:
            return node.allgather(value)
        finally:
            node.Free()

    def abort(self, code):
        self.comm.Abort(code)

    def _bcast(self, packed):
        size = self.comm.bcast(len(packed) if self.is_root else None)
        buffer = np.frombuffer(packed, np.uint8) if self.is_root else np.empty(size, np.uint8)
        for start in range(0, size, PIECE):
            self.comm.Bcast(buffer[start:start + PIECE])
        return buffer.data

    def _send(self, array, rank):
        flat = array.reshape(-1).view(np.uint8)
        for start in range(0, flat.size, PIECE):
            self.comm.Send(flat[start:start + PIECE], rank)

    def _receive(self, array, rank):
        flat = array.reshape(-1).view(np.uint8)
        for start in range(0, flat.size, PIECE):
            self.comm.Recv(flat[start:start + PIECE], rank)


def _as_one(pieces, afterwards):
    """Pieces, bytes, as the messages of the one array that they would be, taken from where they lie: (buffer, count,
    type) of each. The types are freed by `afterwards`, an ExitStack."""
    from mpi4py import MPI
    sizes = np.array([len(piece) for piece in pieces], np.int64)
    places = np.array([MPI.Get_address(piece) for piece in pieces], np.int64)
    begins = np.cumsum(sizes) - sizes
    messages = []
    for start in range(0, int(sizes.sum()), PIECE):
        first, last = (np.clip(at - begins, 0, sizes) for at in (start, start + PIECE))
        kind = MPI.UNSIGNED_CHAR.Create_hindexed((last - first).tolist(), (places + first).tolist())
        afterwards.callback(kind.Free)
        messages.append((MPI.BOTTOM, 1, kind.Commit()))
    return messages


def _say(rank, err):
    """(what a rank tells the others of its failure, whether it ends)."""
    return f"rank {rank}: {type(err).__name__}: {err}", not isinstance(err, Exception)


def _failed(told, what=""):
    """The PeerError for what some ranks told."""
    err = PeerError(what + "; ".join(text for text, _ in told))
    err.fatal = any(ends for _, ends in told)
    return err
