"""FileScan: every way in which positions and masks lie in files. Expected positions are written out."""
import h5py
import hdf5plugin
import numpy as np
import pytest

from ptyprep import FileScan, ParameterError
from ptyprep.errors import PositionError, SourceError
from ptyprep.sources import ArrayFrames

N, ROWS, COLS = 6, 2, 3
FRAMES = np.arange(N * 4 * 5, dtype="u2").reshape(N, 4, 5)
Y, X = np.array([0.0, 0, 0, 1, 1, 1]), np.array([5.0, 6, 7, 5, 6, 7])
GEOMETRY = {"energy": 8, "distance": 1, "psize": 1e-4, "center": "fftshift"}


class Stack(FileScan):
    """Six frames in memory, a raster of 2 x 3."""

    def open(self):
        source = ArrayFrames(FRAMES)
        source.path = self.at
        return source


def scan(path, **pars):
    Stack.at = path
    made = Stack({**GEOMETRY, **pars})
    made.look()
    return made


def keys(slow="y", fast="x", **more):
    return {"positions.slow_key": slow, "positions.fast_key": fast, **{f"positions.{k}": v for k, v in more.items()}}


def hdf5(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name] = value
    return path


@pytest.fixture(autouse=True)
def any_spread(monkeypatch):
    """Positions of these tests are a few metres apart, and have no unit."""
    monkeypatch.setattr("ptyprep.files.GUESSED", np.inf)


# --- positions ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("slow, fast", [
    (Y, X),                                                 # one reading for each frame
    (Y.reshape(2, 3), X.reshape(2, 3)),                     # a grid of readings
    ([0.0, 1], [5.0, 6, 7]),                                # one for each row and each column
    ([[0.0], [1]], [[5.0, 6, 7]]),
    (Y.reshape(6, 1), X.reshape(1, 6)),
    (Y.astype("f4"), X.astype("i4")),
])
def test_every_pairing_in_hdf5(tmp_path, slow, fast):
    found = scan(hdf5(tmp_path / "f.h5", y=slow, x=fast), **keys())
    assert found.positions.tolist() == np.c_[Y, X].tolist()
    assert any("has no unit and is taken as metres" in note for note in found.notes)


def test_columns_of_one_dataset(tmp_path):
    path = hdf5(tmp_path / "f.h5", table=np.c_[X, np.zeros(N), Y])
    found = scan(path, **keys("table", "table", slow_index=2, fast_index=0))
    assert found.positions.tolist() == np.c_[Y, X].tolist()
    with pytest.raises(PositionError, match=r"f.h5: table of shape \(6, 3\) has no column 3"):
        scan(path, **keys("table", "table", slow_index=3, fast_index=0))


def test_a_file_of_their_own_wins_over_the_file_of_the_frames(tmp_path):
    own = hdf5(tmp_path / "motors.h5", y=Y, x=X)
    found = scan(hdf5(tmp_path / "f.h5", y=Y * 0, x=X * 0), **keys(file=own))
    assert found.positions.tolist() == np.c_[Y, X].tolist()


@pytest.mark.parametrize("attribute, given, factor", [
    ("um", {}, 1e-6), (np.bytes_("mm"), {}, 1e-3), ("nm", {}, 1e-9), (None, {}, 1.0), (None, {"unit": "um"}, 1e-6),
    ("mm", {"unit": "um"}, 1e-6), ("mm", {"slow_multiplier": 2.0, "fast_multiplier": 2.0}, 2.0),
    ("steps", {"slow_multiplier": -1e-9, "fast_multiplier": -1e-9}, -1e-9),
])
def test_units_in_hdf5(tmp_path, attribute, given, factor):
    path = hdf5(tmp_path / "f.h5", y=Y, x=X)
    with h5py.File(path, "r+") as file:
        for name in "yx":
            if attribute is not None:
                file[name].attrs["units"] = attribute
    np.testing.assert_allclose(scan(path, **keys(**given)).positions, np.c_[Y, X] * factor, rtol=1e-15)


def test_each_axis_has_a_unit_of_its_own(tmp_path):
    path = hdf5(tmp_path / "f.h5", y=Y, x=X)
    with h5py.File(path, "r+") as file:
        file["y"].attrs["units"], file["x"].attrs["units"] = "mm", "um"
    np.testing.assert_allclose(scan(path, **keys()).positions, np.c_[Y * 1e-3, X * 1e-6])
    np.testing.assert_allclose(scan(path, **keys(slow_multiplier=5)).positions, np.c_[Y * 5, X * 1e-6])


