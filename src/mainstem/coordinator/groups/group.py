"""One consumer group of the classic protocol: its states, its members, its votes, its checks.

Owns: the table of states, membership arithmetic, and the rules by which a request is let in. Refuses: time,
timers and records; `rebalancer.py` moves a group through its states. Called by the group modules only.

Semantics: Apache Kafka's ClassicGroup.
"""

from __future__ import annotations

from collections import Counter

from mainstem.clock import Timer
from mainstem.coordinator.errors import (
    FencedInstance,
    GroupIdNotFound,
    IllegalGeneration,
    NonEmptyGroup,
    RebalanceInProgress,
    UnknownMember,
)
from mainstem.coordinator.groups.members import GroupMember, subscribed
from mainstem.coordinator.groups.types import (
    CONSUMER_PROTOCOL,
    GroupListing,
    GroupRecord,
    GroupState,
    GroupView,
    Heartbeat,
    JoinedMember,
    JoinReply,
    MemberView,
    Protocols,
    SyncReply,
)

TRANSITIONS: dict[GroupState, frozenset[GroupState]] = {
    GroupState.EMPTY: frozenset({GroupState.PREPARING, GroupState.DEAD}),
    GroupState.PREPARING: frozenset({GroupState.COMPLETING, GroupState.EMPTY, GroupState.DEAD}),
    GroupState.COMPLETING: frozenset({GroupState.STABLE, GroupState.PREPARING, GroupState.DEAD}),
    GroupState.STABLE: frozenset({GroupState.PREPARING, GroupState.DEAD}),
    GroupState.DEAD: frozenset(),
}
"""From each state, where a group may go.

Empty -> PreparingRebalance: a first member joins. PreparingRebalance -> CompletingRebalance: all members have
joined or the time is up; -> Empty: nobody is left. CompletingRebalance -> Stable: the leader brought the
assignment. Stable and CompletingRebalance -> PreparingRebalance: a member comes, goes, changes or fails. Any
-> Dead: deleted or expired.
"""


