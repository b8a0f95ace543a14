"""What the subscriptions of a service did since its start.

Owns: the counters of a subscription, and how late what waited became deliverable. Refuses: what is counted by
state, which the views know at any time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mainstem.coordinator.queues.types import GiveUpReason
from mainstem.queues.view import SequenceView


@dataclass(slots=True)
class QueueCounters:
    """What a subscription did since the start of the service. See `SubscriptionInfo` and
    `SubscriptionTotals`."""

    delivered: int = 0
    redelivered: int = 0
    acked: int = 0
    failed: int = 0
    nacked: int = 0
    rejected: int = 0
    expired: int = 0
    dead_lettered: Counter[int] = field(default_factory=Counter)
    """By `GiveUpReason`."""
    dropped: Counter[int] = field(default_factory=Counter)
    """By `GiveUpReason`."""
    trimmed: int = 0
    unreadable: int = 0
    wakes: int = 0
    late_ms: int = 0

    def wake_due(self, sequence: SequenceView, now_ms: int, max_entries: int) -> int:
        """`sequence.wake_due`, noting how late that is."""
        due_ms = sequence.next_due_ms()
        woken = sequence.wake_due(now_ms, max_entries)
        if woken and due_ms is not None:
            self.wakes += 1
            self.late_ms += max(0, now_ms - due_ms)
        return woken


def reason_name(reason: int) -> str:
    """The name of a `GiveUpReason`, or the number of one that a door gave."""
    return GiveUpReason(reason).name.lower() if reason in list(GiveUpReason) else str(reason)


def by_name(counts: Mapping[int, int]) -> dict[str, int]:
    """Counts by the names of their reasons."""
    return {reason_name(reason): count for reason, count in counts.items()}
