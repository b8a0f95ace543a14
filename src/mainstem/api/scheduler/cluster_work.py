"""The work of one subscriber on a Kafka cluster: a member of the group feeds the lanes, workers run handlers.

Owns: the loop, the commits (each second, and where an event has to wait for one), and what happens when
partitions come and go. Refuses: which event is next and what a commit says (`key_lanes`, `partition_ledger`).

A partition that is revoked starts no further event; its handlers have REVOKE_GRACE_S, then they are cancelled
and their events are the next owner's. A partition that is lost is dropped without a commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from itertools import groupby
from operator import attrgetter

from mainstem.api.backend import Backend
from mainstem.api.handler import Failed, Handled, HandlerCall, Rejected
from mainstem.api.scheduler.group_positions import lag_of, set_start
from mainstem.api.scheduler.key_lanes import KeyLanes, LaneEvent
from mainstem.api.scheduler.letter_box import LetterBox
from mainstem.api.scheduler.letters import attempts_before
from mainstem.api.scheduler.notes import decode_notes, encode_notes
from mainstem.api.scheduler.partition_ledger import DEATHS_MAX, READ_EVENTS_MAX, LedgerCommit, PartitionLedger
from mainstem.api.subscriber import Subscriber
from mainstem.api.subscriber_state import SubscriberCounts
from mainstem.api.subscription_work import CANCEL_S_MAX
from mainstem.contract import AssignedPartition, Member, StreamError, TopicPartition
from mainstem.queues.event_headers import not_before_of

COMMIT_S = 1.0
IN_PLACE_MS_MAX = 15 * 60_000
"""How long an event may hold its key, in all its attempts. What takes longer is put off."""
REVOKE_GRACE_S = 30.0
RENEW_MS = 3_600_000
"""How often a position is committed that has not changed, in the topic that follows: Kafka forgets it
`offsets.retention.minutes` after its last commit (7 days), for the group is not subscribed to that topic."""
WATCH_MS = 60_000
"""How long a partition is watched whose last owner died."""
READ_MS = 200
READ_PAUSE_S = 1.0
ROOM_WAIT_S = 0.5
"""How long a full partition keeps the others from being read before it is paused. A pause costs what
librdkafka has fetched ahead."""
JOIN_S_MAX = 10.0
TURN_EVENTS = 64
RESCAN_EVENTS = 32
log = logging.getLogger(__name__)
_partition_of = attrgetter("topic", "partition")


class ClusterWork:
    """The work of one subscriber; a `SubscriberWork`, and the hooks of its member."""

    def __init__(
        self, subscriber: Subscriber, backend: Backend, call: HandlerCall, counts: SubscriberCounts
    ) -> None:
        self.subscriber = subscriber
        self.counts = counts
        self.is_joined = False
        self._options = subscriber.options
        self._name = subscriber.title
        self._engine = backend.engine
        self._clock = backend.clock
        self._call = call
        self._lanes = KeyLanes()
        self._letters = LetterBox(subscriber.options, backend.engine, backend.clock)
        self._ledgers: dict[TopicPartition, PartitionLedger] = {}
        self._watched_until_ms: dict[TopicPartition, int] = {}
        self._renewal_ms = 0
        self._paused: set[TopicPartition] = set()
        self._member: Member | None = None
        self._is_stopping = False
        self._poke = asyncio.Event()
        self._assigned_once = asyncio.Event()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._running: dict[asyncio.Task[None], Sequence[LaneEvent]] = {}
        self._finished = 0
        self._finished_at_scan = 0
        self._reading: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    # --- life ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Make the topics of dead letters and of what is put off, join the group, and begin. StreamError."""
        await self._letters.prepare()
        topics = [self._options.topic, self._letters.retry_topic]
        start = self._options.start
        if isinstance(start, datetime):
            await set_start(self._engine, self._options.group, self._options.topic, start)
            start = "earliest"
        self._member = await self._engine.join(self._options.group, topics, start=start, hooks=self)
        self._reading = asyncio.create_task(self._read_all(self._member))
        self._tasks = [asyncio.create_task(self._tick(self._member))]
        self._tasks += [asyncio.create_task(self._work()) for _ in range(self._options.concurrency)]
        for task in (self._reading, *self._tasks):
            task.add_done_callback(self._on_end)
        with suppress(TimeoutError):  # where there are more members than partitions, some have none
            async with asyncio.timeout(JOIN_S_MAX):
                await self._assigned_once.wait()
        self.is_joined = True

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.counts.last_error = f"{type(error).__name__}: {error}"
            log.error("%s: it has ended by an error", self._name, exc_info=error)

    async def stop(self, grace_s: float) -> None:
        """See `SubscriberWork`."""
        self.is_joined, self._is_stopping = False, True
        if self._member is None:
            self._call.close()
            return
        if self._reading is not None:
            await asyncio.wait((self._reading,))
        ledgers = list(self._ledgers.values())
        await self._end(ledgers, grace_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._commit_last(ledgers)
        self._call.close()
        await self._member.close()

    def cancel_handlers(self) -> None:
        """See `SubscriberWork`."""
        for task in self._running:
            task.cancel()

    @property
    def in_threads(self) -> int:
        """See `SubscriberWork`."""
        return self._call.in_threads

    async def lag(self) -> tuple[int, int]:
        """See `SubscriberWork`."""
        self._count()
        topics = self._options.topic, self._letters.retry_topic
        is_latest = self._options.start == "latest"
        lag = await lag_of(self._engine, self._options.group, topics, self._ledgers, is_latest=is_latest)
        return lag, self._lanes.waiting

    # --- partitions come and go: the hooks of the member --------------------------------------------------

    async def assigned(self, partitions: Sequence[AssignedPartition]) -> None:
        """See `MemberHooks`."""
        now_ms = self._clock.wall_ms()
        for part in partitions:
            key = part.topic, part.partition
            notes = None if part.offset is None else decode_notes(part.notes, part.offset)
            self._ledgers[key] = ledger = PartitionLedger(key, part.offset, notes)
            self._paused.discard(key)
            if ledger.is_watched:
                self._watched_until_ms[key] = now_ms + WATCH_MS
        self._renewal_ms = now_ms
        self._assigned_once.set()
        self._poke.set()

    async def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """See `MemberHooks`."""
        ledgers = [self._ledgers[key] for key in partitions if key in self._ledgers]
        await self._end(ledgers, REVOKE_GRACE_S)
        await self._commit_last(ledgers)
        self._drop(ledgers)

    async def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """See `MemberHooks`."""
        ledgers = [self._ledgers[key] for key in partitions if key in self._ledgers]
        for ledger in ledgers:
            ledger.close()
        self._cancel(ledgers)
        self._drop(ledgers)

    async def _end(self, ledgers: Sequence[PartitionLedger], grace_s: float) -> None:
        """Start no further event of these partitions, and wait for those in flight; cancel them then."""
        for ledger in ledgers:
            ledger.close()
        self._wake()
        await _wait_for_ends(ledgers, grace_s)
        self._cancel(ledgers)
        await _wait_for_ends(ledgers, CANCEL_S_MAX)

    def _cancel(self, ledgers: Sequence[PartitionLedger]) -> None:
        for task, lane_events in self._running.items():
            if any(lane_event.ledger in ledgers for lane_event in lane_events):
                task.cancel()

    async def _commit_last(self, ledgers: Sequence[PartitionLedger]) -> None:
        commits = [commit for ledger in ledgers if (commit := ledger.commit(stops=True)) is not None]
        assert self._member is not None
        try:
            await _commit(self._member, commits)
        except StreamError as error:
            self._note(error)

    def _drop(self, ledgers: Sequence[PartitionLedger]) -> None:
        for ledger in ledgers:
            self._lanes.drop(ledger)
            del self._ledgers[ledger.key]
            self._paused.discard(ledger.key)
            self._watched_until_ms.pop(ledger.key, None)
        self._wake()

    # --- reading ------------------------------------------------------------------------------------------

    async def _read_all(self, member: Member) -> None:
        while not self._is_stopping:
            await self._await_room(member)
            try:
                result = await member.read(max_events=READ_EVENTS_MAX, wait_ms=READ_MS)
            except StreamError as error:
                self._note(error)
                await asyncio.sleep(READ_PAUSE_S)
                continue
            for position in result.unreadable:
                log.warning(
                    "%s: %s/%d/%d: damaged, skipped", self._name, *_partition_of(position), position.offset
                )
            for key, events in groupby(result.events, _partition_of):
                ledger = self._ledgers.get(key)
                if ledger is not None:  # else: it was given up after this was read
                    self.counts.read += self._lanes.add(events, ledger, self._prepare)
            if result.events:
                self._wake()
                await asyncio.sleep(0)

    def _prepare(self, lane_event: LaneEvent) -> None:
        event = lane_event.event
        if event.topic == self._letters.retry_topic:
            lane_event.attempt = attempts_before(event) + 1
        due_ms = not_before_of(event.headers)
        if due_ms:
            now_ms = self._clock.wall_ms()
            if now_ms < due_ms:
                is_near = due_ms - now_ms <= IN_PLACE_MS_MAX
                is_copy = event.topic == self._letters.retry_topic
                lane_event.due_ms = due_ms if is_near else now_ms + IN_PLACE_MS_MAX if is_copy else 0

    async def _await_room(self, member: Member) -> None:
        """Wait while a partition is full; pause it if that takes long, so that the others are read on."""
        rested = [key for key in self._paused if self._ledgers[key].has_room]
        if rested:
            member.resume(rested)
            self._paused.difference_update(rested)
        for _ in range(round(ROOM_WAIT_S / 0.005)):
            full = [
                key for key, ledger in self._ledgers.items() if ledger.is_full and key not in self._paused
            ]
            if not full or self._is_stopping:
                return
            await asyncio.sleep(0.005)
        member.pause(full)
        self._paused.update(full)

    # --- commits ------------------------------------------------------------------------------------------

    async def _tick(self, member: Member) -> None:
        """Commit each COMMIT_S, and at once where events wait for it; wake those whose time has come."""
        loop = asyncio.get_running_loop()
        commit_s = loop.time() + COMMIT_S
        while True:
            due_ms = self._lanes.next_due_ms
            wait_s = commit_s - loop.time()
            if due_ms is not None:
                wait_s = min(wait_s, (due_ms - self._clock.wall_ms()) / 1000)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, wait_s)):
                    await self._poke.wait()
            self._poke.clear()
            now_ms = self._clock.wall_ms()
            if loop.time() >= commit_s or any(ledger.wants_commit for ledger in self._ledgers.values()):
                commit_s = loop.time() + COMMIT_S
                if not await self._commit_all(member):
                    await asyncio.sleep(READ_PAUSE_S)
            if due_ms is not None and due_ms <= now_ms:
                pause_s = 0.001 if self._idle else 0.02  # no worker is free to take it
                self._wake()
                await asyncio.sleep(pause_s)

    async def _commit_all(self, member: Member) -> bool:
        """Commit what has changed. False: it failed."""
        now_ms, commits, made = self._clock.wall_ms(), [], []
        is_renewal = now_ms >= self._renewal_ms
        if is_renewal:
            self._renewal_ms = now_ms + RENEW_MS
        for key, ledger in self._ledgers.items():
            ledger.is_changed |= is_renewal and key[0] == self._letters.retry_topic
            if now_ms >= self._watched_until_ms.get(key, now_ms + 1):
                ledger.is_watched = False
                del self._watched_until_ms[key]
                ledger.is_changed = True
            if not ledger.is_closed and (ledger.is_changed or ledger.wants_commit):
                commit = ledger.commit()
                if commit is not None:
                    commits.append(commit)
                    made.append(ledger)
        self._count()
        if not commits:
            return True
        try:
            await _commit(member, commits)
        except StreamError as error:
            self._note(error)
            for ledger in made:
                ledger.failed()
            return False
        for ledger, commit in zip(made, commits, strict=True):
            if not ledger.is_closed:
                ledger.acknowledged(commit)
        self._lanes.unpark()
        self._wake()
        return True

    def _count(self) -> None:
        self.counts.in_flight = self._lanes.in_flight

    def _note(self, error: StreamError) -> None:
        if not self._is_stopping:
            log.warning("%s: %s", self._name, error)
        self.counts.last_error = str(error)

    # --- workers ------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Let all workers look for events."""
        idle = self._idle
        while idle:
            future = idle.popleft()
            if not future.done():
                future.set_result(None)

    async def _rest(self) -> None:
        """Wait until there may be an event to run."""
        lanes = self._lanes
        if any(ledger.wants_commit for ledger in self._ledgers.values()):
            self._poke.set()
        elif lanes.is_parked and self._finished - self._finished_at_scan >= RESCAN_EVENTS:
            self._finished_at_scan = self._finished
            lanes.unpark()
            return
        if lanes.next_due_ms is not None:
            self._poke.set()
        future = asyncio.get_running_loop().create_future()
        self._idle.append(future)
        await future

    async def _work(self) -> None:
        lanes, run, wall_ms, counts = self._lanes, self._call.run, self._clock.wall_ms, self.counts
        task = asyncio.current_task()
        assert task is not None
        turns = 0
        while True:
            lane_event = lanes.take(wall_ms())
            if lane_event is None:
                await self._rest()
                continue
            if self._idle and lanes.is_ready:
                self._wake()
            is_suspect = lane_event.deaths > 0
            self._running[task] = (lane_event,)
            try:
                if (is_suspect or lane_event.event.headers) and await self._is_disposed_of(lane_event):
                    lanes.finish(lane_event)
                else:
                    outcome = await run(lane_event.event, lane_event.attempt)
                    if isinstance(outcome, Handled):
                        lanes.finish(lane_event)
                        counts.done += 1
                    else:
                        await self._on_failure(lane_event, outcome)
            except asyncio.CancelledError:
                self._give_back(lane_event)
                if self._is_stopping or not lane_event.ledger.is_closed:
                    raise
                task.uncancel()
            finally:
                del self._running[task]
            self._finished += 1
            if is_suspect:
                self._wake()
            turns += 1
            if turns % TURN_EVENTS == 0:
                await asyncio.sleep(0)

    async def _is_disposed_of(self, lane_event: LaneEvent) -> bool:
        """Whether an event is not to be handled now, and was given up or put off instead: one that has killed
        the process too often, or whose time is too far away."""
        if lane_event.deaths >= DEATHS_MAX:
            await self._give_up(lane_event, "failed", f"killed the process {lane_event.deaths} times")
            return True
        due_ms = not_before_of(lane_event.event.headers)
        if due_ms > self._clock.wall_ms():
            await self._put_off(lane_event, lane_event.attempt - 1, due_ms)
            return True
        return False

    def _give_back(self, lane_event: LaneEvent) -> None:
        """An event whose handler was cancelled is not done."""
        if self._is_dropped(lane_event):
            self._lanes.abandon(lane_event)
        else:
            self._lanes.retry(lane_event, 1, counts=False)

    def _is_dropped(self, lane_event: LaneEvent) -> bool:
        return self._ledgers.get(lane_event.ledger.key) is not lane_event.ledger

    async def _on_failure(self, lane_event: LaneEvent, outcome: Failed | Rejected) -> None:
        if self._is_dropped(lane_event):
            self._lanes.abandon(lane_event)
            return
        due_ms = await self._due_after(lane_event, outcome)
        if due_ms is None:
            self._lanes.finish(lane_event)
        else:
            self._lanes.retry(lane_event, due_ms)
            self._poke.set()

    async def _due_after(self, lane_event: LaneEvent, outcome: Failed | Rejected) -> int | None:
        """When an event that failed is to run again; None: it is done, for it was given up or put off."""
        counts, retry = self.counts, self._options.retry
        counts.failed += 1
        counts.last_error = outcome.reason
        if isinstance(outcome, Rejected):
            await self._give_up(lane_event, "rejected", outcome.reason)
            return None
        if lane_event.attempt >= retry.max_attempts:
            await self._give_up(lane_event, "failed", outcome.reason)
            return None
        delay_ms = outcome.delay_ms
        if delay_ms is None:
            delay_ms = round(retry.delay_after(lane_event.attempt) * 1000)
        now_ms = self._clock.wall_ms()
        lane_event.failed_ms = lane_event.failed_ms or now_ms
        if now_ms + delay_ms - lane_event.failed_ms <= IN_PLACE_MS_MAX:
            return now_ms + delay_ms
        await self._put_off(lane_event, lane_event.attempt, now_ms + delay_ms)
        return None

    async def _put_off(self, lane_event: LaneEvent, attempts: int, due_ms: int) -> None:
        """Put an event off whose time is too far away to wait for it here."""
        refusal = await self._letters.put_off(lane_event.event, attempts, due_ms)
        if refusal:
            await self._give_up(lane_event, "failed", f"cannot be put off: {refusal}")

    async def _give_up(self, lane_event: LaneEvent, reason: str, detail: str) -> None:
        attempts = max(lane_event.attempt, lane_event.deaths)
        await self._letters.give_up(lane_event.event, reason, detail, attempts)
        self.counts.dead += 1


async def _wait_for_ends(ledgers: Sequence[PartitionLedger], seconds: float) -> None:
    """Wait until nothing of these partitions is in flight, or until the time is over."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + seconds
    while any(ledger.in_flight for ledger in ledgers) and loop.time() < end_s:
        await asyncio.sleep(0.005)


async def _commit(member: Member, commits: Sequence[LedgerCommit]) -> None:
    if commits:
        positions = [commit.position for commit in commits]
        notes = {
            (commit.position.topic, commit.position.partition): encode_notes(commit.notes)
            for commit in commits
        }
        await member.commit(positions, notes)
