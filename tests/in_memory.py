"""A recipe of twelve frames in memory, for tests of what becomes of them."""
import numpy as np
import pytest

from ptyprep import Par, PtyScan, SourceError

GEOMETRY = {"energy": 7.0, "distance": 2.0, "psize": 75e-6}
FRAMES = np.random.default_rng(3).poisson(20, (12, 16, 18)).astype("u2")
POSITIONS = np.random.default_rng(4).uniform(-1e-6, 1e-6, (12, 2))


class Scan(PtyScan):
    """Frames in memory."""
    center = Par((8, 9))
    unreadable = ()
    stop_at = None

    def load_geometry(self):
        return GEOMETRY

    def load_positions(self):
        return POSITIONS

    def load(self, indices):
        if self.stop_at in indices:
            raise KeyboardInterrupt
        if lost := set(indices) & set(self.unreadable):
            raise SourceError(f"frame {min(lost)} is lost")
        return FRAMES[list(indices)]


def like(**answers):
    return type("Scan", (Scan,), {"__doc__": Scan.__doc__, **answers})


def run(cls, path, **pars):
    for _ in cls(dfile=path, frames_per_chunk=3, **pars).initialize().batches():
        pass


def interrupted(path, **pars):
    with pytest.raises(KeyboardInterrupt):
        run(like(stop_at=7), path, **pars)
