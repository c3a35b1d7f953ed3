"""`make bench`: frames per second of ours, of plain h5py by hand, of PtyPy where it is, and the limit.

    python tests/benchmark/bench.py [--repeats 3] [--scale 1] [--keep FOLDER] [--only "E1M"] [--markdown FILE]
    python tests/benchmark/bench.py --against CHECKOUT [--pairs 7] [--scale 1] [--keep FOLDER] [--only "E1M"]

With --against, this checkout and another one, in which the compiled part is built as well, take turns on E1M and E4M:
see `compare`.

Scans like those of a 1M and a 4M detector are simulated once. The task: crop 512 x 512 off-centre, apply the mask; to
convert, write in chunks of 100 frames, final rename and flush included. Runs are interleaved; each is a process of its
own that says how long the work took after its imports. Absolute figures differ from machine to machine, and on a shared
one from minute to minute; ratios within one run count.

PtyPy is measured where PTYPREP_PTYPY_PYTHON names an interpreter that has it (`append`, 100 frames in a chunk).

The limit: processors / (CPU time per frame of reading a chunk, decoding the region and, to convert, compressing it,
each measured alone on one core, between the runs, in memory that was used before); or, to convert, what the disk takes
of compressed frames when it is flushed, where that is less.
"""
import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from ptyprep.testing import launch, write_dectris, write_positions

ROOT = Path(__file__).resolve().parents[2]
SIZE, CHUNK = 512, 100
SLOWER = 0.97       # of the frames/s of another checkout
CORES = len(os.sched_getaffinity(0))

OURS = f"""
import json, sys, time
from ptyprep import recipe
pars = json.loads(sys.argv[1])
scan = recipe(pars.pop("recipe"))(pars)
start = time.perf_counter()
scan.initialize()
begun = time.perf_counter() - start
if scan.p.dfile:
    scan.prepare({CHUNK})
else:
    for batch in scan.batches():
        pass
if scan.comm.is_root:
    seconds = time.perf_counter() - start
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))     # ru_maxrss is inherited
    print(json.dumps({{"frames": scan.frames_done, "seconds": seconds, "begun": begun,
                       "megabytes": int(peak.split()[1]) / 1024}}))
"""

# After OURS: whether all of it came from that checkout, the compiled part included, in whichever module that is.
CAME_FROM = """
import os
from pathlib import Path
import ptyprep, ptyprep_recipes
root = Path(os.environ["PTYPREP_BENCH_CHECKOUT"])
compiled = [module for name, module in sys.modules.items() if name.startswith("ptyprep.") and name.endswith("._core")]
assert compiled, f"the compiled part in {root} is not built: pip install -e . there"
for module in (ptyprep, ptyprep_recipes, *compiled):
    assert root in Path(module.__file__).resolve().parents, f"{module.__file__} was measured, and not {root}"
"""

BY_HAND = """
import sys, time, json, h5py, hdf5plugin, numpy as np
pars = json.loads(sys.argv[1])
start, n = time.perf_counter(), 0
filters = {"bslz4": hdf5plugin.Bitshuffle(cname="lz4"), "portable": dict(compression="gzip", compression_opts=1,
           shuffle=True), "load": None}[pars["write"]]
(y, x), (h, w) = pars["corner"], pars["size"]
with h5py.File(pars["file"]) as file:
    good = file["entry/instrument/detector/detectorSpecific/pixel_mask"][y:y + h, x:x + w] == 0
    out = filters and h5py.File(pars["out"], "w")
    stacks = [file["entry/data"][k] for k in sorted(file["entry/data"]) if k.startswith("data_")]
    if out:
        target = out.create_dataset("data", (sum(map(len, stacks)), h, w), stacks[0].dtype, chunks=(1, h, w), **filters)
    for stack in stacks:
        for i in range(len(stack)):
            frame = stack[i, y:y + h, x:x + w]
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
import json, os, sys, time
import h5py, hdf5plugin, numpy as np
from ptyprep.hdf5 import codec
from ptyprep.hdf5.chunk_index import Stored
pars = json.loads(sys.argv[1])
(y, x), (h, w), n = pars["corner"], pars["size"], 40
times, sizes = {"read": [], "decode": [], "portable": [], "bslz4": []}, {}
def timed(name, fn, *args):
    start = time.thread_time()
    result = fn(*args)
    times[name].append(time.thread_time() - start)
    return result
encoders = {how: codec.Encoder(how) for how in ("portable", "bslz4")}
with h5py.File(pars["file"]) as file:
    data = file["entry/data/data_000001"]
    high, wide = data.shape[1:]
    stored = Stored(data)
    out = np.ones((n, h, w), data.dtype)        # memory that was used before, as that of batches is
    for i in range(n):
        offset, size, _ = stored.places.of((i, 0, 0))
        chunk = timed("read", stored._bytes, offset, size)
        timed("decode", codec.decode, chunk, (codec.BITSHUFFLE,), 0, high, wide, y, x, out[i])
        for how, encoder in encoders.items():
            [packed] = timed(how, encoder.encode, out[i:i + 1])
            sizes[how] = len(packed)
with open(pars["out"], "wb") as file:
    start, written = time.perf_counter(), 0
    while written < 200e6:
        written += file.write(packed)
    os.fdatasync(file.fileno())
    rate = written / (time.perf_counter() - start)
os.unlink(pars["out"])
print(json.dumps({**{name: 1e3 * sorted(t)[len(t) // 2] for name, t in times.items()},
                  **{f"disk, {how}": 1e3 * sizes[how] / rate for how in sizes}, "disk, MB/s": rate / 1e6}))
"""

