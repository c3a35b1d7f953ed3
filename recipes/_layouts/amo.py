"""LCLS AMO: a run in one HDF5 file, its dark and flat runs in others."""
from dataclasses import replace

import h5py
import numpy as np


def photons(folder, scan):
    """One file with float32 photons and positions in mm; the mask in a file of its own."""
    _run(folder / "r0012.h5", scan.frames, scan.positions * 1e3)
    with h5py.File(folder / "mask.h5", "w") as file:
        file["mask"] = scan.good.astype("u1")
    return {"data_file": str(folder / "r0012.h5"), "mask.file": str(folder / "mask.h5"), **scan.geometry}, scan


def corrected(folder, scan):
    """With shots that are not valid, a dark and a flat run, negative counts, and positions of CXI in um."""
    rng = np.random.default_rng(1)
    dark, flat = rng.integers(3, 20, scan.good.shape), rng.choice([0.5, 1.0, 2.0], scan.good.shape)
    raw, at = scan.frames * flat + dark, scan.positions * 1e6
    raw[scan.frames == 0] -= 1                              # noise below the dark field
    junk = np.full((1, *scan.good.shape), 7.0)
    valid = np.ones(len(raw) + 2, bool)
    valid[[0, 4]] = False
    _run(folder / "r0012.h5", np.concatenate([junk, raw[:3], junk, raw[3:]]),
         np.concatenate([at[:1], at[:3], [[500.0, -500.0]], at[3:]]), valid)
    for number, field in ((10, dark), (11, flat + dark)):
        _run(folder / f"r{number:04d}.h5", np.stack([field - 2, field, field + 2]), np.zeros((3, 2)))
    files = {name: str(folder / f"r{number:04d}.h5") for name, number in
             (("data_file", 12), ("dark_file", 10), ("flat_file", 11))}
    return {**files, "motors_multiplier": (1e-6, 1e-6), **scan.geometry}, replace(scan, good=None)


def _run(path, frames, positions, valid=None):
    with h5py.File(path, "w") as file:
        file["data/photons"] = frames.astype("f4")
        file["data/posy"], file["data/posx"] = positions.T
        if valid is not None:
            file["data/valid"] = valid
