"""`make bench`: frames per second of ours and of plain h5py by hand, interleaved, medians of several repeats.

    python tests/benchmark/bench.py [--frames 400] [--repeats 3] [--keep FOLDER] [--markdown FILE]

Scans like those of a 1M and a 4M detector are simulated once. The task: crop 512 x 512 off-centre, mask, write.
Every run is a process of its own that says how long the work took; absolute figures differ from machine to
machine, ratios within one run are what counts.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ptyprep.testing import launch, write_dectris, write_positions

SCANS = {"E1M": (1062, 1028), "E4M": (2162, 2068)}
SIZE = 512

OURS = """
import sys, time, json
from ptyprep import recipe
pars = json.loads(sys.argv[1])
scan = recipe("eiger")(pars)
start = time.perf_counter()
n = sum(len(b.chunk_index) for b in scan.initialize().batches(100))
if scan.comm.is_root:
    print(json.dumps({"frames": n, "seconds": time.perf_counter() - start}))
"""

BY_HAND = """
import sys, time, json, h5py, hdf5plugin, numpy as np
pars = json.loads(sys.argv[1])
start, n = time.perf_counter(), 0
filters = {"bslz4": hdf5plugin.Bitshuffle(cname="lz4"), "portable": dict(compression="gzip", compression_opts=1,
           shuffle=True), "load": None}[pars["write"]]
(y, x), size = pars["corner"], pars["size"]
with h5py.File(pars["file"]) as file:
    good = file["entry/instrument/detector/detectorSpecific/pixel_mask"][y:y + size, x:x + size] == 0
    out = filters and h5py.File(pars["out"], "w")
    stacks = [file["entry/data"][k] for k in sorted(file["entry/data"]) if k.startswith("data_")]
    if out:
        shape = (sum(map(len, stacks)), size, size)
        target = out.create_dataset("data", shape, "u4", chunks=(1, size, size), **filters)
    for stack in stacks:
        for i in range(len(stack)):
            frame = stack[i, y:y + size, x:x + size]
            frame[~good] = 0
            if out:
                target[n] = frame
            n += 1
    if out:
        out.close()
print(json.dumps({"frames": n, "seconds": time.perf_counter() - start}))
"""


def make_scan(folder, name, frames):
    """A far-field-like scan: counts fall off from an off-centre beam, gaps hold the largest value."""
    master = folder / f"{name}_master.h5"
    if master.exists():
        return master
    h, w = SCANS[name]
    center = (h * 0.45, w * 0.55)
    y, x = np.ogrid[:h, :w]
    mean = 2000 / (1 + ((y - center[0]) ** 2 + (x - center[1]) ** 2) / 400) + 0.02
    gaps = (y % 514 >= 510) | (x % 1030 >= 1024)
    rng = np.random.default_rng(1)
    base = rng.poisson(mean, (8, h, w)).astype(np.uint32)
    stack = np.empty((frames, h, w), np.uint32)
    for i in range(frames):
        stack[i] = np.roll(base[i % 8], rng.integers(-3, 4, 2), axis=(0, 1))
        stack[i][gaps] = 2**32 - 1
    write_dectris(master, stack, frames_per_file=100, energy=7.2, distance=2.1, psize=(75e-6, 75e-6), center=center,
                  pixel_mask=gaps)
    write_positions(folder / f"{name}.txt", rng.normal(size=(frames, 2)) * 1e-6)
    return master


def run(script, pars, ranks=1, cpus=None):
    """Frames per second of one run."""
    command = [sys.executable, "-c", script, json.dumps(pars)]
    if ranks > 1:
        command = launch(ranks, *command)
    limit = (lambda: os.sched_setaffinity(0, cpus)) if cpus else None
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, preexec_fn=limit)
    if done.returncode:
        raise SystemExit(f"{command[2][:60]}…: {done.stderr}")
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return told["frames"] / told["seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder for the simulated scans, kept for the next time")
    parser.add_argument("--markdown", type=Path, help="also write the table there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["| scan | what | frames/s, median | x by hand |", "|---|---|---|---|"]
        for name, (h, w) in SCANS.items():
            master = make_scan(folder, name, args.frames if name == "E1M" else args.frames // 2)
            lines += measure(folder, name, master, (int(h * 0.45) - SIZE // 2, int(w * 0.55) - SIZE // 2), args.repeats)
        table = "\n".join(lines)
        print(table)
        if args.markdown:
            args.markdown.write_text(f"# Speed\n\n{os.cpu_count()} cores, {args.repeats} repeats.\n\n{table}\n")


def measure(folder, name, master, corner, repeats):
    ours = {"file": str(master), "positions.file": str(folder / f"{name}.txt"), "shape": SIZE}
    saved = {**ours, "dfile": str(folder / "out.ptyd"), "overwrite": True}
    hand = {"file": str(master), "corner": corner, "size": SIZE, "out": str(folder / "hand.h5")}
    jobs = {"load, by hand": (BY_HAND, {**hand, "write": "load"}, 1),
            "load, ours": (OURS, ours, 1), "load, ours, 2 ranks": (OURS, {**ours, "threads": 1}, 2),
            "portable, by hand": (BY_HAND, {**hand, "write": "portable"}, 1),
            "portable, ours": (OURS, saved, 1), "portable, ours, 2 ranks": (OURS, {**saved, "threads": 1}, 2),
            "bslz4, by hand": (BY_HAND, {**hand, "write": "bslz4"}, 1),
            "bslz4, ours": (OURS, {**saved, "compression": "bslz4"}, 1)}
    rates = {job: [] for job in jobs}
    for _ in range(repeats):
        for job, (script, pars, ranks) in jobs.items():
            rates[job].append(run(script, pars, ranks))
    medians = {job: statistics.median(r) for job, r in rates.items()}
    return [f"| {name} | {job} | {rate:.0f} | {rate / medians[job.split(',')[0] + ', by hand']:.1f} |"
            for job, rate in medians.items()]


if __name__ == "__main__":
    main()
