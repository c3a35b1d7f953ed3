"""Which scan points: against Python's own slices."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptyprep.errors import ParameterError
from ptyprep.processing.selection import Selection

number = st.integers(0, 30)


@st.composite
def wanted(draw):
    """(text, slice) of a selection first:last:step, parts of it left out."""
    first, step = draw(st.none() | number), draw(st.none() | st.integers(1, 7))
    last = draw(st.none() | st.integers((first or 0) + 1, 40))
    parts = [first, last] if step is None and draw(st.booleans()) else [first, last, step]
    return ":".join("" if part is None else str(part) for part in parts), slice(first, last, step)


@given(wanted(), st.integers(1, 40), st.none() | st.integers(1, 40))
def test_frames_are_selected_as_python_does(wish, available, num_frames):
    text, python = wish
    expected = list(range(available))[python][:num_frames]
    if not expected:
        with pytest.raises(ParameterError, match=f"selects none of the {available} scan points"):
            Selection.of(text, available=available, num_frames=num_frames)
        return
    selection = Selection.of(text, available=available, num_frames=num_frames)
    assert selection.count == len(expected)
    assert list(selection.raw(range(selection.count))) == expected


@given(wanted(), st.none() | st.integers(1, 40), st.integers(0, 90))
def test_what_is_reached_grows_as_the_scan_does(wish, num_frames, there):
    text, python = wish
    selection = Selection.of(text, num_frames=num_frames)
    assert selection.reached(there) == len(list(range(there))[python][:num_frames])
    if python.stop is None and num_frames is None:
        assert selection.count is None


@given(wanted(), st.integers(0, 10), st.integers(0, 10))
def test_a_part_of_the_output_is_the_same_part_of_the_raw_points(wish, start, length):
    text, python = wish
    selection = Selection.of(text)
    everything = list(range(1000))[slice(python.start, None, python.step)]
    assert list(selection.raw(range(start, start + length))) == everything[start:start + length]


@pytest.mark.parametrize("frames", [None, "", ":", "::"])
def test_nothing_said_means_all(frames):
    assert Selection.of(frames, available=7) == Selection(0, 1, 7)
    assert Selection.of(frames).count is None


@pytest.mark.parametrize("frames", ["5", "5:3", "5:5", "-3:", ":-1", "::0", "::-1", "1:2:3:4", "a:b", "1.5:3", " "])
def test_what_is_no_selection_is_refused_with_an_example(frames):
    with pytest.raises(ParameterError) as err:
        Selection.of(frames, available=100)
    assert f"frames={frames!r}" in str(err.value) and "first:last:step, such as 0:500 or ::2" in str(err.value)


# --- a list of scan points ----------------------------------------------------------------------------------

@given(st.lists(st.integers(0, 39), min_size=1, max_size=60), wanted(), st.none() | st.integers(1, 40), st.data())
def test_a_list_is_selected_from_as_python_does(points, wish, num_frames, data):
    text, python = wish
    expected = points[python][:num_frames]
    if not expected:
        with pytest.raises(ParameterError, match="no scan point is left of the 40"):
            Selection.of(text, available=40, num_frames=num_frames, points=points)
        return
    selection = Selection.of(text, available=40, num_frames=num_frames, points=points)
    assert selection.count == len(expected)
    start = data.draw(st.integers(0, len(expected) - 1))
    stop = data.draw(st.integers(start + 1, len(expected)))
    some, there = expected[start:stop], data.draw(st.integers(0, 45))
    assert list(selection.raw(range(start, stop))) == some
    assert selection.extent(range(start, stop)) == range(min(some), max(some) + 1)
    assert selection.among(range(there, 50)) == sum(point >= there for point in expected)
    ready = next((i for i, point in enumerate(expected[start:]) if point >= there), len(expected) - start)
    assert selection.reached(there, start) == ready


def test_a_point_that_is_not_there_is_refused():
    with pytest.raises(ParameterError, match="scan point 7 was selected, but the scan has 5, counted from 0"):
        Selection.of(available=5, points=[1, 7])
