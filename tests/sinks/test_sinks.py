"""`.ptyd` as FORMATS.md says, seen by a reader that knows PtyPy's rules and nothing of ptyprep."""
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  for compression="bslz4"
import in_memory
import numpy as np
import pytest

from ptyprep import EOS, Par, PtyScan
from ptyprep.errors import OutputError, ParameterError, RecipeError, SourceError
from ptyprep.ptyd.verify import problems
from ptyprep.sinks import SINKS
from ptyprep.sinks.disk import Disk
from ptyprep.testing import read_ptyd

N, SHAPE = 11, (16, 16)
FRAMES = np.random.default_rng(1).poisson(5, (N, *SHAPE)).astype("u2")
PLACES = np.random.default_rng(2).normal(size=(N, 2)) * 1e-6
DAMAGED = FRAMES[5].tobytes()[:32]      # bytes that are in the second of the chunks of four frames
PER_FRAME = {"data": (3, "array"), "indices": (1, "arraylist"), "positions": (2, "array"), "frame_ids": (1, "array")}

GROWING = ("link", "virtual")           # the others are there only at the end


class Scan(PtyScan):
    """Frames of this module."""
    energy, distance, psize, center = Par(8.0), Par(2.0), Par(75e-6), Par("fftshift")
    frames_of_scan, broken, fail_at = FRAMES, (), None

    def load_positions(self):
        return PLACES

    def load(self, indices):
        if self.fail_at in indices:
            raise RuntimeError("the beam is gone")
        if set(indices) & set(self.broken):
            raise SourceError(f"frame {min(set(indices) & set(self.broken))} is broken")
        return self.frames_of_scan[list(indices)]


class Uneven(Scan):
    """One pixel overflows in frame 7 alone, another in all."""
    frames_of_scan = FRAMES.copy()
    frames_of_scan[7, 3, 4] = frames_of_scan[:, 8, 9] = 2**16 - 1


class Even(Scan):
    """One pixel overflows in all frames, and the mask takes another one."""
    frames_of_scan = FRAMES.copy()
    frames_of_scan[:, 8, 9] = 2**16 - 1

    def load_weight(self):
        good = np.ones(SHAPE, bool)
        good[0, 0] = False
        return good


def prepare(path, save="append", recipe=Scan, frames=4, **pars):
    scan = recipe(dfile=path, save=save, **pars).initialize()
    for _ in scan.batches(frames):
        pass
    return scan


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def read_as_ptypy(path):
    """What PtyPy finds: its rules, asserted. Chunks that are not there yet are None to it, and counted no further."""
    with h5py.File(path, "r") as file:
        assert text(file.attrs["h5rw_version"]) == "0.1" and {"ctime", "mtime"} <= set(file.attrs)
        meta = {}
        for name, node in file["meta"].items():
            assert isinstance(node, h5py.Dataset) and text(node.attrs["type"]), name
            kind, value = text(node.attrs["type"]), node[()]
            meta[name] = None if kind == "None" else text(value) if kind == "string" else value
        assert {"num_frames", "shape"} <= set(meta) and isinstance(meta["num_frames"], np.integer)
        names = sorted(file["chunks"], key=int)         # every name must be a number
        assert names == [str(i) for i in range(len(names))] and "0" in names
        chunks = []
        for name in names:
            link = file["chunks"].get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                assert not os.path.isabs(link.filename) and link.path == "/"
            chunk = file["chunks"].get(name)
            if chunk is None:
                chunks.append(None)
                continue
            assert not any(isinstance(node, h5py.Group) for node in chunk.values())
            frames = {len(node) for node in chunk.values()}
            assert len(frames) == 1, f"datasets of chunk {name} have {frames} frames"
            chunks.append({key: node[()] for key, node in chunk.items()})
            assert {text(node.attrs["type"]) for node in chunk.values()} <= {"array", "arraylist"}
        there = [c is not None for c in chunks]
        assert there == sorted(there, reverse=True), "a chunk is there before one that comes earlier"
        chunks = [c for c in chunks if c is not None]
        assert len({tuple(sorted(c)) for c in chunks}) <= 1, "chunks hold different datasets"
    return meta, chunks


def joined(chunks, name):
    return np.concatenate([c[name] for c in chunks])


