"""Recipe csaxs: bursts, turns, masks, and positions that belong to another scan."""
from dataclasses import replace

import h5py
import numpy as np
import pytest
from ptyprep_recipes._layouts import csaxs

from ptyprep import recipe
from ptyprep.errors import ParameterError, PositionError, SourceError
from ptyprep.testing import Tiny

fabio = pytest.importorskip("fabio")
TINY = Tiny.make()


def prepared(pars, **more):
    scan = recipe("csaxs")({**pars, **more}).initialize()
    return scan, next(scan.batches(99))


def orchestra(folder):
    return folder / "specES1" / "scan_positions" / "scan_01123.dat"


def edit(path, old, new):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_pilatus_is_turned_by_180_degrees_and_an_eiger_is_not(tmp_path):
    (tmp_path / "p").mkdir()
    pars, _ = csaxs.orchestra_cbf(tmp_path / "p", TINY)
    scan, batch = prepared(pars)
    rows, cols = (slice(int(c) - 4, int(c) + 4) for c in TINY.center)
    assert scan.p.origin("orientation") == "detector"
    part = prepared(pars, shape=8)[1]
    assert np.array_equal(part.data[:, 4, 4], TINY.frames[:, 8, 10])
    assert np.array_equal(part.data[:, 1:, 1:], TINY.frames[:, rows, cols][:, ::-1, ::-1][:, :-1, :-1])
    assert any("motors_multiplier is that for frames as" in n for n in prepared(pars, orientation=0)[0].notes)
    _, raw = prepared(pars, orientation=0, motors_multiplier=(1e-6, 1e-6))      # as PtyPy has them
    assert np.array_equal(raw.data * raw.weight, TINY.frames * TINY.good)
    assert np.allclose(raw.position, -batch.position)
    pars, _ = csaxs.eiger_files(tmp_path, TINY)
    assert np.array_equal(prepared(pars)[1].data, TINY.frames)


@pytest.mark.parametrize(("burst", "frames"), [("second", 2), ("first", 6)])
def test_which_number_counts_the_frames_of_a_burst(tmp_path, burst, frames):
    numbers = [divmod(i, frames) for i in range(12)]
    csaxs._images(tmp_path, TINY, numbers)
    csaxs._orchestra(tmp_path, replace(TINY, positions=TINY.positions[:6]))
    pars = {"path": tmp_path, "scan_number": csaxs.NUMBER, "burst_number": burst, **TINY.geometry}
    _, batch = prepared(pars, burst_frames=2)
    number = [one[0 if burst == "second" else 1] for one in numbers]
    assert np.allclose(batch.position, TINY.positions[number], atol=1e-15)
    with pytest.raises(PositionError, match="6 positions for 12 frames .* set burst_frames=2"):
        prepared(pars)


def test_an_image_that_is_missing_moves_no_other(tmp_path):
    pars, _ = csaxs.orchestra_cbf(tmp_path, TINY)
    next((tmp_path / "pilatus_1").rglob("*_00003.cbf")).unlink()
    with pytest.raises(SourceError, match="between e16403_1_01123_00000_00002.cbf and the next: frame 3 is missing"):
        prepared(pars)
    _, batch = prepared(pars, bad_frames="drop")
    kept = [i for i in range(12) if i != 3]
    assert batch.frame.tolist() == kept and np.allclose(batch.position, TINY.positions[kept], atol=1e-15)
    next((tmp_path / "pilatus_1").rglob("*_00000.cbf")).unlink()
    with pytest.raises(PositionError, match="11 frames but 12 positions"):
        prepared(pars, bad_frames="drop")


def test_columns_are_found_by_name_and_old_names_too(tmp_path):
    pars, _ = csaxs.orchestra_cbf(tmp_path, TINY)
    _, target = prepared(pars, motors=("Target_y", "Target_x"))
    expected = np.round(TINY.positions * -1e6 + [-0.5, 0.5], 1) * -1e-6
    assert np.allclose(target.position, expected, atol=0.11e-6) and not np.allclose(target.position, TINY.positions)
    path = orchestra(tmp_path)
    path.write_text(path.read_text().replace("Average_y_st_fzp", "Average_y").replace("Average_x_st_fzp", "Average_x"))
    assert np.allclose(prepared(pars)[1].position, TINY.positions, atol=1e-15)
    with pytest.raises(PositionError, match="no columns Average_z and Average_x; it has DataPoint, .* Set motors"):
        prepared(pars, motors=("Average_z", "Average_x"))


