"""The needle through kaskade, a terminal interface for Kafka, in a terminal that tmux keeps.

Owns: what a person would press: open the topic from its beginning, `/`, the needle as what the value
contains, Enter. The time is from that Enter until the needle's row is on the screen. kaskade shows it when it
has come to the end of the topic and has waited there for more (2.5 s, its setting `consumer.idle`), which is
part of the time.
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
AGAIN_S = 15.0
"""A first page that stays empty so long (it gives up when the group is slow) is asked for again."""


def missing() -> str | None:
    """Why it cannot be measured here."""
    away = [name for name in ("kaskade", "tmux") if shutil.which(name) is None]
    return f"{' and '.join(away)} not installed" if away else None


def seconds(at: str, topic: str, needle: str) -> float:
    """From the filter's Enter to the needle's row."""
    with tempfile.TemporaryDirectory() as state:
        environment = os.environ | {"XDG_STATE_HOME": state, "TMUX": ""}

        def tmux(*arguments: str) -> str:
            command = ["tmux", "-f", "/dev/null", "-S", f"{state}/socket", *arguments]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            return done.stdout

        def rows() -> list[str]:
            """Of the table: all lines but the frame, which names the filter."""
            return [line for line in tmux("capture-pane", "-p").splitlines() if "─" not in line]

        command = f"kaskade consumer -b {at} -t {topic} --earliest -k string -v string"
        tmux("new-session", "-d", "-x", "200", "-y", "50", command)
        try:
            _until(lambda: any('"id"' in row for row in rows()), lambda: tmux("send-keys", "n"))
            tmux("send-keys", "/")
            _until(lambda: any("Value contains" in row for row in rows()))
            for keys in (["Tab"], ["-l", needle]):
                time.sleep(1.0)  # keys that come while the dialog opens go elsewhere
                tmux("send-keys", *keys)
            _until(lambda: any(needle in row for row in rows()))
            assert any("Key contains" in row for row in rows()), "it went into another field"
            began = time.perf_counter()
            tmux("send-keys", "Enter")
            _until(lambda: any(f'"{needle}"' in row for row in rows()))
            return time.perf_counter() - began
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                tmux("kill-server")


def _until(seen: Callable[[], bool], again: Callable[[], object] | None = None) -> None:
    began = asked = time.perf_counter()
    while not seen():
        now = time.perf_counter()
        if now - began > GIVE_UP_S:
            raise TimeoutError("kaskade does not show it")
        if again is not None and now - asked > AGAIN_S:
            again()
            asked = now
        time.sleep(0.05)
