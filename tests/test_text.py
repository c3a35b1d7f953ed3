"""Text tables: each is written by string formatting; the reader gives these numbers, names and units, or refuses."""
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptyprep import FileScan, ParameterError
from ptyprep.errors import PositionError
from ptyprep.params.convert import Array, read
from ptyprep.tables.text import axes_in, parse_table, read_table

ROWS = "1 2\n3 4\n"


def readings(path, **pars):
    """(y, x) of a table [m], as a scan takes them."""
    scan = FileScan({"positions.file": path, **{f"positions.{name}": value for name, value in pars.items()}})
    return [axis.tolist() for axis in scan.readings(path)]


def written(folder, text, encoding="utf-8"):
    (folder / "t.txt").write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return folder / "t.txt"


# --- what is read --------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, columns, units", [
    ("1 2\n3 4\n", {"0": [1, 3], "1": [2, 4]}, {}),
    ("1,2\n3,4", {"0": [1, 3], "1": [2, 4]}, {}),
    ("1;2\n3;4", {"0": [1, 3], "1": [2, 4]}, {}),
    ("\n\n1\t2\n\n3\t4\n\n", {"0": [1, 3], "1": [2, 4]}, {}),
    ("y x\n1 2\n3 4", {"y": [1, 3], "x": [2, 4]}, {}),
    ("# y x\n1 2\n3 4", {"y": [1, 3], "x": [2, 4]}, {}),
    ("# taken on Monday\n# a b\n1 2\n3 4\n# the end", {"a": [1, 3], "b": [2, 4]}, {}),
    ("y [um], x [mm]\n1,2\n", {"y": [1], "x": [2]}, {"y": "um", "x": "mm"}),
    ("y[um] x[um]\n1 2\n", {"y": [1], "x": [2]}, {"y": "um", "x": "um"}),
    ("name,y,x\nfirst,1,2\nsecond,3,4\n", {"y": [1, 3], "x": [2, 4]}, {}),
    ("# x y\n# dwell 0.1\n1 2\n", {"x": [1], "y": [2]}, {}),
    ("# x[um] y[um]\n# fly scan\n1 2\n", {"x": [1], "y": [2]}, {"x": "um", "y": "um"}),
    ("# a[um] b[um]\n# fly scan\n1 2\n", {"a": [1], "b": [2]}, {"a": "um", "b": "um"}),
    ("# x y\n# dwell[s] gain[dB]\n1 2\n", {"x": [1], "y": [2]}, {}),
    ("# fly scan\nb a\n# more words\n1 2\n# x y\n3 4\n", {"b": [1, 3], "a": [2, 4]}, {}),
    ("# dwell 0.1\n1 2\n", {"0": [1], "1": [2]}, {}),
    ("1e-6 -2E3\n", {"0": [1e-6], "1": [-2e3]}, {}),
    ("first point,1,2\n2026-11-30 12:00,3,4", {"1": [1, 3], "2": [2, 4]}, {}),
    ("Date Time y x\n2026-11-30 12:00:01 1.0 2.0\n", {"y": [1], "x": [2]}, {}),
    # marks, labels, title lines
    ("\ufeff# x[mm] y[mm]\n" + ROWS, {"x": [1, 3], "y": [2, 4]}, {"x": "mm", "y": "mm"}),
    ("% x[mm] y[mm]\n" + ROWS, {"x": [1, 3], "y": [2, 4]}, {"x": "mm", "y": "mm"}),
    ("%% x[mm] y[mm]\n" + ROWS, {"x": [1, 3], "y": [2, 4]}, {"x": "mm", "y": "mm"}),
    ("// x y\n" + ROWS, {"x": [1, 3], "y": [2, 4]}, {}),
    ("; x y\n" + ROWS, {"x": [1, 3], "y": [2, 4]}, {}),
    ("! x y\n" + ROWS, {"x": [1, 3], "y": [2, 4]}, {}),
    ("# columns: x y\n" + ROWS, {"x": [1, 3], "y": [2, 4]}, {}),
    ("Columns = x y\n" + ROWS, {"x": [1, 3], "y": [2, 4]}, {}),
    ("A scan of Monday\nx y\n" + ROWS, {"x": [1, 3], "y": [2, 4]}, {}),
    ("sep=;\nx;y\n1;2\n", {"x": [1], "y": [2]}, {}),
    ("#\n-----\nx y\n=====\n1 2\n", {"x": [1], "y": [2]}, {}),
    # names of two words, units
    ("# X pos [mm]  Y pos [mm]\n" + ROWS, {"X pos": [1, 3], "Y pos": [2, 4]}, {"X pos": "mm", "Y pos": "mm"}),
    ("Motor X (mm)\tMotor Y (mm)\n1\t2\n", {"Motor X": [1], "Motor Y": [2]}, {"Motor X": "mm", "Motor Y": "mm"}),
    ('"X pos" "Y pos"\n1 2\n', {"X pos": [1], "Y pos": [2]}, {}),
    ("x/um y / um\n1 2\n", {"x": [1], "y": [2]}, {"x": "um", "y": "um"}),
    ("x_um y_um\n1 2\n", {"x": [1], "y": [2]}, {"x": "um", "y": "um"}),
    ("x um,y um\n1,2\n", {"x": [1], "y": [2]}, {"x": "um", "y": "um"}),
    ("x [um] set,y [um] set\n1,2\n", {"x set": [1], "y set": [2]}, {"x set": "um", "y set": "um"}),
    ("x {um} y {um}\n1 2\n", {"x": [1], "y": [2]}, {"x": "um", "y": "um"}),
    ("x,y,i0\num,um,counts\n1,2,3\n", {"x": [1], "y": [2], "i0": [3]}, {"x": "um", "y": "um", "i0": "counts"}),
    ("# x y\n# [um] [um]\n1 2\n", {"x": [1], "y": [2]}, {"x": "um", "y": "um"}),
    # cells
    ("1,5;2,5\n3,25;4", {"0": [1.5, 3.25], "1": [2.5, 4]}, {}),
    ("1,5\t2,5", {"0": [1.5], "1": [2.5]}, {}),
    ('"1,5","2,5"', {"0": [1.5], "1": [2.5]}, {}),
    ("1E5,2E-05,3,4e0", {"0": [1e5], "1": [2e-5], "2": [3], "3": [4]}, {}),
    ("0,1e-06\n0,2e-06", {"0": [0, 0], "1": [1e-6, 2e-6]}, {}),
    ("y\u2003x\n1\u00a02\n", {"y": [1], "x": [2]}, {}),
    ("y\tx\ti0\n1\t2\t3\n3\t4\t\n", {"y": [1, 3], "x": [2, 4], "i0": [3, None]}, {}),
    ('"y [um]","x [um]"\n"1.5","2.5"', {"y": [1.5], "x": [2.5]}, {"y": "um", "x": "um"}),
    ("1.5D+00 2.5d-3", {"0": [1.5], "1": [0.0025]}, {}),
    ("1,\t2,\n3,\t4", {"0": [1, 3], "1": [2, 4]}, {}),
    ("y,x\n1,2,\n3,4,", {"y": [1, 3], "x": [2, 4]}, {}),
    ("y,x,\n1,2,\n3,4,\n,,\n", {"y": [1, 3], "x": [2, 4]}, {}),
    (",y,x\n0,1,2\n1,3,4", {"0": [0, 1], "y": [1, 3], "x": [2, 4]}, {}),
    ("y,note,x\n1,,2\n3,,4", {"y": [1, 3], "x": [2, 4]}, {}),
    ("y\tnote\tx\n1\t\t2\n3\t\t4", {"y": [1, 3], "x": [2, 4]}, {}),
    ("y x\n1.0 2.0 # beam dump\n3.0 4.0#ok\n", {"y": [1, 3], "x": [2, 4]}, {}),
    ("% y x\n1.0 2.0 % beam dump\n3.0 4.0\n", {"y": [1, 3], "x": [2, 4]}, {}),
    ("y x\r1 2\r3 4\r", {"y": [1, 3], "x": [2, 4]}, {}),
    ("y x\r\n1 2\r\n3 4", {"y": [1, 3], "x": [2, 4]}, {}),
    ("1 2\t3\n4\t5 6\n", {"0": [1, 4], "1": [2, 5], "2": [3, 6]}, {}),
])
def test_tables(text, columns, units):
    table = parse_table(text)
    assert not table.doubt and not table.unit_doubt
    found = {key: [None if np.isnan(cell) else cell for cell in column]
             for key, column in zip(table.keys(), table.columns.values())}
    assert found == columns
    assert {table.names[i]: unit for i, unit in table.units.items()} == units


