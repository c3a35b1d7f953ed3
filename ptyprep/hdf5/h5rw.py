"""Python values in HDF5 as PtyPy's `.ptyd` files hold them: the attribute `type` names the kind.

Format: FORMATS of `.ptyd`, observed from files written by PtyPy 0.9. Pickles are neither written nor read.
"""
from collections.abc import Mapping
from pathlib import Path
from time import asctime

import h5py
import numpy as np
from isal import isal_zlib

from ptyprep.errors import OutputError, SourceError

GROUPS = 1 << 20    # in what is read
CHECKSUM = "crc32"  # attribute of a dataset
RUN = "run"         # root attribute of our main files and of their parts: the folder of the run that made them


def stamp(file):
    """The attributes that PtyPy expects on the root of a file."""
    now = asctime()
    for name, text in (("h5rw_version", "0.1"), ("ctime", now), ("mtime", now)):
        label(file.id, name, text)


def write(group, name, value):
    """Store a value under a name, with its `type`; mappings become groups, to any depth.

    Raises OutputError for what has no place in a file: the format's only answer would be a pickle.
    """
    groups = {(): group.id}
    for path, kind, stored in _nodes((_utf8(name),), value):
        node = _put(groups[path[:-1]], path[-1], kind, stored)
        if stored is None:
            groups[path] = node


def is_intact(dataset, values):
    """Whether the numbers of a dataset are those that were written, as far as a checksum says."""
    told = dataset.attrs.get(CHECKSUM)
    return told is None or np.size(told) == 1 and np.all(told == isal_zlib.crc32(np.ascontiguousarray(values)))


def check(name, value):
    """Raise OutputError now if `write` could not store a value later."""
    for _ in _nodes((_utf8(name),), value):
        pass


def _nodes(path, value):
    """What a value becomes: (names of groups and the own one, type, numbers or text), None for a group."""
    name = path[-1]
    if not name or name == "." or {"/", "\0"} & set(name):
        raise OutputError(f"{name!r} cannot be a name in an HDF5 file: it "
                          f"{'holds a slash' if '/' in name else 'is empty, a dot, or holds a zero byte'}")
    kind, stored = ("dict", value) if isinstance(value, Mapping) else _encode("/".join(path), value)
    if kind not in ("dict", "list", "tuple"):
        yield path, kind, stored
        return
    yield path, kind, None
    items = [(_utf8(key), item) for key, item in stored.items()] if kind == "dict" else \
        [(f"{i:05d}", item) for i, item in enumerate(stored)]
    if len(dict(items)) < len(items):
        raise OutputError(f"{'/'.join(path)}: two of its names are the same text: {', '.join(map(str, stored))}")
    for key, item in items:
        yield from _nodes((*path, key), item)


def _utf8(text):
    """A text as a file can hold it: names of files may have bytes that are no UTF-8, which are written as escapes."""
    return str(text).encode("utf-8", "backslashreplace").decode()


_HERE = h5py.h5s.ALL, h5py.h5s.ALL
_ONE = h5py.h5s.create(h5py.h5s.SCALAR)
_STRING = h5py.string_dtype()
_TEXT = h5py.h5t.py_create(_STRING, logical=True)
_NAMED = h5py.h5p.create(h5py.h5p.LINK_CREATE)
_NAMED.set_char_encoding(h5py.h5t.CSET_UTF8)
_SMALL = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
_SMALL.set_layout(h5py.h5d.COMPACT)
_LARGE = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
for _layout in _SMALL, _LARGE:
    _layout.set_obj_track_times(False)      # as h5py's: equal files are equal to the last byte


def mapping(parent, name):
    """A new group of an open file, which is a mapping to those who read it."""
    return h5py.Group(_put(parent.id, name, "dict", None))


def label(node, name, value):
    """Give a node of a file, by its `id` of h5py, a new attribute: a text or numbers. There are hundreds, and h5py's
    own way takes two to three times as long; as it does with datasets."""
    value, kind, space = _to_store(value)
    h5py.h5a.create(node, name.encode(), kind, space).write(value)


