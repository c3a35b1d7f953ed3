"""Prepared scans, to read them again or to prepare them further."""
from pathlib import Path

from ptyprep import FileScan, Par
from ptyprep.hdf5.first_look import look_first
from ptyprep.sources import PtydFile
from ptyprep.sources.ptyd import folders_of


class Ptyd(FileScan):
    """A `.ptyd` file, written by ptyprep or PtyPy: read as it is, or cropped, turned and rebinned once more."""
    source_type = PtydFile

    source: Path = Par(source=True, level=0, doc="The .ptyd file.")

    trusted: bool = Par(False, level=2, doc="Do without the first look by a process of its own, which names a damaged "
                                            "file that makes HDF5 hang or crash.")
    follow_links: bool = Par(False, level=2, doc="Open what links, virtual datasets and symbolic links lead to outside "
                                                 "the file's folder, too.")

    def open(self):
        path, folders = self.p.source, folders_of(self.p.source, follow_links=self.p.follow_links)
        self.comm.from_root(lambda: look_first(path, folders, trusted=self.p.trusted))
        return PtydFile(path, self.p.follow_links)

    def load_positions(self):
        found = super().load_positions()
        return self.source.positions if found is None else found

    def load(self, indices):
        window = self.window
        weights = self.source.weights(indices, window)
        return self.source.read(indices, window), None, weights
