"""What a scan looks like, in text: a plan before the work, a file after it."""
from pathlib import Path

import h5py
import numpy as np

from ptyprep.errors import SourceError
from ptyprep.hdf5 import h5rw
from ptyprep.hdf5.files import DEEPEST, by_matlab, read_dataset, reading
from ptyprep.hdf5.first_look import look_first
from ptyprep.hdf5.guarded import is_hdf5, place_of
from ptyprep.params import present
from ptyprep.pipeline import doubts
from ptyprep.processing import geometry
from ptyprep.processing.masks import REASONS
from ptyprep.sources import PtydFile, layout_of
from ptyprep.sources.ptyd import folders_of
from ptyprep.units import factor
from ptyprep.words.printable import printable

TREE_LINES, MEMBERS, SMALL = 80, 60, 3      # of a tree, of one group, numbers that are shown as they are
MOST_LINES = 10_000                         # that are made to be counted
UNTOLD = {"origins"}                        # a line for each parameter, mostly "default"


def plan_text(scan):
    """What `scan`, that has looked, would read and write."""
    p, source = scan.p, scan.source
    plan = scan.plan_about("geometric" if scan.finds_center else p.center)
    n, (h, w) = scan.total, plan.shape
    raw, made = scan.raw_dtype, plan.dtype(scan.counts_dtype)
    chunk = scan.chunk_frames
    frame = h * w * made.itemsize
    window = plan.region if scan.finds_center else plan.window.shape
    wanted = None if scan.positions_origin == "from load()" else doubts.wanted_positions(scan)
    held = chunk * (window[0] * window[1] * (raw.itemsize + 1) + frame + h * w)
    rows = [("recipe", scan.recipe_name),
            ("frames", "not known yet" if n is None else f"{n} of {source.shape[0] if source else n}"),
            ("raw frame", f"{scan.raw_shape[0]} x {scan.raw_shape[1]} pixels, "
                          f"{raw if source else 'kind of number not known yet'}"),
            ("region", f"{plan.region[0]} x {plan.region[1]} raw pixels" + (
                "" if scan.finds_center else f", rows {plan.window.rows.start} to {plan.window.rows.stop - 1}, columns "
                                         f"{plan.window.cols.start} to {plan.window.cols.stop - 1}")),
            *_padding(scan, plan),
            ("centre", "found from a sample of frames when it runs" if scan.finds_center else
             f"{doubts.place(plan.center)} ({_origin(scan, 'center', plan.center)})"),
            *[("corrected", f"{scan.corrections}, to {scan.counts_dtype}")] * (scan.corrections is not None),
            ("prepared", f"{h} x {w} pixels, {made}, orientation {_orientation(plan)}, rebin {plan.rebin}"),
            *[(name, f"{present.display(getattr(p, name), unit)} ({_origin(scan, name, getattr(p, name))})")
              for name, unit in doubts.UNITS.items()],
            ("positions", _planned_positions(scan)),
            *_on_object(wanted, *doubts.on_object(scan)),
            ("masked", f"{(~scan.good).sum()} of {scan.good.size} pixels of the raw frame in every frame"
                       + _reasons(scan)),
            ("chunks", "not known yet" if n is None else f"{-(-n // chunk)} of {chunk} frames"),
            ("memory", f"about {_bytes(held)} for a chunk, in all ranks together"),
            ("file", f"{p.dfile} ({scan.save_mode}, {p.compression}), at most {_bytes((n or 0) * frame)} of frames "
                     f"before compression")]
    if source is not None:
        there = [f for f in source.files if Path(f).exists()]
        rows.append(("reads", f"{len(there)} files, {_bytes(sum(Path(f).stat().st_size for f in there))}, "
                              f"{source.road() if hasattr(source, 'road') else 'from memory'}, "
                              f"{scan.threads} thread(s) on each of {scan.comm.size} rank(s)"))
        rows += [("missing", f"frames {frames.start} to {frames.stop - 1}: {why}") for frames, why in source.missing]
    rows += [("note", note) for note in scan.notes]
    return _table(rows)


def _planned_positions(scan):
    """How many positions there are and where they come from."""
    if scan.positions_origin == "from load()":
        return "with the frames, from load()"
    return f"{_extent(doubts.wanted_positions(scan))} ({scan.positions_origin})"


