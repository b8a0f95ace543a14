"""Works on the events of a subscription in lists.

A list that fails is tried once more, after the first delay of `Retry`; if it fails again, its events are
handled one by one, so that one bad event does not keep the others. An event that was delivered before is
always alone in its list.

Owns: how a list is collected, and what its failure means. Refuses: answers and leases (`leases`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from mainstem.api.handler import Failed, HandlerOutcome, Rejected
from mainstem.api.leased_lanes import OpenEvent, Place, opened
from mainstem.api.leases import UNTOUCHED, GivenBack
from mainstem.api.subscription_work import CANCEL_S_MAX, PULL_WAIT_MS, SubscriptionWork
from mainstem.queue_contract import Delivery

LIST_BYTES_MAX = 64 << 20
"""Bytes of values with which a list is full, too."""
log = logging.getLogger(__name__)


class QueueListWork(SubscriptionWork):
    """The work of one subscriber that gets lists."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """See `SubscriptionWork`."""
        super().__init__(*arguments, **named)
        self._batch = self._options.batch or 1
        self._open: dict[Place, OpenEvent] = {}
        """The events of the list that is collected, or handled. What is not here any more was answered, or is
        another consumer's."""
        self._handling: asyncio.Task[None] | None = None

    async def _stop_handlers(self, grace_s: float) -> None:
        task = self._handling
        if task is not None and not task.done():
            await asyncio.wait((task,), timeout=grace_s)
            if not task.done():
                task.cancel()
                await asyncio.wait((task,), timeout=CANCEL_S_MAX)
        is_in_thread = self._call.in_threads > 0
        for leased in self._leased():
            self._answer(
                leased, GivenBack(self._leases.lock_ms if is_in_thread else None) if task else UNTOUCHED
            )

    def cancel_handlers(self) -> None:
        """See `SubscriptionWork`."""
        if self._handling is not None:
            self._handling.cancel()

    def _leased(self) -> list[OpenEvent]:
        return list(self._open.values())

    def _on_settled(self, events: list[OpenEvent]) -> None:
        self.counts.in_flight = len(self._open) + self._leases.unanswered

    def _on_lost(self, leased: OpenEvent) -> None:
        log.warning("%s: the lease of %s is over", self._name, leased.place)
        self._open.pop(leased.place, None)

    # ------------------------------------------------------------------------------------------------------
    # collecting

    async def _pull_all(self) -> None:
        while True:
            await self._collect()
            if not self._open:
                continue
            self._handling = asyncio.ensure_future(self._handle())
            # A stop cancels the pulling, and gives the handler its time.
            await asyncio.shield(self._handling)
            self._handling = None

    async def _collect(self) -> None:
        """Wait for events until the list is full, or until `max_wait` after its first one."""
        loop = asyncio.get_running_loop()
        end_s, size = 0.0, 0
        while len(self._open) < self._batch and size < LIST_BYTES_MAX:
            left_ms = round((end_s - loop.time()) * 1000) if end_s else PULL_WAIT_MS
            if left_ms < 0:
                return
            deliveries = await self._pull(self._batch - len(self._open), left_ms)
            if not deliveries and not self._open:
                return
            size += self._take(deliveries)
            if not end_s:
                end_s = loop.time() + self._options.max_wait

    def _take(self, deliveries: Sequence[Delivery]) -> int:
        """Take what was delivered. Returns the bytes of its values."""
        size, lease_end_s = 0, self._lease_end_s()
        for delivery in deliveries:
            if self._leases.is_answered(delivery, lease_end_s):
                continue
            leased = opened(delivery, lease_end_s)
            self._open[leased.place] = leased
            size += len(delivery.event.value or b"")
            self.counts.read += 1
        self.counts.in_flight = len(self._open) + self._leases.unanswered
        return size

    # ------------------------------------------------------------------------------------------------------
    # handling

    async def _handle(self) -> None:
        failures = self.counts.failed
        for leased in self._leased():
            leased.attempt = self._attempt_of(leased)
        for part in self._parts():
            present = [leased for leased in part if leased.place in self._open]
            if present:
                await self._handle_part(present)
        if self.counts.failed > failures:
            # Until the server knows of a failure, a pull may bring later events of the same key.
            await self._leases.all_settled()

    def _parts(self) -> Iterator[list[OpenEvent]]:
        """The lists, in order: what was delivered before is alone."""
        part: list[OpenEvent] = []
        for leased in self._leased():
            if leased.attempt == 1:
                part.append(leased)
                continue
            if part:
                yield part
            yield [leased]
            part = []
        if part:
            yield part

    async def _handle_part(self, part: Sequence[OpenEvent]) -> None:
        failed, failure = await self._try(part)
        if failure is None:
            return
        if len(failed) == 1 or failure.delay_ms is not None:
            for leased in failed:  # an explicit delay is one for all
                self._give_up_lane(leased, failure)
            return
        await self._leases.pause(self._options.retry.initial_delay)
        if self._stopping.is_set():
            return
        failed, _ = await self._try([leased for leased in failed if leased.place in self._open])
        for leased in failed:
            if leased.place in self._open and not self._stopping.is_set():
                _, failure = await self._try([leased])
                if failure is not None:
                    self._give_up_lane(leased, failure)

    async def _try(self, part: Sequence[OpenEvent]) -> tuple[list[OpenEvent], Failed | None]:
        """Handle a list. Returns those of its events that failed, and why; all others are answered."""
        if not part:
            return [], None
        events = [leased.event for leased in part]
        failed: list[OpenEvent] = []
        failure: Failed | None = None
        for leased, outcome in zip(
            part,
            await self._call.run_list(events, [leased.attempt for leased in part]),
            strict=True,
        ):
            if isinstance(outcome, Failed):
                failure = outcome
                failed.append(leased)
                continue
            if isinstance(outcome, Rejected):
                self._note(outcome)
            self._answer(leased, outcome)
        if failure is not None:
            self._note(failure)
        return failed, failure

    def _note(self, outcome: Failed | Rejected) -> None:
        self.counts.failed += 1
        self.counts.last_error = outcome.reason

    def _give_up_lane(self, leased: OpenEvent, answer: Failed | GivenBack) -> None:
        """Answer for an event that is not handled now. What is behind it in its key comes again after it."""
        self._answer(leased, answer)
        if leased.event.key is None:
            return
        lane = leased.event.topic, leased.event.partition, leased.event.key
        for other in self._leased():
            event = other.event
            if (event.topic, event.partition, event.key) == lane and event.offset > leased.event.offset:
                self._note_untried(other)
                self._answer(other, GivenBack())

    def _answer(self, leased: OpenEvent, answer: HandlerOutcome | GivenBack) -> None:
        if self._open.pop(leased.place, None) is not None:
            self._leases.answer(leased, answer)
