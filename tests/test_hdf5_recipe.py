"""The recipe hdf5: what PtyPy's users have with Hdf5Loader, held against a few lines of NumPy."""
import itertools

import h5py
import numpy as np
import pytest

from ptyprep import recipe
from ptyprep.errors import FrameError, OutputError, ParameterError, PositionError, SourceError
from ptyprep.processing.masks import REASONS
from ptyprep.testing import read_ptyd, run_on_ranks
from ptyprep.units import photon_energy_of_electrons

A, B, H, W = 5, 4, 6, 8
GEOMETRY = {"energy": 9.0, "distance": 2.0, "psize": 75e-6, "center": "fftshift"}
RNG = np.random.default_rng(5)
FRAMES = RNG.integers(0, 60_000, (A, B, H, W)).astype("u2")
SLOW, FAST = RNG.normal(size=(A, B)) * 1e-6, RNG.normal(size=(A, B)) * 1e-6      # no grid at all: any mix-up shows
ROW, COLUMN = RNG.normal(size=A) * 1e-6, RNG.normal(size=B) * 1e-6
MESH = np.stack(np.meshgrid(ROW, COLUMN, indexing="ij"), -1)

# PtyPy's five shapes of axes and frames, and one without a raster: frames, slow, fast, positions (A, B, 2)
SHAPES = {
    "one reading each, raster": (FRAMES, SLOW, FAST, np.stack([SLOW, FAST], -1)),
    "one reading each, with empty axes": (FRAMES, SLOW[..., None, None], FAST[..., None, None],
                                          np.stack([SLOW, FAST], -1)),
    "grids and a list of frames": (FRAMES.reshape(-1, H, W), SLOW, FAST, np.stack([SLOW, FAST], -1)),
    "axes and a raster": (FRAMES, ROW, COLUMN, MESH),
    "axes and a list of frames": (FRAMES.reshape(-1, H, W), ROW, COLUMN, MESH),
}
LIST = (FRAMES.reshape(-1, H, W), SLOW.ravel(), FAST.ravel(), np.stack([SLOW, FAST], -1))


def scan_of(folder, frames=FRAMES, slow=SLOW, fast=FAST, *, datasets=None, **pars):
    """A scan of the recipe hdf5 whose frames, positions and further datasets are in a new file."""
    path = folder / "scan.h5"
    with h5py.File(path, "w") as file:
        for name, values in {"frames": frames, "slow": slow, "fast": fast, **(datasets or {})}.items():
            if values is not None:
                file[name] = values
                if name in ("slow", "fast"):
                    file[name].attrs["units"] = "m"
    found = {"positions.slow_key": "slow", "positions.fast_key": "fast"} if slow is not None else {}
    return recipe("hdf5")({"intensities.file": path, "intensities.key": "frames", **found, **GEOMETRY, **pars})


def prepared(scan):
    """(frames, weights, positions, raw frame numbers) of a whole scan."""
    batches = list(scan.initialize().batches(7))
    names = ("data", "weight", "position", "frame")
    return tuple(np.concatenate([getattr(b, name) for b in batches]) for name in names)


def holds(scan, numbers):
    """Whether a scan prepares these raw frames, in this order, with their positions."""
    data, _, position, frame = prepared(scan)
    expected = {"frames": FRAMES.reshape(-1, H, W)[numbers], "numbers": np.asarray(numbers)}
    assert frame.tolist() == expected["numbers"].tolist()
    assert np.array_equal(data, expected["frames"])
    return position


NUMBERS = np.arange(A * B).reshape(A, B)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize(("pars", "cut"), [
    ({}, np.s_[:, :]),
    ({"positions.skip": 2}, np.s_[::2, ::2]),
    ({"positions.bounding_box.slow_axis_bounds": (1, 4)}, np.s_[1:4, :]),
    ({"positions.bounding_box.fast_axis_bounds": (1, 3)}, np.s_[:, 1:3]),
    ({"positions.bounding_box.slow_axis_bounds": 2, "positions.bounding_box.fast_axis_bounds": "1"}, np.s_[2:, 1:]),
    ({"positions.bounding_box.slow_axis_bounds": (1, 5), "positions.skip": 3}, np.s_[1:5:3, ::3]),
], ids=["all", "skip", "rows", "columns", "from a corner on", "rows and skip"])
def test_rasters_are_cut_as_arrays_are(tmp_path, shapes, pars, cut):
    frames, slow, fast, positions = SHAPES[shapes]
    found = holds(scan_of(tmp_path, frames, slow, fast, **pars), NUMBERS[cut].ravel())
    assert np.array_equal(found, positions[cut].reshape(-1, 2))


@pytest.mark.parametrize(("pars", "cut"), [
    ({}, np.s_[:]), ({"positions.skip": 3}, np.s_[::3]),
    ({"positions.bounding_box.fast_axis_bounds": (2, 9)}, np.s_[2:9]),
    ({"positions.bounding_box.fast_axis_bounds": 4, "positions.skip": 2}, np.s_[4::2])])
def test_a_list_is_cut_as_a_list_is(tmp_path, pars, cut):
    frames, slow, fast, positions = LIST
    found = holds(scan_of(tmp_path, frames, slow, fast, **pars), NUMBERS.ravel()[cut])
    assert np.array_equal(found, positions.reshape(-1, 2)[cut])


def test_rows_of_a_list_are_refused(tmp_path):
    frames, slow, fast, _ = LIST
    with pytest.raises(ParameterError, match="no raster; positions.bounding_box.fast_axis_bounds counts in it"):
        scan_of(tmp_path, frames, slow, fast, **{"positions.bounding_box.slow_axis_bounds": 1}).initialize()


THEORY = 3 * np.stack([SLOW, FAST], -1)


@pytest.mark.parametrize(("frames", "theory"), [
    (FRAMES, THEORY.reshape(-1, 2)), (FRAMES, THEORY), (FRAMES.reshape(-1, H, W), THEORY)],
    ids=["the frames' raster", "both", "a raster of its own"])
@pytest.mark.parametrize(("pars", "cut"), [
    ({}, np.s_[:, :]), ({"positions.skip": 2}, np.s_[::2, ::2]),
    ({"positions.bounding_box.slow_axis_bounds": (1, 4), "positions.skip": 2}, np.s_[1:4:2, ::2]),
    ({"positions.bounding_box.fast_axis_bounds": 1}, np.s_[:, 1:])])
def test_a_raster_of_theoretical_positions_is_cut_as_any_other(tmp_path, frames, theory, pars, cut):
    scan = scan_of(tmp_path, frames, SLOW, FAST, positions_theory=theory, **pars)
    assert np.array_equal(holds(scan, NUMBERS[cut].ravel()), THEORY[cut].reshape(-1, 2))
    assert any("positions_theory is used as it is: positions.slow_key, positions.fast_key change nothing" in note
               for note in scan.notes)


def test_fewer_theoretical_positions_than_frames_are_of_the_first_ones_whatever_else_is_chosen(tmp_path):
    few, flat = THEORY.reshape(-1, 2)[:-3], NUMBERS.ravel()[:-3]
    scan = scan_of(tmp_path, FRAMES.reshape(-1, H, W), datasets={"filter": np.arange(A * B) != 2}, positions_theory=few,
                   **{"positions.skip": 2, "framefilter.key": "filter"})
    assert np.array_equal(holds(scan, flat[::2][flat[::2] != 2]), few[::2][flat[::2] != 2])
    with pytest.raises(ParameterError, match="a list and no raster"):
        scan_of(tmp_path, FRAMES.reshape(-1, H, W), positions_theory=few,
                **{"positions.bounding_box.slow_axis_bounds": 1}).initialize()


@pytest.mark.parametrize("shapes", [*SHAPES, "list"])
def test_a_filter_and_an_order_hold_for_every_layout(tmp_path, shapes):
    frames, slow, fast, positions = {**SHAPES, "list": LIST}[shapes]
    wanted = RNG.random((A, B)) > 0.3
    order = RNG.permutation(int(wanted.sum()))
    order = np.append(order, order[:2])             # a frame may come twice
    given = wanted if shapes != "list" else wanted.ravel()
    scan = scan_of(tmp_path, frames, slow, fast, datasets={"filter": given.astype("i1")},
                   **{"framefilter.key": "filter", "frameorder.indices": order})
    numbers = NUMBERS[wanted][order]
    assert np.array_equal(holds(scan, numbers), positions.reshape(-1, 2)[numbers])


