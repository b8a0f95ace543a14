"""How a group moves: joins, the two phases of a rebalance, sessions, leaving.

Owns: every change of a group's soft state and the moment at which its record is written (the leader's
assignment, a group that became empty, a static member that was replaced). It decides into a `Step`;
`groups.py` makes the step durable, gives its answers then, and throws the soft state away if the disk
refuses. Refuses: sockets and the log. A phase that waits (Kafka's purgatory) is a parked answer on the member
and one timer on the group. Called by `groups.py`.

Semantics: Apache Kafka's GroupMetadataManager, classic part; KIP-62, KIP-134, KIP-345, KIP-394, KIP-814.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from uuid import UUID

from msgspec.structs import replace

from mainstem.clock import Clock, Timer
from mainstem.coordinator.errors import (
    FencedInstance,
    GroupFull,
    InconsistentProtocol,
    MemberIdRequired,
    RebalanceInProgress,
    RemovedMember,
    UnknownMember,
)
from mainstem.coordinator.groups.group import ClassicGroup
from mainstem.coordinator.groups.members import Decision, GroupMember, empty_assignment, subscribed
from mainstem.coordinator.groups.types import (
    CONSUMER_PROTOCOL,
    GroupState,
    Heartbeat,
    JoinReply,
    JoinRequest,
    LeaveRequest,
    SyncReply,
    SyncRequest,
)
from mainstem.promise import Promise
from mainstem.settings import Settings

NEW_MEMBER_TIMEOUT_MS = 300_000
"""A new member knows no id yet and cannot send heartbeats: its join waits at most so long (Kafka's
constant)."""

log = logging.getLogger(__name__)

GroupAction = Callable[[Decision], None]


class GroupRebalancer:
    """The rules of all groups. `submit(group, act)` runs a timer's act as a step of that group."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        rng: random.Random,
        submit: Callable[[ClassicGroup, GroupAction], None],
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._submit = submit
        self._delay_ms = settings.group_initial_rebalance_delay_ms
        self._size_max = settings.group_max_size

    # --- join -----------------------------------------------------------------------------------------------

    def join(
        self, step: Decision, group: ClassicGroup, request: JoinRequest, waiting: Promise[JoinReply]
    ) -> None:
        """Let a member in, or raise why not; `waiting` is answered by this step or parked on the member."""
        self._check_room(group, request.member_id)
        if not group.supports(request.protocol_type, request.protocols):
            raise InconsistentProtocol(
                f"group {group.group_id} ({group.protocol_type}) has no assignor in common with"
                f" {[name for name, _ in request.protocols]} ({request.protocol_type})"
            )
        if not request.member_id:
            self._join_new(step, group, request, waiting)
        elif request.member_id in group.pending:
            if request.instance_id is not None:
                raise UnknownMember(f"{request.member_id} was given to a member without an instance id")
            self._add(step, group, request.member_id, request, waiting)
        else:
            member = group.member_of(request.member_id, request.instance_id)
            self._rejoin(step, group, member, request, waiting)

    def _check_room(self, group: ClassicGroup, member_id: str) -> None:
        member = group.members.get(member_id)
        full = len(group.members) >= self._size_max
        if group.state is GroupState.PREPARING:
            # Those who wait are counted, not the members: the last to join again are left out of a group that
            # shrank.
            waits = member is not None and member.pending_join is not None
            full = full and not waits and group.joined_count >= self._size_max
        else:
            full = full and member is None
        if full:
            if member is not None:
                group.remove(member_id)
            group.remove_pending(member_id)
            raise GroupFull(f"group {group.group_id} has its {self._size_max} members")

    def _join_new(
        self, step: Decision, group: ClassicGroup, request: JoinRequest, waiting: Promise[JoinReply]
    ) -> None:
        member_id = self._new_id(request.client_id if request.instance_id is None else request.instance_id)
        if request.instance_id is not None:
            old_id = group.instances.get(request.instance_id)
            if old_id is None:
                self._add(step, group, member_id, request, waiting)
            else:
                self._replace_static(step, group, group.members[old_id], member_id, request, waiting)
        elif request.requires_member_id:
            group.pending[member_id] = self._after(
                request.session_timeout_ms, group, lambda step: self._expire_pending(step, group, member_id)
            )
            raise MemberIdRequired("join again with this member id", member_id)
        else:
            self._add(step, group, member_id, request, waiting)

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}-{UUID(int=self._rng.getrandbits(128), version=4)}"

    def _add(
        self,
        step: Decision,
        group: ClassicGroup,
        member_id: str,
        request: JoinRequest,
        waiting: Promise[JoinReply],
    ) -> None:
        if group.state is GroupState.PREPARING and group.previous is GroupState.EMPTY:
            group.new_member_joined = True
        member = GroupMember.from_request(member_id, request, b"")
        member.is_new = True
        member.pending_join = waiting
        if not group.members:
            group.protocol_type = request.protocol_type
        group.add(member)
        self._arm(group, member, NEW_MEMBER_TIMEOUT_MS)
        self._rebalance(step, group, f"new member {member_id}{_because(request.reason)}")

    def _rejoin(
        self,
        step: Decision,
        group: ClassicGroup,
        member: GroupMember,
        request: JoinRequest,
        waiting: Promise[JoinReply],
    ) -> None:
        if group.state is GroupState.PREPARING:
            self._update(step, group, member, request, waiting)
            self._rebalance(step, group, "")
            return
        same = member.offers(request.protocols)
        # It may have missed the answer to its join (CompletingRebalance), or just asks again (Stable). The
        # leader of a stable group may force a rebalance with the same words: it saw something else change,
        # such as a topic.
        leads = group.leader == member.member_id
        if same and (group.state is GroupState.COMPLETING or not leads):
            self._arm(group, member)
            joined = group.join_reply(member, tell_members=leads)
            member.reply_to_join(step, None, RebalanceInProgress("joined again"))
            member.pending_join = waiting
            member.reply_to_join(step, joined)
            return
        self._update(step, group, member, request, waiting)
        why = "the leader asks for it" if same else f"member {member.member_id} changed what it offers"
        self._rebalance(step, group, f"{why}{_because(request.reason)}")

    @staticmethod
    def _update(
        step: Decision,
        group: ClassicGroup,
        member: GroupMember,
        request: JoinRequest,
        waiting: Promise[JoinReply],
    ) -> None:
        # A join that still waits belongs to a connection that was lost; its answer must not hang.
        member.reply_to_join(step, None, RebalanceInProgress("joined again"))
        member.pending_join = waiting
        group.update_protocols(member, request.protocols)
        member.session_timeout_ms = request.session_timeout_ms
        member.rebalance_timeout_ms = request.rebalance_timeout_ms

    def _replace_static(
        self,
        step: Decision,
        group: ClassicGroup,
        old: GroupMember,
        member_id: str,
        request: JoinRequest,
        waiting: Promise[JoinReply],
    ) -> None:
        old_leader = group.leader
        new = GroupMember.from_request(member_id, request, old.assignment)
        old.reject(
            step,
            FencedInstance(f"static member {old.instance_id} of group {group.group_id} is {member_id} now"),
        )
        group.replace(old, new)
        new.pending_join = waiting
        self._arm(group, new)
        if group.state is not GroupState.STABLE or not self._goes_on_as(group, old, new):
            self._rebalance(
                step, group, f"static member {new.instance_id} came back{_because(request.reason)}"
            )
            return
        # KIP-345: nothing changed but the id, so nobody has to stop.
        leads = group.leader == member_id
        if request.supports_skip_assignment:
            joined = group.join_reply(new, skip_assignment=leads)
        else:
            # An older client that is told that it leads would assign for all: it is told the id that it had
            # (KIP-814).
            joined = group.join_reply(new, tell_members=False)
            if leads:
                joined = replace(joined, leader=old_leader or "")
        new.reply_to_join(step, joined)
        step.records.append(group.record())

    @staticmethod
    def _goes_on_as(group: ClassicGroup, old: GroupMember, new: GroupMember) -> bool:
        """The static member that came back can have the assignment of the one it replaces. Kafka looks only
        at the chosen assignor; a consumer that came back for other topics has to get them too."""
        if group.choose_protocol() != group.protocol:
            return False
        if group.protocol_type != CONSUMER_PROTOCOL:
            return True
        return subscribed(old.metadata(group.protocol)) == subscribed(new.metadata(group.protocol))

    # --- the two phases -------------------------------------------------------------------------------------

    def _rebalance(self, step: Decision, group: ClassicGroup, reason: str) -> None:
        """Start a rebalance, or finish the one that runs if this was what it waited for."""
        if group.state is GroupState.PREPARING:
            self._try_complete(step, group)
        else:
            self.prepare_rebalance(step, group, reason)

    def prepare_rebalance(self, step: Decision, group: ClassicGroup, reason: str) -> None:
        """Call all members together. Those who wait for an assignment join again instead."""
        log.info("group %s: rebalance after generation %d: %s", group.group_id, group.generation, reason)
        if group.state is GroupState.COMPLETING:
            error = RebalanceInProgress(f"group {group.group_id} is rebalancing")
            for member in group.members.values():
                member.assignment = b""
                if member.reply_to_sync(step, None, error):
                    self._arm(group, member)
        self._cancel_sync(group)
        first = group.state is GroupState.EMPTY
        group.transition(GroupState.PREPARING)
        if first:
            left_ms = max(group.rebalance_timeout_ms - self._delay_ms, 0)
            self._wait_for_more(group, self._delay_ms, left_ms)
        elif group.all_joined:
            self._complete_join(step, group)
        else:
            self._wait_for_joins(group)

    def _wait_for_more(self, group: ClassicGroup, delay_ms: int, left_ms: int) -> None:
        """KIP-134: a new group waits a little, and again while members keep coming, at most the rebalance
        timeout."""

        def due(step: Decision) -> None:
            if group.new_member_joined and left_ms > 0:
                group.new_member_joined = False
                self._wait_for_more(group, min(self._delay_ms, left_ms), max(left_ms - delay_ms, 0))
            else:
                self._complete_join(step, group)

        group.join_timer = self._after(delay_ms, group, due)

    def _wait_for_joins(self, group: ClassicGroup) -> None:
        group.join_timer = self._after(
            group.rebalance_timeout_ms, group, lambda step: self._complete_join(step, group)
        )

    def _try_complete(self, step: Decision, group: ClassicGroup) -> None:
        # The initial rebalance ends by its delay alone.
        if (
            group.state is GroupState.PREPARING
            and group.previous is not GroupState.EMPTY
            and group.all_joined
        ):
            self._complete_join(step, group)

    def _complete_join(self, step: Decision, group: ClassicGroup) -> None:
        """The join phase ends: who did not come is out (static members stay until their session ends)."""
        if group.join_timer is not None:
            group.join_timer.cancel()
            group.join_timer = None
        late = [one for one in group.members.values() if one.pending_join is None and one.instance_id is None]
        for member in late:
            log.info("group %s: member %s did not join again in time", group.group_id, member.member_id)
            self._remove(step, group, member, "did not join in time")
        if group.members and not group.elect_joined_leader():
            log.warning("group %s: no member joined again; waiting on", group.group_id)
            self._wait_for_joins(group)
            return
        group.new_member_joined = False
        group.generation += 1
        if not group.members:
            self._become_empty(step, group)
            return
        group.protocol = group.choose_protocol()
        group.transition(GroupState.COMPLETING)
        group.unsynced = set(group.members)
        log.info(
            "group %s: generation %d has %d members, led by %s",
            group.group_id,
            group.generation,
            len(group.members),
            group.leader,
        )
        for member in group.members.values():
            if member.pending_join is not None:
                member.reply_to_join(step, group.join_reply(member))
                member.is_new = False
                self._arm(group, member)
        generation = group.generation
        group.sync_timer = self._after(
            group.rebalance_timeout_ms, group, lambda step: self._expire_sync(step, group, generation)
        )

    def _become_empty(self, step: Decision, group: ClassicGroup) -> None:
        log.info("group %s: generation %d has no members", group.group_id, group.generation)
        group.protocol = None
        group.unsynced.clear()
        group.transition(GroupState.EMPTY)
        group.state_since_ms = self._clock.wall_ms()
        step.records.append(group.record())

    def sync(
        self, step: Decision, group: ClassicGroup, request: SyncRequest, waiting: Promise[SyncReply]
    ) -> None:
        """A member wants its assignment: now, or when the leader has brought it."""
        member = group.member_of_generation(
            Heartbeat(
                group_id=request.group_id,
                member_id=request.member_id,
                generation=request.generation,
                instance_id=request.instance_id,
            )
        )
        for mine, theirs in (
            (request.protocol_type, group.protocol_type),
            (request.protocol, group.protocol),
        ):
            if mine is not None and mine != theirs:
                raise InconsistentProtocol(f"group {group.group_id} works with {theirs}, not {mine}")
        if group.state is GroupState.PREPARING:
            raise RebalanceInProgress(f"group {group.group_id} is rebalancing")
        assert group.state in (GroupState.COMPLETING, GroupState.STABLE)
        member.reply_to_sync(step, None, RebalanceInProgress("asked again"))
        member.pending_sync = waiting
        group.unsynced.discard(member.member_id)
        if not group.unsynced:
            self._cancel_sync(group)
        if group.state is GroupState.STABLE:
            member.reply_to_sync(step, group.sync_reply(member))
            self._arm(group, member)
        elif group.leader == member.member_id:
            self._assign(step, group, dict(request.assignments))

    def _assign(self, step: Decision, group: ClassicGroup, assignments: dict[str, bytes]) -> None:
        empty = empty_assignment(group.protocol_type)
        for member in group.members.values():
            member.assignment = assignments.get(member.member_id, empty)
        group.transition(GroupState.STABLE)
        group.state_since_ms = self._clock.wall_ms()
        step.records.append(group.record())
        for member in group.members.values():
            if member.reply_to_sync(step, group.sync_reply(member)):
                self._arm(group, member)

    def _expire_sync(self, step: Decision, group: ClassicGroup, generation: int) -> None:
        """Members that joined and never asked for their assignment are out."""
        if generation != group.generation or group.state not in (GroupState.COMPLETING, GroupState.STABLE):
            return
        late = [group.members[member_id] for member_id in sorted(group.unsynced)]
        for member in late:
            self._remove(step, group, member, "did not sync in time")
        if late:
            self.prepare_rebalance(
                step, group, f"{len(late)} members did not ask for their assignment in time"
            )

    def _cancel_sync(self, group: ClassicGroup) -> None:
        if group.sync_timer is not None:
            group.sync_timer.cancel()
            group.sync_timer = None

    # --- living and leaving ---------------------------------------------------------------------------------

    def heartbeat(self, group: ClassicGroup, beat: Heartbeat) -> None:
        """The member lives. RebalanceInProgress: it has to join again."""
        member = group.member_of_generation(beat)
        self.extend_session(group, member)
        if group.state is GroupState.PREPARING:
            raise RebalanceInProgress(f"group {group.group_id} is rebalancing")

    def extend_session(self, group: ClassicGroup, member: GroupMember) -> None:
        """The member was heard of: its session begins anew."""
        self._arm(group, member)

    def leave(self, step: Decision, group: ClassicGroup, leaving: LeaveRequest) -> None:
        """One member goes; UnknownMember, FencedInstance. `settle` has to follow after the last one of a
        request."""
        if not leaving.member_id:
            old_id = None if leaving.instance_id is None else group.instances.get(leaving.instance_id)
            if old_id is None:
                raise UnknownMember(f"group {group.group_id} has no static member {leaving.instance_id}")
            member = group.members[old_id]
        elif group.remove_pending(leaving.member_id):
            return
        else:
            member = group.member_of(leaving.member_id, leaving.instance_id)
        log.info("group %s: member %s left%s", group.group_id, member.member_id, _because(leaving.reason))
        self._remove(step, group, member, "left")

    def rebalance_after_leave(self, step: Decision, group: ClassicGroup, reason: str) -> None:
        """Members went: rebalance if that matters."""
        if group.state is not GroupState.EMPTY:
            self._rebalance(step, group, reason)

    def _remove(self, step: Decision, group: ClassicGroup, member: GroupMember, why: str) -> None:
        group.remove(member.member_id)
        member.reject(step, RemovedMember(f"member {member.member_id} of group {group.group_id} {why}"))

    def _expire_pending(self, step: Decision, group: ClassicGroup, member_id: str) -> None:
        if group.remove_pending(member_id):
            log.info("group %s: %s took its member id and never came", group.group_id, member_id)
            self._try_complete(step, group)

    def _expire_session(self, step: Decision, group: ClassicGroup, member: GroupMember) -> None:
        assert group.members.get(member.member_id) is member, "a member that is out has no timer"
        log.info("group %s: member %s was not heard of in time", group.group_id, member.member_id)
        self._remove(step, group, member, "was not heard of in time")
        self.rebalance_after_leave(step, group, f"member {member.member_id} was not heard of in time")

    # --- timers ---------------------------------------------------------------------------------------------

    def start_sessions(self, group: ClassicGroup) -> None:
        """After a restart: every member has one session timeout to be heard of."""
        for member in group.members.values():
            self._arm(group, member)

    def _arm(self, group: ClassicGroup, member: GroupMember, timeout_ms: int | None = None) -> None:
        timeout_ms = member.session_timeout_ms if timeout_ms is None else timeout_ms
        member.deadline = self._clock.monotonic() + timeout_ms / 1000
        if member.timer is None or member.timer_due > member.deadline:
            self._watch(group, member)

    def _watch(self, group: ClassicGroup, member: GroupMember) -> None:
        """Look again when the session would end as it stands now."""
        member.cancel_timer()
        member.timer_due = member.deadline
        wait_s = max(member.deadline - self._clock.monotonic(), 0.0)
        member.timer = self._clock.call_later(wait_s, lambda: self._look(group, member))

    def _look(self, group: ClassicGroup, member: GroupMember) -> None:
        member.timer = None
        if member.deadline > self._clock.monotonic():
            self._watch(group, member)
        elif not member.session_suspended():
            self._submit(group, lambda step: self._expire_session(step, group, member))
        # Else it waits for us: the answer to its join or sync arms it again.

    def _after(self, delay_ms: int, group: ClassicGroup, act: GroupAction) -> Timer:
        return self._clock.call_later(delay_ms / 1000, lambda: self._submit(group, act))


def _because(reason: str) -> str:
    return f": {reason[:255]}" if reason else ""
