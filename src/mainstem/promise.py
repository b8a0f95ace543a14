"""A promise: a result that is set later, without an event loop.

Owns: `Promise`, the only promise type of the log, the coordinator and the node. Refuses: threads (one thread
sets and reads it) and a second result. Code that runs in asyncio may `await` it.

An `asyncio.Future` would tie the log and the coordinator to a loop, which their tests replace by a simulated
clock, and would cost one more loop turn for each acknowledgement.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Promise(Generic[T]):
    """A value or an error that is set once. Callbacks run at once, in the order in which they were added."""

    __slots__ = ("_callbacks", "_error", "_value", "done")

    def __init__(self) -> None:
        self.done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Promise[T]], None]] | None = None

    @classmethod
    def resolved(cls, value: T) -> Promise[T]:
        """A promise that already has its value."""
        promise = cls()
        promise.done = True
        promise._value = value
        return promise

    @classmethod
    def failed(cls, error: BaseException) -> Promise[T]:
        """A promise that already has its error."""
        promise = cls()
        promise.done = True
        promise._error = error
        return promise

    def resolve(self, value: T) -> None:
        """Set the value and run the callbacks. AssertionError if there is a result already."""
        assert not self.done, "a promise is set once"
        self.done = True
        self._value = value
        self._run_callbacks()

    def fail(self, error: BaseException) -> None:
        """Set the error and run the callbacks. AssertionError if there is a result already."""
        assert not self.done, "a promise is set once"
        self.done = True
        self._error = error
        self._run_callbacks()

    def copy_result(self, other: Promise[T]) -> None:
        """Set the result of another promise, which is done."""
        if other.error is not None:
            self.fail(other.error)
        else:
            self.resolve(other.result())

    @property
    def error(self) -> BaseException | None:
        """The error; None while the promise is not done, and when it has a value."""
        return self._error

    def result(self) -> T:
        """Return the value, or raise the error. AssertionError if the promise is not done."""
        assert self.done, "the promise is not done"
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def then(self, callback: Callable[[Promise[T]], None]) -> None:
        """Call `callback(self)` when the promise is done; now, if it is done already."""
        if self.done:
            callback(self)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    def map(self, function: Callable[[T], U]) -> Promise[U]:
        """A promise of `function(value)`. It fails with this promise's error, or with what `function`
        raises."""
        mapped: Promise[U] = Promise()

        def done(promise: Promise[T]) -> None:
            try:
                value = function(promise.result())
            except Exception as error:
                mapped.fail(error)
            else:
                mapped.resolve(value)

        self.then(done)
        return mapped

    def chain(self, function: Callable[[T], Promise[U]]) -> Promise[U]:
        """Like `map`, for a function that returns a promise."""
        chained: Promise[U] = Promise()

        def done(promise: Promise[Promise[U]]) -> None:
            if promise.error is not None:
                chained.fail(promise.error)
            else:
                promise.result().then(chained.copy_result)

        self.map(function).then(done)
        return chained

    def _run_callbacks(self) -> None:
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback(self)

    def __await__(self) -> Generator[object, None, T]:
        if not self.done:
            import asyncio  # only asyncio code awaits; the log and the coordinator never import it

            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.then(lambda _: None if future.done() else future.set_result(None))
            yield from future
        return self.result()


def gather(promises: list[Promise[T]]) -> Promise[list[Promise[T]]]:
    """A promise that is done when all of `promises` are. Its value is that list, so that the caller can look
    at each error."""
    gathered: Promise[list[Promise[T]]] = Promise()
    pending_count = len(promises)
    if not pending_count:
        gathered.resolve(promises)

    def count_down(_: Promise[T]) -> None:
        nonlocal pending_count
        pending_count -= 1
        if not pending_count:
            gathered.resolve(promises)

    for promise in promises:
        promise.then(count_down)
    return gathered


def run_steps(steps: Generator[Promise[Any], Any, T]) -> Promise[T]:
    """Run a generator that yields promises: it is sent the value of each, or gets its error raised, when the
    promise is done; at once, if it is. The promise of what the generator returns, or of what it raises."""
    finished: Promise[T] = Promise()

    def advance(done: Promise[Any] | None) -> None:
        while True:
            try:
                if done is None:
                    waiting = next(steps)
                elif done.error is not None:
                    waiting = steps.throw(done.error)
                else:
                    waiting = steps.send(done.result())
            except StopIteration as end:
                finished.resolve(end.value)
                return
            except Exception as error:
                finished.fail(error)
                return
            if not waiting.done:
                waiting.then(advance)
                return
            done = waiting

    advance(None)
    return finished
