"""The source's reader, which stays open from chunk to chunk."""
from contextlib import ExitStack
from functools import cached_property


class KeptReader:
    """The source's reader, which may stay from one batch to the next: opening files again takes 1 ms each."""

    def __init__(self, scan):
        self._scan, self._reader, self._opened = scan, None, ExitStack()

    def reader(self):
        if self._reader is None:
            self._reader = self._opened.enter_context(self._scan.source.reader(self._scan.window))
        return self._reader

    @property
    def is_open(self):
        return self._reader is not None

    def close(self):
        self._reader = None
        self._opened.close()

    def may_stay(self, keep):
        """Whether nobody is kept from the files: whoever looks at frames may open the same ones."""
        return not (keep and self._in_the_way)

    @cached_property
    def _in_the_way(self):
        """Whether HDF5 has files open while frames are read; then it refuses to open them in another way."""
        source, corrections = self._scan.source, self._scan.corrections
        return (corrections is not None and getattr(corrections, "reads", True)
                or hasattr(source, "is_open_while_read") and source.is_open_while_read())
