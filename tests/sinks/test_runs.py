"""Whose a run folder is, what `resume` finds there, and what readers are told of it."""
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import in_memory
import numpy as np
import pytest

from ptyprep import OutputError, PtyScan, SourceError, recipe
from ptyprep.ptyd.repair import merge
from ptyprep.ptyd.verify import problems
from ptyprep.sinks import SINKS
from ptyprep.sinks.disk import Written, open_ours, temporary
from ptyprep.testing import mpirun, read_ptyd, run_on_ranks

pytestmark = pytest.mark.slow

N = 11
FRAMES = np.random.default_rng(4).poisson(5, (N, 12, 10)).astype("u2")
FRAMES[7, 3, 4] = 2**16 - 1         # one mask differs
PLACES = np.random.default_rng(2).normal(size=(N, 2)) * 1e-6
LINKED = ("link", "virtual")


class Scan(PtyScan):
    """Eleven frames; `meddle(chunk)` is called before one is loaded."""
    loaded = ()

    def load_geometry(self):
        return {"energy": 7.0, "distance": 2.0, "psize": 75e-6, "center": (6, 5)}

    def load_positions(self):
        return PLACES

    def meddle(self, first):
        pass

    def load(self, indices):
        self.meddle(min(indices))
        self.loaded = [*self.loaded, *indices]
        return FRAMES[list(indices)]


class Live(Scan):
    """The same, of which nobody knows how many come."""
    seen, length = 0, N

    def load_positions(self):
        return None

    def check(self, frames, start):
        self.seen = min(max(self.seen, start) + 2, self.length)
        return min(frames, self.seen - start), self.seen == self.length

    def load(self, indices):
        return super().load(indices), PLACES[list(indices)], None


def like(recipe=Scan, **answers):
    return type(recipe.__name__, (recipe,), {"__doc__": recipe.__doc__, "recipe_name": recipe.recipe_name, **answers})


def run(out, save, recipe=Scan, frames=2, **pars):
    scan = recipe(dfile=out, save=save, **pars).initialize()
    for _ in scan.batches(frames, pause=0):
        pass
    return scan


def stop(out, save, recipe=Scan, at=8, **pars):
    """The folder of a run that ended at that frame."""
    def meddle(_, first):
        if first >= at:
            raise RuntimeError("the light went out")
    with pytest.raises(RuntimeError, match="the light went out"):
        run(out, save, like(recipe, meddle=meddle), **pars)
    [folder] = out.parent.glob(f"{out.stem}.*/")
    return folder


def is_whole(out):
    made = read_ptyd(out)
    good = np.arange(N)[:, None, None] != 7
    good = good | (np.indices((12, 10)) != [[[3]], [[4]]]).any(axis=0)
    return (np.array_equal(made["data"], FRAMES) and np.array_equal(made["positions"], PLACES)
            and np.array_equal(made["weights"], good) and made["indices"].tolist() == list(range(N))
            and list(problems(out)) == [])


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def command(*words, **more):
    return subprocess.run([sys.executable, "-m", "ptyprep", *map(str, words)], capture_output=True, text=True,
                          timeout=120, check=False, **more)


# --- what readers are told of is there ----------------------------------------------------------------

HARM = {"not there": lambda path: path.unlink(),
        "bytes, were": lambda path: os.truncate(path, 100),
        "another file": lambda path: (shutil.copy(path, f"{path}.new"), os.replace(f"{path}.new", path))}


