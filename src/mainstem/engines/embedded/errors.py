"""Translates errors of the log and the coordinator into errors of the contract."""

from __future__ import annotations

from mainstem import contract
from mainstem.coordinator import errors as coordinator
from mainstem.log import errors as log

_CLASSES: dict[type[Exception], type[contract.StreamError]] = {
    coordinator.UnknownTopicOrPartition: contract.UnknownTopic,
    coordinator.UnknownTopicId: contract.UnknownTopic,
    coordinator.CreationDeferred: contract.NotReachable,
    coordinator.TopicAlreadyExists: contract.TopicExists,
    coordinator.InvalidTopicName: contract.InvalidArgument,
    coordinator.InvalidPartitions: contract.InvalidArgument,
    coordinator.InvalidConfig: contract.InvalidArgument,
    coordinator.InvalidRequest: contract.InvalidArgument,
    coordinator.InvalidGroupId: contract.InvalidArgument,
    coordinator.GroupIdNotFound: contract.UnknownGroup,
    coordinator.NonEmptyGroup: contract.GroupInUse,
    # Setting a position of a group with members is refused like a commit by an unknown member.
    coordinator.UnknownMember: contract.GroupInUse,
    coordinator.RebalanceInProgress: contract.GroupInUse,
    coordinator.OffsetMetadataTooLarge: contract.InvalidArgument,
    coordinator.InvalidSubscriptionName: contract.InvalidArgument,
    coordinator.InvalidSubscriptionSetting: contract.InvalidArgument,
    coordinator.TooManySubscriptions: contract.InvalidArgument,
    coordinator.TooManyRoutes: contract.InvalidArgument,
    coordinator.OnlyExchange: contract.InvalidArgument,
    coordinator.TooManySnapshots: contract.InvalidArgument,
    coordinator.InvalidUserName: contract.InvalidArgument,
    coordinator.UnacceptableVerifier: contract.InvalidArgument,
    coordinator.UnknownVerifier: contract.NoSuchUser,
    coordinator.TooManyUsers: contract.InvalidArgument,
    coordinator.InvalidAcl: contract.InvalidArgument,
    coordinator.TooManyAcls: contract.InvalidArgument,
    coordinator.InvalidMaskRule: contract.InvalidArgument,
    coordinator.InvalidApiToken: contract.InvalidArgument,
    coordinator.UnknownApiToken: contract.NoSuchToken,
    log.BatchTooLarge: contract.EventTooLarge,
    log.InvalidBatch: contract.InvalidArgument,
    log.InvalidTimestamp: contract.InvalidArgument,
    log.OffsetOutOfRange: contract.PositionOutOfRange,
    log.NotCommittedYet: contract.NotReachable,
    log.PartitionDeleted: contract.UnknownTopic,
    log.StorageError: contract.NotReachable,
    log.DiskFull: contract.NotReachable,
}


def translate(error: Exception, subject: str) -> Exception:
    """The contract's error for an error of the log or the coordinator; `subject` begins the message. Any
    other error is a bug and is returned unchanged."""
    if isinstance(error, (log.LogError, coordinator.CoordinatorError)):
        return _CLASSES.get(type(error), contract.StreamError)(f"{subject}: {error}")
    return error
