"""What the coordinator refuses, and why.

Owns: one class per refusal, each with Kafka's name for it, so that the Kafka door needs no table of its own
and every other door has a word to translate. The message is for people: it names the thing and says what
would work. Anybody may raise and catch these. A failed disk is not here: that is
`mainstem.log.errors.StorageError`.
"""

from __future__ import annotations

from typing import ClassVar


class CoordinatorError(Exception):
    """Any refusal of the coordinator. `code` is Kafka's name of it, as in Kafka's `Errors` enumeration."""

    code: ClassVar[str] = "UNKNOWN_SERVER_ERROR"

    @property
    def message(self) -> str:
        """The text for people."""
        return str(self)


class InvalidRequest(CoordinatorError):
    """The request contradicts itself."""

    code = "INVALID_REQUEST"


class UnsupportedVersion(CoordinatorError):
    """The request needs something that this server does not have in this version of the protocol."""

    code = "UNSUPPORTED_VERSION"


# --- topics -----------------------------------------------------------------------------------------------


class UnknownTopicOrPartition(CoordinatorError):
    """There is no topic of this name, or no partition of this number."""

    code = "UNKNOWN_TOPIC_OR_PARTITION"


class UnknownTopicId(CoordinatorError):
    """There is no topic with this id."""

    code = "UNKNOWN_TOPIC_ID"


class TopicAlreadyExists(CoordinatorError):
    """A topic of this name is there already."""

    code = "TOPIC_ALREADY_EXISTS"


class InvalidTopicName(CoordinatorError):
    """Not a name by Kafka's rule, or one that collides with another topic's."""

    code = "INVALID_TOPIC_EXCEPTION"


class InvalidPartitions(CoordinatorError):
    """A number of partitions that cannot be."""

    code = "INVALID_PARTITIONS"


class InvalidReplicationFactor(CoordinatorError):
    """More replicas than the one that there is."""

    code = "INVALID_REPLICATION_FACTOR"


class InvalidReplicaAssignment(CoordinatorError):
    """Replicas assigned to nodes that are not there."""

    code = "INVALID_REPLICA_ASSIGNMENT"


class InvalidConfig(CoordinatorError):
    """A setting that does not exist, or a value that it does not take."""

    code = "INVALID_CONFIG"


# --- producers --------------------------------------------------------------------------------------------


class TransactionsUnsupported(CoordinatorError):
    """A transactional producer: there are no transactions yet. Fatal for every client, none retries it."""

    code = "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"


# --- groups -----------------------------------------------------------------------------------------------


class InvalidGroupId(CoordinatorError):
    """Not a name of a group."""

    code = "INVALID_GROUP_ID"


class GroupIdNotFound(CoordinatorError):
    """There is no group of this name."""

    code = "GROUP_ID_NOT_FOUND"


class NonEmptyGroup(CoordinatorError):
    """The group has members, so that it cannot be deleted."""

    code = "NON_EMPTY_GROUP"


class GroupSubscribed(CoordinatorError):
    """The group still reads the topic, so that its offsets cannot be deleted."""

    code = "GROUP_SUBSCRIBED_TO_TOPIC"


class GroupFull(CoordinatorError):
    """`group.max.size` is reached."""

    code = "GROUP_MAX_SIZE_REACHED"


class InconsistentProtocol(CoordinatorError):
    """The member shares no assignor, or not the protocol type, with the others."""

    code = "INCONSISTENT_GROUP_PROTOCOL"


class InvalidSessionTimeout(CoordinatorError):
    """Outside `group.min.session.timeout.ms` and `group.max.session.timeout.ms`."""

    code = "INVALID_SESSION_TIMEOUT"


class MemberIdRequired(CoordinatorError):
    """A new member must come again with the id that it was given here."""

    code = "MEMBER_ID_REQUIRED"

    def __init__(self, message: str, member_id: str) -> None:
        super().__init__(message)
        self.member_id = member_id


class UnknownMember(CoordinatorError):
    """The group does not know this member (any more): it has to join again."""

    code = "UNKNOWN_MEMBER_ID"


class RemovedMember(UnknownMember):
    """The member was taken out of the group while it waited: its id is worth nothing any more."""


class FencedInstance(CoordinatorError):
    """Another member came with the same `group.instance.id`."""

    code = "FENCED_INSTANCE_ID"


class IllegalGeneration(CoordinatorError):
    """The member speaks of a generation that is not the group's."""

    code = "ILLEGAL_GENERATION"


class RebalanceInProgress(CoordinatorError):
    """The group is rebalancing: join again."""

    code = "REBALANCE_IN_PROGRESS"


class OffsetMetadataTooLarge(CoordinatorError):
    """Longer than `offset.metadata.max.bytes`."""

    code = "OFFSET_METADATA_TOO_LARGE"


class NotCoordinator(CoordinatorError):
    """The group's state is being read again after the disk failed: find the coordinator, then try again."""

    code = "NOT_COORDINATOR"
