"""A recipe by name, as module:Class, from a file, or found from the data."""
import difflib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from functools import cache
from pathlib import Path

from ptyprep.errors import RecipeError
from ptyprep.params.declare import walk
from ptyprep.scan import PtyScan

GROUP = "ptyprep.recipes"       # entry points; each names a package in which every module is a recipe


@cache
def installed():
    """{name: module} of all installed recipes; none of them is imported for it.

    Raises RecipeError when two packages have a recipe of the same name.
    """
    from importlib.metadata import entry_points
    found = {}
    for entry in entry_points(group=GROUP):
        spec = importlib.util.find_spec(entry.value)
        for module in pkgutil.iter_modules(spec.submodule_search_locations if spec else []):
            if module.name.startswith("_"):
                continue
            name = f"{entry.value}.{module.name}"
            if found.setdefault(module.name, name) != name:
                raise RecipeError(f"two recipes are named {module.name!r}: {found[module.name]} and {name}; "
                                  f"use module:Class")
    return dict(sorted(found.items()))


def recipe(name, path=None):
    """The recipe class of that name.

    name : of an installed recipe, "auto" for the one that understands the file `path`, "module:Class",
        "file.py" or "file.py:Class"

    Raises RecipeError naming what there is.

    >>> recipe("eiger").__module__
    'ptyprep_recipes.eiger'
    """
    if name == "auto":
        return _understanding(path)
    module, _, wanted = name.partition(":")
    if module.endswith(".py"):
        return _class_in(_from_file(Path(module)), wanted)
    if not wanted and module in installed():
        return _class_in(importlib.import_module(installed()[module]), "")
    if wanted:
        try:
            return _class_in(importlib.import_module(module), wanted)
        except ModuleNotFoundError as err:
            raise RecipeError(f"no module {module!r} for recipe {name!r} ({err}); expected module:Class") from err
    close = difflib.get_close_matches(name, installed(), 1)
    raise RecipeError(f"no recipe {name!r}{f'; did you mean {close[0]!r}?' if close else '.'} Installed are "
                      f"{', '.join(installed())}; or give auto, module:Class or ./file.py:Class")


def source_parameter(cls):
    """The name of the parameter that the command line's SOURCE fills: the one that says so, else the first
    that is required and a path; None for a recipe that reads no file."""
    pars = dict(walk(cls))
    marked = [name for name, par in pars.items() if par.source]
    return next(iter(marked + [name for name, par in pars.items() if par.required and "path" in par.kind]), None)


def _class_in(module, wanted):
    """The recipe in a module: the one named, or the only one defined there."""
    classes = {name: c for name, c in inspect.getmembers(module, inspect.isclass)
               if issubclass(c, PtyScan) and (c.__module__ == module.__name__ or name == wanted)}
    if wanted in classes:
        return classes[wanted]
    where = getattr(module, "__file__", module.__name__)
    if wanted:
        raise RecipeError(f"{where}: no recipe class {wanted!r}; it defines {', '.join(classes) or 'none'}")
    if len(classes) != 1:
        raise RecipeError(f"{where} defines {', '.join(classes) or 'no subclass of PtyScan'}; "
                          f"{'name one as file.py:Class' if classes else 'expected one'}")
    return next(iter(classes.values()))


def _from_file(path):
    if not path.is_file():
        raise RecipeError(f"{path}: no such recipe file")
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.append(folder)         # a recipe may import its neighbours, as a script may
    name = f"ptyprep_recipe_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _understanding(path):
    if path is None:
        raise RecipeError("recipe 'auto' looks at the file: give SOURCE")
    recipes = [_class_in(importlib.import_module(module), "") for module in installed().values()]
    found = [r for r in recipes if r.understands(Path(path))]
    if len(found) == 1:
        return found[0]
    if found:
        raise RecipeError(f"{path}: recipes {', '.join(r.recipe_name for r in found)} all read it; name one")
    raise RecipeError(f"{path}: no installed recipe reads it; name one of {', '.join(installed())}")
