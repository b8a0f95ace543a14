"""A thread with an event loop of its own, and calls that cross over to it.

Owns: starting and ending the thread, and what a call means that comes from another loop: its result and its
errors come back as they are, and cancelling it cancels its work. Refuses: to know what runs in the thread.
The loops never wait for each other: a loop whose handler blocks for a minute does not stop the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from mainstem.contract import NotReachable

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, T]]

CLOSED = "the stream in this process was closed"
FORKED = "the stream in this process was opened before it was forked; open it in the new process"
_CANCELS = 3
"""How often a task is cancelled that goes on all the same, before the thread ends without it."""


class CrossingLoop:
    """Calls of a loop from other threads: all that are made before it looks wake it up once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._calls: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._is_awake = self._is_closed = False

    def call(self, call: Callable[[], None]) -> None:
        """Run `call` in the loop. RuntimeError: it is closed."""
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the loop is closed")
            self._calls.append(call)
            if not self._is_awake:
                self.loop.call_soon_threadsafe(self._run)
                self._is_awake = True

    def _run(self) -> None:
        with self._lock:
            self._is_awake = False
            calls, self._calls = self._calls, deque()
        for call in calls:
            call()

    def close(self) -> None:
        """In the thread of the loop, which does not run any more: make the calls that it has not made, and
        refuse others."""
        with self._lock:
            self._is_closed = True
        self._run()


