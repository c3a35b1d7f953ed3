"""Read a .ptyd with PtyPy's own PtydScan: read.py FILE.ptyd OUT.npz [--frames N] [--patience SECONDS].

For any interpreter that has PtyPy 0.9; needs nothing of ptyprep. Asks for N frames at a time, as an engine
does, until the end of the scan, and stores what came: index, data, position and mask of each frame, the meta, and in
waits how often it was told to wait. A file that is not there yet is waited for. How often it has asked is in the
file `polls` beside it, so that the scan can go on as it is read.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import ptypy.utils
from ptypy.core.data import EOS, WAIT, PtydScan

META = ("energy", "distance", "psize", "center", "shape", "num_frames")


def packages(scan, frames, patience, waits, polls):
    """The scan's packages, one by one; gives up after `patience` seconds without a new one."""
    last = time.monotonic()
    while (package := scan.auto(frames)) is not EOS:
        waits.append(package is WAIT)
        polls.write_text(str(len(waits)))
        if package is not WAIT:
            last = time.monotonic()
            yield package
        elif time.monotonic() - last > patience:
            sys.exit(f"PtyPy still waits for frames after {patience} s")
        else:
            time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("out")
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--patience", type=float, default=30)
    args = parser.parse_args()
    deadline = time.monotonic() + args.patience
    while not Path(args.file).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    scan = PtydScan(ptypy.utils.Param(dfile=args.file))
    scan.initialize()
    frames, waits = [], []
    for package in packages(scan, args.frames, args.patience, waits, Path(args.file).with_name("polls")):
        frames += package["iterable"]
    np.savez(args.out, waits=waits.count(True), **{key: package["common"][key] for key in META},
             **{key: np.array([frame[key] for frame in frames]) for key in ("index", "data", "position", "mask")})


if __name__ == "__main__":
    main()
