"""Anything may come in, as a parameter or as a file: only our own errors come out, and no process ends."""
import itertools
import os
import string
import zlib

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ptyprep import PtyScan, recipe
from ptyprep.cli.show import plan_text, show_text
from ptyprep.errors import ParameterError, PtyprepError
from ptyprep.params.declare import walk
from ptyprep.ptyd.repair import merge
from ptyprep.ptyd.verify import problems
from ptyprep.registry import installed, source_parameter
from ptyprep.sources import open_frames

pytestmark = pytest.mark.slow

RECIPES = sorted(installed())
GENERAL = ["cxi", "eiger", "hdf5", "images", "nexus", "ptyd"]
BEAMLINES = [name for name in RECIPES if name not in GENERAL]
MORE = int(os.environ.get("PTYPREP_FUZZ", 0))       # so many examples, and others each time
fuzz = settings(deadline=None, max_examples=MORE or 100, derandomize=not MORE, suppress_health_check=list(HealthCheck),
                phases=[Phase.explicit, Phase.generate])        # to make an example smaller takes minutes


# --- parameters -----------------------------------------------------------------------------------------

numbers = st.one_of(st.integers(-2**70, 2**70), st.floats(), st.sampled_from([0, 1, -1, 2, 1e-300, 1e300]),
                    st.sampled_from([np.float32(2), np.int8(-3), np.uint64(2**63), np.bool_(True), 3j]))
texts = st.one_of(st.text(max_size=12), st.text("0123456789.,:;()[]eE+-*/ mumnmkeVx%'\"", max_size=14),
                  st.sampled_from(["", "none", "None", "nan", "1e999", "7 keV", "75 um", "1,2", "(1;2)", "[1,2]", "1 2",
                                   "a.b", "fftshift", "1/0", "9**9**9", "__import__('os')", "\0", "../../x",
                                   "1:2:0"]))
values = st.one_of(st.none(), st.booleans(), numbers, texts, st.binary(max_size=4),
                   st.lists(numbers, max_size=4), st.tuples(numbers, numbers),
                   st.dictionaries(texts, numbers, max_size=2), st.sampled_from([
                       np.zeros(0), np.ones((3, 2)), np.ones((2, 2), complex), np.array("x"), object(),
                       {1}]))


@st.composite
def parameters(draw):
    """(recipe, some of its parameters and some that it has not)."""
    cls = recipe(draw(st.sampled_from(RECIPES)))
    names = st.one_of(st.sampled_from([name for name, _ in walk(cls)]), texts)
    return cls, draw(st.dictionaries(names, values, max_size=5))


@fuzz
@given(parameters())
def test_parameters_are_taken_or_refused_with_their_names(case):
    cls, given_ = case
    try:
        taken = cls.make_values(("keyword", given_))
    except ParameterError as err:
        assert any(repr(name) in str(err) or str(name) in str(err) for name in given_) or "needs" in str(err)
    else:
        assert set(taken.flat()) == {name for name, _ in walk(cls)}


@fuzz
@given(st.data())
def test_text_of_a_command_line_is_taken_or_refused(data):
    cls = recipe(data.draw(st.sampled_from(RECIPES)))
    name, par = data.draw(st.sampled_from(list(walk(cls))))
    text = data.draw(texts)
    try:
        taken = cls.make_values(("command line", {name: text}))
    except ParameterError as err:
        assert name in str(err) or "needs" in str(err)
    else:
        again = cls.make_values(("keyword", {**{n: v for n, v in taken.flat().items() if taken.given(n)}}))
        assert repr(again.flat()[name]) == repr(taken.flat()[name])     # what was read is itself a value


class Memory(PtyScan):
    """Seven frames of 9 x 12 pixels."""

    def load_geometry(self):
        return {"energy": 7.0, "distance": 2.0, "psize": 75e-6, "center": (4, 5)}

    def load_positions(self):
        return np.arange(14.0).reshape(7, 2) * 1e-7

    def load(self, indices):
        return np.random.default_rng(0).poisson(3, (7, 9, 12)).astype("u2")[list(indices)]


