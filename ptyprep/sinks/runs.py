"""Run folders: which are ours, how far they came, who writes them, and what `resume` and `overwrite` do with them.

A folder is a run's only if this program's marks say so: its name is <stem>.<8 hex digits>, it is no link, and its
`run.json`, or the copy of that in `log.jsonl`, names the output. No other folder is read, written or removed, but an
empty one of such a name (`sweep`).
"""
import json
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import h5py

from ptyprep.errors import OutputError, SourceError
from ptyprep.filesystem import system
from ptyprep.hdf5 import h5rw
from ptyprep.hdf5.first_look import look_first
from ptyprep.processing.masks import from_text
from ptyprep.sinks.disk import UNREADABLE, open_ours, publish, remove, temporary, writing
from ptyprep.words.spelling import option

RUN_FILE, LOG_FILE, LOCK_FILE = "run.json", "log.jsonl", "lock"
# a part, or the file of a rank that it points at
PART = re.compile(r"\d{6,}(\.rank\d{4,})?\.h5")
FINGERPRINT = "fingerprint"         # in `info` of a finished file: what the run was, as JSON
ID = re.compile(r"[0-9a-f]{8}")
LEFT = re.compile(r"lock|log\.jsonl|\.ptyprep-[0-9a-f]+\.tmp")
STATE = {"output": str, "replaces": bool, "finished": bool, "size": int, FINGERPRINT: dict}     # what `run.json` holds
_held = {}                          # {folder: file descriptor of its lock} of this process


@dataclass(frozen=True)
class Earlier:
    """What was prepared before under an output's name, as far as `resume` cares.

    folder : of the run that goes on, or of the finished one; None where there is none
    fingerprint : of that run, {name: text}; empty where there is none or it is not known
    finished : whether the output is that run's and all of it
    """
    folder: Path | None = None
    fingerprint: dict | None = None
    finished: bool = False


def earlier(output):
    """The run that `resume` goes on with, or that is finished.

    A finished output knows its run's fingerprint; that of older versions does not, where it has no parts.
    """
    maker, told = made_by(output)
    folder = output.with_name(maker) if maker and _names_a_run(maker, output) else None
    left_by_runs = _with_states(output)
    for left, state in reversed(left_by_runs):
        if state["finished"]:
            continue
        if left == folder and told is not None:         # it died after it had named the output
            break
        if left == folder or state["replaces"] or not os.path.lexists(output):
            return Earlier(left, state[FINGERPRINT])
    if told is None:
        told = next((state[FINGERPRINT] for one, state in left_by_runs if one == folder and state["finished"]), None)
    return Earlier(folder, told, finished=os.path.lexists(output))


def made_by(output):
    """(name of the folder of the run that made a main file, "" where it names none, and None where there is no
    prepared file; the fingerprint of that run, None where the file is not finished or does not know)."""
    try:
        if not output.is_file():
            return None, None
        look_first(output)
        with h5py.File(output, "r", locking=False) as file:
            if not ("chunks" in file and "meta" in file):
                return None, None
            text = file[f"info/{FINGERPRINT}"][()] if f"info/{FINGERPRINT}" in file else b"null"
            told = json.loads(text)
            maker = h5rw.text_of(file.attrs.get(h5rw.RUN))
            return maker, told if isinstance(told, dict) else None
    except (SourceError, *UNREADABLE):
        return None, None


def lost_parts(output):
    """The names of the files that a finished output links to and that are not there, or are cut off."""
    lost = []
    with h5py.File(output, "r", locking=False) as file:
        links = [file["chunks"].get(name, getlink=True) for name in file["chunks"]]
    for link in links:
        if isinstance(link, h5py.ExternalLink):
            part = output.parent / link.filename
            lost += [path.name for path in (part, *sources_of(part)) if not _opens(path)]
    return sorted(lost)


def sources_of(part):
    """The files of ranks that a part points at; none where it cannot be opened."""
    try:
        with h5py.File(part, "r", locking=False) as file:
            data = file["data"]
            return [part.with_name(source.file_name) for source in data.virtual_sources()] if data.is_virtual else []
    except UNREADABLE:
        return []


def _opens(path):
    try:
        with h5py.File(path, "r", locking=False):
            return True
    except OSError:
        return False


