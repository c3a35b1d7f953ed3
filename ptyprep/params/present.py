"""One parameter tree, many faces: printed tree, TOML template, JSON Schema, docstring and Markdown table.

>>> class Eiger(declare.Tree):
...     "Frames of an Eiger."
...     energy: float = declare.Par(9.5, unit="keV", gt=0, level=0, doc="Photon energy.")
>>> print(tree_text(Eiger))
eiger: Frames of an Eiger.
<BLANKLINE>
energy  number [keV] = 9.5; greater than 0
        Photon energy.
>>> print(toml_template(Eiger))
# Parameters of the recipe 'eiger'. Remove the # before a name to set it.
<BLANKLINE>
# Photon energy.
# number [keV]; greater than 0; basic; default 9.5
#energy = 9.5
"""

import inspect
import json
import math
import textwrap
import typing
from pathlib import PurePath

import numpy as np

from ptyprep.params import convert, declare
from ptyprep.params.declare import walk
from ptyprep.params.par import LIMITS, Par, one_line, unit_of

LEVELS = ("basic", "normal", "expert")
_HEADER = "Parameters\n----------"


def tree_text(recipe, level=2, values=None):
    """The parameters up to a level, as a tree to print; with values, these and where they came from."""
    lines = [f"{recipe.recipe_name}: {_summary(recipe)}".rstrip(": "), ""]
    width = max((len(_indented(name)) for name, _ in walk(recipe)), default=0) + 2
    for name, item in _nodes(recipe, level):
        if not isinstance(item, Par):
            lines.append(f"{_indented(name)}: {_summary(item)}".rstrip(": "))
            continue
        if values is None:
            said = ", required" if item.required else f" = {display(item.default)}"
        else:
            shown = display(values.flat()[name], item.unit if item.physical else None)
            said = f" = {shown} ({values.origin(name)})"
        head = f"{_kind(item)}{said}{''.join(f'; {rule}' for rule in _rules(item))}"
        lines += _wrap(head, f"{_indented(name):{width}}", " " * width)
        lines += _wrap(item.doc or "", " " * width, " " * width)
    return "\n".join(lines)


def toml_template(recipe, level=2):
    """A TOML file in which every parameter up to a level stands commented out, at its default."""
    lines = [f"# Parameters of the recipe {recipe.recipe_name!r}. Remove the # before a name to set it."]
    for group, doc, pars in _tables(recipe, level):
        if group:
            lines += ["", *_wrap(doc, "# ", "# "), f"[{group}]"]
        for name, par in pars:
            facts = [_kind(par), *_rules(par), LEVELS[par.level], _default(par)]
            lines += ["", *_wrap(par.doc or "", "# ", "# "), *_wrap("; ".join(facts), "# ", "# "),
                      f"#{name} = " + ('""' if par.required else _toml(par.default))]
    return "\n".join(lines)


def json_schema(recipe):
    """A JSON Schema (draft 2020-12) of what the recipe takes from a file.

    >>> class Eiger(declare.Tree):
    ...     "Frames of an Eiger."
    ...     rebin: int = declare.Par(1, ge=1, le=32, doc="Pixels to sum.")
    >>> json_schema(Eiger)["properties"]["rebin"]
    {'type': 'integer', 'minimum': 1, 'maximum': 32, 'description': 'Pixels to sum.', 'x-level': 1, 'default': 1}
    """
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": recipe.recipe_name,
            **_object_schema(recipe)}


def docstring(recipe):
    """The class's docstring with a Parameters section: own parameters in full, inherited ones by name."""
    own = dict(_own(recipe))
    parts = [_text(recipe)]
    if own:
        parts.append("\n".join([_HEADER, *(line for name, par in own.items() for line in (
            f"{name} : {'; '.join([_kind(par), *_rules(par), _default(par)])}",
            *_wrap(par.doc or "", "    ", "    ")))]))
    if inherited := [name for name, _ in walk(recipe) if name not in own]:
        title = "" if own else f"{_HEADER}\n"
        parts.append(title + "\n".join(_wrap(f"Inherited: {', '.join(inherited)}.", "", "    ")))
    return "\n\n".join(filter(None, parts))


def table(recipe, own_only=False):
    """The parameters as a Markdown table; own_only leaves out what is just as in the parent recipe."""
    rows = [("name", "type", "unit", "default", "limits or choices", "level", "description"), ("---",) * 7]
    for name, par in _own(recipe) if own_only else walk(recipe):
        default = "required" if par.required else f"`{display(par.default)}`"
        rows.append((f"`{name}`", par.kind, par.unit or "", default,
                     "; ".join(_rules(par)), LEVELS[par.level], one_line(par.doc)))
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)


def display(value, unit=None):
    """How one value is written for people; a length or a time in the prefix that suits it.

    >>> display((7.5e-5, 5e-5), "m"), display(9.5, "keV"), display((1124, 971)), display(None), display(True)
    ('75 um, 50 um', '9.5 keV', '1124, 971', 'none', 'yes')
    """
    if isinstance(value, np.ndarray) and value.ndim:
        return f"array {value.shape}"
    if isinstance(value, list | tuple):
        return ", ".join(display(part, unit) for part in value) or "empty"
    if isinstance(value, np.ndarray | np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, int | float):
        prefix, scale = _prefix(value) if unit in ("m", "s") else ("", 1)
        number = f"{value / scale:.10g}" if isinstance(value, float) else str(value)
        return f"{number} {prefix}{unit}" if unit else number
    return str(value) or '""'


