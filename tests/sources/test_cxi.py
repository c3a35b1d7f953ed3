"""CXI files, made here by hand in plain h5py."""
import h5py
import hdf5plugin
import numpy as np
import pytest

from ptyprep.errors import PositionError, SourceError
from ptyprep.registry import recipe
from ptyprep.sources import CxiFile, Hdf5Stack, layout_of
from ptyprep.testing import write_cxi

DETECTOR = "entry_1/instrument_1/detector_1"
FRAMES = np.random.default_rng(2).poisson(4, (5, 12, 14)).astype("i4")
MOVES = np.random.default_rng(3).normal(size=(5, 3)) * 1e-6


def cxi(tmp_path, **changes):
    """A file as cdtools writes it; `changes` replace (None: remove) datasets of the detector, `/x` of the file."""
    path = write_cxi(tmp_path / "f.cxi", FRAMES, MOVES, energy=8.0, distance=0.7, psize=(55e-6, 50e-6))
    with h5py.File(path, "r+") as file:
        for name, value in changes.items():
            name = name[1:] if name.startswith("/") else f"{DETECTOR}/{name}"
            file.pop(name, None)
            if value is not None:
                file[name] = value
    return path


def test_frames_geometry_and_translation(tmp_path):
    path = cxi(tmp_path)
    assert layout_of(path) is CxiFile
    source = CxiFile(path)
    assert np.array_equal(source.read([4, 1]), FRAMES[[4, 1]])
    assert source.recorded["energy"] == pytest.approx(8.0, rel=1e-9)
    assert source.recorded["distance"] == 0.7 and source.recorded["psize"] == (55e-6, 50e-6)
    assert source.mask is None and "center" not in source.recorded
    assert np.array_equal(source.translation, MOVES)


def test_translation_in_rows_of_x_y_z(tmp_path):
    source = CxiFile(cxi(tmp_path, **{"/entry_1/sample_1/geometry_1/translation": MOVES.T}))
    assert np.array_equal(source.translation, MOVES)


@pytest.mark.parametrize("shape", [(5, 2), (15,), (5, 3, 1)])
def test_a_translation_of_another_shape_is_refused(tmp_path, shape):
    path = cxi(tmp_path, **{"/entry_1/sample_1/geometry_1/translation": np.zeros(shape)})
    with pytest.raises(SourceError, match=r"f.cxi.*translation has shape .*expected \(n, 3\) or \(3, n\)"):
        CxiFile(path)


@pytest.mark.parametrize("where", ["/entry_1/data_1/translation", "/entry_1/sample_1/geometry_1/translation",
                                   f"/{DETECTOR}/translation"])
def test_translation_is_found_wherever_writers_put_it(tmp_path, where):
    path = cxi(tmp_path, **{"/entry_1/data_1/translation": None, "/entry_1/sample_1/geometry_1/translation": None})
    with h5py.File(path, "r+") as file:
        file[where] = MOVES
    assert np.array_equal(CxiFile(path).translation, MOVES)
    assert CxiFile(cxi(tmp_path, **{"/entry_1/data_1/translation": None,
                                    "/entry_1/sample_1/geometry_1/translation": None})).translation is None


def test_mask_bits(tmp_path):
    bits = np.zeros((12, 14), "u4")
    bits[0, 0], bits[1, 1], bits[2, 2], bits[3, 3] = 1, 0x1000, 0x1001, 0x80
    good = np.ones((12, 14), bool)
    good[0, 0] = good[2, 2] = good[3, 3] = False            # 0x1000 alone: the pixel has signal
    for dtype in ("u4", "i4", "u8", "u2"):
        assert np.array_equal(CxiFile(cxi(tmp_path, mask=bits.astype(dtype))).mask, good)
    assert np.array_equal(CxiFile(cxi(tmp_path, mask=(bits & 1).astype("u1"))).mask, (bits & 1) == 0)
    assert np.array_equal(CxiFile(cxi(tmp_path, mask=(bits & 1).astype(bool))).mask, (bits & 1) == 0)
    assert "mask of shape (3, 3)" in CxiFile(cxi(tmp_path, mask=np.zeros((3, 3), "u4"))).mask_problem