class _Crossing(Generic[T]):
    """One call: work in the thread, awaited in another loop."""

    def __init__(
        self, thread: NodeThread, caller: asyncio.AbstractEventLoop, work: Work[T], waits: bool
    ) -> None:
        self._thread = thread
        self._caller = caller
        self._work = work
        self._waits = waits
        self._task: asyncio.Task[T] | None = None
        self._cancelled = False
        self.reply: asyncio.Future[T] = caller.create_future()
        """What the caller waits for. It is cancelled if the caller is."""
        self._ended: asyncio.Future[None] | None = None
        self._is_over = False
        self._late: asyncio.Task[T] | None = None
        """The task that ended after its caller was cancelled."""

    def start(self) -> None:
        """In the thread: begin the work."""
        if self._cancelled or self._thread.is_closing:
            self._deliver(lambda: self._end(None))
            return
        self._task = self._thread.loop.create_task(self._work())
        self._thread.crossings[self._task] = self._waits
        self._task.add_done_callback(self._on_done)

    def cancel(self) -> None:
        """In the thread: cancel the work."""
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    def _on_done(self, task: asyncio.Task[T]) -> None:
        self._thread.crossings.pop(task, None)
        self._deliver(lambda: self._end(task))

    def _deliver(self, end: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the caller's loop is closed, and so its call is over
            self._thread.callers(self._caller).call(end)

    def _end(self, task: asyncio.Task[T] | None) -> None:
        """In the caller's loop: pass on what came of the work."""
        error = None if task is None or task.cancelled() else task.exception()
        self._is_over = True
        if self.reply.done():
            self._late = task
            if self._ended is not None and not self._ended.done():
                self._ended.set_result(None)
            return
        if task is None or task.cancelled():
            self.reply.set_exception(NotReachable(CLOSED))
        elif error is not None:
            self.reply.set_exception(error)
        else:
            self.reply.set_result(task.result())

    async def ended(self) -> list[T]:
        """In the caller's loop, after it was cancelled: wait for the end of the work. Returns its result in a
        list, which is empty if it has none."""
        if not self._is_over:
            self._ended = self._caller.create_future()
            await self._ended
        if not self.reply.cancelled():
            return [] if self.reply.exception() is not None else [self.reply.result()]
        late = self._late
        if late is None or late.cancelled() or late.exception() is not None:
            return []
        return [late.result()]


class NodeThread:
    """A thread that runs an event loop until `stop`. It ends with the process at the latest."""

    def __init__(self, name: str, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.loop = loop_factory()
        self.crossings: dict[asyncio.Task[Any], bool] = {}
        """The work of calls that are in progress, and whether it only waits for something to come. Of the
        thread."""
        self.is_closing = False
        """Whether calls are refused with NotReachable."""
        self._crossing_loop = CrossingLoop(self.loop)
        self._callers: WeakKeyDictionary[asyncio.AbstractEventLoop, CrossingLoop] = WeakKeyDictionary()
        self.is_forked = False
        """Whether this is the copy of a thread in a process that was forked since: there it does not run."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        _running.add(self)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self._crossing_loop.close()
            asyncio.set_event_loop(None)
            self.loop.close()

    def callers(self, loop: asyncio.AbstractEventLoop) -> CrossingLoop:
        """The way back to the loop of a caller. Of the thread."""
        crossing = self._callers.get(loop)
        if crossing is None:
            crossing = self._callers[loop] = CrossingLoop(loop)
        return crossing

    @property
    def is_here(self) -> bool:
        """Whether the caller is in the thread."""
        return threading.current_thread() is self._thread

    async def call(
        self, work: Work[T], on_lost: Callable[[T], None] | None = None, *, waits: bool = False
    ) -> T:
        """Run `work()` in the thread, and wait for it in this loop. Raises what it raises; NotReachable: the
        thread ends. If this call is cancelled, the work is, and the call ends with it; `on_lost(result)` runs
        if the work had a result all the same, which has no receiver now. `waits`: whether the work may be
        cancelled at once when all is closed, for it only waits for something to come."""
        if self.is_here:
            return await work()
        crossing = _Crossing(self, asyncio.get_running_loop(), work, waits)
        self._cross(crossing.start)
        try:
            return await crossing.reply
        except asyncio.CancelledError:
            self.soon(crossing.cancel)
            for result in await crossing.ended():
                if on_lost is not None:
                    on_lost(result)
            raise

    def call_now(self, work: Work[T], timeout_s: float | None = None) -> T:
        """As `call`, blocking, for callers without a loop. TimeoutError: it takes longer than `timeout_s`,
        and is cancelled. RuntimeError: the caller is the thread itself, which would wait for ever."""
        if self.is_here:
            raise RuntimeError("the thread of a stream cannot wait for itself")
        done: Future[T] = Future()
        started: list[asyncio.Task[T]] = []

        def start() -> None:
            if self.is_closing:
                done.set_exception(NotReachable(CLOSED))
                return
            task = self.loop.create_task(work())
            started.append(task)
            self.crossings[task] = False
            task.add_done_callback(finish)

        def finish(task: asyncio.Task[T]) -> None:
            self.crossings.pop(task, None)
            if task.cancelled():
                done.set_exception(NotReachable(CLOSED))
            elif (error := task.exception()) is not None:
                done.set_exception(error)
            else:
                done.set_result(task.result())

        def cancel() -> None:
            for task in started:
                task.cancel()

        self._cross(start)
        try:
            return done.result(timeout_s)
        except BaseException:
            if not done.done():  # the time is over, or Ctrl-C
                self.soon(cancel)
            raise

    def _cross(self, call: Callable[[], None]) -> None:
        if self.is_forked:
            raise NotReachable(FORKED)
        try:
            self._crossing_loop.call(call)
        except RuntimeError:
            raise NotReachable(CLOSED) from None

    def soon(self, call: Callable[[], None]) -> None:
        """Run `call` in the thread, without waiting for it. Nothing happens if the thread has ended."""
        with contextlib.suppress(NotReachable):
            self._cross(call)

    def stop(self, timeout_s: float) -> list[str]:
        """Cancel what still runs in the thread, and end it, within `timeout_s`. Returns the stacks of the
        tasks that do not end: the thread is left to them, and to the end of the process. Idempotent."""
        self.is_closing = True
        if self.is_forked or not self._thread.is_alive():
            return []
        hanging: list[str] = []
        ended = threading.Event()

        def start() -> None:
            self._ending = self.loop.create_task(self._end(timeout_s, hanging))
            self._ending.add_done_callback(lambda _: ended.set())

        self.soon(start)
        if not ended.wait(timeout_s + 1.0) and self._thread.is_alive():
            return [f"the thread {self._thread.name} does not answer: something blocks its loop"]
        self.soon(self.loop.stop)
        self._thread.join(timeout_s + 1.0)
        return hanging

    async def _end(self, timeout_s: float, hanging: list[str]) -> None:
        """Cancel all tasks of the loop, and wait for them."""
        for _ in range(_CANCELS):
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=timeout_s / _CANCELS)
        hanging += [stack_of(task) for task in asyncio.all_tasks() - {asyncio.current_task()}]


def stack_of(task: asyncio.Task[Any]) -> str:
    """The stack of a task, for people."""
    text = io.StringIO()
    task.print_stack(file=text)
    return text.getvalue().rstrip()


_running: WeakSet[NodeThread] = WeakSet()


def _note_fork() -> None:
    """In a process that was forked: calls would wait for ever for threads that are not there."""
    for thread in _running:
        thread.is_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
