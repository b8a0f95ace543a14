"""The relay on SQLite: every committed row is in the log exactly once, whatever fails in between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, MetaData, create_engine, func, select, update
from sqlalchemy.orm import Session

from mainstem.contract import EventTooLarge, InvalidArgument, NewEvent, NotReachable, Position, RelayLost
from mainstem.outbox.relay import Relay
from mainstem.outbox.row_format import OUTBOX_HEADER
from mainstem.replay import position_of
from mainstem.sqlalchemy import Outbox
from tests.outbox.list_log import ListLog

METADATA = MetaData()
OUTBOX = Outbox(METADATA, "shop")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    METADATA.create_all(engine)
    yield engine
    engine.dispose()


def add(engine: Engine, numbers: Sequence[int], *, topic: str = "orders", keys: int = 3) -> None:
    with Session(engine) as session, session.begin():
        for number in numbers:
            OUTBOX.add(session, topic, {"number": number}, key=f"key-{number % keys}")


def row_count(engine: Engine) -> int:
    with Session(engine) as session:
        return session.scalars(select(func.count()).select_from(OUTBOX.table)).one()


def numbers_in(log: ListLog, topic: str = "orders") -> list[int]:
    return [int((event.value or b"").partition(b":")[2].rstrip(b"}")) for event in log.all_of(topic)]


def assert_each_once_in_order(log: ListLog, count: int, topic: str = "orders") -> None:
    numbers = numbers_in(log, topic)
    assert sorted(numbers) == list(range(count))
    by_key: dict[bytes | None, list[int]] = {}
    for event, number in zip(log.all_of(topic), numbers, strict=True):
        by_key.setdefault(event.key, []).append(number)
    assert all(of_key == sorted(of_key) for of_key in by_key.values())


def new_relay(engine: Engine) -> Relay:
    return OUTBOX.new_relay(engine, settle_s=0.0)


@asynccontextmanager
async def running(relay: Relay, log: ListLog) -> AsyncIterator[None]:
    task = asyncio.ensure_future(relay.run(log))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def drained(engine: Engine, log: ListLog) -> Relay:
    relay = new_relay(engine)
    asyncio.run(relay.drain(log, timeout_s=0.0))
    return relay


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def test_rows_are_published_with_their_names_and_deleted(engine: Engine) -> None:
    log = ListLog()
    with Session(engine) as session, session.begin():
        OUTBOX.add(session, "orders", b"\x00\xff", key=b"\xfe", headers={"a": "x", "b": b"\xff"})
        OUTBOX.add(session, "payments", None)
    relay = drained(engine, log)
    (order,) = log.all_of("orders")
    assert (order.value, order.key) == (b"\x00\xff", b"\xfe")
    assert order.headers == (("a", b"x"), ("b", b"\xff"), (OUTBOX_HEADER, b"shop/1"))
    (payment,) = log.all_of("payments")
    assert (payment.value, payment.key, payment.headers) == (None, None, ((OUTBOX_HEADER, b"shop/2"),))
    assert order.timestamp_ms > 1_700_000_000_000
    assert row_count(engine) == 0
    assert relay.published == 2


def test_a_transaction_that_rolls_back_publishes_nothing(engine: Engine) -> None:
    log = ListLog()
    with Session(engine) as session:
        OUTBOX.add(session, "orders", {"number": 1})
        session.flush()
        session.rollback()
    drained(engine, log)
    assert log.events == {}


def test_ids_are_never_given_again(engine: Engine) -> None:
    log = ListLog(1)
    for number in range(3):
        add(engine, [number])
        drained(engine, log)
    assert [dict(event.headers)[OUTBOX_HEADER] for event in log.all_of("orders")] == [
        b"shop/1",
        b"shop/2",
        b"shop/3",
    ]


@pytest.mark.parametrize("seed", range(2))
def test_each_event_is_in_the_log_once_whatever_dies_when(engine: Engine, seed: int) -> None:
    """The process dies before a publish, after it, or after the deletion, with others publishing as well."""
    chance = random.Random(seed)
    log = ListLog()
    log.create("orders")
    add(engine, range(120))
    deaths = 0

    class Died(BaseException):
        pass

    def die_sometimes(topic: str, events: Sequence[NewEvent]) -> None:
        nonlocal deaths
        if chance.random() < 0.4 and deaths < 12:
            deaths += 1
            raise Died

    log.before = log.after = die_sometimes
    while row_count(engine):
        relay = OUTBOX.new_relay(engine, settle_s=0.0, batch_events=25)
        try:
            asyncio.run(relay.drain(log, timeout_s=0.0))
        except Died:
            foreign = [NewEvent(b"{foreign}", b"key-1")] * chance.randrange(50)
            log.before = log.after = None
            asyncio.run(log.publish("orders", foreign))
            log.before = log.after = die_sometimes
    log.events["orders"] = [
        [event for event in part if event.value != b"{foreign}"] for part in log.events["orders"]
    ]
    assert deaths
    assert_each_once_in_order(log, 120)


def test_an_answer_that_is_lost_publishes_nothing_twice(engine: Engine) -> None:
    log = ListLog()
    add(engine, range(20))
    failures = [NotReachable("no answer"), NotReachable("no answer")]

    def lose(topic: str, events: Sequence[NewEvent]) -> None:
        if failures:
            raise failures.pop()

    log.after = lose
    relay = new_relay(engine)

    async def run() -> None:
        async with running(relay, log):
            await until(lambda: relay.recalled == 20)

    asyncio.run(run())
    assert row_count(engine) == 0
    assert_each_once_in_order(log, 20)


def test_what_was_lost_before_what_is_acknowledged_is_recalled_too(engine: Engine) -> None:
    """The answer of a batch's first event is missing: the mark must not move behind it."""
    log = ListLog(1)
    add(engine, range(4))
    lost = NotReachable("no answer")

    def lose(topic: str, events: Sequence[NewEvent]) -> None:
        lost.results = [lost, *map(position_of, log.all_of(topic)[1:])]
        raise lost

    log.after = lose
    with pytest.raises(NotReachable):
        drained(engine, log)
    log.after = None
    assert row_count(engine) == 1
    assert drained(engine, log).recalled == 1
    assert_each_once_in_order(log, 4)


