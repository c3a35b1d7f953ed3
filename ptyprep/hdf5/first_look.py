"""A first look at prepared files in another process, so that one that makes HDF5 loop or crash is named instead."""
import os
import signal
import subprocess
import sys
from pathlib import Path

from ptyprep.errors import SourceError
from ptyprep.hdf5 import head
from ptyprep.hdf5.guarded import refuse, state_of
from ptyprep.words.spelling import option

PARALLEL = ("OMPI_", "PMI_", "PMIX_", "PRTE_", "HYDRA_", "MPI_", "SLURM_")      # what launchers tell their ranks
_well = {}              # {path: what the file was} of those that were looked at


def look_first(path, folders=(), *, trusted=False, without=False):
    """Raise SourceError where reading what a prepared file and its parts say of themselves does not come to an end, or
    ends the process. A file is looked at once; one that is trusted is not.

    folders : in which parts are looked at, too
    without : whether to go on without such a part: whoever opens it then gets the SourceError

    Starts a process, which no rank of MPI but one should do at a time.
    """
    path = Path(path)
    if trusted or not path.is_file() or _well.get(path) == state_of(path):
        return
    state, parts = state_of(path), []
    while (found := _end_of(_command([path], folders, parts))) is not None:
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
    while rest and (end := _end_of(_command(rest))) is not None:
        path = Path(end[0])
        found[path] = end[1]
        rest = rest[rest.index(path) + 1:]
    return found


def _command(paths, folders=(), parts=()):
    """The look at these files, and at what they lead to in some folders but for these parts."""
    return [sys.executable, "-P", head.__file__, *(word for folder in folders for word in ("--in", os.fspath(folder))),
            *(word for part in parts for word in ("--not", part)),
            *(os.path.abspath(path) if os.fspath(path).startswith("-") else os.fspath(path) for path in paths)]


def _end_of(command):
    """(file, why) where a look ended otherwise than it should; None where all is well."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PARALLEL)}
    # an h5py built for MPI would start it, and NumPy threads that nobody needs
    environment |= {"MPI4PY_RC_INITIALIZE": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as err:
        raise SourceError(f"{command[-1]}: the process that looks at it first cannot be started ({err}); "
                          f"{option('trusted', True)} goes on without it") from err
    if done.returncode == 0:
        return None
    begun = done.stdout.split(b"\0")[:-1]
    if not begun or done.returncode > 0 and done.returncode != head.TOO_LARGE:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
        raise SourceError(f"{command[-1]}: the process that looks at it first failed ({last}); "
                          f"{option('trusted', True)} goes on without it")
    return os.fsdecode(begun[-1]), _why(done.returncode)


def _why(code):
    if code == head.TOO_LARGE:
        return f"a text in it needs more than {head.MEMORY >> 30} GiB of memory"
    number = -code
    if number in (signal.SIGPROF, signal.SIGXCPU):
        return f"HDF5 does not come to an end reading what it says of itself ({head.SECONDS} s for one object)"
    if number == signal.SIGALRM:
        return f"the disk does not answer within {head.PATIENCE} s"
    return f"HDF5 crashes reading what it says of itself ({signal.Signals(number).name})"
