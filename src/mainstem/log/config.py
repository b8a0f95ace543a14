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
    segment_ms: int = 7 * 24 * 3600 * 1000
    segment_index_bytes: int = 10 << 20
    index_interval_bytes: int = 4096
    retention_ms: int = 7 * 24 * 3600 * 1000
    retention_bytes: int = -1
    retention_by_record_time: bool = False
    max_message_bytes: int = 1_048_588
    log_append_time: bool = False
    timestamp_before_max_ms: int = (1 << 63) - 1
    timestamp_after_max_ms: int = 3_600_000

    def batch_limit(self) -> str:
        """The setting that limits the size of a batch, for a message: the smaller of two."""
        if self.segment_bytes < self.max_message_bytes:
            return f"segment.bytes is {self.segment_bytes}"
        return f"max.message.bytes is {self.max_message_bytes}"


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Settings of the whole log."""

    durability: Durability = "disk"
    journal_file_bytes: int = 64 << 20
    first_journal_file_bytes: int = 16 << 20
    journal_files: int = 4
    journal_file_records: int = 100_000
    checkpoint_interval_s: float = 30.0
    direct_bytes: int = 256 << 10
    group_bytes: int = 8 << 20
    producer_expiry_ms: int = 24 * 3600 * 1000
    open_files: int = 4096