def test_cells_that_are_no_number_are_unknown():
    table = parse_table("y,x\n1,nan\n,2\n,\n-inf,3\n")
    np.testing.assert_equal(table.columns[0].tolist(), [1, math.nan, math.nan, -math.inf])
    np.testing.assert_equal(table.columns[1].tolist(), [math.nan, 2, math.nan, 3])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "latin-1", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings(tmp_path, encoding, end):
    text = end.join(["x [µm];y [µm]", "1,5;2", "3;4,25", ""])
    assert np.allclose(readings(written(tmp_path, text, encoding)), [[2e-6, 4.25e-6], [1.5e-6, 3e-6]])
    for one in ("utf-16-le", "utf-16-be"):
        assert np.allclose(readings(written(tmp_path, "\ufeff" + text, one)), [[2e-6, 4.25e-6], [1.5e-6, 3e-6]])
        with pytest.raises(PositionError, match="t.txt: cannot be read as a text table"):
            readings(written(tmp_path, text, one))


# --- what is refused -----------------------------------------------------------------------------------

@pytest.mark.parametrize("text, words", [
    ("", "no numbers in it"),
    ("# only a title\n", "no numbers in it"),
    ("1.5mm 2.5mm", "no numbers in it; expected a table with a line for each frame; line 1: '1.5mm 2.5mm'"),
    ("1 2\n3\n", "line 2: 1 columns, but 2"),
    ("# y x\n1 2\n3 4 beam dump\n", "line 3: 4 columns, but 2"),
    ("1\n2 3", "line 2: 2 columns, but 1"),
    ("1 2\n3 oops\n", "line 2: column 1 holds 'oops' among numbers"),
    ("Scan 12\n1 2\n", "line 1: column 0 holds 'Scan' among numbers: 'Scan 12'"),
    ("1 2\n3 1.#IND\n", "line 2: column 1 holds '1.#IND' among"),
    ("1_000 2", "'1_000' among numbers"),
    ("\u22121.5 2\n\u22123 4", "line 1: column 0 holds '\u22121.5'"),
    ("1.234,5;2", "'1.234,5' among numbers"),
    ("1,5 2,5", "line 1: '1,5 2,5': is '5 2' one number, or several"),
    ("1,05,2,25\n1,15,2,5", "line 1.*decimal comma"),
    ("1,5000,2,2500\n1,1234,2,1000", "line 1.*decimal comma"),
    ("1,5E+00,2,2E-01", "line 1.*decimal comma"),
    ("1,5;2.5", "'1,5' has a decimal comma, but '2.5' a point"),
    ("1,500;2,125", "nobody can tell whether '1,500' has a decimal comma, or one between thousands"),
    ('1 "2', "line 1.*quotation mark without its partner"),
])
def test_a_table_that_is_none_is_refused_by_line(text, words, tmp_path):
    with pytest.raises(PositionError, match=words) as err:
        read_table(written(tmp_path, text))
    assert "t.txt" in str(err.value)


