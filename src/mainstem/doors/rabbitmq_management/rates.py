"""How fast the counters of queues rise.

Owns: the counters of all queues as they were looked at last. A rate is the mean since that look, which is at
least SAMPLE_S ago; the first look has no rates. Refuses: to look when no client asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mainstem.clock import Clock
from mainstem.queue_contract import SubscriptionTotals

SAMPLE_S = 5.0
COUNTERS = ("publish", "deliver_get", "redeliver", "ack", "dropped")
"""What is counted of a queue, in RabbitMQ's words where it has one."""


def counters_of(totals: SubscriptionTotals) -> dict[str, int]:
    """The counters of a queue since the start of the server. What was published to it is what it has and what
    is done."""
    ended = sum(totals.dropped.values()) + sum(totals.dead_lettered.values()) + totals.trimmed
    return {
        "publish": totals.depth.outstanding + totals.acked + ended,
        "deliver_get": totals.delivered,
        "redeliver": totals.redelivered,
        "ack": totals.acked,
        "dropped": ended,
    }


class RateSampler:
    """Samples that are taken when somebody looks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sampled_s: dict[str, float] = {}
        self._counters: dict[str, dict[str, int]] = {}
        self._rates: dict[str, dict[str, float]] = {}

    def rates(self, name: str, counters: Mapping[str, int]) -> Mapping[str, float]:
        """The rates of a queue, a second, whose counters are these now."""
        now_s = self._clock.monotonic()
        sampled_s = self._sampled_s.get(name)
        if sampled_s is None or now_s - sampled_s >= SAMPLE_S:
            before = self._counters.get(name)
            if before is not None and sampled_s is not None:
                self._rates[name] = {
                    counter: max(0.0, round((value - before[counter]) / (now_s - sampled_s), 3))
                    for counter, value in counters.items()
                }
            self._sampled_s[name] = now_s
            self._counters[name] = dict(counters)
        return self._rates.get(name, {})

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget all other queues: they are deleted."""
        for name in self._counters.keys() - frozenset(names):
            del self._counters[name], self._sampled_s[name]
            self._rates.pop(name, None)
