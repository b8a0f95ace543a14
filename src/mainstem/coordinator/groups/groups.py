"""The state machine of consumer groups: the interface that doors, engines and the node use.

Owns: the recorded state of groups (the last record of each, and its offsets), the live groups with their soft
state, and the path from a decision to a durable reply. The records of a decision are written at once; its
replies wait for the disk. If the disk refuses the records, the live group is dropped and built again from its
record, and the waiting requests fail with NotCoordinator, on which every client finds the coordinator and
retries. Refuses: the rules of groups (`rebalancer.py`, `group.py`) and of offsets (`offsets.py`).

After a restart members keep their assignment and get a new session timeout. Joins in progress and member ids
that were returned but not used are forgotten.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby, islice
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import msgspec

from mainstem.clock import Clock
from mainstem.coordinator.errors import (
    CoordinatorError,
    GroupIdNotFound,
    IllegalGeneration,
    InconsistentProtocol,
    InvalidGroupId,
    InvalidSessionTimeout,
    NonEmptyGroup,
    UnknownMember,
)
from mainstem.coordinator.groups.group import ClassicGroup
from mainstem.coordinator.groups.members import Decision
from mainstem.coordinator.groups.memory import GroupMemory
from mainstem.coordinator.groups.offsets import CommittedOffsets, PartitionErrors, TopicLookup
from mainstem.coordinator.groups.rebalancer import GroupRebalancer
from mainstem.coordinator.groups.replies import (
    fail_if_waiting,
    not_coordinator,
    send_replies,
    with_retriable_error,
)
from mainstem.coordinator.groups.sessions import GroupAction
from mainstem.coordinator.groups.topic_deletion import TopicDeletion
from mainstem.coordinator.groups.types import (
    CommitRequest,
    GroupListing,
    GroupRecord,
    GroupState,
    GroupTombstone,
    GroupView,
    Heartbeat,
    JoinReply,
    JoinRequest,
    LeaveRequest,
    OffsetsCommitted,
    OffsetsDeleted,
    SyncReply,
    SyncRequest,
    TopicOffsets,
    TopicRef,
)
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.coordinator.runtime.walked_map import WalkedMap
from mainstem.promise import Promise, gather
from mainstem.settings import Settings
from mainstem.turns import run_in_turns

EXPIRY_INTERVAL_S = 600.0
"""How often expired offsets are deleted (Kafka's offsets.retention.check.interval.ms)."""
GROUPS_PER_TURN = 500
"""Groups that are listed or checked in one turn of the loop; a topic of a group counts as one, too, and four
of its offsets."""

T = TypeVar("T")
MemberErrors = list[CoordinatorError | None]
Listings = list[GroupListing]
Views = list[GroupView | None]
Fetched = list[TopicOffsets]


class Groups:
    """The state machine of consumer groups. `runtime` is set once, before the first request. The node calls
    `start` after every load of the state."""

    RECORDS: ClassVar[tuple[type[msgspec.Struct], ...]] = (
        GroupRecord,
        GroupTombstone,
        OffsetsCommitted,
        OffsetsDeleted,
    )
    runtime: Runtime

    def __init__(self, settings: Settings, clock: Clock, rng: random.Random, topics: TopicLookup) -> None:
        self._settings = settings
        self._clock = clock
        self.memory = GroupMemory(clock, settings.group_memory_max_bytes)
        self._rebalancer = GroupRebalancer(settings, clock, rng, self._submit, self.memory)
        self.has_other_kind: Callable[[str], bool] = lambda _: False
        """Whether a group of another kind has the name."""
        self._live: dict[str, ClassicGroup] = {}
        self._started = False
        self._records: WalkedMap[GroupRecord] = WalkedMap()
        self._offsets = CommittedOffsets(topics, settings.offset_metadata_max_bytes)
        self._topic_deletion = TopicDeletion(clock, self._offsets, self._write)

    # --- the state machine --------------------------------------------------------------------------------

    def apply(self, record: Any) -> None:
        """See `StateMachine`."""
        match record:
            case GroupRecord():
                self._records[record.group_id] = record
            case OffsetsCommitted():
                self._offsets.apply_commit(record)
            case OffsetsDeleted():
                self._offsets.apply_deletion(record)
            case GroupTombstone():
                self._records.remove(record.group_id)
                self._offsets.remove_group(record.group_id)

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """See `StateMachine`."""
        return chain((record for _, record in self._records.walk()), self._offsets.snapshot())

    def reset(self) -> None:
        """See `StateMachine`. Waiting joins and syncs fail with NotCoordinator."""
        for group_id in list(self._live):
            self._drop(group_id)
        self._records.clear()
        self._offsets.clear()

    def start(self) -> None:
        """Start the sessions of all members, and the timer that deletes expired offsets. Called after each
        load of the state."""
        for group_id, record in self._records.walk():
            group = self._find(group_id) if record.members else None
            if group is not None and len(group.members) > self._settings.group_max_size:
                self._submit(group, partial(self._shrink, group))
        if not self._started:
            self._started = True
            self._clock.call_later(EXPIRY_INTERVAL_S, self._expire)

    def _shrink(self, group: ClassicGroup, decision: Decision) -> None:
        self._rebalancer.prepare_rebalance(
            decision, group, f"more than {self._settings.group_max_size} members after a restart"
        )

    # --- from decision to reply ---------------------------------------------------------------------------

    def _find(self, group_id: str) -> ClassicGroup | None:
        group = self._live.get(group_id)
        if group is None:
            if not self.is_known(group_id):
                return None
            group = self._live[group_id] = self._view(group_id)
            self._rebalancer.sessions.start_all(group)
            self.memory.update(group)
        return group

    def is_known(self, group_id: str) -> bool:
        """Whether there is such a group; it may not be durable yet."""
        return group_id in self._live or group_id in self._records or self._offsets.has(group_id)

    def _view(self, group_id: str) -> ClassicGroup:
        """The group as it is now, to be looked at: it does not become a live one by that."""
        return self._live.get(group_id) or ClassicGroup(group_id, self._records.get(group_id))

    def _require(self, group_id: str) -> ClassicGroup:
        """The group of a member. UnknownMember: the group does not exist, so it has no members."""
        if not group_id:
            raise InvalidGroupId("the group has no name")
        group = self._find(group_id)
        if group is None:
            raise UnknownMember(f"there is no group {group_id}")
        return group

    def _drop(self, group_id: str) -> None:
        """Drop the live group, so that its next request builds it again from its record. Its waiting requests
        fail in the next turn of the event loop, when the state is consistent again."""
        group = self._live.pop(group_id, None)
        if group is None:
            return
        self.memory.forget(group)
        decision = Decision()
        for member in group.close():
            member.reject(decision, not_coordinator("the group was loaded again"))
        if decision.replies:
            self._clock.call_soon(lambda: send_replies(decision, None))

    def _decide(self, group_id: str, action: Callable[[Decision], T]) -> Promise[T]:
        """Run `action` now. Its result, and the replies of its decision, follow when its records are
        durable."""
        decision = Decision()

        def decide() -> tuple[Sequence[msgspec.Struct], T]:
            reply = action(decision)
            return decision.records, reply

        written = self.runtime.write(decide)
        self._settle(group_id)
        written.then(lambda done: self._on_written(group_id, decision, done.error))
        return with_retriable_error(written)

    def _on_written(self, group_id: str, decision: Decision, error: BaseException | None) -> None:
        if error is None or isinstance(error, CoordinatorError):
            send_replies(decision, None)
            return
        # The decision changed the live group and is void: build the group again from its record.
        self._drop(group_id)
        if self.runtime.fenced is None:
            self._find(group_id)
        send_replies(decision, not_coordinator(str(error)))

    def _settle(self, group_id: str) -> None:
        """Count the memory of the live group after a decision. If it has no members, drop it: its record and
        offsets are all that is known of it."""
        group = self._live.get(group_id)
        if group is not None and group.is_unused:
            group.close()
            self.memory.forget(group)
            del self._live[group_id]
        elif group is not None:
            self.memory.update(group)

    def _submit(self, group: ClassicGroup, action: GroupAction) -> None:
        """Run the action of a timer, unless the group was dropped since the timer was started."""
        if self._live.get(group.group_id) is group:
            self._decide(group.group_id, action)

    def _read(self, group_id: str, read: Callable[[], T]) -> Promise[T]:
        return self._decide(group_id, lambda _: read())

    # --- membership ---------------------------------------------------------------------------------------

    def join(self, request: JoinRequest) -> Promise[JoinReply]:
        """Join the group's next generation; the promise is done when that begins. Fails with InvalidGroupId,
        InvalidSessionTimeout, GroupFull, InconsistentProtocol, MemberIdRequired, UnknownMember,
        FencedInstance, RebalanceInProgress (a newer join replaced this one), NotCoordinator."""
        reply: Promise[JoinReply] = Promise()
        decided = self._decide(request.group_id, lambda decision: self._join(decision, request, reply))
        decided.then(lambda done: fail_if_waiting(reply, done.error))
        return reply

    def _join(self, decision: Decision, request: JoinRequest, reply: Promise[JoinReply]) -> None:
        if not request.group_id:
            raise InvalidGroupId("the group has no name")
        low, high = self._settings.group_min_session_timeout_ms, self._settings.group_max_session_timeout_ms
        if not low <= request.session_timeout_ms <= high:
            raise InvalidSessionTimeout(
                f"session.timeout.ms {request.session_timeout_ms} is not in {low}..{high}"
            )
        group = self._find(request.group_id)
        if group is None:
            if self.has_other_kind(request.group_id):
                raise InconsistentProtocol(f"Group {request.group_id} is not a classic group.")
            if request.member_id:
                raise UnknownMember(f"there is no group {request.group_id}")
            group = self._live[request.group_id] = ClassicGroup(request.group_id)
        self._rebalancer.join(decision, group, request, reply)

    def sync(self, request: SyncRequest) -> Promise[SyncReply]:
        """A promise of the member's assignment, done when the group's leader has sent it. Fails with
        InvalidGroupId, UnknownMember, FencedInstance, IllegalGeneration, InconsistentProtocol,
        RebalanceInProgress, NotCoordinator."""
        reply: Promise[SyncReply] = Promise()

        def sync(decision: Decision) -> None:
            self._rebalancer.sync(decision, self._require(request.group_id), request, reply)

        self._decide(request.group_id, sync).then(lambda done: fail_if_waiting(reply, done.error))
        return reply

    def heartbeat(self, heartbeat: Heartbeat) -> Promise[None]:
        """Extend the member's session. Fails with InvalidGroupId, UnknownMember, FencedInstance,
        IllegalGeneration, RebalanceInProgress, NotCoordinator."""
        return self._read(
            heartbeat.group_id,
            lambda: self._rebalancer.heartbeat(self._require(heartbeat.group_id), heartbeat),
        )

    def leave(self, group_id: str, requests: Sequence[LeaveRequest]) -> Promise[MemberErrors]:
        """Remove members from a group. The promise has an error or None for each request: UnknownMember,
        FencedInstance. Fails with InvalidGroupId, NotCoordinator."""
        return self._decide(group_id, lambda decision: self._leave(decision, group_id, requests))

    def _leave(self, decision: Decision, group_id: str, requests: Sequence[LeaveRequest]) -> MemberErrors:
        try:
            group = self._require(group_id)
        except UnknownMember as error:
            return [error] * len(requests)
        errors: MemberErrors = []
        for request in requests:
            try:
                self._rebalancer.leave(decision, group, request)
            except CoordinatorError as error:
                errors.append(error)
            else:
                errors.append(None)
        if None in errors:
            self._rebalancer.rebalance_after_leave(decision, group, "members left")
        return errors

    # --- views --------------------------------------------------------------------------------------------

    def list(self, states: Iterable[str] = (), types: Iterable[str] = ()) -> Promise[Listings]:
        """All groups, sorted by name. With `states` or `types`, only groups in one of these states or of one
        of these types: Kafka's names, in upper or lower case."""
        wanted_states = {state.lower() for state in states}
        wanted_types = {type_.lower() for type_ in types}

        listings: Listings = []

        def is_wanted(listing: GroupListing) -> bool:
            is_in_state = not wanted_states or listing.state.value.lower() in wanted_states
            return is_in_state and (not wanted_types or listing.type in wanted_types)

        def steps() -> Iterator[int]:
            ids, runs = self._ids(), []
            while run := sorted(islice(ids, GROUPS_PER_TURN)):
                runs.append(run)
                yield len(run)
            for group_id, _ in groupby(heapq.merge(*runs)):
                listing = self._view(group_id).listing()
                if is_wanted(listing):
                    listings.append(listing)
                yield 1

        listed = run_in_turns(self._clock, steps(), GROUPS_PER_TURN)
        return listed.chain(lambda _: self._read("", lambda: listings))

    def describe(self, group_ids: Sequence[str]) -> Promise[Views]:
        """The groups with their members; None for one that does not exist."""
        views: Views = []

        def steps() -> Iterator[int]:
            for group_id in group_ids:
                views.append(self._view(group_id).view() if self.is_known(group_id) else None)
                yield 1

        described = run_in_turns(self._clock, steps(), GROUPS_PER_TURN)
        return described.chain(lambda _: self._read("", lambda: views))

    def _ids(self) -> Iterator[str]:
        """The names of all groups of this moment, in no order, some of them twice."""
        offsets, records = self._offsets.all_groups(), self._records.walk()
        live = list(self._live)
        return chain((name for name, _ in offsets), (name for name, _ in records), live)

    def delete(self, group_id: str) -> Promise[None]:
        """Delete an empty group and its offsets. Fails with GroupIdNotFound, NonEmptyGroup,
        NotCoordinator."""
        return self._decide(group_id, lambda decision: self._delete_empty(decision, group_id))

    def _delete_empty(self, decision: Decision, group_id: str) -> None:
        group = self._find(group_id)
        if group is None:
            raise GroupIdNotFound(f"there is no group {group_id}")
        if group.state is not GroupState.EMPTY:
            raise NonEmptyGroup(f"group {group_id} has members")
        self._delete(decision, group)

    def _delete(self, decision: Decision, group: ClassicGroup) -> None:
        group.transition(GroupState.DEAD)
        group.close()
        self.memory.forget(group)
        del self._live[group.group_id]
        decision.records.append(GroupTombstone(group.group_id))

    # --- offsets ------------------------------------------------------------------------------------------

    def commit(self, request: CommitRequest) -> Promise[PartitionErrors]:
        """Commit offsets. The promise has an error or None for each partition: UnknownTopicOrPartition,
        UnknownTopicId, OffsetMetadataTooLarge. Fails with UnknownMember, FencedInstance, IllegalGeneration,
        RebalanceInProgress, CommitTooLarge, NotCoordinator."""
        return self._decide(request.group_id, lambda decision: self._commit(decision, request))

    def _commit(self, decision: Decision, request: CommitRequest) -> PartitionErrors:
        committer = Heartbeat(
            group_id=request.group_id,
            member_id=request.member_id,
            generation=request.generation,
            instance_id=request.instance_id,
        )
        group = self._find(request.group_id)
        if group is None and self.has_other_kind(request.group_id):
            raise GroupIdNotFound(f"Group {request.group_id} is not a classic group.")
        if group is None:
            # No member ever joined the group: only a consumer with manual assignment or a tool can commit to
            # it. The first offset creates it.
            group = ClassicGroup(request.group_id)
            if request.generation >= 0:
                raise IllegalGeneration(f"there is no group {request.group_id}")
        member = group.check_commit(committer)
        if member is not None:
            self._rebalancer.sessions.start(group, member)
        records, errors = self._offsets.commit(request, self._clock.wall_ms())
        decision.records += records
        return errors

    def fetch_offsets(
        self, group_id: str, selection: Sequence[tuple[TopicRef, Sequence[int]]] | None = None
    ) -> Promise[Fetched]:
        """The committed offsets of the partitions `selection`; None: of all partitions. Fails with
        NotCoordinator."""
        return self._read(group_id, lambda: self._offsets.fetch(group_id, selection))

    def delete_offsets(
        self, group_id: str, selection: Sequence[tuple[TopicRef, Sequence[int]]]
    ) -> Promise[PartitionErrors]:
        """Delete offsets of topics that no member reads. The promise has an error or None for each partition:
        UnknownTopicOrPartition, GroupSubscribed. Fails with GroupIdNotFound, NonEmptyGroup,
        NotCoordinator."""

        def delete(decision: Decision) -> PartitionErrors:
            group = self._find(group_id)
            if group is None:
                raise GroupIdNotFound(f"there is no group {group_id}")
            group.check_offset_delete()
            records, errors = self._offsets.delete(group, selection)
            decision.records += records
            return errors

        return self._decide(group_id, delete)

    def delete_topic_offsets(self, topic_id: UUID) -> Promise[None]:
        """Delete the committed offsets of a deleted topic. If a crash prevents it, the next expiry does
        it."""
        return self._topic_deletion.delete(topic_id)

    def clamp_to_log_end(self, end_of: Callable[[UUID, int], int]) -> Promise[int]:
        """Set committed offsets beyond the end of their partition back to that end. The promise has their
        number. After a power cut with durability=os the offsets of lost events are assigned again, and a
        group that had read the lost events must not miss the new ones. For a start: not in turns."""
        count = 0
        written: list[Promise[None]] = []
        for record in self._offsets.clamp_records(end_of):
            count += len(record.offsets)
            written.append(self._write([record]))
        return gather(written).map(lambda done: [promise.result() for promise in done]).map(lambda _: count)

    def _write(self, records: Sequence[msgspec.Struct]) -> Promise[None]:
        return self._decide("", lambda decision: decision.records.extend(records))

    # --- expiry -------------------------------------------------------------------------------------------

    def _expire(self) -> None:
        def on_expired(expired: Promise[None]) -> None:
            self._clock.call_later(EXPIRY_INTERVAL_S, self._expire)
            expired.result()

        run_in_turns(self._clock, self._expiry_steps(), GROUPS_PER_TURN).then(on_expired)

    def _expiry_steps(self) -> Iterator[int]:
        """Delete expired offsets, topic by topic of each group, and the groups that nothing is left of."""
        retention_ms = self._settings.offsets_retention_minutes * 60_000
        for group_id, topics in self._offsets.all_groups():
            reads: frozenset[str] | None = None
            generation = -1
            for topic_id, partitions in topics.items():
                group = self._view(group_id)
                if group.generation != generation:
                    generation, reads = group.generation, group.subscribed_topics()
                now_ms = self._clock.wall_ms()
                record = self._offsets.expired(group, topic_id, reads, now_ms, retention_ms)
                if record is not None:
                    self._write([record])
                yield 1 + len(partitions) // 4
            self._delete_if_unused(group_id)
        for group_id, _ in self._records.walk():
            self._delete_if_unused(group_id)
            yield 1

    def _delete_if_unused(self, group_id: str) -> None:
        """Delete a group without members, pending ids and offsets."""
        self._settle(group_id)
        if group_id in self._records and not self._offsets.has(group_id) and self._view(group_id).is_unused:
            group = self._find(group_id)
            assert group is not None, "a group with a record is there"
            self._decide(group_id, lambda decision: self._delete(decision, group))