@pytest.mark.parametrize("header, line", [
    ("# x[mm],y[mm],remark", 1), ("y x i0", 1), ("# x", 1), ("# columns: a b c", 1), ("positions", 1),
    ("# a scan\n# first x then y", 2), ("# scan 42\n# X pos Y pos", 2), ("# col 1: x\n# col 2: y", 1),
    ("# samx, samy, flux", 1), ("# all in mm", 1), ("# [um] [um]", 1), ("REM y x", 1), ("* y x", 1),
    ("# fast slow dwell", 1), ("# horizontal (mm)", 1), ("# y 1 x 2", 1), ("# y um x um", 1), ("# x y\n# y x", 1),
])
def test_a_line_that_may_name_the_columns_and_does_not_fit_is_a_question(tmp_path, header, line):
    path = written(tmp_path, f"{header}\n{ROWS}")
    shown = rf"t.txt, line {line}: '.*Set positions.slow_key and positions.fast_key to the numbers.*and positions.unit"
    with pytest.raises(PositionError, match=shown):
        readings(path)
    with pytest.raises(PositionError, match=f"t.txt, line {line}: .*positions.unit"):
        readings(path, slow_key="1", fast_key="0")      # the unit may stand there too
    assert np.allclose(readings(path, slow_key="1", fast_key="0", unit="um"), [[2e-6, 4e-6], [1e-6, 3e-6]])
    with pytest.raises(PositionError, match="positions.slow_key to the number"):
        readings(path, slow_key="yy", fast_key="0", unit="um")


