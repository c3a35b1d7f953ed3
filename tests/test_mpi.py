"""The verbs of `Solo` and `World`: the same answers, and no failure on any rank leaves another waiting."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ptyprep.parallel.mpi import LAUNCHERS, Solo, World, room, share
from ptyprep.testing import mpirun, run_on_ranks

HERE = Path(__file__).parent
needs_mpi = pytest.mark.skipif(mpirun() is None, reason="no mpirun here")
FAILING = {"ValueError": "bad luck", "SystemExit": "enough", "KeyboardInterrupt": "stop", "StopIteration": "dry",
           "Odd": "whose message raises ValueError"}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each of three ranks says became of each case of mpi/verbs.py."""
    folder = tmp_path_factory.mktemp("verbs")
    job = run_on_ranks(3, HERE / "mpi" / "verbs.py", folder, timeout=60)
    assert job.returncode == 0, job.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(3)]


def on_ranks(told, case):
    return [rank[case] for rank in told]


def gave(told, case):
    for kind, value in on_ranks(told, case):
        assert kind == "gave", value
    return [value for _, value in on_ranks(told, case)]


@needs_mpi
@pytest.mark.mpi
class TestThreeRanks:
    def test_know_who_they_are(self, told):
        assert gave(told, "who") == [["World", r, 3, r == 0] for r in range(3)]

    def test_learn_what_root_says(self, told):
        assert gave(told, "from_root") == [{"said by": 0, "a": 5}] * 3
        assert gave(told, "from_root array") == [list(range(50))] * 3
        assert gave(told, "from_root none") == [None] * 3

    def test_share_every_item_once_and_in_order(self, told):
        for shares, n in zip(zip(*gave(told, "share")), (2, 3, 5, 9, 10)):
            assert sum(shares, []) == list(range(2, n))
            sizes = list(map(len, shares))
            assert max(sizes) - min(sizes) <= 1

    def test_learn_what_each_says(self, told):
        assert gave(told, "each") == [[[0, ""], [1, "x"], [2, "xx"]]] * 3

    def test_add_up_in_rank_order(self, told):
        assert gave(told, "total") == [[0.1 + 0.1 + 0.1, (1.0 + 1e15) + 1e30]] * 3
        assert gave(told, "total of a number") == [3.0] * 3

    def test_are_dealt_their_own_piece(self, told):
        assert gave(told, "deal") == [{"for": r, "data": list(range(5 * r))} for r in range(3)]

    @pytest.mark.parametrize("case, pieces", [("deal too few", 2), ("deal too many", 4)])
    def test_are_all_told_when_the_pieces_are_not_theirs_in_number(self, told, case, pieces):
        for kind, message in on_ranks(told, case):
            assert kind in ("ValueError", "PeerError") and f"{pieces} pieces for 3 ranks" in message

    @pytest.mark.parametrize("case, dtype, counts", [
        ("rows u1", "|u1", (2, 3, 1)), ("rows u4", "<u4", (2, 3, 1)), ("rows f8", "<f8", (2, 3, 1)),
        ("rows, none on rank 1", "<u2", (2, 0, 1)), ("rows, none on root", "<u2", (0, 2, 1)),
        ("rows, none at all", "<u2", (0, 0, 0))])
    def test_bring_their_rows_to_root_in_rank_order(self, told, case, dtype, counts):
        values = [[value % (256 if dtype == "|u1" else 2**16)] * 6
                  for rank, n in enumerate(counts) for value in range(100 * rank, 100 * rank + n)]
        assert gave(told, case) == [[dtype, [len(values), 2, 3], values], None, None]

    def test_bring_rows_of_any_kind(self, told):
        assert gave(told, "rows ?")[0][:2] == ["|b1", [6, 2, 3]]
        assert gave(told, "rows of numbers")[0] == ["<i8", [6], [[0], [100], [101], [200], [201], [202]]]
        assert gave(told, "rows not contiguous")[0] == [[v + 10 * r for v in row] for r in range(3)
                                                        for row in ([0, 4], [2, 6])]

    @pytest.mark.parametrize("counts", [(2, 3, 1), (0, 2, 1), (2, 0, 0), (0, 0, 0)])
    def test_bring_pieces_to_root_in_rank_order(self, told, counts):
        pieces = [[rank] * (10 * i) for rank, n in enumerate(counts) for i in range(n)]
        assert gave(told, f"pieces {counts}") == [pieces, None, None]

    @pytest.mark.parametrize("case", ["rows of two kinds", "rows of two shapes"])
    def test_are_all_told_that_rows_do_not_fit_together(self, told, case):
        for kind, message in on_ranks(told, case):
            assert kind == "PeerError" and "different kinds" in message

    @pytest.mark.parametrize("failure", FAILING)
    @pytest.mark.parametrize("verb", ["from_root fails", "deal fails", "deal a piece fails"])
    def test_all_fail_when_root_does(self, told, verb, failure):
        self.check(on_ranks(told, f"{verb}: {failure}"), 0, failure)

    @pytest.mark.parametrize("failure", FAILING)
    @pytest.mark.parametrize("rank", range(3))
    def test_all_fail_when_one_does(self, told, rank, failure):
        ends = on_ranks(told, f"together fails on {rank}: {failure}")
        self.check(ends, rank, failure)
        assert all("measuring" in message for r, (_, message) in enumerate(ends) if r != rank)

    def check(self, ends, failed, failure):
        for rank, (kind, message) in enumerate(ends):
            assert kind == (failure if rank == failed else "PeerError")
            assert FAILING[failure] in message
            assert rank == failed or f"rank {failed}: {failure}" in message

    def test_go_on_when_nothing_failed(self, told):
        assert gave(told, "together") == ["all well"] * 3

    @pytest.mark.parametrize("verb, rank", [("from_root fails", 0), ("deal a piece fails", 0)])
    def test_all_fail_when_a_value_cannot_be_pickled(self, told, verb, rank):
        self.check_pickling(told, f"{verb}: unpicklable", rank)

    @pytest.mark.parametrize("rank", range(3))
    def test_all_fail_when_one_says_what_cannot_be_pickled(self, told, rank):
        self.check_pickling(told, f"each fails on {rank}: unpicklable", rank)

    def check_pickling(self, told, case, failed):
        for rank, (kind, message) in enumerate(on_ranks(told, case)):
            assert kind == ("TypeError" if rank == failed else "PeerError")
            assert "pickle" in message
            assert rank == failed or f"rank {failed}: TypeError" in message

    @pytest.mark.parametrize("case", ["from_root fails: unloadable", "deal a piece fails: unloadable",
                                      *[f"each fails on {rank}: unloadable" for rank in range(3)]])
    def test_all_fail_when_a_value_does_not_come_back(self, told, case):
        for kind, message in on_ranks(told, case):
            assert kind in ("RuntimeError", "PeerError") and "will not come back" in message

    @pytest.mark.parametrize("rank", range(3))
    @pytest.mark.parametrize("verb", ["from_root", "each", "total", "rows_to_root", "pieces_to_root", "deal", "on_node",
                                      "together", "nothing"])
    def test_hear_at_any_verb_of_a_rank_that_failed_between_two(self, told, verb, rank):
        for r, end in enumerate(on_ranks(told, f"alone before {verb}: {rank}")):
            assert end == (["ValueError", "bad luck"] if r == rank else
                           ["PeerError", f"outside: rank {rank}: ValueError: bad luck"])

    @pytest.mark.parametrize("rank", range(3))
    def test_hear_again_of_a_failure_that_was_caught(self, told, rank):
        for r, heard in enumerate(gave(told, f"caught: {rank}")):
            assert heard == ["bad luck" if r == rank else f"inside: rank {rank}: ValueError: bad luck"] * 2

    def test_are_still_together_after_all_failures(self, told):
        assert gave(told, "after all that") == [[0, 1, 2]] * 3

    def test_work_in_a_part_of_the_world(self, told):
        assert gave(told, "sub-communicator") == [["Solo", 0, [0], 0, [0, 1, 2, 3, 4]],
                                                  ["World", 1, [2, 1], 2, [2, 3, 4]], ["World", 0, [2, 1], 2, [0, 1]]]

    def test_know_what_those_on_their_node_say(self, told):
        assert gave(told, "on_node") == [[[0, 1, 2], [0]], [[0, 1, 2], [2, 1]], [[0, 1, 2], [2, 1]]]


