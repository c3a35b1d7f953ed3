"""CXI files, as cdtools and PyNX write them."""
from pathlib import Path

import numpy as np

from ptyprep import FileScan, Par
from ptyprep.processing.positions import Points
from ptyprep.sources import CxiFile


class Cxi(FileScan):
    """A scan in a CXI file (cxidb.org), with frames, translations, mask and geometry in `entry_1`.

    `translation` is the sample's, (x, y, z) in the laboratory; the illumination moves the other way on the object.
    Its rows and columns are those of the detector, as `basis_vectors` say: position = (-t.slow, -t.fast). A file
    without them has slow = -y and fast = -x, as cdtools and PyNX do. Without `corner_position` the optical axis is
    in the middle of the frame.
    """
    source_type = CxiFile

    file: Path = Par(source=True, level=0, doc="CXI file.")
    center = Par("fftshift")

    def open(self):
        return CxiFile(self.p.file)

    def load_geometry(self):
        if "center" not in (found := super().load_geometry()) and not self.p.given("center") and not self.p.auto_center:
            self.note("the file has no corner_position: the optical axis is taken to be in the middle of the frame")
        return found

    def readings(self, path):
        given = super().readings(path)
        if given is not None or self.source.translation is None:
            return given
        slow, fast = self.source.slow, self.source.fast
        if slow is None:
            self.note("the file has no basis_vectors: slow axis -y and fast axis -x are taken")
            slow, fast = np.array([0, -1, 0]), np.array([-1, 0, 0])
        return Points(-self.source.translation @ slow, -self.source.translation @ fast)
