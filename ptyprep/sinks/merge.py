"""`merge`: one file with a single chunk, the most portable kind; it grows like that of `append`."""
import numpy as np

from ptyprep.hdf5 import h5rw
from ptyprep.sinks.append import Append
from ptyprep.sinks.chunks import WEIGHTS, GrowingStack, write_columns, write_stack
from ptyprep.sinks.parts import COLUMNS


class Merge(Append):
    """Save mode `merge`: one chunk holds all frames, which is the only kind that PyNX reads."""

    def _forget(self):
        super()._forget()
        self._stack, self._columns = None, {name: [] for name in COLUMNS}

    def _add(self, number, data, weights, shape, dtype, columns):
        self._note_masks(weights)
        if self._stack is None:
            target = h5rw.mapping(self._chunks, "0")
            self._stack = GrowingStack(target, "data", shape, dtype, self.encoder)
        for name, values in columns.items():
            self._columns[name].append(values)
        return self._stack.add(data, len(weights), self._disk)

    def _finish_chunks(self, finished, shape, *, masks):
        self._stack.finish()
        columns = {name: np.concatenate(values) for name, values in self._columns.items()}
        if masks:
            weights = (packed for path in finished for packed in self.parts.stored(path, "weights"))
            write_stack(self._chunks["0"], "weights", weights, len(columns["indices"]), shape, np.uint8, WEIGHTS)
        write_columns(self._chunks["0"], columns)
