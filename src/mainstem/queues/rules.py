"""What a subscription asks of its delivery: lock, failures, backoff, limits.

Owns: the rules as values, and the backoff that follows from them. Refuses: randomness, which is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeliveryRules:
    """The settings of a subscription that its views follow. ValueError if a value is out of its range."""

    lock_ms: int = 30_000
    """How long a consumer has for what it acquired, before it is delivered again; 0 is without a deadline."""
    failures_max: int = 0
    """The failure with this number makes a position dying, in place of another delivery; 0 is no limit."""
    backoff_min_ms: int = 0
    """The wait after the first failure; 0 is none, whatever the factor."""
    backoff_max_ms: int = 600_000
    """No backoff is longer than this, but for the spread."""
    backoff_factor: float = 2.0
    """Each further failure multiplies the wait by this, from 1.0 on."""
    ttl_ms: int = 0
    """How long after its arrival an event is delivered at the latest; 0 is without a limit."""
    in_flight_max: int = 100_000
    """How many positions may be leased at the same time."""
    parked_max: int = 100_000
    """How many positions may wait behind the keys of earlier ones, in key order."""
    in_key_order: bool = False
    """Whether events of a key are delivered in order, to a single consumer at a time."""
    priority_max: int = 0
    """The highest level of priority; 0: there are no levels."""
    accepts_late_acks: bool = False
    """Whether an acknowledgement counts after its lease is over, where no newer lease was given."""

    def __post_init__(self) -> None:
        whole = (self.lock_ms, self.failures_max, self.backoff_min_ms, self.backoff_max_ms, self.ttl_ms)
        if min(whole) < 0 or self.backoff_factor < 1 or min(self.in_flight_max, self.parked_max) < 1:
            raise ValueError(f"delivery rules out of range: {self}")

    def backoff_ms(self, failures: int, spread: float = 0.0) -> int:
        """How long a position waits after this many failures (from 1): min · factor^(failures - 1), at most
        the maximum, and up to 10 % more or less: the spread is between -1 and 1, drawn by the caller."""
        if failures < 1 or not self.backoff_min_ms:
            return 0
        try:
            wait_ms = self.backoff_min_ms * self.backoff_factor ** (failures - 1)
        except OverflowError:
            wait_ms = self.backoff_max_ms
        return round(min(wait_ms, self.backoff_max_ms) * (1 + spread / 10))
