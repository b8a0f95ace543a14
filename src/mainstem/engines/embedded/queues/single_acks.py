"""Acknowledgements of single events, each a call of its own, as most workers make them.

Owns: those of a turn of the loop, which become one record a view: a call costs a look at its token and its
share of that record. Refuses: every answer but the acknowledgement of an event that its consumer still has;
late ones, other verdicts and lists are for `answers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mainstem.clock import Clock
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.engines.embedded.queues.tokens import DeliveryToken
from mainstem.promise import Promise


class SingleAcks:
    """The acknowledgements of a service."""

    def __init__(
        self, machine: Subscriptions, clock: Clock, on_acked: Callable[[Mapping[int, int]], None]
    ) -> None:
        """`on_acked` is called when those of a turn are durable: view -> how many."""
        self._machine = machine
        self._clock = clock
        self._on_acked = on_acked
        self._pending: list[tuple[DeliveryToken, Promise[bool]]] = []

    def add(self, subscription: int, text: str) -> Promise[bool] | None:
        """Acknowledge the event of a token. True: it is done, and that is durable; False: it was settled
        otherwise meanwhile. None: it is not the token of an event that a consumer of this subscription has.
        Fails with StorageError."""
        token, machine = DeliveryToken.decode(text), self._machine
        if token is None or token.epoch != machine.epoch:
            return None
        view = machine.views.get(token.view)
        if view is None or view.subscription != subscription:
            return None
        if not view.sequence.is_leased(token.lease, token.position):
            return None
        acked: Promise[bool] = Promise()
        self._pending.append((token, acked))
        if len(self._pending) == 1:
            self._clock.call_soon(self._write)
        return acked

    def _write(self) -> None:
        pending, self._pending = self._pending, []
        try:
            written = self._machine.acknowledge([token for token, _ in pending])
        except Exception as error:  # a bug: no caller of this turn may wait for ever
            written = Promise.failed(error)
        written.then(lambda done: self._on_written(pending, done))

    def _on_written(
        self, pending: Sequence[tuple[DeliveryToken, Promise[bool]]], done: Promise[list[bool]]
    ) -> None:
        if done.error is not None:
            for _, acked in pending:
                acked.fail(done.error)
            return
        counts: dict[int, int] = {}
        for (token, acked), is_acked in zip(pending, done.result(), strict=True):
            if is_acked:
                counts[token.view] = counts.get(token.view, 0) + 1
            acked.resolve(is_acked)
        self._on_acked(counts)