# --- the tree -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("save", SINKS)
def test_the_tree_is_as_ptypy_has_it(tmp_path, save):
    prepare(tmp_path / "s.ptyd", save, label="S7")
    meta, chunks = read_as_ptypy(tmp_path / "s.ptyd")
    assert [len(c["data"]) for c in chunks] == ([11] if save == "merge" else [4, 4, 3])
    assert np.array_equal(joined(chunks, "data"), FRAMES) and chunks[0]["data"].dtype == "u2"
    assert np.array_equal(joined(chunks, "positions"), PLACES)
    assert joined(chunks, "indices").tolist() == joined(chunks, "frame_ids").tolist() == list(range(N))
    expected = set(PER_FRAME) | ({"weights"} if save in GROWING else set())
    assert set(chunks[0]) == expected
    weight2d = meta.pop("weight2d", None)
    assert (weight2d is None) == (save in GROWING)
    if save in GROWING:
        assert joined(chunks, "weights").dtype == "u1" and joined(chunks, "weights").all()
    else:
        assert weight2d.dtype == bool and weight2d.shape == SHAPE and weight2d.all()
    assert {k: np.asarray(v).tolist() for k, v in meta.items()} == {
        "version": 0.1, "num_frames": N, "label": "S7", "shape": [16, 16], "psize": [75e-6, 75e-6], "energy": 8.0,
        "distance": 2.0, "center": [8.0, 8.0]}
    with h5py.File(tmp_path / "s.ptyd") as file:
        assert {k: file[k].attrs["type"] for k in file} == {"chunks": "dict", "meta": "dict", "info": "dict"}
        kinds = {k: (v.attrs["type"], v.dtype.kind + str(v.dtype.itemsize)) for k, v in file["meta"].items()}
        assert kinds["version"] == kinds["energy"] == kinds["distance"] == ("scalar", "f8")
        assert kinds["num_frames"] == ("scalar", "i8") and kinds["label"][0] == "string"
        assert kinds["shape"] == ("arraytuple", "i8") and kinds["center"] == kinds["psize"] == ("arraytuple", "f8")
        for name, (axes, kind) in PER_FRAME.items():
            node = file[f"chunks/0/{name}"]
            assert node.attrs["type"] == kind and node.ndim == axes
        assert file["chunks/0/indices"].dtype == file["chunks/0/frame_ids"].dtype == "i8"
        assert file["chunks/0/positions"].dtype == "f8"
        assert file["chunks/0/data"].chunks == (None if save == "virtual" else (1, 16, 16))
        if save not in GROWING:
            assert file["chunks/0"].attrs["type"] == "dict"
        every = []
        file["info"].visititems(lambda name, node: every.append((name, node.attrs.get("type"))))
        assert every and all(kind and kind != "pickle" for _, kind in every)


@pytest.mark.parametrize("save", SINKS)
def test_info_says_how_the_file_came_to_be(tmp_path, save):
    prepare(tmp_path / "s.ptyd", save, recipe=Scan, rebin=2, threads=1)
    with h5py.File(tmp_path / "s.ptyd") as file:
        info = file["info"]
        assert info["rebin"][()] == 2 and info["origins/rebin"][()] == b"keyword"
        assert "label" not in info["origins"]               # a default
        assert info["orientation"].attrs["type"] == "arraytuple" and info["orientation"].dtype == bool
        assert info["energy"][()] == 8.0 and info["psize"][()].tolist() == [75e-6] * 2 and info["recipe"][()] == b"scan"
        assert np.array_equal(info["positions_scan"], PLACES)
        assert set(info["versions"]) == {"ptyprep", "numpy", "h5py", "hdf5", "python"}
        assert info["bad_frames/frame_ids"].shape == (0,)


@pytest.mark.parametrize("save", SINKS)
def test_masks_are_folded_into_one_only_when_all_are_equal(tmp_path, save):
    prepare(tmp_path / "u.ptyd", save, Uneven)
    meta, chunks = read_as_ptypy(tmp_path / "u.ptyd")
    assert "weight2d" not in meta
    good = np.ones((N, *SHAPE), bool)
    good[7, 3, 4] = good[:, 8, 9] = False
    assert np.array_equal(joined(chunks, "weights") > 0, good) and joined(chunks, "weights").dtype == "u1"

    prepare(tmp_path / "e.ptyd", save, Even)
    meta, chunks = read_as_ptypy(tmp_path / "e.ptyd")
    good = np.ones(SHAPE, bool)
    good[8, 9] = good[0, 0] = False
    if save not in GROWING:
        assert np.array_equal(meta["weight2d"], good) and "weights" not in chunks[0]
    else:
        assert (joined(chunks, "weights") == good).all()


