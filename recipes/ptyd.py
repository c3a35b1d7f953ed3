"""Prepared scans, to read them again or to prepare them further."""
from pathlib import Path

from ptyprep import FileScan, Par
from ptyprep.sources import PtydFile


class Ptyd(FileScan):
    """A `.ptyd` file, written by ptyprep or PtyPy: read as it is, or cropped, turned and rebinned once more."""
    source_type = PtydFile

    source: Path = Par(source=True, level=0, doc="The .ptyd file.")

    def open(self):
        return PtydFile(self.p.source)

    def load_positions(self):
        found = super().load_positions()
        return self.source.positions if found is None else found

    def load(self, indices):
        window = self.window
        weights = self.source.weights(indices, window)
        return self.source.read(indices, window), None, weights
