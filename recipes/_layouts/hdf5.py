"""HDF5 of no particular layout: everything is named by parameters."""
import h5py


def raster(folder, scan):
    """A raster in one file, geometry and mask in another; a mask that says bad."""
    with h5py.File(folder / "raw.h5", "w") as file:
        file["scan/frames"] = scan.frames.reshape(scan.rows, scan.columns, *scan.frames.shape[1:])
        for name, values in zip("yx", 1e6 * scan.positions.T):
            file[f"scan/{name}"] = values.reshape(scan.rows, scan.columns)
            file[f"scan/{name}"].attrs["units"] = "um"
    with h5py.File(folder / "beside.h5", "w") as file:
        file["bad"], file["eV"], file["pixel"] = ~scan.good, 1e3 * scan.energy, scan.psize
        file["eV"].attrs["units"], file["pixel"].attrs["units"] = "eV", "m"
    beside = str(folder / "beside.h5")
    return {"intensities.file": str(folder / "raw.h5"), "positions.slow_key": "scan/y", "positions.fast_key": "scan/x",
            "mask.file": beside, "mask.key": "bad", "mask.invert": True, "recorded_energy.file": beside,
            "recorded_energy.key": "eV", "recorded_psize.file": beside, "recorded_psize.key": "pixel",
            "distance": scan.distance, "center": scan.center}, scan
