"""How many threads a rank takes, and what they do with an order and a failure."""
import os

import pytest

from ptyprep.parallel import threads
from ptyprep.parallel.threads import fair_share, in_threads, processors


def test_threads_keep_the_order_and_pass_on_the_failure():
    assert in_threads(lambda i: i * i, range(50), 4) == [i * i for i in range(50)]
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda i: 1 // (i - 7), range(50), 4)


FREE = ("", None)


def cores(*numbers):
    return frozenset(numbers)


@pytest.mark.parametrize("node, expected", [
    ([(cores(0, 1), *FREE)], [2]),
    ([(cores(0, 1, 2, 3), *FREE)] * 2, [2, 2]),
    ([(cores(0, 1), *FREE), (cores(2, 3), *FREE)], [2, 2]),                         # pinned apart
    ([(cores(0), *FREE), (cores(1, 2, 3), *FREE)], [1, 2]),                         # unequally: never more than its own
    ([(cores(0, 1), *FREE)] * 5, [1] * 5),                                          # more ranks than processors
    ([(cores(*range(64)), "/job", 4.0)] * 2, [2, 2]),                               # one container for both
    ([(cores(*range(64)), f"/task{i}", 4.0) for i in range(2)], [4, 4]),            # one each
    ([(cores(*range(8)), "/job", 0.5)], [1]),
    ([(cores(*range(8)), "/job", 2.5), (cores(*range(8)), *FREE)], [2, 4]),
])
def test_each_rank_takes_its_part(node, expected):
    assert [fair_share(mine, node) for mine in node] == expected


@pytest.mark.parametrize("group, files, expected", [
    ("0::/", {"cpu.max": "max 100000"}, []),
    ("0::/", {"cpu.max": "150000 100000"}, [1.5]),
    ("0::/job/task", {"job/task/cpu.max": "max 100000", "job/cpu.max": "200000 100000"}, [2.0]),
    ("0::/job/task", {"job/task/cpu.max": "100000 100000", "job/cpu.max": "200000 100000"}, [1.0, 2.0]),
    ("4:cpu,cpuacct:/job", {"cpu,cpuacct/job/cpu.cfs_quota_us": "300000\n",
                            "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"}, [3.0]),
    ("4:cpu,cpuacct:/job", {"cpu,cpuacct/job/cpu.cfs_quota_us": "-1\n",
                            "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"}, []),
    ("3:memory:/job", {"memory/job/cpu.max": "100000 100000"}, []),
    ("0::/job: with a colon", {"job: with a colon/cpu.max": "100000 100000"}, [1.0]),
    ("0::/gone", {}, []),
    ("0::/", {"cpu.max": "nonsense"}, []),
])
def test_limits_of_control_groups(tmp_path, group, files, expected):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert [limit for _, limit in threads._limits(group, tmp_path)] == expected


def test_this_machine_can_be_asked():
    own, _, limit = processors()
    assert own and own <= set(range(os.cpu_count())) and (limit is None or limit > 0)
