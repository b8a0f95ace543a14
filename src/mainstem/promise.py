"""A result that comes later, without an event loop.

Owns: `Promise`, the one promise type below the doors. Refuses: threads (one thread sets and reads it) and a
second result. Anybody may use it; asyncio code may `await` it.

It exists because log and coordinator run under a real event loop and, in tests, under a simulated clock: an
`asyncio.Future` would tie them to a loop and costs one more loop turn for each acknowledgement.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Promise(Generic[T]):
    """A value or an error that is set once; callbacks run at once, in the order they were added."""

    __slots__ = ("_callbacks", "_error", "_value", "done")

    def __init__(self) -> None:
        self.done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Promise[T]], None]] | None = None

    @classmethod
    def resolved(cls, value: T) -> Promise[T]:
        """One that already has its value."""
        later = cls()
        later.done = True
        later._value = value
        return later

    @classmethod
    def failed(cls, error: BaseException) -> Promise[T]:
        """One that already has its error."""
        later = cls()
        later.done = True
        later._error = error
        return later

    def resolve(self, value: T) -> None:
        """Set the value and run the callbacks. A second result is a bug: AssertionError."""
        assert not self.done, "a Promise is set once"
        self.done = True
        self._value = value
        self._run_callbacks()

    def fail(self, error: BaseException) -> None:
        """Set the error and run the callbacks. A second result is a bug: AssertionError."""
        assert not self.done, "a Promise is set once"
        self.done = True
        self._error = error
        self._run_callbacks()

    def copy_result(self, other: Promise[T]) -> None:
        """Have the result of another that is done."""
        if other.error is not None:
            self.fail(other.error)
        else:
            self.resolve(other.result())

    @property
    def error(self) -> BaseException | None:
        """The error, or None while it is not done and when it has a value."""
        return self._error

    def result(self) -> T:
        """The value; raises the error if it failed. Asking before it is done is a bug: AssertionError."""
        assert self.done, "not done yet"
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def then(self, callback: Callable[[Promise[T]], None]) -> None:
        """Call `callback(self)` when done: now, if it is."""
        if self.done:
            callback(self)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    def map(self, change: Callable[[T], U]) -> Promise[U]:
        """A Promise of `change(value)`; an error, also one that `change` raises, passes on."""
        out: Promise[U] = Promise()

        def done(later: Promise[T]) -> None:
            try:
                value = change(later.result())
            except Exception as error:
                out.fail(error)
            else:
                out.resolve(value)

        self.then(done)
        return out

    def chain(self, change: Callable[[T], Promise[U]]) -> Promise[U]:
        """As `map`, for a change that itself returns a Promise."""
        out: Promise[U] = Promise()

        def changed(later: Promise[Promise[U]]) -> None:
            if later.error is not None:
                out.fail(later.error)
            else:
                later.result().then(out.copy_result)

        self.map(change).then(changed)
        return out

    def _run_callbacks(self) -> None:
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback(self)

    def __await__(self) -> Generator[object, None, T]:
        if not self.done:
            import asyncio  # only asyncio code awaits; log and coordinator never import it

            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.then(lambda _: None if future.done() else future.set_result(None))
            yield from future
        return self.result()


def gather(laters: list[Promise[T]]) -> Promise[list[Promise[T]]]:
    """A Promise that is done when all are; its value is the list, so that each error can be looked at."""
    out: Promise[list[Promise[T]]] = Promise()
    left = len(laters)
    if not left:
        out.resolve(laters)

    def one(_: Promise[T]) -> None:
        nonlocal left
        left -= 1
        if not left:
            out.resolve(laters)

    for later in laters:
        later.then(one)
    return out
