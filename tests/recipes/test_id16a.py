"""Recipe id16a: dark, reference and monitor, distortion between pixels, missing frames, headers."""
from pathlib import Path

import numpy as np
import pytest
from ptyprep_recipes._layouts import id16a

from ptyprep import recipe
from ptyprep.errors import ParameterError, PositionError, SourceError
from ptyprep.testing import Tiny

fabio = pytest.importorskip("fabio")
TINY = Tiny.make()


def prepared(pars, **more):
    scan = recipe("id16a")({**pars, **more}).initialize()
    return scan, next(scan.batches(99))


def test_dark_reference_and_monitor_in_this_order(tmp_path):
    pars, _ = id16a.corrected_edf(tmp_path, TINY)
    raw = np.stack([fabio.open(str(f)).data for f in sorted(tmp_path.glob("sample*"))]).astype(float)
    dark, flat = (np.mean([fabio.open(str(f)).data for f in tmp_path.glob(f"{name}*")], axis=0)
                  for name in ("dark", "ref"))
    beam = np.resize([1000, 3000], 12) / 2000
    _, batch = prepared(pars)
    assert np.allclose(batch.data, np.maximum(raw - dark, 0) / (flat - dark) / beam[:, None, None])
    _, batch = prepared(pars, dark_subtraction=False, counter=None)         # PtyPy does nothing then
    assert np.allclose(batch.data, raw / flat)
    _, batch = prepared(pars, flat_division=False, counter=None, dark_subtraction=False)
    assert np.array_equal(batch.data, raw)


def test_a_flat_field_for_each_point_does_not_go_with_the_reference(tmp_path):
    pars, _ = id16a.corrected_edf(tmp_path, TINY)
    np.save(tmp_path / "flat.npy", np.full(TINY.frames.shape, 2.0))
    with pytest.raises(ParameterError, match="flat_division and a flatfield with a frame for each point.*average"):
        prepared(pars, **{"flatfield.file": tmp_path / "flat.npy"})
    _, batch = prepared(pars, **{"flatfield.file": tmp_path / "flat.npy", "flatfield.average": True})
    assert np.allclose(batch.data, prepared(pars)[1].data / 2)


def test_a_monitor_that_failed_is_an_error(tmp_path):
    id16a._edf(tmp_path, TINY.frames, TINY.positions, [1000] * 7 + [0] + [1000] * 4)
    pars = {"files": tmp_path, **TINY.geometry}
    with pytest.raises(SourceError, match=r"bpm5_ct is not above 0 in frames \[7\]"):
        prepared(pars, counter="bpm5_ct")
    with pytest.raises(PositionError, match="sample_0001.edf: no readings of 'diode' .* it has sx, sy, spy, spz, bpm5"):
        prepared(pars, counter="diode")


def test_distortion_is_interpolated_between_pixels(tmp_path):
    """Of a plane, bilinear interpolation is the plane at the place that was asked for."""
    h, w = 9, 12
    y, x = np.mgrid[:h, :w].astype(float)
    frames = np.stack([100 + 7 * y - 3 * x, 50 + y + 2 * x]).astype("f4")
    id16a._edf(tmp_path, frames, TINY.positions[:2])
    rows, cols = 0.3 + 0.05 * x, 1.25 - 0.1 * y
    id16a._write(tmp_path / "h.edf", rows.astype("f4"))
    id16a._write(tmp_path / "v.edf", cols.astype("f4"))
    pars = {"files": tmp_path / "sample*", **TINY.geometry, "center": (4, 6), "distortion.row_file": tmp_path / "h.edf",
            "distortion.column_file": tmp_path / "v.edf"}
    _, batch = prepared(pars)
    at_y, at_x = y - rows, x - cols
    inside = (at_y >= 0) & (at_y <= h - 1) & (at_x >= 0) & (at_x <= w - 1)
    expected = np.stack([100 + 7 * at_y - 3 * at_x, 50 + at_y + 2 * at_x])
    assert np.array_equal(batch.weight, np.broadcast_to(inside, (2, h, w))) and 0 < inside.sum() < h * w
    assert np.allclose(batch.data[batch.weight], expected[batch.weight], atol=1e-4)
    _, part = prepared(pars, shape=4)                           # the region is cut afterwards
    assert np.array_equal(part.data, batch.data[:, 2:6, 4:8])


def test_a_bad_pixel_spoils_those_that_are_made_of_it(tmp_path):
    frames = np.full((1, 6, 6), 10, "f4")
    frames[0, 3, 3] = np.nan
    id16a._edf(tmp_path, np.repeat(frames, 2, axis=0), TINY.positions[:2])
    id16a._write(tmp_path / "h.edf", np.full((6, 6), 0.5, "f4"))
    _, batch = prepared({"files": tmp_path / "sample*", **TINY.geometry, "center": (3, 3),
                         "distortion.row_file": tmp_path / "h.edf"})
    bad = np.zeros((6, 6), bool)
    bad[0] = bad[3:5, 3] = True                                 # row r is made of r - 1 and r
    assert np.array_equal(batch.weight[0], ~bad) and (batch.data[batch.weight] == 10).all()


@pytest.mark.parametrize("write", [id16a.edf_series, id16a.hdf5_series])
def test_a_file_that_is_missing_moves_no_other(tmp_path, write):
    pars, _ = write(tmp_path, TINY)
    if write is id16a.edf_series:
        pars = {**pars, "files": str(tmp_path / "sample*")}
    sorted(tmp_path.glob("sample*"))[5].unlink()
    with pytest.raises(SourceError, match="frame 5 is missing"):
        prepared(pars)
    _, batch = prepared(pars, bad_frames="drop", **{"positions.mismatch": "drop"})
    kept = [i for i in range(12) if i != 5]
    assert batch.frame.tolist() == kept and np.allclose(batch.position, TINY.positions[kept], atol=1e-15)
    assert np.array_equal(batch.data * batch.weight, TINY.frames[kept] * batch.weight)


def test_positions_as_ptypy_has_them(tmp_path):
    pars, _ = id16a.edf_series(tmp_path, TINY)
    _, batch = prepared(pars, motors=("spy", "spz"), motors_multiplier=(1e-6, 1e-6), orientation=2)
    assert np.allclose(batch.position, np.column_stack([TINY.positions[:, 1], -TINY.positions[:, 0]]), atol=1e-15)


def test_what_does_not_fit_is_named(tmp_path):
    pars, _ = id16a.edf_series(tmp_path, TINY)
    id16a._write(tmp_path / "small.edf", np.ones((3, 4), "f4"))
    with pytest.raises(SourceError, match=r"small.edf: \(3, 4\) displacements; expected \(16, 20\)"):
        prepared(pars, files=tmp_path / "sample*", **{"distortion.row_file": tmp_path / "small.edf"})
    with pytest.raises(SourceError, match=r"small.edf: frames of \(3, 4\) pixels; the scan has \(16, 20\)"):
        prepared(pars, files=tmp_path / "sample*", dark_subtraction=True, dark_files="small.edf")
    with pytest.raises(SourceError, match="ref.: no .edf file there; set flat_files"):
        prepared(pars, files=tmp_path / "sample*", flat_division=True)
    with pytest.raises(ParameterError, match="dark_subtraction and darkfield were both given"):
        prepared(pars, files=tmp_path / "sample*", dark_subtraction=True,
                 **{"darkfield.file": Path(pars["mask.file"]), "darkfield.key": "mask"})
