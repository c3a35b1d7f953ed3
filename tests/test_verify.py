"""`verify` says what is wrong and where; `merge` and `repair` save what can be read."""
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptyprep import OutputError, PtyScan, SourceError
from ptyprep.sinks import SINKS
from ptyprep.testing import read_ptyd
from ptyprep.verify import merge, problems

N = 10
FRAMES = np.random.default_rng(5).poisson(30, (N, 16, 16)).astype("u2")
FRAMES[4, 3, 3] = 2**16 - 1


class Scan(PtyScan):
    """Ten frames, one with an overflow."""

    def load_geometry(self):
        return {"energy": 7.0, "distance": 2.0, "psize": 75e-6, "center": (8, 8)}

    def load_positions(self):
        return np.arange(2.0 * N).reshape(N, 2) * 1e-7

    def load(self, indices):
        return FRAMES[list(indices)]


@pytest.fixture(params=SINKS)
def saved(request, tmp_path):
    return prepared(tmp_path / "s.ptyd", request.param)


def prepared(path, save, **pars):
    for _ in Scan(dfile=path, save=save, **pars).initialize().batches(4):
        pass
    return path


def holder(path, number=1, name="data"):
    """(file, dataset name) that really holds the data of a chunk."""
    with h5py.File(path) as file:
        group = file[f"chunks/{number}"] if str(number) in file["chunks"] else file["chunks/0"]
        node = group[name]
        if node.is_virtual:
            return Path(node.file.filename).parent / node.virtual_sources()[0].file_name, f"/{name}"
        return node.file.filename, node.name


def ruin(path, dataset, frame):
    """Change one byte of a stored frame."""
    with h5py.File(path) as file:
        at = file[dataset].id.get_chunk_info(frame).byte_offset + 3
    content = bytearray(Path(path).read_bytes())
    content[at] ^= 0xFF
    Path(path).write_bytes(content)


def command(*words):
    return subprocess.run([sys.executable, "-m", "ptyprep", *map(str, words)], capture_output=True, text=True,
                          timeout=60, check=False)


def test_what_was_just_written_is_whole(saved):
    assert list(problems(saved)) == []
    done = command("verify", saved)
    assert done.returncode == 0 and "whole" in done.stdout


@pytest.mark.parametrize("name", ["data", "weights"])
def test_a_changed_byte_is_found_where_it_is(saved, name):
    with h5py.File(saved) as file:
        number = len(file["chunks"]) > 1
    ruin(*holder(saved, int(number), name), 2)
    found = list(problems(saved))
    assert len(found) == 1 and found[0].startswith(f"chunk {number:d}: {name}: the checksums of 1 of")
    assert "the first is 2" in found[0]
    done = command("verify", saved)
    assert done.returncode == 1 and found[0] in done.stderr


@pytest.mark.parametrize("save", ["link", "virtual"])
def test_a_lost_file_is_named_and_the_rest_can_be_saved(tmp_path, save):
    path = prepared(tmp_path / "s.ptyd", save)
    lost = next(tmp_path.glob("s.*/000001*.h5" if save == "link" else "s.*/000001.rank*.h5"))
    lost.unlink()
    assert any(lost.name in what and what.startswith("chunk 1: ") for what in problems(path))
    with pytest.raises(SourceError, match="chunk 1.*--drop"):
        merge(path, tmp_path / "m.ptyd")
    assert not (tmp_path / "m.ptyd").exists()
    notes = merge(path, tmp_path / "m.ptyd", drop=True)
    assert len(notes) == 1 and "chunk 1" in notes[0]
    got = read_ptyd(tmp_path / "m.ptyd")
    kept = [0, 1, 2, 3, 8, 9]
    assert got["frame_ids"].tolist() == kept and np.array_equal(got["data"], FRAMES[kept])
    assert got["indices"].tolist() == list(range(6)) and list(problems(tmp_path / "m.ptyd")) == []


