"""From raw files to a .ptyd: prepared frames, masks and positions against plain NumPy."""
import pickle
import shutil
from unittest.mock import patch

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptyprep import OutputError, Par, ParameterError, PositionError, PtyScan, SourceError, recipe
from ptyprep.hdf5.h5rw import write as write_value
from ptyprep.processing.plan import FramePlan
from ptyprep.sources import open_frames
from ptyprep.testing import read_ptyd, run_on_ranks, write_cxi

N, H, W = 6, 8, 10
RNG = np.random.default_rng(11)
FRAMES = RNG.integers(1, 1000, (N, H, W)).astype("u2")
PLACES = RNG.normal(size=(N, 2)) * 1e-6
GEOMETRY = {"energy": 8.0, "distance": 2.0, "psize": 75e-6, "center": (4, 5)}
KINDS = ["u1", "u2", ">u2", "u4", "i2", "i4", ">i4", "f4", "f8", "?"]
FILTERS = {"bslz4": dict(hdf5plugin.Bitshuffle(cname="lz4")), "lz4": dict(hdf5plugin.LZ4()), "none": {},
           "gzip": {"compression": "gzip"}, "shuffled gzip": {"compression": "gzip", "shuffle": True},
           "shuffled": {"shuffle": True}, "lzf": {"compression": "lzf"}, "checked": {"fletcher32": True},
           "small blocks": dict(hdf5plugin.Bitshuffle(nelems=16, cname="lz4"))}
LAYOUTS = ["dataset", "contiguous", "user block", "links", "virtual", "interleaved", "modules"]


class Stack(PtyScan):
    """Frames of one dataset."""
    energy, distance, psize = Par(7.0), Par(2.0), Par(75e-6)
    path: str = Par(doc="The file.")

    def open(self):
        return open_frames(self.p.path, "data")

    def load_positions(self):
        return np.zeros((self.source.shape[0], 2))

    def load_weight(self):
        good = np.ones(self.source.shape[1:], bool)
        good[::5, 3] = False
        return good


def numbers(kind, shape, random):
    """Counts with what a detector writes for overflow, gaps and nonsense."""
    values = random.poisson(20, shape).astype(kind)
    odd = random.random(shape) < 0.02
    if values.dtype.kind in "iu":
        values[odd] = np.iinfo(kind).max
        if values.dtype.kind == "i":
            values[random.random(shape) < 0.02] = -2
    elif values.dtype.kind == "f":
        values[odd] = random.choice([np.nan, np.inf, -np.inf], odd.sum())
    return values


def slowly(values, good, plan):
    """(frames, masks) by NumPy, one whole frame after the other."""
    frames, masks = [], []
    for frame in values:
        mask = good.copy()
        if frame.dtype.kind == "f":
            mask &= np.isfinite(frame)
            frame = np.where(np.isfinite(frame), frame, 0)
        elif frame.dtype.kind in "iu":
            mask &= frame != np.iinfo(frame.dtype).max
        frames.append(plan.apply(plan.window.cut(frame[None]))[0])
        masks.append(plan.apply_weight(plan.window.cut(mask)))
    return np.array(frames), np.array(masks)


