"""Appends messages to streams.

A stream has its own copy of a message, in its topic: what consumers of a stream read is what is there. Owns:
the event of a message in a stream, and calls of the engine. Refuses: to write to the topic of an exchange,
which is a stream for readers only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from mainstem.amqp.messages import AmqpMessage, event_key, stored_headers_of
from mainstem.amqp.streams import StreamPlace
from mainstem.amqp.topic_names import is_of_exchange
from mainstem.contract import InvalidArgument, NewEvent, Position, StreamError
from mainstem.routing_contract import EXCHANGE_HEADER


class AppendsEvents(Protocol):
    """The methods of an engine that this needs."""

    async def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Position]:
        """See `mainstem.contract.EventLog`."""


class StreamEvent(NamedTuple):
    """A message for a stream."""

    place: StreamPlace
    event: NewEvent


def stream_event(message: AmqpMessage, place: StreamPlace) -> StreamEvent:
    """The event of a message in a stream: as in its exchange's topic, but with the exchange in a header, and
    without times: messages of a stream neither wait nor expire. FieldTableError: a property that AMQP cannot
    hold."""
    key = event_key(message)
    headers = stored_headers_of(message, key)
    if message.exchange:
        headers = (*headers, (EXCHANGE_HEADER, message.exchange.encode("utf-8", "surrogateescape")))
    return StreamEvent(place, NewEvent(message.body, key, headers, None, place.partition))


async def append_to_streams(
    engine: AppendsEvents, events: Sequence[StreamEvent]
) -> list[Position | StreamError]:
    """Append events, in this order in each stream, and after those of earlier calls. The result of each, when
    all are durable or have failed. It raises no StreamError."""
    by_topic: dict[str, list[int]] = {}
    for number, (place, _) in enumerate(events):
        by_topic.setdefault(place.topic, []).append(number)
    topics = list(by_topic)
    # A task each, also for a single one: calls keep their order only if all take as many turns of the loop.
    calls = (_append(engine, topic, [events[number].event for number in by_topic[topic]]) for topic in topics)
    results: dict[int, Position | StreamError] = {}
    for topic, part in zip(topics, await asyncio.gather(*calls), strict=True):
        results |= dict(zip(by_topic[topic], part, strict=True))
    return [results[number] for number in range(len(events))]


async def _append(
    engine: AppendsEvents, topic: str, events: Sequence[NewEvent]
) -> Sequence[Position | StreamError]:
    if is_of_exchange(topic):
        return [InvalidArgument(f"topic {topic}: only its exchange writes to it")] * len(events)
    try:
        return await engine.publish(topic, events)
    except StreamError as error:
        return error.results or [error] * len(events)
