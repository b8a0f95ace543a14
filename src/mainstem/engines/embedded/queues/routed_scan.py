"""The scan of a routed queue whose events have to be looked at: with a filter, or in key order.

Owns: which events a look reads: those of the queue, and no others of its namespace. Refuses: how a scan goes
on (`event_scan.py`), and queues that know from the index alone what is ready.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Sequence

from mainstem.clock import Clock
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.engines.embedded.queues.carried import RoutedViewSource
from mainstem.engines.embedded.queues.event_scan import EventScan, ScannedFeed
from mainstem.engines.embedded.queues.event_slice import RECORD_US, STEP_EVENTS, TEST_US, key_hash
from mainstem.engines.embedded.queues.events import EventsAtPositions
from mainstem.queues.event_headers import not_before_of
from mainstem.queues.runs import Run, runs_of
from mainstem.search.match.matcher import Matcher
from mainstem.search.match.needle_index import NeedleIndex

SLICE_EVENTS = 1_000
SLICE_BYTES = 256 << 10
"""Events that are read for a look, up to these limits, but for one that is larger."""


class RoutedSlice:
    """Events of one routed queue. See `ScannedSlice`."""

    def __init__(self, events: EventsAtPositions, end: int) -> None:
        self.end = end
        self.keys: dict[int, int] | None = None
        self.times: dict[int, int] | None = None
        self.unreadable: list[Run] = events.unreadable
        self._positions = sorted(events)
        self._events = events
        self._matches: dict[Matcher, list[int]] = {}

    def find_candidates(self, index: NeedleIndex) -> Iterator[int]:
        """See `ScannedSlice`. Events that are decoded already are tested one by one."""
        yield from ()

    def find_matches(self, matcher: Matcher) -> Iterator[int]:
        """See `ScannedSlice`."""
        matched: list[int] = []
        for start in range(0, len(self._positions), STEP_EVENTS):
            step = self._positions[start : start + STEP_EVENTS]
            matched += [position for position in step if matcher.matches_event(self._events[position])]
            yield int(TEST_US * len(step)) + 1
        self._matches[matcher] = matched

    def read_keys(self) -> Iterator[int]:
        """See `ScannedSlice`."""
        keyed = ((position, self._events[position].key) for position in self._positions)
        self.keys = {position: key_hash(key) for position, key in keyed if key is not None}
        yield int(RECORD_US * len(self._positions)) + 1

    def find_times(self) -> Iterator[int]:
        """See `ScannedSlice`."""
        events = ((position, self._events[position].headers) for position in self._positions)
        times = ((position, not_before_of(headers)) for position, headers in events if headers)
        self.times = {position: not_before_ms for position, not_before_ms in times if not_before_ms}
        yield int(RECORD_US * len(self._positions)) + 1

    def has_answer(self, matcher: Matcher) -> bool:
        """See `ScannedSlice`."""
        return matcher in self._matches

    def matches(self, matcher: Matcher, first: int) -> Sequence[int]:
        """See `ScannedSlice`."""
        matched = self._matches[matcher]
        return matched[bisect_left(matched, first) :]

    def readable(self, first: int) -> list[Run]:
        """See `ScannedSlice`."""
        return runs_of(self._positions[bisect_left(self._positions, first) :])


class RoutedScan(EventScan):
    """The scan of one queue."""

    def __init__(
        self,
        clock: Clock,
        machine: Subscriptions,
        source: RoutedViewSource,
        ahead: Callable[[int, int], Awaitable[tuple[list[Run], int]]],
    ) -> None:
        """`source` reads events that are carried over, too, for the scan may not have come to them. `ahead`
        returns the queue's positions from one on, about as many as it is asked for, and the position up to
        which these are all."""
        super().__init__(clock, machine)
        self.subject = f"namespace {source.topic}"
        self._source = source
        self._ahead = ahead

    @property
    def log_start(self) -> int:
        """See `EventScan.log_start`."""
        return self._source.partition.log_start_offset

    @property
    def is_over(self) -> bool:
        """See `EventScan.is_over`."""
        return not self._scanned

    def join(self, feed: ScannedFeed) -> None:
        """Scan for the feed of the queue."""
        self._scanned[feed] = None

    def leave(self, feed: ScannedFeed) -> None:
        """Scan no more."""
        self._scanned.pop(feed, None)
        self.stop()

    async def _read(self, first: int) -> tuple[RoutedSlice, int]:
        """See `EventScan._read`."""
        runs, end = await self._ahead(first, SLICE_EVENTS)
        events = await self._source.read(runs, SLICE_BYTES)
        if events.left:
            end = events.left[0][0]
        return RoutedSlice(events, end), events.bytes
