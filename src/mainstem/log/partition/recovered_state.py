"""The state of one partition on disk, from which it opens.

Owns: `RecoveredState`, which recovery makes for each partition in the data folder, and `Log` for a new one.
Refuses: logic.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredState:
    """One partition as it is on disk when it opens. All that is listed here is durable and whole, unless
    `fence_reason` is set. The defaults are those of a new partition."""

    segments: tuple[int, ...] = ()
    """Base offsets, rising; the last segment is active. Empty: nothing is on disk yet, not even the folder.
    The size of a sealed segment is that of its file: recovery has cut it where the next segment begins."""

    epoch: int = 0
    """Leader epoch (partitionLeaderEpoch) of the next batch."""

    log_start: int = 0
    """First offset that may be read. Segments that lie wholly below it may still be listed: the partition
    unlinks them."""

    end_offset: int = 0
    """High watermark and log end offset."""

    end_position: int = 0
    """Bytes in the active segment."""

    clean: bool = True
    """True: the last stop was clean, and index files and producer snapshot cover everything. False: they
    cover what lies before `replayed_segment` and `replayed_position`; the rest is read from batch headers."""

    sealed_sizes: tuple[int, ...] | None = None
    """Bytes in the files of the sealed segments; None: not known yet."""

    sealed_as_recorded: bool = True
    """False: the sealed segments are not those that the checkpoint knows, or it knows none: the partition
    looks for offsets that no batch has."""

    acknowledged_end: int = 0
    """Where the log ended according to what was acknowledged; after `end_offset` if events are lost there."""

    replayed_segment: int = 0
    """Base offset of the segment in which the bytes begin that came after the last checkpoint."""

    replayed_position: int = 0
    """Position in `replayed_segment` at which those bytes begin."""

    arrivals: tuple[tuple[int, int], ...] = ()
    """(wall ms, base offset) of batches that arrived after the last checkpoint, rising, from the journal. The
    partition adds those to its arrival indexes that are newer than the last entry."""

    fence_reason: str | None = None
    """Why the partition is read-only: it is shorter or more damaged than what was acknowledged. What is
    listed above can be read."""

    def __post_init__(self) -> None:
        assert self.log_start <= self.end_offset, "the log start offset is not after the end"
        assert list(self.segments) == sorted(set(self.segments)), "segments are in offset order"
