"""The broker that a test has to itself, and what a test expects of it.

Owns: the fixture's object `MainstemBroker`, its face without await, and messages that say why an expectation
failed. Refuses: to imitate anything: it is the node that `mainstem serve` runs, in memory, in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from mainstem.api.codec import codec_of
from mainstem.api.event import Event, decode_event
from mainstem.api.host import MEMORY, HostedNode
from mainstem.api.stream import Stream
from mainstem.api.subscriber_state import SubscriberState
from mainstem.api.topic import Topic
from mainstem.contract import NotReachable, StreamError, UnknownGroup
from mainstem.pytest_plugin.matching import ExpectedQuery, TopicEvents, shown
from mainstem.pytest_plugin.running import HandlerFailure, RunningStream
from mainstem.queue_contract import SubscriptionTotals

T = TypeVar("T")

WAIT_S = 2.0
"""How long is waited for what is expected, if a test does not say."""
SETTLE_S = 5.0
CLOSE_S = 4.0
"""Seconds in which a broker is closed when its test is over."""
LOOK_S = 0.005
"""How often it is looked whether groups are done."""
FAILURES_SHOWN = 3


class MainstemBroker:
    """A broker of one test. Its calls are awaited, in whatever event loop; `sync` has the same ones for tests
    without a loop."""

    def __init__(self, node: HostedNode) -> None:
        self.backend = node
        """The place that streams connect to: `stream.using(broker.backend)`."""
        self.running_streams: list[RunningStream] = []
        """Those that run now."""
        self.sync = BlockingBroker(self)
        """The same calls without await."""
        self._streams = ExitStack()

    @classmethod
    def open(cls) -> MainstemBroker:
        """Open a new broker. Blocks for some milliseconds."""
        return cls(HostedNode.open(MEMORY))

    @property
    def address(self) -> str:
        """HOST:PORT of a Kafka door of this broker, for other clients. It opens when this is first read."""
        return self.backend.serve("kafka")["kafka"]

    def stream(self) -> Stream:
        """A new stream, connected to this broker: use it with `async with`, or its `sync`."""
        stream = Stream(self._own_backend)
        self._streams.enter_context(stream.using(self.backend))
        return stream

    async def _own_backend(self) -> HostedNode:
        raise NotReachable("the broker of this stream was closed at the end of its test")

    def running(self, stream: Stream, *, allow_dead: bool = False) -> RunningSubscribers:
        """A context, with or without `async`, in which a stream's subscribers run on this broker, and in
        which it publishes and reads here, wherever it connects otherwise. With `async with`, handlers run in
        the test's event loop, else in a thread.

        At its end, events that handlers have given up, and those that failed and are still to be tried again,
        fail the test with the handler's error, unless `allow_dead`."""
        return RunningSubscribers(self, stream, allow_dead)

    # --- expectations -------------------------------------------------------------------------------------

    @overload
    async def expect(
        self, topic: Topic[T], query: str = "", *, count: int = 1, timeout: float = WAIT_S
    ) -> list[Event[T]]: ...
    @overload
    async def expect(
        self, topic: str, query: str = "", *, count: int = 1, timeout: float = WAIT_S
    ) -> list[Event[Any]]: ...
    async def expect(
        self, topic: Topic[Any] | str, query: str = "", *, count: int = 1, timeout: float = WAIT_S
    ) -> list[Event[Any]]:
        """The events of a topic that match a query of the search, as soon as there are `count` or more, those
        published before included; by time. AssertionError: there are fewer after `timeout` seconds; it says
        which events are nearest and what they lack, and how the handlers are. InvalidArgument: the query."""
        __tracebackhide__ = True
        name = topic if isinstance(topic, str) else topic.name
        read = TopicEvents(self.backend, name)
        compiled = ExpectedQuery(query, self.backend.clock.wall_ms())
        matches = await read.wait_for(compiled, count, timeout)
        if len(matches) < count:
            lines = [
                f"expected {_events(count)} of {name}{_matching(query)}, and {_there_are(len(matches))} after"
                f" {timeout:g} s",
                *_nearest_lines(compiled, read, query),
                *await self._state_lines(),
            ]
            raise AssertionError("\n".join(lines))
        codec = codec_of() if isinstance(topic, str) else topic.codec
        return [decode_event(event, codec) for event in matches]

    async def expect_none(self, topic: Topic[Any] | str, query: str = "", *, within: float = 0.0) -> None:
        """Nothing in a topic matches a query: not now, and not during the next `within` seconds.
        AssertionError: it names the events. InvalidArgument: the query."""
        __tracebackhide__ = True
        name = topic if isinstance(topic, str) else topic.name
        compiled = ExpectedQuery(query, self.backend.clock.wall_ms())
        matches = await TopicEvents(self.backend, name).wait_for(compiled, 1, within)
        if matches:
            lines = [f"expected no event of {name}{_matching(query)}, and {_there_are(len(matches))}:"]
            lines += [f"  {shown(event)}" for event in matches[:FAILURES_SHOWN]]
            raise AssertionError("\n".join([*lines, *await self._state_lines()]))

    async def settled(self, *groups: str, timeout: float = SETTLE_S) -> None:
        """Wait until these groups, or all, have done all of their events: none is in flight, waits for
        another attempt or for its time, or is yet to be written as a dead letter. Consumer groups of Kafka
        clients: until their lag is 0. AssertionError: they have not after `timeout` seconds.
        UnknownGroup."""
        __tracebackhide__ = True
        clock = self.backend.clock
        deadline = clock.monotonic() + timeout
        before: object = None
        while True:
            left, progress = await self._outstanding(groups)
            if not left and progress == before:
                return  # twice in a row: what one group publishes may be another's work
            before = progress
            if clock.monotonic() >= deadline and left:
                lines = [f"not settled after {timeout:g} s: {', '.join(left)}", *await self._state_lines()]
                raise AssertionError("\n".join(lines))
            await asyncio.sleep(LOOK_S if left else 0)

    async def _outstanding(self, groups: Sequence[str]) -> tuple[list[str], object]:
        """What is left, one text for each group that has something, and what was done so far."""
        queues = self.backend.queues
        totals = await queues.subscription_totals(await self._subscriptions(groups))
        left = [_left(total) for total in totals if total.depth.outstanding]
        known = [total.name for total in totals]
        for group in groups:
            if not any(_is_of_group(name, group) for name in known):
                lag = await self._lag(group)
                left += [f"{group} (lag {lag})"] if lag else []
        return left, [(total.name, total.delivered, total.acked) for total in totals]

    async def _subscriptions(self, groups: Sequence[str]) -> list[str] | None:
        if not groups:
            return None
        names = await self.backend.queues.subscriptions()
        return [name for name in names if any(_is_of_group(name, group) for group in groups)]

    async def _lag(self, group: str) -> int:
        try:
            info = await self.backend.engine.group(group)
        except UnknownGroup:
            names = await self.backend.queues.subscriptions()
            raise UnknownGroup(
                f"group {group}: there is no such group; there are the subscriptions"
                f" {', '.join(names) or '(none)'}"
            ) from None
        return sum(position.lag or 0 for position in info.positions)

    def advance(self, by: timedelta | float) -> None:
        """Move the broker's time forward (seconds, or a timedelta), and let what is due then happen:
        retention, delays, retries, times to live. New events get the new time. Sessions of group members do
        not notice, and neither do timeouts. The time of the test itself is not touched. Not awaited.
        ValueError: backwards."""
        self.backend.advance(by if isinstance(by, timedelta) else timedelta(seconds=by))

    # --- messages -----------------------------------------------------------------------------------------

    async def _state_lines(self) -> list[str]:
        """How groups and handlers are, for people."""
        lines: list[str] = []
        for running in self.running_streams:
            lines += [f"  {_state_text(state)}" for state in await running.state()]
        failures = [failure for running in self.running_streams for failure in running.failures]
        if lines:
            lines.insert(0, "subscribers:")
        return [*lines, *failure_lines(failures)]

    def close(self) -> None:
        """Close the broker. AssertionError: something does not end within CLOSE_S, and what."""
        __tracebackhide__ = True
        self._streams.close()
        if problems := self.backend.close_now(CLOSE_S):
            raise AssertionError("the broker of this test cannot be closed:\n" + "\n".join(problems))


