"""NeXus: frames, axes, geometry and mask by classes and attributes."""
import h5py
import numpy as np

from ptyprep.units import HC


def raster(folder, scan):
    """Encoder readings as axes of the default plot."""
    with h5py.File(folder / "s.nxs", "w") as file:
        _group(file, "raw", "NXentry", default="plot")
        detector = _group(file, "raw/instrument/camera", "NXdetector")
        detector["data"] = scan.frames.reshape(scan.rows, scan.columns, *scan.frames.shape[1:])
        detector["pixel_mask"] = np.where(scan.good, 0, 2).astype("u4")
        for name, value, units in (("distance", 1e3 * scan.distance, "mm"), ("y_pixel_size", scan.psize[0], "m"),
                                   ("x_pixel_size", 1e6 * scan.psize[1], "um"), ("beam_center_y", scan.center[0], ""),
                                   ("beam_center_x", scan.center[1], "pixel")):
            detector[name] = value
            detector[name].attrs["units"] = units
        beam = _group(file, "raw/instrument/beam", "NXbeam")
        beam["incident_wavelength"] = HC / scan.energy
        beam["incident_wavelength"].attrs["units"] = "angstrom"
        plot = _group(file, "raw/plot", "NXdata", signal="data", axes=["sam_y", "sam_x", ".", "."],
                      sam_y_indices=[0, 1], sam_x_indices=[0, 1])
        plot["data"] = detector["data"]
        for name, values in zip(("sam_y", "sam_x"), 1e3 * scan.positions.T):
            plot[name] = values.reshape(scan.rows, scan.columns)
            plot[name].attrs["units"] = "mm"
    return {"file": str(folder / "s.nxs")}, scan


def _group(file, name, kind, **attributes):
    made = file.require_group(name)
    made.attrs["NX_class"] = kind
    made.attrs.update(attributes)
    return made
