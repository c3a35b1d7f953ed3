"""`make bench`: frames per second of ours, of plain h5py by hand, of PtyPy where it is, and the limit.

    python tests/benchmark/bench.py [--frames 400] [--repeats 3] [--keep FOLDER] [--markdown FILE] [--only E1M]

Scans like those of a 1M and a 4M detector are simulated once. The task: crop 512 x 512 off-centre, mask, write in
chunks of 100 frames, final rename and flush included. Runs are interleaved; each is a process of its own that says how
long the work took after its imports. Absolute figures differ from machine to machine; ratios within one run count.

PtyPy is measured where PTYPREP_PTYPY_PYTHON names an interpreter that has it.

The limit: processors / (CPU time per frame of reading a chunk, decoding the region and, to convert, compressing
it, each measured alone on one core).
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

from ptyprep.testing import launch, write_dectris, write_positions

HERE = Path(__file__).parent
SCANS = {"E1M": (1062, 1028), "E4M": (2162, 2068)}
SIZE, CHUNK = 512, 100
CORES = len(os.sched_getaffinity(0))

OURS = f"""
import json, sys, time
from ptyprep import recipe
pars = json.loads(sys.argv[1])
scan = recipe("eiger")(pars)
start = time.perf_counter()
n = sum(len(b.chunk_index) for b in scan.initialize().batches({CHUNK}))
if scan.comm.is_root:
    seconds = time.perf_counter() - start
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))     # ru_maxrss is inherited
    print(json.dumps({{"frames": n, "seconds": seconds,
                       "megabytes": int(peak.split()[1]) / 1024}}))
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

PTYPY = f"""
import sys, time, json, os, hdf5plugin
import ptypy.utils as u
from ptypy.core.data import EOS, WAIT
from ptypy.experiment.hdf5_loader import Hdf5Loader
pars = json.loads(sys.argv[1])
p = u.Param()
p.update({{"intensities": {{"file": pars["file"], "key": "entry/data/data"}},
          "positions": {{"file": pars["positions"], "slow_key": "y", "fast_key": "x"}},
          "mask": {{"file": pars["positions"], "key": "good"}}, "energy": 7.2, "distance": 2.1, "psize": 75e-6,
          "shape": pars["size"], "center": tuple(pars["center"]), "auto_center": False, "dfile": pars["out"],
          "save": pars["save"], "load_parallel": "data", "num_frames": None}}, Convert=True)
if pars["save"] and os.path.exists(pars["out"]):
    os.remove(pars["out"])
scan = Hdf5Loader(p)
start, n = time.perf_counter(), 0
scan.initialize()
while (package := scan.auto({CHUNK})) is not EOS:
    if package is not WAIT:
        n += len(package["iterable"])
if u.parallel.master:
    print(json.dumps({{"frames": n, "seconds": time.perf_counter() - start}}))
"""

LIMIT = """
import json, sys, time
import h5py, hdf5plugin, numpy as np
from ptyprep import codec
from ptyprep.sources.hdf5 import _handle_of, _stored
pars = json.loads(sys.argv[1])
(y, x), size, n = pars["corner"], pars["size"], 50
times = {"read": [], "decode": [], "portable": [], "bslz4": []}
def timed(name, fn, *args):
    start = time.thread_time()
    result = fn(*args)
    times[name].append(time.thread_time() - start)
    return result
encoders = {how: codec.Encoder(how) for how in ("portable", "bslz4")}
with h5py.File(pars["file"]) as file:
    data = file["entry/data/data_000001"]
    h, w = data.shape[1:]
    handle, out = _handle_of(data), np.zeros((n, size, size), "u4")
    for i in range(n):
        _, chunk = timed("read", _stored, data, (i, 0, 0), handle)
        rows = timed("decode", codec.decode_rows, chunk, codec.BITSHUFFLE, h, 4 * w, y, y + size, 4)
        out[i] = rows.view("u4").reshape(size, w)[:, x:x + size]
        for how, encoder in encoders.items():
            timed(how, encoder.encode, out[i:i + 1])
print(json.dumps({name: 1e3 * sorted(t)[len(t) // 2] for name, t in times.items()}))
"""


def make_scan(folder, name, frames):
    """A far-field-like scan: counts fall off from an off-centre beam, gaps hold the largest value."""
    master = folder / f"{name}_{frames}_master.h5"
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
                  pixel_mask=gaps, virtual=True)
    positions = rng.normal(size=(frames, 2)) * 1e-6
    write_positions(master.with_suffix(".txt"), positions)
    with h5py.File(master.with_suffix(".positions.h5"), "w") as file:       # for PtyPy
        file["y"], file["x"], file["good"] = positions[:, 0], positions[:, 1], (~gaps).astype("u1")
    return master


