"""APS 2-ID: frames of lines meet the points of lines, whatever is lost or left out."""
import h5py
import numpy as np
import pytest
from ptyprep_recipes._layouts.aps_2id import _mda, _scan
from ptyprep_recipes.aps_2id import Aps2Id

from ptyprep.errors import PositionError, SourceError

ROWS, POINTS = 4, 5
Y = np.array([1.0, 2.0, 3.0, 4.0])                              # mm
X = np.arange(20.0).reshape(ROWS, POINTS) / 10                  # of each line another


def write(folder, counts, first=1, unit="mm", y=Y, x=X, **mda):
    """Files of `counts` frames, None for a line that is lost; frame i of line k counts 10 k + i everywhere."""
    for k, count in enumerate(counts):
        if count is not None:
            with h5py.File(folder / f"fly007_data_{k + first:03d}.h5", "w") as file:
                file["entry/data/data"] = np.broadcast_to(
                    (10 * k + np.arange(count))[:, None, None], (count, 6, 8)).astype("u2")
    _mda(folder / "2xfm_0007.mda", _scan([("m2", unit, y)], lower=[_scan([("m1", unit, line)]) for line in x], **mda),
         np.shape(x))
    there = next(k for k, count in enumerate(counts) if count is not None) + first
    return {"file": str(folder / f"fly007_data_{there:03d}.h5"), "positions.file": str(folder / "2xfm_0007.mda"),
            "energy": 10, "distance": 2, "psize": 75e-6, "center": (3, 4)}


def prepared(pars):
    """(names of the frames, positions [mm], scan)"""
    scan = Aps2Id(pars).initialize()
    batches = list(scan.batches())
    return (np.concatenate([batch.data[:, 3, 4] for batch in batches]).tolist(),
            np.concatenate([batch.position for batch in batches]) * 1e3, scan)


def of(names):
    """Position of each frame by its name [mm]."""
    return [[Y[name // 10], X[name // 10, name % 10]] for name in names]


def test_lines_of_any_length(tmp_path):
    names, positions, scan = prepared(write(tmp_path, [5, 3, 4, 1]))
    assert names == [0, 1, 2, 3, 4, 10, 11, 12, 20, 21, 22, 23, 30] and scan.source.grid is None
    assert np.allclose(positions, of(names))


def test_a_line_that_is_lost_shifts_no_other(tmp_path):
    pars = write(tmp_path, [3, None, 3, 3])
    with pytest.raises(SourceError, match="fly007_data_002.h5: no such file"):
        prepared(pars)
    names, positions, scan = prepared({**pars, "bad_frames": "drop"})
    assert names == [0, 1, 2, 20, 21, 22, 30, 31, 32] and np.allclose(positions, of(names))
    assert scan.source.shape == (12, 6, 8) and scan.source.grid == (4, 3)


def test_a_first_line_that_is_lost_is_asked_about(tmp_path):
    pars = write(tmp_path, [None, 3, 3, 3])
    with pytest.raises(SourceError, match="lowest number beside it is 2.*Set first_line"):
        prepared(pars)
    names, positions, _ = prepared({**pars, "first_line": 2})        # if the scan does begin there
    assert names == [10, 11, 12, 20, 21, 22, 30, 31, 32] and np.allclose(positions[0], [Y[0], X[0, 0]])
    names, positions, _ = prepared({**pars, "first_line": 1, "bad_frames": "drop"})
    assert np.allclose(positions, of(names))


@pytest.mark.parametrize("first", [0, 1])
def test_lines_count_from_0_or_1(tmp_path, first):
    names, positions, _ = prepared(write(tmp_path, [2, 2, 2, 2], first=first))
    assert np.allclose(positions, of(names))


def test_points_and_lines_that_are_left_out(tmp_path):
    names, positions, scan = prepared({**write(tmp_path, [5, 2, 4, 3]), "skip_points": 2, "min_points": 4})
    assert names == [2, 3, 4, 22, 23] and np.allclose(positions, of(names))
    assert sum("is left out" in note for note in scan.notes) == 2


def test_all_lines_in_one_file(tmp_path):
    pars = {**write(tmp_path, [1, 1, 1, 1]), "series": False}
    with pytest.raises(PositionError, match="1 frames but 20 positions"):
        prepared(pars)
    with h5py.File(pars["file"], "w") as file:
        file["entry/data/data"] = np.arange(20)[:, None, None] + np.zeros((20, 6, 8), "u2")
    names, positions, _ = prepared(pars)
    assert names == list(range(20)) and np.allclose(positions, np.column_stack([np.repeat(Y, POINTS), X.ravel()]))


def test_an_aborted_scan_has_no_position_for_its_last_line(tmp_path):
    pars = write(tmp_path, [3, 3, 3, 3], done=3)        # y of the last one was not read yet
    with pytest.raises(PositionError, match="3 of 12 are not finite, the first at scan point 9"):
        prepared(pars)
    names, positions, scan = prepared({**pars, "positions.mismatch": "drop"})
    assert names == [0, 1, 2, 10, 11, 12, 20, 21, 22] and np.allclose(positions, of(names))
    assert any("3 lines, 4 have frames" in note for note in scan.notes)


@pytest.mark.parametrize("unit, given, metres", [("um", {}, 1e-6), ("", {}, 1e-3), ("", {"positions.unit": "um"}, 1e-6),
                                                 ("mm", {"positions.slow_multiplier": -1e-3}, 1e-3)])
def test_units(tmp_path, unit, given, metres):
    names, positions, scan = prepared({**write(tmp_path, [2, 2, 2, 2], unit=unit), **given})
    sign = -1 if "positions.slow_multiplier" in given else 1
    assert np.allclose(positions, np.array(of(names)) * [sign, 1] * metres * 1e3)
    assert any("taken as mm" in note for note in scan.notes) == (not unit and not given)


def test_readings_of_an_angle_are_no_positions(tmp_path):
    with pytest.raises(PositionError, match="m2: .*degrees.*not a unit of length"):
        prepared(write(tmp_path, [2, 2, 2, 2], unit="degrees"))


def test_a_reading_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"rank 2 reads no D5; it reads P0 \(m2\)"):
        prepared({**write(tmp_path, [2, 2, 2, 2]), "positions.slow_key": "D5"})


def test_frames_of_another_size_and_a_truncated_line(tmp_path):
    pars = write(tmp_path, [2, 2, 2, 2])
    path = tmp_path / "fly007_data_003.h5"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(SourceError, match="fly007_data_003.h5.*truncated or damaged"):
        prepared(pars)
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = np.zeros((2, 6, 9), "u2")
    with pytest.raises(SourceError, match=r"fly007_data_003.h5: frames of \(6, 9\) pixels; expected \(6, 8\)"):
        prepared(pars)


def test_one_line_in_two_files_is_refused(tmp_path):
    pars = write(tmp_path, [5, 5, 5, 5])
    (tmp_path / "fly007_data_0003.h5").write_bytes(b"")
    with pytest.raises(SourceError, match="fly007_data_0003.h5 and fly007_data_003.h5 have the same number"):
        Aps2Id(pars).initialize()


def test_files_that_are_no_lines(tmp_path):
    pars = write(tmp_path, [2, 2, 2, 2])
    (tmp_path / "fly007_data_20250101.h5").write_bytes(b"")
    with pytest.raises(SourceError, match="5 files beside it have numbers from 1 to 20250101"):
        prepared(pars)
