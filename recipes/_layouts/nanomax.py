"""NanoMAX: Contrast since 2020, Contrast of 2019, Sardana; step and fly scans, one or several."""
import h5py
import numpy as np


def contrast_fly(folder, scan):
    """Contrast since December 2022: frames of a fly scan behind a link, overflow where a pixel is bad, flat arrays."""
    scan = scan.on_grid()
    frames = np.where(scan.good, scan.frames.astype("u4"), np.uint32(2**32 - 1))
    _detector(folder / "scan_000012_eiger1m.hdf5", {"entry/instrument/Eiger/data": frames})
    with h5py.File(folder / "000012.h5", "w") as file:
        file["entry/description"] = np.array([b"npointflyscan sx -1 1 3 sy 0 1 2 0.1"], "S100")
        measured = file.create_group("entry/measurement")
        measured["eiger1m/frames"] = h5py.ExternalLink("scan_000012_eiger1m.hdf5", "entry/instrument/Eiger/data")
        measured["eiger1m/thumbs:"] = np.array([b"None"] * scan.rows, "S100")
        measured["xspress3"] = h5py.ExternalLink("scan_000012_xspress3.hdf5", "entry/instrument/xspress3")
        measured["pseudo/y"], measured["pseudo/x"] = _um(scan).T
        measured["pseudo/analog_x"] = np.zeros(len(frames))
        measured["sy"] = _um(scan)[::scan.columns, 0]
        measured["alba2/1"] = np.full(len(frames), -1.1e-7)
        for when in ("pre_scan", "post_scan"):
            file[f"entry/snapshots/{when}/energy"] = [scan.energy * 1e3]
            file[f"entry/snapshots/{when}/energy_raw"] = [scan.energy * 1e3 - 60]
            file[f"entry/snapshots/{when}/sx"] = [0.4]
    return _given(folder, scan, scans=12), scan


def contrast_step(folder, scan):
    """Contrast of 2020 to 2022: a step scan, two frames for each point, the mask in a file of its own."""
    with h5py.File(folder / "000007.h5", "w") as file:
        measured = file.create_group("entry/measurement")
        half = scan.frames // 3
        measured["merlin/frames"] = np.stack([half, scan.frames - half], axis=1).reshape(-1, *scan.good.shape)
        measured["sy"], measured["sx"] = _um(scan).T
        file["entry/snapshot/energy"] = [scan.energy * 1e3]
    with h5py.File(folder / "merlin_mask.h5", "w") as file:
        file["mask"] = scan.good.astype("u1")
    return _given(folder, scan, scans=7, detector="merlin", **{"mask.file": str(folder / "merlin_mask.h5")}), scan


def contrast_virtual(folder, scan):
    """Contrast of early 2020: Lima's entries, a line each, joined in a virtual dataset of another kind of number."""
    scan, lines = scan.on_grid(), scan.rows
    frames = np.where(scan.good, scan.frames.astype("i4"), -1).reshape(lines, scan.columns, *scan.good.shape)
    _detector(folder / "scan_000021_pilatus.hdf5",
              {f"entry_{i:04d}/measurement/Pilatus/data": line for i, line in enumerate(frames)})
    whole = h5py.VirtualLayout((len(scan.frames), *scan.good.shape), "u4")
    for i in range(lines):
        whole[i * scan.columns:(i + 1) * scan.columns] = h5py.VirtualSource(
            "scan_000021_pilatus.hdf5", f"entry_{i:04d}/measurement/Pilatus/data", frames[i].shape)
    with h5py.File(folder / "000021.h5", "w") as file:
        file.create_virtual_dataset("entry/measurement/pilatus/frames", whole)
        file["entry/measurement/npoint_buff/x"] = _um(scan)[:, 1]
        file["entry/measurement/sy"] = _um(scan)[::scan.columns, 0]
        file["entry/snapshot/energy"] = [scan.energy * 1e3]
    return _given(folder, scan, scans=21, y_motor="sy", x_motor="npoint_buff/x"), scan


def contrast_2019_step(folder, scan):
    """Contrast of 2019: a link for each point."""
    _first_contrast(folder, scan, 11, {"sy": _um(scan)[:, 0], "sx": _um(scan)[:, 1]}, 1)
    return _given(folder, scan, scans=11), scan


def contrast_2019_fly(folder, scan):
    """Contrast of 2019: a link for each line, buffers (lines, points)."""
    y, x = _um(scan).T.reshape(2, scan.rows, scan.columns)
    _first_contrast(folder, scan, 31, {"npoint_buff/y": y, "npoint_buff/x": x, "sy": y[:, 0]}, scan.columns)
    return _given(folder, scan, scans=31), scan


