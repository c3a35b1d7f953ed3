"""`virtual`: every rank writes its own files, and no frame travels between ranks."""
import h5py
import numpy as np

from ptyprep import h5rw
from ptyprep.sinks.disk import hdf5, publish, writing
from ptyprep.sinks.link import Link


class Virtual(Link):
    """Save mode `virtual`: like `link`, but a part only points at the files of the ranks, each of them closed by then.

    A rank's file that is lost reads as frames of weight 0, because HDF5 fills the holes of a virtual dataset with
    0: so its masks are virtual too.
    """

    def _store(self, batch, folder, shape):
        name = f"{batch.chunk:06d}.rank{self.comm.rank:04d}.h5"
        with self.comm.together(f"writing {name}"):
            if len(batch):
                path = folder / name
                temporary = path.with_suffix(".tmp")
                with writing(path), hdf5(temporary) as file:
                    h5rw.stamp(file)
                    super()._fill(file, batch.packed, shape, batch.dtype)
                publish(temporary, path)
        return [(name, n) for name, n in self.comm.each((name, len(batch))) if n]

    def _fill(self, part, stored, shape, dtype):
        _point_at(part, "data", stored, shape, dtype)
        _point_at(part, "weights", stored, shape, np.dtype(np.uint8))


def _point_at(part, name, files, shape, dtype):
    """A virtual dataset whose rows are those of the files, one file after the other."""
    layout = h5py.VirtualLayout((sum(n for _, n in files), *shape), dtype)
    start = 0
    for file, n in files:
        layout[start:start + n] = h5py.VirtualSource(file, name, (n, *shape), dtype)
        start += n
    h5rw.label(part.create_virtual_dataset(name, layout, fillvalue=0).id, "type", "array")