def dataset(group, name, value):
    """A text or numbers in a new dataset of a group, by its `id`, as they are; small ones lie beside its head instead
    of elsewhere. Returns the dataset's `id`."""
    value, kind, space = _to_store(value)
    node = h5py.h5d.create(group, name.encode(), kind, space, _SMALL if value.nbytes <= 4096 else _LARGE, _NAMED)
    if value.size:
        node.write(*_HERE, value)
    return node


def _to_store(value):
    """A text or numbers as (array, HDF5 type, HDF5 space)."""
    if isinstance(value, str):
        return np.array(value, _STRING), _TEXT, _ONE
    value = np.asarray(value, order="C")
    return (value, h5py.h5t.py_create(value.dtype, logical=True),
            h5py.h5s.create_simple(value.shape) if value.ndim else _ONE)


def _put(group, name, kind, stored):
    """A group, or a dataset, with its type."""
    if stored is None:
        node = h5py.h5g.create(group, name.encode(), lcpl=_NAMED)
    elif kind != "string" and stored.ndim and stored.size > 64:
        node = h5py.Group(group).create_dataset(name, data=stored, compression="gzip", shuffle=True).id
    else:
        node = dataset(group, name, stored)
    label(node, "type", kind)
    return node


def _encode(name, value):
    if value is None:
        return "None", np.zeros(1)
    if isinstance(value, str | Path) and "\0" not in str(value):
        return "string", _utf8(value)
    if isinstance(value, bool | int | float | complex | np.generic) and _is_storable(np.asarray(value)):
        return "scalar", np.asarray(value)
    if isinstance(value, np.ndarray) and _is_storable(value):
        return ("array", value) if value.ndim else ("scalar", value)
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        if value and all(isinstance(v, bool | int | float | np.number | np.bool_) for v in value) and \
                _is_storable(np.asarray(value)):
            return f"array{kind}", np.asarray(value)
        return kind, value
    raise OutputError(f"{name} = {value!r}: a {type(value).__name__} cannot be stored in a .ptyd file; "
                      f"expected numbers, text without zero bytes, arrays, lists or mappings")


def _is_storable(array):
    return array.dtype.kind in "biufc" and array.ndim <= 32      # as many axes as HDF5 has


def kind_of(node):
    """The attribute `type` of a node, "" where it has none that is a text."""
    return text_of(node.attrs.get("type"))


def text_of(value):
    """An attribute's value as text, "" where it is none."""
    value = value.decode(errors="replace") if isinstance(value, bytes) else value
    return value if isinstance(value, str) else ""


def read(node, content, seen=()):
    """The value of a dataset or group that `write` or PtyPy stored.

    content : what reads a dataset; of a file that is not ours one that survives damage
    seen : (file, place) of the groups that were read

    Raises SourceError for a pickle: reading one could run code; and for a group that has two names, which may hold
    itself.
    """
    kind = kind_of(node)
    if kind in ("pickle", "record_array"):
        raise SourceError(f"{node.file.filename}: {node.name} is stored as a {kind}, which could run code when read; "
                          f"it is refused. Remove it from the file to read the rest")
    if isinstance(node, h5py.Group):
        info, seen = h5py.h5o.get_info(node.id), seen or set()
        if (info.fileno, info.addr) in seen or len(seen) > GROUPS:
            raise SourceError(f"{node.file.filename}: {node.name} is in it twice, or one of more than {GROUPS} groups: "
                              f"no .ptyd file has that")
        seen.add((info.fileno, info.addr))
        items = {key: read(node[key], content, seen) for key in node}
        return {"list": list, "tuple": tuple}.get(kind, lambda _: items)(items.values())
    if kind == "None":
        return None
    value = content(node)
    if isinstance(value, bytes):
        return value.decode()
    if kind == "scalar" and np.ndim(value):
        return value.reshape(-1)[0]
    return {"arraylist": list, "arraytuple": tuple}.get(kind, lambda v: v)(value)
