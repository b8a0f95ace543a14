"""Works on the events of a subscription one by one: runs the handler for each, many at once.

Owns: how many events are here, which is what the handlers do in PREFETCH_S and no more; and workers. Refuses:
the rules of keys (`leased_lanes`), answers and leases (`leases`), and lists (`list_work`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from mainstem.api.handler import HANDLED, Failed, HandlerOutcome, Rejected
from mainstem.api.leased_lanes import LeasedLanes, OpenEvent
from mainstem.api.leases import FINAL, UNTOUCHED, GivenBack
from mainstem.api.subscription_work import CANCEL_S_MAX, SubscriptionWork
from mainstem.queue_contract import Delivery

PREFETCH_S = 0.1
PREFETCH_EVENTS_MAX = 2_000
TURN_S = 0.001
"""Handlers that never wait let the rest of the program run after this time, and CALLS_PER_LOOK of them."""
CALLS_PER_LOOK = 16
FAILURES = (Failed, Rejected)
log = logging.getLogger(__name__)


class QueueWork(SubscriptionWork):
    """The work of one subscriber that gets single events."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """See `SubscriptionWork`."""
        super().__init__(*arguments, **named)
        self._lanes = LeasedLanes()
        self._room = asyncio.Event()
        self._workers: dict[asyncio.Task[None], OpenEvent | None] = {}
        self._window = self._options.concurrency
        self._calls = 0
        """Handlers that have ended."""
        self._turn_end_s = 0.0
        """When the rest of the program is to run again."""

    async def _stop_handlers(self, grace_s: float) -> None:
        for leased in self._lanes.drop_waiting():
            self._leases.answer(leased, UNTOUCHED)
        if self._workers:
            await asyncio.wait(set(self._workers), timeout=grace_s)
        cancelled = set(self._workers)
        for task in cancelled:
            task.cancel()
        if cancelled:
            await asyncio.wait(cancelled, timeout=CANCEL_S_MAX)
        for running in self._workers.values():  # handlers that refuse to end
            if running is not None:
                self._leases.answer(running, GivenBack(self._leases.lock_ms))
        self._note_in_flight()

    def cancel_handlers(self) -> None:
        """See `SubscriptionWork`."""
        for task in self._workers:
            task.cancel()

    def _leased(self) -> list[OpenEvent]:
        return self._lanes.all()

    # ------------------------------------------------------------------------------------------------------
    # pulling

    async def _pull_all(self) -> None:
        now_s, begun_s, handled = asyncio.get_running_loop().time, 0.0, 0
        while True:
            prefetch = self._window - self._options.concurrency
            room = self._window - len(self._lanes) - self._leases.unanswered
            if room <= 0 or self._lanes.waiting > prefetch // 2:
                self._room.clear()
                await self._room.wait()
                continue
            if not begun_s:
                begun_s, handled = now_s(), self._calls
            elif (spent_s := now_s() - begun_s) > 0:
                # Over too few calls or too little time the rate would be that of a moment.
                calls = self._calls - handled
                if calls >= self._window // 2 or spent_s >= PREFETCH_S / 2:
                    self._fit_window(calls / spent_s)
                    begun_s, handled = begun_s + spent_s, self._calls
            deliveries = await self._pull(room)
            if deliveries:
                self._accept(deliveries)
            else:
                begun_s = 0.0  # it waited for events
            self._lanes.returned(self.pulls)

    def _fit_window(self, per_s: float) -> None:
        """Let as many events be here as the handlers do in PREFETCH_S, beside those that run. A process that
        is killed has few, then, that it did not begin; and other processes are not kept from working."""
        prefetch = min(round(per_s * PREFETCH_S), PREFETCH_EVENTS_MAX)
        fitting = self._options.concurrency + prefetch
        self._window = min(max(fitting, self._window // 2), max(2 * self._window, 8))

    def _accept(self, deliveries: Sequence[Delivery]) -> None:
        lease_end_s = self._lease_end_s()
        for delivery in deliveries:
            if self._leases.is_answered(delivery, lease_end_s):
                continue
            self.counts.read += self._lanes.add(delivery, self.pulls, lease_end_s)
        self._give_untried_back()
        self._start_workers()

    # ------------------------------------------------------------------------------------------------------
    # handlers

    def _start_workers(self) -> None:
        """Start as many workers as events may run. A worker takes one event after another, until none may
        run."""
        if self._stopping.is_set():
            return
        ready = self._lanes.ready
        while ready > 0 and len(self._workers) < self._options.concurrency:
            task = asyncio.ensure_future(self._work())
            self._workers[task] = None
            task.add_done_callback(self._on_worker_end)
            ready -= 1
        self._note_in_flight()

    def _on_worker_end(self, task: asyncio.Task[None]) -> None:
        self._workers.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: a worker ended", self._name, exc_info=error)
        self._start_workers()

    async def _work(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        lanes, now_s, calls = self._lanes, asyncio.get_running_loop().time, 0
        while not self._stopping.is_set() and (leased := lanes.next()) is not None:
            self._workers[task] = leased
            outcome: HandlerOutcome | None
            try:
                if leased.attempt != 1:
                    leased.attempt = self._attempt_of(leased)
                outcome = await self._call.run(leased.event, leased.attempt)
            except asyncio.CancelledError:
                outcome = None
            self._workers[task] = None
            while task.cancelling():
                task.uncancel()
            self._finish(leased, outcome)
            if lanes.ready and len(self._workers) < self._options.concurrency:
                self._start_workers()
            calls += 1
            if calls % CALLS_PER_LOOK == 0 and now_s() >= self._turn_end_s:
                await asyncio.sleep(0)
                self._turn_end_s = max(self._turn_end_s, now_s() + TURN_S)

    def _finish(self, leased: OpenEvent, outcome: HandlerOutcome | None) -> None:
        """A call of the handler has ended; None: it was cancelled."""
        self._calls += 1
        if outcome is HANDLED and not self._untried:  # as below, for most events
            self._lanes.finish(leased)
            self._leases.answer(leased, outcome)
            self._room.set()
            return
        if isinstance(outcome, FAILURES):
            self.counts.failed += 1
            self.counts.last_error = outcome.reason
        if isinstance(outcome, FINAL):
            self._untried.pop(leased.place, None)
            self._lanes.finish(leased)
            self._leases.answer(leased, outcome)
        elif outcome is not None:
            self._break_at(leased, outcome)
        else:
            # A function that still runs in its thread has the event until its lock would be over.
            in_thread = not self.subscriber.is_async
            self._break_at(leased, GivenBack(self._leases.lock_ms if in_thread else None))
        self._room.set()

    def _break_at(self, leased: OpenEvent, answer: Failed | GivenBack) -> None:
        """An event comes back, and with it those of its key that are here."""
        self._lanes.break_at(leased)
        self._leases.answer(leased, answer)

    def _give_untried_back(self) -> None:
        for leased in self._lanes.take_untried():
            self._note_untried(leased)
            self._leases.answer(leased, UNTOUCHED)

    def _on_settled(self, events: list[OpenEvent]) -> None:
        if self._lanes.has_broken:
            for leased in events:
                self._lanes.settle(leased, self.pulls)
        self._give_untried_back()
        self._note_in_flight()
        self._room.set()

    def _on_lost(self, leased: OpenEvent) -> None:
        """The lease of an event is over: another consumer may have it, so its handler is cancelled."""
        log.warning("%s: the lease of %s is over", self._name, leased.place)
        for task, running in self._workers.items():
            if running is leased:
                if self.subscriber.is_async:
                    task.cancel()
                return
        self._break_at(leased, UNTOUCHED)

    def _note_in_flight(self) -> None:
        self.counts.in_flight = len(self._lanes) + self._leases.unanswered
