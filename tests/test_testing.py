"""The kit for recipe authors: its files are as they say, and `check_recipe` finds each broken rule."""
import textwrap
import time

import h5py
import hdf5plugin  # noqa: F401
import in_memory
import numpy as np
import pytest

from ptyprep import Par, PtyScan, recipe
from ptyprep.errors import RecipeError
from ptyprep.testing import check_recipe, mpirun, read_ptyd, run_on_ranks, write_dectris, write_positions

FRAMES = np.random.default_rng(1).poisson(5, (6, 12, 14)).astype("u2")


class Good(PtyScan):
    """A recipe that keeps the contract."""
    energy, distance, psize, center = Par(8.0), Par(1.0), Par(1e-4), Par("fftshift")

    def load_positions(self):
        return np.arange(12.0).reshape(6, 2) * 1e-6

    def load(self, indices):
        return FRAMES[list(indices)]


@pytest.mark.slow
def test_a_good_recipe_passes_every_check():
    done = check_recipe(Good, ranks=1)
    assert len(done) == 7 and "one rank and several prepare the same" not in done
    if mpirun():
        assert len(check_recipe(Good, ranks=3)) == 8
    assert len(check_recipe(Good, ranks=1, shape=(8, 10), rebin=2, orientation=6, frames="1::2")) == 7


class Undocumented(Good):
    speed: float = Par(1.0, doc="Speed.")


class InMillimetres(Good):
    """Positions in another unit."""

    def load_positions(self):
        return np.arange(12.0).reshape(6, 2) * 1e3


class Forgetful(Good):
    """Frames depend on what was asked for before."""

    def load(self, indices):
        return FRAMES[:len(indices)]


class Cropping(Good):
    """Cuts by itself, at the wrong place."""

    def load(self, indices):
        frames = super().load(indices)
        return frames if self.plan is None else frames[:, :self.window.shape[0], :self.window.shape[1]]


class Growing(Good):
    """Scales by the mean of what comes together."""

    def correct(self, raw, weights, common):
        return raw / raw.mean(), weights


class Nowhere(Good):
    """A position is missing."""

    def load_positions(self):
        positions = super().load_positions()
        positions[2] = np.nan
        return positions


@pytest.mark.parametrize("cls, words", [
    (Undocumented, "parameter speed is a number without a unit"),
    (InMillimetres, "positions span 10000 m: are they in metres"),
    (Forgetful, "load gives each frame the same.*frame"),
    (Cropping, "a region cut while reading.*does load return the whole raw frame"),
    (Growing, "the size of a chunk changes nothing.*data differ"),
    (Nowhere, "every frame has a finite position.*not finite"),
])
def test_each_broken_rule_is_found(cls, words):
    with pytest.raises(RecipeError, match=words):
        check_recipe(cls, ranks=1)


@pytest.mark.slow
@pytest.mark.skipif(mpirun() is None, reason="no mpirun here")
def test_a_recipe_that_knows_its_rank_is_found(tmp_path):
    (tmp_path / "ranked.py").write_text(textwrap.dedent("""
        import os
        import numpy as np
        from ptyprep import Par, PtyScan
        class Ranked(PtyScan):
            "Frames differ from rank to rank."
            energy, distance, psize, center = Par(8.0), Par(1.0), Par(1e-4), Par("fftshift")
            def load_positions(self):
                return np.zeros((6, 2))
            def load(self, indices):
                return np.full((len(indices), 8, 8), int(os.environ.get("OMPI_COMM_WORLD_RANK", 0)), "u2")
    """))
    with pytest.raises(RecipeError, match="one rank and several prepare the same: data differ"):
        check_recipe(recipe(str(tmp_path / "ranked.py")), ranks=3)


@pytest.mark.slow
@pytest.mark.skipif(mpirun() is None, reason="no mpirun here")
def test_run_on_ranks():
    job = run_on_ranks(3, "-c", "from mpi4py import MPI; print('rank', MPI.COMM_WORLD.rank)")
    assert job.returncode == 0 and sorted(job.stdout.split("\n")[:-1]) == ["rank 0", "rank 1", "rank 2"]
    assert run_on_ranks(2, "-c", "raise SystemExit(3)").returncode != 0
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="on 2 ranks did not end in 2 s"):
        run_on_ranks(2, "-c", "import time; time.sleep(60)", timeout=2)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("compression", ["bslz4", "lz4", None])
def test_a_tiny_dectris_scan_is_one_that_plain_h5py_reads(tmp_path, compression):
    files = write_dectris(tmp_path / "s_master.h5", FRAMES, frames_per_file=4, links=9, compression=compression,
                          virtual=True,
                          energy=7.0, distance=1.5, psize=(75e-6, 75e-6), center=(3, 4), pixel_mask=np.ones((12, 14)))
    assert [f.name for f in files] == ["s_data_000001.h5", "s_data_000002.h5"]
    with h5py.File(tmp_path / "s_master.h5") as file:
        assert np.array_equal(np.concatenate([file[f"entry/data/data_00000{i}"] for i in (1, 2)]), FRAMES)
        assert np.array_equal(file["entry/data/data"], FRAMES)
        assert len(file["entry/data"]) == 10 and file["entry/data"].get("data_000009") is None
        assert file["entry/instrument/detector/detectorSpecific/photon_energy"][()] == 7000
        assert file["entry/instrument/beam/incident_wavelength"][()] == pytest.approx(12.39841984 / 7, rel=1e-8)
        assert file["entry/data/data_000002"].attrs["image_nr_low"] == 5


@pytest.mark.parametrize("unit", ["m", "mm", "um", "nm"])
def test_positions_are_written_to_the_last_bit_or_nearly(tmp_path, unit):
    positions = np.random.default_rng(1).normal(size=(9, 2)) * 1e-6
    path = write_positions(tmp_path / "p.txt", positions, unit=unit)
    factor = {"m": 1, "mm": 1e-3, "um": 1e-6, "nm": 1e-9}[unit]
    np.testing.assert_allclose(np.loadtxt(path) * factor, positions, rtol=1e-15)
    assert path.read_text().startswith(f"# y[{unit}] x[{unit}]\n")


def test_read_ptyd(tmp_path):
    for _ in Good(dfile=tmp_path / "g.ptyd").initialize().batches(4):
        pass
    found = read_ptyd(tmp_path / "g.ptyd")
    assert np.array_equal(found["data"], FRAMES) and found["weights"].all() and found["weights"].shape == FRAMES.shape
    assert found["indices"].tolist() == list(range(6))


# --- hooks -----------------------------------------------------------------------------------------------

def test_a_hook_that_is_nearly_right_is_named():
    class Nearly(in_memory.Scan):
        """Misspelt."""

        def load_position(self):
            return in_memory.POSITIONS
    with pytest.raises(RecipeError, match=r"load_position\(\) is never called; is \['load_positions'\] meant"):
        check_recipe(Nearly, ranks=1)
