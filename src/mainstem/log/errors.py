"""The errors of the log. A door maps each class to an error of its own protocol."""

from __future__ import annotations


class LogError(Exception):
    """Base of all errors of the log. The message is for the user."""


class CorruptBatch(LogError):
    """Raised for bytes that are not a whole v2 batch or whose CRC32C is wrong, from a client or from the
    disk, and for offsets that no batch on disk has."""

    def __init__(self, message: str, next_offset: int | None = None) -> None:
        """`next_offset`: where reading continues after damage on disk."""
        super().__init__(message)
        self.next_offset = next_offset


class InvalidBatch(LogError):
    """Raised for a whole batch whose header contradicts itself, or of a kind that this log does not
    accept."""


class UnsupportedFormat(LogError):
    """Raised for a batch with magic 0 or 1: a record format older than Kafka 0.11."""


class UnsupportedCompression(LogError):
    """Raised for a batch whose header names a compression codec that does not exist."""


class BatchTooLarge(LogError):
    """Raised for a batch that is larger than the topic's `max.message.bytes` or `segment.bytes`."""


class InvalidTimestamp(LogError):
    """Raised for a batch whose timestamps contradict each other, or are outside the topic's
    `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`."""


class OutOfOrderSequence(LogError):
    """Raised for a batch of an idempotent producer whose sequence numbers do not follow its last batch."""


class InvalidProducerEpoch(LogError):
    """Raised for a batch of an idempotent producer that a newer instance, with a higher epoch, has
    replaced."""


class OffsetOutOfRange(LogError):
    """Raised if the requested offset is before the log start or after the end of the log."""


class NotCommittedYet(LogError):
    """Raised if what a request needs is in the log, but its commit takes longer than the request may wait."""


class PartitionDeleted(LogError):
    """Raised if the partition's topic was deleted, perhaps while the request waited."""


class StorageError(LogError):
    """Raised if the disk failed: a read or write failed, or the partition or the whole log is read-only."""


class DiskFull(StorageError):
    """Raised for an append to a topic while too little disk space is free. Everything but appending to topics
    still works."""


class LogFolderError(LogError):
    """Raised if the data folder cannot be used: another server has locked it, its format is newer, or it is
    not writable."""


class LogFolderLocked(LogFolderError):
    """Raised if another server has locked the data folder."""
