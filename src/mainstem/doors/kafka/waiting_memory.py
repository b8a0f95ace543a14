"""How much memory a request holds while it waits for events or for members of its group.

Owns: the estimate. Refuses: the limits (`Dispatcher.parked`).
"""

from __future__ import annotations

OBJECT_WEIGHT = 16
"""Approximate bytes of memory that a waiting request holds for each of its first DENSE_BYTES: its decoded
objects."""
DENSE_BYTES = 1 << 20
"""As many bytes as the elements that a request may have need at most. Further ones belong to long strings and
metadata, and are counted twice: in the request and as decoded."""


def waiting_memory_bytes(size: int) -> int:
    """Approximate bytes of memory that a request of `size` bytes holds while it waits."""
    dense = min(size, DENSE_BYTES)
    return dense * OBJECT_WEIGHT + (size - dense) * 2
