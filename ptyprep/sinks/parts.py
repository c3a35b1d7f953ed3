"""Chunks of a `.ptyd` as part files: complete or absent, in order, and found again after an interruption.

A run keeps its parts in a folder beside the output, `<stem>.<run id>/000000.h5` …, new for every run, so that
a reader never meets parts of another run under the same name. A part is written under a temporary name, flushed
to the disk and renamed; part n appears only when 0 … n - 1 are there. Beside them lie

    run.json        what is being prepared: `resume` compares it
    log.jsonl       a line for each part: where in the scan it ends, and the frames that could not be read
    lock            locked while a process writes the run, so that nobody takes a running one for an interrupted one
"""
import json
import os
import platform
import secrets
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from isal import isal_zlib

from ptyprep import h5rw, system
from ptyprep.codec import MaskEncoder
from ptyprep.errors import OutputError
from ptyprep.first_look import damaged
from ptyprep.sinks.disk import hdf5, publish, remove, step, writing

RUN_FILE, LOG_FILE, LOCK_FILE = "run.json", "log.jsonl", "lock"
WEIGHTS = MaskEncoder()             # every reader must be able to open masks
COLUMNS = ("indices", "frame_ids", "positions")
GROWING = "growing"                 # how the file of all frames is called in the run's folder, and a part's attribute
CHECKSUM, CHECKED = "crc32", 8192   # attribute of a dataset, of at most so many numbers: HDF5 allows 64 kB
_held = {}                          # {folder: file descriptor of its lock} of this process
FRESH = {"chunk": 0, "frames": 0, "points": 0, "bad": [], "blind": 0, "blank": 0, "told": None, "dtype": None,
         "position": None, "lost": [], "near": [], "counted": (0, 0, 0)}


