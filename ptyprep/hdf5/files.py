"""HDF5 files of unknown origin: open them, look for datasets in them, and read what they say of themselves.

MATLAB keeps the first index running fastest: its array (h, w, n) is (n, w, h) in HDF5, and is turned to (h, w). Of
NeXus, CXI, DECTRIS and .ptyd files the format defines the axes, whoever wrote them.
"""
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from ptyprep.errors import PtyprepError, SourceError
from ptyprep.hdf5 import codec
from ptyprep.hdf5.chunk_index import Stored, all_written, filter_hint, reason, safe_filters
from ptyprep.hdf5.guarded import LINKS, open_hdf5, place_of

MATLAB = b"MATLAB 7.3 MAT-file"     # how the user block of its files begins ("MAT-File Versions", MathWorks)
PACKED = {codec.BITSHUFFLE, codec.LZ4}      # what HDF5's plug-ins do not undo safely
LOOKED_AT = 32              # members of a file's root
LARGEST = 1 << 29           # pixels of a frame: what a file declares is not allocated before it is believed
LONGEST = 8                 # times the other side of a frame: see `can_be_frames`
LISTED = 5                  # links that a message names
MOST, DEEPEST = 1 << 20, 32     # names of a group, groups in groups: that are looked through


@contextmanager
def reading(path, what="this file", within=None):
    """An open HDF5 file whose structure is read: what is not laid out as `what` should be is a SourceError.

    within : folders that it must not lead out of; None where it may lead anywhere

    Not for frames: an error there may mean one frame only.
    """
    with open_hdf5(path, within) as file:
        try:
            yield file
        except PtyprepError:
            raise
        except MemoryError as err:
            raise SourceError(f"{path}: what it declares does not fit into memory ({err}): is it damaged?") from err
        except OSError as err:
            raise SourceError(f"{path}: cannot be read: {reason(err)}") from err
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError,
                SystemError) as err:
            raise SourceError(f"{path}: not laid out as {what} should be ({type(err).__name__}: {reason(err)}); "
                              f"ptyprep show, or h5dump -n, lists what is in it") from err


def stacks_in(file):
    """{name: shape} of the datasets in an open file that could be frames: real numbers of three dimensions or more."""
    return datasets_in(file, lambda node: node.ndim in (3, 4, 5) and node.dtype.kind in "biuf"
                       and min(node.shape[-2:]) > 1)


def datasets_in(group, which):
    """{name: shape} of the datasets in an open file or group for which which(dataset) holds.

    Links that lead nowhere are passed over; links that lead to a group twice are followed once.
    """
    return {name: node.shape for name, node, _ in _walk(group) if isinstance(node, h5py.Dataset) and which(node)}


def dead_links(group):
    """{name: where it leads} of the links in an open file or group that lead nowhere."""
    return {name: to for name, node, to in _walk(group) if node is None}


def _walk(group, at="", seen=None, depth=0):
    """(name, object or None where its link leads nowhere, where that leads) of all that is in a group, groups once.

    Raises SourceError where there is more than a scan can have.
    """
    seen = {identity(group)} if seen is None else seen
    for number, name in enumerate(group):
        if len(seen) + number > MOST:
            raise SourceError(f"{group.file.filename}: more than {MOST} names in it; expected a scan. Name the "
                              f"datasets that are to be read")
        node = member(group, name)
        yield f"{at}/{name}", node, leads_to(group, name) if node is None else ""
        if isinstance(node, h5py.Group) and identity(node) not in seen and depth < DEEPEST:
            seen.add(identity(node))
            yield from _walk(node, f"{at}/{name}", seen, depth + 1)


def identity(node):
    """What two names of the same object in open files have in common."""
    info = h5py.h5o.get_info(node.id)
    return info.fileno, info.addr


def leads_to(group, name):
    """Where a link in an open group leads that leads nowhere, or is not followed, in words."""
    link, why = _link(group, name), "not there"
    external = isinstance(link, h5py.ExternalLink)
    if external and place_of(group.file, link.filename).exists():
        why = "cannot be opened"
    with suppress(KeyError, OSError, RuntimeError, SystemError, ValueError):
        try:
            group[name]  # noqa: B018  which may be refused
        except SourceError as err:
            why = str(err)
    if external:
        return f"{link.filename}:{link.path} ({why})"
    return f"{link.path} ({why})" if isinstance(link, h5py.SoftLink) else f"what cannot be opened ({why})"


def can_be_frames(shape):
    """Whether the last two axes may be taken for an area detector's where nobody says so: neither is 8 times as long as
    the other.

    Of area detectors the PILATUS 300K-W is the longest, 195 x 1475. X-ray fluorescence has 1 to 16 rows of 1024 to 4096
    channels, a line detector has one row, and pictures in colour end in 3 or 4.

    >>> [can_be_frames(shape) for shape in ((10, 195, 1475), (10, 4, 4096), (10, 512, 512, 3), (10, 1, 1280))]
    [True, False, False, False]
    """
    return max(shape[-2:]) < LONGEST * min(shape[-2:])