def write(folder, values, layout, chunks, filters):
    """raw.h5 whose dataset `data` holds these frames, in one of `LAYOUTS`; no name in it leads beside the folder."""
    n, h, _ = values.shape
    path = folder / "raw.h5"
    if layout in ("dataset", "contiguous", "user block"):
        if layout == "contiguous":
            chunks, filters = None, {}
        with h5py.File(path, "w", userblock_size=512 if layout == "user block" else 0) as file:
            file.create_dataset("data", data=values, chunks=chunks, **filters)
        return
    # where the frames of each file lie in the whole: (frames, rows)
    some = {"links": [(slice(None), slice(None))],
            "virtual": [(slice(0, n // 2), slice(None)), (slice(n // 2, n), slice(None))],
            "interleaved": [(slice(i, None, 3), slice(None)) for i in range(min(n, 3))],
            "modules": [(slice(None), slice(0, h // 2)), (slice(None), slice(h // 2, h))]}[layout]
    joined = h5py.VirtualLayout(values.shape, values.dtype)
    for number, place in enumerate(some):
        part = values[place]
        if part.size:
            with h5py.File(folder / f"{number}.h5", "w") as file:
                chunk = tuple(min(c, size) for c, size in zip(chunks, part.shape))
                file.create_dataset("part", data=part, chunks=chunk, **filters)
            joined[place] = h5py.VirtualSource(f"{number}.h5", "part", part.shape, part.dtype)
    with h5py.File(path, "w") as file:
        if layout == "links":
            file["data"] = h5py.ExternalLink("0.h5", "/part")
        else:
            file.create_virtual_dataset("data", joined)


# --- the fast road through chunks, threads and blocks, and the slow one through NumPy ------------------------

@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_both_roads_lead_to_the_same(tmp_path_factory, data):
    n, h, w = (data.draw(st.integers(low, high)) for low, high in ((1, 13), (8, 40), (8, 40)))
    kind, how = data.draw(st.sampled_from(KINDS)), data.draw(st.sampled_from(sorted(FILTERS)))
    chunks = tuple(data.draw(st.integers(1, size)) for size in (n, h, w)) if data.draw(st.booleans()) else (1, h, w)
    rebin = data.draw(st.sampled_from([1, 1, 2, 3]))
    wish = {"shape": tuple(rebin * data.draw(st.integers(1, size // rebin)) for size in (h, w)), "rebin": rebin,
            "center": (data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))),
            "orientation": data.draw(st.integers(0, 7))}
    folder = tmp_path_factory.mktemp("roads")
    values = numbers(kind, (n, h, w), np.random.default_rng(data.draw(st.integers(0, 99))))
    write(folder, values, data.draw(st.sampled_from(LAYOUTS)), chunks, FILTERS[how])
    scan = Stack(path=str(folder / "raw.h5"), dfile=folder / "s.ptyd", threads=data.draw(st.sampled_from([1, 3])),
                 compression=data.draw(st.sampled_from(["portable", "bslz4", "none"])), **wish).initialize()
    with patch("ptyprep.parallel.buffers.SMALL", 1):     # memory is taken again, though frames are small
        size = data.draw(st.integers(1, n))
        batches = scan.prepare(size) if (gone := data.draw(st.booleans())) else list(scan.batches(size))

    good = np.ones((h, w), bool)
    good[::5, 3] = False
    frames, masks = slowly(values, good, FramePlan.make((h, w), **wish))
    if not gone:
        assert np.array_equal(np.concatenate([batch.data for batch in batches]), frames)
        assert np.array_equal(np.concatenate([batch.weight for batch in batches]), masks)
    saved = read_ptyd(folder / "s.ptyd")
    assert saved["data"].dtype == frames.dtype.newbyteorder("=")
    assert np.array_equal(saved["data"], frames) and np.array_equal(saved["weights"], masks)


# --- one scan through the recipe for HDF5 --------------------------------------------------------------------

def scan_of(folder, frames=FRAMES, *, places=PLACES, datasets=None, **pars):
    with h5py.File(folder / "raw.h5", "w") as file:
        for name, values in {"frames": frames, **(datasets or {})}.items():
            file[name] = values
    np.save(folder / "places.npy", places)
    return recipe("hdf5")({"intensities.file": folder / "raw.h5", "intensities.key": "frames",
                           "positions.file": folder / "places.npy", **GEOMETRY, **pars})


def prepared(scan):
    batches = list(scan.initialize().batches(4))
    return np.concatenate([b.data for b in batches]), np.concatenate([b.weight for b in batches])


def test_integers_with_a_flat_field_or_a_monitor_are_not_cut_off(tmp_path):
    frames = np.full((N, H, W), 5, "u2")
    data, _ = prepared(scan_of(tmp_path, frames, datasets={"flat": np.full((H, W), 2)}, **{"flatfield.key": "flat"}))
    assert (data == 2.5).all()
    flux = np.array([2.0, 4.0] * 3)
    data, _ = prepared(scan_of(tmp_path, frames, datasets={"i0": flux}, **{"normalisation.key": "i0"}))
    assert np.allclose(data[:, 0, 0], [7.5, 3.75] * 3)


def test_flat_field_monitor_padding_and_a_whole_number_as_shape_go_together(tmp_path):
    flux, flat = RNG.uniform(4, 5, N), RNG.uniform(0.5, 2, (H, W))
    data, _ = prepared(scan_of(tmp_path, datasets={"i0": flux, "flat": flat}, padding=2, shape=12, **{
        "normalisation.key": "i0", "flatfield.key": "flat"}))
    expected = np.pad(FRAMES / flat / (flux / flux.mean())[:, None, None], ((0, 0), (2, 2), (1, 1)))
    assert np.allclose(data, expected, rtol=1e-6)       # divided by the flux, and multiplied with its mean


def test_outliers_of_the_monitor_are_named(tmp_path, caplog):
    caplog.set_level("INFO")
    flux = np.append(np.full(19, 4.0), 9.0)
    frames = np.concatenate([FRAMES] * 4)[:20]
    data, _ = prepared(scan_of(tmp_path, frames, places=np.zeros((20, 2)), datasets={"i0": flux},
                               **{"normalisation.key": "i0"}))
    assert "frames 19" in caplog.text and np.allclose(data[19], frames[19] * 4 / 9, rtol=1e-6)


def test_a_region_may_be_a_rectangle(tmp_path):
    data, _ = prepared(scan_of(tmp_path, shape=(4, 6)))
    assert np.array_equal(data, FRAMES[:, 2:6, 2:8])


def test_rebinning_adds_counts_as_integers(tmp_path):
    data, _ = prepared(scan_of(tmp_path, rebin=2, center=4.5))     # the axis between raw pixels, in the middle of one
    assert data.dtype == "u4" and data.sum() == FRAMES.sum(dtype="u8")


def test_a_checkerboard_mask_leaves_no_rebinned_pixel(tmp_path):
    board = np.indices((H, W)).sum(axis=0) % 2
    _, weight = prepared(scan_of(tmp_path, datasets={"mask": board}, rebin=2, **{"mask.key": "mask"}))
    assert not weight.any()


def test_a_centre_of_zero_is_one_and_a_given_one_is_not_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("ptyprep.pipeline.sample.find_center", lambda *seen: pytest.fail("nobody asked for it"))
    data, weight = prepared(scan_of(tmp_path, center=0, shape=4))
    assert np.array_equal(data[:, 2:, 2:], FRAMES[:, :2, :2]) and not weight[:, :2].any()


def test_values_out_of_bounds_are_masked_and_keep_their_counts(tmp_path):
    frames = FRAMES.copy()
    frames[2, 3, 3] = 2**16 - 1
    data, weight = prepared(scan_of(tmp_path, frames))
    assert np.argwhere(~weight).tolist() == [[2, 3, 3]] and data[2, 3, 3] == 2**16 - 1


def test_masks_of_cxi_files_are_loaded(tmp_path):
    bits = np.zeros((H, W), "u4")
    bits[2, 3] = 1
    write_cxi(tmp_path / "s.cxi", FRAMES, np.c_[PLACES, np.zeros(N)], energy=8, distance=2, psize=(75e-6, 75e-6),
              mask=bits)
    _, weight = prepared(recipe("cxi")(file=tmp_path / "s.cxi"))
    assert (weight == (bits == 0)).all()


def test_frames_and_positions_of_other_lengths_are_an_error(tmp_path):
    with pytest.raises(PositionError, match="6 frames but 5 positions"):
        scan_of(tmp_path, places=PLACES[:5]).initialize()


def test_the_centre_is_not_the_brightest_point_of_the_first_frame(tmp_path):
    y, x = np.mgrid[:41, :41]
    frames = np.stack([1000 * np.exp(-((y - 18) ** 2 + (x - 22) ** 2) / 60)] * N)
    frames[0, 30, 5] = 50_000
    scan = scan_of(tmp_path, frames.astype("u2"), center=None, auto_center=True).initialize()
    assert np.allclose(scan.plan.center, (18, 22), atol=0.5)


def test_links_stay_right_when_the_folder_moves(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    prepared(scan_of(tmp_path, dfile="here/s.ptyd", save="link"))
    shutil.move(tmp_path / "here", tmp_path / "there")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert np.array_equal(read_ptyd(tmp_path / "there" / "s.ptyd")["data"], FRAMES)


def test_merge_makes_one_chunk(tmp_path):
    scan_of(tmp_path, dfile=tmp_path / "s.ptyd", save="merge").initialize().prepare(2)
    with h5py.File(tmp_path / "s.ptyd") as file:
        assert list(file["chunks"]) == ["0"] and np.array_equal(file["chunks/0/data"], FRAMES)


def test_a_mask_is_written_once_and_small(tmp_path):
    scan_of(tmp_path, datasets={"mask": FRAMES[0] > 500}, dfile=tmp_path / "s.ptyd", **{"mask.key": "mask"}
            ).initialize().prepare(2)
    with h5py.File(tmp_path / "s.ptyd") as file:
        assert "weights" not in file["chunks/0"] and file["meta/weight2d"].dtype == bool


@pytest.mark.mpi
def test_every_rank_may_open_the_file_at_once_when_the_scan_ends(tmp_path):
    scan_of(tmp_path)
    pars = {"intensities.file": "raw.h5", "intensities.key": "frames", "positions.file": "places.npy", **GEOMETRY,
            "dfile": "s.ptyd", "save": "append"}
    script = (f"import h5py; from ptyprep import recipe\nscan = recipe('hdf5')({pars!r})\n"
              "scan.initialize().prepare(2)\n"
              "with h5py.File('s.ptyd', 'r') as file:\n"
              "    assert sum(len(c['data']) for c in file['chunks'].values()) == 6")
    job = run_on_ranks(3, "-c", script, cwd=tmp_path)
    assert job.returncode == 0, job.stderr


def prepared_by_others(path, chunks, **weights):
    """A .ptyd by plain h5py, without a `type` on anything."""
    with h5py.File(path, "w") as file:
        for name, value in {"energy": 8.0, "distance": 2.0, "psize": [75e-6, 75e-6], "shape": [H, W],
                            "center": [4.0, 5.0], "num_frames": N, "version": 0.1}.items():
            file[f"meta/{name}"] = value
        for name, some in chunks.items():
            file[f"chunks/{name}/data"], file[f"chunks/{name}/positions"] = FRAMES[some], PLACES[some]
            file[f"chunks/{name}/indices"] = np.array(some)
            for key, value in weights.items():
                file[f"chunks/{name}/{key}"] = value


def test_stored_indices_and_odd_chunks_of_a_ptyd_are_understood(tmp_path):
    prepared_by_others(tmp_path / "s.ptyd", {"0": [0, 1], "1": [2, 3], "10": [4, 5]}, extra=np.zeros(3))
    with h5py.File(tmp_path / "s.ptyd", "a") as file:
        file["chunks/0/more/inside"] = 1
    batch = next(recipe("ptyd")(source=tmp_path / "s.ptyd").initialize().batches(10))
    assert np.array_equal(batch.data, FRAMES) and np.array_equal(batch.position, PLACES)


def test_numbers_without_dimensions_and_files_without_types(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        write_value(file, "zero", np.array(3.5))
        assert file["zero"][()] == 3.5
    prepared_by_others(tmp_path / "s.ptyd", {"0": list(range(N))})
    assert np.array_equal(prepared(recipe("ptyd")(source=tmp_path / "s.ptyd"))[0], FRAMES)


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("unpickled",)


def test_no_pickle_is_opened(tmp_path):
    prepared_by_others(tmp_path / "s.ptyd", {"0": list(range(N))})
    with h5py.File(tmp_path / "s.ptyd", "a") as file:
        file["meta/label"] = np.void(pickle.dumps(Bomb()))
        file["meta/label"].attrs["type"] = "pickle"
    scan = recipe("ptyd")(source=tmp_path / "s.ptyd")
    try:
        assert np.array_equal(prepared(scan)[0], FRAMES)
    except SourceError as err:
        assert "s.ptyd" in str(err)


def test_a_file_is_not_prepared_onto_itself(tmp_path):
    prepared_by_others(tmp_path / "s.ptyd", {"0": list(range(N))})
    for overwrite in (False, True):
        with pytest.raises((OutputError, ParameterError), match="s.ptyd"):
            recipe("ptyd")(source=tmp_path / "s.ptyd", dfile=tmp_path / "s.ptyd", overwrite=overwrite).initialize()
    assert [p.name for p in tmp_path.iterdir()] == ["s.ptyd"]
