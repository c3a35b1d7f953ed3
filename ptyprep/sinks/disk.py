"""What changes the disk: files get their name when they are whole, flushed and then renamed."""
import errno
import io
import os
import re
import secrets
import stat
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py

from ptyprep.errors import OutputError
from ptyprep.filesystem import system
from ptyprep.parallel.threads import in_background
from ptyprep.words.spelling import option

# what reading a damaged HDF5 file raises
UNREADABLE = (OSError, RuntimeError, SystemError, LookupError, ValueError, TypeError, OverflowError, MemoryError)


def step(what):
    """Called before each change to the disk; tests replace it, to pull the plug there."""


# what is in a run's folder; older versions called temporary files as the files that they became
OURS = re.compile(r"run\.json|log\.jsonl|lock|\d{6,}(\.rank\d{4,})?\.h5|growing\.[0-9a-f]{8}|"
                  r"\.ptyprep-[0-9a-f]{16}\.tmp|(run|main|\d{6,}(\.rank\d{4,})?)\.tmp")


def temporary(path):
    """A name beside `path` for what is to become it, which nobody can foresee: the file is then made exclusively, so
    that neither a link that somebody has put there nor another process has it."""
    return path.with_name(f".ptyprep-{secrets.token_hex(8)}.tmp")


def open_ours(path, flags):
    """Descriptor of a file of this program's own, by flags of `os.open`: never of what a link points at, nor of a pipe
    or device. Raises OSError, an OutputError where it is one of these."""
    odd = OutputError(f"{path} is a link, a pipe or a device, and no file of ours; remove it")
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as err:
        if err.errno in (errno.ELOOP, errno.ENXIO):     # a link; a pipe that nobody reads
            raise odd from err
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise odd
    return descriptor


class Written:
    """Files that a run has named, in order, as they were then: readers are told of them, and a user may remove one.

    what : what they are, for a message
    """
    AT_ONCE = 64        # files that are looked at after each chunk, in turn: of 10,000 all would take longer than it

    def __init__(self, what):
        self.what, self._files, self._next = what, [], 0

    def __len__(self):
        return len(self._files)

    def __iter__(self):
        return (path for path, *_ in self._files)

    def add(self, path):
        found = os.lstat(path)
        self._files.append((path, found.st_ino, found.st_size))

    def check(self, output, *, everything):
        """Raise OutputError where one is not there any more, or is another than was written."""
        n, begin = len(self._files), 0 if everything else self._next
        chosen = [(begin + i) % n for i in range(n if everything else min(n, self.AT_ONCE))]
        self._next = (begin + len(chosen)) % n if n else 0
        wrong = [f"{self._files[i][0].name} ({why})" for i in sorted(chosen) if (why := _changed(*self._files[i]))]
        if wrong:
            folder = self._files[0][0].parent
            with writing(output):
                folder.stat()           # where all of it is gone, that is what is said
            raise OutputError(f"{output}: {len(wrong)} of the {n} {self.what} in {folder.name} are not as they were "
                              f"written: {listed(wrong)}. Set {option('resume', True)} to make them again; what is "
                              "whole before the first of them is kept")


def _changed(path, inode, size):
    try:
        found = os.lstat(path)
    except OSError as err:
        return "not there" if isinstance(err, FileNotFoundError) else os.strerror(err.errno)
    if found.st_ino != inode:
        return "another file"
    return None if found.st_size == size else f"{found.st_size} bytes, were {size}"


def listed(names):
    """Some names in a message, no more than fit there.

    >>> listed(["a", "b"]), listed("abcdefgh")
    ('a, b', 'a, b, c, d, e and 3 more')
    """
    more = len(names) - 5
    return ", ".join(names[:5]) + (f" and {more} more" if more > 0 else "")


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
    """Remove a run's folder with all that a run puts there, as far as that is possible; what others have put there
    stays, and so does the folder then."""
    if folder.is_dir() and not folder.is_symlink():
        step(f"remove {folder.name}")
        with suppress(FileNotFoundError):       # another process does the same
            for path in sorted(filter(is_ours, folder.iterdir()), key=lambda path: path.name == "run.json"):
                step(f"remove {path.name}")     # last what says whose it is
                path.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()


def is_ours(path):
    """Whether something in a run's folder is what a run puts there."""
    return OURS.fullmatch(path.name) is not None and not _is_folder(path)


def _is_folder(path):
    return path.is_dir() and not path.is_symlink()


def discard(path):
    """Remove a file of ours that is not whole, or a link in its place. Raises OutputError where it is a folder."""
    with writing(path):
        if _is_folder(path):
            raise OutputError(f"{path} is a folder, and nothing of ours; remove it yourself")
        path.unlink(missing_ok=True)


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
    """A new HDF5 file to write into, made exclusively; raises the OSError of the first write that failed, at the latest
    at the end."""
    with Disk(path, "x+") as disk, h5py.File(disk, "w") as file:
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
