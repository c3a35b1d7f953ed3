"""Losses and hangs that a review found, each with the case that showed it."""
import sys

import h5py
import numpy as np
import pytest

from ptyprep import OutputError, PtyScan, RecipeError, SourceError, recipe
from ptyprep.sources import ArrayFrames
from ptyprep.testing import mpirun, read_ptyd, run_on_ranks

FRAMES = np.random.default_rng(3).poisson(20, (12, 16, 18)).astype("u2")
POSITIONS = np.random.default_rng(4).uniform(-1e-6, 1e-6, (12, 2))


class Scan(PtyScan):
    """Frames in memory."""
    unreadable = ()
    stop_at = None

    def load_geometry(self):
        return {"energy": 7.0, "distance": 2.0, "psize": 75e-6, "center": (8, 9)}

    def load_positions(self):
        return POSITIONS

    def load(self, indices):
        if self.stop_at in indices:
            raise KeyboardInterrupt
        if lost := set(indices) & set(self.unreadable):
            raise SourceError(f"frame {min(lost)} is lost")
        return FRAMES[list(indices)]


def like(**answers):
    return type("Scan", (Scan,), {"__doc__": Scan.__doc__, **answers})


def run(cls, path, **pars):
    for _ in cls(dfile=path, frames_per_chunk=3, **pars).initialize().batches():
        pass


def interrupted(path, **pars):
    with pytest.raises(KeyboardInterrupt):
        run(like(stop_at=7), path, **pars)


def test_overwrite_replaces_only_prepared_files_and_nothing_that_is_read(tmp_path):
    table = tmp_path / "pos.npy"
    np.save(table, POSITIONS)
    np.save(tmp_path / "frames.npy", FRAMES)
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["data"] = FRAMES
    pars = {"intensities.file": tmp_path / "raw.h5", "positions.file": table, "energy": 7, "distance": 2,
            "psize": 75e-6, "center": (8, 9), "overwrite": True}
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    for out in before:
        with pytest.raises(OutputError, match="the file that is read|no prepared file"):
            recipe("hdf5")({**pars, "dfile": out}).initialize()
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("save", ["append", "link", "merge", "virtual"])
def test_a_run_that_overwrites_can_be_resumed(tmp_path, save):
    out = tmp_path / "s.ptyd"
    run(like(), out, save="append")
    interrupted(out, save=save, overwrite=True)
    run(like(), out, save=save, resume=True)
    assert np.array_equal(read_ptyd(out)["data"], FRAMES)


def test_a_run_cannot_be_resumed_in_another_mode(tmp_path):
    interrupted(tmp_path / "s.ptyd", save="link")
    with pytest.raises(OutputError, match="save: was link, is append"):
        run(like(), tmp_path / "s.ptyd", save="append", resume=True)


@pytest.mark.parametrize("policy, kept", [("drop", 11), ("mask", 12)])
def test_a_run_that_stopped_at_a_bad_frame_goes_on_without_it(tmp_path, policy, kept):
    out = tmp_path / "s.ptyd"
    with pytest.raises(SourceError) as err:
        run(like(unreadable=(8,)), out)
    assert any("bad_frames='drop' or 'mask'" in note for note in err.value.__notes__)
    run(like(unreadable=(8,)), out, bad_frames=policy, resume=True)
    assert len(read_ptyd(out)["data"]) == kept
    with pytest.raises(OutputError, match="parameter bad_frames: was drop, is mask"):
        interrupted(tmp_path / "t.ptyd", bad_frames="drop")
        run(like(), tmp_path / "t.ptyd", bad_frames="mask", resume=True)


def test_nothing_is_left_beside_a_file_after_a_crash_in_the_last_step(tmp_path, monkeypatch):
    import ptyprep.sinks.append
    out = tmp_path / "s.ptyd"

    def die(*_, **__):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(ptyprep.sinks.append, "publish", die)
        with pytest.raises(KeyboardInterrupt):
            run(like(), out)
    run(like(), out, resume=True)
    assert [p.name for p in tmp_path.iterdir()] == ["s.ptyd"]


