"""Reads through librdkafka: one consumer for each reader or member, polled in a thread of the engine.

Owns: the settings of the consumers, the conversion of their messages to events, and the skipping of batches
that cannot be decoded. An error of one partition does not cost the events of the others: it is raised by the
read after the one that returns them. Refuses: polling in the event loop, and two polls of one consumer at a
time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from operator import methodcaller
from typing import Any, ClassVar, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from mainstem.clock import BlockingClock
from mainstem.contract import Event, Headers, NotReachable, Position, ReadResult, StreamError
from mainstem.engines.kafka.errors import UNREADABLE, translate
from mainstem.engines.kafka.headers import HeaderReader

T = TypeVar("T")

POLL_S = 0.25
"""Longest poll. A poll in a thread cannot be cancelled, so Ctrl-C may have to wait for it."""

CONSUMER_SETTINGS: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "check.crcs": True,
    "fetch.wait.max.ms": 250,
    "fetch.error.backoff.ms": 20,
    "fetch.queue.backoff.ms": 20,
    "queued.max.messages.kbytes": 32_768,
    "allow.auto.create.topics": False,
}


_headers_of: Callable[[Message], list[tuple[str, bytes | None]] | None] = methodcaller("headers")
"""`message.headers()`. If a name is not UTF-8, it returns a broken list, with an exception beside it. A call
in Python may use that list; a call from C checks it and raises SystemError."""


def event_of(message: Message, header_reader: HeaderReader) -> Event:
    """The event in a message that has no error."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    try:
        headers: Headers = tuple(_headers_of(message) or ())
    except (SystemError, UnicodeDecodeError):
        headers = header_reader.read(topic, partition, offset)
    return Event(topic, partition, offset, message.timestamp()[1], message.key(), message.value(), headers)


