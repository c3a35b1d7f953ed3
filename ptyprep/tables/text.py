"""Text tables: columns of numbers, with the names and units that a line says. What is not certain is a question.

A line of names that does not fit the columns is never left out: the order of y and x, and their unit, stand there.
`csv.Sniffer` guesses where it cannot know, so that it is not used; `csv` splits.
"""
import codecs
import csv
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ptyprep.errors import PositionError
from ptyprep.filesystem.raw_files import opening
from ptyprep.units import metres
from ptyprep.words.spelling import options

AXES = (("y", "x"), ("slow", "fast"))       # names of columns that say which axis they are
NUMBER = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[ed][-+]?\d+)?|nan|inf(?:inity)?)", re.A | re.I)
DECIMAL_COMMA = re.compile(r"[-+]?(?:\d+,\d*|,\d+)(?:[ed][-+]?\d+)?", re.A | re.I)
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")          # could be either
MARKS = re.compile(r"(?:#|%|//|!)[#%/!]*")                  # a line that begins with one is a comment
LABEL = re.compile(r"(?:columns?|column names|fields?|names?|labels?|header|legend)\s*[:=]\s*", re.I)
BRACKET = re.compile(r"\s*[\[({]([^\])}]*)(?:[\])}]|$)")
ODD_NUMBER = re.compile(r"[-+\u2212]?[\d.,'_]*\d[\d.,'_]*(?:[eEdD][-+\u2212]?\d+)?")
OTHER_UNITS = set("s ms us ns min h deg degree degrees rad mrad urad v mv a ma ua na ev kev hz khz counts count cts k "
                  "c pixel pixels px step steps - 1".split())
PROSE = set("and or in of the is are with at to for from by on as vs versus before after then first second".split())
# a motor's name by itself; others are told by their pair, such as htry and htrx: most words that end in y are no names
MOTOR = re.compile(r"(?:sam|sample|pos|position|stage|mot|motor|piezo|pi|scan|scanner|enc|encoder|fine|coarse|nano|"
                   r"probe|beam|s|t|p|d|l)[xy]")
