"""PSI cSAXS: the folder of a beamtime with CBF, HDF5 or NeXus frames, and positions of orchestra or SPEC."""
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

NUMBER, FOLDER = 1123, Path("S01000-01999", "S01123")


def orchestra_cbf(folder, scan):
    """A continuous scan of OMNY: images 00000_00000, 00000_00001 …, interferometers' averages, energy in SPEC's file,
    a MATLAB mask of frames as they are shown."""
    from scipy.io import savemat
    _images(folder, scan, [(0, i) for i in range(len(scan.frames))])
    _orchestra(folder, scan)
    _spec(folder, scan, np.zeros((0, 2)))
    savemat(folder / "mask.mat", {"mask": scan.good[::-1, ::-1].astype("u1")})
    return {"path": str(folder), "scan_number": NUMBER, "valid_mask": str(folder / "mask.mat"),
            "distance": scan.distance, "center": scan.center}, scan


def spec_steps(folder, scan):
    """A step scan of SPEC: images 00000_00000, 00001_00000 …, positions in SPEC's file, an HDF5 mask of raw frames."""
    _images(folder, scan, [(i, 0) for i in range(len(scan.frames))])
    _spec(folder, scan, scan.positions)
    with h5py.File(folder / "mask.h5", "w") as file:
        file["entry/collection/mask"] = scan.good.astype("u4")
    return {"path": str(folder), "scan_number": NUMBER, "position_source": "spec",
            "valid_mask": str(folder / "mask.h5"), "distance": scan.distance, "center": scan.center}, scan


def bursts(folder, scan):
    """Two images at each position: 00000_00000, 00000_00001, 00001_00000 …"""
    _images(folder, scan, [divmod(i, 2) for i in range(len(scan.frames))])
    _orchestra(folder, replace(scan, positions=scan.positions[::2]))
    pars = {"path": str(folder), "scan_number": NUMBER, "burst_frames": 2, **scan.geometry}
    return pars, replace(scan, positions=np.repeat(scan.positions[::2], 2, axis=0), good=None)


def nexus_eiger(folder, scan):
    """One NeXus file of an Eiger 500k, shown turned by 90 degrees, with orchestra's columns and SPEC's motors inside;
    the mask as places of valid pixels."""
    from scipy.io import savemat
    inside = folder / "data" / FOLDER
    inside.mkdir(parents=True)
    with h5py.File(inside / f"e16403_1_{NUMBER:05d}.h5", "w") as file:
        file["entry/instrument/eiger/data/data"] = scan.frames
        y, x = -scan.positions.T * 1e6
        file["entry/collection/orchestra/Average_y"], file["entry/collection/orchestra/Average_x"] = y, x
        file["entry/collection/orchestra/Target_y"] = np.round(y) + 1
        file["entry/collection/specES1/mokev"] = scan.energy
    shown = np.rot90(scan.good)
    savemat(folder / "valid.mat", {"valid_mask": {"indices": np.flatnonzero(shown.ravel(order="F")) + 1,
                                                  "framesize": shown.shape}})
    return {"path": str(folder), "scan_number": NUMBER, "detector": "eiger", "valid_mask": str(folder / "valid.mat"),
            "distance": scan.distance, "center": scan.center, "psize": scan.psize}, scan


def eiger_files(folder, scan):
    """Frames of an Eiger 1.5M in several HDF5 files in the detector's folder."""
    inside = folder / "eiger_4" / FOLDER
    inside.mkdir(parents=True)
    for number, some in enumerate((slice(0, 5), slice(5, None))):
        with h5py.File(inside / f"run_{NUMBER:05d}_{number:012d}.h5", "w") as file:
            file["entry/data/eiger_4"] = scan.frames[some]
    _orchestra(folder, scan)
    return {"path": str(folder), "scan_number": NUMBER, "detector": "eiger_4", **scan.geometry}, \
        replace(scan, good=None)


def _images(folder, scan, numbers):
    import fabio
    inside = folder / "pilatus_1" / FOLDER
    inside.mkdir(parents=True)
    y, x = scan.psize
    header = {"_array_data.header_convention": "PILATUS_1.2", "_array_data.header_contents":
              f"# Detector: PILATUS 2M - SN01\r\n# Pixel_size {x!r} m x {y!r} m\r\n# Exposure_time 0.04 s\r\n"
              f"# Count_cutoff 159995 counts\r\n# Threshold_setting: 6839 eV\r\n"}
    for (first, second), frame in zip(numbers, scan.frames.astype("i4")):
        image = fabio.cbfimage.CbfImage(data=frame, header=header)
        image.write(str(inside / f"e16403_1_{NUMBER:05d}_{first:05d}_{second:05d}.cbf"))


def _orchestra(folder, scan):
    """Interferometers' averages and targets, which are others, in um; both run against the illumination."""
    inside = folder / "specES1" / "scan_positions"
    inside.mkdir(parents=True)
    lines = [f"Scan {NUMBER}, Samroy 0.0", "DataPoint TotalPoints Target_x Average_x_st_fzp Stdev_x_st_fzp Target_y "
                                           "Average_y_st_fzp Stdev_y_st_fzp Average_rotz_st"]
    for i, (y, x) in enumerate((scan.positions * -1e6).tolist()):
        lines.append(f"{i} {len(scan.positions)} {x + 0.5:.1f} {x!r} 0.01 {y - 0.5:.1f} {y!r} 0.01 12.5")
    (inside / f"scan_{NUMBER:05d}.dat").write_text("\n".join(lines) + "\n")


def _spec(folder, scan, positions):
    """SPEC's file with a scan before this one; px and py in um against the illumination, as orchestra has them."""
    inside = folder / "specES1" / "dat-files"
    inside.mkdir(parents=True)
    lines = ["#F specES1", "#E 1500000000", "#O0 samx  samy  mokev", "", "#S 1122  ct 1", "#P0 0 0 1.5", "",
             f"#S {NUMBER}  round_roi px -1 1", "#T 0.1  (Seconds)", f"#P0 1.5 -2.25 {scan.energy!r}", "#N 3",
             "#L px  py  diode", *(f"{x!r} {y!r} 10" for y, x in (positions * -1e6).tolist()), "#X 1123", ""]
    (inside / "specES1_started_2019.dat").write_text("\n".join(lines) + "\n")
