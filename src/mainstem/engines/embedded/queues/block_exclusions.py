"""Blocks of a partition in which some filters cannot match, as the search's token filters show.

Owns: what is asked of the search, in the background while the scan goes on, and the answers for the places
where a scan is at present. Refuses: to wait for an answer, and to test a block (`search/local/search.py`). A
block of which nothing is known is read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mainstem.clock import Clock
from mainstem.contract import StreamError
from mainstem.log.partition.partition import Partition
from mainstem.queues.runs import Run
from mainstem.search.match.matcher import Matcher

if TYPE_CHECKING:
    from mainstem.search.contract import BlockExclusion

ASK_BYTES = 8 << 20
"""A scan with less than this before it, about a block, asks nothing."""
ASK_AGAIN_S = 2.0
"""Time after which is asked again, where the search had no token filters."""
MATCHERS_AT_ONCE = 100
"""Filters of a question, at most."""
WINDOWS = 8
"""Answers that are kept: scans of a partition may be at different places."""


class BlockTester(Protocol):
    """Tests the blocks of a partition by their token filters: `LogSearch`."""

    async def excluded_blocks(
        self, topic: str, partition: int, first: int, matchers: Sequence[Matcher]
    ) -> list[BlockExclusion]:
        """See `LogSearch.excluded_blocks`."""


class BlockTesterSlot:
    """Where the scans find the tester, which is created after them; None: there is none yet."""

    def __init__(self) -> None:
        self.tester: BlockTester | None = None


class ExcludedEvents:
    """Events that were not read, because some filters match none of them: their answers."""

    def __init__(self, end: int, matchers: frozenset[Matcher]) -> None:
        self.end = end
        self.matchers = matchers
        self.unreadable: list[Run] = []
        self.keys: dict[int, int] = {}
        self.times: dict[int, int] = {}

    def has_answer(self, matcher: Matcher) -> bool:
        """Whether this is one of the filters."""
        return matcher in self.matchers

    def matches(self, matcher: Matcher, first: int) -> Sequence[int]:
        """None of the events match."""
        return ()

    def readable(self, first: int) -> list[Run]:
        """Which of the events can be read is not known: none are offered."""
        return []


class _Window(NamedTuple):
    """An answer: what is known of `matchers` from `first` to `end`."""

    first: int
    end: int
    matchers: frozenset[Matcher]
    exclusions: list[BlockExclusion]


class BlockExclusions:
    """What the search knows of the blocks of one partition."""

    def __init__(self, clock: Clock, slot: BlockTesterSlot, topic: str, partition: Partition) -> None:
        self._clock = clock
        self._slot = slot
        self._topic = topic
        self._partition = partition
        self._windows: deque[_Window] = deque(maxlen=WINDOWS)
        self._asking: asyncio.Task[None] | None = None
        self._unknown_from = 0
        self._ask_again_s = 0.0
        """Until then nothing is asked about places from `_unknown_from` on."""

    def stop(self) -> None:
        """Forget all answers. Idempotent."""
        if self._asking is not None:
            self._asking.cancel()
        self._windows.clear()

    def find(self, first: int, matchers: Iterable[Matcher]) -> ExcludedEvents | None:
        """The events from `first` on in which some of these filters cannot match, and which these are. None:
        there are none, or it is not known; then it is asked in the background."""
        unknown = {matcher for matcher in matchers if is_testable(matcher)}
        if not unknown:
            return None
        best: ExcludedEvents | None = None
        for window in self._windows:
            if window.first <= first < window.end and not unknown.isdisjoint(window.matchers):
                excluded = _excluded_in(window, first, unknown)
                unknown -= window.matchers
                if excluded is not None and (best is None or len(excluded.matchers) > len(best.matchers)):
                    best = excluded
        if unknown:
            self._ask(first, unknown)
        return best

    def _ask(self, first: int, matchers: Iterable[Matcher]) -> None:
        if (
            self._slot.tester is not None
            and (self._asking is None or self._asking.done())
            and (first < self._unknown_from or self._clock.monotonic() >= self._ask_again_s)
            and self._partition.available_bytes(first) >= ASK_BYTES
        ):
            work = self._look(self._slot.tester, first, list(islice(matchers, MATCHERS_AT_ONCE)))
            self._asking = asyncio.get_running_loop().create_task(work)

    async def _look(self, tester: BlockTester, first: int, matchers: list[Matcher]) -> None:
        try:
            exclusions = await tester.excluded_blocks(self._topic, self._partition.index, first, matchers)
        except StreamError:
            exclusions, first = [], 0  # the scan reads the events, and reports what is wrong with them
        if not exclusions:
            self._unknown_from = first
            self._ask_again_s = self._clock.monotonic() + ASK_AGAIN_S
        elif not self._partition.deleted:
            self._windows.append(_Window(first, exclusions[-1].end, frozenset(matchers), exclusions))


def is_testable(matcher: Matcher) -> bool:
    """Whether blocks can be excluded for this filter: it needs some words, or bounds the time."""
    return bool(matcher.required_tokens) or matcher.time_range != (None, None)


def _excluded_in(window: _Window, first: int, wanted: set[Matcher]) -> ExcludedEvents | None:
    """The filters that cannot match in the block with the first event, and the end of the last of the blocks
    that follow where that is so, too."""
    matchers: frozenset[Matcher] = frozenset()
    end = first
    for block in window.exclusions:
        if block.end <= first:
            continue
        if block.first > end:
            break
        if not matchers:
            matchers = block.matchers & wanted
        if not matchers or not matchers <= block.matchers:
            break
        end = block.end
    return ExcludedEvents(end, matchers) if matchers else None
