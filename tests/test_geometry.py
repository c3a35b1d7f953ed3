"""What a geometry means on the object, and what is said where given values can hardly be meant."""
import re

import numpy as np
import pytest
from scipy import constants
from scipy.spatial import cKDTree

from ptyprep import PtyScan
from ptyprep.cli.show import plan_text
from ptyprep.errors import FrameError
from ptyprep.processing.geometry import light_around, object_pixel, off_center, steps
from ptyprep.processing.plan import FramePlan
from ptyprep.sources import ArrayFrames

SHAPE = 64, 48
RASTER = np.stack(np.meshgrid(np.arange(5) * 0.5e-6, np.arange(6) * 0.3e-6, indexing="ij"), -1).reshape(-1, 2)
RECORDED = {"energy": 8.0, "distance": 2.0, "psize": (75e-6, 75e-6), "center": (40.0, 20.0)}


class Recorded(PtyScan):
    """Frames in memory, with all of their geometry recorded."""
    recorded, at = RECORDED, RASTER

    def open(self):
        return ArrayFrames(np.ones((len(self.at), *SHAPE), "u2"))

    def load_geometry(self):
        return self.recorded

    def load_positions(self):
        return self.at


def looked(at=RASTER, recorded=RECORDED, **pars):
    scan = type("Mine", (Recorded,), {"__doc__": "Mine.", "at": at, "recorded": recorded})(pars)
    scan.look()
    return scan


def row(scan, name):
    return next(line[len(name):].strip() for line in plan_text(scan).splitlines() if line.startswith(name + " "))


# --- numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("energy, distance, psize, shape", [
    (8.0, 2.0, (75e-6, 50e-6), (512, 256)), (0.7, 0.1, (13.5e-6, 13.5e-6), (1024, 1024))])
def test_a_pixel_of_the_object_is_wavelength_times_distance_over_the_frames_width(energy, distance, psize, shape):
    wavelength = constants.h * constants.c / (energy * 1e3 * constants.e)
    expected = [wavelength * distance / (n * size) for n, size in zip(shape, psize)]
    assert object_pixel(energy, distance, psize, shape) == pytest.approx(expected, rel=1e-9)
    assert object_pixel(17.0, 0.02, 50e-9, (2048, 2048)) == (50e-9, 50e-9)         # a cone beam's effective pixel


@pytest.mark.parametrize("seed", range(20))
def test_steps_are_those_of_a_search_through_all(seed):
    rng = np.random.default_rng(seed)
    at = rng.normal(size=(rng.integers(2, 400), 2)) * rng.random(2) * 10.0 ** -rng.integers(9) + rng.integers(2)
    distances = cKDTree(at).query(at, 2)[0][:, 1]
    again = np.concatenate([at, at[:1], [[np.nan, 1]]])
    assert steps(again).nearest == pytest.approx(np.median(distances))
    assert steps(at).next == pytest.approx(np.median(np.linalg.norm(at[1:] - at[:-1], axis=1)))


@pytest.mark.parametrize("order", ["as it is", "shuffled"])
@pytest.mark.parametrize("rows, columns", [(100, 1000), (1, 100_000), (2, 50_000), (100_000, 1)])
def test_steps_of_a_hundred_thousand_positions_are_found_at_once(rows, columns, order):
    at = np.stack(np.meshgrid(np.arange(rows) * 2e-6, np.arange(columns) * 3e-6, indexing="ij"), -1).reshape(-1, 2)
    at = np.random.default_rng(1).permutation(at) if order == "shuffled" else at
    assert steps(at).nearest == pytest.approx(2e-6 if rows > 1 else 3e-6)


def test_steps_of_nothing():
    for at in (np.zeros((0, 2)), np.zeros((1, 2)), np.ones((5, 2)), np.full((5, 2), np.nan)):
        assert steps(at) is None


@pytest.mark.parametrize("given, recorded, said", [
    ((514, 486), (514, 486), ""), ((514, 486), (519, 480), ""), ((514, 486), (486, 514), "exchanged"),
    ((514, 486), (488, 510), "exchanged"), ((514, 486), (530, 486), "apart"), ((514, 486), (511, 489), ""),
    ((500, 505), (505, 500), "exchanged"), ((500, 502), (502, 500), ""), ((40, 20), (20, 40), "exchanged"),
    ((100, 100), (300, 300), "apart"), ((100, 300), (300, 250), "apart")])
def test_centres_that_agree_are_exchanged_or_are_apart(given, recorded, said):
    assert off_center(given, recorded) == off_center(recorded, given) == said


