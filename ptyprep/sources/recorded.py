"""What a file records beside its frames: geometry, limits of counts, masks, and fields that are not applied yet.

Every reader goes through these functions, so that a unit, a mark or a mask means the same in all of them; what differs
between formats is in `formats`.
"""
import h5py
import numpy as np

from ptyprep import units
from ptyprep.errors import SourceError
from ptyprep.hdf5.files import dataset_in, member, read_dataset, scalar, text_in
from ptyprep.sources.formats import largest_count
from ptyprep.sources.hdf5 import Hdf5Stack
from ptyprep.words.spelling import option

DARKS = ("darkfield", "dark_field", "dark", "data_dark", "background")
FLATS = ("flatfield", "flat_field", "flat", "data_white", "whitefield", "data_flat")
APPLIED = {"dark": ("darkfield_applied", "dark_field_applied", "darkfield_correction_applied", "dark_applied"),
           "flat": ("flatfield_applied", "flat_field_applied", "flatfield_correction_applied")}


def read_quantity(source, quantity, *found):
    """The values of a quantity that files record, in ptyprep's units; None where one of them is not there or cannot be,
    which `source.notes` tells.

    found : (value, unit, where) each, or None; see `hdf5.scalar`
    """
    values, reasons = units.recorded_each(quantity, found, source.format.units.get(quantity))
    source.notes += reasons
    return values


def record_size(source, distance, psize, center):
    """Take distance, pixel size (y, x) and optical axis (y, x) into `source.recorded`; see `read_quantity`."""
    if found := read_quantity(source, "distance", distance):
        source.recorded["distance"] = found[0]
    if psize := read_quantity(source, "psize", *psize):
        source.recorded["psize"] = tuple(psize)
    if all(center) and (found := _center(source, center, psize)):
        source.recorded["center"] = found


def _center(source, center, psize):
    """(row, column) of the optical axis; None, with a note, where it is not known."""
    values, usual = [one.value for one in center], source.format.units.get("center")
    said = f"{center[0].where.rpartition('_')[0]} (y, x) = ({values[0]:g}, {values[1]:g})"
    if not np.isfinite(values).all() or not any(values):        # (0, 0): nobody set it
        source.notes.append(f"{said} counts as not recorded")
        return None
    if bool(center[0].unit) != bool(center[1].unit):        # one unit for both
        usual = center[0].unit or center[1].unit
        source.notes.append(f"{said}: only one of them has a unit, {usual}; it is taken for both")
    spelt = [one.unit or usual for one in center]
    if spelt == [None, None]:
        return _center_without_unit(source, values, psize, said)
    found = [in_pixels(value, unit or "", size) for value, unit, size in zip(values, spelt, psize or (None, None))]
    if None in found:
        kinds = dict.fromkeys(repr(unit or "no unit") for unit in spelt)
        source.notes.append(f"{said} in {' and '.join(kinds)} counts as not recorded: expected pixels, or a length "
                            f"where the pixel size is known; set {option('center')}")
        return None
    return tuple(found)


def in_pixels(value, unit, size):
    """A place on the frame [pixel], from pixels or a length; None where it cannot be told."""
    if units.factor(unit, "pixel"):
        return value
    metres = units.factor(unit)
    return None if metres is None or size is None else float(f"{value * metres / size:.15g}")


def _center_without_unit(source, values, psize, said):
    """A centre that may be a length or pixels: the reading that lies on the frame, if only one does."""
    readings = {"pixel": tuple(values)}
    for unit in ("m", "mm") if psize else ():
        readings[unit] = tuple(value * units.factor(unit) / size for value, size in zip(values, psize))
    fitting = {unit: at for unit, at in readings.items()
               if all(0 <= c <= n - 1 for c, n in zip(at, source.shape[-2:]))}
    if len(fitting) == 1:
        unit, at = fitting.popitem()
        source.notes.append(f"{said} has no unit and is taken as {unit}: nothing else lies on the frame")
        return at
    source.notes.append(f"{said} has no unit and counts as not recorded: is it in {' or '.join(fitting or readings)}? "
                        f"Set {option('center')}")
    return None


