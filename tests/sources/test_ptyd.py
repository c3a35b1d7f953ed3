"""`.ptyd` as a source: ours, and one written by hand as PtyPy 0.9 does (FORMATS.md, section 1)."""
import h5py
import hdf5plugin
import in_memory
import numpy as np
import pytest
from ptyprep_recipes.moonflower import Moonflower
from ptyprep_recipes.ptyd import Ptyd

from ptyprep import PtyScan, recipe
from ptyprep.errors import PositionError, SourceError
from ptyprep.processing.plan import Window
from ptyprep.sources import PtydFile, layout_of
from ptyprep.testing import read_ptyd

DATA = np.random.default_rng(1).poisson(9, (7, 8, 8)).astype("i4")
PLACES = np.random.default_rng(2).normal(size=(7, 2))
WEIGHTS = np.random.default_rng(3).random((7, 8, 8)) > 0.2


def typed(group, name, value, kind):
    """As PtyPy stores it: arrays gzipped, every member with its `type`."""
    packed = {"compression": "gzip"} if kind.startswith("array") else {}
    group.create_dataset(name, data=value, **packed).attrs["type"] = kind


def ptypys(path, link=False, weights=True, drop=()):
    """A file as PtyPy writes it: three chunks, in the file or in part files."""
    with h5py.File(path, "w") as file:
        file.attrs.update(h5rw_version="0.1", ctime="Mon Jan  1 00:00:00 2024", mtime="Mon Jan  1 00:00:00 2024")
        for name in ("chunks", "meta", "info"):
            file.create_group(name).attrs["type"] = "dict"
        for name, value, kind in (("version", 0.1, "scalar"), ("num_frames", 7, "scalar"), ("label", "S1", "string"),
                                  ("shape", [8, 8], "array"), ("psize", [1e-4, 2e-4], "array"),
                                  ("energy", 6.2, "scalar"),
                                  ("distance", 7.0, "scalar"), ("center", [4.0, 4.0], "array")):
            typed(file["meta"], name, value, kind)
        for n, rows in enumerate((slice(0, 3), slice(3, 6), slice(6, 7))):
            if n in drop:
                continue
            part = h5py.File(f"{path}.part{n:03d}", "w") if link else file
            chunk = part if link else file["chunks"].create_group(str(n))
            typed(chunk, "data", DATA[rows], "array")
            typed(chunk, "indices", np.arange(7)[rows], "arraylist")
            typed(chunk, "positions", PLACES[rows], "array")
            if weights:
                typed(chunk, "weights", WEIGHTS[rows].astype(float), "array")
            if link:
                part.close()
                file["chunks"][str(n)] = h5py.ExternalLink(f"{path.name}.part{n:03d}", "/")
            else:
                chunk.attrs["type"] = "dict"
    return path


@pytest.mark.parametrize("link", [False, True])
def test_a_file_of_ptypy(tmp_path, link):
    path = ptypys(tmp_path / "p.ptyd", link)
    assert layout_of(path) is PtydFile
    source = PtydFile(path)
    assert source.shape == (7, 8, 8) and source.dtype == "i4" and source.chunks == 3
    assert np.array_equal(source.read([6, 0, 4]), DATA[[6, 0, 4]])
    window = Window(slice(1, 7), slice(2, 3))
    assert np.array_equal(source.weights([6, 0, 4], window), WEIGHTS[[6, 0, 4], 1:7, 2:3])
    assert np.array_equal(source.positions, PLACES) and source.frame_ids.tolist() == list(range(7))
    assert source.recorded == {"energy": 6.2, "distance": 7.0, "psize": (1e-4, 2e-4), "center": (4.0, 4.0)}
    assert source.meta["label"] == "S1"


def test_without_weights_every_pixel_is_good(tmp_path):
    source = PtydFile(ptypys(tmp_path / "p.ptyd", weights=False))
    assert source.weights([0]) is None and source.mask is None


def test_a_common_mask(tmp_path):
    path = ptypys(tmp_path / "p.ptyd", weights=False)
    with h5py.File(path, "r+") as file:
        typed(file["meta"], "weight2d", WEIGHTS[0], "array")
    assert np.array_equal(PtydFile(path).mask, WEIGHTS[0])


