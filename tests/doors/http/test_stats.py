"""Rates, history, health and metrics."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from mainstem.contract import (
    Engine,
    GroupInfo,
    GroupPosition,
    GroupSummary,
    NotReachable,
    Position,
    TopicSummary,
    UnknownGroup,
)
from mainstem.doors.http.minute_series import STEPS, MinuteSeries
from mainstem.doors.http.routes import metrics
from mainstem.doors.http.routes.metrics import METRICS, OTHER
from mainstem.doors.http.sampler import Sampler
from tests.doors.http.door_kit import RunningHttpDoor, full_disk, problem, running_door
from tests.support.clock import SimClock


class FakeStatsEngine:
    """An engine whose topics and groups are set by a test."""

    def __init__(self) -> None:
        self.written: dict[str, int] = {}
        self.positions: dict[str, list[tuple[str, int, int]]] = {}
        self.failing = False

    async def topics(self, *, internal: bool = False) -> list[TopicSummary]:
        if self.failing:
            raise NotReachable("gone")
        return [TopicSummary(name, 1, count, False, count) for name, count in self.written.items()]

    async def groups(self) -> list[GroupSummary]:
        return [GroupSummary(name, "Empty") for name in [*self.positions, "just-deleted"]]

    async def group(self, name: str) -> GroupInfo:
        if name not in self.positions:
            raise UnknownGroup(name)
        positions = [
            GroupPosition(topic, 0, offset, end, end - offset, 1000 * (end - offset))
            for topic, offset, end in self.positions[name]
        ]
        return GroupInfo(name, "Empty", "", (), tuple(positions))


class SamplerRig:
    """A sampler with a simulated clock."""

    def __init__(self) -> None:
        self.engine = FakeStatsEngine()
        self.clock = SimClock()
        self.sampler = Sampler(cast(Engine, self.engine), self.clock)

    def sample_topics_after(self, seconds: float, **written: int) -> None:
        self.clock.advance(seconds)
        self.engine.written |= written
        asyncio.run(self.sampler.sample_topics())

    def sample_groups_after(self, seconds: float, **positions: Sequence[tuple[str, int, int]]) -> None:
        self.clock.advance(seconds)
        self.engine.positions |= {name: list(group_positions) for name, group_positions in positions.items()}
        asyncio.run(self.sampler.sample_groups())


@pytest.mark.parametrize("cpu_s", [0.0, 0.02, 0.3, 60.0])
def test_the_pause_after_a_sample_counts_its_cpu_time_and_is_bounded(cpu_s: float) -> None:
    """However long the sample took on the clock because others had the CPU."""
    rig, pauses_s, closing = SamplerRig(), [], asyncio.Event()
    rig.engine.written["a"] = 1
    rig.engine.positions["g"] = [("a", 0, 1)]
    list_topics = rig.engine.topics

    async def topics(*, internal: bool = False) -> list[TopicSummary]:
        rig.clock.advance(7)
        rig.clock.cpu_s += cpu_s
        return await list_topics(internal=internal)

    rig.engine.topics = topics  # type: ignore[method-assign]
    ages_ms: list[tuple[int | None, int | None]] = []

    async def pause(seconds: float) -> None:
        pauses_s.append(seconds)
        rig.clock.advance(seconds)
        ages_ms.append((rig.sampler.topics_age_ms(), rig.sampler.groups_age_ms()))
        if len(pauses_s) == 10:
            closing.set()

    assert (rig.sampler.topics_age_ms(), rig.sampler.groups_age_ms()) == (None, None)
    asyncio.run(rig.sampler.run(pause, closing))
    assert pauses_s == [pytest.approx(min(10.0, max(1.0, cpu_s * 100)))] * 10
    assert {topics_age for topics_age, _ in ages_ms} == {round(pauses_s[0] * 1000)}
    assert max(groups_age or 0 for _, groups_age in ages_ms) <= 1000 * (30 + 7 + 10)


def test_the_age_of_the_figures_is_shown(door: RunningHttpDoor) -> None:
    stats = door.get("stats")
    assert stats["age_ms"] is None or 0 <= stats["age_ms"] < 30_000


def test_statistics_that_cannot_be_updated_say_how_old_they_are() -> None:
    rig = SamplerRig()
    rig.sample_topics_after(1, a=1)
    rig.sample_groups_after(1, g=[("a", 0, 1)])
    rig.engine.failing = True
    with pytest.raises(NotReachable):
        rig.sample_topics_after(60)
    assert (rig.sampler.topics_age_ms(), rig.sampler.groups_age_ms()) == (61_000, 60_000)


def test_a_rate_rises_and_falls() -> None:
    rig = SamplerRig()
    rig.sample_topics_after(1, a=1_000_000)
    assert rig.sampler.total_inbound.per_s == 0  # events of the first sample are old
    for second in range(1, 31):
        rig.sample_topics_after(1, a=1_000_000 + second * 100, b=second * 10)
    assert rig.sampler.inbound["a"].per_s == pytest.approx(100, rel=0.01)
    assert rig.sampler.inbound["b"].per_s == pytest.approx(10, rel=0.01)
    assert rig.sampler.total_inbound.per_s == pytest.approx(110, rel=0.01)
    for _ in range(100):
        rig.sample_topics_after(1)
    assert rig.sampler.total_inbound.per_s == 0


def test_a_topic_that_is_deleted_and_created_again_has_no_negative_rate() -> None:
    rig = SamplerRig()
    rig.sample_topics_after(1, a=1000)
    rig.sample_topics_after(1, a=10)
    assert rig.sampler.inbound["a"].per_s == 0
    del rig.engine.written["a"]
    rig.sample_topics_after(1)
    assert "a" not in rig.sampler.inbound


def test_the_history_has_whole_minutes_for_a_day_and_no_more() -> None:
    rig = SamplerRig()
    rig.sample_topics_after(0, a=0)
    for minute in range(1, STEPS + 11):
        rig.sample_topics_after(60, a=minute * 600)
    first, count = rig.sampler.history_window()
    assert count == STEPS
    history = rig.sampler.inbound["a"].history
    assert history is not None
    assert set(history.values(first, count)) == {10.0}
    assert len(history._values) <= STEPS


def test_reading_is_a_rate_and_a_reset_back_is_not() -> None:
    rig = SamplerRig()
    rig.sample_topics_after(1, a=1000)
    rig.sample_groups_after(10, g=[("a", 100, 1000)])
    for step in range(1, 8):
        rig.sample_groups_after(10, g=[("a", 100 + step * 50, 1000)])
    assert rig.sampler.outbound["a"].per_s == pytest.approx(5, rel=0.01)
    rig.sample_groups_after(10, g=[("a", 0, 1000)])
    assert rig.sampler.outbound["a"].per_s < 5
    assert rig.sampler.groups_total == 2
    assert list(rig.sampler.groups) == ["g"]


def test_the_lag_of_groups_has_a_history() -> None:
    rig = SamplerRig()
    rig.sample_topics_after(0, a=10)
    rig.sample_groups_after(0, g=[("a", 4, 10), ("b", 9, 10)])
    rig.sample_topics_after(60)
    first, count = rig.sampler.history_window()
    assert count == 1
    assert rig.sampler.groups["g"].lag.values(first, count) == [7.0]
    assert rig.sampler.groups["g"].lag_ms.values(first, count) == [6000.0]


def test_an_engine_error_does_not_stop_the_sampler(caplog: pytest.LogCaptureFixture) -> None:
    rig = SamplerRig()
    rig.engine.failing = True
    closing = asyncio.Event()
    turns = 0

    async def pause(seconds: float) -> None:
        nonlocal turns
        rig.clock.advance(seconds)
        turns += 1
        rig.engine.failing = turns < 3
        if turns == 6:
            closing.set()

    asyncio.run(rig.sampler.run(pause, closing))
    assert turns == 6
    assert rig.sampler.sampled_ms > 0
    assert caplog.text.count("statistics are not updated") == 1


@given(st.lists(st.tuples(st.integers(0, 4000), st.floats(0, 100)), max_size=60))
def test_a_series_returns_the_latest_value_of_each_minute(puts: list[tuple[int, float]]) -> None:
    series = MinuteSeries()
    expected: dict[int, float] = {}
    newest = 0
    for minute, value in sorted(puts):
        series.put(minute, value)
        expected[minute] = round(value, 3)
        newest = minute
    window = range(max(0, newest - STEPS + 1), newest + 1)
    assert series.values(window.start, len(window)) == [expected.get(minute) for minute in window]


# ----------------------------------------------------------------------------------------------------------


def scrape(door: RunningHttpDoor) -> dict[str, dict[tuple[str, ...], float]]:
    reply = door.http.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain; version=")
    return {
        sample.name: {
            tuple(sample_of_family.labels.values()): sample_of_family.value
            for sample_of_family in family.samples
            if sample_of_family.name == sample.name
        }
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def sample_now(door: RunningHttpDoor) -> None:
    async def sample(_: object) -> None:
        await door.door.context.sampler.sample_topics()
        await door.door.context.sampler.sample_groups()
        await door.door.context.sampler.queues.sample(door.engine)

    door.run(sample)


def test_metrics_are_those_declared(door: RunningHttpDoor) -> None:
    door.create_topic("metrics", 2)
    door.post("topics/metrics/events", [{"value": number} for number in range(7)])
    door.run(lambda engine: engine.set_positions("measured", [Position("metrics", 0, 0)]))
    sample_now(door)
    metrics_by_name = scrape(door)
    beside = {
        *("mainstem_door_connections", "mainstem_door_certificate_expiry_seconds"),
        "mainstem_logins_total",
    }
    shown = {name for name in METRICS if not name.startswith("mainstem_subscription_")}
    assert set(metrics_by_name) == shown - beside, "the rig reports no doors, and has no logins"
    assert metrics_by_name["kafka_server_brokertopicmetrics_messagesin_total"]["metrics",] == 7
    assert metrics_by_name["kafka_consumergroup_current_offset"]["measured", "metrics", "0"] == 0
    assert metrics_by_name["mainstem_topic_bytes"]["metrics",] > 0
    assert metrics_by_name["mainstem_recovery_quarantined_bytes"][()] == 0
    assert metrics_by_name["mainstem_ready"][()] == 1
    assert metrics_by_name["kafka_log_log_size"][()] == 1


def test_labels_are_bounded_and_the_rest_is_summed_up(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "TOPICS_MAX", 2)
    monkeypatch.setattr(metrics, "POSITIONS_MAX", 1)
    for number in range(4):
        door.create_topic(f"bounded-{number}")
        door.post(f"topics/bounded-{number}/events", [{"value": 1}] * (number + 1) * 20)
    door.run(
        lambda engine: engine.set_positions(
            "bounded", [Position(f"bounded-{number}", 0, 0) for number in (0, 1)]
        )
    )
    sample_now(door)
    metrics_by_name = scrape(door)
    written = metrics_by_name["kafka_server_brokertopicmetrics_messagesin_total"]
    assert {*written} == {("bounded-3",), ("bounded-2",), (OTHER,)}
    assert sum(written.values()) == sum(topic.written for topic in door.door.context.sampler.topics)
    assert len(metrics_by_name["kafka_consumergroup_lag"]) == 1


def test_searches_are_counted(door: RunningHttpDoor) -> None:
    topic = door.create_topic("searched")
    door.post(f"topics/{topic}/events", [{"value": {"id": number}} for number in range(20)])
    before = scrape(door)
    assert door.post("search", {"query": "id:7", "topics": [topic]}).status_code == 200
    after = scrape(door)
    assert after["mainstem_searches_total"][()] == before["mainstem_searches_total"][()] + 1
    read = "mainstem_search_scanned_bytes_total"
    assert after[read][()] > before[read][()]
    assert after["mainstem_searches_running"][()] == 0


def test_a_full_reserve_is_a_metric(door: RunningHttpDoor) -> None:
    with full_disk(door):
        metrics_by_name = scrape(door)
    assert (metrics_by_name["mainstem_reserve_full"][()], metrics_by_name["mainstem_ready"][()]) == (1, 0)


def test_hostile_names_are_quoted(door: RunningHttpDoor) -> None:
    door.create_topic("quoted")
    name = 'a"\n}{\\'
    door.run(lambda engine: engine.set_positions(name, [Position("quoted", 0, 0)]))
    sample_now(door)
    assert (name,) in scrape(door)["kafka_consumergroup_members"]


def test_stats_report_rates_and_history(door: RunningHttpDoor) -> None:
    door.create_topic("stats", 3)
    sample_now(door)
    before = door.get("stats")
    door.post("topics/stats/events", [{"value": number} for number in range(5)])
    door.run(lambda engine: engine.set_positions("stats-group", [Position("stats", 0, 0)]))
    sample_now(door)
    after = door.get("stats")
    assert after["events"] - before["events"] == 5
    assert after["rates"]["in_per_s"] > 0
    assert "stats" in [topic["topic"] for topic in after["busiest"]]
    assert after["disk"] == {"used_bytes": 1, "free_bytes": 2, "total_bytes": 3}
    assert after["history"]["step_s"] == 60
    assert sorted(door.get("stats/topics/stats")) == ["from_ms", "in_per_s", "out_per_s", "step_s"]
    assert sorted(door.get("stats/groups/stats-group")) == ["from_ms", "lag", "lag_ms", "step_s"]
    problem(door.http.get("/api/v1/stats/topics/none"), 404, "unknown-topic")
    problem(door.http.get("/api/v1/stats/groups/none"), 404, "unknown-group")
    (row,) = door.get("topics", q="stats")["topics"]
    assert row["in_per_s"] > 0


def test_liveness_and_readiness_of_a_healthy_server(door: RunningHttpDoor) -> None:
    assert door.http.get("/livez").json() == {"live": True}
    assert door.http.get("/readyz").json() == {
        "ready": True, "reasons": [], "notes": [], "damaged": [], "doors": {},
    }  # fmt: skip
    assert door.http.head("/livez").status_code == 200


def test_readiness_notes_what_the_last_start_quarantined(tmp_path: Path) -> None:
    with running_door(tmp_path / "data") as door:
        topic = door.create_topic("known")
        assert door.post(f"topics/{topic}/events", {"value": 1}).status_code == 200
    (folder,) = (tmp_path / "data" / "partitions").glob("[!0]*-0")
    shutil.copytree(folder, folder.with_name("ab" * 16 + "-0"))
    with running_door(tmp_path / "data") as door:
        ready = door.http.get("/readyz").json()
        assert (ready["ready"], ready["reasons"]) == (True, [])
        assert "moved 1 partition to quarantine/" in ready["notes"][0]


def test_readiness_and_metrics_have_the_offsets_that_are_lost(tmp_path: Path) -> None:
    with running_door(tmp_path / "data") as door:
        topic = door.create_topic("torn")
        for _ in range(3):
            assert door.post(f"topics/{topic}/events", {"value": 1}).status_code == 200
            known: Any = door.node.topics.get(topic)
            partition = door.node.partition(known, 0)
            door.loop.call_soon_threadsafe(partition.roll)
    (folder,) = (tmp_path / "data" / "partitions").glob("[!0]*-0")
    os.truncate(sorted(folder.glob("*.log"))[1], 0)
    with running_door(tmp_path / "data") as door:
        ready = door.http.get("/readyz")
        assert ready.status_code == 200
        lost = [{"topic": topic, "partition": 0, "first": 1, "last": 1}]
        assert ready.json()["damaged"] == lost
        assert scrape(door)["mainstem_damaged_offsets"][()] == 1
        page = door.http.get(f"/api/v1/topics/{topic}/partitions/0/events?offset=0").json()
        assert ([event["offset"] for event in page["events"]], page["unreadable"]) == ([0, 2], [1])


def test_it_is_not_ready_when_a_partition_is_read_only(tmp_path: Path) -> None:
    with running_door(tmp_path / "data") as door:
        topic = door.create_topic("broken")
        known: Any = door.node.topics.get(topic)
        partition = door.node.partition(known, 0)
        partition.fence_reason = "the disk failed"
        reply = door.http.get("/readyz")
        assert reply.status_code == 503
        assert reply.json()["ready"] is False
        assert "the disk failed" in reply.json()["reasons"][0]
        assert door.http.get("/livez").status_code == 200
        assert scrape(door)["mainstem_ready"][()] == 0
        partition.fence_reason = None


def test_a_remote_cluster_has_no_disk_usage(tmp_path: Path) -> None:
    with running_door(tmp_path / "data", disk_usage=None) as door:
        assert door.get("stats")["disk"] is None
        assert door.get("cluster")["embedded"] is False
        assert "kafka_log_log_size" not in scrape(door)
