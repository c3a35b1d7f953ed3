"""I13-1 of Diamond: GDA's files of 2013 to 2018, the Excalibur's virtual dataset, the Eiger's file of a tomogram."""
from dataclasses import replace

import h5py
import numpy as np


def gda(folder, scan):
    """Frames and motors in the NXdata of the detector, one reading for each frame in um; a mask in a file of its own.
    """
    with h5py.File(folder / "00123.nxs", "w") as file:
        file["entry1/experiment_identifier"] = np.array([b"mt9396-1"])
        file["entry1/instrument/merlin_sw_hdf/data"] = scan.frames
        file["entry1/merlin_sw_hdf/data"] = h5py.SoftLink("/entry1/instrument/merlin_sw_hdf/data")
        file["entry1/merlin_sw_hdf/lab_sy"], file["entry1/merlin_sw_hdf/lab_sx"] = scan.positions.T * 1e6
        file["entry1/before_scan/t2/t2_z"] = scan.distance * 1e3
        file["entry1/before_scan/t1_sxy/t1_sy"] = 5.0       # where it stood
    with h5py.File(folder / "mask.hdf", "w") as file:
        file["mask"] = scan.good.astype(float)
    pars = {"intensities.file": str(folder / "00123.nxs"), "mask.file": str(folder / "mask.hdf"),
            "energy": scan.energy, "center": scan.center}
    return pars, scan


def near_field(folder, scan):
    """A camera, motors in a group of the instrument, dark and flat fields as scans of their own."""
    dark, flat = 20.0, np.where(np.arange(scan.frames.shape[2]) % 2, 4.0, 8.0)
    raw = scan.frames * flat + dark
    for number, frames in ((201, np.full((5, *raw.shape[1:]), dark)), (202, np.tile(flat + dark, (3, raw.shape[1], 1))),
                           (203, raw)):
        with h5py.File(folder / f"00{number}.nxs", "w") as file:
            file["entry1/instrument/pcoEdge/data"] = frames.astype("u2")
            file["entry1/instrument/t1_sxy/t1_sy"], file["entry1/instrument/t1_sxy/t1_sx"] = scan.positions.T * 1e6
    pars = {"intensities.file": str(folder / "00203.nxs"), "dark_scan": str(folder / "00201.nxs"),
            "flat_scan": str(folder / "00202.nxs"), **scan.geometry}
    return pars, replace(scan, good=None)


def excalibur(folder, scan):
    """A virtual dataset of the Excalibur's files, and a file with the positions of the sample in um."""
    layout = h5py.VirtualLayout(scan.frames.shape, "u2")
    half = len(scan.frames) // 2
    for number, frames in enumerate((scan.frames[:half], scan.frames[half:])):
        with h5py.File(folder / f"excalibur_{number}.h5", "w") as file:
            file["data"] = frames
        layout[number * half:number * half + len(frames)] = h5py.VirtualSource(
            f"excalibur_{number}.h5", "data", frames.shape)
    with h5py.File(folder / "excalibur_306517_vds.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    with h5py.File(folder / "306517.h5", "w") as file:
        file["slow"], file["fast"] = scan.positions.T * 1e6
    with h5py.File(folder / "excalibur_512x512.h5", "w") as file:
        file["data"] = scan.good.astype("u1")
    pars = {"intensities.file": str(folder / "excalibur_306517_vds.h5"), "positions.file": str(folder / "306517.h5"),
            "mask.file": str(folder / "excalibur_512x512.h5"), **scan.geometry}
    return pars, scan


def eiger(folder, scan):
    """All projections in one file, with angle and positions in the columns of a table; which ones, one has to say."""
    with h5py.File(folder / "pty_tomo.h5", "w") as file:
        file["data/frames"] = np.stack([scan.frames[::-1], scan.frames])
        y, x = scan.positions.T * 1e6
        table = np.column_stack([np.full(len(y), 12.5), x, y, 0 * y])
        file["data/scan"] = np.stack([table + 1, table])
    pars = {"intensities.file": str(folder / "pty_tomo.h5"), "outer_index": 1, "positions.slow_index": 2,
            "positions.fast_index": 1, "positions.unit": "um", **scan.geometry}
    return pars, replace(scan, good=None)