def test_weights_in_some_chunks_only_are_refused(tmp_path):
    path = ptypys(tmp_path / "p.ptyd")
    with h5py.File(path, "r+") as file:
        del file["chunks/2/weights"]
    with pytest.raises(SourceError, match="p.ptyd: only some of its chunks have weights"):
        PtydFile(path).weights([0])


def test_without_positions_there_are_none(tmp_path):
    path = ptypys(tmp_path / "p.ptyd")
    with h5py.File(path, "r+") as file:
        del file["chunks/1/positions"]
    assert PtydFile(path).positions is None


def test_parts_that_come_later_are_not_there_yet_and_a_lost_one_is_an_error(tmp_path):
    path = ptypys(tmp_path / "p.ptyd", link=True)
    (tmp_path / "p.ptyd.part002").unlink()
    source = PtydFile(path)
    assert source.shape[0] == 7 and source.there == 6 and (source.chunks, source.planned) == (2, 3)
    [(missing, reason)] = source.missing
    assert missing == range(6, 7) and "6 of the 7 planned frames are there" in reason
    assert "6 of the 7 planned frames are there" in source.notes
    assert np.array_equal(source.read(range(6)), DATA[:6]) and np.array_equal(source.positions, PLACES[:6])
    assert np.array_equal(source.weights(range(6)), WEIGHTS[:6])
    for read in (source.read, source.weights):
        with pytest.raises(SourceError, match="frame 6 of the scan.*6 of the 7 planned"):
            read([5, 6])
    (tmp_path / "p.ptyd.part000").unlink()
    with pytest.raises(SourceError, match="chunk 0 is missing, though chunk 1 is there"):
        PtydFile(path)
    (tmp_path / "p.ptyd.part001").unlink()
    with pytest.raises(SourceError, match="none of its 3 chunks is there yet"):
        PtydFile(path)


@pytest.mark.parametrize("link", [False, True])
def test_a_file_with_fewer_frames_than_planned_is_not_prepared_as_if_it_were_whole(tmp_path, link):
    path = ptypys(tmp_path / "p.ptyd", link, drop=() if link else (1, 2))
    if link:
        (tmp_path / "p.ptyd.part001").unlink()
        (tmp_path / "p.ptyd.part002").unlink()
    with pytest.raises(PositionError, match="7 frames but 3 positions.*set num_frames=3"):
        Ptyd(source=path).initialize()
    with pytest.raises(SourceError, match="3 of the 7 planned frames are there.*missing for it: 4 .3 to 6"):
        Ptyd(source=path, **by_theory(tmp_path)).initialize()
    for pars, kept in (({"num_frames": 3}, 3), ({"bad_frames": "drop", **by_theory(tmp_path)}, 3),
                       ({"bad_frames": "mask", **by_theory(tmp_path)}, 7)):
        [batch] = Ptyd(pars, source=path).initialize().batches()
        assert np.array_equal(batch.data[:3], DATA[:3]) and np.array_equal(batch.position, PLACES[:kept])
        assert np.array_equal(batch.weight[:3], WEIGHTS[:3]) and not batch.weight[3:].any()


def by_theory(tmp_path):
    """Positions of all seven frames, from a table."""
    np.save(tmp_path / "places.npy", PLACES)
    return {"positions.file": tmp_path / "places.npy", "positions.unit": "m"}


def test_planned_frames_are_counted_from_the_chunks_where_the_file_does_not_say(tmp_path):
    path = ptypys(tmp_path / "p.ptyd", link=True)
    (tmp_path / "p.ptyd.part002").unlink()
    with h5py.File(path, "r+") as file:
        del file["meta/num_frames"]
    assert [frames for frames, _ in PtydFile(path).missing] == [range(6, 9)]       # the last chunk may be shorter


@pytest.mark.parametrize("key", ["chunks/1/positions", "chunks/1/frame_ids", "meta/weight2d"])
def test_damage_beside_the_frames_ends_no_process(tmp_path, key):
    path = ptypys(tmp_path / "p.ptyd", weights=False)
    values = np.random.default_rng(0).integers(0, 9, (8, 8))
    with h5py.File(path, "r+") as file:
        file.pop(key, None)
        node = file.create_dataset(key, data=values, chunks=(8, 8), **hdf5plugin.Bitshuffle(cname="lz4"))
        node.attrs["type"] = "array"
        file.flush()
        chunk = node.id.read_direct_chunk((0, 0))[1]
        node.id.write_direct_chunk((0, 0), chunk[:16] + b"\xff" * (len(chunk) - 16))
    with pytest.raises(SourceError, match=f"p.ptyd: /{key} is damaged"):
        PtydFile(path)


