"""Compressed chunks: decoding that survives damage, and encoding.

HDF5 chunks of the usual formats are taken as they lie in the file and decoded here, outside HDF5's one lock
and without its plug-ins: a damaged bitshuffle-LZ4 chunk ends a process that reads it through h5py.

The work is done by `compiled.core`, loops in C that decode no more than the region; without them `in_numpy` does the
same, many times slower. Deflate (HDF5 filter 1) is RFC 1950, after byte shuffle (2) or not; the formats of the others
are told there.
"""
import os
from array import array

import h5py
import numpy as np
from isal import isal_zlib

from ptyprep.kernels import compiled, in_numpy
from ptyprep.kernels.in_numpy import BITSHUFFLE, LZ4, DamagedChunk
from ptyprep.parallel.buffers import empty, scratch

DEFLATE, SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
BITSHUFFLE_VERSION = 0, 4   # of the filter, whose first options they are
BITSHUFFLE_LZ4 = 2          # fifth value of the bitshuffle filter's options
LARGE = 1 << 24             # bytes of a chunk that are not believed before the file is looked at
IN_BLOCKS = (BITSHUFFLE,), (LZ4,)   # compressed block by block: those of a region can be decoded alone


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
    return codes if codes in (*IN_BLOCKS, (), (DEFLATE,), (SHUFFLE,), (SHUFFLE, DEFLATE)) else None


