"""The result of the recovery of one partition.

Owns: `RecoveredPartition`, and the state that follows from a row and the segments that are there. Refuses: to
read or write a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mainstem.log.commit.checkpoint import CheckpointRow
from mainstem.log.disk.contract import File
from mainstem.log.partition.recovered_state import RecoveredState


@dataclass(slots=True)
class RecoveredPartition:
    """The result of recovering one partition. Nothing of it is durable before `files` and `folder` are
    synced."""

    state: RecoveredState
    checkpoint_row: CheckpointRow
    """The row for the next checkpoint. A fenced partition keeps its old row, so that the next start finds it
    too short again."""
    files: list[File] = field(default_factory=list)
    """Open files with unsynced bytes."""
    folder: str | None = None
    """The partition's folder if names in it have changed, else None."""
    notes: list[str] = field(default_factory=list)
    """One line for each thing that is not as a clean stop leaves it."""
    replayed_bytes: int = 0
    """Bytes written again from the journal."""
    scanned_bytes: int = 0
    """Bytes of valid batches found in the segments beyond the known end."""
    truncated_bytes: int = 0
    """Bytes cut off, all kept in `*.quarantine` files."""


def state_of(
    row: CheckpointRow,
    segments: Sequence[int],
    clean: bool,
    replayed_from: tuple[int, int],
    *,
    arrivals: Sequence[tuple[int, int]] = (),
    fence_reason: str | None = None,
) -> RecoveredState:
    """The state of a partition that ends as in `row`. `replayed_from`: (segment, position) at which the bytes
    begin that came after the last checkpoint."""
    return RecoveredState(
        segments=tuple(base for base in segments if base <= row.segment),
        epoch=row.epoch,
        log_start=row.log_start,
        end_offset=row.end_offset,
        end_position=row.position,
        clean=clean,
        replayed_segment=replayed_from[0],
        replayed_position=replayed_from[1],
        arrivals=tuple(arrivals),
        fence_reason=fence_reason,
    )
