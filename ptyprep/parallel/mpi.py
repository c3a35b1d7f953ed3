"""The one room where ranks talk to each other: `Solo` and `World` have the same verbs.

Any failure inside a verb, on any rank, is raised on every rank: nobody waits for a rank that is
gone. Every verb begins with the same exchange, in which a rank tells the others whether all is well
with it. So a rank that fails anywhere inside a block `together` is heard of at the next verb of the
others, whichever that is. This is the only module that imports mpi4py, and only under an MPI launcher
or when a communicator is given.
"""
import os
import pickle
import sys
from contextlib import ExitStack, contextmanager

import numpy as np

from ptyprep.errors import PeerError, in_words

LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
PIECE = 1 << 30     # bytes in one message: MPI counts them in an int, so 2 GiB is the end
LARGE = 1 << 16     # bytes from which on a value is sent by itself


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
        """A block that succeeds on every rank or fails on every rank. Verbs may be inside, and other such blocks."""
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


class _Exchange:
    """What every verb of a `World` begins with: each rank says whether all is well with it."""

    def __init__(self, comm):
        self.comm, self.rank = comm, comm.rank
        self.known = None       # the failure that every rank has heard of
        self.late = None        # one of this rank that came when it had just said that all was well

    def __call__(self, what, failure=None, value=None):
        """The values of all ranks, where all is well with each of them; else the failure is raised, on every rank.

        what : is being done here, in words
        """
        failure, self.late = self.late if failure is None else failure, None
        mine = (None, value) if failure is None else (_say(self.rank, what, failure), None)
        heard = []
        try:
            # One step for Python, and Ctrl-C comes between two: what the others say is not lost to it.
            heard.extend(map(self.comm.allgather, (mine,)))
            return self._values(heard[0], failure)
        except BaseException as err:
            if not heard or self.is_known(err):
                raise
            values = self._values(heard[0], failure)
            self.late = err            # the others have gone on: they hear of it at the next verb
            return values

    def _values(self, heard, failure):
        """What ranks said in an exchange, in which this one told of that failure or None."""
        said, values = zip(*heard)
        if any(said):
            self.known = failure if failure is not None else _failed([one for one in said if one])
            raise self.known
        return values

    def is_known(self, err):
        """Whether every rank has heard of a failure, or of the one that it came of."""
        seen = set()
        while err is not None and id(err) not in seen:
            if err is self.known:
                return True
            seen.add(id(err))
            err = err.__cause__ or err.__context__
        return False


class _Together:
    """A block that begins and ends as `Solo.together` says. No generator: one that is left behind would tell of its
    own end."""

    def __init__(self, exchange, what):
        self._exchange, self._what = exchange, what

    def __enter__(self):
        self._exchange.known = None     # whoever begins something has done with what failed before

    def __exit__(self, kind, err, trace):
        try:
            if err is None or not self._exchange.is_known(err):
                self._exchange(self._what, err)
        except BaseException as other:
            if not self._exchange.is_known(other):
                self._exchange(self._what, other)
            raise


class _Sending:
    """A block in which ranks, once all of them are `ready`, send each other messages that wait for each other. What
    fails from then on ends the job: nobody can be told any more."""

    def __init__(self, exchange, what):
        self._exchange, self._what, self._begun = exchange, what, False

    def ready(self):
        self._begun = True
        self._exchange(self._what)

    def __enter__(self):
        return self

    def __exit__(self, kind, err, trace):
        if err is None or self._exchange.is_known(err):
            return
        if not self._begun:
            self._exchange(self._what, err)
        print(f"ptyprep: rank {self._exchange.rank}: {in_words(err)}; that was while ranks sent each other data, so "    # noqa: T201
              f"that all of them end; finished chunks are kept", file=sys.stderr, flush=True)
        self._exchange.comm.Abort(1)


