"""Damaged files through all five commands: mutations.py [--files N] [--seed N] [--jobs N] [--keep FOLDER].

Whole scans, prepared in the four modes and raw in three layouts, of which one file is damaged: bytes changed, blocks
set to 0, cut, or overwritten by a piece of another place. `show`, `verify`, `merge`, `repair` and `prepare` read each,
in a process of its own with limits on time and memory. Prints a table, and each case that went wrong; leaves with 1
where there is one. A case is made again by its seed and number alone: --only NUMBER.

Run by hand; `make test` runs ten files (tests/test_hostile.py).
"""
import argparse
import collections
import contextlib
import io
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import h5py
import numpy as np

from ptyprep import PtyScan
from ptyprep.cli import commands
from ptyprep.sinks import SINKS
from ptyprep.testing import read_ptyd, write_cxi, write_dectris, write_positions

COMMANDS = ("show", "verify", "merge", "repair", "prepare")
N, H, W = 12, 16, 18
FRAMES = np.random.default_rng(7).poisson(20, (N, H, W)).astype("u2")
PLACES = np.random.default_rng(8).normal(size=(N, 2)) * 1e-6
WORK, WAIT, MEMORY = 30, 240, 6 << 30       # seconds of the processor and in all, bytes
GEOMETRY = {"energy": 7.0, "distance": 2.0, "psize": 75e-6, "center": (8, 9)}


class Scan(PtyScan):
    """Twelve frames, with a mask that differs from frame to frame."""

    def load_geometry(self):
        return GEOMETRY

    def load_positions(self):
        return PLACES

    def load(self, indices):
        weights = np.ones((len(indices), H, W), bool)
        weights[:, 3, list(np.asarray(indices) % W)] = False
        return FRAMES[list(indices)], None, weights


def make_originals(folder):
    """{name: (folder, main file, words of `prepare`)} of whole scans."""
    made = {}
    for mode in SINKS:
        path = folder / mode / "s.ptyd"
        path.parent.mkdir(parents=True)
        child = os.fork()           # a scan has threads, and leaves them to whoever is forked after it
        if not child:
            Scan(dfile=path, save=mode, frames_per_chunk=4, label="a scan").initialize().prepare()
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"{path} cannot be prepared")
        made[mode] = path.parent, path.name, ["ptyd"]
    words = ["--positions.file", "pos.txt", "--energy", "7", "--distance", "2", "--psize", "75um", "--center", "8,9"]
    for name in ("dectris", "cxi", "hdf5"):
        at = folder / name
        at.mkdir()
        write_positions(at / "pos.txt", PLACES)
        if name == "dectris":
            write_dectris(at / "s_master.h5", FRAMES.astype("u4"), frames_per_file=5, energy=7.0, distance=2.0,
                          psize=(75e-6, 75e-6))
            made[name] = at, "s_master.h5", ["eiger", *words]
        elif name == "cxi":
            write_cxi(at / "s.cxi", FRAMES, np.pad(PLACES, ((0, 0), (0, 1))), energy=7.0, distance=2.0,
                      psize=(75e-6, 75e-6))
            made[name] = at, "s.cxi", ["cxi", "--energy", "7", "--center", "8,9"]
        else:
            with h5py.File(at / "s.h5", "w") as file:
                file.create_dataset("entry/data", data=FRAMES, chunks=(1, H, W), compression="gzip")
                file["entry/data"].attrs["note"] = "photons"
                file["entry/title"] = "a scan"
            made[name] = at, "s.h5", ["hdf5", *words]
    return made


def mutate(rng, path):
    """Damage one file; in words, how."""
    data = bytearray(path.read_bytes())
    size, how = len(data), rng.choice(["bytes", "bytes", "bits at the head", "zeros", "cut", "splice"])
    if how == "bytes":
        for at in rng.integers(0, size, rng.integers(1, 30)):
            data[at] = rng.integers(256)
    elif how == "bits at the head":
        for at in rng.integers(0, min(size, 4096), rng.integers(1, 6)):
            data[at] ^= 1 << rng.integers(8)
    elif how == "zeros":
        at, n = rng.integers(size), 1 << rng.integers(3, 12)
        data[at:at + n] = bytes(len(data[at:at + n]))
    elif how == "cut":
        del data[rng.integers(size):]
    else:
        n = int(rng.integers(8, 2048))
        start, at = rng.integers(0, max(size - n, 1), 2)
        data[at:at + n] = data[start:start + n]
    path.write_bytes(data)
    return str(how)


