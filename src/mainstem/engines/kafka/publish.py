"""Publishes events to a Kafka cluster through librdkafka.

Owns: the settings of its producer, and the delivery reports of one `publish` call.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Any, TypeAlias

from confluent_kafka import KafkaError, Message

from mainstem.contract import InvalidArgument, Position, StreamError
from mainstem.engines.kafka.errors import translate

PRODUCER_SETTINGS: dict[str, Any] = {
    "enable.idempotence": True,
    # An event that is awaited waits for nothing else; what comes meanwhile goes out together all the same.
    "linger.ms": 0,
    "partitioner": "murmur2_random",
    # The server decides which event is too large, not the client.
    "message.max.bytes": 100_000_000,
    "queue.buffering.max.messages": 200_000,
    "queue.buffering.max.kbytes": 131_072,
}

ENDED = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, KafkaError._FATAL})
"""Error codes of events that were not sent because the producer has ended."""


class PendingPublish:
    """A `publish` call that waits for its delivery reports, which arrive in librdkafka's polling thread."""

    def __init__(self, topic: str, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[list[Position]] = loop.create_future()
        self._topic = topic
        self._loop = loop
        self._pending_count = count
        self._results: list[Position | KafkaError | StreamError | None] = [None] * count
        self._lock = threading.Lock()

    def delivered(self, index: int, error: KafkaError | None, message: Message) -> None:
        """Callback for librdkafka's delivery report of one event."""
        self.set_result(index, error or Position(self._topic, message.partition(), message.offset()))

    def set_result(self, index: int, result: Position | KafkaError | StreamError) -> None:
        """Set the result of one event. May be called in any thread."""
        self._results[index] = result
        with self._lock:
            self._pending_count -= 1
            if self._pending_count:
                return
        self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if self.done.done():
            return
        positions = [result for result in self._results if isinstance(result, Position)]
        if len(positions) == len(self._results):
            self.done.set_result(positions)
            return
        subject = f"topic {self._topic}"
        results = [
            translate(result, subject) if isinstance(result, KafkaError) else result
            for result in self._results
        ]
        error = next(result for result in results if isinstance(result, StreamError))
        error.results = [result for result in results if result is not None]
        self.done.set_exception(error)


class PendingCount:
    """A call that publishes events without asking for their positions, and waits for their delivery reports,
    which arrive in librdkafka's polling thread while another thread still hands events over."""

    def __init__(self, topic: str, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        self._topic = topic
        self._loop = loop
        self._reported = 0
        self._expected = -1
        """Reports that will come; -1: not all events are handed over."""
        self._error: KafkaError | None = None
        self.ended: deque[EndedEvent] = deque()
        """Where events go that were not sent because the producer has ended, until it is known why."""

    def delivered(self, error: KafkaError | None, _: Message) -> None:
        """Callback for librdkafka's delivery report of each event. All come in one thread."""
        if error is not None and error.code() in ENDED:
            self.ended.append((self, 0, error))
        else:
            self.set_result(0, error)

    def set_result(self, _: int, error: KafkaError | None) -> None:
        """Count the report of an event. In the thread of `delivered` only."""
        if error is not None and self._error is None:
            self._error = error
        self._reported += 1
        if self._reported == self._expected:
            self._loop.call_soon_threadsafe(self._finish)

    def handed_over(self, count: int, error: KafkaError | None) -> None:
        """This number of events will be reported; `error` is that of one that was refused at once."""
        if error is not None and self._error is None:
            self._error = error
        self._expected = count
        if self._reported == count:  # each thread writes its number before it looks at the other's
            self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if self.done.done():
            return
        if self._error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(translate(self._error, f"topic {self._topic}"))


EndedEvent: TypeAlias = tuple["PendingPublish | PendingCount", int, KafkaError]
"""An event that was not sent because its producer has ended: its call, its index there, and the error."""


def time_refusal(time_ms: int | None) -> InvalidArgument | None:
    """The error for an event whose time librdkafka would not send as it is; None if it would. For librdkafka
    0 means "now" (`rd_kafka_msg_new0`), and -1 is Kafka's "no time"."""
    if time_ms is None or time_ms > 0:
        return None
    if time_ms == 0:
        return InvalidArgument(
            "an event of the time 0 (1970-01-01T00:00:00Z) cannot be written through Kafka's client library,"
            " which would write the present time instead; leave the time out or give another"
        )
    return InvalidArgument(f"an event cannot have the time {time_ms}: it is before 1970")