class RunningSubscribers:
    """A context in which the subscribers of a stream run. Made by `MainstemBroker.running`."""

    def __init__(self, broker: MainstemBroker, stream: Stream, allow_dead: bool) -> None:
        self._broker = broker
        self._allow_dead = allow_dead
        self._running = RunningStream(broker.backend, stream)

    @property
    def failures(self) -> Sequence[HandlerFailure]:
        """Each failure of a handler so far."""
        return self._running.failures

    async def __aenter__(self) -> Self:
        await self._running.start()
        self._broker.running_streams.append(self._running)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self._broker.running_streams.remove(self._running)
        self._judge(await self._running.stop(), error)

    def __enter__(self) -> Self:
        self._running.start_in_thread()
        self._broker.running_streams.append(self._running)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self._broker.running_streams.remove(self._running)
        states, hanging = self._running.stop_thread()
        if hanging and error is None:
            raise AssertionError("handlers do not end:\n" + "\n".join(hanging))
        self._judge(states, error)

    def _judge(self, states: Sequence[SubscriberState], error: BaseException | None) -> None:
        """AssertionError: handlers have given events up, or have not got over a failure; a test that fails
        already gets a note of it."""
        __tracebackhide__ = True
        if self._allow_dead:
            return
        bad = [state for state in states if state.dead or (state.failed and state.lag > 0)]
        if not bad:
            return
        names = {f"{state.topic}.{state.group}" for state in bad}
        failures = [failure for failure in self.failures if failure.subscriber in names]
        lines = ["handlers failed, and their events are not done (allow_dead=True accepts that):"]
        lines += [f"  {_state_text(state)}" for state in bad]
        text = "\n".join([*lines, *failure_lines(failures)])
        if error is None:
            raise AssertionError(text) from (failures[-1].error if failures else None)
        if not any(line in str(error) for line in lines[1:]):  # else it says so already
            error.add_note(text)


