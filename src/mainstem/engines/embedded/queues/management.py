"""Management of subscriptions: create, alter, describe, browse, seek, purge, redrive.

Owns: what these calls check and return. Refuses: deliveries (`service.py`). All methods raise errors of the
log and the coordinator, and StreamError.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Literal, get_args
from uuid import UUID

from mainstem.contract import InvalidArgument, Position, PositionOutOfRange, UnknownTopic
from mainstem.coordinator.queues.in_flight import FULL
from mainstem.coordinator.queues.kept_snapshots import KeptSnapshot
from mainstem.coordinator.queues.types import (
    SubscriptionMetadata,
    changed_settings,
    check_change,
    check_subscription_name,
)
from mainstem.engines.embedded.queues.pushing import push_problems
from mainstem.engines.embedded.queues.queue_feed import QueueFeed
from mainstem.engines.embedded.queues.redrive import dead_letters, redrivable, with_redrives
from mainstem.engines.embedded.queues.redrive_schedule import RedriveSchedule
from mainstem.engines.embedded.queues.retention import expiring_problem
from mainstem.engines.embedded.queues.routed_feed import RoutedFeed
from mainstem.engines.embedded.queues.service import QueueService
from mainstem.engines.embedded.queues.settings_checks import (
    check_delivery_settings,
    check_routed_settings,
    check_tokens,
)
from mainstem.engines.embedded.queues.states import ViewStates
from mainstem.engines.embedded.queues.subscription_queue import UNDONE, SubscriptionQueue
from mainstem.log.partition.commit_wait import when_end_committed
from mainstem.promise import gather
from mainstem.queue_contract import (
    BrowsedEvent,
    ConsumerInfo,
    DeadLetterInfo,
    EventState,
    QueueDepth,
    SnapshotInfo,
    SnapshotName,
    SubscriptionInfo,
    no_such_place,
)
from mainstem.queues.pages import PositionState
from mainstem.queues.runs import Run, count_positions, merge_runs
from mainstem.queues.settings import SubscriptionSettings
from mainstem.turns import next_turn, run_in_turns

BROWSE_EVENTS_MAX = 1_000
LEASES_OF_TURN = 2_000
"""Leases that are looked at in a turn of the loop, some 2 ms."""
PAGES_OF_TURN = 20
"""Pages of a named snapshot that are encoded in a turn of the loop."""


class QueueManagement:
    """Management of the subscriptions of a service."""

    def __init__(self, service: QueueService) -> None:
        self._service = service
        self._machine = service.machine
        self._node = service.node

    async def create(
        self,
        name: str,
        settings: SubscriptionSettings,
        check: Callable[[str], None] = check_subscription_name,
    ) -> None:
        """See `Queues.create_subscription`. `check`: the rules for its name."""
        self._check(name, settings)
        check_tokens(settings, self._node.settings.push_issuer)
        await self._machine.create(name, settings.by_name(), validate_only=True, check=check)
        self._check_topics(settings)
        await self._prepare(settings)
        await self._machine.create(name, settings.by_name(), check=check)
        await self._when_committed(self._service.queue(name))
        await self._service.queue(name).refresh(settings.topics)
        self._service.expiry.look_soon(self._service.queue(name))
        self._service.pushed.look_at(name)

    async def alter(
        self,
        name: str,
        settings: SubscriptionSettings,
        expected: SubscriptionSettings | None,
        *,
        dry_run: bool,
    ) -> None:
        """See `Queues.alter_subscription`."""
        stored = self._machine.get(name)
        old = stored.settings
        if settings.filter != old.filter:
            raise InvalidArgument("the filter of a subscription cannot be changed; create another one")
        check_change(stored, changed_settings(old, settings.by_name()), expected)
        if self._machine.topology.of_queue(self._machine.get(name).id) is None:
            self._check(name, settings)
        else:
            check_routed_settings(settings)
        if settings.push != old.push:
            check_tokens(settings, self._node.settings.push_issuer)
        # A topic that was deleted keeps no other setting from being changed.
        self._check_topics(settings, {*old.topics, old.dead_letter_topic})
        removed = self._removed_topics(name, settings)
        if dry_run:
            return
        await self._prepare(settings)
        changed = await self._machine.alter(name, settings.by_name(), removed, expected)
        queue = self._service.queue(name)
        await queue.refresh(set(settings.topics) - set(old.topics))
        self._service.after_release(changed.id)
        self._service.pushed.look_at(name)

    def _removed_topics(self, name: str, settings: SubscriptionSettings) -> set[UUID]:
        """The topics of which the subscription has views, and that it reads no more. InvalidArgument: some of
        their events wait for their dead letters."""
        removed: set[UUID] = set()
        for view in self._machine.views_of(name):
            topic = self._node.topics.by_id(view.topic_id)
            if topic is None or topic.name in settings.topics:
                continue
            if dying := view.sequence.counts().dying:
                raise InvalidArgument(
                    f"topic {topic.name} has {dying:,} events that are given up and have no dead letter yet;"
                    " wait for these, or purge the subscription"
                )
            removed.add(view.topic_id)
        return removed

    @staticmethod
    def _check(name: str, settings: SubscriptionSettings) -> None:
        # Only a queue of a namespace, which may have topics in place of routes, has a slash in its name.
        if settings.is_limited or (settings.dead_letters_to_sink and "/" not in name):
            raise InvalidArgument("only a queue of a namespace has limits, or hands over its dead letters")
        if not settings.topics and not settings.door_settings:
            raise InvalidArgument("a subscription has at least one topic")
        if len(set(settings.topics)) < len(settings.topics):
            raise InvalidArgument("a subscription names each topic once")
        if settings.priority_max:
            raise InvalidArgument("a subscription of topics has no priority_max: it has by_priority")
        check_delivery_settings(settings)

    def _check_topics(self, settings: SubscriptionSettings, unchanged: Set[str | None] = frozenset()) -> None:
        for topic in (*settings.topics, settings.dead_letter_topic):
            if topic is not None and topic not in unchanged and self._node.topics.get(topic) is None:
                raise UnknownTopic(f"topic {topic}: there is no such topic")

    async def _when_committed(self, queue: SubscriptionQueue) -> None:
        """Wait until what producers have appended to the topics can be read, so that the end is behind it."""
        partitions = [
            self._node.partition(topic, index)
            for name in queue.stored.settings.topics
            if (topic := self._node.topics.get(name)) is not None
            for index in range(self._node.topics.durable_partitions(topic))
        ]
        if self._node.stall_monitor.problem:
            return
        behind = [part for part in partitions if part.log_end_offset > part.high_watermark]
        await gather([when_end_committed(partition, self._node.clock) for partition in behind])

    async def _prepare(self, settings: SubscriptionSettings) -> None:
        if settings.pin_ms:
            await self._service.carried.create_topic()

    async def delete(self, name: str) -> None:
        """See `Queues.delete_subscription`."""
        await self._machine.delete(name)

    async def feeds(self, name: str) -> tuple[SubscriptionMetadata, list[QueueFeed]]:
        """The subscription, which is durable, and its feeds, by topic and partition."""
        queue = self._service.queue(name)
        stored = await self._node.queue_runtime.read(queue.stored)
        await queue.refresh()
        feeds = sorted(queue.feeds.values(), key=lambda feed: (feed.source.topic, feed.partition.index))
        for feed in feeds:
            await feed.trim()
            await feed.advance()
        await self._service.header_times.look_at_some([feed.view for feed in feeds])
        return stored, feeds

    async def describe(self, name: str) -> SubscriptionInfo:
        """See `Queues.subscription`."""
        stored, feeds = await self.feeds(name)
        depth = QueueDepth(0, 0, 0, 0, 0, 0)
        oldest: Position | None = None
        oldest_ms: int | None = None
        problems: list[str] = []
        expiring = 0
        consumers: dict[str, tuple[int, int | None, int]] = {}
        for feed in feeds:
            sequence = feed.view.sequence
            depth = _added(depth, feed)
            if feed.stall:
                problems.append(feed.stall)
            soon = await self._count_expiring(feed)
            if soon:
                problems.append(expiring_problem(_subject(feed), soon))
            expiring += soon
            known = await feed.oldest()
            if known is not None and (oldest_ms is None or known[1] < oldest_ms):
                oldest, oldest_ms = known
            for number, lease in enumerate(list(sequence.leases.by_word.values()), 1):
                leased, deadline_ms, leases = consumers.get(lease.consumer, (0, None, 0))
                times = [time for time in (deadline_ms, lease.deadline_ms) if time is not None]
                consumers[lease.consumer] = leased + lease.left, min(times, default=None), leases + 1
                if not number % LEASES_OF_TURN:
                    await next_turn(self._node.clock)
        # The writer waits up to 30 s after a problem, and events that were purged meanwhile have none.
        if depth.dying and (refused := self._service.dead_letters.problems.get(stored.id)):
            problems.insert(0, refused)
        if not all(self._machine.in_flight.has_room(feed.view) for feed in feeds):
            problems.append(FULL)
        report = self._service.pushed.report(name)
        problems += push_problems(report) if report is not None else []
        problems += self._missing_topics(stored, has_dying=bool(depth.dying))
        counters = self._service.counters[stored.id]
        return SubscriptionInfo(
            name=stored.name,
            settings=stored.settings,
            created_ms=stored.created_ms,
            depth=depth,
            oldest=oldest,
            oldest_ms=oldest_ms,
            consumers=tuple(self._consumer(name, *facts) for name, facts in sorted(consumers.items())),
            since_ms=self._service.since_ms,
            delivered=counters.delivered,
            redelivered=counters.redelivered,
            acked=counters.acked,
            failed=counters.failed,
            dead_lettered=counters.dead_lettered.total(),
            dropped=counters.dropped.total(),
            trimmed=counters.trimmed,
            expiring=expiring,
            unreadable=counters.unreadable + sum(feed.unreadable for feed in feeds),
            nacked=counters.nacked,
            rejected=counters.rejected,
            expired=counters.expired,
            active_consumer=self._service.queue(name).active_consumer,
            problems=tuple(problems),
            push=report,
        )

    def _consumer(self, name: str, leased: int, deadline_ms: int | None, leases: int) -> ConsumerInfo:
        shown_ms = None if deadline_ms is None else self._machine.lock_time.shown_ms(deadline_ms)
        return ConsumerInfo(name, leased, shown_ms, leases)

    async def _count_expiring(self, feed: QueueFeed) -> int:
        """Events that retention deletes soon."""
        if not isinstance(feed, RoutedFeed):
            return await self._service.retention.count_expiring(feed.view, feed.partition)
        namespace = self._machine.topology.by_sequence(feed.view.topic_id)
        if namespace is None or feed.stall:
            return 0
        return await self._service.retention.count_expiring_routed(feed.view, namespace)

    def _missing_topics(self, stored: SubscriptionMetadata, *, has_dying: bool) -> list[str]:
        """Lines about the topics of a subscription that do not exist."""
        missing = [name for name in stored.settings.topics if self._node.topics.get(name) is None]
        problems = [f"topic {name} does not exist" for name in missing]
        name = stored.settings.dead_letter_topic
        # With dying events, the writer says so.
        if name is not None and not has_dying and self._node.topics.get(name) is None:
            problems.append(f"dead-letter topic {name} does not exist: events that are given up wait for it")
        return problems

    async def browse(
        self,
        name: str,
        state: EventState | None,
        after: Position | None,
        max_events: int,
        consumer: str | None = None,
    ) -> list[BrowsedEvent]:
        """See `Queues.browse`."""
        if consumer is not None and state not in (None, "leased"):
            raise InvalidArgument("a consumer has leased events only")
        if not 1 <= max_events <= BROWSE_EVENTS_MAX:
            raise InvalidArgument(f"max_events is {max_events:,}; it is from 1 to {BROWSE_EVENTS_MAX:,}")
        if state is not None and state not in get_args(EventState):
            raise InvalidArgument(f"there is no state '{state}'; there are {', '.join(get_args(EventState))}")
        _, feeds = await self.feeds(name)
        browsed: list[BrowsedEvent] = []
        for feed in feeds:
            first = 0
            if after is not None and isinstance(feed, RoutedFeed):
                first = await feed.position_after(after)
            elif after is not None:
                place = feed.source.topic, feed.partition.index
                if place < (after.topic, after.partition):
                    continue
                first = after.offset + 1 if place == (after.topic, after.partition) else 0
            room = max_events - len(browsed)
            if room:
                states = ViewStates(feed.view, self._machine, self._node.clock)
                if consumer is not None:
                    runs = _leased_runs(feed, consumer, first, room)
                else:
                    chosen = [PositionState[state.upper()]] if state else list(UNDONE)
                    runs = _first_runs(feed, chosen, first, room)
                facts = await states.facts(runs)
                events = await feed.source.read(runs)
                browsed += [
                    BrowsedEvent(events[position], *fact)
                    for position, fact in facts.items()
                    if position in events
                ]
        return browsed

    async def snapshots(self, name: str) -> list[SnapshotInfo]:
        """See `Queues.snapshots`."""
        stored, feeds = await self.feeds(name)
        known = self._machine.snapshots.contents.of(stored.id)
        infos = [_snapshot_info(snapshot, feeds) for _, snapshot in sorted(known.items())]
        return await self._node.queue_runtime.read(infos)

    async def take_snapshot(self, name: str, snapshot: str) -> SnapshotInfo:
        """See `Queues.take_snapshot`."""
        _, feeds = await self.feeds(name)  # so that it has a view of each partition
        taken = await self._machine.snapshots.take(name, snapshot)
        for view in taken.views.values():
            run_in_turns(self._node.clock, view.steps(), PAGES_OF_TURN)
        return _snapshot_info(taken, feeds)

    async def delete_snapshot(self, name: str, snapshot: str) -> None:
        """See `Queues.delete_snapshot`."""
        await self._machine.snapshots.delete(name, snapshot)

    async def _seek_snapshot(self, name: str, snapshot: str) -> int:
        stored, feeds = await self.feeds(name)
        starts = {feed.view.id: feed.partition.log_start_offset for feed in feeds}
        await self._machine.snapshots.restore(name, snapshot, starts)
        following = 0
        for feed in feeds:
            if feed.bind():
                await feed.advance()  # a snapshot from a replay has positions that are done ahead of its scan
                following += feed.view.sequence.counts().outstanding + feed.ahead
                feed.scan_soon()
        self._service.after_release(stored.id)
        return following

    async def seek(self, name: str, to: Literal["earliest", "latest"] | int | Position | SnapshotName) -> int:
        """See `Queues.seek`."""
        if isinstance(to, SnapshotName):
            return await self._seek_snapshot(name, to.name)
        stored, feeds = await self.feeds(name)
        if to == "latest":
            await self._when_committed(self._service.queue(name))
        if isinstance(to, Position):
            place = to.topic, to.partition
            feeds = [
                feed
                for feed in feeds
                if isinstance(feed, RoutedFeed) or (feed.source.topic, feed.partition.index) == place
            ]
            if not feeds:
                raise no_such_place(to)
        elif not isinstance(to, int) and to not in ("earliest", "latest"):
            raise InvalidArgument(f"there is no place '{to}' to seek")
        following = 0
        for feed in feeds:
            position = await _sought(feed, to)
            following += feed.following(position)
            await self._machine.changes.seek(feed.view, position)
            feed.scan_soon()
        self._service.after_release(stored.id)
        return following

    async def purge(self, name: str) -> int:
        """See `Queues.purge`."""
        await self._when_committed(self._service.queue(name))
        _, feeds = await self.feeds(name)
        purged = 0
        for feed in feeds:
            purged += feed.view.sequence.counts().outstanding + feed.ahead
            await feed.scan_all()
            await self._machine.changes.purge(feed.view, feed.partition.high_watermark)
        return purged

    async def redrive(
        self, name: str, positions: Sequence[Position], dry_run: bool, per_s: float | None = None
    ) -> int:
        """See `Queues.redrive`."""
        schedule = RedriveSchedule(self._node.clock.wall_ms(), per_s, len(positions))
        stored, feeds = await self.feeds(name)
        redriven = 0
        for feed, runs in await redrivable(self._service.queue(name), feeds, positions):
            redriven += count_positions(runs)
            if not dry_run:
                await self._machine.changes.redrive(feed.view, runs, schedule.parts)
                feed.scan_soon()  # for the keys of what is outstanding again
        self._service.after_release(stored.id)
        return redriven

    async def dead_letters(
        self, name: str, since_ms: int, after: Position | None, max_events: int
    ) -> list[DeadLetterInfo]:
        """See `Queues.dead_letters`."""
        stored = await self._node.queue_runtime.read(self._machine.get(name))
        letters = await dead_letters(self._node, stored, since_ms, after, max_events)
        queue = self._service.queue(name)
        await queue.refresh()
        return await with_redrives(list(queue.feeds.values()), letters)


def _subject(feed: QueueFeed) -> str:
    topic = feed.source.topic
    return (
        f"namespace {topic}"
        if isinstance(feed, RoutedFeed)
        else f"topic {topic}, partition {feed.partition.index}"
    )


def _snapshot_info(snapshot: KeptSnapshot, feeds: Sequence[QueueFeed]) -> SnapshotInfo:
    events = 0
    for feed in feeds:
        partition = feed.partition
        start, end = partition.log_start_offset, partition.high_watermark
        part = snapshot.views.get((feed.view.topic_id, partition.index))
        if part is not None:
            events += part.outstanding(start) - part.done_ahead(start)
            start = max(start, part.head.scanned)
        events += max(0, feed.following(start)) if start < end else 0
    return SnapshotInfo(snapshot.name, snapshot.created_ms, events)


def _added(depth: QueueDepth, feed: QueueFeed) -> QueueDepth:
    counts = feed.view.sequence.counts()
    return QueueDepth(
        depth.ready + counts.ready,
        depth.leased + counts.leased,
        depth.waiting + counts.waiting,
        depth.parked + counts.parked,
        depth.dying + counts.dying,
        depth.ahead + feed.ahead,
    )


async def _sought(feed: QueueFeed, to: Literal["earliest", "latest"] | int | Position) -> int:
    if isinstance(feed, RoutedFeed):
        return await feed.sought(to)
    partition = feed.partition
    if isinstance(to, Position):
        if not partition.log_start_offset <= to.offset <= partition.high_watermark:
            raise PositionOutOfRange(
                f"topic {to.topic}, partition {to.partition}: it has the offsets"
                f" {partition.log_start_offset} to {partition.high_watermark}"
            )
        return to.offset
    if to == "earliest":
        return partition.log_start_offset
    if isinstance(to, int):
        timed = await partition.offset_for_time(to)
        if timed is not None:
            return min(timed.offset, partition.high_watermark)
    return partition.high_watermark


def _leased_runs(feed: QueueFeed, consumer: str, first: int, room: int) -> list[Run]:
    """The first positions from `first` on that a consumer has, as runs of at most `room`."""
    sequence = feed.view.sequence
    leased = [
        run
        for lease in sequence.leases.of_consumer(consumer)
        for run in sequence.releasable(lease.id, lease.runs)
    ]
    return _shortened([(max(low, first), high) for low, high in merge_runs(leased) if high > first], room)


def _first_runs(feed: QueueFeed, states: Sequence[PositionState], first: int, room: int) -> list[Run]:
    """The first positions from `first` on that are in one of these states, as runs of at most `room`."""
    return _shortened(heapq.merge(*(feed.view.sequence.runs_in(state, first) for state in states)), room)


def _shortened(all_runs: Iterable[Run], room: int) -> list[Run]:
    """The first positions of ascending runs, at most `room`."""
    runs: list[Run] = []
    for low, high in all_runs:
        end = min(high, low + room)
        runs.append((low, end))
        room -= end - low
        if not room:
            break
    return merge_runs(runs)
