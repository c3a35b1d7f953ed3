"""Units, masks, marks and saturation mean the same in every reader, or what its format says."""
import subprocess
import sys

import h5py
import numpy as np
import pytest

from ptyprep import recipe
from ptyprep.errors import ParameterError, PtyprepError, SourceError
from ptyprep.processing.corrections import Limits, believable
from ptyprep.sources import CxiFile, DectrisMaster, NexusFile
from ptyprep.sources.formats import limits_of
from ptyprep.sources.images import pilatus_header
from ptyprep.testing import write_cxi, write_dectris

N, H, W = 6, 40, 50
KEV = 1.602176634e-16
FRAMES = np.random.default_rng(5).integers(0, 900, (N, H, W)).astype("u4")
DECTRIS_AT, CXI_AT, NEXUS_AT = "entry/instrument/detector", "entry_1/instrument_1/detector_1", "entry/detector"
POSITIONS = np.random.default_rng(6).uniform(-5e-6, 5e-6, (N, 2))


def dectris(path, frames=FRAMES):
    write_dectris(path / "s_master.h5", frames, energy=8, distance=2, psize=(75e-6, 75e-6), center=(20, 25))
    return path / "s_master.h5"


def cxi(path, frames=FRAMES):
    return write_cxi(path / "s.cxi", frames, np.c_[POSITIONS, np.zeros(len(frames))], energy=8, distance=2,
                     psize=(75e-6, 75e-6))


def nexus(path, frames=FRAMES):
    with h5py.File(path / "s.nxs", "w") as file:
        for name, kind in (("entry", "NXentry"), (NEXUS_AT, "NXdetector"), ("entry/beam", "NXbeam")):
            file.create_group(name).attrs["NX_class"] = kind
        for name, value, unit in (("distance", 2.0, "m"), ("x_pixel_size", 75e-6, "m"), ("y_pixel_size", 75e-6, "m"),
                                  ("beam_center_y", 20.0, "pixel"), ("beam_center_x", 25.0, "pixel")):
            file[f"{NEXUS_AT}/{name}"] = value
            file[f"{NEXUS_AT}/{name}"].attrs["units"] = unit
        file["entry/beam/incident_energy"] = 8.0
        file["entry/beam/incident_energy"].attrs["units"] = "keV"
        file[f"{NEXUS_AT}/data"] = frames
    return path / "s.nxs"


READERS = {"eiger": (dectris, DectrisMaster, DECTRIS_AT, "detector_distance",
                     f"{DECTRIS_AT}/detectorSpecific/photon_energy", "pixel_mask"),
           "cxi": (cxi, CxiFile, CXI_AT, "distance", "entry_1/instrument_1/source_1/energy", "mask"),
           "nexus": (nexus, NexusFile, NEXUS_AT, "distance", "entry/beam/incident_energy", "pixel_mask")}
LENGTHS = {"m": 1, "mm": 1e3, "cm": 100, "um": 1e6, "µm": 1e6, "μm": 1e6, "micron": 1e6, "microns": 1e6,
           "millimetre": 1e3, "Millimeters": 1e3, "nm": 1e9, "Angstrom": 1e10, "A": 1e10, "Å": 1e10,
           "[mm]": 1e3, " mm ": 1e3, "km": 1e-3}
ENERGIES = {"eV": 8000, "keV": 8, "kev": 8, "KEV": 8, "ev": 8000, "MeV": 0.008, "J": 8 * KEV, "joule": 8 * KEV}


