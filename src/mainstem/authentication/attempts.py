"""Slows down those who guess passwords: a lockout that grows with each failure.

Owns: how many attempts failed for a user, from an address, and for the pair of both; until when each is
locked. Refuses: unbounded memory (the counters touched longest ago are forgotten first), and to lock out a
user because of strangers: an address that the user has authenticated from in the last day is judged by its
own failures alone.

A locked attempt is refused without a look at the credentials, and is not counted; so a client that repeats an
old password is not locked for ever. Attempts that began before a lock are refused too when their turn comes.
Tokens are not counted: a signature cannot be guessed.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from mainstem.clock import Clock

PAIR_FREE: Final = 5
USER_FREE: Final = 20
ADDRESS_FREE: Final = 50
"""Failures in a row that cost nothing: of one user from one address, of one user, from one address."""
DELAY_MIN_S: Final = 1.0
DELAY_MAX_S: Final = 60.0
"""The next failure locks for DELAY_MIN_S, each further one twice as long, at most DELAY_MAX_S."""
FORGET_S: Final = 900.0
"""Without a failure for this time, the count begins anew."""
KNOWN_S: Final = 86_400.0
"""How long an address at which a user authenticated is known."""
ENTRIES_MAX: Final = 10_000
"""Most counters of each kind, and most known pairs."""


@dataclass(slots=True)
class _Counter:
    failures: int
    last_at: float
    """Monotonic seconds of the last failure."""
    locked_until: float


class _Table:
    """Counters of one kind, the last touched at the end."""

    __slots__ = ("_counters", "_free", "lockouts")

    def __init__(self, free: int) -> None:
        self._free = free
        self.lockouts = 0
        self._counters: dict[str, _Counter] = {}

    def __len__(self) -> int:
        return len(self._counters)

    def delay_s(self, key: str, now: float) -> float:
        counter = self._counters.get(key)
        return 0.0 if counter is None else max(counter.locked_until - now, 0.0)

    def failed(self, key: str, now: float) -> None:
        counter = self._counters.pop(key, None)
        if counter is None or now - counter.last_at > FORGET_S:
            counter = _Counter(0, now, 0.0)
        counter.failures += 1
        counter.last_at = now
        beyond = counter.failures - self._free
        if beyond >= 0:
            self.lockouts += 1
            counter.locked_until = now + min(DELAY_MIN_S * 2.0 ** min(beyond, 16), DELAY_MAX_S)
        self._counters[key] = counter
        if len(self._counters) > ENTRIES_MAX:
            del self._counters[next(iter(self._counters))]

    def clear(self, key: str) -> None:
        self._counters.pop(key, None)


class Attempts:
    """The failed attempts at one server, whatever the door."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pairs = _Table(PAIR_FREE)
        self._users = _Table(USER_FREE)
        self._addresses = _Table(ADDRESS_FREE)
        self._known: dict[str, float] = {}
        """Pairs that authenticated -> monotonic seconds of the last time."""

    def delay_s(self, user: str, host: str) -> float:
        """Seconds until an attempt for the user from the host's address is looked at; 0: now."""
        now, address = self._clock.monotonic(), address_key(host)
        pair = f"{address} {user}"
        delay = self._pairs.delay_s(pair, now)
        if now - self._known.get(pair, now - KNOWN_S) < KNOWN_S:
            return delay
        return max(delay, self._users.delay_s(user, now), self._addresses.delay_s(address, now))

    def failed(self, user: str, host: str) -> None:
        """Count a failure."""
        now, address = self._clock.monotonic(), address_key(host)
        self._addresses.failed(address, now)
        self._pairs.failed(f"{address} {user}", now)
        self._users.failed(user, now)

    def succeeded(self, user: str, host: str) -> None:
        """The user has authenticated from this address: its failures, and the user's, are forgotten. Those of
        the address are not, or an attacker could clear them with an account of their own."""
        pair = f"{address_key(host)} {user}"
        self._pairs.clear(pair)
        self._users.clear(user)
        self._known.pop(pair, None)
        self._known[pair] = self._clock.monotonic()
        if len(self._known) > ENTRIES_MAX:
            del self._known[next(iter(self._known))]

    @property
    def lockouts(self) -> dict[str, int]:
        """How often failures have locked out a user from everywhere, an address for all users, and a user at
        an address, since the start."""
        return {
            "user": self._users.lockouts,
            "address": self._addresses.lockouts,
            "user_at_address": self._pairs.lockouts,
        }

    @property
    def counters(self) -> int:
        """The number of counters and known pairs in memory."""
        return len(self._pairs) + len(self._users) + len(self._addresses) + len(self._known)


def address_key(host: str) -> str:
    """The key of an address in the counters: IPv4 as it is, of IPv6 the network of 64 bits, because one
    customer of a provider has all of its addresses."""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64)) + "/64"