def _prefix(value):
    size = abs(value)
    if not isinstance(value, float) or not 1e-12 < size < 1:
        return "", 1
    return next((prefix, scale) for prefix, scale in (("m", 1e-3), ("u", 1e-6), ("n", 1e-9), ("p", 1e-12))
                if size >= scale * (1 - 1e-12))


# --- what the faces share ---------------------------------------------------------------------------

def _nodes(node, level):
    """Groups and parameters up to a level, as (dotted name, Par or group), groups without any left out."""
    for name, item in node.tree.items():
        if isinstance(item, Par):
            if item.level <= level:
                yield node.prefix + name, item
        elif inner := list(_nodes(item, level)):
            yield item.prefix[:-1], item
            yield from inner


def _tables(node, level):
    """(group, its doc, its own parameters) of a node and then of its groups: TOML wants tables last."""
    pars = [(name, item) for name, item in node.tree.items() if isinstance(item, Par) and item.level <= level]
    if pars:
        yield node.prefix[:-1], _summary(node), pars
    for item in node.tree.values():
        if not isinstance(item, Par):
            yield from _tables(item, level)


def _own(recipe):
    """The parameters that a recipe declares or changes."""
    inherited = {name: repr(par) for base in reversed(recipe.__bases__) if issubclass(base, declare.Tree)
                 for name, par in walk(base)}
    return [(name, par) for name, par in walk(recipe) if inherited.get(name) != repr(par)]


def _text(node):
    """A class's own docstring, without the section that docstring() added to it."""
    return inspect.cleandoc(vars(node).get("__doc__") or "").partition(_HEADER)[0].rstrip()


def _summary(node):
    return one_line(_text(node).partition("\n\n")[0])


def _kind(par):
    return par.kind + unit_of(par)


def _default(par):
    return "required" if par.required else f"default {display(par.default)}"


def _rules(par):
    """Limits and choices in words."""
    rules = [f"{LIMITS[key][0]} {limit}" for key, limit in par.limits.items()]
    return rules + ([f"one of {', '.join(map(str, par.choices))}"] if par.choices else [])


def _indented(name):
    return "  " * name.count(".") + name.rpartition(".")[2]


def _wrap(text, first, rest):
    """Lines no wider than a terminal of 100 columns."""
    return textwrap.wrap(one_line(text), 100, initial_indent=first, subsequent_indent=rest,
                         break_long_words=False, break_on_hyphens=False)


def _toml(value):
    """A value as TOML; there is no null in TOML, and the text "none" is read as one."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_toml(str(key))} = {_toml(part)}' for key, part in value.items())}}}"
    text = "none" if value is None else str(value)
    return json.dumps(text, ensure_ascii=False).replace("\x7f", r"\u007f")


# --- JSON Schema ------------------------------------------------------------------------------------

_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", dict: "object"}
_BOUNDS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}


def _object_schema(node):
    own = {name: _par_schema(item) if isinstance(item, Par) else _object_schema(item)
           for name, item in node.tree.items()}
    required = [name for name, item in node.tree.items() if isinstance(item, Par) and item.required]
    return {"type": "object", **({"description": doc} if (doc := _summary(node)) else {}), "properties": own,
            "additionalProperties": False, **({"required": required} if required else {})}


def _par_schema(par):
    said = {"description": one_line(par.doc), "x-unit": par.unit, "x-level": par.level}
    schema = _type_schema(par.type, par) | {key: fact for key, fact in said.items() if fact not in (None, "")}
    return schema if par.required else schema | {"default": _json(par.default)}


def _type_schema(kinds, par):
    kinds = convert.members(kinds)
    options = [_kind_schema(kind, par) for kind in kinds]
    if par.physical and float in kinds and str not in kinds:
        options.append({"type": "string", "description": f"A quantity with its unit, converted to {par.unit}."})
    return options[0] if len(options) == 1 else {"anyOf": options}


def _kind_schema(kind, par):
    if kind is type(None):
        return {"enum": [None, "none"]}
    if kind == convert.Array:
        return {"type": ["array", "string"]}
    if kind in (int, float):
        choices = [choice for choice in par.choices or () if not isinstance(choice, str)]
        bounds = {_BOUNDS[key]: limit for key, limit in par.limits.items() if math.isfinite(limit)}
        return {"type": _TYPES[kind], **bounds, **({"enum": choices} if choices else {})}
    if kind is str:
        choices = [choice for choice in par.choices or () if isinstance(choice, str)]
        return {"type": "string", **({"enum": choices} if choices else {})}
    if isinstance(kind, type) and issubclass(kind, PurePath):
        return {"type": "string", "format": "path"}
    if typing.get_origin(kind) is typing.Literal:
        return {"enum": list(typing.get_args(kind))}
    parts = convert.items(kind)
    if parts is None:
        name = _TYPES.get(typing.get_origin(kind) or kind)
        return {"type": name} if name else {}
    if convert.is_fixed(kind):
        return {"type": "array", "prefixItems": [_type_schema(part, par) for part in parts],
                "minItems": len(parts), "maxItems": len(parts)}
    return {"type": "array", "items": _type_schema(parts[0], par)}


def _json(value):
    """A default as JSON; nan and inf, which JSON lacks, as the text that is read as them."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_json(part) for part in value]
    if isinstance(value, dict):
        return {str(key): _json(part) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value) or isinstance(value, PurePath):
        return str(value)
    return value
