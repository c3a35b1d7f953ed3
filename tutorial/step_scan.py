"""Step scans at an imaginary beamline: one .npy file per frame, and what was recorded in two text files."""
from pathlib import Path

import numpy as np

from ptyprep import Par, PtyScan


class StepScan(PtyScan):
    """Step scans at my beamline."""
    path: Path = Par(doc="Folder of the scan.")

    def load_geometry(self):
        lines = (self.p.path / "geometry.txt").read_text().splitlines()
        return dict(line.split(maxsplit=1) for line in lines)           # "energy  8 keV" and so on

    def load_positions(self):
        x, y = np.loadtxt(self.p.path / "positions.txt").T              # sample stage, um
        return -1e-6 * np.column_stack([y, x])                          # illumination on the object, m, (y, x)

    def load(self, indices):
        return np.stack([np.load(self.p.path / f"frame_{i:04d}.npy") for i in indices])


class DarkStepScan(StepScan):
    """Step scans, less the detector's dark frame."""

    def load_common(self):
        return {"dark": np.load(self.p.path / "dark.npy")}

    def correct(self, raw, weights, common):
        return raw - common["dark"].astype("f4"), weights