class Parts:
    """The folder of one run; only root uses it.

    output : path of the .ptyd
    """

    def __init__(self, output):
        self.output = output
        self.folder = self.encoder = self.fingerprint = self._dtype = self._size = None
        self.replaces = False           # whether the output may replace another

    def ready(self, fingerprint, encoder, *, overwrite, resume):
        """Find the run to continue, or none: how far it came, as in `FRESH`. Nothing is written yet.

        Raises OutputError for what `refuse` says, when the output is one of the files that are read, and when what
        would be resumed differs, with the differences.
        """
        self.fingerprint, self.encoder, self.replaces = fingerprint(None), encoder, overwrite
        read = [Path(told[len("source "):]) for told in self.fingerprint if told.startswith("source ")]
        refuse(self.output, read, overwrite=overwrite, resume=resume)
        left = unfinished(self.output)
        return self._continue(left[-1], fingerprint) if resume and left else FRESH

    def begin(self, size):
        """Make the folder of a new run with `size` frames in a chunk, if there is none; hold its lock from now on."""
        if self.folder is None:
            folder = self.output.with_name(f"{self.output.stem}.{secrets.token_hex(4)}")
            with writing(self.output):
                folder.mkdir()
                self.folder = folder
                _lock(folder)
            self._say(size=size, finished=False)
            self._size = size
        if size != self._size:
            raise OutputError(f"{self.output}: chunks of one file have one size: it began with {self._size} frames in "
                              f"each, now {size} are asked for")

    def finished(self):
        """The part files that are complete, in order."""
        found = []
        while (path := self.path(len(found))).is_file():
            found.append(path)
        return found

    def path(self, number):
        return self.folder / f"{number:06d}.h5"

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
        temporary = path.with_suffix(".tmp")
        with writing(path), hdf5(temporary) as part:
            h5rw.stamp(part)
            h5rw.label(part.id, h5rw.RUN, self.folder.name)
            fill(part)
            write_columns(part, dict(zip(COLUMNS, columns)))
        n = len(columns[0])
        self._log({"chunk": batch.chunk, "frames": n, "points": batch.points.stop, "bad": batch.bad,
                   "blind": batch.blind, "blank": 0 if len(batch.points) else n, "told": told,
                   "lost": batch.lost, "near": batch.near, "counted": batch.counted}, flush=flush)
        publish(temporary, path, flush=flush)

    def write_main(self, meta, info, chunks):
        """The main file under a temporary name, which is returned; it tells which run made it."""
        return write_main(self.folder / "main.tmp", meta, info, chunks, run=self.folder.name)

    def made_output(self):
        """Whether the file under the output's name is of this run."""
        if not self.output.is_file() or damaged([self.output]):
            return False
        try:
            with h5py.File(self.output, "r", locking=False) as main:
                return main.attrs.get(h5rw.RUN) == self.folder.name
        except OSError:
            return False

    def finish(self):
        """Mark the run as finished, for those who look for interrupted ones."""
        self._say(size=self._size, finished=True)
        self.release()
        for name in (LOG_FILE, LOCK_FILE):      # of use only to a run that goes on
            step(f"remove {name}")
            (self.folder / name).unlink(missing_ok=True)

    def remove(self):
        remove(self.folder)
        self.release()

    def remove_others(self):
        """Remove the folders of other runs towards this output, which it replaces."""
        for folder in runs(self.output):
            if folder != self.folder and not _writer(folder):
                remove(folder)

    def release(self):
        """Let go of the run, so that another process may continue it."""
        if self.folder in _held:
            os.close(_held.pop(self.folder))

    def _continue(self, folder, fingerprint):
        state = _state(folder / RUN_FILE)
        before = state["fingerprint"]
        now = fingerprint(before)
        differ = [f"{k}: was {before.get(k, 'absent')}, is {now.get(k, 'absent')}"
                  for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k)
                  # a run that stopped at its first bad frame may go on without it
                  and (k, before.get(k)) != ("parameter bad_frames", "raise")]
        if differ:
            raise OutputError(f"{self.output} cannot be resumed, because it would not be the same scan: "
                              f"{'; '.join(differ)}. Use the same parameters, or overwrite")
        self.folder, self._size, self.replaces = folder, state["size"], state["replaces"]
        _lock(folder)
        for stray in folder.glob("*.tmp"):
            stray.unlink()
        lines = {line["chunk"]: line for line in self._logged()}       # a part that was tried twice: its last line
        finished, last = self.finished(), None
        lost = damaged(finished)            # what HDF5 must not open in this process
        whole = next((n for n, path in enumerate(finished)
                      if n not in lines or path in lost or not self._whole(path)), len(finished))
        for path in finished[whole:]:       # named and not flushed when the machine stopped; they are made again
            path.unlink()
        if finished := finished[:whole]:
            with h5py.File(finished[-1], "r") as part:
                self._dtype, last = part["data"].dtype, part["positions"][-1]
        lines = [lines[n] for n in range(len(finished))]
        return {"chunk": len(finished), "frames": sum(line["frames"] for line in lines),
                "points": lines[-1]["points"] if lines else 0, "blind": sum(line["blind"] for line in lines),
                "blank": sum(line["blank"] for line in lines),
                "told": lines[-1]["told"] if lines else None, "dtype": self._dtype, "position": last,
                "bad": [tuple(b) for line in lines for b in line["bad"]],
                "lost": [line["lost"] for line in lines],
                # which older runs have not
                "near": [line.get("near", "") for line in lines],
                "counted": tuple(sum(line.get("counted", (0, 0, 0))[i] for line in lines) for i in (0, 1, 2))}

    def stored(self, path, name):
        """The compressed frames of a part, one after the other, wherever they lie.

        Raises OSError or ValueError where they are not whole any more.
        """
        with h5py.File(path, "r") as part:
            if name == "data" and "places" in part:
                growing = self.folder / Path(part.attrs[GROWING]).name      # and nowhere else
                if not growing.exists() and self.made_output():
                    growing = self.output       # it has its name already
                yield from _at(growing, part["places"][()])
                return
            chunks = _chunks_of(part[name])
            if name == "weights" and "which" in part:
                masks = list(chunks)
                chunks = (masks[number] for number in part["which"][()].tolist())
            yield from chunks

    def _whole(self, path):
        """Whether all of a part is there, as far as its checksums tell."""
        try:
            with h5py.File(path, "r") as part:
                virtual = part["data"].is_virtual       # it points at the files of the ranks
                sums = [(isal_zlib.crc32(part[name][()]), part[name].attrs[CHECKSUM])
                        for name in (*COLUMNS, "places", "which") if name in COLUMNS or name in part]
                frames = {len(part[name]) for name in COLUMNS} | {len(part.get("places", part["data"])),
                                                                  len(part.get("which", part["weights"]))}
                if len(frames) > 1:
                    return False
            for name in () if virtual else ("data", "weights"):
                for _ in self.stored(path, name):
                    pass
        except (OSError, RuntimeError, SystemError, LookupError, ValueError, TypeError, OverflowError, MemoryError):
            return False
        return all(found == told for found, told in sums)

    def _say(self, **state):
        """Write what the run is, whole."""
        path = self.folder / RUN_FILE
        temporary = path.with_suffix(".tmp")
        with writing(path):
            temporary.write_text(json.dumps({"output": self.output.name, "replaces": self.replaces, **state,
                                             "fingerprint": self.fingerprint}, indent=1))
        publish(temporary, path)

    def _log(self, line, *, flush):
        """Append a line: it is there before its part is."""
        with writing(self.folder / LOG_FILE), open(self.folder / LOG_FILE, "a") as log:
            log.write(json.dumps(line) + "\n")
            log.flush()
            if flush:
                system.flush(log.fileno())

    def _logged(self):
        """The lines of the log. One that was cut off when the process died is cut out: its part is not there."""
        path = self.folder / LOG_FILE
        text = path.read_bytes() if path.exists() else b""
        whole = text[:text.rfind(b"\n") + 1]
        if whole != text:
            os.truncate(path, len(whole))
        for line in whole.splitlines():
            try:
                yield json.loads(line)
            except ValueError:      # never flushed when the machine stopped
                continue


