"""Pushes the events of all subscriptions that have an endpoint.

Owns: which of them are pushed, and the client that they share. Refuses: to change subscriptions; the engine
says which there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from mainstem.clock import Clock, Timer
from mainstem.push.addresses import AllowedAddresses
from mainstem.push.limits import PushLimits
from mainstem.queue_contract import PushReport, Queues
from mainstem.queues.settings import SubscriptionSettings

if TYPE_CHECKING:
    from mainstem.push.client import PushClient
    from mainstem.push.pusher import SubscriptionPusher
    from mainstem.push.tokens import PushTokens

DRAIN_S = 2.0
"""How long requests that are under way may take when pushing ends."""
FORGET_S = 10.0


class PushService:
    """Implements `Pusher`. `make_client`: for tests, another client than that of the network."""

    def __init__(
        self,
        queues: Queues,
        clock: Clock,
        allowed: AllowedAddresses,
        tokens: PushTokens,
        make_client: Callable[[], PushClient] | None = None,
    ) -> None:
        self._queues = queues
        self._clock = clock
        self._allowed = allowed
        self._tokens = tokens
        self._make_client = make_client or self._network_client
        self._client: PushClient | None = None
        self._limits = PushLimits()
        self._timer: Timer | None = None
        self._pushers: dict[str, SubscriptionPusher] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    def _network_client(self) -> PushClient:
        from mainstem.push.client import PushClient
        from mainstem.push.resolver import SystemResolver

        return PushClient(self._clock, self._allowed, SystemResolver())

    def subscription_changed(self, name: str, settings: SubscriptionSettings | None) -> None:
        """See `Pusher`."""
        if self._closed:
            return
        pusher = self._pushers.get(name)
        if settings is None:
            if self._pushers.pop(name, None) is not None and pusher is not None:
                self._end(pusher)
        elif pusher is not None:
            pusher.configure(settings)
        else:
            # Imported when a subscription is pushed for the first time: most servers push none.
            from mainstem.push.pusher import SubscriptionPusher

            if self._client is None:
                self._client = self._make_client()
                self._forget_idle()
            self._pushers[name] = SubscriptionPusher(
                self._queues, name, settings, self._client, self._limits, self._clock, self._tokens
            )

    def _end(self, pusher: SubscriptionPusher) -> None:
        pusher.stop()  # at once: another subscription may get its name
        ending = asyncio.get_running_loop().create_task(pusher.close(DRAIN_S))
        self._closing.add(ending)
        ending.add_done_callback(self._closing.discard)

    def _forget_idle(self) -> None:
        assert self._client is not None
        self._client.forget_idle()
        self._timer = self._clock.call_later(FORGET_S, self._forget_idle)

    def report(self, name: str) -> PushReport | None:
        """See `Pusher`."""
        pusher = self._pushers.get(name)
        return None if pusher is None else pusher.report()

    async def close(self) -> None:
        """Pull no more, wait for the requests that are under way, a short time. Idempotent."""
        self._closed = True
        for pusher in self._pushers.values():
            self._end(pusher)
        self._pushers.clear()
        if self._closing:
            await asyncio.wait(set(self._closing))
        if self._timer is not None:
            self._timer.cancel()
        if self._client is not None:
            self._client.close()
