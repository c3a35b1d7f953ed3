"""Recipe amo: thresholds, shots that are not valid, dark and flat runs."""
import h5py
import numpy as np
import pytest

from ptyprep import recipe
from ptyprep.errors import ParameterError, PositionError, SourceError

FRAMES = np.random.default_rng(3).normal(0.5, 1, (5, 4, 6)).astype("f4")
GEOMETRY = {"energy": 1.25, "distance": 0.73, "psize": 75e-6, "center": (2, 3)}


def run(path, frames=FRAMES, **more):
    n = len(frames)
    with h5py.File(path, "w") as file:
        data = {"photons": frames, "posy": np.arange(n) * 1e-3, "posx": np.arange(n) * -2e-3}
        for name, values in (data | more).items():
            file[f"data/{name}"] = values
    return {"data_file": path, **GEOMETRY}


def prepared(pars, **more):
    return next(recipe("amo")({**pars, **more}).initialize().batches(99))


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_counts_below_the_threshold_become_0(tmp_path, threshold):
    frames = FRAMES.copy()
    frames[0, 0, 0] = threshold
    batch = prepared(run(tmp_path / "r.h5", frames), threshold_correct=threshold)
    assert np.array_equal(batch.data, frames * (frames >= threshold)) and batch.data.dtype == np.float32


def test_shots_that_are_not_valid_are_left_out_with_their_positions(tmp_path):
    pars = run(tmp_path / "r.h5", valid=np.array([True, False, True, True, False]))
    batch = prepared(pars)
    assert batch.frame.tolist() == [0, 2, 3]
    assert np.allclose(batch.position, [[0, 0], [2e-6, -4e-6], [3e-6, -6e-6]], atol=1e-15)
    assert len(prepared(pars, valid_key="data/other").frame) == 5


def test_the_multiplier_is_rows_first(tmp_path):
    batch = prepared(run(tmp_path / "r.h5"), motors_multiplier=(-1e-3, 1e-6))
    assert np.allclose(batch.position[4], [-4e-6, -8e-9], atol=1e-15)


def test_a_dark_and_a_flat_run_are_averaged(tmp_path):
    rng = np.random.default_rng(5)
    dark, flat = rng.random((3, 4, 6)), 2 + rng.random((3, 4, 6))
    run(tmp_path / "d.h5", dark)
    run(tmp_path / "f.h5", flat)
    pars = run(tmp_path / "r.h5") | {"dark_file": tmp_path / "d.h5"}
    expected = np.maximum(FRAMES - dark.mean(axis=0), 0)
    assert np.allclose(prepared(pars).data, expected, atol=1e-6)
    expected /= flat.mean(axis=0) - dark.mean(axis=0)
    assert np.allclose(prepared(pars, flat_file=tmp_path / "f.h5").data, expected, atol=1e-6)


def test_what_does_not_fit_is_named(tmp_path):
    pars = run(tmp_path / "r.h5", posx=np.zeros(4))
    with pytest.raises(PositionError, match=r"r.h5: data/posx has shape \(4,\) for 5 frames in data/photons"):
        prepared(pars)
    run(tmp_path / "d.h5", FRAMES[:, :3])
    pars = run(tmp_path / "r2.h5")
    with pytest.raises(SourceError, match=r"d.h5: frames of \(3, 6\) pixels; those of .*r2.h5 have \(4, 6\)"):
        prepared(pars, dark_file=tmp_path / "d.h5")
    with pytest.raises(ParameterError, match="dark_file and darkfield were both given"):
        prepared(pars, dark_file=tmp_path / "r2.h5", **{"darkfield.file": tmp_path / "d.h5"})
