"""Refusals of log and coordinator, as those of the contract. Used by the embedded engine only."""

from __future__ import annotations

from mainstem import stream
from mainstem.coordinator import errors as coordinator
from mainstem.log import errors as log

_CLASSES: dict[type[Exception], type[stream.StreamError]] = {
    coordinator.UnknownTopic: stream.UnknownTopic,
    coordinator.UnknownTopicId: stream.UnknownTopic,
    coordinator.TopicExists: stream.TopicExists,
    coordinator.InvalidTopicName: stream.Invalid,
    coordinator.InvalidPartitions: stream.Invalid,
    coordinator.InvalidConfig: stream.Invalid,
    coordinator.InvalidRequest: stream.Invalid,
    coordinator.InvalidGroupId: stream.Invalid,
    coordinator.UnknownGroup: stream.UnknownGroup,
    coordinator.NonEmptyGroup: stream.GroupInUse,
    # A position set for a group with members is refused as if it came from a member that is not one.
    coordinator.UnknownMember: stream.GroupInUse,
    coordinator.RebalanceInProgress: stream.GroupInUse,
    log.BatchTooLarge: stream.EventTooLarge,
    log.InvalidBatch: stream.Invalid,
    log.InvalidTimestamp: stream.Invalid,
    log.OffsetOutOfRange: stream.OffsetOutOfRange,
    log.PartitionDeleted: stream.UnknownTopic,
    log.StorageError: stream.NotReachable,
    log.DiskFull: stream.NotReachable,
}


def translate(error: Exception, what: str) -> Exception:
    """The contract's error for one of log or coordinator; `what` opens the message. Others are bugs: as
    they are."""
    if isinstance(error, (log.LogError, coordinator.CoordinatorError)):
        return _CLASSES.get(type(error), stream.StreamError)(f"{what}: {error}")
    return error