@needs_mpi
@pytest.mark.mpi
@pytest.mark.parametrize("failure, code", [("sys.exit(3)", 3), ("comm.abort(5)", 5)])
def test_an_end_on_one_rank_ends_the_job(failure, code):
    script = f"import sys\nfrom ptyprep.parallel.mpi import room\ncomm = room()\n" \
             f"with comm.together('work'):\n    if comm.rank == 1: {failure}"
    assert run_on_ranks(3, "-c", script, timeout=60).returncode in (code, 1)


def test_one_rank_answers_as_many_do():
    comm = room()
    assert isinstance(comm, Solo) and (comm.rank, comm.size, comm.is_root) == (0, 1, True)
    assert comm.from_root(lambda a: a + 1, 5) == 6
    assert comm.share(range(3, 9)) == range(3, 9)
    assert comm.each("x") == ["x"]
    assert comm.total([1.5, 2]).tolist() == [1.5, 2]
    assert comm.rows_to_root(np.arange(3)).tolist() == [0, 1, 2]
    assert comm.pieces_to_root([b"a", b""]) == [b"a", b""]
    assert comm.deal(lambda: ["mine"]) == "mine"
    assert comm.on_node("x") == ["x"]
    with pytest.raises(KeyboardInterrupt), comm.together("work"):
        raise KeyboardInterrupt
    with pytest.raises(SystemExit) as end:
        comm.abort(7)
    assert end.value.code == 7


