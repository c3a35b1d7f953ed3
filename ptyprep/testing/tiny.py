"""A tiny scan, to be written in any layout."""
from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Tiny:
    """What a tiny scan is, however it is written.

    frames : (n, h, w) uint16 counts; rows x columns of them, of a path that is no grid
    positions : (n, 2) of the illumination on the object, (y, x) [m], in steps of 10 nm, so that motors can tell them
    energy [keV], distance [m], psize (y, x) [m], center (row, column)
    good : (h, w) bool, the mask; None where a layout has none
    """
    frames: np.ndarray
    positions: np.ndarray
    rows: int
    columns: int
    energy: float = 9.5
    distance: float = 2.25
    psize: tuple = (55e-6, 55e-6)
    center: tuple = (8.0, 10.0)
    good: np.ndarray = field(default=None)

    @classmethod
    def make(cls, rows=3, columns=4, shape=(16, 20), seed=0):
        """A scan from a seed; its positions are near a raster's, the columns running fastest."""
        rng = np.random.default_rng(seed)
        n = rows * columns
        grid = np.stack(np.divmod(np.arange(n), columns), axis=-1) * [1.0e-6, 1.5e-6]
        good = rng.random(shape) > 0.1
        return cls(rng.integers(0, 1000, (n, *shape)).astype("u2"),
                   np.round((grid + rng.uniform(-3e-7, 3e-7, (n, 2))) / 1e-8) * 1e-8, rows, columns, good=good)

    @property
    def geometry(self):
        """The parameters for what a layout does not record."""
        return {"energy": self.energy, "distance": self.distance, "psize": self.psize, "center": self.center}

    def on_grid(self):
        """The same with positions on a raster, for layouts that keep rows and columns, or only a step."""
        at = np.stack(np.divmod(np.arange(len(self.frames)), self.columns), axis=-1)
        return replace(self, positions=at * [1.0e-6, 1.5e-6])
