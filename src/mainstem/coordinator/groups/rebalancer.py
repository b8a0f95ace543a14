"""Moves groups through their states: joins, the two phases of a rebalance, sessions, leaving.

Owns: every change of a group's soft state, and when the group is recorded (the leader has sent the
assignments, the group became empty, a static member was replaced). Each call adds to a `Decision`, which
`groups.py` makes durable. Refuses: sockets and the log. A phase that waits (Kafka's purgatory) is a waiting
request on each member and one timer on the group.

Semantics: Apache Kafka's GroupMetadataManager, classic part; KIP-62, KIP-134, KIP-345, KIP-394, KIP-814.
"""

from __future__ import annotations

import logging
import random
from uuid import UUID

from msgspec.structs import replace

from mainstem.clock import Clock
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
from mainstem.coordinator.groups.members import NAME_MAX, Decision, GroupMember, empty_assignment
from mainstem.coordinator.groups.memory import GroupMemory
from mainstem.coordinator.groups.sessions import Sessions, Submit
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
from mainstem.kafka_protocol.subscription import read_subscription
from mainstem.promise import Promise
from mainstem.settings import Settings

NEW_MEMBER_TIMEOUT_MS = 300_000
"""How long the first join of a new member waits. The member does not know its id yet, so it cannot send
heartbeats. Kafka's constant."""

log = logging.getLogger(__name__)


