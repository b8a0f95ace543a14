"""The errors of the coordinator.

Owns: one class for each error, with Kafka's error code, so that the Kafka door needs no table of its own and
every other door can translate it. A class docstring says what was wrong with the request. The message is for
people: it names the object and says what would work. Refuses: failures of the disk, which are
`mainstem.log.errors.StorageError`.
"""

from __future__ import annotations

from typing import ClassVar


class CoordinatorError(Exception):
    """Base of all errors of the coordinator. `code` is the error's name in Kafka's `Errors` enumeration."""

    code: ClassVar[str] = "UNKNOWN_SERVER_ERROR"

    @property
    def message(self) -> str:
        """The text of the error, for people."""
        return str(self)


class InvalidRequest(CoordinatorError):
    """The error for a request that contradicts itself."""

    code = "INVALID_REQUEST"


# --- topics -----------------------------------------------------------------------------------------------


class UnknownTopicOrPartition(CoordinatorError):
    """The error if no topic has the requested name, or the topic has no partition of the requested index."""

    code = "UNKNOWN_TOPIC_OR_PARTITION"


class UnknownTopicId(CoordinatorError):
    """The error if no topic has the requested id."""

    code = "UNKNOWN_TOPIC_ID"


class CreationDeferred(CoordinatorError):
    """The error for a topic that is not created yet, because many are being created automatically. The client
    has to try again after a while."""

    code = "LEADER_NOT_AVAILABLE"


class TooManyPartitions(CoordinatorError):
    """The error for creating topics with more partitions in one request than the server creates at once."""

    code = "POLICY_VIOLATION"


class TopicAlreadyExists(CoordinatorError):
    """The error for creating a topic whose name another topic has."""

    code = "TOPIC_ALREADY_EXISTS"


class InvalidTopicName(CoordinatorError):
    """The error for a topic name that breaks Kafka's rule, or that differs from that of another topic only in
    `.` and `_`."""

    code = "INVALID_TOPIC_EXCEPTION"


class InvalidPartitions(CoordinatorError):
    """The error for a number of partitions that a topic cannot have."""

    code = "INVALID_PARTITIONS"


class InvalidReplicationFactor(CoordinatorError):
    """The error for a number of replicas other than 1. This server keeps one replica."""

    code = "INVALID_REPLICATION_FACTOR"


class InvalidReplicaAssignment(CoordinatorError):
    """The error for a new partition whose replica is assigned to a node that does not exist."""

    code = "INVALID_REPLICA_ASSIGNMENT"


class InvalidConfig(CoordinatorError):
    """The error for a topic setting that does not exist, or that does not accept the value."""

    code = "INVALID_CONFIG"


# --- producers --------------------------------------------------------------------------------------------


class TransactionsUnsupported(CoordinatorError):
    """The error for a transactional producer: transactions are not supported. Every client treats it as fatal
    and does not retry."""

    code = "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"


# --- users and access -------------------------------------------------------------------------------------


class InvalidUserName(CoordinatorError):
    """The error for a name that a user cannot have."""

    code = "UNACCEPTABLE_CREDENTIAL"


class UnacceptableVerifier(CoordinatorError):
    """The error for a SCRAM verifier with too few or too many iterations, or with keys of a wrong length."""

    code = "UNACCEPTABLE_CREDENTIAL"


class UnknownVerifier(CoordinatorError):
    """The error for deleting verifiers of a user who does not exist, or has none of these mechanisms."""

    code = "RESOURCE_NOT_FOUND"


class TooManyUsers(CoordinatorError):
    """The error for adding a user when the server has as many as it keeps."""

    code = "POLICY_VIOLATION"


class InvalidAcl(CoordinatorError):
    """The error for an access control entry that Kafka does not accept."""

    code = "INVALID_REQUEST"


class TooManyAcls(CoordinatorError):
    """The error for creating more access control entries than the server keeps, or changes in one request."""

    code = "POLICY_VIOLATION"


# --- groups -----------------------------------------------------------------------------------------------


class InvalidGroupId(CoordinatorError):
    """The error for a name that a group cannot have."""

    code = "INVALID_GROUP_ID"


class GroupIdNotFound(CoordinatorError):
    """The error if no group has the requested name."""

    code = "GROUP_ID_NOT_FOUND"


class NonEmptyGroup(CoordinatorError):
    """The error for deleting a group, or its offsets, while it has members."""

    code = "NON_EMPTY_GROUP"


class GroupSubscribed(CoordinatorError):
    """The error for deleting a group's offsets of a topic that its members read."""

    code = "GROUP_SUBSCRIBED_TO_TOPIC"


class GroupFull(CoordinatorError):
    """The error for joining a group that has `group.max.size` members already, or whose members,
    subscriptions and assignments are too large for a record."""

    code = "GROUP_MAX_SIZE_REACHED"


class InconsistentProtocol(CoordinatorError):
    """The error for a join by a client that has another protocol type than the group's members, or no
    assignor in common with them."""

    code = "INCONSISTENT_GROUP_PROTOCOL"


