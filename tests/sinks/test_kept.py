"""Runs that earlier versions wrote, finished and interrupted, are read, verified, merged and resumed as they were.

tests/kept/write.py wrote them, in every way to save, on one rank and on three; what is in them follows from numbers.
"""
import json
import shutil
import sys
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptyprep import recipe
from ptyprep.ptyd.repair import merge
from ptyprep.ptyd.verify import problems
from ptyprep.testing import read_ptyd, run_on_ranks

KEPT = Path(__file__).parents[1] / "kept"
sys.path.insert(0, str(KEPT))
import kept_scan  # noqa: E402

SCAN = kept_scan.Kept
ARCHIVES = sorted(KEPT.glob("*.tar.xz"))
CASES = [*((mode, 1) for mode in ("append", "link", "merge", "virtual")),
         *((mode, 3) for mode in ("link", "merge", "virtual"))]
each = pytest.mark.parametrize(("mode", "ranks"), CASES, ids=lambda value: str(value))


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def kept(request, tmp_path_factory):
    """A folder in which the runs of one commit lie."""
    folder = tmp_path_factory.mktemp("kept")
    with tarfile.open(request.param) as archive:
        archive.extractall(folder, filter="data")
    return folder


def copied(kept, state, mode, ranks, to):
    """The output of such a run, in a folder where it may be changed."""
    shutil.copytree(kept / state / f"{mode}-{ranks}", to / "run")
    return to / "run" / "s.ptyd"


def expected():
    """What such a file holds. Its centre is in row 9, which lies in row 8 of a prepared frame: one is left out before
    the first, and one is padded after the last."""
    frames, good = kept_scan.raw(), kept_scan.weight() & (kept_scan.raw() != 2**16 - 1)
    assert good.sum() == 30 * 254 - 1           # one mask differs from the others
    return {"data": np.pad(frames[:, 1:], ((0, 0), (0, 1), (0, 0))),
            "weights": np.pad(good[:, 1:], ((0, 0), (0, 1), (0, 0))), "positions": kept_scan.positions(),
            "indices": np.arange(30), "frame_ids": np.arange(30)}


def differs(path):
    """What of a file is not as the numbers say."""
    made = read_ptyd(path)
    with h5py.File(path) as file:
        meta = {name: file["meta"][name][()] for name in ("num_frames", "energy", "distance", "center", "psize")}
    told = {"num_frames": 30, "energy": 7.0, "distance": 2.0, "center": (8, 8), "psize": 75e-6}
    said = [name for name, value in expected().items() if not np.array_equal(made[name], value)]
    return said + [name for name, value in told.items() if not np.array_equal(meta[name], np.broadcast_to(
        value, np.shape(meta[name])))] + list(problems(path))


def without_run(name):
    """What a file holds besides of when, where and how it was made; not the frames, which `differs` compares."""
    return not name.startswith(("chunks/", "info/run", "info/notes", "info/versions", "info/resume", "info/origins",
                                "info/dfile", "info/fingerprint"))


def content(path):
    """{name: text} of meta and info."""
    found = {}
    with h5py.File(path) as file:
        for group in ("meta", "info"):
            file[group].visititems(lambda name, node, group=group: isinstance(node, h5py.Dataset) and found.update(
                {f"{group}/{name}": str(node[()])}))
    return {name: text for name, text in found.items() if without_run(name)}


def test_what_is_kept_says_who_wrote_it(kept):
    assert len(json.loads((kept / "written_by.json").read_text())["commit"]) == 40
    for state in ("finished", "interrupted"):
        assert {path.name for path in (kept / state).iterdir()} == {f"{mode}-{ranks}" for mode, ranks in CASES}


def test_it_takes_little_room():
    assert ARCHIVES and all(path.stat().st_size < 300_000 for path in ARCHIVES)


