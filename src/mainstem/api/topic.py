"""A topic with a model: all that a program does with its events, checked against one type.

Owns: which codec and which key belong to a topic. Refuses: to create it, which the server's settings decide,
and to connect, which the stream does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar, overload

from mainstem.api.attachment import Attachment
from mainstem.api.codec import Codec, codec_of
from mainstem.api.event import Event, decode_event
from mainstem.api.points import When, duration_s, point_ms
from mainstem.api.publishing import (
    HeaderValues,
    Key,
    header_pairs,
    key_bytes,
    publish_value,
    publish_values,
)
from mainstem.api.reading import ReadPlan, newest, read_lists
from mainstem.api.signals import Retry
from mainstem.api.subscriber import Declaration, ForList, ForOne, Start, Subscriber, options_of
from mainstem.contract import NewEvent, Position

T = TypeVar("T")
R = TypeVar("R")

BY_TOPIC: Any = object()
"""In place of a key: what the topic's `key` says."""


class Topic(Generic[T]):
    """A topic whose events have values of the model T. Made by `Stream.topic`."""

    def __init__(
        self,
        attachment: Attachment,
        subscribers: list[Subscriber],
        name: str,
        codec: Codec[T],
        key: Callable[[T], Key] | None,
    ) -> None:
        self.name = name
        self._attachment = attachment
        self._subscribers = subscribers
        self._codec = codec
        self._key = key

    def __repr__(self) -> str:
        return f"<topic {self.name}>"

    @property
    def codec(self) -> Codec[T]:
        """What makes bytes of values, and values of bytes."""
        return self._codec

    # --- publish ------------------------------------------------------------------------------------------

    async def publish(
        self,
        value: T,
        *,
        key: Key = BY_TOPIC,
        headers: HeaderValues | None = None,
        time: datetime | None = None,
        partition: int | None = None,
        delay: float | timedelta | None = None,
    ) -> Position:
        """Publish a value. Returns its position when it is durable; a retry inside never duplicates it.

        `key`: events of one key go to one partition, and keep their order there; without it, that of the
        topic's `key`. `headers`: text as UTF-8. `time`: of the event, now if None. `partition`: chosen by the
        key if None. `delay`: seconds, or a timedelta, before which no subscriber of this API gets the event;
        other clients see it at once.

        UnknownTopic, EventTooLarge, NotReachable, NotAllowed, InvalidArgument; TypeError if the value is not
        of the model.
        """
        return await publish_value(
            self._attachment.backend,
            self.name,
            self._codec.encode(value),
            key=self._key_of(value) if key is BY_TOPIC else key,
            headers=headers,
            time=time,
            partition=partition,
            delay=delay,
        )

    async def publish_many(
        self, values: Iterable[T] | AsyncIterable[T], *, headers: HeaderValues | None = None
    ) -> int:
        """Publish many values, of a list or of any iterable however long; `headers` are those of each.
        Returns how many there were when all are durable. Keys are those of the topic's `key`, and events of a
        key keep their order. Errors as `publish`: values before the one that failed may be published, and
        some after it."""
        return await publish_values(
            self._attachment.backend, self.name, self._codec, values, self._key, headers
        )

    async def request(
        self,
        value: T,
        reply: type[R],
        *,
        timeout: float | timedelta = 10.0,
        key: Key = BY_TOPIC,
        headers: HeaderValues | None = None,
    ) -> R:
        """Publish a value, and return what a subscriber's handler returned for it, as `reply`.

        RequestTimeout: there was no reply within `timeout` (seconds, or a timedelta), though the event may be
        handled later. RequestFailed: the event was given up. Undecodable: the reply is of another model.
        Errors as `publish`. Replies go through the topic NAME.replies, which the first request makes.
        """
        return await self._attachment.requester.request(
            self.name,
            self._codec.encode(value),
            codec_of(reply),
            key=self._key_of(value) if key is BY_TOPIC else key,
            headers=headers,
            timeout_s=duration_s(timeout),
        )

    def new_event(self, value: T, *, key: Key = None, headers: HeaderValues | None = None) -> NewEvent:
        """The event that `publish` would publish, for what publishes it later, such as an outbox; the stream
        need not be open. `key` None: what the topic's `key` says. TypeError: it is no value of the model."""
        chosen = self._key_of(value) if key is None else key
        return NewEvent(self._codec.encode(value), key_bytes(chosen), header_pairs(headers))

    def _key_of(self, value: T) -> Key:
        return None if self._key is None else self._key(value)

    # --- read ---------------------------------------------------------------------------------------------

    async def read(
        self,
        *,
        since: When | None = None,
        until: When | None = None,
        follow: bool = False,
        where: str = "",
    ) -> AsyncGenerator[Event[T], None]:
        """The events of the topic, without a group: nothing remembers that they were read. From `since`
        (None: the first one) to `until` (exclusive; None: what there is now), in the order of their offsets
        in each partition. A time is a datetime, a timedelta (this long ago), or text such as `2h` or
        2026-11-01. `follow`: go on with new ones, without an end. `where`: only those that match a query of
        the search.

        UnknownTopic, NotReachable, NotAllowed, InvalidArgument; Undecodable at an event that is not of the
        model.
        """
        async with aclosing(self.read_lists(since=since, until=until, follow=follow, where=where)) as lists:
            async for events in lists:
                for event in events:
                    yield event

    async def read_lists(
        self,
        *,
        since: When | None = None,
        until: When | None = None,
        follow: bool = False,
        where: str = "",
    ) -> AsyncGenerator[list[Event[T]], None]:
        """As `read`, in lists as they come: faster by what a step of a loop costs."""
        backend, codec = self._attachment.backend, self._codec
        now_ms = backend.clock.wall_ms()
        plan = ReadPlan(
            self.name,
            None if since is None else point_ms(since, now_ms),
            None if until is None else point_ms(until, now_ms),
            follow,
            where,
        )
        async with aclosing(read_lists(backend, plan)) as lists:
            async for events in lists:
                yield [decode_event(event, codec) for event in events]

    async def last(self, count: int = 1) -> list[Event[T]]:
        """The newest events, at most `count` (100,000), in the order of their times. Errors as `read`."""
        events = await newest(self._attachment.backend, self.name, count)
        return [decode_event(event, self._codec) for event in events]

    # --- subscribe ----------------------------------------------------------------------------------------

    @overload
    def subscriber(
        self,
        *,
        group: str,
        concurrency: int = 1,
        timeout: float | timedelta | None = None,
        retry: Retry | None = None,
        start: Start = "earliest",
    ) -> ForOne[T]: ...
    @overload
    def subscriber(
        self,
        *,
        group: str,
        batch: int,
        max_wait: float | timedelta = 1.0,
        timeout: float | timedelta | None = None,
        retry: Retry | None = None,
        start: Start = "earliest",
    ) -> ForList[T]: ...
    def subscriber(self, *, group: str, **options: Any) -> Any:
        """Declare a function a subscriber of the topic: `@orders.subscriber(group="billing")`. It gets the
        value, or `Event[model]`; with `batch`, lists of either. See `Stream.subscriber` for the options."""
        return Declaration(self._subscribers.append, options_of(self.name, group, **options), self._codec)