class GroupRebalancer:
    """Applies Kafka's rules for joins, rebalances and sessions to every group. `submit(group, action)` runs
    the action of a timer as a decision of that group."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        rng: random.Random,
        submit: Submit,
        memory: GroupMemory,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._memory = memory
        self.sessions = Sessions(clock, submit, self._expire_session)
        self._delay_ms = settings.group_initial_rebalance_delay_ms
        self._size_max = settings.group_max_size

    # --- join ---------------------------------------------------------------------------------------------

    def join(
        self, decision: Decision, group: ClassicGroup, request: JoinRequest, reply: Promise[JoinReply]
    ) -> None:
        """Add a member, or raise why not. `reply` is completed by this decision, or waits on the member."""
        self._check_size(group, request.member_id)
        if not group.supports(request.protocol_type, request.protocols):
            raise InconsistentProtocol(
                f"group {group.group_id} ({group.protocol_type}) has no assignor in common with"
                f" {[name for name, _ in request.protocols]} ({request.protocol_type})"
            )
        self._memory.check_join(group, request, group.find_joining(request))
        if not request.member_id:
            self._join_new(decision, group, request, reply)
        elif request.member_id in group.pending:
            if request.instance_id is not None:
                raise UnknownMember(f"{request.member_id} is the id of a member without an instance id")
            self._add(decision, group, request.member_id, request, reply)
        else:
            member = group.member_of(request.member_id, request.instance_id)
            self._rejoin(decision, group, member, request, reply)

    def _check_size(self, group: ClassicGroup, member_id: str) -> None:
        member = group.members.get(member_id)
        full = len(group.members) >= self._size_max
        if group.state is GroupState.PREPARING:
            # Only the members whose join waits count: in a group that must shrink, the last members to join
            # again are refused.
            is_waiting = member is not None and member.pending_join is not None
            full = full and not is_waiting and group.joined_count >= self._size_max
        else:
            full = full and member is None
        if full:
            if member is not None:
                group.remove(member_id)
            group.remove_pending(member_id)
            raise GroupFull(f"group {group.group_id} has its {self._size_max} members")

    def _join_new(
        self, decision: Decision, group: ClassicGroup, request: JoinRequest, reply: Promise[JoinReply]
    ) -> None:
        member_id = self._new_id(request.client_id if request.instance_id is None else request.instance_id)
        if request.instance_id is not None:
            old_id = group.instances.get(request.instance_id)
            if old_id is None:
                self._add(decision, group, member_id, request, reply)
            else:
                self._replace_static(decision, group, group.members[old_id], member_id, request, reply)
        elif request.requires_member_id:
            timer = self.sessions.after(
                request.session_timeout_ms,
                group,
                lambda decision: self._expire_pending(decision, group, member_id),
            )
            group.add_pending(member_id, timer)
            raise MemberIdRequired("join again with this member id", member_id)
        else:
            self._add(decision, group, member_id, request, reply)

    def _new_id(self, prefix: str) -> str:
        return f"{prefix[:NAME_MAX]}-{UUID(int=self._rng.getrandbits(128), version=4)}"

    def _add(
        self,
        decision: Decision,
        group: ClassicGroup,
        member_id: str,
        request: JoinRequest,
        reply: Promise[JoinReply],
    ) -> None:
        if group.state is GroupState.PREPARING and group.previous_state is GroupState.EMPTY:
            group.new_member_joined = True
        member = GroupMember.from_request(member_id, request, b"")
        member.is_new = True
        member.pending_join = reply
        if not group.members:
            group.protocol_type = request.protocol_type
        group.add(member)
        self.sessions.start(group, member, NEW_MEMBER_TIMEOUT_MS)
        self._rebalance(decision, group, f"new member {member_id}{_client_reason(request.reason)}")

    def _rejoin(
        self,
        decision: Decision,
        group: ClassicGroup,
        member: GroupMember,
        request: JoinRequest,
        reply: Promise[JoinReply],
    ) -> None:
        if group.state is GroupState.PREPARING:
            self._update(decision, group, member, request, reply)
            self._rebalance(decision, group, "")
            return
        is_unchanged = member.offers(request.protocols)
        # The member may have missed the reply to its join (CompletingRebalance), or repeats it (Stable). The
        # leader of a stable group may force a rebalance by an unchanged join, because something else has
        # changed, for example the topics.
        is_leader = group.leader == member.member_id
        if is_unchanged and (group.state is GroupState.COMPLETING or not is_leader):
            self.sessions.start(group, member)
            joined = group.join_reply(member, with_members=is_leader)
            member.reply_to_join(decision, None, RebalanceInProgress("joined again"))
            member.pending_join = reply
            member.reply_to_join(decision, joined)
            return
        self._update(decision, group, member, request, reply)
        if is_unchanged:
            reason = "the leader requests it"
        else:
            reason = f"member {member.member_id} changed what it offers"
        self._rebalance(decision, group, f"{reason}{_client_reason(request.reason)}")

    @staticmethod
    def _update(
        decision: Decision,
        group: ClassicGroup,
        member: GroupMember,
        request: JoinRequest,
        reply: Promise[JoinReply],
    ) -> None:
        # A join that still waits belongs to a lost connection, and must not wait for ever.
        member.reply_to_join(decision, None, RebalanceInProgress("joined again"))
        member.pending_join = reply
        group.update_protocols(member, request.protocols)
        member.session_timeout_ms = request.session_timeout_ms
        member.rebalance_timeout_ms = request.rebalance_timeout_ms

    def _replace_static(
        self,
        decision: Decision,
        group: ClassicGroup,
        old: GroupMember,
        member_id: str,
        request: JoinRequest,
        reply: Promise[JoinReply],
    ) -> None:
        old_leader = group.leader
        new = GroupMember.from_request(member_id, request, old.assignment)
        old.reject(
            decision,
            FencedInstance(f"static member {old.instance_id} of group {group.group_id} is {member_id} now"),
        )
        group.replace(old, new)
        new.pending_join = reply
        self.sessions.start(group, new)
        if group.state is not GroupState.STABLE or not self._keeps_assignment(group, old, new):
            self._rebalance(
                decision, group, f"static member {new.instance_id} rejoined{_client_reason(request.reason)}"
            )
            return
        # KIP-345: only the id changed, so the other members need not stop.
        is_leader = group.leader == member_id
        if request.supports_skip_assignment:
            join_reply = group.join_reply(new, skip_assignment=is_leader)
        else:
            # An older client that learns that it is the leader would assign partitions to all members. So the
            # reply names its old id as the leader (KIP-814).
            join_reply = group.join_reply(new, with_members=False)
            if is_leader:
                join_reply = replace(join_reply, leader=old_leader or "")
        new.reply_to_join(decision, join_reply)
        decision.records.append(group.record())

    @staticmethod
    def _keeps_assignment(group: ClassicGroup, old: GroupMember, new: GroupMember) -> bool:
        """Whether the new static member can keep the assignment of the old one. Kafka compares only the
        chosen assignor; but a consumer that rejoins for other topics has to get these, too."""
        if group.choose_protocol() != group.protocol:
            return False
        if group.protocol_type != CONSUMER_PROTOCOL:
            return True
        old_topics = read_subscription(old.metadata(group.protocol))
        return old_topics == read_subscription(new.metadata(group.protocol))

    # --- the two phases -----------------------------------------------------------------------------------

    def _rebalance(self, decision: Decision, group: ClassicGroup, reason: str) -> None:
        """Start a rebalance, or complete the one in progress if all members have joined now."""
        if group.state is GroupState.PREPARING:
            self._try_complete(decision, group)
        else:
            self.prepare_rebalance(decision, group, reason)

    def prepare_rebalance(self, decision: Decision, group: ClassicGroup, reason: str) -> None:
        """Start the join phase. Members that wait for their assignment have to join again."""
        log.info("group %s: rebalance after generation %d: %s", group.group_id, group.generation, reason)
        if group.state is GroupState.COMPLETING:
            error = RebalanceInProgress(f"group {group.group_id} is rebalancing")
            for member in group.members.values():
                group.assign(member, b"")
                if member.reply_to_sync(decision, None, error):
                    self.sessions.start(group, member)
        self._cancel_sync(group)
        is_first = group.state is GroupState.EMPTY
        group.transition(GroupState.PREPARING)
        if is_first:
            left_ms = max(group.rebalance_timeout_ms - self._delay_ms, 0)
            self._wait_for_more(group, self._delay_ms, left_ms)
        elif group.all_joined:
            self._complete_join(decision, group)
        else:
            self._wait_for_joins(group)

    def _wait_for_more(self, group: ClassicGroup, delay_ms: int, left_ms: int) -> None:
        """Delay the first rebalance of a group, again as long as more members join, up to the rebalance
        timeout (KIP-134)."""

        def on_delay_over(decision: Decision) -> None:
            if group.new_member_joined and left_ms > 0:
                group.new_member_joined = False
                self._wait_for_more(group, min(self._delay_ms, left_ms), max(left_ms - delay_ms, 0))
            else:
                self._complete_join(decision, group)

        group.join_timer = self.sessions.after(delay_ms, group, on_delay_over)

    def _wait_for_joins(self, group: ClassicGroup) -> None:
        group.join_timer = self.sessions.after(
            group.rebalance_timeout_ms, group, lambda decision: self._complete_join(decision, group)
        )

    def _try_complete(self, decision: Decision, group: ClassicGroup) -> None:
        # The first rebalance of a group ends only by its delay.
        if (
            group.state is GroupState.PREPARING
            and group.previous_state is not GroupState.EMPTY
            and group.all_joined
        ):
            self._complete_join(decision, group)

    def _complete_join(self, decision: Decision, group: ClassicGroup) -> None:
        """End the join phase. Members that did not join again are removed; static ones stay until their
        session ends."""
        if group.join_timer is not None:
            group.join_timer.cancel()
            group.join_timer = None
        for member in list(group.members.values()):
            if member.pending_join is not None or member.instance_id is not None:
                continue
            log.info("group %s: member %s is removed: no join in time", group.group_id, member.member_id)
            self._remove(decision, group, member, "did not join in time")
        if group.members and not group.elect_joined_leader():
            wait_ms = group.rebalance_timeout_ms
            log.warning("group %s: no member joined in time; waiting %d ms more", group.group_id, wait_ms)
            self._wait_for_joins(group)
            return
        group.new_member_joined = False
        group.generation += 1
        if not group.members:
            self._become_empty(decision, group)
            return
        group.protocol = group.choose_protocol()
        assert group.leader in group.members, "the leader is a member"
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
                member.reply_to_join(decision, group.join_reply(member))
                member.is_new = False
                self.sessions.start(group, member)
        generation = group.generation
        group.sync_timer = self.sessions.after(
            group.rebalance_timeout_ms, group, lambda decision: self._expire_sync(decision, group, generation)
        )

    def _become_empty(self, decision: Decision, group: ClassicGroup) -> None:
        log.info("group %s: generation %d has no members", group.group_id, group.generation)
        group.protocol = None
        group.unsynced.clear()
        group.transition(GroupState.EMPTY)
        group.state_since_ms = self._clock.wall_ms()
        decision.records.append(group.record())

    def sync(
        self, decision: Decision, group: ClassicGroup, request: SyncRequest, reply: Promise[SyncReply]
    ) -> None:
        """Return a member's assignment: now, or when the leader has sent it."""
        member = group.member_of_generation(
            Heartbeat(
                group_id=request.group_id,
                member_id=request.member_id,
                generation=request.generation,
                instance_id=request.instance_id,
            )
        )
        for requested, current in (
            (request.protocol_type, group.protocol_type),
            (request.protocol, group.protocol),
        ):
            if requested is not None and requested != current:
                raise InconsistentProtocol(f"group {group.group_id} works with {current}, not {requested}")
        if group.state is GroupState.PREPARING:
            raise RebalanceInProgress(f"group {group.group_id} is rebalancing")
        assert group.state in (GroupState.COMPLETING, GroupState.STABLE), (
            "a group whose member has joined a generation is not empty"
        )
        if group.state is GroupState.COMPLETING and group.leader == member.member_id:
            self._memory.check_assignments(group, request)
        member.reply_to_sync(decision, None, RebalanceInProgress("asked again"))
        member.pending_sync = reply
        group.unsynced.discard(member.member_id)
        if not group.unsynced:
            self._cancel_sync(group)
        if group.state is GroupState.STABLE:
            member.reply_to_sync(decision, group.sync_reply(member))
            self.sessions.start(group, member)
        elif group.leader == member.member_id:
            self._assign(decision, group, dict(request.assignments))

    def _assign(self, decision: Decision, group: ClassicGroup, assignments: dict[str, bytes]) -> None:
        empty = empty_assignment(group.protocol_type)
        for member in group.members.values():
            group.assign(member, assignments.get(member.member_id, empty))
        group.transition(GroupState.STABLE)
        group.state_since_ms = self._clock.wall_ms()
        decision.records.append(group.record())
        for member in group.members.values():
            if member.reply_to_sync(decision, group.sync_reply(member)):
                self.sessions.start(group, member)

    def _expire_sync(self, decision: Decision, group: ClassicGroup, generation: int) -> None:
        """Remove the members that joined and did not send a sync in time."""
        if generation != group.generation or group.state not in (GroupState.COMPLETING, GroupState.STABLE):
            return
        late_members = [group.members[member_id] for member_id in sorted(group.unsynced)]
        for member in late_members:
            self._remove(decision, group, member, "did not sync in time")
        if late_members:
            self.prepare_rebalance(decision, group, f"{len(late_members)} members did not sync in time")

    def _cancel_sync(self, group: ClassicGroup) -> None:
        if group.sync_timer is not None:
            group.sync_timer.cancel()
            group.sync_timer = None

    # --- heartbeats and leaving ---------------------------------------------------------------------------

    def heartbeat(self, group: ClassicGroup, heartbeat: Heartbeat) -> None:
        """Extend the session of a member. RebalanceInProgress: the member has to join again."""
        member = group.member_of_generation(heartbeat)
        self.sessions.start(group, member)
        if group.state is GroupState.PREPARING:
            raise RebalanceInProgress(f"group {group.group_id} is rebalancing")

    def leave(self, decision: Decision, group: ClassicGroup, request: LeaveRequest) -> None:
        """Remove a member. UnknownMember, FencedInstance. The caller calls `rebalance_after_leave` after the
        last removal of a request."""
        if not request.member_id:
            old_id = None if request.instance_id is None else group.instances.get(request.instance_id)
            if old_id is None:
                raise UnknownMember(f"group {group.group_id} has no static member {request.instance_id}")
            member = group.members[old_id]
        elif group.remove_pending(request.member_id):
            return
        else:
            member = group.member_of(request.member_id, request.instance_id)
        log.info(
            "group %s: member %s left%s", group.group_id, member.member_id, _client_reason(request.reason)
        )
        self._remove(decision, group, member, "left")

    def rebalance_after_leave(self, decision: Decision, group: ClassicGroup, reason: str) -> None:
        """Rebalance the members that remain. Does nothing in an empty group."""
        if group.state is not GroupState.EMPTY:
            self._rebalance(decision, group, reason)

    def _remove(self, decision: Decision, group: ClassicGroup, member: GroupMember, reason: str) -> None:
        group.remove(member.member_id)
        error = RemovedMember(f"member {member.member_id} of group {group.group_id} {reason}")
        member.reject(decision, error)

    def _expire_pending(self, decision: Decision, group: ClassicGroup, member_id: str) -> None:
        if group.remove_pending(member_id):
            log.info(
                "group %s: the new member id %s is dropped: no client joined with it in time",
                group.group_id,
                member_id,
            )
            self._try_complete(decision, group)

    def _expire_session(self, decision: Decision, group: ClassicGroup, member: GroupMember) -> None:
        assert group.members.get(member.member_id) is member, "only a member of the group has a session timer"
        log.info("group %s: member %s is removed: no heartbeat in time", group.group_id, member.member_id)
        self._remove(decision, group, member, "sent no heartbeat in time")
        self.rebalance_after_leave(decision, group, f"member {member.member_id} sent no heartbeat in time")


def _client_reason(reason: str) -> str:
    return f": {reason[:255]}" if reason else ""
