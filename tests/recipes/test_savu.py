"""Recipe savu: arrays in Python."""
import h5py
import numpy as np
import pytest

from ptyprep import recipe
from ptyprep.errors import ParameterError, PositionError, PtyprepError, SourceError
from ptyprep.testing import Tiny, read_ptyd

Savu = recipe("savu")


@pytest.fixture
def tiny():
    return Tiny.make(rows=2, columns=3)


def prepared(pars=None, **more):
    batches = list(Savu(pars, **more).initialize().batches())
    return [np.concatenate([getattr(b, name) for b in batches]) for name in ("data", "weight", "position")]


@pytest.mark.parametrize("dtype", ["u2", "i4", "f4"])
def test_arrays_keep_their_kind_of_number(tiny, dtype):
    frames = tiny.frames.astype(dtype)
    before = frames.copy()
    data, weight, positions = prepared(data=frames, positions=tiny.positions, mask=tiny.good, **tiny.geometry)
    assert data.dtype == dtype and np.array_equal(data, frames)
    assert np.array_equal(weight, np.broadcast_to(tiny.good, weight.shape))
    assert np.array_equal(positions, tiny.positions)
    assert np.array_equal(frames, before)


def test_in_one_mapping_as_ptypy_gives_them(tiny):
    pars = {"data": tiny.frames, "positions": tiny.positions, **tiny.geometry}
    assert np.array_equal(prepared(pars)[0], tiny.frames)
    assert pars["data"] is tiny.frames


def test_detector_marks_are_still_known(tiny):
    frames = tiny.frames.copy()
    frames[2, 5, 6] = 2**16 - 1
    _, weight, _ = prepared(data=frames, positions=tiny.positions, **tiny.geometry)
    assert not weight[2, 5, 6] and weight.sum() == weight.size - 1


def test_a_mask_for_each_frame_and_bits(tiny):
    masks = np.zeros(tiny.frames.shape, "u4")
    masks[1, 3, 4], masks[2, 3, 4] = 6, 1
    _, weight, _ = prepared(data=tiny.frames, positions=tiny.positions, mask=masks, **tiny.geometry,
                            **{"mask.bits": 4})
    assert np.argwhere(~weight).tolist() == [[1, 3, 4]]
    _, weight, _ = prepared(data=tiny.frames, positions=tiny.positions, mask=masks[1], **tiny.geometry,
                            **{"mask.invert": True})
    assert np.argwhere(~weight[0]).tolist() == [[3, 4]]


def test_an_angle_has_its_own_positions_and_mask(tiny):
    data = np.stack([tiny.frames, tiny.frames + 1, tiny.frames + 2])
    positions = np.stack([tiny.positions, tiny.positions * 2, tiny.positions * 3])
    mask = np.ones((3, *tiny.frames.shape), bool)
    mask[2, 0, 7, 8] = False
    found, weight, at = prepared(data=data, positions=positions, mask=mask, outer_index=2, **tiny.geometry)
    assert np.array_equal(found, data[2]) and np.array_equal(at, positions[2])
    assert np.argwhere(~weight).tolist() == [[0, 7, 8]]


@pytest.mark.parametrize("cols", [2, 3, 4])
def test_axes_of_each_energy_whatever_is_equal(tmp_path, tiny, cols):
    slow, fast = (np.arange(3)[:, None] + np.arange(size) * 10.0 for size in (3, cols))
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file["slow"], file["fast"] = slow, fast
    _, _, at = prepared(data=np.ones((3, 3 * cols, 16, 20), "u2"), outer_index=1, **tiny.geometry, **{
        "positions.file": tmp_path / "p.h5", "positions.slow_key": "slow", "positions.fast_key": "fast",
        "positions.unit": "um"})
    assert np.allclose(at, [(y * 1e-6, x * 1e-6) for y in slow[1] for x in fast[1]])


@pytest.mark.parametrize(("wrong", "error", "says"), [
    ({"positions": np.zeros((2, 6))}, PositionError, r"shape \(2, 6\) for 6 frames.*transpose"),
    ({"positions": np.zeros((5, 2))}, PositionError, "6 frames but 5 positions"),
    ({"positions": [[1, 2], [3]]}, ParameterError, "positions is no array"),
    ({"positions": np.zeros((6, 2), complex)}, ParameterError, "positions is complex"),
    ({"mask": np.ones((16, 16))}, SourceError, r"mask has shape \(16, 16\), the frames \(16, 20\)"),
    ({"mask": np.ones((4, 16, 20))}, SourceError, "4 frames, the scan has 6"),
    ({"data": np.ones(7)}, SourceError, r"data: float64 of shape \(7,\)"),
    ({"data": None}, ParameterError, "neither an array nor a .npy file"),
    ({"outer_index": 1}, SourceError, r"outer_index=1, but frames have shape \(6, 16, 20\)"),
    ({"positions.file": "p.npy"}, ParameterError, "positions and positions.file"),
])
def test_what_does_not_fit_is_said(tiny, wrong, error, says):
    with pytest.raises(error, match=says):
        Savu({"data": tiny.frames, "positions": tiny.positions, **tiny.geometry, **wrong}).initialize()


def test_info_tells_of_arrays_without_holding_them(tiny, tmp_path):
    out = tmp_path / "out.ptyd"
    Savu(data=tiny.frames, positions=tiny.positions, dfile=out, **tiny.geometry).initialize().prepare()
    assert np.array_equal(read_ptyd(out)["data"], tiny.frames)
    with h5py.File(out) as file:
        sizes = {}
        file["info"].visititems(lambda name, node: sizes.update({name: getattr(node, "size", 0) or 0}))
    assert max(sizes.values()) < tiny.frames.size


@pytest.mark.parametrize("content", [b"\x93NUMPY", b"letter"])
def test_a_damaged_npy_file_is_named(tiny, tmp_path, content):
    path = tmp_path / "data.npy"
    path.write_bytes(content)
    with pytest.raises(PtyprepError, match="data.npy"):
        Savu(data=path, positions=tiny.positions, **tiny.geometry).initialize()
