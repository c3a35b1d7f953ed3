"""What bad input gets: a sentence with what, where, what was expected and what to do next, and no output."""
import logging
import re

import h5py
import numpy as np
import pytest

from ptyprep.cli import commands
from ptyprep.testing import write_dectris, write_positions

FRAMES = np.random.default_rng(1).integers(0, 50, (12, 20, 24)).astype("u4")
PLACES = np.random.default_rng(2).normal(size=(12, 2)) * 1e-6
ALL = ("--positions.file", "pos.txt", "--energy", "8", "--distance", "2", "--psize", "75um", "--center", "10,12")
EIGER = ("eiger", "s_master.h5", "--positions.file", "pos.txt")


def cut(name, size):
    def change():
        with open(name, "r+b") as file:
            file.truncate(size)
    return change


def remove(name):
    def change():
        import os
        os.unlink(name)
    return change


def write(name, content="hello\n"):
    def change():
        with open(name, "w") as file:
            file.write(content)
    return change


def hdf5(**datasets):
    def change():
        with h5py.File("x.h5", "w") as file:
            for name, value in datasets.items():
                file[name.replace("__", "/")] = value
    return change


def damage_frame():
    with h5py.File("s_data_000002.h5", "r+") as file:
        data = file["entry/data/data"]
        data.id.write_direct_chunk((1, 0, 0), data.id.read_direct_chunk((1, 0, 0))[1][:40])


