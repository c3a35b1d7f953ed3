"""A scan from raw to prepared, on recipes in memory; expected results are cut out of the frames by hand."""
import json
import re
import subprocess
import sys
from pathlib import Path

import h5py
import in_memory
import numpy as np
import pytest

from ptyprep import Par, PtyScan
from ptyprep.errors import FrameError, OutputError, ParameterError, PositionError, RecipeError, SourceError
from ptyprep.pipeline import provenance
from ptyprep.pipeline.batch import EOS, WAIT
from ptyprep.sources import ArrayFrames
from ptyprep.testing import mpirun, read_ptyd, run_on_ranks

HERE = Path(__file__).parent
GEOMETRY = {"energy": 7.2, "distance": 2.0, "psize": (75e-6, 50e-6), "center": "fftshift"}
N, H, W = 10, 12, 9


def numbered(n=N, dtype="u2"):
    """Frames that tell their number: pixel (r, c) of frame i holds 200 i + 9 r + c + 1."""
    i, r, c = np.ogrid[:n, :H, :W]
    return (200 * i + 9 * r + c + 1).astype(dtype)


def places(n=N):
    """Positions that tell their number: frame i is at (i, -i) micrometres."""
    return np.arange(n)[:, None] * [1e-6, -1e-6]


class Arrays(PtyScan):
    """Frames in memory, through a source."""
    frames_there, positions_there = numbered(), places()

    def open(self):
        return ArrayFrames(self.frames_there)

    def load_positions(self):
        return self.positions_there


class Asked(PtyScan):
    """Frames in memory, through load()."""
    frames_there, positions_there, corrupt = numbered(), places(), ()

    def load_positions(self):
        return self.positions_there

    def load(self, indices):
        if broken := set(indices) & set(self.corrupt):
            raise SourceError(f"frame {min(broken)} is corrupt")
        return self.frames_there[list(indices)]


def recipe(base=Arrays, **answers):
    """A recipe that answers differently: hooks as functions, or plain values."""
    return type("Mine", (base,), {"__doc__": base.__doc__, "__module__": __name__, **answers})


def made(cls=Arrays, **pars):
    return cls({**GEOMETRY, **pars}).initialize()


def prepared(cls=Arrays, chunk=4, /, **pars):
    """All batches of a scan, joined: (data, weight, position, frame, index)."""
    batches = list(made(cls, **pars).batches(chunk))
    weights = [np.broadcast_to(b.weight, b.data.shape) for b in batches]
    return [np.concatenate([getattr(b, name) for b in batches]) if name != "weight" else np.concatenate(weights)
            for name in ("data", "weight", "position", "frame", "index")]


# --- the hooks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Arrays, Asked])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i4", "i8", "f4", "f8"])
def test_frames_positions_and_kind_of_number_come_out_as_they_went_in(cls, dtype):
    frames = (numbered(dtype="i8") % 120).astype(dtype)
    data, weight, position, frame, index = prepared(recipe(cls, frames_there=frames))
    assert data.dtype == dtype and np.array_equal(data, frames)
    assert weight.dtype == bool and weight.all()
    assert np.array_equal(position, places())
    assert frame.tolist() == index.tolist() == list(range(N))


def test_the_region_is_cut_out_of_frames_and_mask():
    def load_weight(self):
        weight = np.ones((H, W))
        weight[5, 3] = 0
        return weight
    data, weight, *_ = prepared(recipe(load_weight=load_weight), shape=(6, 4), center=(7, 4))
    assert np.array_equal(data, numbered()[:, 4:10, 2:6])
    assert np.argwhere(~weight).tolist() == [[i, 1, 1] for i in range(N)]


LOADED = {
    "array": lambda frames, at, masks: frames,
    "list": lambda frames, at, masks: list(frames.values()) if isinstance(frames, dict) else list(frames),
    "tuple": lambda frames, at, masks: (frames, at, masks),
    "without positions": lambda frames, at, masks: (frames, None, masks),
    "with empty dicts": lambda frames, at, masks: (frames, {}, {})}


@pytest.mark.parametrize("form", LOADED)
@pytest.mark.parametrize("as_dict", [False, True])
def test_load_may_return_arrays_tuples_or_dicts_by_scan_point(form, as_dict):
    masks = np.ones((N, H, W))
    masks[np.arange(N), np.arange(N), 2] = 0

    def load(self, indices):
        parts = numbered()[indices], places()[indices] + 1, masks[indices]
        if as_dict:     # in any order: the keys say which is which
            parts = [{i: row for i, row in reversed(list(zip(indices, part)))} for part in parts]
        if form == "list" and as_dict:
            return {i: parts[0][i] for i in indices}
        return LOADED[form](*parts)
    data, weight, position, *_ = prepared(recipe(Asked, load=load))
    assert np.array_equal(data, numbered())
    assert np.array_equal(position, places() + (form == "tuple"))       # those of load() win
    has_masks = form in ("tuple", "without positions")
    assert np.argwhere(~weight).tolist() == ([[i, i, 2] for i in range(N)] if has_masks else [])


def test_load_may_return_one_mask_for_all_and_the_region_instead_of_the_frame():
    def load(self, indices):
        mask = np.ones((H, W))
        mask[5, 4] = 0
        return numbered()[indices][:, self.window.rows, self.window.cols], None, mask
    data, weight, *_ = prepared(recipe(Asked, load=load), shape=4, center=(6, 4))
    assert np.array_equal(data, numbered()[:, 4:8, 2:6])
    assert np.argwhere(~weight).tolist() == [[i, 1, 2] for i in range(N)]


@pytest.mark.parametrize("load, words", [
    (lambda self, i: None, ["load() returned nothing", "1 scan points"]),
    (lambda self, i: np.zeros((len(i) + 1, H, W)), ["load() returned float64 of shape (2, 12, 9)", "(1, h, w)"]),
    (lambda self, i: np.zeros((len(i), H, W), complex), ["complex128"]),
    (lambda self, i: np.zeros((H, W)), ["(12, 9)"]),
    (lambda self, i: {k + 1: np.zeros((H, W)) for k in i}, ["no entry for scan point 0"]),
    (lambda self, i: np.zeros((len(i), H, W - self.plan_made())), ["(12, 8)", "(12, 9)"]),
    (lambda self, i: (np.zeros((len(i), H, W)), None, np.ones((len(i), 3, 3))), ["weights of (3, 3)", "(12, 9)"])])
