"""MDA files: what was written is read, and damage ends in words."""
import struct

import numpy as np
import pytest
from ptyprep_recipes._layouts.aps_2id import _int, _mda, _scan

from ptyprep.errors import SourceError
from ptyprep.tables.mda import read_mda

X = np.array([0.1, 0.2, 1 / 3])


@pytest.fixture
def path(tmp_path):
    """A scan of two lines of three points, and one that was not started."""
    lines = [_scan([("m1", "mm", X + k)], [("S1", "counts", [k, 2, 3]), ("S10", "", [4, 5, 6])]) for k in range(2)]
    _mda(tmp_path / "a.mda", _scan([("m2", "um", [7, 8, 0])], lower=[*lines, None], done=2), (3, 3))
    return tmp_path / "a.mda"


def test_a_scan_of_two_dimensions(path):
    scan = read_mda(path)
    assert (scan.rank, [each.rank for each in scan.lower]) == (2, [1, 1])
    y, x = scan.readings("P0"), scan.lower[1].readings("m1")
    assert (y.name, y.units, y.values.tolist()) == ("m2", "um", [7, 8])
    assert (x.name, x.units) == ("m1", "mm") and np.array_equal(x.values, X + 1)
    assert scan.lower[1].readings("d1").values.tolist() == [4, 5, 6]
    assert scan.lower[1].readings("S1").values.tolist() == [1, 2, 3]
    with pytest.raises(SourceError, match=r"rank 1 reads no D2; it reads P0 \(m1\), D0 \(S1\), D1 \(S10\)"):
        scan.lower[0].readings("D2")


def test_three_dimensions_and_one(tmp_path):
    line = _scan([("x", "", X)])
    _mda(tmp_path / "c.mda", _scan([("z", "", [1.0])], lower=[_scan([("y", "", [5.0, 6.0])], lower=[line, line])]),
         (1, 2, 3), version=1.4)
    assert np.array_equal(read_mda(tmp_path / "c.mda").lower[0].lower[1].readings("P0").values, X)
    _mda(tmp_path / "l.mda", line, (3,))
    assert read_mda(tmp_path / "l.mda").lower == []


def test_a_readback_goes_before_its_positioner(tmp_path):
    """Written byte by byte from the description of the format."""
    def text(words):
        return struct.pack(">ii", len(words), len(words)) + words + b"\0" * (-len(words) % 4) if words else _int(0)
    named = [b"m1.VAL", b"motor", b"LINEAR", b"mm", b"m1.RBV", b"where it was", b"um"]
    content = (bytes.fromhex("3fa66666") + _int(12, 1, 2, 1, 0) + _int(1, 2, 2) + text(b"scan1") + text(b"now")
               + _int(1, 0, 0) + _int(0) + b"".join(map(text, named)) + struct.pack(">dd", 1.5, 2.5))
    (tmp_path / "r.mda").write_bytes(content)
    (found,) = read_mda(tmp_path / "r.mda").positioners
    assert (found.name, found.units, found.values.tolist()) == ("m1.RBV", "um", [1.5, 2.5])


def test_a_file_that_ends_early_says_so_wherever_it_ends(path):
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(SourceError, match="damaged, or no MDA file"):
            read_mda(path)


def test_wrong_numbers_are_words_and_no_crash(path):
    content = path.read_bytes()
    for at in range(0, len(content), 4):
        for value in (-1, 0x7fffffff, 5):
            path.write_bytes(content[:at] + _int(value) + content[at + 4:])
            try:
                read_mda(path)
            except SourceError as err:
                assert str(path) in str(err)


def test_scans_that_hold_themselves_end(tmp_path):
    points = 200
    scan = _scan([("y", "", np.zeros(points))], lower=[_scan([("x", "", X)])] * points)
    _mda(tmp_path / "s.mda", scan, (points, 3))
    content = bytearray((tmp_path / "s.mda").read_bytes())
    for at in range(points):        # every line is the first one
        content[40 + 4 * at:44 + 4 * at] = content[40:44]
    (tmp_path / "s.mda").write_bytes(content[:5500])
    with pytest.raises(SourceError, match="more are declared than can be"):
        read_mda(tmp_path / "s.mda")


@pytest.mark.parametrize("content", [b"", b"no numbers", b"\x89HDF\r\n\x1a\n" + bytes(100), bytes(400)])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "o.mda").write_bytes(content)
    with pytest.raises(SourceError, match="o.mda.*MDA file"):
        read_mda(tmp_path / "o.mda")
    with pytest.raises(SourceError, match="No such file"):
        read_mda(tmp_path / "absent.mda")
