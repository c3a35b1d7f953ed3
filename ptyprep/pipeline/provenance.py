"""Where a prepared file came from: what is kept in its `info`, and what `resume` compares."""
import json
import platform
import re
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import h5py
import numpy as np

from ptyprep.hdf5.guarded import followed_out_of
from ptyprep.processing.corrections import Limits
from ptyprep.processing.masks import REASONS, as_text
from ptyprep.processing.plan import orientation_flags
from ptyprep.words.printable import printable

NOT_COMPARED = {"dfile", "save", "overwrite", "resume", "threads", "load_parallel", "min_frames", "name", "finish",
                "max_frames"}       # change no frame
LISTED = 5                  # files that a note names
LIVE, CENTER, BAD_PIXELS = "frames still came", "centre found", "bad pixels found"
UNCERTAINTY = "uncertainty of the centre found"


def info(scan):
    """Everything about how the file came to be, for `/info`: parameters as they were decided with their origins,
    source files, bad frames, versions; what differs between equal runs is in `run`."""
    p, plan, tree = scan.p, scan.plan, {}
    values = {**p.flat(), "center": plan.center, "shape": plan.region, "save": scan.save_mode,
              "psize": tuple(map(float, np.broadcast_to(p.psize, 2))), "orientation": orientation_flags(p.orientation),
              "rebin": plan.rebin}
    if scan.center_uncertainty is not None:
        values["center_uncertainty"] = scan.center_uncertainty
    for name, value in values.items():
        *groups, leaf = name.split(".")
        at = tree
        for group in groups:
            at = at.setdefault(group, {})
        at[leaf] = value
    files = {f.resolve(): f.stat() for f in [*_files_read(scan), *outside(scan)]}.items()
    return {**tree,
            "recipe": scan.recipe_name,
            "axis": plan.axis,
            "positions_scan": scan.positions,
            "origins": p.origins(),
            "notes": list(scan.notes),
            "blank_frames": scan.blanks,
            "mask_reasons": scan.mask_reasons,
            "mask_legend": dict(REASONS),
            "report": dict(scan.report),
            "bad_frames": {"frame_ids": np.array([i for i, _ in scan.bad], np.int64),
                           "reasons": [printable(reason, lines=False) for _, reason in scan.bad]},
            "sources": {"file": [str(f) for f, _ in files],
                        "size": np.array([s.st_size for _, s in files], np.int64),
                        "mtime": np.array([s.st_mtime for _, s in files], float)},
            "versions": {"ptyprep": _version(), "numpy": np.__version__, "h5py": h5py.__version__,
                         "hdf5": h5py.version.hdf5_version, "python": platform.python_version()},
            "run": {"ranks": scan.comm.size, "threads": scan.threads, "host": platform.node(), "time": time.asctime()}}


def _files_read(scan):
    """The raw files, and those beside them that parameters name."""
    files = map(Path, getattr(scan.source, "files", ()))
    return [file for file in dict.fromkeys([*files, *_named(scan)]) if file.is_file()]


def _named(scan):
    """The files and folders that parameters name, to be read."""
    return [value for name, value in scan.p.flat().items() if isinstance(value, Path) and name != "dfile"]


def outside(scan):
    """The files out of the scan's folders that links and virtual datasets of the raw files lead to, as far as they were
    followed. A scan's folders are those of the files that parameters name."""
    named = _named(scan)
    named += [Path(path) for path in [getattr(scan.source, "path", None)] if path is not None]
    folders = [path if path.is_dir() else path.parent for path in named]
    return [file for file in followed_out_of(folders, _files_read(scan)) if file.is_file()]


def outside_note(scan):
    """A sentence about `outside`, where there is any."""
    if files := outside(scan):
        some = ", ".join(map(str, files[:LISTED])) + (f" and {len(files) - LISTED} more" if len(files) > LISTED else "")
        yield f"links in the raw files lead out of their folder, and were followed to {some}"


def _version():
    from importlib.metadata import version  # it takes a tenth of our own import
    return version("ptyprep")


