"""The table for those who come from PtyPy: complete, and true of the code."""
import re
from pathlib import Path

import pytest

from ptyprep import PtyScan, registry
from ptyprep.params import walk

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
