"""The value types of share groups: the records of their state machine, its requests and its replies.

Owns: the shape of these types; all are immutable. Refuses: rules and state, which are in `share_groups.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import msgspec

from mainstem.coordinator.groups.epoch_group import MemberFacts
from mainstem.coordinator.groups.types import GroupState
from mainstem.coordinator.runtime.records import StateRecord

SHARE = "share"
GROUP_NAME_MAX = 1_000
"""Most characters of the name of a share group."""
LEAVE_EPOCH = -1
"""The member epoch with which a member leaves; 0 is that with which it joins."""

# --- records ------------------------------------------------------------------------------------------------


class ShareMemberSaved(StateRecord, frozen=True, array_like=True, tag="share-member-saved"):
    """State record: a member joined a share group, or has said something else of itself."""

    group_id: str
    epoch: int
    """The epoch of the group from now on."""
    member: MemberFacts


class ShareMembersGone(StateRecord, frozen=True, array_like=True, tag="share-members-gone"):
    """State record: members left a share group, or gave no sign of life for too long."""

    group_id: str
    epoch: int
    member_ids: tuple[str, ...]


class ShareGroupEpoch(StateRecord, frozen=True, array_like=True, tag="share-group-epoch"):
    """State record: the epoch of a share group is this now, because a topic of its members has changed."""

    group_id: str
    epoch: int


class ShareGroupForgotten(StateRecord, frozen=True, array_like=True, tag="share-group-forgotten"):
    """State record: a share group was deleted. What is set for its name stays."""

    group_id: str


class GroupConfigured(StateRecord, frozen=True, array_like=True, tag="group-configured"):
    """State record: all settings of a group, whether there is such a group or not, were replaced."""

    group_id: str
    configs: dict[str, str]


# --- requests and replies -----------------------------------------------------------------------------------


class ShareHeartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life of a member; also how it joins, with epoch 0, subscribes, and leaves, with epoch -1.
    `topics` None: those of the heartbeat before."""

    group_id: str
    member_id: str
    member_epoch: int
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topics: tuple[str, ...] | None = None


class ShareHeartbeatReply(msgspec.Struct, frozen=True, kw_only=True):
    """The reply to a heartbeat. `assignment` None: the one that the member knows."""

    member_id: str
    member_epoch: int
    heartbeat_interval_ms: int = 0
    assignment: Mapping[UUID, list[int]] | None = None


class ShareGroupMember(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a share group, as it is now."""

    facts: MemberFacts
    member_epoch: int
    """The epoch of the assignment that it was sent last; 0: the server has started since then."""
    assignment: Mapping[UUID, list[int]]

    @property
    def partitions(self) -> int:
        """How many partitions it has."""
        return sum(map(len, self.assignment.values()))


class ShareGroupView(msgspec.Struct, frozen=True, kw_only=True):
    """A share group as ShareGroupDescribe shows it."""

    group_id: str
    state: GroupState
    epoch: int
    assignment_epoch: int
    assignor: str
    members: tuple[ShareGroupMember, ...]
