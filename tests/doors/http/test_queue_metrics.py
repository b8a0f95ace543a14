"""Metrics and history of subscriptions: what they show, their limits, and what a scrape costs a turn."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mainstem.doors.http import queue_metrics, queue_sampler
from mainstem.doors.http.endpoint import HttpContext
from mainstem.doors.http.metric_text import SLICE_LINES
from mainstem.doors.http.queue_metrics import QUEUE_METRICS, queue_samples, subscription_text
from mainstem.doors.http.queue_sampler import QueueSampler
from mainstem.queue_contract import Ack, Nack, QueueDepth, Queues, Reject, SubscriptionTotals
from tests.doors.http.door_kit import RunningHttpDoor, problem
from tests.doors.http.test_stats import sample_now, scrape
from tests.support.clock import SimClock


def totals(name: str, ready: int = 0, **fields: Any) -> SubscriptionTotals:
    depth = QueueDepth(ready, 0, 0, 0, 0, 0)
    return SubscriptionTotals(name=name, topics=("t",), depth=depth, oldest_ms=None, consumers=0, **fields)


@dataclass
class SampledQueues:
    """A sampler of an engine whose subscriptions a test sets."""

    clock: SimClock = field(default_factory=SimClock)
    turns: int = 0
    """Turns of the event loop that sampling and scrapes have waited for."""

    def __post_init__(self) -> None:
        self.sampler = QueueSampler(self.clock, self.yield_to_loop)

    async def yield_to_loop(self) -> None:
        self.turns += 1

    def sample(self, *present: SubscriptionTotals, after_s: float = 10) -> QueueSampler:
        async def read() -> list[SubscriptionTotals]:
            return list(present)

        self.clock.advance(after_s)
        queues = SimpleNamespace(subscription_totals=read)
        asyncio.run(self.sampler.sample(cast(Queues, queues)))
        return self.sampler

    @property
    def context(self) -> HttpContext:
        sampler = SimpleNamespace(queues=self.sampler)
        return cast(
            HttpContext,
            SimpleNamespace(sampler=sampler, clock=self.clock, yield_to_loop=self.yield_to_loop),
        )


def test_sums_of_counters_never_fall() -> None:
    queues = SampledQueues()
    assert queues.sample(totals("a", acked=5), totals("b", acked=7)).counters["acked"] == 12
    assert queues.sample(totals("a", acked=6, dropped={"failed": 2})).counters["acked"] == 13
    sampler = queues.sample(totals("a", acked=6, dropped={"failed": 3}), totals("b", acked=1))
    assert sampler.counters["acked"] == 14  # b was deleted and created again
    assert queues.sample(totals("a", acked=2)).counters["acked"] == 16  # and so was a
    assert sampler.by_reason["dropped"] == {"failed": 3}


def test_rates_are_those_since_the_last_sample() -> None:
    queues = SampledQueues()
    assert queues.sample(totals("a", delivered=100)).rates == {}
    assert queues.sample(totals("a", delivered=150, acked=20)).rates == {"a": (5.0, 2.0)}
    assert queues.sample(totals("a", delivered=150, acked=20)).rates == {}


def test_the_largest_are_those_with_most_outstanding_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_sampler, "LARGEST_MAX", 2)
    sampler = SampledQueues().sample(totals("a", 1), totals("b", 3), totals("c", 2))
    assert [row.name for row in sampler.largest] == ["b", "c"]
    assert (sampler.depth["ready"], len(sampler.totals)) == (6, 3)


def test_the_history_has_a_number_a_minute_and_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue_sampler, "HISTORIES_MAX", 2)
    queues = SampledQueues()
    queues.sample(totals("a", 1), totals("b", 2), after_s=60)
    queues.sample(totals("a", 5, acked=1), totals("b"), after_s=60)
    minute = queues.clock.wall_ms() // 60_000
    queues.sample(totals("a", 6, acked=61), totals("b"), after_s=60)
    sampler = queues.sample(totals("a", 6, acked=61), totals("b"), totals("c", 9), after_s=60)
    assert sorted(sampler.histories) == ["a", "c"], "the one without events made room"
    assert sampler.histories["a"].values("ready", minute, 3) == [6, 6, None]
    assert sampler.histories["a"].values("acked_per_s", minute, 2) == [1, 0]
    assert sampler.histories["a"].values("dying", minute, 2) == [0, 0]
    queues.sample(totals("c", 9), after_s=60)
    assert sorted(sampler.histories) == ["c"]


def test_sampling_and_a_scrape_of_very_many_subscriptions_are_divided_among_turns() -> None:
    queues = SampledQueues()
    count = 3_000
    sampler = queues.sample(*(totals(f"s{number}", 1) for number in range(count)))
    assert queues.turns >= count // queue_sampler.PART
    assert len(sampler.largest) == queue_sampler.LARGEST_MAX

    async def parts() -> list[bytes]:
        return [part async for part in subscription_text(queues.context, list(sampler.totals.values()))]

    before, made = queues.turns, asyncio.run(parts())
    assert max(part.count(b"\n") for part in made) <= SLICE_LINES + len(queue_sampler.STATES) + 2
    # A turn looks at no more subscriptions than lines, also where they have none.
    assert queues.turns - before >= count // SLICE_LINES * len(queue_metrics._TABLE)
    assert sum(part.count(b"} ") for part in made) == count * (len(queue_metrics._TABLE) - 2 + 5)


def test_every_metric_is_declared_and_has_totals_from_the_start() -> None:
    names = {name for name, _, _ in queue_samples(SampledQueues().context)}
    assert names == {name for name in QUEUE_METRICS if name.startswith("mainstem_queues_")}
    assert set(QUEUE_METRICS) - names == {
        f"mainstem_subscription_{metric.suffix}" for metric in queue_metrics._TABLE
    }


# ----------------------------------------------------------------------------------------------------------
# the door


def test_a_scrape_shows_what_became_of_events(door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_sampler, "LARGEST_MAX", 1)
    for topic in ("measured", "measured-dead"):
        door.create_topic(topic)
    for name, settings in (("billing", {"dead_letter_topic": "measured-dead"}), ("idle", {})):
        body = {"subscription": name, "topics": ["measured"], "settings": settings}
        assert door.post("subscriptions", body).status_code == 201
    assert door.post("topics/measured/events", [{"value": number} for number in range(6)]).status_code == 200

    async def work(engine: Any) -> None:
        deliveries = await engine.pull("billing", "w", max_events=4)
        tokens = [delivery.token for delivery in deliveries]
        await engine.settle("billing", [Ack(tokens[0]), Nack(tokens[1], 60_000), Reject(tokens[2], "no")])

    door.run(work)
    while door.get("subscriptions/billing")["depth"]["dying"]:
        pass
    sample_now(door)
    shown = scrape(door)
    assert shown["mainstem_queues_subscriptions"][()] == 2
    assert shown["mainstem_queues_events"]["ready",] == 2 + 6
    assert shown["mainstem_queues_dead_letters_total"]["rejected",] == 1
    assert shown["mainstem_queues_dead_letters_total"]["expired",] == 0
    assert {*shown["mainstem_subscription_acked_total"]} == {("idle",)}, "the largest"
    every = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(door.http.get("/metrics/per-object").text)
        for sample in family.samples
    }
    assert every["mainstem_subscription_acked_total", "billing"] == 1
    assert every["mainstem_subscription_dead_letters_total", "billing", "rejected"] == 1
    assert every["mainstem_subscription_events", "billing", "leased"] == 1
    assert every["mainstem_subscription_events", "billing", "waiting"] == 1
    assert every["mainstem_subscription_consumers", "billing"] == 1
    assert every["mainstem_subscription_oldest_seconds", "idle"] > 0
    (row,) = door.get("subscriptions", q="bill")["subscriptions"]
    assert (row["consumers"], row["dead_lettered"], row["depth"]["ready"]) == (1, 1, 2)
    assert door.get("subscriptions", topic="measured")["total"] == 2
    assert door.get("subscriptions", topic="measured-dead")["total"] == 0


def test_the_history_of_a_subscription_is_shown(door: RunningHttpDoor) -> None:
    door.create_topic("charted")
    assert door.post("subscriptions", {"subscription": "charted", "topics": ["charted"]}).status_code == 201
    history = door.get("stats/subscriptions/charted")
    assert history["step_s"] == 60
    assert history["ready"] == history["acked_per_s"] == [None] * len(history["ready"])
    assert door.http.delete("/api/v1/subscriptions/charted").status_code == 200
    problem(door.http.get("/api/v1/stats/subscriptions/charted"), 404, "unknown-subscription")