NUMERIC = ("shape", "center", "auto_center", "orientation", "rebin", "rebin_mode", "energy", "electron_data",
           "distance", "psize", "positions_theory", "num_frames", "frames", "frames_per_chunk", "min_frames",
           "bad_frames", "compression", "load_parallel", "max_frames", "finish", "save", "label", "version",
           "experimentID")
likely = {"shape": st.one_of(st.integers(0, 14), st.tuples(st.integers(1, 14), st.integers(1, 14))),
          "center": st.one_of(st.floats(-3, 15), st.tuples(st.floats(-3, 12), st.floats(-3, 15)),
                              st.sampled_from(["fft", "fftshift", "geometric", "centre"])),
          "orientation": st.one_of(st.integers(-1, 8), st.tuples(*[st.booleans()] * 3)),
          "rebin": st.integers(0, 6), "rebin_mode": st.sampled_from(["sum", "mean", "max"]),
          "frames": st.sampled_from(["0:3", "::2", "6:", "7:", "3:2", ":", "-2:", "0:9:4", "1"]),
          "num_frames": st.integers(0, 9), "frames_per_chunk": st.integers(0, 9), "threads": st.integers(1, 3),
          "compression": st.sampled_from(["portable", "bslz4", "none", "gzip"]),
          "save": st.sampled_from(["append", "link", "merge", "virtual"])}


@fuzz
@given(st.dictionaries(st.sampled_from(NUMERIC), values, max_size=2),
       st.fixed_dictionaries({}, optional=likely))
def test_a_scan_with_any_parameters_is_prepared_or_refused(tmp_path_factory, wild, tame):
    out = tmp_path_factory.mktemp("scan") / "s.ptyd"
    try:
        scan = Memory({**tame, **wild, "dfile": out}).initialize()
        for batch in scan.batches():
            assert batch.data.shape[1:] == scan.meta.shape and batch.weight.shape == batch.data.shape
    except PtyprepError as err:
        assert str(err) and not out.exists()
    else:
        assert list(problems(out)) == []


# --- files ----------------------------------------------------------------------------------------------

NAMES = ["entry", "data", "data_000001", "data_000002", "instrument", "detector", "detectorSpecific", "pixel_mask",
         "entry_1", "data_1", "instrument_1", "detector_1", "source_1", "energy", "distance", "x_pixel_size",
         "translation", "corner_position", "mask", "chunks", "meta", "info", "0", "1", "positions", "indices",
         "weights", "frame_ids", "shape", "psize", "num_frames", "weight2d", "beam", "incident_energy", "beam_center_x",
         "detector_distance", "sample_1", "geometry_1", "saturation_value", "y", "x", "cxi_version", "count_time"]
PATHS = ["entry/data/data", "entry/data/data_000001", "entry/data/data_000002", "entry_1/data_1/data", "cxi_version",
         "entry_1/instrument_1/detector_1/data", "entry_1/instrument_1/detector_1/mask", "chunks/0/data",
         "chunks/1/data", "chunks/0/positions", "chunks/0/weights", "chunks/0/indices", "meta/energy", "meta/shape",
         "meta/psize", "meta/num_frames", "meta/distance", "meta/center", "meta/weight2d", "info/axis",
         "info/bad_frames/frame_ids",
         "entry/instrument/detector/detectorSpecific/pixel_mask", "entry/instrument/detector/x_pixel_size",
         "entry/instrument/beam/incident_energy", "entry/instrument/detector/beam_center_x",
         "entry/instrument/detector/detectorSpecific/nimages", "entry/instrument/detector/detector_distance",
         "entry_1/instrument_1/source_1/energy", "entry_1/data_1/translation",
         "entry_1/sample_1/geometry_1/translation",
         "entry_1/instrument_1/detector_1/corner_position", "entry_1/instrument_1/detector_1/basis_vectors"]
