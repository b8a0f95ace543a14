"""Collects audit events, counts equal ones, and passes them on to where they are kept.

The first of equal events is passed on at once; those that follow within REPEATED_S become one event with
their number. What cannot be written waits, and is tried again; beyond WAITING_MAX events are lost, and how
many becomes an event itself. Owns: that memory is bounded, and that no caller waits or fails. Refuses: to
know a file or a topic.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

import msgspec

from mainstem.access_contract import AccessDecision, Operation, Requester, Resource
from mainstem.audit import events
from mainstem.audit.events import AuditEvent
from mainstem.clock import Clock, Timer
from mainstem.timespec import format_iso

log = logging.getLogger("mainstem.audit")

REPEATED_S = 10.0
"""Equal events within this time are counted."""
REPEATED_MAX = 5_000
"""Most different events that are watched for repetitions; further ones are passed on each."""
WAITING_MAX = 20_000
"""Most events that wait for a sink."""
BATCH_EVENTS = 500
RETRY_S = 2.0


class AuditSinkError(Exception):
    """The error of a sink that cannot write now. The message says why."""


class AuditSink(Protocol):
    """A place where audit events are kept."""

    @property
    def name(self) -> str:
        """What the place is, for the log: `topic __mainstem_audit`."""

    async def write(self, batch: Sequence[AuditEvent]) -> None:
        """Keep these events, in order. AuditSinkError: none of them was kept; they may be given again."""

    def close(self) -> None:
        """Release what the sink holds."""


class _Waiting:
    """What one sink has still to write."""

    def __init__(self, sink: AuditSink, trail: AuditTrail) -> None:
        self.sink = sink
        self._trail = trail
        self._events: deque[AuditEvent] = deque()
        self.lost = 0
        """Events that were given up since the last that were written."""
        self._has_warned = False
        self._task: asyncio.Task[None] | None = None

    def put(self, event: AuditEvent) -> None:
        """Write this event soon."""
        if len(self._events) >= WAITING_MAX:
            self.lost += 1
            self._trail.lost_count += 1
            return
        self._events.append(event)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write_all(), name="audit")

    async def drained(self) -> None:
        """Wait until everything is written, or cannot be written."""
        if self._task is not None:
            await self._task

    async def _write_all(self) -> None:
        try:
            while self._events:
                if not await self._write_batch():
                    if self._trail.is_closing:
                        return
                    await self._trail.pause(RETRY_S)
        finally:
            self._task = None

    async def _write_batch(self) -> bool:
        batch = list(islice(self._events, BATCH_EVENTS))
        lost = self.lost
        if lost:
            batch.insert(0, self._trail.lost_event(lost))
        try:
            await self.sink.write(batch)
        except AuditSinkError as error:
            if not self._has_warned:
                self._has_warned = True
                log.warning("audit events wait: %s cannot be written: %s", self.sink.name, error)
            return False
        self._has_warned = False
        self.lost -= lost
        for _ in range(len(batch) - bool(lost)):
            self._events.popleft()
        return True


class AuditTrail:
    """The audit of a server. Its methods are called in the event loop, return at once and do not fail."""

    def __init__(self, clock: Clock, sinks: Sequence[AuditSink]) -> None:
        self._clock = clock
        self._sinks = [_Waiting(sink, self) for sink in sinks]
        self._repeated: dict[bytes, tuple[AuditEvent, int]] = {}
        """An event without its time, encoded -> the last of these events, and how many came after the
        first."""
        self._timer: Timer | None = None
        self._is_closing = False
        self._pauses: set[asyncio.Future[None]] = set()
        self.total_count = 0
        """Actions that were recorded."""
        self.lost_count = 0
        """Events that some sink could not keep."""

    def decided(
        self, requester: Requester, operation: Operation, resource: Resource, decision: AccessDecision
    ) -> None:
        """A right was asked for."""
        self._record(events.of_decision(self._now(), requester, operation, resource, decision))

    def logged_in(
        self, principal: str, host: str, *, allowed: bool, mechanism: str, door: str, reason: str = ""
    ) -> None:
        """A client authenticated, or failed to."""
        self._record(
            events.of_login(
                self._now(),
                principal,
                host,
                allowed=allowed,
                mechanism=mechanism,
                door=door,
                reason=reason,
            )
        )

    def acted(
        self,
        principal: str,
        host: str,
        action: str,
        outcome: events.ActionOutcome,
        details: dict[str, events.AuditValue],
    ) -> None:
        """An action of the HTTP door ended. Actions are not counted together: their details differ."""
        self.total_count += 1
        self._put(events.of_action(self._now(), principal, host, action, outcome, details))

    async def close(self) -> None:
        """Write what waits, once, and end."""
        self._pass_on_repeated()
        self._is_closing = True
        for pause in self._pauses:
            _end(pause)
        for waiting in self._sinks:
            await waiting.drained()
            waiting.sink.close()

    # --- for the sinks' queues ----------------------------------------------------------------------------

    @property
    def is_closing(self) -> bool:
        """Whether what cannot be written is given up."""
        return self._is_closing

    async def pause(self, seconds: float) -> None:
        """Sleep, but not longer than until the end."""
        if self._is_closing:
            return
        pause: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pauses.add(pause)
        timer = self._clock.call_later(seconds, lambda: _end(pause))
        try:
            await pause
        finally:
            timer.cancel()
            self._pauses.discard(pause)

    def lost_event(self, count: int) -> AuditEvent:
        """The event that says how many were lost."""
        return AuditEvent(
            time=self._now(),
            principal="",
            host="",
            action="audit",
            outcome="lost",
            reason=f"more than {WAITING_MAX} events waited",
            count=count,
        )

    # ------------------------------------------------------------------------------------------------------

    def _now(self) -> str:
        return format_iso(self._clock.wall_ms())

    def _record(self, event: AuditEvent) -> None:
        self.total_count += 1
        identity = msgspec.json.encode(msgspec.structs.replace(event, time=""))
        repeated = self._repeated.get(identity)
        if repeated is not None:
            self._repeated[identity] = event, repeated[1] + 1
            return
        if len(self._repeated) < REPEATED_MAX:
            self._repeated[identity] = event, 0
            if self._timer is None:
                self._timer = self._clock.call_later(REPEATED_S, self._pass_on_repeated)
        self._put(event)

    def _pass_on_repeated(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        repeated, self._repeated = self._repeated, {}
        for event, count in repeated.values():
            if count:
                self._put(msgspec.structs.replace(event, count=count))

    def _put(self, event: AuditEvent) -> None:
        if self._is_closing:
            return
        for waiting in self._sinks:
            waiting.put(event)


def _end(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)
