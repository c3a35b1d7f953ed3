"""Scans that one rank and three must prepare to the same content. Run by test_scan.py, under mpirun and without.

usage: prepare.py FOLDER. Outputs stand in FOLDER, and what each rank saw in FOLDER/<rank>.json.
"""
import json
import os
import sys
from pathlib import Path

import numpy as np

from ptyprep import PtyScan
from ptyprep.errors import SourceError
from ptyprep.parallel.mpi import room
from ptyprep.sources import ArrayFrames

GEOMETRY = {"energy": 7.2, "distance": 2.0, "psize": (75e-6, 50e-6)}
CENTER = (33.3, 26.8)       # of the planted spot


def make_frames(n, dtype="u2"):
    """A spot about CENTER that flickers, on noise; each frame has its own overflowing pixel, and all share another."""
    y, x = np.indices((60, 64))
    spot = 400 * np.exp(-((y - CENTER[0]) ** 2 + (x - CENTER[1]) ** 2) / 40)
    random = np.random.default_rng(0)
    frames = np.stack([random.poisson(spot * (1 + (i % 3)) + 3) for i in range(n)]).astype(dtype)
    if frames.dtype.kind in "iu":
        frames[:, 31, 20] = np.iinfo(dtype).max
        frames[np.arange(n), 25, 10 + np.arange(n) % 30] = np.iinfo(dtype).max
    return frames


class Source(PtyScan):
    """Frames from a source in memory."""

    points = 7
    dtype = "u2"

    def open(self):
        return ArrayFrames(make_frames(self.points, self.dtype))

    def load_positions(self):
        return np.random.default_rng(1).normal(size=(self.points, 2)) * 1e-6

    def load_weight(self):
        weight = np.ones((60, 64))
        weight[40, :] = 0
        return weight


class Loaded(Source):
    """Frames from load(), some of which cannot be read."""

    corrupt = ()

    def open(self):
        return None

    def load(self, indices):
        assert len(indices), "load() never gets an empty list"
        if set(self.corrupt) & set(indices):
            raise SourceError(f"frame {min(set(self.corrupt) & set(indices))} is corrupt")
        return make_frames(self.points, self.dtype)[list(indices)]


class WithPositions(Loaded):
    """Frames, positions and masks all from load(), by scan point; nobody knows how many before the end."""

    def load_positions(self):
        return None

    def check(self, frames, start):
        return min(frames, self.points - start), start + frames >= self.points

    def load(self, indices):
        frames = super().load(indices)
        weights = np.ones(frames.shape)
        for weight, i in zip(weights, indices):
            weight[30, i + 12] = 0
        return ({i: f for i, f in zip(indices, frames)}, {i: (i * 1e-6, -i * 1e-6) for i in indices},
                {i: w for i, w in zip(indices, weights)})


class Corrected(Source):
    """Counts that become floats."""

    def load_common(self):
        return {"dark": np.arange(60 * 64).reshape(60, 64) / 1000, "factor": 1.7}

    def correct(self, raw, weights, common):
        return (raw - common["dark"]) * common["factor"], weights


def kind(base, **changes):
    return type(base.__name__, (base,), {"__doc__": base.__doc__, "__module__": __name__, **changes})