@pytest.mark.parametrize("why", HARM)
@pytest.mark.parametrize("at", [6, 10])
@pytest.mark.parametrize("save", SINKS)
def test_a_finished_part_that_is_removed_or_replaced_is_an_error(tmp_path, save, at, why):
    """Of a rank, where a part is only pointers; whether others come after it or not."""
    name = "000001.rank0000.h5" if save == "virtual" else "000001.h5"

    def meddle(scan, first):
        if first >= at and not scan.p.resume:
            HARM[why](next(tmp_path.glob(f"s.*/{name}"), tmp_path / "gone"))
            type(scan).meddle = Scan.meddle
    with pytest.raises(OutputError, match=rf"s.ptyd: 1 of the \d .*{name} \(.*{why}.*Set resume"):
        run(tmp_path / "s.ptyd", save, like(meddle=meddle))
    again = run(tmp_path / "s.ptyd", save, resume=True)
    assert is_whole(tmp_path / "s.ptyd")
    assert 0 not in again.loaded[1:] and (2 in again.loaded) == (why != "another file")


@pytest.mark.parametrize("save", ["append", "merge"])
@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: os.truncate(path, 3000),
                                  HARM["another file"]])
def test_a_growing_file_that_is_removed_or_replaced_is_an_error(tmp_path, save, harm):
    def meddle(scan, first):
        if first == 10:
            harm(next(tmp_path.glob("s.*/growing.*")))
    with pytest.raises(OutputError, match=r"growing\.\w+ in s\.\w+, the file of all frames that grows, is not there"):
        run(tmp_path / "s.ptyd", save, like(meddle=meddle))
    run(tmp_path / "s.ptyd", save, resume=True)
    assert is_whole(tmp_path / "s.ptyd")


def test_a_main_file_of_another_is_not_replaced_at_the_end(tmp_path):
    out = tmp_path / "s.ptyd"

    def meddle(_, first):
        if first == 8:
            out.unlink()
            out.write_text("theirs")
    with pytest.raises(OutputError, match="s.ptyd exists: something else has made it meanwhile"):
        run(out, "link", like(meddle=meddle))
    assert out.read_text() == "theirs" and len(list(tmp_path.glob("s.*/000*.h5"))) == 6


def test_of_many_files_some_are_looked_at_in_turn(tmp_path):
    """And all of them at once where that is asked."""
    written, paths = Written("finished files"), [tmp_path / f"{n:03d}" for n in range(3 * Written.AT_ONCE + 5)]
    for path in paths:
        path.write_text("x")
        written.add(path)
    written.check("s.ptyd", everything=False)
    for path in paths[-9:]:
        path.unlink()
    with pytest.raises(OutputError, match=r"9 of the \d+ finished files .*188 \(not there\), .* and 4 more"):
        written.check("s.ptyd", everything=True)
    with pytest.raises(OutputError, match=r"\(not there\)"):
        for _ in range(4):
            written.check("s.ptyd", everything=False)


@pytest.mark.mpi
def test_files_of_ranks_that_are_removed_are_an_error_on_all_ranks(tmp_path):
    assert mpirun(), "make test installs one"
    cases = [("virtual", ".rank0002.h5"), ("virtual", ".h5"), ("link", ".h5"), ("merge", ".h5")]
    script = tmp_path / "scan.py"
    script.write_text(f"""
import sys
sys.path[:0] = {[str(folder) for folder in Path(__file__).parents[:2]]!r}
from test_runs import *
from ptyprep.parallel.mpi import room
comm, said = room(), []
for save, name in {cases!r}:
    out = Path({str(tmp_path)!r}, save + name, "s.ptyd")
    for harm in (True, False, False):
        def meddle(scan, first):
            if scan.comm.rank == 0 and first >= 6 and harm:
                for path in out.parent.glob("s.*/000000" + name):
                    path.unlink()
        try:
            scan = run(out, save, like(meddle=meddle), frames=3, resume=True)
            said.append("finished" if scan.was_finished else "made")
        except Exception as err:
            said.append(f"{{type(err).__name__}} {{err}}")
        comm.each(None)             # none begins again before all have ended
Path({str(tmp_path)!r}, f"{{comm.rank}}.json").write_text(json.dumps(said))
""")
    for save, name in cases:
        (tmp_path / f"{save}{name}").mkdir()
    job = run_on_ranks(3, script, timeout=120)
    assert job.returncode == 0, job.stderr
    heard = iter(zip(*[json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(3)]))
    for save, name in cases:
        said = [sorted(next(heard)) for _ in range(3)]
        assert [text.split()[0] for text in said[0]] == ["OutputError", "PeerError", "PeerError"], said
        assert all(f"000000{name} (not there)" in text for text in said[0])
        assert said[1:] == [["made"] * 3, ["finished"] * 3] and is_whole(tmp_path / f"{save}{name}" / "s.ptyd")