def run(script, pars, ranks=1, python=sys.executable):
    """What one run says of itself."""
    command = [python, "-W", "ignore", "-c", script, json.dumps(pars)]
    if ranks > 1:
        command = launch(ranks, *command)
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        raise SystemExit(f"{script[:200]}…: {done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def jobs_of(folder, name, master, ptypy):
    """{what: (script, parameters, ranks, interpreter)}."""
    h, w = SCANS[name]
    corner = int(h * 0.45) - SIZE // 2, int(w * 0.55) - SIZE // 2
    ours = {"file": str(master), "positions.file": str(master.with_suffix(".txt")), "shape": SIZE}
    saved = {**ours, "dfile": str(folder / "out.ptyd"), "overwrite": True}
    hand = {"file": str(master), "corner": corner, "size": SIZE, "out": str(folder / "hand.h5")}
    theirs = {"file": str(master), "positions": str(master.with_suffix(".positions.h5")), "size": SIZE,
              "center": (h * 0.45, w * 0.55), "out": str(folder / "ptypy.ptyd")}
    jobs = {"load, by hand": (BY_HAND, {**hand, "write": "load"}),
            "load, ours": (OURS, ours), "load, ours, 2 ranks": (OURS, {**ours, "threads": 1}, 2),
            "load, ours, rebin 2": (OURS, {**ours, "rebin": 2}),
            "load, ours, turned": (OURS, {**ours, "orientation": 5}),
            "portable, by hand": (BY_HAND, {**hand, "write": "portable"}),
            "portable, ours": (OURS, saved), "portable, ours, 2 ranks": (OURS, {**saved, "threads": 1}, 2),
            "bslz4, by hand": (BY_HAND, {**hand, "write": "bslz4"}),
            "bslz4, ours": (OURS, {**saved, "compression": "bslz4"}),
            "bslz4, ours, 2 ranks": (OURS, {**saved, "compression": "bslz4", "threads": 1}, 2)}
    if ptypy:
        jobs["load, PtyPy"] = (PTYPY, {**theirs, "save": None}, 1, ptypy)
        jobs["portable, PtyPy"] = (PTYPY, {**theirs, "save": "append"}, 1, ptypy)
    return jobs, run(LIMIT, hand)


def measure(folder, name, master, repeats, ptypy):
    """The rows of the table for one scan."""
    jobs, cost = jobs_of(folder, name, master, ptypy)
    told = {job: [] for job in jobs}
    for _ in range(repeats):
        for job, what in jobs.items():
            told[job].append(run(*what))
    rate = {job: statistics.median(t["frames"] / t["seconds"] for t in all_) for job, all_ in told.items()}
    decoding = cost["read"] + cost["decode"]
    limit = {"load": decoding, "portable": decoding + cost["portable"], "bslz4": decoding + cost["bslz4"]}
    limit = {kind: 1e3 * CORES / milliseconds for kind, milliseconds in limit.items()}
    yield (f"| {name} | one core, ms a frame | read {cost['read']:.2f}, decode {cost['decode']:.2f}, portable "
           f"{cost['portable']:.2f}, bslz4 {cost['bslz4']:.2f} | | | | |")
    for job, value in rate.items():
        kind = job.split(",")[0]
        theirs = rate.get("load, PtyPy" if kind == "load" else "portable, PtyPy")
        memory = max((t.get("megabytes", 0) for t in told[job]), default=0)
        yield (f"| {name} | {job} | {value:.0f} | {value / rate[f'{kind}, by hand']:.1f} | "
               f"{f'{value / theirs:.0f}' if theirs else ''} | {value / limit[kind]:.2f} | "
               f"{f'{memory:.0f}' if memory else ''} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=400, help="of E1M; half of them of E4M")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder for the simulated scans, kept for the next time")
    parser.add_argument("--markdown", type=Path, help="also write the table there")
    parser.add_argument("--only", choices=SCANS, help="only this scan")
    args = parser.parse_args()
    ptypy = os.environ.get("PTYPREP_PTYPY_PYTHON")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["| scan | what | frames/s, median | x by hand | x PtyPy | of the limit | peak MB |",
                 "|---|---|---|---|---|---|---|"]
        for name in [args.only] if args.only else SCANS:
            master = make_scan(folder, name, args.frames if name == "E1M" else args.frames // 2)
            lines += measure(folder, name, master, args.repeats, ptypy)
        table = "\n".join(lines)
        print(table)
        if args.markdown:
            args.markdown.write_text(f"# Speed\n\n`make bench` on {CORES} cores, {args.repeats} repeats, {args.frames} "
                                     f"frames of E1M.\n\n{table}\n")


if __name__ == "__main__":
    main()
