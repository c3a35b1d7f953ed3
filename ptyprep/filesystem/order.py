"""Files by name: which ones a path means, and their order by the numbers in their names.

The order of frames is that of positions, so nothing here is left to the alphabet: 10 follows 9, 1.25 lies before 1.5,
and -2 before -1. Where names can be read in two ways that give two orders, nobody but the user can tell.
"""
import os
import re
from contextlib import suppress
from decimal import Decimal
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from ptyprep.errors import SourceError

GAPS = 10       # times as many numbers as files: they are no count
PADDED = 3      # digits behind a dot, or more, that count with zeros before them
# 1.5e-03 as programs print it, else whole numbers with a dot, or a p for it, between them
NUMBER = re.compile(r"((?<![0-9.])[0-9](?:\.[0-9]+)?[eE][-+][0-9]{1,3}(?![0-9.])|[0-9]+(?:[.p][0-9]+)*)")
SIGNED_AFTER = ("_", "=", "(", ",", " ")       # a - behind one of these separates nothing


class Field(NamedTuple):
    """One number of each name. `counts`: whether it is whole, so that a gap between two of them can be seen."""
    values: list
    counts: bool


def matching(path, names="*"):
    """The files that a path means: itself where there is a file of that name, whatever is in it; else of a folder
    those whose names match a pattern; else those that its own name, as a pattern with * ? or [, matches.

    Returns paths, hidden files left out, in no order of numbers; [path] where it is no pattern, there or not.
    """
    path = Path(path)
    folder, names = (path, names) if path.is_dir() else (path.parent, path.name)
    literal = not any(letter in names for letter in "*?[")
    if folder != path and (literal or path.is_symlink() or path.exists()):
        return [path]
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as inside:
        return sorted(folder / file.name for file in inside     # of thousands of files none is looked at by itself
                      if fnmatchcase(file.name, names) and not file.name.startswith(".") and not file.is_dir())
    return []


def in_order(files, notes=None, where=None):
    """Files, or names, in the order of the numbers in their names; those before the others vary slowest.

    notes : list to which is added what the user should know of the order; where : of what, for messages

    Raises SourceError where names differ in more than their numbers, or where the numbers leave two orders.

    >>> in_order(["x-1_y10", "x-1_y9", "x2_y1"]), in_order(["8.05", "8.1", "7.95", "8.0"])
    (['x-1_y9', 'x-1_y10', 'x2_y1'], ['7.95', '8.0', '8.05', '8.1'])
    """
    files, fields = _sorted(list(files), where)
    if notes is not None and _count(fields) is None and len(files) > 1:
        notes.append(_order(files, fields))
    return files


def with_gaps(files, notes, where=None):
    """The same with None for each number that is left out, where the names count one by one.

    >>> with_gaps(["s2_10", "s2_8"], [])
    ['s2_8', None, 's2_10']
    """
    files, fields = _sorted(list(files), where)
    if len(files) == 1:
        return files
    count = _count(fields)
    if count is None:
        notes.append(_order(files, fields))
        return files
    first, last = count[0], count[-1]
    if first not in (0, 1):
        notes.append(f"the images are numbered {first} to {last}")
    by_number = dict(zip(count, files))
    return [by_number.get(number) for number in range(first, last + 1)]


def _sorted(files, where):
    """(files in order, the fields of their names in that order)."""
    if len(files) < 2:
        return files, []
    names = [file.name if isinstance(file, Path) else file for file in files]
    stems = [file.stem if isinstance(file, Path) else file for file in files]
    where = where or Path(files[0]).parent
    fields = _fields([NUMBER.split(stem) for stem in stems], names, where)
    keys = list(zip(*(field.values for field in fields)))
    order = sorted(range(len(files)), key=keys.__getitem__)
    same = next((pair for pair in zip(order, order[1:]) if keys[pair[0]] == keys[pair[1]]), None)
    if same:
        raise SourceError(f"{where}: {names[same[0]]} and {names[same[1]]} have the same number")
    return [files[i] for i in order], [Field([field.values[i] for i in order], field.counts) for field in fields]


def _fields(words, names, where):
    """The numbers in names, for the words [text, number, text, number, …, text] of each."""
    columns = [[word.replace("p", ".") if place % 2 else word for word in column]
               for place, column in enumerate(zip(*words))]
    signs = [_take_signs(columns, place) for place in range(1, len(columns), 2)]
    series = {}
    for number, texts in enumerate(zip(*columns[::2])):
        series.setdefault((len(words[number]), texts), names[number])
    if len(series) > 1:
        some = sorted(series.values())
        raise SourceError(f"{where}: files of several series, such as {some[0]} and {some[1]}: give a pattern that "
                          f"only those of one match")
    fields = []
    for column, sign in zip(columns[1::2], signs):
        fields += _read(column, sign, names, where)
    return fields


