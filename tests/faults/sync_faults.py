"""Syncs of a real server that fail for a while, without compiled code: see failing_syncs/sitecustomize.py.

Owns: `SyncFaults`, which says which syncs fail, and the search for a server's sync process.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.support.server import Server

INJECTED = Path(__file__).with_name("failing_syncs")


class SyncFaults:
    """The syncs that fail in the servers that are started with `environ`."""

    def __init__(self, rules: Path) -> None:
        """`rules` is a file that does not exist yet."""
        self._rules = rules

    @property
    def environ(self) -> dict[str, str]:
        """Variables of the server's environment."""
        paths = [str(INJECTED), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"FAILING_SYNCS": str(self._rules), "PYTHONPATH": os.pathsep.join(paths)}

    def fail(self, *parts: str) -> None:
        """From now on, syncs fail of paths that contain one of these texts."""
        new = self._rules.with_suffix(".new")
        new.write_text("\n".join(parts), encoding="ascii")
        new.rename(self._rules)

    def heal(self) -> None:
        """From now on, no sync fails."""
        self._rules.unlink(missing_ok=True)

    def hiccup(self, seconds: float, *parts: str) -> None:
        """Let those syncs fail for a while. Returns when it is over."""
        self.fail(*parts)
        try:
            time.sleep(seconds)
        finally:
            self.heal()


def sync_process_of(server: Server) -> int | None:
    """Process id of the process that waits for the disk: one beside those of the search. None: there is none
    at the moment."""
    assert server.process is not None
    pid = server.process.pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            command = Path(f"/proc/{child}/cmdline").read_text()
        except OSError:  # it ended
            continue
        if "/log/disk/sync_process" in command:
            return int(child)
    return None
