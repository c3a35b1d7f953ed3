"""Parameters: declared once in the class body.

>>> class Recipe(Tree):
...     energy: float = Par(unit="keV", gt=0, level=0, doc="Photon energy.")
...     shape: int | tuple[int, int] | None = Par(None, unit="pixel", gt=0, doc="Region to keep.")
...     class mask(Group):
...         "Bad pixels."
...         file: Path | None = Par(None, doc="HDF5 file with the mask.")
>>> class Eiger(Recipe):
...     energy = Par(9.5)                     # type, unit, limits and doc stay
>>> p = Eiger.make_values(("config file", {"shape": "1124,971"}), ("keyword", {"mask.file": "m.h5"}))
>>> p.energy, p.shape, str(p.mask.file), p.origin("mask.file")
(9.5, (1124, 971), 'm.h5', 'keyword')
>>> p.energy = "7200 eV"
>>> p.energy
7.2
>>> Eiger.make_values(("keyword", {"shpae": 256}))
Traceback (most recent call last):
ptyprep.errors.ParameterError: no parameter 'shpae' in recipe 'eiger'; did you mean 'shape'?
"""

import difflib
import functools
import inspect
import math
import operator
import re
import sys
import types
import typing
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, PrivateAttr, TypeAdapter, create_model

from ptyprep.errors import ParameterError

#: Where a value can come from; a later one wins.
ORIGINS = ("default", "detector", "config file", "command line", "keyword")

#: What a limit says, and how it is tested.
LIMITS = {"gt": ("greater than", operator.gt), "ge": ("at least", operator.ge),
          "lt": ("less than", operator.lt), "le": ("at most", operator.le)}

def _array(value):
    try:
        array = np.array(value, np.float64)
    except TypeError as err:
        raise ValueError(str(err)) from None
    array.setflags(write=False)      # a value that is frozen should be so to its last element
    return array


#: A float64 array: given as one, as nested lists, or as the path of a .npy file or a text table.
Array = Annotated[np.ndarray, PlainValidator(_array)]

#: Two numbers, (rows, columns) or (y, x).
Pair = tuple[float, float]


