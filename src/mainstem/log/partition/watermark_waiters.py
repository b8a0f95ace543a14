"""The promises and callbacks that wait for the high watermark of one partition.

Owns: promises that are done when the watermark reaches an offset, and the callbacks of readers. Refuses:
moving the watermark.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from mainstem.log.errors import LogError
from mainstem.promise import Promise

Watched = TypeVar("Watched")


class WatermarkWaiters(Generic[Watched]):
    """The promises and callbacks of one partition. A callback is called with `watched`, the partition."""

    __slots__ = ("_callbacks", "_promises", "_watched")

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._promises: deque[tuple[int, Promise[None]]] | None = None
        """(offset, promise), by offset; None until somebody waits, for most partitions are idle and a deque
        takes 600 bytes."""
        self._callbacks: dict[Callable[[Watched], None], None] = {}

    def wait_for(self, offset: int) -> Promise[None]:
        """A promise that is done when the watermark has reached `offset`, which it has not yet."""
        promise: Promise[None] = Promise()
        promises = self._promises
        if promises is None:
            promises = self._promises = deque()
        if not promises or promises[-1][0] <= offset:
            promises.append((offset, promise))
        else:  # a duplicate of a batch that is being committed
            index = bisect_right(promises, offset, key=lambda waiting: waiting[0])
            promises.insert(index, (offset, promise))
        return promise

    def advance(self, watermark: int) -> None:
        """Resolve the promises for offsets up to `watermark`, which the high watermark has reached, and call
        all callbacks."""
        promises = self._promises
        while promises and promises[0][0] <= watermark:
            promises.popleft()[1].resolve(None)
        if self._callbacks:
            self.notify_watchers()

    def fail(self, error: LogError) -> None:
        """Fail all promises: the watermark will not reach their offsets."""
        promises, self._promises = self._promises, None
        for _, promise in promises or ():
            promise.fail(error)

    def watch(self, callback: Callable[[Watched], None]) -> None:
        """Call `callback` at each `advance` and `notify_watchers`."""
        self._callbacks[callback] = None

    def unwatch(self, callback: Callable[[Watched], None]) -> None:
        """Do not call `callback` any more. Harmless if it does not watch."""
        self._callbacks.pop(callback, None)

    def notify_watchers(self) -> None:
        """Call all callbacks; one may unwatch itself meanwhile."""
        for callback in list(self._callbacks):
            callback(self._watched)
