"""How a search process starts: `python -m mainstem.search.workers.bootstrap NICE MODULE TOLD...`.

Owns: a process's place behind the server, taken before the module is imported: deaf to a terminal's signals,
and of low priority; and that libraries bring no more than is used of them, for somebody waits for the start.
Refuses: a session of its own. Linux shares the processors between sessions first
(sched(7), autogroup) and looks at niceness only within one, so that a niced process in a session of its own
gets as much as the whole server. Run by `pool.py`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import runpy
import signal
import sys

BACKGROUND_NICE = 19
"""The niceness that means: only when nobody else wants the processor or the disk, which goes with SCHED_IDLE
(ioprio_set(2))."""
_STUBBED = ("aiokafka", "aiokafka.record", "aiokafka.record._crecords", "crc32c")
"""Packages that import far more than they are used for: a whole client, argparse, metadata of
distributions."""


def stub_heavy_packages() -> None:
    """Have these packages' modules, but run nothing of the packages themselves: 80 ms and 6 MB less. Only for
    a process in which nobody else wants them."""
    for name in _STUBBED:
        spec = importlib.util.find_spec(name)
        if spec is not None:
            sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.modules["crc32c"].crc32c = importlib.import_module("crc32c._crc32c").crc32c  # type: ignore[attr-defined]


def lower_priority(nice: int) -> None:
    """Leave signals to the server, and the processor too."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(nice)
        if nice >= BACKGROUND_NICE and hasattr(os, "SCHED_IDLE"):
            # Unlike niceness it lets a process that wakes up take the processor at once.
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


if __name__ == "__main__":
    lower_priority(int(sys.argv[1]))
    stub_heavy_packages()
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
