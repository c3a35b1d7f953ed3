"""Velociprobe: which readings belong to which frame, and how they are reduced to one."""
import h5py
import numpy as np
import pytest
from ptyprep_recipes.velociprobe import Velociprobe

from ptyprep.errors import ParameterError, PositionError
from ptyprep.testing import write_dectris

N = 4
FRAMES = np.arange(N * 6 * 8, dtype="u4").reshape(N, 6, 8)


@pytest.fixture
def written(tmp_path):
    """A function: rows [(trigger, x, encoder)] to the recipe's parameters."""
    master, table = tmp_path / "fly001_master.h5", tmp_path / "table.txt"
    write_dectris(master, FRAMES, energy=8.8, distance=1.92, psize=(75e-6, 75e-6), center=(3, 4))

    def write(rows, **more):
        table.write_text("# a comment\n" + "".join(f"0,{x},7,7,7,{y},7,{trigger}\n" for trigger, x, y in rows))
        return {"file": str(master), "positions.file": str(table), **more}
    return write


def placed(pars):
    scan = Velociprobe(pars).initialize()
    return np.concatenate([batch.position for batch in scan.batches()]) * 1e9, scan


READINGS = [(0, 99, 99), (1, 10, 1), (1, 11, 2), (1, 12, 2), (1, 20, 4), (2, 30, 5), (3, 40, 6), (3, 44, 7),
            (4, 50, 8)]


@pytest.mark.parametrize("reduce, y, x", [("ends", -2.5, 15.0), ("mean", -2.25, 13.25), ("median", -2.0, 11.5)])
def test_readings_of_a_trigger_are_reduced(written, reduce, y, x):
    found, scan = placed(written(READINGS, **{"positions.trigger_reduce": reduce}))
    assert np.allclose(found, [[y, x], [-5, 30], [-6.5, 42], [-8, 50]])
    assert any("triggers before 1 that are left out: 1" in note for note in scan.notes)
    assert any("no rotation chi" in note for note in scan.notes)


def test_a_trigger_without_readings_shifts_nothing(written):
    rows = [row for row in READINGS if row[0] != 2]
    with pytest.raises(PositionError, match="1 of 4 are not finite, the first at scan point 1"):
        placed(written(rows))
    found, scan = placed(written(rows, **{"positions.mismatch": "drop"}))
    assert np.allclose(found, [[-2.5, 15], [-6.5, 42], [-8, 50]])


@pytest.mark.parametrize("triggers, words", [
    ((0, 1, 2, 3), "triggers 0 to 3 for 4 frames: which is the first frame's.*positions.trigger_start"),
    ((2, 3, 4, 5), "triggers 2 to 5 for 4 frames"),
    ((1, 2, 3, 1), r"trigger 1 follows 3 \(readings 2 and 3\)"),
    ((0, 0, 0, 0), "all trigger numbers are below 1"),
    ((1, 2, 3, 3.5), "3.5|2.5.*whole numbers"),
    ((1, 2, 3, float("nan")), "whole numbers"),
    ((1, 2, 3, 9), "none for triggers 9"),
])
def test_numbers_that_say_no_frame_are_refused(written, triggers, words):
    with pytest.raises(PositionError, match=words):
        placed(written([(trigger, 10 * at, at) for at, trigger in enumerate(triggers)]))


@pytest.mark.parametrize("first", [0, 2])
def test_the_first_trigger_is_what_the_user_says(written, first):
    rows = [(first + at, 10 * at, at) for at in range(N)]
    found, _ = placed(written(rows, **{"positions.trigger_start": first}))
    assert np.allclose(found, [[-at, 10 * at] for at in range(N)])


@pytest.mark.parametrize("chi, given, factor", [(60.0, None, 0.5), ([-60.0] * N, None, 0.5), (60.0, 0.0, 1.0)])
def test_x_is_shorter_on_a_turned_stage(written, chi, given, factor):
    pars = written([(at + 1, 10 * at, at) for at in range(N)])
    with h5py.File(pars["file"], "a") as file:
        file["entry/sample/goniometer/chi"] = chi
    found, _ = placed(pars if given is None else {**pars, "stage_rotation": given})
    assert np.allclose(found[:, 1], factor * np.arange(N) * 10) and np.allclose(found[:, 0], -np.arange(N))


def test_a_stage_across_the_beam_is_named(written):
    pars = written([(at + 1, 10 * at, at) for at in range(N)], stage_rotation=89)
    assert any("turned by 89 degrees" in note for note in placed(pars)[1].notes)


@pytest.mark.parametrize("given", [{"positions.unit": "um"},
                                   {"positions.slow_multiplier": 1e-6, "positions.fast_multiplier": 1e-6}])
def test_readings_in_another_unit(written, given):
    found, _ = placed(written([(at + 1, 10 * at, at) for at in range(N)], **given))
    assert np.allclose(found, [[-1e3 * at, 1e4 * at] for at in range(N)])


def test_without_a_table_it_says_what_is_missing(written):
    pars = written(READINGS)
    del pars["positions.file"]
    with pytest.raises(ParameterError, match="Set positions.file"):
        placed(pars)
