"""While one batch is looked at, the next is prepared; nobody notices but by the time."""
import gc
import os
import threading
import time
import weakref
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from ptyprep import EOS, Par, PtyScan
from ptyprep.errors import ChangedError, SourceError
from ptyprep.processing.corrections import Corrections
from ptyprep.sources import open_frames
from ptyprep.sources.array import ArrayFrames
from ptyprep.testing import run_on_ranks

FRAMES = np.random.default_rng(5).poisson(7, (20, 24, 30)).astype("u2")
WAYS = {"bslz4": dict(hdf5plugin.Bitshuffle(cname="lz4"), chunks=(1, 24, 30)), "contiguous": {},
        "gzip": {"compression": "gzip", "chunks": (1, 24, 30)}, "lzf": {"compression": "lzf", "chunks": (1, 24, 30)},
        "one chunk": {"compression": "gzip", "chunks": (20, 24, 30)}}


class Told(ArrayFrames):
    """Frames that any thread may read; says which were."""

    def __init__(self, frames, fails=()):
        super().__init__(frames)
        self.fails, self.were_read, self.open, self.opened = fails, set(), 0, 0

    @contextmanager
    def reader(self, window=None):
        self.open += 1
        self.opened += 1
        yield partial(self._fill, window)
        self.open -= 1

    def blocks(self, indices, most):
        return [slice(start, start + 2) for start in range(0, len(indices), 2)]

    def read(self, indices, window=None):
        raise AssertionError("not a few at a time")

    def _fill(self, window, indices, out):
        if set(self.fails) & set(indices):
            raise SourceError(f"frame {min(set(self.fails) & set(indices))} is burnt")
        out[...] = super().read(indices, window)
        self.were_read |= set(indices)


class Scan(PtyScan):
    energy, distance, psize, center, threads = Par(7.0), Par(2.0), Par(75e-6), Par("fftshift"), Par(2)

    def load_positions(self):
        return np.zeros((20, 2))


def scan_of(source, **more):
    class Of(Scan):
        def open(self):
            return source

        def load_corrections(self):
            return more.get("corrections")
    return Of({name: value for name, value in more.items() if name != "corrections"}).initialize()


def joined(folder, parts):
    """Frames in a file for each part, 0.h5 and so on, that a virtual dataset joins."""
    n = sum(map(len, parts))
    with h5py.File(folder / "joined.h5", "w") as whole:
        layout, start = h5py.VirtualLayout((n, 24, 30), "u2"), 0
        for i, part in enumerate(parts):
            with h5py.File(folder / f"{i}.h5", "w") as file:
                file.create_dataset("data", data=part, **WAYS["bslz4"])
            layout[start:start + len(part)] = h5py.VirtualSource(f"{i}.h5", "data", part.shape)
            start += len(part)
        whole.create_virtual_dataset("data", layout)
    return open_frames(folder / "joined.h5", "data")


