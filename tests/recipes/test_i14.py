"""I14: what the file does not have, has twice, or has in another unit."""
import h5py
import numpy as np
import pytest
from ptyprep_recipes._layouts import i14

from ptyprep import recipe
from ptyprep.errors import ParameterError, SourceError
from ptyprep.testing import Tiny

I14 = recipe("i14")


@pytest.fixture
def master(tmp_path):
    pars, scan = i14.mapping(tmp_path, Tiny.make())
    return tmp_path / "i14-264401.nxs", pars, scan


def test_the_unit_in_the_file_wins(master):
    path, pars, tiny = master
    with h5py.File(path, "a") as file:
        for name in ("SampleY_value_set", "SampleX_value_set"):
            file[f"entry/merlin_addetector/{name}"][...] *= 1e3
            file[f"entry/merlin_addetector/{name}"].attrs["units"] = "um"
    scan = I14(pars).initialize()
    assert np.allclose(scan.positions, tiny.positions, rtol=0, atol=1e-15)


def test_readbacks_that_are_not_there_are_replaced_and_it_says_so(master):
    path, pars, tiny = master
    scan = I14({**pars, "motors.values": "readback"}).initialize()
    assert np.allclose(scan.positions, tiny.positions, rtol=0, atol=1e-15)
    assert any("readback values are not there" in note and "SampleY_value_set" in note for note in scan.notes)


def test_a_distance_is_not_taken_unless_named(master):
    path, pars, tiny = master
    del pars["recorded_distance.key"]
    with pytest.raises(ParameterError, match=r"recorded_distance\.key, such as entry/instrument/detectors/xreye_z"):
        I14(pars).initialize()


def test_a_distance_without_a_unit_is_in_millimetres(master):
    path, pars, tiny = master
    scan = I14(pars).initialize()
    assert scan.p.distance == pytest.approx(2.25)
    assert any("xreye_z; it has no unit and is taken as mm" in note for note in scan.notes)


def test_a_detector_whose_folder_is_missing(master):
    path, pars, tiny = master
    (path.parent / "i14-264401" / "i14-264401-merlin_addetector.h5").unlink()
    with pytest.raises(SourceError, match="links to .*i14-264401-merlin_addetector.h5, which cannot be opened"):
        I14(pars).initialize()


def test_fluorescence_is_not_taken_instead_of_frames_that_are_missing(master):
    path, pars, tiny = master
    with h5py.File(path, "a") as file:
        del file["entry/xsp3_addetector/data"]
        file["entry/xsp3_addetector/data"] = np.zeros((tiny.rows, tiny.columns, 4, 512), "u4")
    (path.parent / "i14-264401" / "i14-264401-merlin_addetector.h5").unlink()
    with pytest.raises(SourceError, match=r"links that lead nowhere, .*: entry/merlin_addetector/data -> "
                                          r"i14-264401/.*\(not there\).*xsp3_addetector/data .*\(no images\)"):
        I14({**pars, "detector": None}).initialize()


def test_another_detector_is_told_what_there_is(master):
    path, pars, tiny = master
    with pytest.raises(SourceError, match=r"entry\*/eiger_addetector/data.*merlin_addetector/data \(3, 4, 16, 20\)"):
        I14({**pars, "detector": "eiger_addetector"}).initialize()


def test_of_two_detectors_one_is_chosen(master):
    path, pars, tiny = master
    with pytest.raises(SourceError, match="merlin_addetector/data .*xsp3_addetector/data .*Set detector"):
        I14({**pars, "detector": None}).initialize()


def test_a_stack_over_energies_has_the_energy_of_its_place(tmp_path):
    pars, tiny = i14.spectrum(tmp_path, Tiny.make())
    scan = I14({**pars, "outer_index": 0}).initialize()
    assert scan.p.energy == 8.0
    first = next(scan.batches(1)).data[0]
    assert np.array_equal(first, tiny.frames[8])        # the other place has its rows exchanged


def test_motors_come_in_pairs(master):
    path, pars, tiny = master
    with pytest.raises(ParameterError, match="motors.slow names SampleZ and motors.fast SampleX, SampleY: expected as"):
        I14({**pars, "motors.slow": "SampleZ", "motors.fast": "SampleX, SampleY"}).initialize()
    with pytest.raises(ParameterError, match="Set motors.slow and motors.fast .not found: SampleZ, SampleX"):
        I14({**pars, "motors.slow": "SampleZ"}).initialize()
