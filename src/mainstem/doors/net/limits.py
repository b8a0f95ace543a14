"""What all connections of a door share, and how much of it one may take.

Owns: `Backlog` and `Budget`, bytes that connections have together, and who waits for some; `Guests`, who is
connected, by address and by rate. Refuses nothing by itself: it answers yes or no, and wakes who waits.
Called by frame.py and connection.py (budgets), accepting.py and server.py (guests).

Memory before authentication is bounded by these, not by what clients announce: nobody is read from who has
no room to put it.
"""

from __future__ import annotations

from typing import Protocol

from mainstem.clock import Clock

ROOM_BYTES = 1 << 20
"""Who waits for memory is woken when so much is free, or an eighth of all."""


class Waiter(Protocol):
    """Who waits for room."""

    def room(self) -> None:
        """There may be room now: try again."""


class Backlog:
    """Bytes that many have on their way. At `most_bytes` no more should be begun; who waits is woken when it
    is less, who waited longest first."""

    __slots__ = ("_clock", "_serving", "_waiting", "most_bytes", "taken_bytes")

    def __init__(self, clock: Clock, most_bytes: int) -> None:
        self._clock = clock
        self.most_bytes = most_bytes
        self.taken_bytes = 0
        self._waiting: dict[Waiter, None] = {}
        self._serving = False

    @property
    def is_full(self) -> bool:
        """There should be no more."""
        return self.taken_bytes >= self.most_bytes

    def add(self, count: int) -> None:
        """So many bytes more."""
        self.taken_bytes += count

    def give(self, count: int) -> None:
        """So many bytes less."""
        self.taken_bytes -= count
        assert self.taken_bytes >= 0, "more was given back than was taken"
        if self._waiting:
            self._serve_soon()

    def wait(self, who: Waiter) -> None:
        """Call `who.room()` when there may be more."""
        self._waiting[who] = None

    def leave(self, who: Waiter) -> None:
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
                who.room()

    def _is_worth_trying(self) -> bool:
        return not self.is_full


class Budget(Backlog):
    """Bytes of memory, taken piece by piece. The first one that finds nothing left is favoured: it may go on
    to its end whatever the others hold, so that many that are half done never wait for each other for ever.
    So together they hold at most `most_bytes` and what one may hold."""

    __slots__ = ("_favoured",)

    def __init__(self, clock: Clock, most_bytes: int) -> None:
        super().__init__(clock, most_bytes)
        self._favoured: Waiter | None = None

    @property
    def is_pressed(self) -> bool:
        """Others wait for what some hold."""
        return bool(self._waiting) or self._favoured is not None

    def take(self, who: Waiter, count: int) -> bool:
        """So many bytes more. False: not now; `who.room()` is called when it is worth trying again."""
        if self.taken_bytes + count > self.most_bytes and who is not self._favoured:
            if self._favoured is not None:
                self.wait(who)
                return False
            self._favoured = who
        self.taken_bytes += count
        return True

    def leave(self, who: Waiter) -> None:
        """It holds and wants nothing more: another one may be favoured."""
        super().leave(who)
        if who is self._favoured:
            self._favoured = None
            if self._waiting:
                self._serve_soon()

    def _is_worth_trying(self) -> bool:
        room = min(ROOM_BYTES, self.most_bytes // 8)
        return self._favoured is None or self.taken_bytes + room <= self.most_bytes


class Guests:
    """Who is connected: how many in all and from each address, and how fast they come."""

    __slots__ = ("_allowance", "_by_address", "_clock", "_last", "count", "most", "most_each", "per_second")

    def __init__(self, clock: Clock, most: int, most_each: int, per_second: int) -> None:
        self._clock = clock
        self.most = most
        self.most_each = most_each
        self.per_second = per_second
        self.count = 0
        self._by_address: dict[str, int] = {}
        self._allowance = float(per_second)
        self._last = clock.monotonic()

    @property
    def is_full(self) -> bool:
        """There is no room for one more."""
        return self.count >= self.most

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
        if there >= self.most_each:
            return False
        self._by_address[address] = there + 1
        self.count += 1
        return True

    def leave(self, address: str) -> None:
        """One from this address is gone."""
        self.count -= 1
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]