def refuse(output, inputs, *, overwrite, resume):
    """Raise OutputError where such an output must not be made: nothing is overwritten unasked, nothing but
    prepared files at all, nothing that is read (`inputs`), and nothing that another process is writing."""
    folder = output.parent
    if not folder.is_dir():
        raise OutputError(f"{output}: the folder {folder} does not exist; make it first")
    if output.is_dir():
        raise OutputError(f"{output} is a folder; name a .ptyd file")
    if output.exists():
        for path in inputs:
            if path.exists() and output.samefile(path):
                raise OutputError(f"{output} is the file that is read; name another output")
        if (overwrite or resume) and made_by(output)[0] is None:
            raise OutputError(f"{output} is no prepared file, and "
                              f"{option('overwrite' if overwrite else 'resume', True)} replaces nothing else; remove "
                              "it yourself, or name another output")
    if output.is_symlink() and not output.exists():
        raise OutputError(f"{output} is a link to {os.readlink(output)}, which is not there; remove it, or name "
                          f"another output")
    left = unfinished(output)
    for run in left:
        if who := writer(run):
            raise OutputError(f"{output} is being prepared right now by {who}, in {run.name}; wait for it, or name "
                              f"another output")
    if overwrite or resume:
        return
    before = earlier(output)
    if left and not before.finished:
        done = len(list(left[-1].glob("[0-9]" * 6 + ".h5")))
        raise OutputError(f"{output}: an interrupted preparation of it is in {left[-1].name} ({done} finished chunks); "
                          f"set {option('resume', True)} to continue it, or {option('overwrite', True)} to start again")
    if output.exists():
        raise OutputError(f"{output} exists; choose another name, or set {option('overwrite', True)} to replace it")


def differences(before, now):
    """What differs between two fingerprints, as sentences."""
    return [f"{k}: was {before.get(k, 'absent')}, is {now.get(k, 'absent')}"
            for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k)]


# --- which folders are runs ---------------------------------------------------------------------------

def runs(output):
    """The run folders of an output, oldest first."""
    return [folder for folder, _ in _with_states(output)]


def unfinished(output):
    return [folder for folder, state in _with_states(output) if not state["finished"]]


def _with_states(output):
    found = [(folder, read_state(folder)) for folder in _candidates(output)]
    return sorted(((folder, state) for folder, state in found if state and state["output"] == output.name),
                  key=lambda run: _changed(run[0]))


def _changed(folder):
    """When a run was last heard of."""
    return max((path.stat().st_mtime for name in (RUN_FILE, LOG_FILE) if (path := folder / name).exists()), default=0)


def sweep(output):
    """Remove what a run has left that died before it had said what it was, or while its folder was removed: a folder
    of a run's name, with nothing in it but what only a run that goes on needs, or nothing at all.

    Who has just made such a folder finds it locked, or gone, and makes another one.
    """
    for folder in _candidates(output):
        try:
            inside = os.listdir(folder)
            if not all(LEFT.fullmatch(name) for name in inside) or read_state(folder) or writer(folder):
                continue
            lock(folder)
        except OSError:
            continue            # somebody else removes it, or begins to write there
        remove(folder)
        release(folder)


def unknown(output):
    """Folders with parts of ours of which nobody can tell what run they are."""
    return [folder for folder in _candidates(output) if read_state(folder) is None and _has_our_part(folder)]


def _candidates(output):
    with os.scandir(output.parent) as entries:
        return [output.parent / entry.name for entry in entries
                if _names_a_run(entry.name, output) and entry.is_dir(follow_symlinks=False)]


def _names_a_run(name, output):
    stem, _, number = name.rpartition(".")
    return stem == output.stem and ID.fullmatch(number) is not None


def _has_our_part(folder):
    for path in folder.glob("[0-9]*.h5"):
        try:
            with h5py.File(path, "r", locking=False) as part:
                return h5rw.text_of(part.attrs.get(h5rw.RUN)) == folder.name
        except UNREADABLE:
            continue
    return False


def read_state(folder):
    """What a run is, `STATE`: from its `run.json`, or the copy of it in its log; None where neither says."""
    state = _json(_content(folder / RUN_FILE))
    return state if _is_state(state, folder) else next(
        (state for state in reversed(_log(folder).states) if _is_state(state, folder)), None)


def _is_state(state, folder):
    return (isinstance(state, dict) and all(type(state.get(name)) is kind for name, kind in STATE.items())
            and state.get("run", folder.name) == folder.name        # older ones do not say it
            and all(isinstance(text, str) for text in state[FINGERPRINT].values()))