def test_what_load_must_not_return_is_an_error_that_shows_it(load, words):
    cls = recipe(Asked, load=load, plan_made=lambda self: self.plan is not None)
    with pytest.raises(RecipeError) as err:
        prepared(cls)
    assert all(word in str(err.value) for word in ["mine.load()", *words]), str(err.value)


def test_load_is_never_asked_for_nothing_and_for_each_frame_once():
    asked = []

    def load(self, indices):
        if self.plan is not None:
            asked.append(list(indices))
        return numbered()[indices]
    prepared(recipe(Asked, load=load), 4)
    assert asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_hooks_are_called_in_order_and_at_the_end():
    calls = []

    def noted(name, answer=None):
        def hook(self, *args):
            calls.append(name)
            return getattr(super(cls, self), name)(*args) if answer is None else answer
        return hook
    names = ["open", "load_geometry", "load_positions", "load_common", "load_weight", "post_initialize", "close"]
    cls = recipe(**{name: noted(name, {"a": 1} if name == "load_common" else None) for name in names})
    scan = made(cls)
    assert calls == names[:-1] and scan.common == {"a": 1}
    assert list(scan.batches(100)) and scan.auto(3) is EOS
    assert calls == names


def test_a_recipe_that_says_nowhere_where_frames_come_from_is_an_error():
    with pytest.raises(RecipeError, match=r"'mine' has neither open\(\) nor load\(\)"):
        made(recipe(PtyScan, load_positions=lambda self: places()))


def test_initialize_twice_is_an_error():
    scan = made()
    with pytest.raises(RecipeError, match=r"initialize\(\) was called already"):
        scan.initialize()


# --- positions ------------------------------------------------------------------------------------------


def test_positions_may_be_a_raster():
    *_, position, _, _ = prepared(recipe(positions_there=places().reshape(2, 5, 2)))
    assert np.array_equal(position, places())


