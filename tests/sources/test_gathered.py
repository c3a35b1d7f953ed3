"""Frames of many files, and bursts."""
import h5py
import numpy as np
import pytest

from ptyprep.errors import SourceError
from ptyprep.sources.gathered import Bursts, files_at, mean_frame, one_frame_in_each
from ptyprep.sources.hdf5 import Hdf5Stack

FRAMES = np.random.default_rng(9).integers(0, 50, (6, 5, 7)).astype("u2")


def one_file_each(folder, names):
    for name, frame in zip(names, FRAMES):
        with h5py.File(folder / name, "w") as file:
            file["d"] = frame
    return folder


def test_files_are_in_the_order_of_their_numbers_and_missing_ones_move_none(tmp_path):
    files = files_at(one_file_each(tmp_path, [f"f_{n}.h5" for n in (2, 10, 1, 3, 20, 11)]))
    assert [file.name for file in files] == ["f_1.h5", "f_2.h5", "f_3.h5", "f_10.h5", "f_11.h5", "f_20.h5"]
    (tmp_path / "f_3.h5").write_bytes(b"nothing")
    source = one_frame_in_each(files, "d")
    assert np.array_equal(source.read([0, 1, 3]), FRAMES[[2, 0, 1]])
    assert [frames.start for frames, _ in source.missing] == [2]


def test_the_average_is_of_believable_counts(tmp_path):
    one_file_each(tmp_path, [f"f_{n}.h5" for n in range(6)])
    with h5py.File(tmp_path / "f_0.h5", "a") as file:
        file["d"][1, 1] = 2**16 - 1
    expected = FRAMES.mean(axis=0)
    expected[1, 1] = FRAMES[1:, 1, 1].mean()
    assert np.allclose(mean_frame(tmp_path, "d"), expected)


def test_bursts_add_up_and_keep_marks_masks_and_saturation(tmp_path):
    frames = FRAMES.copy()
    frames[1, 2, 2], frames[4, 3, 3] = 2**16 - 1, 60
    layout = h5py.VirtualLayout((6, 6, 7), "u2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["d"] = frames
    layout[:, :5] = h5py.VirtualSource("a.h5", "d", frames.shape)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    stack = Hdf5Stack(tmp_path / "v.h5")
    stack.saturation = 55
    source = Bursts(stack, 3)
    found = source.read([1, 0])
    expected = frames.reshape(2, 3, 5, 7).sum(axis=1, dtype="u8")[::-1]
    expected[1, 2, 2] = expected[0, 3, 3] = 2**64 - 1
    assert np.array_equal(found[:, :5], expected) and not source.mask[5].any() and source.mask[:5].all()
    with pytest.raises(SourceError, match="6 frames are not bursts of 4; 2 are left over"):
        Bursts(stack, 4)
