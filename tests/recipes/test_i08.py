"""I08-1: frames and readings that are missing, or more than there are frames."""
import h5py
import numpy as np
import pytest
from ptyprep_recipes._layouts import i08

from ptyprep import recipe
from ptyprep.errors import ParameterError
from ptyprep.testing import Tiny

I08 = recipe("i08")
GROUPS = ("andor2", "andor2_sum", "I0")


@pytest.fixture
def spiral(tmp_path):
    pars, scan = i08.spiral(tmp_path, Tiny.make())
    return tmp_path / "i08-1-2121.nxs", pars, scan


def _replace(path, key, values):
    with h5py.File(path, "a") as file:
        del file[key]
        file[key] = values


def test_rows_of_the_frame_are_flipped(spiral):
    path, pars, tiny = spiral
    scan = I08({**pars, "shape": (16, 20), "center": (8, 10)}).initialize()
    data = next(scan.batches(100)).data
    assert np.array_equal(data[:, 1:], tiny.frames[:, :0:-1])       # the axis stays on pixel 8


def test_a_frame_that_never_arrived_is_named(spiral):
    path, pars, tiny = spiral
    scan = I08(pars).initialize()
    assert scan.total == len(tiny.frames)
    assert any("1 frames whose entry/andor2_sum/sum is not above 0 are left out" in note for note in scan.notes)
    assert I08({**pars, "drop_missing": False}).initialize().total == len(tiny.frames) + 1


def test_readings_of_0_are_replaced_by_set_values(spiral):
    path, pars, tiny = spiral
    for group in GROUPS:
        for axis in "YX":
            _replace(path, f"entry/{group}/Sample{axis}_value", np.zeros((len(tiny.frames) + 1, 1, 1)))
    scan = I08(pars).initialize()
    assert np.allclose(scan.positions[:-1], tiny.positions + 7e-3, rtol=0, atol=1e-15)
    assert any("readback values are 0" in note for note in scan.notes)


def test_of_readings_that_were_triggered_twice_the_first_counts(spiral):
    path, pars, tiny = spiral
    for axis, values in zip("YX", np.vstack([tiny.positions * 1e3, [0, 0]]).T):
        _replace(path, f"entry/andor2/Sample{axis}_value", np.column_stack([values, values + 1]).reshape(-1, 1, 1))
    scan = I08(pars).initialize()
    assert np.allclose(scan.positions[:-1], tiny.positions, rtol=0, atol=1e-15)
    assert any("26 readings for 13 frames; the first of each 2 is taken" in note for note in scan.notes)


def test_counts_below_the_dark_field_are_0(spiral):
    path, pars, tiny = spiral
    _replace(path, "entry/instrument/darkFieldCollector/darkField", np.full((1, 16, 20), 500, "u2"))
    data = next(I08({**pars, "orientation": 0}).initialize().batches(100)).data
    assert np.array_equal(data, np.maximum(tiny.frames.astype(float) + i08.DARK - 500, 0))


def test_two_energies_are_told_and_an_offset_is_added(spiral):
    path, pars, tiny = spiral
    with h5py.File(path, "a") as file:
        file["entry/instrument/energyFocus/value"] = 1.0
    scan = I08({**pars, "recorded_energy.offset": -0.008}).initialize()
    assert scan.p.energy == pytest.approx(9.492)
    assert any("energy is entry/instrument/pgm_energy/value, of" in note for note in scan.notes)


def test_it_says_which_distance_is_usual(spiral):
    path, pars, tiny = spiral
    with pytest.raises(ParameterError, match="Set distance=.0.072 m. .at I08-1"):
        I08({key: value for key, value in pars.items() if key != "distance"}).initialize()


def test_frames_of_the_stxm_are_not_turned(tmp_path):
    pars, tiny = i08.stxm(tmp_path, Tiny.make())
    scan = I08(pars).initialize()
    assert scan.p.orientation == 0
    assert I08({**pars, "orientation": 5}).initialize().p.orientation == 5
