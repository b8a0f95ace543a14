"""Acknowledgements of single events, a call each: those of a turn are one record, each has its own answer."""

from __future__ import annotations

import asyncio
import base64
import random
from typing import Any

import pytest

from mainstem.contract import StreamError
from mainstem.coordinator.queues.records import EventsAcked
from mainstem.engines.embedded.queues.tokens import DeliveryToken
from mainstem.queue_contract import Ack, Delivery, Nack, Outcome
from tests.engines.queue_server import SimulatedServer, depth, simulated, values


async def settle_each(server: SimulatedServer, *outcomes: Outcome) -> list[str]:
    """One call each, all in one turn of the loop."""
    calls = [server.engine.settle("s", [outcome]) for outcome in outcomes]
    return [verdict for (verdict,) in await server.drive(asyncio.gather(*calls))]


async def received(server: SimulatedServer, count: int) -> list[Delivery]:
    await server.publish("t", *[b"%d" % number for number in range(count)])
    return await server.pull(count=count)


def test_those_of_a_turn_become_one_record(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: SimulatedServer) -> None:
        deliveries = await received(server, 50)
        records: list[object] = []
        codec = server.node.queue_runtime._codec
        encode = codec.encode

        def noted(record: Any) -> bytes:
            records.append(record)
            return encode(record)

        monkeypatch.setattr(codec, "encode", noted)
        chosen = random.Random(1).sample(deliveries, 30)
        assert set(await settle_each(server, *[Ack(item.token) for item in chosen])) == {"done"}
        (record,) = records
        assert isinstance(record, EventsAcked)
        assert (await depth(server)).leased == 20
        assert (await server.drive(server.engine.subscription("s"))).acked == 30
        await server.crash(power=True)
        again = {item.event.offset for item in await server.pull()}
        assert again == {item.event.offset for item in deliveries} - {item.event.offset for item in chosen}

    simulated(test)


def test_a_second_answer_in_the_same_turn_is_stale() -> None:
    async def test(server: SimulatedServer) -> None:
        first, second, third = await received(server, 3)
        answers: list[Outcome] = [
            Ack(first.token),
            Ack(first.token),
            Nack(second.token, 0),
            Ack(second.token),
        ]
        assert await settle_each(server, *answers, Ack("none"), Ack(third.token)) == [
            "done",
            "stale",
            "stale",
            "done",
            "invalid",
            "done",
        ]
        assert (await depth(server)).outstanding == 0
        assert (await server.drive(server.engine.subscription("s"))).acked == 3

    simulated(test)


def test_an_acknowledgement_after_the_lock_is_late() -> None:
    async def test(server: SimulatedServer) -> None:
        (delivery,) = await received(server, 1)
        await server.pass_time(31)
        assert await settle_each(server, Ack(delivery.token)) == ["late"]
        assert await settle_each(server, Ack(delivery.token)) == ["stale"]

    simulated(test)


def test_of_another_subscription_it_is_invalid() -> None:
    async def test(server: SimulatedServer) -> None:
        (delivery,) = await received(server, 1)
        settings = (await server.drive(server.engine.subscription("s"))).settings
        await server.drive(server.engine.create_subscription("other", settings))
        assert await server.drive(server.engine.settle("other", [Ack(delivery.token)])) == ["invalid"]
        assert (await depth(server)).leased == 1

    simulated(test)


def test_a_disk_that_refuses_fails_each_call_and_the_events_come_again() -> None:
    async def test(server: SimulatedServer) -> None:
        deliveries = await received(server, 3)
        server.disk.sync_fails = 1.0
        calls = [server.engine.settle("s", [Ack(item.token)]) for item in deliveries]
        answers = await server.drive(asyncio.gather(*calls, return_exceptions=True))
        assert all(isinstance(answer, StreamError) for answer in answers)
        server.disk.sync_fails = 0.0
        await server.pass_time(2)
        assert values(await server.pull()) == [b"0", b"1", b"2"]

    simulated(test)


def test_a_caller_that_left_does_not_stop_the_others() -> None:
    async def test(server: SimulatedServer) -> None:
        first, second = await received(server, 2)
        leaving = asyncio.ensure_future(server.engine.settle("s", [Ack(first.token)]))
        staying = asyncio.ensure_future(server.engine.settle("s", [Ack(second.token)]))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await server.drive(staying) == ["done"]
        assert leaving.cancelled()
        assert (await depth(server)).outstanding == 0

    simulated(test)


def test_a_token_has_one_text() -> None:
    chance = random.Random(2)
    for _ in range(200):
        numbers = [chance.randrange(1 << bits) for bits in (32, 48, 48, 32)]
        token = DeliveryToken(*numbers)
        text = token.encode()
        assert DeliveryToken.decode(text) == token
        data = b"".join(n.to_bytes(size, "big") for n, size in zip(numbers, (4, 6, 6, 4), strict=True))
        assert base64.urlsafe_b64decode(text + "=") == data
        place, char = chance.randrange(len(text)), chr(chance.randrange(300))
        other = text[:place] + char + text[place + 1 :]
        decoded = DeliveryToken.decode(other)
        assert decoded is None or (decoded == token) == (other == text)
        assert decoded is None or decoded.encode() == other
