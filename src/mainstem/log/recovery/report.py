"""The report of one start: what recovery found and what it did.

Owns: `RecoveryReport` and its one-line summary. Refuses: to decide anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from mainstem.log.recovery.recovered_partition import RecoveredPartition


@dataclass(slots=True)
class RecoveryReport:
    """What one start of the log found and did."""

    clean: bool
    """True: the last stop was clean, so nothing was scanned."""
    is_new: bool = False
    """True: the data folder did not exist and was made."""
    is_copy: bool = False
    """True: the data folder is a copy of another, and this is its first start."""
    partitions: int = 0
    """Partitions recovered, the state partition included."""
    replayed_bytes: int = 0
    """Bytes written again from the journal."""
    scanned_bytes: int = 0
    """Bytes of whole batches beyond the known end that were found in segments and kept."""
    truncated_bytes: int = 0
    """Bytes removed after the durable end of a partition; `*.quarantine` files keep them."""
    fenced: list[tuple[UUID, int]] = field(default_factory=list)
    """Partitions that are read-only because less is on disk than was acknowledged."""
    quarantined: list[tuple[UUID, int]] = field(default_factory=list)
    """Partitions moved to `quarantine/`: no topic has their id, and no deleted topic had it."""
    removed: list[tuple[UUID, int]] = field(default_factory=list)
    """Partitions removed because their topic was deleted."""
    journal_damage: int = 0
    """Places where the journal is damaged: events that were acknowledged just before the stop may be lost."""
    notes: list[str] = field(default_factory=list)
    """One line for each thing that is not as a clean stop leaves it."""

    def add(self, recovered: RecoveredPartition) -> None:
        """Add the result of one partition."""
        self.partitions += 1
        self.replayed_bytes += recovered.replayed_bytes
        self.scanned_bytes += recovered.scanned_bytes
        self.truncated_bytes += recovered.truncated_bytes
        self.notes += recovered.notes
        if recovered.state.fence_reason is not None:
            self.fenced.append((recovered.checkpoint_row.topic_id, recovered.checkpoint_row.index))

    def summary(self) -> str:
        """The whole report in one line, for the log."""
        if self.is_new:
            return "a new data folder"
        partitions = "1 partition" if self.partitions == 1 else f"{self.partitions} partitions"
        if self.clean:
            return f"{partitions}; the last stop was clean"
        return (
            f"{partitions}; the last stop was not clean: "
            f"{self.replayed_bytes} bytes replayed from the journal, {self.scanned_bytes} found after it, "
            f"{self.truncated_bytes} cut, {len(self.fenced)} partitions read-only"
        )
