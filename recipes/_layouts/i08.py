"""I08 and I08-1 of Diamond: GDA's files with interferometer readings, and the STXM's own file before."""
from dataclasses import replace

import h5py
import numpy as np

DARK = 30


def spiral(folder, scan):
    """I08-1: a list of frames, readbacks (n, 1, 1) in mm without a unit, energy in eV, a dark field; a last frame that
    never arrived."""
    n, h, w = scan.frames.shape
    with h5py.File(folder / "i08-1-2121.nxs", "w") as file:
        file["entry/andor2/data"] = np.concatenate([scan.frames + DARK, np.zeros((1, h, w))]).astype("u2")
        file["entry/andor2_sum/sum"] = np.append(scan.frames.sum(axis=(1, 2)), 0)[:, None, None]
        for axis, values in zip("YX", np.vstack([scan.positions * 1e3, [0, 0]]).T):
            for group in ("andor2", "andor2_sum", "I0"):
                file[f"entry/{group}/Sample{axis}_value"] = values[:, None, None]
                file[f"entry/{group}/Sample{axis}_value_set"] = values + 7
        _beside(file, scan, "pgm_energy")
    return {"intensities.file": str(folder / "i08-1-2121.nxs"), **_geometry(scan)}, replace(scan, good=None)


def raster(folder, scan):
    """I08-1: rows and columns of frames, with the tree of links after NXcxi_ptycho, which has the geometry."""
    with h5py.File(folder / "i08-1-5778.nxs", "w") as file:
        file["entry/axis/data"] = (scan.frames + DARK).reshape(scan.rows, scan.columns, *scan.frames.shape[1:])
        y, x = (scan.positions * 1e3).T.reshape(2, scan.rows, scan.columns, 1, 1)
        file["entry/axis/SampleY_value"], file["entry/axis/SampleX_value"] = y, x
        _beside(file, scan, "energyFocus")
        _links(file, scan, "axis", "energyFocus")
    return {"intensities.file": str(folder / "i08-1-5778.nxs"), "center": scan.center}, replace(scan, good=None)


def ptycho_tree(folder, scan):
    """The tree after NXcxi_ptycho alone, with the dark field in it; x and y in mm without a unit, energy in eV."""
    with h5py.File(folder / "top.nxs", "w") as file:
        file["entry_1/data/data"] = scan.frames + DARK
        file["entry_1/data/y"], file["entry_1/data/x"] = (scan.positions * 1e3).T[..., None, None]
        file["entry_1/instrument_1/beam_1/energy"] = scan.energy * 1e3
        detector = file.create_group("entry_1/instrument_1/detector_1")
        detector["distance"] = scan.distance
        detector["darkfield"] = np.full(scan.frames.shape[1:], DARK)
        detector["y_pixel_size"], detector["x_pixel_size"] = scan.psize
    return {"intensities.file": str(folder / "top.nxs"), "center": scan.center}, replace(scan, good=None)


def stxm(folder, scan):
    """I08 in 2015 and 2016: rows and columns of frames, the axes in um in the STXM's file, a dark scan."""
    scan = scan.on_grid()
    (folder / "nexus").mkdir()
    shape = (scan.rows, scan.columns, *scan.frames.shape[1:])
    for number, frames in ((2535, scan.frames + DARK), (2536, np.full(scan.frames.shape, DARK, "u2"))):
        with h5py.File(folder / "nexus" / f"i08-{number}.nxs", "w") as file:
            file["entry1/instrument/_andorrastor/data"] = frames.reshape(shape)
    (folder / "2016-03-04" / "discard").mkdir(parents=True)
    image = folder / "2016-03-04" / "discard" / "Sample_Image_2016-03-04_010.hdf5"
    with h5py.File(image, "w") as file:
        y, x = (scan.positions * 1e6).T
        file["entry1/Counter1/sample_y"], file["entry1/Counter1/sample_x"] = y[::scan.columns], x[:scan.columns]
    pars = {"intensities.file": str(folder / "nexus" / "i08-2535.nxs"), "positions.file": str(image),
            "dark_scan": str(folder / "nexus" / "i08-2536.nxs"), **scan.geometry}
    return pars, replace(scan, good=None)


def _beside(file, scan, energy):
    file["entry/instrument/darkFieldCollector/darkField"] = np.full((1, *scan.frames.shape[1:]), DARK, "u2")
    file[f"entry/instrument/{energy}/value"] = scan.energy * 1e3


def _links(file, scan, detector, energy):
    for at, to in (("data/data", f"{detector}/data"), ("data/y", f"{detector}/SampleY_value"),
                   ("data/x", f"{detector}/SampleX_value"), ("instrument_1/detector_1/data", f"{detector}/data"),
                   ("instrument_1/beam_1/energy", f"instrument/{energy}/value")):
        file[f"entry_1/{at}"] = h5py.SoftLink(f"/entry/{to}")
    for name, value, unit in (("distance", scan.distance, "m"), ("y_pixel_size", scan.psize[0] * 1e6, "um"),
                              ("x_pixel_size", scan.psize[1] * 1e6, "um")):
        file[f"entry_1/instrument_1/detector_1/{name}"] = value
        file[f"entry_1/instrument_1/detector_1/{name}"].attrs["units"] = unit


def _geometry(scan):
    return {name: value for name, value in scan.geometry.items() if name != "energy"}
