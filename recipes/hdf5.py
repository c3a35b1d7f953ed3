"""Any HDF5 file: say where frames, positions, mask and corrections are."""
from pathlib import Path

from ptyprep import Group, Par
from ptyprep.filescan.outer import OuterScan
from ptyprep.sources import Hdf5Stack


class Hdf5(OuterScan):
    """A scan in HDF5 of any layout. Parameters are named as those of PtyPy's Hdf5Loader.

    Frames are (n, h, w) or a raster (rows, columns, h, w), with an axis more in front where `outer_index` is given:
    of positions, mask, monitor and so on that have this axis too the same place is taken.
    """
    source_type = Hdf5Stack

    class intensities(Group):
        """Where the frames are."""
        file: Path = Par(source=True, level=0, doc="HDF5 file with the frames.")
        key: str | None = Par(None, level=0,
                              doc="Dataset (n, h, w) or (rows, columns, h, w). None: the only one there whose "
                                        "frames can be images, unless a link in the file leads nowhere.")
        join: tuple[Path, ...] | None = Par(None, doc="More files of the same layout, whose frames follow; and whose "
                                                      "positions do, where positions.file is not given.")

    def open(self):
        p = self.p.intensities
        if p.join:
            return Hdf5Stack.joined([p.file, *p.join], p.key, self.p.outer_index)
        return Hdf5Stack(p.file, p.key, self.p.outer_index)
