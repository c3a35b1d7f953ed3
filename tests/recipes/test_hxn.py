"""HXN: how exported frames and positions go together, and what an export may lack."""
import h5py
import numpy as np
import pytest
from ptyprep_recipes.hxn import Hxn

from ptyprep.errors import ParameterError, PositionError, SourceError

N, H, W = 4, 8, 12
COUNTS = np.random.default_rng(3).poisson(5, (N, H, W)).astype(float)
POINTS = np.array([[0.0, 0.1, 0.2, 0.3], [0.0, 5.0, 1.0, 2.0]])


def write(path, **more):
    """An export, one pixel at a time; datasets of value None are left out."""
    stored = np.zeros((N, W, H))
    for row in range(H):
        for col in range(W):        # clockwise: the last row becomes the first column; then the middle to the corner
            stored[:, (col + W // 2) % W, (H - 1 - row + H // 2) % H] = np.sqrt(COUNTS[:, row, col])
    with h5py.File(path, "w") as file:
        for name, value in {"diffamp": stored, "points": POINTS, "z_m": 0.5, "lambda_nm": 0.12398, "ccd_pixel_um": 55.0,
                            "angle": 0.0, **more}.items():
            if value is not None:
                file[name] = value
    return {"file": str(path)}


def prepared(pars):
    scan = Hxn(pars).initialize()
    batches = list(scan.batches())
    return (np.concatenate([batch.data for batch in batches]),
            np.concatenate([batch.position for batch in batches]) * 1e6, scan)


def test_an_export_is_turned_back(tmp_path):
    data, positions, scan = prepared(write(tmp_path / "scan_1.h5"))
    assert np.allclose(data, COUNTS) and scan.plan.center == (4, 6)
    assert np.allclose(positions, np.column_stack([POINTS[1], -POINTS[0]]))
    assert (scan.p.energy, scan.p.distance) == (pytest.approx(10), 0.5) and np.allclose(scan.p.psize, 55e-6)
    assert any("EIGER: 75 um" in note for note in scan.notes)


def test_or_left_as_it_is_and_then_is_the_same_experiment(tmp_path):
    """Frames and positions both are turned by 90 degrees clockwise: row becomes column, column becomes -row."""
    data, positions, _ = prepared({**write(tmp_path / "scan_1.h5"), "rotate_back": False})
    assert np.allclose(data, np.rot90(COUNTS, axes=(2, 1)))
    assert np.allclose(positions, np.column_stack([-POINTS[0], -POINTS[1]]))
    y, x = prepared(write(tmp_path / "scan_2.h5"))[1].T
    assert np.allclose(positions, np.column_stack([x, -y]))


@pytest.mark.parametrize("angle, factor", [(0, 1), (30, np.sqrt(0.75)), (45, np.sqrt(0.5)), (90, 1), (None, 1),
                                           (-30, np.sqrt(0.75)), (-60, -np.sqrt(0.75))])
def test_x_by_the_angle_of_the_stage(tmp_path, angle, factor):
    _, positions, scan = prepared(write(tmp_path / "scan_1.h5", angle=angle))
    assert np.allclose(positions, np.column_stack([POINTS[1], -POINTS[0] * factor]))
    assert any("no angle of the stage" in note for note in scan.notes) == (angle is None)
    _, positions, _ = prepared({**write(tmp_path / "scan_2.h5", angle=angle), "stage_rotation": 0})
    assert np.allclose(positions[:, 1], -POINTS[0])


@pytest.mark.parametrize("energy", [9.5, 9500.0])
def test_energy_without_a_unit(tmp_path, energy):
    _, _, scan = prepared(write(tmp_path / "scan_1.h5", lambda_nm=None, **{"scan/energy": energy}))
    assert scan.p.energy == 9.5 and any("has no unit and is taken as" in note for note in scan.notes)


def test_nothing_is_invented_for_what_an_export_lacks(tmp_path):
    with pytest.raises(ParameterError, match="distance, psize: neither recorded nor given"):
        prepared(write(tmp_path / "scan_1.h5", z_m=0.0, ccd_pixel_um=None))


def test_linked_frames_that_are_gone(tmp_path):
    pars = write(tmp_path / "scan_1.h5", diffamp=None, **{"raw_data/filename": "/nsls2/merlin_7.h5"})
    with pytest.raises(SourceError, match="/nsls2/merlin_7.h5, which is neither there nor beside it"):
        prepared(pars)


def test_the_region_of_linked_frames_is_around_their_center(tmp_path):
    with h5py.File(tmp_path / "merlin_7.h5", "w") as file:
        file["frames"] = COUNTS.astype("u2")
    pars = write(tmp_path / "scan_1.h5", diffamp=None,
                 **{"raw_data/filename": "/nsls2/merlin_7.h5", "raw_data/roi": [[1, 5], [6, 12]]})
    with pytest.raises(SourceError, match="merlin_7.h5: which are the frames.*/frames"):
        prepared(pars)
    data, positions, scan = prepared({**pars, "key": "frames", "shape": (4, 6)})
    assert np.array_equal(data, COUNTS[:, 1:5, 6:12]) and scan.p.center == (3, 9)
    assert np.allclose(positions, np.column_stack([POINTS[1], -POINTS[0]]))
    assert any("shape=(4, 6)" in note for note in scan.notes)


def test_frames_without_positions_and_the_other_way_round(tmp_path):
    with pytest.raises(PositionError, match="4 frames but 3 positions"):
        prepared(write(tmp_path / "scan_1.h5", points=POINTS[:, :3]))
    with pytest.raises(PositionError, match=r"points has shape \(4, 2\); expected \(2, frames\)"):
        prepared(write(tmp_path / "scan_2.h5", points=POINTS.T))


def test_two_detectors_are_asked_about(tmp_path):
    more = {f"diff_data/{name}/det_images": COUNTS for name in ("eiger1", "merlin1")}
    pars = write(tmp_path / "scan_1.h5", diffamp=None, **more)
    with pytest.raises(SourceError, match="which are the frames.*eiger1.*merlin1.*Set key"):
        prepared(pars)
    data, _, _ = prepared({**pars, "key": "diff_data/merlin1/det_images", "center": (4, 6)})
    assert np.allclose(data, COUNTS)
