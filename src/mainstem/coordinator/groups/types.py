"""The words of consumer groups: what is recorded of them, what is asked of them, what they answer.

Owns: the state records of groups and offsets, the requests and replies of `Groups`. All are immutable values.
Refuses: behaviour, and any protocol's encoding. Doors and engines build the requests and read the replies.

Times are milliseconds; `*_ms` of records is wall clock since 1970. An offset is the next one to read.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from mainstem.coordinator.runtime.records import StateRecord

if TYPE_CHECKING:
    from mainstem.coordinator.errors import CoordinatorError

NO_GENERATION = -1
CONSUMER_PROTOCOL = "consumer"
CLASSIC = "classic"
NO_TOPIC_ID = UUID(int=0)

Protocols = tuple[tuple[str, bytes], ...]
"""What a member can do, best first: (assignor, its metadata)."""


class GroupState(Enum):
    """Where a group stands. The values are Kafka's words, as DescribeGroups shows them."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


# --- records ------------------------------------------------------------------------------------------------


class MemberRecord(msgspec.Struct, frozen=True, array_like=True):
    """One member at the end of a rebalance."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: Protocols
    assignment: bytes


class GroupRecord(StateRecord, frozen=True, array_like=True, tag="group-saved"):
    """A group at the end of a rebalance, with its assignment: all that a restart needs to keep its members
    working.

    `state_since_ms`: when it came into this state; the offsets of an empty group are kept from then on
    (KIP-211).
    """

    group_id: str
    generation: int
    protocol_type: str | None
    protocol: str | None
    leader: str | None
    state_since_ms: int
    members: tuple[MemberRecord, ...]


class GroupTombstone(StateRecord, frozen=True, array_like=True, tag="group-forgotten"):
    """The group is gone, and all its offsets."""

    group_id: str


class CommittedOffset(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One committed offset. `leader_epoch` -1: not told. `expire_ms` -1: by the server's retention (KIP-211);
    otherwise the client (OffsetCommit before v5) said when."""

    offset: int
    leader_epoch: int
    metadata: str
    commit_ms: int
    expire_ms: int = -1


class OffsetsCommitted(StateRecord, frozen=True, array_like=True, tag="offsets-committed"):
    """Offsets of one request: (topic id, partition, offset). By topic id, so that a topic that is created
    again under an old name inherits nothing."""

    group_id: str
    offsets: tuple[tuple[UUID, int, CommittedOffset], ...]


class OffsetsDeleted(StateRecord, frozen=True, array_like=True, tag="offsets-forgotten"):
    """Offsets that were deleted, have expired, or whose topic is gone."""

    group_id: str
    partitions: tuple[tuple[UUID, int], ...]


# --- membership ---------------------------------------------------------------------------------------------


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A member wants to be in the group's next generation. An empty `member_id`: a new one.

    `requires_member_id`: a new member is sent back with an id first (JoinGroup v4, KIP-394).
    `supports_skip_assignment`:
    the client understands a leader that must not assign (v9, KIP-814).
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
    """A member, as the leader sees it: with its metadata of the protocol that was chosen."""

    member_id: str
    instance_id: str | None
    metadata: bytes


class JoinReply(msgspec.Struct, frozen=True, kw_only=True):
    """The member is in. `members` is empty for all but the leader."""

    member_id: str
    generation: int
    protocol_type: str | None
    protocol: str | None
    leader: str
    members: tuple[JoinedMember, ...] = ()
    skip_assignment: bool = False


class SyncRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A member asks for its assignment; the leader brings everybody's. A protocol that is None is not
    checked."""

    group_id: str
    member_id: str
    generation: int
    instance_id: str | None = None
    protocol_type: str | None = None
    protocol: str | None = None
    assignments: tuple[tuple[str, bytes], ...] = ()


class SyncReply(msgspec.Struct, frozen=True):
    """A member's assignment."""

    protocol_type: str | None
    protocol: str | None
    assignment: bytes


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A member lives (Heartbeat), or says who it is (OffsetCommit)."""

    group_id: str
    member_id: str
    generation: int
    instance_id: str | None = None


class LeaveRequest(msgspec.Struct, frozen=True):
    """One member that leaves, or that an administrator removes by its instance id (then without a member
    id)."""

    member_id: str
    instance_id: str | None = None
    reason: str = ""


# --- views --------------------------------------------------------------------------------------------------


class GroupListing(msgspec.Struct, frozen=True):
    """One line of the list of groups."""

    group_id: str
    protocol_type: str
    state: GroupState
    type: str = CLASSIC


class MemberView(msgspec.Struct, frozen=True):
    """A member, for people. While the group rebalances its metadata is empty and the assignment is the last
    one that was not withdrawn."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


class GroupView(msgspec.Struct, frozen=True):
    """A group, for people."""

    group_id: str
    state: GroupState
    generation: int
    protocol_type: str
    protocol: str
    leader: str
    members: tuple[MemberView, ...]


# --- offsets ------------------------------------------------------------------------------------------------


class TopicRef(msgspec.Struct, frozen=True):
    """A topic as a client names it: by name, or (newest versions) by id alone."""

    name: str = ""
    id: UUID = NO_TOPIC_ID


class NewOffset(msgspec.Struct, frozen=True):
    """One offset to commit."""

    partition: int
    offset: int
    leader_epoch: int = -1
    metadata: str = ""


class CommitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Offsets to commit. Generation -1 without a member id: not a member (a simple consumer, or a tool that
    resets). `retention_ms` -1: the server's."""

    group_id: str
    member_id: str = ""
    generation: int = NO_GENERATION
    instance_id: str | None = None
    retention_ms: int = -1
    topics: tuple[tuple[TopicRef, tuple[NewOffset, ...]], ...]


class PartitionOffset(msgspec.Struct, frozen=True):
    """A committed offset, or None if there is none; or why it cannot be told."""

    partition: int
    offset: CommittedOffset | None
    error: CoordinatorError | None = None


class TopicOffsets(msgspec.Struct, frozen=True):
    """Committed offsets of one topic."""

    topic: TopicRef
    partitions: tuple[PartitionOffset, ...]
