"""Deletes events of a partition, and previews what a change of settings would delete.

Owns: counting the events and bytes that a deletion removes. Refuses: an offset after the end of a partition.
If the engine cannot compute what a change of settings deletes, the preview is an estimate and says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from mainstem.access_contract import Operation
from mainstem.audit.events import AuditValue
from mainstem.contract import Bounds, HasFiles, PreviewsSettings
from mainstem.doors.http import audit
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, json_response
from mainstem.doors.http.page_reader import read_page
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.rights import on_topic
from mainstem.http_api.topics import (
    DeletedRecordsJson,
    DeleteRecordsJson,
    DeletionPreviewJson,
    SettingsJson,
    SettingsPreviewJson,
)
from mainstem.timespec import format_iso


async def _bytes_of(call: Call, topic: str, partition: int, begin: int, end: int) -> int | None:
    """Size in bytes of the batches with offsets from `begin` to below `end`; None: the engine does not
    know."""
    if not isinstance(call.engine, HasFiles):
        return None
    ranges = await call.engine.byte_ranges(topic, partition, begin, end) if begin < end else []
    return sum(range_end - range_start for _, range_start, range_end in ranges)


async def delete_records(call: Call) -> Response:
    """Delete the events of a partition before an offset."""
    topic = call.path_parameter("topic")
    body = await call.json_body(DeleteRecordsJson)
    details: dict[str, AuditValue] = {
        "topic": topic,
        "partition": body.partition,
        "before": body.before,
    }
    with audit.action(call, "delete-records", dry_run=body.dry_run, **details) as line:
        bounds = await call.engine.bounds(topic, body.partition)
        before = bounds.end if body.before == -1 else body.before
        if before > bounds.end:
            raise Problem("out-of-range", f"offset {before} is after the end, {bounds.end}", end=bounds.end)
        preview = await _preview(call, topic, body.partition, max(bounds.begin, before))
        line.count(events=preview.events, bytes=preview.bytes)
        if not body.dry_run:
            await call.engine.delete_records(topic, body.partition, before)
    return json_response(DeletedRecordsJson(topic, body.dry_run, preview))


async def _preview(call: Call, topic: str, partition: int, first_kept: int) -> DeletionPreviewJson:
    """A preview of the deletion of all events before offset `first_kept`."""
    bounds = await call.engine.bounds(topic, partition)
    return DeletionPreviewJson(
        partition=partition,
        events=max(0, first_kept - bounds.begin),
        bytes=await _bytes_of(call, topic, partition, bounds.begin, first_kept),
        begin=max(first_kept, bounds.begin),
        oldest=await _time_at(call, topic, partition, first_kept, bounds.end),
    )


async def _time_at(call: Call, topic: str, partition: int, offset: int, end: int) -> str | None:
    if offset >= end or not call.reads(topic):
        return None
    events = await read_page(call, topic, partition, offset, limit=1, max_bytes=1)
    return format_iso(events[0].timestamp_ms) or None if events else None


async def preview_settings(call: Call) -> Response:
    """Report what a change of settings would delete. Changes nothing."""
    name = call.path_parameter("topic")
    body = await call.json_body(SettingsJson)
    exact = isinstance(call.engine, PreviewsSettings)
    remaining = await (
        call.engine.preview_settings(name, body.settings)
        if isinstance(call.engine, PreviewsSettings)
        else _estimate(call, name, body.settings)
    )
    previews = [
        await _preview(call, name, partition, bounds.begin) for partition, bounds in enumerate(remaining)
    ]
    sizes = [preview.bytes for preview in previews if preview.bytes is not None]
    return json_response(
        SettingsPreviewJson(
            topic=name,
            exact=exact,
            events=sum(preview.events for preview in previews),
            bytes=sum(sizes) if len(sizes) == len(previews) else None,
            oldest=min((preview.oldest for preview in previews if preview.oldest is not None), default=None),
            partitions=previews,
        )
    )


async def _estimate(call: Call, name: str, settings: Mapping[str, str | None]) -> list[Bounds]:
    """The bounds that each partition would have, estimated from retention.ms and the times of events."""
    info = await call.engine.topic(name)
    setting = settings.get("retention.ms")
    present = [Bounds(partition.begin, partition.end) for partition in info.partitions]
    if setting is None:
        return present
    try:
        retention_ms = int(setting)
    except ValueError:
        raise Problem("unfit", f"retention.ms must be a number, not {setting[:40]!r}") from None
    if retention_ms < 0:
        return present
    before_ms = max(0, call.context.clock.wall_ms() - retention_ms)
    remaining = []
    for partition, bounds in enumerate(present):
        first = await call.engine.offset_for_time(name, partition, before_ms)
        remaining.append(Bounds(bounds.end if first is None else max(first, bounds.begin), bounds.end))
    return remaining


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/topics/{topic}/delete-records",
        handle=delete_records,
        rights=on_topic(Operation.DELETE),
        tag="topics",
        bodies={JSON: DeleteRecordsJson},
        reply=DeletedRecordsJson,
        problems=("unknown-topic", "out-of-range"),
    ),
    Endpoint(
        method="POST",
        path="/api/v1/topics/{topic}/settings/preview",
        handle=preview_settings,
        rights=on_topic(Operation.DESCRIBE_CONFIGS, Operation.DESCRIBE),
        tag="topics",
        bodies={JSON: SettingsJson},
        reply=SettingsPreviewJson,
        problems=("unknown-topic",),
    ),
)