def test_a_lost_file_of_the_first_rank_costs_its_frames_alone(tmp_path):
    frames = np.arange(7 * 64, dtype="u2").reshape(7, 8, 8)

    class Scan(PtyScan):
        """Seven frames."""

        def load_geometry(self):
            return {"energy": 7.0, "distance": 2.0, "psize": 75e-6, "center": (4, 4)}

        def load_positions(self):
            return np.zeros((7, 2))

        def load(self, indices):
            return frames[list(indices)]
    for _ in Scan(dfile=tmp_path / "s.ptyd", save="virtual").initialize().batches(3):
        pass
    next(tmp_path.glob("s.*/000000.rank0000.h5")).unlink()
    scan = Ptyd(source=tmp_path / "s.ptyd", bad_frames="drop").initialize()
    assert [batch.frame.tolist() for batch in scan.batches(4)] == [[3], [4, 5, 6]]
    assert [frame for frame, _ in scan.bad] == [0, 1, 2]


def test_chunks_of_different_frames_are_refused(tmp_path):
    path = ptypys(tmp_path / "p.ptyd")
    with h5py.File(path, "r+") as file:
        del file["chunks/1/data"]
        file["chunks/1/data"] = np.zeros((3, 9, 9), "i4")
    with pytest.raises(SourceError, match=r"chunk 1 holds int32 \(3, 9, 9\), expected int32 frames of \(8, 8\)"):
        PtydFile(path)


@pytest.mark.parametrize("break_it, words", [
    (lambda f: f.pop("meta"), "no chunks and meta in it; expected a .ptyd file, found chunks, info"),
    (lambda f: [f["chunks"].pop(str(n)) for n in range(3)], "no chunk in it"),
    (lambda f: f["chunks/0"].pop("data"), "chunk 0 has no data"),
    (lambda f: f["meta/label"].attrs.__setitem__("type", "pickle"), "/meta/label is stored as a pickle"),
])
def test_files_that_are_not_whole(tmp_path, break_it, words):
    path = ptypys(tmp_path / "p.ptyd")
    with h5py.File(path, "r+") as file:
        break_it(file)
    with pytest.raises(SourceError, match=words) as err:
        PtydFile(path)
    assert "p.ptyd" in str(err.value)


@pytest.mark.parametrize("save", ["append", "link"])
def test_a_file_of_ours(tmp_path, save):
    scan = Moonflower(dfile=tmp_path / "m.ptyd", save=save, num_frames=7, shape=32, frames="2::2").initialize()
    batches = list(scan.batches(2))
    source = PtydFile(tmp_path / "m.ptyd")
    assert source.shape == (3, 32, 32) and source.chunks == 2
    assert np.array_equal(source.read(range(3)), np.concatenate([b.data for b in batches]))
    assert np.array_equal(source.positions, np.concatenate([b.position for b in batches]))
    assert source.frame_ids.tolist() == [2, 4, 6]
    if save == "link":
        assert source.weights(range(3)).all()
    else:
        assert source.mask.all() and source.weights([0]) is None


# --- prepared again --------------------------------------------------------------------------------------

def test_a_scan_that_is_prepared_again_keeps_its_frame_numbers(tmp_path):
    in_memory.run(in_memory.like(), tmp_path / "one.ptyd", frames="2::3")
    cls = recipe("ptyd")
    for _ in cls(source=tmp_path / "one.ptyd", dfile=tmp_path / "two.ptyd", frames="1:").initialize().batches():
        pass
    assert read_ptyd(tmp_path / "two.ptyd")["frame_ids"].tolist() == [5, 8, 11]


def test_a_prepared_scan_prepared_again_keeps_its_axis(tmp_path):
    first = in_memory.Scan(dfile=tmp_path / "one.ptyd", center=(8.3, 9.4), shape=12).initialize()
    list(first.batches())
    again = recipe("ptyd")(source=tmp_path / "one.ptyd", shape=8).initialize()
    assert np.allclose(first.plan.axis, (6.3, 6.4)) and np.allclose(again.plan.axis, (4.3, 4.4))
