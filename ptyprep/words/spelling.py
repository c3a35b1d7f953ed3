"""How the user writes a parameter, for advice to copy: a keyword in Python, an option at the command line."""
import os
import shlex
from contextlib import contextmanager

_OTHERWISE = {"dfile": "output"}        # the options of the command line that are not named as the parameter is
_command_lines = []                     # under way in this process; no ContextVar, for all threads have to see it


@contextmanager
def at_command_line():
    """Until its end, advice is for the command line; else it is for Python."""
    _command_lines.append(True)
    try:
        yield
    finally:
        _command_lines.pop()


def option(name, *values, words=None):
    """A parameter as the user writes it.

    name : with dots, as in "positions.unit"
    values : to set it to one of them; the name alone where there is none
    words : what stands there for a value that only the user knows, one word for each number or text in it

    >>> option("auto_center", True), option("bad_frames", "drop", "mask"), option("center", words=("row", "column"))
    ('auto_center=True', "bad_frames='drop' or 'mask'", 'center=(row, column)')
    >>> with at_command_line():
    ...     option("auto_center", True), option("bad_frames", "drop", "mask"), option("center", words=("row", "column"))
    ('--auto_center', '--bad_frames drop or --bad_frames mask', '--center row,column')
    """
    if _command_lines:
        name = _OTHERWISE.get(name, name)
        spelt = [_flag(name, value) if isinstance(value, bool) else f"--{name} {shlex.quote(_text(value))}"
                 for value in map(_plain, values)]
        return " or ".join(spelt) if values else f"--{name} {','.join(words)}" if words else f"--{name}"
    spelt = [repr(value) for value in map(_plain, values)]
    if words:
        spelt = [words[0] if len(words) == 1 else f"({', '.join(words)})"]
    return f"{name}={' or '.join(spelt)}" if spelt else name


def options(names):
    """Parameters to be set together, as the user writes them.

    names : one name, or several

    >>> options("mask.key"), options(["positions.slow_key", "positions.fast_key"])
    ('mask.key', 'positions.slow_key and positions.fast_key')
    """
    return " and ".join(map(option, [names] if isinstance(names, str) else names))


def _flag(name, value):
    return f"--{name}" if value else f"--no-{name}"


def _text(value):
    """A value as the command line reads it."""
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return {None: "none", True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else str(value)


def _plain(value):
    """A value of Python's own types, paths as text; sequences are tuples."""
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    value = value.tolist() if hasattr(value, "tolist") else value       # NumPy's, which would show their types
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value
