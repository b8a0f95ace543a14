"""`/metrics` for Prometheus, with Kafka's names where Kafka has such a metric.

Owns: names, help texts and labels, each declared once in METRICS. docs/HTTP.md lists them, docs/grafana.json
draws them, and tests compare. Refuses: an unbounded number of label values: what is above the limits is
summed up as `(other)`, or has no labels of its own, like subscriptions, which `queue_metrics` has. A scrape
reads what the sampler has collected and asks the engine only for its health.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter

from starlette.responses import Response

from mainstem.access_contract import ResourceType
from mainstem.contract import ReportsMetrics
from mainstem.doors.contract import DoorStatus, MetricDefinition, MetricSample
from mainstem.doors.http.endpoint import Call, Endpoint, HttpContext, StreamedResponse
from mainstem.doors.http.metric_text import MEDIA, SLICE_LINES, metric_head, sample_line
from mainstem.doors.http.queue_metrics import QUEUE_METRICS, queue_samples, subscription_text
from mainstem.doors.http.rights import of_metrics
from mainstem.doors.http.waiting_slots import WAITING_MAX
from mainstem.queue_contract import SubscriptionTotals

TOPICS_MAX = 1_000
"""Maximum number of topics with labels of their own: those to which most events were written."""
POSITIONS_MAX = 5_000
"""Maximum number of (group, topic, partition) with labels of their own: those of the first groups by name."""
OTHER = "(other)"


METRICS: dict[str, MetricDefinition] = {
    "kafka_server_brokertopicmetrics_messagesin_total": MetricDefinition(
        "counter", ("topic",), "Events written to the topic: the sum of the end offsets of its partitions."
    ),
    "kafka_topic_partitions": MetricDefinition("gauge", ("topic",), "Number of partitions of the topic."),
    "mainstem_topic_events": MetricDefinition(
        "gauge", ("topic",), "Events in the topic now: end offsets minus log starts."
    ),
    "mainstem_topic_bytes": MetricDefinition("gauge", ("topic",), "Bytes of the topic's segments."),
    "kafka_server_replicamanager_partitioncount": MetricDefinition(
        "gauge", (), "Number of partitions of all topics."
    ),
    "kafka_controller_kafkacontroller_globaltopiccount": MetricDefinition("gauge", (), "Number of topics."),
    "mainstem_door_connections": MetricDefinition("gauge", ("door",), "Open connections of the door."),
    "mainstem_door_certificate_expiry_seconds": MetricDefinition(
        "gauge", ("door",), "When the door's first certificate ends, seconds since 1970; with TLS only."
    ),
    "kafka_consumergroup_current_offset": MetricDefinition(
        "gauge", ("consumergroup", "topic", "partition"), "Committed offset of the group."
    ),
    "kafka_consumergroup_lag": MetricDefinition(
        "gauge", ("consumergroup", "topic", "partition"), "Events after the group's committed offset."
    ),
    "kafka_consumergroup_lag_seconds": MetricDefinition(
        "gauge",
        ("consumergroup", "topic", "partition"),
        "Seconds that the group's next unread event has waited.",
    ),
    "kafka_consumergroup_members": MetricDefinition("gauge", ("consumergroup",), "Members of the group."),
    "kafka_log_log_size": MetricDefinition("gauge", (), "Bytes of the log's files, all topics together."),
    "mainstem_disk_free_bytes": MetricDefinition("gauge", (), "Free bytes on the log's file system."),
    "mainstem_disk_total_bytes": MetricDefinition("gauge", (), "Size of the log's file system in bytes."),
    "mainstem_ready": MetricDefinition(
        "gauge", (), "1: events can be written and read, as /readyz reports; 0: not."
    ),
    "mainstem_problems": MetricDefinition("gauge", (), "Number of problems that /readyz reports."),
    "mainstem_log_read_only": MetricDefinition(
        "gauge", (), "1: the disk failed, and nothing can be written until it works again; 0: writing works."
    ),
    "mainstem_partitions_read_only": MetricDefinition(
        "gauge", (), "Partitions that are fenced because they are damaged or their disk failed."
    ),
    "mainstem_damaged_offsets": MetricDefinition(
        "gauge", (), "Offsets that are known to be lost; /readyz lists them."
    ),
    "mainstem_uncommitted_bytes": MetricDefinition(
        "gauge", (), "Bytes appended that the disk has not confirmed yet."
    ),
    "mainstem_reserve_bytes": MetricDefinition(
        "gauge", (), "Free disk space in bytes below which topics accept no events."
    ),
    "mainstem_reserve_full": MetricDefinition(
        "gauge", (), "1: topics accept no events, because the disk or the log is too full; 0: they do."
    ),
    "mainstem_recovery_clean": MetricDefinition(
        "gauge", (), "1: the server was stopped cleanly before its last start; 0: it was not."
    ),
    "mainstem_recovery_replayed_bytes": MetricDefinition(
        "gauge", (), "Bytes that the last start replayed from the journal."
    ),
    "mainstem_recovery_journal_damage": MetricDefinition(
        "gauge", (), "Places where the last start found the journal damaged."
    ),
    "mainstem_recovery_quarantined_bytes": MetricDefinition(
        "gauge",
        (),
        "Bytes of incomplete writes that the last start cut off and kept in *.quarantine files.",
    ),
    "mainstem_recovery_quarantined_partitions": MetricDefinition(
        "gauge", (), "Partitions that the last start moved to quarantine because no topic has their id."
    ),
    "mainstem_http_waiting_requests": MetricDefinition(
        "gauge", ("kind",), "Requests of the HTTP door that wait for events: pulls and tails."
    ),
    "mainstem_http_waiting_refused_total": MetricDefinition(
        "counter", (), "Requests that were refused because too many waited for events."
    ),
    "mainstem_quota_throttled_total": MetricDefinition(
        "counter",
        ("quota",),
        "Requests that the quota delayed or refused; connections that it closed.",
    ),
    "mainstem_quota_delay_seconds_total": MetricDefinition(
        "counter", ("quota",), "Seconds by which clients were delayed because of the quota."
    ),
    "mainstem_logins_total": MetricDefinition(
        "counter",
        ("door", "mechanism", "outcome"),
        "Attempts to log in, by outcome: success, failed, locked. With HTTP credentials each request is one.",
    ),
    "mainstem_login_lockouts_total": MetricDefinition(
        "counter",
        ("by",),
        "Times that failed logins have locked out a user, an address, or a user at an address.",
    ),
    "mainstem_searches_running": MetricDefinition("gauge", (), "Searches that are running now."),
    "mainstem_searches_total": MetricDefinition("counter", (), "Searches since the start."),
    "mainstem_search_scanned_bytes_total": MetricDefinition(
        "counter", (), "Bytes of the log that searches have read."
    ),
    "mainstem_search_skipped_bytes_total": MetricDefinition(
        "counter", (), "Bytes that searches did not read because filters, index or times ruled them out."
    ),
    "mainstem_search_filters_made_total": MetricDefinition(
        "counter", (), "Token filters built since the start."
    ),
    "mainstem_search_workers": MetricDefinition("gauge", (), "Worker processes of the search."),
    "process_start_time_seconds": MetricDefinition(
        "gauge", (), "When the server started, seconds since 1970."
    ),
    **QUEUE_METRICS,
}


def topic_samples(call: Call) -> Iterator[MetricSample]:
    """Samples of the TOPICS_MAX topics to which most events were written; the others are one sum. Topics that
    the requester may not describe are no part of it."""
    sampled = call.context.sampler.topics  # by name
    topics = [topic for topic in sampled if call.sees(ResourceType.TOPIC, topic.name)]
    topics.sort(key=attrgetter("written"), reverse=True)  # stable
    for topic in topics[:TOPICS_MAX]:
        yield "kafka_server_brokertopicmetrics_messagesin_total", (topic.name,), topic.written
        yield "kafka_topic_partitions", (topic.name,), topic.partitions
        yield "mainstem_topic_events", (topic.name,), topic.events
        if topic.bytes is not None:
            yield "mainstem_topic_bytes", (topic.name,), topic.bytes
    others = topics[TOPICS_MAX:]
    if others:
        written = sum(topic.written for topic in others)
        yield "kafka_server_brokertopicmetrics_messagesin_total", (OTHER,), written
        yield "kafka_topic_partitions", (OTHER,), sum(topic.partitions for topic in others)
        yield "mainstem_topic_events", (OTHER,), sum(topic.events for topic in others)
        yield "mainstem_topic_bytes", (OTHER,), sum(topic.bytes or 0 for topic in others)
    partitions = sum(topic.partitions for topic in topics)
    yield "kafka_server_replicamanager_partitioncount", (), partitions
    yield "kafka_controller_kafkacontroller_globaltopiccount", (), len(topics)


def group_samples(call: Call) -> Iterator[MetricSample]:
    """Samples of the groups, by name, with at most POSITIONS_MAX positions. What the requester may not
    describe is no part of it."""
    left = POSITIONS_MAX
    for name, sample in call.context.sampler.groups.items():
        if not call.sees(ResourceType.GROUP, name):
            continue
        yield "kafka_consumergroup_members", (name,), len(sample.info.members)
        for position in sample.info.positions[:left]:
            if not call.sees(ResourceType.TOPIC, position.topic):
                continue
            labels = (name, position.topic, str(position.partition))
            if position.offset is not None:
                yield "kafka_consumergroup_current_offset", labels, position.offset
            if position.lag is not None:
                yield "kafka_consumergroup_lag", labels, position.lag
            if position.lag_ms is not None:
                yield "kafka_consumergroup_lag_seconds", labels, position.lag_ms / 1000
        left = max(0, left - len(sample.info.positions))


def server_samples(context: HttpContext, problems: int) -> Iterator[MetricSample]:
    """Samples of the server; `problems` is the number of problems that its health reports."""
    if context.disk_usage is not None:
        usage = context.disk_usage()
        yield "kafka_log_log_size", (), usage.used_bytes
        yield "mainstem_disk_free_bytes", (), usage.free_bytes
        yield "mainstem_disk_total_bytes", (), usage.total_bytes
    yield "mainstem_ready", (), 0 if problems else 1
    yield "mainstem_problems", (), problems
    yield "process_start_time_seconds", (), context.sampler.started_ms / 1000


def search_samples(context: HttpContext) -> Iterator[MetricSample]:
    """Samples of the searches, and of client quotas."""
    stats = context.search_stats
    for key, use in context.quotas.use():
        yield "mainstem_quota_throttled_total", (str(key),), use.throttled
        yield "mainstem_quota_delay_seconds_total", (str(key),), use.delay_ms / 1000
    yield "mainstem_searches_running", (), stats.running
    yield "mainstem_searches_total", (), stats.total
    yield "mainstem_search_scanned_bytes_total", (), stats.scanned_bytes
    yield "mainstem_search_skipped_bytes_total", (), stats.skipped_bytes


def login_samples(context: HttpContext) -> Iterator[MetricSample]:
    """Samples of the attempts to log in, at all doors."""
    for labels, count in context.authentication.counts.values():
        yield "mainstem_logins_total", labels, count
    for kind, count in context.authentication.attempts.lockouts.items():
        yield "mainstem_login_lockouts_total", (kind,), count


def waiting_samples(context: HttpContext) -> Iterator[MetricSample]:
    """Samples of the requests that wait."""
    for kind in WAITING_MAX:
        yield "mainstem_http_waiting_requests", (kind,), context.waiting.running[kind]
    yield "mainstem_http_waiting_refused_total", (), context.waiting.refused


def door_samples(statuses: Sequence[DoorStatus]) -> Iterator[MetricSample]:
    """Samples of the doors that are on."""
    for status in statuses:
        if status.is_on:
            yield "mainstem_door_connections", (status.name,), status.connections
            if status.certificate_expires_at_s is not None:
                yield (
                    "mainstem_door_certificate_expiry_seconds",
                    (status.name,),
                    status.certificate_expires_at_s,
                )
            yield from status.samples


def definitions(statuses: Sequence[DoorStatus]) -> dict[str, MetricDefinition]:
    """All metrics: those of METRICS and those that doors declare."""
    return METRICS | {name: metric for status in statuses for name, metric in status.metrics.items()}


async def _text(
    context: HttpContext, known: Mapping[str, MetricDefinition], samples: Iterable[MetricSample]
) -> AsyncIterator[bytes]:
    """Prometheus's text format 0.0.4, in slices: 20,000 lines take a tenth of a second."""
    by_name: dict[str, list[MetricSample]] = {}
    for sample in samples:
        by_name.setdefault(sample[0], []).append(sample)
    for name, same_name in by_name.items():
        definition = known[name]
        yield metric_head(name, definition)
        for start in range(0, len(same_name), SLICE_LINES):
            lines = [sample_line(definition, sample) for sample in same_name[start : start + SLICE_LINES]]
            yield "".join(lines).encode()
            await context.yield_to_loop()


