"""ALS 5.3.2.1 and COSMIC: a preprocessed CXI file."""
import h5py
import numpy as np

from ptyprep.units import KEV


def preprocessed(folder, scan):
    """One CXI file; float32 frames, the mask as CXI bits, positions in metres."""
    path = folder / "NS_200805056_001.cxi"
    with h5py.File(path, "w") as file:
        file["cxi_version"] = 140
        detector = file.create_group("entry_1/instrument_1/detector_1")
        detector.create_dataset("data", data=scan.frames.astype("f4"), compression="gzip")
        detector["data"].attrs["axes"] = "translation:y:x"
        detector["distance"] = scan.distance
        detector["y_pixel_size"], detector["x_pixel_size"] = scan.psize
        detector["mask"] = np.where(scan.good, 0, 8).astype("u4")
        detector["probe_mask"] = np.zeros(scan.good.shape, bool)        # no mask of pixels
        file["entry_1/instrument_1/source_1/energy"] = scan.energy * KEV
        y, x = scan.positions.T
        file["entry_1/sample_1/geometry_1/translation"] = np.column_stack([x, y, 0 * x])
        file["entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
        file["entry_1/data_1/translation"] = h5py.SoftLink("/entry_1/sample_1/geometry_1/translation")
    return {"file": str(path)}, scan
