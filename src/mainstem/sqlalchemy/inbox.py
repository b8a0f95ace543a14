"""The inbox: an event that is delivered again is handled only once, by a row in the transaction of its
effect.

Owns: its table in the application's MetaData, and its statements. Refuses: effects outside of the database,
which no transaction takes back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar, overload

from sqlalchemy import Insert, MetaData, delete
from sqlalchemy.dialects.mysql import insert as mysql_insert
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from mainstem.clock import BlockingClock
from mainstem.contract import InvalidArgument
from mainstem.outbox.contract import NAME_CHARS_MAX, HasId
from mainstem.sqlalchemy.tables import EVENT_ID_CHARS_MAX, inbox_table

T = TypeVar("T")

BlockingSession = Session | scoped_session[Any]
LoopSession = AsyncSession | async_scoped_session[Any]


class Inbox:
    """An inbox in the table `table_name` of `metadata`. InvalidArgument: the MetaData has such a table."""

    def __init__(self, metadata: MetaData, *, table_name: str = "mainstem_inbox") -> None:
        self.table = inbox_table(metadata, table_name)
        self._clock = BlockingClock()

    @overload
    def first_time(self, session: BlockingSession, event: HasId, *, group: str) -> bool: ...

    @overload
    def first_time(self, session: LoopSession, event: HasId, *, group: str) -> Awaitable[bool]: ...

    def first_time(
        self, session: BlockingSession | LoopSession, event: HasId, *, group: str
    ) -> bool | Awaitable[bool]:
        """Whether `group` handles the event for the first time; await it with an async session. If so, note
        it in the session's transaction: if that rolls back, the next delivery is the first time again.
        Another transaction that handles the event at this moment is waited for. InvalidArgument: the
        group's name."""
        if not 0 < len(group) <= NAME_CHARS_MAX:
            raise InvalidArgument(f"a group's name has 1 to {NAME_CHARS_MAX} characters")
        values = {"group_name": group, "event_id": stored_id(event.id), "time_ms": self._clock.wall_ms()}

        def note(sync_session: Session) -> bool:
            insert = self._insert_if_new(sync_session.connection().dialect.name)
            # Without the option, PostgreSQL's count is not read before its cursor is closed.
            result = sync_session.execute(insert, values, execution_options={"preserve_rowcount": True})
            assert isinstance(result, CursorResult)
            return result.rowcount == 1

        return _run(session, note)

    def _insert_if_new(self, dialect: str) -> Insert:
        if dialect == "sqlite":
            return sqlite_insert(self.table).on_conflict_do_nothing()
        if dialect == "postgresql":
            return postgresql_insert(self.table).on_conflict_do_nothing()
        if dialect in ("mysql", "mariadb"):
            return mysql_insert(self.table).prefix_with("IGNORE")
        raise InvalidArgument(f"an inbox needs SQLite, PostgreSQL, MySQL or MariaDB, not {dialect}")

    @overload
    def purge(self, session: BlockingSession, *, older_than: timedelta) -> int: ...

    @overload
    def purge(self, session: LoopSession, *, older_than: timedelta) -> Awaitable[int]: ...

    def purge(self, session: BlockingSession | LoopSession, *, older_than: timedelta) -> int | Awaitable[int]:
        """Forget what was handled before this time, and return how many events; await it with an async
        session. Not before retention has deleted them from their topics, or a replay handles them again."""
        before_ms = self._clock.wall_ms() - older_than // timedelta(milliseconds=1)

        def remove(sync_session: Session) -> int:
            result = sync_session.execute(delete(self.table).where(self.table.c.time_ms < before_ms))
            assert isinstance(result, CursorResult)
            return result.rowcount

        return _run(session, remove)


def _run(session: BlockingSession | LoopSession, call: Callable[[Session], T]) -> T | Awaitable[T]:
    if isinstance(session, scoped_session | async_scoped_session):
        return _run(session(), call)
    return session.run_sync(call) if isinstance(session, AsyncSession) else call(session)


def stored_id(event_id: str) -> str:
    """The id of an event in the column: itself, or a digest if it is too long or no text for a database."""
    raw = event_id.encode("utf-8", "surrogatepass")
    if event_id.strip() == event_id and len(event_id) <= EVENT_ID_CHARS_MAX and event_id.isprintable():
        return event_id
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"