@pytest.mark.parametrize("header", ["", "# scan 42\n", "# fly001\n", "# dwell 0.1 s\n", "# X-ray energy is 8 keV\n",
                                    "# 20 x 20 points\n", "# step 0.5 um\n"])
def test_two_columns_that_nothing_names_are_y_and_x(tmp_path, header):
    assert readings(written(tmp_path, header + ROWS), unit="m") == [[1, 3], [2, 4]]


@pytest.mark.parametrize("header", [
    "# positions are in mm\n# y x", "y x\n# mm", "# y, x in mm", "y x[mm]", "y_set_mm_1 x_set_mm_1", "y x\n# y[mm]",
    "# y um set,x um set", "# units: mm\n# y x", "# units (mm)\ny,x",
])
def test_a_unit_that_may_be_the_positions_is_a_question(tmp_path, header):
    path = written(tmp_path, header + "\n1,2\n3,4\n")
    with pytest.raises(PositionError, match=r"t.txt, line \d: '.*positions.unit"):
        readings(path)
    assert np.allclose(readings(path, unit="mm"), [[1e-3, 3e-3], [2e-3, 4e-3]])


def test_a_unit_of_another_column_is_not_that_of_the_positions(tmp_path):
    path = written(tmp_path, "# positions are in mm\nt[s] y x\n0 1 2\n")
    with pytest.raises(PositionError, match="line 1: 'positions are in mm' may say what the columns are in"):
        readings(path)
    assert read_table(path).units == {0: "s"}


def test_names_that_occur_twice_are_a_question(tmp_path):
    path = written(tmp_path, "y,x,y\n1,2,3\n")
    with pytest.raises(PositionError, match="which of its columns y, x, y are y and x"):
        readings(path)
    with pytest.raises(PositionError, match="2 columns 'y'; .*counted from 0"):
        readings(path, slow_key="y", fast_key="x")
    assert readings(path, slow_key="2", fast_key="x", unit="m") == [[3], [2]]


def test_words_that_happen_to_end_in_y_or_x_are_no_axes():
    assert axes_in(["flux", "energy"]) is axes_in(["index", "y"]) is axes_in(["samx", "hy"]) is None
    assert axes_in(["index", "Y", "x"]) == (1, 2) and axes_in(["samx", "index", "samy"]) == (2, 0)
    assert axes_in(["samx", "samy", "hx", "hy"]) is axes_in(["x", "x", "y"]) is None


# --- any spelling --------------------------------------------------------------------------------------

NUMBERS = {"repr": repr, "e": "{:.7e}".format, "D": lambda number: f"{number:.9E}".replace("E", "D"),
           "+": "{:+.4f}".format, "3": "{:.3f}".format, "int": lambda number: str(round(number))}
TITLES = ("{n}", "{n}[{u}]", "{n} [{u}]", "{n} ({u})", "{n}/{u}", "{n}_{u}", "{n} {u}", "{n} pos [{u}]", "sample {n}",
          "sam{n}", "sample_{n}_set ({u})", '"{n} [{u}]"', "{N}", "{N} in {u}")
ABOVE = ("", "# scan 42\n", "# a remark of several words\n", "A title\n", "\n\n", "# {u}\n", "# all in {u}\n",
         "sep=;\n", "# x before y\n")
MARK = ("", "# ", "#", "% ", "// ", "; ", "! ", "# columns: ", "columns: ", "* ")
BETWEEN = (" ", ",", ";", "\t", "  ", ", ", " ; ")
DAMAGE = ("", "one more", "one less", "none", "units below", "an index")


