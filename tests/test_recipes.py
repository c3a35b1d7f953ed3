"""The recipes for files: the contract of every recipe, and prepared frames held against plain NumPy."""
import h5py
import numpy as np
import pytest
from ptyprep_recipes.cxi import Cxi
from ptyprep_recipes.eiger import Eiger
from ptyprep_recipes.hdf5 import Hdf5
from ptyprep_recipes.ptyd import Ptyd

from ptyprep import ParameterError, recipe
from ptyprep.errors import SourceError
from ptyprep.registry import source_parameter
from ptyprep.testing import check_recipe, read_ptyd, write_cxi, write_dectris, write_positions

N, H, W = 7, 22, 26
FRAMES = np.random.default_rng(1).integers(0, 50, (N, H, W)).astype("u4")
PLACES = np.random.default_rng(2).normal(size=(N, 2)) * 1e-6
CENTER = (10, 14)
MASK = np.zeros((H, W), "u4")
MASK[3, 4], MASK[12, 13] = 1, 2


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """{recipe: parameters} of the same scan in every format."""
    folder = tmp_path_factory.mktemp("scan")
    geometry = {"energy": 8, "distance": 2, "psize": (75e-6, 75e-6)}
    write_dectris(folder / "s_master.h5", FRAMES, frames_per_file=3, links=20, center=CENTER, pixel_mask=MASK,
                  **geometry)
    write_positions(folder / "pos.txt", PLACES)
    write_cxi(folder / "s.cxi", FRAMES.astype("i4"), np.c_[PLACES[:, ::-1], np.ones(N)], mask=(MASK > 0).astype("u4"),
              **geometry)
    with h5py.File(folder / "any.h5", "w") as file:
        file["entry/frames"] = FRAMES
        file["entry/y"], file["entry/x"], file["entry/bad"] = PLACES[:, 0] * 1e6, PLACES[:, 1] * 1e6, MASK
        file["entry/y"].attrs["units"] = file["entry/x"].attrs["units"] = "um"
    pars = {
        Eiger: {"file": folder / "s_master.h5", "positions.file": folder / "pos.txt"},
        Cxi: {"file": folder / "s.cxi", "center": CENTER},
        Hdf5: {"intensities.file": folder / "any.h5", "intensities.key": "entry/frames",
               "positions.slow_key": "entry/y",
               "positions.fast_key": "entry/x", "mask.file": folder / "any.h5", "mask.key": "entry/bad",
               "mask.invert": True,
               "center": CENTER, **geometry},
    }
    pars = {cls: {name: str(v) if hasattr(v, "parent") else v for name, v in given.items()}
            for cls, given in pars.items()}
    for _ in Eiger({**pars[Eiger], "dfile": folder / "s.ptyd"}).initialize().batches(4):
        pass
    pars[Ptyd] = {"source": str(folder / "s.ptyd"), "center": CENTER}       # prepared as a whole, centre (11, 13)
    return pars