class InvalidSessionTimeout(CoordinatorError):
    """The error for a join whose session timeout is not between the settings `group.min.session.timeout.ms`
    and `group.max.session.timeout.ms`."""

    code = "INVALID_SESSION_TIMEOUT"


class MemberIdRequired(CoordinatorError):
    """The reply to the first join of a new member: it has to join again with the id in this error
    (KIP-394)."""

    code = "MEMBER_ID_REQUIRED"

    def __init__(self, message: str, member_id: str) -> None:
        super().__init__(message)
        self.member_id = member_id


class UnknownMember(CoordinatorError):
    """The error if the group does not have the member, or has it no longer. The client has to join again as a
    new member."""

    code = "UNKNOWN_MEMBER_ID"


class RemovedMember(UnknownMember):
    """The error for a waiting request of a member that is removed from the group. Its id is not valid any
    more."""


class FencedInstance(CoordinatorError):
    """The error for a static member after another client has joined with the same `group.instance.id`."""

    code = "FENCED_INSTANCE_ID"


class FencedMember(CoordinatorError):
    """The error for a member that sends another epoch than the group knows of it. The client has to give up
    its partitions and join again."""

    code = "FENCED_MEMBER_EPOCH"


class IllegalGeneration(CoordinatorError):
    """The error for a request that names another generation than the group's current one."""

    code = "ILLEGAL_GENERATION"


class RebalanceInProgress(CoordinatorError):
    """The error for a member's request while its group is rebalancing. The member has to join again."""

    code = "REBALANCE_IN_PROGRESS"


class OffsetMetadataTooLarge(CoordinatorError):
    """The error for committing an offset whose metadata is longer than `offset.metadata.max.bytes`."""

    code = "OFFSET_METADATA_TOO_LARGE"


class CommitTooLarge(CoordinatorError):
    """The error for committing offsets whose metadata together does not fit into one record of the state
    log."""

    code = "INVALID_COMMIT_OFFSET_SIZE"


class CoordinatorLoading(CoordinatorError):
    """The error for a join while the soft state of all groups takes all the memory that is set aside for it.
    The client has to try again after a while."""

    code = "COORDINATOR_LOAD_IN_PROGRESS"


class NotCoordinator(CoordinatorError):
    """The error for group requests while the coordinator reloads its state after a failure of the disk. The
    client has to find the coordinator again and retry."""

    code = "NOT_COORDINATOR"


# --- queues -----------------------------------------------------------------------------------------------


class InvalidSubscriptionName(CoordinatorError):
    """The error for a name that a subscription cannot have. The rules are those for topics."""

    code = "INVALID_GROUP_ID"


class InvalidSubscriptionSetting(CoordinatorError):
    """The error for a setting of a subscription that does not exist, or that does not accept the value."""

    code = "INVALID_CONFIG"


class InvalidMaskRule(CoordinatorError):
    """The error for a masking rule that names nothing, or is one more than there can be."""

    code = "INVALID_REQUEST"


class InvalidApiToken(CoordinatorError):
    """The error for an API token that cannot be: its user, its scopes or its time."""

    code = "INVALID_REQUEST"


class UnknownApiToken(CoordinatorError):
    """The error if there is no API token of this id."""

    code = "RESOURCE_NOT_FOUND"


class SubscriptionExists(CoordinatorError):
    """The error for creating a subscription whose name another one has."""

    code = "INVALID_REQUEST"


class SubscriptionChanged(CoordinatorError):
    """The error if the settings of a subscription are not those that a change was made for: somebody else has
    changed them meanwhile."""

    code = "INVALID_REQUEST"


class UnknownSubscription(CoordinatorError):
    """The error if no subscription has the requested name."""

    code = "GROUP_ID_NOT_FOUND"


class NamespaceExists(CoordinatorError):
    """The error for creating a namespace whose name another one has."""

    code = "INVALID_REQUEST"


class SnapshotNameInUse(CoordinatorError):
    """The error for taking a snapshot of a subscription under a name that another one has."""

    code = "INVALID_REQUEST"


class UnknownNamespace(CoordinatorError):
    """The error if no namespace of routed queues has the requested name."""

    code = "GROUP_ID_NOT_FOUND"


class TooManyRoutes(CoordinatorError):
    """The error for an event whose set of queues would be one more than a namespace keeps."""

    code = "POLICY_VIOLATION"


class OnlyExchange(CoordinatorError):
    """The error for publishing to a topic that has the messages of an exchange, and not by way of it."""

    code = "POLICY_VIOLATION"


class UnknownSnapshot(CoordinatorError):
    """The error if a subscription has no snapshot of the requested name."""

    code = "RESOURCE_NOT_FOUND"


class TooManySnapshots(CoordinatorError):
    """The error for taking a snapshot of a subscription that has as many as it may have."""

    code = "POLICY_VIOLATION"


class InvalidRecordState(CoordinatorError):
    """The error for an acknowledgement of an event that is not leased to its sender."""

    code = "INVALID_RECORD_STATE"


class TooManySubscriptions(CoordinatorError):
    """The error for creating a subscription when the server has as many as it keeps."""

    code = "POLICY_VIOLATION"
