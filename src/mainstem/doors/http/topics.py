"""Topics: list, create, describe, change, delete; what a change of settings would delete."""

from __future__ import annotations

from typing import Annotated, Protocol, runtime_checkable

import msgspec
from msgspec import Meta
from starlette.responses import Response

from mainstem.doors.http.endpoint import JSON, Call, Endpoint, answer
from mainstem.doors.http.kinds import PartitionCount, PartitionNumber
from mainstem.doors.http.problem import Problem
from mainstem.moments import iso
from mainstem.stream import TopicInfo

Name = Annotated[str, Meta(min_length=1, max_length=249, pattern=r"^[a-zA-Z0-9._-]+$")]

ALL = "/api/v1/topics"
ONE = "/api/v1/topics/{topic}"


class TopicsQuery(msgspec.Struct):
    """Which topics."""

    q: Annotated[str, Meta(description="Only names that contain this, in any case.")] = ""
    limit: Annotated[int, Meta(ge=1, le=10_000, description="At most so many.")] = 100
    after: Annotated[str, Meta(description="Only names after this one: `next` of the page before.")] = ""
    internal: Annotated[bool, Meta(description="The server's own topics, too.")] = False


class TopicJson(msgspec.Struct):
    """A topic in a list."""

    topic: str
    partitions: int
    events: int
    internal: bool
    in_per_s: float
    out_per_s: Annotated[float, Meta(description="Read by consumer groups, events a second.")]


class TopicsJson(msgspec.Struct):
    """A page of topics, by name."""

    topics: list[TopicJson]
    total: Annotated[int, Meta(description="How many there are that fit `q`.")]
    next: Annotated[str | None, Meta(description="`after` of the next page; null: this is the last.")]


async def list_topics(call: Call) -> Response:
    """List topics."""
    query: TopicsQuery = call.query
    wanted = query.q.lower()
    found = [
        each for each in await call.engine.topics(internal=query.internal) if wanted in each.name.lower()
    ]
    rest = [each for each in found if each.name > query.after]
    page = rest[: query.limit]
    into, out_of = call.context.sampler.into, call.context.sampler.out_of
    rows = [
        TopicJson(
            each.name,
            each.partitions,
            each.events,
            each.internal,
            round(into[each.name].per_s, 2) if each.name in into else 0.0,
            round(out_of[each.name].per_s, 2) if each.name in out_of else 0.0,
        )
        for each in page
    ]
    return answer(TopicsJson(rows, len(found), page[-1].name if len(rest) > len(page) else None))


class NewTopicJson(msgspec.Struct, forbid_unknown_fields=True):
    """A topic to create."""

    topic: Name
    partitions: PartitionCount | None = None
    settings: dict[str, str] = {}


class PartitionJson(msgspec.Struct):
    """One partition."""

    partition: int
    begin: Annotated[int, Meta(description="The first offset that is kept.")]
    end: Annotated[int, Meta(description="The offset of the next event.")]
    leader: int
    replicas: list[int]
    in_sync: list[int]


class SettingJson(msgspec.Struct):
    """A setting in force."""

    name: str
    value: str | None
    is_default: bool
    read_only: bool


class TopicDetailJson(msgspec.Struct):
    """A topic in full."""

    topic: str
    id: str
    internal: bool
    events: int
    partitions: list[PartitionJson]
    settings: list[SettingJson]


def _detail(info: TopicInfo) -> TopicDetailJson:
    return TopicDetailJson(
        info.name,
        info.id,
        info.internal,
        sum(each.end - each.begin for each in info.partitions),
        [
            PartitionJson(
                each.partition, each.begin, each.end, each.leader, list(each.replicas), list(each.in_sync)
            )
            for each in info.partitions
        ],
        [SettingJson(each.name, each.value, each.is_default, each.read_only) for each in info.settings],
    )


async def create_topic(call: Call) -> Response:
    """Create a topic."""
    wanted = await call.body(NewTopicJson)
    await call.engine.create_topic(wanted.topic, partitions=wanted.partitions, settings=wanted.settings)
    call.audit(f"created topic {wanted.topic}")
    return answer(_detail(await call.engine.topic(wanted.topic)), 201)


async def show_topic(call: Call) -> Response:
    """Show a topic with its partitions and settings."""
    return answer(_detail(await call.engine.topic(call.part("topic"))))


class DryRunQuery(msgspec.Struct):
    """Whether to do it."""

    dry_run: Annotated[bool, Meta(description="Only tell what would be done.")] = False


class DeletedTopicJson(msgspec.Struct):
    """What a deletion removes."""

    topic: str
    dry_run: bool
    partitions: int
    events: int


async def delete_topic(call: Call) -> Response:
    """Delete a topic with all its events."""
    name, query = call.part("topic"), call.query
    info = await call.engine.topic(name)
    events = sum(each.end - each.begin for each in info.partitions)
    if not query.dry_run:
        await call.engine.delete_topic(name)
        call.audit(f"deleted topic {name} with {events} events")
    return answer(DeletedTopicJson(name, query.dry_run, len(info.partitions), events))


class SettingsJson(msgspec.Struct, forbid_unknown_fields=True):
    """Settings to change; null: back to the default. The others stay."""

    settings: Annotated[dict[str, str | None], Meta(min_length=1)]


async def alter_topic(call: Call) -> Response:
    """Change settings of a topic."""
    name = call.part("topic")
    wanted = await call.body(SettingsJson)
    await call.engine.alter_topic(name, wanted.settings)
    told = ", ".join(
        f"{each}={'default' if value is None else value}" for each, value in wanted.settings.items()
    )
    call.audit(f"changed settings of topic {name}: {told}")
    return answer(_detail(await call.engine.topic(name)))


