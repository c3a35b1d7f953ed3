"""Compressed chunks in NumPy: what is done where the compiled loops (core/) are not there; and it says what is wrong
with a damaged chunk.

Bitshuffle-LZ4 (HDF5 filter 32008) is an uint64 of the decoded size and an uint32 of the block size in bytes, both
big-endian, then blocks of an uint32 big-endian length and that many bytes; fewer than eight left-over elements lie raw
at the end. LZ4 (32004) has the same header and blocks; a block as long as its content is stored raw.
"""
import struct

import lz4.block
import numpy as np
from isal import isal_zlib

BITSHUFFLE, LZ4 = 32008, 32004
_HEADER, _LENGTH = struct.Struct(">QI"), struct.Struct(">I")


class DamagedChunk(ValueError):
    """A compressed chunk does not decode, or its sizes are wrong."""


def decode(chunk, code, rows, row_bytes, first, last, itemsize):
    """The bytes of rows `first` to `last` (excluded) of a chunk that is stored with the filter `code`.

    chunk : bytes as they lie in the file
    rows, row_bytes : the whole chunk has `rows` rows of `row_bytes` each
    itemsize : bytes of one number

    Only the blocks that hold these rows are decoded. Raises DamagedChunk when the header, a block's
    length or a block's content is wrong, as far as that is looked at: bitshuffle-LZ4 has no checksum.
    """
    size = rows * row_bytes
    if len(chunk) < _HEADER.size:
        raise DamagedChunk(f"{len(chunk)} bytes, too short for a header")
    declared, block = _HEADER.unpack_from(chunk)
    if declared != size:
        raise DamagedChunk(f"its header says {declared} bytes where the frame has {size}")
    if block == 0 and code == BITSHUFFLE:
        block = 8192
    if not 0 < block <= 1 << 30 or (code == BITSHUFFLE and block % (8 * itemsize)):
        raise DamagedChunk(f"its header says blocks of {block} bytes")
    tail = size % (8 * itemsize) if code == BITSHUFFLE else 0
    packed = size - tail
    blocks = -(-packed // block)
    lo = min(first * row_bytes // block, max(blocks - 1, 0))
    hi = min(-(-last * row_bytes // block), blocks)
    length_at, at = _LENGTH.unpack_from, _HEADER.size
    try:
        for _ in range(min(lo, hi)):
            at += 4 + length_at(chunk, at)[0]
        begin = at
        for _ in range(lo, hi):
            at += 4 + length_at(chunk, at)[0]
    except struct.error:
        at = len(chunk) + 1
    if at > len(chunk):
        raise DamagedChunk(_where_it_ends(chunk, blocks))
    wants_tail = hi == blocks and tail
    if hi == blocks and at + tail != len(chunk):
        raise DamagedChunk(f"{len(chunk) - at - tail} bytes more than its blocks say")
    decoded_size = min(hi * block, packed) - lo * block + (tail if wants_tail else 0)
    run = bytes(chunk[begin:at + tail if wants_tail else at])
    lengths = _lengths(run, hi - lo)
    undo = _decode_bitshuffle if code == BITSHUFFLE else _decode_lz4
    decoded = undo(run, lengths, decoded_size, block, itemsize)
    start = first * row_bytes - lo * block
    return decoded[start:start + (last - first) * row_bytes]


def _lengths(run, blocks):
    at, lengths = 0, []
    for _ in range(blocks):
        lengths.append(_LENGTH.unpack_from(run, at)[0])
        at += 4 + lengths[-1]
    return lengths


def _where_it_ends(chunk, blocks):
    """Which block of a chunk is not all there."""
    at = _HEADER.size
    for number in range(blocks):
        if at + 4 > len(chunk):
            return f"it ends before block {number} of {blocks}"
        at += 4 + _LENGTH.unpack_from(chunk, at)[0]
        if at > len(chunk):
            return f"block {number} of {blocks} reaches beyond its end"
    return "its blocks end before it does"


def _decode_bitshuffle(run, lengths, size, block, itemsize):
    out, at, done = np.empty(size, np.uint8), 0, 0
    for i, (length, plain) in enumerate(_blocks(run, lengths, size - size % (8 * itemsize), block)):
        out[done:done + plain] = np.frombuffer(_lz4_block(run[at + 4:at + 4 + length], plain, i), np.uint8)
        at, done = at + 4 + length, done + plain
    out[done:] = np.frombuffer(run[at:], np.uint8)
    whole = done - done % block
    for part in (slice(0, whole), slice(whole, done)):      # full blocks, all at once, and a last, shorter one
        if part.stop > part.start:
            bits = out[part].reshape(-1, itemsize, 8, min(block, part.stop - part.start) // (8 * itemsize))
            bits = _turn_bits(bits.swapaxes(2, 3)).reshape(len(bits), itemsize, -1)
            out[part] = bits.swapaxes(1, 2).reshape(-1)
    return out


def _shuffled_blocks(numbers, block):
    """Bytes of each block of numbers (8 n of them), all their first bits together, then all second ones …

    Masui et al., Astronomy and Computing 12 (2015) 181.
    """
    step, itemsize = block // numbers.itemsize, numbers.itemsize
    whole = len(numbers) - len(numbers) % step
    for part in (numbers[:whole].reshape(-1, step), numbers[whole:].reshape(1, -1)):
        if part.size:
            octets = part.view(np.uint8).reshape(len(part), -1, itemsize).swapaxes(1, 2)
            bits = _turn_bits(octets.reshape(len(part), itemsize, -1, 8))
            yield from np.ascontiguousarray(bits.swapaxes(2, 3)).reshape(len(part), -1)


def _turn_bits(octets):
    """Each eight bytes (..., 8) as a matrix of 8 x 8 bits, transposed (Warren, Hacker's Delight, 7-3)."""
    x = np.ascontiguousarray(octets).view("<u8")
    for shift, mask in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0)):
        swap = (x ^ (x >> np.uint64(shift))) & np.uint64(mask)
        x = x ^ swap ^ (swap << np.uint64(shift))
    return x.view(np.uint8)


def _decode_lz4(run, lengths, size, block, itemsize):
    out, at, done = np.empty(size, np.uint8), 0, 0
    for i, (length, plain) in enumerate(_blocks(run, lengths, size, block)):
        content = run[at + 4:at + 4 + length]
        out[done:done + plain] = np.frombuffer(
            content if length == plain else _lz4_block(content, plain, i), np.uint8)
        at, done = at + 4 + length, done + plain
    return out


def _blocks(run, lengths, size, block):
    for i, length in enumerate(lengths):
        yield length, min(block, size - i * block)


def _lz4_block(content, size, number):
    try:
        plain = lz4.block.decompress(content, uncompressed_size=size)
    except lz4.block.LZ4BlockError as err:
        raise DamagedChunk(f"block {number} does not decode ({err})") from err
    if len(plain) != size:
        raise DamagedChunk(f"block {number} decodes to {len(plain)} bytes instead of {size}")
    return plain


def bitshuffle_lz4(numbers, block=8192):
    """The chunk that filter 32008 makes of numbers (n,); block : bytes in a block."""
    packed, whole = [_HEADER.pack(numbers.nbytes, block)], len(numbers) - len(numbers) % 8
    for shuffled in _shuffled_blocks(numbers[:whole], block):
        content = lz4.block.compress(shuffled, store_size=False)
        packed += [len(content).to_bytes(4, "big"), content]
    return b"".join([*packed, numbers[whole:].tobytes()])


def shuffle_deflate(numbers):
    """The chunk that the filters shuffle (2) and deflate (1) make of numbers (n,)."""
    return isal_zlib.compress(np.ascontiguousarray(numbers.view(np.uint8).reshape(-1, numbers.itemsize).T), 1)


def unshuffle(octets, itemsize):
    """Byte shuffle undone: bytes (n,) of numbers of `itemsize` bytes."""
    return octets.reshape(itemsize, -1).T.reshape(-1)