@pytest.mark.parametrize(("old", "new", "words"), [
    ("Scan 1123,", "Scan 1122,", "it begins with 'Scan 1122, Samroy 0.0'; expected 'Scan 1123, …'"),
    ("0.01 12.5\n5 ", "0.01\n5 ", "line 7: 8 numbers for 9 columns"),
    ("\n5 12 ", "\n5 twelve ", "line 8: expected numbers .*'twelve'"),
    ("\n5 12 ", "\n# 5 12 ", "12 frames but 11 positions"),
])
def test_positions_that_do_not_belong_are_refused(tmp_path, old, new, words):
    pars, _ = csaxs.orchestra_cbf(tmp_path, TINY)
    edit(orchestra(tmp_path), old, new)
    with pytest.raises(PositionError, match=words):
        prepared(pars)


def test_energy_is_asked_for_where_spec_has_no_such_scan_but_not_invented(tmp_path):
    pars, _ = csaxs.orchestra_cbf(tmp_path, TINY)
    path = next(tmp_path.rglob("specES1_started_2019.dat"))
    edit(path, "#S 1123", "#S 1124")
    with pytest.raises(ParameterError, match="energy: neither recorded nor given"):
        prepared(pars)
    scan, _ = prepared(pars, energy=6.2)
    assert scan.p.energy == 6.2
    with pytest.raises(SourceError, match="no scan 1123; its 2 scans are 1122 to 1124"):
        prepared(pars, spec_file=path)


def test_the_newest_spec_file_is_said(tmp_path):
    pars, _ = csaxs.orchestra_cbf(tmp_path, TINY)
    old = next(tmp_path.rglob("specES1_started_2019.dat"))
    new = old.with_name("again.dat")
    new.write_text(old.read_text().replace(f"{TINY.energy!r}", "6.2"))
    scan, _ = prepared(pars)
    assert scan.p.energy == 6.2 and any("again.dat, scan 1123 (line 8), of the newest of 2" in n for n in scan.notes)


def test_a_mask_that_does_not_fit(tmp_path):
    from scipy.io import savemat
    pars, _ = csaxs.orchestra_cbf(tmp_path, TINY)
    for content, words in (({"mask": np.ones((20, 16))}, r"a mask of \(20, 16\) for raw frames of \(16, 20\)"),
                           ({"mask": np.ones((16, 20, 2))}, r"a mask of shape \(16, 20, 2\)"),
                           ({"other": 1.0}, "no mask, and no valid_mask")):
        savemat(tmp_path / "m.mat", content)
        with pytest.raises(SourceError, match=words):
            prepared(pars, valid_mask=tmp_path / "m.mat")


@pytest.mark.parametrize("indices", [False, True])
def test_a_mask_of_matlab_73_is_that_of_an_older_version(tmp_path, indices):
    from scipy.io import savemat
    pars, _ = csaxs.orchestra_cbf(tmp_path, TINY)
    good = np.random.default_rng(2).random((16, 20)) > 0.2
    content = {"mask": good.astype(float)}
    if indices:
        content = {"valid_mask": {"indices": np.flatnonzero(good.T)[:, None] + 1.0, "framesize": [[16.0, 20.0]]}}
    savemat(tmp_path / "5.mat", content)
    with h5py.File(tmp_path / "73.mat", "w") as file:
        for name, values in (content.get("valid_mask") or content).items():
            file[f"valid_mask/{name}" if indices else name] = np.transpose(values)
    weights = [prepared(pars, valid_mask=tmp_path / name)[0].good for name in ("5.mat", "73.mat")]
    assert (weights[0] == good[::-1, ::-1]).all() and np.array_equal(*weights)       # a Pilatus is shown turned by 180


def test_what_is_not_there_is_said_with_the_places(tmp_path):
    pars, _ = csaxs.orchestra_cbf(tmp_path, TINY)
    with pytest.raises(SourceError, match="pilatus_2/S01000-01999/S01123 and .*data/S01000-01999/S01123: no .cbf"):
        prepared(pars, detector="pilatus_2")
    with pytest.raises(ParameterError, match="detector='maxipix': how its frames are shown is known of pilatus_1"):
        prepared(pars, detector="maxipix", frames_path="pilatus_1/S01000-01999/S01123")
    with pytest.raises(PositionError, match=r"no positions of orchestra \(No such file"):
        prepared(pars, orchestra_file=tmp_path / "absent.dat")


def test_a_scan_that_was_stopped_at_once_is_said(tmp_path):
    pars, _ = csaxs.orchestra_cbf(tmp_path, TINY)
    with pytest.raises(PositionError, match=r"scan 1123 \(line 8\): not one position; was the scan stopped"):
        prepared(pars, position_source="spec")
