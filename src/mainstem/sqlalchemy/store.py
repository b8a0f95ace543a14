"""The relay's connection to the tables of an outbox, by SQLAlchemy: `contract.OutboxStore`.

Owns: the statements, each in a short transaction, and where they run: in a thread for an Engine, in the
loop for an AsyncEngine. Refuses: publishing, and decisions.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from sqlalchemy import Connection, Engine, Table, delete, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mainstem.contract import RelayLost
from mainstem.outbox.contract import OutboxRow, TopicMark
from mainstem.outbox.relay_lock import RelayLock, relay_lock
from mainstem.outbox.row_format import first_batch, pack_offsets, unpack_offsets

T = TypeVar("T")

IDS_PER_STATEMENT = 500


class _Session(Protocol):
    """Runs calls on one connection."""

    async def run(self, call: Callable[[Connection], T]) -> T: ...

    async def close(self) -> None: ...


class _ThreadSession:
    """A connection of an Engine, used in a thread of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._executor = ThreadPoolExecutor(1, "mainstem-outbox")
        self._connection: Connection | None = None

    async def run(self, call: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._call, call)

    def _call(self, call: Callable[[Connection], T]) -> T:
        if self._connection is None:
            self._connection = self._engine.connect()
        return call(self._connection)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        self._executor.shutdown(wait=False)

    def _close(self) -> None:
        if self._connection is not None:
            _discard(self._connection)


class _LoopSession:
    """A connection of an AsyncEngine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._connection: AsyncConnection | None = None

    async def run(self, call: Callable[[Connection], T]) -> T:
        if self._connection is None:
            self._connection = await self._engine.connect()
        return await self._connection.run_sync(call)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.run_sync(_discard)


def _discard(connection: Connection) -> None:
    """Close the connection itself: in a pool it would go on having the lock. A database in memory lives in
    its only connection, which goes back."""
    if connection.dialect.name != "sqlite":
        connection.invalidate()
    connection.close()


class SqlStore:
    """The tables of one outbox on an engine. `name`: of its lock in the database."""

    def __init__(self, engine: Engine | AsyncEngine, table: Table, marks: Table, name: str) -> None:
        self._engine = engine
        self._table = table
        self._marks = marks
        self._name = name
        self._session: _Session | None = None
        self._lock: RelayLock | None = None

    async def _run(self, call: Callable[[Connection], T]) -> T:
        def in_transaction(connection: Connection) -> T:
            with connection.begin():
                return call(connection)

        if self._session is None:
            raise RelayLost("the relay has ended")
        try:
            return await self._session.run(in_transaction)
        except SQLAlchemyError as error:
            lines = str(error.__cause__ or error).splitlines() or [repr(error)]
            raise RelayLost(f"the database: {lines[0]}") from error

    async def begin(self) -> bool:
        """See `OutboxStore`."""
        assert self._session is None, "a relay begins once"
        engine = self._engine
        self._session = _LoopSession(engine) if isinstance(engine, AsyncEngine) else _ThreadSession(engine)
        return await self._run(self._take_lock)

    def _take_lock(self, connection: Connection) -> bool:
        engine = connection.engine
        database = engine.url.database or ""
        self._lock = relay_lock(connection.dialect.name, database, self._name, pool=engine.pool)
        return self._lock.take(lambda statement: connection.scalar(text(statement)))

    async def end(self) -> None:
        """See `OutboxStore`."""
        session, self._session = self._session, None
        lock, self._lock = self._lock, None
        if session is not None:
            with contextlib.suppress(SQLAlchemyError, OSError):
                await session.close()
        if lock is not None:
            lock.release()

    async def marks(self) -> list[TopicMark]:
        """See `OutboxStore`."""
        return await self._run(self._read_marks)

    def _read_marks(self, connection: Connection) -> list[TopicMark]:
        columns = self._marks.c
        rows = connection.execute(
            select(columns.topic, columns.topic_id, columns.offsets, columns.is_open)
        ).all()
        return [
            TopicMark(topic, topic_id, unpack_offsets(offsets), is_open)
            for topic, topic_id, offsets, is_open in rows
        ]

    async def pending_topics(self) -> list[str]:
        """See `OutboxStore`."""
        columns = self._table.c
        statement = select(columns.topic).where(columns.refused.is_(None)).distinct()
        return await self._run(lambda connection: list(connection.scalars(statement)))

    async def pending(self, limit: int, *, without: Collection[str] = ()) -> list[OutboxRow]:
        """See `OutboxStore`."""
        columns = self._table.c
        statement = (
            select(columns.id, columns.topic, columns.key, columns.value, columns.headers, columns.time_ms)
            .where(columns.refused.is_(None))
            .order_by(columns.id)
            .limit(limit)
        )
        if without:
            statement = statement.where(columns.topic.not_in(sorted(without)))

        def read(connection: Connection) -> list[OutboxRow]:
            with connection.execute(statement) as result:
                return first_batch(map(OutboxRow._make, result))

        return await self._run(read)

    async def finish(
        self, done: Collection[int], refused: Mapping[int, str], marks: Sequence[TopicMark]
    ) -> int:
        """See `OutboxStore`."""
        ids = list(done)

        def write(connection: Connection) -> int:
            table = self._table
            deleted = 0
            for start in range(0, len(ids), IDS_PER_STATEMENT):
                part = ids[start : start + IDS_PER_STATEMENT]
                deleted += connection.execute(delete(table).where(table.c.id.in_(part))).rowcount
            for number, reason in refused.items():
                connection.execute(update(table).where(table.c.id == number).values(refused=reason))
            for mark in marks:
                self._write_mark(connection, mark)
            return deleted

        return await self._run(write)

    def _write_mark(self, connection: Connection, mark: TopicMark) -> None:
        table = self._marks
        values = {
            "topic_id": mark.topic_id,
            "offsets": pack_offsets(mark.offsets),
            "is_open": mark.is_open,
        }
        # Updated without a look at the row count, which MySQL gives for changed rows only.
        known = connection.scalar(select(table.c.is_open).where(table.c.topic == mark.topic))
        if known is None:
            connection.execute(table.insert().values(topic=mark.topic, **values))
        else:
            connection.execute(update(table).where(table.c.topic == mark.topic).values(**values))