@st.composite
def tables(draw):
    """(text, encoding, [y, x] in metres): a table in any of many spellings, some of them damaged."""
    count = draw(st.integers(1, 4))
    number, comma = NUMBERS[draw(st.sampled_from(sorted(NUMBERS)))], draw(st.booleans())
    cells = [[number(value) for value in draw(st.lists(st.floats(-2000, 2000), min_size=count, max_size=count))]
             for _ in "yxi"]
    truth = {name: [float(cell.replace("D", "E")) for cell in column] for name, column in zip("yx", cells)}
    order = draw(st.permutations("yx")) + draw(st.sampled_from(([], ["i0"])))
    unit, damage, title = draw(st.sampled_from(("um", "mm", "nm"))), draw(st.sampled_from(DAMAGE)), draw(
        st.sampled_from(TITLES))
    columns = [cells["yx".find(name)] for name in order]
    names = [title.format(n=name, N=name.upper(), u=unit) for name in order]
    columns = [[cell.replace(".", ",") for cell in column] for column in columns] if comma else columns
    if damage in ("one more", "one less"):
        names = [*names, "remark"] if damage == "one more" else names[:-1]
    if damage == "an index":
        columns = [list(map(str, range(count))), *columns]
    between = draw(st.sampled_from(BETWEEN))
    in_header = draw(st.sampled_from((between, *BETWEEN)))
    lines = [between.join(row) + draw(st.sampled_from(("", "", "", " # ok", between.strip() or " ")))
             for row in zip(*columns)]
    header = "" if damage == "none" else draw(st.sampled_from(MARK)) + in_header.join(names) + "\n"
    if damage == "units below":
        header += in_header.join([unit] * len(names)) + "\n"
    above = draw(st.sampled_from(ABOVE)).format(u=unit)
    end = draw(st.sampled_from(("\n", "\r\n", "\r")))
    says = header and ("{u}" in title or damage == "units below") or unit in above
    factor = {"um": 1e-6, "mm": 1e-3, "nm": 1e-9}[unit] if says else 1
    text = (above + header + "\n".join(lines)).replace("\n", end)
    named = header or "x before y" in above       # else two columns are y and x
    return text, draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "cp1252"))), [
        [value * factor for value in truth[name]] for name in ("yx" if named else order[:2])]


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables())
def test_any_spelling_is_read_as_it_was_meant_or_refused(tmp_path, table):
    text, encoding, truth = table
    try:
        found = readings(written(tmp_path, text, encoding))
    except PositionError as err:
        assert "t.txt" in str(err)
        return
    np.testing.assert_allclose(found, truth, rtol=1e-12, atol=0)


# --- where a parameter is an array ---------------------------------------------------------------------

def test_the_array_of_a_parameter_has_the_order_and_unit_of_its_table(tmp_path):
    def array(text, unit="m"):
        return read(written(tmp_path, text), Array, unit=unit).tolist()
    assert array(ROWS) == array("# y x\n" + ROWS) == array("1,2\n3,4") == [[1, 2], [3, 4]]
    assert np.allclose(array("y [um];x [mm]\n1,5;2"), [1.5e-6, 2e-3])
    assert array("1\n2\n", "") == array("1 2", "") == [1, 2]
    for text, words in (("x y\n" + ROWS, "columns of numbers are x, y; expected.*y before x"),
                        ("# x y\n" + ROWS, "y before x"), ("y x i0\n1 2 3", "y before x"),
                        ("name 1\nname 2", "numbers only"),
                        ("# y x i0\n" + ROWS, "line 1: 'y x i0'"), ("# in mm\n" + ROWS, "line 1: 'in mm'"),
                        ("y[deg] x[deg]\n1 2", "must be a length")):
        with pytest.raises(ParameterError, match=words):
            array(text)
    with pytest.raises(ParameterError, match="in um, um; expected numbers without a unit"):
        array("y[um] x[um]\n1 2", "")


def test_a_table_that_is_binary_or_absent_is_refused(tmp_path):
    (tmp_path / "b.dat").write_bytes(bytes(range(128, 256)))
    for name in ("b.dat", "absent.txt"):
        with pytest.raises(PositionError, match=f"{name}.*cannot be read as a text table"):
            read_table(tmp_path / name)
