"""Requests that wait learn that rights or masks have changed, so that what was lost ends the wait.

Owns: the callbacks of the requests that wait. Refuses: to call them all in one turn of the event loop: a
server may have thousands of fetches that wait, each for many topics.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TypeAlias

from mainstem.access_contract import Authorizer
from mainstem.clock import Clock
from mainstem.masking.contract import Masks
from mainstem.turns import run_in_turns

log = logging.getLogger("mainstem.kafka")

QUESTIONS_PER_TURN = 500
"""Rights that those who wait ask for in one turn of the event loop, 3 ms."""

OnAccessChange: TypeAlias = Callable[[], int]
"""Asks for the rights of a request again, and ends its wait if one is lost. Returns how many it asked for."""


class AccessChanges:
    """The requests of a door that wait, and have to ask for their rights again after a change."""

    def __init__(self, authorizer: Authorizer, masks: Masks, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[OnAccessChange, None] = {}
        self._is_running = False
        self._has_changed = False
        self._sources = authorizer.on_change, masks.on_change
        for callbacks in self._sources:
            callbacks.append(self._on_change)

    def watch(self, call: OnAccessChange) -> None:
        """Run `call` after each change of entries, users or masking rules, until `unwatch`."""
        self._waiting[call] = None

    def unwatch(self, call: OnAccessChange) -> None:
        """End `watch`. Idempotent."""
        self._waiting.pop(call, None)

    def close(self) -> None:
        """Learn of no change from now on. Idempotent."""
        for callbacks in self._sources:
            if self._on_change in callbacks:
                callbacks.remove(self._on_change)

    def _on_change(self) -> None:
        self._has_changed = True
        if not self._is_running:
            self._is_running = True
            run_in_turns(self._clock, self._calls(), QUESTIONS_PER_TURN)

    def _ask(self, call: OnAccessChange) -> int:
        """Run a callback. A fault of one must not keep the others from being called, now or later."""
        try:
            return call()
        except Exception:
            log.exception("a request that waits could not ask for its rights again")
            return 1

    def _calls(self) -> Iterator[int]:
        """Call those who wait, and once more if there was another change meanwhile."""
        while self._has_changed:
            self._has_changed = False
            for call in list(self._waiting):
                yield self._ask(call) if call in self._waiting else 0
        self._is_running = False
