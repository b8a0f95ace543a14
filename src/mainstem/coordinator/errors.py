"""The errors of the coordinator.

Owns: one class for each error, with Kafka's error code, so that the Kafka door needs no table of its own and
every other door can translate it. The message is for people: it names the object and says what would work.
A failed disk is `mainstem.log.errors.StorageError` instead.
"""

from __future__ import annotations

from typing import ClassVar


class CoordinatorError(Exception):
    """Base of all errors of the coordinator. `code` is the error's name in Kafka's `Errors` enumeration."""

    code: ClassVar[str] = "UNKNOWN_SERVER_ERROR"

    @property
    def message(self) -> str:
        """The message, for people."""
        return str(self)


class InvalidRequest(CoordinatorError):
    """The request contradicts itself."""

    code = "INVALID_REQUEST"


class UnsupportedVersion(CoordinatorError):
    """The request needs something that this server does not support in this version of the protocol."""

    code = "UNSUPPORTED_VERSION"


# --- topics -----------------------------------------------------------------------------------------------


class UnknownTopicOrPartition(CoordinatorError):
    """No topic has this name, or the topic has no partition of this index."""

    code = "UNKNOWN_TOPIC_OR_PARTITION"


class UnknownTopicId(CoordinatorError):
    """No topic has this id."""

    code = "UNKNOWN_TOPIC_ID"


class TopicAlreadyExists(CoordinatorError):
    """A topic of this name exists already."""

    code = "TOPIC_ALREADY_EXISTS"


class InvalidTopicName(CoordinatorError):
    """The name breaks Kafka's rule, or collides with the name of another topic."""

    code = "INVALID_TOPIC_EXCEPTION"


class InvalidPartitions(CoordinatorError):
    """The number of partitions is not possible."""

    code = "INVALID_PARTITIONS"


class InvalidReplicationFactor(CoordinatorError):
    """The number of replicas is not 1. This server keeps one replica."""

    code = "INVALID_REPLICATION_FACTOR"


class InvalidReplicaAssignment(CoordinatorError):
    """A replica is assigned to a node that does not exist."""

    code = "INVALID_REPLICA_ASSIGNMENT"


class InvalidConfig(CoordinatorError):
    """The setting does not exist, or does not accept the value."""

    code = "INVALID_CONFIG"


# --- producers --------------------------------------------------------------------------------------------


class TransactionsUnsupported(CoordinatorError):
    """The producer is transactional, and transactions are not supported. Fatal for every client: none retries
    it."""

    code = "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"


# --- groups -----------------------------------------------------------------------------------------------


class InvalidGroupId(CoordinatorError):
    """The name is not a valid name of a group."""

    code = "INVALID_GROUP_ID"


class GroupIdNotFound(CoordinatorError):
    """No group has this name."""

    code = "GROUP_ID_NOT_FOUND"


class NonEmptyGroup(CoordinatorError):
    """The group has members, so it cannot be deleted."""

    code = "NON_EMPTY_GROUP"


class GroupSubscribed(CoordinatorError):
    """The group reads the topic, so its offsets cannot be deleted."""

    code = "GROUP_SUBSCRIBED_TO_TOPIC"


class GroupFull(CoordinatorError):
    """The group has `group.max.size` members."""

    code = "GROUP_MAX_SIZE_REACHED"


class InconsistentProtocol(CoordinatorError):
    """The member has another protocol type than the others, or no assignor in common with them."""

    code = "INCONSISTENT_GROUP_PROTOCOL"


class InvalidSessionTimeout(CoordinatorError):
    """The session timeout is not between `group.min.session.timeout.ms` and
    `group.max.session.timeout.ms`."""

    code = "INVALID_SESSION_TIMEOUT"


class MemberIdRequired(CoordinatorError):
    """A new member has to join again with the id in this error."""

    code = "MEMBER_ID_REQUIRED"

    def __init__(self, message: str, member_id: str) -> None:
        super().__init__(message)
        self.member_id = member_id


class UnknownMember(CoordinatorError):
    """The group has no such member, or has it no more. The member has to join again."""

    code = "UNKNOWN_MEMBER_ID"


class RemovedMember(UnknownMember):
    """The member was removed from the group while its request waited. Its id is not valid any more."""


class FencedInstance(CoordinatorError):
    """Another member has joined with the same `group.instance.id`."""

    code = "FENCED_INSTANCE_ID"


class IllegalGeneration(CoordinatorError):
    """The request is for another generation than the group's current one."""

    code = "ILLEGAL_GENERATION"


class RebalanceInProgress(CoordinatorError):
    """The group is rebalancing. The member has to join again."""

    code = "REBALANCE_IN_PROGRESS"


class OffsetMetadataTooLarge(CoordinatorError):
    """The metadata of an offset is longer than `offset.metadata.max.bytes`."""

    code = "OFFSET_METADATA_TOO_LARGE"


class NotCoordinator(CoordinatorError):
    """The coordinator reloads its state after a failure of the disk. The client has to find the coordinator
    and retry."""

    code = "NOT_COORDINATOR"
