"""The outbox and the inbox on PostgreSQL and MariaDB: the lock, a connection that is lost, new events."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, MetaData, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from mainstem.contract import RelayLost
from mainstem.sqlalchemy import Inbox, Outbox
from tests.outbox.list_log import ListLog
from tests.outbox.mariadb import MariaServer
from tests.outbox.postgres import PostgresServer

METADATA = MetaData()
OUTBOX, INBOX = Outbox(METADATA, "shop"), Inbox(METADATA)
POSTGRES_KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "postgresql":
        if PostgresServer.programs() is None:
            pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
        pytest.importorskip("psycopg", reason="make deps-all")
        with PostgresServer() as postgres:
            yield postgres.url
        return
    if not MariaServer.is_installed():
        pytest.skip("MariaDB is not installed: apt-get install mariadb-server")
    pytest.importorskip("pymysql", reason="make deps-all")
    with MariaServer() as maria:
        yield maria.url


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    METADATA.drop_all(engine)
    METADATA.create_all(engine)
    yield engine
    engine.dispose()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def kill_other_connections(engine: Engine) -> None:
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(POSTGRES_KILL))
            return
        own = connection.scalar(text("SELECT CONNECTION_ID()"))
        for row in connection.execute(text("SHOW PROCESSLIST")).all():
            if row[0] != own and row[1] == "root":
                connection.execute(text(f"KILL {row[0]}"))


def test_a_relay_that_loses_its_connection_takes_the_lock_again(engine: Engine) -> None:
    log = ListLog()
    first, second = OUTBOX.new_relay(engine, settle_s=0.0), OUTBOX.new_relay(engine, settle_s=0.0)

    def add(count: int) -> None:
        with Session(engine) as session, session.begin():
            for number in range(count):
                OUTBOX.add(session, "orders", b"x" * 70_000, key=f"key-{number}")

    async def run() -> None:
        await asyncio.to_thread(add, 20)
        task = asyncio.ensure_future(first.run(log))
        await until(lambda: first.published == 20)
        with pytest.raises(RelayLost, match="another relay"):
            await second.drain(log, timeout_s=0.0)
        await asyncio.to_thread(kill_other_connections, engine)
        await until(lambda: first.last_error.startswith("the database: "))
        engine.dispose()
        await asyncio.to_thread(add, 3)
        await until(lambda: first.published == 23)
        task.cancel()
        await asyncio.wait({task})
        assert await second.drain(log, timeout_s=0.0) == 0

    asyncio.run(run())
    assert len(log.all_of("orders")) == 23


def test_an_event_is_new_once_and_ids_that_differ_in_case_are_two(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        assert INBOX.first_time(session, SimpleNamespace(id="a/1"), group="ledger")
        assert INBOX.first_time(session, SimpleNamespace(id="A/1"), group="ledger")
        assert INBOX.first_time(session, SimpleNamespace(id="a/1"), group="Ledger")
    with Session(engine) as session, session.begin():
        assert not INBOX.first_time(session, SimpleNamespace(id="a/1"), group="ledger")


def test_an_async_engine_of_postgresql_publishes_too(engine: Engine) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("psycopg is the driver that has both")
    log = ListLog(1)

    async def run() -> None:
        loop_engine = create_async_engine(engine.url)
        async with AsyncSession(loop_engine) as session, session.begin():
            OUTBOX.add(session, "orders", b"1")
            assert await INBOX.first_time(session, SimpleNamespace(id="a/1"), group="ledger")
            assert not await INBOX.first_time(session, SimpleNamespace(id="a/1"), group="ledger")
        for expected in (1, 0):
            assert await OUTBOX.new_relay(loop_engine).drain(log, timeout_s=0.0) == expected
        await loop_engine.dispose()

    asyncio.run(run())
    assert len(log.all_of("orders")) == 1


def test_django_publishes_too_and_takes_the_lock_again(engine: Engine, url: str) -> None:
    METADATA.drop_all(engine)  # its tables have the same names
    command = [sys.executable, "-m", "tests.outbox.django_process", url]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]
