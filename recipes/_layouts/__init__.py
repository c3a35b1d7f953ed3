"""A tiny scan in the layout of every recipe that reads files: to see a layout, and to test a recipe on it.

The module with the recipe's name writes it. Each of its public functions is one form of the layout,
`write(folder, scan)`: it writes a `ptyprep.testing.Tiny` into an empty folder and returns (parameters with which the
recipe reads it, the `Tiny` as it was written).
"""
import importlib
import inspect
import pkgutil


def layouts():
    """{recipe: {form: function}} of all layouts that can be written."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        inside = importlib.import_module(f"{__name__}.{module.name}")
        found[module.name] = {name: write for name, write in inspect.getmembers(inside, inspect.isfunction)
                              if write.__module__ == inside.__name__ and not name.startswith("_")}
    return found
