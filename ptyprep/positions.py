"""Scan positions: from motor readings to one (y, x) in metres for each frame."""
from pathlib import Path

import numpy as np

from ptyprep.errors import PositionError
from ptyprep.units import metres

AXES = (("y", "x"), ("slow", "fast"))       # names of columns that say which axis they are


def pair_positions(slow, fast, frames):
    """Give every frame its (y, x) position.

    slow, fast : arrays, any shape [m]
        Readings of the two motors. Either one reading per frame in frame order,
        or one reading per row and one per column of a raster.
    frames : int or None
        Number of frames, the fast axis running fastest; None: one reading per frame.

    Returns positions, (frames, 2) float64 [m].
    Raises PositionError when neither reading fits.

    >>> pair_positions([0, 1], [5, 6, 7], frames=6)[3:]
    array([[1., 5.],
           [1., 6.],
           [1., 7.]])
    """
    slow, fast = (np.atleast_1d(np.asarray(a, float).squeeze()) for a in (slow, fast))
    if slow.size == fast.size and frames in (None, slow.size):
        return np.column_stack([slow.ravel(), fast.ravel()])
    if slow.ndim == fast.ndim == 1 and slow.size * fast.size == frames:
        return np.stack(np.meshgrid(slow, fast, indexing="ij"), -1).reshape(-1, 2)
    raise PositionError(
        f"{frames} frames, but slow positions of shape {slow.shape} and fast positions of "
        f"shape {fast.shape}: expected one reading per frame, or rows x columns = {frames}")


def count_positions(slow, fast, frames):
    """How many positions the readings of two motors give, whatever the number of frames.

    One for each reading where both motors have as many as there are frames. Rows x columns for a raster, also for one
    that was cut short: more frames than readings, which run one way, as axes do. Else one for each reading, a list that
    is too short or too long; for unlike numbers of readings `frames`, which `pair_positions` refuses.

    >>> count_positions(range(10), range(10), frames=60), count_positions([0, 0, 1], [5, 6, 5], frames=4)
    (100, 3)
    """
    slow, fast = (np.atleast_1d(np.asarray(a, float).squeeze()) for a in (slow, fast))
    alike = slow.size == fast.size
    readings = slow.size if alike else frames
    raster = slow.size * fast.size if slow.ndim == fast.ndim == 1 else 0
    if frames is None or frames <= max(slow.size, fast.size) or not raster or frames > raster and not alike:
        return readings
    one_way = all((steps > 0).all() or (steps < 0).all() for steps in (np.diff(slow), np.diff(fast)))
    return raster if one_way or frames == raster else readings


def unit_in_metres(unit):
    """How many metres a unit of length is.

    >>> unit_in_metres("um")
    1e-06
    """
    factor = metres(unit)
    if factor is None:
        raise PositionError(f"positions in {unit!r}: not a unit of length; expected one of m, cm, mm, um, micron, nm, "
                            f"angstrom, pm")
    return factor


def read_table(path):
    """The columns of a text table, split at white space or commas.

    A first line of words names the columns, perhaps each with its unit: `name, y [um], x [um]`; lines that
    begin with # are comments. One before the numbers may name the columns too, if it has as many words and no number:
    the last one that names y and x, else that has units, else the last one.

    Returns ({name: column}, {name: unit}); columns without a name are "0", "1" …; a column that holds a
    word is left out.
    Raises PositionError naming the line that does not fit.

    >>> import io; columns, units = read_table(io.StringIO("y[mm],x[mm]\\n1,2\\n3,4\\n"))
    >>> columns["x"], units["x"]
    (array([2., 4.]), 'mm')
    """
    try:
        lines = path.read().splitlines() if hasattr(path, "read") else Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise PositionError(f"{path}: cannot be read as a text table ({err})") from err
    rows, headers = [], []      # headers: (whether it is no comment, its words)
    for number, line in enumerate(lines, 1):
        comment = line.lstrip().startswith("#")
        cells = _cells(line.lstrip().lstrip("#"))
        if not cells:
            continue
        words = not rows and not any(map(_number, cells))
        if comment or words and not any(plain for plain, _ in headers):
            headers += [(not comment, cells)] * words
            continue
        if rows and len(cells) != len(rows[0]):
            raise PositionError(f"{path}, line {number}: {len(cells)} columns, but {len(rows[0])} in the lines before: "
                                f"{line.strip()!r}")
        rows.append(cells)
    if not rows:
        raise PositionError(f"{path}: no numbers in it; expected a table with a line for each frame")
    columns, units = {}, {}
    for i, title in enumerate(_header(headers, len(rows[0]))):
        name, _, unit = title.partition("[")
        cells = [row[i] for row in rows]
        if not all(map(_number, cells)):
            odd = next(c for c in cells if not _number(c))
            if any(map(_number, cells)):
                raise PositionError(f"{path}: column {name.strip()!r} holds {odd!r} among numbers")
            continue
        columns[name.strip()] = np.array(cells, float)
        if unit:
            units[name.strip()] = unit.rstrip("] ")
    return columns, units


def _header(headers, width):
    """The words that most likely name `width` columns."""
    def likely(number):
        plain, cells = headers[number]
        names = {cell.partition("[")[0].strip().lower() for cell in cells}
        return any(set(axes) <= names for axes in AXES), any("[" in cell for cell in cells), plain, number
    fitting = [number for number, (_, cells) in enumerate(headers) if len(cells) == width]
    return headers[max(fitting, key=likely)][1] if fitting else [str(i) for i in range(width)]


def _cells(line):
    """`y [um], x [um]` and `y[um]  x[um]` both are two cells."""
    if "," in line or ";" in line:
        return [c.strip() for c in line.replace(";", ",").split(",") if c.strip()]
    return line.replace(" [", "[").split()


def _number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def turn(positions, *, swap=False, flip_y=False, flip_x=False, angle=0.0):
    """Positions in other axes: exchanged, then mirrored, then turned by `angle` [degree] from x towards y.

    >>> turn([[1.0, 2.0]], swap=True, flip_x=True)
    array([[ 2., -1.]])
    """
    y, x = np.asarray(positions, float).T
    if swap:
        y, x = x, y
    y, x = (-y if flip_y else y), (-x if flip_x else x)
    if angle:
        c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        y, x = s * x + c * y, c * x - s * y
    return np.column_stack([y, x])


def checked(positions, what="positions"):
    """Positions as (n, 2) float64 metres, from (n, 2) or (rows, cols, 2).

    Raises PositionError for another shape, and for what is no number.
    """
    array = np.asarray(positions)
    if array.ndim not in (2, 3) or array.shape[-1] != 2 or array.dtype.kind not in "iuf":
        raise PositionError(f"{what}: {array.dtype} of shape {array.shape}; expected (n, 2) or (rows, cols, 2) "
                            f"numbers, (y, x) in metres")
    array = array.reshape(-1, 2).astype(float)
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise PositionError(f"{what}: {len(bad)} of {len(array)} are not finite, the first at scan point {bad[0]}: "
                            f"{array[bad[0]]}")
    return array
