"""What `mainstem run --health` answers: whether the process lives and all groups have joined, and metrics.

Owns: the three pages and their texts, and the names of the metrics. Refuses: sockets, which
`health_server` has, and to ask a server; it is given states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from mainstem.api.subscriber_state import SubscriberState


class HealthPage(NamedTuple):
    """An answer."""

    status: int
    text: str


class SubscriberMetric(NamedTuple):
    """A metric of each subscriber."""

    name: str
    type: str
    help: str
    value: Callable[[SubscriberState], float]


METRICS = (
    SubscriberMetric(
        "mainstem_subscriber_lag",
        "gauge",
        "Events that the group has not done. Not shown while the server does not respond.",
        lambda state: state.lag,
    ),
    SubscriberMetric(
        "mainstem_subscriber_rate", "gauge", "Events done per second, lately.", lambda state: state.rate
    ),
    SubscriberMetric(
        "mainstem_subscriber_in_flight",
        "gauge",
        "Events that are handled now, or next.",
        lambda state: state.in_flight,
    ),
    SubscriberMetric(
        "mainstem_subscriber_retrying",
        "gauge",
        "Events of the group that wait for another attempt, or for their time.",
        lambda state: state.retrying,
    ),
    SubscriberMetric(
        "mainstem_subscriber_joined", "gauge", "1: it receives events.", lambda state: state.joined
    ),
    SubscriberMetric(
        "mainstem_subscriber_read_total", "counter", "Events delivered to it.", lambda state: state.read
    ),
    SubscriberMetric(
        "mainstem_subscriber_done_total",
        "counter",
        "Events handled and acknowledged.",
        lambda state: state.done,
    ),
    SubscriberMetric(
        "mainstem_subscriber_failed_total",
        "counter",
        "Calls of its handler that failed.",
        lambda state: state.failed,
    ),
    SubscriberMetric(
        "mainstem_subscriber_dead_total",
        "counter",
        "Events that it gave up: dead letters.",
        lambda state: state.dead,
    ),
)


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """What the process, or its workers, say of themselves."""

    states: Sequence[SubscriberState]
    problems: Sequence[str] = ()
    """Why not all is well, such as a worker that does not run."""


def needs_lag(path: str) -> bool:
    """Whether a page has what only the server knows. The others say how the process is, also while no server
    responds."""
    return path == "/metrics"


def answer(path: str, report: ProcessReport) -> HealthPage:
    """The page of a path."""
    if path == "/livez":
        return HealthPage(200, "ok\n")
    if path == "/readyz":
        reasons = [
            *report.problems,
            *(
                f"group {state.group} of topic {state.topic} has not joined"
                + (f": {state.last_error}" if state.last_error else "")
                for state in report.states
                if not state.joined
            ),
        ]
        return (
            HealthPage(503, "".join(f"{reason}\n" for reason in reasons))
            if reasons
            else HealthPage(200, "ok\n")
        )
    if path == "/metrics":
        return HealthPage(200, metrics_text(report.states))
    return HealthPage(404, "there are /livez, /readyz and /metrics\n")


def metrics_text(states: Iterable[SubscriberState]) -> str:
    """The metrics, in the text format of Prometheus."""
    lines: list[str] = []
    states = list(states)
    for metric in METRICS:
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.type}"]
        for state in states:
            value = metric.value(state)
            if value >= 0:
                lines.append(
                    f'{metric.name}{{topic="{state.topic}",group="{state.group}"}} {float(value):.10g}'
                )
    return "\n".join(lines) + "\n"


def added_up(reports: Sequence[Sequence[SubscriberState]]) -> list[SubscriberState]:
    """The states of a program's subscribers, of what each of its processes says."""
    by_name: dict[tuple[str, str], SubscriberState] = {}
    for states in reports:
        for state in states:
            name = state.topic, state.group
            other = by_name.get(name)
            by_name[name] = state if other is None else _sum(other, state)
    return list(by_name.values())


def _sum(first: SubscriberState, second: SubscriberState) -> SubscriberState:
    added: Mapping[str, float] = {
        name: getattr(first, name) + getattr(second, name)
        for name in ("read", "done", "failed", "dead", "in_flight", "rate")
    }
    return replace(
        first,
        **added,  # type: ignore[arg-type]  # numbers, as they were
        joined=first.joined and second.joined,
        lag=max(first.lag, second.lag),
        retrying=max(first.retrying, second.retrying),
        last_error=second.last_error or first.last_error,
    )
