"""Lets what pushes events know which subscriptions there are.

Owns: which of them the pusher was informed of, and the problems that a subscription shows of it. Refuses: to
push; the pusher is a client of the engine, like any other.
"""

from __future__ import annotations

from mainstem.coordinator.errors import UnknownSubscription
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.queue_contract import Pusher, PushReport
from mainstem.queues.settings import SubscriptionSettings


class PushedSubscriptions:
    """The subscriptions that are pushed, and what pushes them."""

    def __init__(self, machine: Subscriptions) -> None:
        self._machine = machine
        self._pusher: Pusher | None = None
        self._pushed: dict[str, tuple[int, SubscriptionSettings]] = {}
        """What the pusher knows: id and settings, by name."""

    def attach(self, pusher: Pusher) -> None:
        """See `PushesEvents.attach_pusher`."""
        self._pusher = pusher
        self._pushed.clear()
        self.look_at_all()

    def look_at_all(self) -> None:
        """The state was loaded."""
        stored = {subscription.name for subscription in self._machine.all()}
        for name in [*stored, *(self._pushed.keys() - stored)]:
            self.look_at(name)

    def look_at(self, name: str) -> None:
        """A subscription was created, changed or deleted."""
        if self._pusher is None:
            return
        try:
            stored = self._machine.get(name)
        except UnknownSubscription:
            stored = None
        known = self._pushed.get(name)
        if stored is None or stored.settings.push is None:
            if self._pushed.pop(name, None) is not None:
                self._pusher.subscription_changed(name, None)
        elif known != (stored.id, stored.settings):
            if known is not None and known[0] != stored.id:
                self._pusher.subscription_changed(name, None)
            self._pushed[name] = stored.id, stored.settings
            self._pusher.subscription_changed(name, stored.settings)

    def report(self, name: str) -> PushReport | None:
        """See `Pusher.report`."""
        return None if self._pusher is None else self._pusher.report(name)


def push_problems(report: PushReport) -> list[str]:
    """What is wrong with pushing a subscription, one line each, for people."""
    problems: list[str] = []
    if report.pull_error is not None:
        problems.append(f"events cannot be pulled to be pushed: {report.pull_error}")
    if report.paused_until_ms is not None:
        problems.append(f"pushing fails: {report.last_error}")
    return problems
