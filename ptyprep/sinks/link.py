"""`link`: a main file whose chunks are links to part files; it can be read while it grows."""
import json
from concurrent import futures
from pathlib import Path

import h5py
import numpy as np

from ptyprep.errors import OutputError
from ptyprep.hdf5 import h5rw
from ptyprep.parallel.threads import in_background
from ptyprep.sinks.chunks import WEIGHTS, write_stack
from ptyprep.sinks.disk import publish
from ptyprep.sinks.parts import Parts
from ptyprep.sinks.runs import FINGERPRINT
from ptyprep.words.spelling import option


class Link:
    """Save mode `link`: all links are made with the first part, and others appear in order under a polling reader.

    The main file comes when part 0 is there, because PtyPy cannot open it before, and is never opened for writing:
    another takes its place where more frames come than were foreseen, and a last one with the true count. Masks are
    per frame in every chunk, because nobody knows yet whether all will be equal.
    """
    grows = True        # a reader may follow it

    def __init__(self, output, comm, *, overwrite=False, resume=False):
        self.output, self.comm = Path(output), comm
        self.may = {"overwrite": overwrite, "resume": resume}
        self.parts = Parts(self.output)
        self.encoder = None
        self._pending = None            # the chunk that is being written, a Future
        self._handed = -1               # the last chunk that root was given to write
        self.told = None                # (frames, links) by the main file that this run has put there

    def ready(self, fingerprint, info, encoder):
        """How far an earlier run came that is continued, or that it is finished, as in `parts.FRESH`.

        fingerprint, info : functions that root calls: {name: text} that must not differ, given that of the earlier
            run or None; and what /info will hold, which is tried out now rather than after the work
        encoder : how frames are compressed
        """
        self.encoder = encoder

        def ready():
            h5rw.check("info", info())
            return self.parts.ready(fingerprint, encoder, **self.may)
        return self.comm.from_root(ready)

    def pack(self, frames, masks):
        """Frames (n, h, w), C-contiguous, and their `Masks`, as lists of the bytes that the file will hold."""
        return self.encoder.encode(frames), WEIGHTS.encode_masks(masks)

    def write(self, batch, meta, info, size, *, wait=True):
        """Add a chunk: complete or absent for whoever looks. Every rank brings its rows; root writes them, and while
        it does the next chunk can be prepared, unless it is to `wait`: then a failure is heard of with that one, but
        for one that the disk only tells when it is flushed.

        meta : as known so far, num_frames being the most that will come; info : function that root calls
        size : how many frames are asked for in each chunk
        """
        folder = self.comm.from_root(self._prepare, size)
        stored = self._store(batch, folder, meta)
        columns = batch.chunk_index, batch.chunk_frame, batch.chunk_position
        self.comm.from_root(self._hand_over, wait, batch, stored, columns, meta, info, size)

    def close(self, meta, info, more):
        """End the scan with the true meta and info.

        more : what the run's fingerprint is in the end, besides what it was in the beginning

        Raises OutputError where a file that was written is not there any more.
        """
        def close():
            self._wait()
            self.parts.check(everything=True)
            if self.parts.frames != meta["num_frames"]:
                raise OutputError(f"{self.output}: {self.parts.frames} frames are in its finished parts, and readers "
                                  f"would be told of {meta['num_frames']}. Set {option('overwrite', True)} to start "
                                  "again")
            told = {**self.parts.fingerprint, **more}
            self._close(meta, {**info(), FINGERPRINT: json.dumps(told)})
        self._look(everything=True)
        self.comm.from_root(close)

    def _look(self, *, everything):
        """Raise OutputError where this rank's own files are not as it has written them. All ranks call it."""

    def abandon(self):
        """After a failure: finished chunks stay, for resume; a run without one leaves nothing."""
        self._settle()
        if self.comm.is_root and self.parts.folder is not None:
            self.parts.abandon()

    def _settle(self):
        """Until nothing is being written any more, whatever came of it."""
        if self._pending is not None:
            futures.wait([self._pending])

    def _hand_over(self, wait, *job):
        self._wait()
        number = job[0].chunk
        if number <= self._handed:      # it is there, or half of it, and the run failed before it learned that
            raise OutputError(f"{self.output}: chunk {number} was written when the run failed; go on with "
                              f"{option('resume', True)}, in a new scan")
        self._handed = number
        self._pending = in_background("writes", self._write, *job)
        if wait:
            self._wait()

    def _wait(self):
        """Until the chunk before is written; raises what went wrong with it."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def _prepare(self, size):
        self.parts.begin(size)
        return self.parts.folder

    def _store(self, batch, folder, meta):
        """Bring the compressed frames and masks of all ranks to root: what `_fill` puts into a part."""
        return [self.comm.pieces_to_root(pieces) for pieces in batch.packed]

    def _fill(self, part, stored, shape, dtype):
        data, weights = stored
        write_stack(part, "data", data, len(data), shape, dtype, self.encoder)
        write_stack(part, "weights", weights, len(weights), shape, np.uint8, WEIGHTS)

    def _write(self, batch, stored, columns, meta, info, size):
        frames = meta["num_frames"]
        tell = frames, max(-(-frames // size), batch.chunk + 1)
        if self.told not in (None, tell):       # more come than were foreseen: readers hear of it before they are there
            self._show(meta, info, tell)
        self.parts.write(batch, lambda part: self._fill(part, stored, meta["shape"], batch.dtype), columns, frames,
                         flush=self.grows)
        if self.told is None:
            self._show(meta, info, tell)

    def _show(self, meta, info, tell):
        """A main file with links to so many parts."""
        self._publish(meta, info(), tell[1])
        self.told = tell
        self.parts.remove_others()

    def _close(self, meta, info):
        self._publish(meta, info, self.parts.count)
        self.parts.finish()

    def _publish(self, meta, info, count):
        self.parts.check(everything=True)

        def links(group):
            for n in range(count):
                group[str(n)] = h5py.ExternalLink(f"{self.parts.folder.name}/{self.parts.path(n).name}", "/")
        publish(self.parts.write_main(meta, info, links), self.output,
                replace=self.parts.may_replace())
