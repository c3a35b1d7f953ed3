"""Where a prepared file came from: what is kept in its `info`, and what `resume` compares."""
import platform
import time
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np

from ptyprep.frame import orientation_flags

NOT_COMPARED = {"dfile", "save", "overwrite", "resume", "threads", "load_parallel", "min_frames", "name"}  # no number


def info(scan):
    """Everything about how the file came to be, for `/info`: parameters as they were decided with their origins,
    source files, bad frames, versions; what differs between equal runs is in `run`."""
    p, plan, tree = scan.p, scan.plan, {}
    values = {**p.flat(), "center": plan.center, "shape": plan.region, "save": p.save or (p.dfile and "append"),
              "psize": tuple(map(float, np.broadcast_to(p.psize, 2))), "orientation": orientation_flags(p.orientation)}
    for name, value in values.items():
        *groups, leaf = name.split(".")
        at = tree
        for group in groups:
            at = at.setdefault(group, {})
        at[leaf] = value
    files = [(f, f.stat()) for f in map(Path, getattr(scan.source, "files", ()))]
    return {**tree,
            "recipe": scan.recipe_name,
            "axis": plan.axis,
            "positions_scan": scan.positions,
            "origins": {name: p.origin(name) for name in p.flat()},
            "notes": list(scan.notes),
            "bad_frames": {"frame_ids": np.array([i for i, _ in scan.bad], np.int64),
                           "reasons": [reason for _, reason in scan.bad]},
            "sources": {"file": [str(f.resolve()) for f, _ in files],
                        "size": np.array([s.st_size for _, s in files], np.int64),
                        "mtime": np.array([s.st_mtime for _, s in files], float)},
            "versions": {"ptyprep": version("ptyprep"), "numpy": np.__version__, "h5py": h5py.__version__,
                         "hdf5": h5py.version.hdf5_version, "python": platform.python_version()},
            "run": {"ranks": scan.comm.size, "threads": scan.threads, "host": platform.node(), "time": time.asctime()}}


def fingerprint(scan):
    """What must not differ between an interrupted run and the one that resumes it: {name: text}."""
    told = {f"parameter {k}": _digest(v) for k, v in scan.p.flat().items() if k not in NOT_COMPARED}
    told |= {"recipe": scan.recipe_name, "save": scan.p.save or "append",
             "positions": _digest(scan.positions), "mask": _digest(scan.good)}
    told |= {f"plan {name}": str(value) for name, value in vars(scan.plan).items()}
    for file in map(Path, getattr(scan.source, "files", ())):
        stat = file.stat()
        told[f"source {file}"] = f"{stat.st_size} bytes of {time.ctime(stat.st_mtime)}"
    return told


def _digest(value):
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {sha256(np.ascontiguousarray(value)).hexdigest()[:16]}"
    return str(value)