def test_parts_that_were_moved_are_found_again(tmp_path):
    path = prepared(tmp_path / "s.ptyd", "link")
    shutil.move(next(p for p in tmp_path.iterdir() if p.is_dir()), tmp_path / "elsewhere")
    assert len(list(problems(path))) == 4              # three parts and the count
    done = command("repair", path, tmp_path / "m.ptyd", "--parts", tmp_path / "elsewhere")
    assert done.returncode == 0, done.stderr
    assert np.array_equal(read_ptyd(tmp_path / "m.ptyd")["data"], FRAMES)


@pytest.mark.parametrize("change, words", [
    (lambda f: f["meta/num_frames"].write_direct(np.array(12)), "num_frames is 12, but the chunks that can"),
    (lambda f: f["meta/energy"].write_direct(np.array(-1.0)), "meta: energy is -1.0"),
    (lambda f: f["meta"].pop("distance"), "meta: no distance"),
    (lambda f: f["meta/psize"].attrs.pop("type"), "psize has no attribute type"),
    (lambda f: f["chunks/0/positions"].write_direct(np.full((4, 2), np.nan)), "positions of 4 frames are not finite"),
    (lambda f: f["chunks/0/indices"].write_direct(np.arange(4) + 7), "indices: the checksum is wrong"),
    (lambda f: f["chunks"].pop("1"), "chunk 1: it is not there, though later ones are"),
    (lambda f: f["info"].create_dataset("x", data=1).attrs.update(type="pickle"), "/info/x is a pickle")])
def test_what_is_wrong_is_said(tmp_path, change, words):
    path = prepared(tmp_path / "s.ptyd", "append")
    with h5py.File(path, "r+") as file:
        change(file)
    assert any(words in what for what in problems(path)), list(problems(path))


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "in").mkdir()
    path = prepared(tmp_path / "in" / "s.ptyd", "link")
    shutil.copytree(next(p for p in path.parent.iterdir() if p.is_dir()), tmp_path / "out")
    with h5py.File(path, "r+") as file:
        del file["chunks/0"]
        file["chunks/0"] = h5py.ExternalLink("../out/000000.h5", "/")
    assert any("leads out of the folder" in what for what in problems(path))


def test_a_file_of_ptypy_becomes_one_portable_chunk(tmp_path):
    """Chunks of many frames, float masks for each frame and no checksums, as PtyPy writes them."""
    path = tmp_path / "theirs.ptyd"
    with h5py.File(prepared(tmp_path / "s.ptyd", "append")) as ours, h5py.File(path, "w") as file:
        ours.copy("meta", file)
        for number in range(3):
            rows = slice(4 * number, min(4 * number + 4, N))
            group = file.create_group(f"chunks/{number}")
            group.create_dataset("data", data=FRAMES[rows].astype("i4"), compression="gzip", chunks=(2, 8, 16))
            group.create_dataset("weights", data=(FRAMES[rows] < 2**16 - 1).astype(float), compression="gzip")
            group["positions"], group["indices"] = np.full((rows.stop - rows.start, 2), 1e-6), np.arange(N)[rows]
    assert list(problems(path)) == []
    merge(path, tmp_path / "m.ptyd")
    got = read_ptyd(tmp_path / "m.ptyd")
    assert np.array_equal(got["data"], FRAMES) and got["data"].dtype == "i4"
    assert np.array_equal(got["weights"], FRAMES < 2**16 - 1) and list(problems(tmp_path / "m.ptyd")) == []


def test_merge_replaces_nothing_unasked(saved, tmp_path):
    (tmp_path / "m.ptyd").write_text("precious")
    with pytest.raises(OutputError, match="m.ptyd exists"):
        merge(saved, tmp_path / "m.ptyd")
    with pytest.raises(OutputError, match="is the file that is read"):
        merge(saved, saved, overwrite=True)
    done = command("merge", saved, tmp_path / "other.ptyd")
    assert done.returncode == 0 and np.array_equal(read_ptyd(tmp_path / "other.ptyd")["data"], FRAMES)
    done = command("verify", tmp_path / "m.ptyd")
    assert done.returncode == 1 and "not an HDF5 file" in done.stderr