def case(originals, seed, number, folder):
    """(name of the original, main file in a new folder, words of `prepare`, what was done)."""
    rng = np.random.default_rng([seed, number])
    name = sorted(originals)[number % len(originals)]
    origin, main, words = originals[name]
    at = folder / str(number)
    shutil.copytree(origin, at)
    files = [path for path in sorted(at.rglob("*")) if path.suffix in (".ptyd", ".h5", ".cxi")]
    target = files[rng.integers(len(files))] if rng.random() < 0.6 else at / main
    return name, at / main, words, f"{target.name}: {mutate(rng, target)}"


def command(kind, main, words):
    out = main.with_name(f"{kind}.ptyd")
    if kind == "prepare":
        return ["prepare", words[0], str(main), *words[1:], "-o", str(out), "--threads", "1"]
    if kind in ("merge", "repair"):
        return [kind, str(main), str(out), *["--drop"] * (kind == "repair")]
    return [kind, str(main)]


def run(words, folder):
    """(exit code, -signal, or None for a hang; what was said) of the program, in a process of its own."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            _child(words, folder, said.fileno())
        timer = threading.Timer(WAIT, os.kill, (child, signal.SIGKILL))
        timer.start()
        _, status = os.waitpid(child, 0)
        hung = not timer.is_alive()
        timer.cancel()
        timer.join()        # the next fork finds one thread
        said.seek(0)
        text = said.read().decode(errors="replace")
    code = os.waitstatus_to_exitcode(status)
    return (None if hung or code in (-signal.SIGXCPU, -signal.SIGKILL) else code), text


def _child(words, folder, said):
    try:
        os.chdir(folder)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(n, "w", closefd=False), write_through=True)
                                  for n in (1, 2))
        resource.setrlimit(resource.RLIMIT_CPU, (WORK, WORK))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.argv = ["ptyprep", *words]
        commands.main(words, prog_name="ptyprep")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException as err:    # noqa: BLE001  whatever it is, the parent hears of it
        print(f"escaped: {err!r}", file=sys.stderr)
        code = 99
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
            sys.stdout.flush()
    os._exit(code)


def judge(kind, name, main, code, text):
    """What went wrong, in a word; "" where nothing did."""
    if code is None:
        return "hang"
    if code < 0:
        return "signal"
    if code not in (0, 1, 2) or code and "ptyprep:" not in text and "Error" not in text or "--debug shows" in text:
        return "foreign"
    if code == 0 and kind in ("merge", "prepare") and name in SINKS and not _as_before(main.with_name(f"{kind}.ptyd")):
        return "wrong"
    return ""


def _as_before(path):
    found = read_ptyd(path)
    return np.array_equal(found["data"], FRAMES) and np.array_equal(found["positions"], PLACES)


def soak(count, seed, folder, only=None, verbose=True):
    """Try so many files; ({(command, outcome): how often}, sentences about what went wrong)."""
    originals, counts, wrong = make_originals(folder / "originals"), collections.Counter(), []
    for number in [only] if only is not None else range(count):
        name, main, words, how = case(originals, seed, number, folder)
        for kind in COMMANDS:
            code, text = run(command(kind, main, words), main.parent)
            outcome = judge(kind, name, main, code, text)
            counts[kind, outcome or ("ok" if code == 0 else "refused")] += 1
            if outcome or only is not None:
                wrong.append(f"{number} ({name}, {how}) {kind}: {outcome} {code}\n    {text.strip()[-600:]}")
                if verbose:
                    print(wrong[-1], flush=True)
        if only is None:
            shutil.rmtree(main.parent)
    return counts, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts, wrong = soak(args.files, args.seed, args.keep or Path(folder), args.only)
    outcomes = ("ok", "refused", "hang", "signal", "foreign", "wrong")
    print(f"{'':8} " + " ".join(f"{name:>8}" for name in outcomes))
    for kind in COMMANDS:
        print(f"{kind:8} " + " ".join(f"{counts[kind, name]:8}" for name in outcomes))
    print(f"seed {args.seed}, {args.files} files, {time.monotonic() - began:.0f} s, {len(wrong)} wrong")
    sys.exit(bool(wrong) and args.only is None)


if __name__ == "__main__":
    main()
