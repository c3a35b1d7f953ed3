"""Recipe p06: encoders about a turned sample, files that are missing, frames of a point added up."""
import h5py
import numpy as np
import pytest
from ptyprep_recipes._layouts import p06 as layouts

from ptyprep import recipe
from ptyprep.errors import PtyprepError
from ptyprep.testing import Tiny

P06 = recipe("p06")


def positions(scan):
    return np.concatenate([b.position for b in scan.initialize().batches()])


@pytest.fixture
def fly(tmp_path):
    return layouts.fly(tmp_path, Tiny.make())


@pytest.mark.parametrize("motor", ["scanu", "scanv", "scanx", "scany"])
def test_axes_follow_from_the_angle_of_the_sample(tmp_path, fly, motor):
    pars, tiny = fly
    u, v, samr = [], [], []
    for file in sorted(tmp_path.glob("*/pilc*/*.nxs")):
        with h5py.File(file) as opened:
            for values, name in ((samr, "encoder_1"), (v, "encoder_2"), (u, "encoder_3")):
                values += opened[f"entry/data/{name}"][()].tolist()
    u, v, r = np.array(u), np.array(v), np.deg2rad(samr)
    expected = {"scanu": u, "scanv": v, "scanx": np.sin(r) * v + np.cos(r) * u, "scany": np.cos(r) * v - np.sin(r) * u}
    assert positions(P06(pars, x_motor=motor))[:, 1] == pytest.approx(-1e-6 * expected[motor], abs=1e-15)


def test_encoders_of_another_set_up(fly):
    pars, _ = fly
    found = positions(P06(pars, encoder_axes=("x", "y"), y_motor="y", x_motor="x", motor_multiplier=1e-6))
    assert found[:, 1] == pytest.approx(30e-6)


def test_motors_have_to_be_said(fly):
    pars, _ = fly
    with pytest.raises(PtyprepError, match="Set y_motor and x_motor.*cmesh scanz 0 1 1"):
        P06({**pars, "x_motor": None}).initialize()
    with pytest.raises(PtyprepError, match="no motor samx"):
        P06({**pars, "x_motor": "samx"}).initialize()


def test_a_data_file_missing_in_the_middle_shifts_no_frame(tmp_path, fly):
    pars, tiny = fly
    next(tmp_path.glob("*/eiger*/*_data_000002.h5")).unlink()
    with pytest.raises(PtyprepError, match="_data_000002.*bad_frames"):
        P06(pars).initialize()
    scan = P06(pars, bad_frames="drop").initialize()
    batch = next(scan.batches(12))
    assert batch.frame.tolist() == [0, 1, 2, 3, 4, 10, 11]
    assert batch.position == pytest.approx(tiny.positions[[0, 1, 2, 3, 4, 10, 11]], abs=1e-12)
    assert np.array_equal(batch.data[-1][tiny.good], tiny.frames[-1][tiny.good])


def test_readings_of_the_beam_monitor(tmp_path, fly):
    pars, tiny = fly
    (tmp_path / "scan_00007/qbpm_02").mkdir()
    flux = np.linspace(2, 3, 12)
    for number, part in enumerate((flux[:6], flux[6:])):
        with h5py.File(tmp_path / f"scan_00007/qbpm_02/scan_00007_{number:05d}.nxs", "w") as file:
            file["entry/data/value1"] = part
    scan = P06(pars, **{"normalisation.key": "qbpm_02/value1"}).initialize()
    data = next(scan.batches(12)).data
    assert data[3][tiny.good] == pytest.approx(tiny.frames[3][tiny.good] / flux[3] * flux.mean())


def test_commands_that_give_no_raster_are_refused(tmp_path):
    pars, _ = layouts.step(tmp_path, Tiny.make())
    with h5py.File(pars["file"], "a") as file:
        file["scan/program_name"].attrs["scan_command"] = "dscan pix 0 1 10 0.1"
    with pytest.raises(PtyprepError, match="dscan pix.*positions.file"):
        P06(pars).initialize()


def test_the_first_motor_of_a_command_is_slow_whichever_it_is(tmp_path):
    pars, tiny = layouts.step(tmp_path, Tiny.make())
    found = positions(P06(pars, y_motor="pix", x_motor="piy"))
    assert found == pytest.approx(tiny.positions[:, ::-1], abs=1e-12)


def test_files_of_unlike_length_are_no_points(tmp_path, fly):
    with pytest.raises(PtyprepError, match="2 to 5 frames in its files; with one_file_per_point"):
        P06(fly[0], one_file_per_point=True).initialize()


def test_repeats_that_nobody_asked_to_add_up_are_refused(tmp_path):
    pars, _ = layouts.step(tmp_path, Tiny.make())
    with pytest.raises(PtyprepError, match="24 frames in as many files as there are positions, 12: set one_file"):
        P06({**pars, "one_file_per_point": False}).initialize()
