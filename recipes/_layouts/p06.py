"""P06 nanoprobe: context file, and a folder for each device."""
import h5py
import numpy as np

SAMR = 30.0     # degrees


def fly(folder, scan):
    """A fly scan of 2023: frames in several data files, encoders about a turned sample in two."""
    name, devices = _context(folder, scan, "cmesh scanz 0 1 1 scany -1 1 2 0.1")
    _data_files(devices / "eiger_4m_01", name, [scan.frames[:5], scan.frames[5:10], scan.frames[10:]], scan.good)
    y, x = scan.positions.T * -1e6
    s, c = np.sin(np.deg2rad(SAMR)), np.cos(np.deg2rad(SAMR))
    along = np.linspace(0, 3, len(x))       # the beam, scany
    axes = {"encoder_1": np.full(len(x), SAMR), "encoder_2": s * x + c * along, "encoder_3": c * x - s * along,
            "encoder_4": y}
    (devices / "pilctriggergenerator_04").mkdir()
    for number, part in enumerate((slice(0, 7), slice(7, None))):
        with h5py.File(devices / "pilctriggergenerator_04" / f"{name}_{number:05d}.nxs", "w") as file:
            for key, values in axes.items():
                file[f"entry/data/{key}"] = values[part]
    return _given(folder, name, scan, y_motor="scanw", x_motor="scanx"), scan


def step(folder, scan):
    """A step scan of 2019: a data file for each point, whose frames are repeats; positions from the command."""
    scan = scan.on_grid()
    (y0, x0), (y1, x1) = scan.positions[[0, -1]] * -1e6
    name, devices = _context(folder, scan, f"dmesh piy {y0!s} {y1!s} {scan.rows - 1} pix {x0!s} {x1!s} "
                                           f"{scan.columns - 1} 0.5")
    half = scan.frames // 3
    _data_files(devices / "eiger4m_01", name, np.stack([half, scan.frames - half], axis=1), scan.good)
    return _given(folder, name, scan, y_motor="piy", x_motor="pix", nominal=True, one_file_per_point=True), scan


def _context(folder, scan, command):
    name = "scan_00007"
    with h5py.File(folder / f"{name}.nxs", "w") as file:
        file["scan/data/energy"] = [scan.energy * 1e3] * 2
        file["scan/program_name"] = "Sardana"
        file["scan/program_name"].attrs["scan_command"] = [command]
        file["scan/sample/transformations/phi"] = [0.0]
    (folder / name).mkdir()
    return name, folder / name


def _data_files(folder, name, stacks, good):
    folder.mkdir()
    with h5py.File(folder / f"{name}_master.h5", "w") as file:
        file["entry/instrument/detector/description"] = "Dectris Eiger 4M"
    for number, frames in enumerate(stacks, 1):
        with h5py.File(folder / f"{name}_data_{number:06d}.h5", "w") as file:
            file.create_dataset("entry/data/data", chunks=(1, *good.shape),
                                data=np.where(good, frames.astype("u4"), np.uint32(2**32 - 1)))


def _given(folder, name, scan, **more):
    """Parameters, with the geometry that is not recorded."""
    return {"file": str(folder / f"{name}.nxs"), "distance": scan.distance, "psize": scan.psize,
            "center": scan.center, **more}
