"""The errors of the log. A door maps each class to an error of its own protocol."""

from __future__ import annotations


class LogError(Exception):
    """Base of all errors of the log. The message is for the user."""


class CorruptBatch(LogError):
    """The bytes are not a whole v2 batch, or their CRC32C is wrong."""


class InvalidBatch(LogError):
    """A whole batch whose header contradicts itself, or of a kind that this log does not accept."""


class UnsupportedFormat(LogError):
    """Magic 0 or 1: record formats before Kafka 0.11."""


class UnsupportedCompression(LogError):
    """A codec that does not exist."""


class BatchTooLarge(LogError):
    """Larger than the topic's `max.message.bytes`."""


class InvalidTimestamp(LogError):
    """Outside `message.timestamp.before.max.ms` / `message.timestamp.after.max.ms`."""


class OutOfOrderSequence(LogError):
    """A batch of an idempotent producer does not follow the producer's last one."""


class InvalidProducerEpoch(LogError):
    """A newer instance of this producer has replaced it."""


class OffsetOutOfRange(LogError):
    """The offset is before the log start or after the end."""


class PartitionDeleted(LogError):
    """The topic was deleted, perhaps while the request waited."""


class StorageError(LogError):
    """The disk failed: the partition or the whole log is read-only, or a read failed."""


class DiskFull(StorageError):
    """Too little space is free: topics accept no events until there is more. Everything else still works."""


class LogFolderError(LogError):
    """The data folder cannot be used: another server has locked it, its format is newer, or it is not
    writable."""


class LogFolderLocked(LogFolderError):
    """Another server has locked the data folder."""
