"""What a partition starts from.

Owns: `RecoveredState`, which recovery (or "a new partition") hands to `Partition`. Refuses: logic. Made by
`recovery.py` and `log.py`, read by `partition.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredState:
    """One partition as it is on disk when it opens. All that it names is durable and whole, except under
    `fenced`."""

    segments: tuple[int, ...] = ()
    """Base offsets, rising; the last one is active. Empty: nothing on disk yet, not even the folder. A sealed
    segment's size is its file's size (recovery has cut it where the next one begins)."""

    epoch: int = 0
    """partitionLeaderEpoch of the next batch."""

    log_start: int = 0
    """First offset that may be read. Segments wholly below it may still be listed: the partition unlinks
    them."""

    end_offset: int = 0
    """High watermark and log end."""

    end_position: int = 0
    """Bytes in the active segment."""

    clean: bool = True
    """True: index files and producer snapshot were written at the end of a clean shutdown and nothing came
    after. False: they cover what lies before `replayed_segment`/`replayed_position`; walk the batches from
    there."""

    replayed_segment: int = 0
    """Segment (base offset) where the bytes begin that came after the last checkpoint."""

    replayed_position: int = 0
    """Position in that segment."""

    arrivals: tuple[tuple[int, int], ...] = ()
    """(wall ms, base offset) of appends after the last checkpoint, rising, from the journal: put them back
    into the arrival index where they are newer than its last entry."""

    fenced: str | None = None
    """Why the partition is read-only: it is shorter or more damaged than what was acknowledged. What is
    listed above is readable."""
