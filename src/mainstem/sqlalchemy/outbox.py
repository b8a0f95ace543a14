"""The outbox: events that are published if, and only if, a transaction commits.

Owns: its tables in the application's MetaData, and adding to a session. Refuses: publishing, which the
relay does (`mainstem.outbox.relay`), and everything that would wait in a transaction.
"""

from __future__ import annotations

import weakref
from typing import Any, TypeVar

from sqlalchemy import Engine, MetaData, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, registry, scoped_session

from mainstem.api.publishing import HeaderValues, Key
from mainstem.clock import BlockingClock
from mainstem.outbox.adding import EncodesEvents, RunsServices, new_row
from mainstem.outbox.relay import BATCH_EVENTS, SETTLE_S, Relay
from mainstem.outbox.row_format import checked_source
from mainstem.sqlalchemy.store import SqlStore
from mainstem.sqlalchemy.tables import marks_table, outbox_table

T = TypeVar("T")

AnySession = Session | AsyncSession | scoped_session[Any] | async_scoped_session[Any]


class Outbox:
    """An outbox in the tables `table_name` and `table_name`_marks of `metadata`, which a migration creates as
    any other. `source` names it in the log: each event has the header `mainstem-outbox: SOURCE/ID`.

    InvalidArgument: the name of the source, or the MetaData has such a table."""

    def __init__(self, metadata: MetaData, source: str, *, table_name: str = "mainstem_outbox") -> None:
        self.source = checked_source(source)
        self.table = outbox_table(metadata, table_name)
        self.marks_table = marks_table(metadata, f"{table_name}_marks")
        self._entry_class: type[Any] = type("OutboxEntry", (), {})
        registry(metadata=metadata).map_imperatively(self._entry_class, self.table)
        self._clock = BlockingClock()
        self._relays: weakref.WeakSet[Relay] = weakref.WeakSet()

    def add(
        self,
        session: AnySession,
        topic: EncodesEvents[T] | str,
        value: T,
        *,
        key: Key = None,
        headers: HeaderValues | None = None,
    ) -> None:
        """Publish `value` to `topic` if the session's transaction commits. Waits for nothing: the row is
        written with the others of the session.

        `topic`: of a stream, which encodes the value and chooses its key; or a name: bytes as they are,
        text as UTF-8, anything else as JSON. TypeError, InvalidArgument: the value, the key or the name
        cannot be."""
        row = new_row(topic, value, key=key, headers=headers, now_ms=self._clock.wall_ms())
        entry = self._entry_class()
        entry.topic, entry.key, entry.value = row.topic, row.key, row.value
        entry.headers, entry.time_ms = row.headers, row.time_ms
        sync_session = sync_session_of(session)
        sync_session.add(entry)
        if self not in sync_session.info:
            sync_session.info[self] = True
            event.listen(sync_session, "after_commit", self._wake)

    def _wake(self, _session: object) -> None:
        for relay in list(self._relays):
            relay.wake()

    def new_relay(
        self,
        engine: Engine | AsyncEngine,
        *,
        batch_events: int = BATCH_EVENTS,
        settle_s: float = SETTLE_S,
    ) -> Relay:
        """A relay of this outbox, to run it in a task: `await relay.run(log)`, or in a script: `await
        relay.drain(log)`. `batch_events`: rows that are published together, at most; `settle_s`: seconds
        that what a killed relay has sent may take to arrive."""
        name = f"{self.source}/{self.table.fullname}"
        store = SqlStore(engine, self.table, self.marks_table, name)
        relay = Relay(self.source, store, batch_events=batch_events, settle_s=settle_s)
        self._relays.add(relay)
        return relay

    def relay(self, stream: RunsServices, engine: Engine | AsyncEngine) -> Relay:
        """Publish to `stream` wherever its subscribers run. Of all processes that do, one publishes at a
        time; another one takes over when it ends."""
        relay = self.new_relay(engine)
        stream.services.append(relay)
        return relay


def sync_session_of(session: AnySession) -> Session:
    """The Session behind any kind of session."""
    if isinstance(session, scoped_session | async_scoped_session):
        return sync_session_of(session())
    return session.sync_session if isinstance(session, AsyncSession) else session