@each
def test_a_finished_one_is_read_verified_and_merged(kept, tmp_path, mode, ranks):
    path = copied(kept, "finished", mode, ranks, tmp_path)
    assert differs(path) == []
    merge(path, tmp_path / "merged.ptyd")
    assert differs(tmp_path / "merged.ptyd") == []


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_of_a_chunk_that_lost_the_file_of_a_rank_the_frames_of_the_others_are_kept(kept, tmp_path, rank):
    path = copied(kept, "finished", "virtual", 3, tmp_path)
    files, size = sorted(path.parent.glob("s.*/000001.rank*.h5")), kept_scan.SIZE
    counts = [len(h5py.File(file)["data"]) for file in files]
    lost = np.arange(size, 2 * size)[sum(counts[:rank]):sum(counts[:rank + 1])]
    files[rank].unlink()
    [note] = merge(path, tmp_path / "m.ptyd", drop=True)
    assert f"{len(lost)} of the {size} frames of chunk 1" in note and files[rank].name in note
    made, whole = read_ptyd(tmp_path / "m.ptyd"), np.setdiff1d(np.arange(30), lost)
    assert made["frame_ids"].tolist() == whole.tolist() and list(problems(tmp_path / "m.ptyd")) == []
    assert all(np.array_equal(made[name], expected()[name][whole]) for name in ("data", "weights", "positions"))


@each
def test_a_finished_one_is_prepared_again_and_is_known_as_finished(kept, tmp_path, mode, ranks):
    path = copied(kept, "finished", mode, ranks, tmp_path)
    before = path.read_bytes()
    scan = resumed(path, mode, SCAN)
    assert scan.was_finished and path.read_bytes() == before
    recipe("ptyd")(source=path, dfile=tmp_path / "again.ptyd").initialize().prepare()
    assert differs(tmp_path / "again.ptyd") == []


def resumed(path, mode, cls):
    scan = cls(dfile=path, save=mode, resume=True, frames_per_chunk=kept_scan.SIZE)
    scan.initialize().prepare()
    return scan


def is_as_undisturbed(path, mode, folder):
    scan = SCAN(dfile=folder / "whole.ptyd", save=mode, frames_per_chunk=kept_scan.SIZE)
    scan.initialize().prepare()
    assert differs(path) == [] and content(path) == content(folder / "whole.ptyd")
    left = [file.name for file in path.parent.rglob("*") if file.name.endswith(".tmp")]
    return left == []


@each
def test_an_interrupted_one_is_resumed_to_what_an_undisturbed_run_gives(kept, tmp_path, mode, ranks, monkeypatch):
    path = copied(kept, "interrupted", mode, ranks, tmp_path)
    [folder] = path.parent.glob("s.*/")
    parts = {part: part.read_bytes() for part in folder.glob("??????*.h5") if part.name < "000002"}
    assert len([part for part in parts if "rank" not in part.name]) == 2
    loaded, load = [], SCAN.load
    monkeypatch.setattr(SCAN, "load", lambda scan, indices: loaded.extend(indices) or load(scan, indices))
    resumed(path, mode, SCAN)
    assert sorted(set(loaded[1:])) == list(range(2 * kept_scan.SIZE, 30))       # the first is looked at anyway
    assert is_as_undisturbed(path, mode, tmp_path)
    assert all(part.read_bytes() == content for part, content in parts.items() if folder.exists())


@pytest.mark.mpi
@pytest.mark.parametrize("mode", ["link", "merge", "virtual"])
def test_what_three_ranks_began_is_resumed_on_three(kept, tmp_path, mode):
    path = copied(kept, "interrupted", mode, 3, tmp_path)
    job = run_on_ranks(3, "-m", "ptyprep", "prepare", KEPT / "kept_scan.py", "-o", path, "--save", mode, "--resume",
                       "--frames_per_chunk", kept_scan.SIZE, timeout=60)
    assert job.returncode == 0, job.stderr
    assert is_as_undisturbed(path, mode, tmp_path)