def test_bounds_skip_filter_order_and_frames_follow_one_another(tmp_path):
    wanted = np.ones((A, B), bool)
    wanted[2, 2] = False
    scan = scan_of(tmp_path, datasets={"filter": wanted}, frames_per_chunk=3, **{
        "framefilter.key": "filter", "positions.bounding_box.slow_axis_bounds": 2, "positions.skip": 2,
        "frameorder.indices": [2, 1, 0], "num_frames": 2})
    holds(scan, [NUMBERS[4, 2], NUMBERS[4, 0]])     # left: (2, 0), (4, 0), (4, 2)


def test_a_box_in_metres(tmp_path):
    low, high = np.sort(RNG.choice(SLOW.ravel(), 2, replace=False))
    scan = scan_of(tmp_path, **{"positions.bounding_box.y": (low, high), "positions.bounding_box.x": "-1 um, 5 um"})
    holds(scan, NUMBERS[(SLOW >= low) & (SLOW <= high) & (FAST >= -1e-6)])


@pytest.mark.parametrize(("pars", "words"), [
    ({"frameorder.indices": [0, 20]}, "holds 20; expected places 0 to 19"),
    ({"frameorder.indices": [0.5]}, "holds 0.5"),
    ({"framefilter.key": "slow_", "positions.skip": 2}, "no dataset slow_"),
    ({"positions.bounding_box.y": (1, 2)}, "no scan point is left of the 20"),
    ({"positions.bounding_box.fast_axis_bounds": 4}, "no scan point is left"),
])
def test_a_selection_that_cannot_be_made_says_so(tmp_path, pars, words):
    with pytest.raises((ParameterError, SourceError), match=words):
        scan_of(tmp_path, **pars).initialize()


# --- corrections ------------------------------------------------------------------------------------------

DARK, FLAT = RNG.integers(0, 3000, (H, W)).astype("u2"), RNG.uniform(0.5, 2, (H, W))


