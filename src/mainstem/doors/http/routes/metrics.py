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

from mainstem.doors.http.endpoint import Call, Context, Endpoint, Sample, Streamed

TOPICS_MAX = 1_000
"""Topics with a label of their own: those with the most events written."""
POSITIONS_MAX = 5_000
"""(group, topic, partition) with labels of their own: the groups first by name."""
OTHER = "(other)"
MEDIA = "text/plain; version=0.0.4; charset=utf-8"
SLICE_LINES = 500
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


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
    "mainstem_topic_bytes": Name("gauge", ("topic",), "Bytes of the topic's segments."),
    "kafka_server_replicamanager_partitioncount": Name("gauge", (), "Partitions of all topics."),
    "kafka_controller_kafkacontroller_globaltopiccount": Name("gauge", (), "Topics."),
    "kafka_server_socket_server_metrics_connection_count": Name(
        "gauge", (), "Connections of the Kafka door."
    ),
    "mainstem_kafka_refusals_total": Name(
        "counter",
        ("kind",),
        "Kafka clients that were refused, held up or closed, by the kind of the log line.",
    ),
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
    "mainstem_log_read_only": Name("gauge", (), "1: nothing can be written; only a new start helps."),
    "mainstem_partitions_read_only": Name(
        "gauge", (), "Partitions that are fenced: damaged, or their disk failed."
    ),
    "mainstem_uncommitted_bytes": Name("gauge", (), "Bytes appended that the disk has not confirmed yet."),
    "mainstem_reserve_bytes": Name("gauge", (), "Bytes of the disk that are kept free of events."),
    "mainstem_reserve_full": Name("gauge", (), "1: topics take no events, for want of room."),
    "mainstem_recovery_clean": Name("gauge", (), "1: the stop before the last start was a clean one."),
    "mainstem_recovery_replayed_bytes": Name("gauge", (), "Bytes that the last start took from the journal."),
    "mainstem_recovery_quarantined_bytes": Name(
        "gauge", (), "Bytes of torn ends that the last start cut off and kept in *.quarantine files."
    ),
    "mainstem_recovery_quarantined_partitions": Name(
        "gauge", (), "Partitions that the last start put aside: no topic has their id."
    ),
    "mainstem_searches_running": Name("gauge", (), "Searches that run now."),
    "mainstem_searches_total": Name("counter", (), "Searches since the start."),
    "mainstem_search_scanned_bytes_total": Name("counter", (), "Bytes of the log that searches have read."),
    "mainstem_search_skipped_bytes_total": Name(
        "counter", (), "Bytes that searches had not to read: filters, index or times ruled them out."
    ),
    "mainstem_search_filters_made_total": Name("counter", (), "Token filters made since the start."),
    "mainstem_search_workers": Name("gauge", (), "Worker processes of search that live now."),
    "process_start_time_seconds": Name("gauge", (), "When the server began, seconds since 1970."),
}


def topic_samples(context: Context) -> Iterator[Sample]:
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


@runtime_checkable
class TellsFigures(Protocol):
    """An engine, or a search, that knows more than its contract asks for."""

    def figures(self) -> Mapping[str, float]:
        """Values of metrics without labels, by their names."""


def search_samples(context: Context) -> Iterator[Sample]:
    """Of searches."""
    searched = context.searched
    yield "mainstem_searches_running", (), searched.running
    yield "mainstem_searches_total", (), searched.total
    yield "mainstem_search_scanned_bytes_total", (), searched.scanned_bytes
    yield "mainstem_search_skipped_bytes_total", (), searched.skipped_bytes


async def _text(context: Context, samples: Iterable[Sample]) -> AsyncIterator[bytes]:
    """Prometheus's text format 0.0.4, in slices: 20,000 lines take a tenth of a second."""
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample[0], []).append(sample)
    for name, found in by_name.items():
        known = METRICS[name]
        yield f"# HELP {name} {known.text}\n# TYPE {name} {known.kind}\n".encode()
        for at in range(0, len(found), SLICE_LINES):
            yield "".join(_line(known, each) for each in found[at : at + SLICE_LINES]).encode()
            await context.turn()


def _line(known: Name, sample: Sample) -> str:
    name, values, number = sample
    labels = ",".join(
        f'{label}="{value.translate(_ESCAPED)}"' for label, value in zip(known.labels, values, strict=True)
    )
    return f"{name}{{{labels}}} {float(number)!r}\n" if labels else f"{name} {float(number)!r}\n"


async def metrics(call: Call) -> Response:
    """Show the metrics, in Prometheus's text format."""
    context = call.context
    problems = len((await call.engine.health()).problems)
    samples: list[Sample] = []
    for some in (topic_samples(context), group_samples(context), server_samples(context, problems)):
        samples += some
        await context.turn()  # with 10,000 topics each takes some milliseconds
    samples += [*search_samples(context), *context.kafka()]
    for told in (call.engine, context.search()):
        if isinstance(told, TellsFigures):
            samples += [(name, (), value) for name, value in told.figures().items()]
    return Streamed(_text(context, samples), MEDIA)


ENDPOINTS = (Endpoint(method="GET", path="/metrics", handle=metrics, tag="health", media="text/plain"),)