class ClassicGroup:
    """A group: what is recorded of it and the soft state beside that."""

    def __init__(self, group_id: str, saved: GroupRecord | None = None) -> None:
        self.group_id = group_id
        self.state = GroupState.EMPTY
        self.previous = GroupState.EMPTY
        self.generation = 0
        self.protocol_type: str | None = None
        self.protocol: str | None = None
        self.leader: str | None = None
        self.state_since_ms = -1
        self.members: dict[str, GroupMember] = {}
        self.instances: dict[str, str] = {}
        """Static members: instance id -> member id."""
        self._offers: Counter[str] = Counter()
        """How many members offer each assignor, so that a join costs the same in a group of thousands."""
        self.pending: dict[str, Timer] = {}
        """Member ids that were handed out and have not come back."""
        self.unsynced: set[str] = set()
        """Members of this generation that have not asked for their assignment."""
        self.new_member_joined = False
        """Somebody joined since the initial rebalance delay was last extended."""
        self.join_timer: Timer | None = None
        self.sync_timer: Timer | None = None
        if saved is not None:
            self._restore(saved)

    def _restore(self, saved: GroupRecord) -> None:
        self.generation = saved.generation
        self.protocol_type = saved.protocol_type
        self.protocol = saved.protocol
        self.leader = saved.leader
        self.state_since_ms = saved.state_since_ms
        for one in saved.members:
            self.members[one.member_id] = GroupMember(one)
            self._offer(one.protocols)
            if one.instance_id is not None:
                self.instances[one.instance_id] = one.member_id
        self.state = GroupState.STABLE if self.members else GroupState.EMPTY

    def record(self) -> GroupRecord:
        """What is recorded of it now."""
        return GroupRecord(
            group_id=self.group_id,
            generation=self.generation,
            protocol_type=self.protocol_type,
            protocol=self.protocol,
            leader=self.leader,
            state_since_ms=self.state_since_ms,
            members=tuple(member.record() for member in self.members.values()),
        )

    def transition(self, state: GroupState) -> None:
        """Go to `state`; AssertionError if the table has no such way."""
        assert state in TRANSITIONS[self.state], f"{self.group_id}: {self.state.value} -> {state.value}"
        self.previous, self.state = self.state, state

    # --- members --------------------------------------------------------------------------------------------

    def add(self, member: GroupMember) -> None:
        """A member that was let in. The first one leads."""
        assert member.member_id not in self.members
        self.members[member.member_id] = member
        self._offer(member.protocols)
        if member.instance_id is not None:
            assert member.instance_id not in self.instances
            self.instances[member.instance_id] = member.member_id
        if self.leader is None:
            self.leader = member.member_id
        self.remove_pending(member.member_id)

    def remove(self, member_id: str) -> GroupMember:
        """Take a member out; the eldest leads if it was the leader."""
        member = self.members.pop(member_id)
        member.cancel_timer()
        self._withdraw(member.protocols)
        if member.instance_id is not None:
            del self.instances[member.instance_id]
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)
        self.unsynced.discard(member_id)
        return member

    def replace(self, old: GroupMember, new: GroupMember) -> None:
        """A static member came back under a new id: it keeps place, assignment and leadership."""
        assert old.instance_id is not None
        old.cancel_timer()
        self._withdraw(old.protocols)
        self._offer(new.protocols)
        self.members = {
            (new.member_id if key == old.member_id else key): (new if key == old.member_id else member)
            for key, member in self.members.items()
        }
        self.instances[old.instance_id] = new.member_id
        if self.leader == old.member_id:
            self.leader = new.member_id
        if old.member_id in self.unsynced:
            self.unsynced.remove(old.member_id)
            self.unsynced.add(new.member_id)

    def remove_pending(self, member_id: str) -> bool:
        """A pending member came, left or was too slow; False if there is none of this id."""
        timer = self.pending.pop(member_id, None)
        if timer is not None:
            timer.cancel()
        return timer is not None

    def elect_joined_leader(self) -> bool:
        """Keep the leader if it joined again, else take the eldest that did; False if nobody did."""
        if self.leader is not None and self.members[self.leader].pending_join is not None:
            return True
        for member in self.members.values():
            if member.pending_join is not None:
                self.leader = member.member_id
                return True
        return False

    @property
    def joined_count(self) -> int:
        """Members whose join is parked."""
        return sum(member.pending_join is not None for member in self.members.values())

    @property
    def all_joined(self) -> bool:
        """Nobody has to be waited for."""
        return not self.pending and all(member.pending_join is not None for member in self.members.values())

    @property
    def rebalance_timeout_ms(self) -> int:
        """How long the slowest member may take to join again."""
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    @property
    def is_unused(self) -> bool:
        """Nobody is in it or on the way into it."""
        return self.state is GroupState.EMPTY and not self.pending

    def close(self) -> list[GroupMember]:
        """Stop all timers; the members, for those who still have to be told."""
        for timer in (self.join_timer, self.sync_timer, *self.pending.values()):
            if timer is not None:
                timer.cancel()
        self.join_timer = self.sync_timer = None
        self.pending.clear()
        for member in self.members.values():
            member.cancel_timer()
        return list(self.members.values())

    # --- votes ----------------------------------------------------------------------------------------------

    def supports(self, protocol_type: str, protocols: Protocols) -> bool:
        """A member that offers these can work with those who are there."""
        if self.state is GroupState.EMPTY or not self.members:
            return bool(protocol_type) and bool(protocols)
        everybody = len(self.members)
        return protocol_type == self.protocol_type and any(
            self._offers[name] == everybody for name, _ in protocols
        )

    def update_protocols(self, member: GroupMember, protocols: Protocols) -> None:
        """A member joined again, maybe with other assignors."""
        self._withdraw(member.protocols)
        self._offer(protocols)
        member.protocols = protocols

    def _offer(self, protocols: Protocols) -> None:
        self._offers.update({name for name, _ in protocols})

    def _withdraw(self, protocols: Protocols) -> None:
        for name in {name for name, _ in protocols}:
            self._offers[name] -= 1
            if not self._offers[name]:
                del self._offers[name]

    def choose_protocol(self) -> str:
        """The assignor that most members like best, of those that all have; the one voted for first on a
        tie."""
        common = {name for name, count in self._offers.items() if count == len(self.members)}
        votes: dict[str, int] = {}
        for member in self.members.values():
            name = member.vote(common)
            votes[name] = votes.get(name, 0) + 1
        return max(votes, key=lambda name: votes[name])

    def subscribed_topics(self) -> frozenset[str] | None:
        """Topics that its consumers read; None if that cannot be known."""
        if self.protocol_type != CONSUMER_PROTOCOL:
            return None
        topics: frozenset[str] = frozenset()
        for member in self.members.values():
            more = subscribed(member.metadata(self.protocol))
            if more is None:
                return None
            topics |= more
        return topics

    def may_read(self, topic: str) -> bool:
        """A member may be reading `topic`: when in doubt, a consumer does."""
        topics = self.subscribed_topics()
        return self.protocol_type == CONSUMER_PROTOCOL if topics is None else topic in topics

    # --- who may do what ------------------------------------------------------------------------------------

    def member_of(self, member_id: str, instance_id: str | None) -> GroupMember:
        """The member that speaks. UnknownMember; FencedInstance: another has taken over its instance id."""
        if instance_id is not None:
            owner = self.instances.get(instance_id)
            if owner is None:
                raise UnknownMember(f"group {self.group_id} has no static member {instance_id}")
            if owner != member_id:
                raise FencedInstance(f"static member {instance_id} of group {self.group_id} is {owner} now")
        member = self.members.get(member_id)
        if member is None:
            raise UnknownMember(f"group {self.group_id} has no member {member_id}")
        return member

    def member_of_generation(self, beat: Heartbeat) -> GroupMember:
        """As `member_of`, of the generation that it names. IllegalGeneration."""
        member = self.member_of(beat.member_id, beat.instance_id)
        if beat.generation != self.generation:
            raise IllegalGeneration(
                f"group {self.group_id} is at generation {self.generation}, not {beat.generation}"
            )
        return member

    def check_commit(self, beat: Heartbeat) -> GroupMember | None:
        """Who commits offsets: a member, or None for a simple consumer or a tool while nobody is in the
        group.

        While the members join again the old generation may still commit what it has read; between join and
        assignment nobody owns anything (RebalanceInProgress).
        """
        if beat.generation < 0 and self.state is GroupState.EMPTY:
            return None
        if beat.generation < 0 and not beat.member_id and beat.instance_id is None:
            raise UnknownMember(f"group {self.group_id} has members: only they commit offsets")
        member = self.member_of_generation(beat)
        if self.state is GroupState.COMPLETING:
            raise RebalanceInProgress(f"group {self.group_id} is rebalancing")
        return member

    def check_offset_delete(self) -> None:
        """UnknownGroup; NonEmptyGroup: its members are no consumers, so that what they read cannot be
        known."""
        if self.state is GroupState.DEAD:
            raise GroupIdNotFound(f"there is no group {self.group_id}")
        if self.state is not GroupState.EMPTY and self.protocol_type != CONSUMER_PROTOCOL:
            raise NonEmptyGroup(f"group {self.group_id} has members")

    # --- what is told ---------------------------------------------------------------------------------------

    def join_reply(
        self, member: GroupMember, *, tell_members: bool | None = None, skip_assignment: bool = False
    ) -> JoinReply:
        """The answer to a member's join in this generation; the leader's has everybody's metadata."""
        tell = self.leader == member.member_id if tell_members is None else tell_members
        return JoinReply(
            member_id=member.member_id,
            generation=self.generation,
            protocol_type=self.protocol_type,
            protocol=self.protocol,
            leader=self.leader or "",
            members=tuple(
                JoinedMember(one.member_id, one.instance_id, one.metadata(self.protocol))
                for one in (self.members.values() if tell else ())
            ),
            skip_assignment=skip_assignment,
        )

    def sync_reply(self, member: GroupMember) -> SyncReply:
        """The answer to a member's sync."""
        return SyncReply(self.protocol_type, self.protocol, member.assignment)

    def listing(self) -> GroupListing:
        """Its line in the list of groups."""
        return GroupListing(self.group_id, self.protocol_type or "", self.state)

    def view(self) -> GroupView:
        """All that people may want to know. While it rebalances, assignments are those from before."""
        stable = self.state is GroupState.STABLE
        return GroupView(
            group_id=self.group_id,
            state=self.state,
            generation=self.generation,
            protocol_type=self.protocol_type or "",
            protocol=(self.protocol or "") if stable else "",
            leader=self.leader or "",
            members=tuple(
                MemberView(
                    member_id=member.member_id,
                    instance_id=member.instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    metadata=member.metadata(self.protocol) if stable else b"",
                    assignment=member.assignment,
                )
                for member in self.members.values()
            ),
        )
