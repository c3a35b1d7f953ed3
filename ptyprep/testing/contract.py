"""What every recipe must do, tried on a tiny scan."""
import difflib
import inspect
import tempfile
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np

from ptyprep.errors import PtyprepError, RecipeError
from ptyprep.parallel.mpi import room
from ptyprep.params.declare import walk
from ptyprep.params.par import Par
from ptyprep.pipeline.doubts import FAR
from ptyprep.pipeline.rows import load
from ptyprep.processing.plan import FramePlan, orientation_flags
from ptyprep.registry import source_parameter
from ptyprep.scan import PtyScan
from ptyprep.testing.files import read_ptyd
from ptyprep.testing.ranks import mpirun, run_on_ranks
from ptyprep.testing.tiny import Tiny

HOOKS = ("open", "load_geometry", "load_common", "load_positions", "select", "load_weight", "load_corrections", "check",
         "load", "correct", "post_initialize", "close")


def check_recipe(recipe, /, *, ranks=3, **pars):
    """Check that a recipe keeps the contract of `PtyScan` on a (tiny) scan; the list of what was checked.

    recipe : the class
    ranks : also prepare on that many ranks, where there are mpirun and mpi4py and the class stands in a file; 1: do not
    pars : parameters of a scan that it can prepare, with at least two frames

    Raises RecipeError that lists everything that is wrong.
    """
    if room().size > 1:
        raise RecipeError("check_recipe runs on one process and starts ranks itself; call it without mpirun")
    checks = [_documented, _hooks_spelled, _positions_fit, _order_does_not_matter, _cut_while_reading,
              _chunks_do_not_matter, _saved]
    if ranks > 1 and mpirun() and find_spec("mpi4py") and _spoken(recipe):
        checks.append(_ranks_do_not_matter)
    done, problems = [], []
    with tempfile.TemporaryDirectory() as folder:
        for check in checks:
            try:
                check(recipe, pars, Path(folder), ranks)
                done.append(check.__doc__)
            except _Broken as err:
                problems.append(f"{check.__doc__}: {err}")
            except Exception as err:    # noqa: BLE001  whatever a recipe does is its report
                problems.append(f"{check.__doc__}: {type(err).__name__}: {err}")
                break                   # what cannot be prepared at all need not be said six times
    if problems:
        raise RecipeError(f"{recipe.__name__} breaks {len(problems)} of {len(checks)} rules:\n- "
                          + "\n- ".join(problems))
    return done


def check_layout(recipe, write, /, *, ranks=3):
    """Check a recipe on a tiny scan in its layout: that it finds the frames, mask, positions and geometry that were
    written, keeps the contract (`check_recipe`), and refuses other files clearly. The list of what was checked.

    recipe : the class
    write : function (folder, scan), which writes a `Tiny` into a folder, and returns (parameters for the recipe, the
        `Tiny` as it was written)

    Raises RecipeError that says what is wrong.
    """
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder) / "scan"
        inside.mkdir()
        pars, tiny = write(inside, Tiny.make())
        try:
            _as_written(recipe, pars, tiny)
            _others_refused(recipe, pars, Path(folder))
        except _Broken as err:
            raise RecipeError(f"{recipe.__name__} on {write.__name__}: {err}") from None
        return ["it reads what was written", "it refuses other files", *check_recipe(recipe, ranks=ranks, **pars)]


def _as_written(recipe, pars, tiny):
    scan = recipe(pars).initialize()
    found = {name: np.concatenate(parts) for name, parts in zip(
        ("data", "weight", "position"), zip(*((b.data, b.weight, b.position) for b in scan.batches(5))))}
    h, w = tiny.frames.shape[1:]
    _require(scan.raw_shape == (h, w), f"frames of {scan.raw_shape} pixels; written were {(h, w)}")
    _require(len(found["data"]) == len(tiny.frames), f"{len(found['data'])} frames; written were {len(tiny.frames)}")
    flags = orientation_flags(scan.p.orientation)
    plan = FramePlan.make((h, w), center=tiny.center, orientation=flags)
    expected = plan.apply(plan.window.cut(tiny.frames))
    good = np.ones((h, w), bool) if tiny.good is None else tiny.good
    good = plan.apply_weight(plan.window.cut(good))
    _require(scan.plan.window == plan.window, f"the centre is {scan.plan.center}; written was {tiny.center}")
    for number, (frame, weight) in enumerate(zip(found["data"], found["weight"])):
        _require(np.array_equal(weight, good), f"the mask of frame {number} is another than was written")
        _require(np.allclose(frame[good], expected[number][good]), f"frame {number} is another than was written")
    off = abs(found["position"] - tiny.positions).max(axis=1)
    _require(off.max() < 1e-6 * np.ptp(tiny.positions), f"position {off.argmax()} is {found['position'][off.argmax()]} "
                                                        f"m; written was {tiny.positions[off.argmax()]} m")
    for name in ("energy", "distance"):
        value, written = getattr(scan.p, name), getattr(tiny, name)
        _require(np.isclose(value, written, rtol=1e-9), f"{name} is {value}; written was {written}")
    _require(np.allclose(scan.p.psize, tiny.psize), f"psize is {scan.p.psize}; written was {tiny.psize}")


