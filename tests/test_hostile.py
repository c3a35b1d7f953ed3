"""Files that somebody made to hang, to crash, or to reach what lies elsewhere: each is refused by name, in seconds.

Each attack is tried on the program itself, in a process of its own under a time limit.
"""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptyprep import PtyScan, SourceError, recipe
from ptyprep.hdf5 import first_look, head
from ptyprep.hdf5.files import dataset_in, read_dataset, stacks_in
from ptyprep.hdf5.first_look import damaged, look_first
from ptyprep.hdf5.guarded import open_hdf5
from ptyprep.ptyd.repair import merge, relink
from ptyprep.ptyd.verify import problems
from ptyprep.sources import PtydFile, open_frames
from ptyprep.testing import read_ptyd, write_dectris, write_positions

pytestmark = pytest.mark.slow

SOAK = Path(__file__).parent / "soak"
N, LIMIT = 6, 120
FRAMES = np.random.default_rng(3).poisson(20, (N, 12, 14)).astype("u2")
PLACES = np.random.default_rng(4).normal(size=(N, 2)) * 1e-6
GEOMETRY = ("--energy", "7", "--distance", "2", "--psize", "75um", "--center", "6,7")


class Scan(PtyScan):
    """Six frames."""

    def load_geometry(self):
        return {"energy": 7.0, "distance": 2.0, "psize": 75e-6, "center": (6, 7)}

    def load_positions(self):
        return PLACES

    def load(self, indices):
        return FRAMES[list(indices)]


def prepared(folder, save):
    folder.mkdir(exist_ok=True)
    Scan(dfile=folder / "s.ptyd", save=save, frames_per_chunk=2).initialize().prepare()
    return folder / "s.ptyd"


EACH = """
import contextlib, io, json, sys
from ptyprep.cli import commands
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        try:
            commands.main(words)
            code = 0
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue()]), flush=True)
"""


def ptyprep(folder, *commands):
    """[(exit code, what was said)] of commands, one after the other in a process of their own."""
    done = subprocess.run([sys.executable, "-c", EACH, json.dumps([list(map(str, words)) for words in commands])],
                          cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(commands), (done.returncode, commands[len(told)], done.stderr)
    return [(code or 0, said) for code, said in told]


def pipe(path):
    os.mkfifo(path)
    return "a named pipe"


def device(path):
    path.symlink_to("/dev/zero")
    return "a device"


def listening(path):
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)       # names of sockets are short
        made.bind(path.name)
        os.chdir(here)
    return "a socket"


def virtual(file, name, source, key="x", shape=(N, 12, 14)):
    layout = h5py.VirtualLayout(shape, "u2")
    layout[:] = h5py.VirtualSource(source, key, shape, "u2")
    file.create_virtual_dataset(name, layout)


# --- pipes, devices, sockets -------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [pipe, device, listening])
def test_what_is_no_file_is_refused_by_name(tmp_path, make):
    kind = make(tmp_path / "x.h5")
    with pytest.raises(SourceError, match=f"x.h5: {kind}; expected"):
        open_hdf5(tmp_path / "x.h5")
    with pytest.raises(SourceError, match=kind):
        open_frames(tmp_path / "x.h5")


@pytest.mark.parametrize("how", ["external", "soft to external", "in a group", "virtual"])
def test_a_pipe_behind_a_link(tmp_path, how):
    os.mkfifo(tmp_path / "p")
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["good"] = FRAMES
        file["entry/elsewhere"] = h5py.ExternalLink("p", "/x")
        file["soft"] = h5py.SoftLink("/entry/elsewhere")
        virtual(file, "joined", "p")
    key = {"external": "entry/elsewhere", "soft to external": "soft", "in a group": "entry/elsewhere/x",
           "virtual": "joined"}[how]
    with open_hdf5(tmp_path / "m.h5") as file:
        assert file["good"].shape == FRAMES.shape and key.split("/")[0] in file
        for look in (lambda: file[key], lambda: file.get(key), lambda: file["/"][key].parent):
            with pytest.raises(SourceError, match="p, which is a named pipe"):
                look()
        assert stacks_in(file) == {"/good": FRAMES.shape}
    assert np.array_equal(open_frames(tmp_path / "m.h5", "good").read([0, 3]), FRAMES[[0, 3]])
    write_positions(tmp_path / "pos.txt", PLACES)
    shown, refused = ptyprep(tmp_path, ["show", "m.h5"], [
        "prepare", "hdf5", "m.h5", "--intensities.key", key, "--positions.file", "pos.txt", *GEOMETRY, "-o", "o.ptyd"])
    assert "a named pipe" in shown[1] and shown[0] == 0
    assert "a named pipe" in refused[1] and refused[0] == 1


