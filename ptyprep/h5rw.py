"""Python values in HDF5 as PtyPy's `.ptyd` files hold them: the attribute `type` names the kind.

Format: FORMATS of `.ptyd`, observed from files written by PtyPy 0.9. Pickles are neither written nor read.
"""
from collections.abc import Mapping
from pathlib import Path
from time import asctime

import h5py
import numpy as np

from ptyprep.errors import OutputError, SourceError

RUN = "run"         # root attribute of our main files and of their parts: the folder of the run that made them


def stamp(file):
    """The attributes that PtyPy expects on the root of a file."""
    now = asctime()
    file.attrs.update({"h5rw_version": "0.1", "ctime": now, "mtime": now})


def write(group, name, value):
    """Store a value under a name, with its `type`; mappings become groups, to any depth.

    Raises OutputError for what has no place in a file: the format's only answer would be a pickle.
    """
    name = str(name)
    if "/" in name:
        raise OutputError(f"{name!r} cannot be a name in an HDF5 file: it holds a slash")
    if isinstance(value, Mapping):
        member = group.create_group(name)
        member.attrs["type"] = "dict"
        for key, item in value.items():
            write(member, key, item)
        return
    kind, stored = _encode(name, value)
    if kind in ("list", "tuple"):
        member = group.create_group(name)
        for i, item in enumerate(stored):
            write(member, f"{i:05d}", item)
    elif kind == "string":
        member = group.create_dataset(name, data=stored, dtype=h5py.string_dtype())
    else:
        packed = {"compression": "gzip", "shuffle": True} if stored.ndim and stored.size > 64 else {}
        member = group.create_dataset(name, data=stored, **packed)
    member.attrs["type"] = kind


def check(name, value):
    """Raise OutputError now if `write` could not store a value later."""
    with h5py.File(name, "w", driver="core", backing_store=False) as memory:
        write(memory, name, value)


def _encode(name, value):
    if value is None:
        return "None", np.zeros(1)
    if isinstance(value, str | Path):
        return "string", str(value)
    if isinstance(value, bool | int | float | complex | np.generic):
        return "scalar", np.asarray(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return ("array", value) if value.ndim else ("scalar", value)
    if isinstance(value, list | tuple):
        kind = type(value).__name__
        if value and all(isinstance(v, bool | int | float | np.number | np.bool_) for v in value):
            return f"array{kind}", np.asarray(value)
        return kind, value
    raise OutputError(f"{name} = {value!r}: a {type(value).__name__} cannot be stored in a .ptyd file; "
                      f"expected numbers, text, arrays, lists or mappings")


def kind_of(node):
    """The attribute `type` of a node, "" where it has none that is a text."""
    return text_of(node.attrs.get("type"))


def text_of(value):
    """An attribute's value as text, "" where it is none."""
    value = value.decode(errors="replace") if isinstance(value, bytes) else value
    return value if isinstance(value, str) else ""


def read(node, content):
    """The value of a dataset or group that `write` or PtyPy stored.

    content : what reads a dataset; of a file that is not ours one that survives damage

    Raises SourceError for a pickle: reading one could run code.
    """
    kind = kind_of(node)
    if kind in ("pickle", "record_array"):
        raise SourceError(f"{node.file.filename}: {node.name} is stored as a {kind}, which could run code when read; "
                          f"it is refused. Remove it from the file to read the rest")
    if isinstance(node, h5py.Group):
        items = {key: read(node[key], content) for key in node}
        return {"list": list, "tuple": tuple}.get(kind, lambda _: items)(items.values())
    if kind == "None":
        return None
    value = content(node)
    if isinstance(value, bytes):
        return value.decode()
    if kind == "scalar" and np.ndim(value):
        return value.reshape(-1)[0]
    return {"arraylist": list, "arraytuple": tuple}.get(kind, lambda v: v)(value)