class Par:
    """One parameter: its default (none: required) and all that any face of it shows.

    doc : one sentence or more, for every face.
    unit : unit of the number; a physical one lets the user write "75 um". "pixel", "frames" and "" are not.
    level : 0 basic, 1 normal (so if not said), 2 expert.
    choices : the texts that are possible. Numbers beside them, if the type has any, stay free.
    source : True marks the parameter that the command line's SOURCE argument fills.
    gt, ge, lt, le : limits, of each number if there are several. None lifts the inherited one.

    A number must be finite, unless the default or a limit is that very nan or inf.
    What is not said is inherited from the parameter that this one overrides.
    """

    def __init__(self, default=..., *, doc=None, unit=None, level=None, choices=None, source=None,
                 **limits):
        if unknown := limits.keys() - LIMITS.keys():
            raise TypeError(f"Par has no option {', '.join(sorted(unknown))}; its limits are {', '.join(LIMITS)}")
        self.default, self.type = default, None
        self.doc, self.unit, self.level, self.source = doc, unit, level, source
        self.choices = None if choices is None else tuple(choices)
        self.limits = limits

    def over(self, parent, type=None):
        """This parameter, with all that it does not say taken from its parent."""
        sides = {key[0] for key in self.limits}          # a new ge replaces an inherited gt
        limits = {key: limit for key, limit in parent.limits.items() if key[0] not in sides} | self.limits
        par = Par(parent.default if self.default is ... else self.default,
                  **{key: limit for key, limit in limits.items() if limit is not None})
        for key in ("doc", "unit", "level", "choices", "source"):
            mine = getattr(self, key)
            setattr(par, key, getattr(parent, key) if mine is None else mine)
        par.level = 1 if par.level is None else par.level
        par.type = parent.type if type is None else type
        if par.default is not ...:
            par.default = par.convert(par.default)
        return par

    def __repr__(self):
        said = {key: value for key, value in {**vars(self), **self.limits}.items()
                if key not in ("default", "limits") and value is not None}
        return f"Par({', '.join([repr(self.default), *(f'{k}={v!r}' for k, v in said.items())])})"

    @property
    def required(self):
        return self.default is ...

    @property
    def physical(self):
        """Whether the unit is one that pint converts."""
        return self.unit not in (None, "", "pixel", "pixels", "frame", "frames")

    @property
    def kind(self):
        """The type in plain words.

        >>> Par().over(Par(), int | tuple[int, int] | None).kind
        'whole number or pair'
        """
        return " or ".join(_words(self.type))

    def convert(self, value):
        """The value as this parameter keeps it, from text, TOML, NumPy or Python.

        Raises ParameterError that reads on after "parameter 'rebin' of recipe 'eiger' ".

        >>> Par(unit="m").over(Par(), float).convert("75 um")
        7.5e-05
        >>> Par(le=32).over(Par(), int).convert(64)
        Traceback (most recent call last):
        ptyprep.errors.ParameterError: must be at most 32, got 64
        """
        try:
            result = _adapter(self.type).validate_python(_read(value, self.type, self))
        except ParameterError:
            raise
        except ValueError:               # pydantic's, or ours for what pydantic would let pass
            raise ParameterError(f"must be {_with_article(_words(self.type))}, got {value!r}") from None
        for x in _leaves(result):
            if isinstance(x, str):
                self._check_choice(x, [c for c in self.choices or () if isinstance(c, str)])
            elif isinstance(x, float | int) and not isinstance(x, bool):
                self._check_choice(x, [c for c in self.choices or () if not isinstance(c, str)])
                self._check_number(x, result)
        return result

    def _check_choice(self, x, choices):
        if choices and x not in choices:
            others = [word for word in _words(self.type) if word != "text"] if isinstance(x, str) else []
            close = difflib.get_close_matches(str(x), map(str, choices), 1)
            raise ParameterError(
                f"is {x!r}; choose one of {', '.join(map(str, choices))}"
                + (f", or give {_with_article(others)}" if others else "")
                + (f" (did you mean {close[0]!r}?)" if close else ""))

    def _check_number(self, x, value):
        if not math.isfinite(x) and not isinstance(value, np.ndarray):
            if repr(x) not in map(repr, (self.default, *self.limits.values())):
                raise ParameterError(f"must be finite, got {value!r}")
        for key, limit in self.limits.items():
            words, holds = LIMITS[key]
            if not holds(x, limit):
                raise ParameterError(f"must be {words} {limit}, got {value!r}")


class Group:
    """Parameters that belong together: `class mask(Group): ...` in the body of a recipe or of a group."""

    tree: ClassVar[dict] = {}

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        _declare(cls)


class Tree:
    """Base of what has parameters. A subclass gets `tree` (name to Par or Group), and `Values`."""

    tree: ClassVar[dict] = {}
    declared: ClassVar[dict] = {}        # what one class body says, before it is laid over its parents'
    prefix = ""
    recipe_name = "tree"
    Values: ClassVar[type]

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        _declare(cls)
        _grow(cls, {}, "", vars(cls).get("recipe_name") or cls.__name__.lower())

    @classmethod
    def make_values(cls, *layers):
        """Values from (origin, mapping) layers, later ones winning; nested mappings, dotted keys, or both.

        Raises ParameterError with one line for each problem in any layer.
        """
        return cls.Values(*layers)


