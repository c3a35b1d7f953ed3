"""Recipe nanomax: what happens where a scan is not as it should be."""
import h5py
import numpy as np
import pytest
from ptyprep_recipes._layouts import nanomax as layouts

from ptyprep import recipe
from ptyprep.errors import PtyprepError
from ptyprep.testing import Tiny

Nanomax = recipe("nanomax")
GIVEN = {"energy": 10.0, "distance": 2.0, "psize": 55e-6, "center": (2, 3)}


def contrast(folder, number, frames, **measured):
    with h5py.File(folder / f"{number:06d}.h5", "w") as file:
        file["entry/measurement/pilatus/frames"] = frames
        for name, values in measured.items():
            file[f"entry/measurement/{name}"] = values


def sardana(folder, lines, **measured):
    """One fly scan, number 3, with so many frames in each line; None for a line without an entry."""
    folder.mkdir()
    with h5py.File(folder / "s.h5", "w") as file:
        for name, values in measured.items():
            file[f"entry3/measurement/{name}"] = values
    with h5py.File(folder / "scan_0003_pil100k_0000.hdf5", "w") as file:
        for i, count in enumerate(lines):
            if count:
                file[f"entry_{i:04d}/measurement/Pilatus/data"] = counts(count, 10 * i)


def counts(n, first=0, kind="i4"):
    """Frame i counts first + i in every pixel."""
    return np.broadcast_to(np.arange(first, first + n, dtype=kind)[:, None, None], (n, 4, 6))


def prepared(**pars):
    scan = Nanomax(**{**GIVEN, **pars}).initialize()
    batches = list(scan.batches())
    data, weight, position = (np.concatenate(parts) for parts in zip(*((b.data, b.weight, b.position)
                                                                       for b in batches)))
    return scan, data, weight, position * 1e6


def test_an_interrupted_scan_moves_none_of_the_next(tmp_path):
    contrast(tmp_path, 1, counts(3), sy=[0.0, 1, 2, 3], sx=[5.0, 6, 7, 8])
    contrast(tmp_path, 2, counts(4, 10), sy=[10.0, 11, 12], sx=[15.0, 16, 17])
    with pytest.raises(PtyprepError, match="scan 1: 3 frames but 4 positions.*mismatch='first'"):
        prepared(path=tmp_path, scans=(1, 2))
    _, data, _, um = prepared(path=tmp_path, scans=(1, 2), **{"positions.mismatch": "first"})
    assert data[:, 0, 0].tolist() == [0, 1, 2, 10, 11, 12]
    assert um[:, 0] == pytest.approx([0, -1, -2, -10, -11, -12])
    assert um[:, 1] == pytest.approx([-5, -6, -7, -15, -16, -17])


def test_scans_are_joined_in_the_order_given_and_share_one_monitor(tmp_path):
    contrast(tmp_path, 1, counts(2, 1), sy=[0.0, 1], sx=[5.0, 6], I0=[-1e-9, -1e-9])
    contrast(tmp_path, 2, counts(2, 11), sy=[2.0, 3], sx=[7.0, 8], I0=[[-2e-9, -4e-9], [-3e-9, -3e-9]])
    _, data, _, um = prepared(path=tmp_path, scans=(2, 1), **{"normalisation.key": "I0"})
    assert data[:, 0, 0] == pytest.approx(np.array([11, 12, 1, 2]) / np.array([1.5, 1.5, 0.5, 0.5]))
    assert um[:, 0] == pytest.approx([-2, -3, 0, -1])


def test_marks_are_found_before_frames_are_divided(tmp_path):
    frames = np.array(counts(4, 8))
    frames[:, 1, 2], frames[:, 3, 5] = -1, -2
    contrast(tmp_path, 1, frames, sy=[0.0, 1, 2, 3], sx=[5.0, 6, 7, 8], I0=[1.0, 2, 1, 2])
    _, _, weight, _ = prepared(path=tmp_path, scans=1, **{"normalisation.key": "I0"})
    assert np.argwhere(~weight[0]).tolist() == [[1, 2], [3, 5]]


@pytest.mark.parametrize(("burst", "expected"), [("sum", [10 + 11 + 12, 13 + 14 + 15]), ("first", [10, 13])])
def test_frames_of_a_burst(tmp_path, burst, expected):
    frames = np.array(counts(6, 10, "u2"))
    frames[4, 0, 0] = 2**16 - 1
    contrast(tmp_path, 1, frames, sy=[0.0, 1], sx=[5.0, 6])
    scan, data, weight, _ = prepared(path=tmp_path, scans=1, burst=burst)
    assert data[:, 1, 1].tolist() == expected
    assert weight[:, 0, 0].tolist() == [True, burst == "first"]     # the mark is in the second frame of its burst
    assert any("3 frames for each point" in note for note in scan.notes)


def test_a_zero_among_readings_is_no_padding(tmp_path):
    x = [[0.0, 0, 2, 0, 0], [1, 0, 3, 0, 0]]
    sardana(tmp_path / "s", [3, 3], samx_buff=x, samy_buff=[[5.0, 5, 5, 0, 0], [6, 6, 6, 0, 0]])
    _, _, _, um = prepared(path=tmp_path / "s", scans=3)
    assert um[:, 1] == pytest.approx([0, 0, -2, -1, 0, -3])
    assert um[:, 0] == pytest.approx([-5, -5, -5, -6, -6, -6])


def test_a_buffer_without_padding_and_a_shorter_one(tmp_path):
    sardana(tmp_path / "s", [3, 3], samx_buff=[[1.0, 2, 3], [4, 5, 6]], samy_buff=[[1.0, 1, 1, 0], [2, 2, 2, 0]])
    assert prepared(path=tmp_path / "s", scans=3)[3][:, 1] == pytest.approx([-1, -2, -3, -4, -5, -6])


