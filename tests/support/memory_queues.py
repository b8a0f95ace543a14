"""Subscriptions in memory over a real engine: for tests of what a door and the command line make of them.

What an engine promises is tested with the engine's own. This one has no clock, no filter and no key order: an
event is ready, leased, waiting (for ever), dead or done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mainstem.contract import Engine, Event, InvalidArgument, Position
from mainstem.queue_contract import (
    Ack,
    BrowsedEvent,
    ConsumerInfo,
    Delivery,
    EventState,
    Extend,
    Nack,
    NoSuchSubscription,
    Outcome,
    QueueDepth,
    Reject,
    SubscriptionInfo,
    SubscriptionNameTaken,
    SubscriptionSettings,
    Verdict,
)

NOW_MS = 1_600_000_000_000


@dataclass
class QueueEntry:
    """An event in a subscription."""

    event: Event
    state: str = "ready"
    attempts: int = 0
    failures: int = 0
    token: str = ""
    consumer: str = ""


@dataclass
class MemorySubscription:
    """A subscription: its events by position, and what was answered."""

    settings: SubscriptionSettings
    entries: dict[Position, QueueEntry] = field(default_factory=dict)
    acked: int = 0
    dead: int = 0
    reasons: list[str] = field(default_factory=list)
    extended: int = 0

    def of_state(self, state: str) -> list[QueueEntry]:
        """The entries in a state, by position."""
        return [entry for _, entry in sorted(self.entries.items()) if entry.state == state]


class MemoryQueues:
    """The engine, with subscriptions. `late_s`: how long a pull takes between leasing and its return."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.by_name: dict[str, MemorySubscription] = {}
        self.late_s = 0.0
        self.pulls = 0
        """Pulls that are running."""
        self._tokens = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def _get(self, name: str) -> MemorySubscription:
        if name not in self.by_name:
            raise NoSuchSubscription(f"there is no subscription {name}")
        return self.by_name[name]

    async def _read(self, name: str) -> MemorySubscription:
        """The subscription, with the events that its topics have now."""
        subscription = self._get(name)
        for topic in subscription.settings.topics:
            for partition in range(await self._engine.partitions(topic)):
                bounds = await self._engine.bounds(topic, partition)
                known = [
                    place.offset
                    for place in subscription.entries
                    if (place.topic, place.partition) == (topic, partition)
                ]
                start = max(known, default=bounds.begin - 1) + 1
                if start < bounds.end:
                    reader = await self._engine.reader([Position(topic, partition, start)])
                    for event in (await reader.read(max_events=10_000)).events:
                        place = Position(topic, partition, event.offset)
                        subscription.entries[place] = QueueEntry(event)
                    await reader.close()
        return subscription

    async def subscriptions(self) -> list[str]:
        return sorted(self.by_name)

    async def subscription(self, name: str) -> SubscriptionInfo:
        subscription = await self._read(name)
        count = {state: len(subscription.of_state(state)) for state in ("ready", "leased", "waiting")}
        open_ones = [place for place, entry in sorted(subscription.entries.items()) if entry.state != "done"]
        consumers = sorted({entry.consumer for entry in subscription.of_state("leased")})
        return SubscriptionInfo(
            name=name,
            settings=subscription.settings,
            created_ms=NOW_MS,
            depth=QueueDepth(count["ready"], count["leased"], count["waiting"], 0, 0, 0),
            oldest=open_ones[0] if open_ones else None,
            oldest_ms=NOW_MS if open_ones else None,
            consumers=tuple(
                ConsumerInfo(
                    consumer,
                    sum(entry.consumer == consumer for entry in subscription.of_state("leased")),
                    NOW_MS,
                )
                for consumer in consumers
            ),
            since_ms=NOW_MS,
            delivered=sum(entry.attempts for entry in subscription.entries.values()),
            redelivered=0,
            acked=subscription.acked,
            failed=0,
            dead_lettered=subscription.dead,
            dropped=0,
            trimmed=0,
            unreadable=0,
            problems=("orders-dead refuses: it is full",) if subscription.dead else (),
        )

    async def create_subscription(self, name: str, settings: SubscriptionSettings) -> None:
        if name in self.by_name:
            raise SubscriptionNameTaken(f"there is a subscription {name} already")
        for topic in settings.topics:
            await self._engine.partitions(topic)
        self.by_name[name] = MemorySubscription(settings)

    async def alter_subscription(self, name: str, settings: SubscriptionSettings) -> None:
        if settings.filter != self._get(name).settings.filter:
            raise InvalidArgument("the filter of a subscription cannot be changed")
        self.by_name[name].settings = settings

    async def delete_subscription(self, name: str) -> None:
        self._get(name)
        del self.by_name[name]

    async def pull(
        self,
        name: str,
        consumer: str,
        *,
        max_events: int = 100,
        wait_ms: int = 0,
        max_bytes: int = 4 << 20,
        lock_ms: int | None = None,
    ) -> list[Delivery]:
        self.pulls += 1
        try:
            return await self._pull(name, consumer, max_events, wait_ms)
        finally:
            self.pulls -= 1

    async def _pull(self, name: str, consumer: str, max_events: int, wait_ms: int) -> list[Delivery]:
        deliveries: list[Delivery] = []
        for _ in range(1 + wait_ms // 10):
            subscription = await self._read(name)
            ready = subscription.of_state("ready")[:max_events]
            for entry in ready:
                self._tokens += 1
                entry.state, entry.attempts = "leased", entry.attempts + 1
                entry.token, entry.consumer = f"t{self._tokens}", consumer
                deliveries.append(Delivery(entry.event, entry.token, entry.attempts, NOW_MS))
            if deliveries:
                break
            if wait_ms:
                await asyncio.sleep(0.01)
        try:
            await asyncio.sleep(self.late_s)
        except asyncio.CancelledError:
            await self.settle(name, [Nack(delivery.token, counts=False) for delivery in deliveries])
            raise
        return deliveries

    async def settle(self, name: str, outcomes: Sequence[Outcome]) -> list[Verdict]:
        subscription = self._get(name)
        by_token = {entry.token: entry for entry in subscription.entries.values() if entry.token}
        verdicts: list[Verdict] = []
        for outcome in outcomes:
            entry = by_token.get(outcome.token)
            if entry is None:
                verdicts.append("invalid")
            elif entry.state != "leased":
                verdicts.append("stale")
            else:
                verdicts.append("done")
                self._apply(subscription, entry, outcome)
        return verdicts

    def _apply(self, subscription: MemorySubscription, entry: QueueEntry, outcome: Outcome) -> None:
        if isinstance(outcome, Extend):
            subscription.extended += 1
            return
        if isinstance(outcome, Nack):
            entry.failures += outcome.counts
            entry.attempts -= not outcome.counts
            entry.state = "waiting" if outcome.delay_ms else "ready"
            limit = subscription.settings.failures_max
            if not limit or entry.failures < limit:
                return
        entry.state = "done"
        if isinstance(outcome, Ack):
            subscription.acked += 1
        else:
            subscription.dead += 1
        if isinstance(outcome, Reject):
            subscription.reasons.append(outcome.reason)

    async def browse(
        self,
        name: str,
        state: EventState | None = None,
        *,
        after: Position | None = None,
        max_events: int = 100,
    ) -> list[BrowsedEvent]:
        subscription = await self._read(name)
        shown = [
            BrowsedEvent(entry.event, entry.state, entry.attempts, entry.failures, self._why(entry))  # type: ignore[arg-type]
            for place, entry in sorted(subscription.entries.items())
            if entry.state != "done" and state in (None, entry.state) and (after is None or place > after)
        ]
        return shown[:max_events]

    def _why(self, entry: QueueEntry) -> str:
        return f"leased by {entry.consumer}" if entry.state == "leased" else ""

    async def seek(self, name: str, to: Literal["earliest", "latest"] | int | Position) -> int:
        subscription = await self._read(name)
        for place, entry in subscription.entries.items():
            if isinstance(to, Position):
                if (place.topic, place.partition) != (to.topic, to.partition):
                    continue
                after = place.offset >= to.offset
            else:
                after = to == "earliest" or (isinstance(to, int) and entry.event.timestamp_ms >= to)
            subscription.entries[place] = replace(
                entry, state="ready" if after else "done", token="", attempts=0
            )
        return len(subscription.of_state("ready"))

    async def purge(self, name: str) -> int:
        subscription = await self._read(name)
        outstanding = [entry for entry in subscription.entries.values() if entry.state != "done"]
        for entry in outstanding:
            entry.state = "done"
        return len(outstanding)

    async def redrive(self, name: str, positions: Sequence[Position], *, dry_run: bool = False) -> int:
        subscription = await self._read(name)
        entries = [subscription.entries[place] for place in positions if place in subscription.entries]
        done = [entry for entry in entries if entry.state == "done"]
        for entry in done if not dry_run else ():
            entry.state, entry.attempts, entry.failures = "ready", 0, 0
        return len(done)
