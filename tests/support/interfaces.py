"""Keeps tests that change the machine's network interfaces apart from those with a browser.

A browser drops its requests (ERR_NETWORK_CHANGED) when an interface of the machine is added or removed,
even one that it does not use. So a test that changes interfaces waits for those with a page open, and they
for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

LOCK = Path(tempfile.gettempdir()) / "mainstem-test-interfaces.lock"


@contextlib.contextmanager
def interfaces(*, change: bool) -> Iterator[None]:
    """Hold the machine's interfaces: `change`, alone; otherwise with others that need them unchanged."""
    with open(LOCK, "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if change else fcntl.LOCK_SH)
        yield
