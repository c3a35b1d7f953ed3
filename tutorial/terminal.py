"""What the tutorials need to show a terminal: a folder to work in, and commands with their answers."""
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path


def work_folder():
    """Go to the folder named on the command line, which is made where it does not exist, else to a new temporary one.

    Returns its path.
    """
    named = sys.argv[1:2] if "ipykernel" not in sys.modules else []
    folder = Path(*named) if named else Path(tempfile.mkdtemp(prefix="ptyprep_"))
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    return Path.cwd()


def shell(command, code=0):
    """Run a command as in a terminal and print what it says.

    code : the exit code that is expected
    """
    print(f"$ {command}")
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(shlex.split(command), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**os.environ, "PATH": scripts}, check=False)
    print(done.stdout)
    assert done.returncode == code, f"exit code {done.returncode}, expected {code}"
