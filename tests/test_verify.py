"""`verify` says what is wrong and where; `merge` and `repair` save what can be read."""
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptyprep import OutputError, PtyScan, SourceError
from ptyprep.ptyd.repair import merge
from ptyprep.ptyd.verify import problems
from ptyprep.sinks import SINKS
from ptyprep.sources import PtydFile
from ptyprep.testing import read_ptyd

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


@pytest.mark.slow
def test_what_was_just_written_is_whole(saved):
    assert list(problems(saved)) == []
    done = command("verify", saved)
    assert done.returncode == 0 and "whole" in done.stdout


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("save", ["link", "virtual"])
def test_a_lost_file_is_named_and_the_rest_can_be_saved(tmp_path, save):
    path = prepared(tmp_path / "s.ptyd", save)
    lost = next(tmp_path.glob("s.*/000001*.h5" if save == "link" else "s.*/000001.rank*.h5"))
    lost.unlink()
    assert any(lost.name in what and what.startswith("chunk 1: ") for what in problems(path))
    with pytest.raises(SourceError, match="chunk 1.*drop=True"):
        merge(path, tmp_path / "m.ptyd")
    assert not (tmp_path / "m.ptyd").exists()
    notes = merge(path, tmp_path / "m.ptyd", drop=True)
    assert len(notes) == 1 and "chunk 1" in notes[0]
    got = read_ptyd(tmp_path / "m.ptyd")
    kept = [0, 1, 2, 3, 8, 9]
    assert got["frame_ids"].tolist() == kept and np.array_equal(got["data"], FRAMES[kept])
    assert got["indices"].tolist() == list(range(6)) and list(problems(tmp_path / "m.ptyd")) == []


@pytest.mark.parametrize("name", ["data", "weights"])
def test_repair_leaves_out_damaged_frames_and_keeps_the_others(saved, tmp_path, name):
    with h5py.File(saved) as file:
        alone = len(file["chunks"]) == 1
    ruin(*holder(saved, 1, name), 2)
    damaged = 2 if alone else 6
    done = command("repair", saved, tmp_path / "m.ptyd")
    assert done.returncode == 1 and f"1 of the {N if alone else 4} frames of chunk {1 - alone}: {name}" in done.stderr
    assert not (tmp_path / "m.ptyd").exists()
    done = command("repair", saved, tmp_path / "m.ptyd", "--drop")
    assert done.returncode == 0 and f"left out 1 of the {N if alone else 4} frames of chunk" in done.stderr, done.stderr
    got, kept = read_ptyd(tmp_path / "m.ptyd"), np.delete(np.arange(N), damaged)
    assert got["frame_ids"].tolist() == kept.tolist() and np.array_equal(got["data"], FRAMES[kept])
    assert np.array_equal(got["weights"], FRAMES[kept] < 2**16 - 1) and got["indices"].tolist() == list(range(N - 1))
    assert np.array_equal(got["positions"], np.arange(2.0 * N).reshape(N, 2)[kept] * 1e-7)
    assert list(problems(tmp_path / "m.ptyd")) == []


def test_files_of_ranks_that_were_exchanged_are_other_frames(tmp_path):
    """Each is whole by itself."""
    path = prepared(tmp_path / "s.ptyd", "virtual")
    folder = next(tmp_path.glob("s.*/"))
    shutil.copy(folder / "000000.rank0000.h5", folder / "000001.rank0000.h5")
    found = list(problems(path))
    assert found == ["chunk 1: data: the files of the ranks hold other frames than were written, 4 of 4, the first is "
                     "0: was a file exchanged?", "chunk 1: weights: the files of the ranks hold other frames than "
                     "were written, 1 of 4, the first is 0: was a file exchanged?"]
    notes = merge(path, tmp_path / "m.ptyd", drop=True)
    assert len(notes) == 1 and read_ptyd(tmp_path / "m.ptyd")["frame_ids"].tolist() == [0, 1, 2, 3, 8, 9]