@pytest.mark.parametrize("save", ["link", "virtual"])
def test_a_pipe_instead_of_a_part(tmp_path, save):
    path = prepared(tmp_path / "s", save)
    names = sorted(next(p for p in path.parent.iterdir() if p.is_dir()).glob("*.h5"))
    part = next(p for p in reversed(names) if ("rank" in p.name) == (save == "virtual"))
    part.unlink()
    os.mkfifo(part)
    (shown, first), *others = ptyprep(path.parent, ["show", "s.ptyd"], ["verify", "s.ptyd"], [
        "merge", "s.ptyd", "o.ptyd"], ["prepare", "ptyd", "s.ptyd", "-o", "o.ptyd"])
    assert "which is a named pipe" in first and shown == 0
    assert all("which is a named pipe" in said and code == 1 for code, said in others), others
    assert not (path.parent / "o.ptyd").exists()


def test_a_shape_that_asks_other_files(tmp_path):
    """HDF5 opens the sources of a virtual dataset that grows when it is asked for its shape."""
    os.mkfifo(tmp_path / "p")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"] = h5py.ExternalLink("p", "/x")
    for source in ("p", "b.h5", "p%b"):
        with h5py.File(tmp_path / "m.h5", "w") as file:
            space = h5py.h5s.create_simple((N, 12, 14), (h5py.h5s.UNLIMITED, 12, 14))
            space.select_hyperslab((0, 0, 0), (h5py.h5s.UNLIMITED, 1, 1), (1, 12, 14), (1, 12, 14))
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            if source == "p%b":
                os.rename(tmp_path / "p", tmp_path / "p0")
                space.select_hyperslab((0, 0, 0), (h5py.h5s.UNLIMITED, 1, 1), (2, 12, 14), (2, 12, 14))
                plist.set_virtual(space, source.encode(), b"x", h5py.h5s.create_simple((2, 12, 14)))
            else:
                plist.set_virtual(space, source.encode(), b"x", space)
            h5py.h5d.create(file.id, b"frames", h5py.h5t.NATIVE_UINT16, space, plist)
        with open_hdf5(tmp_path / "m.h5") as file, pytest.raises(SourceError, match="pipe"):
            file["frames"].shape  # noqa: B018  which asks


