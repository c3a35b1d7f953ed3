"""Every way to save, on one rank and on three, for scans of any length: the same frames, positions, masks and meta."""
import h5py
import numpy as np
import pytest

from ptyprep.ptyd.repair import merge
from ptyprep.ptyd.verify import problems
from ptyprep.sinks import SINKS
from ptyprep.testing import mpirun, read_ptyd, run_on_ranks

pytestmark = pytest.mark.slow

LENGTHS = {"even": 12, "odd": 11, "fewer than ranks": 2}

SCRIPT = '''
import sys
from pathlib import Path
import numpy as np
from ptyprep import PtyScan

class Scan(PtyScan):
    """Numbered frames, one of them with an overflow, ready at once or one after the other."""
    live, length = False, 0
    def load_geometry(self):
        return {"energy": 7.0, "distance": 2.0, "psize": (75e-6, 50e-6), "center": (6, 5)}
    def load_positions(self):
        return np.arange(self.length)[:, None] * [1e-7, -2e-7]
    def check(self, frames, start):
        if not self.live:
            return super().check(frames, start)
        self.seen = getattr(self, "seen", 0) + 1        # each look finds one more
        there = min(self.seen, self.length)
        return min(frames, there - start), there == self.length
    def load(self, indices):
        frames = np.random.default_rng(8).poisson(9, (self.length, 12, 10)).astype("u2")
        frames[self.length // 2, 2, 2] = 2**16 - 1
        return frames[list(indices)]

folder = Path(sys.argv[1])
for length in LENGTHS:
    for live in (False, True):
        for mode in MODES:
            for chunk in (1, 3, 5):
                scan = Scan(dfile=folder / f"{mode}-{length}-{live:d}-{chunk}.ptyd", save=mode, orientation=5, rebin=2)
                scan.live, scan.length = live, length
                for batch in scan.initialize().batches(chunk, pause=0):
                    pass
'''


def expected(length):
    """(frames, masks) by plain NumPy: about (6, 5) the region begins at row 2 and column 1, and so reaches 2 rows and
    1 column beyond the frame; then transposed, columns flipped, 2 x 2 pixels added, good where all four are."""
    frames = np.random.default_rng(8).poisson(9, (length, 12, 10)).astype("u4")
    good = np.ones(frames.shape, bool)
    frames[length // 2, 2, 2], good[length // 2, 2, 2] = 2**16 - 1, False
    frames, good = (np.pad(a, [(0, 0), (0, 2), (0, 1)])[:, 2:, 1:].swapaxes(1, 2)[..., ::-1] for a in (frames, good))
    blocks = [(i, j) for i in range(2) for j in range(2)]
    return sum(frames[:, i::2, j::2] for i, j in blocks), np.all([good[:, i::2, j::2] for i, j in blocks], axis=0)


@pytest.fixture(scope="module", params=[1, pytest.param(3, marks=pytest.mark.mpi)])
def files(request, tmp_path_factory):
    """A folder with every file, written on so many ranks."""
    assert mpirun(), "make test installs one"
    folder = tmp_path_factory.mktemp(f"ranks{request.param}")
    script = folder / "scan.py"
    script.write_text(SCRIPT.replace("LENGTHS", str(list(LENGTHS.values()))).replace("MODES", str(list(SINKS))))
    job = run_on_ranks(request.param, script, folder, timeout=200)
    assert job.returncode == 0, job.stderr
    return folder


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("mode", SINKS)
def test_the_same_whatever_the_mode_the_ranks_and_the_chunks(files, mode, length):
    frames, good = expected(length)
    for live in (0, 1):
        for chunk in (1, 3, 5):
            path = files / f"{mode}-{length}-{live}-{chunk}.ptyd"
            got = read_ptyd(path)
            assert np.array_equal(got["data"], frames) and got["data"].dtype == "u4", path.name
            assert np.array_equal(got["weights"], good), path.name
            assert got["frame_ids"].tolist() == got["indices"].tolist() == list(range(length))
            assert np.array_equal(got["positions"], np.arange(length)[:, None] * [1e-7, -2e-7])
            with h5py.File(path) as file:
                meta = {k: v[()].tolist() for k, v in file["meta"].items() if v.dtype.kind in "if"}
                assert len(file["chunks"]) == (1 if mode == "merge" else -(-length // chunk))
            assert meta == {"version": 0.1, "num_frames": length, "label": [0.0], "shape": [5, 6], "energy": 7.0,
                            "psize": [1e-4, 1.5e-4], "center": [2.0, 3.0], "distance": 2.0}


@pytest.mark.parametrize("mode", SINKS)
def test_each_is_whole_and_merges_into_the_same(files, mode, tmp_path):
    for path in sorted(files.glob(f"{mode}-11-*.ptyd")):
        assert list(problems(path)) == []
        out = tmp_path / path.name
        assert merge(path, out) == [] and list(problems(out)) == []
        one, other = read_ptyd(path), read_ptyd(out)
        assert all(np.array_equal(one[name], other[name]) for name in one)
        with h5py.File(path) as a, h5py.File(out) as b:
            assert list(b["chunks"]) == ["0"]
            assert a["meta/energy"][()] == b["meta/energy"][()] and "origins" in b["info"]
