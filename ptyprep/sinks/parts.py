"""Chunks of a `.ptyd` as part files: complete or absent, in order, and found again after an interruption.

A run keeps its parts in a folder beside the output, `<stem>.<run id>/000000.h5` …, new for every run, so that
a reader never meets parts of another run under the same name. A part is written under a temporary name, flushed
to the disk and renamed; part n appears only when 0 … n - 1 are there. `run.json` in the folder says what is
being prepared, for `resume`.
"""
import errno
import json
import os
import secrets
import shutil
from glob import escape
from pathlib import Path

import h5py
import numpy as np

from ptyprep import h5rw
from ptyprep.codec import Encoder
from ptyprep.errors import OutputError

RUN_FILE = "run.json"
WEIGHTS = Encoder("portable")       # masks are bytes and mostly equal; every reader must be able to open them


class Parts:
    """The folder of one run; only root uses it.

    output : path of the .ptyd
    encoder : how frames are compressed
    """

    def __init__(self, output, encoder):
        self.output, self.encoder = output, encoder
        self.folder = self.dtype = self.fingerprint = None

    def ready(self, fingerprint, *, overwrite, resume):
        """Whether there may be such an output: (chunks, frames, scan points, bad frames) that are done already.

        Nothing is written yet. Raises OutputError when the output or an interrupted run towards it is there and
        neither `overwrite` nor `resume` says what to do, or when what would be resumed differs.
        """
        self.fingerprint = fingerprint
        folder = self.output.parent
        if not folder.is_dir():
            raise OutputError(f"{self.output}: the folder {folder} does not exist; make it first")
        if self.output.is_dir():
            raise OutputError(f"{self.output} is a folder; name a .ptyd file")
        self._refuse_source()
        left = unfinished(self.output)
        if resume and left:
            return self._continue(left[-1])
        if resume and self.output.exists():
            raise OutputError(f"{self.output} is finished; there is nothing to resume. Set overwrite to make it again")
        if not overwrite:
            refuse_existing(self.output)
        return 0, 0, 0, []

    def _refuse_source(self):
        """Not even `overwrite` may replace the data that are read."""
        read = [told.removeprefix("source ") for told in self.fingerprint if told.startswith("source ")]
        for file in read:
            if self.output.exists() and self.output.samefile(file):
                raise OutputError(f"{self.output} is the file that is read; name another output")

    def _continue(self, folder):
        before, now = _state(folder / RUN_FILE)["fingerprint"], self.fingerprint
        differ = [f"{k}: was {before.get(k, 'absent')}, is {now.get(k, 'absent')}"
                  for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k)]
        if differ:
            raise OutputError(f"{self.output} cannot be resumed, because it would not be the same scan: "
                              f"{'; '.join(differ)}. Use the same parameters, or overwrite")
        self.folder = folder
        frames, points, bad = 0, 0, []
        for path in self.finished():
            with h5py.File(path, "r") as part:
                frames += len(part["data"])
                points, bad = int(part.attrs["points_end"]), json.loads(part.attrs["bad_frames"])
                self.dtype = part["data"].dtype
        return len(self.finished()), frames, points, [tuple(b) for b in bad]

    def begin(self):
        """Make the folder of a new run."""
        self.folder = self.output.with_name(f"{self.output.stem}.{secrets.token_hex(4)}")
        with writing(self.output):
            self.folder.mkdir()
            (self.folder / RUN_FILE).write_text(json.dumps(
                {"output": self.output.name, "finished": False, "fingerprint": self.fingerprint}, indent=1))

    def finished(self):
        """The part files that are complete, in order."""
        found = []
        while (path := self.path(len(found))).exists():
            found.append(path)
        return found

    def path(self, number):
        return self.folder / f"{number:06d}.h5"

    def write(self, batch, shape, dtype, columns):
        """Write one part, whole. `columns` are of all its rows: compressed frames and masks, numbers, positions."""
        chunks, weights, index, frame, position = columns
        if self.dtype not in (None, dtype):
            raise OutputError(f"{self.output}: chunk {batch.chunk} has frames of {dtype}, those before {self.dtype}: a "
                              f".ptyd holds one kind of number; make correct() return always the same")
        self.dtype, path = dtype, self.path(batch.chunk)
        temporary = path.with_suffix(".tmp")
        with writing(path), h5py.File(temporary, "w") as part:
            h5rw.stamp(part)
            part.attrs.update(points_end=batch.points.stop, bad_frames=json.dumps(batch.bad))
            _stack(part, "data", chunks, shape, dtype, self.encoder)
            _stack(part, "weights", weights, shape, np.uint8, WEIGHTS)
            for name, values, kind in (("indices", index, "arraylist"), ("frame_ids", frame, "array"),
                                       ("positions", position, "array")):
                part.create_dataset(name, data=values).attrs["type"] = kind
        publish(temporary, path)

    def finish(self):
        """Mark the run as finished, for those who look for interrupted ones."""
        path = self.folder / RUN_FILE
        temporary = path.with_suffix(".tmp")
        with writing(path):
            temporary.write_text(json.dumps({**json.loads(path.read_text()), "finished": True}, indent=1))
        publish(temporary, path)

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def _stack(group, name, chunks, shape, dtype, encoder):
    """A dataset (n, h, w) with one compressed frame in each chunk."""
    dataset = group.create_dataset(name, (len(chunks), *shape), dtype, chunks=(1, *shape), **encoder.filters())
    dataset.attrs["type"] = "array"
    for i, chunk in enumerate(chunks):
        dataset.id.write_direct_chunk((i, 0, 0), chunk)


