"""What the log refuses, and why. A door maps each class to its own protocol's error."""

from __future__ import annotations


class LogError(Exception):
    """Any refusal of the log. The message is for the user."""


class CorruptBatch(LogError):
    """The bytes are not a whole v2 batch, or their CRC32C is wrong."""


class InvalidBatch(LogError):
    """A whole batch whose header contradicts itself or that this log does not take."""


class UnsupportedFormat(LogError):
    """Magic 0 or 1: record formats before Kafka 0.11."""


class UnsupportedCompression(LogError):
    """A codec that does not exist."""


class BatchTooLarge(LogError):
    """Larger than the topic's `max.message.bytes`."""


class InvalidTimestamp(LogError):
    """Outside `message.timestamp.before.max.ms` / `message.timestamp.after.max.ms`."""


class OutOfOrderSequence(LogError):
    """An idempotent producer's batch does not follow its last one."""


class DuplicateSequence(LogError):
    """An idempotent producer's batch was appended so long ago that its offset is no longer known."""


class InvalidProducerEpoch(LogError):
    """A newer instance of this producer has taken over."""


class OffsetOutOfRange(LogError):
    """The offset is before the log start or after the end."""


class PartitionDeleted(LogError):
    """The topic was deleted while the request waited."""


class StorageError(LogError):
    """The disk failed: the partition (or the whole log) is read-only, or this read could not be done."""


class DiskFull(StorageError):
    """Topics accept no events until there is room again. Everything else goes on."""


class LogFolderError(LogError):
    """The data folder cannot be used: locked by another server, newer format, not writable."""


class LogFolderLocked(LogFolderError):
    """Another server has the data folder."""