# --- what is said ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("given, note", [
    ({"energy": 7.2}, "energy is 7.2 keV (keyword), but the detector recorded 8 keV"),
    ({"energy": "7200 eV"}, "energy is 7.2 keV (keyword), but the detector recorded 8 keV"),
    ({"energy": 8.03}, None), ({"energy": 8.0}, None), ({"distance": 2.09}, None),
    ({"distance": 2.2}, "distance is 2.2 m (keyword), but the detector recorded 2 m"),
    ({"psize": 75e-6}, None),
    ({"psize": (75e-6, 55e-6)}, "psize is 75 um, 55 um (keyword), but the detector recorded 75 um, 75 um"),
    ({"center": (20, 40)},
     "center is row 20, column 40 (keyword), but the detector recorded row 40, column 20: are rows and columns "
     "exchanged?"),
    ({"center": "fftshift"}, None), ({"center": (36, 22.5)}, None), ({}, None),
    ({"center": "fft"}, "center is row 0, column 0 (keyword), but the detector recorded row 40, column 20"),
    ({"auto_center": True}, None)])
def test_a_given_value_that_contradicts_the_recorded_one_is_said_once_and_is_used(given, note):
    scan = looked(**given)
    assert scan.notes == ([note] if note else [])
    for name, value in given.items():
        assert scan.p.given(name) and (isinstance(value, str) or getattr(scan.p, name) == value)


def test_what_was_not_recorded_contradicts_nothing():
    scan = looked(recorded={}, energy=7.2, distance=2, psize=75e-6, center=(40, 20))
    assert scan.notes == [] and row(scan, "energy") == "7.2 keV (keyword)"
    with pytest.raises(Exception, match="'energy'.*greater than 0"):
        looked(recorded={**RECORDED, "energy": -1.0})
    assert looked(recorded={**RECORDED, "energy": -1.0}, energy=7.2).notes == []      # as if it were not recorded


def test_the_plan_shows_both():
    scan = looked(energy=7.2, center=(20, 40), psize=75e-6, distance=2.01)
    assert row(scan, "energy") == "7.2 keV (keyword; the detector recorded 8 keV)"
    assert row(scan, "distance") == "2.01 m (keyword; the detector recorded 2 m)"
    assert row(scan, "psize") == "75 um (keyword)"
    assert row(scan, "centre") == "row 20, column 40 (keyword; the detector recorded row 40, column 20)"
    assert row(looked(), "energy") == "8 keV (detector)"


def test_a_large_pixel_is_said_and_not_refused():
    scan = looked(RASTER * 1e3, {}, energy=2e-3, distance=50, psize="2 cm", center=(40, 20))
    assert scan.p.psize == 0.02 and scan.notes == ["psize is 20 mm: are the detector's pixels as large?"]


def test_a_centre_beyond_the_frame_that_would_lie_on_it_with_rows_and_columns_exchanged_says_so():
    with pytest.raises(FrameError, match=r"\(20.0, 50.0\).*outside.*\(50.0, 20.0\) lies on it: are rows and col"):
        FramePlan.make(SHAPE, center=(20, 50))
    with pytest.raises(FrameError) as err:
        FramePlan.make(SHAPE, center=(70, 80))
    assert "exchanged" not in str(err.value)


# --- positions on the object ----------------------------------------------------------------------------


def test_the_plan_shows_what_positions_and_frames_mean_on_the_object():
    """Wavelength x distance / pixel is the width of what a frame covers: 12.3984 / 8 angstrom x 2 m / 75 um."""
    width = 12.398419843320026e-10 / 8 * 2 / 75e-6
    for pars, pixels in (({}, SHAPE), ({"shape": 32}, (32, 32)), ({"orientation": 4}, SHAPE[::-1])):
        scan = looked(**pars)
        text = " x ".join(f"{width / n * 1e9:.4g} nm" for n in pixels)
        assert row(scan, "object") == f"pixel {text}, a frame covers {width * 1e6:.4g} um x {width * 1e6:.4g} um"
    binned = looked(rebin=2, shape=32)              # a frame of 16 pixels, twice as large: as wide on the detector
    assert row(binned, "object").startswith(f"pixel {width / 32 * 1e9:.4g} nm x")
    seen = [(np.ptp(axis) + width) * 1e6 for axis in RASTER.T]
    assert row(scan, "field") == f"of view {seen[0]:.4g} um x {seen[1]:.4g} um, positions and the frames around them"
    assert row(scan, "step") == "300 nm from one position to the next, 300 nm to the nearest one (medians)"
    assert row(scan, "overlap").startswith(f"{1 - 0.3e-6 / width:.0%} of neighbouring frames, {width * 1e6:.4g} um")
    assert row(looked(frames="::6"), "step").startswith("500 nm")       # the first column
    assert looked(frames=":1").total == 1 and "step " not in plan_text(looked(frames=":1"))


@pytest.mark.parametrize("factor, words", [
    (1, None), (1e3, "neighbouring positions are 300 um apart, and a frame covers 4.133 um x 4.133 um.*do not overlap.*"
                     "right unit"),
    (1e-3, "neighbouring positions are 300 pm apart, and a pixel of the object is 64.58 nm x 86.1 nm.*right unit"),
    (1e6, "the positions spread over 2 m: are they in metres"), (0, "all 30 positions are the same")])
def test_positions_in_another_unit_are_seen_at_once(factor, words):
    scan = looked(at=RASTER * factor)
    assert len(scan.notes) == (words is not None)
    for note in scan.notes:
        assert re.search(words, note)
    assert ("none of neighbouring frames" in plan_text(scan)) == (factor >= 1e3)


