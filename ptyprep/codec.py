"""Compressed chunks: decoding that survives damage, and encoding in threads.

HDF5 chunks of the usual formats are taken as they lie in the file and decoded here, outside HDF5's one lock
and without its plug-ins: a damaged bitshuffle-LZ4 chunk ends a process that reads it through h5py.

Formats: deflate (HDF5 filter 1) is RFC 1950, after byte shuffle (2) or not. Bitshuffle-LZ4 (32008) is an uint64 of
the decoded size and an uint32 of the block size in bytes, both big-endian, then blocks of an uint32 big-endian length
and that many bytes; fewer than eight left-over elements lie raw at the end. LZ4 (32004) has the same header and
blocks; a block as long as its content is stored raw.
"""
import struct

import h5py
import numpy as np
from isal import isal_zlib

from ptyprep import native
from ptyprep.threads import in_threads

try:
    from dectris.compression import decompress as fast_decompress
except ImportError:         # the extra `fast`; NumPy and lz4 do the same, several times slower
    fast_decompress = None

BITSHUFFLE, LZ4, DEFLATE, SHUFFLE = 32008, 32004, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
BITSHUFFLE_LZ4 = 2          # fifth value of the bitshuffle filter's options
_HEADER, _LENGTH = struct.Struct(">QI"), struct.Struct(">I")


class DamagedChunk(ValueError):
    """A compressed chunk does not decode, or its sizes are wrong."""


def filters_of(dataset):
    """The numbers of a dataset's HDF5 filters, in the order in which they were applied."""
    plist = dataset.id.get_create_plist()
    return [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]


def is_plain(dataset):
    """Whether numbers lie in the file as NumPy has them."""
    try:
        return dataset.dtype.kind == "b" or dataset.id.get_type() == h5py.h5t.py_create(dataset.dtype)
    except TypeError:
        return False


def own_filters(dataset):
    """The filters of a dataset where all of them are undone here, in the order in which they were applied; else None.

    () for what is stored as it is. None, too, where the bytes in the file are not those of `dataset.dtype`: HDF5 has
    numbers of 12 bits, and with an offset.
    """
    if not is_plain(dataset):
        return None
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    for code, _, options, _ in filters:
        if code == BITSHUFFLE and (len(options) < 5 or options[4] != BITSHUFFLE_LZ4):
            return None
        if code == SHUFFLE and options[:1] != (dataset.dtype.itemsize,):
            return None
    codes = tuple(code for code, *_ in filters)
    return codes if codes in ((), (BITSHUFFLE,), (LZ4,), (DEFLATE,), (SHUFFLE,), (SHUFFLE, DEFLATE)) else None


def decode(chunk, filters, skipped, rows, row_bytes, first, last, itemsize):
    """The bytes of rows `first` to `last` (excluded) of a chunk as it lies in the file, as an array of bytes.

    filters : as `own_filters` gives them; skipped : bit i is set where the i-th was not applied to this chunk
    rows, row_bytes, itemsize, and what is raised : see `decode_rows`
    """
    filters = [code for i, code in enumerate(filters) if not skipped >> i & 1]
    if filters and filters[0] in (BITSHUFFLE, LZ4):
        return decode_rows(chunk, filters[0], rows, row_bytes, first, last, itemsize)
    size = rows * row_bytes
    if DEFLATE in filters:
        chunk = _inflate(chunk, size)
    if len(chunk) != size:
        raise DamagedChunk(f"{len(chunk)} bytes where the frame has {size}")
    if SHUFFLE in filters:
        chunk = _unshuffle(np.frombuffer(chunk, np.uint8), itemsize)
    return np.frombuffer(chunk, np.uint8)[first * row_bytes:last * row_bytes]


def _inflate(chunk, size):
    """A deflated chunk, whole: its checksum is looked at. No more than `size` bytes are made, whatever it would."""
    stream = isal_zlib.decompressobj()
    try:
        plain = stream.decompress(chunk, size + 1)
    except isal_zlib.error as err:
        raise DamagedChunk(f"it does not decode ({err})") from err
    if len(plain) > size:
        raise DamagedChunk(f"it decodes to more than the {size} bytes of the frame")
    if not stream.eof:
        raise DamagedChunk(f"it ends after {len(plain)} of {size} bytes")
    return plain


def _unshuffle(octets, itemsize):
    plain = native.unshuffle(octets, itemsize)
    return np.ascontiguousarray(octets.reshape(itemsize, -1).T).reshape(-1) if plain is None else plain


