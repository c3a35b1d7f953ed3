"""`append`: one file that keeps its chunks, made beside finished parts and renamed into place."""
from contextlib import ExitStack, suppress

import h5py
import numpy as np

from ptyprep.sinks.disk import Disk, publish, step, writing
from ptyprep.sinks.link import Link
from ptyprep.sinks.parts import COLUMNS, WEIGHTS, begin_main, end_main, read_chunks, write_columns, write_stack


class Append(Link):
    """Save mode `append`: nothing is there under the output's name until all of it is.

    HDF5 cannot grow one file safely: a crash can take finished chunks with it. So the file grows under another name,
    beside the parts that `resume` makes it again from; these go when it is finished.
    """
    grows = False

    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self._main = self._chunks = None        # the growing file and its group of chunks
        self._disk, self._open = None, ExitStack()
        self._mask, self._one_mask = None, True     # the first mask, compressed; whether all are equal to it

    def abandon(self):
        self._settle()
        with suppress(OSError):
            self._open.close()
        if self._disk is not None:
            (self.parts.folder / "main.tmp").unlink(missing_ok=True)    # the parts hold all that is in it
        super().abandon()

    def _write(self, batch, stored, columns, meta, info, size):
        self._begin()
        super()._write(batch, stored, columns, meta, info, size)
        with writing(self.output):
            self._add(batch.chunk, *stored, tuple(meta["shape"]), batch.dtype, dict(zip(COLUMNS, columns)))
            self._flush(batch.chunk)

    def _show(self, meta, info, tell):
        pass        # no main file before the end

    def _begin(self):
        """Open the growing file, with what an earlier run has finished."""
        if self._main is not None:
            return
        with writing(self.output):
            self._disk = self._open.enter_context(Disk(self.parts.folder / "main.tmp", "w+"))
            self._main = self._open.enter_context(h5py.File(self._disk, "w"))
            self._chunks = begin_main(self._main, self.parts.folder.name)
            for number, path in enumerate(self.parts.finished()):
                with h5py.File(path, "r") as part:
                    self._add(number, read_chunks([path], "data"), list(read_chunks([path], "weights")),
                              part["data"].shape[1:], part["data"].dtype, {name: part[name][()] for name in COLUMNS})
                self._flush(number)

    def _add(self, number, data, weights, shape, dtype, columns):
        """A chunk more in the growing file.

        data, weights : compressed frames and masks; columns : {name: (n, ...)} of all of `COLUMNS`
        """
        self._note_masks(weights)
        target = self._chunks.create_group(str(number))
        target.attrs["type"] = "dict"
        write_stack(target, "data", data, len(weights), shape, dtype, self.encoder)
        write_columns(target, columns)

    def _note_masks(self, weights):
        for packed in weights:
            self._mask = packed if self._mask is None else self._mask
            self._one_mask = self._one_mask and (packed is self._mask or packed == self._mask)

    def _flush(self, number):
        step(f"flush chunk {number}")       # now, while the next is prepared, rather than all at the end
        self._disk.flush_to_disk()

    def _close(self, meta, info):
        self._begin()
        finished = self.parts.finished()
        with writing(self.output):
            if self._one_mask:
                with h5py.File(finished[0], "r") as part:
                    meta = {**meta, "weight2d": part["weights"][0] > 0}
            self._finish_chunks(finished, meta["shape"], masks=not self._one_mask)
            end_main(self._main, meta, info)
            self._open.close()
        # a run that died after this line finds its own file when it is resumed
        publish(self.parts.folder / "main.tmp", self.output, replace=self.parts.replaces or self.parts.made_output())
        self.parts.remove()
        self.parts.remove_others()

    def _finish_chunks(self, finished, shape, *, masks):
        """What can be told at the end only: whether frames have masks of their own."""
        for number, path in enumerate(finished if masks else ()):
            weights = list(read_chunks([path], "weights"))
            write_stack(self._chunks[str(number)], "weights", weights, len(weights), shape, np.uint8, WEIGHTS)
