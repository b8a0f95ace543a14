"""The sessions of members that have epochs: the time within which a member must send a heartbeat.

Owns: the deadline and the timer of each member. A heartbeat moves only the deadline; the timer compares it
when it fires. Refuses: what the end of a session means, and the sessions of classic groups (`sessions.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from mainstem.clock import Clock
from mainstem.coordinator.groups.epoch_group import EpochGroup, EpochMember


class EpochSessions:
    """Starts the sessions of members. `on_end(group, member)` is called when the time of a member is
    over."""

    def __init__(self, clock: Clock, on_end: Callable[[EpochGroup, EpochMember], None]) -> None:
        self._clock = clock
        self._on_end = on_end

    def start(self, group: EpochGroup, member: EpochMember, timeout_ms: int) -> None:
        """Start the session of a member anew."""
        member.deadline_s = self._clock.monotonic() + timeout_ms / 1000
        if member.timer is None or member.timer_due_s > member.deadline_s:
            self._start_timer(group, member)

    def _start_timer(self, group: EpochGroup, member: EpochMember) -> None:
        member.cancel_timer()
        member.timer_due_s = member.deadline_s
        wait_s = max(member.deadline_s - self._clock.monotonic(), 0.0)
        member.timer = self._clock.call_later(wait_s, lambda: self._check(group, member))

    def _check(self, group: EpochGroup, member: EpochMember) -> None:
        member.timer = None
        if member.deadline_s > self._clock.monotonic():
            self._start_timer(group, member)
        else:
            self._on_end(group, member)
