"""`/metrics` for Prometheus, in Kafka's words where Kafka has one.

Owns: names, texts and labels, each declared once in METRICS; docs/HTTP.md lists them, docs/grafana.json draws
them, tests compare. Refuses: labels without bound: what is over the limits is summed up as `(other)`. Reads
what the sampler has seen; a scrape asks the engine for its health only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal, Protocol, runtime_checkable

from starlette.responses import Response

from mainstem.doors.http.endpoint import Call, Endpoint, HttpContext, MetricSample, StreamedResponse

TOPICS_MAX = 1_000
"""Topics with a label of their own: those with the most events written."""
POSITIONS_MAX = 5_000
"""(group, topic, partition) with labels of their own: the groups first by name."""
OTHER = "(other)"
MEDIA = "text/plain; version=0.0.4; charset=utf-8"
SLICE_LINES = 500
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """A metric: its type, its labels and its text."""

    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    text: str


METRICS: dict[str, MetricDefinition] = {
    "kafka_server_brokertopicmetrics_messagesin_total": MetricDefinition(
        "counter", ("topic",), "Events written to the topic, as the ends of its partitions tell."
    ),
    "kafka_topic_partitions": MetricDefinition("gauge", ("topic",), "Partitions of the topic."),
    "mainstem_topic_events": MetricDefinition("gauge", ("topic",), "Offsets that the topic holds."),
    "mainstem_topic_bytes": MetricDefinition("gauge", ("topic",), "Bytes of the topic's segments."),
    "kafka_server_replicamanager_partitioncount": MetricDefinition("gauge", (), "Partitions of all topics."),
    "kafka_controller_kafkacontroller_globaltopiccount": MetricDefinition("gauge", (), "Topics."),
    "kafka_server_socket_server_metrics_connection_count": MetricDefinition(
        "gauge", (), "Connections of the Kafka door."
    ),
    "mainstem_kafka_refusals_total": MetricDefinition(
        "counter",
        ("kind",),
        "Kafka clients that were refused, held up or closed, by the kind of the log line.",
    ),
    "kafka_consumergroup_current_offset": MetricDefinition(
        "gauge", ("consumergroup", "topic", "partition"), "Committed position."
    ),
    "kafka_consumergroup_lag": MetricDefinition(
        "gauge", ("consumergroup", "topic", "partition"), "Events not read."
    ),
    "kafka_consumergroup_lag_seconds": MetricDefinition(
        "gauge", ("consumergroup", "topic", "partition"), "How long the next unread event has waited."
    ),
    "kafka_consumergroup_members": MetricDefinition("gauge", ("consumergroup",), "Members."),
    "kafka_log_log_size": MetricDefinition("gauge", (), "Bytes of the log's files, all topics together."),
    "mainstem_disk_free_bytes": MetricDefinition("gauge", (), "Bytes free on the log's file system."),
    "mainstem_disk_total_bytes": MetricDefinition("gauge", (), "Bytes of the log's file system."),
    "mainstem_ready": MetricDefinition("gauge", (), "1: it takes and gives events (as /readyz); 0: not."),
    "mainstem_problems": MetricDefinition(
        "gauge", (), "Partitions and logs that are read-only after an error."
    ),
    "mainstem_log_read_only": MetricDefinition(
        "gauge", (), "1: nothing can be written; only a new start helps."
    ),
    "mainstem_partitions_read_only": MetricDefinition(
        "gauge", (), "Partitions that are fenced: damaged, or their disk failed."
    ),
    "mainstem_uncommitted_bytes": MetricDefinition(
        "gauge", (), "Bytes appended that the disk has not confirmed yet."
    ),
    "mainstem_reserve_bytes": MetricDefinition(
        "gauge", (), "Bytes of the disk that are kept free of events."
    ),
    "mainstem_reserve_full": MetricDefinition("gauge", (), "1: topics take no events, for want of room."),
    "mainstem_recovery_clean": MetricDefinition(
        "gauge", (), "1: the stop before the last start was a clean one."
    ),
    "mainstem_recovery_replayed_bytes": MetricDefinition(
        "gauge", (), "Bytes that the last start took from the journal."
    ),
    "mainstem_recovery_quarantined_bytes": MetricDefinition(
        "gauge", (), "Bytes of torn ends that the last start cut off and kept in *.quarantine files."
    ),
    "mainstem_recovery_quarantined_partitions": MetricDefinition(
        "gauge", (), "Partitions that the last start put aside: no topic has their id."
    ),
    "mainstem_searches_running": MetricDefinition("gauge", (), "Searches that run now."),
    "mainstem_searches_total": MetricDefinition("counter", (), "Searches since the start."),
    "mainstem_search_scanned_bytes_total": MetricDefinition(
        "counter", (), "Bytes of the log that searches have read."
    ),
    "mainstem_search_skipped_bytes_total": MetricDefinition(
        "counter", (), "Bytes that searches had not to read: filters, index or times ruled them out."
    ),
    "mainstem_search_filters_made_total": MetricDefinition(
        "counter", (), "Token filters made since the start."
    ),
    "mainstem_search_workers": MetricDefinition("gauge", (), "Worker processes of search that live now."),
    "process_start_time_seconds": MetricDefinition("gauge", (), "When the server began, seconds since 1970."),
}


def topic_samples(context: HttpContext) -> Iterator[MetricSample]:
    """Of topics, the largest first; the rest is summed up."""
    topics = list(context.sampler.topics)  # by name
    topics.sort(key=attrgetter("written"), reverse=True)  # stable
    for each in topics[:TOPICS_MAX]:
        yield "kafka_server_brokertopicmetrics_messagesin_total", (each.name,), each.written
        yield "kafka_topic_partitions", (each.name,), each.partitions
        yield "mainstem_topic_events", (each.name,), each.events
        if each.bytes is not None:
            yield "mainstem_topic_bytes", (each.name,), each.bytes
    rest = topics[TOPICS_MAX:]
    if rest:
        yield "kafka_server_brokertopicmetrics_messagesin_total", (OTHER,), sum(each.written for each in rest)
        yield "kafka_topic_partitions", (OTHER,), sum(each.partitions for each in rest)
        yield "mainstem_topic_events", (OTHER,), sum(each.events for each in rest)
        yield "mainstem_topic_bytes", (OTHER,), sum(each.bytes or 0 for each in rest)
    yield "kafka_server_replicamanager_partitioncount", (), sum(each.partitions for each in topics)
    yield "kafka_controller_kafkacontroller_globaltopiccount", (), len(topics)


def group_samples(context: HttpContext) -> Iterator[MetricSample]:
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


def server_samples(context: HttpContext, problems: int) -> Iterator[MetricSample]:
    """Of the server."""
    if context.disk_usage is not None:
        use = context.disk_usage()
        yield "kafka_log_log_size", (), use.used_bytes
        yield "mainstem_disk_free_bytes", (), use.free_bytes
        yield "mainstem_disk_total_bytes", (), use.total_bytes
    yield "mainstem_ready", (), 0 if problems else 1
    yield "mainstem_problems", (), problems
    yield "process_start_time_seconds", (), context.sampler.started_ms / 1000


@runtime_checkable
class ReportsMetrics(Protocol):
    """An engine, or a search, that knows more than its contract asks for."""

    def metric_values(self) -> Mapping[str, float]:
        """Values of metrics without labels, by their names."""


def search_samples(context: HttpContext) -> Iterator[MetricSample]:
    """Of searches."""
    searched = context.search_stats
    yield "mainstem_searches_running", (), searched.running
    yield "mainstem_searches_total", (), searched.total
    yield "mainstem_search_scanned_bytes_total", (), searched.scanned_bytes
    yield "mainstem_search_skipped_bytes_total", (), searched.skipped_bytes


async def _text(context: HttpContext, samples: Iterable[MetricSample]) -> AsyncIterator[bytes]:
    """Prometheus's text format 0.0.4, in slices: 20,000 lines take a tenth of a second."""
    by_name: dict[str, list[MetricSample]] = {}
    for sample in samples:
        by_name.setdefault(sample[0], []).append(sample)
    for name, found in by_name.items():
        known = METRICS[name]
        yield f"# HELP {name} {known.text}\n# TYPE {name} {known.kind}\n".encode()
        for at in range(0, len(found), SLICE_LINES):
            yield "".join(_line(known, each) for each in found[at : at + SLICE_LINES]).encode()
            await context.yield_to_loop()


def _line(known: MetricDefinition, sample: MetricSample) -> str:
    name, values, number = sample
    labels = ",".join(
        f'{label}="{value.translate(_ESCAPED)}"' for label, value in zip(known.labels, values, strict=True)
    )
    return f"{name}{{{labels}}} {float(number)!r}\n" if labels else f"{name} {float(number)!r}\n"


async def metrics(call: Call) -> Response:
    """Show the metrics, in Prometheus's text format."""
    context = call.context
    problems = len((await call.engine.health()).problems)
    samples: list[MetricSample] = []
    for some in (topic_samples(context), group_samples(context), server_samples(context, problems)):
        samples += some
        await context.yield_to_loop()  # with 10,000 topics each takes some milliseconds
    samples += [*search_samples(context), *context.kafka_metrics()]
    for told in (call.engine, context.search()):
        if isinstance(told, ReportsMetrics):
            samples += [(name, (), value) for name, value in told.metric_values().items()]
    return StreamedResponse(_text(context, samples), MEDIA)


ENDPOINTS = (Endpoint(method="GET", path="/metrics", handle=metrics, tag="health", media="text/plain"),)
