"""For recipe authors: tiny detector files, what every recipe must do, and "run this on N ranks"."""
import difflib
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import h5py
import numpy as np

from ptyprep import share
from ptyprep.errors import RecipeError
from ptyprep.mpi import room
from ptyprep.params import Par, walk
from ptyprep.scan import FAR, PtyScan
from ptyprep.sources.dectris import HC

# --- tiny detector files ------------------------------------------------------------------------------


def write_dectris(path, frames, *, frames_per_file=1000, links=None, compression="bslz4", energy=None, distance=None,
                  psize=None, center=None, pixel_mask=None, triggers=1, announced=None,
                  description="Dectris EIGER2 Si 1M",
                  virtual=False, saturation=None):
    """Write a scan as the DECTRIS file writer does: `path` is the master, data files stand beside it.

    path : ends in `_master.h5`
    frames : (n, h, w) unsigned integers; gaps and dead pixels hold the largest value
    links : links in the master (None: one for each data file); those beyond the last file lead nowhere, as in
        a scan that was announced longer than it is
    compression : "bslz4", "lz4" or None
    energy [keV], distance [m], psize (y, x) [m], center (row, column), pixel_mask (h, w) uint32 bits : what is
        recorded; None: as the file writer does when nobody told it, 0, and no mask
    triggers : the frames are triggers x images
    announced : frames announced, None for as many as there are
    virtual : also join the data files in a virtual dataset entry/data/data

    Returns the paths of the data files.
    """
    import hdf5plugin
    path, frames = Path(path), np.asarray(frames)
    stem = path.name.removesuffix("_master.h5")
    filters = {"bslz4": hdf5plugin.Bitshuffle(cname="lz4"), "lz4": hdf5plugin.LZ4(), None: {}}[compression]
    n, h, w = frames.shape
    files = []
    for start in range(0, n, frames_per_file):
        part = frames[start:start + frames_per_file]
        files.append(path.with_name(f"{stem}_data_{len(files) + 1:06d}.h5"))
        with h5py.File(files[-1], "w") as file:
            data = file.create_dataset("entry/data/data", data=part, chunks=(1, h, w), maxshape=(None, h, w), **filters)
            data.attrs.update(image_nr_low=np.uint64(start + 1), image_nr_high=np.uint64(start + len(part)))
            file["entry"].attrs["NX_class"] = np.bytes_("NXentry")
            file["entry/data"].attrs["NX_class"] = np.bytes_("NXdata")
    with h5py.File(path, "w") as file:
        data = file.create_group("entry/data")
        for i in range(len(files) if links is None else links):
            data[f"data_{i + 1:06d}"] = h5py.ExternalLink(f"{stem}_data_{i + 1:06d}.h5", "/entry/data/data")
        if virtual:
            layout = h5py.VirtualLayout(frames.shape, frames.dtype)
            for i, name in enumerate(files):
                rows = slice(i * frames_per_file, min((i + 1) * frames_per_file, n))
                layout[rows] = h5py.VirtualSource(name.name, "/entry/data/data", (rows.stop - rows.start, h, w))
            data.create_virtual_dataset("data", layout)
        detector = file.create_group("entry/instrument/detector")
        specific = detector.create_group("detectorSpecific")
        total = n if announced is None else announced
        specific["nimages"], specific["ntrigger"] = np.uint64(-(-total // triggers)), np.uint64(triggers)
        specific["photon_energy"] = (energy or 0) * 1e3
        specific["photon_energy"].attrs["units"] = np.bytes_("eV")
        if pixel_mask is not None:
            specific["pixel_mask"] = np.asarray(pixel_mask, np.uint32)
        detector["description"] = np.bytes_(description)
        detector["detector_distance"] = float(distance or 0)
        detector["beam_center_y"], detector["beam_center_x"] = map(float, center or (0, 0))
        detector["y_pixel_size"], detector["x_pixel_size"] = map(float, psize or (0, 0))
        for name in ("detector_distance", "x_pixel_size", "y_pixel_size"):
            detector[name].attrs["units"] = np.bytes_("m")
        if saturation is not None:
            detector["saturation_value"] = np.int64(saturation)
        file["entry/instrument/beam/incident_wavelength"] = HC / energy if energy else 0.0
        file["entry/instrument/beam/incident_wavelength"].attrs["units"] = np.bytes_("angstrom")
    return files


def write_positions(path, positions, *, unit="um"):
    """Write a text table with the columns y and x of positions (n, 2) [m], in that unit. Returns its path."""
    factor = {"m": 1.0, "mm": 1e3, "um": 1e6, "nm": 1e9}[unit]
    lines = [f"# y[{unit}] x[{unit}]", *(f"{y!r} {x!r}" for y, x in (np.asarray(positions, float) * factor).tolist())]
    Path(path).write_text("\n".join(lines) + "\n")
    return Path(path)


def write_cxi(path, frames, translation, *, energy, distance, psize, mask=None, basis=((0, -1, 0), (-1, 0, 0))):
    """Write a CXI 1.6 file: frames (n, h, w), sample translation (n, 3) (x, y, z) [m], energy [keV], distance [m],
    psize (y, x) [m], mask (h, w) of CXI bits, basis the slow and the fast direction (None: not recorded)."""
    with h5py.File(path, "w") as file:
        file["cxi_version"] = 160
        detector = file.create_group("entry_1/instrument_1/detector_1")
        detector["data"], detector["distance"] = frames, float(distance)
        detector["y_pixel_size"], detector["x_pixel_size"] = map(float, psize)
        if mask is not None:
            detector["mask"] = np.asarray(mask, np.uint32)
        if basis is not None:
            detector["basis_vectors"] = (np.asarray(basis, float) * np.asarray(psize)[:, None]).T
        file["entry_1/instrument_1/source_1/energy"] = energy * 1.602176634e-16
        file["entry_1/sample_1/geometry_1/translation"] = np.asarray(translation, float)
        data = file.create_group("entry_1/data_1")
        data["data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
        data["translation"] = h5py.SoftLink("/entry_1/sample_1/geometry_1/translation")
    return Path(path)


# --- ranks --------------------------------------------------------------------------------------------


def mpirun():
    """Path of the `mpirun` of this environment or of the system, None where there is none."""
    beside = Path(sys.executable).parent / "mpirun"
    return str(beside) if beside.exists() else shutil.which("mpirun")


def launch(ranks, *command):
    """The words that run a command on that many ranks here, more ranks than processors and as root too.

    command : a first word that ends in .py, or -m or -c, is run by this Python

    Raises RecipeError where there is no mpirun.
    """
    launcher = mpirun()
    if launcher is None:
        raise RecipeError("no mpirun here; install one, for instance with: pip install 'ptyprep[test]'")
    command = [str(c) for c in command]
    if command[0].endswith(".py") or command[0] in ("-m", "-c"):
        command = [sys.executable, *command]
    version = subprocess.run([launcher, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    flags = ["--oversubscribe", "--bind-to", "none"] if "Open MPI" in version else []
    if flags and os.name == "posix" and os.geteuid() == 0:
        flags.append("--allow-run-as-root")
    return [launcher, *flags, "-n", str(ranks), *command]


def run_on_ranks(ranks, *command, timeout=120, env=None, cwd=None):
    """Run a command on that many ranks and wait: a `subprocess.CompletedProcess` with its text output.

    command : see `launch`
    timeout : seconds; then every process of the job is killed and TimeoutError raised, because a hang is a failure

    Raises RecipeError where there is no mpirun.
    """
    job = subprocess.Popen(launch(ranks, *command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           start_new_session=True, cwd=cwd, env={**os.environ, **(env or {})})
    try:
        out, err = job.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        out, err = job.communicate()
        raise TimeoutError(f"{' '.join(map(str, command))} on {ranks} ranks did not end in {timeout} s\n"
                           f"{out}\n{err}") from None
    return subprocess.CompletedProcess(command, job.returncode, out, err)


def messages(stderr):
    """The lines with which ptyprep ended, in what a job said; mpirun puts a NUL or a blank before some lines."""
    lines = (line.strip("\0 ") for line in stderr.splitlines())
    return [line for line in lines if line.startswith("ptyprep: ")]


HOOKS = ("open", "load_geometry", "load_common", "load_positions", "select", "load_weight", "load_corrections", "check",
         "load", "correct", "post_initialize", "close")


# --- what every recipe must do --------------------------------------------------------------------------


def check_recipe(recipe, /, *, ranks=3, **pars):
    """Check that a recipe keeps the contract of `PtyScan` on a (tiny) scan; the list of what was checked.

    recipe : the class
    ranks : also prepare on that many ranks, where there is an mpirun and the class stands in a file; 1: do not
    pars : parameters of a scan that it can prepare, with at least two frames

    Raises RecipeError that lists everything that is wrong.
    """
    if room().size > 1:
        raise RecipeError("check_recipe runs on one process and starts ranks itself; call it without mpirun")
    checks = [_documented, _hooks_spelled, _positions_fit, _order_does_not_matter, _cut_while_reading,
              _chunks_do_not_matter, _saved]
    if ranks > 1 and mpirun() and _spoken(recipe):
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
        _require(name in HOOKS or name.startswith("_") or not near, f"{name}() is never called; is {near} meant?")


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
    together = share.load(scan, points).frames
    for order in (points[::-1], [points[-1]], [points[0]]):
        for point, frame in zip(order, share.load(scan, order).frames):
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


def read_part(path):
    """The frames (n, h, w) of a part of an interrupted run, whether they lie in it or in the file that was growing (or
    has its name already), read without the code that writes or resumes them."""
    with h5py.File(path, "r") as part:
        if "places" not in part:
            return part["data"][()]
        shape, dtype, frames = part["data"].shape[1:], part["data"].dtype, []
        size = int(np.prod(shape)) * dtype.itemsize
        growing = Path(path).with_name(part.attrs["growing"])
        if not growing.exists():
            growing = growing.parent.with_name(json.loads(growing.with_name("run.json").read_text())["output"])
        with open(growing, "rb") as growing:
            for start, length, told in part["places"][()].tolist():
                growing.seek(start)
                chunk = growing.read(length)
                if zlib.crc32(chunk) != told:
                    raise ValueError(f"{path}: the bytes at {start} of {growing.name} are others")
                if length != size:      # byte shuffle and deflate
                    chunk = np.frombuffer(zlib.decompress(chunk), np.uint8).reshape(dtype.itemsize, -1).T.tobytes()
                frames.append(np.frombuffer(chunk, dtype).reshape(shape))
        return np.array(frames)


def read_ptyd(path):
    """{"data", "weights", "positions", "frame_ids", "indices"} of a whole `.ptyd`, by plain h5py; weights are bool."""
    import hdf5plugin  # noqa: F401  for compression="bslz4"
    out = {name: [] for name in ("data", "weights", "positions", "frame_ids", "indices")}
    with h5py.File(path, "r") as file:
        for number in range(len(file["chunks"])):
            chunk = file[f"chunks/{number}"]
            for name in out:
                if name == "weights" and name not in chunk:
                    out[name].append(np.broadcast_to(file["meta/weight2d"][()], chunk["data"].shape))
                else:
                    out[name].append(chunk[name][()])
    joined = {name: np.concatenate(parts) for name, parts in out.items()}
    return {**joined, "weights": joined["weights"] > 0}


def _same(one, other):
    for name in one:
        a, b = one[name], other[name]
        _require(a.shape == b.shape and a.dtype == b.dtype, f"{name}: {a.dtype} {a.shape} and {b.dtype} {b.shape}")
        _require(np.array_equal(a, b), f"{name} differ")
