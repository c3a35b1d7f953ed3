"""The defects of tests/defects can be planted still; `make defects` plants them, and sees whether tests notice."""
import sys
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "defects"
sys.path.insert(0, str(FOLDER))
try:
    from defects import DEFECTS
    from run import planted
finally:
    sys.path.remove(str(FOLDER))


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_each_stands_once_and_its_code_can_be_read(defect):
    file, code = planted(defect)
    assert code != file.read_text()


def test_there_are_twenty_of_five_kinds():
    assert Counter(defect.kind for defect in DEFECTS) == {"frames and masks": 5, "positions and units": 4, "ranks": 4,
                                                          "crash and resume": 4, "sources": 3}
    assert sum(defect.unseen for defect in DEFECTS) >= 8


@pytest.mark.parametrize("text", ["import numpy as np", "no such text stands anywhere"])
def test_a_text_that_does_not_stand_once_is_said(text):
    with pytest.raises(ValueError, match="expected once"):
        planted(DEFECTS[0]._replace(text=text))


def test_what_is_no_code_is_said():
    with pytest.raises(SyntaxError):
        planted(DEFECTS[0]._replace(instead="("))
