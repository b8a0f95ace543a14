"""How the C library keeps memory that was freed.

Owns: one setting of glibc's malloc. Refuses: other C libraries, which are left as they are. Called by
`server.py` once clients are served.

The buffers of a large request and of its reply are freed a moment after they were taken. glibc gives such
memory back to the kernel each time, and the kernel makes it anew, page by page and filled with zeros, for the
next request: nearly half of the server's time when 1 MB requests come.
"""

from __future__ import annotations

import contextlib
import sys

KEPT_BYTES = 16 << 20
"""Free memory at the end of the heap, at most."""
OWN_MAP_BYTES = 8 << 20
"""What is larger is mapped for itself, and given back when it is freed."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""mallopt(3)."""


def keep_freed() -> None:
    """Keep some of what is freed, for the next request."""
    if sys.platform != "linux":
        return
    import ctypes  # 4 ms, which a start need not wait for

    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, OWN_MAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
