"""Values in HDF5 with PtyPy's `type` attributes; the answers are plain h5py's."""
import pickle
import time
from collections import UserList, namedtuple
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptyprep.errors import OutputError, SourceError
from ptyprep.hdf5 import h5rw
from ptyprep.hdf5.files import read_dataset


@pytest.fixture
def file():
    with h5py.File("h.h5", "w", driver="core", backing_store=False) as file:
        yield file


@pytest.mark.parametrize("value, kind, stored", [
    (None, "None", np.zeros(1)),
    ("Å text", "string", "Å text".encode()),
    (Path("/a/b.h5"), "string", b"/a/b.h5"),
    ("", "string", b""),
    (True, "scalar", np.True_),
    (7, "scalar", np.int64(7)),
    (2.5, "scalar", np.float64(2.5)),
    (1 + 2j, "scalar", np.complex128(1 + 2j)),
    (np.float32(2.5), "scalar", np.float32(2.5)),
    (np.array(3), "scalar", np.int64(3)),
    (np.arange(6, dtype="u2").reshape(2, 3), "array", np.arange(6, dtype="u2").reshape(2, 3)),
    (np.zeros((0, 2)), "array", np.zeros((0, 2))),
    (np.ones((20, 20), bool), "array", np.ones((20, 20), bool)),
    ([1, 2, 3], "arraylist", np.array([1, 2, 3])),
    ((1.5, 2.5), "arraytuple", np.array([1.5, 2.5])),
    ((True, False, True), "arraytuple", np.array([True, False, True])),
])
def test_each_kind_of_value_as_ptypy_stores_it(file, value, kind, stored):
    h5rw.write(file, "v", value)
    assert file["v"].attrs["type"] == kind
    found = file["v"][()]
    assert np.array_equal(found, stored) and getattr(found, "dtype", None) == getattr(stored, "dtype", None)


def test_text_is_variable_length_utf8(file):
    h5rw.write(file, "v", "Å")
    info = h5py.check_string_dtype(file["v"].dtype)
    assert (info.encoding, info.length) == ("utf-8", None) and file["v"].shape == ()


@pytest.mark.parametrize("value, kind", [(["a", "b"], "list"), (("a", 1, None), "tuple"), ([], "list"), ((), "tuple")])
def test_other_sequences_are_groups_with_numbered_members(file, value, kind):
    h5rw.write(file, "v", value)
    assert isinstance(file["v"], h5py.Group) and file["v"].attrs["type"] == kind
    assert list(file["v"]) == [f"{i:05d}" for i in range(len(value))]
    assert h5rw.read(file["v"], read_dataset) == value


def test_what_is_derived_from_lists_is_stored_as_these(file):
    pair = namedtuple("pair", "a b")
    for value, kind in ((pair("x", 1), "tuple"), (pair(1, 2), "arraytuple"), (type("L", (list,), {})("ab"), "list")):
        h5rw.write(file, kind, value)
        assert file[kind].attrs["type"] == kind
    with pytest.raises(OutputError, match="UserList"):
        h5rw.write(file, "v", UserList("ab"))


def test_a_long_list_keeps_its_order(file):
    words = [f"word {i}" for i in range(120)]
    h5rw.write(file, "v", words)
    assert h5rw.read(file["v"], read_dataset) == words


def test_mappings_nest(file):
    tree = {"a": {"b": {"c": 1}, "d": "x"}, "e": None, "f": (1, 2), "g": {}}
    h5rw.write(file, "v", tree)
    assert file["v"].attrs["type"] == file["v/a/b"].attrs["type"] == file["v/g"].attrs["type"] == "dict"
    assert h5rw.read(file["v"], read_dataset) == tree


@pytest.mark.parametrize("value",
                         [object(), np.array(["a"], object), np.array([("a", 1)], "U3,i4"), {1, 2}, [object()], 1 << 70,
                          [1, 1 << 70], "zero\0byte", np.zeros((1,) * 33)])
