"""The outbox of a Django project: events that are published if, and only if, a transaction commits.

    outbox = Outbox("shop")                       # shop/events.py
    with transaction.atomic():
        order.save()
        outbox.add("orders", {"id": order.id}, key=order.customer)

Owns: adding rows. Refuses: publishing, which the relay does (`mainstem.outbox.relay`).
"""

from __future__ import annotations

import weakref
from typing import TypeVar

from django.db import DEFAULT_DB_ALIAS, transaction

from mainstem.api.publishing import HeaderValues, Key
from mainstem.clock import BlockingClock
from mainstem.django.models import OutboxEvent
from mainstem.django.store import DjangoStore
from mainstem.outbox.adding import EncodesEvents, RunsServices, new_row
from mainstem.outbox.relay import BATCH_EVENTS, SETTLE_S, Relay
from mainstem.outbox.row_format import checked_source

T = TypeVar("T")


class Outbox:
    """An outbox in the database `using`. `source` names it in the log: each event has the header
    `mainstem-outbox: SOURCE/ID`. InvalidArgument: the name of the source."""

    def __init__(self, source: str, *, using: str = DEFAULT_DB_ALIAS) -> None:
        self.source = checked_source(source)
        self.using = using
        self._clock = BlockingClock()
        self._relays: weakref.WeakSet[Relay] = weakref.WeakSet()

    def add(
        self,
        topic: EncodesEvents[T] | str,
        value: T,
        *,
        key: Key = None,
        headers: HeaderValues | None = None,
    ) -> None:
        """Publish `value` to `topic` if the current transaction commits; outside of one, the row is
        committed at once. `topic`, `value`, `key`, `headers` and the errors are those of
        `mainstem.outbox.adding.new_row`."""
        row = new_row(topic, value, key=key, headers=headers, now_ms=self._clock.wall_ms())
        OutboxEvent(
            source=self.source,
            topic=row.topic,
            key=row.key,
            value=row.value,
            headers=row.headers,
            time_ms=row.time_ms,
        ).save(force_insert=True, using=self.using)
        transaction.on_commit(self._wake, using=self.using)

    def _wake(self) -> None:
        for relay in list(self._relays):
            relay.wake()

    def new_relay(self, *, batch_events: int = BATCH_EVENTS, settle_s: float = SETTLE_S) -> Relay:
        """A relay of this outbox: `await relay.run(log)` in a task, `await relay.drain(log)` in a script."""
        store = DjangoStore(self.source, self.using)
        relay = Relay(self.source, store, batch_events=batch_events, settle_s=settle_s)
        self._relays.add(relay)
        return relay

    def relay(self, stream: RunsServices) -> Relay:
        """Publish to `stream` wherever its subscribers run. Of all processes that do, one publishes at a
        time; another one takes over when it ends."""
        relay = self.new_relay()
        stream.services.append(relay)
        return relay