class Values(BaseModel):
    """The values of a recipe's parameters: read `p.mask.file`; an assignment is checked like any other input."""

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=(), defer_build=True)
    _node: ClassVar[type] = Tree        # the recipe or group whose values these are
    _origins: dict = PrivateAttr(default_factory=dict)
    _frozen: bool = PrivateAttr(default=False)

    def __init__(self, /, *layers, **given):
        super().__init__()
        self._take([*layers, ("keyword", given)], complete=True)

    def __setattr__(self, name, value):
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self._take([("keyword", {name: value})])

    def __eq__(self, other):
        if not isinstance(other, Values) or self._node is not other._node:
            return NotImplemented
        mine, theirs = self.flat(), other.flat()
        return all(np.array_equal(mine[k], theirs[k]) if isinstance(mine[k], np.ndarray) else
                   type(mine[k]) is type(theirs[k]) and mine[k] == theirs[k] for k in mine)

    def __repr_args__(self):
        return list(self.flat().items())

    def flat(self):
        """All values by dotted name, in the order of the declaration."""
        return {name: functools.reduce(getattr, name.split("."), self) for name, _ in walk(self._node)}

    def changed(self):
        """The values that are not defaults, by dotted name."""
        return {name: value for name, value in self.flat().items() if self.origin(name) != "default"}

    def origin(self, name):
        """Where a value came from, one of ORIGINS."""
        *groups, leaf = name.split(".")
        if name not in dict(walk(self._node)):
            raise ParameterError(_unknown(self._node, name))
        return functools.reduce(getattr, groups, self)._origins.get(leaf, "default")

    def given(self, name):
        """Whether the user said it: not a default, and not what the detector recorded."""
        return self.origin(name) not in ("default", "detector")

    def record(self, name, value, origin="detector"):
        """Take a value that was found in the data, unless a stronger origin has said otherwise."""
        if ORIGINS.index(origin) >= ORIGINS.index(self.origin(name)):
            self._take([(origin, {name: value})])

    def freeze(self):
        """From now on every assignment is an error, in groups too."""
        self._frozen = True
        for value in self.__dict__.values():
            if isinstance(value, Values):
                value.freeze()

    def _take(self, layers, complete=False):
        """Check everything, then set everything or nothing."""
        node, pars = self._node, dict(walk(self._node))
        problems, taken, named = [], [], set()
        for origin, mapping in layers:
            if origin not in ORIGINS:
                raise ValueError(f"no origin {origin!r}; it is one of {', '.join(ORIGINS)}")
            where = f" (from the {origin})" if origin in ("detector", "config file") else ""
            found, wrong = _flatten(node, mapping or {})
            problems += [problem + where for problem in wrong]
            named.update(name for name, _ in found)
            for name, value in found:
                full = repr(node.prefix + name)
                if self._frozen:
                    problems.append(f"parameter {full} cannot change after initialize(); make a new scan")
                    continue
                try:
                    taken.append((name, pars[name].convert(value), origin))
                except ParameterError as err:
                    unit = unit_of(pars[name])
                    problems.append(f"parameter {full} of recipe {node.recipe_name!r}{unit} {err}{where}")
        if complete:
            problems += [f"recipe {node.recipe_name!r} needs parameter {name!r}{unit_of(par)}: {one_line(par.doc)}"
                         for name, par in pars.items() if par.required and name not in named]
        if problems:
            raise ParameterError("\n".join(problems))
        for name, value, origin in taken:
            *groups, leaf = name.split(".")
            owner = functools.reduce(getattr, groups, self)
            owner.__dict__[leaf] = value
            owner._origins[leaf] = origin


Tree.Values = Values


def walk(node):
    """Every parameter of a recipe or group, as (dotted name, Par), in the order of the declaration."""
    for name, item in node.tree.items():
        if isinstance(item, Par):
            yield name, item
        else:
            yield from ((f"{name}.{inner}", par) for inner, par in walk(item))


# --- from class bodies to trees ---------------------------------------------------------------------

def _declare(cls):
    """Move the parameters of a class body, with their types, to cls.declared; note groups and plain values there."""
    body = {name: item for name, item in vars(cls).items() if not name.startswith("_")}
    cls.declared = {name: item for name, item in body.items() if _is_group(item) or not (
        isinstance(item, type) or hasattr(item, "__get__"))}
    notes = inspect.get_annotations(cls)
    for name, par in cls.declared.items():
        if isinstance(par, Par):
            par.type = _resolve(cls, name, notes[name]) if name in notes else None
            delattr(cls, name)


def _is_group(item):
    return isinstance(item, type) and issubclass(item, Group)


