"""A system that lacks what Linux has: macOS prepares the same and flushes as often, any other is refused at import."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ptyprep
from ptyprep.filesystem import system
from ptyprep.sinks import SINKS
from ptyprep.testing import read_ptyd

MACOS = '''
import fcntl, os
plainly = fcntl.fcntl
fcntl.F_FULLFSYNC = 51
del os.fdatasync, os.sched_getaffinity

def full(file, what, *more):
    """fcntl of macOS, by what this system has."""
    return os.fsync(file) if what == fcntl.F_FULLFSYNC else plainly(file, what, *more)
fcntl.fcntl = full
'''
# before macOS 11, or a Python that was built there
OLD_MACOS = f"{MACOS}del os.preadv\n"
# a network file system there: it refuses F_FULLFSYNC for a file, and fsync for a folder
REMOTE = MACOS + '''
import errno, stat
flush = os.fsync

def full(file, what, *more):
    if what == fcntl.F_FULLFSYNC:
        raise OSError(errno.ENOTSUP, "Operation not supported")
    return plainly(file, what, *more)

def files_only(file):
    if stat.S_ISDIR(os.fstat(file).st_mode):
        raise OSError(errno.EINVAL, "Invalid argument")
    flush(file)
fcntl.fcntl, os.fsync = full, files_only
'''
PREPARE = '''
import json, os, sys
from collections import Counter
flushed = Counter()

def counted(module, name):
    flush = getattr(module, name)
    def call(file, *more):
        flush(file, *more)
        path = os.readlink(f"/proc/self/fd/{file}")
        growing = os.path.basename(path).startswith("growing.")
        flushed["folder" if os.path.isdir(path) else "growing" if growing else "other"] += 1
    setattr(module, name, call)
for name in ("fsync", "fdatasync"):
    if hasattr(os, name):
        counted(os, name)

import numpy as np
from ptyprep import Par, PtyScan

class Scan(PtyScan):
    """Eleven frames."""
    energy, distance, psize, center = Par(8.0), Par(2.0), Par(75e-6), Par("fftshift")

    def load_positions(self):
        return np.arange(22.0).reshape(11, 2) ** 2 * 1e-7

    def load(self, indices):
        return np.arange(11 * 256, dtype="u2").reshape(11, 16, 16)[list(indices)]

Scan(dfile=sys.argv[1], save=sys.argv[2]).initialize().prepare(4)
print(json.dumps(flushed))
'''


def prepare(path, save, as_on=""):
    """How often files were flushed, while a scan was prepared by another process."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", as_on + PREPARE, path, save], capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts flushes by /proc")
@pytest.mark.parametrize("as_on", [MACOS, OLD_MACOS, REMOTE], ids=["macos", "old macos", "remote folder"])
@pytest.mark.parametrize("save", SINKS)
def test_macos_prepares_the_same_and_flushes_as_often(tmp_path, save, as_on):
    there, here = prepare(tmp_path / "there.ptyd", save, as_on), prepare(tmp_path / "here.ptyd", save)
    if as_on == REMOTE:
        assert here.pop("folder") > 0
    assert there == here and here["other"] > 0
    assert here.get("growing", 0) == (5 if save in ("append", "merge") else 0)      # empty, three chunks, and whole
    one, other = (read_ptyd(tmp_path / f"{name}.ptyd") for name in ("here", "there"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_disk_that_fails_under_macos_is_not_taken_for_one_that_cannot_say(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(5, "Input/output error")
    monkeypatch.setattr(system.fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(system.fcntl, "fcntl", fails)
    for flush in (system.flush, system.flush_folder):
        with pytest.raises(OSError, match="Input/output error"), open(tmp_path / "f", "wb") as file:
            flush(tmp_path if flush is system.flush_folder else file.fileno())


@pytest.mark.parametrize("size", [0, 1, 5, 9])
def test_bytes_are_read_alike_without_preadv(tmp_path, size, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(bytes(range(7)))
    with open(path, "rb") as file:
        read = []
        for _ in range(2):
            buffer = np.full(size, 255, np.uint8)
            read.append((system.read_into(file.fileno(), buffer, 3), buffer.tolist()))
            monkeypatch.delattr(os, "preadv", raising=False)
    assert read[0] == read[1] and read[0][0] == min(size, 4)
    assert read[0][1] == [3, 4, 5, 6, 255, 255, 255, 255, 255][:size]


@pytest.mark.parametrize("module", ["ptyprep", "ptyprep.sinks.parts", "ptyprep.cli", "ptyprep.testing"])
def test_windows_is_refused_at_import(module):
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.modules['fcntl'] = None; import {module}"],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == ("ImportError: ptyprep runs on Linux and macOS; on Windows use WSL "
                                            "(Windows Subsystem for Linux)")


def test_only_one_module_asks_the_system():
    """What Linux alone has is called in one place, which knows what else there is; but for the process that looks at
    files first, which imports nothing of ours."""
    own = ("fdatasync", "fsync(", "preadv", "import fcntl", "fadvise", "sendfile", "copy_file_range", "O_DIRECT",
           "memfd", "import resource")
    calls = {path.name for path in Path(ptyprep.__file__).parent.rglob("*.py")
             if any(word in path.read_text() for word in own)}
    assert calls == {"system.py", "head.py"}
