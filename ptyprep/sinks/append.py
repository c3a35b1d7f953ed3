"""`append`: one file that keeps its chunks; it grows under another name and is renamed into place."""
import os
import secrets
from contextlib import ExitStack, contextmanager, suppress

import h5py
import numpy as np

from ptyprep.errors import OutputError
from ptyprep.hdf5 import h5rw
from ptyprep.sinks import chunks
from ptyprep.sinks.chunks import GROWING, WEIGHTS, write_columns, write_stack
from ptyprep.sinks.disk import Disk, is_ours, publish, step, writing
from ptyprep.sinks.link import Link
from ptyprep.sinks.parts import COLUMNS
from ptyprep.words.spelling import option


class Append(Link):
    """Save mode `append`: nothing is there under the output's name until all of it is.

    HDF5 cannot grow one file safely: a crash loses the way to chunks that are on the disk. So a part tells for each
    chunk where in the growing file its frames lie, and `resume` takes them from there into a new one.
    """
    grows = False

    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self._forget()

    def _forget(self):
        """Nothing is open yet, or no more."""
        self._path = self._main = self._chunks = None       # the growing file and its group of chunks
        self._disk, self._open = None, ExitStack()
        self._mask, self._one_mask = None, True     # the first mask, compressed; whether all are equal to it
        self._copied = 0                            # parts of an earlier run
        self._end = 0                               # of the last frame in the growing file

    def abandon(self):
        self._settle()
        with suppress(OSError):
            self._open.close()
        if self._path is not None and self.parts.count == self._copied:
            self._path.unlink(missing_ok=True)      # no part points there
        super().abandon()
        self._forget()

    def _write(self, batch, stored, columns, meta, info, size):
        self._begin()
        data, weights = stored
        self._look_at_growing()
        with self._writing():
            places = self._add(batch.chunk, data, weights, tuple(meta["shape"]), batch.dtype,
                               dict(zip(COLUMNS, columns)))
            step(f"flush chunk {batch.chunk}")
            self._disk.flush_to_disk()
        self._end = max((at + size for at, size, _ in places), default=self._end)
        super()._write(batch, (places, weights), columns, meta, info, size)

    def _fill(self, part, stored, shape, dtype):
        places, weights = stored
        chunks.write_places(part, self._path.name, places, shape, dtype)
        chunks.write_masks(part, weights, shape)

    def _show(self, meta, info, tell):
        pass        # no main file before the end

    def _begin(self):
        """Begin the growing file, with what an earlier run has finished; its own stays, for its parts point there."""
        if self._main is not None:
            return
        self.parts.check(everything=True)
        folder, finished, needed = self.parts.folder, self.parts.finished(), set()
        for path in finished:
            with h5py.File(path, "r") as part:
                needed.add(part.attrs.get(GROWING))
        for path in folder.glob(f"{GROWING}.*"):
            if path.name not in needed and is_ours(path):       # of a run that ended before its first part
                path.unlink()
        self._copied = len(finished)
        self._path = folder / f"{GROWING}.{secrets.token_hex(4)}"
        with self._writing():
            self._disk = self._open.enter_context(Disk(self._path, "x+"))
            self._main = self._open.enter_context(h5py.File(self._disk, "w"))
            self._chunks = chunks.begin_main(self._main, folder.name)
            for number, path in enumerate(finished):
                with h5py.File(path, "r") as part:
                    shape, dtype = part["data"].shape[1:], part["data"].dtype
                    columns = {name: part[name][()] for name in COLUMNS}
                self._add(number, self.parts.stored(path, "data"), list(self.parts.stored(path, "weights")), shape,
                          dtype, columns)
            self._disk.flush_to_disk()

    @contextmanager
    def _writing(self):
        """A block that writes the growing file: where it could not be written, that is what is said, whatever HDF5
        found when it read it back."""
        with writing(self.output):
            try:
                yield
            except Exception:
                if self._disk is not None:
                    self._disk.check()
                raise

    def _add(self, number, data, weights, shape, dtype, columns):
        """A chunk more in the growing file; where its frames lie there, as `chunks.GrowingStack.add` says.

        data, weights : compressed frames and masks; columns : {name: (n, ...)} of all of `COLUMNS`
        """
        self._note_masks(weights)
        target = h5rw.mapping(self._chunks, str(number))
        places = write_stack(target, "data", data, len(weights), shape, dtype, self.encoder, self._disk)
        write_columns(target, columns)
        return places

    def _note_masks(self, weights):
        for packed in weights:
            self._mask = packed if self._mask is None else self._mask
            self._one_mask = self._one_mask and (packed is self._mask or packed == self._mask)

    def _look_at_growing(self):
        """Raise OutputError where the growing file is not the one under its name any more, or is cut off; or where
        another has made the output meanwhile, which is better said before hours of work than after."""
        mine = os.fstat(self._disk.fileno())
        try:
            same = os.path.samestat(os.lstat(self._path), mine)
        except FileNotFoundError:
            same = False
        if not same or mine.st_size < self._end:
            with writing(self.output):
                self._path.parent.stat()        # where all of it is gone, that is what is said
            raise OutputError(f"{self.output}: {self._path.name} in {self._path.parent.name}, the file of all frames "
                              f"that grows, is not there any more, or is another. Set {option('resume', True)} to make "
                              "them again")
        if os.path.lexists(self.output) and not self.parts.may_replace():
            raise OutputError(f"{self.output} exists: something else has made it meanwhile")

    def _close(self, meta, info):
        self._begin()
        self._look_at_growing()
        finished = self.parts.finished()
        with self._writing():
            if self._one_mask:
                with h5py.File(finished[0], "r") as part:
                    meta = {**meta, "weight2d": part["weights"][0] > 0}
            self._finish_chunks(finished, meta["shape"], masks=not self._one_mask)
            chunks.end_main(self._main, meta, info)
            self._open.close()
        # a run that died after this line finds its own file when it is resumed
        publish(self._path, self.output, replace=self.parts.may_replace(), keep=True)
        self.parts.remove()
        self.parts.remove_others()

    def _finish_chunks(self, finished, shape, *, masks):
        """What can be told at the end only: whether frames have masks of their own."""
        for number, path in enumerate(finished if masks else ()):
            weights = list(self.parts.stored(path, "weights"))
            write_stack(self._chunks[str(number)], "weights", weights, len(weights), shape, np.uint8, WEIGHTS)
