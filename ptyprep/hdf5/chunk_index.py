"""A dataset of frames as it is stored: read beside HDF5's one lock, only what the region needs, where that is possible.

Chunks are taken from the file as they lie there and decoded by `codec`; what is not compressed is read row by row.
Anything else goes through h5py. What was never written is an error, and never zeros.
"""
import os
import threading
import weakref
from functools import cached_property
from itertools import product

import h5py
import numpy as np

from ptyprep.errors import SourceError
from ptyprep.filesystem import system
from ptyprep.hdf5 import codec
from ptyprep.kernels import compiled
from ptyprep.parallel.buffers import scratch

FILTER_PACKAGES = {32001: "hdf5plugin (Blosc)", 32004: "hdf5plugin (LZ4)", 32008: "hdf5plugin (bitshuffle)",
                   32015: "hdf5plugin (Zstandard)", 32026: "hdf5plugin (Blosc2)"}
NAMES = {codec.BITSHUFFLE: "bitshuffle-LZ4", codec.LZ4: "LZ4", codec.DEFLATE: "deflate", codec.SHUFFLE: "byte shuffle"}
RUN = 16                    # frames that h5py reads at a time
_lock = threading.Lock()    # h5py before 3.16 takes none in read_direct_chunk


class Stored:
    """An open dataset of frames, (h, w), (n, h, w) or (rows, cols, h, w). Any thread may read it."""

    def __init__(self, dataset):
        self.dataset, self.shape, self.dtype = dataset, dataset.shape, dataset.dtype
        self.where = f"{dataset.file.filename}: {dataset.name}"
        self.chunks, self.filters = dataset.chunks, safe_filters(dataset)
        self.whole = all_written(dataset)
        self.handle, self._size = _handle_of(dataset), 0
        self.start = dataset.id.get_offset() if self.chunks is None and self.handle is not None else None
        self.depth = int(np.prod(self.chunks[:-2])) if self.chunks else 1
        self.plain = self.filters is None or self.chunks is None and self.start is None and self.whole

    @cached_property
    def places(self):
        """Where its chunks lie."""
        return codec.Places(self.dataset)

    def let_go(self):
        """Close the dataset where only its file's bytes are needed any more, after its `places` were looked up: HDF5
        refuses to open a file that it has open already in another way. A descriptor of our own is in nobody's way."""
        if self.handle is not None and not self.plain:
            self.handle = os.dup(self.handle)
            weakref.finalize(self, os.close, self.handle)
            self.dataset = None

    @property
    def is_let_go(self):
        return self.dataset is None

    def road(self):
        """How it is read, and why: a few words."""
        names = " after ".join(NAMES[code] for code in reversed(self.filters or ()))
        if self.filters is None and not codec.is_plain(self.dataset):
            return "through h5py: the numbers in the file have bits that NumPy does not know"
        if self.filters is None:
            codes = ", ".join(map(str, codec.filters_of(self.dataset)))
            return f"through h5py: only HDF5 undoes filter {codes}"
        if self.plain:
            return "through h5py: the numbers do not lie in the file one after the other"
        if not names:
            return f"{'contiguous' if self.chunks is None else 'chunks'} without compression, only the region's rows"
        how = "only the blocks that hold the region" if self.filters in codec.IN_BLOCKS else "each as a whole"
        slow = "" if compiled.core else " (in NumPy, many times slower: ptyprep was installed without a C compiler)"
        return f"compressed chunks ({names}), {how}{slow}"

    def read(self, frames, rows, cols, out, numbers):
        """Rows and columns (slices) of these frames (numbers in the dataset) into out (n, h, w).

        numbers : what the frames are called in messages

        Raises SourceError naming the frame for what is missing or damaged.
        """
        try:
            if self.plain:
                self._refuse_unwritten(frames, rows, cols, numbers)
                self._through_h5py(frames, rows, cols, out)
            elif self.chunks is None:
                self._rows(frames, rows, cols, out, numbers)
            else:
                self._decode(frames, rows, cols, out, numbers)
        except (OSError, RuntimeError, SystemError, ValueError) as err:
            hint = filter_hint(self.dataset) if self.plain else None
            raise SourceError(f"{self.where}, frames {numbers[0]} to {numbers[-1]} of the scan cannot be read: "
                              f"{hint or reason(err)}") from err

    def read_all(self):
        """All numbers of a chunked dataset, of any rank. Raises codec.DamagedChunk; all of it has to be written."""
        out, (*high, wide) = np.empty(self.shape, self.dtype), self.chunks
        rows = int(np.prod(high))
        for corner in product(*(range(0, n, step) for n, step in zip(out.shape, self.chunks))):
            chunk = np.empty(self.chunks, self.dtype)
            self._region_of(corner, rows, wide, 0, 0, chunk.reshape(rows, wide))
            part = out[tuple(slice(at, at + step) for at, step in zip(corner, self.chunks))]
            part[...] = chunk[tuple(slice(n) for n in part.shape)]
        return out

    def _decode(self, frames, rows, cols, out, numbers):
        """The chunks that hold the wanted rows: where each holds a frame, many in one call, as long as all is well."""
        apart = out.shape[-1] > 1 and out.strides[-1] != out.itemsize
        if apart or out.dtype != self.dtype:        # which may have the other order of bytes, or be smaller
            own = np.empty(out.shape, self.dtype)
            self._decode(frames, rows, cols, own, numbers)
            out[...] = own
            return
        tiles, done = list(self._tiles(rows, cols)), 0
        if self.depth > 1 or len(tiles) > 1 or self.handle is None or not codec.reads_many(self.filters):
            self._decode_some(frames, tiles, rows, cols, out, numbers)
            return
        (r, c), (high, wide) = tiles[0], self.chunks[-2:]
        places = self.places.of_frames(frames, r, c)
        while done < len(frames):
            done += codec.read_many(self.handle, places[done:], self.filters, high, wide, rows.start - r * high,
                                    cols.start - c * wide, out[done:])
            if done < len(frames):
                one = slice(done, done + 1)
                self._decode_some(frames[one], tiles, rows, cols, out[one], numbers[one])
                done += 1

    def _decode_some(self, frames, tiles, rows, cols, out, numbers):
        """The same one chunk after the other, whatever it holds; raises what is wrong."""
        *layer, high, wide = self.chunks    # a layer is () in an image, (n,) in a stack, (rows, cols) in a raster
        layers, place_in_layer = _layers(frames, self.shape[:-2], layer)
        held = {}           # which of the frames each layer of chunks holds
        for i, corner in enumerate(layers):
            held.setdefault(corner, []).append(i)
        for corner, mine in held.items():
            inside = [int(place_in_layer[i]) for i in mine]
            for r, c in tiles:
                r0, r1 = max(rows.start - r * high, 0), min(rows.stop - r * high, high)
                c0, c1 = max(cols.start - c * wide, 0), min(cols.stop - c * wide, wide)
                top, left = r * high + r0 - rows.start, c * wide + c0 - cols.start
                targets = [out[i, top:top + r1 - r0, left:left + c1 - c0] for i in mine]
                first, last = min(inside) * high + r0, max(inside) * high + r1
                block = targets[0] if len(mine) == 1 else np.empty((last - first, c1 - c0), self.dtype)
                try:
                    there = self._region_of((*corner, r * high, c * wide), self.depth * high, wide, first, c0, block)
                except codec.DamagedChunk as err:
                    raise SourceError(f"{self.where}, frame {numbers[mine[0]]} of the scan is damaged: {err}") from err
                except (OSError, RuntimeError, SystemError, ValueError) as err:
                    raise SourceError(f"{self.where}, frame {numbers[mine[0]]} of the scan cannot be read: "
                                      f"{reason(err)}") from err
                if not there:
                    raise SourceError(f"{self.where}, frame {numbers[mine[0]]} of the scan was never written")
                for target, frame in zip(targets if len(mine) > 1 else (), inside):
                    at = frame * high + r0 - first
                    target[...] = block[at:at + r1 - r0]

    def _region_of(self, corner, rows, wide, first, left, out):
        """Rows from `first` and columns from `left` on of a chunk that has `rows` rows of `wide` numbers, into out
        (h, w); False where it was never written. Raises codec.DamagedChunk."""
        offset, size, skipped = self.places.of(corner)
        if offset < 0:
            return False
        row = wide * self.dtype.itemsize
        if self.handle is None:
            with _lock:
                chunk = self.dataset.id.read_direct_chunk(corner)[1]
        elif not self.filters and size == rows * row:       # nothing but the rows
            chunk = self._bytes(offset + first * row, len(out) * row)
            rows, first = len(out), 0
        else:
            chunk = self._bytes(offset, size)
        codec.decode(chunk, self.filters, skipped, rows, wide, first, left, out)
        return True

    def _rows(self, frames, rows, cols, out, numbers):
        """The wanted rows of a contiguous dataset."""
        if self.start is None:
            raise SourceError(f"{self.where}, frame {numbers[0]} of the scan was never written")
        h, w = self.shape[-2:]
        size = self.dtype.itemsize
        for place, frame in enumerate(frames):
            try:
                flat = self._bytes(self.start + (int(frame) * h + rows.start) * w * size,
                                   (rows.stop - rows.start) * w * size)
            except codec.DamagedChunk as err:
                raise SourceError(f"{self.where}, frame {numbers[place]} of the scan is damaged: {err}") from err
            out[place] = np.frombuffer(flat, self.dtype).reshape(-1, w)[:, cols]

    def _bytes(self, start, size):
        """Bytes of the file, outside HDF5's lock. They are valid until this thread asks for the next ones."""
        if start + size > self._size:       # before room is made for it; each call that lets other threads on costs
            self._size = os.fstat(self.handle).st_size
        if start + size > self._size:
            raise codec.DamagedChunk(f"its {size} bytes reach beyond the end of the file")
        chunk, done = scratch("chunk", size).data, 0
        while done < size:
            got = system.read_into(self.handle, chunk[done:], start + done)
            if not got:
                raise codec.DamagedChunk("the file ends before it does")
            done += got
        return chunk

    def _tiles(self, rows, cols):
        """Which chunks hold these rows and columns: (how many rows of chunks down, how many columns across)."""
        high, wide = self.chunks[-2:]
        return product(range(rows.start // high, -(-rows.stop // high)),
                       range(cols.start // wide, -(-cols.stop // wide)))

    def _refuse_unwritten(self, frames, rows, cols, numbers):
        """Raise for frames that HDF5 would fill with a value that nobody wrote."""
        if self.whole:
            return
        unwritten = 0
        if self.chunks is not None:
            layers, _ = _layers(frames, self.shape[:-2], self.chunks[:-2])
            high, wide = self.chunks[-2:]
            unwritten = next((i for i, corner in enumerate(layers) for r, c in self._tiles(rows, cols)
                              if self.places.of((*corner, r * high, c * wide))[0] < 0), None)
        if unwritten is not None:
            raise SourceError(f"{self.where}, frame {numbers[unwritten]} of the scan was never written")

    def _through_h5py(self, frames, rows, cols, out):
        """Through h5py, in runs of consecutive frames of at most `RUN`."""
        if len(self.shape) == 2:
            out[...] = self.dataset[rows, cols]
            return
        if len(self.shape) > 3:
            for place, at in enumerate(zip(*np.unravel_index(frames, self.shape[:-2]))):
                out[place] = self.dataset[(*at, rows, cols)]
            return
        breaks = np.flatnonzero(np.diff(frames) != 1) + 1
        for lo, hi in zip([0, *breaks], [*breaks, len(frames)]):
            for start in range(lo, hi, RUN):
                stop = min(start + RUN, hi)
                out[start:stop] = self.dataset[frames[start]:frames[stop - 1] + 1, rows, cols]


def depth_of(dataset):
    """How many frames a chunk holds, or may hold in part."""
    layer, inner = (dataset.chunks or ())[:-2], dataset.shape[1:-2]
    for axis, step in enumerate(layer[:-1]):
        if step > 1:            # frames of one chunk lie far apart
            return step * int(np.prod(inner[axis:]))
    return layer[-1] if layer else 1


def all_written(dataset):
    """Whether HDF5 has stored all of a dataset; what it has not reads as a fill value."""
    if dataset.chunks is None:
        return dataset.id.get_storage_size() > 0
    return dataset.id.get_num_chunks() == np.prod([-(-n // step) for n, step in zip(dataset.shape, dataset.chunks)])


def safe_filters(dataset):
    """`codec.own_filters`. What only HDF5's plug-in could decode, and end the process where it is damaged, is refused.

    Raises SourceError for bitshuffle with another filter.
    """
    own, filters = codec.own_filters(dataset), codec.filters_of(dataset)
    if own is None:
        import hdf5plugin  # noqa: F401  registers what HDF5 has to undo; it takes 40 ms
    if own is None and codec.BITSHUFFLE in filters and (len(filters) > 1 or not codec.is_plain(dataset)):
        what = "on top of each other" if len(filters) > 1 else "and numbers of unusual bits"
        raise SourceError(f"{dataset.file.filename}: {dataset.name} is stored with the HDF5 filters "
                          f"{', '.join(map(str, filters))} {what}, which is not safe to read; write it "
                          f"with bitshuffle ({codec.BITSHUFFLE}) alone, or with another filter")
    return own


def filter_hint(dataset):
    """What to install for a dataset's filters, None where they are all there."""
    for code in codec.filters_of(dataset):
        if not h5py.h5z.filter_avail(code):
            package = FILTER_PACKAGES.get(code, "the plug-in for it, and set HDF5_PLUGIN_PATH to its folder")
            return f"its HDF5 filter {code} is not installed; install {package}"
    return None


def reason(err):
    """What an error says, or at least its kind."""
    return str(err).strip() or type(err).__name__


def _handle_of(dataset):
    """The file descriptor of a dataset's file, where the places that HDF5 tells are places in it; else None."""
    file = dataset.file
    return file.id.get_vfd_handle() if file.driver == "sec2" and not file.userblock_size else None


def _layers(frames, shape, layer):
    """For each frame, where its chunk begins along the axes before the frame's own, and its place in the chunk."""
    if not shape:
        return [() for _ in frames], frames
    at, layer = np.stack(np.unravel_index(frames, shape), axis=-1), np.array(layer)
    inside = np.ravel_multi_index(tuple((at % layer).T), layer)
    return [tuple(corner) for corner in (at - at % layer).tolist()], inside
