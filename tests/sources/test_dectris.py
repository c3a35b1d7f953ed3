"""DECTRIS masters: frames are those that were written, geometry what the file says if it can be true."""
import re
import threading

import h5py
import hdf5plugin
import numpy as np
import pytest

from ptyprep.errors import SourceError
from ptyprep.processing.plan import Window
from ptyprep.sources import DectrisMaster, layout_of
from ptyprep.testing import write_dectris

DETECTOR = "entry/instrument/detector"


def counts(shape=(11, 20, 30), dtype="u4", seed=1):
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def master(tmp_path, frames, **options):
    path = tmp_path / "s_master.h5"
    write_dectris(path, frames, **{"frames_per_file": 4, **options})
    return path


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("compression", ["bslz4", "lz4", None])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_kind_of_frames(tmp_path, dtype, compression, compiled, threads, monkeypatch):
    if not compiled:
        monkeypatch.setattr("ptyprep.kernels.compiled.core", None)
    frames = counts(dtype=dtype)
    source = DectrisMaster(master(tmp_path, frames, compression=compression))
    source.threads = threads
    assert source.shape == frames.shape and source.dtype == frames.dtype and source.progress() == (11, True)
    assert np.array_equal(source.read(range(11)), frames)
    order = [10, 0, 4, 3, 7]
    window = Window(slice(3, 17), slice(5, 6))
    assert np.array_equal(source.read(order, window), frames[order, 3:17, 5:6])
    assert source.read([]).shape == (0, 20, 30)


@pytest.mark.slow
@pytest.mark.parametrize("links", [1000, 2000])
def test_links_beyond_the_last_file_are_not_written_yet(tmp_path, links):
    frames = counts()
    source = DectrisMaster(master(tmp_path, frames, links=links, announced=8000))
    assert source.shape == frames.shape and source.missing == []
    assert source.expected == 8000
    assert "the master announces 8000 frames, 11 are written" in source.notes
    assert np.array_equal(source.read([0, 10]), frames[[0, 10]])
    assert len(source.files) == 4


def test_a_file_missing_in_the_middle_keeps_the_places_of_the_others(tmp_path):
    frames = counts()
    path = master(tmp_path, frames, links=9)
    (tmp_path / "s_data_000002.h5").unlink()
    source = DectrisMaster(path)
    assert source.shape == frames.shape
    [(missing, reason)] = source.missing
    assert missing == range(4, 8) and "s_data_000002.h5" in reason and "no such file" in reason
    assert np.array_equal(source.read([0, 3, 8, 10]), frames[[0, 3, 8, 10]])
    with pytest.raises(SourceError, match="s_data_000002.h5.*frame 5 of the scan.*no such file"):
        source.read([0, 5])


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n" + bytes(99), None])
def test_a_last_file_that_is_there_but_cannot_be_opened_is_missing_not_unwritten(tmp_path, content):
    frames = counts((12, 20, 30))
    path = master(tmp_path, frames, links=9)
    last = tmp_path / "s_data_000003.h5"
    last.write_bytes(last.read_bytes()[:3000] if content is None else content)
    source = DectrisMaster(path)
    [(missing, reason)] = source.missing
    assert source.shape == frames.shape and missing == range(8, 12) and "s_data_000003.h5" in reason
    assert np.array_equal(source.read(range(8)), frames[:8])
    with pytest.raises(SourceError, match="s_data_000003.h5.*frame 11 of the scan"):
        source.read([11])


def test_a_damaged_last_file_holds_no_more_frames_than_were_announced(tmp_path):
    path = master(tmp_path, counts())                       # 4 + 4 + 3
    (tmp_path / "s_data_000003.h5").write_bytes(b"")
    assert [frames for frames, _ in DectrisMaster(path).missing] == [range(8, 11)]