def _take_signs(columns, place):
    """The sign before each number of a column, which is taken off the text there; None where it is no sign.

    Beside names without it, a - is a sign, and so it is behind another separator (z_-1.5). Where all names have it,
    as in scan-1, scan-2, it separates.
    """
    before = columns[place - 1]
    signs = [text[-1:] if text[-1:] in ("-", "+") else "" for text in before]
    bare = [text.removesuffix(sign) for text, sign in zip(before, signs)]
    first = place == 1 and not bare[0] or bare[0].endswith(SIGNED_AFTER)
    if len(set(signs)) == 1 and not (signs[0] and first):
        return None
    columns[place - 1] = bare
    return signs


def _read(column, signs, names, where):
    """The fields that a column of numbers makes: one, or several for whole numbers with dots between them."""
    parts = [text.split(".") for text in column]
    most = max(map(len, parts))
    written = [sign + text for sign, text in zip(signs or [""] * len(column), column)]
    powers = any("e" in text.lower() for text in column)
    if most == 1 and not powers:
        return [Field([int(text) for text in written], True)]
    if most > 2 and powers:
        raise SourceError(f"{where}: numbers of several kinds in names such as {names[0]} and {names[-1]}: give a "
                          f"pattern that only those of one kind match")
    if most > 2:        # a date or a version
        whole = [[int(part) for part in some] + [-1] * (most - len(some)) for some in parts]
        return [Field(list(values), True) for values in zip(*whole)]
    if signs is None and not powers:
        pairs = [(int(some[0]), int(some[1]) if some[1:] else -1) for some in parts]
        _refuse_two_orders(dict(zip(column, pairs)), dict(zip(column, names)), where)
        series, numbers = ({pair[at] for pair in pairs} for at in (0, 1))
        digits = {len(text.partition(".")[2]) for text in column}
        if len(series) == len(digits) == 1 and min(digits) >= PADDED and any(n + 1 in numbers for n in numbers):
            return [Field([number for _, number in pairs], True)]       # scan_5.0001, scan_5.0002
    return [Field([Decimal(text) for text in written], False)]


def _refuse_two_orders(pairs, names, where):
    """Raise where numbers with a dot have one order as decimal numbers and another as two whole numbers, and do not
    look like decimal numbers.

    Programs print these without a 0 at their end, or all with as many digits: 1.10 beside 1.9 is none. Nor are 1.8,
    1.9, 1.11, which count. But no count begins with a 0: 8.05 beside 8.1 is decimal.

    pairs : {text: the two whole numbers}; names : {text: a name with it}
    """
    decimal, counted = sorted(pairs, key=Decimal), sorted(pairs, key=pairs.get)
    if decimal == counted:
        return
    behind = [text.partition(".")[2] for text in pairs]
    ends_in_0, begins_with_0 = (any(len(part) > 1 and part[at] == "0" for part in behind) for at in (-1, 0))
    lots = [sorted(number for _, number in lot) for _, lot in
            groupby(sorted(pairs.values()), key=lambda pair: pair[0])]
    lots = [lot for lot in lots if len(lot) > 1]
    dense = sum(lot[-1] - lot[0] + 1 for lot in lots) <= 2 * sum(map(len, lots))
    if ends_in_0 or dense and not begins_with_0:
        one, other = next(pair for pair in zip(decimal, counted) if pair[0] != pair[1])
        raise SourceError(f"{where}: which is first, {names[one]} or {names[other]}? {one} is, if these are decimal "
                          f"numbers; {other} is, if the dot stands between a series and a count. Rename the files, or "
                          f"link them under other names, with equally many digits behind each dot")


def _count(fields):
    """The numbers that count files one by one, as far as these go; None where names do not."""
    differ = [field for field in fields if len(set(field.values)) > 1]
    if len(differ) != 1 or not differ[0].counts:
        return None
    values = differ[0].values
    return values if values[-1] - values[0] <= GAPS * len(values) else None


def _order(files, fields):
    """What to say of files that do not count one by one."""
    names = [Path(file).name for file in files]
    differ = [field for field in fields if len(set(field.values)) > 1]
    kind = "numbers" if all(field.counts for field in differ) else "decimal numbers"
    slow = ", the first of them slowest" if len(differ) > 1 else ""
    shown = f"{names[0]}, {names[1]} … {names[-1]}" if len(names) > 2 else ", ".join(names)
    return (f"the files are taken in the order of the {kind} in their names{slow}: {shown}. They do not count frames "
            f"one by one: a file that is missing between them would not be noticed")
