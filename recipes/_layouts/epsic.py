"""ePSIC: a 4D-STEM scan that was converted from MIB, with or without the microscope's metadata."""
from dataclasses import replace

import h5py
import numpy as np

STEP = 1.5e-11      # m


def converted(folder, scan):
    """HyperSpy's tree, and the microscope's file beside it with metadata and the mask, whose True is bad."""
    frames = scan.frames.reshape(scan.rows, scan.columns, *scan.frames.shape[1:])
    with h5py.File(folder / "20240429_101500_data.hdf5", "w") as file:
        file.create_dataset("Experiments/__unnamed__/data", data=frames, chunks=(1, 1, *frames.shape[2:]))
    with h5py.File(folder / "20240429_101500.hdf", "w") as file:
        file["metadata/ht_value(V)"] = scan.energy * 1e3
        file["metadata/step_size(m)"] = STEP
        file["metadata/nominal_camera_length(m)"] = 0.1
        file["metadata/4D_shape"] = np.array(frames.shape)
        file["data/mask"] = ~scan.good
    pars = {"file": str(folder / "20240429_101500_data.hdf5"), "rotation": 30.0, **_not_recorded(scan)}
    return pars, _turned(scan, 30)


def archived(folder, scan):
    """A list of frames and nothing else."""
    with h5py.File(folder / "20200130_163208.h5", "w") as file:
        file["data/frames"] = scan.frames
    return {"file": str(folder / "20200130_163208.h5"), "scan_shape": (scan.rows, scan.columns), "stepsize": STEP,
            "energy": scan.energy, **_not_recorded(scan)}, replace(_turned(scan, 0), good=None)


def _not_recorded(scan):
    return {"distance": scan.distance, "psize": scan.psize, "center": scan.center}


def _turned(scan, degrees):
    """Positions by complex numbers: x + i y of the raster, the other way round, and turned."""
    r, c = np.divmod(np.arange(len(scan.frames)), scan.columns)
    points = ((c - scan.columns // 2) + 1j * (r - scan.rows // 2)) * STEP
    turned = -points * np.exp(-1j * np.deg2rad(degrees))
    return replace(scan, positions=np.column_stack([turned.imag, turned.real]))
