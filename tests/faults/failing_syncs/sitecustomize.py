"""Loaded by a server at its start, because its folder is in PYTHONPATH: syncs fail while a file says so.

Owns: `os.fdatasync` and `os.fsync` of the server and of its sync process, which starts without site-packages
and without the environment's paths, so that this file is put in front of it. They fail with EIO for files and
folders whose path contains a line of the file FAILING_SYNCS, while there is one. Refuses: to know what a
server does; `sync_faults.py` writes the file.
"""

from __future__ import annotations

import errno
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

RULES = os.environ.get("FAILING_SYNCS", "")


def is_failing(descriptor: int) -> bool:
    """Whether the rules name the file behind this descriptor."""
    try:
        with open(RULES, encoding="ascii") as file:
            parts = file.read().split()
    except OSError:
        return False
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    return any(part in path for part in parts)


def failing(real: Callable[[int], None]) -> Callable[[int], None]:
    """`real`, unless the rules say that it fails."""

    def sync(descriptor: int) -> None:
        if is_failing(descriptor):
            raise OSError(errno.EIO, "injected")
        real(descriptor)

    return sync


class PatchedPopen(subprocess.Popen[Any]):
    """Starts the sync process through this file."""

    def __init__(self, args: Any, *rest: Any, **named: Any) -> None:
        if isinstance(args, list):
            for place, argument in enumerate(args):
                if str(argument).endswith("/log/disk/sync_process.py"):
                    args = [*args[:place], __file__, *args[place:]]
                    break
        super().__init__(args, *rest, **named)


if RULES:
    os.fdatasync = failing(os.fdatasync)  # type: ignore[assignment]
    os.fsync = failing(os.fsync)  # type: ignore[assignment]
    subprocess.Popen = PatchedPopen  # type: ignore[misc]

if __name__ == "__main__":  # in front of the sync process
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
