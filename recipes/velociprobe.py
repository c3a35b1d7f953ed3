"""APS Velociprobe (2-ID-D, later 33-ID-C), Advanced Photon Source: DECTRIS master file and the controller's table."""
from pathlib import Path

import h5py
import numpy as np
from ptyprep_recipes.eiger import Eiger

from ptyprep import Group, Par
from ptyprep.arrays import read_array
from ptyprep.errors import PositionError
from ptyprep.hdf5.files import read_numbers, reading
from ptyprep.processing.positions import Points
from ptyprep.words.spelling import option


class Velociprobe(Eiger):
    """A fly scan of APS Velociprobe: DECTRIS master file, and a table in which the controller wrote many readings for
    each trigger of the detector.

    Position = (-encoder y, +x cos(chi)), chi being the rotation of the sample stage. Frame i, counted from 0, belongs
    to trigger i + trigger_start. Readings with lower numbers came before the first exposure. Readers of these files
    number triggers in three ways; where the numbers of a scan fit two of them, it stops and asks for trigger_start.

    Layout: DECTRIS master files; ptychodus (`aps33id_velociprobe/`, `reconstruct_velociprobe.py` of its command line)
    and tike (`ptycho/io.py`). Not tried on real data of this beamline.
    """
    source_type = None
    positions_unit = "nm"

    file: Path = Par(doc="Master file, such as ptycho/fly001/fly001_master.h5.")
    stage_rotation: float | None = Par(None, unit="deg", doc="Rotation chi of the stage, with whose cosine x is "
                                                             "multiplied. None: as in the master; 0: none.")

    class positions(Group):
        file: Path | None = Par(None, doc="Table of the controller. None: positions/fly001_0.txt beside the folder "
                                          "ptycho.")
        slow_key = Par("5", doc="Column of y: 5 is the encoder; 2 the laser interferometer, which runs the other way "
                                "(flip_y=False).")
        fast_key = Par("1", doc="Column of x.")
        unit = Par(None, doc="Unit of the readings. None: as the table says, else nm.")
        flip_y = Par(True, doc="Change the sign of y, as the encoder needs.")
        trigger_key = Par("7", doc="Column with the number of the trigger.")
        trigger_start = Par(1, doc="Number of the first frame's trigger.")
        trigger_reduce = Par("ends")

    def readings(self, path):
        if self.positions_file() is None:
            return None
        found = super().readings(path)
        if found is not None and self.p.positions.trigger_key:
            self._check_triggers(path)
        return None if found is None else Points(found[0], found[1] * np.cos(np.deg2rad(self._chi())))

    def positions_file(self):
        if self.p.positions.file is not None:
            return self.p.positions.file
        name = f"{self.p.file.name.removesuffix('_master.h5')}_0.txt"
        path = self.p.file.absolute().parent.parent.parent / "positions" / name
        if not path.is_file():
            return None
        if (said := f"positions are taken from {path}") not in self.notes:
            self.note(said)
        return path

    def _chi(self):
        """Rotation of the stage [degree]."""
        chi = self.p.stage_rotation
        if chi is None:
            with reading(self.p.file, "a DECTRIS master file") as file:
                node = file.get("entry/sample/goniometer/chi")
                if isinstance(node, h5py.Dataset) and node.size:
                    chi = float(read_numbers(node).flat[0])     # of a scan they are all alike
        if chi is None or not np.isfinite(chi):
            self.note(f"{self.p.file}: no rotation chi of the stage: x is taken as it is; set "
                      f"{option('stage_rotation')}")
            return 0.0
        if abs(np.cos(np.deg2rad(chi))) < 0.1:
            self.note(f"the stage is turned by {chi:g} degrees: hardly anything is left of x; if that is another "
                       f"angle, set {option('stage_rotation')}")
        return chi

    def _check_triggers(self, path):
        """Stop where it cannot be told which trigger was the first frame's."""
        start, frames = self.p.positions.trigger_start, self.source.shape[0]
        numbers = read_array(path, self.p.positions.trigger_key, parameter="positions.trigger_key").values
        if not (np.isfinite(numbers) & (numbers == np.round(numbers))).all():
            return                  # what they are matched by says so
        falls = np.flatnonzero(np.diff(numbers) < 0)
        if len(falls):
            at = falls[0]
            raise PositionError(f"{path}: trigger {numbers[at + 1]:g} follows {numbers[at]:g} (readings {at} and "
                                f"{at + 1}); expected numbers that grow: is it one scan?")
        if not (numbers >= start).any():
            raise PositionError(f"{path}: all trigger numbers are below {start}. Set "
                                f"{option('positions.trigger_start')}")
        first, last = int(numbers[numbers >= start].min()), int(numbers.max())
        lowest = int(numbers.min())
        if not self.p.given("positions.trigger_start") and (
                first > start or lowest < start and last - lowest + 1 == frames):
            raise PositionError(f"{path}: triggers {lowest} to {last} for {frames} frames: which is the first frame's? "
                                f"Set {option('positions.trigger_start')} to it; it is {start} if not said")
