"""I13-1: signs, rotation, fields and the Eiger's table."""
import h5py
import numpy as np
import pytest
from ptyprep_recipes._layouts import i13

from ptyprep import recipe
from ptyprep.errors import ParameterError, PositionError
from ptyprep.testing import Tiny

I13 = recipe("i13")


def test_the_sign_of_dls_scan_is_a_parameter(tmp_path):
    pars, tiny = i13.gda(tmp_path, Tiny.make())
    found = I13({**pars, "positions.flip_x": True}).initialize().positions
    assert np.allclose(found, tiny.positions * [1, -1], rtol=0, atol=1e-15)


def test_a_rotated_stage_moves_less_across_the_beam(tmp_path):
    pars, tiny = i13.gda(tmp_path, Tiny.make())
    along = np.linspace(-2, 2, len(tiny.frames))
    with h5py.File(tmp_path / "00123.nxs", "a") as file:
        file["entry1/merlin_sw_hdf/lab_sz"] = along         # um
    scan = I13({**pars, "theta": 30, "motors.along_beam": "entry1/merlin_sw_hdf/lab_sz"}).initialize()
    y, x = tiny.positions.T
    assert np.allclose(scan.positions, np.column_stack([y, x * np.sqrt(3) / 2 - along * 1e-6 / 2]), rtol=0, atol=1e-15)


def test_the_piezo_whose_names_were_exchanged(tmp_path):
    pars, tiny = i13.gda(tmp_path, Tiny.make())
    y, x = tiny.positions.T * 1e6
    with h5py.File(tmp_path / "00123.nxs", "a") as file:
        file["entry1/instrument/t1_pi_lx/t1_pi_lx"], file["entry1/instrument/t1_pi_ly/t1_pi_ly"] = -y, -x
    scan = I13({**pars, "motors.slow": "t1_pi_lx", "motors.fast": "t1_pi_ly", "positions.flip_y": True,
                "positions.flip_x": True}).initialize()
    assert np.allclose(scan.positions, tiny.positions, rtol=0, atol=1e-15)


def test_a_dark_scan_is_the_median_and_a_flat_scan_the_mean(tmp_path):
    pars, tiny = i13.near_field(tmp_path, Tiny.make())
    with h5py.File(tmp_path / "00201.nxs", "a") as file:
        file["entry1/instrument/pcoEdge/data"][0] = 60000               # somebody opened the shutter
    with h5py.File(tmp_path / "00202.nxs", "a") as file:
        flats = file["entry1/instrument/pcoEdge/data"]
        flats[0], flats[1] = flats[0] - 2, flats[1] + 2
    data = next(I13(pars).initialize().batches(100)).data
    assert np.allclose(data, tiny.frames)


def test_the_eiger_asks_for_projection_columns_and_unit(tmp_path):
    pars, tiny = i13.eiger(tmp_path, Tiny.make())
    with pytest.raises(ParameterError, match="holds 2 projections: set outer_index"):
        I13({**pars, "outer_index": None}).initialize()
    for missing in ("positions.slow_index", "positions.unit"):
        with pytest.raises(PositionError, match="four columns.*set positions.slow_index"):
            I13({key: value for key, value in pars.items() if key != missing}).initialize()
    with pytest.raises(PositionError, match="four columns"):
        I13({**pars, "positions.unit": None, "positions.slow_multiplier": 1e-6}).initialize()


def test_counts_of_the_eiger_above_65000_are_bad(tmp_path):
    pars, tiny = i13.eiger(tmp_path, Tiny.make())
    with h5py.File(tmp_path / "pty_tomo.h5", "a") as file:
        file["data/frames"][1, 0, 2, 3] = 65001
    scan = I13(pars).initialize()
    weight = next(scan.batches(100)).weight
    assert not weight[0, 2, 3] and weight[0].sum() == weight[0].size - 1 and weight[1:].all()
    assert any("projection 1 is at 12.5 deg" in note for note in scan.notes)
