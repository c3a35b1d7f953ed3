"""NeXus files of many kinds, made here group by group: what is in them is found, or it is said why not."""
import h5py
import numpy as np
import pytest

from ptyprep import recipe
from ptyprep.errors import SourceError
from ptyprep.sources import NexusFile, layout_of
from ptyprep.testing import write_dectris

ROWS, COLS, H, W = 3, 4, 6, 8
RNG = np.random.default_rng(3)
FRAMES = RNG.integers(0, 99, (ROWS, COLS, H, W)).astype("u2")
Y, X = np.array([0.0, 1.5, 3.5]), np.array([10.0, 11.0, 13.0, 16.0])
MESH = np.stack(np.meshgrid(Y, X, indexing="ij"), -1).reshape(-1, 2) * 1e-6
GEOMETRY = {"energy": 9.0, "distance": 2.0, "psize": 75e-6, "center": (3, 4)}


def group(file, name, kind, **attributes):
    made = file.require_group(name)
    made.attrs["NX_class"] = kind
    made.attrs.update(attributes)
    return made


def put(file, name, value, **attributes):
    file[name] = value
    file[name].attrs.update(attributes)


def base(path, frames=FRAMES, detector="instrument/detector", entry="entry"):
    """An open file with an entry, a detector that holds the frames, and all that is recorded of it."""
    file = h5py.File(path, "w")
    file.attrs["default"] = entry
    group(file, entry, "NXentry", default="data")
    group(file, f"{entry}/instrument", "NXinstrument")
    group(file, f"{entry}/instrument/beam", np.bytes_("NXbeam"))
    at = f"{entry}/{detector}"
    group(file, at, np.array(["NXdetector"], h5py.string_dtype()))
    put(file, f"{at}/data", frames)
    put(file, f"{at}/distance", 1500.0, units="mm")
    put(file, f"{at}/x_pixel_size", 0.075, units="mm")
    put(file, f"{at}/y_pixel_size", 55.0, units=np.bytes_("um"))
    put(file, f"{at}/beam_center_x", 4.25, units="pixel")
    put(file, f"{at}/beam_center_y", 2.75, units="pixels")
    put(file, f"{entry}/instrument/beam/incident_wavelength", 1.2398419843320026, units="angstrom")
    return file


def show(file, axes=("y", "x", ".", "."), entry="entry", **more):
    """The NXdata that shows the frames."""
    group(file, f"{entry}/data", "NXdata", signal="data", axes=list(axes), **more)
    file[f"{entry}/data/data"] = file[f"{entry}/instrument/detector/data"]


def mesh(path):
    """A raster whose set positions are axes of the NXdata."""
    with base(path) as file:
        show(file)
        put(file, "entry/data/y", Y, units="um")
        put(file, "entry/data/x", X / 1e3, units="mm")


def encoders(path):
    """A raster with an encoder reading for each frame, and a map as the default plot."""
    with base(path) as file:
        group(file, "entry/xrf", "NXdata", signal="sum", axes=["y", "x"])
        put(file, "entry/xrf/sum", np.ones((ROWS, COLS)))
        file["entry"].attrs["default"] = "xrf"
        show(file, axes=(".",) * 4, sample_y_indices=[0, 1], sample_x_indices=[0, 1], dwell_indices=[0, 1])
        put(file, "entry/data/sample_y", MESH[:, 0].reshape(ROWS, COLS, 1, 1), units="m")
        put(file, "entry/data/sample_x", MESH[:, 1].reshape(ROWS, COLS, 1, 1), units="m")
        put(file, "entry/data/dwell", RNG.random((ROWS, COLS)), units="s")


