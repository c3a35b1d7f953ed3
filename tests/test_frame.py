"""FramePlan against plain NumPy: orient the whole frame, cut it by hand, add the parts."""
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptyprep.errors import FrameError
from ptyprep.processing.plan import FramePlan, center_of, orientation_flags

# What each orientation does to one frame; PtyPy's numbers.
TABLE = {0: lambda a: a, 1: np.fliplr, 2: np.flipud, 3: lambda a: np.flipud(np.fliplr(a)), 4: np.transpose,
         5: lambda a: np.fliplr(np.transpose(a)), 6: lambda a: np.flipud(np.transpose(a)),
         7: lambda a: np.fliplr(np.flipud(np.transpose(a)))}
BOOLEANS = {n: tuple(map(bool, map(int, f"{n:03b}"))) for n in TABLE}       # (transpose, flipud, fliplr)


def starts(axis, size, rebin):
    """First pixels that put the axis nearest to the middle of binned pixel N // 2; two where it is a tie."""
    at = [axis - lo - (size // rebin // 2 + 0.5) * rebin + 0.5 for lo in range(-200, 200)]
    nearest = min(map(abs, at))
    return [lo - 200 for lo, a in enumerate(at) if abs(abs(a) - nearest) < 1e-9]


def by_hand(frame, *, shape, center, orientation, rebin, join=np.sum):
    """[(prepared frame, its mask)] that are right: orient, pad, cut, join. Slow, and shares nothing with FramePlan."""
    rows, cols = (TABLE[orientation](i) for i in np.indices(frame.shape))
    h, w = frame.shape
    transpose, flipud, fliplr = BOOLEANS[orientation]
    oriented, (y, x) = TABLE[orientation](frame), center[::-1] if transpose else center
    y = rows.shape[0] - 1 - y if flipud else y
    x = cols.shape[1] - 1 - x if fliplr else x
    size = shape[::-1] if transpose else shape
    pad = 100
    canvas, good = np.pad(oriented, pad), np.pad(np.ones(oriented.shape, bool), pad)
    results = []
    for top, left in itertools.product(starts(y, size[0], rebin), starts(x, size[1], rebin)):
        cut = np.s_[top + pad:top + pad + size[0], left + pad:left + pad + size[1]]
        blocks = (size[0] // rebin, rebin, size[1] // rebin, rebin)
        results.append((join(canvas[cut].reshape(blocks), axis=(1, 3)), good[cut].reshape(blocks).all(axis=(1, 3))))
    return results


@st.composite
def wishes(draw, rebins=(1, 2, 3, 4)):
    raw = draw(st.tuples(st.integers(1, 23), st.integers(1, 23)))
    rebin = draw(st.sampled_from(rebins))
    shape = tuple(rebin * draw(st.integers(1, 24 // rebin)) for _ in "yx")
    center = tuple(draw(st.one_of(st.integers(0, 4 * n - 3).map(lambda c: c / 4 - 0.25), st.sampled_from([0, n - 1]),
                                  st.floats(-0.49, n - 0.51))) for n in raw)
    return raw, {"shape": shape, "center": center, "orientation": draw(st.integers(0, 7)), "rebin": rebin}


@pytest.mark.slow
@given(wishes(), st.sampled_from(["sum", "mean"]), st.booleans(), st.sampled_from(["u2", "i4", "f8"]))
@settings(max_examples=400, deadline=None)
def test_cut_while_reading_equals_cut_by_hand_afterwards(wish, mode, as_booleans, dtype):
    raw, how = wish
    frames = np.random.default_rng(1).integers(1, 60_000, (2, *raw)).astype(dtype)
    plan = FramePlan.make(raw, **{**how, "orientation": BOOLEANS[how["orientation"]] if as_booleans
                                  else how["orientation"]}, mean=mode == "mean")
    prepared = plan.apply(plan.window.cut(frames))
    masks = plan.apply_weight(plan.window.cut(np.ones(frames.shape, bool)))
    join = {"sum": lambda a, axis: a.sum(axis=axis, dtype=float), "mean": np.mean}[mode]
    expected = [by_hand(frame, **how, join=join) for frame in frames]
    assert prepared.shape[1:] == masks.shape[1:] == plan.shape == expected[0][0][0].shape
    assert prepared.flags.c_contiguous
    assert np.array_equal(plan.apply(plan.window.cut(frames), out=np.empty_like(prepared)), prepared)
    for frame, mask, ways in zip(prepared, masks, expected):
        assert any(np.allclose(frame, data, rtol=1e-14) and np.array_equal(mask, good) for data, good in ways)
    assert all(np.count_nonzero(frame[~mask]) == 0 for frame, mask in zip(prepared, masks)) or how["rebin"] > 1


@given(wishes())
@settings(max_examples=300, deadline=None)
def test_one_window_is_all_that_is_read(wish):
    raw, how = wish
    plan = FramePlan.make(raw, **how)
    rows, cols = plan.window
    assert 0 <= rows.start < rows.stop <= raw[0] and 0 <= cols.start < cols.stop <= raw[1]
    (top, bottom), (left, right) = plan.padding
    assert (rows.stop - rows.start + top + bottom, cols.stop - cols.start + left + right) == how["shape"]


@given(orientation=st.sampled_from(sorted(TABLE)), rebin=st.integers(1, 4), sizes=st.tuples(*[st.integers(8, 12)] * 2),
       center=st.tuples(st.floats(90, 110), st.floats(85, 105)))
@settings(max_examples=150, deadline=None)
def test_a_planted_spot_stands_in_the_middle_of_pixel_N_over_2(orientation, rebin, sizes, center):
    # So wide that binning moves no centroid, so narrow that no edge cuts it.
    width = 0.7 * rebin
    y, x = np.indices((200, 201))
    spot = np.exp(-((y - center[0]) ** 2 + (x - center[1]) ** 2) / (2 * width**2))
    plan = FramePlan.make(spot.shape, shape=tuple(rebin * n for n in sizes), center=center, orientation=orientation,
                          rebin=rebin)
    found = plan.apply(plan.window.cut(spot[None]))[0]
    for axis, n, planned in zip(np.indices(found.shape), found.shape, plan.axis):
        centroid = (axis * found).sum() / found.sum()
        assert abs(centroid - n // 2) * rebin <= 0.5 + 0.005 * rebin
        assert abs(centroid - planned) < 0.005


@pytest.mark.parametrize("orientation", TABLE)
@pytest.mark.parametrize("shape", [(16, 16), (15, 15), (16, 15), (15, 16)])
def test_the_axis_is_exactly_on_pixel_N_over_2_where_whole_pixels_allow(orientation, shape):
    frame = np.zeros((1, 64, 65), "u2")
    frame[0, 30, 20] = 7
    plan = FramePlan.make(frame.shape[1:], shape=shape, center=(30, 20), orientation=orientation)
    found = plan.apply(plan.window.cut(frame))[0]
    assert np.argwhere(found).tolist() == [[found.shape[0] // 2, found.shape[1] // 2]]
    assert plan.axis == (found.shape[0] // 2, found.shape[1] // 2)


@pytest.mark.parametrize("orientation", TABLE)
def test_orientation_is_that_of_numpy_as_a_number_and_as_booleans(orientation):
    frame = np.arange(15).reshape(3, 5)
    assert orientation_flags(orientation) == BOOLEANS[orientation]
    for given_as in (orientation, BOOLEANS[orientation], list(BOOLEANS[orientation])):
        plan = FramePlan.make((3, 5), center="fftshift", orientation=given_as)
        # An odd frame about its middle pixel keeps all its pixels in any orientation.
        assert np.array_equal(plan.apply(frame[None])[0], TABLE[orientation](frame))
        assert np.array_equal(plan.apply_weight(frame % 2), TABLE[orientation](frame) % 2 > 0)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4", "u8", "f4", "f8", "b1"])
@pytest.mark.parametrize("rebin", [1, 2, 3, 4])
def test_counts_are_conserved(dtype, rebin):
    high = {"u1": 256, "i1": 128, "b1": 2}.get(dtype, 30_000)
    frames = np.random.default_rng(2).integers(0, high, (3, 40, 50)).astype(dtype)
    plan = FramePlan.make((40, 50), shape=(24, 36), center=(17, 23), orientation=5, rebin=rebin)
    prepared = plan.apply(plan.window.cut(frames))
    assert prepared.dtype == plan.dtype(dtype)
    for raw, frame in zip(plan.window.cut(frames), prepared):
        assert sum(map(int, raw.ravel())) == sum(map(int, frame.ravel()))


@pytest.mark.parametrize("dtype, wider", [("u1", "u4"), ("u2", "u4"), ("u4", "u8"), ("i1", "i4"), ("i2", "i4"),
                                          ("i4", "i8"), ("f4", "f4"), ("f8", "f8"), ("b1", "u4")])
def test_counts_widen_rather_than_wrap(dtype, wider):
    extremes = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype[0] in "iu" else (1,)
    plan = FramePlan.make((32, 32), rebin=32, center=15.5)
    assert plan.dtype(dtype) == wider
    for extreme in extremes:
        frames = np.full((1, 32, 32), extreme, dtype)
        total = plan.apply(frames)
        assert total.dtype == wider
        assert int(total[0, 0, 0]) == 1024 * int(extreme)
        assert FramePlan.make((32, 32)).apply(frames).dtype == dtype


@pytest.mark.parametrize("dtype", ["u8", "i8"])
def test_a_sum_beyond_64_bits_stops_at_the_largest_value(dtype):
    big = np.iinfo(dtype).max
    frames = np.array([[[big, 1], [0, 0]], [[big - 1, 1], [0, 0]], [[big // 2, big // 2], [big, 5]]], dtype)
    assert FramePlan.make((2, 2), rebin=2, center=0.5).apply(frames).ravel().tolist() == [big, big, big]


def test_a_sum_below_64_bits_stops_at_the_smallest_value():
    low = np.iinfo("i8").min
    assert FramePlan.make((2, 2), rebin=2, center=0.5).apply(np.array([[[low, -1], [0, 0]]])).item() == low


def test_the_mean_of_counts_is_not_an_integer():
    plan = FramePlan.make((4, 4), rebin=2, mean=True, center=2.5)
    frames = np.arange(16, dtype="u1").reshape(1, 4, 4)
    assert plan.apply(frames).tolist() == [[[2.5, 4.5], [10.5, 12.5]]]
    assert plan.dtype("u1") == plan.apply(frames).dtype == float
    large = np.full((1, 2, 2), 2**32 - 1, "u4")
    assert FramePlan.make((2, 2), rebin=2, mean=True, center=0.5).apply(large).tolist() == [[[2.0**32 - 1]]]


@given(st.integers(0, 7), st.sampled_from([2, 3, 4]), st.integers(0, 11), st.integers(0, 11))
def test_a_binned_pixel_is_good_only_if_all_its_parts_are(orientation, rebin, row, col):
    weight = np.ones((12, 12))
    weight[row, col] = 0
    plan = FramePlan.make((12, 12), center="geometric", orientation=orientation, rebin=rebin)
    # Whether the axis can lie in the middle of a pixel or not, compare what the mask and the data say.
    bad = plan.apply(plan.window.cut(1 - weight)[None])[0] > 0
    padded = plan.apply(plan.window.cut(np.ones((1, 12, 12))))[0] < rebin**2
    good = plan.apply_weight(plan.window.cut(weight))
    assert good.dtype == bool
    assert np.array_equal(good, ~(bad | padded))
    stack = plan.apply_weight(plan.window.cut(np.stack([weight, np.ones((12, 12))])))
    assert np.array_equal(stack[0], good) and np.array_equal(stack[1], ~padded)


def test_a_bad_pixel_takes_its_whole_binned_pixel_with_it():
    weight = np.ones((8, 8))
    weight[2, 5] = 0
    good = FramePlan.make((8, 8), center=(4.5, 4.5), rebin=2).apply_weight(weight)
    assert np.argwhere(~good).tolist() == [[1, 2]]


def test_pixel_size_grows_with_rebin_and_turns_with_the_frame():
    assert FramePlan.make((8, 8), rebin=4).psize((50e-6, 75e-6)) == pytest.approx((200e-6, 300e-6))
    assert FramePlan.make((8, 8), rebin=2, orientation=4).psize((50e-6, 75e-6)) == pytest.approx((150e-6, 100e-6))
    assert FramePlan.make((8, 8), orientation=3).psize((50e-6, 75e-6)) == pytest.approx((50e-6, 75e-6))


def test_a_region_beyond_the_edge_is_padded_with_nothing():
    plan = FramePlan.make((5, 5), shape=4, center=(0, 4))
    frames = np.arange(1, 26).reshape(1, 5, 5)
    assert plan.apply(plan.window.cut(frames))[0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [3, 4, 5, 0], [8, 9, 10, 0]]
    assert plan.apply_weight(np.ones((2, 3))).tolist() == [[False] * 4] * 2 + [[True] * 3 + [False]] * 2


@pytest.mark.parametrize("rebin, mean", [(1, False), (2, False), (2, True)])
def test_what_is_given_is_not_changed(rebin, mean):
    frames, weight = np.ones((2, 6, 6), "u8"), np.ones((6, 6))
    plan = FramePlan.make((6, 6), orientation=5, rebin=rebin, mean=mean, center=2.5)
    plan.apply(plan.window.cut(frames))
    plan.apply_weight(plan.window.cut(weight))
    assert (frames == 1).all() and (weight == 1).all()


@pytest.mark.parametrize("name, expected", [("fftshift", (4.0, 2.0)), ("geometric", (3.5, 2.0)), ("fft", (0.0, 0.0)),
                                            (3, (3.0, 3.0)), ((1.25, 2), (1.25, 2.0)), (np.array([1, 2]), (1.0, 2.0))])
def test_centres_by_name_number_or_pair(name, expected):
    assert center_of((8, 5), name) == expected
    assert FramePlan.make((8, 5), center=name).center == expected


@pytest.mark.parametrize("how, words", [
    ({"center": (70, 3)}, ["(70.0, 3.0)", "outside", "(64, 48)", "rows 0 to 63", "columns 0 to 47"]),
    ({"center": (3, -1)}, ["(3.0, -1.0)", "outside"]),
    ({"center": (63.5, 3), "shape": 1}, ["outside"]),
    ({"center": (float("nan"), 3)}, ["nan", "outside"]),
    ({"center": "middle"}, ["'middle'", "fftshift", "geometric", "fft"]),
    ({"shape": (31, 48), "rebin": 2}, ["rebin=2", "(31, 48)", "shape=(30, 48)"]),
    ({"shape": 2, "rebin": 4}, ["rebin=4", "shape=(4, 4)"]),
    ({"shape": 0}, ["shape=(0, 0)", "at least one pixel"]),
    ({"shape": (5, -3)}, ["(5, -3)", "at least one pixel"])])
def test_what_cannot_be_cut_is_said_with_what_was_asked_and_what_would_do(how, words):
    with pytest.raises(FrameError) as err:
        FramePlan.make((64, 48), **how)
    assert all(word in str(err.value) for word in words), str(err.value)


def test_frames_of_another_size_than_the_window_are_refused():
    with pytest.raises(FrameError, match=r"\(9, 8\).*\(8, 8\)"):
        FramePlan.make((8, 8)).apply(np.ones((1, 9, 8)))


# --- beyond the edge -------------------------------------------------------------------------------------

@settings(max_examples=60, deadline=None)
@given(st.integers(0, 7), st.integers(1, 3), st.integers(-3, 12), st.integers(-3, 12), st.integers(0, 2))
def test_masks_follow_crops_beyond_the_edge_padding_bins_and_all_flags(
        orientation, rebin, y, x, margin):
    """Against one pixel at a time: transpose, then flips; a joined pixel is bad if any part is; nothing is lost at odd
    sizes or left of 0."""
    raw = np.arange(7 * 9).reshape(1, 7, 9)
    good = np.random.default_rng(1).random((7, 9)) > 0.2
    y, x = np.clip(y, -margin, 6 + margin), np.clip(x, -margin, 8 + margin)
    flips = [orientation & 2, orientation & 1][::-1 if orientation & 4 else 1]
    middle = rebin * (6 // rebin // 2) + (rebin - 1) / 2
    top, left = (int(np.floor(c - (5 - middle if flip else middle) + 0.5)) for c, flip in zip((y, x), flips))
    region, mask = np.zeros((6, 6), int), np.zeros((6, 6), bool)
    for r in range(6):
        for c in range(6):
            if 0 <= top + r < 7 and 0 <= left + c < 9:
                region[r, c], mask[r, c] = raw[0, top + r, left + c], good[top + r, left + c]
    wish = {"shape": (6, 6), "center": (y, x), "orientation": orientation, "rebin": rebin, "margin": margin}
    if top + 6 <= 0 or left + 6 <= 0 or top >= 7 or left >= 9:
        with pytest.raises(FrameError, match="not one pixel of the raw frame"):
            FramePlan.make((7, 9), **wish)
        return
    plan = FramePlan.make((7, 9), **wish)
    n = 6 // rebin
    region, mask = (a.reshape(n, rebin, n, rebin) for a in (region, mask))
    region, mask = region.sum(axis=(1, 3)), mask.all(axis=(1, 3))
    if orientation & 4:
        region, mask = region.T, mask.T
    if orientation & 2:
        region, mask = region[::-1], mask[::-1]
    if orientation & 1:
        region, mask = region[:, ::-1], mask[:, ::-1]
    assert np.array_equal(plan.apply(plan.window.cut(raw))[0], region)
    assert np.array_equal(plan.apply_weight(plan.window.cut(good)), mask)
