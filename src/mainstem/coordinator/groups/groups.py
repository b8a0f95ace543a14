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

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import msgspec

from mainstem.clock import Clock
from mainstem.coordinator.errors import (
    CoordinatorError,
    GroupIdNotFound,
    IllegalGeneration,
    InvalidGroupId,
    InvalidSessionTimeout,
    NonEmptyGroup,
    NotCoordinator,
    UnknownMember,
)
from mainstem.coordinator.groups.group import ClassicGroup
from mainstem.coordinator.groups.members import Decision
from mainstem.coordinator.groups.offsets import CommittedOffsets, PartitionErrors, TopicLookup
from mainstem.coordinator.groups.rebalancer import GroupAction, GroupRebalancer
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
from mainstem.promise import Promise
from mainstem.settings import Settings

EXPIRY_INTERVAL_S = 600.0
"""How often expired offsets are deleted (Kafka's offsets.retention.check.interval.ms)."""
EXPIRY_GROUPS_PER_TURN = 500
"""Groups that are checked in one turn of the loop."""

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
        self._topics = topics
        self._rebalancer = GroupRebalancer(settings, clock, rng, self._submit)
        self._live: dict[str, ClassicGroup] = {}
        self._started = False
        self._clear_records()

    def _clear_records(self) -> None:
        self._records: dict[str, GroupRecord] = {}
        self._offsets = CommittedOffsets(self._topics, self._settings.offset_metadata_max_bytes)

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
                self._records.pop(record.group_id, None)
                self._offsets.remove_group(record.group_id)

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """See `StateMachine`."""
        yield from self._records.values()
        yield from self._offsets.snapshot()

    def reset(self) -> None:
        """See `StateMachine`. Waiting joins and syncs fail with NotCoordinator."""
        for group_id in list(self._live):
            self._drop(group_id)
        self._clear_records()

    def start(self) -> None:
        """Start the sessions of all members, and the timer that deletes expired offsets. Called after each
        load of the state."""
        for group_id, record in self._records.items():
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
            record = self._records.get(group_id)
            if record is None and not self._offsets.has(group_id):
                return None
            group = self._live[group_id] = ClassicGroup(group_id, record)
            self._rebalancer.start_sessions(group)
        return group

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
        decision = Decision()
        for member in group.close():
            member.reject(decision, _not_coordinator("the group was loaded again"))
        if decision.replies:
            self._clock.call_soon(lambda: _send_replies(decision, None))

    def _decide(self, group_id: str, action: Callable[[Decision], T]) -> Promise[T]:
        """Run `action` now. Its result, and the replies of its decision, follow when its records are
        durable."""
        decision = Decision()

        def decide() -> tuple[Sequence[msgspec.Struct], T]:
            reply = action(decision)
            return decision.records, reply

        written = self.runtime.write(decide)
        self._drop_if_unused(group_id)
        written.then(lambda done: self._on_written(group_id, decision, done.error))
        return _with_retriable_error(written)

    def _on_written(self, group_id: str, decision: Decision, error: BaseException | None) -> None:
        if error is None or isinstance(error, CoordinatorError):
            _send_replies(decision, None)
            return
        # The decision changed the live group and is void: build the group again from its record.
        self._drop(group_id)
        if self.runtime.fenced is None:
            self._find(group_id)
        _send_replies(decision, _not_coordinator(str(error)))

    def _drop_if_unused(self, group_id: str) -> None:
        group = self._live.get(group_id)
        if (
            group is not None
            and group.is_unused
            and group_id not in self._records
            and not self._offsets.has(group_id)
        ):
            group.close()
            del self._live[group_id]

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
        decided.then(lambda done: _fail_if_waiting(reply, done.error))
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

        self._decide(request.group_id, sync).then(lambda done: _fail_if_waiting(reply, done.error))
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

        def read() -> Listings:
            listings = []
            for group_id in sorted(self._ids()):
                group = self._find(group_id)
                assert group is not None, "each known id is the id of a group"
                listing = group.listing()
                if wanted_states and listing.state.value.lower() not in wanted_states:
                    continue
                if not wanted_types or listing.type in wanted_types:
                    listings.append(listing)
            return listings

        return self._read("", read)

    def describe(self, group_ids: Sequence[str]) -> Promise[Views]:
        """The groups with their members; None for one that does not exist."""

        def read() -> Views:
            groups = [self._find(group_id) for group_id in group_ids]
            return [None if group is None else group.view() for group in groups]

        return self._read("", read)

    def _ids(self) -> set[str]:
        return {*self._live, *self._records, *self._offsets.groups()}

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
        if group is None:
            # No member ever joined the group: only a consumer with manual assignment or a tool can commit to
            # it. The first offset creates it.
            group = ClassicGroup(request.group_id)
            if request.generation >= 0:
                raise IllegalGeneration(f"there is no group {request.group_id}")
        member = group.check_commit(committer)
        if member is not None:
            self._rebalancer.extend_session(group, member)
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
        return self._decide(
            "", lambda decision: decision.records.extend(self._offsets.topic_deletion_records(topic_id))
        )

    def clamp_to_log_end(self, end_of: Callable[[UUID, int], int]) -> Promise[int]:
        """Set committed offsets beyond the end of their partition back to that end. The promise has their
        number. After a power cut with durability=os the offsets of lost events are assigned again, and a
        group that had read the lost events must not miss the new ones."""

        def clamp(decision: Decision) -> int:
            records = self._offsets.clamp_records(end_of)
            decision.records += records
            return sum(len(record.offsets) for record in records)

        return self._decide("", clamp)

    # --- expiry -------------------------------------------------------------------------------------------

    def _expire(self) -> None:
        self._clock.call_later(EXPIRY_INTERVAL_S, self._expire)
        self._expire_some(sorted(self._ids()))

    def _expire_some(self, group_ids: Sequence[str]) -> None:
        for group_id in group_ids[:EXPIRY_GROUPS_PER_TURN]:
            self._decide(group_id, partial(self._expire_group, group_id))
        remaining = group_ids[EXPIRY_GROUPS_PER_TURN:]
        if remaining:
            self._clock.call_soon(lambda: self._expire_some(remaining))

    def _expire_group(self, group_id: str, decision: Decision) -> None:
        group = self._find(group_id)
        if group is None:
            return
        retention_ms = self._settings.offsets_retention_minutes * 60_000
        records = self._offsets.expiry_records(group, self._clock.wall_ms(), retention_ms)
        left_count = self._offsets.count(group_id) - sum(len(record.partitions) for record in records)
        assert left_count >= 0, "only committed offsets expire"
        if group.is_unused and not left_count:
            self._delete(decision, group)
        else:
            decision.records += records


def _not_coordinator(reason: str) -> NotCoordinator:
    return NotCoordinator(f"look for the coordinator again: {reason}")


def _send_replies(decision: Decision, failure: CoordinatorError | None) -> None:
    replies, decision.replies = decision.replies, []
    for reply in replies:
        reply.send(failure)


def _fail_if_waiting(reply: Promise[Any], error: BaseException | None) -> None:
    """Fail a request whose decision did not become durable, unless it has failed already because its group
    was dropped."""
    if error is not None and not reply.done:
        reply.fail(error)


def _with_retriable_error(written: Promise[T]) -> Promise[T]:
    """`written`, with NotCoordinator in place of an error of the disk: clients find the coordinator and
    retry."""
    if written.done and (written.error is None or isinstance(written.error, CoordinatorError)):
        return written
    translated: Promise[T] = Promise()

    def on_done(done: Promise[T]) -> None:
        if done.error is None or isinstance(done.error, CoordinatorError):
            translated.copy_result(done)
        else:
            translated.fail(_not_coordinator(str(done.error)))

    written.then(on_done)
    return translated