class BlockingBroker:
    """The calls of a broker for tests without an event loop. See `MainstemBroker` for each."""

    def __init__(self, broker: MainstemBroker) -> None:
        self._broker = broker

    @overload
    def expect(
        self, topic: Topic[T], query: str = "", *, count: int = 1, timeout: float = WAIT_S
    ) -> list[Event[T]]: ...
    @overload
    def expect(
        self, topic: str, query: str = "", *, count: int = 1, timeout: float = WAIT_S
    ) -> list[Event[Any]]: ...
    def expect(self, topic: Any, query: str = "", *, count: int = 1, timeout: float = WAIT_S) -> Any:
        """See `MainstemBroker.expect`."""
        __tracebackhide__ = True
        return self._call(lambda: self._broker.expect(topic, query, count=count, timeout=timeout))

    def expect_none(self, topic: Topic[Any] | str, query: str = "", *, within: float = 0.0) -> None:
        """See `MainstemBroker.expect_none`."""
        __tracebackhide__ = True
        self._call(lambda: self._broker.expect_none(topic, query, within=within))

    def settled(self, *groups: str, timeout: float = SETTLE_S) -> None:
        """See `MainstemBroker.settled`."""
        __tracebackhide__ = True
        self._call(lambda: self._broker.settled(*groups, timeout=timeout))

    def _call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        __tracebackhide__ = True
        try:
            return self._broker.backend.call(work)
        except (AssertionError, StreamError) as error:
            raise error.with_traceback(None) from error.__cause__  # where it was raised is of no interest

    def advance(self, by: timedelta | float) -> None:
        """See `MainstemBroker.advance`."""
        self._broker.advance(by)


def failure_lines(failures: Sequence[HandlerFailure]) -> list[str]:
    """The latest failures, for people."""
    if not failures:
        return []
    lines = [f"failures of handlers ({len(failures)}):" if len(failures) > 1 else "failure of a handler:"]
    for failure in failures[-FAILURES_SHOWN:]:
        where = f"\n    {failure.place}" if failure.place else ""
        lines.append(f"  {failure.subscriber}: {failure.reason}{where}\n    {shown(failure.event)}")
    return lines


def _nearest_lines(query: ExpectedQuery, read: TopicEvents, text: str) -> list[str]:
    count = len(read.events)
    if not count:
        return [f"{read.topic} has no events"]
    lines = [f"{read.topic} has {_events(count)}" + ("; nearest:" if text else "")]
    for event, lacking in query.nearest(read.events) if text else ():
        lines.append(f"  {shown(event)}")
        lines += [f"    {reason}" for reason in lacking]
    return lines


def _state_text(state: SubscriberState) -> str:
    parts = [f"{state.read} read", f"{state.done} done", f"{state.failed} failed"]
    parts += [f"{state.in_flight} in flight"] if state.in_flight else []
    parts += [f"{state.retrying} waiting for another attempt or its time"] if state.retrying else []
    parts += [f"{state.dead} given up"] if state.dead else []
    parts += [f"lag {state.lag}"] if state.lag > 0 else []
    return f"{state.topic}.{state.group}: {', '.join(parts)}"


def _left(total: SubscriptionTotals) -> str:
    names = ("ready", "leased", "waiting", "parked", "dying", "ahead")
    parts = [f"{count} {name}" for name in names if (count := getattr(total.depth, name))]
    return f"{total.name} ({', '.join(parts)})"


def _is_of_group(subscription: str, group: str) -> bool:
    return subscription == group or subscription.endswith(f".{group}")


def _events(count: int) -> str:
    return f"{count} event" if count == 1 else f"{count} events"


def _there_are(count: int) -> str:
    return "there is none" if not count else "there is 1" if count == 1 else f"there are {count}"


def _matching(query: str) -> str:
    return f" matching {query}" if query else ""
