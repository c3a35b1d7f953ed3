"""Stacks in HDF5: whatever the layout, frames are those that plain h5py or NumPy would give."""
import json
import os
import subprocess
import sys
from itertools import product

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptyprep.errors import SourceError
from ptyprep.hdf5 import codec
from ptyprep.hdf5.files import read_dataset, stacks_in
from ptyprep.hdf5.guarded import open_hdf5
from ptyprep.processing.plan import Window
from ptyprep.sources import Hdf5Stack, open_frames

BSLZ4 = hdf5plugin.Bitshuffle(cname="lz4")


def counts(shape, dtype="u2", seed=1):
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def stack(path, frames, key="data", **options):
    with h5py.File(path, "w") as file:
        file.create_dataset(key, data=frames, **options)
    return path


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_chunks_any_frames_any_window(tmp_path, data):
    n, h, w = (data.draw(st.integers(1, top)) for top in (7, 40, 40))
    grid = data.draw(st.sampled_from([(), (n,), (3, n)]))
    shape = (*grid, h, w)
    chunks = tuple(data.draw(st.integers(1, k)) for k in shape)
    filters = data.draw(st.sampled_from([BSLZ4, hdf5plugin.LZ4(), {"compression": "gzip"}, {}]))
    dtype = data.draw(st.sampled_from(["u1", "u2", "u4", ">u2", "i4", "f4", "f8"]))
    frames = counts(shape, dtype, seed=n * h)
    path = stack(tmp_path / "f.h5", frames, chunks=chunks, **filters)
    source = Hdf5Stack(path, "data")
    source.threads = data.draw(st.integers(1, 2))
    flat = frames.reshape(-1, h, w)
    assert source.shape == flat.shape and source.grid == (grid if len(grid) == 2 else None)
    r0, c0 = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    r1, c1 = data.draw(st.integers(r0 + 1, h)), data.draw(st.integers(c0 + 1, w))
    wanted = data.draw(st.lists(st.integers(0, len(flat) - 1), max_size=8))
    got = source.read(wanted, Window(slice(r0, r1), slice(c0, c1)))
    assert got.dtype == np.dtype(dtype).newbyteorder("=") and got.flags.writeable
    assert np.array_equal(got, flat[wanted, r0:r1, c0:c1])


def test_a_raster_is_read_row_by_row(tmp_path):
    frames = counts((3, 4, 10, 12))
    for filters in ({}, {"chunks": (1, 2, 10, 12), **BSLZ4}):
        source = Hdf5Stack(stack(tmp_path / "f.h5", frames, **filters))
        assert source.shape == (12, 10, 12) and source.grid == (3, 4)
        assert np.array_equal(source.read([5, 11, 0]), frames[[1, 2, 0], [1, 3, 0]])


def test_damage_in_a_raster_or_an_image_ends_no_process(tmp_path):
    """bitshuffle-LZ4 never goes through HDF5's plug-in, whatever the number of axes."""
    for shape in ((2, 2, 64, 64), (3, 64, 64), (64, 64)):
        path = stack(tmp_path / "f.h5", counts(shape, "u4"), chunks=(*(1 for _ in shape[:-2]), 64, 64), **BSLZ4)
        with h5py.File(path, "r+") as file:
            chunk = file["data"].id.read_direct_chunk((0,) * len(shape))[1]
            file["data"].id.write_direct_chunk((0,) * len(shape), chunk[:-9] + b"\xff" * 9)
        source = Hdf5Stack(path, "data")
        assert "bitshuffle-LZ4" in source.road()
        with pytest.raises(SourceError, match="f.h5.*frame 0 of the scan is damaged"):
            source.read([0])


SHUFFLED = {"shuffle": True, **BSLZ4}
GZIP = {"compression": "gzip"}


@pytest.mark.parametrize("filters", [{}, GZIP, BSLZ4, hdf5plugin.LZ4()])
@pytest.mark.parametrize("shape, chunks", [((6, 8, 9), (1, 8, 9)), ((6, 8, 9), (2, 5, 4)),
                                           ((2, 3, 8, 9), (1, 1, 8, 9))])