DTYPES = ["u2", "u4", "i4", "f4", "f8", "?", ">u2", "c8", "S3", "i8", "u1", "f2"]
shapes = st.one_of(st.sampled_from([(3, 8, 8), (2, 8, 8), (8, 8), (1,), (), (3, 2), (2, 2, 8, 8), (0, 8, 8), (3, 0, 8),
                                    (3, 1, 1), (2,), (3,), (3, 3)]),
                   st.lists(st.integers(0, 4), max_size=5).map(tuple))
paths = st.one_of(st.sampled_from(PATHS), st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join))
filters = st.sampled_from([{}, {}, {"chunks": True}, {"compression": "gzip"}, {"compression": "lzf", "shuffle": True},
                           {"compression": "gzip", "fletcher32": True}, dict(hdf5plugin.Bitshuffle(cname="lz4")),
                           dict(hdf5plugin.Bitshuffle(cname="zstd")), dict(hdf5plugin.LZ4()), dict(hdf5plugin.Zstd())])
attributes = st.dictionaries(st.sampled_from(["type", "units", "NX_class", "signal", "crc32", "image_nr_low", "axes"]),
                             st.one_of(texts.map(lambda t: t.replace("\0", "")), st.integers(-9, 2**31),
                                       st.sampled_from(["eV", "J", "mm", "pickle", "scalar", "NXentry", "record_array",
                                                        np.zeros(3), np.bytes_(b"\xff\xfe")])), max_size=2)
nodes = st.one_of(
    st.tuples(st.just("dataset"), shapes, st.sampled_from(DTYPES), filters, st.integers(-3, 300), attributes),
    st.tuples(st.just("dataset"), shapes, st.sampled_from(DTYPES), filters, st.integers(-3, 300), attributes),
    st.tuples(st.just("never written"), st.sampled_from([(3, 8, 8), (10**6, 10**6, 10**6), (2**40,),
                                                           (5, 2**20, 2**20)]), st.sampled_from(DTYPES)),
    st.tuples(st.just("text"), texts.map(lambda t: t.replace("\0", ""))),
    st.tuples(st.just("group"), attributes),
    st.tuples(st.just("soft"), paths), st.tuples(st.just("hard"), paths),
    st.tuples(st.just("external"), st.sampled_from(["absent.h5", "fuzz.h5", "../fuzz.h5", "/dev/null", "other.h5", ".",
                                                    "/etc/passwd", ""]), paths),
    st.tuples(st.just("virtual"), st.sampled_from(["absent.h5", "fuzz.h5", ".", "other.h5"]), paths, st.integers(1, 4)),
    st.tuples(st.just("odd"), st.sampled_from(["compound", "vlen", "empty", "enum", "reference", "opaque", "named"])))


def put(file, path, node):
    kind, *rest = node
    if kind == "dataset":
        shape, dtype, how, value, attrs = rest
        how = how if shape and all(shape) and dtype != "S3" else {}
        file.create_dataset(path, data=np.full(shape, value if dtype != "S3" else b"abc").astype(dtype), **how)
        file[path].attrs.update(attrs)
    elif kind == "never written":
        file.create_dataset(path, rest[0], rest[1], chunks=tuple(min(n, 64) for n in rest[0]))
    elif kind == "text":
        file[path] = rest[0]
    elif kind == "group":
        file.create_group(path).attrs.update(rest[0])
    elif kind == "soft":
        file[path] = h5py.SoftLink("/" + rest[0])
    elif kind == "hard":
        file[path] = file[rest[0]]
    elif kind == "external":
        file[path] = h5py.ExternalLink(rest[0], "/" + rest[1])
    elif kind == "virtual":
        layout = h5py.VirtualLayout((rest[2], 8, 8), "u2")
        layout[0] = h5py.VirtualSource(rest[0], rest[1], (3, 8, 8), "u2")[1]
        file.create_virtual_dataset(path, layout)
    else:
        put_odd(file, path, rest[0])