@pytest.mark.parametrize("harm", ["gone", "cut", "flipped", "exchanged", "linked", "older"])
def test_resume_looks_at_the_files_of_the_ranks(tmp_path, harm):
    folder = stop(tmp_path / "s.ptyd", "virtual", compression="none")
    path, other = folder / "000001.rank0000.h5", folder / "000002.rank0000.h5"
    if harm == "gone":
        path.unlink()
    elif harm == "cut":
        os.truncate(path, path.stat().st_size - 100)
    elif harm == "flipped":
        path.write_bytes(path.read_bytes().replace(FRAMES[2].tobytes()[:16], bytes(16)))
    elif harm == "exchanged":       # both are whole
        shutil.copy(other, path)
    elif harm == "linked":
        path.rename(tmp_path / "elsewhere.h5")
        path.symlink_to(tmp_path / "elsewhere.h5")
    else:                           # its part says nothing of what they hold
        with h5py.File(folder / "000001.h5", "r+") as part:
            del part["data"].attrs["crc32"], part["weights"].attrs["crc32"]
    scan = run(tmp_path / "s.ptyd", "virtual", resume=True, compression="none")
    assert is_whole(tmp_path / "s.ptyd") and (2 in scan.loaded) == (harm != "older")
    assert any("000001.h5 is not whole; thrown away and made again: 000001.h5, 000002.h5, 000003.h5" in note
               for note in scan.notes) == (harm != "older")


# --- names that nobody foresees, folders that are ours --------------------------------------------------

def test_no_name_that_can_be_foreseen_is_written(tmp_path, monkeypatch):
    """Every file that is written begins under a random name, exclusively, but for a run's log and lock."""
    made, opened = [], os.open

    def watch(path, flags, *rest, **more):
        if flags & os.O_CREAT and str(path).startswith(str(tmp_path)):
            made.append((Path(path).name, bool(flags & os.O_EXCL), bool(flags & os.O_NOFOLLOW)))
        return opened(path, flags, *rest, **more)
    monkeypatch.setattr(os, "open", watch)
    for save in SINKS:
        run(tmp_path / f"{save}.ptyd", save)
        merge(tmp_path / f"{save}.ptyd", tmp_path / f"{save}-one.ptyd")
    assert {name for name, exclusive, _ in made if not exclusive} == {"lock", "log.jsonl"}
    assert all(nofollow for name, _, nofollow in made if name in ("lock", "log.jsonl"))
    assert temporary(tmp_path / "a") != temporary(tmp_path / "a")


def test_links_and_pipes_in_the_way_are_not_followed(tmp_path):
    whole, target = tmp_path / "s.ptyd", tmp_path / "precious"
    run(whole, "link")
    target.write_text("precious")
    for name in (".one.ptyd.tmp", "one.tmp"):
        (tmp_path / name).symlink_to(target)
    merge(whole, tmp_path / "one.ptyd")
    assert is_whole(tmp_path / "one.ptyd")
    folder = stop(tmp_path / "t.ptyd", "link")
    for name in ("main.tmp", "run.tmp", "000003.tmp", "lock", "log.jsonl"):
        there = folder / name
        there.unlink(missing_ok=True)
        there.symlink_to(target)
    with pytest.raises(OutputError, match="lock is a link, a pipe or a device"):
        run(tmp_path / "t.ptyd", "link", resume=True)
    (folder / "lock").unlink()
    with pytest.raises(OutputError, match="log.jsonl is a link, a pipe or a device"):
        run(tmp_path / "t.ptyd", "link", resume=True)
    assert target.read_text() == "precious"
    (folder / "log.jsonl").unlink()
    os.mkfifo(folder / "log.jsonl")
    with pytest.raises(OutputError, match="log.jsonl is a link, a pipe or a device"):
        run(tmp_path / "t.ptyd", "link", resume=True)
    with pytest.raises(OSError):
        open_ours(folder / "log.jsonl", os.O_RDWR)


