"""The single consumer of a subscription that wants one at a time: who it is, and when another one is next.

A consumer is active from a pull on at which no other one is, and stays so while it has an event, while a
pull of it runs, and until `timeout_ms` have passed since its last pull or answer. So a worker between two
pulls stays active, and one that is not there any more is replaced when the locks of its events have expired.

Owns: this rule. It is soft: after a restart the first that pulls is active. Refuses: to lease anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from mainstem.clock import Clock, Timer


class ActiveConsumer:
    """The active consumer of a subscription."""

    def __init__(self, clock: Clock, has_events: Callable[[str], bool], on_free: Callable[[], None]) -> None:
        """`has_events`: whether a consumer has some; `on_free` is called when another may be active."""
        self.name: str | None = None
        """Who is or was the last; see `present`."""
        self._clock = clock
        self._has_events = has_events
        self._on_free = on_free
        self._pulls: Counter[str] = Counter()
        self._seen_s = 0.0
        self._timer: Timer | None = None

    def present(self, timeout_ms: int) -> str | None:
        """The active consumer; None: the next one that asks is."""
        name = self.name
        if name is None:
            return None
        is_seen = self._clock.monotonic() < self._seen_s + timeout_ms / 1000
        return name if is_seen or self._pulls[name] or self._has_events(name) else None

    def may_take(self, consumer: str, timeout_ms: int) -> bool:
        """Whether a consumer is active, or would be if it asked."""
        return self.present(timeout_ms) in (None, consumer)

    def admit(self, consumer: str, timeout_ms: int) -> bool:
        """A consumer asks for events. Whether it may have some: it is active then."""
        if not self.may_take(consumer, timeout_ms):
            return False
        self.name = consumer
        self.note(timeout_ms)
        return True

    def note(self, timeout_ms: int) -> None:
        """The active consumer has given a sign of life."""
        self._seen_s = self._clock.monotonic()
        if self._timer is None:
            self._watch(timeout_ms)

    def _watch(self, timeout_ms: int) -> None:
        wait_s = self._seen_s + timeout_ms / 1000 - self._clock.monotonic()

        def look() -> None:
            self._timer = None
            if self._clock.monotonic() < self._seen_s + timeout_ms / 1000:
                self._watch(timeout_ms)
            elif self.present(timeout_ms) is None:
                self._on_free()
            # Else it has an event or a pull, whose end wakes others.

        self._timer = self._clock.call_later(max(wait_s, 0.001), look)

    def begin_pull(self, consumer: str) -> None:
        """A pull of a consumer runs, until `end_pull`."""
        self._pulls[consumer] += 1

    def end_pull(self, consumer: str, timeout_ms: int) -> None:
        """A pull of a consumer has ended."""
        self._pulls[consumer] -= 1
        if not self._pulls[consumer]:
            del self._pulls[consumer]
        if consumer == self.name:
            self.note(timeout_ms)

    def close(self) -> None:
        """Watch no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