@pytest.mark.parametrize("base", [Arrays, Asked])
@pytest.mark.parametrize("grid", [(N, 2), (2, N // 2, 2)])
def test_theoretical_positions_replace_those_of_the_recipe_which_are_not_even_asked_for(base, grid):
    def ask(self):
        raise AssertionError("load_positions() was asked")
    theory = places() * 3
    *_, position, frame, _ = prepared(recipe(base, load_positions=ask), positions_theory=theory.reshape(grid))
    assert np.array_equal(position, theory) and frame.tolist() == list(range(N))


@pytest.mark.parametrize("base", [Arrays, Asked])
@pytest.mark.parametrize("pars, expected", [
    ({}, range(7)), ({"num_frames": 5}, range(5)), ({"num_frames": 9}, range(7)), ({"frames": "4:"}, range(4, 7)),
    ({"frames": "::3"}, (0, 3, 6))])
def test_as_many_frames_are_prepared_as_there_are_theoretical_positions(base, pars, expected):
    theory = places(7) * 3
    data, _, position, frame, _ = prepared(base, positions_theory=theory, **pars)
    assert frame.tolist() == list(expected) and np.array_equal(position, theory[list(expected)])
    assert np.array_equal(data, numbered()[list(expected)])
    said = "positions_theory has 7 positions and the scan 10 frames: the first 7 are taken"
    assert (said in made(base, positions_theory=theory, **pars).notes) == (base is Arrays)     # Asked does not know


def test_more_theoretical_positions_than_frames_are_refused_unless_it_is_said_which():
    theory = places(12) * 3
    with pytest.raises(PositionError, match="10 frames but 12 positions.*num_frames=10"):
        made(positions_theory=theory)
    assert np.array_equal(prepared(positions_theory=theory, num_frames=10)[2], theory[:10])


def test_positions_that_load_returns_win_over_theoretical_ones():
    def load(self, points):
        return numbered()[points], places()[points], None
    cls = recipe(Asked, load=load, load_positions=lambda self: None)
    scan = made(cls, positions_theory=places(7) * 3)
    assert "load() brings positions with the frames: they are used instead of positions_theory" in scan.notes
    assert scan.positions_origin == "from load()"
    assert np.array_equal(np.concatenate([b.position for b in scan.batches(4)]), places(7))


def test_theoretical_positions_that_are_no_numbers_are_refused():
    theory = places() * 3
    theory[4, 1] = np.nan
    with pytest.raises(PositionError, match="positions_theory: 1 of 10 are not finite, the first at scan point 4"):
        made(positions_theory=theory)
    with pytest.raises(PositionError, match=r"positions_theory: .*\(10, 3\).*expected \(n, 2\)"):
        made(positions_theory=np.zeros((N, 3)))


def test_positions_that_nobody_has_are_an_error_before_anything_is_written(tmp_path):
    with pytest.raises(ParameterError, match="positions_theory, or answer load_positions"):
        made(recipe(positions_there=None), dfile=tmp_path / "a.ptyd")
    with pytest.raises(PositionError, match=r"load_positions\(\) gave none, and load\(\) none"):
        prepared(recipe(Asked, positions_there=None), num_frames=N, dfile=tmp_path / "a.ptyd")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("positions, frames", [(8, 10), (12, 10)])
def test_positions_and_frames_that_differ_are_an_error_with_both_counts(positions, frames):
    with pytest.raises(PositionError) as err:
        made(recipe(positions_there=places(positions)))
    assert f"{frames} frames but {positions} positions" in str(err.value)
    assert f"num_frames={min(positions, frames)}" in str(err.value)


def test_frames_and_positions_that_differ_are_paired_from_the_first_where_asked():
    for positions in (8, 12):
        data, _, position, *_ = prepared(recipe(positions_there=places(positions)), num_frames=8)
        assert np.array_equal(data, numbered(8)) and np.array_equal(position, places(8))
    # A selection that lies where both are needs no such wish.
    assert prepared(recipe(positions_there=places(8)), frames="2:6")[3].tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize("bad, words", [(np.zeros((N, 3)), ["(10, 3)", "(n, 2)"]),
                                        (np.full((N, 2), np.nan), ["10 of 10", "not finite", "scan point 0"])])
def test_positions_that_are_none_are_refused(bad, words):
    with pytest.raises(PositionError) as err:
        made(recipe(positions_there=bad))
    assert all(word in str(err.value) for word in words)


# --- masks and corrections ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u2", "u4", "i4"])
def test_the_detectors_mark_for_overflow_masks_that_pixel_in_that_frame(dtype):
    frames = numbered(dtype=dtype)
    frames[3, 5, 2] = frames[7, 1, 1] = np.iinfo(dtype).max
    data, weight, *_ = prepared(recipe(frames_there=frames))
    assert np.argwhere(~weight).tolist() == [[3, 5, 2], [7, 1, 1]]
    assert np.array_equal(data, frames)


def test_counts_above_the_sources_saturation_are_masked():
    def open(self):
        source = ArrayFrames(numbered())
        source.saturation = 200 * 9 + 105
        return source
    _, weight, *_ = prepared(recipe(open=open))
    assert np.argwhere(~weight).tolist() == [[9, 11, c] for c in (6, 7, 8)]


def test_what_is_not_finite_is_masked_and_zero():
    frames = numbered(dtype="f4")
    frames[2, 3, 4], frames[5, 6, 7] = np.nan, -np.inf
    data, weight, *_ = prepared(recipe(frames_there=frames))
    assert np.argwhere(~weight).tolist() == [[2, 3, 4], [5, 6, 7]]
    assert data.dtype == "f4" and data[2, 3, 4] == data[5, 6, 7] == 0
    assert np.array_equal(data[weight], frames[weight])


@pytest.mark.parametrize("cls", [Arrays, Asked])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("silent", [True, False])
@pytest.mark.parametrize("pars", [{}, {"orientation": 5}, {"shape": (8, 6), "center": (6.5, 4.5), "rebin": 2}], ids=str)
def test_what_a_correction_makes_not_finite_is_masked_and_zero(cls, value, silent, pars):
    """Whether the hook answers no masks, or says that all is good."""
    spoilt = np.random.default_rng(3).random((N, H, W)) < 0.02

    def correct(self, raw, weights, common):
        frames = np.where(self.cut(spoilt)[(raw[:, 0, 0] - 1) // 200], value, raw)
        return frames, None if silent else np.ones_like(weights)
    data, weight, *_ = prepared(recipe(cls, correct=correct), **pars)
    plan = made(**pars).plan
    cut = plan.window.cut(spoilt)
    assert np.array_equal(weight, plan.apply((~cut).astype("u4")) == plan.rebin**2) and 0.7 < weight.mean() < 1
    assert np.array_equal(data, plan.apply(np.where(cut, 0, plan.window.cut(numbered(dtype="f8")))))


def test_one_bad_part_masks_the_binned_pixel_and_nan_spoils_no_sum():
    frames = numbered(dtype="f8")
    frames[1, 4, 4] = np.nan
    data, weight, *_ = prepared(recipe(frames_there=frames), shape=(8, 6), center=(6.5, 4.5), rebin=2)
    expected = np.nan_to_num(frames)[:, 2:10, 2:8].reshape(N, 4, 2, 3, 2).sum(axis=(2, 4))
    assert np.array_equal(data, expected)
    assert np.argwhere(~weight).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("cls", [Arrays, Asked])
@pytest.mark.parametrize("full", [False, True])
def test_correct_sees_the_region_or_the_whole_frame_and_everything_cut_alike(cls, full):
    seen = []

    def correct(self, raw, weights, common):
        seen.append((raw.shape[1:], weights.shape[1:], {k: np.shape(v) for k, v in common.items()}))
        assert np.array_equal(self.cut(np.arange(H * W).reshape(H, W)), common["dark"])
        return raw * 2.0 - common["dark"], weights & (common["dark"] % 7 > 0)
    dark = np.arange(H * W).reshape(H, W)
    common = {"dark": dark, "flats": np.ones((3, H, W)), "spectrum": np.ones(5), "gain": 3}
    cls = recipe(cls, correct=correct, full_frames=full, load_common=lambda self: common)
    data, weight, *_ = prepared(cls, shape=(6, 4), center=(7, 4))
    size = (H, W) if full else (6, 4)
    assert set(map(str, seen)) == {str((size, size, {"dark": size, "flats": (3, *size), "spectrum": (5,), "gain": ()}))}
    assert np.array_equal(data, (numbered() * 2.0 - dark)[:, 4:10, 2:6])
    assert np.array_equal(weight, np.broadcast_to((dark % 7 > 0)[4:10, 2:6], weight.shape))


def test_full_frames_may_be_moved_by_correct_before_the_cut():
    cls = recipe(full_frames=True, correct=lambda self, raw, weights, common: (np.roll(raw, 2, axis=1), weights))
    assert np.array_equal(prepared(cls, shape=4, center=(6, 4))[0], np.roll(numbered(), 2, axis=1)[:, 4:8, 2:6])


@pytest.mark.parametrize("orientation", range(8))
def test_a_hook_may_return_what_cannot_be_written_into(orientation):
    def read_only(array):
        array = np.array(array)
        array.flags.writeable = False
        return array
    frames = numbered()
    frames[1::2, 0, 1] = 2**16 - 1
    expected = prepared(recipe(Asked, frames_there=frames), orientation=orientation)
    loads = recipe(Asked, load=lambda self, indices: read_only(frames[indices]))
    corrects = recipe(loads, correct=lambda self, raw, weights, common: (read_only(raw), read_only(weights)))
    for cls in (loads, corrects):
        for ours, told in zip(prepared(cls, orientation=orientation), expected):
            assert np.array_equal(ours, told)
    assert np.count_nonzero(~expected[1]) >= N // 2


def test_correct_may_leave_the_mask_alone_or_give_one_for_all():
    for mask, expected in ((None, True), (np.zeros((H, W)), False)):
        _, weight, *_ = prepared(recipe(correct=lambda self, raw, weights, common, mask=mask: (raw, mask)))
        assert weight.shape == (N, H, W) and (weight == expected).all()


@pytest.mark.parametrize("answer, words", [(lambda raw: raw, "returned ndarray; expected (data, weights)"),
                                           (lambda raw: (raw[:, :-1], None), "(4, 11, 9) from (4, 12, 9)")])
def test_what_correct_must_not_return_is_an_error_that_shows_it(answer, words):
    with pytest.raises(RecipeError) as err:
        prepared(recipe(correct=lambda self, raw, weights, common: answer(raw)))
    assert f"mine.correct() {words}" in str(err.value).replace("made frames of shape ", "")


def test_a_mask_of_another_size_than_the_frames_is_refused():
    with pytest.raises(FrameError, match=r"mask has shape \(3, 3\), the frames \(12, 9\)"):
        made(recipe(load_weight=lambda self: np.ones((3, 3))))


# --- which frames, and when -----------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Arrays, Asked])
@pytest.mark.parametrize("pars, points", [({"num_frames": 3}, range(3)), ({"frames": "2:9:3"}, range(2, 9, 3)),
                                          ({"frames": "::4"}, range(0, N, 4)), ({"frames": "5:"}, range(5, N)),
                                          ({"frames": "1::2", "num_frames": 2}, range(1, 5, 2)),
                                          ({"num_frames": 99}, range(N))])
def test_selected_frames_keep_their_number_and_their_position(cls, pars, points):
    points = list(points)
    data, _, position, frame, index = prepared(cls, 2, **pars)
    assert np.array_equal(data, numbered()[points]) and np.array_equal(position, places()[points])
    assert frame.tolist() == points and index.tolist() == list(range(len(points)))


def test_fewer_frames_than_num_frames_are_noted():
    assert any("10 frames are there, fewer than num_frames=99" in note for note in made(num_frames=99).notes)


def test_a_scan_that_goes_on_gives_wait_and_frames_and_the_end():
    answers = iter([(0, None), (1, False), (3, False), (3, None), (9, None), (9, None), (N, True)])

    def check(self, frames, start):
        there, end = next(answers)
        return min(frames, there - start), end
    scan = made(recipe(Asked, check=check), min_frames=2)
    seen = []
    while (package := scan.auto(4)) is not EOS:
        seen.append("WAIT" if package is WAIT else package.batch.frame.tolist())
    #               0     1: fewer than min_frames     3, nothing new  9: no more than 4 at once
    assert seen == ["WAIT", "WAIT", [0, 1, 2], "WAIT", [3, 4, 5, 6], [7, 8], [9]]
    assert scan.auto(4) is EOS


@pytest.mark.parametrize("end", [True, None])
def test_a_scan_that_ends_early_gives_what_is_there(end):
    def check(self, frames, start):
        return min(frames, 6 - start), start + frames >= 6 or False if end else 6 - start <= 0
    scan = made(recipe(Asked, check=check))
    assert [b.frame.tolist() for b in scan.batches(4)] == [[0, 1, 2, 3], [4, 5]]


def test_a_saved_scan_waits_for_whole_chunks_so_that_their_borders_do_not_depend_on_time(tmp_path):
    answers = iter([(0, None), (3, None), (5, None), (6, None), (7, True)])    # first: are frames still coming?

    def check(self, frames, start):
        there, end = next(answers)
        return min(frames, there - start), end
    scan = made(recipe(Asked, check=check), dfile=tmp_path / "a.ptyd")
    assert [p if p is WAIT else p.batch.frame.tolist() for p in (scan.auto(4) for _ in range(4))] == [
        WAIT, [0, 1, 2, 3], WAIT, [4, 5, 6]]


def test_frames_that_nobody_counted_need_check():
    with pytest.raises(RecipeError, match="the number of frames is not known"):
        prepared(recipe(Asked, positions_there=None))


def test_batches_wait_by_themselves():
    calls = iter([0, 0, N])
    scan = made(recipe(Asked, check=lambda self, frames, start: (next(calls, N) - start, None)))
    assert sum(len(b) for b in scan.batches(100, pause=0.001)) == N


@pytest.mark.parametrize("n", [1, 3, 4, 10, 99])
def test_chunks_are_numbered_and_none_is_empty(n):
    batches = list(made().batches(n))
    assert [b.chunk for b in batches] == list(range(-(-N // n)))
    assert [len(b) for b in batches] == [min(n, N - start) for start in range(0, N, n)]
    assert all(b.chunk_index.tolist() == b.index.tolist() for b in batches)


# --- frames that cannot be read -------------------------------------------------------------------------

BROKEN = recipe(Asked, corrupt=(2, 5, 6))


def test_a_frame_that_cannot_be_read_stops_the_scan_unless_a_policy_says_otherwise():
    with pytest.raises(SourceError, match="frame 2 is corrupt") as err:
        prepared(BROKEN)
    notes = " ".join(err.value.__notes__)
    assert "scan points 0 to 3" in notes and "bad_frames='drop' or 'mask'" in notes


@pytest.mark.parametrize("corrupt", [(2, 5, 6), (0,), (0, 1, 2, 3), (9,), (4, 5, 6, 7), tuple(range(8))])
def test_dropped_frames_shift_no_other(corrupt):
    kept = [i for i in range(N) if i not in corrupt]
    data, weight, position, frame, index = prepared(recipe(Asked, corrupt=corrupt), bad_frames="drop")
    assert frame.tolist() == kept and index.tolist() == list(range(len(kept)))
    assert np.array_equal(data, numbered()[kept]) and np.array_equal(position, places()[kept]) and weight.all()


@pytest.mark.parametrize("corrupt", [(2, 5, 6), (0,), (0, 1, 2, 3), (9,), (4, 5, 6, 7), tuple(range(8))])
@pytest.mark.parametrize("positions_from", ["load_positions", "frames twice as large"])
def test_masked_frames_keep_their_place(corrupt, positions_from):
    more = {"shape": (2 * H, 2 * W)} if positions_from != "load_positions" else {}
    data, weight, position, frame, _ = prepared(recipe(Asked, corrupt=corrupt), bad_frames="mask", **more)
    if more:
        data, weight = (a[:, H // 2:H // 2 + H, W - W // 2:2 * W - W // 2] for a in (data, weight))
    good = np.array([i not in corrupt for i in range(N)])
    assert frame.tolist() == list(range(N)) and np.array_equal(position, places())
    assert (weight == good[:, None, None]).all()
    assert data.dtype == "u2" and np.array_equal(data, numbered() * good[:, None, None])


def test_bad_frames_are_listed_with_their_reasons(tmp_path):
    for policy in ("drop", "mask"):
        out = tmp_path / f"{policy}.ptyd"
        prepared(BROKEN, bad_frames=policy, dfile=out)
        with h5py.File(out) as file:
            assert file["info/bad_frames/frame_ids"][()].tolist() == [2, 5, 6]
            group = file["info/bad_frames/reasons"]
            reasons = [np.bytes_(group[k][()]).decode() for k in sorted(group)]
            assert reasons == [f"frame {i} is corrupt" for i in (2, 5, 6)]


@pytest.mark.parametrize("policy", ["drop", "raise"])
def test_a_scan_without_one_readable_frame_is_an_error(policy, tmp_path):
    with pytest.raises(SourceError, match="frame 0 is corrupt"):
        prepared(recipe(Asked, corrupt=range(N)), bad_frames=policy, dfile=tmp_path / "a.ptyd")
    assert not list(tmp_path.iterdir())


# --- what PtyPy's engines get ---------------------------------------------------------------------------


def test_auto_gives_what_ptypy_expects():
    def load_weight(self):
        return np.arange(H * W).reshape(H, W) > 3
    scan = made(recipe(load_weight=load_weight))
    package = scan.auto(4)
    assert package["common"]["shape"] == (H, W) and package["common"]["num_frames"] == N
    assert [row["index"] for row in package["iterable"]] == [0, 1, 2, 3]
    for i, row in enumerate(package["iterable"]):
        assert np.array_equal(row["data"], numbered()[i]) and np.array_equal(row["mask"], load_weight(None))
        assert row["position"].tolist() == places()[i].tolist()
        assert np.shares_memory(row["data"], package.batch.data) and np.shares_memory(row["mask"], package.batch.weight)
    assert package["chunk"]["indices"] == [0, 1, 2, 3] and package["chunk"]["num"] == 0
    assert [scan.auto(4)["chunk"]["indices"], scan.auto(4)["chunk"]["indices"]] == [[4, 5, 6, 7], [8, 9]]
    assert scan.auto(4) == "msgEOS" and scan.auto(4) == "msgEOS"
    assert made(recipe(Asked, check=lambda self, frames, start: (0, None))).auto(4) == "msg1"


def test_meta_says_what_all_frames_share():
    meta = made(shape=(8, 6), center=(5.2, 4.7), orientation=4, rebin=2, label="scan 7").meta
    assert meta.shape == (3, 4) and meta.center == (1.0, 2.0)
    assert meta.psize == pytest.approx((100e-6, 150e-6))
    assert (meta.energy, meta.distance, meta.label, meta.num_frames) == (7.2, 2.0, "scan 7", N)


@pytest.mark.parametrize("kilovolt", [60.0, 300.0])
def test_electrons_have_the_photon_energy_of_their_wavelength_in_meta(kilovolt):
    h, c, e, m = 6.62607015e-34, 299792458.0, 1.602176634e-19, 9.1093837139e-31
    energy = kilovolt * 1e3 * e
    momentum = np.sqrt(2 * m * energy * (1 + energy / (2 * m * c**2)))      # de Broglie, with its relativistic factor
    assert made(energy=kilovolt, electron_data=True).meta.energy == pytest.approx(momentum * c / e / 1e3, rel=1e-9)
    assert h / momentum < 5e-12 and made(energy=kilovolt).meta.energy == kilovolt


# --- parameters -----------------------------------------------------------------------------------------


def test_parameters_are_frozen_after_initialize():
    scan = made()
    for name, value in (("shape", 4), ("label", "x")):
        with pytest.raises(ParameterError, match=rf"'{name}' cannot change after initialize\(\)"):
            setattr(scan.p, name, value)
    assert scan.p.shape is None


def test_geometry_that_nobody_knows_is_named_all_at_once():
    with pytest.raises(ParameterError) as err:
        recipe(positions_there=None)().initialize()
    assert all(word in str(err.value) for word in (
        "energy, distance, psize, center, positions: neither recorded nor given", "energy='7.2 keV'",
        "distance='2.1 m'", "psize='75 um'", "auto_center=True", "positions_theory"))
    with pytest.raises(ParameterError, match="distance: neither recorded nor given"):
        Arrays(energy=7, psize=1e-6, center=3).initialize()


def test_what_is_given_wins_over_what_is_recorded_which_wins_over_the_default():
    cls = recipe(energy=Par(5.0), distance=Par(1.0),
                 load_geometry=lambda self: {"energy": "9000 eV", "distance": 3.0, "psize": 75e-6, "center": (6, 4)})
    scan = cls({"distance": "40 cm"}).initialize()
    assert {k: (getattr(scan.p, k), scan.p.origin(k)) for k in ("energy", "distance", "psize", "center")} == {
        "energy": (9.0, "detector"), "distance": (0.4, "keyword"), "psize": (75e-6, "detector"),
        "center": ((6.0, 4.0), "detector")}
    assert scan.meta.energy == 9.0 and scan.meta.distance == 0.4
    assert recipe(energy=Par(5.0))(distance=1, psize=1e-6, center=3).initialize().meta.energy == 5.0


def test_a_recorded_centre_that_is_impossible_says_that_the_detector_said_so():
    cls = recipe(load_geometry=lambda self: {"energy": 9, "distance": 3.0, "psize": 75e-6, "center": (600, 4)})
    with pytest.raises(FrameError, match="outside the raw frame.*detector recorded.*auto_center=True"):
        cls().initialize()


@pytest.mark.parametrize("pars, words", [
    ({"save": "link"}, "save='link' needs dfile"), ({"auto_center": True}, "auto_center=True were both given"),
    ({"dfile": "a.ptyd", "overwrite": True, "resume": True}, "overwrite=True starts again and resume=True continues"),
    ({"name": "eiger"}, "for recipe 'eiger', this is 'arrays'")])
def test_parameters_that_contradict_each_other_are_refused(pars, words):
    with pytest.raises(ParameterError, match=words):
        made(**pars)


# --- the centre -----------------------------------------------------------------------------------------


def test_the_centre_is_found_from_frames_of_the_whole_scan():
    # Each frame holds only a part of the disc, as a strong object does to it; together they are round about (33, 21).
    y, x = np.indices((64, 48))
    angle, disc = np.arctan2(y - 33, x - 21), np.hypot(y - 33, x - 21) < 9
    frames = np.stack([50 * (disc & (np.abs(np.angle(np.exp(1j * (angle - turn)))) < 1))
                       for turn in np.linspace(0, 2 * np.pi, 200, endpoint=False)]).astype("u2")
    frames[:, 10, 40] = 60_000                                                          # hot
    frames[::3, 5, 5] = 2**16 - 1                                                       # overflow
    cls = recipe(frames_there=frames, positions_there=places(200))
    scan = cls({**GEOMETRY, "center": None}, auto_center=True, shape=16).initialize()
    assert np.abs(np.subtract(scan.plan.center, (33, 21))).max() < 0.3
    assert any(re.search(r"centre of the light: row 3[23]\.\d\d ± 0\.\d\d, column 2[01]\.\d\d ± 0", note) for note in
               scan.notes), scan.notes
    assert np.array_equal(next(scan.batches(200)).data, frames[:, 25:41, 13:29])


def test_the_centre_is_found_in_corrected_frames():
    y, x = np.indices((40, 30))
    spot = 100 * np.exp(-((y - 22) ** 2 + (x - 14) ** 2) / 8)

    def correct(self, raw, weights, common):
        return raw - common["dark"], weights
    dark = np.zeros((40, 30))
    dark[:15] = 1e5
    cls = recipe(frames_there=np.tile(spot + dark, (N, 1, 1)), correct=correct, load_common=lambda self: {"dark": dark})
    assert made(cls, center=None, auto_center=True).plan.center == pytest.approx((22, 14), abs=0.1)


def test_a_found_centre_keeps_its_uncertainty_and_says_how_far_the_recorded_one_is():
    y, x = np.indices((64, 60))
    frames = np.random.default_rng(0).poisson(50 / (1 + np.exp(np.hypot(y - 33.3, x - 26.6) - 12)), (N, 64, 60))

    def found(recorded):
        cls = recipe(frames_there=frames.astype("u2"), load_geometry=lambda self: {"center": recorded})
        return made(cls, center=None, auto_center=True)
    scan = found((33.5, 26.5))
    assert (np.abs(np.subtract(scan.plan.center, (33.3, 26.6))) < 3 * np.array(scan.center_uncertainty)).all()
    assert provenance.info(scan)["center_uncertainty"] == scan.center_uncertainty
    row, column = (f"{at:.2f} ± {error:.2f}" for at, error in zip(scan.plan.center, scan.center_uncertainty))
    assert f"centre of the light: row {row}, column {column} (recorded was row 33.50, column 26.50)" in scan.notes
    away = [note for note in found((26.5, 33.5)).notes if "centre of the light" in note]
    assert re.search(r"6\.[789] rows and 6\.[89] columns apart, which is more than the uncertainty", away[0]), away
    assert "center_uncertainty" not in provenance.info(made(recipe(frames_there=frames), center=(3, 4)))


def test_no_light_is_an_error_that_says_what_to_set():
    with pytest.raises(FrameError, match="no light.*set center=.row, column"):
        made(recipe(frames_there=np.zeros((N, H, W), "u2")), center=None, auto_center=True)


# --- saving ---------------------------------------------------------------------------------------------


def content(path, without=("info/run",)):
    """{path in the file: (attributes, value)} of all that a .ptyd holds, links followed; arrays to the last bit."""
    found = {}

    def look(group, prefix):
        for name in group:
            at, item = f"{prefix}{name}", group[name]
            if at in without:
                continue
            value = item if isinstance(item, h5py.Group) else item[()]
            if isinstance(item, h5py.Group):
                look(item, f"{at}/")
                value = sorted(item)
            elif isinstance(value, np.ndarray) and value.dtype.kind != "O":
                value = (value.dtype.str, value.shape, value.tobytes())
            found[at] = (sorted((k, str(v)) for k, v in item.attrs.items() if not (prefix == "chunks/")), str(value))
    with h5py.File(path) as file:
        look(file, "")
    return found


@pytest.mark.parametrize("save", ["append", "link"])
def test_what_is_saved_is_what_was_prepared(save, tmp_path):
    out = tmp_path / "a.ptyd"
    frames = numbered()
    frames[3, 5, 2] = 2**16 - 1
    prepared(recipe(frames_there=frames), shape=(6, 4), center=(7, 4), save=save, dfile=out)
    with h5py.File(out) as file:
        chunks = [file[f"chunks/{i}"] for i in range(3)]
        assert len(file["chunks"]) == 3
        assert [len(c["data"]) for c in chunks] == [4, 4, 2]
        for name, expected in {"data": frames[:, 4:10, 2:6], "positions": places(), "indices": np.arange(N),
                               "frame_ids": np.arange(N)}.items():
            assert np.array_equal(np.concatenate([c[name][()] for c in chunks]), expected)
        assert np.argwhere(np.concatenate([c["weights"][()] for c in chunks]) == 0).tolist() == [[3, 1, 0]]
        assert file["meta/num_frames"][()] == N and file["meta/energy"][()] == 7.2
        assert file["info/origins/energy"][()] == b"keyword"


def interrupted(out, at, save, **pars):
    """Prepare in chunks of 4 with a failure when frame `at` is to be loaded."""
    def load(self, indices):
        if self.plan is not None and at in indices:
            raise ValueError("the light went out")
        return Asked.load(self, indices)
    with pytest.raises(ValueError, match="the light went out"):
        prepared(recipe(Asked, load=load), dfile=out, save=save, **pars)


@pytest.mark.slow
@pytest.mark.parametrize("save", ["append", "link"])
@pytest.mark.parametrize("at", [0, 5, 9])
def test_an_interrupted_scan_resumed_is_as_if_undisturbed(save, at, tmp_path):
    out, whole = tmp_path / "a.ptyd", tmp_path / "whole.ptyd"
    mine = recipe(Asked)
    prepared(mine, dfile=whole, save=save)
    interrupted(out, at, save)
    asked = []

    def load(self, indices):
        asked.extend(indices)
        return Asked.load(self, indices)
    if at == 0:
        assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("a.")) == []     # nothing half-written
    scan = made(recipe(Asked, load=load), dfile=out, save=save, resume=True)
    assert scan.frames_done == at // 4 * 4
    asked.clear()
    for _ in scan.batches(4):
        pass
    assert asked == list(range(at // 4 * 4, N))     # nothing is done twice
    without = ("info/run", "info/dfile", "info/resume", "info/origins")
    assert content(out, without) == content(whole, without)


@pytest.mark.parametrize("save", ["append", "link"])
def test_what_would_not_be_the_same_scan_is_not_resumed(save, tmp_path):
    out = tmp_path / "a.ptyd"
    interrupted(out, 5, save)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(OutputError) as err:
        made(recipe(Asked), dfile=out, save=save, resume=True, rebin=3, energy=8, shape=(12, 9))
    for word in ("cannot be resumed", "rebin: was 1, is 3", "energy: was 7.2, is 8.0"):
        assert word in str(err.value)
    assert "distance" not in str(err.value)
    with pytest.raises(OutputError, match="positions: was"):
        made(recipe(Asked, positions_there=places() * 2), dfile=out, save=save, resume=True)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("save", ["append", "link"])
def test_an_output_is_replaced_only_when_asked(save, tmp_path):
    out = tmp_path / "a.ptyd"
    prepared(dfile=out, save=save)
    before = content(out)
    with pytest.raises(OutputError, match="exists; choose another name, or set overwrite"):
        prepared(dfile=out, save=save)
    scan = made(dfile=out, save=save, resume=True)
    assert scan.was_finished and list(scan.batches()) == []
    assert content(out) == before
    prepared(dfile=out, save=save, overwrite=True, num_frames=4)
    with h5py.File(out) as file:
        assert len(file["chunks"]) == 1 and file["meta/num_frames"][()] == 4


@pytest.mark.parametrize("save", ["append", "link"])
def test_an_interrupted_scan_is_not_started_again_unasked(save, tmp_path):
    out = tmp_path / "a.ptyd"
    interrupted(out, 5, save)
    with pytest.raises(OutputError, match="exists|interrupted preparation"):
        prepared(dfile=out, save=save)
    prepared(recipe(Asked), dfile=out, save=save, overwrite=True)
    with h5py.File(out) as file:
        assert len(file["chunks"]) == 3


# --- ranks ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """{1: folder, 3: folder} in which mpi/prepare.py has run on so many ranks."""
    folders = {n: tmp_path_factory.mktemp(f"ranks{n}") for n in (1, 3)}
    script = HERE / "mpi" / "prepare.py"
    job = subprocess.run([sys.executable, "-W", "error", script, folders[1]], capture_output=True, text=True,
                         timeout=100, check=False)
    assert job.returncode == 0, job.stderr
    job = run_on_ranks(3, script, folders[3], timeout=100)
    assert job.returncode == 0, job.stderr
    return folders


def told(ranks, n):
    return [json.loads((ranks[n] / f"{rank}.json").read_text()) for rank in range(n)]


sys.path.insert(0, str(HERE / "mpi"))
import dropped  # noqa: E402
import prepare  # noqa: E402

ranked = [pytest.mark.mpi, pytest.mark.skipif(mpirun() is None, reason="no mpirun here")]


class TestRanks:
    pytestmark = ranked

    @pytest.mark.parametrize("case", prepare.CASES)
    def test_one_and_three_write_the_same_to_the_last_bit(self, ranks, case):
        one, three = (content(ranks[n] / f"{case}.ptyd") for n in (1, 3))
        assert one == three
        assert any(name.endswith("/data") for name in one)

    def test_each_holds_its_share_in_order(self, ranks):
        seen = [t["append 8"] for t in told(ranks, 3)]
        assert [[index for index, _ in rank] for rank in seen] == [[[0], [4]], [[1], [5]], [[2, 3], [6, 7]]]
        assert [[index for index, _ in t["append 1"]] for t in told(ranks, 3)] == [[[]], [[]], [[0]]]

    @pytest.mark.parametrize("case", prepare.CASES)
    def test_their_places_follow_each_other_whatever_each_has(self, ranks, case):
        """The first rank's frames before the second's, chunk after chunk, where frames are dropped as well."""
        chunks = zip(*(t[case] for t in told(ranks, 3)))
        places, numbers = zip(*((list(places), list(numbers)) for chunk in chunks for places, numbers in chunk))
        with h5py.File(ranks[3] / f"{case}.ptyd") as file:
            written = [file[f"chunks/{i}/frame_ids"][()] for i in range(len(file["chunks"]))]
        assert sum(places, []) == list(range(sum(map(len, written))))
        assert sum(numbers, []) == np.concatenate(written).tolist()

    @pytest.mark.parametrize("save", ["append", "link"])
    @pytest.mark.parametrize("n", [1, 3])
    def test_three_write_what_is_right(self, ranks, n, save):
        frames = prepare.make_frames(7)[:, 17:49, 11:43]
        mask = (frames < 2**16 - 1) & (np.arange(17, 49) != 40)[:, None]
        with h5py.File(ranks[n] / f"{save} 7.ptyd") as file:
            chunks = [file[f"chunks/{i}"] for i in range(2)]
            assert [len(c["data"]) for c in chunks] == [4, 3]
            assert np.array_equal(np.concatenate([c["data"][()] for c in chunks]), frames)
            assert np.array_equal(np.concatenate([c["weights"][()] for c in chunks]) > 0, mask)

    @pytest.mark.parametrize("case", ["found centre", "found centre, few frames", "found centre, corrected"])
    def test_find_the_planted_centre(self, ranks, case):
        with h5py.File(ranks[3] / f"{case}.ptyd") as file:
            assert np.abs(file["info/center"][()] - prepare.CENTER).max() < 0.5

    @pytest.mark.parametrize("who", ["None", "data", "common", "all"])
    def test_share_the_hooks_as_load_parallel_says(self, ranks, who):
        answers = [set(t["called"][who]) for t in told(ranks, 3)]
        shared, data = {"load_positions", "load_weight", "load_common"}, {"load"}
        others = {"None": set(), "data": data, "common": shared, "all": data | shared}[who] | {"correct"}
        assert answers == [shared | data | {"check", "correct"}, others, others]

    @pytest.mark.parametrize("n", [1, 3])
    @pytest.mark.parametrize("save", ["append", "link"])
    def test_resumed_is_as_if_undisturbed(self, ranks, n, save):
        assert all("the light went out" in t[f"interrupted {save}"] for t in told(ranks, n))
        without = ("info/run", "info/dfile", "info/resume", "info/origins")
        assert content(ranks[n] / f"interrupted {save}.ptyd", without) == content(
            ranks[1] / f"undisturbed {save}.ptyd", without)

    def test_hear_of_a_failure_on_one_with_its_rank_and_reason(self, ranks):
        ends = [t["interrupted append"] for t in told(ranks, 3)]
        assert ends[1] == "ValueError: the light went out"
        for rank in (0, 2):
            assert ends[rank] == "PeerError: preparing scan points 8 to 11: rank 1: ValueError: the light went out"
        assert ["SystemExit" in t["exits"] and "leaving" in t["exits"] for t in told(ranks, 3)] == [True] * 3

    def test_refuse_two_kinds_of_number_in_one_chunk(self, ranks):
        assert all("float64 and of uint16" in t["uneven"] for t in told(ranks, 3))


@pytest.fixture(scope="module", params=[1, pytest.param(3, marks=pytest.mark.mpi)])
def with_bad_frames(request, tmp_path_factory):
    """(folder, what each rank says) of mpi/dropped.py on so many ranks."""
    folder, script = tmp_path_factory.mktemp("dropped"), HERE / "mpi" / "dropped.py"
    job = (run_on_ranks(request.param, script, folder) if request.param > 1 else
           subprocess.run([sys.executable, script, folder], capture_output=True, text=True, timeout=120, check=False))
    assert job.returncode == 0, job.stderr
    return folder, [json.loads((folder / f"{rank}.json").read_text()) for rank in range(request.param)]


@pytest.mark.slow
@pytest.mark.parametrize("case", list(dropped.cases()), ids=lambda case: dropped.name(*case))
def test_whole_shares_and_chunks_that_cannot_be_read_are_left_out_or_blank(with_bad_frames, case):
    folder, of_ranks = with_bad_frames
    recipe, policy, bad, _, way = case
    expected = [(n, *((n + 1, 64) if n not in dropped.BAD[bad] else (0, 0))) for n in range(dropped.POINTS)
                if policy == "mask" or n not in dropped.BAD[bad]]
    given = sorted(tuple(row) for rank in of_ranks for row in rank[dropped.name(*case)])
    assert given == ([] if "prepare" in way else expected)
    if " " in way:
        got = read_ptyd(folder / f"{dropped.name(*case)}.ptyd")
        assert list(zip(got["frame_ids"], got["data"][:, 0, 0], got["weights"].sum((1, 2)))) == expected
        assert np.allclose(got["positions"], [[2e-7 * n, 2e-7 * n + 1e-7] for n, *_ in expected], rtol=0, atol=1e-15)


# --- what recipes and their users get wrong --------------------------------------------------------------

@pytest.mark.parametrize("result, words", [
    ((in_memory.FRAMES[:3], in_memory.POSITIONS[:2]), "2 things"),
    ((in_memory.FRAMES[:3], in_memory.POSITIONS[:2], None), r"positions of shape \(2, 2\) for 3"),
    ((in_memory.FRAMES[:3], None, np.ones((2, 16, 18))), r"weights of shape \(2, 16, 18\) for 3")])
def test_load_gives_as_many_positions_and_weights_as_frames(result, words):
    scan = in_memory.like(load=lambda self, indices: in_memory.FRAMES[list(indices)] if len(indices) == 1 else result)()
    with pytest.raises(RecipeError, match=words):
        next(scan.initialize().batches(3))


@pytest.mark.parametrize("bug", [KeyError("typo"), RuntimeError("wrong"), TypeError("no")])
def test_a_fault_of_the_recipe_is_no_bad_frame(bug):
    def load(self, indices):
        if 7 in indices:
            raise bug
        return in_memory.FRAMES[list(indices)]
    with pytest.raises(type(bug)):
        list(in_memory.like(load=load)(bad_frames="drop").initialize().batches(3))


def test_a_chunk_without_a_readable_frame_gives_no_package():
    scan = in_memory.like(unreadable=(3, 4, 5))(bad_frames="drop").initialize()
    numbers = []
    while (package := scan.auto(3)) != scan.EOS:
        numbers.append((package["chunk"]["num"], package["chunk"]["indices"]))
    assert numbers == [(0, [0, 1, 2]), (1, [3, 4, 5]), (2, [6, 7, 8])]


def test_a_frame_without_a_good_pixel_is_told(tmp_path):
    class Blind(in_memory.Scan):
        """One frame is all overflow."""

        def load(self, indices):
            frames = in_memory.FRAMES[list(indices)]
            frames[np.array(indices) == 7] = 2**16 - 1
            return frames
    scan = Blind().initialize()
    assert len(list(scan.batches(5))) == 3
    assert "frames without one good pixel: 1" in scan.notes


@pytest.mark.parametrize("slip", [{"psize": 75}, {"energy": 7200}, {"distance": 2100}])
def test_a_forgotten_unit_is_out_of_limits(slip):
    with pytest.raises(ParameterError, match=f"{next(iter(slip))}.*must be at most"):
        in_memory.Scan(slip)


def test_positions_that_are_not_in_metres_are_told():
    scan = in_memory.Scan()
    scan.load_positions = lambda: in_memory.POSITIONS * 1e6
    assert any("positions spread over" in note and "metres" in note for note in scan.initialize().notes)


def test_none_says_nothing_and_does_not_hide_what_is_recorded():
    scan = in_memory.Scan(energy=None, distance=None).initialize()
    assert (scan.meta.energy, scan.meta.distance) == (7.0, 2.0) and scan.p.origin("energy") == "detector"


def test_a_given_centre_wins_over_a_recipe_that_finds_it():
    class Finding(in_memory.Scan):
        """Finds its centre."""
        auto_center = Par(True)
    assert Finding(center=(3, 4)).initialize().plan.center == (3, 4)
    with pytest.raises(ParameterError, match="both given"):
        Finding(center=(3, 4), auto_center=True).initialize()


@pytest.mark.parametrize("text", ["12,10", "(12, 10)", "[12,10]", "12, 10"])
def test_a_pair_may_be_written_as_messages_show_it(text):
    assert in_memory.Scan(shape=text).p.shape == (12, 10)


def test_load_geometry_knows_geometry_only():
    scan = in_memory.Scan()
    scan.load_geometry = lambda: {**in_memory.GEOMETRY, "num_frames": 3}
    with pytest.raises(RecipeError, match="load_geometry.*num_frames; expected any of energy, distance, psize, center"):
        scan.initialize()


def test_parameters_that_are_no_mapping():
    with pytest.raises(ParameterError, match=r"Scan\('sim'\).*keywords or a mapping"):
        in_memory.Scan("sim")


def test_batches_before_initialize():
    with pytest.raises(RecipeError, match="call initialize"):
        next(in_memory.Scan().batches())
    with pytest.raises(ParameterError, match="one frame at least"):
        in_memory.Scan().initialize().auto(0)


def test_a_name_that_a_scan_keeps_for_itself_is_refused_at_once():
    with pytest.raises(TypeError, match="keeps its own 'bad'"):
        type("Mine", (in_memory.Scan,), {"bad": [1, 2], "__doc__": "Bad frames."})


def test_an_error_in_a_hook_says_in_which():
    scan = in_memory.Scan()

    def load_positions():
        raise KeyError("motor_y")
    scan.load_positions = load_positions
    with pytest.raises(KeyError) as err:
        scan.initialize()
    assert "while in scan.load_positions()" in err.value.__notes__
