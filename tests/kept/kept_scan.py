"""The scan of the kept runs: thirty frames of 16 x 16 that follow from numbers alone. `resume` compares where raw files
lie and when they were written, which git does not keep: here are none. Leave it as it is: the kept runs are of it."""
import os
import signal
import time

import numpy as np

from ptyprep import PtyScan

FRAMES, SIZE, BAD = 30, 8, 13           # frames in all, and in a chunk; the one in which a pixel overflows


def raw():
    """(30, 16, 16) uint16, by whole numbers alone: no random generator that a later NumPy may change."""
    n, y, x = np.ogrid[:FRAMES, :16, :16]
    frames = ((7 * n + 3 * y * y + 5 * x + n * x) % 23).astype("u2")
    frames[BAD, 5, 2] = 2**16 - 1
    return frames


def positions():
    n = np.arange(FRAMES)
    return np.stack([n // 6, n % 6], axis=-1) * 2.0**-20


def weight():
    good = np.ones((16, 16), bool)
    good[3, 4] = good[14, 15] = False
    return good


class Kept(PtyScan):
    """Thirty frames; killed before the frame that PTYPREP_KEPT_ENDS_AT names."""

    def load_geometry(self):
        return {"energy": 7.0, "distance": 2.0, "psize": 75e-6, "center": (9, 8)}

    def load_weight(self):
        return weight()

    def load_positions(self):
        return positions()

    def load(self, indices):
        ends_at = int(os.environ.get("PTYPREP_KEPT_ENDS_AT", FRAMES))
        if max(indices) >= ends_at:
            time.sleep(1)           # until the chunks before are written
            os.kill(os.getpid(), signal.SIGKILL)
        return raw()[list(indices)]
