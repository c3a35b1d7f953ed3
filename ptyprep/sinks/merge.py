"""`merge`: one file with a single chunk, the most portable kind, put together from finished parts."""
import h5py
import numpy as np

from ptyprep.sinks.append import Append
from ptyprep.sinks.parts import WEIGHTS, write_columns, write_stack


class Merge(Append):
    """Save mode `merge`: one chunk holds all frames, which is the only kind that PyNX reads. Compressed frames are
    copied as they are."""

    def _copy(self, group, finished, masks):
        target = group.create_group("0")
        target.attrs["type"] = "dict"
        with h5py.File(finished[0], "r") as part:
            shape, dtype = part["data"].shape[1:], part["data"].dtype
        columns = {name: [] for name in ("indices", "frame_ids", "positions")}
        for path in finished:
            with h5py.File(path, "r") as part:
                for name, found in columns.items():
                    found.append(part[name][()])
        columns = {name: np.concatenate(found) for name, found in columns.items()}
        n = len(columns["indices"])
        write_stack(target, "data", _stored(finished, "data"), n, shape, dtype, self.encoder)
        if masks:
            write_stack(target, "weights", _stored(finished, "weights"), n, shape, np.uint8, WEIGHTS)
        write_columns(target, columns)


def _stored(parts, name):
    """The compressed frames of these part files, one after the other."""
    for path in parts:
        with h5py.File(path, "r") as part:
            dataset = part[name]
            for i in range(len(dataset)):
                yield dataset.id.read_direct_chunk((i, 0, 0))[1]
