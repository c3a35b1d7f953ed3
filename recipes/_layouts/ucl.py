"""UCL laser laboratory: a folder for each scan, with a NeXus file for each frame."""
import h5py
import numpy as np

KEV_METRE = 1.2398419843320026e-9


def raw(folder, scan):
    """Frames and positions only, and a mask."""
    return _scan(folder, scan, scan.frames), scan


def with_dark_and_flat(folder, scan):
    """Frames with dark counts and a response that differs from pixel to pixel, and scans of both."""
    gain = 1 << np.arange(scan.good.size).reshape(scan.good.shape) % 3
    dark = 100 + np.arange(scan.good.size).reshape(scan.good.shape) % 5
    pars = _scan(folder, scan, scan.frames * gain + dark)
    for number, field in ((3, dark), (4, gain + dark)):
        for j in (1, 2, 3):
            _frame(folder, number, j, field + j - 2)
    return {**pars, "dark_files": str(folder / "raw" / "000003"), "flat_files": str(folder / "raw" / "000004")}, scan


def _scan(folder, scan, frames):
    for number, frame in enumerate(frames, 1):
        _frame(folder, 5, number, frame)
    place = folder / "raw" / "000005"
    with h5py.File(place / "000005_metadata.h5", "w") as file:
        file["positions"] = scan.positions * 1e3
    with h5py.File(folder / "mask.h5", "w") as file:
        file["mask"] = scan.good.astype("f4")
    geometry = {name: value for name, value in scan.geometry.items() if name != "energy"}
    return {"folder": str(place), "mask.file": str(folder / "mask.h5"), "wavelength": KEV_METRE / scan.energy,
            **geometry}


def _frame(folder, scan, number, frame):
    place = folder / "raw" / f"{scan:06d}"
    place.mkdir(parents=True, exist_ok=True)
    with h5py.File(place / f"{scan:06d}_{number:04d}.nxs", "w") as file:
        file["entry/instrument/detector/data"] = frame[None].astype("u2")