def _origin(scan, name, value):
    """Where a value of the geometry came from; and what the detector recorded, where that is another one."""
    origin, recorded = scan.p.origin(name), scan.recorded_geometry.get(name)
    if recorded is None or isinstance(recorded, str) or np.all(np.equal(value, recorded)):
        return origin
    return f"{origin}; the detector recorded " + (
        doubts.place(np.broadcast_to(recorded, 2)) if name == "center" else
        present.display(recorded, doubts.UNITS[name]))


def _on_object(positions, pixel, frame):
    """What frames and positions (n, 2) mean on the object: sizes (y, x) [m] of a pixel and of what a frame covers; None
    where they are not known."""
    if pixel is not None:
        yield "object", f"pixel {doubts.size(pixel)}, a frame covers {doubts.size(frame)}"
    steps = None if positions is None else geometry.steps(positions)
    if steps is None:
        return
    extent = np.nanmax(positions, axis=0) - np.nanmin(positions, axis=0)
    if frame is not None:
        yield "field", f"of view {doubts.size(extent + frame)}, positions and the frames around them"
    yield "step", (f"{doubts.size(steps.next)} from one position to the next, {doubts.size(steps.nearest)} to the "
                   f"nearest one (medians)")
    if frame is not None:
        width = max(frame)
        yield "overlap", ("none of neighbouring frames" if steps.nearest >= width else
                          f"{1 - steps.nearest / width:.0%} of neighbouring frames, {doubts.size(width)} wide; less of "
                          f"the beams, whose width is not known")


def _reasons(scan):
    counts = [(name, int((scan.reasons & bit > 0).sum())) for name, bit in REASONS.items()]
    told = ", ".join(f"{name} {count}" for name, count in counts if count)
    return f" ({told})" if told else ""


def show_text(path, *, trusted=False, follow_links=False):
    """What is in a raw or prepared file: geometry, counts, positions, mask, what is missing, the tree.

    trusted : do without the look at an HDF5 file by another process first, which takes 0.2 s
    follow_links : open what a prepared file leads to outside its folder, too
    """
    path = Path(path)
    folders = folders_of(path, follow_links=follow_links)
    if is_hdf5(path):
        look_first(path, folders, trusted=trusted)
    kind = layout_of(path)
    within = folders if kind is PtydFile else None
    try:
        source = kind(path, follow_links) if kind is PtydFile else kind(path)
    except SourceError as err:
        if not is_hdf5(path):
            raise
        return f"{err}\n\n{_tree(path, within)}"        # what is in it can be said, though there are no frames
    n, h, w = source.shape
    rows = [("file", f"{path} ({kind.__doc__.splitlines()[0].rstrip('.')})"),
            ("frames", f"{n} of {h} x {w} pixels, {source.dtype}" + (f", raster {source.grid[0]} x {source.grid[1]}"
                                                                    if source.grid else ""))]
    recorded = source.recorded
    for name, unit in (("energy", "keV"), ("distance", "m"), ("psize", "m"), ("center", "pixel")):
        rows.append((name, present.display(recorded[name], unit) if name in recorded else "not recorded"))
    positions = _positions_in(source)
    rows.append(("positions", _extent(positions)))
    pixel = frame = None
    if all(name in recorded for name in doubts.UNITS):
        pixel = geometry.object_pixel(recorded["energy"], recorded["distance"], recorded["psize"], (h, w))
        frame = h * pixel[0], w * pixel[1]
    rows += _on_object(positions, pixel, frame)
    if isinstance(source, PtydFile):
        rows += _prepared_rows(source)
    if source.mask is not None:
        rows.append(("masked", f"{(~source.mask).sum()} of {source.mask.size} pixels in every frame"))
    if problem := getattr(source, "mask_problem", None):
        rows.append(("mask", f"cannot be read: {problem}"))
    rows += [("missing", f"frames {frames.start} to {frames.stop - 1}: {why}") for frames, why in source.missing]
    rows += [("note", note) for note in (*source.notes, *getattr(source, "waiting", {}).values())]
    text = _table(rows)
    return f"{text}\n\n{_tree(path, within)}" if is_hdf5(path) else text


def _positions_in(source):
    """(n, 2) [m] as far as the file itself says: of a prepared scan, CXI, or the two axes of a NeXus scan."""
    if (moved := getattr(source, "translation", None)) is not None:
        return moved[:, 1::-1]                      # x, y, z
    axes = getattr(source, "axes", ())
    if len(axes) == 2 and all(axis.units for axis in axes):
        return np.column_stack([np.ravel(axis.values) * factor(axis.units) for axis in axes])
    return getattr(source, "positions", None)


