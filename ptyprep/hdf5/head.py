"""Read all text that prepared files hold, before another process does: HDF5 can loop or crash on damaged text.

A program of its own, that needs h5py alone: `python -P head.py`. Each line of its standard input asks for a look at
some files, as JSON: [[FILE, ...], [FOLDER, ...], [FILE, ...]]. The look goes on to the files that links and virtual
datasets lead to in these folders, but to none of the last files. Each line of its output answers: [how the look ended,
the file that was open last, what went wrong]. A look ends with 0 however damaged a file is, as long as HDF5 says so in
time, with `TOO_LARGE` where a text needs more memory than is sensible, and below 0 where a signal ended it.

Importing h5py takes longer than most looks: so this process imports it once, opens no file itself, and forks for each
look. No look meets what an earlier one left in HDF5.
"""
import json
import os
import resource
import signal
import stat
import sys
from contextlib import suppress

import h5py

TOO_LARGE = 3
SECONDS, PATIENCE = 2, 60       # for one object: of work, and of waiting for a slow disk
MEMORY = 4 << 30
ASKED = "type", "crc32", "run", "growing"       # attributes, and members, that ptyprep asks for by name
NAMED = "meta", "chunks", "info", "data", "weights", "positions", "indices", "frame_ids"


def main():
    for line in sys.stdin:      # ends with the process that asks
        sys.stdout.write(json.dumps(_answer(*json.loads(line))) + "\n")
        sys.stdout.flush()


def _answer(*request):
    """Look in a process of its own: [how it ended, the last file that it opened, why it failed]."""
    outcome, says = os.pipe()
    child = os.fork()
    if child == 0:
        _look_and_leave(request, says)
    os.close(says)
    with open(outcome, "rb") as file:
        *opened, failure = file.read().split(b"\0")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return [code, os.fsdecode(opened[-1]) if opened else "", failure.decode(errors="replace")]


def _look_and_leave(request, says):
    """Write each file's name and a zero byte before it is opened; at the end what is wrong with this program."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDWR), 2)      # where the C library says that its memory is damaged
        _look_at_all(*request, lambda path: os.write(says, os.fsencode(path) + b"\0"))
        code = 0
    except BaseException as err:    # noqa: BLE001  whatever it is, the user reads it
        os.write(says, f"{type(err).__name__}: {err}".replace("\0", " ").encode(errors="replace"))
    finally:
        os._exit(code)


def _look_at_all(paths, folders, without, begin):
    folders = [os.path.realpath(folder) for folder in folders]
    waiting = list(paths)
    _limit()
    seen = {os.path.realpath(path) for path in waiting}.union(map(os.path.realpath, without))
    for path in waiting:        # grows meanwhile
        begin(path)
        beside = os.path.dirname(os.path.abspath(path))
        for place in [os.path.join(folder, name) for name in _look(path) for folder in [beside, *folders]
                      for name in (name, os.path.basename(name))]:
            real = os.path.realpath(place)
            inside = any(real.startswith(folder.rstrip("/") + "/") for folder in folders)
            if inside and real not in seen and os.path.exists(real) and stat.S_ISREG(os.stat(real).st_mode):
                seen.add(real)
                waiting.append(place)


def _limit():
    with suppress(ValueError, OSError):         # less is allowed already, or the system has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _wind_up():
    """Begin to count the seconds for an object. The system ends this process: Python would wait for HDF5."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)


def _look(path):
    """Read what one file says, and list the names of files that it leads to."""
    leads_to = []
    _wind_up()
    with _harmless(), h5py.File(path, "r", locking=False) as file:
        waiting, seen = [file], set()
        while waiting:
            node = waiting.pop()
            with _harmless():
                info = h5py.h5o.get_info(node.id)
                if (info.fileno, info.addr) in seen:
                    continue
                seen.add((info.fileno, info.addr))
            _read_attributes(node)
            if isinstance(node, h5py.Dataset):
                with _harmless():
                    leads_to += _read_dataset(node)
            else:
                more = _members(node)
                waiting += more[0]
                leads_to += more[1]
    return leads_to


class _harmless:
    """A block whose errors the other process meets, too, and tells; but not that the memory was too small."""

    def __enter__(self):
        _wind_up()

    def __exit__(self, kind, err, trace):
        if isinstance(err, MemoryError) or err is not None and "alloc" in str(err):
            os._exit(TOO_LARGE)
        return isinstance(err, Exception)


def _read_attributes(node):
    """One by one, and those that ptyprep asks for by their names: the list of them may be damaged."""
    names = list(ASKED)
    with _harmless():
        for name in node.attrs:
            names.append(name)
    for name in dict.fromkeys(names):
        with _harmless():
            node.attrs.get(name)


def _read_dataset(dataset):
    """Its text; of one of numbers where its chunks are. Lists the names of the files of a virtual one's sources."""
    layout = dataset.id.get_create_plist()
    if layout.get_layout() == h5py.h5d.VIRTUAL:         # whose shape may depend on other files
        return [layout.get_virtual_filename(i) for i in range(layout.get_virtual_count())]
    if layout.get_external_count():
        return []
    if dataset.dtype.hasobject:
        dataset[()]
    elif dataset.chunks:
        dataset.id.get_num_chunks()
    return []


def _members(group):
    """(objects in a group, names of the files that its links lead to)."""
    nodes, files, names = [], [], list(NAMED)
    with _harmless():
        for name in group:
            names.append(name)
    for name in dict.fromkeys(names):
        with _harmless():
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.HardLink):
                nodes.append(group[name])
            elif isinstance(link, h5py.ExternalLink):
                files.append(link.filename)
    return [node for node in nodes if isinstance(node, h5py.Group | h5py.Dataset)], files


if __name__ == "__main__":
    main()
