"""Measures the same search with kaskade, a terminal interface for Kafka, which runs in a tmux session.

It presses the keys that a user would press: open the topic from its beginning, `/`, the needle in the field
"Value contains", Enter. The time is from that Enter until the needle's row is on the screen. kaskade shows
the row after it has reached the end of the topic and waited there for more events (2.5 s, its setting
`consumer.idle`), which is part of the time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable

GIVE_UP_S = 900.0
RETRY_S = 15.0
"""Request the first page again if it is still empty after this time: kaskade gives up when the group is
slow."""


def missing() -> str | None:
    """Why kaskade cannot be measured here; None: it can."""
    not_installed = [name for name in ("kaskade", "tmux") if shutil.which(name) is None]
    return f"{' and '.join(not_installed)} not installed" if not_installed else None


def seconds(address: str, topic: str, needle: str) -> float:
    """Seconds from the filter's Enter to the needle's row. `address`: HOST:PORT of the server."""
    with tempfile.TemporaryDirectory() as state:
        environment = os.environ | {"XDG_STATE_HOME": state, "TMUX": ""}

        def tmux(*arguments: str) -> str:
            command = ["tmux", "-f", "/dev/null", "-S", f"{state}/socket", *arguments]
            completed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            return completed.stdout

        def rows() -> list[str]:
            """The lines of the table, without the frame, which contains the filter's text."""
            return [line for line in tmux("capture-pane", "-p").splitlines() if "─" not in line]

        command = f"kaskade consumer -b {address} -t {topic} --earliest -k string -v string"
        tmux("new-session", "-d", "-x", "200", "-y", "50", command)
        try:
            _until(lambda: any('"id"' in row for row in rows()), lambda: tmux("send-keys", "n"))
            tmux("send-keys", "/")
            _until(lambda: any("Value contains" in row for row in rows()))
            for keys in (["Tab"], ["-l", needle]):
                time.sleep(1.0)  # until the dialog is open and receives the keys
                tmux("send-keys", *keys)
            _until(lambda: any(needle in row for row in rows()))
            assert any("Key contains" in row for row in rows()), "the needle is in the wrong field"
            began = time.perf_counter()
            tmux("send-keys", "Enter")
            _until(lambda: any(f'"{needle}"' in row for row in rows()))
            return time.perf_counter() - began
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                tmux("kill-server")


def _until(is_shown: Callable[[], bool], retry: Callable[[], object] | None = None) -> None:
    """Wait until something is on the screen, and call `retry` every RETRY_S."""
    began = last_try = time.perf_counter()
    while not is_shown():
        now = time.perf_counter()
        if now - began > GIVE_UP_S:
            raise TimeoutError(f"kaskade does not show the expected text within {GIVE_UP_S:.0f} s")
        if retry is not None and now - last_try > RETRY_S:
            retry()
            last_try = now
        time.sleep(0.05)
