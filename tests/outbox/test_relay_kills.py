"""kill -9 of the relay, 30 times while it publishes 3,000 rows: each event is in the log once, in order by
key."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.orm import Session

from mainstem.contract import Event, Position
from mainstem.engines.kafka.engine import KafkaEngine
from mainstem.outbox.row_format import OUTBOX_HEADER
from tests.outbox.postgres import PostgresServer
from tests.outbox.relay_process import METADATA, OUTBOX, SETTLE_S
from tests.support.server import Server

ROOT = Path(__file__).resolve().parents[2]
KILLS = {"sqlite": 30, "postgresql": 8}
ROWS_A_ROUND, PARTITIONS, KEYS = 100, 4, 7


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'shop.db'}"
        return
    if PostgresServer.programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="make deps-all")
    with PostgresServer() as server:
        yield server.url


def kill_a_relay(url: str, address: str, chance: random.Random) -> None:
    """Start a relay, and kill it after some of its batches: before the rows of the last one are deleted, or a
    little later."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.outbox.relay_process", url, address],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        for _ in range(chance.randint(1, 4)):
            assert process.stdout.readline(), "the relay has ended by itself"
        time.sleep(chance.choice((0.0, 0.0, chance.random() / 100)))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def events_of(address: str) -> list[Event]:
    engine = await KafkaEngine.connect(address, timeout_s=20)
    try:
        ends = [(await engine.bounds("orders", partition)).end for partition in range(PARTITIONS)]
        reader = await engine.reader([Position("orders", partition, 0) for partition in range(PARTITIONS)])
        events: list[Event] = []
        while len(events) < sum(ends):
            events += (await reader.read(max_events=5_000)).events
        await reader.close()
        return events
    finally:
        await engine.close()


async def create_topic(address: str) -> None:
    log = await KafkaEngine.connect(address, timeout_s=20)
    try:
        await log.create_topic("orders", partitions=PARTITIONS)
    finally:
        await log.close()


async def drain(engine: Engine, address: str) -> None:
    log = await KafkaEngine.connect(address, timeout_s=20)
    try:
        await OUTBOX.new_relay(engine, settle_s=SETTLE_S).drain(log, timeout_s=30)
    finally:
        await log.close()


def add(engine: Engine, numbers: range) -> None:
    with Session(engine) as session, session.begin():
        for number in numbers:
            OUTBOX.add(session, "orders", b"%d" % number, key=f"key-{number % KEYS}")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_event_is_in_the_log_once_after_many_kills_of_the_relay(database: str, tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    kills = KILLS[database.partition(":")[0].partition("+")[0]]
    engine = create_engine(database)
    METADATA.create_all(engine)
    with Server(tmp_path / "data", durability="os") as server:
        asyncio.run(create_topic(server.address))
        for number in range(kills):
            add(engine, range(number * ROWS_A_ROUND, (number + 1) * ROWS_A_ROUND))
            kill_a_relay(database, server.address, chance)
        asyncio.run(drain(engine, server.address))
        with Session(engine) as session:
            assert session.scalars(select(func.count()).select_from(OUTBOX.table)).one() == 0
        events = asyncio.run(events_of(server.address))
    engine.dispose()
    shutil.rmtree(tmp_path / "data")
    assert_each_once_in_order(events, kills * ROWS_A_ROUND)


def assert_each_once_in_order(events: list[Event], count: int) -> None:
    numbers = [int(event.value or b"") for event in events]
    assert len(numbers) == count
    assert set(numbers) == set(range(count))
    names = {dict(event.headers)[OUTBOX_HEADER] for event in events}
    assert len(names) == len(events)
    by_key: dict[bytes | None, list[int]] = {}
    for event, number in zip(events, numbers, strict=True):
        by_key.setdefault(event.key, []).append(number)
    assert len(by_key) == KEYS
    assert all(of_key == sorted(of_key) for of_key in by_key.values())


async def relay_while_the_server_is_killed(engine: Engine, server: Server, rows: int, kills: int) -> int:
    """Relay that many rows, and kill the server in between. Returns how often it was killed."""
    log = await KafkaEngine.connect(server.address, timeout_s=20)
    relay = OUTBOX.new_relay(engine, batch_events=50, settle_s=SETTLE_S)
    task = asyncio.ensure_future(relay.run(log))
    count = 0
    async with asyncio.timeout(240):
        while relay.published + relay.recalled < rows:
            await asyncio.sleep(0.01)
            if count < kills and relay.published > count * rows // (kills + 1):
                count += 1
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start, same_port=True)
    task.cancel()
    await asyncio.wait({task})
    await log.close()
    return count


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_each_event_is_in_the_log_once_after_kills_of_the_server(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    METADATA.create_all(engine)
    add(engine, range(2_000))
    with Server(tmp_path / "data", durability="disk") as server:
        asyncio.run(create_topic(server.address))
        assert asyncio.run(relay_while_the_server_is_killed(engine, server, 2_000, 3)) == 3
        events = asyncio.run(events_of(server.address))
    engine.dispose()
    assert_each_once_in_order(events, 2_000)
