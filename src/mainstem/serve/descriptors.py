"""Refuses to start a server that would have too few file descriptors to serve anything.

Owns: how many a server needs beside those that it has open at its start. Refuses: a start with fewer, in one
line; with fewer it would be ready, and then fail every request.
"""

from __future__ import annotations

import os

from mainstem.log.disk.open_files import SPARE_DESCRIPTORS, raise_limit
from mainstem.serve.errors import CannotServe

LOOP_AND_SYNC_PROCESS = 14
JOURNAL_AND_LOCK = 6
SEGMENTS = 4
CONNECTIONS = 4
SEARCH_WORKERS = 8
SHORT_LIVED = 4
DESCRIPTORS_NEEDED = (
    SPARE_DESCRIPTORS
    + LOOP_AND_SYNC_PROCESS
    + JOURNAL_AND_LOCK
    + SEGMENTS
    + CONNECTIONS
    + SEARCH_WORKERS
    + SHORT_LIVED
)
"""What a server opens in its life, at the least: some of each kind, so that every request can be served, one
after the other."""


def check_descriptors() -> None:
    """Raise the process's limit on open files as far as the system allows. CannotServe(limit) if it is still
    too low."""
    limit = raise_limit()
    needed = len(os.listdir("/dev/fd")) + DESCRIPTORS_NEEDED
    if limit < needed:
        raise CannotServe(
            "limit",
            f"only {limit} files may be open, and a server needs at least {needed}, and more for its"
            " connections: raise the limit (ulimit -n 1024; LimitNOFILE= in a systemd unit)",
        )