@pytest.mark.parametrize("there", [0, 3])
def test_frames_that_a_virtual_dataset_takes_from_nowhere_are_lost(tmp_path, there):
    """HDF5 gives them its fill value."""
    path = prepared(tmp_path / "s.ptyd", "append")
    with h5py.File(path, "r+") as file:
        file.move("chunks/1/data", "moved")
        layout = h5py.VirtualLayout((4, 16, 16), "u2")
        if there:
            layout[:there] = h5py.VirtualSource(path.name, "moved", (4, 16, 16))[:there]
        file["chunks/1"].create_virtual_dataset("data", layout)
    assert f"chunk 1: data: {4 - there} frames are in no file, the first is {there}" in list(problems(path))
    merge(path, tmp_path / "m.ptyd", drop=True)
    kept = [0, 1, 2, 3, *range(4, 4 + there), 8, 9]
    got = read_ptyd(tmp_path / "m.ptyd")
    assert got["frame_ids"].tolist() == kept and np.array_equal(got["data"], FRAMES[kept])


@pytest.mark.parametrize("shape", [(4, 1, 16, 16), (4, 2, 16, 16), (4, 16, 16, 1), (4, 256)])
def test_what_is_no_stack_of_frames_is_not_left_out_silently(tmp_path, shape):
    path = prepared(tmp_path / "s.ptyd", "append")
    with h5py.File(path, "r+") as file:
        del file["chunks/1/data"], file["chunks/1/weights"]
        file["chunks/1/data"] = np.resize(FRAMES[4:8], shape)
    with pytest.raises(SourceError, match=r"chunk 1: .*drop=True"):
        merge(path, tmp_path / "m.ptyd")
    assert len(merge(path, tmp_path / "m.ptyd", drop=True)) == 1
    assert read_ptyd(tmp_path / "m.ptyd")["frame_ids"].tolist() == [0, 1, 2, 3, 8, 9]


def test_positions_that_changed_are_not_read(saved):
    """Neither by whoever prepares the file once more."""
    with h5py.File(saved) as file:
        node = file["chunks/0/positions"]
        path, values = node.file.filename, node[()].tobytes()
        del node                # else HDF5 remembers what it was
    content = bytearray(Path(path).read_bytes())
    content[content.index(values) + 17] ^= 1
    Path(path).write_bytes(content)
    assert any("positions: the checksum is wrong" in what for what in problems(saved))
    with pytest.raises(SourceError, match="chunk 0: the checksum of positions is wrong.*drop=True"):
        PtydFile(saved)


@pytest.mark.slow
def test_parts_that_were_moved_are_found_again(tmp_path):
    path = prepared(tmp_path / "s.ptyd", "link")
    shutil.move(next(p for p in tmp_path.iterdir() if p.is_dir()), tmp_path / "elsewhere")
    assert len(list(problems(path))) == 2              # the parts and the count
    done = command("repair", path, tmp_path / "m.ptyd", "--parts", tmp_path / "elsewhere")
    assert done.returncode == 0, done.stderr
    assert np.array_equal(read_ptyd(tmp_path / "m.ptyd")["data"], FRAMES)


