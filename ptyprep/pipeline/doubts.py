"""What was given or recorded and can hardly be meant: a sentence for each, before the work."""
import numpy as np

from ptyprep.errors import FrameError
from ptyprep.params.present import display
from ptyprep.pipeline.loaded import unreadable
from ptyprep.pipeline.rows import prepare
from ptyprep.processing import geometry
from ptyprep.units import photon_energy_of_electrons

FAR = 0.1               # metres; positions that spread further are probably in another unit
LARGE_PIXEL = 0.01      # metres
FINE = 0.1              # of an object pixel; nobody scans in such small steps
LOOKED_AT = 4           # frames
DARK = 0.25             # of the frame's average, around the centre
UNITS = {"energy": "keV", "distance": "m", "psize": "m"}


def of_geometry(scan):
    """Sentences about the geometry of a scan that has looked; no frame is read for them."""
    p, recorded = scan.p, scan.recorded_geometry
    for name, unit in UNITS.items():
        value = recorded.get(name)
        if value is not None and p.given(name) and geometry.contradicts(name, getattr(p, name), value):
            yield (f"{name} is {display(getattr(p, name), unit)} ({p.origin(name)}), but the detector recorded "
                   f"{display(value, unit)}")
        elif name == "psize" and np.max(p.psize) > LARGE_PIXEL:
            yield f"psize is {display(p.psize, 'm')}: are the detector's pixels as large?"
    yield from _of_center(scan)
    yield from _of_positions(scan)


def _of_center(scan):
    p, recorded = scan.p, scan.recorded_center
    if recorded is None or not p.given("center") or p.center is None:
        return
    try:
        given = scan.plan_about(p.center).center
        recorded = scan.plan_about(recorded).center
    except FrameError:          # it is refused, or beyond the frame, which detectors record
        return
    off = geometry.off_center(given, recorded)
    if off:
        yield (f"center is {place(given)} ({p.origin('center')}), but the detector recorded {place(recorded)}"
               + (": are rows and columns exchanged?" if off == "exchanged" else ""))


def _of_positions(scan):
    """Sentences about positions that are in another unit, as far as their steps tell."""
    if scan.positions is None or scan.positions_origin == "from load()":
        return
    positions = wanted_positions(scan)
    known = positions[np.isfinite(positions).all(axis=1)]
    spread = np.ptp(known, axis=0).max() if len(known) else 0
    if spread > FAR:
        yield f"the positions spread over {spread:g} m: are they in metres?"
        return
    steps, pixel, frame = geometry.steps(known), *on_object(scan)
    if steps is None:
        return
    apart = f"neighbouring positions are {size(steps.nearest)} apart, and"
    if steps.nearest > max(frame):
        yield (f"{apart} a frame covers {size(frame)} of the object: they do not overlap. Are the positions in the "
               f"right unit?")
    elif steps.nearest < FINE * min(pixel):
        yield f"{apart} a pixel of the object is {size(pixel)}: are the positions in the right unit?"


def of_light(scan, center):
    """Sentences about a given centre (row, column) that lies where no light is, from a few frames. Called on all ranks
    together, before there is a plan.

    Only where no centre was recorded to compare with, and of frames that are all there and come straight from a source:
    it never waits, and asks no hook for frames twice. Frames that cannot be read say nothing here.
    """
    given = scan.p.given("center") and scan.p.center is not None and scan.recorded_center is None
    if not given or not scan.from_source or scan.total is None or scan.there(range(scan.total)) < scan.total:
        return []
    return scan.comm.from_root(lambda: list(_of_dark_center(scan, center)))


def _of_dark_center(scan, center):
    points = scan.selection.raw(range(scan.total))
    points = [points[k] for k in np.unique(np.linspace(0, scan.total - 1, LOOKED_AT).astype(int))]
    try:
        rows = prepare(scan, points)
    except Exception as err:
        if not unreadable(err):
            raise
        return
    if not len(rows):
        return
    total, counted = np.zeros(scan.raw_shape), np.zeros(scan.raw_shape, np.uint32)
    for frame, good in zip(rows.data, rows.weight):
        np.add(total, frame, out=total, where=good)
        counted += good
    light = geometry.light_around(total, counted, center)
    if light is None or light.around >= DARK * light.average:
        return
    turned = np.abs(np.subtract(center[::-1], light.brightest)).max() <= min(scan.raw_shape) / geometry.AROUND
    hint = ": are rows and columns exchanged?" if turned else ""
    yield (f"almost no light falls around center, {place(center)} ({scan.p.origin('center')}): {light.around:.2g} "
           f"counts in a pixel above the background, and {light.average:.2g} on the average of the frame. The "
           f"brightest place is near {place(light.brightest)}{hint}")


def wanted_positions(scan):
    """Positions (n, 2) of the scan points that are prepared, all while their number is not known."""
    return scan.positions if scan.total is None else scan.positions[scan.selection.raw(range(scan.total))]


def on_object(scan):
    """Sizes (y, x) [m] on the object: of a pixel, and of what a prepared frame covers."""
    plan, p = scan.plan_about("geometric"), scan.p
    energy = photon_energy_of_electrons(p.energy) if p.electron_data else p.energy
    pixel = geometry.object_pixel(energy, p.distance, plan.psize(np.broadcast_to(p.psize, 2)), plan.shape)
    return pixel, tuple(n * one for n, one in zip(plan.shape, pixel))


def place(center):
    """A centre in words."""
    return f"row {center[0]:g}, column {center[1]:g}"


def size(lengths):
    """A length [m], or (y, x), to four digits: "75 nm x 50 nm"."""
    return " x ".join(display(float(f"{length:.4g}"), "m") for length in np.atleast_1d(lengths))