@pytest.mark.parametrize("save", SINKS)
@pytest.mark.parametrize("policy, kept", [("drop", [0, 1, 2, 4, 5, 6, 8, 9, 10]), ("mask", list(range(N)))])
def test_bad_frames_shift_no_other(tmp_path, save, policy, kept):
    class Broken(Scan):
        """Two frames cannot be read."""
        broken = (3, 7)
    prepare(tmp_path / "s.ptyd", save, Broken, bad_frames=policy)
    meta, chunks = read_as_ptypy(tmp_path / "s.ptyd")
    assert meta["num_frames"] == len(kept)
    assert joined(chunks, "frame_ids").tolist() == kept and joined(chunks, "indices").tolist() == list(range(len(kept)))
    assert np.array_equal(joined(chunks, "positions"), PLACES[kept])
    good = [i for i in range(len(kept)) if kept[i] not in (3, 7)]
    assert np.array_equal(joined(chunks, "data")[good], FRAMES[kept][good])
    if policy == "mask":
        assert not joined(chunks, "weights")[[3, 7]].any() and joined(chunks, "weights")[good].all()
    with h5py.File(tmp_path / "s.ptyd") as file:
        assert file["info/bad_frames/frame_ids"][()].tolist() == [3, 7]
        assert b"frame 3 is broken" in file["info/bad_frames/reasons/00000"][()]


# --- compression --------------------------------------------------------------------------------------

READ_BLOCKED = textwrap.dedent("""
    import sys
    sys.modules["hdf5plugin"] = sys.modules["bitshuffle"] = None        # importing either is an error
    import h5py, numpy as np
    with h5py.File(sys.argv[1]) as f:
        print(sum(int(c["data"][()].sum()) + (int(c["weights"][()].sum()) if "weights" in c else 0)
                  for c in f["chunks"].values()))
""")


@pytest.mark.slow
@pytest.mark.parametrize("save", SINKS)
@pytest.mark.parametrize("compression, plain", [("portable", True), ("none", True), ("bslz4", False)])
def test_who_can_read_it(tmp_path, save, compression, plain):
    prepare(tmp_path / "s.ptyd", save, compression=compression)
    _, chunks = read_as_ptypy(tmp_path / "s.ptyd")
    assert np.array_equal(joined(chunks, "data"), FRAMES)
    env = {**os.environ, "HDF5_PLUGIN_PATH": str(tmp_path)}
    job = subprocess.run([sys.executable, "-c", READ_BLOCKED, tmp_path / "s.ptyd"], capture_output=True, text=True,
                         env=env,
                         timeout=60)
    if plain:
        assert job.returncode == 0, job.stderr
        assert int(job.stdout) == FRAMES.sum() + (FRAMES.size if save in GROWING else 0)
    else:
        assert job.returncode != 0 and "plugin" in job.stderr


@pytest.mark.parametrize("save", SINKS)
def test_the_kind_of_number_is_fixed(tmp_path, save):
    class Fickle(Scan):
        """Integers, then floats."""

        def load(self, indices):
            return FRAMES[list(indices)].astype("f4" if min(indices) > 3 else "u2")
    with pytest.raises(RecipeError, match="float32 for scan points 4 to 7, and uint16 for the first.*one kind"):
        prepare(tmp_path / "s.ptyd", save, Fickle)


# --- safety -------------------------------------------------------------------------------------------

def names(folder):
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("save", SINKS)
def test_a_finished_output_is_kept_unless_overwrite(tmp_path, save):
    out = tmp_path / "s.ptyd"
    prepare(out, save)
    before, there = out.read_bytes(), names(tmp_path)
    with pytest.raises(OutputError, match="s.ptyd exists; choose another name, or set overwrite"):
        prepare(out, save)
    assert prepare(out, save, resume=True).was_finished
    with pytest.raises(OutputError, match="is finished, and of another scan: .*parameter rebin: was 1, is 2"):
        prepare(out, save, resume=True, rebin=2)
    assert out.read_bytes() == before and names(tmp_path) == there
    for again in SINKS:                         # each way replaces each other, and leaves nothing of the old
        prepare(out, again, Even, overwrite=True)
        assert np.array_equal(joined(read_as_ptypy(out)[1], "data"), Even.frames_of_scan)
        folders = [p for p in tmp_path.iterdir() if p.is_dir()]
        assert len(folders) == (again in GROWING) and len(list(tmp_path.iterdir())) == 1 + len(folders)


@pytest.mark.parametrize("save", SINKS)
@pytest.mark.parametrize("fail_at", [0, 3])
def test_a_failure_before_the_first_chunk_leaves_nothing(tmp_path, save, fail_at):
    class Failing(Scan):
        """Fails early."""
    Failing.fail_at = fail_at
    with pytest.raises(RuntimeError, match="beam is gone"):
        prepare(tmp_path / "s.ptyd", save, Failing)
    assert names(tmp_path) == []


