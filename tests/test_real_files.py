"""Files of real detectors, in a folder beside the project; the answers are plain h5py's, cut by hand."""
import re
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest
from ptyprep_recipes.cxi import Cxi
from ptyprep_recipes.eiger import Eiger
from ptyprep_recipes.hdf5 import Hdf5

from ptyprep import recipe
from ptyprep.cli.show import show_text
from ptyprep.errors import ParameterError, SourceError
from ptyprep.sources import DectrisMaster, Hdf5Stack, open_frames
from ptyprep.testing import read_ptyd

DATA = Path(__file__).parents[2] / "shared" / "data"
pytestmark = pytest.mark.real


def real(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return path


def prepare(cls, path, **pars):
    for _ in cls({**pars, "dfile": path}).initialize().batches():
        pass
    return read_ptyd(path)


# --- ARINA, an electron detector whose file records nonsense ----------------------------------------------

def arina(tmp_path):
    """All that its file does not say."""
    path = real("eiger/arina_test_00/test_00_master.h5")
    np.save(tmp_path / "p.npy", np.random.default_rng(1).normal(size=(16, 2)) * 1e-9)
    return {"file": path, "electron_data": True, "distance": 0.2, "center": (96, 95),
            "positions.file": tmp_path / "p.npy"}


def test_arina(tmp_path):
    pars = arina(tmp_path)
    found = prepare(Eiger, tmp_path / "a.ptyd", **pars, shape=128)
    with h5py.File(pars["file"]) as file:
        expected = file["entry/data/data_000001"][:, 96 - 64:96 + 64, 95 - 64:95 + 64]
    assert found["data"].dtype == np.uint32 and np.array_equal(found["data"], expected)
    assert np.array_equal(found["positions"], np.load(tmp_path / "p.npy"))
    with h5py.File(tmp_path / "a.ptyd") as file:        # 300 keV electrons have 1.96875 pm
        assert file["meta/energy"][()] == pytest.approx(12.39841984 / 0.01968749, rel=1e-5)
        assert file["meta/distance"][()] == 0.2 and file["meta/num_frames"][()] == 16


@pytest.mark.parametrize("absent", ["electron_data", "distance", "center", "positions.file"])
def test_arina_without_one_of_them_names_it(tmp_path, absent):
    pars = arina(tmp_path)
    del pars[absent]
    with pytest.raises(ParameterError) as err:
        prepare(Eiger, tmp_path / "a.ptyd", **pars)
    named = str(err.value).split(": ", 1)[1].split(":")[0]
    assert named == absent.removesuffix(".file") and absent in str(err.value)
    assert not (tmp_path / "a.ptyd").exists()


def test_the_scan_file_beside_the_master_is_no_master():
    path = real("eiger/arina_test_00/test_00.h5")
    with pytest.raises(SourceError, match="test_00.h5: no entry/data/data_000001.*expected a DECTRIS master"):
        DectrisMaster(path)
    with pytest.raises(SourceError, match="test_00.h5: expected one stack of frames, found"):
        Hdf5Stack(path)
    assert "test_00.h5" in show_text(path)


# --- PETRA III, near field, CXI --------------------------------------------------------------------------

def test_petra(tmp_path):
    path = real("ptycho/PETRAIII_P25_Near_Field_Ptycho.cxi")
    found = prepare(Cxi, tmp_path / "p.ptyd", file=path)
    with h5py.File(path) as file:
        data, mask = file["entry_1/data_1/data"][()], file["entry_1/instrument_1/detector_1/mask"][()]
        moves = file["entry_1/sample_1/geometry_1/translation"][()].astype(float)
    assert np.array_equal(found["data"], data) and (found["weights"] == (mask == 0)).all()
    # rows = +y and columns = +x reconstruct the Siemens star, the three other choices do not (PROVENANCE.md)
    np.testing.assert_allclose(found["positions"], moves[:, [1, 0]], rtol=1e-6, atol=1e-12)
    with h5py.File(tmp_path / "p.ptyd") as file:
        assert file["meta/energy"][()] == pytest.approx(12.66, rel=1e-3)
        assert file["meta/psize"][()] == pytest.approx(55e-6)
        assert file["meta/distance"][()] == pytest.approx(1.12, rel=1e-2)
        assert file["meta/center"][()].tolist() == [50, 50]
    assert recipe("auto", path) is Cxi


# --- EIGER 4M ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("rebin, orientation", [(1, 0), (2, 6)])
def test_a_frame_of_an_eiger_4m(tmp_path, rebin, orientation):
    path = real("hdf5_generic/bitshuffle.h5")
    with h5py.File(path) as file:
        frame = file["entry/data/data"][0]
    assert frame.shape == (2167, 2070)
    np.save(tmp_path / "p.npy", np.zeros((1, 2)))
    found = prepare(Hdf5, tmp_path / "e.ptyd", rebin=rebin, orientation=orientation, shape=(512, 600),
                    center=(1000, 1200.4),
                    energy=8, distance=2, psize=75e-6,
                    **{"intensities.file": path, "positions.file": tmp_path / "p.npy"})
    if rebin == 1:
        data = frame[1000 - 256:1000 + 256, 1200 - 300:1200 + 300]
        good = data != 2**32 - 1
    else:           # transposed, then rows flipped: raw columns are
        rows = int(np.floor(1000 - 2 * 128 - 0.5 + 0.5))
        cols = int(np.floor(1200.4 - (599 - 2 * 150 - 0.5) + 0.5))
        part = frame[rows:rows + 512, cols:cols + 600]
        good = (part != 2**32 - 1).reshape(256, 2, 300, 2).all(axis=(1, 3)).T[::-1]
        data = part.astype("u8").reshape(256, 2, 300, 2).sum(axis=(1, 3)).T[::-1]
    assert np.array_equal(found["weights"][0], good) and 0 < (~good).sum() < good.size
    assert np.array_equal(found["data"][0][good], data[good])


# --- others -----------------------------------------------------------------------------------------------

def test_a_raster_of_libertem(tmp_path):
    path = real("hdf5_generic/hdf5_sample.h5")
    source = open_frames(path)
    with h5py.File(path) as file:
        expected = file["dataset"][()]
    assert source.grid == (16, 16)
    assert np.array_equal(source.read([0, 17, 255]), expected.reshape(256, 16, 16)[[0, 17, 255]])


def test_nexus_of_odin_whose_data_are_not_here():
    path = real("odin_nxmx/hyperion_ins_8_5/ins_8_5.nxs")
    with pytest.raises(SourceError) as err:
        source = open_frames(path)
        source.read([0])
    assert re.search(r"ins_8_5.*ins_8_5_000001.h5", str(err.value)), str(err.value)
    assert "ins_8_5" in show_text(path)
