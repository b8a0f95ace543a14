"""A group of the classic protocol: its state, members, votes for an assignor, and the checks of requests.

Owns: the table of state transitions, and which request is valid in which state. Refuses: starting timers and
writing records; `rebalancer.py` moves a group through its states.

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
from mainstem.coordinator.groups.members import GroupMember
from mainstem.coordinator.groups.types import (
    CONSUMER_PROTOCOL,
    GroupListing,
    GroupRecord,
    GroupState,
    GroupView,
    Heartbeat,
    JoinedMember,
    JoinReply,
    JoinRequest,
    MemberView,
    Protocols,
    SyncReply,
)
from mainstem.kafka_protocol.subscription import read_subscription

GROUP_BYTES = 3_000
PENDING_BYTES = 1_000
"""Approximate bytes of memory of a live group and of a pending member id, without names."""

TRANSITIONS: dict[GroupState, frozenset[GroupState]] = {
    GroupState.EMPTY: frozenset({GroupState.PREPARING, GroupState.DEAD}),
    GroupState.PREPARING: frozenset({GroupState.COMPLETING, GroupState.EMPTY, GroupState.DEAD}),
    GroupState.COMPLETING: frozenset({GroupState.STABLE, GroupState.PREPARING, GroupState.DEAD}),
    GroupState.STABLE: frozenset({GroupState.PREPARING, GroupState.DEAD}),
    GroupState.DEAD: frozenset(),
}
"""The states to which a group may change from each state.

