"""Makes events of values and publishes them.

Owns: keys, headers, times and delays as programs give them, and publishing many values in parts that keep
their order. Refuses: codecs, which topics have.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

from mainstem.api.backend import Backend
from mainstem.api.codec import Codec
from mainstem.api.points import delay_ms, event_time_ms
from mainstem.api.tracing import publishing, with_trace
from mainstem.contract import Engine, Headers, NewEvent, Position
from mainstem.queues.event_headers import NOT_BEFORE_HEADER

T = TypeVar("T")
Key: TypeAlias = str | bytes | None
HeaderValues: TypeAlias = Mapping[str, str | bytes]

PART_EVENTS = 5_000
"""Values of `publish_many` that are handed over together."""
PARTS_MAX = 4
"""Parts that wait for their acknowledgement at the same time."""


def key_bytes(key: Key) -> bytes | None:
    """A key as it is published: text as UTF-8. TypeError: it is neither text nor bytes."""
    if isinstance(key, str):
        return key.encode(errors="surrogateescape")
    if key is None or isinstance(key, bytes):
        return key
    raise TypeError(f"a key is str or bytes, not {type(key).__name__}")


def header_pairs(headers: HeaderValues | None) -> Headers:
    """Headers as they are published. TypeError: a value is neither text nor bytes."""
    if not headers:
        return ()
    pairs = []
    for name, value in headers.items():
        if isinstance(value, str):
            value = value.encode(errors="surrogateescape")
        elif not isinstance(value, bytes):
            raise TypeError(f"the header {name} is str or bytes, not {type(value).__name__}")
        pairs.append((name, value))
    return tuple(pairs)


async def publish_value(
    backend: Backend,
    topic: str,
    value: bytes | None,
    *,
    key: Key = None,
    headers: HeaderValues | None = None,
    time: datetime | None = None,
    partition: int | None = None,
    delay: float | timedelta | None = None,
) -> Position:
    """Publish an encoded value. See `Topic.publish`."""
    pairs = header_pairs(headers)
    if delay is not None:
        not_before_ms = backend.clock.wall_ms() + delay_ms(delay)
        pairs = (*pairs, (NOT_BEFORE_HEADER, b"%d" % not_before_ms))
    with publishing(topic) as trace:
        event = NewEvent(value, key_bytes(key), with_trace(pairs, trace), event_time_ms(time), partition)
        return (await backend.engine.publish(topic, [event]))[0]


async def publish_values(
    backend: Backend,
    topic: str,
    codec: Codec[T],
    values: Iterable[T] | AsyncIterable[T],
    key: Callable[[T], Key] | None,
    headers: HeaderValues | None,
) -> int:
    """Publish many values. See `Topic.publish_many`."""
    pairs = header_pairs(headers)
    waiting: deque[asyncio.Task[None]] = deque()
    count = 0
    with publishing(topic) as trace:
        pairs = with_trace(pairs, trace)
        try:
            async for part in _parts(values):
                task = asyncio.ensure_future(_publish_part(backend.engine, topic, codec, part, key, pairs))
                waiting.append(task)
                await asyncio.wait([task], timeout=0)  # begins it, before the next part is made
                count += len(part)
                if len(waiting) >= PARTS_MAX:
                    await waiting.popleft()
            while waiting:
                await waiting.popleft()
        finally:
            if waiting:  # one has failed, or the call was cancelled: none is left behind unobserved
                await asyncio.gather(*waiting, return_exceptions=True)
    return count


@runtime_checkable
class PublishesPlain(Protocol):
    """An engine that publishes values and keys faster than events with all that they can have."""

    async def publish_plain(
        self, topic: str, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None
    ) -> None: ...


async def _publish_part(
    engine: Engine,
    topic: str,
    codec: Codec[T],
    values: list[T],
    key: Callable[[T], Key] | None,
    headers: Headers,
) -> None:
    encoded = list(map(codec.encode, values))
    keys = None if key is None else [key_bytes(key(value)) for value in values]
    if not headers and isinstance(engine, PublishesPlain):
        await engine.publish_plain(topic, encoded, keys)
        return
    pairs = zip(encoded, itertools.repeat(None) if keys is None else keys, strict=False)
    await engine.publish(topic, [NewEvent(value, key, headers) for value, key in pairs])


async def _parts(values: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[list[T], None]:
    part: list[T] = []
    if isinstance(values, AsyncIterable):
        async for value in values:
            part.append(value)
            if len(part) >= PART_EVENTS:
                yield part
                part = []
    else:
        for value in values:
            part.append(value)
            if len(part) >= PART_EVENTS:
                yield part
                part = []
    if part:
        yield part
