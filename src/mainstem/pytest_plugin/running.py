"""A stream whose subscribers run on a test's broker.

Owns: starting and stopping them, in the loop of the test or in a thread, and what their handlers raised.
Refuses: to decide whether that fails the test, see `broker.py`.
"""

from __future__ import annotations

import asyncio
import traceback
from contextlib import AsyncExitStack
from dataclasses import dataclass

from mainstem.api.host import HostedNode
from mainstem.api.node_thread import NodeThread
from mainstem.api.requests import Replies
from mainstem.api.runner import Runner
from mainstem.api.stream import Stream
from mainstem.api.subscriber import Subscriber
from mainstem.api.subscriber_state import SubscriberState
from mainstem.contract import Event

STOP_S = 1.0
"""Seconds that handlers have to end when the test is over."""


@dataclass(frozen=True, slots=True)
class HandlerFailure:
    """A handler that failed, once."""

    subscriber: str
    """TOPIC.GROUP."""
    event: Event
    reason: str
    error: BaseException | None

    @property
    def place(self) -> str:
        """File and line where the error was raised, the last of them that is not of this package; empty: it
        was not raised."""
        frames = traceback.extract_tb(None if self.error is None else self.error.__traceback__)
        own = [frame for frame in frames if "/mainstem/" not in frame.filename.replace("\\", "/")]
        return f"{own[-1].filename}:{own[-1].lineno} in {own[-1].name}" if own else ""


class RunningStream:
    """One stream on the broker of a test."""

    def __init__(self, node: HostedNode, stream: Stream) -> None:
        self.stream = stream
        self.failures: list[HandlerFailure] = []
        self._node = node
        self._opened = AsyncExitStack()
        self._runner: Runner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: NodeThread | None = None

    def _on_error(
        self, subscriber: Subscriber, event: Event, reason: str, error: BaseException | None
    ) -> None:
        self.failures.append(HandlerFailure(subscriber.options.name, event, reason, error))

    async def start(self) -> None:
        """Start the subscribers in this loop."""
        self._loop = asyncio.get_running_loop()
        async with AsyncExitStack() as opened:
            opened.enter_context(self.stream.using(self._node))
            await opened.enter_async_context(self.stream)
            self._runner = Runner(
                self._node,
                self.stream.subscribers,
                self.stream.services,
                replies=Replies(self._node.engine),
                on_error=self._on_error,
            )
            await self._runner.start()
            self._opened = opened.pop_all()

    async def stop(self) -> list[SubscriberState]:
        """Stop the subscribers. Returns how they were before."""
        assert self._runner is not None, "what was started is stopped"
        async with self._opened:
            states = await self._runner.state()
            await self._runner.stop(STOP_S)
        return states

    async def state(self) -> list[SubscriberState]:
        """How the subscribers are, from any loop."""
        runner, loop = self._runner, self._loop
        if runner is None or loop is None:
            return []
        if loop is asyncio.get_running_loop():
            return await runner.state()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(runner.state(), loop))

    # --- without a loop -----------------------------------------------------------------------------------

    def start_in_thread(self) -> None:
        """Start the subscribers in a thread of their own."""
        self._thread = NodeThread("mainstem subscribers", asyncio.new_event_loop)
        try:
            self._thread.call_now(self.start)
        except BaseException:
            self._thread.stop(STOP_S)
            raise

    def stop_thread(self) -> tuple[list[SubscriberState], list[str]]:
        """Stop the subscribers and their thread. Returns how they were before, and the stacks of what does
        not end."""
        assert self._thread is not None, "what was started is stopped"
        try:
            states = self._thread.call_now(self.stop, 4 * STOP_S)
        except TimeoutError:
            states = []
        return states, self._thread.stop(STOP_S)
