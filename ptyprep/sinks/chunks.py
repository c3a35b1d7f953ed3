"""How chunks lie in a file: frames compressed one by one, masks and columns, with checksums; and the main file."""
import os
from functools import partial

import numpy as np
from isal import isal_zlib

from ptyprep.hdf5 import h5rw
from ptyprep.hdf5.codec import MaskEncoder
from ptyprep.sinks.disk import hdf5, open_ours, temporary, writing

WEIGHTS = MaskEncoder()             # every reader must be able to open masks
GROWING = "growing"                 # how the file of all frames is called in the run's folder, and a part's attribute
CHECKED = 8192                      # numbers that the attribute of a dataset holds at most: HDF5 allows 64 kB


def write_places(part, growing, places, shape, dtype):
    """Frames that lie in the growing file of that name, by `places` (n, 3): where, how many bytes, their checksum."""
    h5rw.label(part.id, GROWING, growing)
    part.create_dataset("data", (0, *shape), dtype)
    write_columns(part, {"places": np.array(places, np.uint64)})


def write_masks(part, masks, shape):
    """Compressed masks of frames into a part that only `stored` reads: one where those that follow are equal to it, and
    `which` of them each frame has."""
    different, which = [], []
    for mask in masks:
        if not different or mask is not different[-1] and mask != different[-1]:
            different.append(mask)
        which.append(len(different) - 1)
    write_stack(part, "weights", different, len(different), shape, np.uint8, WEIGHTS)
    write_columns(part, {"which": np.array(which)})


def chunks_of(dataset):
    """The compressed frames of a dataset. Raises ValueError where they are others than were written."""
    sums = []
    for i in range(len(dataset)):
        chunk = dataset.id.read_direct_chunk((i, 0, 0))[1]
        sums.append(isal_zlib.crc32(chunk))
        yield chunk
    if not np.array_equal(checksum_of_frames(sums), dataset.attrs[h5rw.CHECKSUM]):
        raise ValueError(f"{dataset.file.filename}: {dataset.name} has another checksum")


def chunks_at(path, places):
    """The bytes of a file at these places. Raises ValueError where they are others."""
    with open(open_ours(path, os.O_RDONLY), "rb", buffering=0) as file:
        for start, size, told in places.tolist():
            chunk = os.pread(file.fileno(), size, start)
            if len(chunk) != size or not size or isal_zlib.crc32(chunk) != told:
                raise ValueError(f"{path}: the bytes at {start} have another checksum")
            yield chunk


class GrowingStack:
    """A dataset (n, h, w) that grows, with one compressed frame in each chunk, and the checksums of what is stored."""

    def __init__(self, group, name, shape, dtype, encoder, n=None):
        self._dataset = group.create_dataset(name, (n or 0, *shape), dtype, chunks=(1, *shape),
                                             maxshape=(n, *shape), **encoder.filters(dtype))
        h5rw.label(self._dataset.id, "type", "array")
        self._sums = []

    def add(self, chunks, n, disk=None):
        """Add `n` compressed frames, from any iterable.

        disk : the file that is written, where they are to be found again

        Returns [(where in the file, how many bytes, their checksum)], [] without disk.
        """
        start, places, dataset = len(self._sums), [], self._dataset.id
        if len(self._dataset) < start + n:
            self._dataset.resize(start + n, axis=0)
        for i, chunk in enumerate(chunks, start):
            self._sums.append(isal_zlib.crc32(chunk))
            write = partial(dataset.write_direct_chunk, (i, 0, 0), chunk)
            if disk is None:
                write()
                continue
            at = disk.place_of(len(chunk), write)
            if at is None:
                at = dataset.get_chunk_info_by_coord((i, 0, 0)).byte_offset
            places.append((at, len(chunk), self._sums[-1]))
        return places

    def finish(self):
        """Add the checksums."""
        h5rw.label(self._dataset.id, h5rw.CHECKSUM, checksum_of_frames(self._sums))


def write_stack(group, name, chunks, n, shape, dtype, encoder, disk=None):
    """A dataset (n, h, w) of `n` compressed frames, from any iterable; see `GrowingStack.add`."""
    stack = GrowingStack(group, name, shape, dtype, encoder, n)
    places = stack.add(chunks, n, disk)
    stack.finish()
    return places


def checksum_of_frames(sums):
    """The checksums of frames as an attribute can hold them: one for each, or for each `CHECKED` of them together."""
    if len(sums) <= CHECKED:
        return np.array(sums, np.uint32)
    return np.array([isal_zlib.crc32(np.array(sums[i:i + CHECKED], np.uint32)) for i in range(0, len(sums), CHECKED)],
                    np.uint32)


def write_columns(group, columns):
    """Numbers of each frame, as {name: array}, with the checksum of their bytes."""
    for name, values in columns.items():
        dataset = h5rw.dataset(group.id, name, values)
        h5rw.label(dataset, "type", "arraylist" if name == "indices" else "array")
        h5rw.label(dataset, h5rw.CHECKSUM, np.uint32(isal_zlib.crc32(np.ascontiguousarray(values))))


def write_main(output, meta, info, chunks, *, run="", folder=None):
    """A main `.ptyd` file under a temporary name, which is returned: meta, info, and its chunks by `chunks(group)`.

    folder : where it is written, that of `output` if None
    """
    fresh = temporary(output if folder is None else folder / output.name)
    try:
        with writing(output), hdf5(fresh) as main:
            chunks(begin_main(main, run))
            end_main(main, meta, info)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return fresh


def begin_main(main, run):
    """The group of chunks in a new main file, which says which run made it."""
    h5rw.stamp(main)
    h5rw.label(main.id, h5rw.RUN, run)
    return h5rw.mapping(main, "chunks")


def end_main(main, meta, info):
    """What a main file tells of all frames."""
    h5rw.write(main, "meta", meta)
    h5rw.write(main, "info", info)