@pytest.mark.parametrize("change, words", [
    (lambda f: f["meta/num_frames"].write_direct(np.array(12)), "num_frames is 12, but the chunks that can"),
    (lambda f: f["meta/energy"].write_direct(np.array(-1.0)), "meta: energy is -1; expected"),
    (lambda f: f["meta"].pop("distance"), "meta: no distance"),
    (lambda f: f["meta/psize"].attrs.pop("type"), "psize has no attribute type"),
    (lambda f: f["chunks/0/positions"].write_direct(np.full((4, 2), np.nan)), "positions of 4 frames are not finite"),
    (lambda f: f["chunks/0/indices"].write_direct(np.arange(4) + 7), "indices: the checksum is wrong"),
    (lambda f: f["chunks"].pop("1"), "chunk 1: it is not there"),
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("save", ["link", "virtual"])
def test_links_to_parts_that_were_moved_are_mended(tmp_path, save):
    path = prepared(tmp_path / "s.ptyd", save)
    whole, folder = read_ptyd(path), next(p for p in tmp_path.iterdir() if p.is_dir())
    (tmp_path / "new").mkdir()
    folder.rename(tmp_path / "new" / "parts")
    words = ("repair", path, tmp_path / "new" / "s.ptyd", "--parts", tmp_path / "new" / "parts", "--links")
    done = command(*words)
    assert done.returncode == 0, done.stderr
    (tmp_path / "new").rename(tmp_path / "newer")       # as a whole
    assert list(problems(tmp_path / "newer" / "s.ptyd")) == []
    again = read_ptyd(tmp_path / "newer" / "s.ptyd")
    assert all(np.array_equal(again[name], whole[name]) for name in whole)
    with h5py.File(tmp_path / "newer" / "s.ptyd") as file:
        assert file["chunks"].get("0", getlink=True).filename == "parts/000000.h5"
        assert file.attrs["run"] == folder.name


@pytest.mark.slow
@pytest.mark.parametrize("save", ["link", "virtual"])
def test_parts_of_another_run_are_not_taken(tmp_path, save):
    ours, other = (prepared(tmp_path / name, save) for name in ("ours.ptyd", "other.ptyd"))
    folder, foreign = (next(tmp_path.glob(f"{path.stem}.*/")) for path in (ours, other))
    shutil.rmtree(folder)
    for words in (("--parts", foreign), ("--parts", foreign, "--links"), ("--parts", foreign, "--drop")):
        done = command("repair", ours, tmp_path / "m.ptyd", *words)
        assert done.returncode == 1 and not (tmp_path / "m.ptyd").exists()
        assert f"is a part of another run, {foreign.name}; expected one of {folder.name}" in done.stderr
    foreign.rename(folder)          # under the right name
    assert f"is a part of another run, {foreign.name}" in next(problems(ours))
    with pytest.raises(SourceError, match="is a part of another run"):
        PtydFile(ours)


def test_parts_that_were_exchanged_are_not_taken(tmp_path):
    path = prepared(tmp_path / "s.ptyd", "link")
    folder = next(tmp_path.glob("s.*/"))
    (folder / "000000.h5").rename(folder / "x")
    (folder / "000001.h5").rename(folder / "000000.h5")
    (folder / "x").rename(folder / "000001.h5")
    assert list(problems(path)) == ["chunk 0: indices are not 0 to 3, but 4 to 7: in the wrong place?",
                                    "chunk 1: indices are not 4 to 7, but 0 to 3: in the wrong place?"]
    with pytest.raises(SourceError, match="chunk 0: indices are not 0 to 3"):
        merge(path, tmp_path / "m.ptyd")
    assert len(merge(path, tmp_path / "m.ptyd", drop=True)) == 2
    assert read_ptyd(tmp_path / "m.ptyd")["frame_ids"].tolist() == [8, 9]


def test_one_lost_part_is_one_problem_and_the_count(tmp_path):
    path = prepared(tmp_path / "s.ptyd", "link")
    (next(tmp_path.glob("s.*/")) / "000001.h5").unlink()
    first, count = problems(path)
    assert first.startswith("chunk 1: its part") and "num_frames is 10" in count


def test_parts_in_the_working_directory_are_not_taken(tmp_path, monkeypatch):
    """HDF5 would."""
    (tmp_path / "scan").mkdir()
    path = prepared(tmp_path / "scan" / "s.ptyd", "link")
    shutil.move(next((tmp_path / "scan").glob("s.*/")), tmp_path)
    monkeypatch.chdir(tmp_path)
    with h5py.File(path) as file:
        assert file["chunks"].get("0") is not None
    with pytest.raises(SourceError, match="none of its 3 chunks is there yet"):
        PtydFile(path)
    assert "chunks 0 to 2: not there" in next(problems(path))


@pytest.mark.slow
@pytest.mark.parametrize("options, words", [
    (("--parts", "elsewhere", "--links"), "elsewhere is not in .*links must not lead out of the folder of m.ptyd"),
    (("--parts", "below", "--links"), "chunks 0 to 2: not there: still being written, interrupted .* or elsewhere"),
    (("--links",), "--links needs --parts"),
    (("--parts", "below", "--links", "--drop"), "it cannot drop chunks")])
def test_links_that_cannot_be_mended(tmp_path, options, words):
    path = prepared(tmp_path / "s.ptyd", "link")
    (tmp_path / "below").mkdir()
    (tmp_path.parent / "elsewhere").mkdir(exist_ok=True)
    options = [{"below": tmp_path / "below", "elsewhere": tmp_path.parent / "elsewhere"}.get(o, o) for o in options]
    done = command("repair", path, tmp_path / "m.ptyd", *options)
    assert done.returncode in (1, 2) and re.search(words, done.stderr), done.stderr
    assert not (tmp_path / "m.ptyd").exists()
