"""`virtual`: every rank writes its own files, and no frame travels between ranks."""
import h5py
import numpy as np
from isal import isal_zlib

from ptyprep.hdf5 import h5rw
from ptyprep.sinks.chunks import checksum_of_frames
from ptyprep.sinks.disk import Written, hdf5, publish, temporary, writing
from ptyprep.sinks.link import Link


class Virtual(Link):
    """Save mode `virtual`: like `link`, but a part only points at the files of the ranks, each of them closed by then.

    A rank's file that is lost reads as frames of weight 0, because HDF5 fills the holes of a virtual dataset with
    0: so its masks are virtual too.
    """

    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self._written = Written(f"files of rank {self.comm.rank}")      # it alone knows them
        self._announced = None

    def _look(self, *, everything):
        with self.comm.together("looking for the files of the ranks"):
            self._written.check(self.output, everything=everything)

    def _store(self, batch, folder, meta):
        more, self._announced = self._announced not in (None, meta["num_frames"]), meta["num_frames"]
        name = f"{batch.chunk:06d}.rank{self.comm.rank:04d}.h5"
        with self.comm.together(f"writing {name}"):
            self._written.check(self.output, everything=more)       # a main file is to tell of more
            sums = [np.array([isal_zlib.crc32(piece) for piece in pieces], np.uint32) for pieces in batch.packed]
            if len(batch):
                path = folder / name
                fresh = temporary(path)
                with writing(path), hdf5(fresh) as file:
                    h5rw.stamp(file)
                    super()._fill(file, batch.packed, meta["shape"], batch.dtype)
                publish(fresh, path)
                self._written.add(path)
        return [of_rank for of_rank in self.comm.each((name, len(batch), *sums)) if of_rank[1]]

    def _fill(self, part, stored, shape, dtype):
        names, counts, data, weights = zip(*stored)
        _point_at(part, "data", list(zip(names, counts)), np.concatenate(data), shape, dtype)
        _point_at(part, "weights", list(zip(names, counts)), np.concatenate(weights), shape, np.dtype(np.uint8))


def _point_at(part, name, files, sums, shape, dtype):
    """A virtual dataset whose rows are those of the files, one file after the other; and the checksums of what they
    hold, so that none is taken for another."""
    layout = h5py.VirtualLayout((sum(n for _, n in files), *shape), dtype)
    start = 0
    for file, n in files:
        layout[start:start + n] = h5py.VirtualSource(file, name, (n, *shape), dtype)
        start += n
    dataset = part.create_virtual_dataset(name, layout, fillvalue=0).id
    h5rw.label(dataset, "type", "array")
    h5rw.label(dataset, h5rw.CHECKSUM, checksum_of_frames(sums))
