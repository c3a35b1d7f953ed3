"""ALS 5.3.2.1, 5.3.2.2 and COSMIC (7.0.1.2), Advanced Light Source: CXI files of the beamline's preprocessor."""
from pathlib import Path

import h5py
from ptyprep_recipes.cxi import Cxi

from ptyprep import Par
from ptyprep.errors import SourceError
from ptyprep.hdf5.files import reading


class Als(Cxi):
    """A scan of ALS 5.3.2.1, 5.3.2.2 or COSMIC: the CXI file that the preprocessor wrote.

    Its frames are corrected, merged, cropped and turned already. Position = (+translation y, +translation x), as in any
    CXI file whose pixel axes point down and to the left. The optical axis is in the middle of the frame.
    `probe_mask` belongs to the probe and masks no pixel; a mask in a file of its own counts non-zero as good.

    Layout: the readers of COSMIC's preprocessing, of ptychodus (`plugins/cxi_file.py`) and of PtyPy (`ALS_5321.py`).
    Not tried on real data of this beamline.
    """
    source_type = None

    file: Path = Par(doc="CXI file, such as NS_200805056_001.cxi.")

    def open(self):
        with reading(self.p.file, "a CXI file") as file:
            if not isinstance(file.get("entry_1/instrument_1/detector_1"), h5py.Group):
                raise SourceError(f"{self.p.file}: no entry_1/instrument_1/detector_1; expected a CXI file of the "
                                  f"beamline's preprocessor")
        return super().open()
