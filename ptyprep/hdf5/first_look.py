"""A first look at prepared files in another process, so that one that makes HDF5 loop or crash is named instead."""
import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from ptyprep.errors import SourceError
from ptyprep.hdf5 import head
from ptyprep.hdf5.guarded import refuse, state_of
from ptyprep.words.spelling import option

PARALLEL = ("OMPI_", "PMI_", "PMIX_", "PRTE_", "HYDRA_", "MPI_", "SLURM_")      # what launchers tell their ranks
_well = {}              # {path: what the file was} of those that were looked at
_kept = []              # the process that looks, where there is one
_lock = threading.Lock()    # held while it looks


def look_first(path, folders=(), *, trusted=False, without=False):
    """Raise SourceError where reading what a prepared file and its parts say of themselves does not come to an end, or
    ends the process. A file is looked at once; one that is trusted is not.

    folders : in which parts are looked at, too
    without : whether to go on without such a part: whoever opens it then gets the SourceError

    The first time this starts a process, which no rank of MPI but one should do at a time.
    """
    path = Path(path)
    if trusted or not path.is_file() or _well.get(path) == state_of(path):
        return
    state, parts = state_of(path), []
    while (found := _end_of([path], folders, parts)) is not None:
        part, why = found
        if not without or Path(part) == path or part in parts:
            raise SourceError(f"{part}: {why}. It is damaged; if you know better, set {option('trusted', True)}" + (
                              "" if Path(part) == path else f". A repair with {option('drop', True)} does without it"))
        parts.append(part)
        refuse(part, f"it is damaged: {why}")
    if not parts:
        _well[path] = state


def damaged(paths):
    """{path: why} of the files among these whose text cannot be read; see `look_first`."""
    found, rest = {}, list(paths)
    while rest and (end := _end_of(rest)) is not None:
        path = Path(end[0])
        found[path] = end[1]
        rest = rest[rest.index(path) + 1:]
    return found


def _end_of(paths, folders=(), parts=()):
    """(file, why) where a look ended otherwise than it should; None where all is well.

    parts : that it must not open
    """
    names = {_absolute(path): os.fspath(path) for path in paths}
    try:
        code, last, failure = _ask([list(names), *(list(map(_absolute, some)) for some in (folders, parts))])
    except OSError as err:
        raise SourceError(f"{paths[-1]}: the process that looks at it first cannot be started ({err}); "
                          f"{option('trusted', True)} goes on without it") from err
    if code == 0:
        return None
    if not last or code > 0 and code != head.TOO_LARGE:
        raise SourceError(f"{paths[-1]}: the process that looks at it first failed ({failure or 'it says nothing'}); "
                          f"{option('trusted', True)} goes on without it")
    return names.get(last, last), _why(code)


def _absolute(path):
    """A path for a process that may have another working directory; `abspath` would mistake links before `..`."""
    path = os.fsdecode(path)
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)


def _ask(request):
    """What head.py answers. The process is kept for the next look, and replaced where somebody has ended it."""
    with _lock:
        return _ask_alone(request)


def _ask_alone(request):
    command = [sys.executable, "-P", head.__file__]
    try:
        if _kept and (_kept[0].args != command or not (answer := _answer_of(_kept[0], request))):
            _end()
        if not _kept:
            _kept.append(_start(command))
            answer = _answer_of(_kept[0], request)
        if answer:
            return json.loads(answer)
        said = _kept[0].stderr.read().decode(errors="replace").strip().splitlines()
        _end()
        return [1, "", said[-1] if said else ""]
    except BaseException:       # also where a user interrupts: the answer would be taken for that to the next look
        _end()
        raise


def _start(command):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PARALLEL)}
    # an h5py built for MPI would start it, and NumPy threads that nobody needs
    environment |= {"MPI4PY_RC_INITIALIZE": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    # a group of its own: an interrupt from the keyboard is ours alone
    return subprocess.Popen(command, env=environment, bufsize=0, process_group=0, **dict.fromkeys(
        ("stdin", "stdout", "stderr"), subprocess.PIPE))


def _answer_of(process, request):
    """A line; empty where the process has ended."""
    try:
        process.stdin.write(json.dumps(request).encode() + b"\n")
    except BrokenPipeError:
        return b""
    line = process.stdout.readline()
    return line if line.endswith(b"\n") else b""


@atexit.register
def _end():
    """End the process that is kept, and the look that it waits for."""
    while _kept:
        process = _kept.pop()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _close(process)


def _leave_to_parent():
    """After a fork: the process that is kept is our parent's."""
    global _lock
    _lock = threading.Lock()
    while _kept:
        process = _kept.pop()
        process.returncode = 0          # is waited for there
        _close(process)


def _close(process):
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()


os.register_at_fork(after_in_child=_leave_to_parent)


def _why(code):
    if code == head.TOO_LARGE:
        return f"a text in it needs more than {head.MEMORY >> 30} GiB of memory"
    number = -code
    if number in (signal.SIGPROF, signal.SIGXCPU):
        return f"HDF5 does not come to an end reading what it says of itself ({head.SECONDS} s for one object)"
    if number == signal.SIGALRM:
        return f"the disk does not answer within {head.PATIENCE} s"
    return f"HDF5 crashes reading what it says of itself ({signal.Signals(number).name})"
