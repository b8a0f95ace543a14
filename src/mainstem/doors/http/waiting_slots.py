"""How many requests of the HTTP door may wait for events at the same time: pulls, and live tails.

Each of them has a connection for as long as it waits, and the door has CONNECTIONS_MAX. So both kinds have
fewer together, and neither takes the places of the other: there is always a connection for a request that is
answered at once. A request that is refused is tried again by its client, on a new connection, because this
one is closed: else those that are refused would have all connections instead.

Owns: the numbers, and the refusal. Refuses: to bound searches, of which few run at once (`search_slots.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal, TypeAlias

from mainstem.doors.http.problem import Problem
from mainstem.doors.net.http_connection import CONNECTIONS_MAX

WaitingKind: TypeAlias = Literal["pull", "tail"]

WAITING_MAX: dict[WaitingKind, int] = {"pull": CONNECTIONS_MAX * 6 // 10, "tail": CONNECTIONS_MAX * 2 // 10}
RETRY_AFTER_S = 2


class WaitingSlots:
    """The requests of one door that wait."""

    def __init__(self) -> None:
        self.running: Counter[WaitingKind] = Counter()
        self.refused = 0
        """Requests that were refused since the start."""

    def take(self, kind: WaitingKind) -> Callable[[], None] | None:
        """Begin to wait. Returns what ends it, which may be called more than once; None: too many wait."""
        if self.running[kind] >= WAITING_MAX[kind]:
            return None
        self.running[kind] += 1
        is_over = False

        def end() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                self.running[kind] -= 1

        return end

    def refusal(self, kind: WaitingKind) -> Problem:
        """The problem of a request that cannot wait."""
        self.refused += 1
        headers = {"retry-after": str(RETRY_AFTER_S), "connection": "close"}
        return Problem("busy", f"{WAITING_MAX[kind]} requests of this kind wait already", headers=headers)
