"""APS 2-ID-D, 2-ID-E and Bionanoprobe: a file of frames for each line, positions in an MDA or MAPS file."""
import struct
from dataclasses import replace

import h5py
import numpy as np


def xfm_fly_scan(folder, scan):
    """2-ID-E: lines from 1; y is a detector of the outer scan [mm], the motors go on after the last frame of a line,
    every second line runs back, and the first two points of each are of no use."""
    scan = _in_lines(scan, snake=True)
    lines = _split(scan.frames, scan)
    y, x = scan.positions.reshape(scan.rows, scan.columns, 2).transpose(2, 0, 1) * 1e3
    for i, frames in enumerate(lines, 1):
        _frames(folder / f"ptycho/fly001_data_{i:03d}.h5", np.concatenate([frames[:2] * 0 + 7, frames]))
        _frames(folder / f"ptycho/fly002_data_{i:03d}.h5", frames)      # of another scan
    points = scan.columns + 5
    inner = [_scan([("2xfm:m1.RBV", "mm", np.concatenate([[9, 9], line, [9, 9, 9]]))]) for line in x]
    detectors = [(f"2xfm:S{i}", "", y[:, 0] + i) for i in range(5)] + [("2xfm:m2.RBV", "mm", y[:, 0])]
    outer = _scan([("2xfm:m2.VAL", "mm", y[:, 0] + 1)], detectors, inner)
    _mda(folder / "mda/2xfm_0001.mda", outer, (scan.rows, points))
    return {"file": str(folder / "ptycho/fly001_data_002.h5"), "positions.file": str(folder / "mda/2xfm_0001.mda"),
            "positions.slow_key": "D5", "skip_points": 2, **scan.geometry}, replace(scan, good=None)


def bionanoprobe(folder, scan):
    """Bionanoprobe since 2025: lines from 0, MDA file without units, readings in um."""
    scan = _in_lines(scan)
    y, x = scan.positions.reshape(scan.rows, scan.columns, 2).transpose(2, 0, 1) * 1e6
    for i, frames in enumerate(_split(scan.frames, scan)):
        _frames(folder / f"ptycho/bnp_fly0001_{i:06d}.h5", frames)
    _mda(folder / "mda/bnp_fly0001.mda", _scan([("9idbBNP:y", "", y[:, 0])], lower=[
        _scan([("9idbBNP:x", "", line)]) for line in x]), (scan.rows, scan.columns))
    return {"file": str(folder / "ptycho/bnp_fly0001_000000.h5"), "positions.unit": "um",
            "positions.file": str(folder / "mda/bnp_fly0001.mda"), **scan.geometry}, replace(scan, good=None)


def bionanoprobe_maps(folder, scan):
    """Bionanoprobe before 2025: the axes of the raster are in the file of MAPS, in um."""
    scan = scan.on_grid()
    for i, frames in enumerate(_split(scan.frames, scan)):
        _frames(folder / f"ptycho/bnp_fly0001_{i:06d}.h5", frames)
    (folder / "img.dat").mkdir()
    with h5py.File(folder / "img.dat/bnp_fly0001.mda.h5", "w") as file:
        file["MAPS/y_axis"], file["MAPS/x_axis"] = (scan.positions.reshape(scan.rows, scan.columns, 2)[at] * 1e6
                                                    for at in ((slice(None), 0, 0), (0, slice(None), 1)))
    return {"file": str(folder / "ptycho/bnp_fly0001_000000.h5"),
            "positions.file": str(folder / "img.dat/bnp_fly0001.mda.h5"), **scan.geometry}, replace(scan, good=None)


def flat_scan(folder, scan):
    """One file of frames, and an MDA scan of one dimension with two positioners, x and y."""
    _frames(folder / "scan0007.h5", scan.frames)
    _mda(folder / "scan0007.mda", _scan([("x", "micron", scan.positions[:, 1] * 1e6),
                                         ("y", "micron", scan.positions[:, 0] * 1e6)]), (len(scan.frames),))
    return {"file": str(folder / "scan0007.h5"), "series": False, "positions.file": str(folder / "scan0007.mda"),
            **scan.geometry}, replace(scan, good=None)


def _in_lines(scan, snake=False):
    """The same scan with one y for each line, and every second line run backwards."""
    at = scan.positions.reshape(scan.rows, scan.columns, 2).copy()
    at[..., 0] = at[:, :1, 0]
    if snake:
        at[1::2] = at[1::2, ::-1].copy()
    return replace(scan, positions=at.reshape(-1, 2))


def _split(frames, scan):
    return frames.reshape(scan.rows, scan.columns, *frames.shape[1:])


def _frames(path, frames):
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = frames


# --- MDA: see ptyprep/mda.py ----------------------------------------------------------------------------------------

def _int(*values):
    return struct.pack(f">{len(values)}i", *values)


def _text(words):
    words = words.encode()
    return _int(len(words), len(words)) + words + b"\0" * (-len(words) % 4) if words else _int(0)


def _scan(positioners, detectors=(), lower=(), done=None, triggers=1):
    """(rank, bytes at a place) of a scan; positioners, detectors : [(PV, unit, values)]; lower : the scans inside,
    None for one that was not started; done : points that were done, None for all of them"""
    points = len(positioners[0][2])

    def at(place):
        body = _text("scan") + _text("Jan 01, 2025 00:00:00.0") + _int(len(positioners), len(detectors), triggers)
        for number, (name, unit, _) in enumerate(positioners):
            body += _int(number) + _text(name) + _text("stage") + _text("LINEAR") + _text(unit) + _text("") * 3
        for number, (name, unit, _) in enumerate(detectors):
            body += _int(2 * number) + _text(name) + _text("") + _text(unit)        # numbers with gaps
        body += (_int(0) + _text("det:Acquire") + struct.pack(">f", 1)) * triggers
        for kind, some in (("d", positioners), ("f", detectors)):
            body += b"".join(struct.pack(f">{points}{kind}", *values) for *_, values in some)
        offsets, inside = [], b""
        start = place + 12 + 4 * len(lower) + len(body)
        for scan in lower:
            offsets.append(start + len(inside) if scan else 0)
            inside += scan[1](offsets[-1]) if scan else b""
        return _int(rank, points, points if done is None else done, *offsets) + body + inside
    rank = 1 + max((scan[0] for scan in lower if scan), default=0)
    return rank, at


def _mda(path, scan, dimensions, version=1.3):
    """Write an MDA file."""
    path.parent.mkdir(exist_ok=True)
    head = struct.pack(">f", version) + _int(1, len(dimensions), *dimensions, 1, 0)
    path.write_bytes(head + scan[1](len(head)))
