"""Converts push settings and reports to JSON, and changes in JSON to push settings.

Owns: what a change keeps, and leaving out of replies what is secret: query and tokens of the endpoint, the
values of headers, and the secrets of signatures. Refuses: to check settings, which the engine does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from msgspec import UNSET

from mainstem.doors.http.problem import Problem
from mainstem.http_api.push import PushReportJson, PushSettingsJson
from mainstem.queue_contract import PushReport
from mainstem.queues.push_settings import PushSettings
from mainstem.timespec import format_iso

_PLAIN = ("token_audience", "deadline_ms", "concurrency", "payload")
"""Settings that are the same in JSON."""


def push_to_json(push: PushSettings | None) -> PushSettingsJson | None:
    """Push settings as they are shown."""
    if push is None:
        return None
    return PushSettingsJson(
        endpoint=push.shown_endpoint,
        headers={name: None for name, _ in push.headers},
        signed=bool(push.secret),
        **{name: getattr(push, name) for name in _PLAIN},
    )


def push_from_json(change: PushSettingsJson, present: PushSettings | None) -> PushSettings:
    """The settings that a change makes of the present ones. Raises Problem."""
    values: dict[str, Any] = {name: value for name in _PLAIN if (value := getattr(change, name)) is not UNSET}
    is_new = change.endpoint is not UNSET and (present is None or change.endpoint != present.shown_endpoint)
    if is_new:
        values["endpoint"] = change.endpoint
    elif present is None:
        raise Problem("unfit", "push: the endpoint is missing")
    if change.secret is not UNSET:
        values["secret"] = change.secret or ""
    if change.headers is not UNSET:
        old = {} if present is None else {name.lower(): value for name, value in present.headers}
        headers = []
        for name, value in change.headers.items():
            if value is None and (is_new or name.lower() not in old):
                raise Problem("unfit", f"push: the header {name[:100]!r} has no value")
            headers.append((name, old[name.lower()] if value is None else value))
        values["headers"] = tuple(headers)
    elif present is not None and present.headers and is_new:
        raise Problem("unfit", "push: give the headers again with another endpoint, or {} for none")
    return PushSettings(**values) if present is None else replace(present, **values)


def report_to_json(report: PushReport) -> PushReportJson:
    """A report, with times in ISO 8601."""
    return PushReportJson(
        in_flight=report.in_flight,
        window=report.window,
        delivered=report.delivered,
        failed=report.failed,
        delivered_per_s=round(report.delivered_per_s, 3),
        failed_per_s=round(report.failed_per_s, 3),
        latency_ms=None if report.latency_ms is None else round(report.latency_ms, 3),
        last_error=report.last_error,
        last_error_time=None if report.last_error_ms is None else format_iso(report.last_error_ms),
        paused_until=None if report.paused_until_ms is None else format_iso(report.paused_until_ms),
        pull_failures=report.pull_failures,
        pull_error=report.pull_error,
    )
