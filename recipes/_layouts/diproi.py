"""FERMI DiProI: a folder with an HDF5 file for each frame (2016), and the merged file of 2018."""
import h5py
import numpy as np

NANOMETRE = 1.2398419843320026      # keV nm: h c
PIXEL = 168.396935e-9               # of an object that was reconstructed [m]


def apart(folder, scan):
    """One file for each frame, named by its bunch; dark frames, mask and wavelength in files too."""
    return _frames(folder, scan, "Scan018"), scan


def merged(folder, scan):
    """One file with all frames and motors, and one with the dark frames; the flat field still has the dark in it."""
    dark, gain = _dark(scan), 1 << np.arange(scan.good.size).reshape(scan.good.shape) % 3
    (folder / "raw").mkdir()
    with h5py.File(folder / "raw" / "Cycle001.hdf", "w") as file:
        file["image/ccd1"] = scan.frames * gain.astype("u2") + dark
        file["DPI/SampleX"], file["DPI/SampleY"] = scan.positions.T * 1e3
    with h5py.File(folder / "raw" / "Cycle001_dark.hdf", "w") as file:
        file["data"] = np.stack([dark - 1, dark, dark + 1])
    with h5py.File(folder / "flat.h5", "w") as file:
        file["flat"] = (gain + dark).astype("f4")
    return {"files": str(folder / "raw" / "Cycle001.hdf"), "dark_files": str(folder / "raw" / "Cycle001_dark.hdf"),
            "dark_key": "data", "flatfield.file": str(folder / "flat.h5"), "mask.file": _mask(folder, scan),
            **scan.geometry}, scan


def refined(folder, scan):
    """One file for each frame; positions (2, n) that a reconstruction refined, in pixels of its object."""
    pars = _frames(folder, scan, "Scan019", motors=1.25)
    with h5py.File(folder / "Fermi_reconstruction.h5", "w") as file:
        file["data/probe_positions"] = scan.positions.T / PIXEL
        file["data/reconstruct_ind"] = [np.arange(1.0, len(scan.frames) + 1)]
    return {**pars, "positions.file": str(folder / "Fermi_reconstruction.h5"), "positions.slow_multiplier": PIXEL,
            "positions.fast_multiplier": PIXEL, "subset_key": "data/reconstruct_ind"}, scan


def _frames(folder, scan, run, motors=None):
    """A folder of frames and one of dark frames; motors stand still where a number is given."""
    frames, darks = (folder / "imported" / run / name / "rawdata" for name in ("Cycle001", "Dark"))
    dark = _dark(scan)
    for place in (frames, darks):
        place.mkdir(parents=True)
        (place / "log.txt").write_text("not a frame\n")
    for number, (frame, position) in enumerate(zip(scan.frames, scan.positions)):
        with h5py.File(frames / f"A13_IMG_{99950 + 7 * number}.h5", "w") as file:
            file["image/ccd1"] = frame + dark
            file["DPI/SampleX"], file["DPI/SampleY"] = position * 1e3 if motors is None else (motors, motors)
            file["photon_source/FEL01/wavelength"] = NANOMETRE / scan.energy
    for number, offset in enumerate((-1, 1), 1):
        with h5py.File(darks / f"Dark_{number:04d}.h5", "w") as file:
            file["image/ccd1"] = (dark.astype(int) + offset).astype("u2")
    with h5py.File(darks / "beam_0001.h5", "w") as file:
        file["image/ccd1"] = dark + 900
    pars = {"files": str(frames), "dark_files": str(darks), "mask.file": _mask(folder, scan), **scan.geometry}
    del pars["energy"]
    return pars


def _dark(scan):
    return (200 + np.arange(scan.good.size).reshape(scan.good.shape) % 7).astype("u2")


def _mask(folder, scan):
    with h5py.File(folder / "mask.h5", "w") as file:
        file["mask"] = scan.good.astype("u1")
    return str(folder / "mask.h5")