def test_units_that_are_none(tmp_path):
    path = hdf5(tmp_path / "f.h5", y=Y, x=X)
    with h5py.File(path, "r+") as file:
        file["y"].attrs["units"] = "deg"
    with pytest.raises(PositionError, match="f.h5: y: positions in 'deg'.*set positions.unit"):
        scan(path, **keys())
    with pytest.raises(ParameterError, match="positions.unit='um' and a multiplier 2 were both given"):
        scan(path, **keys(unit="um", slow_multiplier=2))


@pytest.mark.parametrize("text, pars, factor", [
    ("# y[um] x[um]\n{y_x}", {}, 1e-6),
    ("y[um],x[mm]\n{y,x}", {}, (1e-6, 1e-3)),
    ("x y\n{x_y}", {}, 1),
    ("Fast Slow\n{x_y}", {}, 1),
    ("{y_x}", {}, 1),
    ("{y_x}", {"positions.unit": "nm"}, 1e-9),
    ("a b\n{x_y}", {"positions.slow_key": "b", "positions.fast_key": "a"}, 1),
    ("{x_y}", {"positions.slow_key": "1", "positions.fast_key": "0", "positions.unit": "um"}, 1e-6),
    ("y[um] x[um]\n{y_x}", {"positions.slow_multiplier": 3.0, "positions.fast_multiplier": 3.0}, 3),
    ("name;y;x\n{n;y;x}", {}, 1),
])
def test_tables(tmp_path, text, pars, factor):
    lines = {"{y_x}": "%g %g", "{y,x}": "%g,%g", "{x_y}": "%g %g", "{n;y;x}": "point;%g;%g"}
    for mark, line in lines.items():
        order = zip(X, Y) if mark == "{x_y}" else zip(Y, X)
        text = text.replace(mark, "\n".join(line % pair for pair in order))
    (tmp_path / "p.csv").write_text(text)
    found = scan(tmp_path / "f", **{"positions.file": tmp_path / "p.csv"}, **pars)
    np.testing.assert_allclose(found.positions, np.c_[Y, X] * factor, rtol=1e-15)


def test_npy(tmp_path):
    np.save(tmp_path / "p.npy", np.c_[Y, X].astype("f4"))
    given = {"positions.file": tmp_path / "p.npy"}
    assert scan(tmp_path / "f", **given).positions.tolist() == np.c_[Y, X].tolist()
    assert scan(tmp_path / "f", **given,
                **keys("1", "0", unit="mm")).positions.tolist() == (np.c_[X, Y] * 1e-3).tolist()
    for bad, words in ((np.zeros(6), r"float64 of shape \(6,\); expected numbers \(n, 2\)"),
                       (np.zeros((6, 1)), ".*expected numbers")):
        np.save(tmp_path / "p.npy", bad)
        with pytest.raises(PositionError, match=f"p.npy: {words}"):
            scan(tmp_path / "f", **given)
    (tmp_path / "p.npy").write_bytes(b"\x93NUMPY rubbish")
    with pytest.raises(SourceError, match="p.npy: cannot be read as a .npy file"):
        scan(tmp_path / "f", **given)


def test_turned_swapped_and_mirrored(tmp_path):
    path = hdf5(tmp_path / "f.h5", y=Y, x=X)
    for pars, expected in (({"swap": True}, np.c_[X, Y]), ({"flip_y": True}, np.c_[-Y, X]),
                           ({"flip_x": True, "swap": True}, np.c_[X, -Y]), ({"angle": 90.0}, np.c_[X, -Y])):
        np.testing.assert_allclose(scan(path, **keys(**pars)).positions, expected, atol=1e-15)


def test_numbers_that_do_not_fit_are_said_with_both(tmp_path):
    with pytest.raises(PositionError, match="6 frames but 4 positions.*num_frames=4"):
        scan(hdf5(tmp_path / "f.h5", y=Y[:4], x=X[:4]), **keys())
    assert scan(tmp_path / "f.h5", **keys(), num_frames=4).total == 4
    with pytest.raises(PositionError, match=r"6 frames, but slow positions of shape \(1,\).*\(4,\)"):
        scan(hdf5(tmp_path / "f.h5", y=Y[:1], x=X[:4]), **keys())


