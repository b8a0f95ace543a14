"""Hands events that routed queues have given up to the sink of a door, which publishes copies of them.

An event is dying until the sink has answered for it and that is recorded, so nothing is lost. After a kill in
between it is handed over again, by the same name, and the sink knows whether there is a copy.
Owns: what the sink gets to know of an event, and recording its answers. Refuses: exchanges, which the sink
knows, and when to try again (`dead_letters.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import cast

from mainstem.attach_contract import DeadEvent, DeadLetterReason, DeadLetterSink
from mainstem.contract import Event
from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.carried import RoutedViewSource, ViewSource
from mainstem.engines.embedded.queues.counters import QueueCounters, reason_name
from mainstem.engines.embedded.queues.events import positions_of
from mainstem.node import Node
from mainstem.queues.runs import runs_of

MOVED_AT_ONCE = 100
BYTES_AT_ONCE = 4 << 20
"""Events that are handed over at once are not more, or have these bytes."""


class SinkMoves:
    """The moves of a service."""

    def __init__(self, node: Node, counters_of: Mapping[int, QueueCounters]) -> None:
        self.sink: DeadLetterSink | None = None
        self._changes = node.subscriptions.changes
        self._counters_of = counters_of

    def waits_for_sink(self, stored: SubscriptionMetadata) -> bool:
        """Whether what a subscription has given up needs a sink that is not there yet."""
        return self.sink is None and self.takes(stored)

    @staticmethod
    def takes(stored: SubscriptionMetadata) -> bool:
        """Whether what a subscription has given up goes to the sink: also what died before it had another
        setting, if it never had a topic for it."""
        return stored.settings.dead_letters_to_sink or stored.last_dead_letter_topic is None

    def note_end(self, stored: SubscriptionMetadata) -> None:
        """Nothing of a subscription is dying."""
        if self.sink is not None and self.takes(stored):
            self.sink.recorded(stored.name, is_all=True)

    async def move_refused(self, stored: SubscriptionMetadata, event: Event) -> None:
        """Hand over an event that a full queue has refused. It is tried once, for its publisher knows that it
        was refused. StreamError."""
        if self.sink is not None:
            error = (await self.sink.move(stored.name, [DeadEvent(event, "maxlen", 0, "")]))[0]
            if error is not None:
                raise error

    async def move_some(
        self, stored: SubscriptionMetadata, view: SubscriptionView, source: ViewSource | RoutedViewSource
    ) -> str:
        """Move some dying events of a view. Returns the first problem, or nothing if all of them are moved.
        Errors of the log and the coordinator, StreamError."""
        if self.sink is None:
            return ""
        dying = dict(view.sequence.dying(MOVED_AT_ONCE))
        events = await source.read(runs_of(dying), BYTES_AT_ONCE)
        left = set(positions_of(events.left))
        moving = [position for position in dying if position in events]
        dead = [
            DeadEvent(
                events[position],
                cast(DeadLetterReason, reason_name(dying[position])),
                view.sequence.acquisitions(position),
                f"{view.id}/{position}",
            )
            for position in moving
        ]
        results = await self.sink.move(stored.name, dead) if dead else []
        failed = {position for position, error in zip(moving, results, strict=True) if error is not None}
        # One that retention has deleted meanwhile has nothing to be moved.
        done = [position for position in dying if position not in failed and position not in left]
        if done:
            await self._changes.cancel(view, runs_of(done))
            self.sink.recorded(stored.name, is_all=False)
            reasons = Counter(dying[position] for position in done if position in events)
            self._counters_of[view.subscription].dead_lettered.update(reasons)
        problem = next((error for error in results if error is not None), None)
        return f"subscription {stored.name}: {problem}" if problem is not None else ""