WHOLE_CENTER = (H // 2, W // 2)


def by_hand(frames, shape, center, orientation, rebin):
    """What DESIGN.md says, in a few lines of NumPy, one pixel at a time; (frames, good)."""
    h, w = shape
    flips = [bool(orientation & 2), bool(orientation & 1)]
    if orientation & 4:
        flips.reverse()
    out, good = np.zeros((len(frames), h, w), np.int64), np.zeros((h, w), bool)
    starts = []
    for c, size, flip in zip(center, shape, flips):
        middle = rebin * (size // rebin // 2) + (rebin - 1) / 2
        starts.append(int(np.floor(c - ((size - 1 - middle) if flip else middle) + 0.5)))
    for r in range(h):
        for c in range(w):
            at = starts[0] + r, starts[1] + c
            if 0 <= at[0] < H and 0 <= at[1] < W:
                out[:, r, c], good[r, c] = frames[:, at[0], at[1]], MASK[at] == 0
    out = out.reshape(len(frames), h // rebin, rebin, w // rebin, rebin).sum(axis=(2, 4))
    good = good.reshape(h // rebin, rebin, w // rebin, rebin).all(axis=(1, 3))
    if orientation & 4:
        out, good = out.swapaxes(1, 2), good.T
    if orientation & 2:
        out, good = out[:, ::-1], good[::-1]
    if orientation & 1:
        out, good = out[:, :, ::-1], good[:, ::-1]
    return out, good


@pytest.mark.parametrize("pars", [
    {}, {"shape": 12}, {"shape": (10, 16), "orientation": 5}, {"shape": 12, "rebin": 2, "orientation": 3},
    {"shape": (26, 30), "rebin": 2, "orientation": 6}, {"shape": 9, "rebin": 3, "frames": "1::2"},
])
@pytest.mark.parametrize("cls", [Eiger, Cxi, Hdf5])
def test_frames_masks_and_positions_are_those_of_plain_numpy(files, cls, pars):
    shape = np.broadcast_to(pars.get("shape", (H, W)), 2)
    chosen = slice(1, None, 2) if "frames" in pars else slice(None)
    expected, good = by_hand(FRAMES[chosen].astype(int), shape, CENTER, pars.get("orientation", 0),
                             pars.get("rebin", 1))
    batches = list(cls({**files[cls], **pars}).initialize().batches(3))
    data, weight = (np.concatenate([getattr(b, k) for b in batches]) for k in ("data", "weight"))
    assert np.array_equal(data, expected) and (weight == good).all()
    np.testing.assert_allclose(np.concatenate([b.position for b in batches]), PLACES[chosen], rtol=1e-9)


def test_ptyd_is_prepared_again(files, tmp_path):
    pars = {"shape": (10, 12), "center": (9, 11), "rebin": 2, "orientation": 4}
    batch = next(Ptyd({**files[Ptyd], **pars}).initialize().batches())
    whole = read_ptyd(files[Ptyd]["source"])
    r, c = 9 - 2 * 2, 11 - 2 * 3                    # DESIGN.md 5.2; its half a pixel is rounded up
    part = whole["data"][:, r:r + 10, c:c + 12].astype(int).reshape(N, 5, 2, 6, 2).sum(axis=(2, 4)).swapaxes(1, 2)
    good = whole["weights"][:, r:r + 10, c:c + 12].reshape(N, 5, 2, 6, 2).all(axis=(2, 4)).swapaxes(1, 2)
    assert np.array_equal(batch.data, part) and np.array_equal(batch.weight, good)
    np.testing.assert_allclose(batch.position, PLACES, rtol=1e-9)
    again = Ptyd(files[Ptyd]).initialize()
    assert again.meta.energy == 8 and again.meta.distance == 2 and again.meta.psize == (75e-6, 75e-6)


def test_ptyd_keeps_masks_of_single_frames(tmp_path):
    frames = FRAMES.copy()
    frames[4, 5, 6] = 2**32 - 1
    write_dectris(tmp_path / "s_master.h5", frames, energy=8, distance=2, psize=(1e-4, 1e-4), center=CENTER)
    np.save(tmp_path / "p.npy", PLACES)
    for _ in Eiger(file=tmp_path / "s_master.h5", **{"positions.file": tmp_path / "p.npy"}, dfile=tmp_path / "a.ptyd",
                   shape=(H, W), center=WHOLE_CENTER).initialize().batches(3):
        pass
    batch = next(Ptyd(source=tmp_path / "a.ptyd").initialize().batches())
    assert not batch.weight[4, 5, 6] and batch.weight.sum() == batch.weight.size - 1


@pytest.mark.slow
@pytest.mark.parametrize("cls, pars", [
    (Eiger, {"orientation": 5, "shape": 12}), (Eiger, {"rebin": 2, "shape": (12, 16)}),
    (Cxi, {"orientation": 2, "shape": 10}),
    (Hdf5, {"rebin": 2, "shape": 16, "orientation": 7}), (Ptyd, {"shape": 12}),
])
def test_the_contract(files, cls, pars):
    done = check_recipe(cls, ranks=3 if cls is Eiger and "rebin" in pars else 1, **files[cls], **pars)
    assert len(done) == 8 if cls is Eiger and "rebin" in pars else 7


def test_auto_finds_the_right_one(files):
    for cls in (Eiger, Cxi, Hdf5, Ptyd):
        assert recipe("auto", files[cls][source_parameter(cls)]) is cls
    assert [source_parameter(cls) for cls in (Eiger, Cxi, Hdf5, Ptyd)] == ["file", "file", "intensities.file", "source"]


def test_a_raster_in_four_dimensions(tmp_path):
    frames = np.random.default_rng(3).random((3, 4, 8, 8)).astype("f4")
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["data"], file["rows"], file["cols"] = frames, [0.0, 1, 2], [5.0, 6, 7, 8]
    scan = Hdf5({"intensities.file": tmp_path / "r.h5", "intensities.key": "data", "positions.slow_key": "rows",
                 "positions.fast_key": "cols", "positions.unit": "m"}, energy=8, distance=1, psize=1e-4,
                center="fftshift").initialize()
    batch = next(scan.batches())
    assert np.array_equal(batch.data, frames.reshape(12, 8, 8)) and batch.data.dtype == "f4"
    assert batch.position[[0, 4, 11]].tolist() == [[0, 5], [1, 5], [2, 8]]


def test_sample_motion_becomes_illumination_in_cxi(tmp_path):
    """The sample moves along +y of the laboratory; slow is -y, so the light moves to larger rows; others by hand."""
    moves = np.array([[0, 0, 0], [0, 1e-6, 0], [2e-6, 0, 0.0]])
    frames = np.ones((3, 8, 8), "i4")
    for basis, expected in (
            (((0, -1, 0), (-1, 0, 0)), [[0, 0], [1e-6, 0], [0, 2e-6]]),
            (((0, 1, 0), (1, 0, 0)), [[0, 0], [-1e-6, 0], [0, -2e-6]]),
            (((1, 0, 0), (0, -1, 0)), [[0, 0], [0, 1e-6], [-2e-6, 0]]),
            (None, [[0, 0], [1e-6, 0], [0, 2e-6]])):
        write_cxi(tmp_path / "s.cxi", frames, moves, energy=8, distance=1, psize=(1e-4, 1e-4), basis=basis)
        scan = Cxi(file=tmp_path / "s.cxi").initialize()
        np.testing.assert_allclose(scan.positions, expected, atol=1e-20)
        assert (basis is None) == any("no basis_vectors" in note for note in scan.notes)
    flipped = Cxi({"file": tmp_path / "s.cxi", "positions.flip_y": True}).initialize()
    np.testing.assert_allclose(flipped.positions, np.array([[0, 0], [-1e-6, 0], [0, 2e-6]]), atol=1e-20)


def test_electrons(tmp_path):
    write_dectris(tmp_path / "s_master.h5", FRAMES, energy=300, distance=2, psize=(1e-4, 1e-4), center=CENTER,
                  description="DECTRIS ARINA Si")
    np.save(tmp_path / "p.npy", PLACES)
    pars = {"file": tmp_path / "s_master.h5", "positions.file": tmp_path / "p.npy"}
    with pytest.raises(ParameterError, match="electron_data.*DECTRIS ARINA Si counts electrons.*300 keV.*kinetic"):
        Eiger(pars).initialize()
    # h c / lambda with lambda = h / p of a 300 keV electron, 1.96875 pm
    assert Eiger(pars, electron_data=True).initialize().meta.energy == pytest.approx(12.39841984 / 0.01968749, rel=1e-5)
    assert Eiger(pars, electron_data=False).initialize().meta.energy == pytest.approx(300)


def test_electrons_without_a_recorded_energy(tmp_path):
    write_dectris(tmp_path / "s_master.h5", FRAMES, distance=2, psize=(1e-4, 1e-4), center=CENTER,
                  description="DECTRIS ARINA Si")
    np.save(tmp_path / "p.npy", PLACES)
    pars = {"file": tmp_path / "s_master.h5", "positions.file": tmp_path / "p.npy"}
    with pytest.raises(ParameterError, match="electron_data, energy: .*counts electrons: the energy is then.*kinetic"):
        Eiger(pars).initialize()
    with h5py.File(tmp_path / "s_master.h5", "r+") as file:
        file["entry/instrument/beam/incident_wavelength"][()] = 0.01968749        # of 300 keV electrons
    with pytest.raises(ParameterError, match="electron_data.*the energy in the file, 300 keV, is then their kinetic"):
        Eiger(pars).initialize()
    assert Eiger(pars, electron_data=True).initialize().meta.energy == pytest.approx(12.39841984 / 0.01968749, rel=1e-5)


@pytest.mark.parametrize("policy, kept", [("drop", [0, 1, 2, 3, 4, 5]), ("mask", [0, 1, 2, 3, 4, 5, 6])])
def test_a_damaged_last_file_is_named_or_left_out(tmp_path, policy, kept):
    write_dectris(tmp_path / "s_master.h5", FRAMES, frames_per_file=3, energy=8, distance=2, psize=(1e-4, 1e-4),
                  center=CENTER)
    (tmp_path / "s_data_000003.h5").write_bytes(b"")
    np.save(tmp_path / "p.npy", PLACES)
    pars = {"file": tmp_path / "s_master.h5", "positions.file": tmp_path / "p.npy"}
    with pytest.raises(SourceError, match="s_data_000003.h5: not an HDF5 file.*missing for it: 1 .6 to 6"):
        Eiger(pars).initialize()
    batches = list(Eiger(pars, bad_frames=policy).initialize().batches())
    weight = np.concatenate([b.weight for b in batches])
    assert np.concatenate([b.frame for b in batches]).tolist() == kept
    assert weight.any(axis=(1, 2)).tolist() == [i < 6 for i in kept]
