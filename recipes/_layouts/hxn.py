"""NSLS-II HXN: scan_<id>.h5 with its frames or a link to them, one HDF5 file with everything, a raw Merlin file."""
from dataclasses import replace

import h5py
import numpy as np


def exported(folder, scan):
    """Export of the beamline's program: square roots, turned by 90 degrees, the middle in the corner; stage at 60
    degrees."""
    path = folder / "scan_34784.h5"
    with h5py.File(path, "w") as file:
        turned = np.rot90(scan.frames, axes=(2, 1))
        file["diffamp"] = np.sqrt(np.fft.fftshift(turned, axes=(1, 2)))
        file["ic"] = np.full(len(scan.frames) + 2, 1e5)
        _describe(file, scan, angle=60.0, shrink=np.sin(np.deg2rad(60)))
    return {"file": str(path)}, replace(scan, good=None)


def linked(folder, scan):
    """Export that names the detector's file, by where it was at the beamline, and the region in it; stage at -30
    degrees."""
    path = folder / "scan_34785.h5"
    (row, col), dtype = map(int, scan.center), h5py.string_dtype()
    with h5py.File(folder / "merlin_1234.h5", "w") as file:
        file["entry/data/data"] = scan.frames
    with h5py.File(path, "w") as file:
        file["raw_data/filename"] = np.array(["/nsls2/data/hxn/raw/merlin_1234.h5"], dtype)
        file["raw_data/roi"] = [[row - 6, row + 6], [col - 7, col + 7]]
        _describe(file, scan, angle=-30.0, shrink=np.cos(np.deg2rad(30)))
    return {"file": str(path)}, replace(scan, good=None)


def single_file(folder, scan):
    """Frames, positions and energy in one file."""
    path = folder / "hxn_100.h5"
    y, x = scan.positions.T
    with h5py.File(path, "w") as file:
        file["diff_data/merlin1/det_images"] = scan.frames
        file["scan/scan_positions"] = np.array([-x, y]) * 1e6
        file["scan/energy"], file["scan/exposure_time"] = scan.energy * 1e3, 0.1
    geometry = {name: value for name, value in scan.geometry.items() if name != "energy"}
    return {"file": str(path), **geometry}, replace(scan, good=None)


def merlin(folder, scan):
    """A raw file of the detector, and motor readings in a table."""
    path, table = folder / "merlin_1235.h5", folder / "table.csv"
    with h5py.File(path, "w") as file:
        file["entry/instrument/detector/data"] = scan.frames
    y, x = scan.positions.T * 1e6
    np.savetxt(table, np.column_stack([-x, y]), delimiter=",", header="zpssx [um], zpssy [um]")
    return {"file": str(path), "positions.file": str(table), "positions.slow_key": "zpssy",
            "positions.fast_key": "zpssx", "positions.flip_x": True, **scan.geometry}, replace(scan, good=None)


def _describe(file, scan, angle, shrink):
    """Positions and geometry as an export has them; x along the turned stage, the longer the more it is turned."""
    y, x = scan.positions.T
    file["points"] = np.array([-x / shrink, y]) * 1e6
    for name, value in {"z_m": scan.distance, "lambda_nm": 1.2398 / scan.energy, "ccd_pixel_um": scan.psize[0] * 1e6,
                        "angle": angle, "x_range": 4.0, "y_range": 3.0, "dr_x": 1.0, "dr_y": 1.0}.items():
        file[name] = value
