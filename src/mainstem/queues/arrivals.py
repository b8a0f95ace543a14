"""The arrival order of a namespace: numbers for events, and how far all of them are decided.

Events of a namespace are in several partitions, whose commits end in any order. Queues read in the order of
the numbers, so what is committed becomes readable only when everything before it is: committed, or failed,
which leaves a gap. The number after the last readable one is the *arrival watermark*.

Owns: the numbers (*arrival sequences*) and this order. Refuses: events, the log, and to number anything below
a sequence that was ever given out (its caller starts above all that is known).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

SEQUENCE_END = 1 << 48
"""Sequences are below this, as tokens have 48 bits for them: at 1,000,000 events a second, for 8 years."""


@dataclass(slots=True)
class _Arriving(Generic[T]):
    first: int
    end: int
    batch: T
    committed: bool | None = None
    """None: not decided."""


class ArrivalOrder(Generic[T]):
    """Numbers the events of batches, and returns the batches in that order once they are committed."""

    def __init__(self, next_sequence: int) -> None:
        self.next = next_sequence
        """What the next event gets."""
        self.watermark = next_sequence
        """All events below are decided, and `end` has returned those that are committed."""
        self._arriving: deque[_Arriving[T]] = deque()
        self._by_first: dict[int, _Arriving[T]] = {}

    def begin(self, count: int, batch: T) -> int:
        """Number the `count` events of a batch whose commit begins. Returns the first number. OverflowError:
        there are no more numbers."""
        assert count > 0, "a batch has events"
        first = self.next
        if first + count > SEQUENCE_END:
            raise OverflowError("the arrival sequences of the namespace are used up")
        self.next += count
        arriving = _Arriving(first, self.next, batch)
        self._arriving.append(arriving)
        self._by_first[first] = arriving
        return first

    def end(self, first: int, *, committed: bool) -> list[T]:
        """The commit of the batch with this first number has ended. Returns the committed batches that are
        readable now, in order; `watermark` is after them."""
        self._by_first.pop(first).committed = committed
        readable: list[T] = []
        while self._arriving and self._arriving[0].committed is not None:
            arriving = self._arriving.popleft()
            assert arriving.first == self.watermark, "sequences are decided in order"
            self.watermark = arriving.end
            if arriving.committed:
                readable.append(arriving.batch)
        return readable

    def undecided(self) -> Iterator[T]:
        """The batches that are not readable yet, committed ones too."""
        return (arriving.batch for arriving in self._arriving)

    @property
    def has_undecided(self) -> bool:
        """Whether a batch is not readable yet."""
        return bool(self._arriving)

    def skip_to(self, sequence: int) -> None:
        """Give out no number below this one. For a start."""
        assert not self._arriving, "nothing is being written yet"
        self.next = self.watermark = max(self.next, sequence)