@pytest.mark.parametrize("key", [f"{DETECTOR}/mask", "entry_1/sample_1/geometry_1/translation"])
def test_damage_beside_the_frames_ends_no_process(tmp_path, key):
    path = cxi(tmp_path, mask=np.zeros((12, 14), "u4"))
    with h5py.File(path, "r+") as file:
        values = np.tile(file[key][()], (1, 1))
        del file[key]
        node = file.create_dataset(key, data=values, chunks=values.shape, **hdf5plugin.Bitshuffle(cname="lz4")).id
        file.flush()
        chunk = node.read_direct_chunk((0, 0))[1]
        node.write_direct_chunk((0, 0), chunk[:16] + b"\xff" * (len(chunk) - 16))
    with pytest.raises(SourceError, match=f"f.cxi: .*{key.split('/')[-1]} is damaged"):
        if problem := CxiFile(path).mask_problem:
            raise SourceError(problem)


@pytest.mark.parametrize("turned", [False, True])
def test_basis_vectors_in_columns_or_rows(tmp_path, turned):
    vectors = np.array([[0, -55e-6, 0], [-50e-6, 0, 0]])         # slow, fast
    source = CxiFile(cxi(tmp_path, basis_vectors=vectors if turned else vectors.T))
    assert source.slow.tolist() == [0, -1, 0] and source.fast.tolist() == [-1, 0, 0]


@pytest.mark.parametrize("vectors", [np.zeros((2, 3)), np.ones((4, 4)), np.full((2, 3), np.nan)])
def test_basis_vectors_that_are_none(tmp_path, vectors):
    source = CxiFile(cxi(tmp_path, basis_vectors=vectors))
    assert source.slow is None and any("basis_vectors" in note for note in source.notes)


def test_corner_position_is_where_the_optical_axis_is_not(tmp_path):
    """Pixel (r, c) has its middle at corner + (r + 1/2) slow + (c + 1/2) fast; the axis is where that is (0, 0)."""
    corner = np.array([7.2 * 50e-6, 4.5 * 55e-6, 0.7])
    source = CxiFile(cxi(tmp_path, corner_position=corner))
    row, col = source.recorded["center"]
    slow, fast = np.array([0, -55e-6, 0]), np.array([-50e-6, 0, 0])
    at = corner + (row + 0.5) * slow + (col + 0.5) * fast
    np.testing.assert_allclose(at[:2], 0, atol=1e-15)
    assert (row, col) == pytest.approx((4.0, 6.7))


def test_energy_from_the_wavelength_and_nonsense_not_recorded(tmp_path):
    path = cxi(tmp_path, **{"/entry_1/instrument_1/source_1/energy": None,
                            "/entry_1/instrument_1/source_1/wavelength": 1e-10, "distance": 0.0,
                            "x_pixel_size": np.nan})
    source = CxiFile(path)
    assert source.recorded == {"energy": pytest.approx(12.39841984, rel=1e-8)}
    assert "energy" not in CxiFile(cxi(tmp_path, **{"/entry_1/instrument_1/source_1/energy": 0.0})).recorded


def test_a_file_without_frames_says_what_there_is(tmp_path):
    path = cxi(tmp_path, data=None, **{"/other": np.zeros((3, 4, 4))})
    with pytest.raises(SourceError,
                       match="f.cxi: no entry_1/data_1/data; expected a CXI file, found cxi_version, entry_1, other"):
        CxiFile(path)


def test_other_hdf5_files_are_not_taken_for_cxi(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["entry_1/x"] = np.zeros((2, 4, 4))
    assert layout_of(tmp_path / "x.h5") is Hdf5Stack


def test_a_translation_for_some_frames_only_is_no_raster(tmp_path):
    moves = np.array([[0, 0, 0], [1, 1, 0], [2, 2, 0]]) * 1e-6      # which could be the axes of 3 x 3
    path = write_cxi(tmp_path / "f.cxi", np.ones((9, 12, 14)), moves, energy=8.0, distance=0.7, psize=(55e-6, 50e-6))
    with pytest.raises(PositionError, match="9 frames but 3 positions"):
        recipe("cxi")({"file": path, "center": (6, 7)}).initialize()
