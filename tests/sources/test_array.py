"""NumPy arrays and .npy files."""
import numpy as np
import pytest

from ptyprep.errors import SourceError
from ptyprep.frame import Window
from ptyprep.sources import ArrayFrames, NpyFile, layout_of, open_frames

FRAMES = np.arange(6 * 5 * 4, dtype="u2").reshape(6, 5, 4)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_frames(tmp_path, where):
    np.save(tmp_path / "f.npy", FRAMES)
    source = ArrayFrames(FRAMES) if where == "memory" else open_frames(tmp_path / "f.npy")
    assert source.shape == (6, 5, 4) and source.dtype == "u2" and source.grid is None and source.progress() == (6, True)
    got = source.read([5, 1], Window(slice(1, 4), slice(0, 2)))
    assert np.array_equal(got, FRAMES[[5, 1], 1:4, 0:2])
    got[:] = 0                                      # what is read belongs to the reader
    assert np.array_equal(source.read(range(6)), FRAMES)
    assert source.read([]).shape == (0, 5, 4)


def test_a_raster(tmp_path):
    source = ArrayFrames(FRAMES.reshape(2, 3, 5, 4))
    assert source.grid == (2, 3) and np.array_equal(source.read([4]), FRAMES[[4]])


def test_npy_files_are_known_by_their_first_bytes(tmp_path):
    np.save(tmp_path / "f.npy", FRAMES)
    (tmp_path / "f.npy").rename(tmp_path / "frames.dat")
    assert layout_of(tmp_path / "frames.dat") is NpyFile


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 2)), np.zeros((2, 3, 4), complex), [[[1]]], None])
def test_what_is_no_stack_of_real_numbers_is_refused(array):
    with pytest.raises(SourceError, match=r"array: .*expected real numbers \(n, h, w\)"):
        ArrayFrames(array)


def test_npy_files_that_are_none(tmp_path):
    np.save(tmp_path / "cut.npy", FRAMES)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-50])
    np.save(tmp_path / "pickle.npy", np.array([{}], object), allow_pickle=True)
    for name in ("cut.npy", "pickle.npy", "absent.npy"):
        with pytest.raises(SourceError, match=f"{name}: cannot be read as a .npy file"):
            NpyFile(tmp_path / name)
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "empty").touch()
    for name, words in (("text.txt", "not a file that is understood; expected a DECTRIS master, CXI"),
                        ("empty", "an empty file"),
                        ("gone", "no such file"), (".", "a folder; expected a file")):
        with pytest.raises(SourceError, match=words):
            open_frames(tmp_path / name)
