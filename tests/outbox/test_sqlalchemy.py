"""The outbox and the inbox in every kind of session, and their tables in every database."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import MetaData, create_engine, func, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool
from sqlalchemy.schema import CreateTable

import mainstem
from mainstem.contract import InvalidArgument, RelayLost
from mainstem.sqlalchemy import Inbox, Outbox
from mainstem.sqlalchemy.inbox import stored_id
from tests.outbox.list_log import ListLog

METADATA = MetaData()
OUTBOX, INBOX = Outbox(METADATA, "shop"), Inbox(METADATA)
FIRST = SimpleNamespace(id="orders/0/7")


ORDERS = mainstem.connect().topic("orders", dict[str, int], key=lambda order: f"customer-{order['id']}")


def memory() -> AsyncEngine:
    return create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)


def test_an_async_session_adds_what_a_relay_in_its_loop_publishes() -> None:
    log = ListLog(1)

    async def run() -> None:
        engine = memory()
        async with engine.begin() as connection:
            await connection.run_sync(METADATA.create_all)
        async with AsyncSession(engine) as session, session.begin():
            OUTBOX.add(session, ORDERS, {"id": 1}, headers={"a": "b"})
        scoped = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
        async with scoped.begin():
            OUTBOX.add(scoped, "orders", {"id": 2}, key="k")
        await scoped.remove()
        relay = OUTBOX.new_relay(engine)
        async with asyncio.timeout(10):
            assert await relay.drain(log) == 2
            assert await OUTBOX.new_relay(engine).drain(log) == 0
        await engine.dispose()

    asyncio.run(run())
    first, second = log.all_of("orders")
    assert (first.value, first.key) == (b'{"id":1}', b"customer-1")
    assert first.headers == (("a", b"b"), ("mainstem-outbox", b"shop/1"))
    assert (second.value, second.key) == (b'{"id":2}', b"k")


def test_an_inbox_notes_an_event_with_the_transaction(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'inbox.db'}")
    METADATA.create_all(engine)
    sessions = sessionmaker(engine)
    with sessions() as session:
        assert INBOX.first_time(session, FIRST, group="ledger")
        assert not INBOX.first_time(session, FIRST, group="ledger")
        session.rollback()
    with sessions.begin() as session:
        assert INBOX.first_time(session, FIRST, group="ledger")
        assert INBOX.first_time(session, FIRST, group="mail")
    scoped = scoped_session(sessions)
    with scoped.begin():
        assert not INBOX.first_time(scoped, FIRST, group="ledger")
        assert INBOX.purge(scoped, older_than=timedelta(days=1)) == 0
        assert INBOX.purge(scoped, older_than=timedelta(milliseconds=-1)) == 2
        assert INBOX.first_time(scoped, FIRST, group="ledger")
    scoped.remove()
    engine.dispose()


def test_an_inbox_of_an_async_session_is_awaited() -> None:
    async def run() -> None:
        engine = memory()
        async with engine.begin() as connection:
            await connection.run_sync(METADATA.create_all)
        for expected in (True, False):
            async with AsyncSession(engine) as session, session.begin():
                assert await INBOX.first_time(session, FIRST, group="ledger") is expected
        async with AsyncSession(engine) as session, session.begin():
            assert await INBOX.purge(session, older_than=timedelta(milliseconds=-1)) == 1
        await engine.dispose()

    asyncio.run(run())


@pytest.mark.parametrize(
    "event_id", ["x" * 256, "orders/0/7 ", "a\0b", "caf\udce9", " x"], ids=lambda text: repr(text[:5])
)
def test_an_id_that_a_column_cannot_have_is_a_digest(event_id: str) -> None:
    assert stored_id(event_id).startswith("sha256:")
    assert stored_id(event_id) != stored_id(event_id + "2")
    assert stored_id("orders/0/7") == "orders/0/7"


def test_a_group_needs_a_name_that_fits() -> None:
    for name in ("", "x" * 250):
        with pytest.raises(InvalidArgument):
            INBOX.first_time(Session(), FIRST, group=name)


DIALECTS: list[Dialect] = [kind() for kind in (sqlite.dialect, postgresql.dialect, mysql.dialect)]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: str(dialect.name))
def test_ids_are_drawn_by_the_database_and_values_are_large(dialect: Dialect) -> None:
    ddl = str(CreateTable(OUTBOX.table).compile(dialect=dialect))
    expected = {
        "sqlite": ("INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", "value BLOB"),
        "postgresql": ("id BIGSERIAL NOT NULL", "value BYTEA"),
        "mysql": ("id BIGINT NOT NULL AUTO_INCREMENT", "value BLOB(4294967295)"),
    }
    assert all(text in ddl for text in expected[dialect.name])


def test_a_database_that_is_lost_ends_a_drain(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(RelayLost, match="no such table"):
        asyncio.run(OUTBOX.new_relay(engine).drain(ListLog()))
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(select(1).subquery())) == 1
    engine.dispose()


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "OUTBOX.md").read_text()
    names: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    log = ListLog(1)

    async def run() -> None:
        engine = names["engine"]
        async with engine.begin() as connection:
            await connection.run_sync(names["metadata"].create_all)
        await names["place_order"](4711, "ann")
        assert await names["outbox"].new_relay(engine).drain(log) == 1
        (event,) = log.all_of("orders")
        assert (event.key, event.value) == (b"ann", b'{"id":4711}')
        for _ in range(2):
            await names["book"](FIRST)
        async with names["sessions"]() as session:
            assert len((await session.execute(select(names["inbox"].table))).all()) == 1
        await engine.dispose()

    asyncio.run(run())
