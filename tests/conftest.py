"""Which tests run beside each other, and, after a run of a minute or more, the ten slowest test files.

`make test` and `make check` start two workers (pytest-xdist).
"""
from collections import Counter

import pytest

SHOWN, LONG = 10, 60        # files; seconds


def pytest_collection_modifyitems(items):
    """One job of MPI at a time: a rank polls while it waits, so that two jobs on two cores slow each other down."""
    for item in items:
        if item.get_closest_marker("mpi"):
            item.add_marker(pytest.mark.xdist_group("mpi"))


def pytest_terminal_summary(terminalreporter):
    seconds, tests = Counter(), Counter()
    for report in (one for many in terminalreporter.stats.values() for one in many):
        if hasattr(report, "duration"):     # of a test's setup, call or teardown; not of a file that cannot be read
            file = report.nodeid.partition("::")[0]
            seconds[file] += report.duration
            tests[file] += report.when == "call"
    if (total := seconds.total()) < LONG:
        return
    terminalreporter.section(f"the {SHOWN} slowest of {len(seconds)} files, {total:.0f} s in all")
    for file, took in seconds.most_common(SHOWN):
        terminalreporter.line(f"{took:7.1f} s {took / total:4.0%} {tests[file]:5} tests  {file}")
