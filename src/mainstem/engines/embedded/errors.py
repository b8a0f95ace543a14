"""Refusals of log and coordinator, as those of the contract. Used by the embedded engine only."""

from __future__ import annotations

from mainstem import contract
from mainstem.coordinator import errors as coordinator
from mainstem.log import errors as log

_CLASSES: dict[type[Exception], type[contract.StreamError]] = {
    coordinator.UnknownTopicOrPartition: contract.UnknownTopic,
    coordinator.UnknownTopicId: contract.UnknownTopic,
    coordinator.TopicAlreadyExists: contract.TopicExists,
    coordinator.InvalidTopicName: contract.InvalidArgument,
    coordinator.InvalidPartitions: contract.InvalidArgument,
    coordinator.InvalidConfig: contract.InvalidArgument,
    coordinator.InvalidRequest: contract.InvalidArgument,
    coordinator.InvalidGroupId: contract.InvalidArgument,
    coordinator.GroupIdNotFound: contract.UnknownGroup,
    coordinator.NonEmptyGroup: contract.GroupInUse,
    # A position set for a group with members is refused as if it came from a member that is not one.
    coordinator.UnknownMember: contract.GroupInUse,
    coordinator.RebalanceInProgress: contract.GroupInUse,
    log.BatchTooLarge: contract.EventTooLarge,
    log.InvalidBatch: contract.InvalidArgument,
    log.InvalidTimestamp: contract.InvalidArgument,
    log.OffsetOutOfRange: contract.PositionOutOfRange,
    log.PartitionDeleted: contract.UnknownTopic,
    log.StorageError: contract.NotReachable,
    log.DiskFull: contract.NotReachable,
}


def translate(error: Exception, what: str) -> Exception:
    """The contract's error for one of log or coordinator; `what` opens the message. Others are bugs: as
    they are."""
    if isinstance(error, (log.LogError, coordinator.CoordinatorError)):
        return _CLASSES.get(type(error), contract.StreamError)(f"{what}: {error}")
    return error
