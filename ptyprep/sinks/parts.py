"""Chunks of a `.ptyd` as part files: complete or absent, in order, and found again after an interruption.

A run keeps its parts in a folder beside the output, `<stem>.<run id>/000000.h5` …, new for every run, so that
a reader never meets parts of another run under the same name. A part is written under a temporary name, flushed
to the disk and renamed; part n appears only when 0 … n - 1 are there. Beside them lie

    run.json        what is being prepared: `resume` compares it
    log.jsonl       a copy of that, and a line for each part: where in the scan it ends, and the frames that could not
                    be read
    lock            locked while a process writes the run, so that nobody takes a running one for an interrupted one
"""
import os
from pathlib import Path
from secrets import token_hex

import h5py
import numpy as np
from isal import isal_zlib

from ptyprep.errors import OutputError
from ptyprep.hdf5 import h5rw
from ptyprep.hdf5.first_look import damaged
from ptyprep.sinks import runs
from ptyprep.sinks.chunks import GROWING, checksum_of_frames, chunks_at, chunks_of, write_columns, write_main
from ptyprep.sinks.disk import (
    UNREADABLE,
    Written,
    discard,
    hdf5,
    is_ours,
    listed,
    publish,
    remove,
    step,
    temporary,
    writing,
)
from ptyprep.words.spelling import option

COLUMNS = ("indices", "frame_ids", "positions")
FRESH = {"chunk": 0, "frames": 0, "points": 0, "bad": [], "blind": 0, "blank": 0, "told": None, "dtype": None,
         "position": None, "lost": [], "near": [], "counted": (0, 0, 0), "finished": False, "notes": []}


