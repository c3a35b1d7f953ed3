"""NumPy arrays and .npy files."""
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import in_memory
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.lib.format import write_array

from ptyprep.errors import SourceError
from ptyprep.processing.plan import Window
from ptyprep.sources import ArrayFrames, NpyFile, layout_of, open_frames

FRAMES = np.arange(6 * 5 * 4, dtype="u2").reshape(6, 5, 4)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_frames(tmp_path, where):
    np.save(tmp_path / "f.npy", FRAMES)
    source = ArrayFrames(FRAMES) if where == "memory" else open_frames(tmp_path / "f.npy")
    assert source.shape == (6, 5, 4) and source.dtype == "u2" and source.grid is None and source.progress() == (6, True)
    got = source.read([5, 1], Window(slice(1, 4), slice(0, 2)))
    assert np.array_equal(got, FRAMES[[5, 1], 1:4, 0:2])
    got[:] = 0                                      # what is read belongs to the reader
    assert np.array_equal(source.read(range(6)), FRAMES)
    assert source.read([]).shape == (0, 5, 4)


def test_a_raster(tmp_path):
    source = ArrayFrames(FRAMES.reshape(2, 3, 5, 4))
    assert source.grid == (2, 3) and np.array_equal(source.read([4]), FRAMES[[4]])


def test_npy_files_are_known_by_their_first_bytes(tmp_path):
    np.save(tmp_path / "f.npy", FRAMES)
    (tmp_path / "f.npy").rename(tmp_path / "frames.dat")
    assert layout_of(tmp_path / "frames.dat") is NpyFile


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 2)), np.zeros((2, 3, 4), complex), [[[1]]], None])
def test_what_is_no_stack_of_real_numbers_is_refused(array):
    with pytest.raises(SourceError, match=r"array: .*expected real numbers \(n, h, w\)"):
        ArrayFrames(array)


def test_npy_files_that_are_none(tmp_path):
    np.save(tmp_path / "cut.npy", FRAMES)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-50])
    np.save(tmp_path / "pickle.npy", np.array([{}], object), allow_pickle=True)
    for name in ("cut.npy", "pickle.npy", "absent.npy"):
        with pytest.raises(SourceError, match=f"{name}: cannot be read as a .npy file"):
            NpyFile(tmp_path / name)
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "empty").touch()
    for name, words in (("text.txt", "not a file that is understood; expected a DECTRIS master, CXI"),
                        ("empty", "an empty file"),
                        ("gone", "no such file"), (".", "a folder; expected a file")):
        with pytest.raises(SourceError, match=words):
            open_frames(tmp_path / name)


@st.composite
def arrays(draw):
    """An array of frames, in any order, and which frames and pixels of it are asked for."""
    lead = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=2)))
    h, w = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    kind = draw(st.sampled_from(["u1", "<u2", ">u2", ">i4", "<f4", ">f8", "?", "<u8"]))
    array = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 200, (*lead, h, w)).astype(kind)
    if draw(st.booleans()):
        array = np.asfortranarray(array)
    n = int(np.prod(lead))
    indices = draw(st.lists(st.integers(0, n - 1), max_size=12))
    rows, cols = (sorted(draw(st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True))) for size in (h, w))
    return array, indices, draw(st.sampled_from([None, Window(slice(*rows), slice(*cols))]))


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays(), st.sampled_from([(1, 0), (2, 0), (3, 0)]), st.sampled_from([1, 3]), st.data())
@pytest.mark.filterwarnings("ignore:Stored array in format")
def test_npy_files_are_read_as_numpy_reads_them(tmp_path, asked, version, threads, data):
    array, indices, window = asked
    path = tmp_path / "a.npy"
    with open(path, "wb") as file:
        write_array(file, array, version)
    stored = np.load(path)
    outer = None
    if stored.ndim == 4 and data.draw(st.booleans()):
        outer = data.draw(st.integers(0, len(stored) - 1))
        stored, indices = stored[outer], [i % stored.shape[1] for i in indices]
    source = NpyFile(path, outer)
    assert source.grid == (None if stored.ndim == 3 else stored.shape[:2])
    source.threads = threads
    frames = stored.reshape(-1, *stored.shape[-2:])[indices]
    got = source.read(indices, window)
    assert got.dtype == stored.dtype and np.array_equal(got, frames if window is None else window.cut(frames))
    wide = np.zeros(got.shape, "f8")[:, ::-1]       # what is given to fill need not be as the file is
    with source.reader(window) as fill:
        fill(indices, wide)
    assert np.array_equal(wide, got)


def test_headers_that_lie_allocate_nothing(tmp_path):
    for shape, words in (((1 << 40, 512, 512), "fewer than"), ((-1, 5, 4), "fewer than"), ((3, 5, 1 << 62), "fewer")):
        header = f"{{'descr': '<u2', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
        tracemalloc.start()
        with pytest.raises(SourceError, match=f"a.npy: cannot be read as a .npy file .*{words}"):
            NpyFile(tmp_path / "a.npy")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()
    np.save(tmp_path / "a.npy", FRAMES)
    raw = bytearray((tmp_path / "a.npy").read_bytes())
    raw[6] = 9
    (tmp_path / "a.npy").write_bytes(raw)
    with pytest.raises(SourceError, match="a.npy: cannot be read as a .npy file"):
        NpyFile(tmp_path / "a.npy")


CUT = """
import os, sys
import numpy as np
from ptyprep.errors import SourceError
from ptyprep.sources import open_frames
source = open_frames(sys.argv[1], threads=int(sys.argv[2]))
source.read(range(10))
os.truncate(sys.argv[1], os.path.getsize(sys.argv[1]) // 2)
try:
    source.read(range(40))
except SourceError as err:
    print(err)
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_that_is_cut_between_blocks_is_an_error_and_no_signal(tmp_path, threads, order):
    np.save(tmp_path / "f.npy", np.ones((40, 256, 128), "u2", order=order))
    done = subprocess.run([sys.executable, "-c", CUT, str(tmp_path / "f.npy"), threads], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done
    assert "f.npy" in done.stdout and "cannot be read: the file ends at" in done.stdout and "was it cut" in done.stdout


def test_a_file_that_is_cut_again_and_again_while_it_is_read(tmp_path):
    path, frames = tmp_path / "f.npy", np.ones((64, 64, 64), "u2")
    np.save(path, frames)
    raw, source, end = path.read_bytes(), NpyFile(path), threading.Event()

    def cut():
        while not end.is_set():
            os.truncate(path, 5000)
            path.write_bytes(raw)
    other = threading.Thread(target=cut)
    other.start()
    try:
        heard = []
        for _ in range(100):
            try:
                assert np.array_equal(source.read(range(64)), frames)
            except SourceError as err:
                heard.append(str(err))
    finally:
        end.set()
        other.join()
    assert all("f.npy" in text for text in heard)


def test_nothing_is_mapped_into_memory():
    root = Path(__file__).parents[2]
    code = [path.read_text() for folder in ("ptyprep", "recipes") for path in (root / folder).rglob("*.py")]
    assert len(code) > 50 and not [text for text in code if "mmap_mode" in text or "memmap" in text]


# --- source ----------------------------------------------------------------------------------------------

def test_array_frames_are_a_source():
    assert ArrayFrames(in_memory.FRAMES).read([3], None).shape == (1, 16, 18)
