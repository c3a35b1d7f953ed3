"""What an input means: text, TOML or NumPy to the value of a type.

>>> [read(text, str | float | Pair | None, unit="m") for text in ("fft", "5 mm", "75um, 50 um", "none")]
['fft', 0.005, (7.5e-05, 5e-05), None]
>>> read("1,2,3", float | Pair)
Traceback (most recent call last):
ptyprep.errors.ParameterError: must be a number or a pair, got '1,2,3'
"""

import functools
import os.path
import re
import types
import typing
from pathlib import Path, PurePath
from typing import Annotated, Any

import numpy as np

from ptyprep import units
from ptyprep.errors import ParameterError, PositionError
from ptyprep.tables.text import axes_in, read_table


def _array(value):
    if np.iscomplexobj(value):       # NumPy would drop half of it
        raise ValueError("the numbers are complex; expected real ones")
    try:
        array = np.array(value, np.float64)
    except TypeError as err:         # which pydantic would let through
        raise ValueError(str(err)) from None
    array.setflags(write=False)      # a value that is frozen should be so to its last element
    return array


class _AsArray:
    """Tells pydantic about `_array`, when it is loaded."""

    def __get_pydantic_core_schema__(self, *_):
        from pydantic_core import core_schema
        return core_schema.no_info_plain_validator_function(_array)


MOST_SHOWN = 200        # characters of a value in a message

#: A float64 array: given as one, as nested lists, or as the path of a .npy file or a text table.
Array = Annotated[np.ndarray, _AsArray()]

#: Two numbers, (rows, columns) or (y, x).
Pair = tuple[float, float]


def read(value, type, unit=None, choices=(), example=1):
    """The value of a type, from text, TOML, NumPy or Python.

    unit : of its numbers; text such as "75 um" is converted to it.
    choices : texts that are taken as they are, whatever else they could mean.
    example : number to show to who gave a wrong unit.

    Raises ParameterError that reads on after "parameter 'psize' ".
    """
    number = functools.partial(_number, unit=unit, example=example)
    try:
        meant = _meaning(value, type, choices, number)
        return meant if _is_one(meant, type) else _adapter(type).validate_python(meant)
    except ParameterError:
        raise
    except (ValueError, OverflowError, RecursionError):     # pydantic's, or ours for what pydantic would let pass
        raise ParameterError(f"must be {with_article(words(type))}, got {short(value)}") from None


def short(value):
    """A value for a message, which may be a list of a million numbers, or lists in lists without end.

    >>> short([1.5, "fft"]), len(short([0] * 10**6))
    ("[1.5, 'fft']", 200)
    """
    try:
        text = repr(value)
    except RecursionError:
        return f"a {value.__class__.__name__} with too many others inside each other"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN - 1]}…"


def leaves(value):
    """The numbers and texts in a value; of an array the extremes, which are enough for limits."""
    if isinstance(value, list | tuple):
        for part in value:
            yield from leaves(part)
    elif isinstance(value, np.ndarray):
        known = value[~np.isnan(value)]
        yield from (known.min().item(), known.max().item()) if known.size else ()
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield value


def is_physical(unit):
    """Whether the unit is one that pint converts."""
    return unit not in (None, "", "pixel", "pixels", "frame", "frames")


# --- types, and their words -------------------------------------------------------------------------

def members(type):
    """The alternatives of a type: int | None gives (int, NoneType)."""
    return typing.get_args(type) if typing.get_origin(type) in (typing.Union, types.UnionType) else (type,)


def is_fixed(kind):
    """Whether this is a tuple of so many items."""
    return typing.get_origin(kind) is tuple and typing.get_args(kind)[-1:] != (Ellipsis,)


def items(kind, n=None):
    """The types of a sequence's n items; None if this is no sequence, or one of another length."""
    args = typing.get_args(kind)
    if is_fixed(kind):
        return args if n in (None, len(args)) else None
    if (typing.get_origin(kind) or kind) in (tuple, list):
        return (args[:1] or (Any,)) * (1 if n is None else n)
    return None