async def metrics(call: Call) -> Response:
    """Show the metrics, in Prometheus's text format."""
    context = call.context
    statuses = context.door_statuses()
    problems = len((await call.engine.health()).problems) + sum(len(status.problems) for status in statuses)
    samples: list[MetricSample] = []
    for group in (topic_samples(call), group_samples(call), server_samples(context, problems)):
        samples += group
        await context.yield_to_loop()  # with 10,000 topics each of them takes some milliseconds
    samples += [
        *search_samples(context),
        *login_samples(context),
        *waiting_samples(context),
        *door_samples(statuses),
        *queue_samples(context),
    ]
    for source in (call.engine, context.search()):
        if isinstance(source, ReportsMetrics):
            samples += [(name, (), value) for name, value in source.metric_values().items()]
    largest = _visible(call, context.sampler.queues.largest)

    async def text() -> AsyncIterator[bytes]:
        async for part in _text(context, definitions(statuses), samples):
            yield part
        async for part in subscription_text(context, largest):
            yield part

    return StreamedResponse(text(), MEDIA)


async def metrics_per_object(call: Call) -> Response:
    """Show the metrics of all subscriptions, in Prometheus's text format."""
    context = call.context
    subscriptions = _visible(call, context.sampler.queues.totals.values())
    return StreamedResponse(subscription_text(context, subscriptions), MEDIA)


def _visible(call: Call, subscriptions: Iterable[SubscriptionTotals]) -> list[SubscriptionTotals]:
    """Those that the requester may describe."""
    return [totals for totals in subscriptions if call.sees(ResourceType.SUBSCRIPTION, totals.name)]


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/metrics",
        handle=metrics,
        rights=of_metrics("shows the objects that one may DESCRIBE"),
        tag="health",
        media="text/plain",
    ),
    Endpoint(
        method="GET",
        path="/metrics/per-object",
        handle=metrics_per_object,
        rights=of_metrics("shows those that one may DESCRIBE"),
        tag="health",
        media="text/plain",
    ),
)