def _resolve(cls, name, note):
    """The type behind a string annotation, seen from where the class stands, be it a file that was exec'd."""
    if not isinstance(note, str):
        return note
    frame = sys._getframe(2)
    while frame.f_code.co_name == "__init_subclass__":
        frame = frame.f_back
    scopes, names = [vars(cls)], frame.f_globals
    while frame and frame.f_globals is names:
        scopes.append(frame.f_locals)
        frame = frame.f_back
    scopes.append(getattr(sys.modules.get(cls.__module__), "__dict__", {}))

    def holder():
        """Carries one annotation to inspect, which evaluates it."""
    holder.__annotations__ = {"type": note}
    try:
        return inspect.get_annotations(holder, globals=names, locals=ChainMap(*map(dict, scopes)),
                                       eval_str=True)["type"]
    except (NameError, AttributeError, SyntaxError, TypeError) as err:
        raise TypeError(f"{cls.__qualname__}.{name}: cannot understand the type {note!r}: {err}") from None


def _grow(node, inherited, prefix, recipe_name):
    """Give a recipe or group its tree and Values, from what its bases declared, oldest first."""
    tree = dict(inherited)
    for base in reversed(node.__mro__):
        for name, item in vars(base).get("declared", {}).items():
            owner, known = f"{base.__qualname__}.{name}", tree.get(name)
            if isinstance(item, Par):
                tree[name] = _settle(owner, name, item, known)
            elif _is_group(item):
                if hasattr(Tree, name) or hasattr(BaseModel, name):
                    raise TypeError(f"{owner}: a group cannot have the name {name!r}; choose another")
                tree[name] = _place(node, name, item, known, f"{prefix}{name}.", recipe_name)
            elif known is not None:
                raise TypeError(f"{owner} hides the parameter {name!r}; write {name} = Par({item!r})")
    node.tree, node.prefix, node.recipe_name = tree, prefix, recipe_name
    fields = {}
    for name, item in tree.items():
        if isinstance(item, Par):
            fields[name] = (Any, None if item.required else item.default)
        else:
            setattr(node, name, item)
            fields[name] = (item.Values, Field(default_factory=item.Values.model_construct))
    node.Values = create_model(f"{node.__name__}Values", __base__=Values, __module__=node.__module__, **fields)
    node.Values.__qualname__ = f"{node.__qualname__}.Values"       # where pickle finds it
    node.Values._node = node


def _settle(owner, name, par, known):
    """One parameter, laid over the one that it overrides."""
    known = known if isinstance(known, Par) else None
    if par.type is None and known is None:
        raise TypeError(f"{owner} overrides no parameter and has no type; write {name}: float = Par(...)")
    if hasattr(Values, name):
        raise TypeError(f"{owner}: a parameter cannot have the name {name!r}; choose another")
    try:
        return par.over(known or Par(), par.type)
    except ParameterError as err:
        raise TypeError(f"{owner}: the default {err}") from None


def _place(node, name, group, known, prefix, recipe_name):
    """A group in its recipe: a class of its own, because another recipe may extend the same group."""
    known = known if _is_group(known) else None
    docs = [vars(base).get("__doc__") for base in group.__mro__ if base not in (Group, object)]
    placed = type(group)(name, (group,), {
        "__doc__": next(filter(None, [*docs, known and known.__doc__]), None),
        "__module__": node.__module__, "__qualname__": f"{node.__qualname__}.{name}"})
    _grow(placed, known.tree if known else {}, prefix, recipe_name)
    return placed


# --- from input to values ---------------------------------------------------------------------------

def _flatten(node, mapping, prefix=""):
    """What a mapping gives, as (dotted name, value), and what is wrong with its names."""
    found, wrong = [], []
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        item = functools.reduce(lambda at, part: getattr(at, "tree", {}).get(part), name.split("."), node)
        if isinstance(value, Values):
            value = value.flat()
        if isinstance(item, Par):
            found.append((name, value))
        elif item is None:
            wrong.append(_unknown(node, name))
        elif isinstance(value, Mapping):
            inner = _flatten(node, value, f"{name}.")
            found += inner[0]
            wrong += inner[1]
        else:
            members = ", ".join(f"{item.prefix}{member}" for member in item.tree)
            wrong.append(f"{item.prefix[:-1]!r} of recipe {node.recipe_name!r} is a group, got {value!r}; "
                         f"set its members {members}")
    return found, wrong