def path_of_points(path):
    """An arbitrary path, written as NXcxi_ptycho's text has it, beside a raw entry and with the ring's energy."""
    with base(path, FRAMES.reshape(-1, H, W), "instrument_1/detector_1", "entry_1") as file:
        group(file, "entry", "NXentry")
        group(file, "entry/instrument/andor", "NXdetector")
        put(file, "entry/instrument/andor/data", np.zeros((5, 4, 4)))
        put(file, "entry_1/definition", "NXcxi_ptycho")
        group(file, "entry_1/instrument_1/source_1", "NXsource")
        put(file, "entry_1/instrument_1/source_1/energy", 3.0, units="GeV")
        del file.attrs["default"], file["entry_1/instrument/beam/incident_wavelength"]
        put(file, "entry_1/instrument/beam/incident_beam_energy", 10_000.0, units="eV")
        group(file, "entry_1/data", "NXdata", signal="data", axes="[x,.]", x_indices=0, y_indices=0)
        file["entry_1/data/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
        for name, values in (("x", MESH[:, 1]), ("y", MESH[:, 0])):
            put(file, f"entry_1/data/{name}", values.reshape(-1, 1, 1), units="m")


def transformations(path, vectors=((0, -1, 0), (1, 0, 0)), pixels=None):
    """nexgen: a flat stack whose positions are the sample's translations, with vectors."""
    with base(path, FRAMES.reshape(-1, H, W)) as file:
        show(file, axes=["omega"])
        group(file, "entry/sample", "NXsample", depends_on="transformations/x")
        group(file, "entry/sample/transformations", "NXtransformations")
        for name, values, vector in zip(("sam_y", "sam_x"), MESH.T, vectors):
            put(file, f"entry/sample/transformations/{name}", values * 1e3, units="mm", vector=vector,
                transformation_type="translation")
        put(file, "entry/sample/transformations/omega", np.arange(12.0), units="deg", vector=(0, 1, 0),
            transformation_type="rotation")
        if pixels:
            group(file, "entry/instrument/detector/module", "NXdetector_module")
            for name, vector in zip(("slow", "fast"), pixels):
                put(file, f"entry/instrument/detector/module/{name}_pixel_direction", 75e-6, vector=vector)


KINDS = {"mesh": mesh, "encoders": encoders, "path": path_of_points, "transformations": transformations}


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_found(tmp_path, kind):
    KINDS[kind](tmp_path / "s.nxs")
    assert layout_of(tmp_path / "s.nxs") is NexusFile
    scan = recipe("nexus")(file=tmp_path / "s.nxs").initialize()
    batch = next(scan.batches(100))
    assert np.array_equal(batch.data, FRAMES.reshape(-1, H, W))
    assert scan.meta.energy == pytest.approx(10) and scan.meta.distance == 1.5
    assert np.allclose(scan.meta.psize, (55e-6, 75e-6)) and scan.plan.center == (2.75, 4.25)
    expected = MESH if kind != "transformations" else MESH * [-1, 1]    # the sample went down and to McStas' left
    assert np.allclose(batch.position, expected, atol=1e-15)


def test_a_raster_keeps_its_rows_and_columns(tmp_path):
    mesh(tmp_path / "s.nxs")
    batch = next(recipe("nexus")({"file": tmp_path / "s.nxs", "positions.skip": 2}).initialize().batches(100))
    assert np.array_equal(batch.data, FRAMES[::2, ::2].reshape(-1, H, W))
    assert np.allclose(batch.position, MESH.reshape(ROWS, COLS, 2)[::2, ::2].reshape(-1, 2))


def test_vectors_are_held_against_the_pixels_directions(tmp_path):
    transformations(tmp_path / "s.nxs", pixels=((0, 0, 1), (0, -1, 0)))
    found = next(recipe("nexus")(file=tmp_path / "s.nxs").initialize().batches(9)).position
    assert not found[:, 0].any() and np.ptp(found[:, 1]) > 0        # rows lie along the beam, where nothing moves
    transformations(tmp_path / "t.nxs", pixels=((1, 0, 0), (0, 1, 0)))
    found = next(recipe("nexus")(file=tmp_path / "t.nxs").initialize().batches(100)).position
    assert np.allclose(found, np.column_stack([-MESH[:, 1], MESH[:, 0]]), atol=1e-15)


def test_bits_of_the_mask_say_which_pixels_are_bad_and_why(tmp_path):
    bits = np.zeros((H, W), "u4")
    bits[0, :4], bits[1, 1], bits[2, 2] = [1, 2, 16, 256], 1 << 31, 1 << 20     # the last two are no faults
    with base(tmp_path / "s.nxs") as file:
        show(file)
        put(file, "entry/instrument/detector/pixel_mask", bits)
        put(file, "entry/instrument/detector/pixel_mask_1", np.roll(bits, 5, axis=0))
    source = NexusFile(tmp_path / "s.nxs")
    assert source.mask_reasons[0, :4].tolist() == [1, 2, 4, 16] and source.mask_reasons[5, :4].tolist() == [1, 2, 4, 16]
    assert source.mask.sum() == H * W - 8


def test_two_detectors_are_listed(tmp_path):
    with base(tmp_path / "s.nxs") as file:
        group(file, "entry/instrument/camera", "NXdetector")
        put(file, "entry/instrument/camera/data", FRAMES[0])
    with pytest.raises(SourceError) as err:
        NexusFile(tmp_path / "s.nxs")
    for words in ("which are the frames?", "/entry/instrument/camera/data (4, 6, 8)",
                  "/entry/instrument/detector/data (3, 4, 6, 8)", "Set key"):
        assert words in str(err.value)
    assert NexusFile(tmp_path / "s.nxs", "entry/instrument/camera/data").shape == (4, H, W)


def test_two_entries_are_listed(tmp_path):
    with base(tmp_path / "s.nxs") as file:
        del file.attrs["default"]
        file.copy("entry", "again")
    with pytest.raises(SourceError, match="frames are in /again, /entry: set entry"):
        NexusFile(tmp_path / "s.nxs")
    assert NexusFile(tmp_path / "s.nxs", entry="again").key.startswith("/again/")
    with pytest.raises(SourceError, match="no group x; it holds again, entry"):
        NexusFile(tmp_path / "s.nxs", entry="x")


def test_what_has_no_unit_or_an_odd_one_is_not_believed(tmp_path):
    with base(tmp_path / "s.nxs") as file:
        show(file)
        beam, at = file["entry/instrument/beam"], file["entry/instrument/detector"]
        del beam["incident_wavelength"]
        put(beam, "incident_energy", 9000.0)
        at["distance"].attrs["units"] = "counts"
        at["beam_center_x"].attrs["units"] = "deg"
    source = NexusFile(tmp_path / "s.nxs")
    assert set(source.recorded) == {"psize"}
    assert [words for words in ("no unit and counts as not recorded; set energy", "distance = 1500 in 'counts', no",
                                "in 'pixels' and 'deg'") if not any(words in note for note in source.notes)] == []


def test_a_centre_in_metres_is_turned_into_pixels(tmp_path):
    with base(tmp_path / "s.nxs") as file:
        show(file)
        for name, value in (("x", 4.5 * 75), ("y", 2.5 * 55)):
            del file[f"entry/instrument/detector/beam_center_{name}"]
            put(file, f"entry/instrument/detector/beam_center_{name}", value, units="um")
    assert np.allclose(NexusFile(tmp_path / "s.nxs").recorded["center"], (2.5, 4.5))


@pytest.mark.parametrize("names", [("lab_sy", "lab_sx"), ("stage1_y_set", "stage1_x_set"), ("samy", "samx")])
def test_names_of_motors_say_their_axis_whatever_their_order(tmp_path, names):
    with base(tmp_path / "s.nxs") as file:
        show(file, axes=(names[0], names[1], ".", "."))
        put(file, f"entry/data/{names[0]}", Y, units="um")
        put(file, f"entry/data/{names[1]}", X, units="um")
    assert np.allclose(next(recipe("nexus")(file=tmp_path / "s.nxs").initialize().batches(99)).position, MESH)


def test_a_fast_axis_that_is_y(tmp_path):
    with base(tmp_path / "s.nxs") as file:
        show(file, axes=("x", "y", ".", "."))
        put(file, "entry/data/x", Y, units="um")
        put(file, "entry/data/y", X, units="um")
    found = next(recipe("nexus")(file=tmp_path / "s.nxs").initialize().batches(99)).position
    assert np.allclose(found, MESH[:, ::-1])


def test_a_file_without_positions_asks_for_them(tmp_path):
    with base(tmp_path / "s.nxs") as file:
        show(file)
    with pytest.raises(Exception, match="positions.file"):
        recipe("nexus")(file=tmp_path / "s.nxs").initialize()


def test_no_nexus_file(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["data"] = FRAMES
    with pytest.raises(SourceError, match="no NXentry in it; expected a NeXus file. Its groups are data"):
        recipe("nexus")(file=tmp_path / "s.h5").initialize()


def without_frames(path, others):
    """A scan whose detector's data lead to a file that is absent, and further detectors: {name: shape}."""
    with base(path) as file:
        show(file)
        del file["entry/instrument/detector/data"], file["entry/data/data"]
        file["entry/instrument/detector/data"] = h5py.ExternalLink("eiger.h5", "/entry/data/data")
        file["entry/data/data"] = h5py.SoftLink("/entry/instrument/detector/data")
        for name, shape in others.items():
            group(file, f"entry/instrument/{name}", "NXdetector")
            put(file, f"entry/instrument/{name}/data", np.zeros(shape, "u1"))


@pytest.mark.parametrize("others", [{"xspress3": (12, 4, 4096)}, {"camera": (12, 40, 30)}, {},
                                    {"xspress3": (3, 4, 4, 512), "camera": (3, 4, 40, 30)}])
@pytest.mark.parametrize("name", ["nexus", "auto"])
def test_frames_that_are_missing_are_said_and_others_not_taken_instead(tmp_path, others, name):
    path = tmp_path / "s.nxs"
    without_frames(path, others)
    with pytest.raises(SourceError) as err:
        recipe(name, path)(file=path, **GEOMETRY).initialize()
    said = str(err.value)
    assert "links that lead nowhere, and may be the frames: " in said and "Set key" in said
    assert "/entry/instrument/detector/data -> eiger.h5:/entry/data/data (not there)" in said
    for other, shape in others.items():
        at = f"/entry/instrument/{other}/data"
        assert said.index("eiger.h5") < said.index(at) and f"{shape} (no images)" * (shape[-2] == 4) in said
        assert NexusFile(path, at).shape[1:] == shape[-2:]      # where the user names it


def test_fluorescence_is_not_taken_for_frames_though_it_is_all_there_is_and_shown(tmp_path):
    with base(tmp_path / "s.nxs", np.zeros((ROWS, COLS, 4, 512), "u2")) as file:
        show(file)
    with pytest.raises(SourceError, match=r"which are the frames.*data \(3, 4, 4, 512\) \(no images\).*Set key"):
        NexusFile(tmp_path / "s.nxs")
    assert NexusFile(tmp_path / "s.nxs", "entry/data/data").shape == (12, 4, 512)


def test_frames_that_the_file_shows_are_taken_whatever_else_is_missing(tmp_path):
    with base(tmp_path / "s.nxs") as file:
        show(file)
        group(file, "entry/instrument/xspress3", "NXdetector")
        file["entry/instrument/xspress3/data"] = h5py.ExternalLink("xrf.h5", "/data")
    assert NexusFile(tmp_path / "s.nxs").key == "/entry/data/data"
    with h5py.File(tmp_path / "s.nxs", "a") as file:        # nothing says which of the detectors is meant
        del file["entry/data"], file["entry"].attrs["default"]
    with pytest.raises(SourceError, match="xspress3/data -> xrf.h5:/data .*instrument/detector/data .*Set key"):
        NexusFile(tmp_path / "s.nxs")


def test_another_entry_is_not_taken_where_the_frames_of_the_first_are_missing(tmp_path):
    path = tmp_path / "s.nxs"
    without_frames(path, {})
    with h5py.File(path, "a") as file:
        group(file, "second", "NXentry")
        group(file, "second/detector", "NXdetector")
        put(file, "second/detector/data", FRAMES)
    with pytest.raises(SourceError, match="links that lead nowhere.*eiger.h5"):
        NexusFile(path)
    with h5py.File(path, "a") as file:
        del file.attrs["default"]
    with pytest.raises(SourceError, match="frames are in /entry, /second: set entry"):
        NexusFile(path)
    assert NexusFile(path, entry="second").shape == (12, H, W)


def test_a_mask_that_is_elsewhere_is_told_and_missing_frames_are_no_zeros(tmp_path):
    layout = h5py.VirtualLayout((12, H, W), "u2")
    for i in (0, 1):
        layout[6 * i:6 * i + 6] = h5py.VirtualSource(".", f"/entry/data/data_{i + 1:06d}", (6, H, W))
    with h5py.File(tmp_path / "s_000001.h5", "w") as file:
        file["data"] = FRAMES.reshape(-1, H, W)[:6]
    with base(tmp_path / "s.nxs") as file:
        del file["entry/instrument/detector/data"]
        group(file, "entry/data", "NXdata", signal="data", axes=["omega"])
        for i in (1, 2):
            file[f"entry/data/data_{i:06d}"] = h5py.ExternalLink(f"s_{i:06d}.h5", "data")
        file["entry/data"].create_virtual_dataset("data", layout)
        file["entry/instrument/detector/pixel_mask"] = h5py.ExternalLink("meta.h5", "mask")
    source = NexusFile(tmp_path / "s.nxs", "/entry/data/data")
    assert np.array_equal(source.read([5, 2]), FRAMES.reshape(-1, H, W)[[5, 2]])
    with pytest.raises(SourceError, match="s_000002.h5"):
        source.read([6])
    assert "pixel_mask links to mask in meta.h5" in source.mask_problem


def test_a_master_with_links_to_data_files_and_the_sample_s_translations(tmp_path):
    flat, bits = FRAMES.reshape(-1, H, W).astype("u4"), np.zeros((H, W), "u4")
    bits[1, 2] = 1 << 31
    write_dectris(tmp_path / "s_master.h5", flat, frames_per_file=5, energy=10, distance=1.5, psize=(55e-6, 75e-6),
                  center=(2.75, 4.25), pixel_mask=bits)
    with h5py.File(tmp_path / "s_master.h5", "a") as file:
        for name, kind in {"entry": "NXentry", "entry/data": "NXdata", "entry/instrument": "NXinstrument",
                           "entry/instrument/detector": "NXdetector", "entry/instrument/beam": "NXbeam",
                           "entry/sample": "NXsample", "entry/sample/transformations": "NXtransformations"}.items():
            group(file, name, kind)
        for name, values, vector in zip("yx", MESH.T * 1e3, ((0, 1, 0), (1, 0, 0))):
            put(file, f"entry/sample/transformations/{name}", values, units="mm", vector=vector,
                transformation_type="translation")
    scan = recipe("nexus")(file=tmp_path / "s_master.h5").initialize()
    batch = next(scan.batches(100))
    assert np.array_equal(batch.data, flat) and np.allclose(batch.position, MESH)
    assert scan.meta.energy == pytest.approx(10) and np.allclose(scan.meta.psize, (55e-6, 75e-6))
    assert scan.plan.center == (2.75, 4.25) and not scan.good[1, 2]


def test_what_an_axis_was_at_the_end_of_an_exposure_is_no_other_axis(tmp_path):
    transformations(tmp_path / "s.nxs", vectors=((0, 1, 0), (1, 0, 0)))
    with h5py.File(tmp_path / "s.nxs", "a") as file:
        at = file["entry/sample/transformations"]
        for name, vector in (("sam_y", (0, 1, 0)), ("sam_x", (1, 0, 0))):
            put(at, f"{name}_end", at[name][()] + 2e-4, units="mm", vector=vector, transformation_type="translation")
            put(at, f"{name}_increment_set", at[name][()] * 0 + np.arange(12), units="mm", vector=vector)
    scan = recipe("nexus")(file=tmp_path / "s.nxs").initialize()
    assert np.allclose(next(scan.batches(99)).position, MESH + 1e-7)
    assert any("means of sam_y and sam_y_end" in note for note in scan.notes)


def test_two_axes_along_one_direction_are_asked_about(tmp_path):
    transformations(tmp_path / "s.nxs")
    with h5py.File(tmp_path / "s.nxs", "a") as file:
        put(file, "entry/sample/transformations/piezo_x", MESH[:, 1], units="m", vector=(1, 0, 0),
            transformation_type="translation")
    with pytest.raises(Exception, match="move along the same direction: do they add up, or measure the same"):
        recipe("nexus")(file=tmp_path / "s.nxs").initialize()


def test_masks_that_do_not_fit_are_told_one_by_one(tmp_path):
    bits = np.zeros((H, W), "u4")
    bits[1, 1] = 1
    with base(tmp_path / "s.nxs") as file:
        show(file)
        put(file, "entry/instrument/detector/pixel_mask", bits)
        put(file, "entry/instrument/detector/pixel_mask_2", bits[:3])
        put(file, "entry/instrument/detector/pixel_mask_3", np.zeros((11, H, W), "u4"))
    source = NexusFile(tmp_path / "s.nxs")
    assert np.argwhere(~source.mask).tolist() == [[1, 1]]
    assert "pixel_mask_2 of shape (3, 8)" in source.mask_problem and "(11, 6, 8)" in source.mask_problem
