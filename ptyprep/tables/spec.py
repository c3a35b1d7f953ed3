"""SPEC text files: one scan by its number, with its columns, and the motors where they stood at its start.

Format: the standard data file of certif's SPEC (help file `scans`): #S, #O and #P, #L and rows of numbers are read.
"""
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ptyprep.errors import SourceError
from ptyprep.filesystem.raw_files import opening


class SpecScan(NamedTuple):
    """A scan of a SPEC file.

    where : file, number and line, to say; command : as it was typed
    motors : {name: reading} at the start, in the beamline's units; {} where the file has none
    names, rows : of the columns, and their numbers, a list for each point
    """
    where: str
    command: str
    motors: dict
    names: list
    rows: list

    def column(self, name):
        """Readings (n,) of a column. Raises SourceError where not exactly one has that name."""
        if self.names.count(name) != 1:
            raise SourceError(f"{self.where}: {self.names.count(name) or 'no'} columns {name!r}; its columns are "
                              f"{', '.join(self.names) or 'none'}")
        return np.array([row[self.names.index(name)] for row in self.rows], float)

    def motor(self, name):
        """A motor's reading at the start. Raises SourceError where it was not recorded."""
        if name not in self.motors:
            raise SourceError(f"{self.where}: no motor {name!r} at the start of the scan; recorded are "
                              f"{', '.join(self.motors) or 'none'}")
        return self.motors[name]


def read_scan(path, number, order=None):
    """The scan of that number, a `SpecScan`.

    order : which one of several of that number, counted from 1; None: there must be only one

    Rows of MCA data (@A) are passed over, and a last line without its end: it is being written.
    Raises SourceError, naming the line where one is wrong.
    """
    opening(path, appended=True)
    try:
        lines = Path(path).read_text(errors="replace").split("\n")[:-1]
    except OSError as err:
        raise SourceError(f"{path}: cannot be read as a SPEC file ({err.strerror or err})") from err
    numbers, found = _scans(path, lines, number)
    if not numbers:
        raise SourceError(f"{path}: no scan in it; expected a SPEC file, with lines such as '#S 12 ascan samx 0 1 9 1'")
    if not found:
        raise SourceError(f"{path}: no scan {number}; its {len(numbers)} scans are {min(numbers):g} to "
                          f"{max(numbers):g}")
    if order is None and len(found) > 1 or len(found) < (order or 1):
        lines = ", ".join(scan.where.rpartition("line ")[2].rstrip(")") for scan in found)
        raise SourceError(f"{path}: scan {number} is there {len(found)} times, in lines {lines}: which of them, "
                          f"counted from 1, is {'meant' if order is None else f'number {order}'}?")
    return found[(order or 1) - 1]


def _scans(path, lines, number):
    """(the numbers of all scans in these lines of a file, the scans of that number)."""
    headers, found, numbers, scan, inside_mca = {}, [], [], None, False
    for at, line in enumerate(lines, 1):
        line = line.strip()
        key, _, rest = line.partition(" ")
        where, mca = f"{path}, line {at}", inside_mca or key.startswith("@")
        inside_mca = mca and line.endswith("\\")
        if key == "#S":
            word, _, command = rest.strip().partition(" ")
            numbers += _numbers(where, [word])
            wanted = numbers[-1] == number
            scan = SpecScan(f"{path}, scan {word} (line {at})", command.strip(), {}, [], []) if wanted else None
            found += [scan] * wanted
        elif key == "#F":
            scan = None                                     # SPEC began again
        elif re.fullmatch(r"#O\d+", key):
            headers = {**(headers if key != "#O0" else {}), key[2:]: rest}
        elif scan is None:
            continue
        elif re.fullmatch(r"#P\d+", key):
            readings = _numbers(where, rest.split())
            scan.motors.update(zip(_names(where, headers.get(key[2:], ""), len(readings)), readings))
        elif key == "#L":
            scan.names[:] = _split(rest)
        elif line and not mca and not line.startswith("#"):
            cells = line.split()
            if not scan.rows:
                scan.names[:] = _names(where, "  ".join(scan.names), len(cells))
            if len(cells) != len(scan.names):
                raise SourceError(f"{where}: {len(cells)} numbers for {len(scan.names)} columns: {line!r}")
            scan.rows.append(_numbers(where, cells))
    return numbers, found


def _numbers(where, cells):
    try:
        return [float(cell) for cell in cells]
    except ValueError as err:
        raise SourceError(f"{where}: expected numbers ({err})") from None


def _split(text):
    """Names are two blanks apart, because one may hold a blank."""
    return re.split(r"\s\s+|\t", text.strip())


def _names(where, text, count):
    """The names of so many numbers; where two blanks between them make another number of names, one blank."""
    for names in (_split(text), text.split()):
        if len(names) == count:
            return names
    raise SourceError(f"{where}: {count} numbers for {len(text.split())} names: {text.strip()!r}")