def soon(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("threads, ahead", [(1, False), (2, True)])
def test_the_next_batch_is_prepared_while_one_is_looked_at(threads, ahead):
    source, given = Told(FRAMES), 0
    for batch in scan_of(source, threads=threads).batches(4):
        given += 4
        assert np.array_equal(batch.data, FRAMES[given - 4:given])
        assert batch.index.tolist() == [*range(given - 4, given)]
        coming = min(given + 4 * ahead, 20)
        assert soon(lambda: source.were_read == set(range(coming)))     # noqa: B023
        time.sleep(0.02)
        assert source.were_read == set(range(coming))               # and none beyond
    assert given == 20 and source.open == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_files_are_opened_once_for_all_batches_and_for_each_that_auto_gives(tmp_path, threads):
    source = Told(FRAMES)
    assert len(list(scan_of(source, threads=threads).batches(4))) == 5 and (source.opened, source.open) == (1, 0)
    scan_of(source, threads=threads, dfile=tmp_path / "s.ptyd").prepare(4)
    assert (source.opened, source.open) == (2, 0)
    scan = scan_of(source, threads=threads)
    for _ in range(5):
        scan.auto(4)
    assert (source.opened, source.open) == (7, 0)


def test_a_scan_that_has_ended_is_gone_with_its_last_name():
    scan = scan_of(Told(FRAMES))
    gc.disable()
    try:
        assert len(list(scan.batches(4))) == 5 and scan.auto(4) is EOS and scan.frames_done == 20
        gone = weakref.ref(scan)
        del scan
        assert gone() is None
    finally:
        gc.enable()


def test_auto_reads_only_what_it_gives():
    source = Told(FRAMES)
    scan = scan_of(source)
    assert len(scan.auto(4)["iterable"]) == 4 and source.were_read == {0, 1, 2, 3} and source.open == 0


def test_a_failure_comes_where_the_frame_would():
    source, given = Told(FRAMES, fails=[9]), []
    with pytest.raises(SourceError, match="frame 9 is burnt"):
        for batch in scan_of(source).batches(4):
            given += batch.index.tolist()
    assert given == [*range(8)] and source.open == 0


def test_who_has_had_enough_leaves_nothing_open():
    source = Told(FRAMES)
    batches = scan_of(source).batches(4)
    next(batches)
    batches.close()
    there = len(source.were_read)
    time.sleep(0.05)
    assert source.open == 0 and len(source.were_read) == there <= 8


@pytest.mark.parametrize("fails, given", [(1, 20), (2, 4)])
def test_what_fails_when_it_is_asked_early_takes_nothing_from_what_comes_first(fails, given):
    asked, got = [], []

    class Stuttering(Scan):
        def open(self):
            return Told(FRAMES)

        def check(self, frames, start):
            asked.append(start)
            if start == 4 and asked.count(4) <= fails:
                raise OSError(5, "Input/output error")
            return super().check(frames, start)

    with pytest.raises(OSError, match="Input/output error") if given < 20 else nullcontext():
        for batch in Stuttering().initialize().batches(4):
            got += batch.index.tolist()
    assert got == [*range(given)] and asked.count(4) == 2


def test_live_frames_are_not_taken_one_by_one_because_somebody_looked_early():
    there = 5

    class Live(Scan):
        def open(self):
            return Told(FRAMES)

        def check(self, frames, start):
            return min(there - start, frames), there == 20
    sizes = []
    for batch in Live().initialize().batches(4, pause=0):
        sizes.append(len(batch))
        there = min(there + 4, 20)      # they come while the user looks
    assert sizes == [4] * 5


def test_frames_of_a_file_that_is_gone_are_dropped_as_ever(tmp_path):
    source = joined(tmp_path, [FRAMES[:10], FRAMES[10:]])
    (tmp_path / "0.h5").write_bytes(b"no more")
    scan = scan_of(source, bad_frames="drop")
    assert np.concatenate([batch.data for batch in scan.batches(4)]).tolist() == FRAMES[10:].tolist()
    assert [frame for frame, _ in scan.bad] == [*range(10)]


@pytest.mark.mpi
def test_ranks_with_unequal_threads_go_the_same_way(tmp_path):
    (tmp_path / "scan.py").write_text("""
import numpy as np
from mpi4py import MPI
from test_ahead import FRAMES, Scan, Told

class Unequal(Scan):
    def open(self):
        return Told(FRAMES)

scan = Unequal(threads=1 + MPI.COMM_WORLD.rank, load_parallel="data").initialize()
for batch in scan.batches(6):
    assert np.array_equal(batch.data, FRAMES[batch.frame])
print(scan.frames_done)
""")
    job = run_on_ranks(3, tmp_path / "scan.py", timeout=60, env={"PYTHONPATH": str(Path(__file__).parent)})
    assert job.returncode == 0 and job.stdout.split() == ["20"] * 3, job.stderr


@pytest.mark.parametrize("threads", [1, 2])
def test_who_asks_again_misses_nothing(threads):
    scan = scan_of(Told(FRAMES), threads=threads)
    assert [next(scan.batches(4)).frame.tolist() for _ in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert [batch.frame.tolist() for batch in scan.batches(4)] == [[12, 13, 14, 15], [16, 17, 18, 19]]


@pytest.mark.parametrize("hooks", [False, True])
def test_frames_that_failed_once_come_when_they_are_asked_for_again(hooks):
    source = Told(FRAMES, fails=[5])

    class Loading(Scan):
        def open(self):
            return source

        if hooks:
            def load(self, indices):
                if 5 in indices and source.fails:
                    raise SourceError("frame 5 is burnt")
                return FRAMES[indices]
    scan = Loading().initialize()
    assert len(scan.auto(4)["iterable"]) == 4
    with pytest.raises(SourceError, match="frame 5 is burnt"):
        scan.auto(4)
    source.fails = ()
    assert [one["index"] for one in scan.auto(4)["iterable"]] == [4, 5, 6, 7]


def test_a_thread_of_the_pool_does_not_wait_for_itself(tmp_path):
    """Frames and masks that both are read in the same threads."""
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("data", data=FRAMES, **WAYS["bslz4"])
        file.create_dataset("mask", data=FRAMES > 3, **WAYS["bslz4"])
    scan = scan_of(open_frames(tmp_path / "raw.h5", "data"),
                   corrections=Corrections(mask=open_frames(tmp_path / "raw.h5", "mask", threads=2)))
    made = []
    thread = threading.Thread(target=lambda: made.extend(scan.batches(20)), daemon=True)
    thread.start()
    thread.join(30)
    assert np.array_equal(made[0].weight, FRAMES > 3)


@pytest.mark.parametrize("replaced", [False, True])
def test_files_that_grow_while_batches_are_taken_are_looked_at_again_and_others_refused(tmp_path, replaced):
    path, options = tmp_path / "raw.h5", {"chunks": (1, 24, 30), "dtype": "u2", **hdf5plugin.Bitshuffle(cname="lz4")}
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (20, 24, 30), **options)[:8] = FRAMES[:8]

    class Coming(Scan):
        there = 8

        def open(self):
            return open_frames(path, "data")

        def check(self, frames, start):
            return min(self.there - start, frames), self.there == 20
    scan, seen = Coming().initialize(), 0
    with pytest.raises(ChangedError, match="another file has its name") if replaced else nullcontext():
        for batch in scan.batches(4, pause=0):
            assert np.array_equal(batch.data, FRAMES[seen:seen + 4])
            seen += 4
            if seen == 8:
                copy = path.with_suffix(".new" if replaced else ".h5")
                with h5py.File(copy, "w" if replaced else "r+") as file:
                    data = file.create_dataset("data", (20, 24, 30), **options) if replaced else file["data"]
                    data[:] = FRAMES
                copy.replace(path)
                scan.there = 20
    assert seen == (8 if replaced else 20)


@pytest.mark.mpi
def test_a_rank_that_ends_while_it_reads_ahead_ends_all(tmp_path):
    (tmp_path / "scan.py").write_text("""
import sys
from mpi4py import MPI
from ptyprep import PeerError
from test_ahead import FRAMES, Scan, Told

class Ending(Scan):
    def open(self):
        return Told(FRAMES)

    def check(self, frames, start):
        if start == 6:
            sys.exit("enough")
        return super().check(frames, start)

try:
    for batch in Ending(load_parallel="data").initialize().batches(6):
        pass
except PeerError as err:
    assert err.fatal
    print("told")
except SystemExit:
    print("ends")
""")
    job = run_on_ranks(3, tmp_path / "scan.py", timeout=60, env={"PYTHONPATH": str(Path(__file__).parent)})
    assert sorted(job.stdout.split()) == ["ends", "told", "told"], job.stderr


def raw_files_open(folder):
    return [path for path in map(os.path.realpath, Path("/proc/self/fd").iterdir()) if path.startswith(str(folder))]


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_others_may_open_the_raw_files_meanwhile(tmp_path, way, mask):
    """Which HDF5 refuses for a file that it has open in another way, in the same process."""
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("data", data=FRAMES, **WAYS[way])
        file.create_dataset("mask", data=FRAMES > 3, chunks=(1, 24, 30), compression="lzf")
    corrections = Corrections(mask=open_frames(tmp_path / "raw.h5", "mask")) if mask else None
    scan = scan_of(open_frames(tmp_path / "raw.h5", "data"), corrections=corrections)
    seen = 0
    for batch in scan.batches(3):
        for _ in range(10):             # what reads ahead has it open again and again
            with h5py.File(tmp_path / "raw.h5") as file:
                assert np.array_equal(batch.data, file["data"][seen:seen + 3])
            time.sleep(0.002)
        assert np.array_equal(batch.weight, FRAMES[seen:seen + 3] > 3 if mask else np.ones(batch.data.shape, bool))
        seen += len(batch)
    assert seen == 20 and raw_files_open(tmp_path) == []


def test_descriptors_are_given_back(tmp_path):
    """Of more files than are open at a time, and where somebody stops in the middle."""
    source = joined(tmp_path, [FRAMES[i % 20:i % 20 + 1] for i in range(40)])

    class Joined(Scan):
        def open(self):
            return source

        def load_positions(self):
            return np.zeros((40, 2))
    most = 0
    for batch in Joined().initialize().batches(8):
        most = max(most, len(raw_files_open(tmp_path)))
        assert np.array_equal(batch.data, FRAMES[batch.frame % 20])
    assert 8 <= most <= 34 and raw_files_open(tmp_path) == []
    threads = {thread.name for thread in threading.enumerate()}
    batches = Joined().initialize().batches(8)
    next(batches)
    batches.close()
    assert raw_files_open(tmp_path) == [] and {thread.name for thread in threading.enumerate()} == threads
