"""The events that a subscriber has on lease, in one lane for each key.

The server leases later events of a key to the consumer that has the earlier ones, and takes them back when
an earlier one fails; unless that was its last attempt. A lane therefore runs one event at a time, and ends
with a failure: what is behind it is given back in any case, and will be delivered again, in order. What a
pull that was under way has still brought of it is refused here, for the same reason.

Owns: which event may run next. Refuses: to run it, to answer for it, and to wait; it knows no clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from mainstem.contract import Event
from mainstem.queue_contract import Delivery

Place: TypeAlias = tuple[str, int, int]
"""Topic, partition, offset."""
_Lane: TypeAlias = tuple[str, int, bytes]
"""Topic, partition, key. The order of a key is that of a partition."""


class OpenEvent(msgspec.Struct, gc=False, eq=False):
    """An event that was delivered, until its answer is taken."""

    event: Event
    token: str
    """Of its latest delivery."""
    attempt: int
    lease_end_s: float
    """When its lock expires, monotonic."""
    place: Place
    """Where the event is."""
    lane: _Lane | None
    """None: without a key it waits for no other."""
    is_running: bool = False
    is_answered: bool = False
    """Whether there is an answer for it, under way or taken."""
    is_lost: bool = False
    """Whether the lock is over."""


def opened(delivery: Delivery, lease_end_s: float) -> OpenEvent:
    """The event of a delivery whose lock expires then (monotonic)."""
    event = delivery.event
    topic, partition, key = event.topic, event.partition, event.key
    place, lane = (topic, partition, event.offset), None if key is None else (topic, partition, key)
    return OpenEvent(event, delivery.token, delivery.attempt, lease_end_s, place, lane)


@dataclass(slots=True)
class _BrokenLane:
    """A lane that ended with a failure, at this offset. Deliveries after it are refused that a pull up to
    `last_pull` may have leased before the failure was known; None: it is not known yet."""

    offset: int
    last_pull: int | None = None
    behind: list[OpenEvent] = field(default_factory=list)
    """What is to be given back when the failure is known: most of it will be another lease's by then."""


class LeasedLanes:
    """Events that wait for their turn or run. Pulls are numbered, each higher than the one before."""

    def __init__(self) -> None:
        self._open: dict[Place, OpenEvent] = {}
        self._lanes: dict[_Lane, deque[OpenEvent]] = {}
        """With the one that runs or is ready, which is the first."""
        self._ready: deque[OpenEvent] = deque()
        self._broken: dict[_Lane, _BrokenLane] = {}
        self.running = 0
        self.untried: list[OpenEvent] = []
        """Events that were taken out without a call, for their user to take: see `take_untried`."""

    def __len__(self) -> int:
        return len(self._open)

    @property
    def waiting(self) -> int:
        """Events that do not run."""
        return len(self._open) - self.running

    @property
    def ready(self) -> int:
        """Events that may run now, at most."""
        return len(self._ready)

    @property
    def has_broken(self) -> bool:
        """Whether there is a lane that ended with a failure: `settle` has to hear of its event."""
        return bool(self._broken)

    def all(self) -> list[OpenEvent]:
        """All of them, running or not."""
        return list(self._open.values())

    def add(self, delivery: Delivery, pull: int, lease_end_s: float) -> bool:
        """A delivery of a pull came: an event, or the new lease of one that is here. False: it is refused."""
        leased = opened(delivery, lease_end_s)
        known = self._open.get(leased.place)
        if known is not None:
            known.token, known.lease_end_s, known.is_lost = leased.token, lease_end_s, False
            return True
        lane = leased.lane
        if lane is None:
            self._ready.append(leased)
        else:
            if lane in self._broken and self._is_refused(lane, leased, pull):
                return False
            waiting = self._lanes.get(lane)
            if waiting is None:
                self._lanes[lane] = deque((leased,))
                self._ready.append(leased)
            else:
                waiting.append(leased)
        self._open[leased.place] = leased
        return True

    def next(self) -> OpenEvent | None:
        """The event that runs next; it counts as running. None: there is none now."""
        while self._ready:
            leased = self._ready.popleft()
            if self._open.get(leased.place) is leased:
                leased.is_running = True
                self.running += 1
                return leased
        return None

    def finish(self, leased: OpenEvent) -> None:
        """An event that ran was handled: the next one of its key may run."""
        self._remove(leased)
        if (lane := leased.lane) is None:
            return
        waiting = self._lanes.get(lane)
        if not waiting or waiting[0] is not leased:
            return
        waiting.popleft()
        if waiting:
            self._ready.append(waiting[0])
        else:
            del self._lanes[lane]

    def break_at(self, leased: OpenEvent) -> None:
        """An event comes back later; those behind it are taken out. `settle` has to follow when the server
        knows it."""
        self._remove(leased)
        lane = leased.lane
        if lane is None:
            return
        waiting = self._lanes.pop(lane, None) or deque()
        before: deque[OpenEvent] = deque()
        while waiting and waiting[0] is not leased:
            before.append(waiting.popleft())
        behind = [other for other in waiting if other is not leased]
        for other in behind:
            self._remove(other)
        if before:
            self._lanes[lane] = before
        broken = self._broken.get(lane)
        if broken is None or leased.event.offset <= broken.offset:
            self._broken[lane] = _BrokenLane(
                leased.event.offset, None, behind + (broken.behind if broken else [])
            )
        else:
            broken.behind += behind

    def settle(self, leased: OpenEvent, last_pull: int) -> None:
        """The server knows now of a lane that was broken, if this was the event; pulls with higher numbers
        began later."""
        lane = leased.lane
        broken = self._broken.get(lane) if lane else None
        if broken is not None and broken.offset == leased.event.offset:
            broken.last_pull = last_pull
            self.untried += broken.behind
            broken.behind = []

    def take_untried(self) -> list[OpenEvent]:
        """Events that were leased and have had no call, which are to be given back now. It is not known
        whether the server has taken them back itself."""
        untried, self.untried = self.untried, []
        return untried

    def returned(self, pull: int) -> None:
        """A pull has returned, and all of its deliveries were added."""
        if self._broken:
            over = [lane for lane, broken in self._broken.items() if (broken.last_pull or pull + 1) <= pull]
            for lane in over:
                del self._broken[lane]

    def drop_waiting(self) -> list[OpenEvent]:
        """Take out all that do not run, and return them."""
        dropped = [leased for leased in self._open.values() if not leased.is_running]
        for leased in dropped:
            del self._open[leased.place]
        self._ready.clear()
        for lane, waiting in list(self._lanes.items()):
            if waiting[0].is_running:
                self._lanes[lane] = deque((waiting[0],))
            else:
                del self._lanes[lane]
        return dropped

    def _is_refused(self, lane: _Lane, leased: OpenEvent, pull: int) -> bool:
        broken = self._broken[lane]
        is_old = broken.last_pull is None or pull <= broken.last_pull
        if not is_old or leased.event.offset <= broken.offset:
            # The event that failed is here again, or what comes is behind it no more.
            del self._broken[lane]
            self.untried += broken.behind
            return False
        if broken.last_pull is None:
            broken.behind.append(leased)
        else:
            self.untried.append(leased)
        return True

    def _remove(self, leased: OpenEvent) -> None:
        if self._open.get(leased.place) is leased:
            del self._open[leased.place]
        if leased.is_running:
            leased.is_running = False
            self.running -= 1
