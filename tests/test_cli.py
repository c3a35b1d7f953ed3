"""The command line, as a user meets it."""
import json
import logging
import os
import re
import subprocess
import sys
import tomllib
import types

import h5py
import numpy as np
import pytest
import tomli_w
from ptyprep_recipes.eiger import Eiger

from ptyprep import registry
from ptyprep.cli import commands
from ptyprep.params.declare import walk
from ptyprep.sources import DectrisMaster
from ptyprep.testing import mpirun, read_ptyd, run_on_ranks, write_cxi, write_dectris, write_positions

FRAMES = np.random.default_rng(1).integers(0, 50, (12, 20, 24)).astype("u2")
PLACES = np.random.default_rng(2).normal(size=(12, 2)) * 1e-6
START = ("-c", "from ptyprep.cli.commands import main; main(prog_name='ptyprep')")
GEOMETRY = {"energy": 8.0, "distance": 2.0, "psize": (75e-6, 75e-6), "center": (10, 12)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder beside `raw`, with a scan of 12 frames in it in every format."""
    raw = tmp_path / "raw"
    raw.mkdir()
    write_dectris(raw / "s_master.h5", FRAMES, frames_per_file=5, **GEOMETRY)
    write_positions(raw / "pos.txt", PLACES)
    write_cxi(raw / "s.cxi", FRAMES, np.c_[PLACES[:, ::-1], np.zeros(12)], energy=8, distance=2, psize=(75e-6, 75e-6))
    with h5py.File(raw / "any.h5", "w") as file:
        file["frames"], file["y"], file["x"] = FRAMES, PLACES[:, 0], PLACES[:, 1]
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def run(capsys):
    """The command in this process: what it printed, and its exit code."""
    before = logging.getLogger().handlers[:]

    def ptyprep(*args):
        code = 0
        try:
            commands.main([str(a) for a in args])
        except SystemExit as stop:
            code = stop.code
        finally:
            logging.captureWarnings(False)
            logging.getLogger().handlers[:] = before
        out, err = capsys.readouterr()
        return types.SimpleNamespace(code=code or 0, out=out, err=err)
    return ptyprep


def shell(*args, **options):
    """The command in a process of its own."""
    return subprocess.run([sys.executable, *START, *map(str, args)], capture_output=True, text=True, timeout=60,
                          **options)


EIGER = ("prepare", "eiger", "../raw/s_master.h5", "--positions.file", "../raw/pos.txt")
ANY = ("prepare", "hdf5", "../raw/any.h5", "--intensities.key", "frames", "--positions.slow_key", "y",
       "--positions.fast_key", "x",
       "--energy", "8keV", "--distance", "2", "--psize", "75 um", "--center", "10,12")


# --- prepare ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("command, output", [
    (EIGER, "s.ptyd"),
    (("prepare", "auto", *EIGER[2:]), "s.ptyd"),
    (("prepare", "cxi", "../raw/s.cxi", "--center", "10,12"), "s.ptyd"),
    (ANY, "any.ptyd"),
    ((*EIGER, "-o", "other name.ptyd"), "other name.ptyd"),
    ((*EIGER, "--save", "link", "--frames_per_chunk", "5", "--compression", "bslz4", "--threads", "1"), "s.ptyd"),
    (("prepare", *EIGER[3:], "--center", "10,12", "auto", "--no-overwrite", "../raw/s_master.h5"), "s.ptyd"),
    (("prepare", "-o", "first.ptyd", *EIGER[1:]), "first.ptyd"),
])
def test_a_scan_becomes_a_ptyd(folder, run, command, output):
    done = run(*command)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{output}: 12 frames of 20 x 24 pixels in ") and done.out.count("\n") == 1
    found = read_ptyd(folder / output)
    assert np.array_equal(found["data"], FRAMES)
    np.testing.assert_allclose(found["positions"], PLACES, rtol=1e-9)


def test_ptyd_and_moonflower(folder, run):
    assert run("prepare", "moonflower", "--num_frames", "4", "--shape", "32").code == 0
    first = read_ptyd(folder / "moonflower.ptyd")
    assert first["data"].shape == (4, 32, 32)
    done = run("prepare", "ptyd", "moonflower.ptyd", "--rebin", "2")
    assert done.out.startswith("moonflower_prepared.ptyd: 4 frames of 16 x 16"), done.err
    binned = read_ptyd(folder / "moonflower_prepared.ptyd")["data"]
    assert binned.sum() == first["data"].sum() and binned.dtype == np.uint64


@pytest.mark.slow
def test_recipes_from_a_file_and_a_module(folder, run):
    (folder / "mine.py").write_text(
        "import numpy as np\nfrom ptyprep import Par, PtyScan\nclass Mine(PtyScan):\n    'Mine.'\n"
        "    energy, distance, psize, center = Par(8.0), Par(1.0), Par(1e-4), Par('fftshift')\n"
        "    level: int = Par(3, unit='', doc='Level.')\n"
        "    def load_positions(self): return np.zeros((4, 2))\n"
        "    def load(self, indices): return np.full((len(indices), 8, 8), self.p.level)\n")
    assert run("prepare", "./mine.py:Mine", "--level", "5", "-o", "a.ptyd").code == 0
    assert (read_ptyd("a.ptyd")["data"] == 5).all()
    assert run("prepare", "./mine.py").out.startswith("mine.ptyd: 4 frames of 8 x 8")
    assert run("params", "./mine.py").out.count("Level.") == 1
    assert shell("prepare", "mine:Mine", "-o", "b.ptyd", env={**os.environ, "PYTHONPATH": str(folder)}).returncode == 0


@pytest.mark.parametrize("options, rows, cols", [
    (("--shape", "8"), slice(6, 14), slice(8, 16)),
    (("--shape", "8,6"), slice(6, 14), slice(9, 15)),
    (("--shape", "8", "--center", "7,9"), slice(3, 11), slice(5, 13)),
    (("--shape", "8", "--center", "8"), slice(4, 12), slice(4, 12)),
    (("--shape=8", "--center=7, 9"), slice(3, 11), slice(5, 13)),
    (("--shape", "8", "--center", "fftshift"), slice(6, 14), slice(8, 16)),
])
def test_pairs_and_names(folder, run, options, rows, cols):
    done = run(*EIGER, *options)
    assert done.code == 0, done.err
    assert np.array_equal(read_ptyd("s.ptyd")["data"], FRAMES[:, rows, cols])


def test_orientation_as_number_and_as_three(folder, run):
    for i, option in enumerate(("6", "true,true,false", "1,1,0")):
        assert run(*EIGER, "--orientation", option, "-o", f"{i}.ptyd").code == 0
        assert read_ptyd(f"{i}.ptyd")["data"].shape == (12, 24, 20)
        whole = run(*EIGER, "--orientation", option, "--plan").out
        assert "transposed, rows flipped" in whole and "columns flipped" not in whole


def test_every_parameter_is_an_option_of_the_same_name(run):
    text = run("prepare", "eiger", "--help").out
    for name, par in walk(Eiger):
        if name == "dfile":
            assert "-o, --output" in text and "--dfile" not in text
            continue
        flag = f"--{name} / --no-{name}" if par.kind == "yes/no" else f"--{name}"
        assert f"  {flag}" in text, name
    assert max(map(len, text.splitlines())) <= 100
    assert "Photon energy; for electrons their kinetic" in text and "[keV]" in text and "Default 1." in text
    short = run("prepare", "--help").out
    assert "RECIPE" in short and "--plan" in short and "--energy" not in short and run("prepare", "-h").out == short


def test_flags_go_both_ways(folder, run):
    assert run(*EIGER).code == 0
    again = run(*EIGER)
    assert again.code == 1 and "s.ptyd exists" in again.err and "overwrite" in again.err
    assert run(*EIGER, "--no-overwrite").code == 1
    assert run(*EIGER, "--overwrite").code == 0


# --- configuration ------------------------------------------------------------------------------------

def test_a_config_file_and_what_wins_over_it(folder, run):
    (folder / "c.toml").write_text('shape = 8\nenergy = "7 keV"\nlabel = "from file"\ndfile = "named.ptyd"\n'
                                   '[positions]\nfile = "../raw/pos.txt"\n[mask]\ninvert = true\n')
    done = run("prepare", "eiger", "../raw/s_master.h5", "--config", "c.toml", "--label", "from line",
               "--no-mask.invert")
    assert done.code == 0, done.err
    with h5py.File("named.ptyd") as file:
        info = file["info"]
        assert info["label"][()] == b"from line" and info["origins/label"][()] == b"command line"
        assert file["meta/energy"][()] == 7.0 and info["origins/energy"][()] == b"config file"
        assert info["origins/distance"][()] == b"detector" and "rebin" not in info["origins"]
        assert not info["mask/invert"][()] and info["origins/positions.file"][()] == b"config file"
    assert run("prepare", "eiger", "../raw/s_master.h5", "--config", "c.toml", "-o", "o.ptyd").out.startswith("o.ptyd")


def test_the_source_may_stand_in_the_config_file(folder, run):
    (folder / "c.toml").write_text('file = "../raw/s_master.h5"\npositions.file = "../raw/pos.txt"\n')
    assert run("prepare", "eiger", "--config", "c.toml").out.startswith("eiger.ptyd: 12 frames")


def test_the_template_is_a_config_file(folder, run):
    template = run("params", "eiger", "--toml").out
    (folder / "c.toml").write_text(template)
    done = run(*EIGER, "--config", "c.toml")
    assert done.code == 0, done.err


@pytest.mark.parametrize("text, words", [
    ("shape = ", "c.toml: not TOML: Invalid value"),
    ("shpae = 8", "no parameter 'shpae' in recipe 'eiger'; did you mean 'shape'.*config file"),
    ('rebin = "x"\nenergy = -1', "'rebin'.*whole number, got 'x'(.|\n)*'energy'.*greater than 0, got -1"),
    ('[positions]\nslow = "y"', "positions.slow"),
])
def test_a_config_file_that_is_wrong(folder, run, text, words):
    import re
    (folder / "c.toml").write_text(text)
    done = run(*EIGER, "--config", "c.toml")
    assert done.code == 1 and re.search(words, done.err), done.err
    assert [p.name for p in folder.iterdir()] == ["c.toml"]


# --- plan ---------------------------------------------------------------------------------------------

def test_the_plan_reads_no_frames_and_writes_nothing(folder, run, monkeypatch):
    monkeypatch.setattr(DectrisMaster, "read", lambda *_: pytest.fail("frames are read"))
    before = sorted(folder.parent.rglob("*"))
    done = run(*EIGER, "--plan", "--shape", "8", "--frames", "2:10:2", "--rebin", "2", "--frames_per_chunk", "3")
    assert done.code == 0 and sorted(folder.parent.rglob("*")) == before
    rows = dict(line.split(None, 1) for line in done.out.splitlines())
    assert rows["frames"] == "4 of 12" and rows["region"] == "8 x 8 raw pixels, rows 6 to 13, columns 8 to 15"
    assert rows["prepared"] == "4 x 4 pixels, uint32, orientation as it is, rebin 2"
    assert rows["energy"] == "8 keV (detector)" and rows["centre"] == "row 10, column 12 (detector)"
    assert rows["chunks"] == "2 of 3 frames" and rows["file"].startswith("s.ptyd (merge, portable)")
    assert "bitshuffle-LZ4" in rows["reads"] and rows["reads"].startswith("4 files")
    auto = run("prepare", "hdf5", *ANY[2:-2], "--auto_center", "--plan")
    assert auto.code == 0 and "found from a sample of frames" in auto.out


@pytest.mark.parametrize("command, said", [
    (EIGER, "12 over .* um (../raw/pos.txt)"), (ANY, "12 over .* um (../raw/any.h5: y, x)"),
    (("prepare", "cxi", "../raw/s.cxi"), "12 over .* um (recorded)"),
    ((*EIGER, "--positions_theory", "theory.npy"), "12 over 0 x 22 um (positions_theory)"),
    (("prepare", "./mine.py", "--num_frames", "4"), "with the frames, from load()")])
def test_the_plan_says_which_positions_are_used(folder, run, command, said):
    np.save("theory.npy", np.arange(12)[:, None] * [0, 2e-6])
    (folder / "mine.py").write_text(
        "import numpy as np\nfrom ptyprep import Par, PtyScan\nclass Mine(PtyScan):\n    'Mine.'\n"
        "    energy, distance, psize, center = Par(8.0), Par(1.0), Par(1e-4), Par('fftshift')\n"
        "    def load(self, at): return np.ones((len(at), 8, 8)), np.zeros((len(at), 2)), None\n")
    done = run(*command, "--plan")
    line = re.search("^positions +(.*)$", done.out, re.MULTILINE)
    assert line and re.fullmatch(re.escape(said).replace(r"\.\*", ".*"), line[1]), (line, done.err)


def test_the_plan_says_where_the_region_is_beyond_the_frame(folder, run):
    padded = run(*EIGER, "--plan", "--shape", "24,16")
    assert re.search("^padding +2 rows above the raw frame, 2 below, 0 columns left, 0 right: weight 0$", padded.out,
                     re.MULTILINE), padded.out
    auto = (*ANY[:-2], "--auto_center", "--plan", "--shape")
    assert re.search("^padding +the region is larger than the raw frame", run(*auto, "1000").out, re.MULTILINE)
    for inside in ((*EIGER, "--plan", "--shape", "8"), (*auto, "20,24")):
        assert "padding" not in run(*inside).out


# --- recipes, params, show ----------------------------------------------------------------------------

def test_recipes_and_their_parameters(run):
    lines = run("recipes").out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(registry.installed())
    assert all(len(line.split(None, 1)[1]) > 20 for line in lines)
    tree = run("params", "eiger").out
    assert "energy" in tree and "keV" in tree and "slow_key" in tree
    basic = run("params", "eiger", "--level", "0").out
    assert "energy" in basic and "rebin_mode" in tree and "rebin_mode" not in basic
    parsed = tomllib.loads(run("params", "eiger", "--toml").out)
    assert isinstance(parsed, dict) and tomli_w.dumps(parsed) is not None
    schema = json.loads(run("params", "hdf5", "--schema").out)
    assert "energy" in schema["properties"] and "intensities" in schema["properties"]


@pytest.mark.slow
def test_show_raw_and_prepared(folder, run):
    raw = run("show", "../raw/s_master.h5")
    assert raw.code == 0 and "12 of 20 x 24 pixels, uint16" in raw.out and "data_000003 -> s_data_000003.h5" in raw.out
    assert "energy     8 keV" in raw.out
    (folder.parent / "raw" / "s_data_000002.h5").unlink()
    assert "frames 5 to 9" in run("show", "../raw/s_master.h5").out
    assert "translation" in run("show", "../raw/s.cxi").out
    assert run(*EIGER[:3], "--positions.file", "../raw/pos.txt", "--bad_frames", "drop", "--save", "link").code == 0
    prepared = run("show", "s.ptyd").out
    assert "7 of 20 x 24" in prepared and "bad frames  5, 6, 7, 8, 9" in prepared and "7 over" in prepared
    np.save("f.npy", FRAMES)
    assert "12 of 20 x 24" in run("show", "f.npy").out


@pytest.mark.slow
def test_show_a_preparation_that_is_not_finished(folder, run):
    assert run(*EIGER, "--save", "link", "--frames_per_chunk", "4").code == 0
    next(folder.glob("s.*/000002.h5")).unlink()
    text = run("show", "s.ptyd").out
    assert "chunks     2 of 3" in text and "(not there)" in text
    assert "4 of the 12 planned frames are not there yet" in text


def test_show_nonsense(folder, run):
    (folder / "empty").touch()
    (folder / "text").write_text("hello")
    with h5py.File(folder / "nothing.h5", "w"):
        pass
    with h5py.File(folder / "loop.h5", "w") as file:
        file["a/b"] = file["/"]
        file["image"] = np.zeros((3, 3))
    for name, words in (("empty", "an empty file"), ("text", "not a file that is understood"),
                        ("absent", "no such file"),
                        (".", "a folder")):
        done = run("show", name)
        assert done.code == 1 and words in done.err and done.err.startswith("ptyprep: ") and not done.out
        assert len(done.err.splitlines()) == 1
    assert run("show", "nothing.h5").out.startswith("nothing.h5: expected one stack of frames, found none at all")
    loop = run("show", "loop.h5")
    assert loop.code == 0 and "image" in loop.out and loop.out.count("(as above)") == 1


# --- errors -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("args, code, words", [
    ((), 2, "Usage"),
    (("--version",), 0, "0."),
    (("--help",), 0, "prepare"),
    (("frobnicate",), 2, "No such command 'frobnicate'"),
    (("prepare",), 2, "Missing argument 'RECIPE'"),
    (("prepare", "-o", "x.ptyd"), 2, "Missing argument 'RECIPE'"),
    (("prepare", "eiger", "a", "b"), 2, "unexpected extra argument"),
    (("prepare", "eigre", "x"), 1, "no recipe 'eigre'; did you mean 'eiger'? Installed are als, amo"),
    (("prepare", "nonsense"), 1, "no recipe 'nonsense'. Installed are"),
    (("prepare", "no.module:Class"), 1, "no module 'no.module'"),
    (("prepare", "./absent.py"), 1, "absent.py: no such recipe file"),
    (("prepare", "eiger"), 1, "needs parameter 'file'"),
    (("prepare", "auto"), 1, "give SOURCE"),
    (("prepare", "auto", "../raw/pos.txt"), 1, "pos.txt: not a file that is understood"),
    (("prepare", "moonflower", "x.h5"), 2, "reads no file, but SOURCE 'x.h5' was given"),
    (("prepare", "eiger", "x", "--file", "y"), 2, "SOURCE 'x' and --file y were both given"),
    ((*EIGER, "--shpae", "8"), 2, "--shape"),
    ((*EIGER, "--shape"), 2, "requires an argument"),
    ((*EIGER, "--config", "absent.toml"), 2, "absent.toml"),
    ((*EIGER, "--center", "-5,3"), 1, "--center -5.0,3.0 (row, col) lies outside the raw frame of (20, 24) pixels"),
    ((*EIGER, "--energy", "8 m"), 1, "must be an energy"),
    ((*EIGER, "--rebin", "0"), 1, "'rebin' of recipe 'eiger' [pixel] must be at least 1, got 0"),
    ((*EIGER, "--save", "apend"), 1, "choose one of append, link"),
    (("params", "nonsense"), 1, "no recipe 'nonsense'"),
    (("params", "eiger", "--level", "7"), 2, "--level"),
    (("show",), 2, "Missing argument 'FILE'"),
])
def test_exit_codes_and_messages(folder, run, args, code, words):
    done = run(*args)
    assert done.code == code
    assert words in done.out + done.err
    assert "Traceback" not in done.err and not list(folder.iterdir())
    if code:
        assert not done.out


@pytest.mark.parametrize("command, typed, meant", [
    (EIGER, "--shpae", "--shape"), (EIGER, "--no-overwriet", "--no-overwrite"), (EIGER, "--frobnicate", None),
    (("show",), "--hepl", "--help"), (("prepare", "moonflower"), "--oputput", "--output"),
    ((), "--vresion", "--version"),
])
def test_of_options_that_are_unknown_one_is_suggested(folder, run, command, typed, meant):
    done = run(*command, typed)
    said = re.search(r"No such option:? '?--[\w-]+'?\.?(?: (.*))?$", done.err, re.MULTILINE)[1]
    assert done.code == 2 and (said or "").replace("'", "") == (f"Did you mean {meant}?" if meant else "")


@pytest.mark.slow
def test_no_traceback_unless_debug(folder):
    for command in ((*EIGER[:2], "absent.h5"), ("show", "absent.h5")):
        done = shell(*command)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "ptyprep: absent.h5: no such file\n")
    done = shell(*EIGER[:2], "absent.h5", "--debug")
    assert done.returncode == 1 and "Traceback" in done.stderr and "SourceError" in done.stderr


@pytest.mark.slow
def test_a_fault_of_a_recipe_is_one_line_and_leaves_nothing(folder):
    (folder / "mine.py").write_text(
        "import numpy as np\nfrom ptyprep import Par, PtyScan\nclass Mine(PtyScan):\n    'Mine.'\n"
        "    energy, distance, psize, center = Par(8.0), Par(1.0), Par(1e-4), Par('fftshift')\n"
        "    def load_positions(self): return np.zeros((4, 2))\n"
        "    def load(self, indices): return {}[7] if 3 in indices else np.ones((len(indices), 8, 8))\n")
    done = shell("prepare", "mine.py", "-o", "x.ptyd")
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and lines[1] == "ptyprep: KeyError: 7" and "Traceback" not in done.stderr
    assert lines[-1] == "--debug shows where that happened" and len(lines) <= 5
    (folder / "broken.py").write_text("def (")
    done = shell("prepare", "broken.py")
    assert done.returncode == 1 and "SyntaxError" in done.stderr and "broken.py" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in folder.iterdir() if p.name != "__pycache__") == ["broken.py", "mine.py"]


@pytest.mark.slow
def test_quiet_when_nobody_looks(folder):
    done = shell(*EIGER)
    assert done.returncode == 0 and done.stdout.startswith("s.ptyd: 12 frames")
    assert "\r" not in done.stderr and "it/s" not in done.stderr and "%" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(mpirun() is None, reason="no mpirun here")
def test_on_three_ranks(folder, run):
    assert run(*EIGER, "-o", "one.ptyd", "--frames_per_chunk", "5").code == 0
    done = run_on_ranks(3, *START, *EIGER, "-o", "three.ptyd", "--frames_per_chunk", "5")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": 12 frames of ") == 1
    one, three = read_ptyd("one.ptyd"), read_ptyd("three.ptyd")
    assert all(np.array_equal(one[k], three[k]) for k in one)
    for command, words in ((EIGER[:2] + ("absent.h5",), "absent.h5: no such file"),
                           ((*EIGER, "-o", "three.ptyd"), "three.ptyd exists"),
                           ((*EIGER, "--bad_frames", "rais"), "bad_frames"),
                           (("prepare", "eiger", "x", "--frobnicate"), "No such option")):
        failed = run_on_ranks(3, *START, *command, timeout=60)
        assert failed.returncode != 0 and failed.stderr.count(words) == 1, failed.stderr
        assert "Traceback" not in failed.stderr


@pytest.mark.skipif(mpirun() is None, reason="no mpirun here")
def test_a_rank_that_fails_alone_speaks_for_itself(folder):
    """What fails before ranks have met: rank 0 waits for the others and knows nothing of it."""
    (folder / "mine.py").write_text(
        "import os\nfrom ptyprep_recipes.eiger import Eiger\n"
        "if os.environ.get('OMPI_COMM_WORLD_RANK') == '1':\n    raise OSError('this node has no disk')\n"
        "class Mine(Eiger):\n    'Mine.'\n")
    start = ("-c", START[1].replace("import main;", "import main; from ptyprep.cli import commands; "
                                                     "commands.PATIENCE = 1;"))
    failed = run_on_ranks(2, *start, "prepare", "mine.py", *EIGER[2:], timeout=60)
    assert failed.returncode != 0 and failed.stderr.count("ptyprep: rank 1: OSError: this node has no disk") == 1
    assert not list(folder.glob("*.ptyd"))


# --- names that do something to a terminal ---------------------------------------------------------

EVIL = "a\x1b]0;title\x07\x1b[2J\r\x9b31m\u202egnp\u2066\x7f"
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.fixture
def evil(folder):
    """A file whose groups, datasets, links, attributes and texts have such names, and a folder with such a name."""
    place = folder / f"d{EVIL}"
    place.mkdir()
    with h5py.File(place / f"{EVIL}.h5", "w") as file:
        group = file.create_group(f"group {EVIL}")
        group[f"frames {EVIL}"] = FRAMES
        group[f"frames {EVIL}"].attrs["units"] = f"m{EVIL}"
        group["other"], group["y"], group["text"] = FRAMES, PLACES[:, 0], EVIL
        group["y"].attrs["units"] = f"u{EVIL}"
        file[f"soft {EVIL}"] = h5py.SoftLink(f"/nowhere {EVIL}")
        file[f"outer {EVIL}"] = h5py.ExternalLink(f"gone {EVIL}.h5", f"/x {EVIL}")
        file.attrs[EVIL] = EVIL
    return place / f"{EVIL}.h5"


def only_text(done, *codes):
    said = done.out + done.err
    assert done.code in codes and said and not FORBIDDEN.search(said), said
    return said


@pytest.mark.slow
def test_names_in_files_do_nothing_to_a_terminal(evil, run):
    frames, y = f"/group {EVIL}/frames {EVIL}", f"/group {EVIL}/y"
    given = ("--energy", "8", "--distance", "2", "--psize", "75e-6", "--center", "8,8")
    assert r"\x1b]0;title\x07\x1b[2J\r\x9b31m\u202egnp" in only_text(run("show", evil), 0)
    only_text(run("verify", evil), 1)
    only_text(run("merge", evil, "o.ptyd"), 1)
    only_text(run("repair", evil, "o.ptyd"), 1)
    for options in (("--plan",), ()):
        only_text(run("prepare", "hdf5", evil, *given, *options, "-o", f"{EVIL}.ptyd"), 1)
        only_text(run("prepare", "hdf5", evil, "--intensities.key", frames, "--positions.slow_key", y,
                      "--positions.fast_key", y, *given, *options, "-o", f"{EVIL}.ptyd"), 1)
        only_text(run("prepare", "hdf5", evil, "--intensities.key", frames, "--positions.slow_key", y,
                      "--positions.fast_key", y, "--positions.slow_multiplier", "1", "--positions.fast_multiplier", "1",
                      "--mask.key", f"soft {EVIL}", *given, *options, "-o", f"{EVIL}.ptyd"), 1)
        done = shell("prepare", "hdf5", evil, "--intensities.key", frames, "--positions.slow_key", y,
                     "--positions.fast_key", y, "--positions.unit", "m", *given, *options, "-o", f"{EVIL}.ptyd")
        said = done.stdout + done.stderr
        assert done.returncode == 0 and not FORBIDDEN.search(said), said
        assert r"is in ua\x1b]0;title\x07" in said              # a note, which holds the attribute
    with h5py.File(f"{EVIL}.ptyd") as file:
        assert not any(FORBIDDEN.search(h5py.check_string_dtype(note.dtype) and note.asstr()[()])
                       for note in file["info/notes"].values())
    for command in ("show", "verify"):
        only_text(run(command, f"{EVIL}.ptyd"), 0)
    only_text(run("merge", f"{EVIL}.ptyd", f"{EVIL} m.ptyd"), 0)
    only_text(run("prepare", "hdf5", evil, "--debug", *given), 1)


@pytest.mark.parametrize("command", [
    ("show", EVIL), ("verify", EVIL), (EVIL,), ("show", f"--{EVIL}"), ("prepare", EVIL), ("prepare", "auto", EVIL),
    ("prepare", "moonflower", EVIL), ("prepare", "moonflower", f"--{EVIL}"), ("prepare", f"./{EVIL}.py:A"),
    ("prepare", "moonflower", "--shape", EVIL), ("prepare", "moonflower", "--config", EVIL),
    ("prepare", "moonflower", "--save", EVIL), ("params", EVIL), ("repair", "a", "b", "--parts", EVIL),
    ("show", "\udcff"), ("prepare", "images", f"{EVIL}*.tif")], ids=str)
def test_what_the_user_typed_does_nothing_either(folder, run, command):
    only_text(run(*command), 1, 2)


def test_a_name_with_a_newline_makes_no_line_of_its_own(folder, run):
    with h5py.File("a.h5", "w") as file:
        file["x\nfile  b.h5: whole"] = FRAMES
    assert not any(line.startswith("file  b.h5") for line in run("show", "a.h5").out.splitlines())


def test_what_is_printed_otherwise_stays_as_it_is(folder, run):
    for name in registry.installed():
        for face in ((), ("--toml",)):
            assert "\\x" not in run("params", name, *face).out


# --- configuration that nobody wrote by hand -------------------------------------------------------

@pytest.mark.parametrize("text, words", [
    ("a = " + "[" * 50_000 + "]" * 50_000, "too many tables or lists inside each other"),
    ("a = " + "{b = " * 50_000 + "1" + "}" * 50_000, "too many tables or lists inside each other"),
    (".".join("a" * 3000) + " = 1", "too many tables or lists inside each other"),
    ("[" + ".".join("a" * 3000) + "]\nb = 1", "too many tables or lists inside each other"),
    ("shape = " + "[" * 300 + "]" * 300, "parameter 'shape' .* must be a whole number or a pair"),
    ("shape = [" + "1," * 50_000 + "]", "parameter 'shape' .* must be a whole number or a pair"),
    ("energy = " + "9" * 5000, "not TOML"),
    ("energy = '" + "9" * 50_000 + "'", "parameter 'energy' .* must be a number"),
    ("positions_theory = '" + "1," * 500 + "x'", "cannot be read from|must be"),
    ("a" * 50_000 + " = 1", "no parameter 'aaa"),
    ("\n".join(f"k{i} = {i}" for i in range(100_000)), "and 99980 more that recipe 'moonflower' does not have"),
    ("a = \x00", "not TOML"), ("\ufeff" * 9, "not TOML")], ids=range(13))
def test_odd_configuration_is_one_short_message(folder, run, text, words):
    (folder / "c.toml").write_text(text, encoding="utf-8")
    done = run("prepare", "moonflower", "--config", "c.toml", "--plan")
    assert done.code == 1 and re.search(words, done.err) and len(done.err) < 5000, done.err[:1000]
    assert "Error:" not in done.err             # nobody else's


@pytest.mark.slow
def test_configuration_that_is_no_text(folder, run):
    (folder / "c.toml").write_bytes(bytes(range(256)))
    assert "c.toml: not TOML" in run("prepare", "moonflower", "--config", "c.toml").err
    (folder / "d").mkdir()
    assert run("prepare", "moonflower", "--config", "d").code == 2
    (folder / "e.toml").write_text('label = "µm"\n', encoding="utf-8")
    done = shell("prepare", "moonflower", "--config", "e.toml", "--plan", env={**os.environ, "LC_ALL": "C",
                                                                               "PYTHONUTF8": "0"})
    assert done.returncode == 0, done.stderr