def put_odd(file, path, kind):
    if kind == "compound":
        file[path] = np.zeros(3, [("a", "u2"), ("b", "f4")])
    elif kind == "vlen":
        file.create_dataset(path, (3,), h5py.vlen_dtype("u2"))[1] = [1, 2]
    elif kind == "empty":
        file[path] = h5py.Empty("f4")
    elif kind == "enum":
        file.create_dataset(path, (3, 8, 8), h5py.enum_dtype({"a": 1, "b": 2}, "u2"))
    elif kind == "reference":
        file.create_dataset(path, (2,), h5py.ref_dtype)[0] = file.ref
    elif kind == "opaque":
        file[path] = np.void(b"\0\1\2")
    else:
        file[path] = np.dtype("u2")


def write(path, tree):
    """A file with these nodes, as far as HDF5 lets them stand beside each other."""
    with h5py.File(path, "w") as file:
        for place, node in tree.items():
            try:
                put(file, place, node)
            except (ValueError, OSError, KeyError, TypeError, RuntimeError, OverflowError):
                continue


trees = st.dictionaries(paths, nodes, max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Makes a new folder for each example, with a good file in it that others may link to."""
    count = itertools.count()
    base = tmp_path_factory.mktemp("trees")
    with h5py.File(base / "other.h5", "w") as file:
        for name in ("entry/data/data", "data", "entry/data/data_000001"):
            file.create_dataset(name, data=np.ones((3, 8, 8), "u2"), **hdf5plugin.Bitshuffle(cname="lz4"))

    def make():
        at = base / str(next(count))
        at.mkdir()
        os.link(base / "other.h5", at / "other.h5")
        return at
    return make


def only_ours(do, *args, **keywords):
    """What a call gives, or None where it refuses with an error of ours that says something."""
    try:
        return do(*args, **keywords)
    except PtyprepError as err:
        assert len(str(err)) > 10


def look_at(path):
    """Everything that a user does first with a file."""
    only_ours(show_text, path, trusted=True)      # as the other commands: HDF5 has written it, and 0.2 s are many here
    frames = only_ours(open_frames, path)
    if frames is not None:
        n, h, w = frames.shape
        for index in {0, n - 1}:
            only_ours(frames.read, [index])
        frames.close()
    only_ours(lambda: list(problems(path, trusted=True)))
    only_ours(merge, path, path.with_suffix(".merged"), drop=True, overwrite=True, trusted=True)
    start = zlib.crc32(path.read_bytes()[:4096]) % len(BEAMLINES)       # of the beamlines' some, the same for a file
    for name in GENERAL + (BEAMLINES * 2)[start:start + 3]:
        prepare(recipe(name), path)


def prepare(cls, path):
    parameter = source_parameter(cls)
    if parameter is None:
        return
    for more in ({}, {"energy": 7, "distance": 2, "psize": 1e-4, "center": 4, "bad_frames": "drop",
                      "positions_theory": np.zeros((3, 2))}):
        def run():
            scan = cls({parameter: path, "dfile": path.with_suffix(".ptyd"), "overwrite": True, **more})  # noqa: B023
            scan.look()
            plan_text(scan)
            scan = cls({parameter: path, **more}).initialize()      # noqa: B023
            for _ in itertools.islice(scan.batches(3), 3):
                pass
        only_ours(run)


@fuzz
@given(trees)
def test_any_tree_of_hdf5_is_read_or_refused(folder, tree):
    path = folder() / "fuzz.h5"
    write(path, tree)
    look_at(path)


# Whole files, of which one thing is replaced: nearer to what is read than anything that chance puts together.

def dectris():
    return {"entry/data/data_000001": ("external", "other.h5", "entry/data/data"),
            "entry/instrument/detector/detectorSpecific/pixel_mask": ("dataset", (8, 8), "u4", {}, 0, {}),
            "entry/instrument/detector/detectorSpecific/nimages": ("dataset", (), "u4", {}, 3, {}),
            "entry/instrument/detector/x_pixel_size": ("dataset", (), "f8", {}, 1, {"units": "mm"}),
            "entry/instrument/detector/y_pixel_size": ("dataset", (), "f8", {}, 1, {"units": "mm"}),
            "entry/instrument/detector/detector_distance": ("dataset", (), "f8", {}, 2, {"units": "m"}),
            "entry/instrument/detector/beam_center_x": ("dataset", (), "f8", {}, 4, {}),
            "entry/instrument/detector/beam_center_y": ("dataset", (), "f8", {}, 4, {}),
            "entry/instrument/beam/incident_energy": ("dataset", (), "f8", {}, 280, {"units": "eV"})}


def cxi():
    base = "entry_1/instrument_1"
    return {"cxi_version": ("dataset", (), "i4", {}, 160, {}),
            f"{base}/detector_1/data": ("dataset", (3, 8, 8), "u2", {}, 5, {}),
            f"{base}/detector_1/mask": ("dataset", (8, 8), "u4", {}, 0, {}),
            f"{base}/detector_1/distance": ("dataset", (), "f8", {}, 1, {}),
            f"{base}/detector_1/x_pixel_size": ("dataset", (), "f8", {}, 1, {}),
            f"{base}/detector_1/y_pixel_size": ("dataset", (), "f8", {}, 1, {}),
            f"{base}/source_1/energy": ("dataset", (), "f8", {}, 1, {}),
            "entry_1/data_1/translation": ("dataset", (3, 3), "f8", {}, 0, {})}


def ptyd():
    chunk = {"data": ((3, 8, 8), "u2"), "positions": ((3, 2), "f8"), "indices": ((3,), "i8"),
             "weights": ((3, 8, 8), "u1")}
    return {**{f"chunks/{n}/{name}": ("dataset", shape, dtype, {}, 1, {"type": "array"})
               for n in (0, 1) for name, (shape, dtype) in chunk.items()},
            **{f"meta/{name}": ("dataset", shape, "f8", {}, 8, {"type": "scalar"})
               for name, shape in {"energy": (), "distance": (), "psize": (2,), "shape": (2,), "num_frames": (),
                                   "center": (2,), "version": ()}.items()},
            "info/axis": ("dataset", (2,), "f8", {}, 4, {"type": "array"})}


@fuzz
@given(st.data())
@pytest.mark.parametrize("layout", [dectris, cxi, ptyd])
def test_a_known_layout_with_odd_things_in_it_is_read_or_refused(folder, layout, data):
    tree = layout()
    for place in data.draw(st.lists(st.sampled_from(sorted(tree)), max_size=3, unique=True)):
        tree[place] = data.draw(nodes)
    tree = {**{k: v for k, v in data.draw(trees).items() if k not in tree}, **tree}
    gone = data.draw(st.lists(st.sampled_from(sorted(tree)), max_size=1))
    path = folder() / "fuzz.h5"
    write(path, {k: v for k, v in tree.items() if k not in gone})
    look_at(path)


@fuzz
@given(st.binary(max_size=300), st.sampled_from(["", "\x89HDF\r\n\x1a\n", "\x93NUMPY\x01\x00"]),
       st.sampled_from([".h5", ".npy", ".cxi", ".ptyd", "_master.h5"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, magic, suffix):
    path = tmp_path_factory.mktemp("bytes") / f"fuzz{suffix}"
    path.write_bytes(magic.encode("latin1") + content)
    look_at(path)


@fuzz
@given(st.text(string.printable, max_size=200))
def test_any_table_of_positions_is_read_or_refused(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("tables")
    (folder / "positions.txt").write_text(text)
    np.save(folder / "frames.npy", np.ones((3, 8, 8), "u2"))
    cls = recipe("hdf5")
    with h5py.File(folder / "raw.h5", "w") as file:
        file["data"] = np.ones((3, 8, 8), "u2")
    only_ours(lambda: cls({source_parameter(cls): folder / "raw.h5", "positions.file": folder / "positions.txt",
                           "energy": 7, "distance": 2, "psize": 1e-4, "center": 4}).initialize())
