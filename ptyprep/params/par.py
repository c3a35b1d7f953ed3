"""One parameter: what it may be, and what is said of it."""
import difflib
import math
import operator
from types import NoneType

import numpy as np

from ptyprep.errors import ParameterError
from ptyprep.params.convert import is_physical, leaves, members, read, short, with_article, words

#: What a limit says, and how it is tested.
LIMITS = {"gt": ("greater than", operator.gt), "ge": ("at least", operator.ge),
          "lt": ("less than", operator.lt), "le": ("at most", operator.le)}


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

    def __init__(self, default=..., *, doc=None, unit=None, level=None, choices=None, source=None, **limits):
        if unknown := limits.keys() - LIMITS.keys():
            raise TypeError(f"Par has no option {', '.join(sorted(unknown))}; its limits are {', '.join(LIMITS)}")
        self.default, self.type = default, None
        self.doc, self.unit, self.level, self.source = doc, unit, level, source
        self.choices = None if choices is None else tuple(choices)
        self.limits = limits

    def over(self, parent):
        """This parameter, with all that it does not say taken from its parent."""
        par = Par(parent.default if self.default is ... else self.default)
        for key in ("type", "doc", "unit", "level", "choices", "source"):
            mine = getattr(self, key)
            setattr(par, key, getattr(parent, key) if mine is None else mine)
        sides = {key[0] for key in self.limits}          # a new ge replaces an inherited gt
        limits = {key: limit for key, limit in parent.limits.items() if key[0] not in sides} | self.limits
        par.limits = {key: limit for key, limit in limits.items() if limit is not None}
        if not par.required and not (par.default is None and NoneType in members(par.type)):
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
        return is_physical(self.unit)

    @property
    def kind(self):
        """The type in plain words, such as "whole number or pair"."""
        return " or ".join(words(self.type))

    def convert(self, value):
        """The value as this parameter keeps it, from text, TOML, NumPy or Python.

        Raises ParameterError that reads on after "parameter 'rebin' of recipe 'eiger' ".

        >>> rebin = Par(1, le=32)
        >>> rebin.type = int
        >>> rebin.convert(64)
        Traceback (most recent call last):
        ptyprep.errors.ParameterError: must be at most 32, got 64
        """
        example = self.default if isinstance(self.default, int | float) and self.default else 1
        result = read(value, self.type, self.unit, self.choices or (), example)
        for x in leaves(result):
            self._check_choice(x)
            if not isinstance(x, str):
                self._check_number(x, result)
        return result

    def _check_choice(self, x):
        choices = [choice for choice in self.choices or () if isinstance(choice, str) == isinstance(x, str)]
        if choices and x not in choices:
            others = [word for word in words(self.type) if word != "text"] if isinstance(x, str) else []
            close = difflib.get_close_matches(str(x), map(str, choices), 1)
            raise ParameterError(
                f"is {short(x)}; choose one of {', '.join(map(str, choices))}"
                + (f", or give {with_article(others)}" if others else "")
                + (f" (did you mean {close[0]!r}?)" if close else ""))

    def _check_number(self, x, value):
        said = map(repr, (self.default, *self.limits.values()))
        if isinstance(x, float) and not math.isfinite(x) and not isinstance(value, np.ndarray) and repr(x) not in said:
            raise ParameterError(f"must be finite, got {short(value)}")
        for key, limit in self.limits.items():
            compared, holds = LIMITS[key]
            if not holds(x, limit):
                raise ParameterError(f"must be {compared} {limit}, got {short(value)}")


def unit_of(par):
    """The unit as it follows a name, " [m]" or nothing."""
    return f" [{par.unit}]" if par.unit else ""


def one_line(doc):
    """A doc, or None, as one line."""
    return " ".join((doc or "").split())