_WORDS = {int: "whole number", float: "number", str: "text", Path: "path", bool: "yes/no", dict: "table",
          Any: "anything", Array: "array"}


def words(type):
    """The alternatives of a type in plain words: int | list[Path] | None gives ["whole number", "list of paths"]."""
    said = []
    for kind in members(type):
        bare = typing.get_origin(kind) or kind
        if inside := items(kind):
            word = " or ".join(words(inside[0]))
            count = len(inside) if is_fixed(kind) else "list of"
            many = word if word == "yes/no" else f"{word}s"
            said.append("pair" if count == 2 and word in said else f"{'pair of' if count == 2 else count} {many}")
        elif bare is typing.Literal:
            said.append(" or ".join(map(str, typing.get_args(kind))))
        elif kind is not types.NoneType:
            said.append(_WORDS.get(kind) or _WORDS.get(bare) or getattr(bare, "__name__", str(kind)))
    return said


def with_article(words):
    """One of the alternatives: ["text", "number", "array"] gives "text, a number or an array"."""
    bare = {"text", "anything", "yes/no"}
    said = [w if w in bare or w[0].isdigit() else f"{'an' if w[0] in 'aeiou' else 'a'} {w}" for w in words]
    return ", ".join([*said[:-2], " or ".join(said[-2:])])


# --- from input to what pydantic checks -------------------------------------------------------------

_PLAIN = bool, int, float, str, types.NoneType


def _is_one(value, type):
    """Whether a value clearly is of a type, as most are: pydantic would give it back. An array takes what it can."""
    kind = value.__class__
    if value is not None and any(t is Array or typing.get_origin(t) is typing.Literal for t in members(type)):
        return False        # 2.0 is the 2 of a Literal
    if kind is tuple:
        return any(is_fixed(t) and (parts := items(t, len(value))) and all(map(_is_one, value, parts))
                   for t in members(type))
    return any(kind is t and t in _PLAIN or t is Path and isinstance(value, Path) for t in members(type))


@functools.cache
def _adapter(type):
    from pydantic import ConfigDict, TypeAdapter  # it takes 0.1 s, and is seldom needed
    return TypeAdapter(type, config=ConfigDict(arbitrary_types_allowed=True))


def _meaning(value, type, choices, number):
    """What text, NumPy or a quantity means to a type; anything else as it came. ValueError for what never fits."""
    kinds = members(type)
    if isinstance(value, np.ndarray | np.generic) and Array not in kinds:
        value = value.tolist()
    if hasattr(value, "magnitude") and hasattr(value, "units"):         # a pint quantity
        value = f"{value.magnitude} {value.units}"
    only_path = str not in kinds and (Path in kinds or Array in kinds)
    if isinstance(value, str):
        if kinds == (str,) or value in choices and not only_path:
            return value
        if types.NoneType in kinds and value.strip() in ("none", "None"):
            return None
    if only_path and isinstance(value, str | PurePath):
        return _file(value, kinds, number)
    if isinstance(value, str):
        return _text(value, kinds, choices, number)
    if isinstance(value, list | tuple):
        return _sequence(value, kinds, choices, number) or value
    if isinstance(value, bool) and bool not in kinds and Any not in kinds:
        raise ValueError("yes/no is not a number")
    return _widened(value, kinds)


def _file(value, kinds, number):
    """A path, or the array that is there."""
    if not str(value):
        raise ValueError("an empty path")
    path = Path(value).expanduser()
    if Array not in kinds:
        return path
    if not os.path.exists(path) and re.fullmatch(r"[\[(]?[-+.\deE,\s]+[\])]?", str(value)):
        try:
            return np.array([float(part) for part in str(value).strip("[]() ").split(",")])
        except ValueError:
            pass
    try:
        return np.load(path, allow_pickle=False) if path.suffix == ".npy" else _table(path, number)
    except (OSError, ValueError) as err:
        said = str(getattr(err, "strerror", None) or err)[:5 * MOST_SHOWN]
        raise ParameterError(f"cannot be read from {short(str(path))}: {said}") from None


