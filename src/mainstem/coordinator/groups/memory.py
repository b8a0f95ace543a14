"""The memory that the soft state of all groups may take together.

Owns: the budget (`group_memory_max_bytes`): members with what they offer and their assignments, ids that are
not used yet, live groups. Refuses joins and assignments beyond it, with errors that clients retry; no member
is removed for it, and heartbeats cost nothing. What is durable, such as committed offsets, is not counted.
"""

from __future__ import annotations

import logging
from typing import Protocol

from mainstem.clock import Clock
from mainstem.coordinator.errors import CoordinatorLoading, GroupFull, NotCoordinator
from mainstem.coordinator.groups.group import ClassicGroup
from mainstem.coordinator.groups.members import GroupMember
from mainstem.coordinator.groups.types import JoinRequest, SyncRequest

GROUP_BYTES_MAX = 24 << 20
"""Most bytes of one group: its record has to fit into a batch of the state log."""
WARNING_INTERVAL_S = 10.0

log = logging.getLogger(__name__)


class CountedGroup(Protocol):
    """A group of any kind."""

    @property
    def group_id(self) -> str: ...
    @property
    def memory_bytes(self) -> int:
        """Approximate bytes that it takes."""


class GroupMemory:
    """Counts the bytes of the live groups."""

    def __init__(self, clock: Clock, max_bytes: int) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._counted: dict[CountedGroup, int] = {}
        self._next_warning_s = 0.0
        self.used_bytes = 0

    def update(self, group: CountedGroup) -> None:
        """Count a live group as it is now."""
        self.used_bytes += group.memory_bytes - self._counted.get(group, 0)
        self._counted[group] = group.memory_bytes

    def forget(self, group: CountedGroup) -> None:
        """Count a group that is no longer live as nothing."""
        self.used_bytes -= self._counted.pop(group, 0)
        assert self.used_bytes >= 0, "a group is forgotten once"

    def check_join(self, group: ClassicGroup, request: JoinRequest, old: GroupMember | None) -> None:
        """Check that there is memory for a join. `old`: the member that it updates or replaces. GroupFull:
        the group alone is too large; CoordinatorLoading: all groups together are.

        A quarter of the budget is left to members and to clients that have an id."""
        member = GroupMember.from_request(request.member_id, request, b"")
        more = member.memory_bytes - (0 if old is None else old.memory_bytes - len(old.assignment))
        if more <= 0:
            return
        self._check_group(group, more)
        self.check(group, more, is_new=old is None and not request.member_id)

    def check(self, group: CountedGroup, more: int, *, is_new: bool) -> None:
        """Check that there is memory for `more` bytes of a group. `is_new`: for a client that was not there
        before. CoordinatorLoading."""
        limit = self._max_bytes * 3 // 4 if is_new else self._max_bytes
        more += group.memory_bytes - self._counted.get(group, 0)
        if self.used_bytes + more > limit:
            self._warn(f"a client that joins {group.group_id!r:.100} has to wait")
            raise CoordinatorLoading("the groups of this server take all the memory set aside for them")

    def check_assignments(self, group: ClassicGroup, request: SyncRequest) -> None:
        """Check that there is memory for the assignments that a leader sends. GroupFull; NotCoordinator, on
        which clients try again (no client retries a sync after CoordinatorLoading)."""
        more = sum(len(assignment) for _, assignment in request.assignments)
        more -= sum(len(member.assignment) for member in group.members.values())
        if more <= 0:
            return
        self._check_group(group, more)
        if self.used_bytes + more > self._max_bytes:
            self._warn(f"the leader of {group.group_id!r:.100} has to wait")
            raise NotCoordinator("try again: all the memory set aside for groups is taken")

    @staticmethod
    def _check_group(group: ClassicGroup, more: int) -> None:
        recorded_bytes = group.memory_bytes - group.pending_bytes
        if recorded_bytes + more > GROUP_BYTES_MAX:
            raise GroupFull(
                f"group {group.group_id} has {recorded_bytes} bytes of subscriptions and assignments;"
                f" {more} more are above the limit of {GROUP_BYTES_MAX}"
            )

    def _warn(self, what: str) -> None:
        now = self._clock.monotonic()
        if now >= self._next_warning_s:
            self._next_warning_s = now + WARNING_INTERVAL_S
            log.warning(
                "groups take %d bytes of the %d of group_memory_max_bytes: %s",
                self.used_bytes, self._max_bytes, what,
            )  # fmt: skip
