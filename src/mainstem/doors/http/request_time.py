"""How long a request of the HTTP door keeps the thread of the event loop busy.

Many requests take turns in that thread, and one request may have several tasks: its steps are measured one by
one, each from where a task is resumed to where it waits again. Owns: the sum for one request. Refuses: what
the request makes others do, such as threads, processes, and tasks that work for many requests at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class RequestTime:
    """The CPU time of one request. `cpu` returns the seconds that the calling thread has used."""

    def __init__(self, cpu: Callable[[], float]) -> None:
        self._cpu = cpu
        self._spent_s = 0.0
        self._is_running = False

    def take_s(self) -> float:
        """Seconds of the steps that have ended since the last call."""
        spent_s, self._spent_s = self._spent_s, 0.0
        return spent_s

    def measured(self, work: Awaitable[T]) -> Coroutine[Any, Any, T]:
        """`work`, whose steps count. To be awaited, or run as a task."""
        return _Measured(self, work)

    def measured_parts(self, parts: AsyncIterable[T]) -> AsyncIterator[T]:
        """`parts`, where the making of each counts."""
        return _MeasuredParts(self, parts)

    def step(self, run: Callable[[Any], Any], argument: object) -> Any:
        """Run a step, which counts unless it is part of another one."""
        if self._is_running:
            return run(argument)
        self._is_running, began_s = True, self._cpu()
        try:
            return run(argument)
        finally:
            self._is_running = False
            self._spent_s += self._cpu() - began_s


class _Measured(Coroutine[Any, Any, T]):
    """A coroutine object, so that work that is cancelled before its first step is closed."""

    __slots__ = ("_steps", "_time")

    def __init__(self, time: RequestTime, work: Awaitable[T]) -> None:
        self._time = time
        self._steps: Any = work.__await__()

    def send(self, value: Any) -> Any:
        return self._time.step(self._steps.send, value)

    def throw(self, kind: Any, value: Any = None, trace: Any = None) -> Any:
        error = kind if value is None else value
        return self._time.step(self._steps.throw, error if trace is None else error.with_traceback(trace))

    def close(self) -> None:
        self._steps.close()

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self.send(None)


class _MeasuredParts(AsyncIterator[T]):
    __slots__ = ("_parts", "_time")

    def __init__(self, time: RequestTime, parts: AsyncIterable[T]) -> None:
        self._time = time
        self._parts = aiter(parts)

    def __anext__(self) -> Coroutine[Any, Any, T]:
        return self._time.measured(anext(self._parts))