def write_places(part, growing, places, shape, dtype):
    """Frames that lie in the growing file of that name, by `places` (n, 3): where, how many bytes, their checksum."""
    h5rw.label(part.id, GROWING, growing)
    part.create_dataset("data", (0, *shape), dtype)
    write_columns(part, {"places": np.array(places, np.uint64)})


def write_masks(part, masks, shape):
    """Compressed masks of frames into a part that only `stored` reads: one where those that follow are equal to it, and
    `which` of them each frame has."""
    different, which = [], []
    for mask in masks:
        if not different or mask is not different[-1] and mask != different[-1]:
            different.append(mask)
        which.append(len(different) - 1)
    write_stack(part, "weights", different, len(different), shape, np.uint8, WEIGHTS)
    write_columns(part, {"which": np.array(which)})


def _chunks_of(dataset):
    """The compressed frames of a dataset. Raises ValueError where they are others than were written."""
    sums = []
    for i in range(len(dataset)):
        chunk = dataset.id.read_direct_chunk((i, 0, 0))[1]
        sums.append(isal_zlib.crc32(chunk))
        yield chunk
    if not np.array_equal(checksum_of_frames(sums), dataset.attrs[CHECKSUM]):
        raise ValueError(f"{dataset.file.filename}: {dataset.name} has another checksum")


def _at(path, places):
    """The bytes of a file at these places. Raises ValueError where they are others."""
    with open(path, "rb", buffering=0) as file:
        for start, size, told in places.tolist():
            chunk = os.pread(file.fileno(), size, start)
            if len(chunk) != size or not size or isal_zlib.crc32(chunk) != told:
                raise ValueError(f"{path}: the bytes at {start} have another checksum")
            yield chunk


class GrowingStack:
    """A dataset (n, h, w) that grows, with one compressed frame in each chunk, and the checksums of what is stored."""

    def __init__(self, group, name, shape, dtype, encoder, n=None):
        self._dataset = group.create_dataset(name, (n or 0, *shape), dtype, chunks=(1, *shape),
                                             maxshape=(n, *shape), **encoder.filters(dtype))
        h5rw.label(self._dataset.id, "type", "array")
        self._sums = []

    def add(self, chunks, n, disk=None):
        """Add `n` compressed frames, from any iterable.

        disk : the file that is written, where they are to be found again

        Returns [(where in the file, how many bytes, their checksum)], [] without disk.
        """
        start, places, dataset = len(self._sums), [], self._dataset.id
        if len(self._dataset) < start + n:
            self._dataset.resize(start + n, axis=0)
        for i, chunk in enumerate(chunks, start):
            self._sums.append(isal_zlib.crc32(chunk))
            write = partial(dataset.write_direct_chunk, (i, 0, 0), chunk)
            if disk is None:
                write()
                continue
            at = disk.place_of(len(chunk), write)
            if at is None:
                at = dataset.get_chunk_info_by_coord((i, 0, 0)).byte_offset
            places.append((at, len(chunk), self._sums[-1]))
        return places

    def finish(self):
        """Add the checksums."""
        h5rw.label(self._dataset.id, CHECKSUM, checksum_of_frames(self._sums))


def write_stack(group, name, chunks, n, shape, dtype, encoder, disk=None):
    """A dataset (n, h, w) of `n` compressed frames, from any iterable; see `GrowingStack.add`."""
    stack = GrowingStack(group, name, shape, dtype, encoder, n)
    places = stack.add(chunks, n, disk)
    stack.finish()
    return places


def checksum_of_frames(sums):
    """The checksums of frames as an attribute can hold them: one for each, or for each `CHECKED` of them together."""
    if len(sums) <= CHECKED:
        return np.array(sums, np.uint32)
    return np.array([isal_zlib.crc32(np.array(sums[i:i + CHECKED], np.uint32)) for i in range(0, len(sums), CHECKED)],
                    np.uint32)


def write_columns(group, columns):
    """Numbers of each frame, as {name: array}, with the checksum of their bytes."""
    for name, values in columns.items():
        dataset = h5rw.dataset(group.id, name, values)
        h5rw.label(dataset, "type", "arraylist" if name == "indices" else "array")
        h5rw.label(dataset, CHECKSUM, np.uint32(isal_zlib.crc32(np.ascontiguousarray(values))))