class RefusingLog(ListLog):
    """Refuses the event of number 1."""

    async def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Position]:
        fits = [event for event in events if event.value != b'{"number":1}']
        positions = await super().publish(topic, fits)
        if len(fits) == len(events):
            return positions
        error = EventTooLarge("1 byte more than max.message.bytes")
        left = iter(positions)
        error.results = [next(left) if event in fits else error for event in events]
        raise error


def test_an_event_that_the_log_never_takes_is_left_with_its_reason(engine: Engine) -> None:
    log = RefusingLog()
    add(engine, range(3))
    relay = drained(engine, log)
    assert sorted(numbers_in(log)) == [0, 2]
    assert (relay.published, relay.refused) == (2, 1)
    with Session(engine) as session:
        assert session.scalars(select(OUTBOX.table.c.refused)).all() == ["1 byte more than max.message.bytes"]
    assert drained(engine, log).refused == 0


def test_a_topic_that_fails_stops_no_other(engine: Engine) -> None:
    log = ListLog(creates=False)
    log.create("payments")
    add(engine, range(3))
    add(engine, range(3), topic="payments")
    relay = new_relay(engine)

    async def run() -> None:
        async with running(relay, log):
            await until(lambda: row_count(engine) == 3)
            log.create("orders")
            await until(lambda: row_count(engine) == 0)

    asyncio.run(run())
    assert_each_once_in_order(log, 3, "payments")
    assert_each_once_in_order(log, 3)
    assert relay.last_error == "topic orders: it does not exist"


def test_a_commit_wakes_the_relay_of_its_process(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainstem.outbox.relay.POLL_S_MIN", 60.0)
    log = ListLog()
    relay = new_relay(engine)

    async def run() -> None:
        async with running(relay, log):
            await until(lambda: relay.is_active)
            for number in range(3):
                await asyncio.to_thread(add, engine, [number])
                await until(lambda: row_count(engine) == 0)

    asyncio.run(run())
    assert_each_once_in_order(log, 3)


def test_one_relay_at_a_time_and_another_takes_over(engine: Engine) -> None:
    log = ListLog()
    first, second = new_relay(engine), new_relay(engine)

    async def run() -> None:
        async with running(first, log):
            await until(lambda: first.is_active)
            with pytest.raises(RelayLost, match="another relay"):
                await second.drain(log, timeout_s=0.0)
        add(engine, range(5))
        assert await second.drain(log) == 5

    asyncio.run(run())
    assert (first.is_active, second.is_active) == (False, False)
    assert_each_once_in_order(log, 5)


def test_a_relay_that_is_stopped_finishes_its_batch_and_leaves_nothing_to_recall(engine: Engine) -> None:
    log = ListLog()
    add(engine, range(5))
    relay = new_relay(engine)

    async def run() -> None:
        task = asyncio.ensure_future(relay.run(log))

        def stop(topic: str, events: Sequence[NewEvent]) -> None:
            task.cancel()

        log.before = stop
        await asyncio.wait({task})

    asyncio.run(run())
    assert row_count(engine) == 0
    with Session(engine) as session:
        assert session.scalars(select(OUTBOX.marks_table.c.is_open)).all() == [False]
    assert_each_once_in_order(log, 5)
    log.reads = 0
    add(engine, range(5, 7))
    drained(engine, log)
    assert log.reads == 0


def test_a_topic_that_was_created_again_is_read_from_its_start(engine: Engine) -> None:
    log = ListLog(1)
    add(engine, range(3))

    drained(engine, log)
    with Session(engine) as session, session.begin():
        session.execute(update(OUTBOX.marks_table).values(is_open=True))
    log.create("orders")
    add(engine, [7])
    assert drained(engine, log).recalled == 0
    assert numbers_in(log) == [7]


@pytest.mark.parametrize("source", ["", "a/b", "x" * 101, "ü"])
def test_a_source_that_a_header_cannot_name_is_refused(source: str) -> None:
    with pytest.raises(InvalidArgument):
        Outbox(MetaData(), source)


def test_two_outboxes_in_one_metadata_need_two_names() -> None:
    with pytest.raises(InvalidArgument):
        Outbox(METADATA, "other")
    with pytest.raises(InvalidArgument):
        OUTBOX.add(Session(), "", b"")
