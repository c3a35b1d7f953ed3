"""Files get their name when they are whole: flushed to the disk, then renamed."""
import errno
import os
from pathlib import Path

from ptyprep.errors import OutputError


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