def test_the_detector_says_how_long_a_line_is(tmp_path):
    sardana(tmp_path / "s", [2, 2], samx_buff=[[1.0, 2, 3, 0], [4, 5, 6, 0]], samy_buff=[[1.0, 1, 1, 0], [2, 2, 2, 0]])
    scan, data, _, um = prepared(path=tmp_path / "s", scans=3)
    assert um[:, 1] == pytest.approx([-1, -2, -4, -5])
    assert data[:, 0, 0].tolist() == [0, 1, 10, 11]
    assert any("3 readings for a line of 2 frames" in note for note in scan.notes)


def test_lines_are_rows_of_the_bounding_box(tmp_path):
    pars, tiny = layouts.sardana_fly(tmp_path, Tiny.make())
    box = {"positions.bounding_box.slow_axis_bounds": (1, 3)}
    scan = Nanomax(**pars, **box).initialize()
    assert np.concatenate([b.position for b in scan.batches()]) == pytest.approx(tiny.positions[4:], abs=1e-12)


def test_a_line_without_an_entry_is_missing(tmp_path):
    sardana(tmp_path / "s", [2, None, 2], samx_buff=np.ones((3, 2)), samy_buff=[[1.0, 1], [2, 2], [3, 3]])
    with pytest.raises(PtyprepError, match="entry_0001"):
        prepared(path=tmp_path / "s", scans=3)
    _, data, _, um = prepared(path=tmp_path / "s", scans=3, bad_frames="drop")
    assert data[:, 0, 0].tolist() == [0, 1, 20, 21]
    assert um[:, 0] == pytest.approx([-1, -1, -3, -3])


def test_a_line_whose_buffer_was_not_read_has_no_positions(tmp_path):
    pars, tiny = layouts.contrast_2019_fly(tmp_path, Tiny.make())
    with h5py.File(tmp_path / "000031.h5", "a") as file:
        for name in "yx":
            file[f"entry/measurement/npoint_buff/{name}"][1] = -1.0
    with pytest.raises(PtyprepError, match="4 of 12 are not finite, the first at scan point 4"):
        Nanomax(**pars).initialize()
    scan = Nanomax(**pars, **{"positions.mismatch": "drop"}).initialize()
    assert np.concatenate([b.frame for b in scan.batches()]).tolist() == [0, 1, 2, 3, 8, 9, 10, 11]


@pytest.mark.parametrize("form", ["contrast_virtual", "contrast_2019_fly", "contrast_fly"])
def test_no_detector_file_reads_as_zeros(tmp_path, form):
    pars, _ = getattr(layouts, form)(tmp_path, Tiny.make())
    name = next(tmp_path.glob("scan_*")).name
    (tmp_path / name).unlink()
    with pytest.raises(PtyprepError, match=name):
        Nanomax(**pars).initialize()


def test_tilt_skew_and_angle_are_those_of_the_beamline(tmp_path):
    contrast(tmp_path, 1, counts(3), sy=[1.0, 2, 5], sx=[5.0, 7, 8])
    z, s = 1.5, 3.0
    _, _, _, um = prepared(path=tmp_path, scans=1, y_motor_angle=20.0, x_motor_angle=10.0, **{
        "positions.flip_x": True, "positions.angle": z + s / 2, "positions.skew": -s})
    x, y = -np.array([5, 7, 8]) * np.cos(np.deg2rad(10)), np.array([1, 2, 5]) * np.cos(np.deg2rad(20))
    cx, cy = np.deg2rad([z - s / 2, z + s / 2])
    assert um[:, 1] == pytest.approx(-(np.cos(cx) * x - np.sin(cy) * y))
    assert um[:, 0] == pytest.approx(-(np.sin(cx) * x + np.cos(cy) * y))


def test_energy_given_wins_and_unlike_energies_are_not_joined(tmp_path):
    given = {name: value for name, value in GIVEN.items() if name != "energy"}
    for number, energy in ((1, 8000.0), (2, 9000.0)):
        contrast(tmp_path, number, counts(2), sy=[0.0, 1], sx=[5.0, 6])
        with h5py.File(tmp_path / f"{number:06d}.h5", "a") as file:
            file["entry/snapshot/energy"] = [energy]
    assert Nanomax(given, path=tmp_path, scans=1).initialize().p.energy == 8.0
    assert prepared(path=tmp_path, scans=(1, 2), energy=8.5)[0].p.energy == 8.5
    with pytest.raises(PtyprepError, match="8, 9 keV"):
        Nanomax(given, path=tmp_path, scans=(1, 2)).initialize()


def test_a_slow_motor_read_once_for_each_line_is_repeated(tmp_path):
    contrast(tmp_path, 1, counts(6), sy=[3.0, 4], sx=[0.0, 1, 2, 0, 1, 2])
    scan, _, _, um = prepared(path=tmp_path, scans=1, **{"positions.bounding_box.slow_axis_bounds": 1})
    assert um == pytest.approx(np.array([[-4, 0], [-4, -1], [-4, -2]]))
    assert any("sy was read 2 times and holds for 3 points each" in note for note in scan.notes)


def test_motors_that_are_not_there_are_listed(tmp_path):
    contrast(tmp_path, 1, counts(6), sy=[0.0, 1], alba=np.ones(6))
    with pytest.raises(PtyprepError, match=r"no pseudo/y and pseudo/x.*set y_motor and x_motor.*alba"):
        prepared(path=tmp_path, scans=1)
    with pytest.raises(PtyprepError, match="no sy and sx"):
        prepared(path=tmp_path, scans=1, y_motor="sy", x_motor="sx")
