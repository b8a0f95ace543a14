"""The fixture of a broker: what passes, what fails, and what the messages say."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from mainstem.api.stream import Stream
from mainstem.contract import InvalidArgument
from mainstem.pytest_plugin.broker import MainstemBroker
from tests.pytest_plugin.project import run_tests

PASSING = """
import asyncio

def test_without_a_loop(mainstem_broker):
    with mainstem_broker.running(stream):
        with stream.sync as connected:
            connected.topic("orders", Order).publish(Order(1, "ann", 9.5))
        (event,) = mainstem_broker.sync.expect(payments, "state:paid")
        assert event.value == Payment(1, "paid")
        mainstem_broker.sync.settled("billing")
        mainstem_broker.sync.advance(timedelta(days=8))
        mainstem_broker.sync.expect_none(orders)

async def pays(broker):
    async with broker.running(stream):
        await broker.expect_none(payments)  # each test has a broker of its own
        await orders.publish(Order(2, "ann", 9.5))
        (event,) = await broker.expect(payments, "state:paid", timeout=2)
        assert event.value == Payment(2, "paid")
        await broker.settled()

def test_in_a_loop(mainstem_broker):
    asyncio.run(pays(mainstem_broker))

def test_a_retry(mainstem_broker):
    async def main():
        async with mainstem_broker.running(stream) as running:
            await orders.publish(Order(3, "ann", 500))
            while not running.failures:
                await asyncio.sleep(0.001)
            await mainstem_broker.expect_none(payments, within=0.01)
            mainstem_broker.advance(120)
            await mainstem_broker.expect(payments, "order:3")
            await mainstem_broker.settled("billing")
            assert len(running.failures) == 1
    asyncio.run(main())

def test_accepted_dead_letters(mainstem_broker):
    with mainstem_broker.running(stream, allow_dead=True):
        with stream.sync as connected:
            connected.publish("orders", {"id": 4, "customer": "ann", "total": -1})
        (letter,) = mainstem_broker.sync.expect("orders.billing.dead", "id:4")
        mainstem_broker.sync.settled("billing")
"""


def test_tests_with_and_without_a_loop_pass(pytester: pytest.Pytester) -> None:
    result = run_tests(pytester, PASSING)
    result.assert_outcomes(passed=4)


OTHERS = """
import asyncio, unittest
import pytest
from hypothesis import HealthCheck, given, settings, strategies

async def pays(broker):
    async with broker.running(stream):
        await orders.publish(Order(2, "ann", 9.5))
        (event,) = await broker.expect(payments, "state:paid", timeout=2)
        assert event.value == Payment(2, "paid")

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_with_anyio(mainstem_broker, anyio_backend):
    await pays(mainstem_broker)

class TestOfUnittest(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def broker_of_test(self, mainstem_broker):
        self.broker = mainstem_broker

    async def test_of_unittest(self):
        await pays(self.broker)

@settings(max_examples=3, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(strategies.integers(1, 9))
def test_with_hypothesis(mainstem_broker, number):
    connected = mainstem_broker.stream()
    with connected.sync as stream:
        stream.publish("numbers", {"n": number})
    assert mainstem_broker.sync.expect("numbers", f"n:{number}")

def test_a_stream_of_its_own(mainstem_stream, mainstem_broker):
    async def main():
        async with mainstem_stream:
            await mainstem_stream.publish("orders", {"id": 5})
            assert [hit.value async for hit in mainstem_stream.search("id:5")] == [{"id": 5}]
    asyncio.run(main())
"""


@pytest.mark.slow
def test_tests_of_other_frameworks_pass(pytester: pytest.Pytester) -> None:
    result = run_tests(pytester, OTHERS)
    result.assert_outcomes(passed=4)


FAILING = """
def test_expect(mainstem_broker):
    with mainstem_broker.running(stream), stream.sync as connected:
        connected.publish("orders", {"id": 1, "customer": "ann", "total": 5})
        mainstem_broker.sync.settled("billing")
        mainstem_broker.sync.expect(payments, "order:1 state:declined", timeout=0)

def test_expect_nothing_there(mainstem_broker):
    mainstem_broker.sync.expect("orders", count=2, timeout=0)

def test_expect_none(mainstem_broker):
    with mainstem_broker.stream().sync as connected:
        connected.publish("orders", {"id": 1})
    mainstem_broker.sync.expect_none("orders", "id:1")

def test_settled(mainstem_broker):
    with mainstem_broker.running(stream), stream.sync as connected:
        connected.publish("orders", {"id": 1, "customer": "ann", "total": 500})
        mainstem_broker.sync.settled("billing", timeout=0.05)

def test_dead(mainstem_broker):
    with mainstem_broker.running(stream), stream.sync as connected:
        connected.publish("orders", {"id": 1, "customer": "ann", "total": -1})
        mainstem_broker.sync.settled("billing")

def test_unknown_group(mainstem_broker):
    mainstem_broker.sync.settled("biling")
"""


def test_messages_say_why(pytester: pytest.Pytester) -> None:
    result = run_tests(pytester, FAILING)
    result.assert_outcomes(failed=6)
    text = result.stdout.str()
    for expected in (
        "expected 1 event of payments matching order:1 state:declined, and there is none after 0 s",
        'payments/0/0 {"order":1,"state":"paid"}',
        'state:declined: state is "paid"',
        "orders.billing: 1 read, 1 done, 0 failed",
        "expected 2 events of orders, and there is none after 0 s",
        "orders has no events",
        "expected no event of orders matching id:1, and there is 1:",
        "not settled after 0.05 s: orders.billing (1 waiting)",
        "orders.billing: ValueError: the bank does not answer",
        "handlers failed, and their events are not done (allow_dead=True accepts that):",
        "orders.billing: 1 read, 0 done, 1 failed, 1 given up",
        "there is no such group; there are the subscriptions (none)",
    ):
        assert expected in text, expected
    assert "app.py:26 in bill" in text
    # The traceback of an expectation ends in the test.
    assert "node_thread.py" not in text


def test_a_stream_whose_subscribers_cannot_start_closes_its_own_place_later() -> None:
    closings = []

    class ClosablePlace:
        async def close(self) -> None:
            closings.append(self)

    async def open_place() -> Any:
        return ClosablePlace()

    stream = Stream(open_place)
    for _ in range(2):
        stream.subscriber("orders", group="billing")(lambda order: None)

    async def go() -> None:
        async with stream:
            pass

    broker = MainstemBroker.open()
    try:
        with pytest.raises(InvalidArgument, match="two subscribers"), broker.running(stream):
            pass
    finally:
        broker.close()
    asyncio.run(go())
    assert len(closings) == 1


@pytest.mark.slow
def test_the_pages_example_runs_as_it_is_written(pytester: pytest.Pytester) -> None:
    page = (Path(__file__).parents[2] / "docs" / "PYTHON.md").read_text()
    part = page.partition("\n## Testing\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    beside = (
        "import pytest\npytestmark = pytest.mark.anyio\n"
        "@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    )
    run_tests(pytester, beside + code).assert_outcomes(passed=2)
