"""The publishers of one connection: from Publish frames to events, and back to confirms.

Owns: what a publisher has received and not confirmed, and one call of the engine at a time for each, so that
its messages keep their order; what arrives during a call goes into the next one. A publisher with a reference
is a numbered producer of the engine: what it sends again is confirmed and not stored; the messages of a
sub-entry batch share one number. Refuses: nothing; frames are checked before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mainstem.amqp.streams import StreamPlace
from mainstem.contract import Engine, NewEvent, Position, StreamError
from mainstem.door_contract import PublishesOnce
from mainstem.doors.rabbitmq_stream.messages import to_event_parts
from mainstem.doors.rabbitmq_stream.publish_frames import (
    PublishedEntry,
    PublishFrame,
    confirm_frame,
    error_frame,
)
from mainstem.doors.rabbitmq_stream.response_code import ResponseCode, code_of

CALL_EVENTS = 5_000
CALL_BYTES = 4 << 20
"""About the most that is passed to the engine at once."""
EVENT_OVERHEAD_BYTES = 100


class _Pending(NamedTuple):
    """An entry that is not confirmed."""

    publishing_id: int
    events: list[NewEvent]
    size_bytes: int


class DeclaredPublisher:
    """One publisher. `send` sends a frame; `released` is called with the messages and bytes that are done."""

    def __init__(
        self,
        publisher_id: int,
        reference: str,
        stream: str,
        place: StreamPlace,
        engine: Engine,
        send: Callable[[list[bytes]], object],
        released: Callable[[int, int], None],
    ) -> None:
        self.publisher_id = publisher_id
        self.reference = reference
        self.stream = stream
        self.place = place
        self._engine = engine
        self._send = send
        self._released = released
        self._pending: deque[_Pending] = deque()
        self.is_running = False
        """Whether `run` runs."""
        self.is_deleted = False
        """Whether nothing more is confirmed, because the client has deleted the publisher, or the stream is
        deleted."""

    def add(self, frame: PublishFrame) -> tuple[int, int]:
        """Queue the messages of a frame. Returns their number and bytes. The caller then starts `run`, unless
        it runs."""
        messages = size_bytes = 0
        if frame.refused:
            self._report([], [(id_, ResponseCode.PRECONDITION_FAILED) for id_ in frame.refused])
        for entry in frame.entries:
            pending = self._pending_of(entry)
            self._pending.append(pending)
            messages += len(pending.events)
            size_bytes += pending.size_bytes
        return messages, size_bytes

    def _pending_of(self, entry: PublishedEntry) -> _Pending:
        events, size_bytes = [], 0
        for message in entry.messages:
            value, headers = to_event_parts(message, entry.filter_value)
            events.append(NewEvent(value, None, headers, None, self.place.partition))
            size_bytes += len(message) + EVENT_OVERHEAD_BYTES
        return _Pending(entry.publishing_id, events, size_bytes)

    async def run(self) -> None:
        """Publish what is queued, until nothing is."""
        self.is_running = True
        try:
            while self._pending:
                entries = self._take()
                try:
                    await self._publish(entries)
                finally:
                    self._released(
                        sum(len(entry.events) for entry in entries),
                        sum(entry.size_bytes for entry in entries),
                    )
        finally:
            self.is_running = False

    def drop(self) -> None:
        """Forget what is queued: the stream or the client is gone."""
        self.is_deleted = True
        entries = list(self._pending)
        self._pending.clear()
        self._released(
            sum(len(entry.events) for entry in entries), sum(entry.size_bytes for entry in entries)
        )

    def _take(self) -> list[_Pending]:
        """The entries of the next call."""
        entries: list[_Pending] = []
        count = size_bytes = 0
        while self._pending and count < CALL_EVENTS and size_bytes < CALL_BYTES:
            entry = self._pending.popleft()
            entries.append(entry)
            count += len(entry.events)
            size_bytes += entry.size_bytes
        return entries

    async def _publish(self, entries: Sequence[_Pending]) -> None:
        results = await (self._once(entries) if self.reference else self._plain(entries))
        confirmed: list[int] = []
        errors: list[tuple[int, ResponseCode]] = []
        for entry, result in zip(entries, results, strict=True):
            if result is None:
                confirmed.append(entry.publishing_id)
            else:
                errors.append((entry.publishing_id, result))
        self._report(confirmed, errors)

    async def _plain(self, entries: Sequence[_Pending]) -> list[ResponseCode | None]:
        """Publish entries. The code of each one that failed."""
        events = [event for entry in entries for event in entry.events]
        try:
            await self._engine.publish(self.place.topic, events)
        except StreamError as error:
            by_event: Sequence[Any] = error.results or [error] * len(events)
        else:
            return [None] * len(entries)
        position, codes = 0, []
        for entry in entries:
            part = by_event[position : position + len(entry.events)]
            position += len(entry.events)
            codes.append(next((code_of(result) for result in part if not isinstance(result, Position)), None))
        return codes

    async def _once(self, entries: Sequence[_Pending]) -> list[ResponseCode | None]:
        """As `_plain`, for numbered entries: those whose numbers do not rise were stored before."""
        assert isinstance(self._engine, PublishesOnce), "checked when the publisher was declared"
        codes: list[ResponseCode | None] = [None] * len(entries)
        numbered: list[tuple[int, NewEvent]] = []
        positions: list[int] = []
        highest = -1
        for position, entry in enumerate(entries):
            if entry.publishing_id > highest:
                highest = entry.publishing_id
                numbered += [(highest, event) for event in entry.events]
                positions += [position] * len(entry.events)
        try:
            results = await self._engine.publish_once(
                self.place.topic, self.reference, numbered, ids_may_repeat=True
            )
        except StreamError as error:
            return [code_of(error)] * len(entries)
        for position, result in zip(positions, results, strict=True):
            if isinstance(result, StreamError):
                codes[position] = code_of(result)
        return codes

    def _report(self, confirmed: Sequence[int], errors: Sequence[tuple[int, ResponseCode]]) -> None:
        if self.is_deleted:
            return
        if confirmed:
            self._send([confirm_frame(self.publisher_id, confirmed)])
        if errors:
            self._send([error_frame(self.publisher_id, errors)])
