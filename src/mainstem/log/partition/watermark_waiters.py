"""Who waits for a partition's watermark.

Owns: the promises for offsets and the callbacks of readers. Refuses: to know why the watermark moves. Called
by `partition.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from mainstem.log.errors import LogError
from mainstem.promise import Promise

P = TypeVar("P")


class WatermarkWaiters(Generic[P]):
    """Of one partition `P`."""

    __slots__ = ("_laters", "_partition", "_watchers")

    def __init__(self, partition: P) -> None:
        self._partition = partition
        self._laters: deque[tuple[int, Promise[None]]] = deque()
        """By offset."""
        self._watchers: dict[Callable[[P], None], None] = {}

    def wait_for(self, offset: int) -> Promise[None]:
        """Done when the watermark has reached `offset`, which it has not yet."""
        later: Promise[None] = Promise()
        laters = self._laters
        if not laters or laters[-1][0] <= offset:
            laters.append((offset, later))
        else:  # a duplicate of a batch that is being committed
            laters.insert(bisect_right(laters, offset, key=lambda one: one[0]), (offset, later))
        return later

    def advance(self, offset: int) -> None:
        """The watermark is there now."""
        laters = self._laters
        while laters and laters[0][0] <= offset:
            laters.popleft()[1].resolve(None)
        if self._watchers:
            self.notify_watchers()

    def fail(self, error: LogError) -> None:
        """It will not get there."""
        laters, self._laters = self._laters, deque()
        for _, later in laters:
            later.fail(error)

    def watch(self, callback: Callable[[P], None]) -> None:
        """Call it at each `reached` and `notify_watchers`."""
        self._watchers[callback] = None

    def unwatch(self, callback: Callable[[P], None]) -> None:
        """Not any more. Harmless if it is not watching."""
        self._watchers.pop(callback, None)

    def notify_watchers(self) -> None:
        """Call who watches; they may unwatch themselves meanwhile."""
        for callback in list(self._watchers):
            callback(self._partition)
