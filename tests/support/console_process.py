"""`mainstem console` in front of a cluster, as a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READY = re.compile(r"mainstem console ready  http://(\S+)/")


@contextmanager
def console_process(
    cluster: str, data: Path, *options: str, http: str = "127.0.0.1:0"
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its HOST:PORT. Unless it has ended before, it is stopped, and ends cleanly."""
    command = ["console", "--at", cluster, "--http", http, "--data", str(data), *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "mainstem", *command], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        ready = READY.match(process.stdout.readline())
        assert ready is not None
        yield process, ready[1]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        process.stdout.close()
