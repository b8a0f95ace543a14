"""What recovery did, for the log and for people.

Owns: `RecoveryReport`. Refuses: logic. Made by `log.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from mainstem.log.recovery.partition_recovery import RecoveredPartition


@dataclass(slots=True)
class RecoveryReport:
    """One start."""

    clean: bool
    """The last stop was: nothing was scanned."""
    is_new: bool = False
    """Nothing was there: the folder was made."""
    is_copy: bool = False
    """The folder is a copy of another, and this its first start."""
    partitions: int = 0
    """That were found."""
    replayed_bytes: int = 0
    """Written again from the journal."""
    scanned_bytes: int = 0
    """Found beyond it and kept."""
    truncated_bytes: int = 0
    """After the durable end of a partition; kept in `*.quarantine` files."""
    fenced: list[tuple[UUID, int]] = field(default_factory=list)
    """Read-only, for they are damaged: less is there than was acknowledged."""
    quarantined: list[tuple[UUID, int]] = field(default_factory=list)
    """Put into `quarantine/`: no topic has this id, and none that was deleted had."""
    removed: list[tuple[UUID, int]] = field(default_factory=list)
    """Their topic was deleted."""
    notes: list[str] = field(default_factory=list)
    """One line for each thing that was not as a clean stop leaves it."""

    def add(self, recovered: RecoveredPartition) -> None:
        """Count one partition."""
        self.partitions += 1
        self.replayed_bytes += recovered.replayed_bytes
        self.scanned_bytes += recovered.scanned_bytes
        self.truncated_bytes += recovered.truncated_bytes
        self.notes += recovered.notes
        if recovered.state.fence_reason is not None:
            self.fenced.append((recovered.checkpoint_row.topic_id, recovered.checkpoint_row.index))

    def summary(self) -> str:
        """One line."""
        if self.is_new:
            return "nothing, for the data folder is new"
        partitions = "1 partition" if self.partitions == 1 else f"{self.partitions} partitions"
        if self.clean:
            return f"{partitions}, stopped cleanly before"
        return (
            f"{partitions}, not stopped cleanly before: "
            f"{self.replayed_bytes} bytes from the journal, {self.scanned_bytes} found after it, "
            f"{self.truncated_bytes} cut, {len(self.fenced)} partitions read-only"
        )
