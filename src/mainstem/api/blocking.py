"""The stream without await, for scripts, notebooks and programs without an event loop.

Owns: a thread with an event loop, in which all calls run, and handing their results over. Refuses: to run
subscribers, which `mainstem run` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Sequence
from concurrent.futures import CancelledError, Future, wait
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

from mainstem.api.across_topics import Redriven, redrive_letters_of, search_events
from mainstem.api.attachment import Attachment
from mainstem.api.backend import Backend
from mainstem.api.codec import codec_of
from mainstem.api.event import Event
from mainstem.api.node_thread import FORKED
from mainstem.api.points import When
from mainstem.api.publishing import HeaderValues, Key
from mainstem.api.topic import BY_TOPIC, Topic
from mainstem.contract import NotReachable, Position, StreamError

T = TypeVar("T")
R = TypeVar("R")


CANCEL_S = 5.0
"""How long a call that was interrupted has to end."""


class LoopThread:
    """An event loop in a thread, from `start` to `stop`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.iterations: set[AsyncGenerator[Any, None]] = set()
        """Those that have not ended."""

    def start(self) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop,), name="mainstem", daemon=True)
        self._thread.start()

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    @property
    def is_here(self) -> bool:
        """Whether the thread runs in this process; not in one that was forked since."""
        return self._thread is not None and self._thread.is_alive()

    def call(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine in the loop and wait for it. An exception here, such as Ctrl-C, cancels it and
        waits until it has ended. RuntimeError: the loop does not run. NotReachable: it runs in the process
        that this one was forked from."""
        loop = self._loop
        if loop is None:
            work.close()
            raise RuntimeError("the stream is not open: use it inside `with stream.sync as s:`")
        if not self.is_here:
            work.close()
            raise NotReachable(FORKED)
        outcome: Future[R] = Future()
        tasks: list[asyncio.Task[R]] = []

        def start() -> None:
            task = loop.create_task(work)
            tasks.append(task)
            task.add_done_callback(lambda task: _hand_over(task, outcome))

        def cancel() -> None:
            if tasks:
                tasks[0].cancel()
            else:  # interrupted before the loop had it
                work.close()
                outcome.set_exception(CancelledError())

        try:
            loop.call_soon_threadsafe(start)
            return outcome.result()
        except BaseException:
            if not outcome.done():
                loop.call_soon_threadsafe(cancel)
                wait([outcome], timeout=CANCEL_S)
            raise

    def stop(self) -> None:
        """End the loop and the thread."""
        loop, thread, is_here = self._loop, self._thread, self.is_here
        self._loop = self._thread = None
        if loop is not None and thread is not None and is_here:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


def _hand_over(task: asyncio.Task[R], outcome: Future[R]) -> None:
    if task.cancelled():
        outcome.set_exception(CancelledError())
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())


class BlockingTopic(Generic[T]):
    """A topic whose calls wait. See `Topic` for each."""

    def __init__(self, thread: LoopThread, topic: Topic[T]) -> None:
        self.name = topic.name
        self._thread = thread
        self._topic = topic

    def publish(
        self,
        value: T,
        *,
        key: Key = BY_TOPIC,
        headers: HeaderValues | None = None,
        time: datetime | None = None,
        partition: int | None = None,
        delay: float | timedelta | None = None,
    ) -> Position:
        """See `Topic.publish`."""
        return self._thread.call(
            self._topic.publish(value, key=key, headers=headers, time=time, partition=partition, delay=delay)
        )

    def publish_many(self, values: Iterable[T], *, headers: HeaderValues | None = None) -> int:
        """See `Topic.publish_many`. The values are made in another thread than the caller's."""
        return self._thread.call(self._topic.publish_many(values, headers=headers))

    def request(
        self,
        value: T,
        reply: type[R],
        *,
        timeout: float | timedelta = 10.0,
        key: Key = BY_TOPIC,
        headers: HeaderValues | None = None,
    ) -> R:
        """See `Topic.request`."""
        return self._thread.call(self._topic.request(value, reply, timeout=timeout, key=key, headers=headers))

    def read(
        self,
        *,
        since: When | None = None,
        until: When | None = None,
        follow: bool = False,
        where: str = "",
    ) -> Generator[Event[T], None, None]:
        """See `Topic.read`."""
        lists = self._topic.read_lists(since=since, until=until, follow=follow, where=where)
        for events in _pulled(self._thread, lists):
            yield from events

    def last(self, count: int = 1) -> list[Event[T]]:
        """See `Topic.last`."""
        return self._thread.call(self._topic.last(count))


def _pulled(thread: LoopThread, items: AsyncGenerator[R, None]) -> Generator[R, None, None]:
    """The items of an asynchronous generator, pulled one after another through the thread."""
    thread.iterations.add(items)
    try:
        while True:
            try:
                item = thread.call(_next(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        if items in thread.iterations:  # not if the stream was closed before, which has ended it
            thread.iterations.discard(items)
            thread.call(items.aclose())


async def _next(items: AsyncGenerator[R, None]) -> R:
    return await anext(items)


class BlockingStream:
    """A stream whose calls wait: `with stream.sync as s:`. See `Stream` for each."""

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment
        self._thread = LoopThread()

    def __enter__(self) -> Self:
        """Connect. NotReachable, InvalidArgument."""
        self._thread.start()
        try:
            self._thread.call(self._attachment.enter())
        except BaseException:
            self._thread.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until all that was published is durable, and close the connections."""
        try:
            if self._thread.is_here:
                self._thread.call(self._leave())
        finally:
            self._thread.stop()

    async def _leave(self) -> None:
        iterations = self._thread.iterations
        while iterations:
            with contextlib.suppress(StreamError):
                await iterations.pop().aclose()
        await self._attachment.leave()

    @property
    def backend(self) -> Backend:
        """See `Stream.backend`; its calls are awaited in the stream's loop, by `call`."""
        return self._attachment.backend

    def call(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine in the stream's loop, and wait for what it returns."""
        return self._thread.call(work)

    @overload
    def topic(self, name: str, *, key: Callable[[Any], Key] | None = None) -> BlockingTopic[Any]: ...
    @overload
    def topic(
        self, name: str, model: type[T], *, key: Callable[[T], Key] | None = None
    ) -> BlockingTopic[T]: ...
    def topic(
        self, name: str, model: Any = None, *, key: Callable[[Any], Key] | None = None
    ) -> BlockingTopic[Any]:
        """See `Stream.topic`."""
        topic: Topic[Any] = Topic(self._attachment, [], name, codec_of(model), key)
        return BlockingTopic(self._thread, topic)

    def publish(
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
        """See `Stream.publish`."""
        return self.topic(topic).publish(
            value, key=key, headers=headers, time=time, partition=partition, delay=delay
        )

    def publish_many(
        self,
        topic: str,
        values: Iterable[T],
        *,
        key: Callable[[T], Key] | None = None,
        headers: HeaderValues | None = None,
    ) -> int:
        """See `Stream.publish_many`."""
        return self.topic(topic, key=key).publish_many(values, headers=headers)

    def read(
        self,
        topic: str,
        *,
        since: When | None = None,
        until: When | None = None,
        follow: bool = False,
        where: str = "",
    ) -> Generator[Event[Any], None, None]:
        """See `Stream.read`."""
        return self.topic(topic).read(since=since, until=until, follow=follow, where=where)

    def last(self, topic: str, count: int = 1) -> list[Event[Any]]:
        """See `Stream.last`."""
        return self.topic(topic).last(count)

    def request(
        self,
        topic: str,
        value: object,
        reply: type[R],
        *,
        timeout: float | timedelta = 10.0,
        key: Key = None,
        headers: HeaderValues | None = None,
    ) -> R:
        """See `Stream.request`."""
        return self.topic(topic).request(value, reply, timeout=timeout, key=key, headers=headers)

    def search(
        self,
        query: str,
        *,
        topics: Sequence[str] = (),
        since: When | None = None,
        until: When | None = None,
        limit: int = 100,
    ) -> Generator[Event[Any], None, None]:
        """See `Stream.search`."""
        backend = self._attachment.backend
        return _pulled(self._thread, search_events(backend, query, topics, since, until, limit))

    def redrive(
        self, topic: str, *, group: str, where: str = "", since: When | None = None, dry_run: bool = False
    ) -> Redriven:
        """See `Stream.redrive`."""
        backend = self._attachment.backend
        return self._thread.call(redrive_letters_of(backend, topic, group, where, since, dry_run))
