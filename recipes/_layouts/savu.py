"""Arrays handed over in memory; written here as .npy files, as the command line takes them."""
import numpy as np


def arrays(folder, scan):
    """Frames, positions in metres and mask."""
    return _saved(folder, data=scan.frames, positions=scan.positions, mask=scan.good.astype("u1")) | scan.geometry, scan


def one_of_several_angles(folder, scan):
    """Frames of three rotation angles; positions in um, in the order (x, y), for each; a mask of bad pixels."""
    data = np.stack([scan.frames[::-1], scan.frames, scan.frames // 2])
    positions = np.stack([-scan.positions, scan.positions[:, ::-1], scan.positions]) * 1e6
    return {**_saved(folder, data=data, positions=positions, mask=~scan.good), "outer_index": 1,
            "positions.unit": "um", "positions.swap": True, "mask.invert": True, **scan.geometry}, scan


def raster(folder, scan):
    """Frames and positions on rows and columns."""
    grid = scan.rows, scan.columns
    return {**_saved(folder, data=scan.frames.reshape(*grid, *scan.frames.shape[1:]), mask=scan.good,
                     positions=scan.positions.reshape(*grid, 2)), **scan.geometry}, scan


def _saved(folder, **arrays):
    pars = {"data": "data", "positions": "positions.file", "mask": "mask.file"}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return {pars[name]: str(folder / f"{name}.npy") for name in arrays}