def test_many_merges_at_once_make_one_output(tmp_path):
    run(tmp_path / "s.ptyd", "link")

    def one(_):
        try:
            merge(tmp_path / "s.ptyd", tmp_path / "one.ptyd")
        except OutputError as err:
            return str(err)
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(one, range(16)))
    assert said.count(None) == 1 and is_whole(tmp_path / "one.ptyd")
    assert all("one.ptyd exists" in text for text in said if text)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("state", [None, "copy", "another stem"])
def test_overwrite_removes_no_folder_but_that_of_its_run(tmp_path, state):
    out = tmp_path / "s.ptyd"
    run(out, "link")
    [mine] = tmp_path.glob("s.*/")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(mine, elsewhere)
    theirs = [tmp_path / "s.0123abcd", tmp_path / "s.mine", tmp_path / "s.0123456789"]
    theirs[0].symlink_to(elsewhere)             # a link to what looks like ours
    for folder in theirs[1:]:
        shutil.copytree(mine, folder)
    if state is None:                           # a folder of somebody, with a name like ours
        (tmp_path / "s.89abcdef").mkdir()
        (tmp_path / "s.89abcdef" / "000000.h5").write_text("a diary")
    if state == "copy":                         # run.json is of another folder
        shutil.copytree(mine, tmp_path / "s.89abcdef")
    if state == "another stem":
        run(tmp_path / "s.one.ptyd", "link")
    before = tree(tmp_path)
    run(out, "merge", overwrite=True)
    after = tree(tmp_path)
    assert {name for name in before if name not in after and not name.startswith(mine.name)} == set()
    assert not mine.exists() and is_whole(out)


@pytest.mark.parametrize("save", SINKS)
def test_what_others_put_into_a_run_folder_stays_and_breaks_nothing(tmp_path, save):
    def meddle(scan, first):
        for folder in tmp_path.glob("s.*/"):
            (folder / "sub" / "deep").mkdir(parents=True, exist_ok=True)
            (folder / "notes.txt").write_text("mine")
            (folder / "x.tmp").mkdir(exist_ok=True)
    run(tmp_path / "s.ptyd", save, like(meddle=meddle))
    assert is_whole(tmp_path / "s.ptyd")
    stop(tmp_path / "t.ptyd", save)
    for cls in (like(meddle=meddle), Scan):
        run(tmp_path / "t.ptyd", save, cls, resume=True)
    assert is_whole(tmp_path / "t.ptyd")
    [folder] = tmp_path.glob("s.*/")
    assert (folder / "sub" / "deep").is_dir() and (folder / "notes.txt").read_text() == "mine"
    assert save in LINKED or sorted(p.name for p in folder.iterdir()) == ["notes.txt", "sub", "x.tmp"]


# --- resume does what is left to do ---------------------------------------------------------------------

