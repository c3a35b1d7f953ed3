"""I14 of Diamond: GDA's master file, which links to the file of the detector."""
from dataclasses import replace

import h5py
import numpy as np


def mapping(folder, scan):
    """A raster by set values in mm, one for each row and column; frames through a link, a mask in a file of its own."""
    scan = scan.on_grid()
    with _master(folder, scan) as file:
        entry = file["entry/merlin_addetector"]
        entry.attrs.update(signal="data", axes=["SampleY_value_set", "SampleX_value_set", ".", "."])
        y, x = (scan.positions * 1e3).T
        entry["SampleY_value_set"], entry["SampleX_value_set"] = y[::scan.columns], x[:scan.columns]
        for name in ("SampleY", "SampleX"):
            entry[f"{name}_value_set"].attrs["units"] = "mm"
    return _parameters(folder, scan), scan


def readback(folder, scan):
    """A raster with a readback in mm for each frame, no units in the file, and a detector that is not linked."""
    with _master(folder, scan) as file:
        entry = file["entry/merlin_addetector"]
        y, x = (scan.positions * 1e3).T.reshape(2, scan.rows, scan.columns, 1, 1)
        entry["SampleY_value"], entry["SampleX_value"] = y, x
        entry["SampleY_value_set"], entry["SampleX_value_set"] = y[:, 0, 0, 0] + 7, x[0, :, 0, 0] - 7
    return {**_parameters(folder, scan), "motors.values": "readback"}, scan


def spectrum(folder, scan):
    """A stack over energies: frames (energies, rows, columns, h, w), one energy for each, axes without that dimension.
    """
    scan = scan.on_grid()
    raster = scan.frames.reshape(scan.rows, scan.columns, *scan.frames.shape[1:])
    with h5py.File(folder / "i14-7.nxs", "w") as file:
        file["entry/excalibur_addetector/data"] = np.stack([raster[::-1], raster])
        file["entry/instrument/dcm_enrg/value"] = [8.0, scan.energy]
        y, x = (scan.positions * 1e3).T
        file["entry/instrument/SampleY/value_set"] = y[::scan.columns]
        file["entry/instrument/SampleX/value_set"] = x[:scan.columns]
        file["entry/instrument/scannables/excalibur_z/value"] = scan.distance * 1e3
        file["entry/instrument/scannables/excalibur_z/value"].attrs["units"] = "mm"
    pars = {"intensities.file": str(folder / "i14-7.nxs"), "detector": "excalibur_addetector", "outer_index": 1,
            "recorded_distance.key": "entry/instrument/scannables/excalibur_z/value", "center": scan.center}
    return pars, replace(scan, good=None)


def _master(folder, scan):
    """The master and the detector's file, all but the positions."""
    (folder / "i14-264401").mkdir()
    with h5py.File(folder / "i14-264401" / "i14-264401-merlin_addetector.h5", "w") as file:
        size = scan.frames.shape[1:]
        file.create_dataset("entry/data/data", data=scan.frames.reshape(scan.rows, scan.columns, *size),
                            chunks=(1, 1, *size))
    with h5py.File(folder / "mask-I14-merlin-264401.h5", "w") as file:
        file["data/data"] = scan.good.astype("u1")
    file = h5py.File(folder / "i14-264401.nxs", "w")
    for group in ("entry/merlin_addetector", "entry/instrument/merlin_addetector"):
        file[f"{group}/data"] = h5py.ExternalLink("i14-264401/i14-264401-merlin_addetector.h5", "/entry/data/data")
    file["entry/xsp3_addetector/data"] = np.zeros((scan.rows, scan.columns, 4, 8), "u4")      # fluorescence
    file["entry/instrument/dcm_enrg/value"] = scan.energy
    file["entry/instrument/detectors/xreye_z"] = scan.distance * 1e3
    return file


def _parameters(folder, scan):
    return {"intensities.file": str(folder / "i14-264401.nxs"), "mask.file": str(folder / "mask-I14-merlin-264401.h5"),
            "recorded_distance.key": "entry/instrument/detectors/xreye_z", "center": scan.center}

