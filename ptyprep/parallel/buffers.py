"""Large arrays whose memory is taken again: fresh memory costs the kernel more than decoding a frame into it."""
import mmap
import sys
import threading
from collections import defaultdict

import numpy as np

SMALL = 1 << 20                 # bytes below which NumPy does as well
KEPT, TOGETHER = 8, 512 << 20   # so many pieces of memory wait to be taken again, and more while they have fewer bytes
_kept, _lock, _own = defaultdict(list), threading.Lock(), threading.local()


def scratch(name, size):
    """So many bytes (uint8) of this thread, good until it asks for those of this name again."""
    memory = getattr(_own, name, None)
    if memory is None or len(memory) < size:
        memory = np.empty(size, np.uint8)
        setattr(_own, name, memory)
    return memory[:size]


def empty(shape, dtype, use="frames"):
    """`np.empty`, in memory that an earlier array had, if nobody holds that or a view of it any more.

    use : what for; what is written only in part, and takes no more memory than that, is no use for others

    >>> a = empty((2, 1024, 1024), "u1"); where = a.ctypes.data; del a
    >>> empty((1024, 1024), "u2").ctypes.data == where
    True
    """
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size < SMALL:
        return np.empty(shape, dtype)
    with _lock:
        return _memory(_kept[use], size)[:size].view(dtype).reshape(shape)


def forget():
    """Keep no memory any more; what somebody holds goes when they let go of it."""
    with _lock:
        _kept.clear()


def _memory(kept, size):
    """At least so many bytes, of those that are kept or new ones."""
    for i in range(len(kept)):
        # held by the list and as this argument, and by every array that is a view of it
        if size <= kept[i].nbytes <= 2 * size and sys.getrefcount(kept[i]) == 2:
            return kept[i]
    # np.empty asks for pages of 2 MiB, which a virtual machine's host may give slowly, 0.3 s for 100 MB;
    # memory that could be shared with children costs half as much again
    memory = np.frombuffer(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
    oldest = 0
    while oldest < len(kept) and not _has_room(kept, size):
        if sys.getrefcount(kept[oldest]) == 2:
            del kept[oldest]
        else:
            oldest += 1
    if _has_room(kept, size):
        kept.append(memory)
    return memory


def _has_room(kept, size):
    """Whether one piece more can be kept."""
    return len(kept) < KEPT or sum(memory.nbytes for memory in kept) + size <= TOGETHER
