"""`link`: a main file whose chunks are links to part files; it can be read while it grows."""
from pathlib import Path

import h5py
import numpy as np

from ptyprep import h5rw
from ptyprep.errors import OutputError
from ptyprep.sinks.disk import publish
from ptyprep.sinks.parts import WEIGHTS, Parts, write_stack


class Link:
    """Save mode `link`: all links are made with the first part, and others appear in order under a polling reader.

    The main file comes when part 0 is there, because PtyPy cannot open it before, and is never opened for writing:
    a last one with the true count replaces it at the end. Masks are per frame in every chunk, because nobody knows
    yet whether all will be equal.
    """

    def __init__(self, output, comm, *, overwrite=False, resume=False):
        self.output, self.comm = Path(output), comm
        self.may = {"overwrite": overwrite, "resume": resume}
        self.parts = Parts(self.output)
        self.encoder = None
        self.published = False          # by this run, under the output's name

    def refuse(self, inputs):
        """Raise OutputError, before any work, where such an output must not be made; `inputs` are read."""
        self.comm.from_root(lambda: self.parts.refuse(inputs, **self.may))

    def ready(self, fingerprint, info, encoder):
        """How far an earlier run came that is continued: {"chunk", "frames", "points", "bad", "blind"}.

        fingerprint, info : functions that root calls: {name: text} that must not differ, and what /info will hold,
            which is tried out now rather than after the work
        encoder : how frames are compressed
        """
        self.encoder = encoder

        def ready():
            h5rw.check("info", info())
            return self.parts.ready(fingerprint(), encoder, **self.may)
        return self.comm.from_root(ready)

    def write(self, batch, meta, info, size):
        """Add a chunk: complete or absent for whoever looks. Every rank brings its rows; root writes them.

        meta : as known so far; info : function that root calls; size : how many frames are asked for in each chunk
        """
        folder = self.comm.from_root(lambda: self._prepare(meta, size))
        with self.comm.together(f"compressing chunk {batch.chunk}"):
            data, weights = self.encoder.encode(batch.data), encode_masks(batch.weight)
        fill = self._store(batch, folder, data, weights)
        columns = [self.comm.rows_to_root(column) for column in (batch.index, batch.frame, batch.position)]
        self.comm.from_root(lambda: self._write(batch, fill, columns, meta, info, size))

    def close(self, meta, info):
        """End the scan with the true meta and info."""
        self.comm.from_root(lambda: self._close(meta, info()))

    def abandon(self):
        """After a failure: finished chunks stay, for resume; a run without one leaves nothing."""
        if self.comm.is_root and self.parts.folder is not None:
            if self.parts.finished():
                self.parts.release()
            else:
                self.parts.remove()

    def _prepare(self, meta, size):
        self._count(meta["num_frames"], size)
        self.parts.begin(size)
        return self.parts.folder

    def _store(self, batch, folder, data, weights):
        """Bring the compressed frames and masks of all ranks to root; what puts them into a part."""
        data, weights = self._gather(data), self._gather(weights)
        shape, dtype = batch.data.shape[1:], batch.data.dtype

        def fill(part):
            write_stack(part, "data", data, len(data), shape, dtype, self.encoder)
            write_stack(part, "weights", weights, len(weights), shape, np.uint8, WEIGHTS)
        return fill

    def _gather(self, pieces):
        """The compressed pieces of all ranks, on root."""
        sizes = self.comm.rows_to_root(np.array([len(p) for p in pieces], np.int64))
        flat = self.comm.rows_to_root(np.frombuffer(b"".join(pieces), np.uint8))
        if not self.comm.is_root:
            return None
        ends = np.cumsum(sizes)
        return [flat[end - size:end].data for end, size in zip(ends, sizes)]

    def _write(self, batch, fill, columns, meta, info, size):
        self.parts.write(batch, fill, *columns)
        if not self.published:
            self._begin(meta, info(), self._count(meta["num_frames"], size))

    def _count(self, frames, size):
        """How many chunks there will be."""
        if frames is None:
            raise OutputError(f"{self.output}: save='link' makes its links first and must know how many frames come; "
                              f"set num_frames, or save='append'")
        return -(-frames // size)

    def _begin(self, meta, info, chunks):
        self._publish(meta, info, chunks, replace=self.parts.replaces or self.parts.made_output())
        self.parts.remove_others()

    def _close(self, meta, info):
        self._publish(meta, info, len(self.parts.finished()), replace=True)
        self.parts.finish()

    def _publish(self, meta, info, count, *, replace):
        def links(group):
            for n in range(count):
                group[str(n)] = h5py.ExternalLink(f"{self.parts.folder.name}/{self.parts.path(n).name}", "/")
        publish(self.parts.write_main(meta, info, links), self.output, replace=replace)
        self.published = True


def encode_masks(masks):
    """The compressed masks (n, h, w); a mask equal to the one before is not compressed again."""
    encoded, last = [], None
    for mask in masks:
        if last is None or not np.array_equal(mask, last):
            packed, last = WEIGHTS.encode(mask[None].astype("u1"))[0], mask
        encoded.append(packed)
    return encoded
