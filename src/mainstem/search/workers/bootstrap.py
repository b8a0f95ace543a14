"""Starts a search process: `python -m mainstem.search.workers.bootstrap NICE MODULE ARGUMENTS...`.

Before it imports the module, it ignores the terminal's signals, lowers the process's priority below the
server's, and stubs packages that import more than is used, because a user waits for the start.

The process stays in the server's session. Linux divides the processors between sessions first (sched(7),
autogroup) and applies niceness only within a session: a niced process in a session of its own would get as
much as the whole server.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import runpy
import signal
import sys

BACKGROUND_NICE = 19
"""The lowest priority: run only when no other process needs the processor or the disk. It comes with
SCHED_IDLE, which also lowers the disk priority (ioprio_set(2))."""
_STUBBED = ("aiokafka", "aiokafka.record", "aiokafka.record._crecords", "crc32c")
"""Packages whose `__init__` imports far more than the search uses: a whole client, argparse, metadata of
distributions."""


def stub_heavy_packages() -> None:
    """Register these packages without running their `__init__`, so that only the needed submodules are
    imported: saves 80 ms and 6 MB. Only for a process that uses nothing else of them."""
    for name in _STUBBED:
        spec = importlib.util.find_spec(name)
        if spec is not None:
            sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.modules["crc32c"].crc32c = importlib.import_module("crc32c._crc32c").crc32c  # type: ignore[attr-defined]


def lower_priority(nice: int) -> None:
    """Ignore the terminal's signals, which the server handles, and lower the priority."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(nice)
        if nice >= BACKGROUND_NICE and hasattr(os, "SCHED_IDLE"):
            # Unlike niceness, it lets any process that wakes up preempt this one at once.
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


if __name__ == "__main__":
    lower_priority(int(sys.argv[1]))
    stub_heavy_packages()
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