def _table(path, number):
    """The numbers (n, columns) of a text table, (n,) of one column, in the parameter's unit."""
    try:
        table = read_table(path)
    except PositionError as err:
        raise ParameterError(str(err)) from None
    axes = axes_in([table.names.get(i, "") for i in range(table.width)])
    if doubt := table.doubt or table.unit_doubt:
        raise ParameterError(f"{doubt}. Write a table of numbers only, or one whose first line names each column")
    if len(table.columns) < table.width or axes not in (None, (0, 1)) or axes and table.width > 2:
        raise ParameterError(f"its columns of numbers are {', '.join(table.keys())}; expected numbers only, "
                             f"and y before x where they are positions")
    factors = [number(f"1 {table.units[i]}", False) if i in table.units else 1 for i in table.columns]
    if any(isinstance(factor, str) for factor in factors):
        raise ParameterError(f"its columns are in {', '.join(table.units.values())}; expected numbers without "
                             f"a unit")
    return np.squeeze(np.column_stack([table.columns[i] * factor for i, factor in zip(table.columns, factors)]))


_BOOL = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _text(text, kinds, choices, number):
    """Text as the command line, TOML and a keyword give it: yes or no, else a sequence, else a number, else text."""
    word, free, numeric = text.strip().lower(), str in kinds, int in kinds or float in kinds
    if bool in kinds and word in _BOOL and not (numeric and word in ("0", "1")):
        return _BOOL[word]
    if "," in text or not (free or numeric):
        inside = text.strip()
        if inside[:1] + inside[-1:] in ("()", "[]"):        # as messages and Python show it
            inside = inside[1:-1]
        parts = [part.strip() for part in inside.split(",")] if word else []
        last = _QUANTITY.fullmatch(parts[-1]) if len(parts) > 1 else None
        if last and last[2] and all((m := _QUANTITY.fullmatch(part)) and not m[2] for part in parts[:-1]):
            parts = [*(f"{part} {last[2]}" for part in parts[:-1]), parts[-1]]      # "1, 2 mm" is 1 mm and 2 mm
        values = _sequence(parts, kinds, choices, number)
        if values is not None and not (free and any(isinstance(v, str) for v in values)):
            return values
    return _widened(number(text, free), kinds) if numeric else text


def _widened(value, kinds):
    """A whole number as a float where nothing else is meant."""
    exactly = int in kinds or typing.Literal in map(typing.get_origin, kinds)
    return float(value) if value.__class__ is int and float in kinds and not exactly else value


def _sequence(values, kinds, choices, number):
    """What the values mean to the first sequence with so many items; None if there is none."""
    for kind in kinds:
        if (parts := items(kind, len(values))) is not None:
            meant = [_meaning(v, t, choices, number) for v, t in zip(values, parts)]
            return tuple(meant) if is_fixed(kind) else meant
    return None


_QUANTITY = re.compile(r"""\s*([-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|(?:inf|nan)(?![a-z])))   # a number
                           \s*([^\W\d_][^()]*|[°%].*)?                                              # a unit""", re.X)


def _number(text, free, unit, example):
    """A number in this unit; text that is neither number nor quantity stays text, as any does where text is free."""
    if not (match := _QUANTITY.fullmatch(text)):
        return text
    digits, given = match[1], (match[2] or "").strip()
    number = int(digits) if digits.lstrip("+-").isdigit() else float(digits)
    if given in ("", unit):
        return number
    if not is_physical(unit):
        return text
    if (meant := units.convert(number, given, unit)) is not None:
        return meant
    wrong = units.dimension(given)
    if wrong is None:
        if free:
            return text
        raise ParameterError(f"must be in {unit}, got {short(text)}: no unit {given!r} is known")
    raise ParameterError(f"must be {units.dimension(unit)} such as '{example:g} {unit}', "
                         f"got '{number:g} {given}' ({wrong})")
