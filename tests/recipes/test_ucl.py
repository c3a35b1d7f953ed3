"""Recipe ucl: files counted from 1, and what is beside them."""
import h5py
import numpy as np
import pytest
from ptyprep_recipes._layouts import ucl

from ptyprep import recipe
from ptyprep.errors import ParameterError, SourceError
from ptyprep.testing import Tiny

Ucl = recipe("ucl")


@pytest.fixture
def written(tmp_path):
    tiny = Tiny.make(rows=2, columns=3)
    return ucl.raw(tmp_path, tiny)[0], tiny, tmp_path / "raw" / "000005"


def positions_of(pars, **more):
    return np.concatenate([b.position for b in Ucl({**pars, **more}).initialize().batches()])


@pytest.mark.parametrize("absent", [1, 3])
def test_no_frame_moves_where_one_is_missing(written, absent):
    pars, tiny, folder = written
    (folder / f"000005_{absent:04d}.nxs").unlink()
    with pytest.raises(SourceError, match=f"000005_{absent:04d}.nxs: no such file.*bad_frames"):
        Ucl(pars).initialize()
    left = np.delete(tiny.positions, absent - 1, axis=0)
    assert np.allclose(positions_of(pars, bad_frames="drop"), left, atol=1e-12)


def test_numbers_may_outgrow_their_zeros(written):
    pars, tiny, folder = written
    for number in range(1, 7):
        (folder / f"000005_{number:04d}.nxs").rename(folder / f"000005_{9997 + number}.nxs")
    assert np.allclose(positions_of(pars, first_number=9998), tiny.positions, atol=1e-12)


@pytest.mark.parametrize("stray", ["000006_0001.nxs", "000005_1.nxs", "000005_test.nxs"])
def test_files_of_another_scan_are_refused(written, stray):
    pars, _, folder = written
    (folder / stray).write_bytes(b"")
    with pytest.raises(SourceError, match=f"{folder}.*one scan"):
        Ucl(pars).initialize()


def test_frame_before_the_first_is_refused(written):
    pars, _, folder = written
    (folder / "000005_0000.nxs").write_bytes(b"")
    with pytest.raises(SourceError, match="000005_0000.nxs is before first_number=1"):
        Ucl(pars).initialize()


def test_several_exposures_in_a_file_are_refused(written):
    pars, _, folder = written
    with h5py.File(folder / "000005_0002.nxs", "w") as file:
        file["entry/instrument/detector/data"] = np.ones((2, 16, 20), "u2")
    with pytest.raises(SourceError, match=r"000005_0002.nxs: .* has shape \(2, 16, 20\); expected one frame"):
        Ucl(pars).initialize()


def test_units_and_axes_of_the_metadata(written):
    pars, tiny, folder = written
    assert np.allclose(positions_of(pars, **{"positions.swap": True}), tiny.positions[:, ::-1], atol=1e-12)
    assert np.allclose(positions_of(pars, **{"positions.unit": "um"}), tiny.positions * 1e-3, atol=1e-15)
    with h5py.File(folder / "000005_metadata.h5", "a") as file:
        file["positions"].attrs["units"] = "nm"
    assert np.allclose(positions_of(pars), tiny.positions * 1e-6, atol=1e-18)


def test_what_is_missing_is_asked_for_in_the_words_of_a_laser(written):
    pars, _, folder = written
    (folder / "000005_metadata.h5").unlink()
    less = {name: value for name, value in pars.items() if name != "wavelength"}
    with pytest.raises(ParameterError, match="(?s)energy, positions.*wavelength='635 nm'.*positions.file"):
        Ucl(less).initialize()
    with pytest.raises(ParameterError, match="energy and wavelength"):
        Ucl(pars, energy=0.002).initialize()


def test_635_nm(written):
    pars, _, _ = written
    assert Ucl({**pars, "wavelength": "635 nm"}).initialize().p.energy == pytest.approx(1.952507e-3, rel=1e-6)