# --- light around a given centre ------------------------------------------------------------------------

BEAM, DETECTOR = (150, 60), (200, 220)
Y, X = np.ogrid[:DETECTOR[0], :DETECTOR[1]]


def spot(width=12.0, peak=40.0, background=0.0):
    """Mean counts of a beam at `BEAM`."""
    return background + peak * np.exp(-((Y - BEAM[0])**2 + (X - BEAM[1])**2) / (2 * width**2))


PATTERNS = {
    "a beam": spot(), "on a background": spot(background=1.0),
    "with a hot pixel": spot() + 1e6 * (Y == 20) * (X == 190),
    "behind a beam stop": spot(20) * (np.hypot(Y - BEAM[0], X - BEAM[1]) > 8),
    "wide": spot(40), "weak": spot(peak=2.0)}


def frames_of(pattern, seed=0):
    return np.random.default_rng(seed).poisson(pattern, (12, *DETECTOR)).astype("u4")


class Streamed(PtyScan):
    """Frames in memory that are prepared without a hook between."""
    frames_there = frames_of(spot())

    def open(self):
        return ArrayFrames(self.frames_there)

    def load_geometry(self):
        return {name: value for name, value in RECORDED.items() if name != "center"}

    def load_positions(self):
        return RASTER[:len(self.frames_there)]


def notes_of(frames, cls=Streamed, **pars):
    scan = type("Mine", (cls,), {"__doc__": "Mine.", "frames_there": frames})(pars).initialize()
    return [note for note in scan.notes if not note.startswith("the region reaches beyond")]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_given_centre_where_no_light_is_is_said_once(pattern):
    frames = frames_of(PATTERNS[pattern])
    for center in (BEAM, (BEAM[0] + 12, BEAM[1] - 12)):
        assert notes_of(frames, center=center) == []
    (note,) = notes_of(frames, center=BEAM[::-1], shape=64)
    assert note.startswith("almost no light falls around center, row 60, column 150 (keyword)")
    assert note.endswith("are rows and columns exchanged?")
    row, column = map(float, re.search("brightest place is near row ([0-9.]+), column ([0-9.]+)", note).groups())
    assert np.hypot(row - BEAM[0], column - BEAM[1]) < (30 if pattern in ("behind a beam stop", "wide") else 10)
    (note,) = notes_of(frames, center="fft")
    assert "row 0, column 0 (keyword)" in note and "exchanged" not in note


FLAT = np.random.default_rng(1).poisson(100, DETECTOR).astype(float)


@pytest.mark.parametrize("pattern", {"near field": FLAT, "nothing": 0 * FLAT, "one photon": 1.0 * (Y == 9) * (X == 9),
                                     "noise": 1e-3 + 0 * FLAT}.items(), ids=lambda item: item[0])
def test_nothing_is_said_where_light_stands_out_nowhere(pattern):
    assert notes_of(frames_of(pattern[1]), center=BEAM[::-1]) == []


def test_nothing_is_said_of_what_nobody_gave_or_cannot_be_seen(monkeypatch):
    frames, dark = frames_of(spot()), BEAM[::-1]
    assert notes_of(frames, auto_center=True)[0].startswith("centre of the light: row")
    recorded = type("Known", (Streamed,), {"__doc__": "Known.",
                                           "load_geometry": lambda self: {**RECORDED, "center": dark}})
    assert notes_of(frames, recorded) == notes_of(frames, recorded, center=dark) == []

    def load(self, points):             # a hook is not asked twice for a frame
        return self.frames_there[points]
    assert notes_of(frames, type("Hook", (Streamed,), {"__doc__": "Hook.", "load": load}), center=dark) == []
    good = np.ones(DETECTOR, bool)
    good[30:90, 120:180] = False
    hidden = type("Masked", (Streamed,), {"__doc__": "Masked.", "load_weight": lambda self: good})
    assert notes_of(frames, hidden, center=dark) == []


def test_frames_that_cannot_be_read_or_still_come_are_not_waited_for(monkeypatch):
    def fails(self, indices, window=None):
        raise OSError("the disk is gone")
    with monkeypatch.context() as changed:
        changed.setattr(ArrayFrames, "read", fails)
        assert notes_of(frames_of(spot()), center=BEAM[::-1]) == []
    monkeypatch.setattr(ArrayFrames, "progress", lambda self: (3, False))
    assert notes_of(frames_of(spot()), center=BEAM[::-1]) == []


def test_light_is_counted_in_a_frame_whatever_was_added_up():
    pattern, good = spot(background=2.0), np.ones(DETECTOR, bool)
    good[:, 100:110] = False
    counted = 5 * good.astype("u4")
    light = light_around(pattern * counted, counted, BEAM)
    assert light.around == pytest.approx(pattern[125:175, 35:85].mean() - 2, rel=0.1)
    assert light.average == pytest.approx(pattern[good].mean() - 2, rel=0.05)
    assert light_around(pattern * counted, 0 * counted, BEAM) is None
