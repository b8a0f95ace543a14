"""The settings that the log itself obeys, typed, with units in their names.

Refuses: any syntax of settings. Their Kafka names, texts and validation are in `coordinator/topics/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Durability = Literal["disk", "os"]


@dataclass(frozen=True, slots=True)
class PartitionConfig:
    """One topic's settings, as its partitions obey them. -1 means no limit where Kafka defines it so."""

    segment_bytes: int = 1 << 30
    """A segment that would become larger is rolled."""
    segment_ms: int = 7 * 24 * 3600 * 1000
    """A segment is rolled when its first batch arrived longer ago."""
    segment_index_bytes: int = 10 << 20
    """A segment is rolled when one of its index files would become larger."""
    index_interval_bytes: int = 4096
    """Bytes of log between two index entries, at least."""
    retention_ms: int = 7 * 24 * 3600 * 1000
    """Segments whose events are older are removed."""
    retention_bytes: int = -1
    """The oldest segments are removed while a partition is larger."""
    retention_by_record_time: bool = False
    """Age counts from the record's timestamp, as with Kafka; otherwise from its arrival."""
    max_message_bytes: int = 1_048_588
    """Larger batches are refused."""
    log_append_time: bool = False
    """Records get the time of their append in place of the producer's timestamp."""
    timestamp_before_max_ms: int = (1 << 63) - 1
    """Batches whose timestamp is older by more are refused."""
    timestamp_after_max_ms: int = 3_600_000
    """Batches whose timestamp is further in the future are refused."""

    def batch_limit(self) -> str:
        """The setting that limits the size of a batch, for a message: the smaller of two."""
        if self.segment_bytes < self.max_message_bytes:
            return f"segment.bytes is {self.segment_bytes}"
        return f"max.message.bytes is {self.max_message_bytes}"


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Settings of the whole log."""

    durability: Durability = "disk"
    """When an append is committed: "disk" once it is synced, "os" once it is in the page cache."""
    journal_file_bytes: int = 64 << 20
    first_journal_file_bytes: int = 16 << 20
    """The first file is smaller, so that a new folder can soon be written to, also on a small disk."""
    journal_files: int = 4
    """Number of journal files. A new one is created when fewer can be used."""
    journal_file_records_max: int = 100_000
    """More records are written to the next file: it bounds the work of a start."""
    checkpoint_interval_s: float = 30.0
    """A checkpoint begins at the latest this long after a write."""
    direct_sync_bytes: int = 256 << 10
    """Appends of one partition that are larger together are synced in their segment, without the journal."""
    group_bytes_max: int = 8 << 20
    """A commit group holds at most this many bytes, unless one partition's appends are more."""
    producer_expiry_ms: int = 24 * 3600 * 1000
    """An idempotent producer that wrote nothing for longer is forgotten."""
    open_files: int = 4096
    """Files of segments and the journal that are open at a time, at most."""
