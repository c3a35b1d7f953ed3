"""Any HDF5 file: say where frames, positions and mask are."""
from pathlib import Path

from ptyprep import FileScan, Group, Par
from ptyprep.sources import Hdf5Stack


class Hdf5(FileScan):
    """A scan in HDF5 of any layout. Parameters are named as those of PtyPy's Hdf5Loader."""
    source_type = Hdf5Stack

    class intensities(Group):
        """Where the frames are."""
        file: Path = Par(source=True, level=0, doc="HDF5 file with the frames.")
        key: str | None = Par(None, level=0,
                              doc="Dataset (n, h, w) or (rows, columns, h, w). None: the only one there.")

    def open(self):
        return Hdf5Stack(self.p.intensities.file, self.p.intensities.key)
