"""The table for those who come from PtyPy: complete, and true of the code."""
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptyprep import ParameterError, PtyScan, registry
from ptyprep.params.declare import walk

PAGE = (Path(__file__).parents[1] / "docs" / "from_ptypy.md").read_text()

# The parameters and recipes of PtyPy 0.9.
PTYSCAN = """name dfile chunk_format save auto_center load_parallel rebin orientation min_frames
    positions_theory num_frames label experimentID version shape center psize distance energy
    add_poisson_noise""".split()
LOADER = """intensities.file intensities.key positions.file positions.slow_key positions.slow_multiplier
    positions.slow_index positions.fast_key positions.fast_multiplier positions.fast_index
    positions.bounding_box.fast_axis_bounds positions.bounding_box.slow_axis_bounds positions.skip mask.file
    mask.key mask.invert flatfield.file flatfield.key darkfield.file darkfield.key normalisation.file
    normalisation.key normalisation.sigma framefilter.file framefilter.key recorded_energy.file
    recorded_energy.key recorded_energy.multiplier recorded_energy.offset recorded_distance.file
    recorded_distance.key recorded_distance.multiplier recorded_psize.file recorded_psize.key
    recorded_psize.multiplier outer_index padding electron_data frameorder.indices""".split()
SWMR = """intensities.live_key positions.live_fast_key positions.live_slow_key
    positions.fast_key_with_expected_shape positions.slow_key_with_expected_shape""".split()
# Their defaults, those of parameters without a counterpart left out.
DEFAULTS = {
    "name": "PtyScan", "dfile": None, "save": None, "auto_center": None, "load_parallel": "data", "rebin": None,
    "orientation": None, "min_frames": 1, "positions_theory": None, "num_frames": None, "label": None,
    "experimentID": None, "version": 0.1, "shape": 256, "center": "fftshift", "psize": 0.000172, "distance": 7.19,
    "energy": 7.2}
LOADER_DEFAULTS = {name: None for name in LOADER if name not in ("intensities.file", "intensities.key")} | {
    "positions.slow_multiplier": 1.0, "positions.fast_multiplier": 1.0, "positions.skip": 1, "mask.invert": False,
    "normalisation.sigma": 3, "recorded_energy.multiplier": 1.0, "recorded_energy.offset": 0.0,
    "recorded_distance.multiplier": 1.0, "recorded_psize.multiplier": 1.0, "electron_data": False,
    "positions.slow_key": "y", "positions.fast_key": "x"}       # without any it cannot be used
RECIPES = """PtydScan MoonFlowerScan QuickScan SimScan Hdf5Loader Hdf5LoaderFast SwmrLoader DiamondNexus
    DiamondZMQLoader EpsicHdf5Loader EpsicHdf5LoaderFast NanomaxStepscanNov2018 NanomaxFlyscanMay2019
    NanomaxStepscanSep2019 NanomaxFlyscanDec2019 NanomaxContrast NanomaxZmqScan NanomaxBraggJune2017
    Bragg3dSimScan cSAXSScan ID16AScan ALS5321Scan AMOScan DiProIFERMIScan UCLLaserScan FliSpecScanMultexp
    Savu makeScanPlugin DlsScan I13ScanFFP I13ScanNFP I08Scan""".split()


def rows(title):
    """The rows of the table under a title, as cells."""
    part = PAGE.split(f"\n## {title}", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def parameters(recipe):
    return dict(walk(registry.recipe(recipe) if recipe else PtyScan))


@pytest.mark.parametrize(("title", "theirs", "recipe"), [
    ("PtyScan", PTYSCAN, None), ("Hdf5Loader", LOADER, "hdf5"), ("SwmrLoader", SWMR, "hdf5")])
def test_every_parameter_has_its_row_and_its_counterpart_exists(title, theirs, recipe):
    table, ours = rows(title), parameters(recipe)
    assert [row[0].strip("`") for row in table] == theirs
    for name, here, unit, differs in table:
        if here == "none":
            assert differs, name
            continue
        par = ours[here.strip("`")]
        assert unit == (par.unit or ""), (name, unit, par.unit)
        assert all(mention in ours for mention in re.findall(r"`([a-z_]+\.[a-z_.]+)`", differs)), differs


def test_every_default_of_ptypy_may_be_given_and_means_what_it_means_there(tmp_path):
    """A frame is then the 256 x 256 pixels around pixel (h // 2, w // 2), neither joined nor turned."""
    here = {row[1].strip("`") for title in ("PtyScan", "Hdf5Loader") for row in rows(title)}
    assert here - {"none", "intensities.file", "intensities.key"} == DEFAULTS.keys() | LOADER_DEFAULTS.keys()
    frames = np.random.default_rng(1).integers(0, 9, (3, 260, 264)).astype("u2")
    y, x = np.arange(3) * 1e-6, np.arange(3) * -2e-6
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["data"], file["y"], file["x"] = frames, y, x
    scan = registry.recipe("hdf5")({"intensities.file": tmp_path / "f.h5", "intensities.key": "data", **DEFAULTS,
                                    **LOADER_DEFAULTS, "dfile": tmp_path / "o.ptyd"}).initialize()
    (batch,) = scan.batches(10)
    assert np.array_equal(batch.data, frames[:, 2:258, 4:260]) and batch.data.dtype == "u2"
    assert np.array_equal(batch.position, np.c_[y, x])
    with h5py.File(tmp_path / "o.ptyd") as file:
        assert file["info/rebin"][()] == 1 and not file["info/orientation"][()].any()
        assert [file[f"meta/{name}"][()] for name in ("energy", "distance")] == [7.2, 7.19]


def test_parameters_for_another_recipe_are_refused_and_those_of_a_base_are_not():
    cls = registry.recipe("moonflower")
    for name in ("PtyScan", "Moonflower", "moonflower", None):
        cls(name=name, shape=32, num_frames=1).look()
    with pytest.raises(ParameterError, match="these parameters are for recipe 'Hdf5Loader', this is 'moonflower'"):
        cls(name="Hdf5Loader").look()


def test_every_recipe_has_its_row_and_its_counterpart_exists():
    table = rows("Recipes")
    assert [name for row in table for name in row[0].split(", ")] == RECIPES
    for name, here, differs in table:
        assert here.strip("`") in registry.installed() if here != "none" else differs, name


def test_what_else_the_page_names_exists():
    ours = parameters("hdf5")
    tail = PAGE.split("\nBesides:", 1)[1].split("\n## ", 1)[0]
    assert all(name in ours for name in re.findall(r"`([a-z_.]+)`", tail))
    more = PAGE.split("\nMore recipes:", 1)[1].split("`ptyprep", 1)[0]
    named = set(re.findall(r"`([a-z_0-9]+)`", more)) | {row[1].strip("`") for row in rows("Recipes")} - {"none"}
    assert named == set(registry.installed())
