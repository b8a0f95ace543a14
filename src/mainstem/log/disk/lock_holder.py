"""Says which process has locked a file.

Owns: reading Linux's table of locks. Refuses: to say anything on other systems, and to lock.
"""

from __future__ import annotations

import os
from pathlib import Path

LOCKS = Path("/proc/locks")


def lock_holder(path: str) -> str:
    """The process that has locked the file with `flock`, for people: `process 4711 (mainstem)`, or `this
    process`. `another process`: that is all that the system says."""
    try:
        status = os.stat(path)
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return "another process"
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in lines:
        # 7: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF; a waiting one has an arrow after its number
        fields = line.split()
        if len(fields) == 8 and fields[1] == "FLOCK" and fields[5] == place:
            return _named(int(fields[4]))
    return "another process"


def _named(pid: int) -> str:
    if pid == os.getpid():
        return "this process"
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:  # it has just ended, or is one of another container
        return f"process {pid}" if pid > 0 else "another process"
    return f"process {pid} ({name})"