Empty -> PreparingRebalance: a first member joins. PreparingRebalance -> CompletingRebalance: all members have
joined, or the time is up; -> Empty: no member is left. CompletingRebalance -> Stable: the leader has sent the
assignments. Stable and CompletingRebalance -> PreparingRebalance: a member joins, leaves, changes or fails.
Any -> Dead: the group is deleted or has expired.
"""


class ClassicGroup:
    """A group: the facts that its record in the state log has, and the soft state that a restart forgets
    (waiting requests, timers)."""

    def __init__(self, group_id: str, record: GroupRecord | None = None) -> None:
        self.group_id = group_id
        self.state = GroupState.EMPTY
        self.previous_state = GroupState.EMPTY
        self.generation = 0
        self.protocol_type: str | None = None
        self.protocol: str | None = None
        self.leader: str | None = None
        self.state_since_ms = -1
        self.members: dict[str, GroupMember] = {}
        self.instances: dict[str, str] = {}
        """Static members: instance id -> member id."""
        self._offers: Counter[str] = Counter()
        """Assignor -> how many members offer it. Makes a join equally cheap in a group of thousands."""
        self.memory_bytes = GROUP_BYTES + len(group_id)
        """Approximate bytes that the group takes with its members and pending ids; see `memory.py`."""
        self.pending_bytes = 0
        """Bytes of these that its pending ids take: they are not recorded."""
        self.pending: dict[str, Timer] = {}
        """Member ids of clients that got MemberIdRequired and have not joined again yet -> their timeout."""
        self.unsynced: set[str] = set()
        """Ids of members of this generation that have not sent a sync yet."""
        self.new_member_joined = False
        """A member has joined since the initial rebalance delay was last extended."""
        self.join_timer: Timer | None = None
        self.sync_timer: Timer | None = None
        if record is not None:
            self._restore(record)

    def _restore(self, record: GroupRecord) -> None:
        self.generation = record.generation
        self.protocol_type = record.protocol_type
        self.protocol = record.protocol
        self.leader = record.leader
        self.state_since_ms = record.state_since_ms
        for member in record.members:
            self.members[member.member_id] = restored = GroupMember(member)
            self.memory_bytes += restored.memory_bytes
            self._add_offers(member.protocols)
            if member.instance_id is not None:
                self.instances[member.instance_id] = member.member_id
        self.state = GroupState.STABLE if self.members else GroupState.EMPTY

    def record(self) -> GroupRecord:
        """The record of the group for the state log."""
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
        """Change to `state`. AssertionError if the table does not have the transition."""
        assert state in TRANSITIONS[self.state], f"{self.group_id}: {self.state.value} -> {state.value}"
        self.previous_state, self.state = self.state, state

    # --- members ------------------------------------------------------------------------------------------

    def add(self, member: GroupMember) -> None:
        """Add a member. The first one becomes the leader."""
        assert member.member_id not in self.members, "a member id is unique in its group"
        self.members[member.member_id] = member
        self.memory_bytes += member.memory_bytes
        self._add_offers(member.protocols)
        if member.instance_id is not None:
            assert member.instance_id not in self.instances, "an instance id belongs to one member"
            self.instances[member.instance_id] = member.member_id
        if self.leader is None:
            self.leader = member.member_id
        self.remove_pending(member.member_id)

    def remove(self, member_id: str) -> GroupMember:
        """Remove a member. If it was the leader, the oldest member becomes the leader."""
        member = self.members.pop(member_id)
        member.cancel_timer()
        self.memory_bytes -= member.memory_bytes
        self._remove_offers(member.protocols)
        if member.instance_id is not None:
            del self.instances[member.instance_id]
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)
        self.unsynced.discard(member_id)
        return member

    def replace(self, old: GroupMember, new: GroupMember) -> None:
        """Replace a static member that joined again under a new id. It keeps its age and its leadership."""
        assert old.instance_id is not None, "only a static member is replaced"
        old.cancel_timer()
        self.memory_bytes += new.memory_bytes - old.memory_bytes
        self._remove_offers(old.protocols)
        self._add_offers(new.protocols)
        self.members = {
            (new.member_id if member is old else member_id): (new if member is old else member)
            for member_id, member in self.members.items()
        }
        self.instances[old.instance_id] = new.member_id
        if self.leader == old.member_id:
            self.leader = new.member_id
        if old.member_id in self.unsynced:
            self.unsynced.remove(old.member_id)
            self.unsynced.add(new.member_id)

    def assign(self, member: GroupMember, assignment: bytes) -> None:
        """Set the assignment of a member."""
        self.memory_bytes += len(assignment) - len(member.assignment)
        member.assignment = assignment

    def find_joining(self, request: JoinRequest) -> GroupMember | None:
        """The member that a join updates or replaces; None for a new one."""
        member_id = request.member_id or self.instances.get(request.instance_id or "", "")
        return self.members.get(member_id)

    def add_pending(self, member_id: str, timer: Timer) -> None:
        """Remember the id of a client that has to join again, until `timer` fires."""
        self.pending[member_id] = timer
        self.memory_bytes += PENDING_BYTES + len(member_id)
        self.pending_bytes += PENDING_BYTES + len(member_id)

    def remove_pending(self, member_id: str) -> bool:
        """Forget a pending member id. False if there is none."""
        timer = self.pending.pop(member_id, None)
        if timer is not None:
            timer.cancel()
            self.memory_bytes -= PENDING_BYTES + len(member_id)
            self.pending_bytes -= PENDING_BYTES + len(member_id)
        return timer is not None

    def elect_joined_leader(self) -> bool:
        """Keep the leader if it has joined again, else elect the oldest member that has. False if none
        has."""
        if self.leader is not None and self.members[self.leader].pending_join is not None:
            return True
        for member in self.members.values():
            if member.pending_join is not None:
                self.leader = member.member_id
                return True
        return False

    @property
    def joined_count(self) -> int:
        """Number of members whose join waits."""
        return sum(member.pending_join is not None for member in self.members.values())

    @property
    def all_joined(self) -> bool:
        """Whether all members have joined and no id is pending."""
        return not self.pending and all(member.pending_join is not None for member in self.members.values())

    @property
    def rebalance_timeout_ms(self) -> int:
        """The longest time that a member may take to join again."""
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    @property
    def is_unused(self) -> bool:
        """Whether the group has no members and no pending ids."""
        return self.state is GroupState.EMPTY and not self.pending

    def close(self) -> list[GroupMember]:
        """Stop all timers. Returns the members, whose waiting requests need a reply."""
        for timer in (self.join_timer, self.sync_timer, *self.pending.values()):
            if timer is not None:
                timer.cancel()
        self.join_timer = self.sync_timer = None
        self.pending.clear()
        for member in self.members.values():
            member.cancel_timer()
        return list(self.members.values())

    # --- votes --------------------------------------------------------------------------------------------

    def supports(self, protocol_type: str, protocols: Protocols) -> bool:
        """Whether a member that offers these protocols can join the present members."""
        if self.state is GroupState.EMPTY or not self.members:
            return bool(protocol_type) and bool(protocols)
        return protocol_type == self.protocol_type and any(
            self._offers[name] == len(self.members) for name, _ in protocols
        )

    def update_protocols(self, member: GroupMember, protocols: Protocols) -> None:
        """Replace what a member offers."""
        self._remove_offers(member.protocols)
        self._add_offers(protocols)
        self.memory_bytes -= member.memory_bytes
        member.protocols = protocols
        self.memory_bytes += member.memory_bytes

    def _add_offers(self, protocols: Protocols) -> None:
        self._offers.update({name for name, _ in protocols})

    def _remove_offers(self, protocols: Protocols) -> None:
        for name in {name for name, _ in protocols}:
            self._offers[name] -= 1
            if not self._offers[name]:
                del self._offers[name]

    def choose_protocol(self) -> str:
        """The assignor with the most votes among those that all members offer. On a tie, the one that was
        voted for first."""
        common = {name for name, count in self._offers.items() if count == len(self.members)}
        votes: dict[str, int] = {}
        for member in self.members.values():
            name = member.vote(common)
            votes[name] = votes.get(name, 0) + 1
        return max(votes, key=lambda name: votes[name])

    def subscribed_topics(self) -> frozenset[str] | None:
        """The topics that the members subscribe to; None if that is not known."""
        if self.protocol_type != CONSUMER_PROTOCOL:
            return None
        topics: frozenset[str] = frozenset()
        for member in self.members.values():
            subscription = read_subscription(member.metadata(self.protocol))
            if subscription is None:
                return None
            topics |= subscription
        return topics

    def may_read(self, topic: str) -> bool:
        """Whether some member may be reading `topic`. True for consumers whose subscription cannot be
        decoded, because they might read it. Not a question of permission."""
        topics = self.subscribed_topics()
        return self.protocol_type == CONSUMER_PROTOCOL if topics is None else topic in topics

    # --- checks of requests -------------------------------------------------------------------------------

    def member_of(self, member_id: str, instance_id: str | None) -> GroupMember:
        """The member with these ids. UnknownMember; FencedInstance: another member has taken over the
        instance id."""
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

    def member_of_generation(self, heartbeat: Heartbeat) -> GroupMember:
        """The member, as by `member_of`. IllegalGeneration if the request is not of the group's
        generation."""
        member = self.member_of(heartbeat.member_id, heartbeat.instance_id)
        if heartbeat.generation != self.generation:
            raise IllegalGeneration(
                f"group {self.group_id} is at generation {self.generation}, not {heartbeat.generation}"
            )
        return member

    def check_commit(self, committer: Heartbeat) -> GroupMember | None:
        """The member that commits offsets; None for a client that is not a member, which may commit only
        while the group is empty.

        While the members join again, those of the old generation may still commit what they have read.
        Between join and assignment no member has partitions (RebalanceInProgress).
        """
        if committer.generation < 0 and self.state is GroupState.EMPTY:
            return None
        if committer.generation < 0 and not committer.member_id and committer.instance_id is None:
            raise UnknownMember(f"group {self.group_id} has members: only they commit offsets")
        member = self.member_of_generation(committer)
        if self.state is GroupState.COMPLETING:
            raise RebalanceInProgress(f"group {self.group_id} is rebalancing")
        return member

    def check_offset_delete(self) -> None:
        """Check that offsets may be deleted. GroupIdNotFound; NonEmptyGroup: the members are not consumers,
        so what they read is not known."""
        if self.state is GroupState.DEAD:
            raise GroupIdNotFound(f"there is no group {self.group_id}")
        if self.state is not GroupState.EMPTY and self.protocol_type != CONSUMER_PROTOCOL:
            raise NonEmptyGroup(f"group {self.group_id} has members")

    # --- replies and views --------------------------------------------------------------------------------

    def join_reply(
        self, member: GroupMember, *, with_members: bool | None = None, skip_assignment: bool = False
    ) -> JoinReply:
        """The reply to a member's join. By default, the leader's has the metadata of all members."""
        if with_members is None:
            with_members = self.leader == member.member_id
        return JoinReply(
            member_id=member.member_id,
            generation=self.generation,
            protocol_type=self.protocol_type,
            protocol=self.protocol,
            leader=self.leader or "",
            members=tuple(
                JoinedMember(joined.member_id, joined.instance_id, joined.metadata(self.protocol))
                for joined in (self.members.values() if with_members else ())
            ),
            skip_assignment=skip_assignment,
        )

    def sync_reply(self, member: GroupMember) -> SyncReply:
        """The reply to a member's sync."""
        return SyncReply(self.protocol_type, self.protocol, member.assignment)

    def listing(self) -> GroupListing:
        """The group as ListGroups shows it."""
        return GroupListing(self.group_id, self.protocol_type or "", self.state)

    def view(self) -> GroupView:
        """The group as DescribeGroups shows it. While it rebalances, the assignments are those of the
        previous generation."""
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