def test_a_chunk_that_nobody_wrote_is_no_frame_of_zeros(tmp_path, filters, shape, chunks):
    frames = counts((6, 8, 9))
    with h5py.File(tmp_path / "f.h5", "w") as file:
        data = file.create_dataset("data", shape, "u2", chunks=chunks, **filters)
        for i in (0, 1, 4, 5):
            data[i if len(shape) == 3 else divmod(i, 3)] = frames[i]
    source = Hdf5Stack(tmp_path / "f.h5")
    assert np.array_equal(source.read([5, 0, 1, 4]), frames[[5, 0, 1, 4]])
    for wanted in ([2], [0, 2, 3], [4, 2]):
        with pytest.raises(SourceError, match="f.h5: .*data, frame 2 of the scan was never written"):
            source.read(wanted)


def test_only_the_chunks_of_the_region_need_be_written(tmp_path):
    frames = counts((3, 8, 8))
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("data", (3, 8, 8), "u2", chunks=(1, 4, 4), **GZIP)[:, :4] = frames[:, :4]
    source = Hdf5Stack(tmp_path / "f.h5")
    assert np.array_equal(source.read([2, 1], Window(slice(0, 4), slice(1, 7))), frames[[2, 1], :4, 1:7])
    with pytest.raises(SourceError, match="frame 2 of the scan was never written"):
        source.read([2, 1], Window(slice(0, 5), slice(1, 7)))


@pytest.mark.parametrize("filters", [{}, {"chunks": (1, 8, 8)}, GZIP, BSLZ4])
def test_a_stack_that_nobody_wrote(tmp_path, filters):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("data", (3, 8, 8), "u2", **filters)
    with pytest.raises(SourceError, match="f.h5: .*data, frame 1 of the scan was never written"):
        Hdf5Stack(tmp_path / "f.h5").read([1])


def test_bitshuffle_on_top_of_another_filter_is_refused(tmp_path):
    """Only HDF5's plug-in could read it, and damage would end the process."""
    source = Hdf5Stack(stack(tmp_path / "f.h5", counts((3, 32, 32)), chunks=(1, 32, 32), **SHUFFLED))
    with pytest.raises(SourceError, match="f.h5: /data is stored with the HDF5 filters 2, 32008"):
        source.read([0])


# --- small datasets -----------------------------------------------------------------------------------

@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_dataset_of_any_rank(tmp_path, data):
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple))
    chunks = tuple(data.draw(st.integers(1, n)) for n in shape)
    filters = data.draw(st.sampled_from([BSLZ4, hdf5plugin.LZ4(), GZIP, {}]))
    dtype = data.draw(st.sampled_from(["u1", "u2", "u4", ">u2", "i4", "f4", "f8", "?"]))
    values = counts(shape, dtype)
    with h5py.File(stack(tmp_path / "f.h5", values, chunks=chunks, **filters)) as file:
        got = read_dataset(file["data"])
    assert got.dtype == values.dtype and np.array_equal(got, values)