@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("files", [3, 4])
def test_frames_in_leading_files_that_are_missing_are_not_guessed_from_a_shorter_one(tmp_path, lost, numbered, files):
    frames = counts((4 * files - 1, 20, 30))                # all of four frames, but the last of three
    path = master(tmp_path, frames)
    for k in range(files):
        name = tmp_path / f"s_data_{k + 1:06d}.h5"
        if k < lost:
            name.unlink()
        elif not numbered:
            with h5py.File(name, "r+") as file:
                del file["entry/data/data"].attrs["image_nr_low"]
    if not numbered and files - lost < 2:
        with pytest.raises(SourceError, match="cannot tell how many frames.*s_data_000001.h5: no such file"):
            DectrisMaster(path)
        return
    source = DectrisMaster(path)
    assert source.shape == frames.shape and sum(len(m) for m, _ in source.missing) == 4 * lost
    assert np.array_equal(source.read([4 * lost, 4 * files - 2]), frames[[4 * lost, 4 * files - 2]])


def test_image_numbers_that_begin_again_in_each_file_tell_nothing(tmp_path):
    path = master(tmp_path, counts())
    (tmp_path / "s_data_000001.h5").unlink()
    with h5py.File(tmp_path / "s_data_000002.h5", "r+") as file:
        file["entry/data/data"].attrs["image_nr_low"] = np.uint64(1)
    with pytest.raises(SourceError, match="cannot tell how many frames.*image_nr_low is 1"):
        DectrisMaster(path)


def test_without_any_data_file_the_first_is_named(tmp_path):
    path = master(tmp_path, counts(), links=50)
    for name in tmp_path.glob("s_data_*"):
        name.unlink()
    with pytest.raises(SourceError, match="none of its 50 data files can be read.*s_data_000001.h5"):
        DectrisMaster(path)


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_a_truncated_data_file_is_told_from_an_absent_one(tmp_path, keep):
    path = master(tmp_path, counts((12, 60, 60)), compression=None)
    broken = tmp_path / "s_data_000002.h5"
    content = broken.read_bytes()
    broken.write_bytes(content[:int(keep * len(content)) if keep < 1 else keep])
    [(missing, reason)] = DectrisMaster(path).missing
    assert missing == range(4, 8) and "s_data_000002.h5" in reason
    assert ("truncated or damaged" if keep else "not an HDF5 file (0 bytes)") in reason
    assert "no such file" not in reason


