"""What changes the disk: files get their name when they are whole, flushed and then renamed."""
import errno
import io
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import h5py

from ptyprep import system
from ptyprep.errors import OutputError
from ptyprep.threads import in_background


def step(what):
    """Called before each change to the disk; tests replace it, to pull the plug there."""


def publish(temporary, path, *, replace=True, flush=True, keep=False):
    """Give a finished file its name, at once and for good; without `flush` it may be gone when the machine stops.

    Raises OutputError when `replace` is False and the name is taken meanwhile; the temporary file is gone then, unless
    it is to be kept.
    """
    with writing(path):
        try:
            if flush:
                step(f"flush {path.name}")
                with open(temporary, "rb+") as file:
                    system.flush(file.fileno())
            step(f"name {path.name}")
            if replace:
                os.replace(temporary, path)
            else:
                _link(temporary, path)
        except BaseException:
            if not keep:
                temporary.unlink(missing_ok=True)
            raise
        if flush:
            step(f"flush the folder of {path.name}")
            system.flush_folder(path.parent)


def _link(temporary, path):
    try:
        os.link(temporary, path)        # unlike a rename it fails where the name is taken
        step(f"take the other name from {path.name}")
        os.unlink(temporary)
    except OSError as err:
        if err.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP) or path.exists():
            raise
        os.replace(temporary, path)     # a file system without hard links


def remove(folder):
    """Remove a folder of ours with all that is in it, as far as that is possible."""
    if folder.exists():
        step(f"remove {folder.name}")
        for name in sorted(folder.iterdir(), key=lambda path: path.name == "run.json"):    # last what says whose it is
            step(f"remove {name.name}")
            name.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


class writing:
    """A block that writes `path`: a failure of the file system becomes an OutputError that says so."""

    def __init__(self, path):
        self.path = Path(path)

    def __enter__(self):
        step(f"write {self.path.name}")
        return self

    def __exit__(self, kind, err, trace):
        if isinstance(err, FileExistsError):
            raise OutputError(f"{self.path} exists: something else has made it meanwhile") from err
        if isinstance(err, OSError) and not isinstance(err, OutputError):
            raise OutputError(f"{self.path} cannot be written: {os.strerror(err.errno) if err.errno else err}") from err


@contextmanager
def hdf5(path):
    """A new HDF5 file to write into; raises the OSError of the first write that failed, at the latest at the end."""
    with Disk(path, "w+") as disk, h5py.File(disk, "w") as file:
        yield file


class Disk(io.FileIO):
    """The bytes of an HDF5 file; after the first write that fails, all others are taken and dropped, and it is raised
    in the end, or by `flush_to_disk`.

    HDF5 must not hear of it: where the disk is full when it closes a file, it keeps that file half open, and some
    versions crash.
    """
    failed = None
    _at = 0                 # where the next byte goes: each call to the kernel lets other threads on, and costs
    _flushing = None        # a Future
    written = None          # [(how many bytes, where)], while somebody asks

    def seek(self, offset, whence=os.SEEK_SET):
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        self._at = offset + (super().seek(0, whence) if begin is None else begin)
        return self._at

    def tell(self):
        return self._at

    def readinto(self, buffer):
        got = system.read_into(self.fileno(), buffer, self._at)
        self._at += got
        return got

    def write(self, data):
        rest = memoryview(data).cast("B")
        size = len(rest)
        if self.written is not None:
            self.written.append((size, self._at))
        try:
            while self.failed is None and rest:
                done = os.pwrite(self.fileno(), rest, self._at)
                self._at, rest = self._at + done, rest[done:]
        except OSError as err:
            self.failed = err
        return size

    def truncate(self, size=None):
        try:
            return super().truncate(self._at if size is None else size)
        except OSError as err:
            self.failed = self.failed or err
            return size

    def place_of(self, size, write):
        """Where a block of so many bytes went that write() has written; None where that cannot be told, because HDF5
        wrote something of its own as well that is as long.

        HDF5 would tell it, too, but looks at all chunks before it: with 10,000 of them that takes 0.5 ms.
        """
        self.written = []
        try:
            write()
            places = [at for length, at in self.written if length == size]
        finally:
            self.written = None
        return places[0] if len(places) == 1 else None

    def check(self):
        """Raise the failure of a write, if there was one."""
        if self.failed is not None:
            raise self.failed

    def flush_to_disk(self):
        """Begin to bring to the disk what was written, once that is there which was written before the last such call:
        the disk works while the next chunk is prepared, and is never far behind."""
        self._settle()
        self.check()
        try:
            self._flushing = in_background("flushes", self._flush)
        except RuntimeError:        # Python ends, and begins no thread any more
            self._flush()

    def _flush(self):
        try:
            system.flush_data(self.fileno())
        except OSError as err:
            self.failed = self.failed or err

    def _settle(self):
        if self._flushing is not None:
            self._flushing.result()

    def __exit__(self, *failure):
        try:
            self._settle()
        finally:
            super().__exit__(*failure)
        self.check()