def unknown_filter():
    with h5py.File("x.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, 20, 24))
        plist.set_filter(31999, h5py.h5z.FLAG_OPTIONAL, (1,))
        made = h5py.h5d.create(file.id, b"frames", h5py.h5t.NATIVE_UINT16, h5py.h5s.create_simple((12, 20, 24)), plist)
        for i in range(12):
            made.write_direct_chunk((i, 0, 0), bytes(40))


def pickled():
    with h5py.File("x.ptyd", "w") as file:
        file["chunks/0/data"] = FRAMES
        file["meta/label"] = np.void(b"x")
        file["meta/label"].attrs["type"] = "pickle"


STACKS = hdf5(raw__frames=FRAMES, raw__dark=FRAMES, motor=np.zeros(12))

CASES = {
    "file absent": (None, ("eiger", "absent.h5"), "absent.h5: no such file"),
    "a folder": (None, ("eiger", "."), r"\.: a folder; expected an HDF5 file"),
    "a folder for auto": (None, ("auto", "."), r"\.: a folder; expected a file"),
    "empty file": (write("x.h5", ""), ("eiger", "x.h5"), r"x.h5: not an HDF5 file \(0 bytes\)"),
    "not HDF5": (write("x.h5"), ("hdf5", "x.h5"), r"x.h5: not an HDF5 file \(6 bytes\)"),
    "not HDF5 for cxi": (write("x.cxi"), ("cxi", "x.cxi"), r"x.cxi: not an HDF5 file \(6 bytes\)"),
    "not HDF5 for ptyd": (write("x.ptyd"), ("ptyd", "x.ptyd"), r"x.ptyd: not an HDF5 file \(6 bytes\)"),
    "another layout": (STACKS, ("eiger", "x.h5", *ALL),
                       "x.h5: no entry/data/data_000001.*DECTRIS master.*found motor, raw"),
    "another layout for cxi": (STACKS, ("cxi", "x.h5", *ALL),
                               "x.h5: no entry_1/data_1/data; expected a CXI file, found motor, raw"),
    "another layout for ptyd": (STACKS, ("ptyd", "x.h5"), "x.h5: no chunks and meta in it; expected a .ptyd file"),
    "a data file instead of the master": (None, ("eiger", "s_data_000001.h5", *ALL),
                                          "s_data_000001.h5: a data file.*give the master file"),
    "master truncated": (cut("s_master.h5", 3000), EIGER, "s_master.h5: truncated or damaged"),
    "data file truncated": (cut("s_data_000002.h5", 3000), EIGER,
                            r"s_data_000002.h5: truncated or damaged.*\(5 to 9, .*"
                            r"--bad_frames drop or --bad_frames mask"),
    "linked file absent": (remove("s_data_000002.h5"), EIGER,
                           r"s_data_000002.h5: no such file.*missing for it: 5 \(5 to 9, .*set --bad_frames"),
    "no data file": (lambda: [remove(f"s_data_00000{i}.h5")() for i in (1, 2, 3)], EIGER,
                     "s_master.h5: none of its 3 data files can be read.*s_data_000001.h5"),
    "frame damaged": (damage_frame, EIGER,
                      "s_data_000002.h5.*frame 6 of the scan is damaged(.|\n)*--bad_frames drop or --bad_frames mask"),
    "no key": (STACKS, ("hdf5", "x.h5", *ALL), r"x.h5: expected one stack.*/raw/dark \(12, 20, 24\), /raw/frames \(12"),
    "key absent": (STACKS, ("hdf5", "x.h5", "--intensities.key", "raw/frame", *ALL),
                   r"x.h5: no dataset raw/frame; the stacks in it are /raw/dark \(12, 20, 24\), /raw/fr.*Set the key"),
    "key of a group": (STACKS, ("hdf5", "x.h5", "--intensities.key", "raw", *ALL),
                       "raw is a group.*raw/dark, raw/frames"),
    "key of a motor": (STACKS, ("hdf5", "x.h5", "--intensities.key", "motor", *ALL),
                       r"motor is float64 of shape \(12,\)"),
    "positions' file absent": (remove("pos.txt"), EIGER, "pos.txt: no such file; --positions.file should name"),
    "positions' file empty": (write("pos.txt", ""), EIGER, "pos.txt: no numbers in it; expected a table"),
    "positions not a table": (write("pos.txt", "1 2\n3\n"), EIGER, "pos.txt, line 2: 1 columns, but 2"),
    "positions in another unit": (write("pos.txt", "y[deg] x[deg]\n1 2\n"), EIGER,
                                  "pos.txt: y: positions in 'deg'.*expected one of m, cm, mm.*set --positions.unit"),
    "three columns": (write("pos.txt", "a b c\n" + "1 2 3\n" * 12), EIGER,
                      "pos.txt: which of its columns a, b, c are y and x.*positions.slow_key"),
    "column absent": (None, (*EIGER, "--positions.slow_key", "why", "--positions.fast_key", "x"),
                      "pos.txt: no column 'why'; its columns of numbers are y, x"),
    "one axis only": (None, (*EIGER, "--positions.slow_key", "y"), "positions.slow_key.*positions.fast_key"),
    "fewer positions": (lambda: write_positions("pos.txt", PLACES[:7]), EIGER,
                        "s_master.h5: 12 frames but 7 positions.*--num_frames 7"),
    "more positions": (lambda: write_positions("pos.txt", np.zeros((40, 2))), EIGER,
                       "12 frames but 40 positions.*--num_frames 12"),
    "a position that is none": (write("pos.txt", "y x\n" + "1 2\n" * 5 + "nan 2\n" * 7), EIGER,
                                "7 of 12 are not finite, the first at scan point 5"),
    "axes that fit no raster": (hdf5(frames=FRAMES, y=np.arange(2.0), x=np.arange(5.0)),
                                ("hdf5", "x.h5", "--positions.slow_key", "y", "--positions.fast_key", "x", *ALL[2:]),
                                r"12 frames, but slow positions of shape \(2,\).*\(5,\).*rows x columns = 12"),
    "position dataset absent": (hdf5(frames=FRAMES),
                                ("hdf5", "x.h5", "--positions.slow_key", "y", "--positions.fast_key", "x", *ALL[2:]),
                                "x.h5: no dataset y; its datasets of numbers are /frames"),
    "multiplier and unit": (None, (*EIGER, "--positions.unit", "um", "--positions.slow_multiplier", "1e-6"),
                            "--positions.unit um and a multiplier 1e-06 were both given: leave out"),
    "mask absent": (None, (*EIGER, "--mask.file", "m.npy"), "m.npy: no such file; --mask.file"),
    "mask of another shape": (lambda: np.save("m.npy", np.ones((3, 3))), (*EIGER, "--mask.file", "m.npy"),
                              r"m.npy: the mask has shape \(3, 3\), the frames have \(20, 24\)"),
    "which mask": (hdf5(a=np.ones((20, 24)), b=np.ones((20, 24))), (*EIGER, "--mask.file", "x.h5"),
                   "x.h5: which dataset is it.*mask.key.*/a, /b"),
    "centre outside": (None, (*EIGER, "--center", "30,3"),
                       r"--center 30.0,3.0 .*outside the raw frame of \(20, 24\).*rows 0 to 19"),
    "centre negative": (None, (*EIGER, "--center", "-5,3"), "outside the raw frame"),
    "centre not a number": (None, (*EIGER, "--center", "middle"),
                            "'center' of recipe 'eiger'.*fftshift, geometric, fft"),
    "region empty": (None, (*EIGER, "--shape", "0"), "'shape'.*must be greater than 0, got 0"),
    "rebin does not divide": (None, (*EIGER, "--shape", "10", "--rebin", "3"),
                              r"--rebin 3 does not divide.*set --shape 9,9"),
    "rebin larger than the region": (None, (*EIGER, "--shape", "2", "--rebin", "4"), "--rebin 4 does not divide"),
    "wrong type": (None, (*EIGER, "--rebin", "two"), "'rebin' of recipe 'eiger'.*whole number, got 'two'"),
    "out of limits": (None, (*EIGER, "--energy", "-8"), r"'energy' of recipe 'eiger' \[keV\] must be greater than 0"),
    "wrong unit": (None, (*EIGER, "--distance", "2 keV"), "'distance'.*length.*'2 keV'"),
    "wrong choice": (None, (*EIGER, "--save", "merged"), "'save'.*'merged'; choose one of append, link"),
    "orientation": (None, (*EIGER, "--orientation", "9"), "'orientation'.*at most 7, got 9"),
    "frames": (None, (*EIGER, "--frames", "5"), "--frames 5: expected first:last:step"),
    "frames beyond the end": (None, (*EIGER, "--frames", "50:60"), "--frames 50:60 selects none of the 12 scan points"),
    "unknown parameter in a file": (write("c.toml", "shpae = 8"), (*EIGER, "--config", "c.toml"),
                                    "'shpae'.*did you mean 'shape'"),
    "several problems": (write("c.toml", "shpae = 8\nrebin = 'x'"), (*EIGER, "--config", "c.toml"), "shpae.*\n.*rebin"),
    "nothing recorded": (lambda: write_dectris("s_master.h5", FRAMES), ("eiger", "s_master.h5"),
                         "s_master.h5: energy, distance, psize, center, positions: neither recorded nor given"
                         ".*--energy '7.2 keV'.*--auto_center.*--positions.file"),
    "output exists": (write("s.ptyd"), EIGER, "s.ptyd exists; choose another name, or set --overwrite"),
    "output in no folder": (None, (*EIGER, "-o", "none/s.ptyd"), "none does not exist; make it first"),
    "nothing to resume but finished": (write("s.ptyd"), (*EIGER, "--resume"), "is no prepared file, and --resume"),
    "overwrite and resume": (None, (*EIGER, "--resume", "--overwrite"), "set one of them"),
    "two centres": (None, (*EIGER, "--auto_center", "--center", "3,3"), "auto_center were both given"),
    "missing filter": (unknown_filter, ("hdf5", "x.h5", *ALL),
                       "x.h5: /frames.*its HDF5 filter 31999 is not installed; install"),
    "a pickle": (pickled, ("ptyd", "x.ptyd", *ALL), "/meta/label is stored as a pickle, which could run code.*refused"),
    "parameters of another recipe": (None, (*EIGER, "--name", "cxi"), "for recipe 'cxi', this is 'eiger'"),
    "positions in a folder": (None, (*EIGER[:2], "--positions.file", "."),
                              r"\.: a folder; --positions.file should name"),
    "raw file overwritten": (None, (*EIGER, "-o", "s_master.h5", "--overwrite"),
                             "s_master.h5 is (a|the) file that is read; name"),
    "data file overwritten": (None, (*EIGER, "-o", "./s_data_000002.h5", "--overwrite"),
                              "s_data_000002.h5 is (the file that is read|no prepared file)"),
    "raw file as output": (None, (*EIGER, "-o", "s_master.h5"), "s_master.h5 is (a|the) file that is read; name"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dectris("s_master.h5", FRAMES, frames_per_file=5, energy=8, distance=2, psize=(75e-6, 75e-6), center=(10, 12))
    write_positions("pos.txt", PLACES)
    before = logging.getLogger().handlers[:]
    yield tmp_path
    logging.captureWarnings(False)
    logging.getLogger().handlers[:] = before


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_bad_input_gets_a_sentence_and_no_output(folder, capsys, case):
    change, command, words = CASES[case]
    if change:
        change()
    content = {p: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(SystemExit) as stop:
        commands.main(["prepare", *command])
    out, err = capsys.readouterr()
    assert stop.value.code == 1, err
    assert re.search(words, err), err
    assert "ptyprep: " in err and "Traceback" not in err and "debug" not in err and not out
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == content
    assert [p for p in folder.iterdir() if p.is_dir()] == []


@pytest.mark.parametrize("case",
                         ["file absent", "key absent", "fewer positions", "output in no folder", "nothing recorded",
                                  "linked file absent", "rebin does not divide", "frame damaged"])
def test_with_link_there_is_no_output_either(folder, capsys, case):
    change, command, words = CASES[case]
    if change:
        change()
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        commands.main(["prepare", *command, "--save", "link"])
    assert stop.value.code == 1 and re.search(words, capsys.readouterr().err)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("policy, frames", [("drop", [0, 1, 2, 3, 4, 10, 11]), ("mask", list(range(12)))])
def test_the_next_step_that_a_message_names_works(folder, capsys, policy, frames):
    remove("s_data_000002.h5")()
    commands.main(["prepare", *EIGER, "--bad_frames", policy], standalone_mode=False)
    assert f"{len(frames)} frames of" in capsys.readouterr().out
    with h5py.File("s.ptyd") as file:
        assert file["chunks/0/frame_ids"][()].tolist() == frames
        good = [i for i, f in enumerate(frames) if not 5 <= f < 10]
        assert np.array_equal(file["chunks/0/data"][()][good], FRAMES[frames][good])
