"""Limits that all connections of a door share, and how much of them one may take.

Owns: `InFlightLimit` and `MemoryBudget`, bytes that connections hold together and who waits for some;
`ConnectionLimits`, how many connections there are, by address and by rate. Refuses: a connection above the
limit of its address, and memory above the budget; a connection without memory waits for `on_capacity`.

Memory before authentication is bounded by these, not by what clients announce: the server stops reading from
a connection that has no buffer space left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mainstem.clock import Clock
from mainstem.rate_limit import RateLimit

WAKE_BYTES = 1 << 20
"""Connections that wait for memory are woken when this much is free, or an eighth of the budget."""
SPARE_FILES = 64
"""Descriptors kept for the log beside those of its segments."""


class CapacityWaiter(Protocol):
    """A connection that waits for capacity."""

    def on_capacity(self) -> None:
        """There may be capacity now: try again."""


class InFlightLimit:
    """Bytes that many connections have in flight. At `max_bytes` no more should be started; waiters are woken
    when it is less, the longest waiting first."""

    __slots__ = ("_clock", "_waiting", "_waking", "max_bytes", "used_bytes")

    def __init__(self, clock: Clock, max_bytes: int) -> None:
        self._clock = clock
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._waiting: dict[CapacityWaiter, None] = {}
        self._waking = False

    @property
    def is_full(self) -> bool:
        """Whether `max_bytes` are in flight, so that no more should be started."""
        return self.used_bytes >= self.max_bytes

    def add(self, count: int) -> None:
        """Count `count` more bytes as in flight."""
        self.used_bytes += count

    def release(self, count: int) -> None:
        """Count `count` bytes as no longer in flight, and wake those that wait."""
        self.used_bytes -= count
        assert self.used_bytes >= 0, "no more bytes are released than were added"
        if self._waiting:
            self._wake_soon()

    def wait(self, waiter: CapacityWaiter) -> None:
        """Call `waiter.on_capacity()` once when there may be capacity."""
        self._waiting[waiter] = None

    def stop_waiting(self, waiter: CapacityWaiter) -> None:
        """Do not wake `waiter` any more."""
        self._waiting.pop(waiter, None)

    def _wake_soon(self) -> None:
        if not self._waking:
            self._waking = True
            self._clock.call_soon(self._wake)

    def _wake(self) -> None:
        self._waking = False
        for waiter in list(self._waiting):
            if not self._is_worth_trying():
                break
            if waiter in self._waiting:
                del self._waiting[waiter]
                waiter.on_capacity()

    def _is_worth_trying(self) -> bool:
        return not self.is_full


class MemoryBudget(InFlightLimit):
    """Bytes of memory, reserved piece by piece. The first connection that finds none left is favoured: it may
    go on to its end whatever the others hold, so that many half-received requests never wait for each other
    for ever. So all together hold at most `max_bytes` and what one connection may hold."""

    __slots__ = ("_favoured",)

    def __init__(self, clock: Clock, max_bytes: int) -> None:
        super().__init__(clock, max_bytes)
        self._favoured: CapacityWaiter | None = None

    @property
    def is_contended(self) -> bool:
        """Whether a connection waits for memory that others hold."""
        return bool(self._waiting) or self._favoured is not None

    def reserve(self, waiter: CapacityWaiter, count: int) -> bool:
        """Reserve `count` bytes more. False: not now; `waiter.on_capacity()` is called when it is worth
        trying again."""
        if self.used_bytes + count > self.max_bytes and waiter is not self._favoured:
            if self._favoured is not None:
                self.wait(waiter)
                return False
            self._favoured = waiter
        self.used_bytes += count
        return True

    def stop_waiting(self, waiter: CapacityWaiter) -> None:
        """Do not wake `waiter` any more: it needs no memory. If it was favoured, another connection may
        be."""
        super().stop_waiting(waiter)
        if waiter is self._favoured:
            self._favoured = None
            if self._waiting:
                self._wake_soon()

    def _is_worth_trying(self) -> bool:
        wake_bytes = min(WAKE_BYTES, self.max_bytes // 8)
        return self._favoured is None or self.used_bytes + wake_bytes <= self.max_bytes


class ConnectionLimits:
    """How many connections there are, in all and from each address, and how fast new ones are accepted."""

    __slots__ = (
        "_admits",
        "_by_address",
        "_on_release",
        "_rate",
        "count",
        "max_connections",
        "max_per_address",
    )

    def __init__(
        self,
        clock: Clock,
        max_connections: int,
        max_per_address: int,
        per_second: int,
        admits: Callable[[str], bool] = lambda address: True,
    ) -> None:
        """`admits`: whether the quota of an address has room for one more connection, which it counts."""
        self._admits = admits
        self.max_connections = max_connections
        self.max_per_address = max_per_address
        self.count = 0
        self._by_address: dict[str, int] = {}
        self._rate = RateLimit(clock, per_second)
        self._on_release: list[Callable[[], None]] = []

    @property
    def is_full(self) -> bool:
        """Whether `max_connections` are open."""
        return self.count >= self.max_connections

    def delay_s(self) -> float:
        """Seconds that the next connection has to wait so that no more than `per_second` are accepted in a
        second; after a second without any, that many at once. 0: none."""
        return self._rate.delay_s()

    def has_quota(self, address: str) -> bool:
        """Whether the quota of an address has room for one more connection, which it counts. Before
        `admit`."""
        return self._admits(address)

    def admit(self, address: str) -> bool:
        """Count one more connection from this address, which must be released later. False: the address has
        too many, and it is not counted."""
        self._rate.take()
        count = self._by_address.get(address, 0)
        if count >= self.max_per_address:
            return False
        self._by_address[address] = count + 1
        self.count += 1
        return True

    def release(self, address: str) -> None:
        """Count one connection from this address less, because it has ended, and run the `on_release`
        calls."""
        self.count -= 1
        assert self.count >= 0, "a connection is released once"
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]
        for call in self._on_release:
            call()

    def on_release(self, call: Callable[[], None]) -> None:
        """Run `call` whenever a connection has ended."""
        self._on_release.append(call)


def connections_within_descriptors(configured: int) -> int:
    """`max.connections`, but at most half of the process's limit on open files: the log needs the other
    half."""
    import resource

    soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft_limit == resource.RLIM_INFINITY:
        return configured
    return max(min(configured, (soft_limit - SPARE_FILES) // 2), 1)
