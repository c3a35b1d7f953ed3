"""What frames spread over the whole scan show before it is prepared: where its centre is, and which pixels are bad.

Every function is called on all ranks together. `before` is the fingerprint of an interrupted run that is gone on with:
what it found is taken again, because by now there may be other frames to look at.
"""
import json

import numpy as np

from ptyprep.errors import SourceError
from ptyprep.filesystem.raw_files import noting
from ptyprep.pipeline import provenance
from ptyprep.pipeline.rows import prepare
from ptyprep.processing.center import find_center
from ptyprep.processing.corrections import find_bad_pixels
from ptyprep.processing.masks import from_text
from ptyprep.words.spelling import option

FRAMES, BLOCK = 64, 8       # how many are looked at, and how many of them are added at a time


def axis(scan, before):
    """(row, column) of the optical axis, and the standard deviations of both [pixel]: None where the interrupted run
    did not keep them."""
    if provenance.CENTER in before:
        center, sigma = (json.loads(before.get(key, "null")) for key in (provenance.CENTER, provenance.UNCERTAINTY))
    else:
        seen = _seen(scan, "auto_center")
        found = scan.comm.from_root(lambda: find_center(*seen))
        center, sigma = found[:2], found[2:]
    scan.note(_about_center(center, sigma, scan.recorded_center))
    return tuple(center), sigma and tuple(sigma)


def _about_center(center, sigma, recorded):
    """The note on a centre that was found, and on how it agrees with the recorded one."""
    row, column = (f"{at:.2f}" if error is None else f"{at:.2f} ± {error:.2f}"
                   for at, error in zip(center, sigma or (None, None)))
    note = f"centre of the light: row {row}, column {column}"
    if recorded is None:
        return note
    note += f" (recorded was row {recorded[0]:.2f}, column {recorded[1]:.2f})"
    away = np.abs(np.subtract(center, recorded))
    if sigma and (away > np.maximum(3 * np.array(sigma), 1)).any():
        note += (f": they are {away[0]:.1f} rows and {away[1]:.1f} columns apart, which is more than the uncertainty; "
                 f"set {option('center', words=('row', 'column'))} to decide")
    return note


def bad_pixels(scan, before):
    """(hot, dead) pixels of the raw frame, bool (h, w)."""
    if provenance.BAD_PIXELS in before:
        return tuple(from_text(scan.raw_shape, text) for text in json.loads(before[provenance.BAD_PIXELS]))
    seen, group = _seen(scan, "bad_pixels.find", extremes=True), scan.p.bad_pixels
    return scan.comm.from_root(lambda: find_bad_pixels(*seen, hot=group.hot, dead=group.dead))


@noting
def _seen(scan, what, extremes=False):
    """`_light` of corrected frames, on root; None on the others.

    It is put together from blocks of a fixed number of frames, so that sums are the same on any number of ranks.
    """
    n = scan.there(range(scan.selection.count or FRAMES))
    if n == 0:
        raise SourceError(f"{scan.where}{what} looks at frames of the scan, and none is there yet: begin when the scan "
                          f"has begun, or do without it (for {option('auto_center')}: set {option('center')})")
    chosen, comm = scan.selection.raw(range(n)), scan.comm
    points = [chosen[k] for k in np.unique(np.linspace(0, n - 1, min(n, FRAMES)).astype(int))]
    blocks = [points[i:i + BLOCK] for i in range(0, len(points), BLOCK)]
    total = None
    for start in range(0, len(blocks), comm.size):      # one block on each rank, put together in order on root
        mine = blocks[start:start + comm.size][comm.rank:comm.rank + 1]
        with comm.together(f"looking at frames for {what}"):
            seen = [_light(scan, block, extremes) for block in mine]
        rows = comm.rows_to_root(np.array(seen).reshape(-1, 4 if extremes else 2, *scan.raw_shape))
        for block in rows if comm.is_root else ():
            total = block if total is None else _joined(total, block)
    return total


def _light(scan, points, extremes):
    """(2, h, w): the good counts of these raw frames added up, and how often each pixel was good; with extremes two
    more, the smallest and the largest good count, inf and -inf where none was."""
    seen = np.zeros((4 if extremes else 2, *scan.raw_shape))
    seen[2:3], seen[3:] = np.inf, -np.inf
    rows = prepare(scan, points)
    for frame, weight in zip(rows.data, rows.weight):
        np.add(seen[0], frame, out=seen[0], where=weight)
        seen[1] += weight
        if extremes:
            np.minimum(seen[2], frame, out=seen[2], where=weight)
            np.maximum(seen[3], frame, out=seen[3], where=weight)
    return seen


def _joined(one, other):
    """`_light` of two lots of frames together."""
    return np.concatenate([one[:2] + other[:2], np.minimum(one[2:3], other[2:3]), np.maximum(one[3:], other[3:])])