def test_what_h5py_reads_is_read_the_same(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["number"], file["text"], file["none"] = 3.5, "word", np.zeros((0, 2))
        file["empty"] = h5py.Empty("f4")
    with h5py.File(tmp_path / "f.h5") as file:
        assert read_dataset(file["number"]) == 3.5 and read_dataset(file["text"]) == b"word"
        assert read_dataset(file["none"]).shape == (0, 2) and read_dataset(file["empty"]) == h5py.Empty("f4")


@pytest.mark.parametrize("shape", [(4096,), (64, 64), (1, 64, 64)])
def test_a_damaged_dataset_ends_no_process(tmp_path, shape):
    path = stack(tmp_path / "f.h5", counts(shape, "u4"), chunks=shape, **BSLZ4)
    with h5py.File(path, "r+") as file:
        chunk = file["data"].id.read_direct_chunk((0,) * len(shape))[1]
        file["data"].id.write_direct_chunk((0,) * len(shape), chunk[:-9] + b"\xff" * 9)
    with open_hdf5(path) as file, pytest.raises(SourceError, match="f.h5: /data is damaged"):
        read_dataset(file["data"])


@pytest.mark.parametrize("filters", [{}, {"chunks": (2, 2)}, GZIP, BSLZ4])
def test_a_dataset_that_nobody_wrote_is_not_zero(tmp_path, filters):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("data", (4, 4), "u2", **filters)
    with open_hdf5(tmp_path / "f.h5") as file, pytest.raises(SourceError, match="f.h5: /data was never written"):
        read_dataset(file["data"])


def test_a_damaged_dataset_is_named(tmp_path):
    path = stack(tmp_path / "f.h5", counts((64,)), chunks=(64,), **GZIP)
    with h5py.File(path, "r+") as file:
        file["data"].id.write_direct_chunk((0,), b"nonsense")
    stack(tmp_path / "g.h5", counts((64,)), chunks=(64,), **SHUFFLED)
    with open_hdf5(path) as file, pytest.raises(SourceError, match="f.h5: /data is damaged: it does not decode"):
        read_dataset(file["data"])
    with open_hdf5(tmp_path / "g.h5") as file, pytest.raises(SourceError, match="g.h5: /data .*filters 2, 32008"):
        read_dataset(file["data"])


def test_a_small_virtual_dataset(tmp_path):
    values = counts((2, 5))
    layout = h5py.VirtualLayout((2, 5), "u2")
    for i in range(2):
        stack(tmp_path / f"{i}.h5", values[i], "d")
        layout[i] = h5py.VirtualSource(f"{i}.h5", "d", (5,))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    with open_hdf5(tmp_path / "v.h5") as file:
        assert np.array_equal(read_dataset(file["data"]), values)
    stack(tmp_path / "0.h5", values[0], "d", chunks=(5,), **BSLZ4)
    with open_hdf5(tmp_path / "v.h5") as file, pytest.raises(SourceError, match="v.h5: /data joins d of .*0.h5"):
        read_dataset(file["data"])
    (tmp_path / "0.h5").unlink()
    with open_hdf5(tmp_path / "v.h5") as file, pytest.raises(SourceError, match="0.h5: no such file"):
        read_dataset(file["data"])


def test_the_only_stack_is_found_and_several_are_listed(tmp_path):
    frames = counts((4, 8, 9))
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["a/deep/frames"] = frames
        file["a/motor"], file["a/name"], file["image"] = np.arange(4.0), "x", np.zeros((8, 9))
        file["loop"] = file["a"]
        file["xrf"], file["line"] = np.zeros((4, 4, 4096), "u1"), np.zeros((4, 1, 1280), "u1")
    assert np.array_equal(Hdf5Stack(tmp_path / "f.h5").read([2]), frames[[2]])
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        file["b/second"] = frames
    with pytest.raises(SourceError,
                       match=r"f.h5: expected one stack.*/a/deep/frames \(4, 8, 9\), /b/second \(4, 8, 9\)"):
        Hdf5Stack(tmp_path / "f.h5")
    assert open_frames(tmp_path / "f.h5", "b/second").shape == (4, 8, 9)
    with h5py.File(tmp_path / "f.h5") as file:
        assert set(stacks_in(file)) == {"/a/deep/frames", "/b/second", "/xrf"}


@pytest.mark.parametrize("shape, taken", [
    ((9, 4, 4096), False), ((9, 4096, 4), False), ((3, 3, 4, 4096), False), ((9, 16, 1024), False),
    ((9, 64, 64, 3), False), ((9, 2, 16), False),
    ((9, 195, 1475), True), ((9, 514, 1030), True), ((3, 3, 256, 1280), True), ((9, 2, 3), True)])
def test_a_stack_is_taken_by_guess_only_where_its_frames_can_be_images(tmp_path, shape, taken):
    """Fluorescence, a line detector and pictures in colour; PILATUS 300K-W, EIGER 500K and five Medipix in a row."""
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("entry/data/stack", shape, "u2", chunks=(1,) * (len(shape) - 2) + shape[-2:])
    if taken:
        assert Hdf5Stack(tmp_path / "f.h5").shape[1:] == shape[-2:]
    else:
        with pytest.raises(SourceError, match=r"stack of frames, found /entry/data/stack \(.*\) \(no images\). Set"):
            Hdf5Stack(tmp_path / "f.h5")
    assert Hdf5Stack(tmp_path / "f.h5", "entry/data/stack").shape[1:] == shape[-2:]      # where the user names it


DEAD = {"external": (h5py.ExternalLink("eiger.h5", "/entry/data/data"), "eiger.h5:/entry/data/data (not there)"),
        "soft": (h5py.SoftLink("/entry/instrument/eiger"), "/entry/instrument/eiger (not there)"),
        "no such dataset": (h5py.ExternalLink("other.h5", "/nothing"), "other.h5:/nothing (cannot be opened)"),
        "no HDF5 file": (h5py.ExternalLink("text.h5", "/x"), "text.h5:/x (cannot be opened)")}


@pytest.mark.parametrize("kind", DEAD)
@pytest.mark.parametrize("others", [{}, {"xrf": (9, 4, 4096)}, {"map": (20, 30, 30)}], ids=["nothing", "xrf", "map"])
def test_links_that_lead_nowhere_are_said_before_anything_is_guessed(tmp_path, kind, others):
    link, said = DEAD[kind]
    h5py.File(tmp_path / "other.h5", "w").close()
    (tmp_path / "text.h5").write_text("not HDF5")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["entry/data/eiger"] = link
        for name, shape in others.items():
            file[f"entry/{name}"] = np.zeros(shape, "u1")
    with pytest.raises(SourceError) as err:
        Hdf5Stack(tmp_path / "f.h5")
    words = str(err.value)
    assert f"links that lead nowhere, and may be the frames: /entry/data/eiger -> {said}. Stacks" in words
    assert all(f"/entry/{name}" in words for name in others) and "intensities.key" in words
    for name, shape in others.items():
        assert Hdf5Stack(tmp_path / "f.h5", f"entry/{name}").shape == shape


def test_many_links_that_lead_nowhere_are_counted(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for i in range(12):
            file[f"data_{i:02d}"] = h5py.ExternalLink(f"{i}.h5", "/data")
        file["near"] = np.zeros((3, 8, 8))
    with pytest.raises(SourceError, match=r"/data_04 -> 4.h5:/data \(not there\) and 7 more\. Stacks .*: /near"):
        Hdf5Stack(tmp_path / "f.h5")


@pytest.mark.parametrize("key, words", [
    ("typo", r"no dataset typo; the stacks in it are /g/data \(2, 4, 4\).*Set the key"),
    ("g/typo", "no dataset g/typo; the stacks"),
    ("g", "g is a group, not a dataset; it holds g/data"),
    ("motor", r"motor is float64 of shape \(5,\); expected frames as \(n, h, w\)"),
    ("table", "expected frames"),
    ("nothing", r"nothing is uint16 of shape \(0, 4, 4\)"),
    ("gone", "gone links to /x in absent.h5, which cannot be opened"),
])
def test_a_key_that_leads_to_no_frames(tmp_path, key, words):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["g/data"], file["motor"] = counts((2, 4, 4)), np.zeros(5)
        file["table"] = np.zeros((2, 3, 3), [("a", "i4")])
        file["nothing"] = np.zeros((0, 4, 4), "u2")
        file["gone"] = h5py.ExternalLink("absent.h5", "/x")
    with pytest.raises(SourceError, match=words) as err:
        Hdf5Stack(tmp_path / "f.h5", key)
    assert "f.h5" in str(err.value)


def test_links_are_followed(tmp_path):
    frames = counts((4, 8, 9))
    (tmp_path / "sub").mkdir()
    stack(tmp_path / "sub" / "raw.h5", frames, "x/y")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["outside"] = h5py.ExternalLink("sub/raw.h5", "x/y")
        file["soft"] = h5py.SoftLink("/outside")
    for key in ("outside", "soft"):
        assert np.array_equal(Hdf5Stack(tmp_path / "f.h5", key).read([3, 1]), frames[[3, 1]])


# --- virtual datasets ---------------------------------------------------------------------------------

def odin(tmp_path, frames, files=3, block=2):
    """As odin-data writes: blocks of frames in turn to each of several files; a virtual dataset joins them."""
    n, h, w = frames.shape
    plist, space = h5py.h5p.create(h5py.h5p.DATASET_CREATE), h5py.h5s.create_simple(frames.shape)
    for k in range(files):
        mine = [i for i in range(n) if i // block % files == k]
        stack(tmp_path / f"p_{k}.h5", frames[mine], "d", chunks=(1, h, w), **BSLZ4)
        part, turns = h5py.h5s.create_simple((len(mine), h, w)), len(mine) // block
        for first, begin, count, size in ((k * block, 0, turns, block),
                                          (mine[-1], len(mine) - 1, 1, len(mine) - turns * block)):
            if count * size:                # the last block may be a short one
                space.select_hyperslab((first, 0, 0), (count, 1, 1), (files * block, 1, 1), (size, h, w))
                part.select_hyperslab((begin, 0, 0), (1, 1, 1), block=(count * size, h, w))
                plist.set_virtual(space, f"p_{k}.h5".encode(), b"d", part)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        space.select_all()
        h5py.h5d.create(file.id, b"data", h5py.h5t.py_create(frames.dtype), space, plist)
    return tmp_path / "v.h5"


@pytest.mark.parametrize("n", [12, 13, 17])
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("files", [1, 3])
def test_blocks_in_turn_over_several_files(tmp_path, n, block, files):
    frames = counts((n, 10, 12))
    path = odin(tmp_path, frames, files, block)
    with h5py.File(path) as file:
        assert np.array_equal(file["data"][()], frames)         # the file itself is as it should be
    source = Hdf5Stack(path)
    assert np.array_equal(source.read(range(n)), frames)
    order = list(np.random.default_rng(0).permutation(n))
    assert np.array_equal(source.read(order, Window(slice(2, 9), slice(1, 5))), frames[order, 2:9, 1:5])
    assert "bitshuffle-LZ4" in source.road()                    # not through HDF5


def test_a_missing_source_is_no_frame_of_zeros(tmp_path):
    frames = counts((12, 10, 12))
    path = odin(tmp_path, frames)
    (tmp_path / "p_1.h5").unlink()
    source = Hdf5Stack(path)
    assert source.missing and all("p_1.h5" in why for _, why in source.missing)
    assert np.array_equal(source.read([0, 1, 4, 6]), frames[[0, 1, 4, 6]])
    for frame in (2, 3, 8):
        with pytest.raises(SourceError, match=f"p_1.h5.*frame {frame} of the scan.*no such file"):
            source.read([0, frame])


@pytest.mark.parametrize("filters", [BSLZ4, {"compression": "gzip"}])
def test_modules_as_tiles(tmp_path, filters):
    """Four modules, each in a file of its own, with a gap that no file covers: bad pixels, and 0."""
    frames = counts((5, 21, 30))
    layout = h5py.VirtualLayout(frames.shape, frames.dtype)
    for name, r, c in (("a", slice(0, 10), slice(0, 15)), ("b", slice(0, 10), slice(15, 30)),
                       ("c", slice(11, 21), slice(0, 15)), ("d", slice(11, 21), slice(15, 30))):
        stack(tmp_path / f"{name}.h5", frames[:, r, c], "d", chunks=(1, 10, 15), **filters)
        layout[:, r, c] = h5py.VirtualSource(f"{name}.h5", "d", (5, 10, 15))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("data", layout, fillvalue=7)
    source = Hdf5Stack(tmp_path / "v.h5")
    for window in (Window(slice(0, 10), slice(3, 30)), Window(slice(12, 20), slice(14, 16)),
                   Window(slice(11, 21), slice(0, 9))):
        assert np.array_equal(source.read([4, 0], window), window.cut(frames[[4, 0]]))
    gap = np.zeros((21, 30), bool)
    gap[10] = True
    assert np.array_equal(source.mask, ~gap) and (source.mask_reasons == np.where(gap, 1, 0)).all()
    assert np.array_equal(source.read([4, 0]), np.where(gap, 0, frames[[4, 0]]))
    source.mark_bad(np.eye(21, 30, dtype=bool))
    assert np.array_equal(source.mask, ~gap & ~np.eye(21, 30, dtype=bool))


def test_a_module_that_is_not_mapped_in_one_frame_is_no_gap(tmp_path):
    frames = counts((3, 8, 10))
    stack(tmp_path / "a.h5", frames, "d")
    layout = h5py.VirtualLayout(frames.shape, frames.dtype)
    layout[:, :4] = h5py.VirtualSource("top.h5", "d", (3, 4, 10))
    layout[:2, 4:] = h5py.VirtualSource("bottom.h5", "d", (2, 4, 10))
    stack(tmp_path / "top.h5", frames[:, :4], "d")
    stack(tmp_path / "bottom.h5", frames[:2, 4:], "d")
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    source = Hdf5Stack(tmp_path / "v.h5")
    assert source.mask is None and np.array_equal(source.read([1, 0]), frames[[1, 0]])
    with pytest.raises(SourceError, match="v.h5: frame 2 has no data in part of the region"):
        source.read([2])


@pytest.mark.parametrize("parts", ["rows", "columns", "every other row", "blocks", "all", "flat rows", "one frame"])
def test_a_raster_joined_from_files(tmp_path, parts):
    """(rows, columns, h, w) of files that hold rows, columns or more of it, as rasters or lists of frames."""
    rows, columns, h, w = 4, 6, 5, 7
    frames = counts((rows * columns, h, w)).reshape(rows, columns, h, w)
    cuts = {"rows": [np.s_[i:i + 1, :] for i in range(rows)], "columns": [np.s_[:, j:j + 1] for j in range(columns)],
            "every other row": [np.s_[0::2, :], np.s_[1::2, :]], "all": [np.s_[:, :]],
            "blocks": [np.s_[0:2, 0:4], np.s_[2:4, 0:4], np.s_[0:4, 4:6]],
            "flat rows": [np.s_[i, :] for i in range(rows)],
            "one frame": [np.s_[i, j] for i in range(rows) for j in range(columns)]}[parts]
    layout = h5py.VirtualLayout(frames.shape, frames.dtype)
    for number, cut in enumerate(cuts):
        stack(tmp_path / f"{number}.h5", frames[cut], "d")
        layout[cut] = h5py.VirtualSource(f"{number}.h5", "d", frames[cut].shape)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    source, order = Hdf5Stack(tmp_path / "v.h5"), [23, 0, 7, 12, 6]
    assert source.grid == (rows, columns) and source.shape == (24, h, w)
    assert np.array_equal(source.read(order), frames.reshape(-1, h, w)[order])
    assert np.array_equal(source.read(range(24), Window(slice(1, 4), slice(2, 7))),
                          frames.reshape(-1, h, w)[:, 1:4, 2:7])


def test_one_file_per_frame(tmp_path):
    frames = counts((4, 6, 7))
    layout = h5py.VirtualLayout(frames.shape, frames.dtype)
    for i, frame in enumerate(frames):
        stack(tmp_path / f"{i}.h5", frame, "d")
        layout[i] = h5py.VirtualSource(f"{i}.h5", "d", (6, 7))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    assert np.array_equal(Hdf5Stack(tmp_path / "v.h5").read([3, 0, 2], Window(slice(1, 5), slice(2, 7))),
                          frames[[3, 0, 2], 1:5, 2:7])


def test_part_of_a_source_and_a_source_in_the_same_file(tmp_path):
    frames = counts((10, 6, 7))
    stack(tmp_path / "raw.h5", frames, "d", chunks=(1, 6, 7), **BSLZ4)
    layout = h5py.VirtualLayout((6, 6, 7), frames.dtype)
    layout[:4] = h5py.VirtualSource("raw.h5", "d", frames.shape)[3:7]
    layout[4:] = h5py.VirtualSource(".", "own", (2, 6, 7))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["own"] = frames[:2]
        file.create_virtual_dataset("data", layout)
    assert np.array_equal(Hdf5Stack(tmp_path / "v.h5", "data").read(range(6)), frames[[3, 4, 5, 6, 0, 1]])


def test_a_virtual_dataset_that_mixes_pixels_is_refused_not_misread(tmp_path):
    frames = counts((6, 8, 8))
    stack(tmp_path / "raw.h5", frames, "d")
    for case, source in (("every second column", np.s_[:, :, ::2]), ("every second frame", np.s_[::2]),
                         ("cut", np.s_[:, 2:, :])):
        part = frames[source]
        layout = h5py.VirtualLayout(part.shape, part.dtype)
        layout[...] = h5py.VirtualSource("raw.h5", "d", frames.shape)[source]
        with h5py.File(tmp_path / "v.h5", "w") as file:
            file.create_virtual_dataset("data", layout)
        try:
            got = Hdf5Stack(tmp_path / "v.h5").read(range(len(part)))
        except SourceError as err:
            assert "raw.h5" in str(err), case
        else:
            assert np.array_equal(got, part), case


# --- files that are none ------------------------------------------------------------------------------

def test_absent_foreign_and_truncated_files_are_told_apart(tmp_path):
    good = stack(tmp_path / "good.h5", counts((20, 30, 30)))
    (tmp_path / "text.h5").write_text("hello\n")
    (tmp_path / "cut.h5").write_bytes(good.read_bytes()[:5000])
    (tmp_path / "stub.h5").write_bytes(good.read_bytes()[:20])
    for name, words in (("absent.h5", "no such file"), ("text.h5", r"not an HDF5 file \(6 bytes\)"), ("", "a folder"),
                        ("cut.h5", "truncated or damaged.*truncated file"), ("stub.h5", "truncated or damaged")):
        with pytest.raises(SourceError, match=words) as err:
            Hdf5Stack(tmp_path / name)
        assert str(tmp_path / name) in str(err.value)


def test_a_missing_filter_is_named_with_its_package(tmp_path, monkeypatch):
    path = stack(tmp_path / "f.h5", counts((3, 32, 32)), chunks=(1, 32, 32), **hdf5plugin.Blosc())
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: code != 32001)

    def fail(*_):
        raise OSError("can't open directory")
    source = Hdf5Stack(path)
    monkeypatch.setattr("ptyprep.hdf5.chunk_index.Stored._through_h5py", fail)
    with pytest.raises(SourceError, match=r"f.h5.*filter 32001 is not installed.*hdf5plugin"):
        source.read([0])


def test_a_filter_that_nobody_has(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, 8, 8))
        plist.set_filter(31999, h5py.h5z.FLAG_OPTIONAL, (1,))
        made = h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_UINT16, h5py.h5s.create_simple((2, 8, 8)), plist)
        made.write_direct_chunk((0, 0, 0), bytes(40))
    with pytest.raises(SourceError, match="f.h5.*its HDF5 filter 31999 is not installed"):
        Hdf5Stack(tmp_path / "f.h5").read([0])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_places_are_those_that_hdf5_tells_one_by_one(data):
    axes = data.draw(st.integers(2, 4))
    shape = tuple(data.draw(st.integers(1, 7)) for _ in range(axes))
    chunks = tuple(data.draw(st.integers(1, n)) for n in shape)
    corners = list(product(*(range(0, n, step) for n, step in zip(shape, chunks))))
    with h5py.File("p.h5", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("d", shape, "u2", chunks=chunks, maxshape=(None, *shape[1:]))
        for corner in data.draw(st.lists(st.sampled_from(corners), unique=True)):
            dataset.id.write_direct_chunk(corner, bytes(2 * int(np.prod(chunks))), filter_mask=0)
        file.flush()
        places = codec.Places(dataset)
        for corner in corners:
            info = dataset.id.get_chunk_info_by_coord(corner)
            expected = [-1, -1, -1] if info.byte_offset is None else [info.byte_offset, info.size, info.filter_mask]
            assert places.of(corner) == expected


def test_places_are_looked_up_again_when_the_file_changes(tmp_path):
    """They are kept from batch to batch; a file that was written again holds other frames elsewhere."""
    first, then = counts((30, 40, 50), seed=1), counts((30, 40, 50), seed=2)
    path = stack(tmp_path / "f.h5", first, chunks=(1, 40, 50), **BSLZ4)
    os.utime(path, (1e9, 1e9))          # long ago, so that places are kept
    source = Hdf5Stack(path)
    assert np.array_equal(source.read(range(30)), first) and np.array_equal(source.read([7]), first[[7]])
    stack(tmp_path / "g.h5", then, chunks=(1, 40, 50), **BSLZ4)
    with h5py.File(path, "a") as file:  # the same frames' chunks, each of another size
        for i in reversed(range(30)):
            file["data"][i] = then[i]
    assert np.array_equal(source.read(range(30)), then)
    os.replace(tmp_path / "g.h5", path)
    os.utime(path, (1e9, 1e9))
    assert np.array_equal(source.read(range(30)), then)


def test_pieces_of_one_dataset_share_its_places(tmp_path, monkeypatch):
    """Else a virtual dataset of n single frames of one source would look at n x n chunks."""
    frames, made, places = counts((40, 20, 30)), [], codec.Places
    path = stack(tmp_path / "f.h5", frames, chunks=(1, 20, 30), **BSLZ4)
    layout = h5py.VirtualLayout(frames.shape, frames.dtype)
    order = np.random.default_rng(0).permutation(40)
    for i, j in enumerate(order):
        layout[i] = h5py.VirtualSource("f.h5", "data", frames.shape, frames.dtype)[j]
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    source = Hdf5Stack(tmp_path / "v.h5", "data")
    monkeypatch.setattr(codec, "Places", lambda dataset: made.append(1) or places(dataset))
    for _ in range(3):
        assert np.array_equal(source.read(range(40)), frames[order])
    assert len(made) == 3               # once for each time, for the file has just been written
    os.utime(path, (1e9, 1e9))
    for _ in range(3):
        assert np.array_equal(source.read(range(40)), frames[order])
    assert len(made) == 4


def test_places_that_no_file_has_are_passed_over():
    """As a damaged index tells them."""
    infos = [((0, 0, 0), 100, 5, 0), (None, 100, 5, 0), ((1, 0, 0), None, 5, 0), ((2, 0, 0), 1 << 63, 5, 0),
             ((1 << 63, 0, 0), 100, 5, 0), ((9, 0, 0), 100, 5, 0), ((3, 1, 0), 100, 5, 0), ((4, 0, 0), 200, 6, 1)]

    class Damaged:
        chunks, shape, id = (1, 8, 8), (5, 8, 8), None

        def chunk_iter(self, note):
            for offset, at, size, mask in infos:
                note(h5py.h5d.StoreInfo(offset, mask, at, size))
    dataset = Damaged()
    dataset.id = dataset
    places = codec.Places(dataset)
    assert [places.of((i, 0, 0)) for i in range(5)] == [[100, 5, 0], *[[-1, -1, -1]] * 3, [200, 6, 1]]


@pytest.mark.parametrize("filters", [{}, BSLZ4, {"compression": "gzip", "shuffle": True}])
def test_frames_are_read_into_any_array(tmp_path, filters):
    frames = counts((5, 20, 30))
    source = Hdf5Stack(stack(tmp_path / "f.h5", frames, chunks=(1, 20, 30), **filters))
    for out in (np.zeros((20, 30, 5), "u2").transpose(2, 0, 1), np.zeros((5, 20, 60), "u2")[..., ::2],
                np.zeros((5, 20, 30), "u2")[::-1, ::-1], np.zeros((5, 20, 30), ">u4"), np.zeros((5, 20, 30))):
        with source.reader() as fill:
            fill(range(5), out)
        assert np.array_equal(out, frames)


WRITER = """
import json, sys
import h5py, numpy as np
for line in sys.stdin:
    start, stop = json.loads(line)
    with h5py.File(sys.argv[1], "a", locking=False) as file:
        for name in "ab":
            data = file[name] if name in file else file.create_dataset(
                name, (8, 6, 5), "u2", chunks=(int(sys.argv[2]), 6, 5), **json.loads(sys.argv[3]))
            for i in range(start, stop):
                data[i] = i + 1 + 100 * (name == "b")
    print("done", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("depth, announced", [(1, True), (1, False), (4, True)])
@pytest.mark.parametrize("filters", [{"compression": "lzf"}, {"fletcher32": True}, {"scaleoffset": 0},
                                     {"compression": "gzip"}, {}])
@pytest.mark.parametrize("key", ["a", "joined"])
def test_files_that_stay_open_are_seen_as_they_are_now(tmp_path, key, filters, depth, announced):
    """HDF5 gives a file that it has open as it was when it was opened: to hold a dataset of it is enough."""
    path, expected = tmp_path / "data.h5", np.zeros((8, 6, 10), int)
    expected[:] = np.arange(1, 9)[:, None, None] + 100 * (np.arange(10) >= 5)
    layout = h5py.VirtualLayout((8, 6, 10), "u2")
    for i, name in enumerate("ab"):
        layout[:, :, 5 * i:5 * i + 5] = h5py.VirtualSource("data.h5", name, (8, 6, 5))
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file.create_virtual_dataset("joined", layout)
    with subprocess.Popen([sys.executable, "-c", WRITER, path, str(depth), json.dumps(filters)], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        def write(start, stop):
            print(json.dumps((start, stop)), file=writer.stdin, flush=True)
            assert writer.stdout.readline() == "done\n"
        write(0, 2)
        source = Hdf5Stack(path, key) if key == "a" else Hdf5Stack(tmp_path / "master.h5", key)
        with source.reader() as fill:
            for start in range(0, 8, 2):
                if start:
                    write(start, start + 2)
                out = np.empty((2, *source.shape[1:]), source.dtype)
                if announced:
                    fill.ready([start, start + 1])
                fill(np.arange(start, start + 2), out)
                assert np.array_equal(out, expected[start:start + 2, :, :out.shape[-1]])
        writer.stdin.close()


@pytest.mark.slow
@pytest.mark.parametrize("filters", [{"compression": "lzf"}, {"compression": "gzip"}])
def test_of_more_files_than_may_be_open_none_is_read_as_it_was(tmp_path, monkeypatch, filters):
    monkeypatch.setattr("ptyprep.sources.hdf5.OPEN", 6)
    paths = [tmp_path / f"{i}.h5" for i in range(7)]

    def write(i, value):
        with h5py.File(tmp_path / "new", "w") as file:
            file.create_dataset("a", data=np.full((1, 4, 4), value, "u2"), chunks=(1, 4, 4), **filters)
        (tmp_path / "new").replace(paths[i])
    for i in range(7):
        write(i, i)
    source, expected, random = Hdf5Stack.joined(paths, "a"), list(range(7)), np.random.default_rng(1)
    with source.reader() as fill:
        for turn in range(300):
            first, stop = sorted(random.choice(8, 2, replace=False))
            indices = np.arange(first, stop) if turn % 3 else np.sort(random.choice(7, 2, replace=False))
            out = np.empty((len(indices), 4, 4), source.dtype)
            fill.ready(indices)
            fill(indices, out)
            assert out[:, 1, 2].tolist() == [expected[i] for i in indices]
            for i in random.choice(7, 2, replace=False):
                expected[i] = 10 * turn + int(i) + 100
                write(i, expected[i])
