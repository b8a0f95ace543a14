"""`/metrics` for Prometheus, in Kafka's words where Kafka has one.

Owns: names, texts and labels, each declared once in METRICS; docs/HTTP.md lists them, docs/grafana.json draws
them, tests compare. Refuses: labels without bound: what is over the limits is summed up as `(other)`. Reads
what the sampler has seen; a scrape asks the engine for its health only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from starlette.responses import Response

from mainstem.doors.http.endpoint import Call, Context, Endpoint

if TYPE_CHECKING:
    from prometheus_client.core import Metric

TOPICS_MAX = 1_000
"""Topics with a label of their own: those with the most events written."""
POSITIONS_MAX = 5_000
"""(group, topic, partition) with labels of their own: the groups first by name."""
OTHER = "(other)"
MEDIA = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Name:
    """A metric: its type, its labels and its text."""

    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    text: str


METRICS: dict[str, Name] = {
    "kafka_server_brokertopicmetrics_messagesin_total": Name(
        "counter", ("topic",), "Events written to the topic, as the ends of its partitions tell."
    ),
    "kafka_topic_partitions": Name("gauge", ("topic",), "Partitions of the topic."),
    "mainstem_topic_events": Name("gauge", ("topic",), "Offsets that the topic holds."),
    "kafka_server_replicamanager_partitioncount": Name("gauge", (), "Partitions of all topics."),
    "kafka_controller_kafkacontroller_globaltopiccount": Name("gauge", (), "Topics."),
    "kafka_consumergroup_current_offset": Name(
        "gauge", ("consumergroup", "topic", "partition"), "Committed position."
    ),
    "kafka_consumergroup_lag": Name("gauge", ("consumergroup", "topic", "partition"), "Events not read."),
    "kafka_consumergroup_lag_seconds": Name(
        "gauge", ("consumergroup", "topic", "partition"), "How long the next unread event has waited."
    ),
    "kafka_consumergroup_members": Name("gauge", ("consumergroup",), "Members."),
    "kafka_log_log_size": Name("gauge", (), "Bytes of the log's files, all topics together."),
    "mainstem_disk_free_bytes": Name("gauge", (), "Bytes free on the log's file system."),
    "mainstem_disk_total_bytes": Name("gauge", (), "Bytes of the log's file system."),
    "mainstem_ready": Name("gauge", (), "1: it takes and gives events (as /readyz); 0: not."),
    "mainstem_problems": Name("gauge", (), "Partitions and logs that are read-only after an error."),
    "process_start_time_seconds": Name("gauge", (), "When the server began, seconds since 1970."),
}

Sample = tuple[str, tuple[str, ...], float]


def topic_samples(context: Context) -> Iterator[Sample]:
    """Of topics, the largest first; the rest is summed up."""
    sampler = context.sampler
    topics = sorted(sampler.topics, key=lambda each: (-each.written, each.name))
    for each in topics[:TOPICS_MAX]:
        yield "kafka_server_brokertopicmetrics_messagesin_total", (each.name,), each.written
        yield "kafka_topic_partitions", (each.name,), each.partitions
        yield "mainstem_topic_events", (each.name,), each.events
    rest = topics[TOPICS_MAX:]
    if rest:
        yield "kafka_server_brokertopicmetrics_messagesin_total", (OTHER,), sum(each.written for each in rest)
        yield "kafka_topic_partitions", (OTHER,), sum(each.partitions for each in rest)
        yield "mainstem_topic_events", (OTHER,), sum(each.events for each in rest)
    yield "kafka_server_replicamanager_partitioncount", (), sum(each.partitions for each in topics)
    yield "kafka_controller_kafkacontroller_globaltopiccount", (), len(topics)


def group_samples(context: Context) -> Iterator[Sample]:
    """Of groups, by name, as many positions as there may be."""
    left = POSITIONS_MAX
    for name, seen in context.sampler.groups.items():
        yield "kafka_consumergroup_members", (name,), len(seen.info.members)
        for each in seen.info.positions[:left]:
            labels = (name, each.topic, str(each.partition))
            if each.offset is not None:
                yield "kafka_consumergroup_current_offset", labels, each.offset
            if each.lag is not None:
                yield "kafka_consumergroup_lag", labels, each.lag
            if each.lag_ms is not None:
                yield "kafka_consumergroup_lag_seconds", labels, each.lag_ms / 1000
        left = max(0, left - len(seen.info.positions))


def server_samples(context: Context, problems: int) -> Iterator[Sample]:
    """Of the server."""
    if context.disk_use is not None:
        use = context.disk_use()
        yield "kafka_log_log_size", (), use.used_bytes
        yield "mainstem_disk_free_bytes", (), use.free_bytes
        yield "mainstem_disk_total_bytes", (), use.total_bytes
    yield "mainstem_ready", (), 0 if problems else 1
    yield "mainstem_problems", (), problems
    yield "process_start_time_seconds", (), context.sampler.started_ms / 1000


class _Collector:
    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = samples

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for name, labels, value in self._samples:
            if name not in families:
                known = METRICS[name]
                family = CounterMetricFamily if known.kind == "counter" else GaugeMetricFamily
                families[name] = family(name, known.text, labels=known.labels)
            families[name].add_metric(labels, value)
        return families.values()


async def metrics(call: Call) -> Response:
    """Show the metrics, in Prometheus's text format."""
    from prometheus_client import CollectorRegistry, generate_latest

    context = call.context
    problems = len((await call.engine.health()).problems)
    samples = [*topic_samples(context), *group_samples(context), *server_samples(context, problems)]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(samples))
    return Response(generate_latest(registry), media_type=MEDIA)


ENDPOINTS = (Endpoint(method="GET", path="/metrics", handle=metrics, tag="health", media="text/plain"),)
