"""Readers of the Kafka engine, on a consumer that returns what a test prepares: no event and no error of a
poll is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from mainstem.clock import BlockingClock
from mainstem.contract import Headers, Position, PositionOutOfRange, StreamError, UnknownTopic
from mainstem.engines.kafka import read
from mainstem.engines.kafka.headers import HeaderReader
from mainstem.engines.kafka.read import KafkaReader

OUT_OF_RANGE = KafkaError._AUTO_OFFSET_RESET
UNKNOWN = KafkaError.UNKNOWN_TOPIC_OR_PART
BAD_BATCH = KafkaError._BAD_MSG


class PreparedMessage:
    """A message, or the error of a partition."""

    def __init__(self, partition: int, offset: int, code: int | None = None) -> None:
        self._partition, self._offset = partition, offset
        self._error = None if code is None else KafkaError(code, f"error {code} of {partition}")

    def topic(self) -> str:
        return "orders"

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return self._error

    def timestamp(self) -> tuple[int, int]:
        return 1, 0

    def key(self) -> None:
        return None

    value = headers = key


class PreparedConsumer:
    """Returns each list of `polls` by one poll. An exception among the messages is raised."""

    def __init__(self, *polls: Sequence[PreparedMessage | Exception]) -> None:
        self.polls = [list(poll) for poll in polls]
        self.sought: list[tuple[int, int]] = []
        self.assigned: list[tuple[int, int]] = []

    def _next(self) -> PreparedMessage | None:
        if not self.polls or not self.polls[0]:
            return None
        message = self.polls[0].pop(0)
        if isinstance(message, Exception):
            raise message
        return message

    def poll(self, _: float) -> PreparedMessage | None:
        while self.polls and not self.polls[0]:
            self.polls.pop(0)
        return self._next()

    def consume(self, count: int, _: float) -> list[PreparedMessage]:
        messages: list[PreparedMessage] = []
        while len(messages) < count and (message := self._next()) is not None:
            messages.append(message)
        return messages

    def seek(self, target: TopicPartition) -> None:
        self.sought.append((target.partition, target.offset))

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.assigned = [(assigned.partition, assigned.offset) for assigned in partitions]


class UnreadableHeaders:
    """A header reader that fails."""

    def read(self, topic: str, partition: int, offset: int) -> Headers:
        raise StreamError(f"{topic} {partition}@{offset}: its headers cannot be read")


@pytest.fixture
def reader_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[PreparedConsumer], KafkaReader]]:
    """Makes a reader of three partitions on a prepared consumer."""
    with ThreadPoolExecutor(1) as executor:

        def make(consumer: PreparedConsumer) -> KafkaReader:
            monkeypatch.setattr(read, "Consumer", lambda settings: consumer)
            start = [Position("orders", partition, 0) for partition in range(3)]
            headers = cast(HeaderReader, UnreadableHeaders())
            return KafkaReader(executor, {}, BlockingClock(), headers, start)

        yield make


def outcomes(reader: KafkaReader, reads: int, between: Callable[[], Any] = lambda: None) -> list[Any]:
    """What some reads return: (partition, offset) of the events and of what is unreadable, or the class of
    the error."""

    async def work() -> list[Any]:
        results: list[Any] = []
        for _ in range(reads):
            try:
                result = await reader.read(wait_ms=0)
            except StreamError as error:
                results.append(type(error))
            else:
                events = [(event.partition, event.offset) for event in result.events]
                results.append(
                    events + [(position.partition, position.offset) for position in result.unreadable]
                )
            between()
        return results

    return asyncio.run(work())


ReaderOf = Callable[[PreparedConsumer], KafkaReader]


def test_an_error_of_one_partition_is_raised_after_the_events_of_its_poll(reader_of: ReaderOf) -> None:
    poll = [PreparedMessage(0, 0), PreparedMessage(1, -1, OUT_OF_RANGE), PreparedMessage(2, 0)]
    reader = reader_of(PreparedConsumer(poll, [PreparedMessage(0, 1)]))
    assert outcomes(reader, 4) == [[(0, 0), (2, 0)], PositionOutOfRange, [(0, 1)], []]
    assert [position.offset for position in reader.positions()] == [2, 0, 1]


def test_an_error_without_events_is_raised_at_once(reader_of: ReaderOf) -> None:
    reader = reader_of(PreparedConsumer([PreparedMessage(1, -1, OUT_OF_RANGE)], [PreparedMessage(0, 0)]))
    assert outcomes(reader, 2) == [PositionOutOfRange, [(0, 0)]]


def test_each_error_of_a_poll_is_raised(reader_of: ReaderOf) -> None:
    poll = [
        PreparedMessage(1, -1, OUT_OF_RANGE),
        PreparedMessage(0, 0),
        PreparedMessage(2, -1, UNKNOWN),
        PreparedMessage(0, 1),
    ]
    reader = reader_of(PreparedConsumer(poll, [PreparedMessage(0, 2)]))
    assert outcomes(reader, 4) == [[(0, 0), (0, 1)], PositionOutOfRange, UnknownTopic, [(0, 2)]]


def test_a_seek_drops_errors_that_come_again_if_they_still_apply(reader_of: ReaderOf) -> None:
    poll = [PreparedMessage(0, 0), PreparedMessage(1, -1, OUT_OF_RANGE)]
    consumer = PreparedConsumer(poll, [PreparedMessage(1, 7)])
    reader = reader_of(consumer)
    assert outcomes(reader, 2, lambda: reader.seek(Position("orders", 1, 7))) == [[(0, 0)], [(1, 7)]]
    assert consumer.assigned == [(0, 1), (1, 7), (2, 0)]


def test_an_event_is_not_lost_if_more_cannot_be_consumed(reader_of: ReaderOf) -> None:
    failure = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    reader = reader_of(PreparedConsumer([PreparedMessage(0, 0), failure], [PreparedMessage(0, 1)]))
    results = outcomes(reader, 3)
    assert results[0] == [(0, 0)]
    assert issubclass(results[1], StreamError)
    assert results[2] == [(0, 1)]


def test_errors_behind_headers_that_cannot_be_read_are_reported(
    reader_of: ReaderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def headers_of(message: PreparedMessage) -> list[tuple[str, bytes | None]]:
        if message.offset() == 1:
            raise SystemError
        return []

    monkeypatch.setattr(read, "_headers_of", headers_of)
    poll = [
        PreparedMessage(0, 0),
        PreparedMessage(0, 1),
        PreparedMessage(0, 2, BAD_BATCH),
        PreparedMessage(1, 5, BAD_BATCH),
        PreparedMessage(2, -1, OUT_OF_RANGE),
    ]
    consumer = PreparedConsumer(poll)
    reader = reader_of(consumer)
    assert outcomes(reader, 3) == [[(0, 0), (1, 5)], PositionOutOfRange, []]
    assert (0, 1) in consumer.sought, "partition 0 is read again from there, with its damaged batch"
    assert [position.offset for position in reader.positions()] == [1, 6, 0]