class AddPartitionsJson(msgspec.Struct, forbid_unknown_fields=True):
    """How many partitions there shall be in all."""

    total: PartitionCount


async def add_partitions(call: Call) -> Response:
    """Raise the number of partitions."""
    name = call.part("topic")
    wanted = await call.body(AddPartitionsJson)
    await call.engine.add_partitions(name, wanted.total)
    call.audit(f"raised the partitions of topic {name} to {wanted.total}")
    return answer(_detail(await call.engine.topic(name)))


# ----------------------------------------------------------------------------------------------------------
# what goes


@runtime_checkable
class KnowsFiles(Protocol):
    """An engine that has the files: it can tell what a deletion frees."""

    async def byte_ranges(
        self, topic: str, partition: int, from_offset: int, to_offset: int
    ) -> list[tuple[str, int, int]]:
        """(file, from, to) of the batches with these offsets."""


async def _bytes_of(call: Call, topic: str, partition: int, begin: int, end: int) -> int | None:
    if not isinstance(call.engine, KnowsFiles):
        return None
    found = await call.engine.byte_ranges(topic, partition, begin, end) if begin < end else []
    return sum(to - start for _, start, to in found)


class GoneJson(msgspec.Struct):
    """What goes of one partition."""

    partition: int
    events: int
    bytes: Annotated[int | None, Meta(description="Of the log's files; null: not known of this cluster.")]
    begin: Annotated[int, Meta(description="The first offset that is kept afterwards.")]
    oldest: Annotated[
        str | None, Meta(description="The time of the first event that is kept; null: none is.")
    ]


class DeleteRecordsJson(msgspec.Struct, forbid_unknown_fields=True):
    """Which events to delete."""

    partition: PartitionNumber
    before: Annotated[int, Meta(ge=-1, le=2**63 - 1, description="The first offset to keep; -1: delete all.")]
    dry_run: Annotated[bool, Meta(description="Only tell what would be deleted.")] = False


class DeletedRecordsJson(msgspec.Struct):
    """What a deletion of events removes."""

    topic: str
    dry_run: bool
    gone: GoneJson


async def delete_records(call: Call) -> Response:
    """Delete the events of a partition before an offset."""
    topic = call.part("topic")
    wanted = await call.body(DeleteRecordsJson)
    bounds = await call.engine.bounds(topic, wanted.partition)
    before = bounds.end if wanted.before == -1 else wanted.before
    if before > bounds.end:
        raise Problem("out-of-range", f"offset {before} is after the end, {bounds.end}", end=bounds.end)
    gone = await _gone(call, topic, wanted.partition, max(bounds.begin, before))
    if not wanted.dry_run:
        await call.engine.delete_records(topic, wanted.partition, before)
        call.audit(f"deleted {gone.events} events of topic {topic}, partition {wanted.partition}")
    return answer(DeletedRecordsJson(topic, wanted.dry_run, gone))


async def _gone(call: Call, topic: str, partition: int, keep_from: int) -> GoneJson:
    bounds = await call.engine.bounds(topic, partition)
    return GoneJson(
        partition,
        max(0, keep_from - bounds.begin),
        await _bytes_of(call, topic, partition, bounds.begin, keep_from),
        max(keep_from, bounds.begin),
        await _time_at(call, topic, partition, keep_from, bounds.end),
    )


async def _time_at(call: Call, topic: str, partition: int, offset: int, end: int) -> str | None:
    from mainstem.doors.http.read import some_events  # it needs nothing of topics

    if offset >= end:
        return None
    found = await some_events(call, topic, partition, offset, limit=1, max_bytes=1)
    return iso(found.events[0].timestamp_ms) or None if found.events else None


def _endpoints() -> tuple[Endpoint, ...]:
    topic = ("unknown-topic",)
    return (
        Endpoint(
            method="GET", path=ALL, handle=list_topics, tag="topics", query=TopicsQuery, reply=TopicsJson
        ),
        Endpoint(
            method="POST",
            path=ALL,
            handle=create_topic,
            tag="topics",
            bodies={JSON: NewTopicJson},
            reply=TopicDetailJson,
            status=201,
            problems=("topic-exists",),
        ),
        Endpoint(
            method="GET", path=ONE, handle=show_topic, tag="topics", reply=TopicDetailJson, problems=topic
        ),
        Endpoint(
            method="DELETE",
            path=ONE,
            handle=delete_topic,
            tag="topics",
            query=DryRunQuery,
            reply=DeletedTopicJson,
            problems=topic,
        ),
        Endpoint(
            method="PATCH",
            path=ONE + "/settings",
            handle=alter_topic,
            tag="topics",
            bodies={JSON: SettingsJson},
            reply=TopicDetailJson,
            problems=topic,
        ),
        Endpoint(
            method="POST",
            path=ONE + "/partitions",
            handle=add_partitions,
            tag="topics",
            bodies={JSON: AddPartitionsJson},
            reply=TopicDetailJson,
            problems=topic,
        ),
        Endpoint(
            method="POST",
            path=ONE + "/delete-records",
            handle=delete_records,
            tag="topics",
            bodies={JSON: DeleteRecordsJson},
            reply=DeletedRecordsJson,
            problems=(*topic, "out-of-range"),
        ),
    )


ENDPOINTS = _endpoints()
