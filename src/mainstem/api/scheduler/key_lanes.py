"""The lanes of a subscriber: the events of each key in their order, of which one runs at a time.

A key is *held* from when an event of it runs, or waits, until that event is done; its other events are behind
it in its lane. An event that waits for its next attempt holds its key and no worker. Events without a key
have no lane.

Owns: which event is next, the waits, and that suspects run alone. Refuses: time of its own (the callers say
what time it is), handlers, and what a commit says (`partition_ledger`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush

from mainstem.api.scheduler.partition_ledger import PartitionLedger
from mainstem.contract import Event

ALONE_MS = 5_000
"""How long a suspect runs alone, and how long before that it waits for those in flight to end. What takes
longer does not keep the others any more."""


class LaneEvent:
    """An event in a lane."""

    __slots__ = ("attempt", "deaths", "due_ms", "event", "failed_ms", "key", "ledger", "offset")

    def __init__(self, event: Event, ledger: PartitionLedger) -> None:
        self.event = event
        self.ledger = ledger
        self.offset = event.offset
        self.key = event.key
        self.attempt = 1
        """The one that runs, or is next."""
        self.due_ms = 0
        """It does not start before this time."""
        self.failed_ms = 0
        """When it failed first in this lane; 0: it has not."""
        self.deaths = 0
        """Above 0: it is a suspect, and was in flight that often when its process died."""


_NONE_BEHIND: deque[LaneEvent] = deque()
"""The lane of a key with one event, which is at its head."""

Prepare = Callable[[LaneEvent], None]
"""Sets the attempt and the due time of an event from its headers."""


class KeyLanes:
    """The lanes of all partitions that a subscriber has."""

    def __init__(self) -> None:
        self._behind: dict[bytes, deque[LaneEvent]] = {}
        """Key that is held -> its events behind the one that holds it."""
        self._ready: deque[LaneEvent] = deque()
        self._waiting: list[tuple[int, int, LaneEvent]] = []
        """A heap of (due time, number, event)."""
        self._parked: deque[LaneEvent] = deque()
        """Ready, but their partitions' commits have to come first."""
        self._suspects: deque[LaneEvent] = deque()
        """Ready to run alone."""
        self._alone: LaneEvent | None = None
        self._alone_until_ms = 0
        self._drain_until_ms = 0
        """0: no suspect waits for the end of what is in flight."""
        self._number = 0
        self.in_flight = 0

    @property
    def waiting(self) -> int:
        """Events that wait for a time."""
        return len(self._waiting)

    @property
    def is_ready(self) -> bool:
        """Whether events are ready, though perhaps not to start."""
        return bool(self._ready)

    @property
    def next_due_ms(self) -> int | None:
        """When the first waiting event may start; None: none waits."""
        if self._alone is not None:
            return self._alone_until_ms
        if self._suspects and self._drain_until_ms:
            return self._drain_until_ms
        return self._waiting[0][0] if self._waiting else None

    # --- into the lanes -----------------------------------------------------------------------------------

    def add(self, events: Iterable[Event], ledger: PartitionLedger, prepare: Prepare) -> int:
        """Events of a partition were read. `prepare` is called with those that have headers. Returns how many
        there are to do."""
        behind, ready, count = self._behind, self._ready, 0
        for event in events:
            value, key = event.value, event.key
            size = (0 if value is None else len(value)) + (0 if key is None else len(key))
            if not ledger.add(event.offset, size):
                continue
            count += 1
            lane_event = LaneEvent(event, ledger)
            if event.headers:
                prepare(lane_event)
            if ledger.is_watched:
                lane_event.deaths = ledger.deaths(event.offset)
            if key is not None:
                queue = behind.get(key)
                if queue is not None:
                    if queue is _NONE_BEHIND:
                        behind[key] = deque((lane_event,))
                    else:
                        queue.append(lane_event)
                    continue
                behind[key] = _NONE_BEHIND
            if lane_event.due_ms or lane_event.deaths:
                self._to_head(lane_event)
            else:
                ready.append(lane_event)
        return count

    def _to_head(self, lane_event: LaneEvent) -> None:
        """An event is the first of its lane."""
        if lane_event.due_ms:
            self._number += 1
            heappush(self._waiting, (lane_event.due_ms, self._number, lane_event))
        elif lane_event.deaths:
            self._suspects.append(lane_event)
        else:
            self._ready.append(lane_event)

    def _advance(self, key: bytes) -> None:
        """The key is not held any more, unless an event is behind."""
        queue = self._behind[key]
        if queue:
            self._to_head(queue.popleft())
        else:
            del self._behind[key]

    # --- out of the lanes ---------------------------------------------------------------------------------

    def take(self, now_ms: int) -> LaneEvent | None:
        """The next event to run; None: none may start now."""
        if self._waiting and self._waiting[0][0] <= now_ms:
            self._release(now_ms)
        if self._suspects or self._alone is not None:
            return self._take_suspect(now_ms)
        ready = self._ready
        while ready:
            lane_event = ready.popleft()
            ledger, offset = lane_event.ledger, lane_event.offset
            if offset < ledger.start_end or ledger.may_start(offset):
                ledger.start(offset)
                self.in_flight += 1
                return lane_event
            self._parked.append(lane_event)
        return None

    def _release(self, now_ms: int) -> None:
        waiting = self._waiting
        while waiting and waiting[0][0] <= now_ms:
            lane_event = heappop(waiting)[2]
            lane_event.due_ms = 0
            self._to_head(lane_event)

    def _take_suspect(self, now_ms: int) -> LaneEvent | None:
        if self._alone is not None:
            if now_ms < self._alone_until_ms:
                return None
            self._alone = None
            return self.take(now_ms)
        if self.in_flight:
            self._drain_until_ms = self._drain_until_ms or now_ms + ALONE_MS
            if now_ms < self._drain_until_ms:
                return None
        lane_event = self._suspects[0]
        if not lane_event.ledger.may_start_alone(lane_event.offset):
            if lane_event.ledger.is_closed:
                self._parked.append(self._suspects.popleft())
                return self.take(now_ms)
            return None
        self._suspects.popleft()
        lane_event.ledger.start(lane_event.offset)
        self.in_flight += 1
        self._alone, self._alone_until_ms = lane_event, now_ms + ALONE_MS
        self._drain_until_ms = 0
        return lane_event

    def take_behind(self, lane_event: LaneEvent) -> LaneEvent | None:
        """The next event of the key of an event that was taken, to run after it in one list; None: there is
        none, or it may not start now. `end_list` ends both."""
        queue = None if lane_event.key is None else self._behind[lane_event.key]
        if not queue:
            return None
        following = queue[0]
        ledger, offset = following.ledger, following.offset
        if (
            following.due_ms
            or following.deaths
            or not (offset < ledger.start_end or ledger.may_start(offset))
        ):
            return None
        queue.popleft()
        ledger.start(offset)
        self.in_flight += 1
        return following

    def unpark(self) -> None:
        """Look again at what could not start: commits were acknowledged, or events done."""
        if self._parked:
            parked, self._parked = self._parked, deque()
            parked.extend(self._ready)
            self._ready = deque(lane_event for lane_event in parked if not lane_event.deaths)
            self._suspects.extend(lane_event for lane_event in parked if lane_event.deaths)

    @property
    def is_parked(self) -> bool:
        """Whether events are ready and could not start."""
        return bool(self._parked)

    # --- ends ---------------------------------------------------------------------------------------------

    def finish(self, lane_event: LaneEvent) -> None:
        """An event that was taken is done."""
        self.in_flight -= 1
        lane_event.ledger.finish(lane_event.offset)
        if lane_event is self._alone:
            self._alone = None
        key = lane_event.key
        if key is not None:
            if self._behind[key] is _NONE_BEHIND:  # as `_advance` does it
                del self._behind[key]
            else:
                self._advance(key)

    def retry(self, lane_event: LaneEvent, due_ms: int, *, counts: bool = True) -> None:
        """An event that was taken is to run again at this time, and holds its key until then."""
        self.in_flight -= 1
        lane_event.ledger.give_back(lane_event.offset)
        if lane_event is self._alone:
            self._alone = None
        lane_event.attempt += counts
        lane_event.deaths = 0
        lane_event.due_ms = max(1, due_ms)
        self._to_head(lane_event)

    def end_list(self, ends: Iterable[tuple[LaneEvent, int | None]], *, counts: bool = True) -> None:
        """All events of a list have ended, given in its order: each is done (None), or is to run again at a
        time. Of a key, the first of these waits, and the others stay behind it."""
        again: dict[bytes, list[LaneEvent]] = {}
        keys: dict[bytes, None] = {}
        for lane_event, due_ms in ends:
            self.in_flight -= 1
            if lane_event is self._alone:
                self._alone = None
            key = lane_event.key
            if key is not None:
                keys[key] = None
            if due_ms is None:
                lane_event.ledger.finish(lane_event.offset)
                continue
            lane_event.ledger.give_back(lane_event.offset)
            lane_event.attempt += counts
            lane_event.deaths, lane_event.due_ms = 0, max(1, due_ms)
            if key is None:
                self._to_head(lane_event)
            else:
                again.setdefault(key, []).append(lane_event)
        for key in keys:
            if key not in again:
                self._advance(key)
                continue
            first, *rest = again[key]
            if rest:
                self._behind[key] = deque((*rest, *self._behind[key]))
            self._to_head(first)

    def drop(self, ledger: PartitionLedger) -> None:
        """Forget a partition: its events are not done, and another member has them. None of them is in
        flight, or `abandon` follows for those that are."""
        ledger.close()
        for key, queue in self._behind.items():
            if queue:
                self._behind[key] = deque(behind for behind in queue if behind.ledger is not ledger)
        heads: list[LaneEvent] = [entry[2] for entry in self._waiting if entry[2].ledger is ledger]
        self._waiting = [entry for entry in self._waiting if entry[2].ledger is not ledger]
        heapify(self._waiting)
        for queue in (self._ready, self._parked, self._suspects):
            heads += (lane_event for lane_event in queue if lane_event.ledger is ledger)
            others = [lane_event for lane_event in queue if lane_event.ledger is not ledger]
            queue.clear()
            queue.extend(others)
        for head in heads:
            if head.key is not None:
                self._advance(head.key)

    def abandon(self, lane_event: LaneEvent) -> None:
        """An event in flight of a partition that was dropped has ended: its key is free."""
        self.in_flight -= 1
        if lane_event is self._alone:
            self._alone = None
        if lane_event.key is not None:
            self._advance(lane_event.key)
