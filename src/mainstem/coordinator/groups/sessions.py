"""The sessions of members: the time within which a member must give a sign of life, and its timer.

Owns: the deadline and the timer of each member. A heartbeat moves only the deadline; the timer compares it
when it fires. Refuses: what the end of a session means (`rebalancer.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from mainstem.clock import Clock, Timer
from mainstem.coordinator.groups.group import ClassicGroup
from mainstem.coordinator.groups.members import Decision, GroupMember

GroupAction = Callable[[Decision], None]
Submit = Callable[[ClassicGroup, GroupAction], None]


class Sessions:
    """Starts and ends the sessions of all members. `submit(group, action)` runs the action of a timer as a
    decision of that group."""

    def __init__(
        self, clock: Clock, submit: Submit, on_end: Callable[[Decision, ClassicGroup, GroupMember], None]
    ) -> None:
        self._clock = clock
        self._submit = submit
        self._on_end = on_end

    def start_all(self, group: ClassicGroup) -> None:
        """Start the sessions of all members, after a restart."""
        for member in group.members.values():
            self.start(group, member)

    def start(self, group: ClassicGroup, member: GroupMember, timeout_ms: int | None = None) -> None:
        """Start the session of a member anew: its request has shown that the client is alive. `timeout_ms`:
        if it is not the member's session timeout."""
        timeout_ms = member.session_timeout_ms if timeout_ms is None else timeout_ms
        member.deadline = self._clock.monotonic() + timeout_ms / 1000
        if member.timer is None or member.timer_due > member.deadline:
            self._start_timer(group, member)

    def _start_timer(self, group: ClassicGroup, member: GroupMember) -> None:
        """Start the timer that fires at the present deadline of the member's session."""
        member.cancel_timer()
        member.timer_due = member.deadline
        wait_s = max(member.deadline - self._clock.monotonic(), 0.0)
        member.timer = self._clock.call_later(wait_s, lambda: self._check(group, member))

    def _check(self, group: ClassicGroup, member: GroupMember) -> None:
        member.timer = None
        if member.deadline > self._clock.monotonic():
            self._start_timer(group, member)
        elif not member.session_suspended():
            self._submit(group, lambda decision: self._on_end(decision, group, member))
        # Else the member waits for a reply, which starts its session again.

    def after(self, delay_ms: int, group: ClassicGroup, action: GroupAction) -> Timer:
        """Run `action` as a decision of the group after `delay_ms`."""
        return self._clock.call_later(delay_ms / 1000, lambda: self._submit(group, action))
