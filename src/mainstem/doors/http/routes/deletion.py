"""What a deletion of events takes away: done by request, or foreseen of a change of settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Protocol, runtime_checkable

import msgspec
from msgspec import Meta
from starlette.responses import Response

from mainstem.contract import Bounds
from mainstem.doors.http import audit
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, json_response
from mainstem.doors.http.field_types import LONG_MAX, PartitionNumber
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.routes.read import read_page
from mainstem.doors.http.routes.topics import TOPIC_PATH, SettingsJson
from mainstem.timespec import format_iso


@runtime_checkable
class HasFiles(Protocol):
    """An engine that has the files: it can tell what a deletion frees."""

    async def byte_ranges(
        self, topic: str, partition: int, from_offset: int, to_offset: int
    ) -> list[tuple[str, int, int]]:
        """(file, from, to) of the batches with these offsets."""


async def _bytes_of(call: Call, topic: str, partition: int, begin: int, end: int) -> int | None:
    if not isinstance(call.engine, HasFiles):
        return None
    found = await call.engine.byte_ranges(topic, partition, begin, end) if begin < end else []
    return sum(to - start for _, start, to in found)


class DeletionPreviewJson(msgspec.Struct):
    """What goes of one partition."""

    partition: int
    events: int
    bytes: Annotated[
        int | None,
        Meta(
            description="Of the batches with these events, whole, also of the last, though it may hold events"
            " that are kept; null: not known of this cluster."
        ),
    ]
    begin: Annotated[int, Meta(description="The first offset that is kept afterwards.")]
    oldest: Annotated[
        str | None, Meta(description="The time of the first event that is kept; null: none is.")
    ]


class DeleteRecordsJson(msgspec.Struct, forbid_unknown_fields=True):
    """Which events to delete."""

    partition: PartitionNumber
    before: Annotated[int, Meta(ge=-1, le=LONG_MAX, description="The first offset to keep; -1: delete all.")]
    dry_run: Annotated[bool, Meta(description="Only tell what would be deleted.")] = False


class DeletedRecordsJson(msgspec.Struct):
    """What a deletion of events removes."""

    topic: str
    dry_run: bool
    gone: DeletionPreviewJson


async def delete_records(call: Call) -> Response:
    """Delete the events of a partition before an offset."""
    topic = call.path_parameter("topic")
    wanted = await call.json_body(DeleteRecordsJson)
    about: dict[str, audit.Value] = {"topic": topic, "partition": wanted.partition, "before": wanted.before}
    with audit.action(call, "delete-records", dry_run=wanted.dry_run, **about) as line:
        bounds = await call.engine.bounds(topic, wanted.partition)
        before = bounds.end if wanted.before == -1 else wanted.before
        if before > bounds.end:
            raise Problem("out-of-range", f"offset {before} is after the end, {bounds.end}", end=bounds.end)
        gone = await _gone(call, topic, wanted.partition, max(bounds.begin, before))
        line.count(events=gone.events, bytes=gone.bytes)
        if not wanted.dry_run:
            await call.engine.delete_records(topic, wanted.partition, before)
    return json_response(DeletedRecordsJson(topic, wanted.dry_run, gone))


async def _gone(call: Call, topic: str, partition: int, keep_from: int) -> DeletionPreviewJson:
    bounds = await call.engine.bounds(topic, partition)
    return DeletionPreviewJson(
        partition,
        max(0, keep_from - bounds.begin),
        await _bytes_of(call, topic, partition, bounds.begin, keep_from),
        max(keep_from, bounds.begin),
        await _time_at(call, topic, partition, keep_from, bounds.end),
    )


async def _time_at(call: Call, topic: str, partition: int, offset: int, end: int) -> str | None:
    if offset >= end:
        return None
    found = await read_page(call, topic, partition, offset, limit=1, max_bytes=1)
    return format_iso(found.events[0].timestamp_ms) or None if found.events else None


# ----------------------------------------------------------------------------------------------------------
# what a change of settings would delete


@runtime_checkable
class PreviewsSettings(Protocol):
    """An engine that knows what retention would leave."""

    async def preview_settings(self, name: str, settings: Mapping[str, str | None]) -> list[Bounds]:
        """What each partition would hold."""


class SettingsPreviewJson(msgspec.Struct):
    """What retention would delete under changed settings, at its next look."""

    topic: str
    exact: Annotated[
        bool,
        Meta(description="false: by the times of events; whole segments go, so it may be less."),
    ]
    events: int
    bytes: Annotated[int | None, Meta(description="Of the log's files; null: not known of this cluster.")]
    oldest: Annotated[str | None, Meta(description="Time of the oldest event that is kept; null: none is.")]
    partitions: list[DeletionPreviewJson]


async def preview_settings(call: Call) -> Response:
    """Tell what a change of settings would delete. Changes nothing."""
    name = call.path_parameter("topic")
    wanted = await call.json_body(SettingsJson)
    exact = isinstance(call.engine, PreviewsSettings)
    kept = await (
        call.engine.preview_settings(name, wanted.settings)
        if isinstance(call.engine, PreviewsSettings)
        else _estimate(call, name, wanted.settings)
    )
    gone = [await _gone(call, name, at, held.begin) for at, held in enumerate(kept)]
    sizes = [each.bytes for each in gone if each.bytes is not None]
    oldest = min((each.oldest for each in gone if each.oldest is not None), default=None)
    total_bytes = sum(sizes) if len(sizes) == len(gone) else None
    return json_response(
        SettingsPreviewJson(name, exact, sum(each.events for each in gone), total_bytes, oldest, gone)
    )


async def _estimate(call: Call, name: str, settings: Mapping[str, str | None]) -> list[Bounds]:
    info = await call.engine.topic(name)
    given = settings.get("retention.ms")
    held = [Bounds(each.begin, each.end) for each in info.partitions]
    if given is None:
        return held
    try:
        retention_ms = int(given)
    except ValueError:
        raise Problem("unfit", f"retention.ms is a number, not {given[:40]!r}") from None
    if retention_ms < 0:
        return held
    before_ms = max(0, call.context.clock.wall_ms() - retention_ms)
    kept = []
    for at, bounds in enumerate(held):
        first = await call.engine.offset_for_time(name, at, before_ms)
        kept.append(Bounds(bounds.end if first is None else max(first, bounds.begin), bounds.end))
    return kept


ENDPOINTS = (
    Endpoint(
        method="POST",
        path=TOPIC_PATH + "/delete-records",
        handle=delete_records,
        tag="topics",
        bodies={JSON: DeleteRecordsJson},
        reply=DeletedRecordsJson,
        problems=("unknown-topic", "out-of-range"),
    ),
    Endpoint(
        method="POST",
        path=TOPIC_PATH + "/settings/preview",
        handle=preview_settings,
        tag="topics",
        bodies={JSON: SettingsJson},
        reply=SettingsPreviewJson,
        problems=("unknown-topic",),
    ),
)
