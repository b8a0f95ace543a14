"""What one partition must contain in a random run of the log."""

from __future__ import annotations

from dataclasses import dataclass, field

from mainstem.log.storage import record_batch


@dataclass
class PartitionModel:
    """What one partition must contain."""

    batches: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    """base offset -> (next offset, body) of each batch that was accepted and not rolled back."""
    safe: int = 0
    """Nothing below this offset may be lost: it was acknowledged or visible."""
    log_start: int = 0
    log_start_requested: int = 0
    epoch: int = 0
    tried: dict[int, set[bytes]] = field(default_factory=dict)
    """base offset -> all bodies that were ever appended there: any may be above `safe` after a crash."""
    holes: dict[int, int] = field(default_factory=dict)
    """first offset -> offset after it, of damage that no promise covers."""
    sequences: dict[int, int] = field(default_factory=dict)
    """producer id -> next sequence."""
    last_sent: dict[int, tuple[int, bytes]] = field(default_factory=dict)

    def appended(self, base: int, next_offset: int, body: bytes) -> None:
        self.batches = {offset: batch for offset, batch in self.batches.items() if batch[0] <= base}
        self.batches[base] = (next_offset, body)
        self.tried.setdefault(base, set()).add(body)

    def is_hole(self, offset: int) -> bool:
        """Whether damage that no promise covers has this offset."""
        return any(first <= offset < end for first, end in self.holes.items())


def body_of(data: bytes | bytearray | memoryview) -> bytes:
    return bytes(data[record_batch.CRC_FROM :])