def test_one_rank_and_many_have_the_same_verbs():
    def verbs(cls):
        return {name for name in vars(cls) if not name.startswith("_")} - {"rank", "size", "is_root"}
    assert verbs(Solo) == verbs(World)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 10])
def test_shares_are_contiguous_and_differ_by_one_at_most(n, size):
    parts = [list(share(range(5, 5 + n), rank, size)) for rank in range(size)]
    assert sum(parts, []) == list(range(5, 5 + n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def run_alone(script, **env):
    clean = {k: v for k, v in os.environ.items() if k not in LAUNCHERS and not k.startswith(("OMPI", "PMI", "SLURM"))}
    return subprocess.run([sys.executable, "-c", script], env={**clean, **env}, capture_output=True, text=True,
                          timeout=60, check=False)


WITHOUT_MPI4PY = ("import sys; sys.modules['mpi4py'] = None\n"
                  "from ptyprep.parallel.mpi import room; print(type(room()).__name__)")


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_three_started_ranks_without_mpi4py_are_an_error_with_the_number(launcher):
    job = run_alone(WITHOUT_MPI4PY, **{launcher: "3"})
    assert job.returncode != 0
    assert "PeerError: the launcher started 3 ranks, but mpi4py" in job.stderr
    assert "pip install 'ptyprep[mpi]'" in job.stderr


def test_three_started_ranks_of_which_mpi4py_sees_one_are_an_error_with_both_numbers():
    fake = "import sys, types; mpi4py = sys.modules['mpi4py'] = types.ModuleType('mpi4py')\n" \
           "mpi4py.MPI = types.SimpleNamespace(COMM_WORLD=types.SimpleNamespace(size=1))\n"
    job = run_alone(fake + "from ptyprep.parallel.mpi import room; room()", PMI_SIZE="3")
    assert job.returncode != 0
    assert "PeerError: the launcher started 3 ranks, but mpi4py sees 1" in job.stderr


@pytest.mark.parametrize("env", [{}, {"OMPI_COMM_WORLD_SIZE": "1"}, {"SLURM_NTASKS": "16"}, {"PMI_SIZE": "many"}])
def test_one_started_rank_needs_no_mpi4py(env):
    # A batch shell has SLURM_NTASKS too, and runs one process.
    job = run_alone(WITHOUT_MPI4PY, **env)
    assert job.stdout == "Solo\n", job.stderr


def test_importing_the_package_starts_no_mpi():
    job = run_alone("import sys, ptyprep; ptyprep.PtyScan; assert 'mpi4py' not in sys.modules", PMI_SIZE="3")
    assert job.returncode == 0, job.stderr