class World:
    """Several ranks. See `Solo` for what each verb gives."""

    def __init__(self, comm):
        self.comm, self.rank, self.size = comm, comm.rank, comm.size
        self.is_root = comm.rank == 0
        self._exchange = _Exchange(comm)

    def from_root(self, fn, *args):
        packed, failure = b"", None
        if self.is_root:
            try:
                value = fn(*args)
                packed = pickle.dumps(value, protocol=5)
            except BaseException as err:    # noqa: BLE001  SystemExit and Ctrl-C must reach the others too
                failure = err
        large = len(packed) > LARGE
        said = self._exchange("", failure, len(packed) if large else packed)[0]
        if not isinstance(said, bytes):
            said = self._bcast(packed, said)
        with self.together("taking a value from rank 0"):
            return value if self.is_root else pickle.loads(said)        # noqa: S301  from our own rank 0

    def together(self, what):
        return _Together(self._exchange, what)

    def share(self, span):
        return share(span, self.rank, self.size)

    def each(self, value):
        packed, failure = b"", None
        try:
            packed = pickle.dumps(value, protocol=5)
        except BaseException as err:        # noqa: BLE001
            failure = err
        return [pickle.loads(p) for p in self._exchange("sharing a value", failure, packed)]    # noqa: S301  our own

    def total(self, array):
        return np.sum(self.each(np.asarray(array)), axis=0)

    def rows_to_root(self, array):
        shapes = self.each((array.shape[1:], array.dtype.str, len(array)))
        if len({s[:2] for s in shapes}) > 1:
            raise PeerError(f"rows of different kinds on the ranks: {shapes}")
        with _Sending(self._exchange, "gathering rows") as sending:
            array = np.ascontiguousarray(array)     # where memory can run out
            if self.is_root:
                out = np.empty((sum(s[2] for s in shapes), *array.shape[1:]), array.dtype)
            sending.ready()
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
        with ExitStack() as afterwards, _Sending(self._exchange, "gathering pieces") as sending:
            if self.is_root:                        # where memory can run out
                rooms = [np.empty(sum(of_rank), np.uint8) for of_rank in sizes[1:]]
            else:
                messages = _as_one(pieces, afterwards)
            sending.ready()
            if not self.is_root:
                for message in messages:
                    self.comm.Send(message, 0)
                return None
            for rank, flat in enumerate(rooms, 1):
                self._receive(flat, rank)
        found = list(pieces)
        for rank, flat in enumerate(rooms, 1):
            ends = np.cumsum(sizes[rank], dtype=np.int64)
            found += [flat[end - size:end].data for end, size in zip(ends, sizes[rank])]
        return found

    def deal(self, make):
        packed, failure, what = [], None, "dealing pieces to the ranks"
        if self.is_root:
            try:
                pieces = make()
                if len(pieces) != self.size:
                    raise ValueError(f"{len(pieces)} pieces for {self.size} ranks")
                packed = [pickle.dumps(p, protocol=5) for p in pieces]
            except BaseException as err:    # noqa: BLE001
                failure = err
        sizes = self._exchange(what, failure, [len(p) for p in packed])[0]
        with _Sending(self._exchange, what) as sending:
            mine = None if self.is_root else np.empty(sizes[self.rank], np.uint8)       # where memory can run out
            sending.ready()
            if not self.is_root:
                self._receive(mine, 0)
            for rank in range(1, self.size) if self.is_root else ():
                self._send(np.frombuffer(packed[rank], np.uint8), rank)
        with self.together("taking a piece from rank 0"):
            return pieces[0] if self.is_root else pickle.loads(mine.data)      # noqa: S301  from our own rank 0

    def on_node(self, value):
        from mpi4py import MPI
        values = self.each(value)
        with _Sending(self._exchange, "looking who is on this node") as sending:
            sending.ready()
            node = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
            try:
                ranks = node.allgather(self.rank)
            finally:
                node.Free()
        return [values[rank] for rank in ranks]

    def abort(self, code):
        self.comm.Abort(code)

    def _bcast(self, packed, size):
        with _Sending(self._exchange, "taking a value from rank 0") as sending:
            buffer = np.frombuffer(packed, np.uint8) if self.is_root else np.empty(size, np.uint8)
            sending.ready()
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


def _say(rank, what, err):
    """What a rank tells the others of its failure: (what it did, the failure in words, whether the rank ends)."""
    return what, f"rank {rank}: {in_words(err)}", not isinstance(err, Exception)


def _failed(said):
    """The PeerError for what some ranks said."""
    what = next((f"{what}: " for what, _, _ in said if what), "")
    err = PeerError(what + "; ".join(text for _, text, _ in said))
    err.fatal = any(ends for *_, ends in said)
    return err
