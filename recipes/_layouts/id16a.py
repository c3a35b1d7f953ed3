"""ESRF ID16A near field: EDF series or HDF5 files, motors and counters in the headers."""
from dataclasses import replace

import h5py
import numpy as np


def edf_series(folder, scan):
    """An EDF file for each frame, counted from 1, a mask in HDF5; dark and reference frames beside them, not used."""
    _edf(folder, scan.frames, scan.positions)
    _write(folder / "dark_0001.edf", scan.frames[0])
    with h5py.File(folder / "mask.h5", "w") as file:
        file["mask"] = scan.good.astype("f4")
    return {"files": str(folder), "mask.file": str(folder / "mask.h5"), **scan.geometry}, scan


def corrected_edf(folder, scan):
    """The same with dark and reference frames and a monitor that count; rows run along spy, columns along spz."""
    rng = np.random.default_rng(1)
    dark, flat = rng.integers(3, 20, scan.good.shape), rng.choice([0.5, 1.0, 2.0], scan.good.shape)
    beam = np.resize([1000, 3000], len(scan.frames))
    frames = scan.frames * flat * (beam / 2000)[:, None, None] + dark
    _edf(folder, frames.astype("f4"), scan.positions[:, ::-1] * [-1, 1], beam)
    for name, field in (("dark", dark), ("ref", flat + dark)):
        for number, noise in enumerate((-1, 1)):
            _write(folder / f"{name}_{number:04d}.edf", (field + noise).astype("f4"))
    return {"files": str(folder / "sample_*.edf"), "motors": ("spy", "spz"), "motors_multiplier": (1e-6, 1e-6),
            "dark_subtraction": True, "flat_division": True, "counter": "bpm5_ct", **scan.geometry}, \
        replace(scan, good=None)


def hdf5_series(folder, scan):
    """An HDF5 file for each frame; names and readings of motors are two texts, whose own names end with a blank."""
    for number, (frame, (y, x)) in enumerate(zip(scan.frames, scan.positions.tolist())):
        with h5py.File(folder / f"sample_{number:04d}.h5", "w") as file:
            file["entry_0000/measurement/Frelon/data"] = frame[None]
            file["entry_0000/measurement/Frelon/parameters/motor_mne "] = "sx sy spy spz"
            file["entry_0000/measurement/Frelon/parameters/motor_pos "] = f"1.0 2.0 {x * 1e6!r} {-y * 1e6!r}"
    return {"files": str(folder / "sample_*.h5"), **scan.geometry}, replace(scan, good=None)


def hdf5_stack(folder, scan):
    """One HDF5 file; each motor's readings in one text."""
    with h5py.File(folder / "sample.h5", "w") as file:
        file["entry_0000/ESRF-ID16A/PCIe/data"] = scan.frames
        for motor, values in (("spy", scan.positions[:, 1] * 1e6), ("spz", -scan.positions[:, 0] * 1e6)):
            file[f"entry_0000/ESRF-ID16A/PCIe/header/{motor}"] = np.bytes_(" ".join(map(repr, values.tolist())))
    return {"files": str(folder / "sample.h5"), "detector": "PCIe", **scan.geometry}, replace(scan, good=None)


def distorted(folder, scan):
    """EDF files of a detector that moves all by a row up and two columns to the right, and says so in two maps."""
    raw = np.full_like(scan.frames, 40000)
    raw[:, :-1, 2:] = scan.frames[:, 1:, :-2]
    _edf(folder, raw, scan.positions)
    for name, pixels in (("h", 1), ("v", -2)):
        _write(folder / f"detector_distortion2d_{name}.edf", np.full(scan.good.shape, pixels, "f4"))
    good = np.zeros(scan.good.shape, bool)
    good[1:, :-2] = True
    pars = {"files": str(folder / "sample_*.edf"), "distortion.row_file": str(folder / "detector_distortion2d_h.edf"),
            "distortion.column_file": str(folder / "detector_distortion2d_v.edf")}
    return {**pars, **scan.geometry}, replace(scan, good=good)


def _edf(folder, frames, positions, beam=None):
    """spz runs up and against y, spy along x, in um."""
    for number, (frame, (y, x)) in enumerate(zip(frames, positions.tolist())):
        _write(folder / f"sample_{number + 1:04d}.edf", frame, {
            "motor_mne": "sx sy spy spz", "motor_pos": f"1.0 2.0 {x * 1e6!r} {-y * 1e6!r}",
            "counter_mne": "bpm5_ct mon", "counter_pos": f"{1000 if beam is None else beam[number]} 2"})


def _write(path, frame, header=None):
    import fabio
    fabio.edfimage.EdfImage(data=frame, header=header or {}).write(str(path))
