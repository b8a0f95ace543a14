"""Subscriptions of the embedded engine: deliveries, answers, time, and management."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mainstem.contract import InvalidArgument, NewEvent, Position, PositionOutOfRange, UnknownTopic
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.engines.embedded.queues.tokens import DeliveryToken, decode_tokens, encode_tokens
from mainstem.queue_contract import (
    Ack,
    Delivery,
    Extend,
    Nack,
    NoSuchSubscription,
    Outcome,
    Queues,
    Reject,
    SubscriptionNameTaken,
    SubscriptionSettings,
)
from tests.engines.conftest import embedded
from tests.engines.queue_server import SimulatedServer, depth, simulated, values

# ----------------------------------------------------------------------------------------------------------
# deliveries and answers


def test_an_answered_acknowledgement_is_final_over_kill_and_power_cut() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1", b"2")
        first, second, third = await server.pull()
        assert values([first, second, third]) == [b"0", b"1", b"2"]
        await server.ack(first)
        await server.crash(power=False)
        again = await server.pull()
        assert values(again) == [b"1", b"2"]
        assert [delivery.attempt for delivery in again] == [2, 2]
        await server.ack(again[1])
        await server.crash(power=True)
        assert values(await server.pull()) == [b"1"]
        assert await server.drive(server.engine.settle("s", [Ack(third.token)])) == ["stale"]

    simulated(test)


def test_an_event_whose_lock_expires_is_delivered_again_and_a_late_acknowledgement_counts() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1")
        first = await server.pull(count=1)
        waiting = asyncio.ensure_future(server.drive(server.engine.pull("s", "d", wait_ms=0)))
        assert values(await waiting) == [b"1"]
        assert await server.pull() == []
        start_ms = server.clock.wall_ms()
        again = await server.pull(wait_ms=60_000, count=1)
        assert values(again) == [b"0"]
        assert again[0].attempt == 2
        assert 5_000 <= server.clock.wall_ms() - start_ms <= 5_100
        assert await server.drive(server.engine.settle("s", [Ack(first[0].token)])) == ["stale"]
        await server.pass_time(6)
        assert await server.drive(server.engine.settle("s", [Ack(again[0].token)])) == ["late"]
        info = await server.drive(server.engine.subscription("s"))
        assert (info.acked, info.redelivered, info.failed) == (1, 1, 3)

    simulated(test, lock_ms=5_000)


def test_an_extended_lock_does_not_expire() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        (delivery,) = await server.pull()
        await server.pass_time(4)
        assert await server.drive(server.engine.settle("s", [Extend(delivery.token, 10_000)])) == ["done"]
        await server.pass_time(4)
        assert await server.pull() == []
        await server.ack(delivery)
        assert await server.drive(server.engine.settle("s", [Extend(delivery.token, 10_000)])) == ["stale"]

    simulated(test, lock_ms=5_000)


def test_a_lock_that_is_extended_alone_leaves_those_of_the_same_pull() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"LH430", b"UA901", b"BA117")
        first, second, third = await server.pull()
        states = server.engine.attached.delivery_states
        answers: list[Outcome] = [
            Extend(second.token, 10_000, alone=True),
            Extend(third.token, 1_000, alone=True),
        ]
        assert await server.drive(server.engine.settle("s", answers)) == ["done", "done"]
        await server.pass_time(2)
        assert values(await server.pull()) == [b"BA117"], "its lock was made shorter"
        await server.pass_time(4)
        tokens = [first.token, second.token, third.token, "no token"]
        assert states("s", tokens) == ["over", "leased", "over", "over"]
        assert values(await server.pull(count=1)) == [b"LH430"]
        assert await server.drive(server.engine.settle("s", [Ack(third.token)])) == ["stale"]
        await server.ack(second)
        assert states("s", [second.token]) == ["done"]

    simulated(test, lock_ms=5_000)


def test_a_late_acknowledgement_counts_also_of_a_lock_that_was_extended_alone() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"LH430", b"UA901")
        _, second = await server.pull()
        await server.drive(server.engine.settle("s", [Extend(second.token, 1_000, alone=True)]))
        await server.pass_time(2)
        assert await server.drive(server.engine.settle("s", [Ack(second.token)])) == ["late"]

    simulated(test, lock_ms=5_000)


def test_a_delay_is_exact_to_20_ms_and_backoff_grows() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        waits_ms = []
        for delay_ms in (3_000, None, None):
            (delivery,) = await server.pull(wait_ms=60_000)
            start_ms = server.clock.wall_ms()
            outcome = Nack(delivery.token, delay_ms)
            assert await server.drive(server.engine.settle("s", [outcome])) == ["done"]
            assert (await depth(server)).waiting == 1
            (delivery,) = await server.pull(wait_ms=60_000)
            waits_ms.append(server.clock.wall_ms() - start_ms)
            assert await server.drive(server.engine.settle("s", [Nack(delivery.token, counts=False)])) == [
                "done"
            ]
        assert 3_000 <= waits_ms[0] <= 3_020
        assert 1_800 <= waits_ms[1] <= 2_220
        assert 3_600 <= waits_ms[2] <= 4_420

    simulated(test, backoff_min_ms=1_000)


def test_verdicts_are_in_the_order_of_the_outcomes_and_garbage_is_invalid() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1")
        await server.drive(server.engine.create_subscription("o", SubscriptionSettings(topics=("t",))))
        first, second = await server.pull()
        foreign = (await server.pull("o"))[0]
        unknown = DeliveryToken(999, 0, 1, 5).encode()
        outcomes: list[Outcome] = [
            Ack("not a token"),
            Ack(second.token),
            Ack(foreign.token),
            Nack(second.token),
            Ack(first.token[:-1] + "-"),
            Ack("\u00e4" * 27),
            Ack(unknown),
            Ack(first.token),
        ]
        assert await server.drive(server.engine.settle("s", outcomes)) == [
            "invalid", "done", "invalid", "stale", "invalid", "invalid", "invalid", "done",
        ]  # fmt: skip
        assert (await depth(server)).outstanding == 0
        with pytest.raises(InvalidArgument, match="delay"):
            await server.drive(server.engine.settle("s", [Nack(first.token, -1)]))

    simulated(test)


def test_a_token_is_27_characters_and_comes_back() -> None:
    token = DeliveryToken((1 << 32) - 1, (1 << 48) - 1, 3, (1 << 32) - 2)
    text = token.encode()
    assert len(text) == 27
    assert DeliveryToken.decode(text) == token
    assert DeliveryToken.decode(text[:-1]) is None
    assert DeliveryToken.decode(text[:-1] + "_") is None


def test_tokens_of_a_lease_are_those_of_its_positions() -> None:
    positions = [0, 1, 5, (1 << 32) - 1, 1 << 32, (1 << 48) - 1]
    tokens = [DeliveryToken(7, position, 1 << 40, 3) for position in positions]
    texts = encode_tokens(7, positions, 1 << 40, 3)
    assert texts == [token.encode() for token in tokens]
    assert decode_tokens(texts) == tokens
    assert encode_tokens(7, (), 1, 3) == []
    assert decode_tokens([]) == []
    for damaged in (
        "",
        texts[0][:-1],
        texts[0][:-1] + "_",
        "/" * 26 + "A",
        "\u00e4" * 26 + "A",
        texts[0][1:] + "=A",
    ):
        assert decode_tokens([texts[0], damaged, texts[1]]) == [tokens[0], None, tokens[1]]


def test_a_waiting_pull_is_woken_by_a_commit_and_a_cancelled_one_leaves_no_lease() -> None:
    async def test(server: SimulatedServer) -> None:
        waiting = asyncio.ensure_future(server.engine.pull("s", "c", wait_ms=60_000))
        cancelled = asyncio.ensure_future(server.engine.pull("s", "d", wait_ms=60_000))
        await server.pass_time(1)
        assert not waiting.done()
        cancelled.cancel()
        await server.publish("t", b"0")
        assert values(await server.drive(waiting)) == [b"0"]
        assert cancelled.cancelled()
        await server.publish("t", *[b"%d" % number for number in range(1, 2_000)])
        server.disk.cold = 1.0
        for turns in range(30):
            pull = asyncio.ensure_future(server.engine.pull("s", "d", max_events=1_999))
            for _ in range(turns):
                await asyncio.sleep(0)
                server.clock.run()
            pull.cancel()
            await server.pass_time(0.1)
            state = await depth(server)
            assert (state.leased, state.ready + state.ahead) == (
                (1, 1_999) if pull.cancelled() else (2_000, 0)
            )
            if not pull.cancelled():
                break

    simulated(test)


def test_a_pull_returns_about_as_many_bytes_as_it_may() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", *[b"x" * 1_000] * 100)
        first = await server.drive(server.engine.pull("s", "c", max_bytes=10_000))
        assert 5 <= len(first) <= 20
        assert len(await server.drive(server.engine.pull("s", "c", max_bytes=1))) == 1

    simulated(test)


def test_two_subscriptions_and_a_plain_reader_do_not_notice_each_other() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.drive(server.engine.create_subscription("o", SubscriptionSettings(topics=("t",))))
        await server.publish("t", b"0", b"1")
        deliveries = await server.pull()
        await server.ack(*deliveries)
        assert await server.drive(server.engine.settle("s", [Reject(deliveries[0].token)])) == ["stale"]
        assert values(await server.pull("o")) == [b"0", b"1"]
        reader = await server.engine.reader([Position("t", 0, 0)])
        assert [event.value for event in (await server.drive(reader.read(wait_ms=0))).events] == [b"0", b"1"]
        await reader.close()

    simulated(test)


def test_partitions_are_served_in_turn_also_those_that_are_added_later() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.drive(server.engine.add_partitions("t", 3))
        for partition in range(3):
            events = [NewEvent(b"%d" % partition, partition=partition)] * 4
            await server.drive(server.engine.publish("t", events))
        partitions = [(await server.pull(count=1))[0].event.partition for _ in range(6)]
        assert sorted(partitions) == [0, 0, 1, 1, 2, 2]

    simulated(test, from_latest=True)


def test_a_filter_delivers_what_matches_and_the_rest_is_done() -> None:
    async def test(server: SimulatedServer) -> None:
        for start in range(0, 1_000, 250):
            await server.publish("t", *[b'{"number": %d}' % number for number in range(start, start + 250)])
        await server.pass_time(0.5)
        assert (await depth(server)).ahead == 0
        deliveries = await server.pull(count=1_000)
        assert values(deliveries) == [b'{"number": %d}' % number for number in range(990, 1_000)]
        await server.ack(*deliveries)
        await server.crash(power=False)
        await server.pass_time(0.5)
        assert (await depth(server)).outstanding == 0

    simulated(test, filter="number:>=990")


# ----------------------------------------------------------------------------------------------------------
# management


def test_browse_shows_each_event_that_is_not_done_with_the_reason() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1", b"2", b"3")
        first, second = await server.pull(count=2)
        await server.drive(server.engine.settle("s", [Nack(first.token, 60_000)]))
        browsed = await server.drive(server.engine.browse("s"))
        assert [(item.event.value, item.state, item.attempts, item.failures) for item in browsed] == [
            (b"0", "waiting", 1, 1), (b"1", "leased", 1, 0), (b"2", "ready", 0, 0), (b"3", "ready", 0, 0),
        ]  # fmt: skip
        assert browsed[0].why.startswith("delayed until 2013-01-01T")
        assert browsed[1].why.startswith("leased by c until 2013-01-01T")
        assert all(event.why.endswith("Z") for event in browsed[:2])
        assert browsed[2].why == ""
        after = await server.drive(server.engine.browse("s", "ready", after=Position("t", 0, 2)))
        assert [item.event.value for item in after] == [b"3"]
        assert await server.drive(server.engine.browse("s", max_events=3)) == browsed[:3]
        await server.ack(second)
        with pytest.raises(InvalidArgument, match="no state"):
            await server.drive(server.engine.browse("s", "lost"))  # type: ignore[arg-type]

    simulated(test)


def test_seek_and_purge() -> None:
    async def test(server: SimulatedServer) -> None:
        engine = server.engine
        await server.publish("t", b"0", b"1")
        await server.pass_time(10)
        noon_ms = server.clock.wall_ms()
        await server.publish("t", b"2", b"3")
        old = await server.pull()
        await server.ack(old[0])
        assert await server.drive(engine.seek("s", "earliest")) == 4
        assert await server.drive(engine.settle("s", [Ack(old[1].token)])) == ["stale"]
        assert await server.drive(engine.seek("s", noon_ms)) == 2
        assert values(await server.pull()) == [b"2", b"3"]
        assert await server.drive(engine.seek("s", Position("t", 0, 1))) == 3
        assert values(await server.pull(count=1)) == [b"1"]
        assert await server.drive(engine.purge("s")) == 3
        assert await server.pull() == []
        await server.crash(power=True)
        assert await server.pull() == []
        assert await server.drive(server.engine.seek("s", "earliest")) == 4
        assert await server.drive(server.engine.seek("s", "latest")) == 0
        assert await server.pull() == []
        await server.publish("t", b"4")
        assert values(await server.pull()) == [b"4"]
        with pytest.raises(PositionOutOfRange):
            await server.drive(server.engine.seek("s", Position("t", 0, 9)))
        with pytest.raises(UnknownTopic):
            await server.drive(server.engine.seek("s", Position("t", 5, 0)))

    simulated(test)


def test_what_retention_deletes_is_done_and_counted() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1", b"2", b"3")
        (first,) = await server.pull(count=1)
        await server.drive(server.engine.delete_records("t", 0, 3))
        assert values(await server.pull()) == [b"3"]
        assert await server.drive(server.engine.settle("s", [Ack(first.token)])) == ["stale"]
        info = await server.drive(server.engine.subscription("s"))
        assert (info.trimmed, info.depth.outstanding) == (3, 1)

    simulated(test)


def test_a_topic_that_is_deleted_and_created_again_is_another() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1")
        old = await server.pull(count=1)
        await server.drive(server.engine.delete_topic("t"))
        assert await server.pull() == []
        await server.drive(server.engine.create_topic("t", partitions=1))
        await server.publish("t", b"new")
        assert values(await server.pull(wait_ms=1_000)) == [b"new"]
        assert await server.drive(server.engine.settle("s", [Ack(old[0].token)])) == ["invalid"]

    simulated(test, from_latest=True)


def test_settings_are_checked_and_can_be_changed() -> None:
    async def test(server: SimulatedServer) -> None:
        engine = server.engine

        async def refused(error: type[Exception], match: str, **settings: Any) -> None:
            chosen = SubscriptionSettings(**{"topics": ("t",)} | settings)
            with pytest.raises(error, match=match):
                await server.drive(engine.create_subscription("n", chosen))

        await refused(UnknownTopic, "no such topic", topics=("missing",))
        await refused(UnknownTopic, "no such topic", dead_letter_topic="missing")
        await refused(InvalidArgument, "at least one topic", topics=())
        await refused(InvalidArgument, "names each topic once", topics=("t", "t"))
        await refused(InvalidArgument, "cannot be a topic of the subscription", dead_letter_topic="t")
        await refused(InvalidArgument, "no query", filter="(")
        await refused(InvalidArgument, "lock_ms", lock_ms=0)
        await refused(InvalidArgument, "backoff_factor", backoff_factor=0.5)
        with pytest.raises(InvalidArgument, match="name"):
            await server.drive(engine.create_subscription("a/b", SubscriptionSettings(topics=("t",))))
        with pytest.raises(SubscriptionNameTaken):
            await server.drive(engine.create_subscription("s", SubscriptionSettings(topics=("t",))))
        assert await server.drive(engine.subscriptions()) == ["s"]
        with pytest.raises(InvalidArgument, match="filter"):
            await server.drive(
                engine.alter_subscription("s", SubscriptionSettings(topics=("t",), filter="a"))
            )
        changed = SubscriptionSettings(topics=("t", "dead"), lock_ms=77_000)
        await server.publish("dead", b"before")
        await server.drive(engine.alter_subscription("s", changed))
        await server.publish("dead", b"after")
        (delivery, _) = await server.pull()
        assert delivery.event.value == b"before"
        assert 76_900 <= delivery.deadline_ms - server.clock.wall_ms() <= 77_000
        assert (await server.drive(engine.subscription("s"))).settings == changed
        await server.drive(engine.delete_subscription("s"))
        for call in (
            engine.pull("s", "c"), engine.settle("s", []), engine.subscription("s"), engine.browse("s"),
            engine.seek("s", "latest"), engine.purge("s"), engine.redrive("s", []),
            engine.delete_subscription("s"), engine.alter_subscription("s", changed),
        ):  # fmt: skip
            with pytest.raises(NoSuchSubscription, match="no such subscription"):
                await server.drive(call)

    simulated(test)


def test_a_pull_that_waits_ends_when_the_engine_is_closed_and_answers_are_still_taken() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        (delivery,) = await server.pull()
        waiting = asyncio.ensure_future(server.engine.pull("s", "c", wait_ms=60_000))
        await server.pass_time(0.1)
        await server.engine.close()
        assert await server.drive(waiting) == []
        await server.publish("t", b"1")
        assert await server.pull(wait_ms=1_000) == []
        await server.ack(delivery)

    simulated(test)


def test_a_pull_that_waits_ends_when_the_subscription_is_deleted() -> None:
    async def test(server: SimulatedServer) -> None:
        waiting = asyncio.ensure_future(server.engine.pull("s", "c", wait_ms=60_000))
        await server.pass_time(0.1)
        await server.drive(server.engine.delete_subscription("s"))
        with pytest.raises(NoSuchSubscription):
            await server.drive(waiting)

    simulated(test)


# ----------------------------------------------------------------------------------------------------------
# on the real disk


def test_10_000_events_through_3_consumers(tmp_path: Path) -> None:
    async def test() -> None:
        async with embedded(tmp_path) as engine:
            assert isinstance(engine, EmbeddedEngine)
            assert isinstance(engine, Queues)
            await engine.create_topic("t", partitions=4)
            await engine.create_subscription("s", SubscriptionSettings(topics=("t",)))
            received: list[Delivery] = []

            async def work(consumer: str) -> None:
                while deliveries := await engine.pull("s", consumer, max_events=50, wait_ms=2_000):
                    verdicts = await engine.settle("s", [Ack(delivery.token) for delivery in deliveries])
                    assert set(verdicts) == {"done"}
                    received.extend(deliveries)
                    if len(received) == 10_000:
                        await engine.delete_subscription("s")

            async def publish() -> None:
                for start in range(0, 10_000, 1_000):
                    events = [
                        NewEvent(b"%d" % number, b"%d" % number) for number in range(start, start + 1_000)
                    ]
                    await engine.publish("t", events)

            consumers = [work(f"c{number}") for number in range(3)]
            results = await asyncio.gather(publish(), *consumers, return_exceptions=True)
            assert all(result is None or isinstance(result, NoSuchSubscription) for result in results)
            assert sorted(int(delivery.event.value or b"") for delivery in received) == list(range(10_000))
            assert {delivery.attempt for delivery in received} == {1}

    asyncio.run(test())


def test_a_topic_that_was_deleted_keeps_no_setting_from_being_changed() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.drive(server.engine.delete_topic("dead"))
        old = (await server.drive(server.engine.subscription("s"))).settings
        await server.drive(server.engine.alter_subscription("s", replace(old, lock_ms=5_000)))
        assert (await server.drive(server.engine.subscription("s"))).settings.lock_ms == 5_000
        with pytest.raises(UnknownTopic):
            await server.drive(
                server.engine.alter_subscription("s", replace(old, dead_letter_topic="another"))
            )

    simulated(test, dead_letter_topic="dead")
