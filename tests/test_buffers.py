"""Memory that is taken again: never what somebody holds, never for another use, never without end."""
import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptyprep import Par, PtyScan
from ptyprep.parallel import buffers

UNIT = 1000


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(buffers, "SMALL", 1)


@given(steps=st.lists(st.one_of(st.tuples(st.just("take"), st.integers(1, 4), st.sampled_from(["frames", "chunks"])),
                                st.tuples(st.just("drop"), st.integers(0, 50), st.none())), max_size=60))
def test_no_two_arrays_share_memory_and_no_use_takes_that_of_another(steps):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buffers, "KEPT", 3)
        patch.setattr(buffers, "TOGETHER", 8 * UNIT)
        buffers._kept.clear()
        held = []
        for number, (what, n, use) in enumerate(steps):
            if what == "drop":
                held[n:n + 1] = []
                continue
            array = buffers.empty((n, UNIT), "u1", use)
            array[...] = number % 251
            held.append((array[:1] if number % 2 else array, number % 251))     # a view keeps all of it
            others = buffers._kept["chunks" if use == "frames" else "frames"]
            assert not any(np.shares_memory(array, memory) for memory in others)
            del array
        for array, number in held:
            assert (array == number).all()
        for kept in buffers._kept.values():
            assert len(kept) <= 3 or sum(memory.nbytes for memory in kept) <= 8 * UNIT


def test_many_small_pieces_wait_to_be_taken_again_and_few_large_ones(monkeypatch):
    for size, together, expected in ((1, 20, 20), (10, 20, buffers.KEPT)):
        monkeypatch.setattr(buffers, "TOGETHER", together * UNIT)
        buffers._kept.clear()
        held = [buffers.empty(size * UNIT, "u1") for _ in range(30)]
        assert len({array.ctypes.data for array in held}) == 30
        before = {memory.ctypes.data for memory in buffers._kept["frames"]}
        assert len(before) == expected
        held.clear()
        again = [buffers.empty(size * UNIT, "u1") for _ in range(30)]
        assert before <= {array.ctypes.data for array in again}


def test_what_nobody_needs_makes_room_for_other_sizes():
    buffers._kept.clear()
    for size in (UNIT, 5 * UNIT, 25 * UNIT, 125 * UNIT) * 3:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(buffers, "TOGETHER", 0)
            patch.setattr(buffers, "KEPT", 2)
            buffers.empty(size, "u1")
            assert len(buffers._kept["frames"]) <= 2 and buffers._kept["frames"][-1].nbytes == size
    assert np.prod([memory.nbytes for memory in buffers._kept["frames"]]) == 25 * 125 * UNIT ** 2


def test_a_scan_that_has_ended_keeps_no_memory():
    class Scan(PtyScan):
        """Eight frames."""
        energy, distance, psize, center = Par(8.0), Par(2.0), Par(75e-6), Par("fftshift")

        def load_positions(self):
            return np.zeros((8, 2))

        def load(self, indices):
            return np.ones((len(indices), 16, 16), "u2")
    scan = Scan().initialize()
    held = list(scan.batches(4))
    assert len(held) == 2 and not buffers._kept and held[0].data.all()
    scan = Scan().initialize()
    for batch in scan.batches(4):
        assert buffers._kept["frames"] and batch.data.all()
        break
    del batch
    gc.collect()        # who took the batches has had enough
    assert not buffers._kept
