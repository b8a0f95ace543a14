"""The metrics of subscriptions: totals over all, and the same by subscription.

Owns: their names, help texts and labels, each declared once in `_TABLE`. `/metrics` has the totals, and the
figures of the 1,000 largest subscriptions; `/metrics/per-object` those of all. Refuses: to ask the engine: a
scrape reads what the sampler has collected, in slices.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mainstem.doors.contract import MetricDefinition, MetricSample
from mainstem.doors.http.endpoint import HttpContext
from mainstem.doors.http.metric_text import SLICE_LINES, metric_head, sample_line
from mainstem.doors.http.queue_sampler import STATES, QueueSampler
from mainstem.queue_contract import DEAD_LETTER_REASONS, SubscriptionTotals


@dataclass(frozen=True, slots=True)
class QueueMetric:
    """A metric that there is over all subscriptions (`mainstem_queues_…`) and by subscription
    (`mainstem_subscription_…`)."""

    suffix: str
    kind: Literal["counter", "gauge"]
    label: str
    """The name of its label beside the subscription; empty: it has none."""
    text: str
    of_all: Callable[[QueueSampler, int], Iterator[tuple[str, float]]]
    """(label, number) over all subscriptions, at a time of the clock in ms."""
    of_one: Callable[[SubscriptionTotals, int], Iterator[tuple[str, float]]]
    """(label, number) of a subscription, at a time of the clock in ms."""

    def definition(self, *labels: str) -> MetricDefinition:
        """Its declaration, with these labels before its own."""
        return MetricDefinition(self.kind, (*labels, self.label) if self.label else labels, self.text)


def _states(depth: Callable[[str], float]) -> Iterator[tuple[str, float]]:
    for state in STATES:
        yield state, depth(state)


def _age(time_ms: int | None, now_ms: int) -> Iterator[tuple[str, float]]:
    yield "", 0.0 if time_ms is None else max(0, now_ms - time_ms) / 1000


def _gauge(suffix: str, text: str) -> QueueMetric:
    """A gauge whose name is that of the field."""

    def of_all(sampler: QueueSampler, _: int) -> Iterator[tuple[str, float]]:
        yield "", sampler.gauges[suffix]

    def of_one(totals: SubscriptionTotals, _: int) -> Iterator[tuple[str, float]]:
        yield "", getattr(totals, suffix)

    return QueueMetric(suffix, "gauge", "", text, of_all, of_one)


def _counter(suffix: str, field: str, text: str, divisor: int = 1) -> QueueMetric:
    def of_all(sampler: QueueSampler, _: int) -> Iterator[tuple[str, float]]:
        yield "", sampler.counters[field] / divisor

    def of_one(totals: SubscriptionTotals, _: int) -> Iterator[tuple[str, float]]:
        yield "", getattr(totals, field) / divisor

    return QueueMetric(suffix, "counter", "", text, of_all, of_one)


def _by_reason(suffix: str, field: str, text: str) -> QueueMetric:
    def of_all(sampler: QueueSampler, _: int) -> Iterator[tuple[str, float]]:
        counts = sampler.by_reason[field]
        for reason in dict.fromkeys((*DEAD_LETTER_REASONS, *counts)):
            yield reason, counts[reason]

    def of_one(totals: SubscriptionTotals, _: int) -> Iterator[tuple[str, float]]:
        yield from getattr(totals, field).items()

    return QueueMetric(suffix, "counter", "reason", text, of_all, of_one)


_TABLE: tuple[QueueMetric, ...] = (
    QueueMetric(
        "events",
        "gauge",
        "state",
        "Events that are not done, by state: ready, leased, waiting, parked, dying, or ahead of a filter.",
        lambda sampler, _: _states(lambda state: sampler.depth[state]),
        lambda totals, _: _states(lambda state: getattr(totals.depth, state)),
    ),
    QueueMetric(
        "oldest_seconds",
        "gauge",
        "",
        "How long ago the oldest event arrived that is not done; 0: there is none.",
        lambda sampler, now_ms: _age(sampler.oldest_ms, now_ms),
        lambda totals, now_ms: _age(totals.oldest_ms, now_ms),
    ),
    _gauge("consumers", "Consumers that have leased events."),
    _gauge("expiring", "Events that are not done and that retention deletes soon, as of its last run."),
    _counter("delivered_total", "delivered", "Deliveries."),
    _counter("redelivered_total", "redelivered", "Deliveries of events that had been delivered before."),
    _counter("acked_total", "acked", "Events that were acknowledged."),
    _counter("nacked_total", "nacked", "Deliveries that consumers gave back."),
    _counter("rejected_total", "rejected", "Deliveries that consumers rejected."),
    _counter("lock_expired_total", "expired", "Deliveries whose lock expired."),
    _by_reason("dead_letters_total", "dead_lettered", "Dead letters that were written, by reason."),
    _by_reason("dropped_total", "dropped", "Events that were given up and dropped, by reason."),
    _counter("trimmed_total", "trimmed", "Events that retention deleted before they were done."),
    _counter("unreadable_total", "unreadable", "Events that damage has made unreadable."),
    _counter("wakes_total", "wakes", "How often waiting events became ready, one or several at a time."),
    _counter(
        "delay_error_seconds_total",
        "late_ms",
        "How late each wake was, for the event that was due first; all added up. Divide it by the wakes.",
        1000,
    ),
    _counter("push_delivered_total", "push_delivered", "Push requests that were answered with success."),
    _counter("push_failed_total", "push_failed", "Push requests that failed."),
    _counter(
        "push_pull_failures_total",
        "push_pull_failures",
        "How often the events of a pushed subscription could not be pulled.",
    ),
    _gauge("push_in_flight", "Push requests that wait for their answer."),
    _gauge("push_paused", "Pushed subscriptions to whose endpoint nothing is sent, for requests failed."),
)

QUEUE_METRICS: dict[str, MetricDefinition] = {
    "mainstem_queues_subscriptions": MetricDefinition("gauge", (), "Number of subscriptions."),
    **{f"mainstem_queues_{metric.suffix}": metric.definition() for metric in _TABLE},
    **{f"mainstem_subscription_{metric.suffix}": metric.definition("subscription") for metric in _TABLE},
}
"""All of them."""


def queue_samples(context: HttpContext) -> Iterator[MetricSample]:
    """The samples over all subscriptions."""
    sampler, now_ms = context.sampler.queues, context.clock.wall_ms()
    yield "mainstem_queues_subscriptions", (), len(sampler.totals)
    for metric in _TABLE:
        for label, number in metric.of_all(sampler, now_ms):
            yield f"mainstem_queues_{metric.suffix}", (label,) if metric.label else (), number


async def subscription_text(
    context: HttpContext, subscriptions: Sequence[SubscriptionTotals]
) -> AsyncIterator[bytes]:
    """The lines of these subscriptions, SLICE_LINES or a few more in a turn of the event loop."""
    now_ms = context.clock.wall_ms()
    for metric in _TABLE:
        name = f"mainstem_subscription_{metric.suffix}"
        definition = QUEUE_METRICS[name]
        lines: list[str] = []
        is_first = True
        for number, totals in enumerate(subscriptions, 1):
            for label, value in metric.of_one(totals, now_ms):
                labels = (totals.name, label) if metric.label else (totals.name,)
                lines.append(sample_line(definition, (name, labels, value)))
            if len(lines) >= SLICE_LINES or number % SLICE_LINES == 0 or number == len(subscriptions):
                if lines:
                    yield (metric_head(name, definition) if is_first else b"") + "".join(lines).encode()
                    is_first = False
                lines = []
                await context.yield_to_loop()