@pytest.mark.parametrize("save", SINKS)
@pytest.mark.parametrize("where", ["write_stack", "os.fsync", "os.mkdir", "os.ftruncate", "end_main"])
def test_a_failure_while_the_first_chunk_is_written_leaves_nothing(tmp_path, save, where, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")
    if where.startswith("os."):
        monkeypatch.setattr(where, full)
    else:
        for module in ("chunks", "append", "link", "merge", "virtual"):
            monkeypatch.setattr(f"ptyprep.sinks.{module}.{where}", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        prepare(tmp_path / "s.ptyd", save)
    if where == "end_main":           # finished chunks stay, for resume
        [folder] = tmp_path.iterdir()
        assert "000000.h5" in names(folder) and not list(folder.glob("*.tmp"))
    else:
        assert names(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("bad_frames", ["drop", "mask"])
@pytest.mark.parametrize("recipe", [Uneven, Even])
@pytest.mark.parametrize("save", SINKS)
def test_frames_that_nobody_looks_at_are_saved_as_others_are(tmp_path, save, recipe, bad_frames):
    class Corrected(recipe):
        """Three frames cannot be read, and the others are made larger."""
        broken = (0, 5, 6)

        def correct(self, raw, weights, common):
            return raw * np.float32(1.5), weights
    prepare(tmp_path / "seen.ptyd", save, Corrected, bad_frames=bad_frames)
    done = []
    scan = Corrected(dfile=tmp_path / "unseen.ptyd", save=save, bad_frames=bad_frames).initialize()
    scan.prepare(4, done.append)
    seen, unseen = read_ptyd(tmp_path / "seen.ptyd"), read_ptyd(tmp_path / "unseen.ptyd")
    assert all(np.array_equal(seen[name], unseen[name]) for name in seen) and len(seen["data"]) == sum(done)
    kept = [i for i in range(len(FRAMES)) if i not in Corrected.broken]
    rows = kept if bad_frames == "mask" else slice(None)
    assert np.array_equal(unseen["data"][rows], recipe.frames_of_scan[kept] * np.float32(1.5))
    assert len(scan.bad) == 3 and list(problems(tmp_path / "unseen.ptyd")) == []


def test_what_is_not_saved_has_to_be_looked_at():
    with pytest.raises(ParameterError, match="set dfile, or take them from batches"):
        Scan().initialize().prepare()


@pytest.mark.slow
@pytest.mark.parametrize("damage", [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes()[:-100]),
    lambda path: path.write_bytes(path.read_bytes().replace(DAMAGED, bytes(len(DAMAGED)))),
    lambda path: path.unlink(),
])
@pytest.mark.parametrize("name", ["000001.h5", "growing.*"])
@pytest.mark.parametrize("save", ["append", "merge", "link"])
def test_a_part_that_did_not_outlive_the_machine_is_made_again(tmp_path, save, name, damage):
    class Stopped(Scan):
        """Ends in the last chunk, the first time."""
        fail_at = N - 1
    prepare(tmp_path / "whole.ptyd", save)
    out = tmp_path / "s.ptyd"
    with pytest.raises(RuntimeError):
        prepare(out, save, Stopped, compression="none")
    [folder] = tmp_path.glob("s.*/")
    assert DAMAGED in b"".join(path.read_bytes() for path in folder.iterdir())
    for path in list(folder.glob(name)):        # link has no growing file
        damage(path)
    Stopped.fail_at = None
    prepare(out, save, Stopped, compression="none", resume=True)
    whole, made = read_ptyd(tmp_path / "whole.ptyd"), read_ptyd(out)
    assert all(np.array_equal(whole[name], made[name]) for name in whole) and list(problems(out)) == []


def stopped(out, save, recipe=Scan, **pars):
    """The folder of a run that ended in the last chunk."""
    class Stopped(recipe):
        """Fails at the last frame."""
        fail_at = N - 1
    with pytest.raises(RuntimeError):
        prepare(out, save, Stopped, **pars)
    return next(out.parent.glob("s.*/"))


def resumed(out, save, recipe=Scan):
    """Whether the run is resumed to what an undisturbed one gives."""
    class Stopped(recipe):
        """Does not fail."""
    prepare(out, save, Stopped, resume=True)
    prepare(out.with_name("whole.ptyd"), save, recipe)
    whole, made = read_ptyd(out.with_name("whole.ptyd")), read_ptyd(out)
    return all(np.array_equal(whole[name], made[name]) for name in whole) and list(problems(out)) == []


@pytest.mark.slow
@pytest.mark.parametrize("cut", [b'{"chunk": 2, "fram', b'{"chunk": 2, "frames": 3}', b"\0" * 40])
@pytest.mark.parametrize("save", SINKS)
def test_a_log_that_was_cut_off_is_gone_on_with(tmp_path, save, cut):
    out = tmp_path / "s.ptyd"
    for _ in range(2):          # the next line does not stick to it
        folder = stopped(out, save, **({"resume": True} if out.exists() or list(tmp_path.glob("s.*/")) else {}))
        with open(folder / "log.jsonl", "ab") as log:
            log.write(cut)
    assert resumed(out, save)


@pytest.mark.slow
@pytest.mark.parametrize("value", [0, 2**64 - 1, 2**33])
@pytest.mark.parametrize("save", ["append", "merge"])
def test_places_that_were_not_written_are_not_believed(tmp_path, save, value):
    folder = stopped(tmp_path / "s.ptyd", save)
    with h5py.File(folder / "000001.h5", "r+") as part:
        part["places"][...] = np.uint64(value)
    assert resumed(tmp_path / "s.ptyd", save)


@pytest.mark.parametrize("column", ["indices", "frame_ids", "positions"])
@pytest.mark.parametrize("save", SINKS)
def test_columns_that_were_not_written_are_not_believed(tmp_path, save, column):
    folder = stopped(tmp_path / "s.ptyd", save)
    with h5py.File(folder / "000001.h5", "r+") as part:
        part[column][2] += 1
    assert resumed(tmp_path / "s.ptyd", save)


@pytest.mark.slow
@pytest.mark.parametrize("changed", [None, 0, 1, 2, -1, 2**40])
@pytest.mark.parametrize("save", ["append", "merge"])
def test_masks_that_frames_share_are_one_until_the_end(tmp_path, save, changed):
    folder = stopped(tmp_path / "s.ptyd", save, Uneven)
    with h5py.File(folder / "000001.h5", "r+") as part:     # frames 4 to 7, and 7 is the one that differs
        assert part["which"][()].tolist() == [0, 0, 0, 1] and len(part["weights"]) == 2
        if changed is not None:
            part["which"][2] = changed
    with h5py.File(folder / "000000.h5") as part:
        assert len(part["weights"]) == 1
    assert resumed(tmp_path / "s.ptyd", save, Uneven)


@pytest.mark.slow
@pytest.mark.parametrize("save", ["append", "merge"])
def test_growing_files_do_not_pile_up(tmp_path, save, monkeypatch):
    folder = stopped(tmp_path / "s.ptyd", save)
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr("ptyprep.sinks.disk.Disk.flush_to_disk", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
            with pytest.raises(OutputError, match="No space left"):
                prepare(tmp_path / "s.ptyd", save, type("Stopped", (Scan,), {"__doc__": "As before."}), resume=True)
        assert len(list(folder.glob("growing.*"))) == 1
    assert resumed(tmp_path / "s.ptyd", save)


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("save", ["append", "merge"])
def test_a_flush_that_fails_is_said_whichever_it_is(tmp_path, save, ahead, monkeypatch):
    """It is under way while the next chunk is prepared, and the last one while the file is ended."""
    class Stopped(Scan):
        """Does not fail."""
    flush, calls, fails, out = os.fdatasync, [], None, tmp_path / "s.ptyd"

    def told(file):
        calls.append(file)
        if len(calls) == fails:
            raise OSError(5, "Input/output error")
        flush(file)
    monkeypatch.setattr(os, "fdatasync", told)
    scan = prepare(out, save, Stopped)
    chunks, out = -(-N // 4), tmp_path / "t.ptyd"
    assert len(calls) == chunks + 1 and scan.frames_done == N       # the empty file, too
    for number in range(1, chunks + 2):
        fails = number
        calls.clear()
        scan = Stopped(dfile=out, save=save, overwrite=True).initialize()
        with pytest.raises(OutputError, match=f"{out.name} cannot be written: Input/output error"):
            for _ in scan.batches(4) if ahead else iter(lambda: scan.auto(4), EOS):     # noqa: B023
                pass
        assert not out.exists()
    assert resumed(out, save)


@pytest.mark.parametrize("save", SINKS)
def test_a_hook_may_keep_and_change_what_it_was_given(tmp_path, save):
    class Keeps(Scan):
        """The second half has no good pixel; it is told by writing into what was given before."""
        kept = ()

        def correct(self, raw, weights, common):
            assert weights.flags.c_contiguous and weights.flags.writeable
            self.kept += weights,
            if len(self.kept) > N // 2:
                for given in self.kept:
                    given[...] = False
            return raw, None
    prepare(tmp_path / "s.ptyd", save, Keeps, frames=1)
    good = read_ptyd(tmp_path / "s.ptyd")["weights"]
    assert good[:N // 2].all() and not good[N // 2:].any()


@pytest.mark.parametrize("save", SINKS)
def test_a_scan_that_was_left_can_be_gone_on_with(tmp_path, save):
    scan = Scan(dfile=tmp_path / "s.ptyd", save=save).initialize()
    batches = scan.batches(4)
    next(batches)
    batches.close()
    scan.prepare(4)
    prepare(tmp_path / "whole.ptyd", save)
    whole, made = read_ptyd(tmp_path / "whole.ptyd"), read_ptyd(tmp_path / "s.ptyd")
    assert all(np.array_equal(whole[name], made[name]) for name in whole)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["write", "truncate"])
@pytest.mark.parametrize("save", ["append", "merge"])
def test_a_disk_that_is_full_in_a_large_chunk_is_said(tmp_path, save, what):
    """HDF5 reads back what was dropped, and does not know it."""
    script = tmp_path / "many.py"
    script.write_text(textwrap.dedent(f"""
        import io, os, numpy as np
        left, plainly = 500_000, os.pwrite
        def pwrite(file, data, at):
            global left
            left -= len(data)
            if left < 0 and {what == "write"}:
                raise OSError(28, "No space left on device")
            return plainly(file, data, at)
        os.pwrite = pwrite
        class Small(io.FileIO):
            def truncate(self, size=None):
                if {what == "truncate"}:
                    raise OSError(28, "No space left on device")
                return super().truncate(size)
        plain, io.FileIO = io.FileIO, Small
        from ptyprep.sinks import disk
        io.FileIO = plain
        from ptyprep import Par, PtyScan
        class Many(PtyScan):
            '''Twenty thousand small frames.'''
            energy, distance, psize, center = Par(8.0), Par(2.0), Par(75e-6), Par("fftshift")
            def load_positions(self):
                return np.zeros((20_000, 2))
            def load(self, indices):
                return np.ones((len(indices), 4, 4), "u2")
        try:
            Many(dfile="s.ptyd", save="{save}").initialize().prepare(20_000)
        except Exception as err:
            print(type(err).__name__, err)
    """))
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert done.stdout.startswith("OutputError s.") and "No space left" in done.stdout


@pytest.mark.parametrize("save", SINKS)
def test_an_interrupted_run_is_named_and_resumed(tmp_path, save):
    class Once(Scan):
        """Fails at frame 9, in the third chunk."""
        fail_at = 9
    out = tmp_path / "s.ptyd"
    with pytest.raises(RuntimeError):
        prepare(out, save, Once)
    folder = next(p for p in tmp_path.iterdir() if p.is_dir())
    parts = {p.name: p.read_bytes() for p in folder.glob("0?????.h5")}
    assert sorted(parts) == ["000000.h5", "000001.h5"]
    assert out.exists() == (save in GROWING)
    if save in GROWING:                          # what is there can be read meanwhile
        assert np.array_equal(joined(read_as_ptypy(out)[1], "data"), FRAMES[:8])
    with pytest.raises(OutputError, match="exists|an interrupted preparation of it is in"):
        prepare(out, save, Once)

    Once.fail_at, loaded = None, []

    class Watched(Once):
        """Says what it loads."""
        recipe_name = "once"

        def load(self, indices):
            loaded.extend(indices)
            return super().load(indices)
    with pytest.raises(OutputError, match="cannot be resumed.*parameter rebin: was 1, is 2"):
        prepare(out, save, Watched, resume=True, rebin=2)
    loaded.clear()
    prepare(out, save, Watched, resume=True)
    assert loaded == [0, 8, 9, 10]              # the first tells how large frames are
    if save in GROWING:
        assert all((folder / name).read_bytes() == content for name, content in parts.items())
    else:
        assert names(tmp_path) == ["s.ptyd"]
    meta, chunks = read_as_ptypy(out)
    assert np.array_equal(joined(chunks, "data"), FRAMES) and meta["num_frames"] == N
    assert joined(chunks, "indices").tolist() == list(range(N))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s.ptyd", "a b [1] é.ptyd", "noending", "two.dots.ptyd"])
@pytest.mark.parametrize("save", SINKS)
def test_any_name_will_do(tmp_path, save, name):
    class Once(Scan):
        """Fails at frame 9."""
        fail_at = 9
    with pytest.raises(RuntimeError):
        prepare(tmp_path / name, save, Once)
    with pytest.raises(OutputError, match="exists|interrupted"):
        prepare(tmp_path / name, save, Once)
    Once.fail_at = None
    prepare(tmp_path / name, save, Once, resume=True)
    assert np.array_equal(joined(read_as_ptypy(tmp_path / name)[1], "data"), FRAMES)


@pytest.mark.parametrize("save", SINKS)
def test_a_file_that_somebody_else_makes_meanwhile_is_theirs(tmp_path, save):
    out = tmp_path / "s.ptyd"

    class Raced(Scan):
        """Another program takes the name while frames are loaded."""

        def load(self, indices):
            if len(indices) > 1:
                out.write_text("theirs")
            return super().load(indices)
    with pytest.raises(OutputError, match="s.ptyd exists: something else has made it meanwhile"):
        prepare(out, save, Raced)
    assert out.read_text() == "theirs"
    assert not list(tmp_path.glob(".*")), "a temporary file is left"


@pytest.mark.slow
def test_a_failure_keeps_the_file_that_was_to_be_overwritten(tmp_path, monkeypatch):
    out = tmp_path / "s.ptyd"
    for save in SINKS:
        prepare(out, "append", overwrite=True)
        before = out.read_bytes()

        class Failing(Scan):
            """Fails at once."""
            fail_at = 0
        with pytest.raises(RuntimeError):
            prepare(out, save, Failing, overwrite=True)
        assert out.read_bytes() == before and names(tmp_path) == ["s.ptyd"]
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
            with pytest.raises(OSError, match="No space left"):
                prepare(out, save, overwrite=True)
        assert out.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("save", SINKS)
@pytest.mark.parametrize("first", SINKS)
def test_the_file_that_is_read_is_never_replaced(tmp_path, first, save):
    from ptyprep_recipes.ptyd import Ptyd
    prepare(tmp_path / "s.ptyd", first)
    (tmp_path / "other.ptyd").symlink_to("s.ptyd")
    there = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for out in ("s.ptyd", "other.ptyd"):
        with pytest.raises(OutputError, match=f"{out} is the file that is read; name another output"):
            Ptyd(source=tmp_path / "s.ptyd", dfile=tmp_path / out, save=save, overwrite=True).initialize()
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == there


def test_folders_of_others_are_left_alone(tmp_path):
    for name, content in (("s.mine", '{"output": "other.ptyd", "finished": false, "fingerprint": {}}'),
                          ("s.list", "[1, 2]"),
                          ("s.odd", '{"a": 1}'), ("s.text", "not json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(content)
    before = names(tmp_path)
    for overwrite in (False, True):
        prepare(tmp_path / "s.ptyd", "append", overwrite=overwrite)
    assert names(tmp_path) == sorted([*before, "s.ptyd"])


def test_a_folder_that_is_moved_as_a_whole_still_opens(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    prepare(tmp_path / "here" / "s.ptyd", "link")
    shutil.move(tmp_path / "here", tmp_path / "there")
    monkeypatch.chdir("/")
    _, chunks = read_as_ptypy(tmp_path / "there" / "s.ptyd")
    assert np.array_equal(joined(chunks, "data"), FRAMES)


def test_outputs_that_cannot_be(tmp_path):
    (tmp_path / "folder.ptyd").mkdir()
    (tmp_path / "file").touch()
    for path, words in (("absent/s.ptyd", "the folder .*absent does not exist; make it first"),
                        ("folder.ptyd", "is a folder; name a .ptyd file"), ("file/s.ptyd", "does not exist")):
        with pytest.raises(OutputError, match=words):
            Scan(dfile=tmp_path / path).initialize()
    with pytest.raises(ParameterError, match="overwrite=True starts again and resume=True continues"):
        Scan(dfile=tmp_path / "s.ptyd", overwrite=True, resume=True).initialize()
    with pytest.raises(OutputError, match="/proc/s.ptyd cannot be written"):
        prepare(Path("/proc/s.ptyd"))


# --- growing ------------------------------------------------------------------------------------------

SLOW = textwrap.dedent("""
    import sys, time
    import numpy as np
    sys.path[:0] = [sys.argv[2], sys.argv[2] + "/.."]
    from test_sinks import Scan

    class Slow(Scan):
        "Takes its time."
        def load(self, indices):
            time.sleep(0.15)
            return super().load(indices)
    print("ready", flush=True)
    scan = Slow(dfile=sys.argv[1], save="link").initialize()
    for batch in scan.batches(1):
        pass
""")


@pytest.mark.slow
def test_link_grows_under_a_reader_that_polls(tmp_path):
    """Never an error, never a part of a chunk, chunks in order; and the reader locks the files, as PtyPy does."""
    out = tmp_path / "s.ptyd"
    writer = subprocess.Popen([sys.executable, "-c", SLOW, out, Path(__file__).parent], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
    try:
        assert writer.stdout.readline() == "ready\n"
        seen, polls, kept_open = [0], 0, None
        while writer.poll() is None:
            if not out.exists():
                time.sleep(0.001)
                continue
            if kept_open is None:
                kept_open = h5py.File(out, "r")
            meta, chunks = read_as_ptypy(out)
            assert meta["num_frames"] == N and chunks, "PtyPy cannot open a file without its first part"
            for i, chunk in enumerate(chunks):
                assert np.array_equal(chunk["data"], FRAMES[i:i + 1]) and chunk["indices"].tolist() == [i]
                assert chunk["weights"].all() and np.array_equal(chunk["positions"], PLACES[i:i + 1])
            seen.append(len(chunks))
            polls += 1
        assert writer.returncode == 0, writer.stderr.read()
    finally:
        writer.kill()
        writer.communicate()
    assert seen == sorted(seen) and len(set(seen)) >= 5 and polls > 20
    assert len([n for n in range(N) if kept_open["chunks"].get(str(n)) is not None]) == N
    kept_open.close()
    meta, chunks = read_as_ptypy(out)
    assert np.array_equal(joined(chunks, "data"), FRAMES)
    run = json.loads(next(tmp_path.glob("s.*/run.json")).read_text())
    assert run["finished"] and not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_two_that_began_in_the_same_instant_do_not_take_from_each_other(tmp_path):
    """Both looked before either had begun: the first to end has the output, and the other hears of it."""
    scan = Scan(dfile=tmp_path / "s.ptyd", save="merge").initialize()       # it has looked, and not begun
    other = subprocess.Popen([sys.executable, "-c", textwrap.dedent("""
        import sys, time
        sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]
        from test_sinks import Scan
        scan = Scan(dfile=sys.argv[2], save="merge").initialize()
        for batch in scan.batches(4):
            print(batch.chunk, flush=True)
            sys.stdin.readline()
        """), str(Path(__file__).parent), str(tmp_path / "s.ptyd")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "0\n"
        for _ in scan.batches(4):
            pass
        _, err = other.communicate("\n" * 9, timeout=60)
    finally:
        other.kill()
    assert other.returncode == 1 and "s.ptyd exists: something else has made it meanwhile" in err, err
    assert names(tmp_path) == ["s.ptyd"], "the other one leaves nothing"
    assert np.array_equal(joined(read_as_ptypy(tmp_path / "s.ptyd")[1], "data"), FRAMES)


def test_append_shows_nothing_before_the_end(tmp_path):
    out = tmp_path / "s.ptyd"
    scan = Scan(dfile=out, save="append").initialize()
    for _ in scan.batches(2):
        assert not out.exists()
    assert out.exists() and names(tmp_path) == ["s.ptyd"]


def test_a_place_is_told_only_where_it_is_certain(tmp_path):
    """HDF5 may write a node of its index in the same call, which may be as long as the frame."""
    with Disk(tmp_path / "f", "w+") as file:
        assert file.place_of(5, lambda: (file.write(b"123"), file.write(b"12345"), file.write(b"1"))) == 3
        assert file.place_of(5, lambda: (file.write(b"12345"), file.write(b"abcde"))) is None
        assert file.place_of(5, lambda: file.write(b"1234")) is None
        with pytest.raises(ZeroDivisionError):
            file.place_of(1, lambda: 1 / 0)
        assert file.written is None


# --- said before the work --------------------------------------------------------------------------------

def test_what_cannot_be_stored_is_said_before_the_work(tmp_path, monkeypatch):
    from ptyprep.pipeline import provenance
    true = provenance.info
    monkeypatch.setattr(provenance, "info", lambda scan: {**true(scan), "a/b": 1})

    def load(self, indices):
        return pytest.fail("asked for frames") if len(indices) > 1 else in_memory.FRAMES[:1]
    with pytest.raises(OutputError, match="holds a slash"):
        in_memory.like(load=load)(dfile=tmp_path / "s.ptyd").initialize()


@pytest.mark.slow
@pytest.mark.parametrize("save", ["append", "link"])
def test_chunks_of_one_file_have_one_size(tmp_path, save):
    scan = in_memory.Scan(dfile=tmp_path / "s.ptyd", save=save).initialize()
    scan.auto(5)
    with pytest.raises(OutputError, match="began with 5 frames in each, now 3"):
        scan.auto(3)
    with pytest.raises(OutputError, match="began with 5 frames in each, now 4"):
        for _ in in_memory.Scan(dfile=tmp_path / "s.ptyd", save=save, resume=True).initialize().batches(4):
            pass
    for _ in in_memory.Scan(dfile=tmp_path / "s.ptyd", save=save, resume=True).initialize().batches(5):
        pass
    assert np.array_equal(read_ptyd(tmp_path / "s.ptyd")["data"], in_memory.FRAMES)


def test_an_output_that_is_there_is_refused_before_any_work(tmp_path):
    (tmp_path / "s.ptyd").write_text("precious")

    class Loading(in_memory.Scan):
        """Must not be asked."""

        def load_positions(self):
            raise AssertionError("asked for positions")
    with pytest.raises(OutputError, match="exists"):
        Loading(dfile=tmp_path / "s.ptyd").initialize()