def _unknown(node, name):
    """The sentence for a name that does not exist, with the nearest one that does."""
    names = [known for known, _ in walk(node)]
    names += {known.rpartition(".")[0] for known in names if "." in known}
    leaves = {known.rpartition(".")[2].lower(): known for known in reversed(names)}
    lower, leaf = {known.lower(): known for known in names}, name.rpartition(".")[2].lower()
    close = (leaves.get(leaf)
             or next((lower[c] for c in difflib.get_close_matches(name.lower(), lower, 1)), None)
             or next((leaves[c] for c in difflib.get_close_matches(leaf, leaves, 1)), None))
    return (f"no parameter {node.prefix + name!r} in recipe {node.recipe_name!r}"
            + (f"; did you mean {node.prefix + close!r}?" if close else ""))


@functools.cache
def _adapter(type):
    return TypeAdapter(type, config=ConfigDict(arbitrary_types_allowed=True))


def members(type):
    """The alternatives of a type: int | None gives (int, NoneType)."""
    if typing.get_origin(type) in (typing.Union, types.UnionType):
        return tuple(kind for part in typing.get_args(type) for kind in members(part))
    return (type,)


def items(kind, n=None):
    """The types of a sequence's n items; None if this is no sequence, or one of another length."""
    origin, args = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is tuple and args and args[-1] is not Ellipsis:
        return args if n in (None, len(args)) else None
    if origin in (tuple, list):
        return (args[:1] or (Any,)) * (1 if n is None else n)
    return None


def _read(value, type, par):
    """What text, NumPy or a quantity means to a type; anything else as it came. ValueError for what never fits."""
    kinds = members(type)
    if isinstance(value, np.ndarray | np.generic) and Array not in kinds:
        value = value.tolist()
    if hasattr(value, "magnitude") and hasattr(value, "units"):         # a pint quantity
        value = f"{value.magnitude} {value.units}"
    if isinstance(value, str | PurePath) and str not in kinds and (Path in kinds or Array in kinds):
        if isinstance(value, PurePath) or not _means_none(value, kinds):
            return _read_path(value, kinds)
    if isinstance(value, str):
        return _read_text(value, kinds, par)
    if isinstance(value, list | tuple):
        parts = next(filter(None, (items(kind, len(value)) for kind in kinds)), None)
        return [_read(v, t, par) for v, t in zip(value, parts)] if parts else value
    if isinstance(value, bool) and bool not in kinds and Any not in kinds:
        raise ValueError("yes/no is not a number")
    return value


def _means_none(text, kinds):
    return type(None) in kinds and text.strip() in ("none", "None")


def _read_path(value, kinds):
    if not str(value):
        raise ValueError("an empty path")
    path = Path(value).expanduser()
    if Array not in kinds:
        return path
    try:
        return np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path)
    except (OSError, ValueError) as err:
        raise ParameterError(f"cannot be read from {str(path)!r}: {getattr(err, 'strerror', None) or err}") from None


def _read_text(text, kinds, par):
    """Text as the command line, TOML and a keyword give it.

    >>> par = Par(unit="m").over(Par(), str | float | Pair | None)
    >>> [par.convert(text) for text in ("fft", "5 mm", "75um,50um", "none")]
    ['fft', 0.005, (7.5e-05, 5e-05), None]
    """
    if set(kinds) == {str} or text in (par.choices or ()):
        return text
    if _means_none(text, kinds):
        return None
    word = text.strip().lower()
    numbers = int in kinds or float in kinds
    if bool in kinds and word in (*_BOOL, *(() if numbers else ("0", "1"))):
        return _BOOL.get(word, word == "1")
    free = str in kinds
    for kind in kinds:
        texts = [part.strip() for part in text.split(",")] if text.strip() else []
        parts = items(kind, len(texts))
        if parts is not None and ("," in text or not (free or numbers)) and not (free and set(parts) <= {str}):
            values = [_read(v, t, par) for v, t in zip(texts, parts)]
            if not (free and any(isinstance(v, str) for v in values)):
                return values
    return _read_number(text, free, par) if numbers else text


