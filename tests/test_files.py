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
    monkeypatch.setattr("ptyprep.filescan.filescan.GUESSED", np.inf)


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


def test_one_key_of_two_is_a_question(tmp_path):
    (tmp_path / "p.csv").write_text("y x\n1 2\n")
    for given, missing in (("slow", "fast"), ("fast", "slow")):
        with pytest.raises(PositionError, match=f"positions.{given}_key is given: set positions.{missing}_key "
                                                "too, to one of its columns y, x"):
            scan(tmp_path / "f", **{"positions.file": tmp_path / "p.csv", f"positions.{given}_key": "y"})


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


MONOTONE = np.array([[0.0, 10], [1, 20], [2, 30]])      # three positions, which could be the axes of 3 x 3


@pytest.fixture
def nine(monkeypatch):
    """As many frames as three rows and three columns have."""
    monkeypatch.setitem(globals(), "FRAMES", np.arange(9 * 4 * 5, dtype="u2").reshape(9, 4, 5))


def few_positions(folder, kind):
    """Parameters for a file of this kind that holds `MONOTONE`, a position in each row."""
    path = folder / "few"
    if kind in ("text", "spec"):
        rows = "".join(f"{y} {x}\n" for y, x in MONOTONE)
        path.write_text(rows if kind == "text" else f"#F few\n#S 1 ascan\n#L a  b\n{rows}\n")
        return keys("1/a", "1/b", file=path) if kind == "spec" else {"positions.file": path}
    if kind == "npy":
        np.save(folder / "few.npy", MONOTONE)
        return {"positions.file": folder / "few.npy"}
    hdf5(path, table=MONOTONE)
    return keys("table", "/table", slow_index=0, fast_index=1, file=path)


@pytest.mark.parametrize("kind", ["text", "npy", "spec", "one dataset"])
def test_a_row_of_a_table_is_one_position(tmp_path, nine, kind):
    pars = few_positions(tmp_path, kind)
    with pytest.raises(PositionError, match="9 frames but 3 positions"):
        scan(tmp_path / "f", **pars)
    found = scan(tmp_path / "f", **pars, num_frames=3)
    assert found.positions.tolist() == MONOTONE.tolist()
    assert any("3 positions for 9 frames: if they are the axes of a raster, set positions.axes" in note
               for note in found.notes)
    raster = scan(tmp_path / "f", **pars, **{"positions.axes": True, "positions.skip": 2})
    assert raster.positions.tolist() == [[y, x] for y in (0, 1, 2) for x in (10, 20, 30)]
    assert raster.selection.points.tolist() == [0, 2, 6, 8]


def test_axes_of_unlike_lengths_in_a_table_end_in_empty_cells(tmp_path):
    (tmp_path / "p.csv").write_text("y,x\n0,5\n1,6\n,7\n")
    found = scan(tmp_path / "f", **{"positions.file": tmp_path / "p.csv", "positions.axes": True})
    assert found.positions.tolist() == np.c_[Y, X].tolist()


def test_two_datasets_are_axes_or_not_as_the_user_says(tmp_path, nine):
    path = hdf5(tmp_path / "f.h5", y=MONOTONE[:, 0], x=MONOTONE[:, 1], spiral=[0.0, 2, 1], two=[1.0, 2])
    assert len(scan(path, **keys()).positions) == 9
    for wrong in (keys(axes=False), keys("spiral")):        # three frames at each of three positions
        with pytest.raises(PositionError, match="9 frames but 3 positions"):
            scan(path, **wrong)
    assert len(scan(path, **keys("spiral", axes=True)).positions) == 9
    with pytest.raises(PositionError, match="2 readings of the slow axis and 3 of the fast one.*positions.axes"):
        scan(path, **keys("two", axes=False))


# --- numbers beside the frames ------------------------------------------------------------------------

def numbers_of(folder, kind):
    """Parameters without their group for two numbers of each of the six frames: its number, and whether it is even."""
    table = np.c_[np.arange(N), [1, 0, 1, 0, 1, 0]]
    if kind == "text":
        (folder / "m.csv").write_text("frame,good\n" + "".join(f"{a},{b}\n" for a, b in table))
        return {"file": folder / "m.csv"}
    if kind == "npy":
        np.save(folder / "m.npy", table)
        return {"file": folder / "m.npy"}
    return {"file": hdf5(folder / "m.h5", n=table if kind == "dataset" else table.reshape(2, 3, 2)), "key": "n"}


@pytest.mark.parametrize("kind, choice, question", [
    ("text", {"key": "good"}, "Set {}.key to one of its columns frame, good"),
    ("text", {"key": "1"}, "Set {}.key to one of its columns frame, good"),
    ("npy", {"key": "1"}, "Set {}.key to one of its columns 0, 1"),
    ("npy", {"index": 1}, "Set {}.key to one of its columns 0, 1"),
    ("dataset", {"index": 1}, "Set {}.index to 0 … 1"),
    ("raster", {"index": 1}, "Set {}.index to 0 … 1"),
])
@pytest.mark.parametrize("group", ["framefilter", "normalisation"])
def test_which_of_several_numbers_of_a_frame_is_asked(tmp_path, kind, choice, question, group):
    np.save(tmp_path / "p.npy", np.c_[Y, X])
    given = {"positions.file": tmp_path / "p.npy"}
    beside = {f"{group}.{name}": value for name, value in numbers_of(tmp_path, kind).items()}
    if (group, kind) == ("normalisation", "raster"):
        found = scan(tmp_path / "f", **given, **beside)     # PtyPy averages those
        assert found.each(group).tolist() == [0.5, 0.5, 1.5, 1.5, 2.5, 2.5]
    else:
        asked = "2 numbers for each frame: which of them is meant.*" + question.format(group)
        with pytest.raises(SourceError, match=asked):
            scan(tmp_path / "f", **given, **beside).each(group)
    found = scan(tmp_path / "f", **given, **beside, **{f"{group}.{name}": value for name, value in choice.items()},
                 **({"normalisation.outliers": "drop"} if group == "normalisation" else {}))
    assert found.selection.points.tolist() == [0, 2, 4]
    with pytest.raises(SourceError, match=f"no number 2 for each frame. Set {group}.index lower"):
        scan(tmp_path / "f", **given, **beside, **{f"{group}.index": 2}).each(group)


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


class Own(FileScan):
    """Positions and mask by hooks of its own, as a scan of points."""
    def load_positions(self):
        return np.arange(8.0).reshape(4, 2) * 1e-6

    def load_weight(self):
        return np.ones((6, 6), bool)

    def load(self, indices):
        return np.ones((len(indices), 6, 6), "u2")


def test_parameters_that_a_recipes_own_hook_does_not_read_are_named():
    given = {"energy": 8, "distance": 1, "psize": 1e-4, "center": 3}
    assert not any("change nothing" in note for note in Own(given).initialize().notes)
    scan = Own({**given, "positions.flip_y": True, "mask.invert": True, "positions.skip": 2}).initialize()
    said = [note for note in scan.notes if "change nothing" in note]
    assert len(said) == 2 and "load_positions() does not read positions.flip_y: " in said[0]
    assert "load_weight() does not read mask.invert: " in said[1]
    assert scan.positions_origin == "recorded"
