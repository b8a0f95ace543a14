"""Publishes messages to a topic that clients name as an exchange, `kafka.TOPIC`.

Owns: the event of such a message: its key is the routing key, if there is one. Refuses: to create the topic,
and the rights to it, which the requester's engine checks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mainstem.amqp.errors import no_exchange
from mainstem.amqp.field_tables import FieldTableError
from mainstem.amqp.messages import AmqpMessage, event_key, expiration_ms, stored_headers_of
from mainstem.amqp.publisher import PublishOutcome
from mainstem.amqp.streams import partition_count
from mainstem.amqp.topic_names import topic_of_exchange
from mainstem.contract import Engine, NewEvent, NotAuthorized, StreamError


def publish_to_topics(
    engine: Engine, vhost: str, messages: Sequence[AmqpMessage], now_ms: int
) -> asyncio.Future[list[PublishOutcome]]:
    """Publish messages to their topics, in order for each key, and after those of earlier calls. It begins
    whether or not the value is waited for, which has the result of each. AmqpError (404): there is no such
    topic; NotAuthorized."""
    return asyncio.ensure_future(_publish_all(engine, vhost, messages, now_ms))


async def _publish_all(
    engine: Engine, vhost: str, messages: Sequence[AmqpMessage], now_ms: int
) -> list[PublishOutcome]:
    by_topic: dict[str, list[int]] = {}
    for number, message in enumerate(messages):
        by_topic.setdefault(topic_of_exchange(message.exchange), []).append(number)
    # A task each, also for a single one: calls keep their order only if all take as many turns of the loop.
    calls = (
        _publish(engine, vhost, [messages[number] for number in numbers], now_ms)
        for numbers in by_topic.values()
    )
    outcomes: dict[int, PublishOutcome] = {}
    for numbers, results in zip(
        by_topic.values(), await asyncio.gather(*calls, return_exceptions=True), strict=True
    ):
        if isinstance(results, BaseException):
            raise results
        outcomes |= dict(zip(numbers, results, strict=True))
    return [outcomes[number] for number in range(len(messages))]


async def _publish(
    engine: Engine, vhost: str, messages: Sequence[AmqpMessage], now_ms: int
) -> list[PublishOutcome]:
    exchange = messages[0].exchange
    topic = topic_of_exchange(exchange)
    if not await partition_count(engine, topic):
        raise no_exchange(exchange, vhost)
    events = [_event(message, now_ms) for message in messages]
    given = [event for event in events if event is not None]
    failed: Sequence[object] = [None] * len(given)
    try:
        await engine.publish(topic, given)
    except NotAuthorized:
        raise
    except StreamError as error:
        failed = error.results or [error] * len(given)
    results = iter(failed)
    return [
        "refused" if event is None or isinstance(next(results), StreamError) else "routed" for event in events
    ]


def _event(message: AmqpMessage, now_ms: int) -> NewEvent | None:
    """The event of a message; None: a property is invalid."""
    key = event_key(message)
    try:
        lives_ms = expiration_ms(message.properties)
        headers = stored_headers_of(message, key, expires_ms=None if lives_ms is None else now_ms + lives_ms)
    except FieldTableError:
        return None
    return NewEvent(message.body, key or None, headers)