@pytest.mark.parametrize("per_frame", [False, True])
@pytest.mark.parametrize("shape", [None, 4], ids=["whole", "cut"])
@pytest.mark.parametrize("dtype", ["u2", "i4", "f8"])
def test_dark_and_flat_are_floats_that_nothing_truncates(tmp_path, per_frame, shape, dtype):
    dark = RNG.integers(0, 3000, (A, B, H, W)).astype("u2") if per_frame else DARK
    flat = RNG.uniform(0.5, 2, (A, B, H, W)) if per_frame else FLAT
    frames = FRAMES.astype(dtype)
    scan = scan_of(tmp_path, frames, datasets={"dark": dark, "flat": flat}, shape=shape,
                   **{"darkfield.key": "dark", "flatfield.key": "flat"})
    data, weight, _, _ = prepared(scan)
    expected = (np.maximum(frames.astype(float) - dark, 0) / flat).reshape(-1, H, W)
    cut = np.s_[:, H // 2 - 2:H // 2 + 2, W // 2 - 2:W // 2 + 2] if shape else np.s_[:]
    assert data.dtype == ("f4" if dtype == "u2" else "f8") and weight.all()
    assert np.allclose(data, expected[cut], rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("suffix", ["h5", "npy"])
def test_several_dark_frames_are_averaged_and_as_many_as_frames_are_one_each(tmp_path, suffix):
    few, many = (RNG.integers(0, 50, (n, H, W)).astype("u2") for n in (7, A * B))
    raw = FRAMES.reshape(-1, H, W).astype(float)
    for dark, pars, expected in ((few, {}, few.mean(axis=0)), (many, {}, many),
                                 (many, {"darkfield.average": True}, many.mean(axis=0))):
        if suffix == "npy":
            np.save(tmp_path / "dark.npy", dark)
            given = {"darkfield.file": tmp_path / "dark.npy"}
        else:
            given = {"darkfield.key": "dark"}
        data, _, _, _ = prepared(scan_of(tmp_path, datasets={"dark": dark}, **given, **pars))
        assert np.allclose(data, np.maximum(raw - expected, 0), rtol=1e-6)
    with pytest.raises(SourceError, match=r"shape \(7, 6, 8\)"):
        scan_of(tmp_path, datasets={"dark": few}, **{"darkfield.key": "dark", "darkfield.average": False}).initialize()


def test_counts_below_the_dark_field_are_kept_where_that_is_asked_for(tmp_path):
    dark = DARK.astype("u4") + 40_000
    scan = scan_of(tmp_path, datasets={"dark": dark}, **{"darkfield.key": "dark", "darkfield.negative": "keep"})
    expected = (FRAMES.astype(float) - dark).reshape(-1, H, W)
    assert expected.min() < 0 and np.allclose(prepared(scan)[0], expected)


def test_a_pixel_without_a_response_is_bad_and_zero(tmp_path):
    flat, dark = FLAT.copy(), DARK.astype(float)
    flat[1, 2], flat[2, 3], dark[3, 4] = 0, np.nan, np.inf
    scan = scan_of(tmp_path, datasets={"flat": flat, "dark": dark},
                   **{"flatfield.key": "flat", "darkfield.key": "dark"})
    data, weight, _, _ = prepared(scan)
    odd = np.zeros((H, W), bool)
    odd[[1, 2, 3], [2, 3, 4]] = True
    assert (weight == ~odd).all() and np.isfinite(data).all() and not data[:, [1, 2], [2, 3]].any()


@pytest.mark.parametrize("shape", [(A, B), (A * B,), (A, B, 3)], ids=str)
def test_frames_are_divided_by_the_relative_flux(tmp_path, shape):
    flux = RNG.uniform(5, 6, shape)
    data, _, _, _ = prepared(scan_of(tmp_path, datasets={"i0": flux}, **{"normalisation.key": "i0"}))
    each = flux.reshape(A * B, -1).mean(axis=1)
    assert np.allclose(data, FRAMES.reshape(-1, H, W) / (each / each.mean())[:, None, None], rtol=1e-6)


FLUX = np.full(A * B, 4.0)
FLUX[3], FLUX[7] = 40.0, 0.0
STEADY = np.array([4.0] * 18 + [40.0])      # those above 0


def test_outliers_of_the_monitor_are_named_and_handled(tmp_path, caplog):
    caplog.set_level("INFO")
    with pytest.raises(SourceError, match=r"frames 3, 7. By those of 7 nothing can be divided. Set normalisation.outl"):
        scan_of(tmp_path, datasets={"i0": FLUX}, **{"normalisation.key": "i0"}).initialize()
    with pytest.raises(SourceError, match="frames 3, 7"):
        scan_of(tmp_path, datasets={"i0": FLUX}, **{"normalisation.key": "i0", "normalisation.outliers": "raise"}
                ).initialize()
    raw = FRAMES.reshape(-1, H, W).astype(float)
    dropped = scan_of(tmp_path, datasets={"i0": FLUX}, **{"normalisation.key": "i0", "normalisation.outliers": "drop"})
    data, _, _, frame = prepared(dropped)
    left = np.setdiff1d(np.arange(A * B), [3, 7])
    assert frame.tolist() == left.tolist() and np.allclose(data, raw[left])
    assert dropped.report["normalisation"]["outliers"].tolist() == [3, 7]
    masked = scan_of(tmp_path, datasets={"i0": FLUX}, **{"normalisation.key": "i0", "normalisation.outliers": "mask"})
    data, weight, _, frame = prepared(masked)
    assert np.flatnonzero(~weight.any(axis=(1, 2))).tolist() == [3, 7] and np.allclose(data, raw)
    assert "frames 3, 7" in caplog.text
    FLUX_7 = np.where(FLUX == 0, 4.0, FLUX)
    data, weight, _, _ = prepared(scan_of(tmp_path, datasets={"i0": FLUX_7}, **{"normalisation.key": "i0"}))
    assert weight.all() and np.allclose(data[3], raw[3] / 10) and np.allclose(data[4], raw[4])


@pytest.mark.parametrize(("name", "pars", "words"), [
    ("dark", {"darkfield.key": "x"}, r"shape \(3, 3\)"),
    ("flat", {"flatfield.key": "x"}, r"shape \(3, 3\)"),
    ("mask", {"mask.key": "x"}, r"the mask has shape \(3, 3\), the frames have \(6, 8\)"),
    ("i0", {"normalisation.key": "x"}, r"shape \(3, 3\); expected a number for each of the 20 frames"),
])
def test_arrays_of_another_size_are_refused(tmp_path, name, pars, words):
    with pytest.raises(SourceError, match=words):
        scan_of(tmp_path, datasets={"x": np.ones((3, 3))}, **pars).initialize()


# --- masks -------------------------------------------------------------------------------------------------

BITS = RNG.integers(0, 4, (H, W)).astype("u4")


@pytest.mark.parametrize(("pars", "good"), [
    ({}, BITS != 0), ({"mask.invert": True}, BITS == 0), ({"mask.bits": 2}, BITS & 2 == 0)])
@pytest.mark.parametrize("per_frame", [False, True])
def test_a_mask_says_good_or_bad_by_value_or_bits(tmp_path, pars, good, per_frame):
    mask = np.stack([np.roll(BITS, k, axis=1) for k in range(A * B)]).reshape(A, B, H, W) if per_frame else BITS
    data, weight, _, _ = prepared(scan_of(tmp_path, datasets={"mask": mask}, **{"mask.key": "mask", **pars}))
    expected = np.stack([np.roll(good, k if per_frame else 0, axis=1) for k in range(A * B)])
    assert np.array_equal(weight, expected) and np.array_equal(data, FRAMES.reshape(-1, H, W))


def test_drawn_shapes_mask_pixels_and_say_why(tmp_path):
    frames = FRAMES.copy()
    frames[1, 1, 0, 0], frames[2, 2, 5, 5] = 2**16 - 1, 2**16 - 1
    scan = scan_of(tmp_path, frames, **{"mask.shapes": "circle 3 4 1; rectangle 5 6 0 8"}, dfile=tmp_path / "s.ptyd")
    drawn = np.zeros((H, W), bool)
    drawn[[2, 3, 3, 3, 4], [4, 3, 4, 5, 4]] = True
    drawn[5] = True
    scan.initialize().prepare(6)
    reasons = np.where(drawn, REASONS["user"], 0)
    reasons[0, 0] = REASONS["overflow"]
    with h5py.File(tmp_path / "s.ptyd") as file:
        assert np.array_equal(file["info/mask_reasons"], reasons)
        assert {name: int(file[f"info/mask_legend/{name}"][()]) for name in REASONS} == REASONS
    assert not read_ptyd(tmp_path / "s.ptyd")["weights"][:, drawn].any()


# --- geometry ------------------------------------------------------------------------------------------------

def test_geometry_is_read_with_its_units(tmp_path):
    scan = scan_of(tmp_path, datasets={"e": 9123.0, "z": 1950.0, "p": [75.0, 55.0], "cy": 2.5, "cx": 4.0},
                   **dict.fromkeys(GEOMETRY), **{
                       "recorded_energy.key": "e", "recorded_distance.key": "z", "recorded_psize.key": "p",
                       "recorded_center.y_key": "cy", "recorded_center.x_key": "cx"})
    with h5py.File(tmp_path / "scan.h5", "a") as file:
        file["e"].attrs["units"], file["z"].attrs["units"], file["p"].attrs["units"] = "eV", np.bytes_("mm"), "um"
    meta = scan.initialize().meta
    assert np.allclose([meta.energy, meta.distance, *meta.psize], [9.123, 1.95, 75e-6, 55e-6])
    assert scan.plan.center == (2.5, 4) and scan.p.origin("energy") == "detector"


def test_multipliers_and_the_offset_are_ptypys(tmp_path, caplog):
    caplog.set_level("INFO")
    none = {"energy": None, "distance": None, "psize": None}
    scan = scan_of(tmp_path, datasets={"e": 9123.0, "z": 1950.0, "p": 7.5e-5}, **none, **{
        "recorded_energy.key": "e", "recorded_energy.multiplier": 1e-3, "recorded_energy.offset": -0.008,
        "recorded_distance.key": "z", "recorded_distance.multiplier": 1e-3, "recorded_psize.key": "p"})
    meta = scan.initialize().meta
    assert np.allclose([meta.energy, meta.distance, *meta.psize], [9.115, 1.95, 75e-6, 75e-6])
    assert "p has no unit and is taken as m" in caplog.text


@pytest.mark.parametrize(("value", "unit", "words"), [
    (9.0, "furlong", "recorded_energy.multiplier"), ([1.0, 2.0], "keV", "holds 2 numbers; expected one"),
    (9.0, "mm", "no unit of energy")])
def test_geometry_that_cannot_be_read_is_named(tmp_path, value, unit, words):
    scan = scan_of(tmp_path, datasets={"e": value}, **{**GEOMETRY, "energy": None, "recorded_energy.key": "e"})
    with h5py.File(tmp_path / "scan.h5", "a") as file:
        file["e"].attrs["units"] = unit
    with pytest.raises(SourceError, match=words):
        scan.initialize()


def test_electrons(tmp_path):
    meta = scan_of(tmp_path, **{**GEOMETRY, "energy": 80.0, "electron_data": True}).initialize().meta
    assert meta.energy == photon_energy_of_electrons(80.0)
    wavelength = 12.398419843320026 / meta.energy           # angstrom
    assert wavelength == pytest.approx(0.0417572, abs=1e-6)   # De Graef, table 2.2: 80 kV, 4.1757 pm


@pytest.mark.parametrize(("padding", "sides"), [(2, (2, 2, 2, 2)), ((1, 0, 3, 2), (1, 0, 3, 2))])
def test_padding_goes_around_and_has_no_weight(tmp_path, padding, sides):
    top, bottom, left, right = sides
    data, weight, _, _ = prepared(scan_of(tmp_path, padding=padding))
    around = ((0, 0), (top, bottom), (left, right))
    assert np.array_equal(data, np.pad(FRAMES.reshape(-1, H, W), around))
    assert np.array_equal(weight, np.pad(np.ones((A * B, H, W), bool), around))
    cut, _, _, _ = prepared(scan_of(tmp_path, padding=padding, shape=(H, W), center=(0, 0)))     # of the raw frame
    lots = np.pad(FRAMES.reshape(-1, H, W), ((0, 0), (H, H), (W, W)))
    assert np.array_equal(cut, lots[:, H - H // 2:2 * H - H // 2, W - W // 2:2 * W - W // 2])


def test_a_centre_in_the_padding_is_possible_and_one_beyond_is_not(tmp_path):
    assert scan_of(tmp_path, padding=3, center=(-1, 4), shape=4).initialize().plan.padding[0] == (3, 0)
    with pytest.raises(FrameError, match="rows -3 to 8"):
        scan_of(tmp_path, padding=3, center=(-4, 4), shape=4).initialize()
    with pytest.raises(FrameError, match="not one pixel of the raw frame"):
        scan_of(tmp_path, padding=3, center=(-3, 4), shape=4).initialize()


# --- an outer axis, and several files ------------------------------------------------------------------------

@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("outer", [0, 2])
def test_an_outer_axis_is_taken_from_all_that_have_it(tmp_path, as_list, outer):
    lots = RNG.integers(0, 99, (3, A, B, H, W)).astype("u2")
    slow, mask, flux = RNG.normal(size=(3, A, B)) * 1e-6, RNG.random((3, H, W)) > 0.2, RNG.uniform(5, 6, (3, A, B))
    shape = (A * B,) if as_list else (A, B)
    scan = scan_of(tmp_path, lots.reshape(3, *shape, H, W), slow.reshape(3, *shape), FAST.reshape(shape), datasets={
        "e": [7.0, 7.1, 7.2], "mask": mask, "i0": flux.reshape(3, *shape)}, **{
        "outer_index": outer, "recorded_energy.key": "e", "energy": None, "mask.key": "mask",
        "normalisation.key": "i0"})
    data, weight, position, frame = prepared(scan)
    each = flux[outer].ravel()
    assert np.allclose(data, lots[outer].reshape(-1, H, W) / (each / each.mean())[:, None, None], rtol=1e-6)
    assert (weight == mask[outer]).all() and frame.tolist() == list(range(A * B))
    assert np.array_equal(position, np.stack([slow[outer], FAST], -1).reshape(-1, 2))
    assert scan.meta.energy == [7.0, 7.1, 7.2][outer]


def test_set_axes_go_with_an_outer_axis(tmp_path):
    lots = RNG.integers(0, 99, (A, A, B, H, W)).astype("u2")        # as many energies as rows: axes have no outer one
    data, _, position, _ = prepared(scan_of(tmp_path, lots, ROW, COLUMN, outer_index=1))
    assert np.array_equal(data, lots[1].reshape(-1, H, W)) and np.array_equal(position, MESH.reshape(-1, 2))


LOTS = list(itertools.product((1, 2, 3), repeat=3))         # energies, rows, columns, with all their equalities


def mesh(slow, fast):
    """[(slow, fast)] of a raster, the fast axis running fastest."""
    return [(a, b) for a in slow for b in fast]


def readings(kind, size, rows, cols, place):
    """(slow, fast, positions of one place) of one kind of readings, as a program would record them."""
    slow, fast = np.cumsum(RNG.uniform(1, 2, (size, rows)), 1), np.cumsum(RNG.uniform(1, 2, (size, cols)), 1)
    slow, fast = slow - slow[:, :1], fast - fast[:, :1]         # the same axes for each energy, but for a small error
    each = np.array([mesh(a, b) for a, b in zip(slow, fast)])   # (energies, frames, 2)
    one = {"an axis each": (slow, fast, each), "one axis": (slow[0], fast[0], each[:1]),
           "own slow axes": (slow, fast[0], np.array([mesh(a, fast[0]) for a in slow])),
           "own fast axes": (slow[0], fast, np.array([mesh(slow[0], b) for b in fast])),
           "lists": (each[..., 0], each[..., 1], each), "one list": (each[0, :, 0], each[0, :, 1], each[:1]),
           "grids": (*each.reshape(size, rows, cols, 2).transpose(3, 0, 1, 2), each),
           "one grid": (*each[0].reshape(rows, cols, 2).transpose(2, 0, 1), each[:1])}[kind]
    return *one[:2], one[2][place % len(one[2])]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["an axis each", "one axis", "own slow axes", "own fast axes", "lists", "one list",
                                  "grids", "one grid"])
@pytest.mark.parametrize("as_list", [False, True])
def test_positions_of_an_outer_axis_whatever_is_equal(tmp_path, kind, as_list):
    for size, rows, cols in LOTS:
        place = size - 1
        slow, fast, expected = readings(kind, size, rows, cols, place)
        lots = np.ones((size, rows * cols, 2, 2) if as_list else (size, rows, cols, 2, 2), "u1")
        scan = scan_of(tmp_path, lots, slow * 1e-6, fast * 1e-6, outer_index=place, center=(1, 1)).initialize()
        assert np.allclose(scan.positions, expected * 1e-6), (size, rows, cols)


@pytest.mark.parametrize("outer_axis", [None, True, False])
def test_readings_that_fit_both_ways_are_asked_for(tmp_path, outer_axis):
    slow, fast = RNG.normal(size=(2, 3, 3)) * 1e-6              # run along no axis
    scan = scan_of(tmp_path, np.ones((3, 3, 3, H, W), "u1"), slow, fast, outer_index=1, outer_axis=outer_axis,
                   **{"positions.axes": outer_axis})
    if outer_axis is None:
        with pytest.raises(PositionError, match=r"slow positions of shape \(3, 3\) and fast ones of shape \(3, 3\): is "
                                                r"the first axis that of outer_index, which has 3 places.*outer_axis"):
            scan.initialize()
        return
    expected = mesh(slow[1], fast[1]) if outer_axis else np.column_stack([slow.ravel(), fast.ravel()])
    assert np.array_equal(scan.initialize().positions, expected)


@pytest.mark.parametrize("outer_axis", [None, True])
def test_what_fits_no_frames_is_asked_for(tmp_path, outer_axis):
    slow, fast = RNG.normal(size=(2, 3, 7)) * 1e-6
    scan = scan_of(tmp_path, np.ones((3, 5, H, W), "u1"), slow, fast, outer_index=1, outer_axis=outer_axis,
                   **{"positions.mismatch": "first"})
    if outer_axis is None:
        with pytest.raises(PositionError, match=r"\(3, 7\), for 5 frames: is the first axis.*Set outer_axis"):
            scan.initialize()
        return
    assert np.array_equal(scan.initialize().positions, np.column_stack([slow[1], fast[1]])[:5])


@pytest.mark.parametrize("outer_axis", [None, True])
def test_triggers_with_an_outer_axis(tmp_path, outer_axis):
    slow, fast = RNG.normal(size=(2, 3, 10)) * 1e-6
    triggers = np.array([np.repeat(np.roll(np.arange(5), place), 2) for place in range(3)])
    scan = scan_of(tmp_path, np.ones((3, 5, H, W), "u1"), slow, fast, datasets={"t": triggers}, outer_index=1,
                   outer_axis=outer_axis, **{"positions.trigger_key": "t"})
    if outer_axis is None:
        with pytest.raises((PositionError, SourceError), match="is the first axis that of outer_index"):
            scan.initialize()
        return
    expected = [[values[1][triggers[1] == frame].mean() for values in (slow, fast)] for frame in range(5)]
    assert np.allclose(scan.initialize().positions, expected)


@pytest.mark.parametrize("outer_axis", [None, True, False])
@pytest.mark.parametrize("what", ["monitor", "mask", "mask.npy", "dark"])
def test_as_many_places_as_frames(tmp_path, what, outer_axis):
    n = 4
    lots, shape = RNG.integers(50, 99, (n, n, H, W)).astype("u2"), (n, n) if what == "monitor" else (n, H, W)
    values = (RNG.random(shape) > 0.3).astype("u1") if what.startswith("mask") else RNG.uniform(4, 5, shape)
    keys = {"monitor": "normalisation", "mask": "mask", "mask.npy": "mask", "dark": "darkfield"}
    pars = {f"{keys[what]}.key": "v"}
    if what == "mask.npy":
        np.save(tmp_path / "v.npy", values)
        pars = {"mask.file": tmp_path / "v.npy"}
    scan = scan_of(tmp_path, lots, np.arange(n) * 1e-6, np.arange(n) * 1e-6, datasets={"v": values}, outer_index=2,
                   outer_axis=outer_axis, **pars, **({"normalisation.index": 1} if outer_axis is False else {}))
    if outer_axis is None:
        with pytest.raises(SourceError, match="is the first axis that of outer_index, which has 4 places, too"):
            prepared(scan)
        return
    data, weight, *_ = prepared(scan)
    own = values[2] if outer_axis else values       # one for this place; or numbers for each frame, in each place alike
    if what == "monitor":
        each = own if outer_axis else own[:, 1]
        assert np.allclose(data, lots[2] / (each / each.mean())[:, None, None], rtol=1e-6)
    elif what == "dark":
        assert np.allclose(data, lots[2] - own, rtol=1e-6)
    else:
        assert np.array_equal(weight != 0, np.broadcast_to(own != 0, lots[2].shape))


@pytest.mark.parametrize("form", ["npy", "mat", "h5"])
@pytest.mark.parametrize("per_frame", [False, True])
def test_darks_with_an_outer_axis_are_those_of_the_place(tmp_path, form, per_frame):
    lots, count = RNG.integers(50, 99, (3, 5, H, W)).astype("u2"), 5 if per_frame else 2
    dark = RNG.integers(0, 9, (3, count, H, W)).astype("u2")
    path = tmp_path / f"d.{form}"
    if form == "npy":
        np.save(path, dark)
    elif form == "mat":
        pytest.importorskip("scipy.io").savemat(path, {"d": dark.transpose(2, 3, 1, 0)})
    else:
        with h5py.File(path, "w") as file:
            file["d"] = dark
    scan = scan_of(tmp_path, lots, np.arange(5) * 1e-6, np.arange(5) * 1e-6, outer_index=1,
                   **{"darkfield.file": path, "darkfield.key": None if form == "npy" else "d"})
    assert np.allclose(prepared(scan)[0], lots[1] - (dark[1] if per_frame else dark[1].mean(axis=0)), rtol=1e-6)


def test_an_outer_axis_must_be_said(tmp_path):
    lots = np.zeros((3, A, B, H, W), "u2")
    with pytest.raises(SourceError, match=r"say which place \(outer_index\)"):
        scan_of(tmp_path, lots).initialize()
    with pytest.raises(SourceError, match="has no place 3 along its first axis; expected 0 to 2"):
        scan_of(tmp_path, lots, outer_index=3).initialize()


def test_files_are_joined_with_their_positions(tmp_path):
    paths = []
    for i, rows in enumerate((slice(0, 2), slice(2, 5))):
        (tmp_path / str(i)).mkdir()
        scan_of(tmp_path / str(i), FRAMES[rows], ROW[rows], COLUMN)
        paths.append(tmp_path / str(i) / "scan.h5")
    scan = recipe("hdf5")({"intensities.file": paths[0], "intensities.join": [paths[1]], "intensities.key": "frames",
                           "positions.slow_key": "slow", "positions.fast_key": "fast", "positions.skip": 2, **GEOMETRY})
    numbers = np.concatenate([NUMBERS[0:2:2, ::2].ravel(), NUMBERS[2:5:2, ::2].ravel()])
    assert np.array_equal(holds(scan, numbers), MESH.reshape(-1, 2)[numbers])
    (tmp_path / "x").mkdir()
    scan_of(tmp_path / "x", FRAMES.astype("u4"))
    with pytest.raises(SourceError, match="frames of uint32 .* cannot be joined"):
        recipe("hdf5")({"intensities.file": paths[0], "intensities.join": str(tmp_path / "x" / "scan.h5"),
                        "intensities.key": "frames", **GEOMETRY}).initialize()


# --- which frames belong to which positions -----------------------------------------------------------------

N = A * B


def test_readings_of_a_trigger_are_averaged(tmp_path):
    trigger = np.repeat(np.arange(N), 3) + 1
    slow, fast = (np.repeat(axis.ravel(), 3) + np.tile([-1e-9, 0, 1e-9], N) for axis in (SLOW, FAST))
    mixed = RNG.permutation(3 * N)
    scan = scan_of(tmp_path, slow=slow[mixed], fast=fast[mixed], datasets={"trigger": trigger[mixed]},
                   **{"positions.trigger_key": "trigger", "positions.trigger_start": 1})
    assert np.allclose(holds(scan, np.arange(N)), np.stack([SLOW, FAST], -1).reshape(-1, 2), atol=1e-20)


@pytest.mark.parametrize("policy", ["raise", "drop", "interpolate"])
def test_frames_without_a_trigger(tmp_path, policy):
    there = np.setdiff1d(np.arange(N), [0, 5, 6])       # the first cannot be interpolated
    trigger = np.append(there, [there[3], 40])          # one twice, one of a frame that is not there
    scan = scan_of(tmp_path, slow=SLOW.ravel()[np.append(there, [there[3], 1])],
                   fast=FAST.ravel()[np.append(there, [there[3], 1])], datasets={"trigger": trigger},
                   **{"positions.trigger_key": "trigger", "positions.mismatch": policy, "positions.trigger_start": 0})
    if policy == "raise":
        with pytest.raises(PositionError, match="none for triggers 40. Set positions.trigger_start"):
            scan.initialize()
        return
    numbers = there if policy == "drop" else np.arange(1, N)
    found = holds(scan, numbers)
    truth = np.stack([SLOW, FAST], -1).reshape(-1, 2)
    gap = truth[4] + (truth[7] - truth[4]) * np.array([1, 2])[:, None] / 3
    truth[5:7] = gap
    assert np.allclose(found, truth[numbers], atol=1e-20)
    report = scan.report["positions"]
    assert report["triggers_without_frame"].tolist() == [40]
    assert report["frames_with_other_readings"].tolist() == [there[3]]
    assert report["frames_without_position"].tolist() == ([0] if policy == "interpolate" else [0, 5, 6])


@pytest.mark.parametrize("policy", ["raise", "drop"])
def test_positions_are_interpolated_to_the_times_of_frames(tmp_path, policy):
    times, frame_times = np.arange(0, 29.1, 0.5), np.arange(N) + 10.25        # the last comes after the last reading
    slow, fast = np.cos(times) * 1e-6, times ** 2 * 1e-9
    back = RNG.permutation(len(times))
    scan = scan_of(tmp_path, slow=slow[back], fast=fast[back], datasets={"t": times[back], "ft": frame_times},
                   **{"positions.time_key": "t", "positions.frame_time_key": "ft", "positions.mismatch": policy})
    if policy == "raise":
        with pytest.raises(PositionError, match="1 of 20 are not finite.*scan point 19.*positions.mismatch says"):
            scan.initialize()
        return
    at = np.array([2 * (t - 0.25) for t in frame_times[:19]], int)
    expected = np.column_stack([(slow[at] + slow[at + 1]) / 2, (fast[at] + fast[at + 1]) / 2])
    assert np.allclose(holds(scan, np.arange(19)), expected, atol=1e-18)


def test_other_numbers_of_frames_and_positions(tmp_path):
    few = {"slow": SLOW.ravel()[:17], "fast": FAST.ravel()[:17]}
    with pytest.raises(PositionError, match="20 frames but 17 positions"):
        scan_of(tmp_path, **few).initialize()
    for policy in ("drop", "interpolate"):
        with pytest.raises(PositionError, match="nobody can tell which frames have none; positions.mismatch='first'"):
            scan_of(tmp_path, **few, **{"positions.mismatch": policy}).initialize()
    found = holds(scan_of(tmp_path, **few, **{"positions.mismatch": "first"}), np.arange(17))
    assert np.array_equal(found, np.stack([SLOW, FAST], -1).reshape(-1, 2)[:17])
    many = {"slow": np.append(SLOW, [0, 0]), "fast": np.append(FAST, [0, 0])}
    holds(scan_of(tmp_path, **many, **{"positions.mismatch": "first"}), np.arange(20))


def test_a_reading_that_is_no_number_is_dropped_or_filled(tmp_path):
    slow = SLOW.ravel().copy()
    slow[4] = np.nan
    with pytest.raises(PositionError, match="1 of 20 are not finite.*scan point 4.*positions.mismatch says"):
        scan_of(tmp_path, slow=slow, fast=FAST.ravel()).initialize()
    some = {"slow": slow, "fast": FAST.ravel()}
    holds(scan_of(tmp_path, **some, **{"positions.mismatch": "drop"}), np.delete(np.arange(N), 4))
    found = holds(scan_of(tmp_path, **some, **{"positions.mismatch": "interpolate"}), np.arange(N))
    assert np.allclose(found[4], np.stack([SLOW, FAST], -1).reshape(-1, 2)[[3, 5]].mean(axis=0))


def test_signs_skew_and_angle(tmp_path):
    found = holds(scan_of(tmp_path, **{"positions.flip_y": True, "positions.skew": 30, "positions.angle": 90}),
                  np.arange(N))
    y, x = -SLOW.ravel() + FAST.ravel() * 0.5, FAST.ravel() * np.sqrt(3) / 2
    assert np.allclose(found, np.column_stack([x, -y]), atol=1e-20)


# --- all of it -----------------------------------------------------------------------------------------------

@pytest.mark.mpi
def test_three_ranks_make_of_it_what_one_does(tmp_path):
    flux, mask = RNG.uniform(5, 6, N), (RNG.random((A, B, H, W)) > 0.2).astype("u1")
    flux[3] = 50
    slow = SLOW.ravel().copy()
    slow[4] = np.nan
    scan_of(tmp_path, slow=slow, fast=FAST.ravel(), datasets={"i0": flux, "mask": mask, "dark": DARK, "flat": FLAT})
    command = ["-m", "ptyprep", "prepare", "hdf5", "scan.h5", "--intensities.key", "frames", "--positions.slow_key",
               "slow", "--positions.fast_key", "fast", "--energy", "9", "--distance", "2", "--psize", "75um",
               "--center", "fftshift", "--normalisation.key", "i0", "--normalisation.outliers", "drop", "--mask.key",
               "mask",
               "--darkfield.key", "dark", "--flatfield.key", "flat", "--positions.mismatch", "drop",
               "--frames_per_chunk", "4", "--bad_pixels.find"]
    for ranks in (1, 3):
        job = run_on_ranks(ranks, *command, "-o", f"{ranks}.ptyd", cwd=tmp_path)
        assert job.returncode == 0, job.stderr
    one, three = (read_ptyd(tmp_path / f"{ranks}.ptyd") for ranks in (1, 3))
    assert one["frame_ids"].tolist() == np.delete(np.arange(N), [3, 4]).tolist()
    assert all(np.array_equal(one[name], three[name]) for name in one)
    with h5py.File(tmp_path / "1.ptyd") as a, h5py.File(tmp_path / "3.ptyd") as b:
        assert np.array_equal(a["info/mask_reasons"], b["info/mask_reasons"])
        assert a["info/report/normalisation/outliers"][()].tolist() == [3]
        assert a["info/normalisation/key"][()] == b"i0"     # the parameters are still there
        assert a["info/report/positions/frames_without_position"][()].tolist() == [4]


@pytest.mark.parametrize("changed", ["dark", "flux", "filter", "mask of each frame"])
def test_a_run_is_not_gone_on_with_when_a_correction_changed(tmp_path, changed):
    def scan(**pars):
        datasets = {"frames": FRAMES, "dark": DARK + (changed == "dark" and pars.get("resume", False)),
                    "i0": np.where(np.arange(N) == (3 if changed == "flux" and "resume" in pars else 99), 5.0, 4.0),
                    "filter": np.arange(N) != (3 if changed == "filter" and "resume" in pars else 4)}
        with h5py.File(tmp_path / "beside.h5", "w") as file:
            for name, values in datasets.items():
                file[name] = values
        if "resume" not in pars or changed == "mask of each frame":
            with h5py.File(tmp_path / "masks.h5", "w") as file:
                file["mask"] = np.ones((N + 0, H, W), "u1") if "resume" not in pars else np.ones((N, H, W), "u2")
        beside = str(tmp_path / "beside.h5")
        if "resume" not in pars:
            scan_of(tmp_path)
        return recipe("hdf5")({
            "intensities.file": tmp_path / "scan.h5", "intensities.key": "frames", "positions.slow_key": "slow",
            "positions.fast_key": "fast", "darkfield.file": beside, "darkfield.key": "dark", "framefilter.file": beside,
            "normalisation.file": beside, "normalisation.key": "i0", "framefilter.key": "filter",
            "mask.file": tmp_path / "masks.h5", "dfile": tmp_path / "s.ptyd", **GEOMETRY, **pars}).initialize()

    for batch in scan().batches(5):
        assert len(batch)
        break
    word = {"dark": "correction dark", "flux": "correction monitor", "filter": "scan points",
            "mask of each frame": "correction mask"}[changed]
    with pytest.raises(OutputError, match=f"cannot be resumed.*{word}"):
        scan(resume=True)


# --- what a review and first users found ----------------------------------------------------------------------

def test_a_selection_holds_where_frames_and_positions_are_not_as_many(tmp_path):
    more = {"slow": np.append(SLOW, [0, 0]), "fast": np.append(FAST, [0, 0])}
    wanted = np.arange(N) != 4
    holds(scan_of(tmp_path, **more, datasets={"filter": wanted}, num_frames=5, **{
        "positions.skip": 2, "framefilter.key": "filter"}), [0, 2, 6, 8, 10])
    with pytest.raises(PositionError, match="20 frames but 22 positions"):
        scan_of(tmp_path, **more, **{"positions.skip": 2}).initialize()


def test_a_raster_that_was_cut_short_keeps_its_rows(tmp_path):
    frames, row, column = FRAMES.reshape(-1, H, W)[:18], np.sort(ROW), np.sort(COLUMN)
    scan = scan_of(tmp_path, frames, row, column, **{"positions.skip": 2, "positions.mismatch": "first"})
    found = holds(scan, NUMBERS[::2, ::2].ravel()[:-1])
    assert np.array_equal(found, [(y, x) for y in row[::2] for x in column[::2]][:-1])


def joined(folder, parts, **pars):
    """Scans of recipe hdf5 in files of their own, joined; parts: (frames, slow, fast, further datasets)."""
    paths = []
    for i, (frames, slow, fast, more) in enumerate(parts):
        (folder / str(i)).mkdir()
        scan_of(folder / str(i), frames, slow, fast, datasets=more)
        paths.append(folder / str(i) / "scan.h5")
    found = {"positions.slow_key": "slow", "positions.fast_key": "fast"} if parts[0][1] is not None else {}
    return recipe("hdf5")({"intensities.file": paths[0], "intensities.join": paths[1:], "intensities.key": "frames",
                           **found, **GEOMETRY, **pars})


def test_joined_scans_are_matched_each_by_itself(tmp_path):
    flat = FRAMES.reshape(-1, H, W)
    slow, fast = SLOW.ravel(), FAST.ravel()
    parts = [(flat[:5], slow[:6], fast[:6], {}), (flat[5:12], slow[5:11], fast[5:11], {})]
    with pytest.raises(PositionError, match="0/scan.h5: 5 frames but 6 positions, of one of 2 files"):
        joined(tmp_path, parts).initialize()
    (tmp_path / "more").mkdir()
    found = holds(joined(tmp_path / "more", parts, **{"positions.mismatch": "first"}), np.r_[0:5, 5:11])
    assert np.array_equal(found, np.stack([SLOW, FAST], -1).reshape(-1, 2)[np.r_[0:5, 5:11]])


def test_joined_scans_have_clocks_triggers_monitors_and_rasters_of_their_own(tmp_path):
    flat, t = FRAMES.reshape(-1, H, W), np.arange(11.0)
    (tmp_path / "clock").mkdir()
    scan = joined(tmp_path / "clock", [(flat[:4], t * 1e-6, -t * 1e-6, {"t": t, "ft": np.array([1, 2, 3, 4.5])}),
                                       (flat[4:8], t * 1e-6, -t * 1e-6, {"t": t, "ft": np.array([6, 7, 8, 9.5])})],
                  **{"positions.time_key": "t", "positions.frame_time_key": "ft"})
    expected = np.array([1, 2, 3, 4.5, 6, 7, 8, 9.5]) * 1e-6
    assert np.allclose(holds(scan, np.arange(8)), np.column_stack([expected, -expected]))
    (tmp_path / "trigger").mkdir()
    scan = joined(tmp_path / "trigger", [
        (flat[:3], t[:4], t[:4] * 0, {"n": [0, 0, 1, 2]}), (flat[3:6], t[:5], t[:5] * 0, {"n": [0, 1, 2, 2, 2]})],
        **{"positions.trigger_key": "n", "positions.fast_multiplier": 1e-6, "positions.slow_multiplier": 1e-6})
    assert np.allclose(holds(scan, np.arange(6))[:, 0], np.array([0.5, 2, 3, 0, 1, 3]) * 1e-6)
    assert scan.report["positions"]["frames_with_other_readings"].tolist() == [0, 5]
    (tmp_path / "flux").mkdir()
    scan = joined(tmp_path / "flux", [(flat[:2], t[:2] * 1e-6, t[:2] * 0, {"i0": [4.0, 5.0]}),
                                      (flat[2:5], t[:3] * 1e-6, t[:3] * 0, {"i0": [4.5, 4.5, 4.5]})],
                  **{"normalisation.key": "i0"})
    assert np.allclose(prepared(scan)[0][:, 0, 0], flat[:5, 0, 0] / np.array([4, 5, 4.5, 4.5, 4.5]) * 4.5, rtol=1e-6)
    (tmp_path / "raster").mkdir()
    scan = joined(tmp_path / "raster", [(FRAMES[:2], SLOW[:2].ravel(), FAST[:2].ravel(), {}),
                                        (FRAMES[2:], SLOW[2:].ravel(), FAST[2:].ravel(), {})], **{"positions.skip": 2})
    holds(scan, np.concatenate([NUMBERS[:2][::2, ::2].ravel(), NUMBERS[2:][::2, ::2].ravel()]))


@pytest.mark.parametrize("count", [12, 10])
def test_joined_scans_have_their_rasters_under_theoretical_positions_too(tmp_path, count):
    flat, theory = FRAMES.reshape(-1, H, W), THEORY.reshape(-1, 2)[:count]
    nothing = {"positions.slow_key": None, "positions.fast_key": None}
    scan = joined(tmp_path, [(flat[:6].reshape(2, 3, H, W), [0.0], [0.0], {}),
                             (flat[6:12].reshape(3, 2, H, W), [0.0], [0.0], {})],
                  positions_theory=theory, **nothing, **{"positions.skip": 2})
    numbers = np.array([0, 2, 6, 10])[:4 if count > 10 else 3]     # of rasters of 2 x 3 and 3 x 2
    assert np.array_equal(holds(scan, numbers), theory[numbers])


def test_a_field_that_differs_between_joined_files_must_be_named(tmp_path):
    flat = FRAMES.reshape(-1, H, W)
    parts = [(flat[:3], SLOW.ravel()[:3], FAST.ravel()[:3], {"dark": DARK}),
             (flat[3:6], SLOW.ravel()[3:6], FAST.ravel()[3:6], {"dark": DARK + 1})]
    with pytest.raises(SourceError, match="dark is another one in the files that are joined: set darkfield.file"):
        joined(tmp_path, parts, **{"darkfield.key": "dark"}).initialize()


def test_marks_of_the_detector_are_no_dark_counts(tmp_path):
    dark = np.full((3, H, W), 10, "u2")
    dark[1, 2, 3] = dark[:, 4, 5] = 2**16 - 1
    for name in ("h5", "npy"):
        np.save(tmp_path / "dark.npy", dark)
        given = {"darkfield.key": "dark"} if name == "h5" else {"darkfield.file": tmp_path / "dark.npy"}
        data, weight, _, _ = prepared(scan_of(tmp_path, datasets={"dark": dark}, **given))
        assert np.argwhere(~weight[0]).tolist() == [[4, 5]] and (weight == weight[0]).all()
        assert data[0, 2, 3] == max(int(FRAMES[0, 0, 2, 3]) - 10, 0)


def test_a_recipe_may_answer_load_positions_and_still_be_cut(tmp_path):
    cls = recipe("hdf5")

    class Mine(cls):
        """Positions of its own."""
        def load_positions(self):
            return np.stack([SLOW, FAST], -1)

    scan_of(tmp_path)
    scan = Mine({"intensities.file": tmp_path / "scan.h5", "intensities.key": "frames", "positions.skip": 2,
                 **GEOMETRY})
    holds(scan, NUMBERS[::2, ::2].ravel())


def test_a_position_that_nobody_wants_may_be_unknown(tmp_path):
    slow = SLOW.ravel().copy()
    slow[11] = np.nan
    holds(scan_of(tmp_path, slow=slow, fast=FAST.ravel(), num_frames=5), range(5))
    wanted = np.arange(N) != 11
    holds(scan_of(tmp_path, slow=slow, fast=FAST.ravel(), datasets={"filter": wanted}, **{"framefilter.key": "filter"}),
          np.flatnonzero(wanted))


def test_a_listed_scan_that_ends_early_keeps_what_came(tmp_path):
    cls = recipe("hdf5")

    class Short(cls):
        """A scan that ends after five frames, of which it promised twenty."""
        def check(self, frames, start):
            return min(frames, 5 - start), start + frames >= 5

    scan_of(tmp_path)
    scan = Short({"intensities.file": tmp_path / "scan.h5", "intensities.key": "frames", "positions.slow_key": "slow",
                  "positions.fast_key": "fast", "frameorder.indices": [0, 1, 9, 2, 3, 12, 4], **GEOMETRY})
    holds(scan, [0, 1, 2, 3, 4])
    assert scan.bad == [(9, "the scan ended after 5 frames"), (12, "the scan ended after 5 frames")]


def test_axes_of_another_raster_are_refused(tmp_path):
    with pytest.raises(PositionError, match="a raster of 5 x 4, but the slow axis has 4 readings and the fast one 5"):
        scan_of(tmp_path, FRAMES, COLUMN, ROW).initialize()


def test_triggers_that_fit_from_another_number_on_are_asked_about(tmp_path):
    there = np.setdiff1d(np.arange(1, N + 1), [7])
    for policy in ("raise", "drop"):
        with pytest.raises(PositionError, match="is the first frame's trigger 0 or 1. Set positions.trigger_start"):
            scan_of(tmp_path, slow=SLOW.ravel()[there - 1], fast=FAST.ravel()[there - 1], datasets={"n": there},
                    **{"positions.trigger_key": "n", "positions.mismatch": policy}).initialize()
    scan = scan_of(tmp_path, slow=SLOW.ravel()[there - 1], fast=FAST.ravel()[there - 1], datasets={"n": there},
                   **{"positions.trigger_key": "n", "positions.mismatch": "drop", "positions.trigger_start": 1})
    holds(scan, there - 1)
    with pytest.raises(ParameterError, match="goes by the order"):
        scan_of(tmp_path, slow=SLOW.ravel()[there - 1], fast=FAST.ravel()[there - 1], datasets={"n": there},
                **{"positions.trigger_key": "n", "positions.mismatch": "first"}).initialize()


NO_START = "is the first frame's trigger {}. Set positions.trigger_start"


@pytest.mark.parametrize("policy", ["raise", "drop", "interpolate"])
@pytest.mark.parametrize("numbers, question", [
    (range(N), None),                                       # all of them
    (range(N - 3), None),                                   # the last three were lost
    ([-1, *range(N)], None),                                # one reading before the first exposure
    ([0, 0, *range(1, N)], None),
    (range(1, N + 1), NO_START.format("0 or 1")),
    (range(1, N), NO_START.format("0 or 1")),               # from 1, and the last was lost; or from 0, and the first
    ([1, 2, 4, 5], NO_START.format("0 or 1")),
    ([-1, *range(1, N)], NO_START.format("0 or 1")),
    (range(2, N + 1), NO_START.format("0, 1 or 2")),
    (range(5, N), NO_START.format("0, 1 or 5")),
    (range(N + 1), NO_START.format("0 or 1")),              # one more than frames
    ([-3, -2], "no reading has a trigger from 0 on. Set positions.trigger_start"),
], ids=lambda value: None if value is None or isinstance(value, str) else f"{min(value)}..{max(value)} {len(value)}")
def test_the_first_trigger_is_known_or_asked(tmp_path, numbers, question, policy):
    numbers = np.array([*numbers])
    y = numbers * 1e-6
    pars = {"positions.trigger_key": "n", "positions.mismatch": policy}
    scan = scan_of(tmp_path, slow=y, fast=-y, datasets={"n": numbers}, **pars)
    if question:
        with pytest.raises(PositionError, match=question):
            scan.initialize()
        scan = scan_of(tmp_path, slow=y, fast=-y, datasets={"n": numbers}, **pars, **{"positions.trigger_start": 1})
        shift, expected = 1, np.intersect1d(numbers - 1, np.arange(N))
    else:
        shift, expected = 0, np.intersect1d(numbers, np.arange(N))
    if policy == "drop" and len(expected):
        assert np.allclose(holds(scan, expected)[:, 0], (expected + shift) * 1e-6)


def test_times_of_two_clocks_are_refused(tmp_path):
    t = np.arange(float(N))
    with pytest.raises(PositionError, match=r"no frame was taken between two readings.*frames \(ft\) are 0 to 19, "
                                            r"those of the readings \(t\) 1700000000 to 1700000019"):
        scan_of(tmp_path, slow=t * 1e-6, fast=t * 0, datasets={"t": t + 1.7e9, "ft": t}, **{
            "positions.time_key": "t", "positions.frame_time_key": "ft", "positions.mismatch": "drop"}).initialize()
    scan = scan_of(tmp_path, slow=t * 1e-6, fast=t * 0, datasets={"t": t * 1e3, "ft": t}, **{
        "positions.time_key": "t", "positions.frame_time_key": "ft"})
    with h5py.File(tmp_path / "scan.h5", "r+") as file:
        file["t"].attrs["units"], file["ft"].attrs["units"] = "ms", "s"
    with pytest.raises(PositionError, match="t is in ms and ft in s; expected times of one clock, in one unit"):
        scan.initialize()
    with pytest.raises(ParameterError, match="positions.axes says.*leave out one of them"):
        scan_of(tmp_path, slow=t * 1e-6, fast=t * 0, datasets={"n": t}, **{
            "positions.trigger_key": "n", "positions.axes": True}).initialize()


@pytest.mark.parametrize(("header", "unit"), [("samx (um),samy (um)", 1e-6), ("x_mm,y_mm", 1e-3),
                                              ("X[nm],Y[nm]", 1e-9)])
def test_columns_are_taken_by_their_names_and_units(tmp_path, header, unit):
    y, x = SLOW.ravel() / unit, FAST.ravel() / unit
    (tmp_path / "p.csv").write_text(header + "\n" + "".join(f"{b!r},{a!r}\n" for a, b in zip(y.tolist(), x.tolist())))
    found = holds(scan_of(tmp_path, slow=None, fast=None, **{"positions.file": tmp_path / "p.csv"}), np.arange(N))
    assert np.allclose(found, np.stack([SLOW, FAST], -1).reshape(-1, 2), rtol=1e-9)


def test_columns_that_say_nothing_or_no_unit_are_asked_about(tmp_path):
    rows = "".join(f"{i},{2 * i}\n" for i in range(N))
    (tmp_path / "p.csv").write_text("theta,phi\n" + rows)
    with pytest.raises(PositionError, match="which of its columns theta, phi are y and x"):
        scan_of(tmp_path, slow=None, fast=None, **{"positions.file": tmp_path / "p.csv"}).initialize()
    (tmp_path / "p.csv").write_text("y,x\n" + rows)
    with pytest.raises(PositionError, match="has no unit, and as metres the positions spread over 38 m: set pos"):
        scan_of(tmp_path, slow=None, fast=None, **{"positions.file": tmp_path / "p.csv"}).initialize()


def test_a_unit_holds_for_both_numbers_of_a_pair(tmp_path):
    scan = scan_of(tmp_path, psize="75, 55 um")
    assert np.allclose(scan.initialize().meta.psize, (75e-6, 55e-6))


def test_outliers_do_not_hide_one_another():
    from ptyprep.processing.corrections import relative_flux
    readings = np.random.default_rng(0).normal(1000, 10, 200)
    readings[[3, 50, 60, 70]] = 4000, 1300, 1, 0
    assert set(np.flatnonzero(relative_flux(readings)[1])) >= {3, 50, 60, 70}
    assert relative_flux(readings)[1].sum() < 10
    assert not relative_flux(np.full(9, 3.7))[1].any()


@pytest.mark.parametrize(("pars", "words"), [
    ({"mask.key": "bad"}, "of the region is masked: is a mask the wrong way round"),
    ({"mask.shapes": "circle 500 500 3"}, "covers no pixel"),
    ({"positions.slow_key": "zero", "positions.fast_key": "zero"}, "all 20 positions are the same"),
])
def test_what_is_odd_is_noted(tmp_path, pars, words):
    bad = np.zeros((H, W))
    bad[1, 1] = 1
    scan = scan_of(tmp_path, datasets={"bad": bad, "zero": np.zeros((A, B))}, **pars).initialize()
    assert any(words in note for note in scan.notes), scan.notes


def test_energies_that_are_too_large_for_kev_are_asked_about(tmp_path):
    with pytest.raises(SourceError, match="is 700 and has no unit: keV, or eV. Set recorded_energy.multiplier"):
        scan_of(tmp_path, datasets={"e": 700.0}, energy=None, **{"recorded_energy.key": "e"}).initialize()


def test_a_list_of_numbers_is_an_array_from_the_command_line_too(tmp_path):
    holds(scan_of(tmp_path, **{"frameorder.indices": "[3, 2, 7]"}), [3, 2, 7])


def test_files_beside_are_among_the_sources(tmp_path):
    (tmp_path / "beside").mkdir()
    with h5py.File(tmp_path / "beside" / "dark.h5", "w") as file:
        file["dark"] = DARK
    scan_of(tmp_path, dfile=tmp_path / "s.ptyd", **{"darkfield.file": tmp_path / "beside" / "dark.h5"}
            ).initialize().prepare()
    with h5py.File(tmp_path / "s.ptyd") as file:
        assert [name.decode().rsplit("/", 1)[-1] for name in (file[f"info/sources/file/{k}"][()] for k in sorted(
            file["info/sources/file"]))] == ["scan.h5", "dark.h5"]


@pytest.mark.parametrize("unit, many", [("mm", 0.1), ("m", 1e-4), ("pixel", 1), (None, 1)])
def test_a_recorded_centre_has_a_unit_too(tmp_path, unit, many):
    scan = scan_of(tmp_path, datasets={"cy": 2.0 * many, "cx": 1.0 * many}, center=None, psize=1e-4,
                   **{"recorded_center.y_key": "cy", "recorded_center.x_key": "cx"})
    if unit:
        with h5py.File(tmp_path / "scan.h5", "r+") as file:
            file["cy"].attrs["units"] = file["cx"].attrs["units"] = unit
    assert scan.initialize().plan.center == pytest.approx((2, 1))
    if unit == "mm":
        with h5py.File(tmp_path / "scan.h5", "r+") as file:
            file["cy"].attrs["units"] = "deg"
        with pytest.raises(SourceError, match="cy is in 'deg'; expected pixels"):
            type(scan)(scan.p.flat()).initialize()


def test_a_recorded_distance_that_is_impossible_is_refused_and_a_given_one_wins(tmp_path):
    with pytest.raises(SourceError, match="d = 513.8 without a unit.*impossible.*recorded_distance.multiplier"):
        scan_of(tmp_path, datasets={"d": 513.8}, distance=None, **{"recorded_distance.key": "d"}).initialize()
    scan = scan_of(tmp_path, datasets={"d": 513.8}, distance=0.5138, **{"recorded_distance.key": "d"}).initialize()
    assert scan.p.distance == 0.5138


def test_joined_files_with_other_energies_are_refused(tmp_path):
    for name, value, unit in (("a", 8000.0, "eV"), ("b", 8.0, "keV"), ("c", 8000.0, "eV")):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["frames"], file["e"] = FRAMES, value
            file["slow"], file["fast"] = SLOW, FAST
            file["e"].attrs["units"] = unit
            file["slow"].attrs["units"] = file["fast"].attrs["units"] = "m"
    pars = {"positions.slow_key": "slow", "positions.fast_key": "fast", **GEOMETRY, "energy": None,
            "intensities.key": "frames", "recorded_energy.key": "e", "intensities.file": tmp_path / "a.h5"}
    assert recipe("hdf5")({**pars, "intensities.join": [tmp_path / "c.h5"]}).initialize().p.energy == 8
    with pytest.raises(SourceError, match="b.h5: e is .*8.*keV, and .*a.h5: e .*should have the same"):
        recipe("hdf5")({**pars, "intensities.join": [tmp_path / "b.h5"]}).initialize()
