"""What takes the time: after a run of a minute or more, the ten slowest test files."""
from collections import Counter

SHOWN, LONG = 10, 60        # files; seconds


def pytest_terminal_summary(terminalreporter):
    seconds, tests = Counter(), Counter()
    for report in (one for many in terminalreporter.stats.values() for one in many):
        if hasattr(report, "when"):         # of a test's setup, call or teardown
            file = report.nodeid.partition("::")[0]
            seconds[file] += report.duration
            tests[file] += report.when == "call"
    if (total := seconds.total()) < LONG:
        return
    terminalreporter.section(f"the {SHOWN} slowest of {len(seconds)} files, {total:.0f} s in all")
    for file, took in seconds.most_common(SHOWN):
        terminalreporter.line(f"{took:7.1f} s {took / total:4.0%} {tests[file]:5} tests  {file}")