def test_a_damaged_frame_is_named_and_the_others_are_read(tmp_path):
    frames = counts((6, 64, 64))
    path = master(tmp_path, frames)
    with h5py.File(tmp_path / "s_data_000002.h5", "r+") as file:
        data = file["entry/data/data"]
        chunk = data.id.read_direct_chunk((1, 0, 0))[1]
        data.id.write_direct_chunk((1, 0, 0), chunk[:len(chunk) // 2])
    source = DectrisMaster(path)
    with pytest.raises(SourceError, match="s_data_000002.h5.*frame 5 of the scan is damaged"):
        source.read(range(6))
    assert np.array_equal(source.read(range(5)), frames[:5])


def test_a_chunk_that_was_never_written_is_no_frame_of_zeros(tmp_path):
    path = master(tmp_path, counts())
    with h5py.File(tmp_path / "s_data_000003.h5", "r+") as file:
        file["entry/data/data"].resize(4, axis=0)
    source = DectrisMaster(path)
    assert source.shape[0] == 12
    with pytest.raises(SourceError, match="frame 11 of the scan was never written"):
        source.read([10, 11])


@pytest.mark.parametrize("numbered", [True, False])
def test_links_go_by_their_numbers_and_one_that_is_left_out_moves_none(tmp_path, numbered):
    frames = counts((12, 20, 30))
    path = master(tmp_path, frames, frames_per_file=1)
    with h5py.File(path, "a") as file:
        links = file["entry/data"]
        for number in range(1, 13):         # data_1, data_10, data_11, data_12, data_2 by the alphabet
            links.move(f"data_{number:06d}", f"data_{number}")
            with h5py.File(tmp_path / f"s_data_{number:06d}.h5", "a") as part:
                del part["entry/data/data"].attrs["image_nr_low"]
                if numbered:
                    part["entry/data/data"].attrs["image_nr_low"] = number
        links["data_sum"] = frames.sum(axis=0)
    source = DectrisMaster(path)
    assert np.array_equal(source.read(range(12)), frames) and not source.missing
    with h5py.File(path, "a") as file:
        del file["entry/data/data_5"]
    source = DectrisMaster(path)
    assert np.array_equal(source.read([0, 3, 5, 11]), frames[[0, 3, 5, 11]])
    [(missing, reason)] = source.missing
    assert missing == range(4, 5) and "a number between data_1 and data_12 is left out of its links" in reason


def test_image_numbers_that_do_not_follow_are_refused(tmp_path):
    path = master(tmp_path, counts())
    with h5py.File(tmp_path / "s_data_000002.h5", "r+") as file:
        file["entry/data/data"].attrs["image_nr_low"] = np.uint64(9)
    with pytest.raises(SourceError, match="s_data_000002.h5: its first image has number 9, expected 5"):
        DectrisMaster(path)


def test_files_of_different_frames_are_refused(tmp_path):
    path = master(tmp_path, counts())
    with h5py.File(tmp_path / "s_data_000002.h5", "w") as file:
        file["entry/data/data"] = counts((4, 20, 31))
    with pytest.raises(SourceError, match=r"s_data_000002.h5: frames of uint32 \(20, 31\), but .*\(20, 30\)"):
        DectrisMaster(path)


def test_images_x_triggers(tmp_path):
    frames = counts((12, 20, 30))
    source = DectrisMaster(master(tmp_path, frames, triggers=4))
    with h5py.File(source.path) as file:
        assert file[f"{DETECTOR}/detectorSpecific/nimages"][()] == 3
    assert source.expected == 12 and source.notes.count("the master announces") == 0
    assert np.array_equal(source.read(range(12)), frames)


def test_geometry_as_recorded(tmp_path):
    mask = np.zeros((20, 30), "u4")
    mask[2, 3], mask[4, 5], mask[6, 7] = 1, 16, 1 << 31
    source = DectrisMaster(master(tmp_path, counts(), energy=7.2, distance=2.1, psize=(75e-6, 76e-6), center=(10.5, 15),
                                  pixel_mask=mask, saturation=150, description="Dectris EIGER2 CdTe 9M"))
    assert source.recorded["energy"] == pytest.approx(7.2, rel=1e-12)
    assert {k: v for k, v in source.recorded.items() if k != "energy"} == {
        "distance": 2.1, "psize": (75e-6, 76e-6), "center": (10.5, 15)}
    assert np.array_equal(source.mask, mask == 0)
    assert source.saturation == 150 and not source.electrons and source.notes == []


def test_nonsense_counts_as_not_recorded(tmp_path):
    source = DectrisMaster(master(tmp_path, counts()))
    assert source.recorded == {} and source.mask is None and source.saturation is None
    for name in ("photon_energy = 0", "detector_distance = 0", "y_pixel_size = 0", "x_pixel_size = 0",
                 "beam_center (y, x) = (0, 0)"):
        assert any(f"/{name} counts as not recorded" in note for note in source.notes)
    with h5py.File(source.path, "r+") as file:
        file[f"{DETECTOR}/detector_distance"][()] = np.nan
        file[f"{DETECTOR}/beam_center_x"][()] = np.inf
        file[f"{DETECTOR}/x_pixel_size"][()] = -1
    assert DectrisMaster(source.path).recorded == {}


@pytest.mark.parametrize("photon_energy", ["absent", 0.0])
@pytest.mark.parametrize("unit, factor", [("angstrom", 1), ("m", 1e-10), ("nm", 0.1), (None, 1),
                                          ("picometre", 100), ("\xc5", 1)])
def test_the_wavelength_serves_where_no_photon_energy_is(tmp_path, photon_energy, unit, factor):
    path = master(tmp_path, counts(), energy=12.398419843320026)        # 1 angstrom
    with h5py.File(path, "r+") as file:
        specific = file[f"{DETECTOR}/detectorSpecific"]
        if photon_energy == "absent":
            del specific["photon_energy"]
        else:
            specific["photon_energy"][()] = photon_energy
        wavelength = file["entry/instrument/beam/incident_wavelength"]
        wavelength[()] = factor
        del wavelength.attrs["units"]
        if unit:
            wavelength.attrs["units"] = unit
    assert DectrisMaster(path).recorded["energy"] == pytest.approx(12.398419843320026, rel=1e-9)


@pytest.mark.parametrize("unit, value", [
    ("m", 0.5), ("mm", 500), ("cm", 50), ("um", 5e5), (None, 0.5), ("millimeter", 500), ("millimetres", 500),
    ("Meter", 0.5), (" m ", 0.5), ("microns", 5e5), ("\xb5m".encode(), 5e5), ("\u03bcm".encode(), 5e5)])
def test_lengths_are_in_the_unit_that_the_file_says(tmp_path, unit, value):
    path = master(tmp_path, counts(), distance=1)
    with h5py.File(path, "r+") as file:
        node = file[f"{DETECTOR}/detector_distance"]
        node[()] = value
        node.attrs.pop("units")
        if unit:
            node.attrs["units"] = np.bytes_(unit)
    assert DectrisMaster(path).recorded["distance"] == pytest.approx(0.5)


@pytest.mark.parametrize("key, name", [("detector_distance", "distance"), ("x_pixel_size", "psize")])
def test_a_length_in_no_unit_of_length_counts_as_not_recorded(tmp_path, key, name):
    path = master(tmp_path, counts(), distance=2, psize=(75e-6, 75e-6))
    with h5py.File(path, "r+") as file:
        file[f"{DETECTOR}/{key}"].attrs["units"] = "parsec"
    source = DectrisMaster(path)
    assert {"distance", "psize"} - source.recorded.keys() == {name}
    assert any(f"{key} " in note and "'parsec'" in note for note in source.notes)


def test_a_wavelength_in_no_unit_of_length_counts_as_not_recorded(tmp_path):
    path = master(tmp_path, counts(), energy=8)
    with h5py.File(path, "r+") as file:
        del file[f"{DETECTOR}/detectorSpecific/photon_energy"]
        file["entry/instrument/beam/incident_wavelength"].attrs["units"] = "furlong"
    source = DectrisMaster(path)
    assert "energy" not in source.recorded and any("wavelength" in n and "'furlong'" in n for n in source.notes)


@pytest.mark.parametrize("kilovolt, picometre", [(60, 4.866), (200, 2.508), (300, 1.969)])      # Williams & Carter
def test_the_wavelength_of_electrons_gives_their_kinetic_energy(tmp_path, kilovolt, picometre):
    path = master(tmp_path, counts(), description="DECTRIS ARINA Si")
    with h5py.File(path, "r+") as file:
        node = file["entry/instrument/beam/incident_wavelength"]
        node[()] = picometre
        node.attrs["units"] = "pm"
    assert DectrisMaster(path).recorded["energy"] == pytest.approx(kilovolt, rel=1e-3)


def test_a_detector_for_electrons_is_known_by_its_name(tmp_path):
    assert DectrisMaster(master(tmp_path, counts(), description="DECTRIS ARINA Si 192")).electrons
    assert not DectrisMaster(master(tmp_path, counts(), description="Dectris EIGER2 X 1M")).electrons


def test_a_mask_of_another_shape_is_a_problem(tmp_path):
    source = DectrisMaster(master(tmp_path, counts(), pixel_mask=np.zeros((5, 5))))
    assert source.mask is None and "pixel_mask of shape (5, 5)" in source.mask_problem


def test_a_damaged_mask_ends_no_process(tmp_path):
    mask = np.random.default_rng(0).integers(0, 2, (64, 64)).astype("u4")
    path = master(tmp_path, counts((3, 64, 64)))
    with h5py.File(path, "r+") as file:
        node = file.create_dataset(f"{DETECTOR}/detectorSpecific/pixel_mask", data=mask, chunks=(64, 64),
                                   **hdf5plugin.Bitshuffle(cname="lz4"))
    assert np.array_equal(DectrisMaster(path).mask, mask == 0)
    with h5py.File(path, "r+") as file:
        node = file[f"{DETECTOR}/detectorSpecific/pixel_mask"].id
        node.write_direct_chunk((0, 0), node.read_direct_chunk((0, 0))[1][:-9] + b"\xff" * 9)
    assert re.search("s_master.h5: .*pixel_mask is damaged", DectrisMaster(path).mask_problem)


def test_links_win_over_a_virtual_dataset_and_it_serves_alone(tmp_path):
    frames = counts()
    path = master(tmp_path, frames, virtual=True)
    assert np.array_equal(DectrisMaster(path).read(range(11)), frames)
    with h5py.File(path, "r+") as file:
        for name in [k for k in file["entry/data"] if k.startswith("data_")]:
            del file[f"entry/data/{name}"]
    assert layout_of(path) is DectrisMaster
    source = DectrisMaster(path)
    assert np.array_equal(source.read([9, 2, 5]), frames[[9, 2, 5]])
    (tmp_path / "s_data_000002.h5").unlink()
    source = DectrisMaster(path)
    assert [m for m, _ in source.missing] == [range(4, 8)]      # and no zeros, as HDF5 would give
    with pytest.raises(SourceError, match="s_data_000002.h5"):
        source.read([5])


def test_a_master_of_another_kind_says_what_is_in_it(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["other/stack"] = counts()
    with pytest.raises(SourceError, match="x.h5: no entry/data/data_000001.*expected a DECTRIS master.*found other"):
        DectrisMaster(tmp_path / "x.h5")


def test_data_files_of_several_frames_in_a_chunk_and_tiles(tmp_path):
    frames = counts((10, 37, 45), "u2")
    path = master(tmp_path, frames, frames_per_file=5)
    for i, chunks in enumerate([(3, 37, 45), (2, 16, 20)]):
        with h5py.File(tmp_path / f"s_data_{i + 1:06d}.h5", "w") as file:
            file.create_dataset("entry/data/data", data=frames[5 * i:5 * i + 5], chunks=chunks,
                                **hdf5plugin.Bitshuffle(cname="lz4"))
    source = DectrisMaster(path)
    assert np.array_equal(source.read(range(10)), frames)
    order, window = [9, 4, 0, 7], Window(slice(14, 33), slice(19, 41))
    assert np.array_equal(source.read(order, window), frames[order, 14:33, 19:41])


def test_files_stay_free_for_others(tmp_path):
    """The detector may be writing: nothing is locked, nothing needs a lock, no file stays open."""
    frames = counts()
    path = master(tmp_path, frames, links=5)
    data = tmp_path / "s_data_000002.h5"
    with h5py.File(data, "r"), h5py.File(path, "r"):                    # this process reads them, locked
        source = DectrisMaster(path)
        assert np.array_equal(source.read(range(11)), frames)
    with h5py.File(data, "r+") as file:                                 # and writes while a source exists
        file["entry/data/data"][0] = 7
    frames[4] = 7
    assert np.array_equal(source.read(range(11)), frames)
    with h5py.File(data, "r+") as file:                                 # this process writes it, locked
        file.flush()
        assert np.array_equal(source.read([4, 5]), frames[4:6])
        assert np.array_equal(DectrisMaster(path).read([4, 5]), frames[4:6])


def test_a_file_that_another_process_writes_is_read(tmp_path):
    import subprocess
    import sys
    path = master(tmp_path, counts())
    writer = subprocess.Popen([sys.executable, "-c",
                               f"import h5py; f = h5py.File({str(tmp_path / 's_data_000001.h5')!r}, 'r+');"
                               " print('open', flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert writer.stdout.readline() == b"open\n"
        assert np.array_equal(DectrisMaster(path).read(range(4)), counts()[:4])
    finally:
        writer.communicate(b"\n", timeout=20)


def test_threads_of_the_user_may_read_together(tmp_path):
    frames = counts((40, 64, 64))
    source = DectrisMaster(master(tmp_path, frames, frames_per_file=10))
    source.threads = 2
    got = [None] * 8

    def read(k):
        got[k] = source.read(range(k * 5, k * 5 + 5))
    threads = [threading.Thread(target=read, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert np.array_equal(np.concatenate(got), frames)