def listed_stacks(stacks):
    """{name: shape} of stacks for a message, with a word where their frames can be no images."""
    return ", ".join(f"{name} {shape}" + ("" if can_be_frames(shape) else " (no images)")
                     for name, shape in stacks.items())


def listed_links(dead):
    """{name: where it leads} of links for a message."""
    some = ", ".join(f"{name} -> {to}" for name, to in list(dead.items())[:LISTED])
    return some + (f" and {len(dead) - LISTED} more" if len(dead) > LISTED else "")


def dataset_in(file, key, left=LINKS):
    """The dataset of that name in an open file, over at most so many links to other files.

    Raises SourceError that lists the stacks that are there, or says where a link leads.
    """
    path = file.file.filename
    try:
        node = file[key]
    except SourceError:
        raise
    except KeyError as err:
        link = _link(file, key)
        if isinstance(link, h5py.ExternalLink):
            target = place_of(file.file, link.filename)
            if not left:
                raise SourceError(f"{path}: {key} leads from file to file more than {LINKS} times: its links run in a "
                                  f"circle, perhaps") from err
            if target.exists():
                return dataset_in(open_hdf5(target, file.within), link.path, left - 1)      # which says what is wrong
            raise SourceError(f"{path}: {key} links to {link.path} in {link.filename}, which cannot be opened: "
                              f"is that file beside this one?") from err
        stacks = ", ".join(f"{k} {s}" for k, s in stacks_in(file.file).items())
        raise SourceError(f"{path}: no dataset {key}; " + (
            f"the stacks in it are {stacks}. Set the key to one of them" if stacks else
            "there is no stack of frames in it; ptyprep show lists what is")) from err
    except OSError as err:
        raise SourceError(f"{path}: {key} cannot be opened: {reason(err)}") from err
    if not isinstance(node, h5py.Dataset):
        inside = ", ".join(f"{key.rstrip('/')}/{name}" for name in node) or "nothing"
        raise SourceError(f"{path}: {key} is a group, not a dataset; it holds {inside}")
    return node


def read_dataset(dataset):
    """All of a dataset, of any rank: what `dataset[()]` is, but damage ends no process and nothing absent is 0.

    Raises SourceError naming file and dataset where it is damaged, was never written, links to what is not there,
    or is stored in a way that is not safe to read.
    """
    where = f"{dataset.file.filename}: {dataset.name}"
    own = safe_filters(dataset)
    if dataset.is_virtual:
        _refuse_unsafe_sources(dataset)
    try:
        if not dataset.size or dataset.is_virtual or all_written(dataset):
            return dataset[()] if not own else Stored(dataset).read_all()
    except codec.DamagedChunk as err:
        raise SourceError(f"{where} is damaged: {err}") from err
    except (OSError, RuntimeError, SystemError) as err:
        raise SourceError(f"{where} cannot be read: {filter_hint(dataset) or reason(err)}") from err
    raise SourceError(f"{where} was never written, or not all of it")


def read_numbers(dataset):
    """`read_dataset` as floats. Raises SourceError for what is not real numbers, which NumPy would cut down to some."""
    values = read_dataset(dataset)
    if np.asarray(values).dtype.kind not in "biuf":
        raise SourceError(f"{dataset.file.filename}: {dataset.name} is {dataset.dtype}; expected real numbers")
    return np.asarray(values, float)


def by_matlab(dataset):
    """Whether MATLAB (7.3) wrote a dataset, so that its axes are in the other order; of a virtual one, its sources.

    Told by the file's user block, or by the attribute MATLAB_class of the dataset or of a variable of the file: these
    lie at its root.
    """
    if has_matlab_marks(dataset) or not dataset.is_virtual:
        return has_matlab_marks(dataset)
    found = set()
    for source in dataset.virtual_sources():
        with suppress(SourceError), open_hdf5(file_of_source(dataset, source), dataset.within) as file:
            found.add(by_matlab(dataset_in(file, source.dset_name)))
    return one_answer(found, f"{dataset.file.filename}: {dataset.name}")


def has_matlab_marks(dataset):
    file = dataset.file
    if "MATLAB_class" in dataset.attrs:
        return True
    if file.userblock_size:
        with open(file.filename, "rb") as block:
            if block.read(len(MATLAB)) == MATLAB:
                return True
    seen = []

    def look(name, link):       # MATLAB marks all its variables, so that a few tell; there may be thousands
        seen.append(link.type == h5py.h5l.TYPE_HARD and h5py.h5a.exists(file.id, b"MATLAB_class", obj_name=name))
        return "enough" if seen[-1] or len(seen) == LOOKED_AT else None
    file.id.links.iterate(look, order=h5py.h5.ITER_NATIVE, info=True)
    return any(seen)


