"""Topics: list, create, describe, change, delete; what a change of settings would delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response

from mainstem.contract import Setting, TopicInfo, TopicSummary
from mainstem.doors.http import audit
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, json_response
from mainstem.doors.http.field_types import PartitionCount
from mainstem.doors.http.sampler import Sampler

TopicName = Annotated[str, Meta(min_length=1, max_length=249, pattern=r"^[a-zA-Z0-9._-]+$")]

TOPICS_PATH = "/api/v1/topics"
TOPIC_PATH = "/api/v1/topics/{topic}"
ROWS_A_TURN = 1000


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
    bytes: Annotated[int | None, Meta(description="Of the log's files; null: the server does not tell.")]
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
    rows: list[bytes] = []
    for at in range(0, len(page), ROWS_A_TURN):
        if at:
            await call.context.yield_to_loop()
        some = page[at : at + ROWS_A_TURN]
        rows.append(msgspec.json.encode([_row(each, call.context.sampler) for each in some])[1:-1])
    following = page[-1].name if len(rest) > len(page) else None
    return json_response(
        {"topics": msgspec.Raw(b"[%b]" % b",".join(rows)), "total": len(found), "next": following}
    )  # as TopicsJson, written in turns


def _row(each: TopicSummary, sampler: Sampler) -> TopicJson:
    into, out_of = sampler.inbound.get(each.name), sampler.outbound.get(each.name)
    return TopicJson(
        each.name,
        each.partitions,
        each.events,
        each.internal,
        each.bytes,
        0.0 if into is None else round(into.per_s, 2),
        0.0 if out_of is None else round(out_of.per_s, 2),
    )


class NewTopicJson(msgspec.Struct, forbid_unknown_fields=True):
    """A topic to create."""

    JSON_SCHEMA: ClassVar = {
        "examples": [{"topic": "orders", "partitions": 4, "settings": {"retention.ms": "604800000"}}]
    }

    topic: TopicName
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
    bytes: Annotated[int | None, Meta(description="Of the log's files; null: the server does not tell.")]


class SettingJson(msgspec.Struct):
    """A setting in force."""

    name: str
    value: str | None
    is_default: bool
    read_only: bool
    doc: Annotated[str, Meta(description="Empty, as what follows: the server does not tell.")]
    default: str | None
    type: Annotated[str, Meta(description="In Kafka's words: boolean, string, int, long, double, list.")]
    unit: Annotated[Literal["ms", "bytes"] | None, Meta(description="Of a number that has one.")]
    valid: Annotated[str, Meta(description="Which values are taken, for people.")]


class TopicDetailJson(msgspec.Struct):
    """A topic in full."""

    topic: str
    id: str
    internal: bool
    events: int
    bytes: int | None
    partitions: list[PartitionJson]
    settings: list[SettingJson]


def _setting(each: Setting) -> SettingJson:
    unit: Literal["ms", "bytes"] | None = None
    if each.name.endswith((".ms", ".bytes")):
        unit = "ms" if each.name.endswith(".ms") else "bytes"
    return SettingJson(
        each.name,
        each.value,
        each.is_default,
        each.read_only,
        each.doc,
        each.default,
        each.type,
        unit,
        each.valid,
    )


def _bytes(info: TopicInfo) -> int | None:
    sizes = [each.bytes for each in info.partitions if each.bytes is not None]
    return sum(sizes) if len(sizes) == len(info.partitions) else None


def _detail(info: TopicInfo) -> TopicDetailJson:
    return TopicDetailJson(
        info.name,
        info.id,
        info.internal,
        sum(each.end - each.begin for each in info.partitions),
        _bytes(info),
        [
            PartitionJson(
                each.partition,
                each.begin,
                each.end,
                each.leader,
                list(each.replicas),
                list(each.in_sync),
                each.bytes,
            )
            for each in info.partitions
        ],
        [_setting(each) for each in info.settings],
    )


async def create_topic(call: Call) -> Response:
    """Create a topic."""
    wanted = await call.json_body(NewTopicJson)
    with audit.action(call, "create-topic", topic=wanted.topic, **_told(wanted.settings)) as line:
        await call.engine.create_topic(wanted.topic, partitions=wanted.partitions, settings=wanted.settings)
        made = await call.engine.topic(wanted.topic)
        line.count(partitions=len(made.partitions))
    return json_response(_detail(made), 201)


def _told(settings: Mapping[str, str | None]) -> dict[str, Any]:
    """Settings, for an audit line."""
    told = ", ".join(f"{name}={'default' if value is None else value}" for name, value in settings.items())
    return {"settings": told} if told else {}


async def show_topic(call: Call) -> Response:
    """Show a topic with its partitions and settings."""
    return json_response(_detail(await call.engine.topic(call.path_parameter("topic"))))


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
    name, query = call.path_parameter("topic"), call.query
    with audit.action(call, "delete-topic", dry_run=query.dry_run, topic=name) as line:
        info = await call.engine.topic(name)
        events = sum(each.end - each.begin for each in info.partitions)
        line.count(partitions=len(info.partitions), events=events)
        if not query.dry_run:
            await call.engine.delete_topic(name)
    return json_response(DeletedTopicJson(name, query.dry_run, len(info.partitions), events))


class SettingsJson(msgspec.Struct, forbid_unknown_fields=True):
    """Settings to change; null: back to the default. The others stay."""

    JSON_SCHEMA: ClassVar = {"examples": [{"settings": {"retention.ms": "86400000", "segment.ms": None}}]}

    settings: Annotated[dict[str, str | None], Meta(min_length=1)]


async def alter_topic(call: Call) -> Response:
    """Change settings of a topic."""
    name = call.path_parameter("topic")
    wanted = await call.json_body(SettingsJson)
    with audit.action(call, "change-settings", topic=name, **_told(wanted.settings)):
        await call.engine.alter_topic(name, wanted.settings)
    return json_response(_detail(await call.engine.topic(name)))


class AddPartitionsJson(msgspec.Struct, forbid_unknown_fields=True):
    """How many partitions there shall be in all."""

    total: PartitionCount


async def add_partitions(call: Call) -> Response:
    """Raise the number of partitions."""
    name = call.path_parameter("topic")
    wanted = await call.json_body(AddPartitionsJson)
    with audit.action(call, "add-partitions", topic=name) as line:
        line.count(partitions=wanted.total)
        await call.engine.add_partitions(name, wanted.total)
    return json_response(_detail(await call.engine.topic(name)))


_UNKNOWN = ("unknown-topic",)

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=TOPICS_PATH,
        handle=list_topics,
        tag="topics",
        query=TopicsQuery,
        reply=TopicsJson,
        link_sources={"topic": "/topics/0/topic"},
    ),
    Endpoint(
        method="POST",
        path=TOPICS_PATH,
        handle=create_topic,
        tag="topics",
        bodies={JSON: NewTopicJson},
        reply=TopicDetailJson,
        status=201,
        problems=("topic-exists",),
        link_sources={"topic": "/topic", "partition": "/partitions/0/partition"},
    ),
    Endpoint(
        method="GET",
        path=TOPIC_PATH,
        handle=show_topic,
        tag="topics",
        reply=TopicDetailJson,
        problems=_UNKNOWN,
    ),
    Endpoint(
        method="DELETE",
        path=TOPIC_PATH,
        handle=delete_topic,
        tag="topics",
        query=DryRunQuery,
        reply=DeletedTopicJson,
        problems=_UNKNOWN,
    ),
    Endpoint(
        method="PATCH",
        path=TOPIC_PATH + "/settings",
        handle=alter_topic,
        tag="topics",
        bodies={JSON: SettingsJson},
        reply=TopicDetailJson,
        problems=_UNKNOWN,
    ),
    Endpoint(
        method="POST",
        path=TOPIC_PATH + "/partitions",
        handle=add_partitions,
        tag="topics",
        bodies={JSON: AddPartitionsJson},
        reply=TopicDetailJson,
        problems=_UNKNOWN,
    ),
)
