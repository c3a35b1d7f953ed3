"""`link`: a main file whose chunks are links to part files; it can be read while it grows."""
import shutil
from pathlib import Path

import h5py
import numpy as np

from ptyprep.errors import OutputError
from ptyprep.sinks.parts import WEIGHTS, Parts, publish, runs, write_main


class Link:
    """Save mode `link`: all links are made with the first part, and others appear in order under a polling reader.

    The main file comes when part 0 is there, because PtyPy cannot open it before, and is never opened for writing:
    a last one with the true count replaces it at the end. Masks are per frame in every chunk, because nobody knows
    yet whether all will be equal.
    """

    def __init__(self, output, comm, encoder, *, overwrite=False, resume=False):
        self.output, self.comm, self.encoder = Path(output), comm, encoder
        self.overwrite, self.resume = overwrite, resume
        self.parts = Parts(self.output, encoder)
        self.published = False          # by this run, under the output's name

    def ready(self, fingerprint):
        """Refuse what must not be overwritten; (chunks, frames, scan points, bad frames) done by an earlier run."""
        return self.comm.from_root(lambda: self.parts.ready(fingerprint, overwrite=self.overwrite, resume=self.resume))

    def write(self, batch, meta, info, chunks):
        """Add a chunk: complete or absent for whoever looks. Every rank brings its rows; root writes them.

        meta, info : as known so far; chunks : how many there will be, None if that is not known
        """
        with self.comm.together(f"compressing chunk {batch.chunk}"):
            frames, weights = self.encoder.encode(batch.data), encode_masks(batch.weight)
        columns = [self._gather(frames), self._gather(weights),
                   *map(self.comm.rows_to_root, (batch.index, batch.frame, batch.position))]
        self.comm.from_root(lambda: self._write(batch, columns, meta, info, chunks))

    def close(self, meta, info):
        """End the scan with the true meta and info."""
        self.comm.from_root(lambda: self._close(meta, info))

    def abandon(self):
        """After a failure: finished chunks stay, for resume; a run without one leaves nothing."""
        if self.comm.is_root and self.parts.folder is not None and not self.parts.finished():
            self.parts.remove()

    def _gather(self, pieces):
        """The compressed pieces of all ranks, on root."""
        sizes = self.comm.rows_to_root(np.array([len(p) for p in pieces], np.int64))
        flat = self.comm.rows_to_root(np.frombuffer(b"".join(pieces), np.uint8))
        if not self.comm.is_root:
            return None
        ends = np.cumsum(sizes)
        return [flat[end - size:end].data for end, size in zip(ends, sizes)]

    def _write(self, batch, columns, meta, info, chunks):
        self._refuse_endless(chunks)
        if self.parts.folder is None:
            self.parts.begin()
        self.parts.write(batch, batch.data.shape[1:], batch.data.dtype, columns)
        if not self.published:
            self._begin(meta, info, chunks)

    def _refuse_endless(self, chunks):
        if chunks is None:
            raise OutputError(f"{self.output}: save='link' makes its links first and must know how many frames come; "
                              f"set num_frames, or save='append'")

    def _begin(self, meta, info, chunks):
        self._publish(meta, info, chunks, replace=self.overwrite or self.resume)
        self._remove_other_runs()

    def _close(self, meta, info):
        self._publish(meta, info, len(self.parts.finished()), replace=True)
        self.parts.finish()

    def _publish(self, meta, info, count, *, replace):
        def links(group):
            for n in range(count):
                group[str(n)] = h5py.ExternalLink(f"{self.parts.folder.name}/{self.parts.path(n).name}", "/")
        publish(write_main(self.output, meta, info, links), self.output, replace=replace)
        self.published = True

    def _remove_other_runs(self):
        for folder in runs(self.output):
            if folder != self.parts.folder:
                shutil.rmtree(folder, ignore_errors=True)


def encode_masks(masks):
    """The compressed masks (n, h, w); a mask equal to the one before is not compressed again."""
    encoded, last = [], None
    for mask in masks:
        if last is None or not np.array_equal(mask, last):
            packed, last = WEIGHTS.encode(mask[None].astype("u1"))[0], mask
        encoded.append(packed)
    return encoded