def test_what_would_be_a_pickle_is_refused_by_name(file, value):
    with pytest.raises(OutputError, match="cannot be stored") as err:
        h5rw.write(file, "odd", value)
    assert "odd" in str(err.value) or "00000" in str(err.value)


@pytest.mark.parametrize("name, words", [("a/b", "'a/b'.*slash"), ("", "empty"), (".", "a dot"), ("a\0", "zero byte")])
def test_what_is_no_name_is_refused(file, name, words):
    for store in (h5rw.check, lambda *value: h5rw.write(file, *value)):
        with pytest.raises(OutputError, match=words):
            store("meta", {"deep": {name: 1}})


def test_two_names_that_are_one_text_are_refused(file):
    with pytest.raises(OutputError, match="v/deep: two of its names are the same text: 1, 1"):
        h5rw.check("v", {"deep": {1: "a", "1": "b"}})


def test_bytes_that_are_no_utf8_are_escaped(file):
    """Names of files may have such; nobody can prepare a scan in such a folder else."""
    odd = Path(b"/data/caf\xe9/scan.h5".decode(errors="surrogateescape"))
    h5rw.write(file, "v", {"file": odd, str(odd.parent.name): 1})
    assert h5rw.read(file["v"], read_dataset) == {"file": r"/data/caf\udce9/scan.h5", r"caf\udce9": 1}


def test_equal_values_make_equal_files(tmp_path):
    for name in ("a", "b"):
        with h5py.File(tmp_path / name, "w") as file:
            h5rw.write(file, "v", {"x": 1, "y": ["a", None], "z": np.arange(100)})
        time.sleep(1.1)         # HDF5 counts in seconds
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_names_are_utf8(file):
    h5rw.write(file, "meta", {"Å": 1, "λ": {"µ": "x"}})
    assert h5rw.read(file["meta"], read_dataset) == {"Å": 1, "λ": {"µ": "x"}}


def test_what_is_checked_is_what_is_written(file):
    for value in (object(), {"a": [1, {2}]}):
        with pytest.raises(OutputError, match="cannot be stored"):
            h5rw.check("v", value)
    h5rw.check("v", {"a": [1, "b", None, (), np.arange(99)]})
    h5rw.write(file, "v", {"a": [1, "b", None, (), np.arange(99)]})


@pytest.mark.parametrize("kind", ["pickle", "record_array"])
def test_a_pickle_is_never_read(file, kind):
    class Evil:
        def __reduce__(self):
            return pytest.fail, ("a pickle was read",)
    file.create_group("meta")["x"] = np.void(pickle.dumps(Evil()))
    file["meta/x"].attrs["type"] = kind
    with pytest.raises(SourceError, match=f"/meta/x is stored as a {kind}.*refused"):
        h5rw.read(file["meta"], read_dataset)


def test_reads_what_others_write(file):
    """Attributes as bytes, a scalar of shape (1,), no attribute at all, a param group."""
    file["a"], file["b"], file["c"] = np.array([4.0]), "text", np.arange(3)
    file["a"].attrs["type"], file["b"].attrs["type"] = np.bytes_(b"scalar"), np.bytes_(b"string")
    file.create_group("p").attrs["type"] = "param"
    file["p/x"] = 5
    assert h5rw.read(file["a"], read_dataset) == 4.0 and np.ndim(h5rw.read(file["a"], read_dataset)) == 0
    assert h5rw.read(file["b"], read_dataset) == "text"
    assert h5rw.read(file["c"], read_dataset).tolist() == [0, 1, 2]
    assert h5rw.read(file["p"], read_dataset) == {"x": 5}


def test_the_root_carries_what_ptypy_looks_for(file):
    h5rw.stamp(file)
    assert file.attrs["h5rw_version"] == "0.1" and {"ctime", "mtime"} <= set(file.attrs)