@pytest.mark.parametrize("recipe", [Scan, Live])
@pytest.mark.parametrize("save", SINKS)
def test_resume_begins_goes_on_and_has_nothing_to_do(tmp_path, save, recipe):
    out = tmp_path / "s.ptyd"
    stop(out, save, recipe, resume=True)                # nothing is there: it begins
    scan = run(out, save, recipe, resume=True)
    assert min(scan.loaded[1:]) == 8 and not scan.was_finished and is_whole(out)
    before = tree(tmp_path)
    scan = recipe(dfile=out, save=save, resume=True).initialize()
    assert scan.was_finished and scan.frames_done == scan.meta.num_frames == N
    assert list(scan.batches()) == [] and f"{out} is finished already: nothing to do" in scan.notes
    scan.prepare()
    assert not set(scan.loaded) - {0} and tree(tmp_path) == before      # the first tells how large frames are
    with pytest.raises(OutputError, match="is finished, and of another scan: .*parameter rebin: was 1, is 2"):
        recipe(dfile=out, save=save, resume=True, rebin=2).initialize()
    with pytest.raises(OutputError, match="exists; choose another name"):
        recipe(dfile=out, save=save).initialize()
    assert tree(tmp_path) == before


def test_a_live_scan_that_has_more_frames_now_is_not_finished(tmp_path):
    run(tmp_path / "s.ptyd", "link", like(Live, length=7))
    assert run(tmp_path / "s.ptyd", "link", like(Live, length=7), resume=True).was_finished
    with pytest.raises(OutputError, match="s.ptyd is finished with 7 scan points, and now there are more"):
        run(tmp_path / "s.ptyd", "link", like(Live, seen=7), resume=True)


