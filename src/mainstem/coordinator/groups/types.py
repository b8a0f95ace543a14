"""The value types of consumer groups: the records of their state machine, its requests and its replies.

Owns: the shape of these types; all are immutable. Refuses: rules and state, which are in `groups.py`. Times
are milliseconds; `*_ms` of records is wall-clock time since 1970. A committed offset is that of the next
record to read.
"""

from __future__ import annotations

from enum import Enum
from uuid import UUID

import msgspec

from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.runtime.records import StateRecord

NO_GENERATION = -1
CONSUMER_PROTOCOL = "consumer"
CLASSIC = "classic"
NO_TOPIC_ID = UUID(int=0)

Protocols = tuple[tuple[str, bytes], ...]
"""The assignors that a member offers, preferred first: (name, the member's metadata for it)."""


class GroupState(Enum):
    """The state of a group. The values are Kafka's names, as DescribeGroups shows them."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


# --- records ------------------------------------------------------------------------------------------------


class MemberRecord(msgspec.Struct, frozen=True, array_like=True):
    """A member at the end of a rebalance: a part of `GroupRecord`."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: Protocols
    assignment: bytes


class GroupRecord(StateRecord, frozen=True, array_like=True, tag="group-saved"):
    """State record: a group at the end of a rebalance, with its members and their assignments, so that they
    keep these after a restart.

    `state_since_ms`: when the group entered its state. The retention of the offsets of an empty group counts
    from then on (KIP-211).
    """

    group_id: str
    generation: int
    protocol_type: str | None
    protocol: str | None
    leader: str | None
    state_since_ms: int
    members: tuple[MemberRecord, ...]


class GroupTombstone(StateRecord, frozen=True, array_like=True, tag="group-forgotten"):
    """State record: a group and all its committed offsets were deleted."""

    group_id: str


class CommittedOffset(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A group's position in a partition. `leader_epoch` -1: not known. `expire_ms`: when it expires, if the
    client said so (OffsetCommit before v5); -1: by the server's retention (KIP-211)."""

    offset: int
    leader_epoch: int
    metadata: str
    commit_ms: int
    expire_ms: int = -1


class OffsetsCommitted(StateRecord, frozen=True, array_like=True, tag="offsets-committed"):
    """State record: a group committed offsets, each (topic id, partition, offset). The id is used and not the
    name, so that a new topic with the name of a deleted one has no offsets."""

    group_id: str
    offsets: tuple[tuple[UUID, int, CommittedOffset], ...]


class OffsetsDeleted(StateRecord, frozen=True, array_like=True, tag="offsets-forgotten"):
    """State record: the committed offsets of these (topic id, partition) were deleted, have expired, or their
    topic was deleted."""

    group_id: str
    partitions: tuple[tuple[UUID, int], ...]


# --- membership ---------------------------------------------------------------------------------------------


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to join the group's next generation. `member_id` is empty for a new member.

    `requires_member_id`: a new member gets MemberIdRequired first and joins again with the id (JoinGroup v4,
    KIP-394). `supports_skip_assignment`: the client understands a leader that must not assign (v9, KIP-814).
    """

    group_id: str
    member_id: str = ""
    instance_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    protocol_type: str
    protocols: Protocols
    session_timeout_ms: int
    rebalance_timeout_ms: int
    reason: str = ""
    requires_member_id: bool = False
    supports_skip_assignment: bool = False


class JoinedMember(msgspec.Struct, frozen=True):
    """A member as the leader sees it: with its metadata for the chosen assignor."""

    member_id: str
    instance_id: str | None
    metadata: bytes


class JoinReply(msgspec.Struct, frozen=True, kw_only=True):
    """The reply to a join: the member is in this generation. `members` is empty except for the leader."""

    member_id: str
    generation: int
    protocol_type: str | None
    protocol: str | None
    leader: str
    members: tuple[JoinedMember, ...] = ()
    skip_assignment: bool = False


class SyncRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for the member's assignment. The leader's has the assignments of all members. A protocol that
    is None is not checked."""

    group_id: str
    member_id: str
    generation: int
    instance_id: str | None = None
    protocol_type: str | None = None
    protocol: str | None = None
    assignments: tuple[tuple[str, bytes], ...] = ()


class SyncReply(msgspec.Struct, frozen=True):
    """The reply to a sync: the member's assignment, as the leader encoded it."""

    protocol_type: str | None
    protocol: str | None
    assignment: bytes


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life of a member; also identifies the member that commits offsets."""

    group_id: str
    member_id: str
    generation: int
    instance_id: str | None = None


class LeaveRequest(msgspec.Struct, frozen=True):
    """A request to remove a member: the member itself leaves, or an administrator removes it by its instance
    id without a member id."""

    member_id: str
    instance_id: str | None = None
    reason: str = ""


# --- views --------------------------------------------------------------------------------------------------


class GroupListing(msgspec.Struct, frozen=True, gc=False):
    """A group as ListGroups shows it: without its members."""

    group_id: str
    protocol_type: str
    state: GroupState
    type: str = CLASSIC


class MemberView(msgspec.Struct, frozen=True):
    """A member as DescribeGroups shows it. While the group rebalances the metadata is empty, and the
    assignment is the last one that is still valid."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


class GroupView(msgspec.Struct, frozen=True):
    """A group as DescribeGroups shows it."""

    group_id: str
    state: GroupState
    generation: int
    protocol_type: str
    protocol: str
    leader: str
    members: tuple[MemberView, ...]


# --- offsets ------------------------------------------------------------------------------------------------


class TopicRef(msgspec.Struct, frozen=True):
    """A topic as a client names it: by name, or, in the newest versions of the protocol, by id alone."""

    name: str = ""
    id: UUID = NO_TOPIC_ID


class NewOffset(msgspec.Struct, frozen=True):
    """An offset that a client asks to commit."""

    partition: int
    offset: int
    leader_epoch: int = -1
    metadata: str = ""


class CommitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Offsets to commit. Without a member id and with generation -1 the client is not a member: a consumer
    with manual assignment, or a tool that resets offsets. `retention_ms` -1: the server's setting."""

    group_id: str
    member_id: str = ""
    generation: int = NO_GENERATION
    instance_id: str | None = None
    retention_ms: int = -1
    topics: tuple[tuple[TopicRef, tuple[NewOffset, ...]], ...]


class PartitionOffset(msgspec.Struct, frozen=True):
    """The reply for a partition to a request for committed offsets: the offset, None if there is none; or an
    error."""

    partition: int
    offset: CommittedOffset | None
    error: CoordinatorError | None = None


class TopicOffsets(msgspec.Struct, frozen=True):
    """One topic's part of the reply to a request for committed offsets: the replies for its partitions."""

    topic: TopicRef
    partitions: tuple[PartitionOffset, ...]
