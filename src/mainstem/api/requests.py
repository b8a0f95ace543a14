"""Requests that wait for a reply, over topics.

Owns: the topic of replies, the headers by which a reply finds its request, and waiting for it. Refuses: a
reply to any other topic than the one of the request's own: what a publisher writes into a header must not
decide where a handler's result goes.

A request is an event of its topic with the headers `reply-to` (topic:NAME.replies) and `correlation-id`. The
reply is an event of the topic NAME.replies with the same correlation-id. One that says that there will be no
reply has the header `mainstem-request-failed` with the reason. Everyone who sends requests to a topic reads
all of its replies, from the moment of the first request on.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TypeVar

from mainstem.api.backend import Backend
from mainstem.api.codec import Codec, codec_of
from mainstem.api.errors import RequestFailed, RequestTimeout
from mainstem.api.publishing import HeaderValues, Key, publish_value
from mainstem.contract import (
    Engine,
    Event,
    NewEvent,
    NotReachable,
    Position,
    Reader,
    StreamError,
    TopicExists,
)

R = TypeVar("R")

REPLY_TO_HEADER = "reply-to"
CORRELATION_HEADER = "correlation-id"
FAILED_HEADER = "mainstem-request-failed"
REPLIES_SUFFIX = ".replies"
REPLIES_SETTINGS = {"retention.ms": "3600000"}
CORRELATION_BYTES_MAX = 200
REASON_CHARACTERS_MAX = 1_000

_encode = codec_of().encode


class Replies:
    """Sends the replies of handlers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def wants_reply(self, event: Event) -> bool:
        """Whether the publisher of an event waits for a reply in the topic that the event's own has for
        them."""
        return _correlation_of(event) is not None

    async def send_reply(self, event: Event, value: object) -> None:
        """Send what a handler returned; None is no reply, so that handlers of other groups can reply.
        TypeError: the value cannot be encoded. StreamError."""
        if value is None:
            return
        await self._send(event, _encode(value), ())

    async def send_failure(self, event: Event, reason: str) -> None:
        """Say that there will be no reply. StreamError."""
        text = reason[:REASON_CHARACTERS_MAX].encode(errors="replace")
        await self._send(event, None, ((FAILED_HEADER, text),))

    async def _send(self, event: Event, value: bytes | None, headers: tuple[tuple[str, bytes], ...]) -> None:
        correlation = _correlation_of(event)
        if correlation is not None:
            reply = NewEvent(value, headers=((CORRELATION_HEADER, correlation), *headers))
            await self._engine.publish(event.topic + REPLIES_SUFFIX, [reply])


def _correlation_of(event: Event) -> bytes | None:
    """The id of a request; None if no reply is to be sent."""
    if not event.headers:
        return None
    headers = dict(event.headers)
    correlation = headers.get(CORRELATION_HEADER)
    if headers.get(REPLY_TO_HEADER) != f"topic:{event.topic}{REPLIES_SUFFIX}".encode():
        return None
    return correlation if correlation and len(correlation) <= CORRELATION_BYTES_MAX else None


class ReplyWaiter:
    """Sends requests on a backend, and waits for their replies. Used in one event loop."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._listeners: dict[str, _ReplyListener] = {}
        self._starting = asyncio.Lock()

    async def request(
        self,
        topic: str,
        value: bytes | None,
        codec: Codec[R],
        *,
        key: Key,
        headers: HeaderValues | None,
        timeout_s: float,
    ) -> R:
        """Publish a request and return its reply. RequestTimeout, RequestFailed, Undecodable, StreamError."""
        correlation = uuid.uuid4().hex
        own = {REPLY_TO_HEADER: f"topic:{topic}{REPLIES_SUFFIX}", CORRELATION_HEADER: correlation}
        all_headers: HeaderValues = {**(headers or {}), **own}
        try:
            async with asyncio.timeout(timeout_s):
                listener = await self._listener(topic)
                reply_future = listener.expect(correlation)
                try:
                    await publish_value(self.backend, topic, value, key=key, headers=all_headers)
                    reply = await reply_future
                finally:
                    listener.forget(correlation)
        except TimeoutError:
            raise RequestTimeout(f"no reply to a request of topic {topic} within {timeout_s:g} s") from None
        failed = dict(reply.headers).get(FAILED_HEADER)
        if failed is not None:
            raise RequestFailed(failed.decode(errors="replace"))
        return codec.decode(reply.value)

    async def _listener(self, topic: str) -> _ReplyListener:
        name = topic + REPLIES_SUFFIX
        async with self._starting:
            listener = self._listeners.get(name)
            if listener is None or listener.has_ended:
                listener = self._listeners[name] = await _ReplyListener.start(self.backend.engine, name)
            return listener

    async def close(self) -> None:
        """Stop to wait: requests that wait for their replies fail."""
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            await listener.stop()


class _ReplyListener:
    """Reads a topic of replies, and gives each to who waits for it."""

    def __init__(self, name: str, reader: Reader) -> None:
        self._name = name
        self._reader = reader
        self._waiting: dict[bytes, asyncio.Future[Event]] = {}
        self._task = asyncio.ensure_future(self._read())

    @classmethod
    async def start(cls, engine: Engine, name: str) -> _ReplyListener:
        """Make the topic if it is missing, and read it from its end on."""
        with contextlib.suppress(TopicExists):
            await engine.create_topic(name, partitions=1, settings=REPLIES_SETTINGS)
        ends = [
            Position(name, partition, (await engine.bounds(name, partition)).end)
            for partition in range(await engine.partitions(name))
        ]
        return cls(name, await engine.reader(ends))

    @property
    def has_ended(self) -> bool:
        return self._task.done()

    def expect(self, correlation: str) -> asyncio.Future[Event]:
        """What will be the reply with this id."""
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._waiting[correlation.encode()] = future
        return future

    def forget(self, correlation: str) -> None:
        """Expect this reply no more."""
        self._waiting.pop(correlation.encode(), None)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _read(self) -> None:
        problem: StreamError = NotReachable("the stream was closed while a request waited for its reply")
        try:
            while True:
                for event in (await self._reader.read()).events:
                    future = self._waiting.get(dict(event.headers).get(CORRELATION_HEADER) or b"")
                    if future is not None and not future.done():
                        future.set_result(event)
        except StreamError as error:
            problem = error
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(problem)
            with contextlib.suppress(StreamError):
                await self._reader.close()