@pytest.mark.parametrize("rows, columns", [(3, 3), (2, 5), (4, 2)])
def test_a_raster_that_was_cut_short_is_still_one(tmp_path, rows, columns):
    path = hdf5(tmp_path / "f.h5", y=np.arange(rows), x=10.0 * np.arange(columns))
    with pytest.raises(PositionError, match=f"6 frames but {rows * columns} positions.*num_frames=6"):
        scan(path, **keys())
    found = scan(path, **keys(), num_frames=6)
    assert found.positions[:6].tolist() == [[i // columns, 10 * (i % columns)] for i in range(6)]


def test_keys_that_are_missing(tmp_path):
    path = hdf5(tmp_path / "f.h5", y=Y, x=X)
    with pytest.raises(PositionError,
                       match="f.h5: which dataset holds the positions.*positions.slow_key and positions.fast_key"):
        scan(path, **{"positions.file": path})
    with h5py.File(path, "r+") as file:
        file["a/table"], file["a/frames"], file["title"] = np.zeros((N, 3)), FRAMES, "words"
    with pytest.raises(SourceError, match="f.h5: no dataset why; its datasets of numbers are /a/frames, /a/table, /x, "
                                          "/y. Set positions.slow_key and positions.fast_key"):
        scan(path, **keys("why"))
    with pytest.raises(ParameterError, match="positions: neither recorded nor given.*positions.file"):
        scan(path)


# --- masks --------------------------------------------------------------------------------------------

GOOD = np.ones((4, 5), bool)
GOOD[1, 2] = GOOD[3, 4] = False


def masked(tmp_path, recorded=None, **pars):
    class Masked(Stack):
        """With the detector's own mask."""

        def open(self):
            source = super().open()
            source.mask = recorded
            return source
    Stack.where = tmp_path / "f"
    np.save(tmp_path / "p.npy", np.c_[Y, X])
    made = Masked({**GEOMETRY, "positions.file": tmp_path / "p.npy", **pars}).initialize()
    return next(made.batches()).weight[0]


@pytest.mark.parametrize("dtype", ["?", "u1", "i4", "f8"])
def test_polarity(tmp_path, dtype):
    np.save(tmp_path / "m.npy", GOOD.astype(dtype))
    assert np.array_equal(masked(tmp_path, **{"mask.file": tmp_path / "m.npy"}), GOOD)
    np.save(tmp_path / "m.npy", (~GOOD).astype(dtype) * (3 if dtype != "?" else True))
    assert np.array_equal(masked(tmp_path, **{"mask.file": tmp_path / "m.npy", "mask.invert": True}), GOOD)


def test_a_mask_in_hdf5(tmp_path):
    path = hdf5(tmp_path / "m.h5", mask=GOOD, stack=FRAMES)
    assert np.array_equal(masked(tmp_path, **{"mask.file": path}), GOOD)            # the only one of two dimensions
    path = hdf5(tmp_path / "m.h5", mask=GOOD, other=~GOOD)
    assert np.array_equal(masked(tmp_path, **{"mask.file": path, "mask.key": "mask"}), GOOD)
    for pars, words in (({}, "m.h5: which dataset is it.*Set mask.key.*/mask, /other"),
                        ({"mask.key": "absent"},
                         "m.h5: no dataset absent; those of 2 or 3 or 4 or 5 dimensions are /mask, /other. Set mask")):
        with pytest.raises(SourceError, match=words):
            masked(tmp_path, **{"mask.file": path, **pars})
    path = hdf5(tmp_path / "m.h5", mask=FRAMES[:4])
    with pytest.raises(SourceError, match=r"mask has shape \(4, 4, 5\); expected \(h, w\), or one for each of the 6"):
        masked(tmp_path, **{"mask.file": path, "mask.key": "mask"})


@pytest.mark.parametrize("what", ["mask", "y"])
def test_damaged_bitshuffle_is_a_sentence(tmp_path, what):
    """Read through HDF5's plug-in, it may end the process."""
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        for name, values in (("mask", np.ones((4, 5), "i4")), ("y", Y), ("x", X)):
            file.create_dataset(name, data=values, chunks=values.shape, **hdf5plugin.Bitshuffle(cname="lz4"))
        chunk = bytearray(file[what].id.read_direct_chunk((0,) * file[what].ndim)[1])
        chunk[:16] = b"\x7f" * 16
        file[what].id.write_direct_chunk((0,) * file[what].ndim, bytes(chunk))
    with pytest.raises(SourceError, match=f"f.h5: /{what}.*damaged"):
        if what == "mask":
            masked(tmp_path, **{"mask.file": path, "mask.key": "mask"})
        scan(path, **keys())


def test_it_joins_the_detectors_own(tmp_path):
    own = np.ones((4, 5), bool)
    own[0] = False
    assert np.array_equal(masked(tmp_path, own), own)
    np.save(tmp_path / "m.npy", GOOD)
    assert np.array_equal(masked(tmp_path, own, **{"mask.file": tmp_path / "m.npy"}), own & GOOD)
