"""What Linux and macOS do not have in common; other systems are refused here."""
import errno
import os

try:
    import fcntl
except ImportError as err:      # Windows has no locks of this kind, and cannot rename a file that a reader has open
    raise ImportError("ptyprep runs on Linux and macOS; on Windows use WSL (Windows Subsystem for Linux)") from err


def flush(descriptor):
    """Return when all that was written to an open file is on the disk."""
    if not _flushed_by_drive(descriptor):
        os.fsync(descriptor)


def flush_data(descriptor):
    """As `flush`, but the time of the last change may come later, which is quicker where the system knows of that."""
    if hasattr(os, "fdatasync"):        # not on macOS
        os.fdatasync(descriptor)
    else:
        flush(descriptor)


def flush_folder(folder):
    """Return when the names in a folder are on the disk, where its file system can say so."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        flush(descriptor)
    except OSError as err:
        if err.errno not in (errno.EINVAL, errno.ENOTSUP):      # some network file systems flush files alone
            raise
    finally:
        os.close(descriptor)


def _flushed_by_drive(descriptor):
    """Whether the drive was asked to empty its own memory, too. On macOS fsync does not ask for that, F_FULLFSYNC does
    (fsync(2) of macOS), and file systems that do not know it need fsync."""
    if not hasattr(fcntl, "F_FULLFSYNC"):
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    except OSError as err:
        if err.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOTTY):
            raise
        return False
    return True


def read_into(descriptor, buffer, start):
    """Fill a buffer from byte `start` of an open file; how many bytes there were."""
    if hasattr(os, "preadv"):           # not before macOS 11
        return os.preadv(descriptor, [buffer], start)
    found = os.pread(descriptor, len(buffer), start)
    memoryview(buffer).cast("B")[:len(found)] = found
    return len(found)


def lock(descriptor):
    """Lock an open file until it is closed or this process ends: False where another process has locked it.

    On a file system without locks nobody can tell, and the answer is True.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        return err.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True
