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
from mainstem.coordinator.groups.group import Group
from mainstem.coordinator.groups.members import Member, Step, empty_assignment, subscribed
from mainstem.coordinator.groups.types import (
    CONSUMER_PROTOCOL,
    Beat,
    Join,
    Joined,
    Leaving,
    State,
    Sync,
    Synced,
)
from mainstem.promise import Later
from mainstem.settings import Settings

NEW_MEMBER_TIMEOUT_MS = 300_000
"""A new member knows no id yet and cannot send heartbeats: its join waits at most so long (Kafka's
constant)."""

log = logging.getLogger(__name__)

Act = Callable[[Step], None]


class Rebalances:
    """The rules of all groups. `submit(group, act)` runs a timer's act as a step of that group."""

    def __init__(
        self, settings: Settings, clock: Clock, rng: random.Random, submit: Callable[[Group, Act], None]
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._submit = submit
        self._delay_ms = settings.group_initial_rebalance_delay_ms
        self._size_max = settings.group_max_size

    # --- join -----------------------------------------------------------------------------------------------

    def join(self, step: Step, group: Group, request: Join, waiting: Later[Joined]) -> None:
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

    def _check_room(self, group: Group, member_id: str) -> None:
        member = group.members.get(member_id)
        full = len(group.members) >= self._size_max
        if group.state is State.PREPARING:
            # Those who wait are counted, not the members: the last to join again are left out of a group that
            # shrank.
            waits = member is not None and member.joining is not None
            full = full and not waits and group.joined_count >= self._size_max
        else:
            full = full and member is None
        if full:
            if member is not None:
                group.remove(member_id)
            group.forget_pending(member_id)
            raise GroupFull(f"group {group.group_id} has its {self._size_max} members")

    def _join_new(self, step: Step, group: Group, request: Join, waiting: Later[Joined]) -> None:
        member_id = self._new_id(request.client_id if request.instance_id is None else request.instance_id)
        if request.instance_id is not None:
            old_id = group.instances.get(request.instance_id)
            if old_id is None:
                self._add(step, group, member_id, request, waiting)
            else:
                self._replace_static(step, group, group.members[old_id], member_id, request, waiting)
        elif request.must_know_id:
            group.pending[member_id] = self._after(
                request.session_timeout_ms, group, lambda step: self._expire_pending(step, group, member_id)
            )
            raise MemberIdRequired("join again with this member id", member_id)
        else:
            self._add(step, group, member_id, request, waiting)

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}-{UUID(int=self._rng.getrandbits(128), version=4)}"

    def _add(self, step: Step, group: Group, member_id: str, request: Join, waiting: Later[Joined]) -> None:
        if group.state is State.PREPARING and group.previous is State.EMPTY:
            group.joiner_came = True
        member = Member.of(member_id, request, b"")
        member.is_new = True
        member.joining = waiting
        if not group.members:
            group.protocol_type = request.protocol_type
        group.add(member)
        self._arm(group, member, NEW_MEMBER_TIMEOUT_MS)
        self._rebalance(step, group, f"new member {member_id}{_because(request.reason)}")

    def _rejoin(
        self, step: Step, group: Group, member: Member, request: Join, waiting: Later[Joined]
    ) -> None:
        if group.state is State.PREPARING:
            self._update(step, group, member, request, waiting)
            self._rebalance(step, group, "")
            return
        same = member.matches(request.protocols)
        # It may have missed the answer to its join (CompletingRebalance), or just asks again (Stable). The
        # leader of a stable group may force a rebalance with the same words: it saw something else change,
        # such as a topic.
        leads = group.leader == member.member_id
        if same and (group.state is State.COMPLETING or not leads):
            self._arm(group, member)
            joined = group.joined(member, tell_members=leads)
            member.answer_join(step, None, RebalanceInProgress("joined again"))
            member.joining = waiting
            member.answer_join(step, joined)
            return
        self._update(step, group, member, request, waiting)
        why = "the leader asks for it" if same else f"member {member.member_id} changed what it offers"
        self._rebalance(step, group, f"{why}{_because(request.reason)}")

    @staticmethod
    def _update(step: Step, group: Group, member: Member, request: Join, waiting: Later[Joined]) -> None:
        # A join that still waits belongs to a connection that was lost; its answer must not hang.
        member.answer_join(step, None, RebalanceInProgress("joined again"))
        member.joining = waiting
        group.change_offer(member, request.protocols)
        member.session_timeout_ms = request.session_timeout_ms
        member.rebalance_timeout_ms = request.rebalance_timeout_ms

    def _replace_static(
        self, step: Step, group: Group, old: Member, member_id: str, request: Join, waiting: Later[Joined]
    ) -> None:
        old_leader = group.leader
        new = Member.of(member_id, request, old.assignment)
        old.refuse(
            step,
            FencedInstance(f"static member {old.instance_id} of group {group.group_id} is {member_id} now"),
        )
        group.replace(old, new)
        new.joining = waiting
        self._arm(group, new)
        if group.state is not State.STABLE or not self._goes_on_as(group, old, new):
            self._rebalance(
                step, group, f"static member {new.instance_id} came back{_because(request.reason)}"
            )
            return
        # KIP-345: nothing changed but the id, so nobody has to stop.
        leads = group.leader == member_id
        if request.may_skip_assignment:
            joined = group.joined(new, skip_assignment=leads)
        else:
            # An older client that is told that it leads would assign for all: it is told the id that it had
            # (KIP-814).
            joined = group.joined(new, tell_members=False)
            if leads:
                joined = replace(joined, leader=old_leader or "")
        new.answer_join(step, joined)
        step.records.append(group.saved())

    @staticmethod
    def _goes_on_as(group: Group, old: Member, new: Member) -> bool:
        """The static member that came back can have the assignment of the one it replaces. Kafka looks only
        at the chosen assignor; a consumer that came back for other topics has to get them too."""
        if group.choose_protocol() != group.protocol:
            return False
        if group.protocol_type != CONSUMER_PROTOCOL:
            return True
        return subscribed(old.metadata(group.protocol)) == subscribed(new.metadata(group.protocol))

    # --- the two phases -------------------------------------------------------------------------------------

    def _rebalance(self, step: Step, group: Group, reason: str) -> None:
        """Start a rebalance, or finish the one that runs if this was what it waited for."""
        if group.state is State.PREPARING:
            self._try_complete(step, group)
        else:
            self.prepare(step, group, reason)

    def prepare(self, step: Step, group: Group, reason: str) -> None:
        """Call all members together. Those who wait for an assignment join again instead."""
        log.info("group %s: rebalance after generation %d: %s", group.group_id, group.generation, reason)
        if group.state is State.COMPLETING:
            error = RebalanceInProgress(f"group {group.group_id} is rebalancing")
            for member in group.members.values():
                member.assignment = b""
                if member.answer_sync(step, None, error):
                    self._arm(group, member)
        self._cancel_sync(group)
        first = group.state is State.EMPTY
        group.transition(State.PREPARING)
        if first:
            left_ms = max(group.rebalance_timeout_ms - self._delay_ms, 0)
            self._wait_for_more(group, self._delay_ms, left_ms)
        elif group.all_joined:
            self._complete_join(step, group)
        else:
            self._wait_for_joins(group)

    def _wait_for_more(self, group: Group, delay_ms: int, left_ms: int) -> None:
        """KIP-134: a new group waits a little, and again while members keep coming, at most the rebalance
        timeout."""

        def due(step: Step) -> None:
            if group.joiner_came and left_ms > 0:
                group.joiner_came = False
                self._wait_for_more(group, min(self._delay_ms, left_ms), max(left_ms - delay_ms, 0))
            else:
                self._complete_join(step, group)

        group.join_timer = self._after(delay_ms, group, due)

    def _wait_for_joins(self, group: Group) -> None:
        group.join_timer = self._after(
            group.rebalance_timeout_ms, group, lambda step: self._complete_join(step, group)
        )

    def _try_complete(self, step: Step, group: Group) -> None:
        # The initial rebalance ends by its delay alone.
        if group.state is State.PREPARING and group.previous is not State.EMPTY and group.all_joined:
            self._complete_join(step, group)

    def _complete_join(self, step: Step, group: Group) -> None:
        """The join phase ends: who did not come is out (static members stay until their session ends)."""
        if group.join_timer is not None:
            group.join_timer.cancel()
            group.join_timer = None
        late = [one for one in group.members.values() if one.joining is None and one.instance_id is None]
        for member in late:
            log.info("group %s: member %s did not join again in time", group.group_id, member.member_id)
            self._remove(step, group, member, "did not join in time")
        if group.members and not group.elect_joined_leader():
            log.warning("group %s: no member joined again; waiting on", group.group_id)
            self._wait_for_joins(group)
            return
        group.joiner_came = False
        group.generation += 1
        if not group.members:
            self._become_empty(step, group)
            return
        group.protocol = group.choose_protocol()
        group.transition(State.COMPLETING)
        group.unsynced = set(group.members)
        log.info(
            "group %s: generation %d has %d members, led by %s",
            group.group_id,
            group.generation,
            len(group.members),
            group.leader,
        )
        for member in group.members.values():
            if member.joining is not None:
                member.answer_join(step, group.joined(member))
                member.is_new = False
                self._arm(group, member)
        generation = group.generation
        group.sync_timer = self._after(
            group.rebalance_timeout_ms, group, lambda step: self._expire_sync(step, group, generation)
        )

    def _become_empty(self, step: Step, group: Group) -> None:
        log.info("group %s: generation %d has no members", group.group_id, group.generation)
        group.protocol = None
        group.unsynced.clear()
        group.transition(State.EMPTY)
        group.since_ms = self._clock.wall_ms()
        step.records.append(group.saved())

    def sync(self, step: Step, group: Group, request: Sync, waiting: Later[Synced]) -> None:
        """A member wants its assignment: now, or when the leader has brought it."""
        member = group.member_at(
            Beat(
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
        if group.state is State.PREPARING:
            raise RebalanceInProgress(f"group {group.group_id} is rebalancing")
        assert group.state in (State.COMPLETING, State.STABLE)
        member.answer_sync(step, None, RebalanceInProgress("asked again"))
        member.syncing = waiting
        group.unsynced.discard(member.member_id)
        if not group.unsynced:
            self._cancel_sync(group)
        if group.state is State.STABLE:
            member.answer_sync(step, group.synced(member))
            self._arm(group, member)
        elif group.leader == member.member_id:
            self._assign(step, group, dict(request.assignments))

    def _assign(self, step: Step, group: Group, assignments: dict[str, bytes]) -> None:
        empty = empty_assignment(group.protocol_type)
        for member in group.members.values():
            member.assignment = assignments.get(member.member_id, empty)
        group.transition(State.STABLE)
        group.since_ms = self._clock.wall_ms()
        step.records.append(group.saved())
        for member in group.members.values():
            if member.answer_sync(step, group.synced(member)):
                self._arm(group, member)

    def _expire_sync(self, step: Step, group: Group, generation: int) -> None:
        """Members that joined and never asked for their assignment are out."""
        if generation != group.generation or group.state not in (State.COMPLETING, State.STABLE):
            return
        late = [group.members[member_id] for member_id in sorted(group.unsynced)]
        for member in late:
            self._remove(step, group, member, "did not sync in time")
        if late:
            self.prepare(step, group, f"{len(late)} members did not ask for their assignment in time")

    def _cancel_sync(self, group: Group) -> None:
        if group.sync_timer is not None:
            group.sync_timer.cancel()
            group.sync_timer = None

    # --- living and leaving ---------------------------------------------------------------------------------

    def heartbeat(self, group: Group, beat: Beat) -> None:
        """The member lives. RebalanceInProgress: it has to join again."""
        member = group.member_at(beat)
        self.touch(group, member)
        if group.state is State.PREPARING:
            raise RebalanceInProgress(f"group {group.group_id} is rebalancing")

    def touch(self, group: Group, member: Member) -> None:
        """The member was heard of: its session begins anew."""
        self._arm(group, member)

    def leave(self, step: Step, group: Group, leaving: Leaving) -> None:
        """One member goes; UnknownMember, FencedInstance. `settle` has to follow after the last one of a
        request."""
        if not leaving.member_id:
            old_id = None if leaving.instance_id is None else group.instances.get(leaving.instance_id)
            if old_id is None:
                raise UnknownMember(f"group {group.group_id} has no static member {leaving.instance_id}")
            member = group.members[old_id]
        elif group.forget_pending(leaving.member_id):
            return
        else:
            member = group.member_of(leaving.member_id, leaving.instance_id)
        log.info("group %s: member %s left%s", group.group_id, member.member_id, _because(leaving.reason))
        self._remove(step, group, member, "left")

    def settle(self, step: Step, group: Group, reason: str) -> None:
        """Members went: rebalance if that matters."""
        if group.state is not State.EMPTY:
            self._rebalance(step, group, reason)

    def _remove(self, step: Step, group: Group, member: Member, why: str) -> None:
        group.remove(member.member_id)
        member.refuse(step, RemovedMember(f"member {member.member_id} of group {group.group_id} {why}"))

    def _expire_pending(self, step: Step, group: Group, member_id: str) -> None:
        if group.forget_pending(member_id):
            log.info("group %s: %s took its member id and never came", group.group_id, member_id)
            self._try_complete(step, group)

    def _expire_session(self, step: Step, group: Group, member: Member) -> None:
        assert group.members.get(member.member_id) is member, "a member that is out has no timer"
        log.info("group %s: member %s was not heard of in time", group.group_id, member.member_id)
        self._remove(step, group, member, "was not heard of in time")
        self.settle(step, group, f"member {member.member_id} was not heard of in time")

    # --- timers ---------------------------------------------------------------------------------------------

    def start_sessions(self, group: Group) -> None:
        """After a restart: every member has one session timeout to be heard of."""
        for member in group.members.values():
            self._arm(group, member)

    def _arm(self, group: Group, member: Member, timeout_ms: int | None = None) -> None:
        timeout_ms = member.session_timeout_ms if timeout_ms is None else timeout_ms
        member.deadline = self._clock.monotonic() + timeout_ms / 1000
        if member.timer is None or member.due > member.deadline:
            self._watch(group, member)

    def _watch(self, group: Group, member: Member) -> None:
        """Look again when the session would end as it stands now."""
        member.disarm()
        member.due = member.deadline
        wait_s = max(member.deadline - self._clock.monotonic(), 0.0)
        member.timer = self._clock.call_later(wait_s, lambda: self._look(group, member))

    def _look(self, group: Group, member: Member) -> None:
        member.timer = None
        if member.deadline > self._clock.monotonic():
            self._watch(group, member)
        elif not member.excused():
            self._submit(group, lambda step: self._expire_session(step, group, member))
        # Else it waits for us: the answer to its join or sync arms it again.

    def _after(self, delay_ms: int, group: Group, act: Act) -> Timer:
        return self._clock.call_later(delay_ms / 1000, lambda: self._submit(group, act))


def _because(reason: str) -> str:
    return f": {reason[:255]}" if reason else ""