class Parts:
    """The folder of one run; only root uses it.

    output : path of the .ptyd
    written : the files that this run, and the one that it continues, have named; `count` of them are parts, with so
        many `frames`
    """

    def __init__(self, output):
        self.output = output
        self.folder = self.encoder = self.fingerprint = self._dtype = self._size = None
        self.replaces = False           # whether the output may replace another
        self.written, self.count, self.frames = Written("finished files"), 0, 0
        self._continues, self._replaced, self._damaged = False, None, {}

    def ready(self, fingerprint, encoder, *, overwrite, resume):
        """Find the run to continue, or none: how far it came, as in `FRESH`. Nothing is written yet, but what a dead
        run has left is cleaned up.

        Raises OutputError for what `refuse` says, when the output is one of the files that are read, and when what
        would be resumed, or is finished, differs, with the differences.
        """
        self.fingerprint, self.encoder, self.replaces = fingerprint(None), encoder, overwrite
        read = [Path(told[len("source "):]) for told in self.fingerprint if told.startswith("source ")]
        runs.refuse(self.output, read, overwrite=overwrite, resume=resume)
        runs.sweep(self.output)
        self._replaced = runs.made_by(self.output)[0]
        before = runs.earlier(self.output) if resume else runs.Earlier()
        if before.finished:
            return self._finished(before, fingerprint)
        notes = [f"{folder.name} is left alone: neither run.json nor log.jsonl in it says what its parts were made "
                 f"with. Remove it, if nobody needs it" for folder in runs.unknown(self.output)] if resume else []
        done = self._continue(before.folder, fingerprint) if before.folder is not None else FRESH
        return {**done, "notes": [*notes, *done["notes"]]}

    def begin(self, size):
        """Make the folder of a new run with `size` frames in a chunk, if there is none; hold its lock from now on."""
        if self.folder is None:
            with writing(self.output):
                self._make_folder()
            self._size = size
            self._say(finished=False)
        elif not runs.is_held(self.folder):     # after `abandon`
            runs.lock(self.folder)
        if size != self._size:
            raise OutputError(f"{self.output}: chunks of one file have one size: it began with {self._size} frames in "
                              f"each, now {size} are asked for")

    def _make_folder(self):
        """Make a run's folder and lock it; another one where `runs.sweep` of another process was sooner."""
        for left in (2, 1, 0):
            self.folder = self.output.with_name(f"{self.output.stem}.{token_hex(4)}")   # known, for `abandon`
            self.folder.mkdir()
            try:
                runs.lock(self.folder)
                return
            except OutputError:
                if not left:
                    raise
                remove(self.folder)

    def finished(self):
        """The part files that were written, in order."""
        return [self.path(number) for number in range(self.count)]

    def path(self, number):
        return self.folder / f"{number:06d}.h5"

    def check(self, *, everything):
        """Raise OutputError where a part is not there any more, or is another, before readers are told of it."""
        self.written.check(self.output, everything=everything)

    def write(self, batch, fill, columns, told, *, flush):
        """Write one part, whole: `fill(part)` puts data and weights into it.

        columns : arrays of all its rows, as `COLUMNS` names them
        told : the number of frames that readers are told from now on
        flush : whether the part outlives a machine that stops; else `resume` finds out that it did not
        """
        dtype = batch.dtype
        if self._dtype is not None and self._dtype != dtype:
            raise OutputError(f"{self.output}: chunk {batch.chunk} has frames of {dtype}, those before {self._dtype}: "
                              f"a .ptyd holds one kind of number; make correct() return always the same")
        self._dtype, path = dtype, self.path(batch.chunk)
        self.check(everything=False)
        fresh = temporary(path)
        with writing(path), hdf5(fresh) as part:
            h5rw.stamp(part)
            h5rw.label(part.id, h5rw.RUN, self.folder.name)
            fill(part)
            write_columns(part, dict(zip(COLUMNS, columns)))
        n = len(columns[0])
        runs.write_log(self.folder, {
            "chunk": batch.chunk, "frames": n, "points": batch.points.stop, "bad": batch.bad,
            "blind": batch.blind, "blank": 0 if len(batch.points) else n, "told": told,
            "lost": batch.lost, "near": batch.near, "counted": batch.counted}, flush=flush)   # there before its part is
        publish(fresh, path, flush=flush)
        self._add(path, n)

    def _add(self, path, frames):
        self.written.add(path)
        self.count, self.frames = self.count + 1, self.frames + frames

    def write_main(self, meta, info, chunks):
        """The main file under a temporary name, which is returned; it tells which run made it."""
        return write_main(self.output, meta, info, chunks, run=self.folder.name, folder=self.folder)

    def may_replace(self):
        """Whether the file under the output's name may be replaced: it is of this run, or the user wants it so."""
        return self.replaces or self.made_output()

    def made_output(self):
        """Whether the file under the output's name is of this run."""
        return runs.made_by(self.output)[0] == self.folder.name

    def abandon(self):
        """After a failure: finished parts stay, for resume. A run without one leaves nothing, nor does one whose
        output another run has made meanwhile: nobody could go on with it."""
        maker = runs.made_by(self.output)[0]
        beaten = not self.replaces and bool(maker) and maker != self.folder.name
        if beaten or not (self.count or self._continues):
            self.remove()
            self.folder = None
        else:
            runs.release(self.folder)

    def finish(self):
        """Mark the run as finished, for those who look for interrupted ones."""
        self._say(finished=True)
        self._end(self.folder)

    def _end(self, folder):
        runs.release(folder)
        for name in (runs.LOG_FILE, runs.LOCK_FILE):        # of use only to a run that goes on
            step(f"remove {name}")
            (folder / name).unlink(missing_ok=True)
        for path in folder.glob("*.tmp"):                   # it died while it wrote that it was finished
            if is_ours(path):
                path.unlink(missing_ok=True)

    def remove(self):
        remove(self.folder)
        runs.release(self.folder)

    def remove_others(self):
        """Remove the folders of other runs towards this output, which it replaces."""
        replaced = [folder for folder in runs.unknown(self.output) if folder.name == self._replaced]
        for folder in [*runs.runs(self.output), *replaced]:
            if folder != self.folder and not runs.writer(folder):
                remove(folder)

    def _say(self, *, finished):
        """Write what the run is, and, while it is not finished, a copy of that in the log."""
        state = {"run": self.folder.name, "output": self.output.name, "replaces": self.replaces, "size": self._size,
                 "finished": finished, runs.FINGERPRINT: self.fingerprint}
        runs.write_state(self.folder, state)
        if not finished:
            runs.write_log(self.folder, {"state": state}, flush=True)

    # --- an earlier run -----------------------------------------------------------------------------------

    def _finished(self, before, fingerprint):
        """What `ready` says of a run that has ended; what it left when it died right after is removed."""
        if before.fingerprint is None:
            raise OutputError(f"{self.output} is there and does not say what it was prepared with: an older ptyprep, "
                              "merge or repair made it, or its run was interrupted and lost its run.json. Whether "
                              f"there is anything to resume cannot be told; set {option('overwrite', True)} to make it "
                              "again, or name another output")
        self._compare(before.fingerprint, fingerprint(before.fingerprint), "is finished, and of another scan")
        if lost := runs.lost_parts(self.output):
            if before.folder in runs.unfinished(self.output):
                return self._continue(before.folder, fingerprint)
            raise OutputError(f"{self.output} is finished, but files of it are lost or cut off: {listed(lost)}. Set "
                              f"{option('overwrite', True)} to make it again, or save the rest with ptyprep repair "
                              "--drop")
        for folder in runs.unfinished(self.output):
            if folder == before.folder and self._has_links():       # it died between naming the output and its end
                runs.lock(folder)
                runs.write_state(folder, {**runs.read_state(folder), "finished": True})
                self._end(folder)
            elif not runs.writer(folder):       # it died there, too, or another run was sooner
                remove(folder)
        if before.folder is not None and not runs.writer(before.folder):
            self._end(before.folder)
        return {**FRESH, "finished": True, "frames": self._frames_of_output()}

    def _compare(self, before, now, what, free=()):
        """Raise OutputError where fingerprints differ, but for what is `free`."""
        if differ := runs.differences({k: v for k, v in before.items() if k not in free},
                                      {k: v for k, v in now.items() if k not in free}):
            raise OutputError(f"{self.output} {what}: {'; '.join(differ)}. Use the same parameters, or "
                              f"{option('overwrite', True)}")

    def _has_links(self):
        with h5py.File(self.output, "r", locking=False) as main:
            return any(isinstance(main["chunks"].get(n, getlink=True), h5py.ExternalLink) for n in main["chunks"])

    def _frames_of_output(self):
        with h5py.File(self.output, "r", locking=False) as main:
            return int(main["meta/num_frames"][()])

    def _continue(self, folder, fingerprint):
        state = runs.read_state(folder)
        before = state[runs.FINGERPRINT]
        # a run that stopped at its first bad frame may go on without it
        free = {"parameter bad_frames"} if before.get("parameter bad_frames") == "raise" else ()
        now = fingerprint(before)
        self._compare(before, now, "cannot be resumed, because it would not be the same scan", free)
        runs.lock(folder)
        if runs.read_state(folder) != state:
            runs.release(folder)
            raise OutputError(f"{self.output}: another process has just gone on with {folder.name}; try again")
        self.folder, self._size, self.replaces, self._continues = folder, state["size"], state["replaces"], True
        self.fingerprint, log = now, runs.read_log(folder)
        if now != before or not runs.is_said_twice(folder):     # older runs have one of the two
            self._say(finished=False)
        lines, notes = self._keep_whole(log.lines)
        if log.odd:
            notes.insert(0, f"{folder.name}: lines of log.jsonl that are not what they should be, and are left out: "
                            f"{log.odd}")
        last = None
        if lines:
            with h5py.File(self.finished()[-1], "r") as part:
                self._dtype, last = part["data"].dtype, part["positions"][-1]
        return {"chunk": len(lines), "frames": self.frames, "points": lines[-1]["points"] if lines else 0,
                "blind": sum(line["blind"] for line in lines), "blank": sum(line["blank"] for line in lines),
                "told": lines[-1]["told"] if lines else None, "dtype": self._dtype, "position": last,
                "bad": [tuple(b) for line in lines for b in line["bad"]],
                "lost": [line["lost"] for line in lines],
                # which older runs have not
                "near": [line.get("near", "") for line in lines],
                "counted": tuple(sum(line.get("counted", (0, 0, 0))[i] for line in lines) for i in (0, 1, 2)),
                "finished": False, "notes": notes}

    def _keep_whole(self, lines):
        """The log's lines of the parts that are whole, up to the first that is not; that one and all that come after it
        are removed, to be made again. Returns those lines, and notes for the user."""
        kept, points = [], 0
        parts = [self.folder / name for name in sorted(os.listdir(self.folder)) if runs.PART.fullmatch(name)]
        self._damaged = damaged([path for path in parts if path.is_file() and not path.is_symlink()])
        while not (why := self._problem(len(kept), lines.get(len(kept)), points)):
            line, path = lines[len(kept)], self.path(len(kept))
            for source in runs.sources_of(path):
                self.written.add(source)
            self._add(path, line["frames"])
            kept, points = [*kept, line], line["points"]
        needed = set(self.written)
        thrown = [path for path in sorted(self.folder.iterdir())
                  if runs.PART.fullmatch(path.name) and path not in needed]
        for path in thrown:
            discard(path)
        for path in self.folder.glob("*.tmp"):
            if is_ours(path):
                path.unlink()
        parts = [path.name for path in thrown if "rank" not in path.name]
        return kept, [f"{self.folder.name}: {self.path(len(kept)).name} {why}; thrown away and made again: "
                      f"{listed(parts)}"] if parts else []

    def _problem(self, number, line, points):
        """What is wrong with a part, None where it is whole as far as its checksums and its line in the log tell.

        points : where in the scan the part before ends
        """
        path = self.path(number)
        if not os.path.lexists(path):
            return "is not there"
        if path.is_symlink() or not path.is_file():
            return "is no file"
        if path in self._damaged:           # HDF5 must not open it in this process
            return "is damaged"
        if line is None or line["points"] < points:
            return "has no line in log.jsonl"
        return None if self._whole(path, range(self.frames, self.frames + line["frames"])) else "is not whole"

    def stored(self, path, name):
        """The compressed frames of a part, one after the other, wherever they lie.

        Raises OSError or ValueError where they are not whole any more.
        """
        with h5py.File(path, "r") as part:
            if name == "data" and "places" in part:
                growing = self.folder / Path(part.attrs[GROWING]).name
                if not growing.exists() and self.made_output():
                    growing = self.output       # it has its name already
                yield from chunks_at(growing, part["places"][()])
                return
            chunks = self._of_ranks(part[name]) if part[name].is_virtual else chunks_of(part[name])
            if name == "weights" and "which" in part:
                masks = list(chunks)
                chunks = (masks[number] for number in part["which"][()].tolist())
            yield from chunks

    def _of_ranks(self, dataset):
        """The compressed frames that the files of the ranks hold. Raises OSError or ValueError where they are others
        than were written; parts of older versions tell of each file by itself only."""
        sums = []
        for source in dataset.virtual_sources():
            path = self.folder / Path(source.file_name).name
            if path.is_symlink() or not path.is_file():
                raise ValueError(f"{path} is no file")
            with h5py.File(path, "r") as file:
                for chunk in chunks_of(file[source.dset_name]):
                    sums.append(isal_zlib.crc32(chunk))
                    yield chunk
        if len(sums) != len(dataset) or not np.array_equal(dataset.attrs.get(h5rw.CHECKSUM, checksum_of_frames(sums)),
                                                           checksum_of_frames(sums)):
            raise ValueError(f"{dataset.file.filename}: the files of the ranks hold other frames than were written")

    def _whole(self, path, indices):
        """Whether all of a part is there, as far as its checksums tell, with these places of its frames in the scan."""
        try:
            with h5py.File(path, "r") as part:
                sums = [(isal_zlib.crc32(part[name][()]), part[name].attrs[h5rw.CHECKSUM])
                        for name in (*COLUMNS, "places", "which") if name in COLUMNS or name in part]
                frames = {len(part[name]) for name in COLUMNS} | {len(part.get("places", part["data"])),
                                                                  len(part.get("which", part["weights"]))}
                if len(frames) > 1 or part["indices"][()].tolist() != list(indices):
                    return False
            for name in ("data", "weights"):
                for _ in self.stored(path, name):
                    pass
        except UNREADABLE:
            return False
        return all(found == told for found, told in sums)