def one_answer(answers, where):
    if len(answers) > 1:
        raise SourceError(f"{where} joins frames that MATLAB wrote, whose axes are in the other order, with frames "
                          f"that it did not write; give each file by itself")
    return True in answers


def shape_of(dataset):
    """The shape of a dataset of images, the last two axes as (h, w) also where MATLAB wrote it."""
    *lead, h, w = dataset.shape
    return (*lead, w, h) if by_matlab(dataset) else (*lead, h, w)


def _refuse_unsafe_sources(dataset):
    """HDF5 reads a small virtual dataset: with zeros where a source is absent, by its plug-ins where one is packed.

    A source of another shape than was mapped ends the process (HDF5 2.0)."""
    where, mapped = f"{dataset.file.filename}: {dataset.name}", 0
    for source in dataset.virtual_sources():
        name = file_of_source(dataset, source)
        with open_hdf5(name, dataset.within) as file:
            part = dataset_in(file, source.dset_name)
            if part.file.filename != file.filename:         # where HDF5 would follow whatever is there by then
                raise SourceError(f"{where} joins {source.dset_name} of {name}, which is a link to "
                                  f"{part.file.filename}; give that file itself")
            if part.is_virtual or PACKED & set(codec.filters_of(part)) or not all_written(part):
                raise SourceError(f"{where} joins {source.dset_name} of {name}, which is virtual, packed or not "
                                  f"written; give that dataset itself")
            space = source.src_space        # of which HDF5 stores as much as was selected
            least = () if space.get_select_type() == h5py.h5s.SEL_ALL else space.get_simple_extent_dims()
            fits = (len(least) == part.ndim and all(n <= m for n, m in zip(least, part.shape)) if least else
                    part.size == source.vspace.get_select_npoints())
            if not fits:
                raise SourceError(f"{where} joins {least or 'all'} of {source.dset_name} of {name}, which has shape "
                                  f"{part.shape}")
        mapped += source.vspace.get_select_npoints()
    if mapped < dataset.size:
        raise SourceError(f"{where} joins datasets that fill {mapped} of its {dataset.size} numbers")


def file_of_source(dataset, source):
    """The file of a virtual dataset's source."""
    file = dataset.file
    return Path(file.filename) if source.file_name == "." else place_of(file, source.file_name)


def _link(file, key):
    try:
        return file.get(key, getlink=True)
    except (KeyError, RuntimeError, SystemError, OSError):
        return None


class Found(NamedTuple):
    """A number in a file: its value, its unit as the file spells it ("" without), and its name."""
    value: float
    unit: str
    where: str


def scalar(file, *keys):
    """`Found` of the first of these datasets that is there and holds one number; else None."""
    for key in keys:
        node = member(file, key)
        if isinstance(node, h5py.Dataset) and node.size == 1 and node.dtype.kind in "iuf":
            return Found(float(np.ravel(read_dataset(node))[0]), unit_of(node) or "", node.name)
    return None


def unit_of(node):
    """The unit of a dataset by its attribute, as it is spelt; None where it has none.

    NeXus calls the attribute `units`; programs write `unit` too, and capitals. One unit for each of several numbers
    counts where all are the same.
    """
    names = {name.lower(): name for name in reversed(list(node.attrs))}
    name = next((names[name] for name in ("units", "unit") if name in names), None)
    value = None if name is None else node.attrs[name]
    if isinstance(value, np.ndarray) and value.size > 1 and len(set(value.ravel().tolist())) == 1:
        return _text(value.ravel()[0])
    return name and (text_attribute(node, name) or None)


def member(group, name):
    """A member of an open file or group, None where it is absent or a link leads nowhere."""
    try:
        return group.get(name)
    except (KeyError, OSError, RuntimeError, SystemError, ValueError):
        return None


def text_in(node):
    """The text that a dataset holds, "" for anything else."""
    if not isinstance(node, h5py.Dataset) or node.size != 1:
        return ""
    return _text(np.ravel(read_dataset(node))[0])


def text_attribute(node, name):
    """A text attribute of an HDF5 object, None where it has none."""
    value = node.attrs.get(name)
    if isinstance(value, np.ndarray | np.generic) and np.size(value) == 1:
        value = np.ravel(value)[0]
        value = value.item() if isinstance(value, np.generic) else value
    return None if value is None or isinstance(value, h5py.Empty) else _text(value)


def _text(value):
    """Text of bytes or of anything else; bytes that are no UTF-8 are Latin-1, as old programs write µ."""
    if isinstance(value, str):
        value = value.encode(errors="surrogateescape")      # as h5py gives what is no UTF-8
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
