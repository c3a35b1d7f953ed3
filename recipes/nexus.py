"""NeXus files: frames, positions, geometry and mask by what their classes and attributes say."""
from pathlib import Path

import numpy as np

from ptyprep import FileScan, Par
from ptyprep.errors import PositionError
from ptyprep.sources import NexusFile
from ptyprep.tables.text import axis_of
from ptyprep.words.spelling import option


class Nexus(FileScan):
    """A scan in a NeXus file: NXmx (odin, nexgen), NXcxi_ptycho, or any other with NXdata and NXdetector.

    Frames are what the default plot shows, if that is a detector's data, else the only detector's; ambiguous files list
    the candidates. Positions are the axes of that NXdata, else translations of the sample, else positioners. Where they
    have vectors, the illumination moves against the sample: position = (-t.slow, -t.fast) with the directions of the
    detector's pixels; without, they are taken as they are, y for rows and x for columns.
    """
    source_type = NexusFile

    file: Path = Par(source=True, level=0, doc="NeXus file.")
    entry: str | None = Par(None, doc="NXentry with the frames. None: the default, or the only one that has some.")
    key: str | None = Par(None, doc="Dataset with the frames. None: by the file's classes and attributes.")

    def open(self):
        return NexusFile(self.p.file, self.p.key, self.p.entry)

    def readings(self, path):
        given = super().readings(path)
        axes = self.source.axes
        if given is not None or not axes:
            return given
        bare = [axis.name for axis in axes if not axis.units]
        if bare and not self.p.positions.unit:
            raise PositionError(f"{path}: axis {bare[0]} has no units, which NeXus requires; set "
                                f"{option('positions.unit', 'um')}, for example")
        moved = [(axis, axis.values * self.metres(None, axis.units, f"{path}: {axis.name}")) for axis in axes]
        if all(axis.vector for axis in axes):
            vectors = [np.array(axis.vector) / np.linalg.norm(axis.vector) for axis in axes]
            alike = [(a.name, b.name) for i, a in enumerate(axes) for j, b in enumerate(axes[:i])
                     if abs(vectors[i] @ vectors[j]) > 0.9]
            if alike:
                raise PositionError(f"{path}: {' and '.join(alike[0])} move along the same direction: do they add up, "
                                    f"or measure the same? Set {option('positions.slow_key')} and "
                                    f"{option('positions.fast_key')}")
            y, x = (-sum(values * np.dot(axis.vector, along) / np.linalg.norm(axis.vector) for axis, values in moved)
                    for along in (self.source.slow, self.source.fast))
            return y, x
        named = {letter: [values for axis, values in moved if axis_of(axis.name) == letter] for letter in "yx"}
        if [len(found) for found in named.values()] == [1, 1]:
            return named["y"][0], named["x"][0]
        names = ", ".join(axis.name for axis in axes)
        if len(axes) > 2:
            raise PositionError(f"{path}: which of the axes {names} are rows and columns? Set "
                                f"{option('positions.slow_key')} and {option('positions.fast_key')}")
        self.note(f"{path}: axis {axes[0].name} is taken as y and {axes[1].name} as x")
        return moved[0][1], moved[1][1]