def rewrite(path, key, value, unit, attribute="units"):
    with h5py.File(path, "r+") as file:
        del file[key]
        file[key] = value
        if unit is not None:
            file[key].attrs[attribute] = unit


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_every_spelling_of_a_unit_means_the_same_in_every_reader(tmp_path, name):
    make, reader, at, distance, energy, _ = READERS[name]
    path = make(tmp_path)
    for unit, many in LENGTHS.items():
        for attribute in ("units", "unit", "Units"):
            rewrite(path, f"{at}/{distance}", 2.0 * many, unit if attribute == "units" else np.bytes_(unit.encode()),
                    attribute)
            rewrite(path, f"{at}/x_pixel_size", 75e-6 * many, unit, attribute)
            found = reader(path).recorded
            assert found["distance"] == pytest.approx(2) and found["psize"] == pytest.approx((75e-6, 75e-6)), unit
    for unit, value in ENERGIES.items():
        rewrite(path, energy, value, unit)
        assert reader(path).recorded["energy"] == pytest.approx(8), unit


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("unit", ["parsnip", "deg", "s", "eV", "pixel", "", "9**9**9**9"])
def test_a_unit_of_something_else_is_told_and_nothing_is_taken(tmp_path, name, unit):
    make, reader, at, distance, *_ = READERS[name]
    path = make(tmp_path)
    rewrite(path, f"{at}/{distance}", 513.8, unit or None)
    source = reader(path)       # without a unit: impossible in metres, or NeXus, which requires one
    assert "distance" not in source.recorded
    assert any("distance = 513.8" in note and "counts as not recorded" in note for note in source.notes)


def test_without_a_unit_the_format_decides(tmp_path):
    for name, value in (("eiger", 8000.0), ("cxi", 8 * KEV), ("nexus", None)):
        make, reader, at, distance, energy, _ = READERS[name]
        path = make(tmp_path)
        rewrite(path, f"{at}/{distance}", 1.5, None)
        rewrite(path, energy, value or 8.0, None)
        found, notes = reader(path).recorded, reader(path).notes
        if value is None:
            assert {"distance", "energy"}.isdisjoint(found) and sum("no unit" in note for note in notes) == 2
        else:
            assert (found["distance"], found["energy"]) == (1.5, pytest.approx(8)) and not notes


@pytest.mark.parametrize("name", ["eiger", "nexus"])
@pytest.mark.parametrize("unit, value, expected", [
    ("pixels", 10.5, 10.5), ("px", 10.5, 10.5), ("m", 10.5 * 75e-6, 10.5), ("mm", 10.5 * 0.075, 10.5),
    (None, 10.5, {"eiger": 10.5, "nexus": 10.5}), (None, 10.5 * 75e-6, {"eiger": 10.5 * 75e-6, "nexus": None}),
    (None, 2.0, {"eiger": 2.0, "nexus": None}), ("deg", 10.5, None)])
def test_a_beam_centre_in_pixels_or_a_length(tmp_path, name, unit, value, expected):
    """2 may be pixels, or mm: 26.7 pixels. 10.5 in mm is beyond the frame. 0.0008 may be pixels or metres."""
    make, reader, at, *_ = READERS[name]
    path = make(tmp_path)
    for axis in "yx":
        rewrite(path, f"{at}/beam_center_{axis}", value, unit)
    source, expected = reader(path), expected[name] if isinstance(expected, dict) else expected
    if expected is None:
        assert "center" not in source.recorded and any("beam_center" in note for note in source.notes)
    else:
        assert source.recorded["center"] == pytest.approx((expected, expected))


@pytest.mark.parametrize("unit, many", [("mm", 1e3), ("um", 1e6), ("m", 1), (None, 1)])
def test_translations_and_corners_of_cxi_have_units_too(tmp_path, unit, many):
    path = cxi(tmp_path)
    rewrite(path, "entry_1/sample_1/geometry_1/translation", np.c_[POSITIONS, np.zeros(N)] * many, unit)
    with h5py.File(path, "r+") as file:
        corner = file.create_dataset(f"{CXI_AT}/corner_position", data=np.array([25 * 75e-6, 20 * 75e-6, 2]) * many)
        if unit:
            corner.attrs["units"] = unit
    source = CxiFile(path)
    assert np.allclose(source.translation[:, :2], POSITIONS, rtol=1e-12, atol=0)
    assert source.recorded["center"] == pytest.approx((19.5, 24.5))
    rewrite(path, "entry_1/sample_1/geometry_1/translation", np.zeros((N, 3)), "deg")
    with pytest.raises(SourceError, match="translation in 'deg', no unit of length"):
        CxiFile(path)


def test_words_that_are_lengths_elsewhere_are_none_here(tmp_path):
    path = nexus(tmp_path)
    for unit in ("px", "pix", "point", "au", "hand", "count"):
        rewrite(path, f"{NEXUS_AT}/distance", 2.0, unit)
        assert "distance" not in NexusFile(path).recorded, unit


