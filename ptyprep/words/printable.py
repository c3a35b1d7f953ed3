"""Text of unknown origin on a terminal: names in files and of files could move the cursor, or turn the line around."""


def printable(text, *, lines=True):
    """A text as a terminal may show it: characters that are not printable are escaped as `repr` does, but a newline and
    a tab where there may be several `lines`.

    Names of datasets, targets of links and attributes may hold any character, as names of files may: control sequences
    set a terminal's title or clear it, bidirectional overrides show a name in another order, and bytes that are no
    UTF-8 cannot be printed at all.

    >>> printable("\\x1b[2Jdata\\u202e, \\tµ"), printable("data\\nwhole", lines=False)
    ('\\\\x1b[2Jdata\\\\u202e, \\tµ', 'data\\\\nwhole')
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or lines and c in "\n\t" else repr(c)[1:-1] for c in text)