def refuse_existing(output):
    """Raise OutputError when an output, or a run towards it, is there: nothing is ever overwritten unasked."""
    if output.exists():
        raise OutputError(f"{output} exists; choose another name, or set overwrite to replace it")
    if left := unfinished(output):
        done = len(list(left[-1].glob("*.h5")))
        raise OutputError(f"{output}: an interrupted preparation of it is in {left[-1].name} ({done} finished chunks); "
                          f"set resume to continue it, or overwrite to start again")


def runs(output):
    """The run folders of an output, oldest first."""
    found = output.parent.glob(f"{escape(output.stem)}.*/{RUN_FILE}")
    return [p.parent for p in sorted((p for p in found if _state(p)["output"] == output.name),
                                     key=lambda p: p.stat().st_mtime)]


def unfinished(output):
    return [folder for folder in runs(output) if not _state(folder / RUN_FILE)["finished"]]


def _state(path):
    try:
        state = json.loads(path.read_text())
    except (OSError, ValueError):
        state = None
    ours = isinstance(state, dict) and {"output", "finished", "fingerprint"} <= state.keys()
    return state if ours else {"output": None, "finished": True}


def publish(temporary, path, *, replace=True):
    """Give a finished file its name, at once and for good.

    Raises OutputError when `replace` is False and the name is taken meanwhile; the temporary file is gone then.
    """
    with writing(path):
        try:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            if replace:
                os.replace(temporary, path)
            else:
                _link(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _link(temporary, path):
    try:
        os.link(temporary, path)        # unlike a rename it fails where the name is taken
        os.unlink(temporary)
    except OSError as err:
        if err.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP) or path.exists():
            raise
        os.replace(temporary, path)     # a file system without hard links


class writing:
    """A block that writes `path`: a failure of the file system becomes an OutputError that says so."""

    def __init__(self, path):
        self.path = Path(path)

    def __enter__(self):
        return self

    def __exit__(self, kind, err, trace):
        if isinstance(err, FileExistsError):
            raise OutputError(f"{self.path} exists: something else has made it meanwhile") from err
        if isinstance(err, OSError) and not isinstance(err, OutputError):
            why = os.strerror(err.errno) if err.errno else str(err)
            raise OutputError(f"{self.path} cannot be written: {why}") from err


def write_main(path, meta, info, chunks):
    """A main `.ptyd` file under a temporary name: meta, info, and its chunks by `chunks(group)`. Returns that name."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with writing(path), h5py.File(temporary, "w") as main:
            h5rw.stamp(main)
            group = main.create_group("chunks")
            group.attrs["type"] = "dict"
            chunks(group)
            h5rw.write(main, "meta", meta)
            h5rw.write(main, "info", info)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