def test_a_master_is_read_without_pint(tmp_path):
    path = dectris(tmp_path)
    with h5py.File(path, "r+") as file:
        for axis in "xy":
            file[f"{DECTRIS_AT}/beam_center_{axis}"].attrs["units"] = "pixel"
    code = f"import sys; from ptyprep.sources import DectrisMaster as D; D({str(path)!r}); print('pint' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.parametrize("zero", [0, -1, "none"])
def test_a_saturation_of_nothing_hides_no_cutoff(tmp_path, zero):
    path = dectris(tmp_path)
    with h5py.File(path, "r+") as file:
        file[f"{DECTRIS_AT}/saturation_value"] = zero
        file[f"{DECTRIS_AT}/detectorSpecific/countrate_correction_count_cutoff"] = 500
    source = DectrisMaster(path)
    assert source.saturation == 500 and sum("no single number" in note for note in source.notes) == (zero == "none")


def test_masks_of_both_groups_and_with_numbers_are_one(tmp_path):
    path, bits = dectris(tmp_path), np.zeros((4, H, W), "u4")
    names = ["pixel_mask", "pixel_mask_2", "detectorSpecific/pixel_mask", "detectorSpecific/pixel_mask_1"]
    with h5py.File(path, "r+") as file:
        for i, name in enumerate(names):
            bits[i, i, i] = 1
            file[f"{DECTRIS_AT}/{name}"] = bits[i]
    assert np.array_equal(~DectrisMaster(path).mask, bits.any(axis=0))


# --- headers of images ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line, values", [
    ("Detector_distance 200.00 mm", [(200.0, "mm")]), ("Detector_distance: 0.2 m", [(0.2, "m")]),
    ("Detector_distance = 0.2", [(0.2, "")]), ("Wavelength 0.9794 A", [(0.9794, "A")]),
    ("Beam_xy (243.12, 309.5) pixels", [(243.12, "pixels"), (309.5, "pixels")]),
    ("Beam_xy (41.8, 53.2) mm", [(41.8, "mm"), (53.2, "mm")]),
    ("Pixel_size 172e-6 m x 171e-6 m", [(172e-6, "m"), (171e-6, "m")]),
    ("Pixel_size 172 um x 172 um", [(172.0, "um"), (172.0, "um")]),
    ("Count_cutoff 126366 counts", [(126366.0, "counts")])])
def test_a_line_of_a_pilatus_header_word_by_word(line, values):
    notes = []
    for end in ("\n", "\r\n"):
        found = pilatus_header(f"# Tau = 0.0 s{end}# {line}{end}# Chi 0.0 deg.{end}", notes)
        assert [one[:2] for one in found[line.replace(":", " ").split()[0]]] == values and not notes
    assert pilatus_header("# Detector_distance none m", notes) == {} and "Detector_distance none m" in notes[0]


# --- marks and saturation -----------------------------------------------------------------------------------------


class Source:
    """What `limits_of` asks of a source."""
    saturation = underload = bits = None


def good(dtype, numbers, source, **how):
    frames = np.array([[numbers]]).astype(dtype)
    return believable(frames, limits_of(source, frames.dtype, **how))[0, 0].tolist()


