"""SPEC text files, written by hand and read."""
import numpy as np
import pytest

from ptyprep.errors import SourceError
from ptyprep.tables.spec import read_scan

HEADER = "#F scans.dat\n#E 1500000000\n#D Fri\n#O0 samx  fine y  mokev\n#O1 dettr\n\n"
SCAN = ("#S 12  round_roi px -1 1 5\n#D Fri\n#T 0.1  (Seconds)\n#G0 0 0\n#P0 1.5 -2.25 6.2\n#P1 0.125\n#N 3\n"
        "#L px  fine y  diode\n0.5 -1 10\n@A 1 2 3\\\n 4 5 6\n1e-1 2 nan\n#C Fri. Scan aborted after 2 points.\n\n")


def write(folder, text):
    (folder / "scans.dat").write_text(text)
    return folder / "scans.dat"


def test_columns_and_motors_are_found_by_their_names(tmp_path):
    other = "#S 11 ct\n#P0 9 9 9\n#P1 9\n#N 1\n#L diode\n7\n\n"
    scan = read_scan(write(tmp_path, HEADER + other + SCAN + other.replace("11", "13")), 12)
    assert scan.command == "round_roi px -1 1 5"
    assert scan.motors == {"samx": 1.5, "fine y": -2.25, "mokev": 6.2, "dettr": 0.125}
    assert scan.column("px").tolist() == [0.5, 0.1] and scan.column("fine y").tolist() == [-1, 2]
    assert np.isnan(scan.column("diode")[1]) and scan.motor("mokev") == 6.2


@pytest.mark.parametrize(("name", "words"), [("py", "no columns 'py'; its columns are px, fine y, diode"),
                                             ("px", "2 columns 'px'")])
def test_a_column_that_is_not_there_or_twice(tmp_path, name, words):
    text = SCAN.replace("diode", "px") if name == "px" else SCAN
    with pytest.raises(SourceError, match=rf"scan 12 \(line 7\): {words}"):
        read_scan(write(tmp_path, HEADER + text), 12).column(name)


def test_a_motor_that_was_not_recorded_is_no_number(tmp_path):
    scan = read_scan(write(tmp_path, HEADER + "#S 12 ct\n#L diode\n7\n"), 12)
    with pytest.raises(SourceError, match="no motor 'mokev' at the start of the scan; recorded are none"):
        scan.motor("mokev")


def test_motors_are_those_of_the_last_header_before(tmp_path):
    again = HEADER.replace("#O0 samx  fine y  mokev", "#O0 mokev  samx  fine y").replace("#O1 dettr\n", "")
    text = HEADER + SCAN + again + SCAN.replace("#S 12", "#S 13").replace("#P1 0.125\n", "")
    scan = read_scan(write(tmp_path, text), 13)
    assert scan.motors == {"mokev": 1.5, "samx": -2.25, "fine y": 6.2}
    assert read_scan(tmp_path / "scans.dat", 12).motors["samx"] == 1.5


def test_one_of_several_scans_with_a_number(tmp_path):
    path = write(tmp_path, HEADER + SCAN + SCAN.replace("0.5 -1 10", "0.75 -1 10"))
    with pytest.raises(SourceError, match="scan 12 is there 2 times, in lines 7, 21: which .* is meant"):
        read_scan(path, 12)
    assert [read_scan(path, 12, order).column("px")[0] for order in (1, 2)] == [0.5, 0.75]
    with pytest.raises(SourceError, match="counted from 1, is number 3"):
        read_scan(path, 12, 3)


def test_the_last_line_of_a_scan_that_is_being_written_does_not_count(tmp_path):
    text = HEADER + SCAN.replace("#C Fri. Scan aborted after 2 points.\n\n", "0.3 4 1")
    assert read_scan(write(tmp_path, text), 12).column("px").tolist() == [0.5, 0.1]
    assert read_scan(write(tmp_path, text + "5\n"), 12).column("diode").tolist()[::2] == [10, 15]


def test_names_with_one_blank_between_and_lines_of_another_system(tmp_path):
    text = "#O0 a b\r\n#S 1 ct\r\n#P0 1 2\r\n#L c d\r\n3 4\r\n"
    scan = read_scan(write(tmp_path, text), 1)
    assert scan.motors == {"a": 1, "b": 2} and scan.column("d").tolist() == [4]


@pytest.mark.parametrize(("text", "words"), [
    ("dear all\n", "no scan in it"),
    ("#S twelve\n", "line 1: expected numbers"),
    ("#S 1 ct\n#L a  b\n1 2\n1 2 3\n", "line 4: 3 numbers for 2 columns"),
    ("#S 1 ct\n#L a  b\n1 two\n", "line 3: expected numbers .*'two'"),
    ("#S 1 ct\n#P0 1 2\n#L a\n1\n", "line 2: 2 numbers for 0 names"),
    ("#S 3 ct\n#L a\n1\n#S 9 ct\n#L a\n1\n", "no scan 1; its 2 scans are 3 to 9"),
])
def test_what_is_wrong_is_said_with_its_line(tmp_path, text, words):
    with pytest.raises(SourceError, match=words):
        read_scan(write(tmp_path, text), 1)


def test_no_such_file(tmp_path):
    with pytest.raises(SourceError, match=r"absent.dat: cannot be read as a SPEC file \(No such file"):
        read_scan(tmp_path / "absent.dat", 1)