def read_saturation(source, file, *keys):
    """The largest good count, by the first of these datasets that has a number above 0; a note says which, where it is
    not the first one, and which cannot be read."""
    source.saturation = None
    for number, key in enumerate(keys):
        found, node = scalar(file, key), member(file, key)
        if found is None and node is not None:
            source.notes.append(f"{node.name} is no single number, and no count is masked for it")
        if found is not None and found.value > 0:
            source.saturation = largest_count(found.value, source.format.saturated)
            if number:
                source.notes.append(f"there is no {keys[0].rpartition('/')[2]}: counts above {found.where} = "
                                    f"{found.value:g} are masked")
            return


def read_mask(source, group, name, reasons, bad_bits):
    """Mask the pixels that a dataset names; if it cannot be read, `source.mask_problem` says why.

    group : open group or file; name : of the dataset in it
    reasons : what makes reasons of its values, see `Hdf5Stack.mark_bad`
    bad_bits : bits that make a pixel bad, -1 for any, for a mask for each frame
    """
    try:
        node = _announced(group, name)
        if node is None:
            return
        n, frame = source.shape[0], tuple(source.shape[-2:])
        count = node.size // int(np.prod(frame)) if node.ndim > 1 and node.shape[-2:] == frame else 0
        where = f"{node.file.filename}: {node.name}"
        if node.dtype.kind not in "biu":
            raise SourceError(f"{where} is {node.dtype}; expected whole numbers")
        if count == n > 1 and source.frame_masks is None:
            source.frame_masks = Hdf5Stack(node.file.filename, node.name), bad_bits
        elif count != 1:
            raise SourceError(f"{where} of shape {node.shape} is no mask of the {n} frames of shape {frame}: expected "
                              f"{frame}, or one for each frame")
        else:
            source.mark_bad(reasons(read_dataset(node).reshape(frame)))
    except SourceError as err:
        source.mask_problem = "; ".join(filter(None, [source.mask_problem, str(err)]))


def _announced(group, name):
    """The dataset of that name; None where the file has none. Raises SourceError for a link that leads nowhere."""
    folder, _, last = name.rpartition("/")
    at = member(group, folder) if folder else group
    if not isinstance(at, h5py.Group) or at.get(last, getlink=True) is None:
        return None
    node = member(at, last)
    link = at.get(last, getlink=True)
    if node is None and not isinstance(link, h5py.ExternalLink):
        raise SourceError(f"{at.file.filename}: {at.name}/{last} leads to {getattr(link, 'path', 'something')}, which "
                          f"is not there")
    return node if isinstance(node, h5py.Dataset) else dataset_in(at.file, f"{at.name}/{last}")


def note_fields(source, *groups):
    """Put the dark and flat fields in these groups into `source.waiting`; those that the file says are applied, into
    `source.applied`."""
    for group in filter(None, groups):
        for kind, names in (("dark", DARKS), ("flat", FLATS)):
            for name in names:
                node = member(group, name)
                if not isinstance(node, h5py.Dataset) or node.shape[-2:] != tuple(source.shape[-2:]):
                    continue
                done = next((at for place in (group, group.parent, *filter(None, groups)) for at in APPLIED[kind]
                             if _is_set(member(place, at))), None)
                if done:
                    source.applied[node.name] = done
                else:
                    source.waiting[node.name] = f"{node.name} is not applied; " + option(
                        f"{kind}field.key", node.name) + " " + (
                        "subtracts it" if kind == "dark" else {
                            "multiply": "multiplies by it", "divide": "divides by it",
                            None: f"divides by it, {option('flatfield.multiply', True)} "
                                  "multiplies"}[source.format.flat])


def _is_set(node):
    """Whether a flag is set: a number, a NX_BOOLEAN, or text as people write it."""
    if not isinstance(node, h5py.Dataset) or node.size != 1:
        return False
    value = np.ravel(read_dataset(node))[0]
    return bool(value) if node.dtype.kind in "biuf" else text_in(node).strip().lower() in ("true", "yes", "1", "on")


def note_monitor(source, node):
    """Put a monitor with a reading for each frame into `source.waiting`."""
    if isinstance(node, h5py.Dataset) and node.dtype.kind in "iuf" and node.size == source.shape[0] > 1:
        source.waiting[node.name] = (f"{node.name}, a monitor's readings, is not applied; "
                                     f"{option('normalisation.key', node.name)} divides by it")
