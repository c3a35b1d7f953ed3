"""Parameters: declared once in the class body, filled from layers of input.

>>> class Recipe(Tree):
...     energy: float = Par(unit="keV", gt=0, level=0, doc="Photon energy.")
...     shape: int | tuple[int, int] | None = Par(None, unit="pixel", gt=0, doc="Region to keep.")
...     class mask(Group):
...         "Bad pixels."
...         file: str | None = Par(None, doc="HDF5 file with the mask.")
>>> class Eiger(Recipe):
...     energy = Par(9.5)                     # type, unit, limits and doc stay
>>> p = Eiger.make_values(("config file", {"shape": "1124,971"}), ("keyword", {"mask.file": "m.h5"}))
>>> p.energy, p.shape, p.mask.file, p.origin("mask.file")
(9.5, (1124, 971), 'm.h5', 'keyword')
>>> p.energy = "7200 eV"
>>> p.energy
7.2
>>> Eiger.make_values(("keyword", {"shpae": 256}))
Traceback (most recent call last):
ptyprep.errors.ParameterError: no parameter 'shpae' in recipe 'eiger'; did you mean 'shape'?
"""
import copy
import difflib
import functools
import inspect
import sys
from collections import ChainMap
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from ptyprep.errors import ParameterError
from ptyprep.params.convert import short
from ptyprep.params.par import Par, one_line, unit_of
from ptyprep.words.spelling import option

#: Where a value can come from; a later one wins.
ORIGINS = ("default", "detector", "config file", "command line", "keyword")
MANY = 20       # unknown parameters that a message names; looking for the nearest name of each takes 1 ms


class Group:
    """Parameters that belong together: `class mask(Group): ...` in the body of a recipe or of a group."""

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        _declare(cls)


class Tree:
    """Base of what has parameters. A subclass gets `tree` (name to Par or Group)."""

    tree: ClassVar[dict] = {}
    declared: ClassVar[dict] = {}        # what one class body says, before it is laid over its parents'
    prefix = ""
    recipe_name = "tree"

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        _declare(cls)
        _grow(cls, {}, "", vars(cls).get("recipe_name") or cls.__name__.lower())

    @classmethod
    def make_values(cls, *layers):
        """Values from (origin, mapping) layers, later ones winning; nested mappings, dotted keys, or both.

        Raises ParameterError with one line for each problem in any layer.
        """
        values = Values(cls)
        values._take(layers, complete=True)
        return values


class Values:
    """The values of a recipe's parameters: read `p.mask.file`; an assignment is checked like any other input.

    node : the recipe or group whose values these are; they begin as defaults, None where there is none
    """

    def __init__(self, node):
        self._node, self._origins, self._frozen = node, {}, False
        for name, item in node.tree.items():
            self.__dict__[name] = (Values(item) if _is_group(item) else None if item.required else
                                   item.default if isinstance(item.default, np.ndarray) else       # it is read-only
                                   copy.deepcopy(item.default))

    def __getattr__(self, name):
        if name.startswith("_"):        # what copy and pickle ask for
            raise AttributeError(name)
        raise AttributeError(_unknown(self._node, name))

    def __setattr__(self, name, value):
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self._take([("keyword", {name: value})])

    def __delattr__(self, name):
        raise AttributeError(f"parameter {name!r} cannot be deleted; give it another value")

    def __eq__(self, other):
        if not isinstance(other, Values) or self._node is not other._node:
            return NotImplemented
        mine, theirs = self.flat(), other.flat()
        return all(np.array_equal(mine[k], theirs[k]) if isinstance(mine[k], np.ndarray) else
                   type(mine[k]) is type(theirs[k]) and mine[k] == theirs[k] for k in mine)

    def __repr__(self):
        return f"{self._node.__name__}Values({', '.join(f'{name}={value!r}' for name, value in self.flat().items())})"

    def flat(self):
        """All values by dotted name, in the order of the declaration."""
        return {name: functools.reduce(getattr, name.split("."), self) for name, _ in walk(self._node)}

    def changed(self):
        """The values that are not defaults, by dotted name."""
        values = self.flat()
        return {name: values[name] for name in self.origins()}

    def origins(self):
        """Where the values came from that are not defaults, by dotted name."""
        origins = {name: self._origin(name) for name, _ in walk(self._node)}
        return {name: origin for name, origin in origins.items() if origin != "default"}

    def origin(self, name):
        """Where a value came from, one of ORIGINS."""
        if name not in dict(walk(self._node)):
            raise ParameterError(_unknown(self._node, name))
        return self._origin(name)

    def _origin(self, name):
        *groups, leaf = name.split(".")
        return functools.reduce(getattr, groups, self)._origins.get(leaf, "default")

    def given(self, name):
        """Whether the user said it: not a default, and not what the detector recorded."""
        return self.origin(name) not in ("default", "detector")

    def record(self, name, value, origin="detector"):
        """Take a value that was found in the data, unless a stronger origin has said otherwise; None says nothing."""
        if self.flat()[name] is None or ORIGINS.index(origin) >= ORIGINS.index(self.origin(name)):
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
                par, full = pars[name], repr(node.prefix + name)
                if self._frozen:
                    problems.append(f"parameter {full} cannot change after initialize(); make a new scan")
                    continue
                try:
                    taken.append((name, par.convert(value), origin))
                except ParameterError as err:
                    problems.append(f"parameter {full} of recipe {node.recipe_name!r}{unit_of(par)} {err}{where}")
        if complete:
            problems += [f"recipe {node.recipe_name!r} needs parameter {name!r}{unit_of(par)}: {one_line(par.doc)}"
                         for name, par in pars.items() if par.required and name not in named]
        if problems:
            raise ParameterError("\n".join(problems))
        for name, value, origin in taken:
            *groups, leaf = name.split(".")
            owner = functools.reduce(getattr, groups, self)
            owner.__dict__[leaf], owner._origins[leaf] = value, origin