def decode_rows(chunk, code, rows, row_bytes, first, last, itemsize):
    """The bytes of rows `first` to `last` (excluded) of a compressed chunk.

    chunk : bytes as they lie in the file; a bytearray is written to, which saves a copy
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
    end = at + tail if wants_tail else at
    if code == BITSHUFFLE and fast_decompress is not None:
        decoded = _decode_fast(chunk, begin, end, decoded_size, block, itemsize)
    else:
        run = bytes(chunk[begin:end])
        lengths = _lengths(run, hi - lo)
        decode = _decode_bitshuffle if code == BITSHUFFLE else _decode_lz4
        decoded = decode(run, lengths, decoded_size, block, itemsize)
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


def _decode_fast(chunk, begin, end, size, block, itemsize):
    """The blocks from `begin` to `end` as a chunk of their own, with a header in place of what lies before them."""
    header = _HEADER.pack(size, block)
    if isinstance(chunk, bytes):
        alone = header + chunk[begin:end]
    else:
        chunk[begin - _HEADER.size:begin] = header
        alone = memoryview(chunk)[begin - _HEADER.size:end]
    try:
        return np.frombuffer(fast_decompress(alone, "bslz4", elem_size=itemsize), np.uint8)
    except Exception as err:    # noqa: BLE001  the extension raises plain RuntimeError and ValueError
        raise DamagedChunk(f"it does not decode ({err})") from err


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
    import lz4.block
    try:
        plain = lz4.block.decompress(content, uncompressed_size=size)
    except lz4.block.LZ4BlockError as err:
        raise DamagedChunk(f"block {number} does not decode ({err})") from err
    if len(plain) != size:
        raise DamagedChunk(f"block {number} decodes to {len(plain)} bytes instead of {size}")
    return plain


def filter_of(dataset):
    """Which of `Encoder.choices` a dataset is stored with, None for any other."""
    codes = filters_of(dataset)
    if codes == [BITSHUFFLE]:
        return "bslz4" if own_filters(dataset) else None
    return {(): "none", (SHUFFLE, DEFLATE): "portable"}.get(tuple(codes))


class Encoder:
    """How prepared frames are compressed: one of `Encoder.choices`.

    portable : byte shuffle + deflate; every HDF5 reader opens it without a plug-in
    bslz4 : bitshuffle-LZ4, five times faster; readers need hdf5plugin
    none : as it is
    """
    choices = ("portable", "bslz4", "none")

    def __init__(self, how, threads=1):
        self.how, self.threads = how, threads

    def filters(self):
        """Keywords for `create_dataset` that declare these filters."""
        if self.how == "portable":
            return {"shuffle": True, "compression": "gzip", "compression_opts": 1}
        if self.how == "bslz4":
            import hdf5plugin
            return dict(hdf5plugin.Bitshuffle(cname="lz4"))
        return {}

    def encode(self, frames):
        """The compressed chunk of each frame (n, h, w): bytes that `write_direct_chunk` takes."""
        return in_threads(self.pack, np.ascontiguousarray(frames), self.threads)

    def pack(self, frame):
        """The compressed chunk of one frame (h, w), C-contiguous."""
        if self.how == "none":
            return frame.tobytes()
        if self.how == "portable":
            shuffled = native.shuffle(frame)
            if shuffled is None:
                shuffled = np.ascontiguousarray(frame.reshape(-1).view(np.uint8).reshape(-1, frame.itemsize).T)
            return isal_zlib.compress(shuffled, 1)
        return _encode_bitshuffle(frame.reshape(-1))


class MaskEncoder(Encoder):
    """Masks as bytes, `portable`. They are mostly equal: one that equals the last is not compressed again."""

    def __init__(self):
        super().__init__("portable")
        self._last = None, None

    def encode(self, frames):
        last, packed = self._last
        if np.shape(last) == frames.shape[1:] and (frames == last).all():
            return [packed] * len(frames)
        chunks = []
        for frame in frames:
            if not np.array_equal(frame, last):
                last, packed = frame.copy(), self.pack(frame.astype(np.uint8))
            chunks.append(packed)
        self._last = last, packed
        return chunks


def _encode_bitshuffle(numbers, block=8192):
    import lz4.block
    done = native.bitshuffle_lz4(numbers, block // numbers.itemsize)
    if done is not None:
        return _HEADER.pack(numbers.nbytes, block) + done
    packed, whole = [_HEADER.pack(numbers.nbytes, block)], len(numbers) - len(numbers) % 8
    for shuffled in _shuffled_blocks(numbers[:whole], block):
        content = lz4.block.compress(shuffled, store_size=False)
        packed += [len(content).to_bytes(4, "big"), content]
    return b"".join([*packed, numbers[whole:].tobytes()])