START = """
import json, subprocess, sys, time
start = time.perf_counter()
import ptyprep
imported = time.perf_counter() - start
pars = json.loads(sys.argv[1])
scan = ptyprep.recipe(pars.pop("recipe"))(pars)
start = time.perf_counter()
scan.initialize()
print(json.dumps({"import": imported, "initialize": time.perf_counter() - start, "frames": scan.total}))
"""


@dataclass(frozen=True)
class Scan:
    """A simulated scan of a far field: counts fall off from an off-centre beam, gaps hold the largest value."""
    name: str
    shape: tuple
    dtype: str
    frames: int

    @property
    def center(self):
        return self.shape[0] * 0.45, self.shape[1] * 0.55

    def make(self, folder):
        """The master file; made once."""
        master = folder / f"{self.name.replace(' ', '_')}_{self.frames}_master.h5"
        if not master.exists():
            h, w = self.shape
            y, x = np.ogrid[:h, :w]
            mean = 2000 / (1 + ((y - self.center[0]) ** 2 + (x - self.center[1]) ** 2) / 400) + 0.02
            gaps = (y % 514 >= 510) | (x % 1030 >= 1024)
            rng = np.random.default_rng(1)
            base = rng.poisson(mean, (8, h, w)).astype(self.dtype)
            stack = np.empty((self.frames, h, w), self.dtype)
            for i in range(self.frames):
                stack[i] = np.roll(base[i % 8], rng.integers(-3, 4, 2), axis=(0, 1))
                stack[i][gaps] = np.iinfo(self.dtype).max
            positions = rng.normal(size=(self.frames, 2)) * 1e-6
            write_positions(master.with_suffix(".txt"), positions)
            with h5py.File(master.with_suffix(".positions.h5"), "w") as file:       # for PtyPy
                file["y"], file["x"], file["good"] = positions[:, 0], positions[:, 1], (~gaps).astype("u1")
            write_dectris(master, stack, frames_per_file=100, energy=7.2, distance=2.1, psize=(75e-6, 75e-6),
                          center=self.center, pixel_mask=gaps, virtual=True)
        return master

    def jobs(self, folder, ptypy):
        """{what: (kind, script, parameters, ranks, interpreter)}; the kinds are load, portable, bslz4."""
        master = self.make(folder)
        corner = [int(c) - SIZE // 2 for c in self.center]
        ours = {"recipe": "eiger", "file": str(master), "positions.file": str(master.with_suffix(".txt")),
                "shape": SIZE}
        saved = {**ours, "dfile": str(folder / "out.ptyd"), "overwrite": True}
        hand = {"file": str(master), "corner": corner, "size": (SIZE, SIZE), "out": str(folder / "hand.h5")}
        theirs = {"file": str(master), "positions": str(master.with_suffix(".positions.h5")), "size": SIZE,
                  "center": self.center, "out": str(folder / "ptypy.ptyd")}
        jobs = {"load, by hand": (BY_HAND, {**hand, "write": "load"}), "load": (OURS, ours)}
        for kind in ("portable", "bslz4"):
            jobs[f"{kind}, by hand"] = BY_HAND, {**hand, "write": kind}
            jobs[kind] = OURS, {**saved, "compression": kind}
        if self.dtype == "u4":
            jobs["load, 2 ranks"] = OURS, {**ours, "threads": 1}, 2
            jobs["portable, 2 ranks"] = OURS, {**saved, "threads": 1}, 2
            jobs["bslz4, 2 ranks"] = OURS, {**saved, "compression": "bslz4", "threads": 1}, 2
            jobs["load, rebin 2"] = OURS, {**ours, "rebin": 2}
            jobs["load, turned"] = OURS, {**ours, "orientation": 5}
            jobs["load, whole frames, by hand"] = BY_HAND, {**hand, "write": "load", "corner": (0, 0),
                                                            "size": self.shape}
            jobs["load, whole frames"] = OURS, {**ours, "shape": self.shape, "center": "geometric"}
        if ptypy:
            jobs["load, PtyPy"] = PTYPY, {**theirs, "save": None}, 1, ptypy
            jobs["portable, PtyPy"] = PTYPY, {**theirs, "save": "append"}, 1, ptypy
        return jobs, (LIMIT, hand)


SCANS = [Scan("E1M", (1062, 1028), "u4", 1000), Scan("E1M uint16", (1062, 1028), "u2", 400),
         Scan("E4M", (2162, 2068), "u4", 400)]


WARM = "import mmap; memory = mmap.mmap(-1, 3 << 29); memory[::4096] = bytes(len(memory) // 4096)"


def run(script, pars, ranks=1, python=sys.executable, **environment):
    """What one run says of itself. Another process has touched 1.5 GiB just before: a virtual machine's host takes back
    memory that nobody uses, and gives it again slowly, 0.4 GB/s here, to whoever happens to come first."""
    command = [python, "-W", "ignore", "-c", script, json.dumps(pars)]
    if ranks > 1:
        command = launch(ranks, *command)
    for left in {pars.get("out"), pars.get("dfile")} - {None}:      # what an earlier run wrote is removed beforehand
        Path(left).unlink(missing_ok=True)
    subprocess.run([sys.executable, "-c", WARM], timeout=900, check=True)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # as users have it
    env |= environment
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env=env)
    if done.returncode:
        raise SystemExit(f"{script[:200]}…: {done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(scan, folder, repeats, ptypy):
    """The rows of the table for one scan."""
    jobs, limit = scan.jobs(folder, ptypy)
    told, costs = {job: [] for job in jobs}, []
    for _ in range(repeats):
        for number, (job, what) in enumerate(jobs.items()):
            if number % 4 == 0:
                costs.append(run(*limit))
            told[job].append(run(*what))
    cost = {name: statistics.median(c[name] for c in costs) for name in costs[0]}
    rate = {job: statistics.median(t["frames"] / t["seconds"] for t in all_) for job, all_ in told.items()}
    decoding = cost["read"] + cost["decode"]
    limits = {"load": CORES / decoding,
              **{how: min(CORES / (decoding + cost[how]), 1 / cost[f"disk, {how}"]) for how in ("portable", "bslz4")}}
    yield (f"| {scan.name} | one core, ms a frame: read {cost['read']:.2f}, decode {cost['decode']:.2f}, portable "
           f"{cost['portable']:.2f}, bslz4 {cost['bslz4']:.2f}; disk {cost['disk, MB/s']:.0f} MB/s | | | | | |")
    for job, value in rate.items():
        kind, whole = job.split(",")[0], "whole" in job
        hand = rate[f"{kind}, whole frames, by hand" if whole else f"{kind}, by hand"]
        theirs = None if whole else rate.get("load, PtyPy" if kind == "load" else "portable, PtyPy")
        spread = [t["frames"] / t["seconds"] for t in told[job]]
        memory = max((t.get("megabytes", 0) for t in told[job]), default=0)
        of_limit = "" if whole else f"{value / limits[kind] / 1e3:.2f}"
        yield (f"| {scan.name} | {job} | {value:.0f} ({min(spread):.0f} to {max(spread):.0f}) | {value / hand:.1f} | "
               f"{f'{value / theirs:.1f}' if theirs else ''} | {of_limit} | {f'{memory:.0f}' if memory else ''} |")


def measure_long(folder, repeats):
    """Rows that compare 1,000 frames with 10,000: the same files, joined once and ten times by a virtual dataset."""
    scan = SCANS[0]
    scan.make(folder)
    files = sorted(folder.glob(f"{scan.name}_{scan.frames}_data_*.h5"))
    jobs = {}
    for times in (1, 10):
        n = times * 100 * len(files)
        path = folder / f"long_{n}.h5"
        layout = h5py.VirtualLayout((n, *scan.shape), scan.dtype)
        for i, file in enumerate(files * times):
            source = h5py.VirtualSource(file.name, "entry/data/data", (100, *scan.shape), scan.dtype)
            layout[100 * i:100 * (i + 1)] = source
        with h5py.File(path, "w") as file:
            file.create_virtual_dataset("data", layout)
        np.save(folder / f"long_{n}.npy", np.zeros((n, 2)))
        pars = {"recipe": "hdf5", "intensities.file": str(path), "positions.file": str(folder / f"long_{n}.npy"),
                "shape": SIZE, "center": scan.center, "energy": 7.2, "distance": 2.1, "psize": 75e-6}
        jobs["load", n] = pars
        jobs["bslz4", n] = {**pars, "dfile": str(folder / "out.ptyd"), "overwrite": True, "compression": "bslz4"}
    told = {job: [] for job in jobs}
    for _ in range(repeats):
        for job, pars in jobs.items():
            told[job].append(run(OURS, pars))
    for (kind, n), all_ in told.items():
        each, begun = (statistics.median(1e3 * t[what] / t["frames"] for t in all_) for what in ("seconds", "begun"))
        yield f"| {kind} | {n} | {each:.2f} | {begun:.2f} | {max(t['megabytes'] for t in all_):.0f} |"


def measure_start(folder, repeats):
    """Rows that say how long it takes before the first frame."""
    folder = folder / "start"           # thousands of files, in nobody else's way
    folder.mkdir(exist_ok=True)
    for links in (500, 2000):
        master = folder / f"links_{links}_master.h5"
        if not master.exists():
            write_dectris(master, np.zeros((links, 16, 16), "u4"), frames_per_file=1, energy=7.2, distance=2.1,
                          psize=(75e-6, 75e-6), center=(8, 8))
            write_positions(master.with_suffix(".txt"), np.zeros((links, 2)))
    for points in (250_000, 1_000_000):
        path = folder / f"points_{points}.h5"
        if not path.exists():
            with h5py.File(path, "w") as file:
                file["data"] = np.ones((points, 2, 2), "u1")
            np.save(path.with_suffix(".npy"), np.random.default_rng(0).normal(size=(points, 2)) * 1e-6)
    jobs = {f"master file with {n} links": {"recipe": "eiger", "file": str(folder / f"links_{n}_master.h5"),
                                            "positions.file": str(folder / f"links_{n}_master.txt")}
            for n in (500, 2000)}
    jobs |= {f"{n} scan points": {"recipe": "hdf5", "intensities.file": str(folder / f"points_{n}.h5"),
                                  "positions.file": str(folder / f"points_{n}.npy"), "center": (1, 1), "energy": 7.2,
                                  "distance": 2.1, "psize": 75e-6} for n in (250_000, 1_000_000)}
    for what, pars in jobs.items():
        told = [run(START, pars) for _ in range(repeats)]
        yield (f"| {what} | {statistics.median(t['import'] for t in told):.2f} | "
               f"{statistics.median(t['initialize'] for t in told):.2f} |")


# --- two versions ---------------------------------------------------------------------------------------

def importing(checkout, links):
    """Environment in which Python imports ptyprep and its recipes from a checkout, by links in a new folder, wherever
    else they are installed from."""
    checkout = checkout.resolve()
    if not (checkout / "ptyprep" / "__init__.py").is_file():
        raise SystemExit(f"{checkout} is no checkout of ptyprep: there is no ptyprep/__init__.py in it")
    links.mkdir()
    for name, at in (("ptyprep", "ptyprep"), ("ptyprep_recipes", "recipes")):
        (links / name).symlink_to(checkout / at)
    return {"PYTHONPATH": str(links), "PYTHONSAFEPATH": "1", "PTYPREP_BENCH_CHECKOUT": str(checkout)}


def interval(values):
    """(low, high, confidence): an interval of the median of what values are drawn from, from the lowest to the highest
    value but as many at either end as leave 95 %; with fewer than six values even all of them give less.

    By order statistics: the median lies outside of the inner n - 2 k values with probability 2 P(B <= k), B binomial
    (n, 1/2); nothing is supposed of how values are distributed.

    >>> interval([3, 1, 2]), interval(range(7))
    ((1, 3, 0.75), (0, 6, 0.984375))
    >>> interval(range(20))[:2]
    (5, 14)
    """
    values, n = sorted(values), len(values)
    outside = [2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n for k in range((n + 1) // 2)]
    k = max((k for k, chance in enumerate(outside) if chance <= 0.05), default=0)
    return values[k], values[n - 1 - k], 1 - outside[k]


def compare(folder, links, args):
    """Print how two checkouts do that take turns, each run in a process of its own: new, old; old, new; and so on, lest
    one be always the first of a pair.

    links : empty folder for what makes each importable
    Returns the figures at which the new one is slower: where the interval of the median ratio lies below `SLOWER`.
    """
    checkouts = {"new": importing(ROOT, links / "new"), "old": importing(args.against, links / "old")}
    slower = []
    print("| scan | what | new, frames/s | old | median of new / old | interval of the median (confidence) |")
    print("|---|---|---|---|---|---|", flush=True)
    for scan in SCANS:
        if scan.name not in ("E1M", "E4M") or args.only not in (None, scan.name):
            continue
        scan = replace(scan, frames=int(scan.frames * args.scale))
        jobs, _ = scan.jobs(folder, None)
        for what in ("load", "portable", "bslz4"):
            script, pars = jobs[what]
            rates = []
            for pair in range(args.pairs):
                rate = {}
                for which in (("new", "old"), ("old", "new"))[pair % 2]:
                    told = run(script + CAME_FROM, pars, **checkouts[which])
                    rate[which] = told["frames"] / told["seconds"]
                rates.append((rate["new"], rate["old"]))
            ratios = [one / other for one, other in rates]
            low, high, sure = interval(ratios)
            if high < SLOWER:
                slower.append(f"{scan.name}, {what}")
            ours, theirs = map(statistics.median, zip(*rates))
            print(f"| {scan.name} | {what} | {ours:.0f} | {theirs:.0f} | {statistics.median(ratios):.3f} | "
                  f"{low:.3f} to {high:.3f} ({sure:.0%}) |", flush=True)
    return slower


def tables(folder, args, ptypy):
    """The lines of all tables, as they come."""
    if args.only in (None, *(scan.name for scan in SCANS)):
        yield "| scan | what | frames/s, median (range) | x by hand | x PtyPy | of the limit | peak MB of a rank |"
        yield "|---|---|---|---|---|---|---|"
        for scan in SCANS:
            if args.only in (None, scan.name):
                scan = replace(scan, frames=int(scan.frames * args.scale))
                yield from measure(scan, folder, args.repeats, ptypy)
    if args.only in (None, "long"):
        yield from ("", "| of E1M | frames | ms a frame, median | of these to initialize | peak MB |",
                    "|---|---|---|---|---|")
        yield from measure_long(folder, max(1, args.repeats - 1))
    if args.only in (None, "start"):
        yield from ("", "| before the first frame | import, s | initialize, s |", "|---|---|---|")
        yield from measure_start(folder, args.repeats)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1, help="times the usual number of frames")
    parser.add_argument("--keep", type=Path, help="folder for the simulated scans, kept for the next time")
    parser.add_argument("--markdown", type=Path, help="replace the tables of this page")
    parser.add_argument("--only", choices=[*(scan.name for scan in SCANS), "long", "start"], help="only this table")
    parser.add_argument("--against", type=Path, help="another checkout, with which this one takes turns")
    parser.add_argument("--pairs", type=int, default=7, help="runs of each of the two checkouts")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if args.against:
            if slower := compare(folder, Path(temporary), args):
                raise SystemExit(f"slower than {SLOWER} times {args.against}: {'; '.join(slower)}")
            return
        lines = [f"{CORES} processors, Python {platform.python_version()}, h5py {h5py.__version__} (HDF5 "
                 f"{h5py.version.hdf5_version}); {args.repeats} repeats, interleaved.", ""]
        print(lines[0], "\n", flush=True)
        for line in tables(folder, args, os.environ.get("PTYPREP_PTYPY_PYTHON")):
            print(line, flush=True)
            lines.append(line)
        if args.markdown:
            page = args.markdown.read_text().split("\n## Measured\n")[0]
            args.markdown.write_text(f"{page}\n## Measured\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