def fingerprint(scan, before=None):
    """What must not differ between an interrupted run and the one that resumes it: {name: text}.

    before : that of the interrupted or finished run; where frames were still coming then, what has only grown is told
        as it was
    """
    grown, before = bool(before) and LIVE in before, before or {}
    told = {f"parameter {k}": digest(v) for k, v in scan.p.flat().items() if k not in NOT_COMPARED}
    if before:      # an older version did not know some parameters, which have their defaults now
        said = {f"parameter {k}" for k in scan.p.origins()}
        told = {k: v for k, v in told.items() if k in before or k in said}
    told |= {"recipe": scan.recipe_name, "save": scan.save_mode, "mask": digest(scan.good)}
    if getattr(scan.source, "turned", False):       # a run of before took such frames as HDF5 has them
        told["frames"] = "turned as MATLAB shows them"
    told |= {f"plan {name}": str(value) for name, value in vars(scan.plan).items()}
    if scan.corrections is not None:
        parts = vars(scan.corrections).items()
        told |= {f"correction {name}": _field(part) for name, part in parts if part is not None}
    if scan.limits != Limits(getattr(scan.source, "saturation", None)) or scan.raw_dtype.kind == "i":
        told["counts"] = str(scan.limits)       # runs of before had another rule there
    if scan.selection.points is not None and not scan.growing:
        told["scan points"] = digest(scan.selection.points)
    if scan.finds_center:
        told[CENTER] = json.dumps(scan.plan.center)
    if scan.center_uncertainty is not None:
        told[UNCERTAINTY] = json.dumps(scan.center_uncertainty)
    if scan.found_bad is not None:
        told[BAD_PIXELS] = json.dumps(list(map(as_text, scan.found_bad)))
    if scan.growing:
        told[LIVE] = "yes"
    if scan.positions is not None:
        count = _first_number(before["positions"]) if grown and "positions" in before else len(scan.positions)
        told["positions"] = f"{count}: {digest(scan.positions[:count])}"
    for file in map(Path, getattr(scan.source, "files", ())):
        stat, name = file.stat(), f"source {file}"
        now = f"{stat.st_size} bytes of {stat.st_mtime_ns} ns"
        if before.get(name) == f"{stat.st_size} bytes of {time.ctime(stat.st_mtime)}":      # of an older version
            now = before[name]
        if not grown:
            told[name] = now
        elif name in before:
            told[name] = before[name] if stat.st_size >= _first_number(before[name]) else now
    if grown:
        told[LIVE] = before[LIVE]
    return told


def in_the_end(scan, points):
    """What `fingerprint` is to say at the end besides, of a scan whose frames were still coming when it began."""
    return {LIVE: f"{points} scan points in the end"} if scan.growing else {}


def points_of(before):
    """How many scan points a finished run has taken that did not know when it began; None for others, and for those of
    older versions."""
    return _first_number(before.get(LIVE)) or None


def _field(part):
    """A text that differs where a correction does; of frames in files by these files, and whether they are turned."""
    files = getattr(part, "files", None)
    if files is None:
        return digest(part)
    stats = [(file, Path(file).stat()) for file in files]
    turned = ", turned" if getattr(part, "turned", False) else ""
    return ", ".join(f"{file}: {stat.st_size} bytes of {stat.st_mtime_ns} ns" for file, stat in stats) + turned


def _first_number(text):
    found = re.match(r"\d+", text or "")
    return int(found[0]) if found else 0


def digest(value):
    """A short text that differs where values do; of an object that is neither text nor numbers its kind alone."""
    if value is None or isinstance(value, str | bool | int | float | Path | np.generic):
        return str(value)
    if isinstance(value, Mapping):
        return ", ".join(sorted(f"{key}: {digest(item)}" for key, item in value.items()))
    if isinstance(value, tuple | list) and len(value) <= 3:
        return f"({', '.join(map(digest, value))})"
    try:
        array = np.asarray(value)
    except ValueError:              # lists of different lengths
        return type(value).__name__
    if array.dtype.kind not in "biufcSU":
        return type(value).__name__
    return f"{array.dtype} {array.shape} {sha256(np.ascontiguousarray(array)).hexdigest()[:16]}"