@pytest.mark.parametrize("save", SINKS)
def test_a_run_that_died_after_it_had_named_its_output_is_finished(tmp_path, save, monkeypatch):
    import ptyprep.sinks.parts as parts
    out = tmp_path / "s.ptyd"
    with monkeypatch.context() as patch:
        patch.setattr(parts.Parts, "finish", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(parts.Parts, "remove", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(out, save)
    if save not in LINKED:
        next(tmp_path.glob("s.*/000000.h5")).unlink()       # it died while it removed them
    scan = run(out, save, resume=True)
    assert scan.was_finished and is_whole(out)
    assert len(list(tmp_path.iterdir())) == 1 + (save in LINKED)
    assert run(out, save, resume=True).was_finished


@pytest.mark.parametrize("save", SINKS)
def test_a_file_that_does_not_know_its_run_is_not_called_finished(tmp_path, save):
    """Of an older version; one with parts has their run.json."""
    out = tmp_path / "s.ptyd"
    run(out, save)
    with h5py.File(out, "r+") as file:
        del file["info/fingerprint"]
    if save in LINKED:
        assert run(out, save, resume=True).was_finished
        next(tmp_path.glob("s.*/run.json")).unlink()
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="does not say what it was prepared with.*cannot be told; set overwrite"):
        run(out, save, resume=True)
    assert tree(tmp_path) == before
    run(tmp_path / "t.ptyd", save)
    merge(tmp_path / "t.ptyd", tmp_path / "merged.ptyd")
    with pytest.raises(OutputError, match="merge or repair made it"):
        run(tmp_path / "merged.ptyd", save, resume=True)


@pytest.mark.parametrize("save", LINKED)
def test_a_finished_file_that_lost_parts_is_not_called_finished(tmp_path, save):
    run(tmp_path / "s.ptyd", save)
    next(tmp_path.glob("s.*/000002.rank0000.h5" if save == "virtual" else "s.*/000002.h5")).unlink()
    with pytest.raises(OutputError, match=r"is finished, but files of it are lost or cut off: 000002\.(rank0000\.)?h5"):
        run(tmp_path / "s.ptyd", save, resume=True)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1, 2]", b'{"output": 1}', b"\xff\0", b"[" * 100_000])
@pytest.mark.parametrize("save", SINKS)
def test_a_run_that_lost_its_run_json_goes_on(tmp_path, save, content):
    folder = stop(tmp_path / "s.ptyd", save)
    if content is None:
        (folder / "run.json").unlink()
    else:
        (folder / "run.json").write_bytes(content)
    with pytest.raises(OutputError, match="interrupted preparation"):
        run(tmp_path / "s.ptyd", save)
    with pytest.raises(OutputError, match="cannot be resumed.*parameter rebin"):
        run(tmp_path / "s.ptyd", save, resume=True, rebin=2)
    scan = run(tmp_path / "s.ptyd", save, resume=True)
    assert min(scan.loaded[1:]) == 8 and is_whole(tmp_path / "s.ptyd")


@pytest.mark.parametrize("save", SINKS)
def test_a_run_that_lost_all_that_says_what_it_was_is_not_guessed(tmp_path, save):
    out = tmp_path / "s.ptyd"
    folder = stop(out, save)
    (folder / "run.json").write_bytes(b"")
    (folder / "log.jsonl").write_bytes(b"\0\n" * 9)
    before = tree(folder)
    if save in LINKED:          # it has a main file already
        with pytest.raises(OutputError, match="Whether there is anything to resume cannot be told; set overwrite"):
            run(out, save, resume=True)
        assert tree(folder) == before
        run(out, save, overwrite=True)
        assert not folder.exists() and is_whole(out)
        return
    scan = run(out, save, resume=True)
    assert is_whole(out) and tree(folder) == before
    assert any(f"{folder.name} is left alone: neither run.json nor log.jsonl" in note for note in scan.notes)


ODD = [b"", b"null", b"[]", b"7", b"{}", b'{"chunk": [1]}', b"\xff\xfe", b"[" * 100_000]
TYPES = {"chunk": -1, "frames": "3", "points": 1.5, "blind": None, "blank": True, "told": "x", "lost": 3, "near": "x!",
         "bad": [["x", 1]], "counted": [1, 2]}


@pytest.mark.parametrize("save", SINKS)
def test_lines_of_a_log_that_are_not_what_they_should_be_are_left_out(tmp_path, save):
    folder = stop(tmp_path / "s.ptyd", save)
    log = folder / "log.jsonl"
    lines = log.read_bytes().splitlines()
    log.write_bytes(b"\n".join([*ODD, *lines, *ODD, lines[-1][:20]]))
    scan = run(tmp_path / "s.ptyd", save, resume=True)
    assert min(scan.loaded[1:]) == 8 and is_whole(tmp_path / "s.ptyd")
    assert any(f"lines of log.jsonl that are not what they should be, and are left out: {2 * len(ODD) + 1}" in note
               for note in scan.notes)


@pytest.mark.parametrize("save", SINKS)
def test_of_a_part_that_was_tried_twice_the_last_line_counts(tmp_path, save):
    """A run may die between a part's line and the part: the run that goes on writes another line of it."""
    folder = stop(tmp_path / "s.ptyd", save)
    log = folder / "log.jsonl"
    said, *lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    first_try = {"frames": 1, "blind": 1, "bad": [[2, "cannot be read"]]}
    lines = [said, *({**line, **first_try} for line in lines), *lines]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    scan = run(tmp_path / "s.ptyd", save, resume=True)
    assert min(scan.loaded[1:]) == 8 and is_whole(tmp_path / "s.ptyd")
    assert not scan.bad and not any("good pixel" in note for note in scan.notes)


@pytest.mark.parametrize("key", TYPES)
def test_a_line_with_a_value_of_another_kind_is_none(tmp_path, key):
    folder = stop(tmp_path / "s.ptyd", "link")
    log = folder / "log.jsonl"
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    lines[2][key] = TYPES[key]                      # of part 1: the first line says what the run is
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    scan = run(tmp_path / "s.ptyd", "link", resume=True)
    assert min(scan.loaded[1:]) == 2 and is_whole(tmp_path / "s.ptyd")
    assert any("000001.h5 has no line in log.jsonl; thrown away and made again: 000001.h5, 000002.h5, 000003.h5" in note
               for note in scan.notes)


@pytest.mark.parametrize("save", SINKS)
def test_the_loser_of_two_that_began_at_once_leaves_nothing(tmp_path, save):
    out, stopped = tmp_path / "s.ptyd", []

    def meddle(scan, first):
        if first == 0 and scan.seen_first and not out.exists():
            run(out, save)              # the other one is quicker
            stopped.append(tree(tmp_path))
        scan.seen_first = True
    with pytest.raises(OutputError, match="s.ptyd exists: something else has made it meanwhile"):
        run(out, save, like(meddle=meddle, seen_first=False))
    assert is_whole(out) and len(list(tmp_path.iterdir())) == 1 + (save in LINKED)
    assert run(out, save, resume=True).was_finished


@pytest.mark.parametrize("save", SINKS)
def test_a_loser_that_was_killed_is_cleaned_up_by_resume(tmp_path, save):
    out = tmp_path / "s.ptyd"
    stop(out, save, at=6)
    aside = tmp_path / "aside"
    aside.mkdir()
    run(aside / "s.ptyd", save)
    for path in aside.iterdir():        # another run has made the output meanwhile
        os.replace(path, tmp_path / path.name)
    aside.rmdir()
    assert run(out, save, resume=True).was_finished and is_whole(out)
    assert len(list(tmp_path.iterdir())) == 1 + (save in LINKED)


# --- times --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("inside", [(), ("lock",), ("lock", ".ptyprep-0123456789abcdef.tmp"), ("lock", "log.jsonl")])
@pytest.mark.parametrize("resume", [True, False])
def test_what_a_run_left_that_died_at_its_first_step_goes(tmp_path, inside, resume):
    left = tmp_path / "o.0123abcd"
    left.mkdir()
    for name in inside:
        (left / name).touch()
    run(tmp_path / "o.ptyd", "append", resume=resume)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.ptyd"] and is_whole(tmp_path / "o.ptyd")


def test_what_others_may_have_made_or_just_make_stays(tmp_path):
    """An empty folder of another name, one of ours that is locked, one with a file that is not ours, a link to one."""
    for name in ("o.0123abcd", "o.notahex0", "p.0123abcd", "o.00000001", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "o.0123abcd" / "notes.txt").touch()
    (tmp_path / "o.00000002").symlink_to(tmp_path / "elsewhere")
    holder = subprocess.Popen([sys.executable, "-c", f"""
import sys
from pathlib import Path
from ptyprep.sinks import runs
runs.lock(Path({str(tmp_path / "o.00000001")!r}))
print("locked", flush=True)
sys.stdin.read()
"""], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "locked\n"
    before = {path.name for path in tmp_path.iterdir()}
    run(tmp_path / "o.ptyd", "append")
    assert {path.name for path in tmp_path.iterdir()} == before | {"o.ptyd"}
    holder.communicate()


@pytest.mark.parametrize("save", ["link", "virtual"])
def test_a_run_that_died_while_it_tidied_up_is_tidied_up(tmp_path, save):
    run(tmp_path / "o.ptyd", save)
    folder = next(tmp_path.glob("o.*/"))
    left = {"lock", "log.jsonl", ".ptyprep-0123456789abcdef.tmp"}
    for name in left:
        (folder / name).touch()
    run(tmp_path / "o.ptyd", save, resume=True)
    assert not left & {path.name for path in folder.iterdir()} and is_whole(tmp_path / "o.ptyd")


def test_a_run_is_resumed_in_another_time_zone(tmp_path):
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["data"] = FRAMES
    np.savetxt(tmp_path / "positions.txt", PLACES)
    words = ("prepare", "hdf5", tmp_path / "raw.h5", "-o", tmp_path / "s.ptyd", "--positions.file",
             tmp_path / "positions.txt", "--energy", "7", "--distance", "2", "--psize", "75e-6", "--center", "6,5",
             "--frames_per_chunk", "3", "--resume", "--save", "link")
    first = command(*words, env={**os.environ, "TZ": "Asia/Tokyo"})
    assert first.returncode == 0, first.stderr
    again = command(*words, env={**os.environ, "TZ": "America/New_York"})
    assert (again.returncode, again.stdout) == (0, f"{tmp_path / 's.ptyd'} is finished already: nothing to do\n")
    path, stat = tmp_path / "s.ptyd", (tmp_path / "raw.h5").stat()
    with h5py.File(path, "r+") as file:         # what older versions wrote
        told = json.loads(file["info/fingerprint"][()])
        [name] = [name for name in told if name.endswith("raw.h5") and name.startswith("source ")]
        assert told[name] == f"{stat.st_size} bytes of {stat.st_mtime_ns} ns"
        told[name] = f"{stat.st_size} bytes of {time.ctime(stat.st_mtime)}"
        del told["parameter padding"]           # which did not exist then
        del file["info/fingerprint"]
        file["info/fingerprint"] = json.dumps(told)
    assert "nothing to do" in command(*words).stdout
    os.utime(tmp_path / "raw.h5", ns=(0, stat.st_mtime_ns + 10**9))
    changed = command(*words)
    assert changed.returncode == 1 and "is finished, and of another scan: source " in changed.stderr


# --- one output, one run ---------------------------------------------------------------------------------

def test_overwrite_replaces_only_prepared_files_and_nothing_that_is_read(tmp_path):
    table = tmp_path / "pos.npy"
    np.save(table, in_memory.POSITIONS)
    np.save(tmp_path / "frames.npy", in_memory.FRAMES)
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["data"] = in_memory.FRAMES
    pars = {"intensities.file": tmp_path / "raw.h5", "positions.file": table, "energy": 7, "distance": 2,
            "psize": 75e-6, "center": (8, 9), "overwrite": True}
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    for out in before:
        with pytest.raises(OutputError, match="the file that is read|no prepared file"):
            recipe("hdf5")({**pars, "dfile": out}).initialize()
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("save", ["append", "link", "merge", "virtual"])
def test_a_run_that_overwrites_can_be_resumed(tmp_path, save):
    out = tmp_path / "s.ptyd"
    in_memory.run(in_memory.like(), out, save="append")
    in_memory.interrupted(out, save=save, overwrite=True)
    in_memory.run(in_memory.like(), out, save=save, resume=True)
    assert np.array_equal(read_ptyd(out)["data"], in_memory.FRAMES)


def test_a_run_cannot_be_resumed_in_another_mode(tmp_path):
    in_memory.interrupted(tmp_path / "s.ptyd", save="link")
    with pytest.raises(OutputError, match="save: was link, is append"):
        in_memory.run(in_memory.like(), tmp_path / "s.ptyd", save="append", resume=True)


@pytest.mark.parametrize("policy, kept", [("drop", 11), ("mask", 12)])
def test_a_run_that_stopped_at_a_bad_frame_goes_on_without_it(tmp_path, policy, kept):
    out = tmp_path / "s.ptyd"
    with pytest.raises(SourceError) as err:
        in_memory.run(in_memory.like(unreadable=(8,)), out)
    assert any("bad_frames='drop' or 'mask'" in note for note in err.value.__notes__)
    in_memory.run(in_memory.like(unreadable=(8,)), out, bad_frames=policy, resume=True)
    assert len(read_ptyd(out)["data"]) == kept
    with pytest.raises(OutputError, match="parameter bad_frames: was drop, is mask"):
        in_memory.interrupted(tmp_path / "t.ptyd", bad_frames="drop")
        in_memory.run(in_memory.like(), tmp_path / "t.ptyd", bad_frames="mask", resume=True)


def test_nothing_is_left_beside_a_file_after_a_crash_in_the_last_step(tmp_path, monkeypatch):
    import ptyprep.sinks.append
    out = tmp_path / "s.ptyd"

    def die(*_, **__):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(ptyprep.sinks.append, "publish", die)
        with pytest.raises(KeyboardInterrupt):
            in_memory.run(in_memory.like(), out)
    in_memory.run(in_memory.like(), out, resume=True)
    assert [p.name for p in tmp_path.iterdir()] == ["s.ptyd"]