def _others_refused(recipe, pars, folder):
    """What lies where the scan should, and is something else, is refused with its path."""
    name = source_parameter(recipe)
    if name is None:
        return
    (folder / "empty").mkdir()
    with h5py.File(folder / "other.h5", "w") as file:
        file["spectrum"] = np.arange(7.0)
    (folder / "other.txt").write_text("this is a letter\n")
    for other in ("empty", "other.h5", "other.txt", "absent"):
        try:
            recipe({**pars, name: str(folder / other)}).initialize()
        except PtyprepError as err:
            _require(other in str(err), f"what it says of {other} does not name it: {err}")
        except Exception as err:    # noqa: BLE001  whatever it is, a user should not see it
            raise _Broken(f"{name}={other} ends with {type(err).__name__}: {err}; expected a SourceError that names "
                          f"it") from err
        else:
            raise _Broken(f"{name}={other} is taken for a scan")


class _Broken(Exception):
    """A rule that a recipe breaks, in words."""


def _require(holds, message):
    if not holds:
        raise _Broken(message)


def _documented(recipe, pars, folder, ranks):
    """it and its parameters are documented"""
    _require((inspect.getdoc(recipe) or "").strip(), "the class has no docstring")
    inherited = dict(walk(PtyScan))
    for name, par in walk(recipe):
        _require(isinstance(par, Par) and (par.doc or "").strip(), f"parameter {name} has no doc")
        _require(name in inherited or "number" not in par.kind or "whole" in par.kind or par.unit is not None
                 or "multiplier" in name, f"parameter {name} is a number without a unit (unit='' if it has none)")


def _hooks_spelled(recipe, pars, folder, ranks):
    """no method is nearly a hook"""
    for name in vars(recipe):
        near = difflib.get_close_matches(name, HOOKS, 1, 0.85)
        _require(name in HOOKS or name.startswith("_") or hasattr(PtyScan, name) or not near,
                 f"{name}() is never called; is {near} meant?")


def _positions_fit(recipe, pars, folder, ranks):
    """every frame has a finite position"""
    positions = np.concatenate([b.position for b in recipe(pars).initialize().batches()])
    _require(len(positions) >= 2, f"{len(positions)} frames: give a scan with two at least")
    _require(np.isfinite(positions).all(), "positions are not finite")
    spread = np.ptp(positions, axis=0).max()
    _require(spread < FAR, f"positions span {spread:g} m: are they in metres?")


def _order_does_not_matter(recipe, pars, folder, ranks):
    """load gives each frame the same, asked for alone, together or in another order"""
    scan = recipe(pars).initialize()
    points = list(scan.selection.raw(range(min(scan.total or 2, 5))))
    together = load(scan, points).frames
    for order in (points[::-1], [points[-1]], [points[0]]):
        for point, frame in zip(order, load(scan, order).frames):
            _require(np.array_equal(frame, together[points.index(point)]),
                     f"frame {point} differs when asked for as {order}")


def _cut_while_reading(recipe, pars, folder, ranks):
    """a region cut while reading equals the region of the whole frame"""
    raw = recipe(pars)
    raw.look()
    h, w = raw.raw_shape
    center = (h // 2 - 1, w // 2 - 1)
    size = (max(h // 2, 1), max(w // 2, 1))
    base = {**pars, "dfile": None, "save": None, "orientation": 0, "rebin": 1, "auto_center": None}
    whole = next(recipe({**base, "shape": (h, w), "center": (h // 2, w // 2)}).initialize().batches(2))
    part = next(recipe({**base, "shape": size, "center": center}).initialize().batches(2))
    rows, cols = (slice(c - s // 2, c - s // 2 + s) for c, s in zip(center, size))
    _require(np.array_equal(part.data, whole.data[:, rows, cols]),
             "frames differ; does load return the whole raw frame?")
    _require(np.array_equal(part.weight, whole.weight[:, rows, cols]), "masks differ")


def _chunks_do_not_matter(recipe, pars, folder, ranks):
    """the size of a chunk changes nothing"""
    one, other = (_joined(recipe(pars).initialize().batches(n)) for n in (1, 1000))
    _same(one, other)


def _saved(recipe, pars, folder, ranks):
    """what is saved reads back the same"""
    expected = _joined(recipe({**pars, "dfile": None, "save": None}).initialize().batches(3))
    for mode in ("append", "link"):
        out = folder / f"{mode}.ptyd"
        for _ in recipe({**pars, "dfile": out, "save": mode}).initialize().batches(3):
            pass
        _same(expected, read_ptyd(out))


def _ranks_do_not_matter(recipe, pars, folder, ranks):
    """one rank and several prepare the same"""
    outs = []
    for n in (1, ranks):
        out = folder / f"ranks{n}.ptyd"
        script = (f"import sys; from ptyprep import recipe\nfrom pathlib import *; import numpy as np\n"
                  f"scan = recipe({_spoken(recipe)!r})({ {**pars, 'dfile': str(out), 'save': 'append'}!r})\n"
                  f"for batch in scan.initialize().batches(3): pass")
        job = run_on_ranks(n, "-c", script)
        _require(job.returncode == 0, f"{n} ranks failed: {job.stderr.strip()[-2000:]}")
        outs.append(read_ptyd(out))
    _same(*outs)


def _spoken(recipe):
    """A name by which another process finds the class, None for one that was typed into a notebook."""
    try:
        file = inspect.getfile(recipe)
    except (OSError, TypeError):
        return None
    return f"{file}:{recipe.__name__}" if file.endswith(".py") and "<locals>" not in recipe.__qualname__ else None


def _joined(batches):
    parts = [(b.data, b.weight, b.position, b.frame, b.index) for b in batches]
    return dict(zip(("data", "weights", "positions", "frame_ids", "indices"), map(np.concatenate, zip(*parts))))


def _same(one, other):
    for name in one:
        a, b = one[name], other[name]
        _require(a.shape == b.shape and a.dtype == b.dtype, f"{name}: {a.dtype} {a.shape} and {b.dtype} {b.shape}")
        _require(np.array_equal(a, b), f"{name} differ")