def walk(node):
    """Every parameter of a recipe or group, as (dotted name, Par), in the order of the declaration."""
    for name, item in node.tree.items():
        if isinstance(item, Par):
            yield name, item
        else:
            yield from ((f"{name}.{inner}", par) for inner, par in walk(item))


def _declare(cls):
    """Move the parameters of a class body, with their types, to cls.declared; note groups and plain values there."""
    cls.declared = {name: item for name, item in vars(cls).items() if not name.startswith("_") and (
        _is_group(item) or not (isinstance(item, type) or hasattr(item, "__get__")))}
    notes = inspect.get_annotations(cls)
    for name, par in cls.declared.items():
        if isinstance(par, Par):
            par.type = _resolve(cls, name, notes[name]) if name in notes else None
            delattr(cls, name)


def _is_group(item):
    return isinstance(item, type) and issubclass(item, Group)


def _resolve(cls, name, note):
    """The type behind an annotation, seen from where the class stands, be it a file that was exec'd."""
    frame = sys._getframe(2)
    while frame.f_code.co_name == "__init_subclass__":
        frame = frame.f_back
    scopes, names = [vars(cls)], frame.f_globals
    while frame and frame.f_globals is names:
        scopes.append(frame.f_locals)
        frame = frame.f_back
    scopes.append(getattr(sys.modules.get(cls.__module__), "__dict__", {}))     # ABCMeta stands between, in abc.py
    holder = type("holder", (), {"__annotations__": {"type": note}})
    try:
        return inspect.get_annotations(holder, globals=names, locals=ChainMap(*scopes), eval_str=True)["type"]
    except (NameError, AttributeError, SyntaxError, TypeError) as err:
        raise TypeError(f"{cls.__qualname__}.{name}: cannot understand the type {note!r}: {err}") from None


def _grow(node, inherited, prefix, recipe_name):
    """Give a recipe or group its tree, from what its bases declared, oldest first."""
    tree = dict(inherited)
    for base in reversed(node.__mro__):
        for name, item in vars(base).get("declared", {}).items():
            owner, known = f"{base.__qualname__}.{name}", tree.get(name)
            if isinstance(item, Par):
                tree[name] = _settle(owner, name, item, known)
            elif _is_group(item):
                if hasattr(Tree, name) or hasattr(Values, name):
                    raise TypeError(f"{owner}: a group cannot have the name {name!r}; choose another")
                tree[name] = _place(node, name, item, known, f"{prefix}{name}.", recipe_name)
            elif known is not None:
                raise TypeError(f"{owner} hides the parameter {name!r}; write {name} = Par({item!r})")
    node.tree, node.prefix, node.recipe_name = tree, prefix, recipe_name
    for name, item in tree.items():
        if _is_group(item):
            setattr(node, name, item)


def _settle(owner, name, par, known):
    """One parameter, laid over the one that it overrides."""
    known = known if isinstance(known, Par) else None
    if par.type is None and known is None:
        raise TypeError(f"{owner} overrides no parameter and has no type; write {name}: float = Par(...)")
    if hasattr(Values, name):
        raise TypeError(f"{owner}: a parameter cannot have the name {name!r}; choose another")
    try:
        return par.over(known or Par(level=1))
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


def _flatten(node, mapping, prefix=""):
    """What a mapping gives, as (dotted name, value), and what is wrong with its names."""
    found, wrong, unknown = [], [], []
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        item = functools.reduce(lambda at, part: getattr(at, "tree", {}).get(part), name.split("."), node)
        if isinstance(value, Values):
            value = value.flat()
        if isinstance(item, Par):
            found.append((name, value))
        elif item is None:
            unknown.append(name)
        elif isinstance(value, Mapping):
            inside, strange = _flatten(node, value, f"{name}.")
            found, wrong = found + inside, wrong + strange
        else:
            wrong.append(f"{item.prefix[:-1]!r} of recipe {node.recipe_name!r} is a group, got {short(value)}; "
                         f"set its members {', '.join(option(item.prefix + member) for member in item.tree)}")
    wrong += [_unknown(node, name) for name in unknown[:MANY]]
    if len(unknown) > MANY:
        wrong.append(f"and {len(unknown) - MANY} more that recipe {node.recipe_name!r} does not have")
    return found, wrong


def _unknown(node, name):
    """The sentence for a name that does not exist, with the nearest one that does."""
    names = [known for known, _ in walk(node)]
    names += {known.rpartition(".")[0] for known in names if "." in known}
    whole = {known.lower(): known for known in names}
    last = {known.rpartition(".")[2].lower(): known for known in reversed(names)}
    word = name.rpartition(".")[2].lower()
    close = (last.get(word)
             or next((whole[c] for c in difflib.get_close_matches(name.lower(), whole, 1)), None)
             or next((last[c] for c in difflib.get_close_matches(word, last, 1)), None))
    return (f"no parameter {short(node.prefix + name)} in recipe {node.recipe_name!r}"
            + (f"; did you mean {node.prefix + close!r}?" if close else ""))