def _prepared_rows(source):
    yield "chunks", f"{source.chunks} of {source.planned}"
    planned = len(source.frame_ids)
    if planned != source.there:
        yield "missing", f"{planned - source.there} of the {planned} planned frames are not there yet"
    weights = source.weights(range(min(source.there, 10)))
    if weights is not None:
        yield "masks", f"one for each frame; {(~weights).mean():.2%} of the pixels of the first {len(weights)} frames"
    with reading(source.path) as file:
        bad = file.get("info/bad_frames/frame_ids")
        bad = [] if bad is None else read_dataset(bad)
        if len(bad):
            yield "bad frames", ", ".join(map(str, bad[:20])) + (" …" if len(bad) > 20 else "")


def _tree(path, within):
    lines, seen = [], set()

    def walk(group, indent):
        seen.add(group)
        if len(indent) > 2 * DEEPEST or len(lines) > MOST_LINES:
            return
        names = sorted(group, key=lambda name: name != "meta")          # of a .ptyd the part that says most
        for name in [name for name in names if name not in UNTOLD][:MEMBERS]:
            link = group.get(name, getlink=True)
            to = f" -> {link.filename}:{link.path}" if isinstance(link, h5py.ExternalLink) else (
                f" -> {link.path}" if isinstance(link, h5py.SoftLink) else "")
            try:
                node = group[name]
            except SourceError as err:
                lines.append(f"{indent}{name}{to}  (not opened: {err})")
                continue
            except (KeyError, OSError):
                there = not isinstance(link, h5py.ExternalLink) or place_of(group.file, link.filename).exists()
                lines.append(f"{indent}{name}{to}  ({'cannot be opened' if there else 'not there'})")
                continue
            if isinstance(node, h5py.Dataset):
                lines.append(f"{indent}{name}{to}  {_content(node)}")
            elif not isinstance(node, h5py.Group):
                lines.append(f"{indent}{name}{to}  a kind of number")
            else:
                again = node in seen
                lines.append(f"{indent}{name}/{to}{'  (as above)' if again else ''}")
                if not again and (not to or isinstance(link, h5py.ExternalLink)):
                    walk(node, indent + "  ")
        if len(names) > MEMBERS:
            lines.append(f"{indent}… and {len(names) - MEMBERS} more")
    with reading(path, within=within) as file:
        walk(file, "  ")
    more = len(lines) - TREE_LINES
    lines = [printable(line, lines=False) for line in lines[:TREE_LINES]] or ["  (an empty file)"]
    return "\n".join(lines + ([f"  … and {more} more"] if more > 0 else []))


def _content(dataset):
    """The value of a small dataset, else its kind of number and shape."""
    if h5rw.kind_of(dataset) == "None":
        return "none"
    if dataset.dtype.kind == "V" or dataset.size is None or dataset.size > SMALL:
        turned = dataset.ndim > 1 and by_matlab(dataset)
        return f"{dataset.dtype} {dataset.shape}" + (f", in MATLAB {dataset.shape[::-1]}" if turned else "")
    try:
        value = read_dataset(dataset)
    except SourceError:
        return f"{dataset.dtype} {dataset.shape}, cannot be read"
    text = value.decode(errors="replace") if isinstance(value, bytes) else ", ".join(map(str, np.ravel(value).tolist()))
    return text if len(text) < 60 else text[:57] + "…"


def _table(rows):
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {printable(text, lines=False)}" for name, text in rows)


def _padding(scan, plan):
    (top, bottom), (left, right) = plan.padding
    if scan.finds_center and any(n > raw for n, raw in zip(plan.region, plan.raw)):
        yield "padding", "the region is larger than the raw frame: weight 0 beyond it"
    elif not scan.finds_center and any((top, bottom, left, right)):
        yield "padding", f"{top} rows above the raw frame, {bottom} below, {left} columns left, {right} right: weight 0"


def _orientation(plan):
    words = (("transposed", plan.transpose), ("rows flipped", plan.flipud), ("columns flipped", plan.fliplr))
    return ", ".join(word for word, on in words if on) or "as it is"


def _extent(positions):
    if positions is None or not len(positions):
        return "none recorded"
    size = np.nanmax(positions, axis=0) - np.nanmin(positions, axis=0)
    return f"{len(positions)} over {' x '.join(f'{s * 1e6:.4g}' for s in size)} um"


def _bytes(n):
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"