ENCODINGS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
             (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class Table(NamedTuple):
    """The columns of a text table.

    where : the file, to say
    columns : {number of the column from 0: numbers (n,)}; a column of words is left out
    width : how many columns there are, those of words too
    names : {number: name}; {} where no line names them
    units : {number: unit}, as far as they are known
    doubt : why nobody can tell what the columns are called, "" where that is certain
    unit_doubt : why nobody can tell their unit, "" where that is certain
    """
    where: str
    columns: dict
    width: int
    names: dict
    units: dict
    doubt: str = ""
    unit_doubt: str = ""

    def keys(self):
        """What the columns are called, or else their numbers."""
        return [self.names.get(i) or str(i) for i in self.columns]

    def find(self, key, parameter):
        """The number of a column, by its name or number. Raises PositionError, naming `parameter`, where not exactly
        one is meant."""
        found = [i for i in self.columns if self.names.get(i) == key]
        if not found and re.fullmatch(r"\d+", key, re.A) and int(key) in self.columns:
            found = [int(key)]
        if len(found) == 1:
            return found[0]
        if self.doubt and not found:
            raise PositionError(f"{self.doubt}. Set {options(parameter)} to the number of the column, counted from 0")
        count = f"{len(found)} columns" if found else "no column"
        raise PositionError(f"{self.where}: {count} {key!r}; its columns of numbers are {', '.join(self.keys())}. Set "
                            f"{options(parameter)} to one of them, or to its number, counted from 0")


class _Line(NamedTuple):
    number: int         # from 1
    text: str           # without the mark of a comment
    comment: bool

    def __str__(self):
        return f"line {self.number}: {self.text[:80]!r}"


def read_table(path):
    """The table in a text file, a `Table`. Its encoding is UTF-8, UTF-16 or UTF-32 where it begins with a byte-order
    mark, else UTF-8, else Windows' cp1252.

    Raises PositionError naming the line that does not fit.
    """
    opening(path)
    try:
        raw = Path(path).read_bytes()
    except OSError as err:
        raise PositionError(f"{path}: cannot be read as a text table ({err})") from err
    marked = next((encoding for mark, encoding in ENCODINGS if raw.startswith(mark)), None)
    for encoding in (marked,) if marked else ("utf-8", "cp1252"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError as err:
            error = err
            continue
        if odd := re.search(r"[\0-\x08\x0e-\x1f\x7f]", text):
            raise PositionError(f"{path}: cannot be read as a text table (it holds the character {odd[0]!r}: is it "
                                f"UTF-16 without a byte-order mark, or no text?)")
        return parse_table(text, str(path))
    raise PositionError(f"{path}: cannot be read as a text table ({error})") from error


def parse_table(text, where="table"):
    """The table in a text, a `Table`.

    Columns stand apart by blanks, tabs, commas or semicolons; a decimal comma is one where nothing else separates by
    commas. Cells may be in double quotes, exponents may be Fortran's (1D-3). Lines that begin with #, %, // or ! are
    comments, and what follows # or // behind a row is a remark. A line before the numbers names the columns if it has
    one name for each.

    Raises PositionError naming the line that does not fit.

    >>> table = parse_table("y [mm]; x [mm]\\n1,5; 2\\n3; 4,25\\n")
    >>> table.names[1], table.columns[1].tolist(), table.units[1]
    ('x', [2.0, 4.25], 'mm')
    """
    lines = _lines(text)
    first = next((i for i, line in enumerate(lines) if not line.comment and _has_number(line.text)), None)
    if first is None:
        shown = next((f"; {line}" for line in lines if not line.comment), "")
        raise PositionError(f"{where}: no numbers in it; expected a table with a line for each frame{shown}")
    plain = [line for line in lines[first:] if not line.comment]
    separator = _separator(plain)
    rows, trimmed = _cells(plain, separator, where)
    columns = _numbers(plain, rows, where)
    names, units, doubt, unit_doubt = _header(lines[:first], [line for line in lines[first:] if line.comment],
                                              separator, trimmed, len(rows[0]), where)
    return Table(where, columns, trimmed, {i: name for i, name in names.items() if i in columns},
                 {i: unit for i, unit in units.items() if i in columns}, doubt, unit_doubt)


# --- which column is which axis -----------------------------------------------------------------------

def axis_of(name):
    """Whether the name of a motor or column says that it is "y" or "x"; else None.

    >>> [axis_of(name) for name in ("sample_y", "samx", "stage_x_set", "x_mm", "theta", "xy")]
    ['y', 'x', 'x', 'x', None, None]
    """
    words = re.split(r"[\W_\d]+", name.lower())
    found = {word[-1] for word in words if word and word[-1] in "xy" and word != "xy"}
    return found.pop() if len(found) == 1 else None


def axes_in(names):
    """(place of the slow axis, place of the fast one) among names; None where that is not certain. They are called y
    and x, or slow and fast, or are the only two that differ in nothing but such a letter.

    >>> axes_in(["x", "y"]), axes_in(["samx", "samy", "flux", "energy"]), axes_in(["flux", "energy"])
    ((1, 0), (1, 0), None)
    """
    lower = [name.lower() for name in names]
    for pair in AXES:
        if all(lower.count(name) == 1 for name in pair):
            return tuple(map(lower.index, pair))
    stems = {}
    for place, name in enumerate(lower):
        if axis := axis_of(name):
            stems.setdefault(re.sub(r"[xy](?=$|[\W_\d])", "*", name), []).append((axis, place))
    pairs = [dict(found) for found in stems.values() if sorted(axis for axis, _ in found) == ["x", "y"]]
    return (pairs[0]["y"], pairs[0]["x"]) if len(pairs) == 1 and not set(lower) & {"x", "y"} else None


# --- lines, and their cells ---------------------------------------------------------------------------

def _lines(text):
    """The lines that are not empty; those behind a mark are comments, and have lost their mark and their remark."""
    raw = [(number, line.strip("\ufeff \xa0")) for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1)]
    raw = [(number, line) for number, line in raw if line.strip() and (line[:4] != "sep=" or len(line) != 5)]   # Excel
    semicolons = any(";" in line[1:] and not MARKS.match(line) and _has_number(line) for _, line in raw)
    marks = [MARKS.match(line.lstrip()) or not semicolons and re.match(";+", line.lstrip()) for _, line in raw]
    used = {mark[0][0] for mark in marks if mark} & {"%", "!"}      # else they may be part of a word
    remark = re.compile(r"(?<=[\s\d;,])(?:#|//)" + "".join(rf"|(?<=\s){mark}" for mark in sorted(used)))
    lines = []
    for (number, line), mark in zip(raw, marks):
        if mark:
            lines.append(_Line(number, line.lstrip()[mark.end():].strip(), True))
        else:
            behind = any(mark in line for mark in ("#", "//", *used)) and remark.search(
                re.sub(r'"[^"]*"', lambda found: "_" * len(found[0]), line))
            lines.append(_Line(number, line[:behind.start() if behind else None].rstrip(" \xa0"), False))
    return [line for line in lines if line.text.strip()]


def _has_number(line):
    return any(map(NUMBER.fullmatch, re.split(r'[\s,;"]+', line)))


def _separator(rows):
    """What stands between the cells of rows: one of ; , tab and blank."""
    bare = [re.sub(r'"[^"]*"', "0", row.text) if '"' in row.text else row.text for row in rows]
    if any(";" in line for line in bare):
        return ";"
    with_tabs = [line for line in bare if "\t" in line]
    if any("," in line for line in bare):
        return "\t" if any(re.search(r"[^,\s] *\t *[^,\s]", line) for line in with_tabs) else ","
    words = with_tabs and any(not NUMBER.fullmatch(cell) for line in bare for cell in line.split())
    return "\t" if words or any(re.search(r"\t *(?:\t|$)", line) for line in with_tabs) else " "


def _split(texts, separator):
    """The cells of each line."""
    if separator == " ":
        texts = [re.sub(r"\s", " ", text).strip() for text in texts]
    return [[cell.strip() for cell in row] for row in csv.reader(texts, delimiter=separator, skipinitialspace=True)]


def _cells(lines, separator, where):
    """(rows of as many cells, how many of those are not empty in all rows at the end)."""
    single = next((line for line in lines if line.text.count('"') % 2), None)
    if single:
        raise PositionError(f"{where}, {single}: a quotation mark without its partner")
    rows = _split([line.text for line in lines], separator)
    for line, row in zip(lines, rows):
        odd = next((cell for cell in row if " " in cell and all(map(_numeric, cell.split()))), None)
        if odd:
            raise PositionError(f"{where}, {line}: is {odd!r} one number, or several? Expected cells apart by blanks, "
                                f"or by one of comma, semicolon and tab; with decimal commas by one of the last two")
    while rows and not any(rows[-1]):
        rows.pop()
    used = [max((i for i, cell in enumerate(row, 1) if cell), default=0) for row in rows]
    trimmed, width = max(used), max(map(len, rows))
    short = next((i for i, row in enumerate(rows) if len(row) < trimmed), None)
    if short is not None:
        at = short or next(i for i, row in enumerate(rows) if len(row) > len(rows[0]))
        raise PositionError(f"{where}, line {lines[at].number}: {len(rows[at])} columns, but {len(rows[0])} in the "
                            f"lines before: {lines[at].text.strip()!r}")
    return [row + [""] * (width - len(row)) for row in rows], trimmed


def _numeric(cell):
    return NUMBER.fullmatch(cell) or DECIMAL_COMMA.fullmatch(cell)


def _numbers(lines, rows, where):
    """{number of the column: its numbers}; an empty cell is NaN, and a column of words is left out."""
    _refuse_unsure(lines, rows, where)
    columns = {}
    for i, cells in enumerate(zip(*rows)):
        odd = next((at for at, cell in enumerate(cells) if cell and not _numeric(cell)), None)
        if odd is not None and not any(map(_numeric, cells)) and not all(map(ODD_NUMBER.fullmatch, cells)):
            continue
        if odd is not None:
            raise PositionError(f"{where}, line {lines[odd].number}: column {i} holds {cells[odd]!r} among numbers: "
                                f"{lines[odd].text.strip()!r}")
        if any(cells):
            plain = re.sub("[dD]", "e", "\n".join(cell or "nan" for cell in cells).replace(",", "."))
            columns[i] = np.array(plain.split("\n"), float)
    return columns


def _refuse_unsure(lines, rows, where):
    """Raise PositionError where commas may be decimal ones or not."""
    commas = [(line, cell) for line, row in zip(lines, rows) if "," in line.text
              for cell in row if "," in cell and DECIMAL_COMMA.fullmatch(cell)]
    if commas:
        point = next((cell for row in rows for cell in row if "." in cell and NUMBER.fullmatch(cell)), None)
        if point:
            raise PositionError(f"{where}, {commas[0][0]}: {commas[0][1]!r} has a decimal comma, but {point!r} a point")
        if all(THOUSANDS.fullmatch(cell) for _, cell in commas):
            raise PositionError(f"{where}, {commas[0][0]}: nobody can tell whether {commas[0][1]!r} has a decimal "
                                f"comma, or one between thousands: write it with a point, or without a comma")
    elif len(rows[0]) % 2 == 0 and len(rows[0]) > 2 and "," in lines[0].text:
        if not all(re.fullmatch(r"[-+]?\d+", whole) and re.fullmatch(r"\d+(?:[eEdD][-+]?\d+)?", part)
                   for row in rows for whole, part in zip(row[::2], row[1::2])):
            return
        line = next((line for line, row in zip(lines, rows) if any(
            re.match(r"0\d|\d+[eEdD]", part) for part in row[1::2])), None)      # 1,05,2,25 or 1,5E+00,2,3E+00
        lengths = {len(part) for row in rows for part in row[1::2]}
        if line or len(lengths) == 1 and min(lengths) > 3:      # 1,5000,2,2500
            raise PositionError(f"{where}, {line or lines[0]}: are these whole numbers, or numbers with a decimal "
                                f"comma? Put semicolons or tabs between them")


# --- what the columns are called ----------------------------------------------------------------------

def _header(before, behind, separator, least, width, where):
    """({column: name}, {column: unit}, doubt about names, doubt about units) from the lines before the numbers, and
    from comments behind their beginning, which may contradict them."""
    fitting, others = [], []
    for line in before:
        cells = _names(line.text, separator)
        cells = cells[:-1] if len(cells) == width + 1 and not cells[-1] else cells
        fits = least <= len(cells) <= width and any(cells) and not any(
            _numeric(cell) or cell.lower() in PROSE or cell and not re.search(r"\w", cell) for cell in cells)
        unsure = re.match(r";\s", line.text) or not re.search("[,;\t]", line.text) and len({*cells}) < len(cells)
        if re.search(r"\w", line.text):        # a comment, or an empty name and others; names of two words
            (fitting if fits and not unsure or fits and _are_units(cells) else others).append((line, cells))
    of_units = [(line, cells) for line, cells in fitting if _are_units(cells)]
    naming = [(line, [name_and_unit(cell) for cell in cells]) for line, cells in fitting if not _are_units(cells)]
    sure = [(line, named) for line, named in naming if axes_in([name for name, _ in named])]
    if len({tuple(named) for _, named in sure}) > 1:
        return {}, {}, *[f"{where}, {sure[0][0]} and {sure[-1][0]} name the columns differently"] * 2
    said = [(line, *_says(line.text)) for line, _ in others]
    plain = any(not line.comment for line, _ in naming)         # such a line is there to name columns
    doubtful = next((line for line, axes, unit in said if axes or unit or not naming and not line.comment or
                     LABEL.match(line.text)), None)
    if not sure and not plain and (doubtful or of_units and not naming):
        line = doubtful or of_units[0][0]
        count = len(_names(line.text, separator))
        why = "nothing names them" if not doubtful else f"it has {count} words or names for {least} columns" if \
            count != least else "it is no plain list of names"
        return {}, {}, *[f"{where}, {line} may say what the columns are, but {why}"] * 2
    best = max(sure or naming, default=None, key=lambda one: (any(unit for _, unit in one[1]), not one[0].comment,
                                                              one[0].number))
    named = best[1] if best else []
    later = [(line, [name_and_unit(cell) for cell in _names(line.text, separator)]) for line in behind]
    odd = next((line for line, other in later if len(other) == len(named or other) == width and (sure or not named)
                and axes_in([name for name, _ in other]) and other != named), None)
    if odd:
        return {}, {}, *[f"{where}, {odd} names the columns in the midst of them"] * 2
    units, unit_doubt = _units(named, best and best[0], of_units, where)
    if not unit_doubt and len(units) < least:
        said_units = [line for line, _ in of_units]
        line = next((line for line in before if not (best and line is best[0]) and line not in said_units
                     and _says(line.text)[1]), None)
        unit_doubt = f"{where}, {line} may say what the columns are in" if line else ""
    return {i: name for i, (name, _) in enumerate(named) if name}, units, "", unit_doubt


def _units(named, line, of_units, where):
    """({column: unit}, doubt): units beside names, or in a line of their own."""
    units = {i: unit for i, (_, unit) in enumerate(named) if unit}
    for other, cells in of_units:
        for i, cell in enumerate(cells):
            unit = _bare(cell)
            if unit and metres(units.setdefault(i, unit)) != metres(unit):
                return {}, f"{where}, {other} and {line} say different units"
    axes = axes_in([name for name, _ in named]) or ()
    alone = [named[i][0] for i in axes if i not in units] if units.keys() & set(axes) else []
    loose = next((name for i, (name, _) in enumerate(named) if name in alone or i not in units and any(
        len(word) > 1 and metres(word) for word in re.split(r"[\W\d_]+", name))), None)
    return units, f"{where}, {line}: the unit of {loose!r} is not certain" if loose else ""


def name_and_unit(title):
    """A column's name, and its unit or None.

    >>> [name_and_unit(title) for title in ("y [um]", "y(um)", "y_um", "y/um", "y um", "y in m", "I/I0", "step_y")]
    [('y', 'um'), ('y', 'um'), ('y', 'um'), ('y', 'um'), ('y', 'um'), ('y', 'm'), ('I/I0', None), ('step_y', None)]
    """
    found = [match for match in BRACKET.finditer(title) if match.start()]
    lengths = [match for match in found if metres(match[1])]
    if found and len(lengths) < 2:
        match = (lengths or found)[-1]
        name = " ".join(f"{title[:match.start()]} {title[match.end():]}".split())
        return name.rstrip("_ "), match[1].strip() or None
    match = re.fullmatch(r"(.*?\S)(?:\s*([/_,:])\s*|\s+(?:(in)\s+)?)([^\W\d_]+)", title)
    if not found and match and metres(match[4]) and (len(match[4]) > 1 or match[2] == "/" or match[3]):
        return match[1].strip(), match[4]
    return title, None


def _are_units(cells):
    """Whether a line says units instead of names."""
    bare = [_bare(cell).lower() for cell in cells]
    return any(metres(unit) for unit in bare if unit != "a") and all(
        not unit or metres(unit) or unit in OTHER_UNITS for unit in bare)


def _bare(cell):
    """A unit without its brackets."""
    match = BRACKET.fullmatch(cell)
    return (match[1] if match else cell).strip()


def _names(text, separator):
    """The names in a line, in the only way in which it can be split."""
    text = LABEL.sub("", text, count=1) if LABEL.match(text) else text
    if separator != " " and separator in text:
        return _split([text], separator)[0]
    for other in (";", ",", "\t"):
        if other in text:
            return _split([text], other)[0]
    text = re.sub(r"\s*/\s*", "/", re.sub(r"(?<=[^\s\])}])\s+(?=[\[({])", "", text)) if '"' not in text else text
    return re.split(r"\s{2,}", text.strip()) if re.search(r"\S\s{2,}\S", text) else (_split([text], " ") or [[]])[0]


def _says(text):
    """(whether a line mentions an axis, whether it mentions a unit of length)."""
    text = re.sub(r"\bx[- ]?rays?\b", "", text.lower())
    words = set(re.findall(r"[^\W\d_]+", re.sub(r"\d\s*x\s*(?=\d)", "", text)))
    axes = words & {"x", "y", "slow", "fast"} or any(MOTOR.fullmatch(word) for word in words) or any(
        word[-1] == "y" and f"{word[:-1]}x" in words for word in words)
    of_no_number = re.sub(r"[\d.]\s*[^\W\d_]+", "", text)
    unit = any(len(word) > 1 and metres(word) for word in re.findall(r"[^\W\d_]+", of_no_number)) or any(
        metres(unit) for unit in BRACKET.findall(of_no_number))
    return bool(axes), unit
