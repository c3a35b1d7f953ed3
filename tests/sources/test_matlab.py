"""MATLAB's files of version 7.3, written as MATLAB writes them: an array A (h, w, n) is A.T in HDF5, with marks."""
import h5py
import numpy as np
import pytest

from ptyprep import recipe
from ptyprep.cli.show import show_text
from ptyprep.errors import OutputError, SourceError
from ptyprep.processing.plan import Window
from ptyprep.sources import Hdf5Stack
from ptyprep.sources.gathered import one_frame_in_each
from ptyprep.testing import read_ptyd

RNG = np.random.default_rng(7)
H, W, N = 13, 9, 6
PLACES = RNG.uniform(-5e-6, 5e-6, (N, 2))
A = RNG.integers(0, 60_000, (H, W, N)).astype("u2")
GEOMETRY = {"energy": 9.0, "distance": 2.0, "psize": 75e-6, "center": (6, 4)}
STORAGE = {"contiguous": {}, "chunks": {"chunks": (1, 4, 5)}, "deep": {"chunks": (4, 3, 13), "compression": "gzip"},
           "gzip": {"chunks": (1, W, H), "compression": "gzip", "shuffle": True}}


def matlab(path, marks="block", storage=None, **variables):
    """A file with variables as MATLAB has them; `marks`: where MATLAB left its name, None: nowhere."""
    with h5py.File(path, "w", userblock_size=512 if marks == "block" else 0) as file:
        for number, (name, values) in enumerate(variables.items()):
            if isinstance(values, bytes):       # from another program
                continue
            dataset = file.create_dataset(name, data=np.asarray(values).T, **(storage or {}))
            if marks == "attribute" or marks == "one of them" and number == 0:
                dataset.attrs["MATLAB_class"] = np.bytes_("uint16")
    if marks == "block":
        with open(path, "r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    return path


def windows(seed=0, count=12):
    random = np.random.default_rng(seed)
    for _ in range(count):
        (a, b), (c, d) = (np.sort(random.choice(size + 1, 2, replace=False)) for size in (H, W))
        yield Window(slice(int(a), int(b)), slice(int(c), int(d)))
    yield Window(slice(4, 5), slice(0, W))
    yield Window(slice(0, H), slice(4, 5))


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("marks", ["block", "attribute"])
@pytest.mark.parametrize("suffix", ["mat", "h5"])
def test_frames_are_those_that_matlab_shows(tmp_path, storage, marks, suffix):
    source = Hdf5Stack(matlab(tmp_path / f"a.{suffix}", marks, STORAGE[storage], dp=A))
    assert source.shape == (N, H, W) and source.turned and "as MATLAB shows it" in source.notes[0]
    for source.threads in (1, 2):
        for seed, window in enumerate(windows()):
            order = np.random.default_rng(seed).permutation(N)[:4]
            expected = np.stack([A[:, :, i][window.rows, window.cols] for i in order])
            assert np.array_equal(source.read(order, window), expected)
        assert np.array_equal(source.read(range(N)), np.moveaxis(A, 2, 0))


def test_files_without_marks_are_as_stored(tmp_path):
    source = Hdf5Stack(matlab(tmp_path / "a.mat", None, dp=A))
    assert source.shape == (N, W, H) and not source.turned and not source.notes
    assert np.array_equal(source.read(range(N)), A.T)


def test_a_mark_on_one_variable_holds_for_the_file(tmp_path):
    path = matlab(tmp_path / "a.h5", "one of them", other=np.ones((2, 3)), dp=A)
    assert Hdf5Stack(path, "dp").shape == (N, H, W)


def test_a_raster_and_an_outer_axis(tmp_path):
    raster = RNG.integers(0, 99, (H, W, 4, 3, 2)).astype("u1")      # (h, w, columns, rows, energies)
    source = Hdf5Stack(matlab(tmp_path / "a.mat", dp=raster), outer=1)
    assert source.grid == (3, 4) and source.outer_size == 2
    expected = [raster[:, :, column, row, 1] for row in range(3) for column in range(4)]
    assert np.array_equal(source.read(range(12)), expected)


def test_files_that_are_joined_linked_and_virtual(tmp_path):
    one, two = (matlab(tmp_path / f"{name}.mat", dp=part) for name, part in (("one", A[..., :4]), ("two", A[..., 4:])))
    whole = np.moveaxis(A, 2, 0)
    joined = Hdf5Stack.joined([one, two], "dp")
    assert np.array_equal(joined.read(range(N)), whole) and len(joined.notes) == 1
    layout = h5py.VirtualLayout((N, W, H), "u2")
    layout[:4], layout[4:] = (h5py.VirtualSource(path, "dp", (n, W, H)) for path, n in ((one, 4), (two, 2)))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
        file["link"] = h5py.ExternalLink("one.mat", "dp")
    window = Window(slice(2, 11), slice(1, 4))
    assert np.array_equal(Hdf5Stack(tmp_path / "v.h5", "v").read([5, 0], window), whole[[5, 0], 2:11, 1:4])
    assert np.array_equal(Hdf5Stack(tmp_path / "v.h5", "link").read(range(4)), whole[:4])
    with h5py.File(two, "r+") as file:
        stored = file["dp"][()]
    with h5py.File(two, "w") as file:
        file["dp"] = stored
    with pytest.raises(SourceError, match="v joins frames that MATLAB wrote.*give each file by itself"):
        Hdf5Stack(tmp_path / "v.h5", "v")
    with pytest.raises(SourceError, match="cannot be joined"):
        Hdf5Stack.joined([one, two], "dp")


def test_a_virtual_detector_of_two_modules(tmp_path):
    parts = [matlab(tmp_path / f"{i}.mat", dp=A[:, cols]) for i, cols in enumerate((slice(0, 4), slice(4, W)))]
    layout = h5py.VirtualLayout((N, W + 2, H), "u2")
    layout[:, :4] = h5py.VirtualSource(parts[0], "dp", (N, 4, H))
    layout[:, 6:] = h5py.VirtualSource(parts[1], "dp", (N, W - 4, H))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    source = Hdf5Stack(tmp_path / "v.h5", "v")
    expected = np.insert(np.moveaxis(A, 2, 0), [4, 4], 0, axis=2)
    assert np.array_equal(source.read(range(N)), expected)
    assert (source.mask == ~np.isin(np.arange(W + 2), (4, 5))).all() and source.mask.shape == (H, W + 2)


def test_one_frame_in_each_file(tmp_path):
    files = [matlab(tmp_path / f"f_{i}.mat", dp=A[:, :, i]) for i in range(N)]
    assert np.array_equal(one_frame_in_each(files, "dp").read(range(N)), np.moveaxis(A, 2, 0))


def scan(path, kind=None, **pars):
    table = path.parent / "p.txt"
    if "positions.slow_key" not in pars:
        np.savetxt(table, PLACES * 1e6, header="y[um] x[um]")
        pars = {"positions.file": table, **pars}
    return (kind or recipe("hdf5"))({"intensities.file": path, "intensities.key": "dp", **GEOMETRY, **pars})


def everything(scan):
    batches = list(scan.initialize().batches(4))
    return [np.concatenate([getattr(batch, name) for batch in batches]) for name in ("data", "weight", "position")]


@pytest.mark.parametrize("orientation", [0, 4, 6])
@pytest.mark.parametrize("per_frame", [False, True])
@pytest.mark.parametrize("suffix", ["mat", "h5"])
@pytest.mark.parametrize("beside", ["same", "7.3", "older"])
def test_masks_darks_and_flats_lie_on_the_frames(tmp_path, orientation, per_frame, suffix, beside):
    shape = (H, W, N) if per_frame else (H, W, 1)
    mask, flat = (RNG.random(shape) > 0.2).astype("u1"), RNG.uniform(0.5, 2, shape)
    frames, dark = RNG.integers(500, 900, (H, W, N)).astype("u2"), RNG.integers(0, 99, shape).astype("u2")
    others = {"mask": np.squeeze(mask), "dark": np.squeeze(dark), "flat": np.squeeze(flat)}
    pars = {"mask.key": "mask", "darkfield.key": "dark", "flatfield.key": "flat", "orientation": orientation}
    path = matlab(tmp_path / f"a.{suffix}", dp=frames, **(others if beside == "same" else {}))
    if beside != "same":
        if beside == "older":
            pytest.importorskip("scipy.io").savemat(tmp_path / "o.mat", others)
        else:
            matlab(tmp_path / "o.mat", "attribute", **others)
        pars |= {f"{group}.file": tmp_path / "o.mat" for group in ("mask", "darkfield", "flatfield")}
    made = scan(path, **pars, shape=(5, 5))
    data, weight, _ = everything(made)
    assert sum("as MATLAB shows" in note for note in made.notes) == 1      # of the frames
    part = np.s_[:, 6 - 2:6 + 3, 4 - 2:4 + 3]
    corrected, good = (np.moveaxis(values, 2, 0)[part] for values in (
        (frames - 1.0 * dark) / flat, np.broadcast_to(mask > 0, frames.shape)))
    turn = {0: lambda a: a, 4: lambda a: a.swapaxes(1, 2), 6: lambda a: a.swapaxes(1, 2)[:, ::-1]}[orientation]
    assert np.array_equal(weight != 0, turn(good))
    assert np.allclose(data * weight, turn(corrected * good), rtol=1e-6)


@pytest.mark.parametrize("as_columns", [False, True])
def test_positions_and_monitor_go_with_the_frames(tmp_path, as_columns):
    raster = RNG.integers(0, 99, (H, W, 3, 4)).astype("u2")
    x, y, flux = (RNG.uniform(1, 2, (3, 4)) for _ in range(3))         # MATLAB's X(a, b) is that of frame (:, :, a, b)
    if as_columns:
        raster, (x, y, flux) = raster.reshape(H, W, 12), (axis.reshape(12, 1) for axis in (x, y, flux))
    pairs = np.column_stack([y.ravel("F"), x.ravel("F")])
    path = matlab(tmp_path / "a.mat", dp=raster, x=x, y=y, flux=flux, yx=pairs)
    found = {"positions.slow_key": "y", "positions.fast_key": "x"}
    if as_columns:
        found = {"positions.slow_key": "yx", "positions.fast_key": "yx", "positions.slow_index": 0,
                 "positions.fast_index": 1}
    data, _, position = everything(scan(path, **found, **{"positions.unit": "um", "normalisation.key": "flux",
                                                          "normalisation.sigma": 9}))
    assert np.allclose(position, pairs * 1e-6)
    frames, each = raster.reshape(H, W, 12, order="F"), flux.ravel("F")
    expected = np.moveaxis(frames / (each / each.mean()), 2, 0)
    y0, x0 = 6 - len(data[0]) // 2, 4 - len(data[0][0]) // 2
    assert np.allclose(data, expected[:, y0:y0 + data.shape[1], x0:x0 + data.shape[2]], rtol=1e-6)


@pytest.mark.parametrize("per_frame", [False, True])
def test_a_mask_of_matlab_beside_other_frames_is_turned_with_a_note(tmp_path, per_frame):
    mask = np.ones((H, W), "u1")
    mask[6, 3] = 0
    matlab(tmp_path / "m.h5", "attribute", mask=np.repeat(mask[..., None], N, 2) if per_frame else mask)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["dp"] = np.moveaxis(A, 2, 0)
    made = scan(tmp_path / "a.h5", **{"mask.file": tmp_path / "m.h5", "mask.key": "mask", "shape": (5, 5)})
    assert (everything(made)[1][0] != 0).tolist() == (mask[4:9, 2:7] > 0).tolist()
    assert [note for note in made.notes if "MATLAB" in note] == [
        f"{tmp_path}/m.h5: MATLAB wrote it, and its arrays are taken as MATLAB shows them"]


def test_the_user_sees_it(tmp_path):
    path = matlab(tmp_path / "a.mat", dp=A)
    text = show_text(path)
    assert f"uint16 {(N, W, H)}, in MATLAB {(H, W, N)}" in text
    assert any("orientation that was set to turn them does so once too often now" in note
               for note in scan(path).initialize().notes)


def test_a_run_that_took_them_as_stored_is_not_continued(tmp_path, monkeypatch):
    path = matlab(tmp_path / "a.mat", dp=A[:9])     # square: shapes would not tell
    pars = {"dfile": tmp_path / "o.ptyd", "save": "link", "center": (4, 4), "shape": 8}
    class Stops(recipe("hdf5")):
        """Ends in the second chunk."""
        recipe_name, left = "hdf5", 2

        def correct(self, raw, weights, common):
            type(self).left -= 1
            if self.left < 0:
                raise RuntimeError("stopped")
            return raw, weights
    with monkeypatch.context() as before, pytest.raises(RuntimeError, match="stopped"):
        for module in ("hdf5.files", "sources.pieces"):
            before.setattr(f"ptyprep.{module}.has_matlab_marks", lambda dataset: False)
        scan(path, Stops, **pars).initialize().prepare(2)
    Stops.left = 9
    with pytest.raises(OutputError, match="cannot be resumed.*frames: was absent, is turned as MATLAB shows them"):
        scan(path, Stops, **pars, resume=True).initialize().prepare(2)
    scan(path, Stops, **pars, overwrite=True).initialize().prepare(2)
    assert np.array_equal(read_ptyd(tmp_path / "o.ptyd")["data"], np.moveaxis(A[:9], 2, 0)[:, :8, :8])


def test_frames_of_an_older_version_need_the_newer_one(tmp_path):
    pytest.importorskip("scipy.io").savemat(tmp_path / "o.mat", {"dp": A})
    with pytest.raises(SourceError, match=r"o.mat: not an HDF5 file .* bytes\); MATLAB writes one with save"):
        scan(tmp_path / "o.mat").initialize()
