"""The state machine of share groups: members, their epochs, and their assignments.

A share group is a subscription (`coordinator/queues`), which its first member creates, and whose topics are
all those to which a member has subscribed; it runs on the same state log, so that a heartbeat and what
follows for the subscription are one batch. What the members say of themselves and the epoch of the group
survive a restart. Sessions and assignments are soft: after a start each member is sent its partitions anew.

Owns: which members there are. Refuses: deliveries, for which no membership is asked, as in Kafka; expiry: a
share group stays until it is deleted.

Semantics: Apache Kafka 4.4 (KIP-932). An assignment is made at once, where Kafka waits for the partitions to
be initialized; and a member that may have missed a reply is sent its assignment again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from mainstem.clock import Clock
from mainstem.coordinator.errors import (
    GroupFull,
    GroupIdNotFound,
    NonEmptyGroup,
    TooManySubscriptions,
    UnknownMember,
)
from mainstem.coordinator.groups import simple_assignor
from mainstem.coordinator.groups.assignment_runs import AssignmentRuns
from mainstem.coordinator.groups.epoch_group import EpochGroup, EpochMember, MemberFacts, by_topic
from mainstem.coordinator.groups.epoch_sessions import EpochSessions
from mainstem.coordinator.groups.group_settings import GroupSettings
from mainstem.coordinator.groups.groups import Groups
from mainstem.coordinator.groups.memory import GROUP_BYTES_MAX
from mainstem.coordinator.groups.replies import with_retriable_error
from mainstem.coordinator.groups.share_requests import check_heartbeat, facts_of
from mainstem.coordinator.groups.share_types import (
    LEAVE_EPOCH,
    SHARE,
    ShareGroupEpoch,
    ShareGroupForgotten,
    ShareGroupMember,
    ShareGroupView,
    ShareHeartbeat,
    ShareHeartbeatReply,
    ShareMemberSaved,
    ShareMembersGone,
)
from mainstem.coordinator.groups.types import GroupListing, GroupState
from mainstem.coordinator.queues.records import SubscriptionConfigured, ViewEnded
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.coordinator.topics.topics import TopicMetadata, Topics
from mainstem.log.errors import StorageError
from mainstem.promise import Promise
from mainstem.settings import Settings

RETRY_S = 1.0
"""Time after which a member whose session is over is removed, when the disk has refused the record."""
VIEWS_MAX = 500_000
"""Partitions that share groups may read, counted with those of other subscriptions. Each takes 4 KB of
memory."""

Records = list[msgspec.Struct]
Listings = list[GroupListing]
Views = list[ShareGroupView | GroupIdNotFound]


class ShareGroups:
    """The state machine of share groups. `runtime`, that of the state log of queues, is set once, before the
    first write; `start` is called after each load of the state."""

    RECORDS: ClassVar[tuple[type[msgspec.Struct], ...]] = (
        ShareMemberSaved,
        ShareMembersGone,
        ShareGroupEpoch,
        ShareGroupForgotten,
    )
    runtime: Runtime

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        topics: Topics,
        subscriptions: Subscriptions,
        group_settings: GroupSettings,
        classic_groups: Groups,
    ) -> None:
        self._clock = clock
        self._topics = topics
        self._subscriptions = subscriptions
        self.settings = group_settings
        self._memory = classic_groups.memory
        self._classic_groups = classic_groups
        classic_groups.has_other_kind = lambda name: self.find(name) is not None
        self._max_members = settings.group_share_max_size
        self._sessions = EpochSessions(clock, self._on_session_end)
        self._assignments = AssignmentRuns(clock, self._size_of, self._on_assigned)
        self.on_member_gone: list[Callable[[str, str], None]] = []
        """Callbacks for a member that has left its group, or was removed: (group, member id). Durable."""
        self.on_subscribed: list[Callable[[str], None]] = []
        """Callbacks for a group that may read further partitions. Durable."""
        self._groups: dict[str, EpochGroup] = {}
        self._subscribed: dict[str, set[str]] = {}
        """Topic name -> the groups with members that subscribe to it."""
        topics.on_grown.append(self._on_topic_changed)
        topics.on_deleted.append(self._on_topic_changed)
        subscriptions.records_of_deletion = self._records_of_deletion

    # --- the state machine --------------------------------------------------------------------------------

    def reset(self) -> None:
        """See `StateMachine`."""
        for group in self._groups.values():
            group.close()
            self._memory.forget(group)
        self._groups.clear()
        self._subscribed.clear()

    def apply(self, record: Any) -> None:
        """See `StateMachine`. KeyError: the record is about what does not exist."""
        match record:
            case ShareMemberSaved(group_id=group_id, epoch=epoch, member=facts):
                group = self._groups.get(group_id)
                if group is None:
                    group = self._groups[group_id] = EpochGroup(group_id)
                before = set(group.subscribers)
                group.put(facts)
                self._changed(group, epoch, before)
            case ShareMembersGone(group_id=group_id, epoch=epoch, member_ids=member_ids):
                group = self._groups[group_id]
                before = set(group.subscribers)
                for member_id in member_ids:
                    group.remove(member_id)
                self._changed(group, epoch, before)
            case ShareGroupEpoch(group_id=group_id, epoch=epoch):
                group = self._groups.setdefault(group_id, EpochGroup(group_id))
                self._changed(group, epoch, set(group.subscribers))
            case ShareGroupForgotten(group_id=group_id):
                forgotten = self._groups.pop(group_id)
                forgotten.close()
                self._memory.forget(forgotten)

    def _changed(self, group: EpochGroup, epoch: int, subscribers_before: set[str]) -> None:
        if epoch != group.epoch:
            group.is_stale = False
        group.epoch = epoch
        for name in group.subscribers.keys() - subscribers_before:
            self._subscribed.setdefault(name, set()).add(group.group_id)
        for name in subscribers_before - group.subscribers.keys():
            self._subscribed[name].discard(group.group_id)
            if not self._subscribed[name]:
                del self._subscribed[name]
        self._memory.update(group)

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """See `StateMachine`."""
        groups = [
            (group.group_id, group.epoch, [member.facts for member in group.members.values()])
            for group in self._groups.values()
        ]

        def records() -> Iterator[msgspec.Struct]:
            for group_id, epoch, members in groups:
                yield ShareGroupEpoch(group_id, epoch)
                for facts in members:
                    yield ShareMemberSaved(group_id, epoch, facts)

        return records()

    def start(self) -> None:
        """The state was loaded: start the sessions of all members."""
        for group in self._groups.values():
            group.forget_epochs()
            timeout_ms = self.settings.of(group.group_id).session_timeout_ms
            for member in group.members.values():
                self._sessions.start(group, member, timeout_ms)

    # --- reading ------------------------------------------------------------------------------------------

    def find(self, group_id: str) -> SubscriptionMetadata | None:
        """The subscription that is the share group of that name; None: there is no such share group. It may
        not be durable yet."""
        return self._subscriptions.share_group(group_id)

    def has_members(self, group_id: str) -> bool:
        """Whether the group has members."""
        group = self._groups.get(group_id)
        return group is not None and bool(group.members)

    def member(self, group_id: str, member_id: str) -> ShareGroupMember | None:
        """A member as it is now."""
        group = self._groups.get(group_id)
        member = None if group is None else group.members.get(member_id)
        return None if member is None else _shown(member)

    def list(self, states: Iterable[str] = (), types: Iterable[str] = ()) -> Promise[Listings]:
        """All share groups by name, or those in one of these states and of one of these types: Kafka's
        names, in upper or lower case."""
        wanted_states, wanted_types = ({name.lower() for name in names} for names in (states, types))
        if wanted_types and SHARE not in wanted_types:
            return self.runtime.read([])
        listings = [
            GroupListing(subscription.name, SHARE, self._state_of(subscription.name), SHARE)
            for subscription in self._subscriptions.all()
            if subscription.kind == "share group"
        ]
        return self.runtime.read(
            [group for group in listings if not wanted_states or group.state.value.lower() in wanted_states]
        )

    def _state_of(self, group_id: str) -> GroupState:
        return GroupState.STABLE if self.has_members(group_id) else GroupState.EMPTY

    def describe(self, group_ids: Sequence[str]) -> Promise[Views]:
        """The groups with their members, or why there is none."""
        return self.runtime.read([self.view(group_id) for group_id in group_ids])

    def view(self, group_id: str) -> ShareGroupView | GroupIdNotFound:
        """A group with its members, or why there is none. It may not be durable yet."""
        if self.find(group_id) is None:
            return self._not_found(group_id)
        group = self._groups.get(group_id) or EpochGroup(group_id)
        return ShareGroupView(
            group_id=group_id,
            state=self._state_of(group_id),
            epoch=group.epoch,
            assignment_epoch=group.assignment_epoch if group.members else group.epoch,
            assignor=simple_assignor.NAME,
            members=tuple(_shown(member) for member in group.members.values()),
        )

    def _not_found(self, group_id: str) -> GroupIdNotFound:
        if self._is_taken(group_id):
            return GroupIdNotFound(f"Group {group_id} is not a share group.")
        return GroupIdNotFound(f"Group {group_id} not found.")

    # --- heartbeats ---------------------------------------------------------------------------------------

    def heartbeat(self, request: ShareHeartbeat) -> Promise[ShareHeartbeatReply]:
        """Let a member join (epoch 0), show that it is alive, subscribe to other topics, or leave (epoch -1).
        Fails with InvalidRequest, GroupIdNotFound, UnknownMember, FencedMember, GroupFull,
        TooManySubscriptions, CoordinatorLoading, NotCoordinator."""
        if request.member_epoch == LEAVE_EPOCH:
            return self._leave(request)
        is_decided = reads_more = False

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            nonlocal is_decided, reads_more
            records = self._heartbeat_records(request)
            is_decided = True
            reads_more = bool(records)
            return records, None

        written = self.runtime.write(decide)
        if not is_decided or (written.done and written.error is not None):
            return with_retriable_error(written).map(lambda _: _unreachable())
        group, settings = self._groups[request.group_id], self.settings.of(request.group_id)
        assigned = self._assignments.assign(group, settings.assignment_interval_ms)
        answered = assigned.map(lambda _: self._answer(request))
        if reads_more:
            written.then(lambda done: self._notify(done, self.on_subscribed, request.group_id))
        return with_retriable_error(written.chain(lambda _: answered))

    def _heartbeat_records(self, request: ShareHeartbeat) -> Records:
        check_heartbeat(request)
        group_id = request.group_id
        subscription = self.find(group_id)
        if subscription is None and (request.member_epoch or self._is_taken(group_id)):
            raise self._not_found(group_id)
        group = self._groups.get(group_id) or EpochGroup(group_id)
        known = group.members.get(request.member_id)
        if known is not None or request.member_epoch:
            group.member_at(request.member_id, request.member_epoch)
        elif len(group.members) >= self._max_members:
            raise GroupFull(
                f"The share group has reached its maximum capacity of {self._max_members} members."
            )
        facts = facts_of(request, None if known is None else known.facts)
        if known is not None and known.facts == facts and not group.is_stale:
            return []
        self._check_memory(group, facts, is_new=known is None)
        topics_changed = known is None or known.facts.topics != facts.topics
        epoch = group.epoch + (topics_changed or group.is_stale)
        is_same = known is not None and known.facts == facts
        saved = ShareGroupEpoch(group_id, epoch) if is_same else ShareMemberSaved(group_id, epoch, facts)
        existing = [name for name in facts.topics if self._topics.get(name) is not None]
        return [*self._subscription_records(subscription, group_id, existing), saved]

    def _is_taken(self, name: str) -> bool:
        """Whether something else than a share group has the name."""
        return self._classic_groups.is_known(name) or (
            self._subscriptions.find(name) is not None and self.find(name) is None
        )

    def _check_memory(self, group: EpochGroup, facts: MemberFacts, *, is_new: bool) -> None:
        more = group.more_bytes(facts, self._size_of)
        if more <= 0:
            return
        if group.memory_bytes + more > GROUP_BYTES_MAX:
            raise GroupFull(
                f"The members of share group {group.group_id} and their subscriptions take too much"
            )
        self._memory.check(group, more, is_new=is_new)

    def _subscription_records(
        self, subscription: SubscriptionMetadata | None, group_id: str, existing: Sequence[str]
    ) -> Records:
        """Create the subscription, or add topics to it, which exist, and which it may have."""
        known = () if subscription is None else subscription.settings.topics
        self._check_views([name for name in existing if name not in known])
        if subscription is None:
            made = replace(self.settings.of_new_subscription(group_id), topics=tuple(existing))
            return [self._subscriptions.creation(group_id, made, "share group")]
        settings = _with_topics(subscription.settings, existing)
        return (
            [] if settings == subscription.settings else [SubscriptionConfigured(subscription.id, settings)]
        )

    def _check_views(self, topics: Sequence[str]) -> None:
        """Check that the server may have a view of each partition of further topics. TooManySubscriptions."""
        more = sum(size[1] for name in topics if (size := self._size_of(name)) is not None)
        if more and self._subscriptions.views.count + more > VIEWS_MAX:
            raise TooManySubscriptions(
                f"all share groups and subscriptions together read {VIEWS_MAX:,} partitions at most"
            )

    def _answer(self, request: ShareHeartbeat) -> ShareHeartbeatReply:
        """Let the member have the present assignment. The records of the heartbeat are applied.
        UnknownMember: the member has left, or the state was loaded again, while the first assignment was
        made."""
        group = self._groups.get(request.group_id)
        member = None if group is None else group.members.get(request.member_id)
        if group is None or member is None or not group.assignment_epoch:
            raise UnknownMember(f"Member {request.member_id} is not a member of group {request.group_id}.")
        settings = self.settings.of(request.group_id)
        is_unknown = member.member_epoch is None
        is_new = group.reconcile(member)
        self._sessions.start(group, member, settings.session_timeout_ms)
        assert member.member_epoch is not None, "a member that is answered has an epoch"
        is_full = request.topics is not None or request.member_epoch != member.member_epoch
        return ShareHeartbeatReply(
            member_id=request.member_id,
            member_epoch=member.member_epoch,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
            assignment=by_topic(member.assignment) if is_new or is_unknown or is_full else None,
        )

    def _size_of(self, name: str) -> tuple[UUID, int] | None:
        topic = self._topics.get(name)
        return None if topic is None else (topic.id, topic.partitions)

    def _on_assigned(self, group: EpochGroup) -> None:
        if self._groups.get(group.group_id) is group:
            self._memory.update(group)

    def _on_topic_changed(self, topic: TopicMetadata) -> None:
        for group_id in self._subscribed.get(topic.name, ()):
            self._groups[group_id].is_stale = True

    # --- the end of a membership --------------------------------------------------------------------------

    def _leave(self, request: ShareHeartbeat) -> Promise[ShareHeartbeatReply]:
        group_id, member_id = request.group_id, request.member_id

        def decide() -> tuple[Sequence[msgspec.Struct], ShareHeartbeatReply]:
            check_heartbeat(request)
            if self.find(group_id) is None:
                raise self._not_found(group_id)
            group = self._groups.get(group_id)
            if group is None or member_id not in group.members:
                raise UnknownMember(f"Member {member_id} is not a member of group {group_id}.")
            record = ShareMembersGone(group_id, group.epoch + 1, (member_id,))
            return (record,), ShareHeartbeatReply(member_id=member_id, member_epoch=LEAVE_EPOCH)

        left = self.runtime.write(decide)
        left.then(lambda done: self._notify(done, self.on_member_gone, group_id, member_id))
        return with_retriable_error(left)

    def _on_session_end(self, group: EpochGroup, member: EpochMember) -> None:
        group_id, member_id = group.group_id, member.facts.member_id

        def is_current() -> bool:
            return self._groups.get(group_id) is group and group.members.get(member_id) is member

        def decide() -> tuple[Sequence[msgspec.Struct], bool]:
            if not is_current():
                return (), False
            return (ShareMembersGone(group_id, group.epoch + 1, (member_id,)),), True

        def on_removed(done: Promise[bool]) -> None:
            if done.error is None:
                if done.result():
                    self._notify(done, self.on_member_gone, group_id, member_id)
            elif isinstance(done.error, StorageError):
                self._clock.call_later(RETRY_S, retry)
            else:
                raise done.error

        def retry() -> None:
            if is_current() and member.deadline_s <= self._clock.monotonic():
                self._on_session_end(group, member)

        self.runtime.write(decide).then(on_removed)

    @staticmethod
    def _notify(done: Promise[Any], callbacks: Sequence[Callable[..., None]], *arguments: str) -> None:
        if done.error is None:
            for callback in list(callbacks):
                callback(*arguments)

    def _records_of_deletion(self, subscription: SubscriptionMetadata) -> Records:
        if self.has_members(subscription.name):
            raise NonEmptyGroup(f"share group {subscription.name} has members")
        is_known = subscription.kind == "share group" and subscription.name in self._groups
        return [ShareGroupForgotten(subscription.name)] if is_known else []

    def delete(self, group_id: str) -> Promise[None]:
        """Delete a group without members, and what its subscription knows. What is set for its name stays.
        Fails with GroupIdNotFound, NonEmptyGroup, NotCoordinator."""
        if self.find(group_id) is None:
            missing = self._not_found(group_id)
            return with_retriable_error(self.runtime.read(None)).chain(lambda _: Promise.failed(missing))
        return with_retriable_error(self._subscriptions.delete(group_id).map(lambda _: None))

    # --- topics --------------------------------------------------------------------------------------------

    def begin_without_members(self, group_id: str, names: Iterable[str]) -> Promise[None]:
        """Let a group that has no members read topics, as if one had subscribed to them; create it, if it
        does not exist. Fails with GroupIdNotFound (the name is taken by something else), NonEmptyGroup,
        TooManySubscriptions, StorageError."""
        existing = [name for name in names if self._topics.get(name) is not None]

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            subscription = self.find(group_id)
            if subscription is None and self._is_taken(group_id):
                raise self._not_found(group_id)
            if self.has_members(group_id):
                raise NonEmptyGroup(f"share group {group_id} has members")
            return self._subscription_records(subscription, group_id, existing), None

        return self.runtime.write(decide)

    def forget_topics(self, group_id: str, names: Iterable[str]) -> Promise[None]:
        """Forget what a group without members knows about topics: it begins in them anew. Fails with
        GroupIdNotFound, NonEmptyGroup, StorageError."""
        forgotten = set(names)

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            subscription = self._require(group_id)
            if self.has_members(group_id):
                raise NonEmptyGroup(f"share group {group_id} has members")
            topics = tuple(name for name in subscription.settings.topics if name not in forgotten)
            ids = {topic.id for name in forgotten if (topic := self._topics.get(name)) is not None}
            records: Records = [
                ViewEnded(view.id)
                for view in self._subscriptions.views.of_subscription(subscription.id)
                if view.topic_id in ids
            ]
            if topics != subscription.settings.topics:
                settings = replace(subscription.settings, topics=topics)
                records.append(SubscriptionConfigured(subscription.id, settings))
            return records, None

        return self.runtime.write(decide)

    def _require(self, group_id: str) -> SubscriptionMetadata:
        subscription = self.find(group_id)
        if subscription is None:
            raise self._not_found(group_id)
        return subscription


def _unreachable() -> ShareHeartbeatReply:
    raise AssertionError("a heartbeat that was not decided fails")


def _with_topics(settings: Any, names: Iterable[str]) -> Any:
    return replace(settings, topics=tuple(dict.fromkeys((*settings.topics, *names))))


def _shown(member: EpochMember) -> ShareGroupMember:
    return ShareGroupMember(
        facts=member.facts,
        member_epoch=member.member_epoch or 0,
        assignment=by_topic(member.assignment),
    )
