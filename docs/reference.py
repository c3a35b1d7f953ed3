"""Write a page of parameters for each installed recipe, from the recipes themselves."""
import inspect

from ptyprep import registry
from ptyprep.params import present

INDEX = """# Parameters of the recipes

`ptyprep params RECIPE` prints the same; `--toml` makes a template of it, `--schema` a JSON Schema. Where the table has
a physical unit, values may be given with one: `--psize "75 um"`, `energy="8 keV"`. A pair is two numbers,
`--center 466,582`. The levels are those of `ptyprep params RECIPE --level N`: basic 0, normal 1, expert 2.

| recipe | reads |
| --- | --- |
{rows}

```{{toctree}}
:hidden:

{names}
```
"""

PAGE = """# {name}

{text}

`ptyprep prepare {name}{source} -o OUT.ptyd`{fills}

## Its own parameters

What this recipe adds to those of every scan, or changes in them.

{own}

## All parameters

{all}
"""


def make(out):
    """Write index.md and a page for each recipe to the folder `out`."""
    out.mkdir(exist_ok=True)
    recipes = {name: registry.recipe(name) for name in registry.installed()}
    for name, cls in recipes.items():
        (out / f"{name}.md").write_text(page(name, cls))
    rows = [f"| [{name}]({name}.md) | {text(cls).splitlines()[0]} |" for name, cls in recipes.items()]
    (out / "index.md").write_text(INDEX.format(rows="\n".join(rows), names="\n".join(recipes)))


def page(name, cls):
    filled = registry.source_parameter(cls)
    return PAGE.format(name=name, text=text(cls), source=" SOURCE" if filled else "",
                       fills=f", where SOURCE fills `{filled}`." if filled else ", which reads no file.",
                       own=present.table(cls, own_only=True), all=present.table(cls))


def text(cls):
    """The recipe's docstring without its parameters."""
    return inspect.getdoc(cls).partition("Parameters\n-----")[0].strip()