@pytest.mark.parametrize("dtype", ["u4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("bits", [16, 32])
def test_marks_of_a_dectris_detector_go_by_the_bits_of_the_image(dtype, bits):
    source = Source()
    source.format, source.bits = DectrisMaster.format, bits
    mark = 2.0**bits - 1
    seen = good(dtype, [0, 60000, mark, mark - 1, mark - 1000], source)
    assert seen == [True, True, False, bits == 16, True]
    assert good(dtype, [mark - 1], source, near="mask") == [False]
    exact = dtype != "f4" or bits == 16         # float32 has no 2**32 - 2: there it is the mark, and nothing is near
    assert good(dtype, [mark - 1], source, near="keep") == [exact]
    assert limits_of(source, np.dtype(dtype)).near == (mark - 1 if exact else None)


def test_marks_in_the_detectors_own_integers():
    source = Source()
    source.format = DectrisMaster.format
    assert good("u1", [255, 254, 253], source) == [False, True, True]
    assert good("u2", [65535, 65534], source) == [False, True]
    assert good("u4", [2**32 - 1, 2**32 - 2, 2**32 - 3], source) == [False, False, True]
    assert good("i4", [-1, -2, -3, 5], source) == [False, False, True, True]


def test_what_is_saturated_is_another_count_in_each_format(tmp_path):
    """PILATUS clips to Count_cutoff; NXmx: data above saturation_value is invalid."""
    from ptyprep.sources.formats import DECTRIS, NEXUS, PILATUS, largest_count
    numbers = [999, 1000, 1001]
    for known, expected in ((PILATUS, [True, False, False]), (NEXUS, [True, True, False]),
                            (DECTRIS, [True, True, False])):
        source = Source()
        source.format, source.saturation = known, largest_count(1000, known.saturated)
        for dtype in ("u4", "i4", "f4", "f8"):
            assert good(dtype, numbers, source) == expected, known.name
    source.format, source.saturation = PILATUS, None
    assert good("u4", [2**32 - 1, 2**32 - 2, 2**32 - 3], source) == [False, False, True]
    assert good("i4", [-1, -2, -3], source) == [False, False, True]


def test_an_underload_value_of_nexus_is_the_smallest_count(tmp_path):
    path = nexus(tmp_path, FRAMES.astype("i4"))
    with h5py.File(path, "r+") as file:
        file[f"{NEXUS_AT}/underload_value"] = 0
        file[f"{NEXUS_AT}/saturation_value"] = 500
    assert limits_of(NexusFile(path), np.dtype("i4")) == Limits(500, 0)


@pytest.mark.parametrize("where", ["saturation_value", "detectorSpecific/countrate_correction_count_cutoff",
                                   "detectorSpecific/detectorModule_000/countrate_correction_count_cutoff"])
@pytest.mark.parametrize("name", ["eiger", "nexus"])
def test_the_cutoff_of_older_masters_serves_as_saturation_and_is_told(tmp_path, name, where):
    path = dectris(tmp_path)
    with h5py.File(path, "r+") as file:
        file[f"{DECTRIS_AT}/{where}"] = np.uint32(500)
        file["entry"].attrs["NX_class"] = "NXentry"
    source = (DectrisMaster if name == "eiger" else NexusFile)(path)
    assert source.saturation == 500
    assert any("counts above" in note and where.split("/")[-1] in note for note in source.notes) == ("/" in where)


def counted(recipe_name, path, **more):
    positions = path.parent / "p.npy"
    np.save(positions, POSITIONS)
    scan = recipe(recipe_name)(file=path, **{"positions.file": positions, "positions.unit": "m"}, **more).initialize()
    batches = list(scan.batches(4))
    return scan, np.concatenate([batch.data for batch in batches]), np.concatenate([batch.weight for batch in batches])


@pytest.mark.parametrize("kind, policy, masked", [("u4", None, True), ("u4", "keep", False), ("u2", None, False),
                                                  ("u2", "mask", True)])
def test_counts_next_to_the_mark_are_counted_and_have_a_reason(tmp_path, kind, policy, masked):
    from ptyprep.processing.masks import REASONS
    frames, top = FRAMES.astype(kind), np.iinfo(kind).max
    frames[:, 2, 3], frames[1, 4, 5], frames[3:5, 6, 7] = top, top - 1, top - 1
    frames[5, 6, 7] = top
    scan, _, weight = counted("eiger", dectris(tmp_path, frames), **{"bad_pixels.near_overflow": policy})
    expected = np.ones(frames.shape, bool)
    expected[:, 2, 3] = expected[5, 6, 7] = False
    if masked:
        expected[1, 4, 5] = expected[3:5, 6, 7] = False
    assert np.array_equal(weight, expected)
    assert any(f"counts of {top - 1}," in note and ": 3;" in note and ("masked" if masked else "kept") in note
               for note in scan.notes)
    reasons = scan.mask_reasons
    assert bool(reasons[4, 5] & REASONS["near overflow"]) == masked and reasons[2, 3] == REASONS["overflow"]
    assert reasons[6, 7] == (REASONS["near overflow"] * masked | REASONS["overflow"])


@pytest.mark.parametrize("dtype", ["i4", "f4"])
@pytest.mark.parametrize("negative", ["keep", "zero", "mask"])
def test_noise_below_zero_is_counted_and_kept_unless_asked(tmp_path, dtype, negative):
    frames = (FRAMES.astype("i8") - 100).astype(dtype)
    scan, data, weight = counted("nexus", nexus(tmp_path, frames), negative=negative)
    assert np.array_equal(weight, frames >= 0 if negative == "mask" else np.ones(frames.shape, bool))
    assert np.array_equal(data, np.maximum(frames, 0) if negative == "zero" else frames)
    done = {"keep": "kept", "zero": "set to 0", "mask": "masked"}[negative]
    assert any(f"counts below 0: {(frames < 0).sum()} " in note and done in note for note in scan.notes)


# --- masks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("what", ["external", "soft", "group", "two", "other size", "floats", "text"])
def test_a_mask_that_is_announced_and_cannot_be_read_stops_unless_it_is_ignored(tmp_path, name, what):
    make, reader, at, _, _, mask = READERS[name]
    path = make(tmp_path)
    with h5py.File(path, "r+") as file:
        key = f"{at}/{mask}"
        if what == "group":
            file.create_group(key)
        else:
            file[key] = {"external": h5py.ExternalLink("gone.h5", "/mask"), "soft": h5py.SoftLink("/nowhere"),
                         "two": np.zeros((2, H, W), "u4"), "other size": np.zeros((H, W - 1), "u4"),
                         "floats": np.zeros((H, W)), "text": "none"}[what]
    assert "mask" in reader(path).mask_problem
    given = {} if name != "cxi" else {"center": (20, 25)}
    with pytest.raises(SourceError, match=f"{mask}.*detector_mask='ignore'"):
        counted(name, path, **given)
    assert counted(name, path, detector_mask="ignore", **given)[2].all()


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("lead", [(), (1,), (N,)])
def test_one_mask_or_one_for_each_frame(tmp_path, name, lead):
    make, _, at, _, _, mask = READERS[name]
    path, bits = make(tmp_path), np.zeros((*lead, H, W), "u4")
    bits[..., 1, 1] = 1
    expected = np.ones((N, H, W), bool)
    expected[:, 1, 1] = False
    if lead == (N,):
        bits[3, 5:7, 8] = 1 << 4
        expected[3, 5:7, 8] = False
    with h5py.File(path, "r+") as file:
        file[f"{at}/{mask}"] = bits
    given = {} if name != "cxi" else {"center": (20, 25)}
    assert np.array_equal(counted(name, path, **given)[2], expected)
    assert counted(name, path, detector_mask="ignore", **given)[2].all()


def test_a_mask_in_a_master_that_holds_the_frames_itself(tmp_path):
    path, bits = dectris(tmp_path), np.zeros((H, W), "u4")
    bits[7, 8] = 2
    with h5py.File(path, "r+") as file:
        del file["entry/data"]
        file["entry/data/data"] = FRAMES
        file[f"{DECTRIS_AT}/detectorSpecific/pixel_mask"] = bits
    scan, data, weight = counted("eiger", path)
    assert np.array_equal(data, FRAMES) and np.argwhere(~weight[0]).tolist() == [[7, 8]] and scan.p.energy == 8
    assert recipe("auto", path).recipe_name == "eiger"


# --- fields that are not applied ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["eiger", "nexus", "cxi"])
def test_fields_and_monitors_are_named_and_applied_only_when_asked(tmp_path, name):
    make, _, at, *_ = READERS[name]
    path, flat = make(tmp_path), np.linspace(0.5, 2, H * W).reshape(H, W)
    named = "data_white" if name == "cxi" else "flatfield"
    with h5py.File(path, "r+") as file:
        file[f"{at}/{named}"], file[f"{at}/{'data_dark' if name == 'cxi' else 'darkfield'}"] = flat, np.full((H, W), 3)
        if name == "nexus":
            file.create_group("entry/monitor").attrs["NX_class"] = "NXmonitor"
            file["entry/monitor/data"] = np.arange(1.0, N + 1)
    given = {} if name != "cxi" else {"center": (20, 25)}
    scan, data, _ = counted(name, path, **given)
    said = " ".join(scan.notes)
    assert np.array_equal(data, FRAMES) and f"flatfield.key='/{at}/{named}'" in said and "darkfield.key='/" in said
    assert ("normalisation.key='/entry/monitor/data'" in said) == (name == "nexus")
    _, data, _ = counted(name, path, **given, **{"flatfield.key": f"/{at}/{named}"})
    assert np.allclose(data, FRAMES * flat if name == "eiger" else FRAMES / flat)
    for multiply in (True, False):
        _, data, _ = counted(name, path, **given, **{"flatfield.key": f"{at}/{named}", "flatfield.multiply": multiply})
        assert np.allclose(data, FRAMES * flat if multiply else FRAMES / flat)


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["flatfield_applied", "flatfield_correction_applied"])
@pytest.mark.parametrize("value", [1, np.uint8(1), True, np.array([True]), "true", np.bytes_("yes")])
@pytest.mark.parametrize("name, field", [("nexus", "flatfield"), ("eiger", "detectorSpecific/flatfield")])
def test_a_field_that_is_applied_is_not_applied_again(tmp_path, flag, value, name, field):
    make, _, at, *_ = READERS[name]
    path = make(tmp_path)
    with h5py.File(path, "r+") as file:
        file[f"{at}/{field}"], file[f"{at}/{flag}"] = np.full((H, W), 2.0), value
    scan, data, _ = counted(name, path)
    assert not any("flatfield" in note for note in scan.notes)
    for file in (None, path):           # the frames' own file, named or not
        with pytest.raises(ParameterError, match=f"applied already, by {flag}"):
            counted(name, path, **{"flatfield.key": f"{at}/{field}", "flatfield.file": file})


@pytest.mark.parametrize("value", [0, False, "false", "no"])
def test_a_flag_that_is_not_set_says_that_a_field_waits(tmp_path, value):
    path = dectris(tmp_path)
    with h5py.File(path, "r+") as file:
        file[f"{DECTRIS_AT}/flatfield"], file[f"{DECTRIS_AT}/flatfield_applied"] = np.full((H, W), 2.0), value
    for more in ({}, {"flatfield.file": path}):
        scan, data, _ = counted("eiger", path, **{"flatfield.key": f"{DECTRIS_AT}/flatfield"}, **more)
        assert np.array_equal(data, 2.0 * FRAMES) and not any("not applied" in note for note in scan.notes)


def test_factors_for_each_frame_and_with_a_dark_field(tmp_path):
    from ptyprep.processing.corrections import Corrections
    path, flat = dectris(tmp_path), np.random.default_rng(8).uniform(0.5, 2, (N, H, W))
    with h5py.File(path, "r+") as file:
        file["flat"], file["dark"] = flat, np.full((H, W), 10.0)
    _, data, _ = counted("eiger", path, **{"flatfield.key": "flat", "darkfield.key": "dark"})
    assert np.allclose(data, np.maximum(FRAMES - 10.0, 0) * flat)
    both = Corrections(flat=np.full((2, 2), 2.0), multiply=True).with_dark(np.full((2, 2), 10.0))
    from ptyprep.processing.plan import whole
    assert (both(np.full((1, 2, 2), 110.0), np.ones((1, 2, 2), bool), [0], whole((2, 2)))[0] == 200).all()


def test_axes_of_nexus_without_units_are_asked_for(tmp_path):
    path = nexus(tmp_path)
    with h5py.File(path, "r+") as file:
        data = file.create_group("entry/data")
        data.attrs.update(NX_class="NXdata", signal="data", axes=["y", ".", "."], y_indices=0, x_indices=0)
        data["data"], data["y"], data["x"] = file[f"{NEXUS_AT}/data"], *POSITIONS.T
        data["y"].attrs["units"] = "m"
    with pytest.raises(PtyprepError, match="axis x has no units, which NeXus requires; set positions.unit"):
        recipe("nexus")(file=path).initialize()
    found = next(recipe("nexus")({"file": path, "positions.unit": "mm"}).initialize().batches(N)).position
    assert np.allclose(found, POSITIONS * 1e-3)