def test_numbers_of_a_virtual_dataset_that_links_on(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = FRAMES
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"] = h5py.ExternalLink("a.h5", "/x")
    with h5py.File(tmp_path / "m.h5", "w") as file:
        virtual(file, "frames", "b.h5")
    assert np.array_equal(open_frames(tmp_path / "m.h5", "frames").read(range(N)), FRAMES)      # piece by piece
    with open_hdf5(tmp_path / "m.h5") as file, pytest.raises(SourceError, match="a link to"):
        read_dataset(file["frames"])                                                            # by HDF5


# --- external storage --------------------------------------------------------------------------------------

def stored_in(path, name, place, size=FRAMES.nbytes):
    with h5py.File(path, "a") as file:
        file.create_dataset(name, FRAMES.shape, "u2", external=[(str(place), 0, size)])


def test_external_storage_lies_beside(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for folder in (tmp_path, tmp_path / "in"):
        FRAMES.tofile(folder / "raw.bin")
    (tmp_path / "in" / "short.bin").write_bytes(bytes(100))
    os.mkfifo(tmp_path / "in" / "p")
    (tmp_path / "in" / "linked.bin").symlink_to(tmp_path / "raw.bin")
    raw = tmp_path / "in" / "m.h5"
    for name, place in {"beside": "raw.bin", "absolute": tmp_path / "in" / "raw.bin", "up": "../raw.bin", "pipe": "p",
                        "outside": tmp_path / "raw.bin", "users": "/etc/passwd", "linked": "linked.bin",
                        "short": "short.bin"}.items():
        stored_in(raw, name, place)
    monkeypatch.chdir("/")          # where HDF5 alone would look for raw.bin
    for name in ("beside", "absolute"):
        assert np.array_equal(open_frames(raw, name).read(range(N)), FRAMES)
    for name, why in {"up": "not beside", "outside": "not beside", "users": "/etc/passwd, which is not beside",
                      "linked": "not beside", "pipe": "a named pipe", "short": "100 bytes; expected 2016"}.items():
        with pytest.raises(SourceError, match=why):
            open_frames(raw, name)


def test_pixels_of_a_prepared_file_are_no_other_file(tmp_path):
    path = prepared(tmp_path / "s", "merge")
    with h5py.File(path, "a") as file:
        del file["chunks/0/data"]
        file["chunks/0"].create_dataset("data", (N, 12, 14), "u1", external=[("/etc/passwd", 0, N * 12 * 14)])
    (shown, first), *others = ptyprep(tmp_path, ["show", path], ["verify", path], ["merge", path, "o.ptyd"], [
        "repair", path, "o.ptyd", "--drop"], ["prepare", "ptyd", path, "-o", "o.ptyd"], [
        "verify", path, "--follow_links"])
    assert "/etc/passwd, which is not beside the file" in first and shown == 0
    assert all("/etc/passwd, which is not beside the file" in said and code == 1 for code, said in others), others
    assert not (tmp_path / "o.ptyd").exists()


# --- links out of the folder -------------------------------------------------------------------------------

def lead_out(path, secret, how):
    """Make frames of a prepared file, or a part, those of another file."""
    parts = [p for p in path.parent.iterdir() if p.is_dir()]
    if how == "part is a symbolic link":
        part = sorted(parts[0].glob("*.h5"))[1]
        part.unlink()
        part.symlink_to(secret)
        return
    with h5py.File(path, "a") as file:
        if how == "link to a part":
            del file["chunks/1"]
            file["chunks/1"] = h5py.ExternalLink(str(secret), "/")
            return
        del file["chunks/0/data"]
        if how == "link in a chunk":
            file["chunks/0/data"] = h5py.ExternalLink(str(secret), "/data")
        elif how == "soft link":
            file["there"] = h5py.ExternalLink("../out/secret.h5", "/")
            file["chunks/0/data"] = h5py.SoftLink("/there/data")
        else:
            virtual(file["chunks/0"], "data", "../out/secret.h5", "data")


@pytest.mark.parametrize("how", ["link to a part", "part is a symbolic link", "link in a chunk", "soft link",
                                 "virtual"])
def test_a_prepared_file_stays_in_its_folder(tmp_path, how):
    whole = how in ("link in a chunk", "soft link", "virtual")
    path = prepared(tmp_path / "in", "merge" if whole else "link")
    (tmp_path / "out").mkdir()
    secret = tmp_path / "out" / "secret.h5"
    if whole:
        with h5py.File(secret, "w") as file:
            file["data"] = FRAMES + 1
    else:
        shutil.copy(sorted(next(p for p in path.parent.iterdir() if p.is_dir()).glob("*.h5"))[1], secret)
    lead_out(path, secret, how)
    assert any("leads out of the folder" in what for what in problems(path, trusted=True))
    for refused in (lambda: PtydFile(path), lambda: merge(path, tmp_path / "o.ptyd", trusted=True)):
        with pytest.raises(SourceError, match="leads out of the folder"):
            refused()
    merge(path, tmp_path / "o.ptyd", trusted=True, follow_links=True)       # who trusts it may
    assert np.array_equal(read_ptyd(tmp_path / "o.ptyd")["data"], FRAMES + whole)
    assert PtydFile(path, follow_links=True).shape == FRAMES.shape


def test_the_command_line_follows_links_when_told_to(tmp_path):
    path = prepared(tmp_path / "in", "link")
    folder = next(p for p in path.parent.iterdir() if p.is_dir())
    (tmp_path / "out").mkdir()
    shutil.move(folder, tmp_path / "out")
    folder.symlink_to(tmp_path / "out" / folder.name)
    words = ["prepare", "ptyd", path, "-o", "o.ptyd"]
    for command in (["verify", path], ["merge", path, "m.ptyd"], words):
        refused, done = ptyprep(tmp_path, command, [*command, "--follow_links"])
        assert refused[0] == 1 and "set --follow_links" in refused[1], refused
        assert done[0] == 0, done
    assert np.array_equal(read_ptyd(tmp_path / "o.ptyd")["data"], FRAMES)


@pytest.mark.parametrize("absolute", [False, True])
def test_links_inside_the_folder_are_followed(tmp_path, absolute):
    """Also by an absolute name, and also where the folder's own name is a symbolic link."""
    path = prepared(tmp_path / "in", "link")
    part = sorted(next(p for p in path.parent.iterdir() if p.is_dir()).glob("*.h5"))[1]
    with h5py.File(path, "a") as file:
        del file["chunks/1"]
        file["chunks/1"] = h5py.ExternalLink(str(part if absolute else part.relative_to(path.parent)), "/")
    (tmp_path / "other").symlink_to(path.parent)
    (tmp_path / "s.ptyd").symlink_to(path)
    for name in (path, tmp_path / "other" / "s.ptyd", tmp_path / "s.ptyd"):
        assert list(problems(name, trusted=True)) == []


def test_links_of_raw_files_are_followed_and_told(tmp_path):
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    write_dectris(tmp_path / "out" / "s_master.h5", FRAMES.astype("u4"), frames_per_file=4, energy=7.0, distance=2.0,
                  psize=(75e-6, 75e-6))
    with h5py.File(tmp_path / "in" / "m.h5", "w") as file:
        for i in (1, 2):
            file[f"part{i}"] = h5py.ExternalLink(f"../out/s_data_{i:06d}.h5", "/entry/data/data")
        file["beside"] = h5py.ExternalLink("near.h5", "/x")
    with h5py.File(tmp_path / "in" / "near.h5", "w") as file:
        file["x"] = 1
    scan = recipe("hdf5")({
        "intensities.file": tmp_path / "in" / "m.h5", "intensities.key": "part1", "energy": 7.0, "distance": 2.0,
        "psize": 75e-6, "center": (6, 7), "positions.file": write_positions(tmp_path / "in" / "pos.txt", PLACES[:4]),
        "dfile": tmp_path / "o.ptyd"})
    scan.initialize().prepare()
    with h5py.File(tmp_path / "o.ptyd") as file:
        sources = [file[f"info/sources/file/{name}"][()].decode() for name in file["info/sources/file"]]
        notes = [file[f"info/notes/{name}"][()].decode() for name in file["info/notes"]]
    there = str((tmp_path / "out" / "s_data_000001.h5").resolve())
    assert there in sources and len(sources) == len(set(sources)) and not any("near" in name for name in sources)
    assert any("lead out of their folder" in note and there in note for note in notes)


# --- numbers and loops -------------------------------------------------------------------------------------

def test_a_chunk_of_a_huge_number(tmp_path):
    path = prepared(tmp_path / "s", "append")
    with h5py.File(path, "a") as file:
        file["chunks/99999999999"] = file["chunks/0"]
    began = time.monotonic()
    found = list(problems(path, trusted=True))
    assert any("chunks 3 to 99999999998: it is not there" in what for what in found), found
    said = "there is no chunk 3, though chunk 99999999999 is there: it was left out, or lost"
    assert said in PtydFile(path).notes
    merge(path, tmp_path / "o.ptyd", drop=True, trusted=True)
    assert time.monotonic() - began < LIMIT / 4
    assert said in ptyprep(tmp_path, ["show", path])[0][1]


def double(group, depth=40):
    """Groups that are in each other twice: 2**depth paths."""
    for _ in range(depth):
        inner = group.create_group("a")
        group["b"] = inner
        group = inner
    group["back"] = group.file["/"]


def test_as_many_paths_as_nobody_can_walk(tmp_path):
    path = prepared(tmp_path / "s", "merge")
    with h5py.File(path, "a") as file:
        double(file["meta"].create_group("deep"))
        double(file["info"].create_group("deep"))
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["frames"] = FRAMES
        file.attrs["default"] = "entry"
        file.create_group("entry").attrs["NX_class"] = "NXentry"
        double(file["entry"])
    for code, said in ptyprep(tmp_path, ["show", path], ["verify", path], ["merge", path, "o.ptyd"], [
            "prepare", "ptyd", path], ["show", "raw.h5"], ["prepare", "auto", "raw.h5"], ["prepare", "i14", "raw.h5"], [
            "prepare", "hdf5", "raw.h5"], ["prepare", "nexus", "raw.h5"]):
        assert code in (0, 1) and "--debug" not in said and "RecursionError" not in said, said


def test_groups_in_groups_without_end(tmp_path):
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        group = file
        for _ in range(3000):
            group = group.create_group("g")
        file["frames"] = FRAMES
    [(code, said)] = ptyprep(tmp_path, ["show", "raw.h5"])
    assert code == 0 and "frames" in said
    path = prepared(tmp_path / "s", "merge")
    with h5py.File(path, "a") as file:
        file["meta/self"] = file["meta"]
    with pytest.raises(SourceError, match="meta/self is in it twice|meta is in it twice"):
        PtydFile(path)


# --- damaged text ------------------------------------------------------------------------------------------

def damage_text(path, size, of_first):
    """Make sizes wrong in the heap that holds a file's texts: of the heap and of its first object."""
    data = bytearray(path.read_bytes())
    at = data.index(b"GCOL")
    data[at + 8:at + 16], data[at + 24:at + 32] = size.to_bytes(8, "little"), of_first.to_bytes(8, "little")
    path.write_bytes(data)


@pytest.fixture
def stuck(monkeypatch):
    """HDF5 hangs on each file whose name holds a word, and crashes on others."""
    text = Path(head.__file__).read_text()

    def make(folder):
        hooked = folder / "head.py"
        quick = text.replace("SECONDS, PATIENCE = 2, 60", "SECONDS, PATIENCE = 0.3, 60")
        hooked.write_text(quick.replace("    leads_to = []\n", """    leads_to, content = [], open(path, "rb").read()
    if b"HANGS" in content:
        _wind_up()
        while True:
            pass
    if b"CRASHES" in content:
        os.kill(os.getpid(), signal.SIGSEGV)
"""))
        monkeypatch.setattr(head, "__file__", str(hooked))
    return make


def mark(path, word):
    with open(path, "ab") as file:
        file.write(word)


def test_a_file_that_hangs_or_crashes_hdf5_is_named(tmp_path, stuck):
    stuck(tmp_path)
    path = prepared(tmp_path / "s", "link")
    parts = sorted(next(p for p in path.parent.iterdir() if p.is_dir()).glob("*.h5"))
    look_first(path, [path.parent])
    mark(path, b"CRASHES")
    for refused in (lambda: list(problems(path)), lambda: merge(path, tmp_path / "o.ptyd"),
                    lambda: recipe("ptyd")({"source": path}).look()):
        with pytest.raises(SourceError, match=r"s.ptyd: HDF5 crashes .*SIGSEGV.*trusted=True"):
            refused()
    assert list(problems(path, trusted=True)) == []
    recipe("ptyd")({"source": path, "trusted": True}).look()
    other = prepared(tmp_path / "t", "link")
    part = sorted(next(p for p in other.parent.iterdir() if p.is_dir()).glob("*.h5"))[1]
    mark(part, b"HANGS")
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"000001.h5: HDF5 does not come to an end"):
        list(problems(other))
    assert time.monotonic() - began < LIMIT
    shutil.move(part.parent, tmp_path / "elsewhere")            # and also where it has to be looked for
    for links in (False, True):
        with pytest.raises(SourceError, match=r"000001.h5: HDF5 does not come to an end"):
            (relink if links else merge)(other, tmp_path / "o.ptyd", parts=tmp_path / "elsewhere")
    part = tmp_path / "elsewhere" / part.name
    mark(parts[2], b"CRASHES")
    assert set(damaged([parts[0], part, parts[1], parts[2]])) == {part, parts[2]}


def test_repair_does_without_parts_that_hang_or_crash_hdf5(tmp_path, stuck):
    stuck(tmp_path)
    path = prepared(tmp_path / "s", "link")
    whole = read_ptyd(path)
    parts = sorted(next(p for p in path.parent.iterdir() if p.is_dir()).glob("*.h5"))
    mark(parts[0], b"CRASHES")
    mark(parts[2], b"HANGS")
    with pytest.raises(SourceError, match=r"00000[02].h5: HDF5 .*trusted=True.*drop=True"):
        merge(path, tmp_path / "o.ptyd")
    notes = merge(path, tmp_path / "o.ptyd", drop=True)
    assert [re.search("HDF5 crashes|HDF5 does not come to an end", note)[0] for note in notes] == [
        "HDF5 crashes", "HDF5 does not come to an end"]
    got = read_ptyd(tmp_path / "o.ptyd")
    frames = [len(whole["data"]) // len(parts)] * len(parts)
    kept = np.isin(whole["frame_ids"] // frames[0], [0, 2], invert=True)
    assert got["frame_ids"].tolist() == whole["frame_ids"][kept].tolist()
    assert np.array_equal(got["data"], whole["data"][kept])


def test_attributes_that_cannot_be_listed_hide_none(monkeypatch):
    """The list of a node's attributes, or of a group's members, may be damaged, and they are asked for all the same."""
    read = []

    class Damaged:
        """A node whose attributes, and members, cannot be listed."""

        def __init__(self, of):
            self.of = of

        def __iter__(self):
            yield "first"
            raise RuntimeError("integer offset+precision out of bounds")

        def get(self, name, **how):
            read.append((self.of, name))

        @property
        def attrs(self):
            return Damaged("attribute")
    monkeypatch.setattr(head, "_wind_up", lambda: None)     # it would end this process
    head._read_attributes(Damaged("member"))
    assert {("attribute", name) for name in ("first", "type", "crc32", "run", "growing")} == set(read)
    read.clear()
    head._members(Damaged("member"))
    assert {("member", name) for name in ("first", "meta", "chunks", "info", "data", "positions")} <= set(read)
@pytest.fixture
def looks(monkeypatch):
    """The processes that look which are alive now, by number; none at first."""
    first_look._end()
    monkeypatch.setattr(first_look, "_well", {})
    return lambda: [process.pid for process in first_look._kept if process.poll() is None]


def test_one_process_looks_at_all_files_and_is_replaced_where_it_was_ended(tmp_path, looks):
    first, second, third = (prepared(tmp_path / name, "link") for name in "abc")
    look_first(first, [first.parent])
    look_first(second)
    [pid] = looks()
    os.kill(pid, signal.SIGKILL)
    look_first(third)
    [other] = looks()
    assert other != pid and list(problems(third)) == [] and looks() == [other]


def test_a_file_that_hangs_hdf5_says_nothing_of_the_next_one(tmp_path, stuck, looks):
    stuck(tmp_path)
    first, second, third = (prepared(tmp_path / name, "link") for name in "abc")
    look_first(first)
    [pid] = looks()
    mark(second, b"HANGS")
    for _ in range(2):
        with pytest.raises(SourceError, match="b/s.ptyd: HDF5 does not come to an end"):
            look_first(second)
    look_first(third)
    assert looks() == [pid]


def test_an_interrupted_look_does_not_answer_for_the_next_one(tmp_path, stuck, looks):
    stuck(tmp_path)
    bad, good = prepared(tmp_path / "a", "link"), prepared(tmp_path / "b", "link")
    look_first(good)
    [pid] = looks()
    mark(bad, b"HANGS")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    with pytest.raises(KeyboardInterrupt):
        look_first(bad)
    signal.signal(signal.SIGALRM, before)
    assert looks() == []
    look_first(prepared(tmp_path / "c", "link"))
    assert looks() != [pid]


def test_threads_and_forks_look_by_themselves(tmp_path, looks, monkeypatch):
    """And by names that are relative to another folder than at the first look."""
    paths = [prepared(tmp_path / str(i), "link") for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(look_first, paths))
    [pid] = looks()
    monkeypatch.chdir(tmp_path / "2")
    paths[2].write_bytes(b"no longer")
    child = os.fork()
    if child == 0:
        look_first("s.ptyd")
        os._exit(pid in looks() or len(looks()) != 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    look_first("../1/s.ptyd")
    assert looks() == [pid]


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 9)", "os._exit(0)"])
def test_the_process_that_looks_ends_with_ours(tmp_path, end):
    path = prepared(tmp_path, "link")
    script = f"import os, sys\nfrom ptyprep.hdf5 import first_look\nfirst_look.look_first({str(path)!r})\n" \
             f"print(first_look._kept[0].pid, flush=True)\n{end}"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.stderr == "" and done.returncode == (-9 if "kill" in end else 0)
    deadline = time.monotonic() + LIMIT
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(int(done.stdout), 0)
            time.sleep(0.01)
        pytest.fail("it still runs")


def test_a_process_that_cannot_look_is_named(tmp_path, monkeypatch, looks):
    path = prepared(tmp_path, "link")
    for text, why in [("import sys; sys.exit('no h5py')", "no h5py"), ("", "it says nothing")]:
        hooked = tmp_path / f"{len(text)}.py"
        hooked.write_text(text)
        monkeypatch.setattr(first_look.head, "__file__", str(hooked))
        with pytest.raises(SourceError, match=rf"s.ptyd: the process that looks at it first failed \({why}\); trusted"):
            look_first(path)
        assert looks() == []
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    with pytest.raises(SourceError, match="cannot be started .*No such file"):
        look_first(path)
    look_first(path, trusted=True)


def test_a_run_goes_on_without_a_part_that_crashes_hdf5(tmp_path, stuck):
    class Stops(Scan):
        """Fails at frame 4 the first time."""
        mended = False

        def load(self, indices):
            if 4 in indices and not Stops.mended:
                raise SourceError("interrupted")
            return FRAMES[list(indices)]

    stuck(tmp_path)
    pars = {"dfile": tmp_path / "s.ptyd", "save": "link", "frames_per_chunk": 2}
    with pytest.raises(SourceError, match="interrupted"):
        Stops(pars).initialize().prepare()
    part = sorted(next(p for p in tmp_path.iterdir() if p.is_dir()).glob("0*.h5"))[1]
    mark(part, b"CRASHES")
    Stops.mended = True
    scan = Stops({**pars, "resume": True}).initialize()
    assert scan.frames_done == 2        # the second part is made again
    scan.prepare()
    assert np.array_equal(read_ptyd(tmp_path / "s.ptyd")["data"], FRAMES)
    assert b"CRASHES" not in part.read_bytes()


def test_damaged_text(tmp_path):
    """What HDF5 makes of it is its own matter; a process that ends by a signal, or does not end, is not."""
    path, tried = prepared(tmp_path / "s", "merge"), []
    for number, (size, of_first) in enumerate([(2**40, 2**63 + 5), (4096, 2**64 - 16), (4096, 2**64 - 8)]):
        shutil.copy(path, other := tmp_path / f"{number}.ptyd")
        damage_text(other, size, of_first)
        tried += [["show", other], ["verify", other], ["merge", other, "o.ptyd"]]
    for code, said in ptyprep(tmp_path, *tried):
        assert code in (0, 1) and "--debug" not in said, said


@pytest.mark.parametrize("name", ["hangs_hdf5_part.h5", "crashes_hdf5.ptyd"])
def test_real_damage(tmp_path, name):
    """Files that were found to make HDF5 2.0 loop or crash; they lie beside the project."""
    path = Path(__file__).parents[2] / "shared" / "cases" / "damaged" / name
    if not path.exists():
        pytest.skip(f"no {path.name} here")
    shutil.copy(path, tmp_path / name)
    for code, said in ptyprep(tmp_path, ["show", name], ["verify", name], ["merge", name, "o.ptyd"], [
            "repair", name, "o.ptyd", "--drop"], ["prepare", "ptyd", name, "-o", "o.ptyd"]):
        assert code == 1 and "ptyprep: " in said and f"{name}: HDF5" in said, said


# --- whole files, damaged ----------------------------------------------------------------------------------

def test_ten_damaged_files_through_all_commands(tmp_path):
    """The soak that is run by hand with a thousand; see there for what each word means."""
    seed = int(os.environ.get("PTYPREP_SOAK", 5))
    done = subprocess.run([sys.executable, SOAK / "mutations.py", "--files", "10", "--seed", str(seed)],
                          capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_links_that_run_in_a_circle_end_in_a_sentence(tmp_path):
    for name, other in (("a", "b"), ("b", "a"), ("own", "own")):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["data"] = h5py.ExternalLink(f"{other}.h5", "/data")
    for name in ("a", "own"):
        with pytest.raises(SourceError, match="data leads from file to file more than 16 times"):
            dataset_in(open_hdf5(tmp_path / f"{name}.h5"), "data")