class Places:
    """Where the chunks of a dataset lie in its file: (offset, bytes, filters skipped) of each, offset -1 where none was
    written.

    HDF5 finds one chunk by looking at all before it, 1 ms for the 10,000th; so all are looked up at once.
    """

    def __init__(self, dataset):
        self.chunks = dataset.chunks
        self.grid = tuple(-(-n // step) for n, step in zip(dataset.shape, self.chunks))
        found = array("q")

        def note(info):
            try:
                found.extend(array("q", (*info.chunk_offset, info.byte_offset, info.size, info.filter_mask)))
            except (OverflowError, TypeError):
                pass                    # no file has such a place: its index is damaged
        if hasattr(dataset.id, "chunk_iter"):
            dataset.id.chunk_iter(note)
        else:                           # an older HDF5
            for i in range(dataset.id.get_num_chunks()):
                note(dataset.id.get_chunk_info(i))
        found = np.array(found, np.int64).reshape(-1, len(self.grid) + 3)
        corners = found[:, :-3]
        found = found[((corners >= 0) & (corners < dataset.shape) & (corners % self.chunks == 0)).all(axis=1)]
        numbers = np.ravel_multi_index(tuple((found[:, :-3] // self.chunks).T), self.grid)
        order = np.argsort(numbers)
        self._numbers, self._places = numbers[order], np.ascontiguousarray(found[order, -3:])
        self._gapless = np.array_equal(self._numbers, np.arange(len(self._numbers)))    # then chunk i has place i

    def of(self, corner):
        """The place of the chunk that begins at these indices."""
        at = tuple(np.array([n // step]) for n, step in zip(corner, self.chunks))
        return self._take(np.ravel_multi_index(at, self.grid))[0].tolist()

    def of_frames(self, frames, row, col):
        """(n, 3) of the chunks of these frames, each of which holds one, in a row and a column of chunks."""
        return self._take((np.asarray(frames, np.int64) * self.grid[-2] + row) * self.grid[-1] + col)

    def _take(self, numbers):
        if self._gapless and len(numbers) and numbers[-1] < len(self._places) and (np.diff(numbers) == 1).all():
            return self._places[numbers[0]:numbers[-1] + 1]     # mostly; what follows lets other threads on
        at = np.searchsorted(self._numbers, numbers)
        there = at < len(self._numbers)
        there[there] = self._numbers[at[there]] == numbers[there]
        places = np.full((len(numbers), 3), -1, np.int64)
        places[there] = self._places[at[there]]
        return places


def decode(chunk, filters, skipped, rows, wide, first, left, out):
    """A region of a chunk as it lies in the file: rows from `first` and columns from `left` on, into `out` (h, w).

    chunk : bytes; of `rows` rows of `wide` numbers, which are those of out's dtype
    filters : as `own_filters` gives them; skipped : bit i is set where the i-th was not applied to this chunk

    Of bitshuffle-LZ4 and LZ4 only the blocks that hold these rows are decoded. Raises DamagedChunk when the header, a
    block's length or a block's content is wrong, as far as that is looked at: bitshuffle-LZ4 has no checksum.
    """
    filters = [code for i, code in enumerate(filters) if not skipped >> i & 1]
    itemsize, row = out.itemsize, wide * out.itemsize
    if filters and filters[0] in (BITSHUFFLE, LZ4):
        core = compiled.core
        if core is None or not core.decode(chunk, filters[0] == BITSHUFFLE, itemsize, rows, row, first,
                                           left * itemsize, out):
            plain = in_numpy.decode(chunk, filters[0], rows, row, first, first + len(out), itemsize)
            if core is not None:        # lz4 lets pass what its format forbids
                raise DamagedChunk("a block of it does not decode")
            out[...] = plain.view(out.dtype).reshape(-1, wide)[:, left:left + out.shape[1]]
        return
    if DEFLATE in filters:
        chunk = _inflate(chunk, rows * row)
    if len(chunk) != rows * row:
        raise DamagedChunk(f"{len(chunk)} bytes where the frame has {rows * row}")
    if SHUFFLE in filters:
        if compiled.core is not None and itemsize in compiled.SIZES:
            compiled.core.unshuffle(chunk, itemsize, rows, row, first, left * itemsize, out)
            return
        chunk = in_numpy.unshuffle(np.frombuffer(chunk, np.uint8), itemsize)
    out[...] = np.frombuffer(chunk, out.dtype).reshape(rows, wide)[first:first + len(out), left:left + out.shape[1]]


def reads_many(filters):
    """Whether `read_many` is there for such chunks."""
    return compiled.core is not None and filters in IN_BLOCKS


def read_many(file, places, filters, rows, wide, first, left, out):
    """`decode` for chunks that lie in a file, one after the other into out (n, h, w).

    file : its descriptor; places : as `Places` gives them, (n, 3)

    Returns how many were read before the first that could not be.
    """
    largest = max(int(places[:, 1].max()), 0)
    work = scratch("chunk", largest if largest < LARGE else min(largest, os.fstat(file).st_size))
    return compiled.core.read(file, places, work, filters[0] == BITSHUFFLE, out.itemsize, rows, wide * out.itemsize,
                              first, left * out.itemsize, out)


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


def filter_of(dataset):
    """Which of `Encoder.choices` a dataset is stored with, None for any other."""
    codes = filters_of(dataset)
    if codes == [BITSHUFFLE]:
        return "bslz4" if own_filters(dataset) else None
    return {(): "none", (SHUFFLE, DEFLATE): "portable"}.get(tuple(codes))


class Encoder:
    """How prepared frames are compressed: one of `Encoder.choices`.

    portable : byte shuffle + deflate; every HDF5 reader opens it without a plug-in
    bslz4 : bitshuffle-LZ4, faster, above all to read; readers need hdf5plugin
    none : as it is
    """
    choices = ("portable", "bslz4", "none")

    def __init__(self, how):
        self.how = how

    def filters(self, dtype):
        """Keywords for `create_dataset` of such numbers that declare these filters."""
        if self.how == "portable":
            return {"shuffle": True, "compression": "gzip", "compression_opts": 1}
        if self.how == "bslz4":         # its plug-in is not needed here, and slow to load
            options, plist = (0, BITSHUFFLE_LZ4), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            if not h5py.h5z.filter_avail(BITSHUFFLE):       # else it puts this before them itself
                options = *BITSHUFFLE_VERSION, np.dtype(dtype).itemsize, *options
            plist.set_filter(BITSHUFFLE, h5py.h5z.FLAG_OPTIONAL, options)
            return {"dcpl": plist}
        return {}

    def encode(self, frames):
        """The compressed chunk of each frame (n, h, w): a list of bytes, or views of some, for `write_direct_chunk`."""
        frames = np.ascontiguousarray(frames)
        if self.how == "none" or not len(frames):
            return [frame.tobytes() for frame in frames]
        encode = "shuffle_deflate" if self.how == "portable" else "bitshuffle_lz4"
        if compiled.core is not None and frames.itemsize in compiled.SIZES and frames.size:
            out = empty(len(frames) * compiled.core.room(frames[0].nbytes), np.uint8, use="chunks")
            ends = np.cumsum(getattr(compiled.core, encode)(frames, len(frames), frames.itemsize, out)).tolist()
            return [out[start:end].data for start, end in zip([0, *ends], ends)]
        return [getattr(in_numpy, encode)(frame.reshape(-1)) for frame in frames]


class MaskEncoder(Encoder):
    """Masks as bytes, `portable`."""

    def __init__(self):
        super().__init__("portable")
        self._last = None, None

    def encode_masks(self, masks):
        """The compressed chunk of each frame's mask in some `Masks`, a list of bytes. One that equals the last is not
        compressed again."""
        last, packed = self._last
        chunks = []
        for mask in masks.different:
            if last is None or not np.array_equal(last, mask):
                last, packed = mask.copy(), bytes(self.encode(mask[None].view(np.uint8))[0])
            chunks.append(packed)
        self._last = last, packed
        return [chunks[number] for number in masks.which.tolist()]
