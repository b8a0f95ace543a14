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
    """Maximum bytes of a segment. A batch that would exceed it begins a new segment."""
    segment_ms: int = 7 * 24 * 3600 * 1000
    """Maximum age of the active segment, counted from the arrival of its first batch. Then a new one
    begins."""
    segment_index_bytes: int = 10 << 20
    """Maximum bytes of each index file of a segment. A batch that would exceed it begins a new segment."""
    index_interval_bytes: int = 4096
    """Minimum bytes of log between two index entries."""
    retention_ms: int = 7 * 24 * 3600 * 1000
    """Maximum age of events: a segment whose events are all older is deleted."""
    retention_bytes: int = -1
    """The oldest segments of a partition are deleted if at least this many bytes remain without them."""
    retention_by_record_time: bool = False
    """How `retention_ms` counts the age of an event: from its timestamp, as Kafka does (True), or from its
    arrival (False)."""
    max_message_bytes: int = 1_048_588
    """Maximum bytes of a batch, as the producer sends it. A larger one is rejected with BatchTooLarge."""
    log_append_time: bool = False
    """True: the timestamp of records is the time of their append, not the producer's timestamp."""
    timestamp_before_max_ms: int = (1 << 63) - 1
    """Batches with a timestamp that is further in the past than this are rejected."""
    timestamp_after_max_ms: int = 3_600_000
    """Batches with a timestamp that is further in the future than this are rejected."""

    def batch_limit(self) -> str:
        """The setting that limits the size of a batch, with its value, as text for an error message. It is
        the smaller of `segment.bytes` and `max.message.bytes`."""
        if self.segment_bytes < self.max_message_bytes:
            return f"segment.bytes is {self.segment_bytes}"
        return f"max.message.bytes is {self.max_message_bytes}"


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Settings that apply to all partitions of the log."""

    durability: Durability = "disk"
    """When an append is committed: "disk" once it is synced, "os" once it is in the page cache."""
    journal_file_bytes: int = 64 << 20
    first_journal_file_bytes: int = 16 << 20
    """Size of the first journal file. It is smaller, so that a new folder can soon be written to, also on a
    small disk."""
    journal_files: int = 4
    """Number of usable journal files. One that failed is replaced by a new one."""
    journal_file_records_max: int = 100_000
    """Maximum records in a journal file; the next group is written to another file. It bounds the work of
    recovery."""
    checkpoint_interval_s: float = 30.0
    """Maximum seconds from a write to the beginning of the checkpoint that makes it durable in its
    segment."""
    direct_sync_bytes: int = 256 << 10
    """Pending appends of one partition that together have at least this many bytes are synced in their
    segment, without the journal."""
    group_bytes_max: int = 8 << 20
    """Maximum bytes of a commit group. Only the appends of a single partition may exceed it."""
    producer_expiry_ms: int = 24 * 3600 * 1000
    """The state of an idempotent producer that has written nothing for this long is dropped."""
    open_files: int = 4096
    """Maximum number of segment and journal files that are open at the same time."""
