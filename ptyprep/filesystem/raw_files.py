"""Raw files stay the same while a scan reads them, or the scan stops: frames of two files are never mixed.

Every reader calls `opening` before it opens a raw file, a recipe's own reader too. The scan that is under way notes
what the file is then, and holds it against that whenever it is opened again and at the end, before the output is
finished.
"""
import os
import time
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import NamedTuple

from ptyprep.errors import ChangedError
from ptyprep.words.spelling import option

_under_way = ContextVar("raw files of the scan that is under way", default=None)


class _State(NamedTuple):
    """What changes with a file. Not its device, whose number differs between the nodes of one network file system; nor
    the time of `ctime`, which migration to tape and chmod change; nor the time of the last access."""
    inode: int
    size: int
    changed: int    # ns

    @classmethod
    def of(cls, path):
        """That of the file that has this name now, None where there is none."""
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as err:
            raise ChangedError(f"{path}: nobody can tell whether it is the file that the scan began with: "
                               f"{err.strerror}. Prepare the scan again where it can be read") from err
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


class RawFiles:
    """The raw files that one rank has opened for a scan, and what they were when it first did.

    may_grow : whether somebody may still write frames to them: then a file may have become longer and its time may be
        another, but it is not another file and not shorter
    """

    def __init__(self):
        self.may_grow = True        # until the scan has been looked at
        self._noted = {}

    @contextmanager
    def noting(self):
        """A block in which what `opening` is told is noted here, in threads that the block begins, too."""
        token = _under_way.set(self)
        try:
            yield
        finally:
            _under_way.reset(token)

    def note(self, path, appended=False):
        """Note what a file is before it is opened, or hold it against that; see `opening`. Raises ChangedError."""
        path = os.path.abspath(path)
        if (now := _State.of(path)) is not None or path in self._noted:
            self._compare(path, *self._noted.setdefault(path, (now, appended)), now)

    def compare(self):
        """Hold all files against what they were. Raises ChangedError for the first that is another one now."""
        for path, (before, appended) in self._noted.items():
            self._compare(path, before, appended, _State.of(path))

    def _compare(self, path, before, appended, now):
        if now == before:
            return
        if now is None:
            what = "it is gone"
        elif now.inode != before.inode:
            what = "another file has its name"
        elif now.size < before.size or now.size != before.size and not (self.may_grow or appended):
            what = f"it had {before.size} bytes, and has {now.size}"
        elif self.may_grow or appended:
            return
        else:
            what = f"it was written at {time.ctime(now.changed / 1e9)}"
        raise ChangedError(f"{path}: {what} since the scan first opened it, so that frames of two files may be mixed; "
                           "the output is not finished. Prepare the scan again from its beginning "
                           f"({option('overwrite', True)}) when nobody writes its raw files any more")


def opening(path, *, appended=False):
    """To be called before a raw file is opened.

    appended : whether programs only ever append to files of this format, so that what was read stays, as SPEC does with
        scan after scan

    Raises ChangedError where the scan that is under way opened it before, and it is another file now. Without a scan
    nothing happens.
    """
    if (files := _under_way.get()) is not None:
        files.note(path, appended)


def noting(method):
    """A method, or a function of a scan, in which raw files are opened: they are noted in `raw_files` of its first
    argument."""
    @wraps(method)
    def with_notes(owner, *args, **keywords):
        with owner.raw_files.noting():
            return method(owner, *args, **keywords)
    return with_notes
