"""Our docstrings are plain text; this makes reStructuredText of them for autodoc.

A line `name : what it is` at the margin, with indented lines below, is an entry of a list; `>>>` begins an example; all
else is text. The section of parameters that every recipe's docstring ends with is left out: the reference has it.
"""
import re

ENTRY = re.compile(r"^([\w ,\[\]()]+) : (.*)")


def convert(app, what, name, thing, options, lines):
    """For Sphinx's autodoc-process-docstring: change `lines` in place."""
    text = "\n".join(lines).partition("Parameters\n-----")[0].strip()
    lines[:] = "\n\n".join(block(part) for part in re.split(r"\n\s*\n", text)).splitlines() if text else []


def block(text):
    """reStructuredText of one paragraph.

    >>> print(block("shape : int\\n    [pixel]\\nReturns it."))
    ``shape``
        int
        [pixel]
    <BLANKLINE>
    Returns it.
    """
    if text.startswith(">>>"):
        return text
    out, kind = [], None
    for line in text.splitlines():
        entry = ENTRY.match(line)
        last, kind = kind, "entry" if entry else "entry" if line[:1].isspace() and kind == "entry" else "text"
        if last not in (None, kind):
            out.append("")
        if entry:
            out += [f"``{entry[1]}``", f"    {plain(entry[2])}"]
        else:
            out.append("    " * (kind == "entry") + plain(line.strip()))
    return "\n".join(out)


def plain(text):
    """Text in which nothing but `code` means anything.

    >>> plain("`a_b` is *no_")
    '``a_b`` is \\\\*no\\\\_'
    """
    parts = text.split("`")
    return "``".join(part if i % 2 else re.sub(r"([*_|\\])", r"\\\1", part) for i, part in enumerate(parts))