@pytest.mark.parametrize("result, words", [
    ((FRAMES[:3], POSITIONS[:2]), "2 things"),
    ((FRAMES[:3], POSITIONS[:2], None), r"positions of shape \(2, 2\) for 3"),
    ((FRAMES[:3], None, np.ones((2, 16, 18))), r"weights of shape \(2, 16, 18\) for 3")])
def test_load_gives_as_many_positions_and_weights_as_frames(result, words):
    scan = like(load=lambda self, indices: FRAMES[list(indices)] if len(indices) == 1 else result)()
    with pytest.raises(RecipeError, match=words):
        next(scan.initialize().batches(3))


@pytest.mark.parametrize("bug", [KeyError("typo"), RuntimeError("wrong"), TypeError("no")])
def test_a_fault_of_the_recipe_is_no_bad_frame(bug):
    def load(self, indices):
        if 7 in indices:
            raise bug
        return FRAMES[list(indices)]
    with pytest.raises(type(bug)):
        list(like(load=load)(bad_frames="drop").initialize().batches(3))


def test_a_chunk_without_a_readable_frame_gives_no_package():
    scan = like(unreadable=(3, 4, 5))(bad_frames="drop").initialize()
    numbers = []
    while (package := scan.auto(3)) != scan.EOS:
        numbers.append((package["chunk"]["num"], package["chunk"]["indices"]))
    assert numbers == [(0, [0, 1, 2]), (1, [3, 4, 5]), (2, [6, 7, 8])]


def test_a_scan_that_is_prepared_again_keeps_its_frame_numbers(tmp_path):
    run(like(), tmp_path / "one.ptyd", frames="2::3")
    cls = recipe("ptyd")
    for _ in cls(source=tmp_path / "one.ptyd", dfile=tmp_path / "two.ptyd", frames="1:").initialize().batches():
        pass
    assert read_ptyd(tmp_path / "two.ptyd")["frame_ids"].tolist() == [5, 8, 11]


def test_what_cannot_be_stored_is_said_before_the_work(tmp_path, monkeypatch):
    from ptyprep.pipeline import provenance
    true = provenance.info
    monkeypatch.setattr(provenance, "info", lambda scan: {**true(scan), "a/b": 1})
    scan = like(load=lambda self, indices: pytest.fail("asked for frames") if len(indices) > 1 else FRAMES[:1])
    with pytest.raises(OutputError, match="holds a slash"):
        scan(dfile=tmp_path / "s.ptyd").initialize()


LOST = '''
import sys
from pathlib import Path
import numpy as np
from ptyprep import PtyScan
from ptyprep.sources import ArrayFrames

class Scan(PtyScan):
    "Its file is gone on one rank."
    def open(self):
        source = ArrayFrames(np.ones((9, 8, 8), "u2"))
        source.files = [Path("gone") if self.comm.rank == 1 else Path(sys.argv[0])]
        return source
    def load_geometry(self):
        return {"energy": 7.0, "distance": 2.0, "psize": 75e-6, "center": (4, 4)}
    def load_positions(self):
        return np.zeros((9, 2))

for batch in Scan(dfile=sys.argv[1]).initialize().batches(4):
    pass
'''


@pytest.mark.mpi
def test_a_file_that_only_one_rank_misses_hangs_nobody(tmp_path):
    assert mpirun(), "make test installs one"
    (tmp_path / "scan.py").write_text(LOST)
    job = run_on_ranks(3, sys.executable, tmp_path / "scan.py", tmp_path / "s.ptyd", timeout=60)
    assert job.returncode == 0 and (tmp_path / "s.ptyd").exists(), job.stderr


def test_array_frames_are_a_source():
    assert ArrayFrames(FRAMES).read([3], None).shape == (1, 16, 18)
