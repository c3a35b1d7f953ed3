"""Turn the tutorial scripts into pages: run them cell by cell, and keep what each cell prints and draws.

A cell begins with `# %%`; `# %% [markdown]` makes it text. A figure is a .png file that a cell leaves in its folder.
"""
import contextlib
import io
import re
import shutil
import sys
import tempfile
from pathlib import Path

TUTORIALS = Path(__file__).parent.parent / "tutorial"
CELL = re.compile(r"^# %%(.*)\n", re.MULTILINE)


def cells(script):
    """[(is it text, its lines)] of a script in percent format.

    >>> cells("# %% [markdown]\\n# # Title\\n\\n# %%\\nx = 1\\n")
    [(True, '# Title'), (False, 'x = 1')]
    """
    _, *parts = CELL.split(script)
    found = []
    for kind, body in zip(parts[::2], parts[1::2]):
        text = "markdown" in kind
        if text:
            body = re.sub(r"^# ?", "", body, flags=re.MULTILINE)
        found.append((text, body.strip("\n")))
    return found


def page(script, out):
    """Run one script and write its page and figures to the folder `out`."""
    parts, names = [], {"__name__": "__main__", "__file__": str(script)}
    with tempfile.TemporaryDirectory() as folder, _as_script(script, folder):
        figures = set()
        for text, body in cells(script.read_text()):
            if text:
                parts.append(body)
                continue
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(body, str(script), "exec"), names)     # noqa: S102  our own script
            parts.append(f"```python\n{body}\n```")
            if said := printed.getvalue().strip("\n"):
                parts.append(f"```text\n{said}\n```")
            new = set(Path(folder).glob("*.png")) - figures
            figures |= new
            for figure in sorted(new):
                name = f"{script.stem}_{figure.name}"
                shutil.copy(figure, out / name)
                parts.append(f"![{figure.stem}]({name})")
    (out / f"{script.stem}.md").write_text("\n\n".join(parts) + "\n")


def make(out):
    """Write the pages of all tutorials to the folder `out`."""
    out.mkdir(exist_ok=True)
    for script in sorted(TUTORIALS.glob("[0-9]*.py")):
        page(script, out)


@contextlib.contextmanager
def _as_script(script, folder):
    """As if by `python script folder`: its arguments, its folder to import from, no window for figures."""
    import matplotlib.pyplot as plt
    argv, path = sys.argv, sys.path[:]
    plt.switch_backend("agg")
    sys.argv = [str(script), folder]
    sys.path.insert(0, str(script.parent))
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        plt.close("all")
        sys.argv, sys.path[:] = argv, path
