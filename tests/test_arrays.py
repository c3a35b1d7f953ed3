"""One array out of a file, whatever the kind of file; what it holds is written by other means."""
import h5py
import numpy as np
import pytest

from ptyprep.arrays import columns_of, read_array
from ptyprep.errors import SourceError

IMAGE = np.arange(12, dtype="u2").reshape(3, 4)


def get(path, key=None, dims=(2,)):
    return read_array(path, key, parameter="mask.key", dims=dims)


def test_every_kind_of_file(tmp_path):
    fabio, io = pytest.importorskip("fabio"), pytest.importorskip("scipy.io")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/mask"], file["entry/other"] = IMAGE, np.arange(3)
        file["entry/mask"].attrs["units"] = np.bytes_("counts")
    np.save(tmp_path / "a.npy", IMAGE)
    io.savemat(tmp_path / "a.mat", {"mask": IMAGE})
    fabio.edfimage.EdfImage(data=IMAGE).write(str(tmp_path / "a.edf"))
    fabio.tifimage.TifImage(data=IMAGE).write(str(tmp_path / "a.tif"))
    np.savetxt(tmp_path / "a.txt", IMAGE)
    for name in ("a.h5", "a.npy", "a.mat", "a.edf", "a.tif", "a.txt"):
        assert np.array_equal(get(tmp_path / name).values, IMAGE), name
    assert get(tmp_path / "a.h5").units == "counts" and get(tmp_path / "a.h5").where.endswith("a.h5: /entry/mask")


def test_matlab_73_is_turned_to_how_matlab_shows_it(tmp_path):
    with h5py.File(tmp_path / "m.mat", "w", userblock_size=512) as file:
        file["mask"] = IMAGE.T
    with open(tmp_path / "m.mat", "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(128))
    assert np.array_equal(get(tmp_path / "m.mat", "mask").values, IMAGE)


def test_a_column_by_name_or_number(tmp_path):
    (tmp_path / "t.csv").write_text("time[s], y[um], x[um]\n0, 1, 2\n1, 3, 4\n")
    found = read_array(tmp_path / "t.csv", "x", parameter="p")
    assert found.values.tolist() == [2, 4] and found.units == "um"
    np.savetxt(tmp_path / "t.txt", IMAGE)
    assert read_array(tmp_path / "t.txt", "2", parameter="p").values.tolist() == [2, 6, 10]
    found = read_array(tmp_path / "t.txt", parameter="p")
    assert found.column(None) is found and found.column(3).values.tolist() == [3, 7, 11]
    with pytest.raises(SourceError, match=r"t.txt of shape \(3, 4\) has no column 4"):
        found.column(4)
    assert columns_of(tmp_path / "t.csv").keys() == ["time", "y", "x"]
    assert read_array(tmp_path / "t.csv", "2", parameter="p").values.tolist() == [2, 4]     # also where names are known
    np.save(tmp_path / "t.npy", IMAGE)
    assert read_array(tmp_path / "t.npy", "2", parameter="p").values.tolist() == [2, 6, 10]
    with pytest.raises(SourceError, match=r"t.npy of shape \(3, 4\) has no column 'x'. Set p to the number"):
        read_array(tmp_path / "t.npy", "x", parameter="p")


def write_odd(folder):
    with h5py.File(folder / "two.h5", "w") as file:
        file["a"], file["b"], file["text"] = IMAGE, IMAGE, "words"
    (folder / "bad.npy").write_bytes(b"")
    (folder / "bad.mat").write_bytes(b"MATLAB nonsense" * 20)
    (folder / "bad.tif").write_bytes(b"II*\0 nonsense")
    np.save(folder / "complex.npy", IMAGE * 1j)
    np.save(folder / "line.npy", np.arange(3))


@pytest.mark.parametrize(("name", "key", "words"), [
    ("absent.h5", None, "no such file; mask.file should name a file with it"),
    ("", None, "a folder; mask.file should name a file with it"),
    ("two.h5", None, "which dataset is it? Set mask.key; those of 2 dimensions are /a, /b"),
    ("two.h5", "c", "no dataset c; those of 2 dimensions are /a, /b. Set mask.key"),
    ("two.h5", "text", "expected real numbers"),
    ("bad.npy", None, "cannot be read as a .npy file"),
    ("bad.mat", None, "cannot be read as a MATLAB file"),
    ("bad.tif", None, "cannot be read as an image"),
    ("complex.npy", None, "complex128; expected real numbers"),
    ("line.npy", None, r"has shape (3,); expected 2 dimensions"),
])
def test_what_cannot_be_read_is_said(tmp_path, name, key, words):
    write_odd(tmp_path)
    with pytest.raises(SourceError) as err:
        get(tmp_path / name, key)
    assert words in str(err.value)