def sardana_step(folder, scan):
    """Sardana since November 2018: an entry for each point in one detector file."""
    folder = folder / "sample"
    _sardana(folder, 11, {"samy": _um(scan)[:, 0], "samx": _um(scan)[:, 1], "energy": scan.energy * 1e3})
    _detector(folder / "scan_0011_pil100k_0000.hdf5",
              {f"entry_{i:04d}/measurement/Pilatus/data": frame[None] for i, frame in enumerate(_flagged(scan))})
    return _given(folder, scan, scans=11), scan


def sardana_fly(folder, scan):
    """Sardana since November 2018: an entry for each line in one detector file, buffers filled up with zeros."""
    folder, frames = folder / "sample", _flagged(scan).reshape(scan.rows, scan.columns, *scan.good.shape)
    y, x = np.pad(_um(scan).T.reshape(2, scan.rows, scan.columns), ((0, 0), (0, 0), (0, 5)))
    _sardana(folder, 12, {"samy_buff": y, "samx_buff": x, "energy": scan.energy * 1e3})
    _detector(folder / "scan_0012_pil1m_0000.hdf5",
              {f"entry_{i:04d}/measurement/Pilatus/data": line for i, line in enumerate(frames)})
    return _given(folder, scan, scans=12), scan


def sardana_2017_fly(folder, scan):
    """Sardana of 2017: a detector file for each line, the slow motor read once for it."""
    scan, folder = scan.on_grid(), folder / "sample"
    frames = _flagged(scan).reshape(scan.rows, scan.columns, *scan.good.shape)
    y, x = _um(scan).T.reshape(2, scan.rows, scan.columns)
    _sardana(folder, 5, {"samy": y[:, 0], "samx_buff": np.pad(x, ((0, 0), (0, 5))), "energy": scan.energy * 1e3})
    for i, line in enumerate(frames):
        _detector(folder / f"scan_0005_merlin_{i:04d}.hdf5", {"entry_0000/measurement/Merlin/data": line})
    return _given(folder, scan, scans=5, y_motor="samy", x_motor="samx_buff"), scan


def joined(folder, scan):
    """Two scans of Contrast, a fly scan of two lines and a step scan, joined."""
    at = 2 * scan.columns
    for number, part, motors in ((8, slice(0, at), ("pseudo/y", "pseudo/x")), (9, slice(at, None), ("sy", "sx"))):
        with h5py.File(folder / f"{number:06d}.h5", "w") as file:
            file["entry/measurement/pilatus/frames"] = _flagged(scan)[part]
            for name in {motors, ("pseudo/y", "pseudo/x")}:
                file[f"entry/measurement/{name[0]}"], file[f"entry/measurement/{name[1]}"] = _um(scan)[part].T
            file["entry/snapshots/pre_scan/energy"] = [scan.energy * 1e3]
    return _given(folder, scan, scans=(8, 9)), scan


def _um(scan):
    """What motors read: the sample moves, so that the illumination moves the other way on it."""
    return scan.positions * -1e6


def _flagged(scan):
    """Frames as a Pilatus writes them: gaps are -1, bad pixels -2."""
    flags = np.where(np.arange(scan.good.shape[1]) % 2, -1, -2)
    return np.where(scan.good, scan.frames.astype("i4"), flags).astype("i4")


def _given(folder, scan, **more):
    """Parameters, with the geometry that is not recorded."""
    return {"path": str(folder), "distance": scan.distance, "psize": scan.psize, "center": scan.center, **more}


def _detector(path, frames):
    with h5py.File(path, "w") as file:
        for key, stack in frames.items():
            file.create_dataset(key, data=stack, chunks=(1, *stack.shape[1:]))


def _first_contrast(folder, scan, number, motors, frames_each):
    name, frames = f"scan_{number:06d}_pilatus.hdf5", _flagged(scan)
    keys = {f"entry_{i:04d}/measurement/Pilatus/data": frames[start:start + frames_each]
            for i, start in enumerate(range(0, len(frames), frames_each))}
    _detector(folder / name, keys)
    with h5py.File(folder / f"{number:06d}.h5", "w") as file:
        for i, key in enumerate(keys):
            file[f"entry/measurement/pilatus/{i:06d}"] = h5py.ExternalLink(name, key)
        for motor, values in motors.items():
            file[f"entry/measurement/{motor}"] = values
        file["entry/snapshot/energy"] = [scan.energy * 1e3]


def _sardana(folder, number, measured):
    folder.mkdir()
    with h5py.File(folder / f"{folder.name}.h5", "w") as file:
        file["entry1/measurement/samx"] = np.zeros(4)       # another scan
        file[f"entry{number}/title"] = "mesh samx -1 1 2 samy 0 1 1 0.1"
        for name, values in measured.items():
            file[f"entry{number}/measurement/{name}"] = values