def is_said_twice(folder):
    """Whether both `run.json` and the log say what a run is, and the same."""
    state, copies = _json(_content(folder / RUN_FILE)), _log(folder).states
    return _is_state(state, folder) and copies[-1:] == [state]


def write_state(folder, state):
    """Write what a run is, whole."""
    path = folder / RUN_FILE
    fresh = temporary(path)
    with writing(path), open(open_ours(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(json.dumps(state, indent=1).encode())
    publish(fresh, path)


# --- how far they came --------------------------------------------------------------------------------

@dataclass
class _Log:
    """What a log says.

    lines : {number of a part: its last line}
    states : copies of `run.json`
    odd : how many lines are neither, the last one that was cut off included
    whole : bytes up to the end of the last whole line
    size : bytes in all
    """
    lines: dict
    states: list
    odd: int
    whole: int
    size: int


def read_log(folder):
    """The `_Log` of a run. A line that was cut off when the process died is cut out, lest the next one stick to it."""
    log = _log(folder)
    if log.whole != log.size:
        with writing(folder / LOG_FILE), open(open_ours(folder / LOG_FILE, os.O_RDWR), "rb+") as file:
            file.truncate(log.whole)
    return log


def write_log(folder, line, *, flush):
    """Append a line to a run's log."""
    path = folder / LOG_FILE
    with writing(path), open(open_ours(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as log:
        log.write(json.dumps(line).encode() + b"\n")
        log.flush()
        if flush:
            system.flush(log.fileno())


def _log(folder):
    text = _content(folder / LOG_FILE)
    whole = text[:text.rfind(b"\n") + 1]
    log = _Log({}, [], int(whole != text), len(whole), len(text))
    for line in map(_json, whole.splitlines()):
        if _is_line(line):
            log.lines[line["chunk"]] = line         # of a part that was tried twice: its last line
        elif isinstance(line, dict) and "state" in line:
            log.states.append(line["state"])
        else:
            log.odd += 1
    return log


def _is_line(line):
    """Whether a line of a log is one that `Parts.write` writes, as older versions did too."""
    if not isinstance(line, dict):
        return False
    counts = [line.get(name) for name in ("chunk", "frames", "points", "blind", "blank")]
    counts += line.get("counted", []) if isinstance(line.get("counted", []), list) else [None]
    counts += [] if line.get("told", ...) is None else [line.get("told")]
    bad, texts = line.get("bad"), (line.get("lost"), line.get("near", ""))
    return (all(type(count) is int and count >= 0 for count in counts) and len(line.get("counted", "123")) == 3
            and isinstance(bad, list) and all(map(_is_bad_frame, bad)) and all(map(_is_mask, texts)))


def _is_bad_frame(item):
    return isinstance(item, list) and [type(part) for part in item] == [int, str]


def _is_mask(text):
    try:
        return isinstance(text, str) and from_text((1, 1), text) is not None
    except Exception:       # noqa: BLE001  whatever base64 and zlib say of it
        return False


def _json(text):
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _content(path):
    """The bytes of a file of ours; none where it is not there."""
    try:
        with open(open_ours(path, os.O_RDONLY), "rb") as file:
            return file.read()
    except OSError:
        return b""


# --- who writes them ----------------------------------------------------------------------------------

def lock(folder):
    """Lock a run folder for this process until `release`, or until it ends, however that happens.

    Raises OutputError where another process has it, or had it and has ended the run meanwhile.
    """
    if folder in _held:         # an earlier scan in this process has let the run lie
        os.close(_held.pop(folder))
    with writing(folder / LOCK_FILE):
        descriptor = open_ours(folder / LOCK_FILE, os.O_CREAT | os.O_RDWR)
    if not system.lock(descriptor) or not _is_named(descriptor, folder / LOCK_FILE):
        os.close(descriptor)
        raise OutputError(f"{folder}: another process has just begun to write there")
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())
    _held[folder] = descriptor


def _is_named(descriptor, path):
    """Whether an open file has that name still: who ends a run removes its lock."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def is_held(folder):
    return folder in _held


def release(folder):
    if folder in _held:
        os.close(_held.pop(folder))


def writer(folder):
    """Which other process, here or on another node, is writing a run; None when none is."""
    if folder in _held:
        return None
    try:
        with open(open_ours(folder / LOCK_FILE, os.O_RDWR), "rb") as file:
            return None if system.lock(file.fileno()) else file.read(200).decode(errors="replace") or "another process"
    except OSError:
        return None
