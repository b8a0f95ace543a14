"""The scan of events in the background, whether somebody pulls or not.

Owns: how much it does in a turn of the event loop, for views at different places, which questions are asked
of a slice of events, and trying again after an error. Refuses: to read events (`partition_scan.py`,
`routed_scan.py`), and to decide what a view makes of one (`subscription_feed.py`).
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Protocol

from mainstem.clock import Clock
from mainstem.contract import StreamError
from mainstem.coordinator.queues.records import ViewScanned
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.log.errors import LogError
from mainstem.queues.runs import Run
from mainstem.search.match.matcher import Matcher
from mainstem.search.match.needle_index import NeedleIndex
from mainstem.turns import next_turn

TURN_US = 2_000
"""What a scan does in a turn of the event loop costs about this many microseconds."""
FEED_US = 30
"""What it costs to let one view take the answers of a slice."""
EXCLUDED_BYTES = 8 << 20
"""What is passed without being read has about as many bytes, or more."""
RETRY_S = 1.0
"""Time after which a scan goes on that the disk has stopped."""

log = logging.getLogger(__name__)


class ScanAnswers(Protocol):
    """What is known of events that follow each other in the sequence of a view. Answers are kept."""

    @property
    def end(self) -> int:
        """The position after the last one."""

    @property
    def unreadable(self) -> list[Run]:
        """Positions of events that damage has made unreadable."""

    @property
    def keys(self) -> dict[int, int] | None:
        """Position -> hash of the key, of the events that have one; None: it was not asked."""

    @property
    def times(self) -> dict[int, int] | None:
        """Position -> the time before which an event is not to be delivered, of those that name one; None:
        it was not asked."""

    def has_answer(self, matcher: Matcher) -> bool:
        """Whether it is known which events match."""

    def matches(self, matcher: Matcher, first: int) -> Sequence[int]:
        """The positions from `first` on whose events match, ascending."""

    def readable(self, first: int) -> list[Run]:
        """The positions from `first` on that have an event."""


class ScannedSlice(ScanAnswers, Protocol):
    """Events that were read. Questions are generators, which yield what their steps cost in microseconds."""

    def find_candidates(self, index: NeedleIndex) -> Iterator[int]:
        """Find the events that may match for many filters at once."""

    def find_matches(self, matcher: Matcher) -> Iterator[int]:
        """Find the events that match: `has_answer` at its end."""

    def read_keys(self) -> Iterator[int]:
        """Find the hashes of all keys: `keys`."""

    def find_times(self) -> Iterator[int]:
        """Find the events that are not to be delivered before a time: `times`."""


class ScannedFeed(Protocol):
    """A view that is scanned, as the scan sees it."""

    problem: str
    matcher: Matcher | None

    @property
    def scanned(self) -> int:
        """Where its scan goes on."""

    @property
    def reads_keys(self) -> bool:
        """Whether it needs the keys of events."""

    def on_ready(self) -> None:
        """Something may be ready."""

    def is_behind(self) -> bool:
        """Whether there is something to scan, and room for it."""

    def has_unkeyed(self) -> bool:
        """Whether events are outstanding whose keys are not known."""

    async def learn_keys(self) -> None:
        """Learn some of those keys."""

    def take_slice(self, events: ScanAnswers, size: int) -> ViewScanned | None:
        """Scan up to the end of a slice of `size` bytes. Returns a record of the scan if one is due."""


class EventScan(ABC):
    """The scan of one sequence of events."""

    subject: str
    """What is scanned, for messages."""

    def __init__(self, clock: Clock, machine: Subscriptions) -> None:
        self._clock = clock
        self._machine = machine
        self._scanned: dict[ScannedFeed, None] = {}
        """The feeds that need events looked at."""
        self._asked: frozenset[Matcher] = frozenset()
        self._needles: NeedleIndex | None = None
        """Of the filters in `_asked`."""
        self._turns = 0
        self._scanning: asyncio.Task[None] | None = None

    @property
    @abstractmethod
    def log_start(self) -> int:
        """The positions below are deleted."""

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether its events were deleted, so that errors are no news."""

    @abstractmethod
    async def _read(self, first: int) -> tuple[ScannedSlice, int]:
        """Some events from a position on, and how many bytes these have. Errors of the log, StreamError."""

    def _excluded(self, first: int, feeds: Iterable[ScannedFeed]) -> ScanAnswers | None:
        """Events from a position on that need not be read for some of these feeds, because their filters
        match none of them; None: that is known of no feed."""
        return None

    def stop(self) -> None:
        """Scan no more. Idempotent."""
        if self._scanning is not None:
            self._scanning.cancel()

    # --- the scan -----------------------------------------------------------------------------------------

    def scan_soon(self) -> None:
        """Look in the background at what the views have not looked at yet."""
        if self._scanned and (self._scanning is None or self._scanning.done()):
            self._scanning = asyncio.get_running_loop().create_task(self._scan_all())

    async def _scan_all(self) -> None:
        behind: list[ScannedFeed] = []
        try:
            while behind := [feed for feed in self._scanned if feed.is_behind()]:
                await self._scan_some(behind)
                for feed in behind:
                    feed.problem = ""
        except (LogError, OSError, StreamError) as error:
            problem = f"{self.subject}: the scan cannot read its events: {error}"
            for feed in behind:
                feed.problem = problem
            if not self.is_over:
                log.warning("%s; trying again", problem)
                self._clock.call_later(RETRY_S, self.scan_soon)

    async def _scan_some(self, behind: list[ScannedFeed]) -> None:
        self._turns += 1
        unkeyed = [feed for feed in behind if feed.has_unkeyed()]
        keyed = [feed for feed in behind if not feed.has_unkeyed()]
        if unkeyed and (self._turns % 2 or not keyed):
            await unkeyed[self._turns % len(unkeyed)].learn_keys()
            await next_turn(self._clock)
            return
        first = self._next_place(keyed)
        excluded = self._excluded(first, keyed)
        if excluded is not None:
            end = excluded.end
            members = [
                feed
                for feed in keyed
                if feed.matcher is not None
                and excluded.has_answer(feed.matcher)
                and self._is_within(feed, first, end)
            ]
            await self._pass(excluded, EXCLUDED_BYTES, members, first)
            return
        events, size = await self._read(first)
        members = [feed for feed in keyed if self._is_within(feed, first, events.end)]
        await self._look(events, members)
        await self._pass(events, size, members, first)

    def _is_within(self, feed: ScannedFeed, first: int, end: int) -> bool:
        """Whether the scan of a feed goes on in a slice. What is before a later slice was not looked at for
        it, unless it is deleted."""
        return first <= max(feed.scanned, self.log_start) < end

    def _next_place(self, feeds: Iterable[ScannedFeed]) -> int:
        """Where to read next. The newest events are read in a third of the turns, so that a view that is far
        behind delays others little; the lowest place in another third, so that it reaches those before it and
        is scanned with them; any in the last."""
        places = sorted({feed.scanned for feed in feeds})
        kind, number = self._turns % 3, self._turns // 3
        place = places[-1] if kind == 0 else places[0] if kind == 1 else places[number % len(places)]
        return max(place, self.log_start)

    async def _look(self, events: ScannedSlice, members: list[ScannedFeed]) -> None:
        """Find the answers to all that these feeds ask. Feeds with equal filters share one."""
        matchers = dict.fromkeys(feed.matcher for feed in members if feed.matcher is not None)
        questions = [events.find_matches(matcher) for matcher in matchers]
        if len(matchers) > 1:
            if self._needles is None or not self._asked.issuperset(matchers):
                self._asked = frozenset(matchers)
                self._needles = NeedleIndex(self._asked)
            questions.insert(0, events.find_candidates(self._needles))
        if any(feed.reads_keys for feed in members):
            questions.append(events.read_keys())
        questions.append(events.find_times())
        await self._run(chain.from_iterable(questions))

    async def _pass(self, events: ScanAnswers, size: int, members: list[ScannedFeed], first: int) -> None:
        """Let each feed take the answers, if it still is in the slice. Others may have been closed, or moved
        by a seek, while the answers were found."""
        records: list[ViewScanned] = []

        def steps() -> Iterator[int]:
            for feed in members:
                is_there = feed in self._scanned and feed.is_behind()
                if is_there and self._is_within(feed, first, events.end):
                    record = feed.take_slice(events, size)
                    if record is not None:
                        records.append(record)
                yield FEED_US

        await self._run(steps())
        if records:
            self._machine.changes.note_scans(records)
        await next_turn(self._clock)

    async def _run(self, steps: Iterable[int]) -> None:
        """Run steps, which yield their cost in microseconds, in several turns of the event loop."""
        cost = 0
        for step_us in steps:
            cost += step_us
            if cost >= TURN_US:
                await next_turn(self._clock)
                cost = 0