class PollingConsumer:
    """A librdkafka consumer that one call at a time uses."""

    IGNORED: ClassVar[frozenset[int]] = frozenset()
    """Codes of errors that change nothing."""

    def __init__(
        self,
        executor: Executor,
        clock: BlockingClock,
        headers: HeaderReader,
        consumer: Consumer,
        subject: str,
    ) -> None:
        self._executor = executor
        self._clock = clock
        self._header_reader = headers
        self._consumer = consumer
        self._subject = subject
        self._positions: dict[tuple[str, int], int] = {}
        self._skipped_until: dict[tuple[str, int], int] = {}
        self._errors: deque[StreamError] = deque()
        """Errors that came together with events, in their order. Each is raised by a read of its own, because
        librdkafka reports the error of a partition only once."""
        self._poll_s = POLL_S
        self._lock = asyncio.Lock()
        """Held by each call of the consumer. It lets them in in their order."""
        self._closed = False

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        try:
            running = asyncio.get_running_loop().run_in_executor(self._executor, call, *arguments)
        except RuntimeError:
            raise NotReachable(f"{self._subject}: the connection to the cluster was closed") from None
        return await running

    async def read(self, *, max_events: int = 1_000, wait_ms: int = 1_000) -> ReadResult:
        """See the contract."""
        deadline = self._clock.monotonic() + wait_ms / 1000
        while True:
            left_s = deadline - self._clock.monotonic()
            async with self._lock:
                result = await self._in_thread(self._poll, max_events, max(0.0, min(left_s, self._poll_s)))
            if result or left_s <= self._poll_s:
                return result

    def _poll(self, max_events: int, wait_s: float) -> ReadResult:
        if self._closed:
            return ReadResult()
        if self._errors:
            raise self._errors.popleft()
        messages: list[Message] = []
        try:
            first = self._consumer.poll(wait_s)
            if first is not None:
                messages.append(first)
                if max_events > 1:
                    messages += self._consumer.consume(max_events - 1, 0)
                if not self._owns(first):
                    del messages[0]
        except KafkaException as error:
            self._errors.append(translate(error, self._subject))
        result = self._to_result(messages)
        if not result and self._errors:
            raise self._errors.popleft()
        return result

    def _owns(self, first: Message) -> bool:
        """Whether the partition of a message is still to be read, after a call that may have changed that."""
        return True

    def _to_result(self, messages: Sequence[Message]) -> ReadResult:
        """What the messages hold. Errors are added to `_errors`."""
        events: list[Event] = []
        unreadable: list[Position] = []
        again: dict[tuple[str, int], int] = {}
        """Partitions to be read again from an offset, since the headers of an event cannot be read now."""
        failure: StreamError | None = None
        for message in messages:
            key = (message.topic(), message.partition())
            error = message.error()
            if error is None and again:
                again.setdefault(key, message.offset())
            elif error is None:
                try:
                    event = event_of(message, self._header_reader)
                except StreamError as headers_unreadable:
                    again[key] = message.offset()
                    failure = headers_unreadable
                    continue
                self._positions[key] = event.offset + 1
                events.append(event)
            elif error.code() == KafkaError._PARTITION_EOF:
                if key not in again:  # the last offsets may have no event: markers of transactions
                    self._positions[key] = max(message.offset(), self._positions.get(key, 0))
            elif error.code() in UNREADABLE:
                if key not in again:
                    unreadable += self._skip(message)
            elif not error.retriable() and error.code() not in self.IGNORED:
                self._errors.append(translate(error, self._subject))
        self._seek(again)
        if failure is not None and not events and not unreadable:
            self._errors.append(failure)
        return ReadResult(events, unreadable)

    def _seek(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Have the next poll return these partitions from these offsets."""
        for key, offset in offsets.items():
            with contextlib.suppress(KafkaException):  # a partition that was revoked meanwhile
                self._consumer.seek(TopicPartition(*key, offset))

    def _skip(self, message: Message) -> list[Position]:
        """Skip one offset of a batch that cannot be decoded. Returns the start of the batch the first time.

        librdkafka continues after such a batch by itself if it fetched good ones together with it. A batch
        that is alone, or that the server refuses (CORRUPT_MESSAGE), would be fetched for ever. Its end is not
        known, so it is skipped offset by offset."""
        key = (message.topic(), message.partition())
        damaged = message.offset()
        is_known = damaged <= self._skipped_until.get(key, -1)
        next_offset = max(self._positions.get(key, 0), damaged) + 1
        self._skipped_until[key] = self._positions[key] = next_offset
        self._seek({key: next_offset})
        return [] if is_known else [Position(*key, damaged)]

    async def close(self) -> None:
        """See the contract."""
        if not self._closed:
            async with self._lock:
                self._closed = True
                await self._in_thread(self._consumer.close)


class KafkaReader(PollingConsumer):
    """Implements the contract's Reader."""

    IGNORED: ClassVar[frozenset[int]] = frozenset((KafkaError.GROUP_AUTHORIZATION_FAILED,))
    """librdkafka looks for the coordinator of the group that it demands a name for, and that is not used."""

    def __init__(
        self,
        executor: Executor,
        common: dict[str, Any],
        clock: BlockingClock,
        headers: HeaderReader,
        start: Sequence[Position],
    ) -> None:
        settings = {
            **common,
            **CONSUMER_SETTINGS,
            "group.id": "mainstem-reader",
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
        }
        topics = ", ".join(sorted({position.topic for position in start}))
        super().__init__(executor, clock, headers, Consumer(settings), f"reading {topics}")
        self._positions.update({(position.topic, position.partition): position.offset for position in start})
        self._assign()

    def _assign(self) -> None:
        self._errors.clear()  # those that still apply come again
        self._consumer.assign([TopicPartition(*key, offset) for key, offset in self._positions.items()])

    def positions(self) -> list[Position]:
        """See the contract."""
        return sorted(
            Position(topic, partition, offset) for (topic, partition), offset in self._positions.items()
        )

    def seek(self, position: Position) -> None:
        """See the contract."""
        assert (position.topic, position.partition) in self._positions, (
            "the partition is not one of the reader's"
        )
        self._positions[position.topic, position.partition] = position.offset
        # librdkafka's `seek` fails for a partition whose fetcher stopped at an offset out of range; a new
        # assignment does not.
        self._assign()


def event_headers_at(
    common: Mapping[str, Any], clock: BlockingClock, positions: Sequence[Position], timeout_s: float
) -> dict[tuple[str, int], int]:
    """The time (ms) of the event at each position, for those that can be read within the timeout. Blocks."""
    settings = {
        **common,
        **CONSUMER_SETTINGS,
        "group.id": "mainstem-reader",
        "auto.offset.reset": "earliest",  # where retention removed the position: the oldest event
        "max.partition.fetch.bytes": 1_024,
        "queued.min.messages": 1,
    }
    consumer = Consumer(settings)
    times: dict[tuple[str, int], int] = {}
    deadline = clock.monotonic() + timeout_s
    try:
        consumer.assign(
            [TopicPartition(position.topic, position.partition, position.offset) for position in positions]
        )
        while len(times) < len(positions) and clock.monotonic() < deadline:
            message = consumer.poll(POLL_S)
            if message is None or message.error() is not None:
                continue
            key = (message.topic(), message.partition())
            times.setdefault(key, message.timestamp()[1])
            consumer.incremental_unassign([TopicPartition(*key)])
    except KafkaException as error:
        raise translate(error, "reading the oldest unread events") from None
    finally:
        consumer.close()
    return times
