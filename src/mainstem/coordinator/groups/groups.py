"""Consumer groups: the machine that doors and tools talk to.

Owns: what is remembered of groups (the last record of each, and its offsets), the live groups beside that,
and the way from a decision to a durable answer. A request is decided as one step: its records are written,
its answers wait for the disk. If the disk refuses, the live group is thrown away and made again from what is
recorded; whoever waited is told to look for the coordinator again, which every client does. Refuses: the
rules of groups (`rebalancer.py`, `group.py`) and of offsets (`offsets.py`). Doors, engines and the node
call it.

After a restart members keep their assignment, with a fresh session timeout; joins in progress and member ids
that were handed out but not used are forgotten.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
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
"""How often old offsets are looked for (Kafka's offsets.retention.check.interval.ms)."""
EXPIRY_GROUPS_MAX = 500
"""Groups looked at in one turn of the loop."""

T = TypeVar("T")
MemberErrors = list[CoordinatorError | None]
Listings = list[GroupListing]
Views = list[GroupView | None]
Fetched = list[TopicOffsets]


class Groups:
    """The machine of consumer groups. `runtime` is set once, before the first request; `start` follows every
    load."""

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
        self._rules = GroupRebalancer(settings, clock, rng, self._submit)
        self._live: dict[str, ClassicGroup] = {}
        self._started = False
        self._forget()

    def _forget(self) -> None:
        self._saved: dict[str, GroupRecord] = {}
        self._offsets = CommittedOffsets(self._topics, self._settings.offset_metadata_max_bytes)

    # --- the machine ----------------------------------------------------------------------------------------

    def apply(self, record: Any) -> None:
        """Change what is remembered."""
        match record:
            case GroupRecord():
                self._saved[record.group_id] = record
            case OffsetsCommitted():
                self._offsets.apply_commit(record)
            case OffsetsDeleted():
                self._offsets.apply_deletion(record)
            case GroupTombstone():
                self._saved.pop(record.group_id, None)
                self._offsets.remove_group(record.group_id)

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """What is remembered."""
        yield from self._saved.values()
        yield from self._offsets.snapshot()

    def reset(self) -> None:
        """Forget everything; parked joins and syncs are told to look for the coordinator again."""
        for group_id in list(self._live):
            self._drop(group_id)
        self._forget()

    def start(self) -> None:
        """The state is loaded: sessions begin, old offsets are looked for from now on."""
        for group_id, saved in self._saved.items():
            if saved.members:
                group = self._find(group_id)
                if group is not None and len(group.members) > self._settings.group_max_size:
                    self._submit(group, lambda step, group=group: self._shrink(step, group))  # type: ignore[misc]
        if not self._started:
            self._started = True
            self._clock.call_later(EXPIRY_INTERVAL_S, self._expire)

    def _shrink(self, step: Decision, group: ClassicGroup) -> None:
        self._rules.prepare_rebalance(
            step, group, f"more than {self._settings.group_max_size} members after a restart"
        )

    # --- from decision to answer ----------------------------------------------------------------------------

    def _find(self, group_id: str) -> ClassicGroup | None:
        group = self._live.get(group_id)
        if group is None:
            saved = self._saved.get(group_id)
            if saved is None and not self._offsets.has(group_id):
                return None
            group = self._live[group_id] = ClassicGroup(group_id, saved)
            self._rules.start_sessions(group)
        return group

    def _known(self, group_id: str) -> ClassicGroup:
        """The group of a member. UnknownMember: there is none, so nobody can be in it."""
        if not group_id:
            raise InvalidGroupId("the group has no name")
        group = self._find(group_id)
        if group is None:
            raise UnknownMember(f"there is no group {group_id}")
        return group

    def _drop(self, group_id: str) -> None:
        """Throw the live group away. Those who wait are told in the next turn, when all is consistent
        again."""
        group = self._live.pop(group_id, None)
        if group is None:
            return
        step = Decision()
        for member in group.close():
            member.reject(step, _moved("the group was loaded again"))
        if step.replies:
            self._clock.call_soon(lambda: _give(step, None))

    def _step(self, group_id: str, act: Callable[[Decision], T]) -> Promise[T]:
        """Decide now; the reply, and the step's answers, when all is durable."""
        step = Decision()

        def decide() -> tuple[Sequence[msgspec.Struct], T]:
            reply = act(step)
            return step.records, reply

        done = self.runtime.write(decide)
        self._drop_if_unused(group_id)
        done.then(lambda later: self._settled(group_id, step, later.error))
        return _retriable(done)

    def _settled(self, group_id: str, step: Decision, error: BaseException | None) -> None:
        if error is None or isinstance(error, CoordinatorError):
            _give(step, None)
            return
        # What the step did to the live group did not happen: make it again from the records.
        self._drop(group_id)
        if self.runtime.fenced is None:
            self._find(group_id)
        _give(step, _moved(str(error)))

    def _drop_if_unused(self, group_id: str) -> None:
        group = self._live.get(group_id)
        if (
            group is not None
            and group.is_unused
            and group_id not in self._saved
            and not self._offsets.has(group_id)
        ):
            group.close()
            del self._live[group_id]

    def _submit(self, group: ClassicGroup, act: GroupAction) -> None:
        """A timer's act, as a step. A timer of a group that was thrown away comes to nothing."""
        if self._live.get(group.group_id) is group:
            self._step(group.group_id, act)

    def _read(self, group_id: str, tell: Callable[[], T]) -> Promise[T]:
        return self._step(group_id, lambda _: tell())

    # --- membership -----------------------------------------------------------------------------------------

    def join(self, request: JoinRequest) -> Promise[JoinReply]:
        """Into the next generation; answered when it begins. Fails with InvalidGroupId,
        InvalidSessionTimeout, GroupFull, InconsistentProtocol, MemberIdRequired, UnknownMember,
        FencedInstance, RebalanceInProgress (a newer join took its place), NotCoordinator."""
        waiting: Promise[JoinReply] = Promise()
        self._step(request.group_id, lambda step: self._join(step, request, waiting)).then(
            lambda done: _fail(waiting, done.error)
        )
        return waiting

    def _join(self, step: Decision, request: JoinRequest, waiting: Promise[JoinReply]) -> None:
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
        self._rules.join(step, group, request, waiting)

    def sync(self, request: SyncRequest) -> Promise[SyncReply]:
        """The member's assignment; answered when the leader has brought it. Fails with InvalidGroupId,
        UnknownMember, FencedInstance, IllegalGeneration, InconsistentProtocol, RebalanceInProgress,
        NotCoordinator."""
        waiting: Promise[SyncReply] = Promise()

        def act(step: Decision) -> None:
            self._rules.sync(step, self._known(request.group_id), request, waiting)

        self._step(request.group_id, act).then(lambda done: _fail(waiting, done.error))
        return waiting

    def heartbeat(self, beat: Heartbeat) -> Promise[None]:
        """The member lives. Fails with InvalidGroupId, UnknownMember, FencedInstance, IllegalGeneration,
        RebalanceInProgress, NotCoordinator."""
        return self._read(beat.group_id, lambda: self._rules.heartbeat(self._known(beat.group_id), beat))

    def leave(self, group_id: str, leaving: Sequence[LeaveRequest]) -> Promise[MemberErrors]:
        """Members go; a verdict on each: UnknownMember, FencedInstance. Fails with InvalidGroupId,
        NotCoordinator."""
        return self._step(group_id, lambda step: self._leave(step, group_id, leaving))

    def _leave(self, step: Decision, group_id: str, leaving: Sequence[LeaveRequest]) -> MemberErrors:
        try:
            group = self._known(group_id)
        except UnknownMember as error:
            return [error] * len(leaving)
        verdicts: MemberErrors = []
        for one in leaving:
            try:
                self._rules.leave(step, group, one)
            except CoordinatorError as error:
                verdicts.append(error)
            else:
                verdicts.append(None)
        if None in verdicts:
            self._rules.rebalance_after_leave(step, group, "members left")
        return verdicts

    # --- views ----------------------------------------------------------------------------------------------

    def list(self, states: Iterable[str] = (), types: Iterable[str] = ()) -> Promise[Listings]:
        """All groups by name; only those in one of `states`, of one of `types`, if any are given (Kafka's
        words, in any case)."""
        some_states = {state.lower() for state in states}
        some_types = {kind.lower() for kind in types}

        def tell() -> Listings:
            listings = []
            for group_id in sorted(self._ids()):
                group = self._find(group_id)
                assert group is not None
                one = group.listing()
                if some_states and one.state.value.lower() not in some_states:
                    continue
                if not some_types or one.type in some_types:
                    listings.append(one)
            return listings

        return self._read("", tell)

    def describe(self, group_ids: Sequence[str]) -> Promise[Views]:
        """Each group with its members; None if there is none."""

        def tell() -> Views:
            groups = [self._find(group_id) for group_id in group_ids]
            return [None if group is None else group.view() for group in groups]

        return self._read("", tell)

    def _ids(self) -> set[str]:
        return {*self._live, *self._saved, *self._offsets.groups()}

    def delete(self, group_id: str) -> Promise[None]:
        """Delete an empty group and its offsets. Fails with UnknownGroup, NonEmptyGroup, NotCoordinator."""
        return self._step(group_id, lambda step: self._delete(step, group_id))

    def _delete(self, step: Decision, group_id: str) -> None:
        group = self._find(group_id)
        if group is None:
            raise GroupIdNotFound(f"there is no group {group_id}")
        if group.state is not GroupState.EMPTY:
            raise NonEmptyGroup(f"group {group_id} has members")
        self._bury(step, group)

    def _bury(self, step: Decision, group: ClassicGroup) -> None:
        group.transition(GroupState.DEAD)
        group.close()
        del self._live[group.group_id]
        step.records.append(GroupTombstone(group.group_id))

    # --- offsets --------------------------------------------------------------------------------------------

    def commit(self, request: CommitRequest) -> Promise[PartitionErrors]:
        """Keep offsets; a verdict on each partition: UnknownTopicOrPartition, UnknownTopicId,
        OffsetMetadataTooLarge.
        Fails with UnknownMember, FencedInstance, IllegalGeneration, RebalanceInProgress, NotCoordinator."""
        return self._step(request.group_id, lambda step: self._commit(step, request))

    def _commit(self, step: Decision, request: CommitRequest) -> PartitionErrors:
        beat = Heartbeat(
            group_id=request.group_id,
            member_id=request.member_id,
            generation=request.generation,
            instance_id=request.instance_id,
        )
        group = self._find(request.group_id)
        if group is None:
            # A group that nobody ever joined: only a simple consumer or a tool can mean it. It comes into
            # being by its first offset.
            group = ClassicGroup(request.group_id)
            if request.generation >= 0:
                raise IllegalGeneration(f"there is no group {request.group_id}")
        member = group.check_commit(beat)
        if member is not None:
            self._rules.extend_session(group, member)
        records, verdicts = self._offsets.commit(request, self._clock.wall_ms())
        step.records += records
        return verdicts

    def fetch_offsets(
        self, group_id: str, wanted: Sequence[tuple[TopicRef, Sequence[int]]] | None = None
    ) -> Promise[Fetched]:
        """Committed offsets, for all partitions if none are named. Fails with NotCoordinator."""
        return self._read(group_id, lambda: self._offsets.fetch(group_id, wanted))

    def delete_offsets(
        self, group_id: str, wanted: Sequence[tuple[TopicRef, Sequence[int]]]
    ) -> Promise[PartitionErrors]:
        """Forget offsets that no member reads on from; a verdict on each partition: UnknownTopicOrPartition,
        GroupSubscribed. Fails with UnknownGroup, NonEmptyGroup, NotCoordinator."""

        def act(step: Decision) -> PartitionErrors:
            group = self._find(group_id)
            if group is None:
                raise GroupIdNotFound(f"there is no group {group_id}")
            group.check_offset_delete()
            records, verdicts = self._offsets.delete(group, wanted)
            step.records += records
            return verdicts

        return self._step(group_id, act)

    def delete_topic_offsets(self, topic_id: UUID) -> Promise[None]:
        """Forget the offsets of a topic that is gone. What a crash leaves behind expires at the next look."""
        return self._step(
            "", lambda step: step.records.extend(self._offsets.topic_deletion_records(topic_id))
        )

    def clamp_to_log_end(self, end_of: Callable[[UUID, int], int]) -> Promise[int]:
        """Set offsets after the end of their partition back to it; how many. Where a power cut took events
        away (durability=os), their offsets are given again, and a group that stood behind them must not miss
        the new events."""

        def act(step: Decision) -> int:
            records = self._offsets.clamp_records(end_of)
            step.records += records
            return sum(len(record.offsets) for record in records)

        return self._step("", act)

    # --- age ------------------------------------------------------------------------------------------------

    def _expire(self) -> None:
        self._clock.call_later(EXPIRY_INTERVAL_S, self._expire)
        self._expire_some(sorted(self._ids()))

    def _expire_some(self, group_ids: Sequence[str]) -> None:
        for group_id in group_ids[:EXPIRY_GROUPS_MAX]:
            self._step(group_id, lambda step, group_id=group_id: self._expire_group(step, group_id))  # type: ignore[misc]
        rest = group_ids[EXPIRY_GROUPS_MAX:]
        if rest:
            self._clock.call_soon(lambda: self._expire_some(rest))

    def _expire_group(self, step: Decision, group_id: str) -> None:
        group = self._find(group_id)
        if group is None:
            return
        retention_ms = self._settings.offsets_retention_minutes * 60_000
        gone = self._offsets.expiry_records(group, self._clock.wall_ms(), retention_ms)
        left = self._offsets.count(group_id) - sum(len(record.partitions) for record in gone)
        if group.is_unused and not left:
            self._bury(step, group)
        else:
            step.records += gone


def _moved(why: str) -> NotCoordinator:
    return NotCoordinator(f"look for the coordinator again: {why}")


def _give(step: Decision, failure: CoordinatorError | None) -> None:
    answers, step.replies = step.replies, []
    for answer in answers:
        answer.send(failure)


def _fail(waiting: Promise[Any], error: BaseException | None) -> None:
    """The step failed as a whole. Its request may have an answer already, if it was parked on a group that is
    gone."""
    if error is not None and not waiting.done:
        waiting.fail(error)


def _retriable(later: Promise[T]) -> Promise[T]:
    """A failed disk, in a word that makes every client find the coordinator and try again."""
    if later.done and (later.error is None or isinstance(later.error, CoordinatorError)):
        return later
    out: Promise[T] = Promise()

    def done(later: Promise[T]) -> None:
        error = later.error
        if error is None:
            out.resolve(later.result())
        elif isinstance(error, CoordinatorError):
            out.fail(error)
        else:
            out.fail(_moved(str(error)))

    later.then(done)
    return out
