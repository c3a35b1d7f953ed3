"""I13-1, Diamond Light Source, the coherence branch: GDA's NeXus files, virtual datasets of the Excalibur, Eiger's."""
import numpy as np
from ptyprep_recipes.i14 import I14

from ptyprep import Group, Par
from ptyprep.arrays import Named, read_array
from ptyprep.errors import ParameterError, PositionError
from ptyprep.processing.positions import Points
from ptyprep.words.spelling import option

EIGER = "data/frames", "data/scan"      # of pty_tomo.h5: (projections, points, h, w), and (projections, points, 4)


class I13(I14):
    """A scan of I13-1, in any of three layouts.

    GDA's files raw/NNNNN.nxs: frames in entry1/<detector>/data or entry1/instrument/<detector>/data, motors in um
    beside them or in a group of their own, such as t1_sxy. Position = (+lab_sy, +lab_sx) or (+t1_sy, +t1_sx). Readers
    disagree on the sign of x: PtyPy's DlsScan has -lab_sx (set positions.flip_x), all others +; and PtyPy's I13ScanFFP
    takes t1_sx for rows (set positions.swap). The piezo's names were exchanged in 2018: rows are -t1_pi_lx, columns
    -t1_pi_ly. Energy and distance are those of the scannables qcm_energy and t2_z, where the file has them.
    The Excalibur's file raw/excalibur_NNNNNN_vds.h5, with positions.file of `slow` and `fast` in um.
    The Eiger's file pty_tomo.h5 of all projections: outer_index is the projection, and the columns of data/scan that
    are y and x have to be named, with their unit, which is not documented.

    Layout: PtyPy's readers (`I13_ffp.py`, `I13_nfp.py`, `DLS.py`, and branch `I13_Bragg`) and its tutorial of
    algorithms, Savu's `i13_ptycho_loader.py`, nxstacker (`facility/i13_1.py`) and the PtyREX template of
    ptyhub-prototype. Not tried on real data of this beamline.
    """
    source_type = None

    class intensities(Group):
        """Where the frames are."""
        file = Par(doc="NeXus file of the scan, the Excalibur's virtual dataset, or the Eiger's pty_tomo.h5.")

    detector = Par(None, doc="Group of the detector, such as merlin_sw_hdf, excalibur_config_normal or pcoEdge. None: "
                             "the only one with frames.")

    class motors(Group):
        """The motors of the scan, where positions.slow_key and positions.fast_key are not given."""
        slow = Par(("lab_sy", "t1_sy", "slow"))
        fast = Par(("lab_sx", "t1_sx", "fast"))
        values = Par("readback")
        unit = Par("um")
        along_beam: str | None = Par(None, doc="Dataset with a third motor, along the beam at theta = 0, such as "
                                               "entry1/instrument/t1_sxyz/t1_sz.")

    theta: float | None = Par(None, unit="deg", doc="Angle about the vertical axis of a stage that carries the motors: "
                                                    "x becomes x cos(theta) - along_beam sin(theta).")
    saturation: float | None = Par(None, unit="", gt=0, doc="Larger counts are bad. None: 65000 for pty_tomo.h5, none "
                                                            "for others.")

    _known = {"energy": {"entry1/before_scan/qcm_energy/qcm_energy": ("keV", 1.0)},
              "distance": {"entry1/before_scan/t2/t2_z": ("mm", 1e-3)}}

    def _hints(self):
        return {}

    def open(self):
        source, p = super().open(), self.p
        eiger = p.intensities.key == EIGER[0]
        if eiger and p.outer_index is None:
            raise ParameterError(f"{source.path}: {EIGER[0]} holds {source.grid[0]} projections: set "
                                 f"{option('outer_index')} to one of them, counted from 0")
        source.saturation = p.saturation or (65000 if eiger else None)
        return source

    def readings(self, path):
        p = self.p
        if p.intensities.key == EIGER[0] and p.positions.file is None:
            return self._of_eiger(path)
        found = super().readings(path)
        if found is None or p.theta is None:
            return found
        slow, fast = found
        fast = fast * np.cos(np.deg2rad(p.theta))
        if p.motors.along_beam:
            beam = read_array(path, p.motors.along_beam, parameter="motors.along_beam")
            fast = fast - beam.values * self._factor(beam, None) * np.sin(np.deg2rad(p.theta))
        return Points(slow, fast) if isinstance(found, Points) else (slow, fast)

    def _frames_in(self, file):
        if EIGER[0] in file:
            return EIGER[0]
        return super()._frames_in(file) if any(name.startswith("entry") for name in file) else None

    def _of_eiger(self, path):
        p = self.p.positions
        scaled = p.unit or None not in (p.slow_multiplier, p.fast_multiplier)
        if p.slow_index is None or p.fast_index is None or not scaled:
            raise PositionError(f"{path}: {EIGER[1]} has four columns for each frame, of which column 0 is the angle "
                                "[deg]. Which of the others are y and x, and in what unit, is not documented: set "
                                f"{option('positions.slow_index')}, {option('positions.fast_index')} and "
                                f"{option('positions.unit')}")
        scan = read_array(path, EIGER[1], parameter="positions.file", dims=(3,))
        columns = Named(scan.values[self.p.outer_index], scan.units, f"{scan.where}[{self.p.outer_index}]")
        self.note(f"{path}: projection {self.p.outer_index} is at {columns.values[:, 0].mean():g} deg")
        found = [columns.column(index) for index in (p.slow_index, p.fast_index)]
        return Points(*(axis.values * self.metres(multiplier, axis.units, axis.where)
                        for axis, multiplier in zip(found, (p.slow_multiplier, p.fast_multiplier))))
