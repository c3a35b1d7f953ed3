"""One image file for each frame: CBF, EDF, TIFF and what else fabio reads."""
from pathlib import Path

from ptyprep import FileScan, Par
from ptyprep.sources import ImageFiles


class Images(FileScan):
    """A scan whose frames are image files, in the order of the numbers in their names; positions are in a table or an
    HDF5 file. Geometry is read from the headers that DECTRIS detectors write."""
    source_type = ImageFiles

    files: Path = Par(source=True, level=0, doc="Folder of the images, a pattern such as scan_*.cbf, or one file with "
                                                "several images.")

    def open(self):
        return ImageFiles.matching(self.p.files)
