"""Reading frames a few at a time, in threads: what sources that any thread may read have in common."""
import numpy as np

from ptyprep.parallel.buffers import empty
from ptyprep.parallel.threads import in_threads

BLOCK_BYTES = 16 << 20      # frames that a thread takes at a time; each time costs 1 ms of Python, whatever their size


def block(n, shape, dtype, threads):
    """How many of n frames (h, w) a thread takes at a time: no more than `BLOCK_BYTES`, but one, and so many that no
    thread has more to do than the others.

    >>> block(100, (512, 512), "u4", 2), block(32, (512, 512), "u4", 2), block(100, (4096, 4096), "u4", 2)
    (13, 16, 1)
    """
    most = max(BLOCK_BYTES // max(int(np.prod(shape)) * np.dtype(dtype).itemsize, 1), 1)
    turns = max(-(-n // (most * threads)), 1)
    return max(-(-n // (turns * threads)), 1)


def slices(n, most):
    """n frames in slices of `most`; the last may be smaller."""
    return [slice(start, min(start + most, n)) for start in range(0, n, most)]


class InBlocks:
    """A source whose `read` follows from its `reader` and `blocks`; see `FrameSource`."""
    threads = 1

    def blocks(self, indices, most):
        """Slices of frame numbers that are best read together: `most` in each."""
        return slices(len(indices), most)

    def read(self, indices, window=None):
        """Frames by number; see `FrameSource.read`. Raises what `reader` says."""
        indices = np.asarray(indices, int)
        h, w = window.shape if window else self.shape[1:]
        out = empty((len(indices), h, w), self.dtype)
        blocks = self.blocks(indices, block(len(indices), (h, w), self.dtype, self.threads))
        with self.reader(window) as fill:
            in_threads(lambda some: fill(indices[some], out[some]), blocks, self.threads)
        return out
