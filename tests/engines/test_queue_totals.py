"""The figures of all subscriptions, as statistics read them: what they are, and what reading them costs."""

from __future__ import annotations

from typing import get_args

import pytest

from mainstem import turns
from mainstem.clock import Clock
from mainstem.contract import NewEvent
from mainstem.coordinator.queues.types import GiveUpReason
from mainstem.engines.embedded.queues import totals as totals_module
from mainstem.queue_contract import (
    DEAD_LETTER_REASONS,
    Nack,
    Outcome,
    Reject,
    SubscriptionSettings,
    SubscriptionTotals,
)
from tests.engines.queue_server import SimulatedServer, depth, simulated


async def totals_of(server: SimulatedServer, name: str = "s") -> SubscriptionTotals:
    (totals,) = await server.drive(server.engine.subscription_totals([name]))
    return totals


def test_the_reasons_of_the_contract_are_those_of_the_coordinator() -> None:
    assert tuple(reason.name.lower() for reason in GiveUpReason) == DEAD_LETTER_REASONS
    assert get_args(SubscriptionTotals) == ()


def test_what_consumers_did_is_counted_by_what_they_said() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", *[b"%d" % number for number in range(8)])
        deliveries = await server.pull(count=6)
        tokens = [delivery.token for delivery in deliveries]
        await server.ack(deliveries[0])
        outcomes: list[Outcome] = [
            Nack(tokens[1], 60_000), Nack(tokens[2], counts=False), Reject(tokens[3], "no such airport"),
        ]  # fmt: skip
        assert await server.drive(server.engine.settle("s", outcomes)) == ["done"] * 3
        await server.pass_time(6)
        totals = await totals_of(server)
        assert (totals.delivered, totals.acked, totals.nacked, totals.rejected) == (6, 1, 2, 1)
        assert (totals.expired, totals.consumers, totals.wakes) == (2, 0, 0)
        assert (totals.dead_lettered, totals.dropped) == ({"rejected": 1}, {})
        assert (totals.depth.ready, totals.depth.waiting, totals.depth.outstanding) == (5, 1, 6)
        info = await server.drive(server.engine.subscription("s"))
        assert (info.nacked, info.rejected, info.expired, info.failed) == (2, 1, 2, 4)
        assert (info.depth, info.oldest_ms) == (totals.depth, totals.oldest_ms)

    simulated(test, dead_letter_topic="dead", lock_ms=5_000)


def test_how_late_a_wake_is_is_measured() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        (delivery,) = await server.pull()
        await server.drive(server.engine.settle("s", [Nack(delivery.token, 1_000)]))
        server.clock.wall += 1_750  # as if the machine had been suspended
        await server.pass_time(2)
        totals = await totals_of(server)
        assert totals.wakes == 1
        assert 1_750 <= totals.late_ms <= 1_850

    simulated(test)


def test_reading_the_figures_changes_nothing_and_sees_what_retention_deleted() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", *[b"%d" % number for number in range(10)])
        assert (await totals_of(server)).depth.ready == 10
        deliveries = await server.pull(count=4)
        await server.ack(*deliveries[1:3])
        (view,) = server.node.subscriptions.views.all()
        view.sequence.freeze()
        assert (await totals_of(server)).consumers == 1
        assert await totals_of(server) is await totals_of(server), "nothing new for the garbage collector"
        assert not view.sequence.table.open_pages
        await server.drive(server.engine.delete_records("t", 0, 2))
        totals = await totals_of(server)
        assert (totals.depth.leased, totals.depth.ready) == (1, 6)
        assert (await depth(server)).outstanding == totals.depth.outstanding == 7
        assert (await totals_of(server)).trimmed == 1

    simulated(test)


@pytest.mark.parametrize("power", [False, True])
def test_after_a_start_what_is_done_is_not_counted_before_a_call_has_met_it(power: bool) -> None:
    """The state log says what is done, and the scan begins anew."""

    async def test(server: SimulatedServer) -> None:
        await server.publish("t", *[b"%d" % number for number in range(20)])
        deliveries = await server.pull(count=12)
        await server.ack(*deliveries[:3], *deliveries[4:])
        await server.drive(server.engine.settle("s", [Nack(deliveries[3].token, 60_000)]))
        before = await totals_of(server)
        assert (before.depth.ready, before.depth.waiting) == (8, 1)
        await server.crash(power=power)
        after = await totals_of(server)
        assert (after.depth, after.oldest_ms) == (before.depth, before.oldest_ms)
        await server.ack(*await server.pull())
        assert await server.drive(server.engine.cancel("s", None)) == 1
        await server.crash(power=power)
        after = await totals_of(server)
        assert (after.depth.outstanding, after.oldest_ms) == (0, None)

    simulated(test)


def test_a_partition_that_no_call_has_met_counts() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.drive(server.engine.add_partitions("t", 2))
        new = [NewEvent(b"x", partition=1)] * 3
        await server.drive(server.engine.publish("t", new))
        assert (await totals_of(server)).depth.ready == 3
        assert await server.drive(server.engine.subscription_totals(["none"])) == []
        await server.drive(server.engine.delete_topic("t"))
        assert (await totals_of(server)).depth.outstanding == 0

    simulated(test)


def test_a_read_of_very_many_subscriptions_is_divided_among_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: SimulatedServer) -> None:
        monkeypatch.setattr(totals_module, "STEPS_OF_TURN", 20)
        for number in range(50):
            settings = SubscriptionSettings(topics=("t",))
            await server.drive(server.engine.create_subscription(f"s{number}", settings))
        in_turn, most = 0, 0
        add = totals_module._SummedPartitions.add

        def counted(figures: totals_module._SummedPartitions, *place: object) -> None:
            nonlocal in_turn, most
            in_turn += 1
            most = max(most, in_turn)
            add(figures, *place)  # type: ignore[arg-type]

        monkeypatch.setattr(totals_module._SummedPartitions, "add", counted)

        async def next_turn(clock: Clock) -> None:
            nonlocal in_turn
            in_turn = 0
            await turns.next_turn(clock)

        monkeypatch.setattr(totals_module, "next_turn", next_turn)
        read = await server.drive(server.engine.subscription_totals())
        assert [totals.name for totals in read] == sorted(["s", *(f"s{number}" for number in range(50))])
        assert most == 10  # 20 steps, half of them topics

    simulated(test)
