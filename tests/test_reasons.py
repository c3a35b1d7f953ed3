"""Why pixels are bad: the same on any number of ranks, in chunks of any size, after an interruption, and by hand."""
import h5py
import numpy as np
import pytest

from ptyprep import Par, PtyScan, recipe
from ptyprep.processing.masks import REASONS
from ptyprep.testing import run_on_ranks, write_dectris, write_positions

N, H, W = 9, 12, 14
FRAMES = np.random.default_rng(2).integers(1, 9, (N, H, W)).astype("u4")
BITS = np.zeros((H, W), "u4")
BITS[2, 2], BITS[3, 3], BITS[4, 4], BITS[5, 5] = 1, 2, 16, 1 << 31      # gap, dead, noisy, a virtual pixel
FRAMES[:, 2, 2] = FRAMES[4, 7, 8] = FRAMES[8, 1, 13] = 2**32 - 1


def expected():
    reasons = np.zeros((H, W), "u1")
    reasons[2, 2], reasons[3, 3], reasons[4, 4] = REASONS["gap"], REASONS["dead"], REASONS["hot"]
    reasons[5, 5] = REASONS["detector"]         # the master's mask counts with any bit
    reasons[7, 8] = reasons[1, 13] = REASONS["overflow"]
    reasons[0] = REASONS["user"]
    return reasons


@pytest.fixture
def raw(tmp_path):
    write_dectris(tmp_path / "s_master.h5", FRAMES, energy=8, distance=2, psize=(75e-6, 75e-6), center=(6, 7),
                  pixel_mask=BITS)
    write_positions(tmp_path / "p.txt", np.zeros((N, 2)))
    return {"file": str(tmp_path / "s_master.h5"), "positions.file": str(tmp_path / "p.txt"),
            "mask.shapes": "rectangle 0 1 0 14", "dfile": str(tmp_path / "s.ptyd")}


def reasons_in(path):
    with h5py.File(path) as file:
        return file["info/mask_reasons"][()]


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_chunks_do_not_matter(tmp_path, raw, chunk):
    recipe("eiger")(raw).initialize().prepare(chunk)
    assert np.array_equal(reasons_in(tmp_path / "s.ptyd"), expected())


@pytest.mark.mpi
def test_ranks_do_not_matter(tmp_path, raw):
    job = run_on_ranks(3, "-c", f"from ptyprep import recipe; recipe('eiger')({raw!r}).initialize().prepare(4)")
    assert job.returncode == 0, job.stderr
    assert np.array_equal(reasons_in(tmp_path / "s.ptyd"), expected())


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 8])
def test_an_interruption_forgets_nothing(tmp_path, raw, chunk):
    scan = recipe("eiger")(raw).initialize()
    for batch in scan.batches(chunk):
        if batch.chunk_frame[-1] >= 6:      # in the chunk with frame 4, or one or two chunks after it
            break
    recipe("eiger")(raw, resume=True).initialize().prepare(chunk)
    assert np.array_equal(reasons_in(tmp_path / "s.ptyd"), expected())


@pytest.mark.parametrize(("orientation", "rebin"), [(5, 1), (0, 2), (3, 2)])
def test_reasons_follow_crop_padding_rebin_and_orientation(tmp_path, raw, orientation, rebin):
    recipe("eiger")(raw, shape=(12, 12), center=(3, 7), orientation=orientation, rebin=rebin).initialize().prepare(5)
    with h5py.File(tmp_path / "s.ptyd") as file:
        assert ((file["info/mask_reasons"][()] == 0) <= (file["chunks/0/weights"][()].all(axis=0))).all()
        found = file["info/mask_reasons"][()]
    scan = recipe("eiger")({**raw, "dfile": None}, shape=(12, 12), center=(3, 7), orientation=orientation,
                           rebin=rebin).initialize()
    (top, _), (left, right) = scan.plan.padding
    whole = np.pad(expected(), ((top, 12), (left, right)), constant_values=REASONS["outside"])
    row, col = scan.plan.window.rows.start, scan.plan.window.cols.start
    part = whole[row:row + 12, col:col + 12].reshape(12 // rebin, rebin, 12 // rebin, rebin)
    part = np.bitwise_or.reduce(np.bitwise_or.reduce(part, axis=3), axis=1)
    part = part.T if orientation & 4 else part
    part = part[::-1] if orientation & 2 else part
    assert np.array_equal(found, part[:, ::-1] if orientation & 1 else part)


def test_what_is_no_number_is_told_apart_from_overflow(tmp_path):
    frames = np.ones((3, 4, 4))
    frames[1, 2, 3] = np.nan

    class Floats(PtyScan):
        """Three frames of floats."""
        center = Par("fftshift")

        def load_positions(self):
            return np.zeros((3, 2))

        def load(self, indices):
            return frames[indices]

    Floats(energy=8, distance=2, psize=1e-4, dfile=tmp_path / "f.ptyd").initialize().prepare()
    found = reasons_in(tmp_path / "f.ptyd")
    assert found[2, 3] == REASONS["non-finite"] and (found > 0).sum() == 1


def test_bad_pixels_that_frames_show_are_masked_before_the_centre_is_looked_for(tmp_path):
    rng, (y, x) = np.random.default_rng(3), np.mgrid[:40, :40]
    frames = rng.poisson(2000 / (1 + ((y - 19) ** 2 + (x - 21) ** 2) / 20), (70, 40, 40)).astype("u2")
    frames[:, 2, 3], frames[:, 19, 25] = 5000, 0
    np.save(tmp_path / "places.npy", np.zeros((70, 2)))
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["frames"] = frames
    scan = recipe("hdf5")({"intensities.file": tmp_path / "raw.h5", "positions.file": tmp_path / "places.npy",
                           "energy": 8, "distance": 2, "psize": 1e-4, "bad_pixels.find": True,
                           "auto_center": True}).initialize()
    assert scan.report["bad_pixels"] == {"hot": 1, "dead": 1} and np.allclose(scan.plan.center, (19, 21), atol=0.3)
    assert np.argwhere(~scan.good).tolist() == [[2, 3], [19, 25]]
    assert scan.reasons[2, 3] == REASONS["hot"] and scan.reasons[19, 25] == REASONS["dead"]
