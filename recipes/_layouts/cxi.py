"""CXI: one file with everything; the translation is the sample's."""
import numpy as np

from ptyprep.testing.files import write_cxi


def one_file(folder, scan):
    """Without basis vectors: pixel axes down and to the left."""
    y, x = scan.positions.T
    write_cxi(folder / "s.cxi", scan.frames.astype("i4"), np.column_stack([x, y, 0 * x]), energy=scan.energy,
              distance=scan.distance, psize=scan.psize, mask=~scan.good, basis=None)
    return {"file": str(folder / "s.cxi"), "center": scan.center}, scan
