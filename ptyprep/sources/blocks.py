"""Reading frames a few at a time, in threads: what sources that any thread may read have in common."""
import numpy as np

from ptyprep.buffers import empty
from ptyprep.threads import in_threads

BLOCK = 8           # frames that a thread reads together, at most: they stay in the processor's cache


class InBlocks:
    """A source whose `read` follows from its `reader` and `blocks`; see `FrameSource`."""
    threads = 1

    def block(self, n):
        """How many of `n` frames are read together: so few that each thread has something to do."""
        return BLOCK if self.threads < 2 else min(max(n // (2 * self.threads), 1), BLOCK)

    def read(self, indices, window=None):
        """Frames by number; see `FrameSource.read`. Raises what `reader` says."""
        indices = np.asarray(indices, int)
        h, w = window.shape if window else self.shape[1:]
        out = empty((len(indices), h, w), self.dtype)
        with self.reader(window) as fill:
            in_threads(lambda some: fill(indices[some], out[some]), self.blocks(indices), self.threads)
        return out
