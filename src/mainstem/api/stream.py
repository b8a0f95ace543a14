"""A stream: a program's connection to a mainstem server, a Kafka cluster, or a log in its own process.

Owns: what a program declares of it before it is open, topics and subscribers; opening and closing; and what
concerns several topics. Refuses: to connect when it is made, so that it can be made when a module is
imported.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from mainstem.api.across_topics import Redriven, redrive_letters_of, search_events
from mainstem.api.attachment import Attachment
from mainstem.api.backend import Backend
from mainstem.api.blocking import BlockingStream
from mainstem.api.codec import codec_of
from mainstem.api.event import Event
from mainstem.api.points import When
from mainstem.api.publishing import HeaderValues, Key, publish_value, publish_values
from mainstem.api.requests import Replies
from mainstem.api.runner import Runner, RunsBeside
from mainstem.api.signals import Retry
from mainstem.api.subscriber import (
    Declaration,
    ForAny,
    ForAnyList,
    Start,
    Subscriber,
    options_of,
)
from mainstem.api.topic import Topic
from mainstem.contract import Position

T = TypeVar("T")
R = TypeVar("R")

GRACE_S = 30.0
"""How long handlers have to finish when a stream stops."""


class Stream:
    """A stream of events. Made by `mainstem.connect` or `mainstem.open`; used inside `async with stream:`.

    Calls outside raise RuntimeError. All of them are made in one event loop; `sync` is for programs that have
    none. Any call may raise StreamError, whose message is for people.
    """

    def __init__(self, open_backend: Callable[[], Awaitable[Backend]], address: str = "") -> None:
        self.address = address
        """What the stream was made for; empty: what MAINSTEM_AT says when it is opened."""
        self.subscribers: list[Subscriber] = []
        """What was declared with `subscriber`, in order."""
        self.services: list[RunsBeside] = []
        """What runs where the subscribers run, such as the relay of an outbox."""
        self._attachment = Attachment(open_backend)

    # --- open and close -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Connect. Subscribers do not run yet, see `running`. NotReachable, InvalidArgument."""
        await self._attachment.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until all that was published is durable, and close the connections."""
        await self._attachment.leave()

    @property
    def backend(self) -> Backend:
        """The place that the stream is connected to. RuntimeError: it is not open."""
        return self._attachment.backend

    @asynccontextmanager
    async def running(self, *, grace: float = GRACE_S) -> AsyncGenerator[Runner, None]:
        """The stream, open, with its subscribers running. At the end no further events are taken, handlers
        have `grace` seconds to finish, and what is not finished is delivered again later."""
        async with self:
            engine = self._attachment.backend.engine
            runner = Runner(self.backend, self.subscribers, self.services, replies=Replies(engine))
            await runner.start()
            try:
                yield runner
            finally:
                await runner.stop(grace)

    def lifespan(self, app: object) -> AbstractAsyncContextManager[None]:
        """For `FastAPI(lifespan=stream.lifespan)` and Starlette: the subscribers run with the application,
        and have stopped before it ends."""

        @asynccontextmanager
        async def with_application() -> AsyncGenerator[None, None]:
            async with self.running():
                yield

        return with_application()

    @contextmanager
    def using(self, backend: Backend) -> Iterator[Self]:
        """Let the stream, with its topics and `sync`, work on a place that is open, in place of its own: for
        tests. The place stays open at the end."""
        self._attachment.put_in_front(backend)
        try:
            yield self
        finally:
            self._attachment.take_away(backend)

    @property
    def sync(self) -> BlockingStream:
        """The same words without await: `with stream.sync as s: s.publish(...)`. Its event loop runs in a
        thread of its own, and Ctrl-C ends a call that waits."""
        return BlockingStream(self._attachment.sibling())

    # --- declare ------------------------------------------------------------------------------------------

    @overload
    def topic(self, name: str, *, key: Callable[[Any], Key] | None = None) -> Topic[Any]: ...
    @overload
    def topic(self, name: str, model: type[T], *, key: Callable[[T], Key] | None = None) -> Topic[T]: ...
    def topic(self, name: str, model: Any = None, *, key: Callable[[Any], Key] | None = None) -> Topic[Any]:
        """A topic whose values are of a model: a msgspec Struct, a pydantic model, a dataclass, an attrs
        class, a TypedDict, `str`, `bytes`, or any type of JSON. Without one, values are JSON, text or bytes,
        as they come. `key`: what the key of a value is. Nothing is created. TypeError: it is no model."""
        return Topic(self._attachment, self.subscribers, name, codec_of(model), key)

    @overload
    def subscriber(
        self,
        topic: str,
        *,
        group: str,
        concurrency: int = 1,
        timeout: float | timedelta | None = None,
        retry: Retry | None = None,
        start: Start = "earliest",
    ) -> ForAny: ...
    @overload
    def subscriber(
        self,
        topic: str,
        *,
        group: str,
        batch: int,
        max_wait: float | timedelta = 1.0,
        timeout: float | timedelta | None = None,
        retry: Retry | None = None,
        start: Start = "earliest",
    ) -> ForAnyList: ...
    def subscriber(self, topic: str, *, group: str, **options: Any) -> Any:
        """Declare a function a subscriber: `@stream.subscriber("orders", group="billing")`. The function is
        given back as it is. Its parameter's annotation is the model, or `Event[model]`.

        `group`: the events are shared by all processes with this group, and each group gets all of them.
        `concurrency`: handlers at once, 1 to 1,000; events of one key never overlap and keep their order.
        `timeout`: seconds for a call of the handler. `retry`: see `Retry`. `batch`: give lists of at most
        this many events, that wait `max_wait` seconds to be filled. `start`: where a group begins that is
        new. ValueError, TypeError: what cannot be right.
        """
        return Declaration(self.subscribers.append, options_of(topic, group, **options), None)

    # --- publish and read without a model -----------------------------------------------------------------

    async def publish(
        self,
        topic: str,
        value: object,
        *,
        key: Key = None,
        headers: HeaderValues | None = None,
        time: datetime | None = None,
        partition: int | None = None,
        delay: float | timedelta | None = None,
    ) -> Position:
        """Publish a value: bytes and text as they are, None as no value, all else as JSON. See
        `Topic.publish`."""
        encoded = _ANY.encode(value)
        return await publish_value(
            self._attachment.backend,
            topic,
            encoded,
            key=key,
            headers=headers,
            time=time,
            partition=partition,
            delay=delay,
        )

    async def publish_many(
        self,
        topic: str,
        values: Iterable[T] | AsyncIterable[T],
        *,
        key: Callable[[T], Key] | None = None,
        headers: HeaderValues | None = None,
    ) -> int:
        """Publish many values, each as `publish` does; `key`: what the key of a value is. See
        `Topic.publish_many`."""
        return await publish_values(self._attachment.backend, topic, _ANY, values, key, headers)

    def read(
        self,
        topic: str,
        *,
        since: When | None = None,
        until: When | None = None,
        follow: bool = False,
        where: str = "",
    ) -> AsyncGenerator[Event[Any], None]:
        """The events of a topic, without a group and without a model. See `Topic.read`."""
        return self.topic(topic).read(since=since, until=until, follow=follow, where=where)

    async def last(self, topic: str, count: int = 1) -> list[Event[Any]]:
        """The newest events of a topic. See `Topic.last`."""
        return await self.topic(topic).last(count)

    async def request(
        self,
        topic: str,
        value: object,
        reply: type[R],
        *,
        timeout: float | timedelta = 10.0,
        key: Key = None,
        headers: HeaderValues | None = None,
    ) -> R:
        """Publish a value, and return what a handler returned for it. See `Topic.request`."""
        return await self.topic(topic).request(value, reply, timeout=timeout, key=key, headers=headers)

    async def search(
        self,
        query: str,
        *,
        topics: Sequence[str] = (),
        since: When | None = None,
        until: When | None = None,
        limit: int = 100,
    ) -> AsyncGenerator[Event[Any], None]:
        """The events that match a query, in the language of docs/SEARCH.md, newest first, at most `limit`.
        `topics`: names, also with * and ?; none: all topics. Times as in `Topic.read`. InvalidArgument: the
        query is wrong, and where."""
        backend = self._attachment.backend
        async with aclosing(search_events(backend, query, topics, since, until, limit)) as events:
            async for event in events:
                yield event

    async def redrive(
        self, topic: str, *, group: str, where: str = "", since: When | None = None, dry_run: bool = False
    ) -> Redriven:
        """Deliver the dead letters of a group again, to this group alone: all, or those that match a query
        and are of this time or later. A letter counts once: what was redriven is left out until it is given
        up again. On a mainstem server, at most 10,000 at once. `dry_run`: only count them."""
        return await redrive_letters_of(self._attachment.backend, topic, group, where, since, dry_run)


_ANY = codec_of()