REGION = {"shape": 32, "center": CENTER}
CASES = {
    **{f"{save} {n}": (kind(Source, points=n), {"save": save, **REGION})
       for save in ("append", "link") for n in (1, 2, 7, 8)},
    "found centre": (kind(Source, points=70), {"shape": 24, "auto_center": True}),
    "found centre, few frames": (Source, {"shape": 24, "auto_center": True, "save": "link"}),
    "found centre, corrected": (kind(Corrected, points=17), {"shape": 24, "auto_center": True}),
    "turned and binned": (Source, {"shape": (48, 32), "center": CENTER, "orientation": 5, "rebin": 2}),
    "every third": (kind(Source, points=29), {"frames": "2:27:3", **REGION}),
    "loaded": (Loaded, REGION),
    "with positions": (WithPositions, REGION),
    "with positions, dropped": (kind(WithPositions, corrupt=(3, 4)), {"bad_frames": "drop", **REGION}),
    "corrected": (Corrected, REGION),
    "floats": (kind(Source, dtype="f4"), {"save": "append", **REGION}),
    **{f"{policy}, {save}, bad {bad}": (kind(Loaded, points=9, corrupt=bad),
                                        {"save": save, "bad_frames": policy, **REGION})
       for policy in ("drop", "mask") for save in ("append", "link")
       for bad in ((2,), (0, 1), (4, 5, 6, 7), (1, 8))},
    **{f"load_parallel {who}, {base.__name__}": (base, {"load_parallel": who, **REGION})
       for who in (None, "data", "common", "all") for base in (Source, WithPositions, Corrected)}}


def prepare(name, recipe, pars, **more):
    scan = recipe({**GEOMETRY, **pars, "dfile": f"{name}.ptyd", **more}).initialize()
    return [(list(map(int, b.index)), list(map(int, b.frame))) for b in scan.batches(4)]


def outcome(*case, **more):
    """What a rank saw of a scan, or the failure that it heard of."""
    try:
        return prepare(*case, **more)
    except BaseException as err:    # noqa: BLE001  that is what is tested
        return f"{type(err).__name__}: {err}"


class Interrupted(Loaded):
    """Fails at frame 9 unless a file says that it was mended."""

    points = 14

    def load(self, indices):
        if 9 in indices and not Path("mended").exists():
            raise ValueError("the light went out")
        return super().load(indices)


class ExitsAt(Loaded):
    """Ends the process in load(), as no recipe should."""

    def load(self, indices):
        if 3 in indices:
            sys.exit("leaving")
        return super().load(indices)


class Called(Loaded):
    """Remembers which hooks this rank answered, `load` only once all is decided."""

    def open(self):
        self.calls = []

    def load_positions(self):
        self.calls.append("load_positions")
        return super().load_positions()

    def load_weight(self):
        self.calls.append("load_weight")
        return super().load_weight()

    def load_common(self):
        self.calls.append("load_common")
        return {"secret": 42}

    def check(self, frames, start):
        self.calls.append("check")
        return super().check(frames, start)

    def load(self, indices):
        self.calls += ["load"] * (self.plan is not None)
        return super().load(indices)

    def correct(self, raw, weights, common):
        assert common == {"secret": 42}
        self.calls.append("correct")
        return raw, weights


def called(load_parallel):
    scan = Called({**GEOMETRY, **REGION, "load_parallel": load_parallel}).initialize()
    for _ in scan.batches(6):
        pass
    return sorted(set(scan.calls))


class Uneven(Source):
    """Another kind of number where the third frame is among those to correct."""

    def correct(self, raw, weights, common):
        third = self.cut(make_frames(self.points))[2]
        return (raw * 1.5 if any(np.array_equal(frame, third) for frame in raw) else raw), weights


def main(folder):
    os.chdir(folder)
    comm = room()
    told = {name: outcome(name, *case) for name, case in CASES.items()}
    for save in ("append", "link"):
        told[f"interrupted {save}"] = outcome(f"interrupted {save}", Interrupted, {"save": save, **REGION})
    with comm.together("mending"):
        if comm.is_root:
            Path("mended").touch()
    for save in ("append", "link"):
        prepare(f"interrupted {save}", Interrupted, {"save": save, **REGION}, resume=True)
        prepare(f"undisturbed {save}", Interrupted, {"save": save, **REGION})
    told["called"] = {str(who): called(who) for who in (None, "data", "common", "all")}
    for name, recipe in {"exits": ExitsAt, "uneven": Uneven}.items():
        told[name] = outcome(name, recipe, REGION)
    Path(f"{comm.rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
