"""What all connections of a door share, and how much of it one may take.

Owns: `InFlightLimit` and `MemoryBudget`, bytes that connections have together, and who waits for some;
`ConnectionLimits`, who is connected, by address and by rate. Refuses nothing by itself: it
answers yes or no, and wakes who waits.
Called by frame.py and connection.py (budgets), acceptor.py and server.py (guests).

Memory before authentication is bounded by these, not by what clients announce: nobody is read from who has
no room to put it.
"""

from __future__ import annotations

from typing import Protocol

from mainstem.clock import Clock

ROOM_BYTES = 1 << 20
"""Who waits for memory is woken when so much is free, or an eighth of all."""


class CapacityWaiter(Protocol):
    """Who waits for room."""

    def on_capacity(self) -> None:
        """There may be room now: try again."""


class InFlightLimit:
    """Bytes that many have on their way. At `most_bytes` no more should be begun; who waits is woken when it
    is less, who waited longest first."""

    __slots__ = ("_clock", "_serving", "_waiting", "max_bytes", "used_bytes")

    def __init__(self, clock: Clock, most_bytes: int) -> None:
        self._clock = clock
        self.max_bytes = most_bytes
        self.used_bytes = 0
        self._waiting: dict[CapacityWaiter, None] = {}
        self._serving = False

    @property
    def is_full(self) -> bool:
        """There should be no more."""
        return self.used_bytes >= self.max_bytes

    def add(self, count: int) -> None:
        """So many bytes more."""
        self.used_bytes += count

    def release(self, count: int) -> None:
        """So many bytes less."""
        self.used_bytes -= count
        assert self.used_bytes >= 0, "more was given back than was taken"
        if self._waiting:
            self._serve_soon()

    def wait(self, who: CapacityWaiter) -> None:
        """Call `who.on_capacity()` when there may be more."""
        self._waiting[who] = None

    def stop_waiting(self, who: CapacityWaiter) -> None:
        """It waits no more."""
        self._waiting.pop(who, None)

    def _serve_soon(self) -> None:
        if not self._serving:
            self._serving = True
            self._clock.call_soon(self._serve)

    def _serve(self) -> None:
        self._serving = False
        for who in list(self._waiting):
            if not self._is_worth_trying():
                break
            if who in self._waiting:
                del self._waiting[who]
                who.on_capacity()

    def _is_worth_trying(self) -> bool:
        return not self.is_full


class MemoryBudget(InFlightLimit):
    """Bytes of memory, taken piece by piece. The first one that finds nothing left is favoured: it may go on
    to its end whatever the others hold, so that many that are half done never wait for each other for ever.
    So together they hold at most `most_bytes` and what one may hold."""

    __slots__ = ("_favoured",)

    def __init__(self, clock: Clock, most_bytes: int) -> None:
        super().__init__(clock, most_bytes)
        self._favoured: CapacityWaiter | None = None

    @property
    def is_contended(self) -> bool:
        """Others wait for what some hold."""
        return bool(self._waiting) or self._favoured is not None

    def reserve(self, who: CapacityWaiter, count: int) -> bool:
        """So many bytes more. False: not now; `who.on_capacity()` is called when it is worth trying again."""
        if self.used_bytes + count > self.max_bytes and who is not self._favoured:
            if self._favoured is not None:
                self.wait(who)
                return False
            self._favoured = who
        self.used_bytes += count
        return True

    def stop_waiting(self, who: CapacityWaiter) -> None:
        """It holds and wants nothing more: another one may be favoured."""
        super().stop_waiting(who)
        if who is self._favoured:
            self._favoured = None
            if self._waiting:
                self._serve_soon()

    def _is_worth_trying(self) -> bool:
        room = min(ROOM_BYTES, self.max_bytes // 8)
        return self._favoured is None or self.used_bytes + room <= self.max_bytes


class ConnectionLimits:
    """Who is connected: how many in all and from each address, and how fast they come."""

    __slots__ = (
        "_allowance",
        "_by_address",
        "_clock",
        "_last",
        "count",
        "max_connections",
        "max_per_address",
        "per_second",
    )

    def __init__(self, clock: Clock, most: int, most_each: int, per_second: int) -> None:
        self._clock = clock
        self.max_connections = most
        self.max_per_address = most_each
        self.per_second = per_second
        self.count = 0
        self._by_address: dict[str, int] = {}
        self._allowance = float(per_second)
        self._last = clock.monotonic()

    @property
    def is_full(self) -> bool:
        """There is no room for one more."""
        return self.count >= self.max_connections

    def delay_s(self) -> float:
        """How long the next one has to wait so that no more than `per_second` come in a second (after a
        quiet second so many at once); 0: not at all."""
        now = self._clock.monotonic()
        self._allowance = min(self.per_second, self._allowance + (now - self._last) * self.per_second)
        self._last = now
        if self._allowance < 1:
            return (1 - self._allowance) / self.per_second
        return 0.0

    def admit(self, address: str) -> bool:
        """Whether one more from this address may be let in; it is counted. Each one has to `leave`."""
        self._allowance -= 1
        there = self._by_address.get(address, 0)
        if there >= self.max_per_address:
            return False
        self._by_address[address] = there + 1
        self.count += 1
        return True

    def release(self, address: str) -> None:
        """One from this address is gone."""
        self.count -= 1
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]
