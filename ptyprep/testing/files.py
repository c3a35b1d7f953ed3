"""Tiny files as detectors write them, and prepared ones read by plain h5py."""
import json
import zlib
from pathlib import Path

import h5py
import numpy as np

from ptyprep.units import HC, KEV


def write_dectris(path, frames, *, frames_per_file=1000, links=None, compression="bslz4", energy=None, distance=None,
                  psize=None, center=None, pixel_mask=None, triggers=1, announced=None,
                  description="Dectris EIGER2 Si 1M", virtual=False, saturation=None):
    """Write a scan as the DECTRIS file writer does: `path` is the master, data files stand beside it.

    path : ends in `_master.h5`
    frames : (n, h, w) unsigned integers; gaps and dead pixels hold the largest value
    links : links in the master (None: one for each data file); those beyond the last file lead nowhere, as in
        a scan that was announced longer than it is
    compression : "bslz4", "lz4" or None
    energy [keV], distance [m], psize (y, x) [m], center (row, column), pixel_mask (h, w) uint32 bits : what is
        recorded; None: as the file writer does when nobody told it, 0, and no mask
    triggers : the frames are triggers x images
    announced : frames announced, None for as many as there are
    virtual : also join the data files in a virtual dataset entry/data/data

    Returns the paths of the data files.
    """
    import hdf5plugin
    path, frames = Path(path), np.asarray(frames)
    stem = path.name.removesuffix("_master.h5")
    filters = {"bslz4": hdf5plugin.Bitshuffle(cname="lz4"), "lz4": hdf5plugin.LZ4(), None: {}}[compression]
    n, files = len(frames), []
    for start in range(0, n, frames_per_file):
        files.append(path.with_name(f"{stem}_data_{len(files) + 1:06d}.h5"))
        _write_data_file(files[-1], frames[start:start + frames_per_file], start, filters)
    with h5py.File(path, "w") as file:
        data = file.create_group("entry/data")
        for i in range(len(files) if links is None else links):
            data[f"data_{i + 1:06d}"] = h5py.ExternalLink(f"{stem}_data_{i + 1:06d}.h5", "/entry/data/data")
        if virtual:
            _join_data_files(data, files, frames, frames_per_file)
        detector = file.create_group("entry/instrument/detector")
        specific = detector.create_group("detectorSpecific")
        total = n if announced is None else announced
        specific["nimages"], specific["ntrigger"] = np.uint64(-(-total // triggers)), np.uint64(triggers)
        specific["photon_energy"] = (energy or 0) * 1e3
        specific["photon_energy"].attrs["units"] = np.bytes_("eV")
        if pixel_mask is not None:
            specific["pixel_mask"] = np.asarray(pixel_mask, np.uint32)
        detector["description"] = np.bytes_(description)
        detector["detector_distance"] = float(distance or 0)
        detector["beam_center_y"], detector["beam_center_x"] = map(float, center or (0, 0))
        detector["y_pixel_size"], detector["x_pixel_size"] = map(float, psize or (0, 0))
        for name in ("detector_distance", "x_pixel_size", "y_pixel_size"):
            detector[name].attrs["units"] = np.bytes_("m")
        if saturation is not None:
            detector["saturation_value"] = np.int64(saturation)
        file["entry/instrument/beam/incident_wavelength"] = HC / energy if energy else 0.0
        file["entry/instrument/beam/incident_wavelength"].attrs["units"] = np.bytes_("angstrom")
    return files


def _join_data_files(group, files, frames, frames_per_file):
    layout, start = h5py.VirtualLayout(frames.shape, frames.dtype), 0
    for path in files:
        n = min(frames_per_file, len(frames) - start)
        layout[start:start + n] = h5py.VirtualSource(path.name, "/entry/data/data", (n, *frames.shape[1:]))
        start += n
    group.create_virtual_dataset("data", layout)


def _write_data_file(path, frames, start, filters):
    with h5py.File(path, "w") as file:
        data = file.create_dataset("entry/data/data", data=frames, chunks=(1, *frames.shape[1:]),
                                   maxshape=(None, *frames.shape[1:]), **filters)
        data.attrs.update(image_nr_low=np.uint64(start + 1), image_nr_high=np.uint64(start + len(frames)))
        file["entry"].attrs["NX_class"] = np.bytes_("NXentry")
        file["entry/data"].attrs["NX_class"] = np.bytes_("NXdata")


def write_positions(path, positions, *, unit="um"):
    """Write a text table with the columns y and x of positions (n, 2) [m], in that unit. Returns its path."""
    factor = {"m": 1.0, "mm": 1e3, "um": 1e6, "nm": 1e9}[unit]
    lines = [f"# y[{unit}] x[{unit}]", *(f"{y!r} {x!r}" for y, x in (np.asarray(positions, float) * factor).tolist())]
    Path(path).write_text("\n".join(lines) + "\n")
    return Path(path)


def write_cxi(path, frames, translation, *, energy, distance, psize, mask=None, basis=((0, -1, 0), (-1, 0, 0))):
    """Write a CXI 1.6 file: frames (n, h, w), sample translation (n, 3) (x, y, z) [m], energy [keV], distance [m],
    psize (y, x) [m], mask (h, w) of CXI bits, basis the slow and the fast direction (None: not recorded)."""
    with h5py.File(path, "w") as file:
        file["cxi_version"] = 160
        detector = file.create_group("entry_1/instrument_1/detector_1")
        detector["data"], detector["distance"] = frames, float(distance)
        detector["y_pixel_size"], detector["x_pixel_size"] = map(float, psize)
        if mask is not None:
            detector["mask"] = np.asarray(mask, np.uint32)
        if basis is not None:
            detector["basis_vectors"] = (np.asarray(basis, float) * np.asarray(psize)[:, None]).T
        file["entry_1/instrument_1/source_1/energy"] = energy * KEV
        file["entry_1/sample_1/geometry_1/translation"] = np.asarray(translation, float)
        data = file.create_group("entry_1/data_1")
        data["data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
        data["translation"] = h5py.SoftLink("/entry_1/sample_1/geometry_1/translation")
    return Path(path)


def read_part(path):
    """The frames (n, h, w) of a part of an interrupted run, whether they lie in it or in the file that was growing (or
    has its name already), read without the code that writes or resumes them."""
    with h5py.File(path, "r") as part:
        if "places" not in part:
            return part["data"][()]
        shape, dtype, frames = part["data"].shape[1:], part["data"].dtype, []
        size = int(np.prod(shape)) * dtype.itemsize
        growing = Path(path).with_name(part.attrs["growing"])
        if not growing.exists():
            growing = growing.parent.with_name(json.loads(growing.with_name("run.json").read_text())["output"])
        with open(growing, "rb") as growing:
            for start, length, told in part["places"][()].tolist():
                growing.seek(start)
                chunk = growing.read(length)
                if zlib.crc32(chunk) != told:
                    raise ValueError(f"{path}: the bytes at {start} of {growing.name} are others")
                if length != size:      # byte shuffle and deflate
                    chunk = np.frombuffer(zlib.decompress(chunk), np.uint8).reshape(dtype.itemsize, -1).T.tobytes()
                frames.append(np.frombuffer(chunk, dtype).reshape(shape))
        return np.array(frames)


def read_ptyd(path):
    """{"data", "weights", "positions", "frame_ids", "indices"} of a whole `.ptyd`, by plain h5py; weights are bool."""
    import hdf5plugin  # noqa: F401  for compression="bslz4"
    out = {name: [] for name in ("data", "weights", "positions", "frame_ids", "indices")}
    with h5py.File(path, "r") as file:
        for number in range(len(file["chunks"])):
            chunk = file[f"chunks/{number}"]
            for name in out:
                if name == "weights" and name not in chunk:
                    out[name].append(np.broadcast_to(file["meta/weight2d"][()], chunk["data"].shape))
                else:
                    out[name].append(chunk[name][()])
    joined = {name: np.concatenate(parts) for name, parts in out.items()}
    return {**joined, "weights": joined["weights"] > 0}
