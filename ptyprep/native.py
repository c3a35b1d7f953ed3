"""Shuffling in C: routines of the libraries that come with hdf5plugin, which release Python's lock.

Of what was read from a file only byte shuffle is undone here, which moves bytes and believes none of them. Where a
library does not export a routine (another build of hdf5plugin), `codec` does the same in NumPy.
"""
import ctypes
import os
from functools import cache

from ptyprep.buffers import scratch


@cache
def _routine(library, name, result, *arguments):
    import hdf5plugin
    try:
        routine = getattr(ctypes.CDLL(os.path.join(hdf5plugin.PLUGIN_PATH, library)), name)
    except (OSError, AttributeError):
        return None
    routine.restype, routine.argtypes = result, arguments
    return routine


def shuffle(numbers):
    """The bytes of contiguous numbers, all first ones together, then all second ones …, good until this thread shuffles
    again; None where it cannot be done.

    blosc2_shuffle of C-Blosc2 (its public header blosc2.h).
    """
    return _blosc("blosc2_shuffle", numbers, numbers.itemsize)


def unshuffle(octets, itemsize):
    """`shuffle` undone for numbers of `itemsize` bytes: theirs, good until this thread asks again; None as there."""
    return _blosc("blosc2_unshuffle", octets, itemsize)


def _blosc(name, array, itemsize):
    routine = _routine("libh5blosc2.so", name, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32,
                       ctypes.c_void_p, ctypes.c_void_p)
    if routine is None or array.nbytes >= 1 << 31:
        return None
    out = scratch(name, array.nbytes)
    done = routine(itemsize, array.nbytes, array.ctypes.data, out.ctypes.data)
    return out if done == array.nbytes else None


@cache
def _bound(*sizes):
    bound = _routine("libh5bshuf.so", "bshuf_compress_lz4_bound", ctypes.c_size_t, *[ctypes.c_size_t] * 3)
    return bound and bound(*sizes)


def bitshuffle_lz4(numbers, block):
    """The blocks of bitshuffle-LZ4 for contiguous numbers, without a header; None where it cannot be done.

    block : numbers in a block, a multiple of 8

    bshuf_compress_lz4 of bitshuffle (its public header bitshuffle.h).
    """
    routine = _routine("libh5bshuf.so", "bshuf_compress_lz4", ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p,
                       *[ctypes.c_size_t] * 3)
    bound = routine and _bound(numbers.size, numbers.itemsize, block)
    if bound is None:
        return None
    out = scratch("packed", bound)
    done = routine(numbers.ctypes.data, out.ctypes.data, numbers.size, numbers.itemsize, block)
    return out[:done].tobytes() if done >= 0 else None
