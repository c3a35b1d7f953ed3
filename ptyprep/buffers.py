"""Large arrays whose memory is taken again: fresh memory costs the kernel more than decoding a frame into it."""
import mmap
import sys
import threading

import numpy as np

SMALL, KEPT = 1 << 20, 8        # bytes below which NumPy does as well; how many pieces of memory wait to be taken again
_kept, _lock, _own = [], threading.Lock(), threading.local()


def scratch(name, size):
    """So many bytes (uint8) of this thread, good until it asks for those of this name again."""
    memory = getattr(_own, name, None)
    if memory is None or len(memory) < size:
        memory = np.empty(size, np.uint8)
        setattr(_own, name, memory)
    return memory[:size]


def empty(shape, dtype):
    """`np.empty`, in memory that an earlier array had, if nobody holds that or a view of it any more.

    >>> a = empty((2, 1024, 1024), "u1"); where = a.ctypes.data; del a
    >>> empty((1024, 1024), "u2").ctypes.data == where
    True
    """
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size < SMALL:
        return np.empty(shape, dtype)
    with _lock:
        for i in range(len(_kept)):
            # held by the list and as this argument, and by every array that is a view of it
            if size <= _kept[i].nbytes <= 2 * size and sys.getrefcount(_kept[i]) == 2:
                memory = _kept[i]
                break
        else:
            # np.empty asks for pages of 2 MiB, which a virtual machine's host may give slowly, 0.3 s for 100 MB;
            # memory that could be shared with children costs half as much again
            memory = np.frombuffer(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
            unused = [i for i in range(len(_kept)) if sys.getrefcount(_kept[i]) == 2]
            for i in reversed(unused[:max(0, len(_kept) + 1 - KEPT)]):
                del _kept[i]
            if len(_kept) < KEPT:
                _kept.append(memory)
        return memory[:size].view(dtype).reshape(shape)
