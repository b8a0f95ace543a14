"""The words of consumers about events that they gave back or rejected.

Owns: the last text of each event that is not done, within limits: beyond these the oldest texts are
forgotten, so that no consumer can fill the memory. Refuses: to know why an event is given up; records say
that with a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mainstem.coordinator.queues.records import EventsReason, encoded
from mainstem.queues.runs import Run, count_positions

REASONS_MAX = 100_000
"""Events whose text is kept, of all subscriptions."""
REASON_CHARS_MAX = 16 << 20
"""Characters of all texts, each counted as often as there are events that have it."""

ReasonKey = tuple[int, int]
"""The number of a view, and a position."""


class EventReasons:
    """The texts. The same records lead to the same texts, whenever they are applied."""

    def __init__(self) -> None:
        self._texts: dict[ReasonKey, str] = {}
        """The oldest first."""
        self._of_view: dict[int, set[int]] = {}
        self._chars = 0

    def __len__(self) -> int:
        return len(self._texts)

    def get(self, view: int, position: int) -> str:
        """What a consumer said last about an event; empty if none did."""
        return self._texts.get((view, position), "")

    def put(self, view: int, position: int, text: str) -> None:
        """A consumer says this about an event."""
        self._drop(view, position)
        self._texts[view, position] = text
        self._of_view.setdefault(view, set()).add(position)
        self._chars += len(text)
        while len(self._texts) > REASONS_MAX or self._chars > REASON_CHARS_MAX:
            self._drop(*next(iter(self._texts)))

    def forget(self, view: int, runs: Sequence[Run]) -> None:
        """These events are done, or begin anew."""
        known = self._of_view.get(view)
        if known is None:
            return
        if count_positions(runs) < len(known):
            positions = [
                position for first, end in runs for position in range(first, end) if position in known
            ]
        else:
            positions = [
                position for position in known if any(first <= position < end for first, end in runs)
            ]
        for position in positions:
            self._drop(view, position)

    def forget_view(self, view: int) -> None:
        """All events of the view begin anew, or it is there no more."""
        for position in list(self._of_view.get(view, ())):
            self._drop(view, position)

    def _drop(self, view: int, position: int) -> None:
        text = self._texts.pop((view, position), None)
        if text is None:
            return
        self._chars -= len(text)
        positions = self._of_view[view]
        positions.discard(position)
        if not positions:
            del self._of_view[view]

    def records(self) -> Iterator[EventsReason]:
        """The records that make the present texts, in their order; also if they are read later."""
        return _records(list(self._texts.items()))


def _records(texts: Sequence[tuple[ReasonKey, str]]) -> Iterator[EventsReason]:
    for (view, position), text in texts:
        yield EventsReason(view, *encoded([(position, position + 1)]), text)
