"""Durations and timestamps of protobuf, in milliseconds.

Owns: the conversion. Refuses: ranges, which the fields have.
"""

from __future__ import annotations

from typing import Any


def milliseconds_of(duration: Any) -> int:
    """A google.protobuf.Duration or Timestamp in whole milliseconds, rounded down."""
    return int(duration.seconds) * 1000 + int(duration.nanos) // 1_000_000


def set_milliseconds(target: Any, milliseconds: int) -> None:
    """Set a google.protobuf.Duration or Timestamp."""
    target.seconds, rest = divmod(milliseconds, 1000)
    target.nanos = rest * 1_000_000
