"""Recipe diproi: a file for each frame, and what readers of the same layout disagree on."""
import h5py
import numpy as np
import pytest
from ptyprep_recipes._layouts import diproi

from ptyprep import recipe
from ptyprep.errors import ParameterError, PositionError, SourceError
from ptyprep.testing import Tiny

Diproi = recipe("diproi")


@pytest.fixture
def tiny():
    return Tiny.make(rows=2, columns=3)



def prepared(pars, **more):
    scan = Diproi({**pars, **more}).initialize()
    batches = list(scan.batches())
    return scan, *(np.concatenate([getattr(b, name) for b in batches]) for name in ("data", "weight", "position"))


def nth(tmp_path, number):
    return tmp_path / "imported" / "Scan018" / "Cycle001" / "rawdata" / f"A13_IMG_{99950 + 7 * number}.h5"


def test_a_frame_without_image_takes_its_own_position_along(tmp_path, tiny):
    pars, _ = diproi.apart(tmp_path, tiny)
    with h5py.File(nth(tmp_path, 2), "a") as file:
        del file["image/ccd1"]
    with pytest.raises(SourceError, match=f"{nth(tmp_path, 2)}: no dataset image/ccd1.*Frame 2 has no position"):
        Diproi(pars).initialize()
    _, _, _, positions = prepared(pars, bad_frames="drop", **{"positions.mismatch": "drop"})
    assert np.allclose(positions, tiny.positions[[0, 1, 3, 4, 5]], atol=1e-12)


def test_a_truncated_file_is_named_and_can_be_left_out(tmp_path, tiny):
    pars, _ = diproi.apart(tmp_path, tiny)
    nth(tmp_path, 0).write_bytes(nth(tmp_path, 0).read_bytes()[:300])
    with pytest.raises(SourceError, match=f"{nth(tmp_path, 0)}: truncated"):
        Diproi(pars).initialize()
    _, _, _, positions = prepared(pars, bad_frames="drop", **{"positions.mismatch": "drop"})
    assert np.allclose(positions, tiny.positions[1:], atol=1e-12)


def test_darks_are_those_named_dark_and_a_constant_does_instead(tmp_path, tiny):
    pars, _ = diproi.apart(tmp_path, tiny)
    _, data, weight, _ = prepared(pars)
    plain = {name: value for name, value in pars.items() if name != "dark_files"}
    _, raw, _, _ = prepared(plain)
    _, less, _, _ = prepared(plain, dark_value=203)
    assert np.array_equal(less, np.maximum(raw.astype(float) - 203, 0))
    assert not np.array_equal(data[weight], less[weight])
    with pytest.raises(ParameterError, match="darkfield"):
        Diproi(plain, dark_value=203, **{"darkfield.file": nth(tmp_path, 0)}).initialize()


def test_flat_field_no_brighter_than_the_dark_makes_a_pixel_bad(tmp_path, tiny):
    pars, _ = diproi.merged(tmp_path, tiny)
    with h5py.File(tmp_path / "flat.h5", "a") as file, h5py.File(pars["dark_files"]) as dark:
        file["flat"][5, 6] = dark["data"][1, 5, 6]
    _, data, weight, _ = prepared(pars)
    good = tiny.good.copy()
    good[5, 6] = False
    assert np.array_equal(weight[0], good)
    assert np.isfinite(data).all()


def test_refined_positions_need_a_unit_and_the_subset_counts_from_one(tmp_path, tiny):
    pars, _ = diproi.refined(tmp_path, tiny)
    unsaid = {name: value for name, value in pars.items() if "multiplier" not in name}
    with pytest.raises(ParameterError, match="positions.unit, or positions.slow_multiplier"):
        Diproi(unsaid).initialize()
    with h5py.File(tmp_path / "Fermi_reconstruction.h5", "a") as file:
        file["data/reconstruct_ind_minimal"] = [[1.0, 2.0, 4.0, 6.0]]
        file["data/zero"] = [[0.0, 1.0]]
    _, _, _, positions = prepared(pars, subset_key="data/reconstruct_ind_minimal")
    assert np.allclose(positions, tiny.positions[[0, 1, 3, 5]], atol=1e-12)
    _, _, _, first_two = prepared(pars, subset_key="data/reconstruct_ind_minimal", frames="0:2")
    assert np.allclose(first_two, tiny.positions[[0, 1]], atol=1e-12)
    with pytest.raises(PositionError, match="data/zero holds 0; expected numbers of frames, 1 to 6"):
        Diproi(pars, subset_key="data/zero").initialize()


def test_other_motors_and_exchanged_axes(tmp_path, tiny):
    pars, _ = diproi.apart(tmp_path, tiny)
    _, _, _, positions = prepared(pars, **{"positions.swap": True, "positions.flip_y": True, "positions.unit": "um"})
    assert np.allclose(positions, tiny.positions[:, ::-1] * [-1e-3, 1e-3], atol=1e-15)
    _, _, _, positions = prepared(pars, **{"positions.slow_key": "DPI/SampleY", "positions.fast_key": "DPI/SampleX"})
    assert np.allclose(positions, tiny.positions[:, ::-1], atol=1e-12)


def test_readings_of_the_photodiode_are_added_up_in_each_file(tmp_path, tiny):
    pars, _ = diproi.apart(tmp_path, tiny)
    shots = [[1.0, 2.0], [4.0], [2.0, 2.0, 1.0], [3.0], [3.0], [6.0]]
    for number, readings in enumerate(shots):
        with h5py.File(nth(tmp_path, number), "a") as file:
            file["PAM/FQPDSum"] = readings
    _, plain, _, _ = prepared(pars)
    _, data, _, _ = prepared(pars, **{"normalisation.key": "PAM/FQPDSum"})
    total = np.array([3.0, 4.0, 5.0, 3.0, 3.0, 6.0])
    assert np.allclose(data, plain / (total / total.mean())[:, None, None])


def test_wavelength_is_energy_unless_given(tmp_path, tiny):
    pars, _ = diproi.apart(tmp_path, tiny)
    with h5py.File(nth(tmp_path, 0), "a") as file:
        file["photon_source/FEL01/wavelength"][...] = 20.8
    assert prepared(pars)[0].p.energy == pytest.approx(0.05960779, rel=1e-6)      # 1239.84198 eV nm / 20.8 nm
    assert prepared(pars, energy=0.06)[0].p.energy == 0.06
    with pytest.raises(ParameterError, match="energy"):
        Diproi(pars, wavelength_key="photon_source/FEL02/wavelength").initialize()
