"""One image file for each frame, written by fabio or by hand and read back."""
import numpy as np
import pytest

from ptyprep import recipe
from ptyprep.errors import SourceError
from ptyprep.processing.plan import Window
from ptyprep.sources import ImageFiles

fabio = pytest.importorskip("fabio")
FRAMES = np.random.default_rng(4).integers(0, 1000, (5, 6, 8)).astype("i4")
HEADER = ("# Wavelength 1.2398419843320026 A\r\n# Detector_distance 2.15 m\r\n# Beam_xy (4.5, 2.5) pixels\r\n"
          "# Pixel_size 172e-6 m x 175e-6 m\r\n# Count_cutoff 990 counts\r\n")


def write(folder, kind="cbf", numbers=range(5), name="s1_{:05d}"):
    for number, frame in zip(numbers, FRAMES):
        if kind == "cbf":
            image = fabio.cbfimage.CbfImage(data=frame, header={"_array_data.header_contents": HEADER})
        elif kind == "edf":
            image = fabio.edfimage.EdfImage(data=frame)
        else:
            image = fabio.tifimage.TifImage(data=frame)
        image.write(str(folder / f"{name.format(number)}.{kind}"))
    return folder


@pytest.mark.parametrize("kind", ["cbf", "edf", "tif"])
def test_frames_are_those_of_the_files_in_the_order_of_their_numbers(tmp_path, kind):
    source = ImageFiles.matching(write(tmp_path, kind, range(8, 13), "scan_7_{}"))     # 8, 9, 10: not the alphabet's
    assert source.shape == (5, 6, 8) and np.array_equal(source.read([4, 0, 2]), FRAMES[[4, 0, 2]])
    window = Window(slice(1, 4), slice(2, 7))
    assert np.array_equal(source.read([1], window), FRAMES[[1], 1:4, 2:7])


def test_the_header_of_a_dectris_detector_is_read(tmp_path):
    source = ImageFiles.matching(write(tmp_path) / "s1_*.cbf")
    assert source.recorded["energy"] == pytest.approx(10) and source.recorded["distance"] == 2.15
    assert source.recorded["psize"] == (175e-6, 172e-6) and source.recorded["center"] == (2.5, 4.5)
    assert 989 < source.saturation < 990        # Count_cutoff: the detector clips to it


@pytest.mark.parametrize("policy", ["raise", "drop", "mask"])
def test_a_number_that_is_left_out_shifts_nothing(tmp_path, policy):
    write(tmp_path, numbers=[3, 4, 6, 7, 8])
    np.savetxt(tmp_path / "p.txt", np.arange(12.0).reshape(6, 2) * 1e-6, header="y[m] x[m]")
    scan = recipe("images")({"files": tmp_path / "*.cbf", "positions.file": tmp_path / "p.txt", "bad_frames": policy,
                              "center": (3, 4)})
    if policy == "raise":
        with pytest.raises(SourceError, match="no image between s1_00004.cbf and the next: frame 2 is missing"):
            scan.initialize()
        return
    batch = next(scan.initialize().batches(9))
    kept = [0, 1, 3, 4, 5] if policy == "drop" else list(range(6))
    assert batch.frame.tolist() == kept
    assert np.allclose(batch.position[:, 0], np.array(kept) * 2e-6)
    places = [i for i, frame in enumerate(batch.frame) if frame != 2]
    assert np.array_equal(batch.data[places] * batch.weight[places], FRAMES * (FRAMES <= 990))
    assert policy == "drop" or not batch.weight[2].any()


def test_what_is_no_image_or_of_another_size_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "s1_00003.cbf").write_bytes((tmp_path / "s1_00003.cbf").read_bytes()[:300])
    fabio.cbfimage.CbfImage(data=FRAMES[0, :3]).write(str(tmp_path / "s1_00004.cbf"))
    source = ImageFiles.matching(tmp_path)
    with pytest.raises(SourceError, match="s1_00003.cbf"):
        source.read([3])
    with pytest.raises(SourceError, match=r"04.cbf: an image of int32 \(3, 8\), those before are of int32 \(6, 8\)"):
        source.read([4])


@pytest.mark.parametrize(("name", "words"), [("none", "no image there"), ("x_*.cbf", "no image there"),
                                             ("", "images of several kinds, 1 .edf, 5 .cbf")])
def test_patterns_without_images(tmp_path, name, words):
    write(tmp_path)
    fabio.edfimage.EdfImage(data=FRAMES[0]).write(str(tmp_path / "dark.edf"))
    (tmp_path / "none").mkdir()
    with pytest.raises(SourceError) as err:
        ImageFiles.matching(tmp_path / name)
    assert all(word in str(err.value) for word in words.split(", ")[:1])


def test_two_series_in_one_folder_are_not_mixed(tmp_path):
    write(tmp_path, name="scan_{:04d}")
    write(tmp_path, name="white_{:04d}", numbers=range(3))
    with pytest.raises(SourceError, match="files of several series, such as scan_0000.cbf and white_0000.cbf"):
        ImageFiles.matching(tmp_path)
    assert ImageFiles.matching(tmp_path / "white_*.cbf").shape[0] == 3


def test_the_same_number_twice_is_refused_and_times_are_no_count(tmp_path):
    write(tmp_path, numbers=[3, 4], name="a_{}")
    write(tmp_path, numbers=[4], name="a_{:03d}")
    with pytest.raises(SourceError, match="have the same number"):
        ImageFiles.matching(tmp_path)
    (tmp_path / "times").mkdir()
    source = ImageFiles.matching(write(tmp_path / "times", numbers=[20260131235959, 20260201000000, 20260201000007]))
    assert source.shape[0] == 3 and "would not be noticed" in source.notes[0]
    assert "numbered 3 to 5" in ImageFiles.matching(write(tmp_path / "times", numbers=[3, 4, 5], name="b_{}") / "b_*"
                                                     ).notes[0]


@pytest.mark.parametrize("form", ["z_{:g}", "z{:+.2f}"])
def test_decimal_numbers_are_in_their_own_order_and_the_user_reads_which(tmp_path, form):
    values = [-1.5, -0.25, 0.5, 1.25, 1.5]
    source = ImageFiles.matching(write(tmp_path, numbers=values, name=form))
    assert np.array_equal(source.read(range(5)), FRAMES) and not source.missing
    assert source.files == [tmp_path / f"{form.format(value)}.cbf" for value in values]
    assert f"{source.files[0].name}, {source.files[1].name} … {source.files[4].name}" in source.notes[0]


@pytest.mark.parametrize("name", ["s[1]", "s*", "?"])
def test_a_file_is_the_one_of_that_name(tmp_path, name):
    write(tmp_path, numbers=[0], name=name)
    write(tmp_path, numbers=[1, 2], name="s{}")
    assert ImageFiles.matching(tmp_path / f"{name}.cbf").files == [tmp_path / f"{name}.cbf"]


def test_every_image_of_a_dark_file_counts(tmp_path):
    from ptyprep.arrays import read_array
    image = fabio.edfimage.EdfImage(data=FRAMES[0])
    image.append_frame(data=FRAMES[1])
    image.write(str(tmp_path / "dark.edf"))
    assert np.array_equal(read_array(tmp_path / "dark.edf", parameter="x").values, FRAMES[:2])
