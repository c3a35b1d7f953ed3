"""Threads of one rank: how many there are to be, the pools that they live in, and those that hooks start."""
import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary, WeakSet

WORKS = "works"     # name of the pool that prepares frames


@cache
def _pool(what, threads):
    return ThreadPoolExecutor(threads, thread_name_prefix=f"ptyprep {what}")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)       # threads stay behind


def in_background(what, fn, *args):
    """`fn(*args)` in the thread that does `what`, one such call after the other: a Future."""
    return _pool(what, 1).submit(fn, *args)


def in_threads(fn, items, threads):
    """[fn(item) for item in items], in a pool of `threads`; the first failure is raised."""
    return Begun(fn, items, threads).results()


class Begun:
    """`fn(item)` for each of some items, which a pool of `threads` does while this one goes on, with the context
    variables of this one.

    One thread would only take turns with it, and a thread of the pool could wait for itself: then they are done when
    they are asked for.
    """

    def __init__(self, fn, items, threads):
        self._fn, self._items, self._all = fn, list(items), []
        of_pool = threading.current_thread().name.startswith(f"ptyprep {WORKS}")
        try:
            for item in self._items if threads > 1 and len(self._items) > 1 and not of_pool else ():
                self._all.append(_pool(WORKS, threads).submit(copy_context().run, fn, item))
        except BaseException:
            self.stop()
            raise

    def results(self):
        """Those of all, in order; raises the first failure, and nothing is under way any more then."""
        try:
            return [one.result() for one in self._all] or [self._fn(item) for item in self._items]
        except BaseException:
            self.stop()
            raise

    def stop(self):
        """Leave out what nobody has begun, and wait for the rest, whatever comes of it."""
        for one in self._all:
            one.cancel()
        wait(self._all)


class HookThreads:
    """Threads that the hooks of one scan start. Python prints the traceback of one that fails, and goes on; here the
    scan can learn of it.

    failed : [(name of the thread, hook that started it, exception)]
    """
    _listening = WeakSet()          # those whose scan is under way

    def __init__(self):
        self._hook_of = WeakKeyDictionary()     # threads that hooks have left behind
        self._running = []                      # (hook that is running, threads that were there before)
        self.failed = []

    def listen(self):
        """Hear of threads that fail, from now on."""
        if not isinstance(threading.excepthook, _ExceptHook):
            threading.excepthook = _ExceptHook(threading.excepthook)
        self._listening.add(self)

    def leave(self):
        self._listening.discard(self)
        if not self._listening and isinstance(threading.excepthook, _ExceptHook):
            threading.excepthook = threading.excepthook.before

    @contextmanager
    def of(self, hook):
        """A block that calls a hook of that name."""
        before = set(threading.enumerate())
        self._running.append((hook, before))
        try:
            yield
        finally:
            for thread in set(threading.enumerate()) - before:
                self._hook_of.setdefault(thread, hook)
            self._running.pop()

    def hear(self, thread, err):
        hook = self._hook_of.get(thread) or next((hook for hook, before in self._running if thread not in before), None)
        if hook and all(err is not known for *_, known in self.failed):
            self.failed.append((thread.name, hook, err))


class _ExceptHook:
    """`threading.excepthook` while a scan is under way; `before` is the one that was there, and is called as well."""

    def __init__(self, before):
        self.before = before

    def __call__(self, args):
        for threads in list(HookThreads._listening) if args.thread and args.exc_type is not SystemExit else ():
            threads.hear(args.thread, args.exc_value or args.exc_type())
        self.before(args)


def processors():
    """What this rank may use: (numbers of its processors, which group limits its time, how much that allows).

    The limit is that of its control group (Linux cgroups v2, cpu.max, and v1, cpu.cfs_quota_us; what containers and
    Slurm set), in processors; None where there is none.
    """
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        groups = []
    return frozenset(own), *min((limit for group in groups for limit in _limits(group)), key=lambda limit: limit[1],
                                default=("", None))


def _limits(group, root=Path("/sys/fs/cgroup")):
    """(folder, processors) for each limit on a control group or on one that holds it."""
    _, kinds, path = group.split(":", 2)
    if kinds and "cpu" not in kinds.split(","):
        return
    folder = root / kinds / path.lstrip("/")
    for place in (folder, *folder.parents):
        try:
            if kinds:
                quota, period = ((place / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            else:
                quota, period = (place / "cpu.max").read_text().split()
            if quota.strip() not in ("max", "-1"):
                yield str(place), int(quota) / int(period)
        except (OSError, ValueError):
            pass
        if place == root / kinds:
            break


def fair_share(mine, node):
    """How many threads a rank takes: its part of the processors that the ranks of its node may use together, no more
    than its own, nor than its part of what its control group allows; at least one.

    mine : what `processors` says here; node : what it says on each rank of the node

    >>> four, no_limit = frozenset(range(4)), ("", None)
    >>> fair_share((four, *no_limit), [(four, *no_limit)] * 2), fair_share((four, "job", 2.0), [(four, "job", 2.0)])
    (2, 2)
    """
    own, group, limit = mine
    threads = min(len(own), len(frozenset().union(*(rank[0] for rank in node))) // len(node))
    if limit is not None:
        threads = min(threads, int(limit / sum(rank[1] == group for rank in node)))
    return max(threads, 1)