def refuse(output, inputs, *, overwrite, resume):
    """Raise OutputError where such an output must not be made: nothing is overwritten unasked, nothing but
    prepared files at all, nothing that is read (`inputs`), and nothing that another process is writing."""
    folder = output.parent
    if not folder.is_dir():
        raise OutputError(f"{output}: the folder {folder} does not exist; make it first")
    if output.is_dir():
        raise OutputError(f"{output} is a folder; name a .ptyd file")
    if output.exists():
        for path in inputs:
            if path.exists() and output.samefile(path):
                raise OutputError(f"{output} is the file that is read; name another output")
        if overwrite and not _is_prepared(output):
            raise OutputError(f"{output} is no prepared file, and overwrite replaces nothing else; remove it yourself, "
                              f"or name another output")
    if output.is_symlink() and not output.exists():
        raise OutputError(f"{output} is a link to {os.readlink(output)}, which is not there; remove it, or name "
                          f"another output")
    left = unfinished(output)
    for run in left:
        if who := _writer(run):
            raise OutputError(f"{output} is being prepared right now by {who}, in {run.name}; wait for it, or name "
                              f"another output")
    if overwrite or resume and left:
        return
    if resume and output.exists():
        raise OutputError(f"{output} is finished; there is nothing to resume. Set overwrite to make it again")
    if output.exists() and not left:
        raise OutputError(f"{output} exists; choose another name, or set overwrite (--overwrite) to replace it")
    if left:
        done = len(list(left[-1].glob("*.h5")))
        raise OutputError(f"{output}: an interrupted preparation of it is in {left[-1].name} ({done} finished chunks); "
                          f"set resume (--resume) to continue it, or overwrite (--overwrite) to start again")


def interrupted(output):
    """The fingerprint of the run that `resume` would continue; empty where there is none."""
    left = unfinished(output)
    return _state(left[-1] / RUN_FILE)["fingerprint"] if left else {}


def runs(output):
    """The run folders of an output, oldest first."""
    ours = f"{output.stem}."
    beside = [Path(entry.path) / RUN_FILE for entry in os.scandir(output.parent) if entry.name.startswith(ours)]
    found = [path for path in beside if _state(path)["output"] == output.name]
    return [path.parent for path in sorted(found, key=lambda path: path.stat().st_mtime)]


def unfinished(output):
    return [folder for folder in runs(output) if not _state(folder / RUN_FILE)["finished"]]


def _state(path):
    try:
        state = json.loads(path.read_text())
    except (OSError, ValueError):
        state = None
    ours = isinstance(state, dict) and {"output", "finished", "fingerprint", "size", "replaces"} <= state.keys()
    return state if ours else {"output": None, "finished": True}


def _lock(folder):
    """Lock a run folder for this process until `release`, or until it ends, however that happens."""
    lock = os.open(folder / LOCK_FILE, os.O_CREAT | os.O_RDWR)
    if folder in _held:         # an earlier scan in this process has let the run lie
        os.close(_held.pop(folder))
    if not system.lock(lock):
        os.close(lock)
        raise OutputError(f"{folder}: another process has just begun to write there")
    os.ftruncate(lock, 0)
    os.write(lock, f"process {os.getpid()} on {platform.node()}".encode())
    _held[folder] = lock


def _writer(folder):
    """Which other process, here or on another node, is writing a run; None when none is."""
    if folder in _held:
        return None
    try:
        lock = os.open(folder / LOCK_FILE, os.O_RDWR)
    except OSError:
        return None
    try:
        return None if system.lock(lock) else os.read(lock, 200).decode(errors="replace") or "another process"
    finally:
        os.close(lock)


def _is_prepared(path):
    if not path.is_file():
        return False
    try:
        with h5py.File(path, "r", locking=False) as file:
            return "chunks" in file and "meta" in file
    except OSError:
        return False


def write_main(temporary, meta, info, chunks, run=""):
    """A main `.ptyd` file under a temporary name, which is returned: meta, info, and its chunks by `chunks(group)`."""
    try:
        with writing(temporary), hdf5(temporary) as main:
            chunks(begin_main(main, run))
            end_main(main, meta, info)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return temporary


def begin_main(main, run):
    """The group of chunks in a new main file, which says which run made it."""
    h5rw.stamp(main)
    h5rw.label(main.id, h5rw.RUN, run)
    return h5rw.mapping(main, "chunks")


def end_main(main, meta, info):
    """What a main file tells of all frames."""
    h5rw.write(main, "meta", meta)
    h5rw.write(main, "info", info)