_BOOL = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_QUANTITY = re.compile(r"""\s*([-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|(?:inf|nan)(?![a-z])))   # a number
                           \s*([^\W\d_][^()]*|[°%].*)?                                              # a unit""", re.X)


def _read_number(text, free, par):
    """A number, in the parameter's unit; text that is neither number nor quantity stays text."""
    if not (match := _QUANTITY.fullmatch(text)):
        return text
    digits, unit = match.groups()
    number = int(digits) if digits.lstrip("+-").isdigit() else float(digits)
    unit = (unit or "").strip()
    if not unit or unit == par.unit:
        return number
    if not par.physical:
        return text
    try:
        return _to_unit(number, unit, par)
    except LookupError:
        if free:
            return text
        raise ParameterError(f"must be in {par.unit}, got {text!r}: no unit {unit!r} is known") from None


@functools.cache
def _registry():
    import pint
    return pint.UnitRegistry()


def _to_unit(number, unit, par):
    """A quantity in the parameter's unit, rounded to 15 digits so that 75 um is 7.5e-05."""
    from pint.errors import PintError
    units = _registry()
    try:
        quantity = units.Quantity(number, unit)
        if quantity.is_compatible_with(par.unit):
            return float(f"{quantity.m_as(par.unit):.15g}")
        expected = _dimension(units, par.unit)
    except (PintError, AttributeError, TypeError, SyntaxError) as err:
        raise LookupError(unit) from err
    example = par.default if isinstance(par.default, int | float) and par.default else 1
    raise ParameterError(f"must be {expected} such as '{example:g} {par.unit}', "
                         f"got '{number:g} {unit}' ({_dimension(units, unit)})")


_DIMENSIONS = {"m": "a length", "eV": "an energy", "s": "a time", "rad": "an angle", "Hz": "a frequency",
               "kg": "a mass", "K": "a temperature", "A": "a current", "V": "a voltage", "m**2": "an area",
               "Pa": "a pressure", "1/m": "an inverse length", "m/s": "a speed", "J/m**2": "an energy per area"}


def _dimension(units, unit):
    size = units.Unit(unit).dimensionality
    return next((word for known, word in _DIMENSIONS.items() if units.Unit(known).dimensionality == size),
                f"a quantity in {unit}")


# --- words ------------------------------------------------------------------------------------------

_WORDS = {int: "whole number", float: "number", str: "text", Path: "path", bool: "yes/no", dict: "table",
          Any: "anything", Array: "array"}


def _words(type):
    """The alternatives of a type in plain words, None left out."""
    words = []
    for kind in members(type):
        inside = items(kind)
        if kind is types.NoneType:
            continue
        if inside is None:
            name = getattr(typing.get_origin(kind) or kind, "__name__", str(kind))
            words.append(_WORDS.get(kind) or _WORDS.get(typing.get_origin(kind)) or (
                " or ".join(map(str, typing.get_args(kind))) if name == "Literal" else name))
            continue
        word = " or ".join(_words(inside[0]))
        plural = word if word == "yes/no" else f"{word}s"
        fixed = typing.get_origin(kind) is tuple and typing.get_args(kind)[-1] is not Ellipsis
        count = "list of " if not fixed else "pair of " if len(inside) == 2 else f"{len(inside)} "
        words.append("pair" if count == "pair of " and word in words else count + plural)
    return words


def _with_article(words):
    """
    >>> _with_article(["text", "number", "array"])
    'text, a number or an array'
    """
    bare = {"text", "anything", "yes/no"}
    said = [w if w in bare or w[0].isdigit() else f"{'an' if w[0] in 'aeiou' else 'a'} {w}" for w in words]
    return " or ".join(filter(None, [", ".join(said[:-1]), *said[-1:]]))


def unit_of(par):
    return f" [{par.unit}]" if par.unit else ""


def one_line(doc):
    return " ".join((doc or "").split())


def _leaves(value):
    """The numbers and texts in a value; of an array the extremes, which are enough for limits."""
    if isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part)
    elif isinstance(value, np.ndarray):
        known = value[~np.isnan(value)]
        yield from (known.min().item(), known.max().item()) if known.size else ()
    else:
        yield value
