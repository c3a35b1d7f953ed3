"""Writes runs to keep, of the commit that is checked out: python tests/kept/write.py

They lie in tests/kept/<commit>.tar.xz, which is 1 % of them: finished/<way to save>-<ranks> and interrupted/…, which
were killed in their third chunk. tests/sinks/test_kept.py reads and resumes all that lie there with the code of then.
Those of earlier commits stay as they are; write more when what is in files changes.
"""
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from kept_scan import FRAMES, SIZE

from ptyprep.testing import launch

HERE, SCAN = Path(__file__).parent, "kept_scan.py"
CASES = [*((mode, 1) for mode in ("append", "link", "merge", "virtual")),
         *((mode, 3) for mode in ("link", "merge", "virtual"))]
# as `ptyprep prepare`, but it says of no machine that it was there
PREPARE = ("import platform, runpy; platform.node = lambda: 'kept'; "
           "runpy.run_module('ptyprep', run_name='__main__', alter_sys=True)")
VERSIONS = ("import h5py, json, numpy, ptyprep; print(json.dumps({'ptyprep': ptyprep.__version__, 'numpy': "
            "numpy.__version__, 'h5py': h5py.__version__, 'hdf5': h5py.version.hdf5_version}))")


def git(*words):
    return subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()


def write(folder, mode, ranks, ends_at=FRAMES):
    folder.mkdir(parents=True)
    (folder / SCAN).write_bytes((HERE / SCAN).read_bytes())         # no path of this machine in what is kept
    command = ["-c", PREPARE, "prepare", SCAN, "-o", "s.ptyd", "--save", mode, "--frames_per_chunk", str(SIZE)]
    done = subprocess.run(launch(ranks, *command) if ranks > 1 else [sys.executable, *command], cwd=folder,
                          capture_output=True, text=True, check=False, timeout=120,
                          env={**os.environ, "PTYPREP_KEPT_ENDS_AT": str(ends_at), "PYTHONDONTWRITEBYTECODE": "1"})
    (folder / SCAN).unlink()
    if (done.returncode == 0) != (ends_at == FRAMES):
        raise SystemExit(f"{folder} ended with {done.returncode}: {done.stderr}")
    parts = len(list(folder.glob("s.*/??????.h5")))
    if ends_at < FRAMES and parts != ends_at // SIZE:
        raise SystemExit(f"{folder} has {parts} finished parts, expected {ends_at // SIZE}")


def main():
    if git("status", "--porcelain", "--", ":/ptyprep", ":/recipes"):
        raise SystemExit("ptyprep or recipes are not as they are committed: nobody could say what wrote the runs")
    commit = git("rev-parse", "HEAD")
    versions = subprocess.run([sys.executable, "-c", VERSIONS], capture_output=True, text=True, check=True).stdout
    target = HERE / f"{commit[:9]}.tar.xz"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "written_by.json").write_text(json.dumps({"commit": commit, **json.loads(versions)}, indent=1) + "\n")
        for mode, ranks in CASES:
            write(folder / "finished" / f"{mode}-{ranks}", mode, ranks)
            write(folder / "interrupted" / f"{mode}-{ranks}", mode, ranks, ends_at=2 * SIZE + 3)
        with tarfile.open(target, "w:xz") as kept:
            for path in sorted(folder.iterdir()):
                kept.add(path, path.name, filter=of_nobody)
    print(f"{target}: {target.stat().st_size} bytes")


def of_nobody(file):
    file.uid = file.gid = 0
    file.uname = file.gname = ""
    return file


if __name__ == "__main__":
    main()
