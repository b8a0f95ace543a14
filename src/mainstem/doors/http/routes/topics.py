"""Topics: list, create, describe, change and delete them.

Owns: the JSON of topics and their settings. Refuses: nothing itself; the engine refuses invalid names,
settings and numbers of partitions, and its errors become problems.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from starlette.responses import Response

from mainstem.access_contract import Operation, ResourceType
from mainstem.contract import Setting, TopicInfo, TopicSummary
from mainstem.doors.http import audit
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, json_response
from mainstem.doors.http.rights import inside, on_topic
from mainstem.doors.http.sampler import Sampler
from mainstem.http_api.topics import (
    AddPartitionsJson,
    DeletedTopicJson,
    DryRunQuery,
    NewTopicJson,
    PartitionJson,
    SettingJson,
    SettingsJson,
    TopicDetailJson,
    TopicJson,
    TopicsJson,
    TopicsQuery,
)

TOPICS_PATH = "/api/v1/topics"
TOPIC_PATH = "/api/v1/topics/{topic}"
SLICE_TOPICS = 1000
"""Number of topics that are encoded at once; then other tasks may run."""


async def list_topics(call: Call) -> Response:
    """List topics with their size and rates."""
    query: TopicsQuery = call.query
    fragment = query.q.lower()
    topics = await call.engine.topics(internal=query.internal)
    matching = [topic for topic in topics if fragment in topic.name.lower()]
    remaining = [topic for topic in matching if topic.name > query.after]
    page = remaining[: query.limit]
    slices: list[bytes] = []
    for start in range(0, len(page), SLICE_TOPICS):
        if start:
            await call.context.yield_to_loop()
        rows = [_row(topic, call.context.sampler) for topic in page[start : start + SLICE_TOPICS]]
        slices.append(msgspec.json.encode(rows)[1:-1])
    next_after = page[-1].name if len(remaining) > len(page) else None
    # The fields of a TopicsJson, whose topics are encoded already.
    rows_json = msgspec.Raw(b"[%b]" % b",".join(slices))
    return json_response({"topics": rows_json, "total": len(matching), "next": next_after})


def _row(topic: TopicSummary, sampler: Sampler) -> TopicJson:
    inbound, outbound = sampler.inbound.get(topic.name), sampler.outbound.get(topic.name)
    return TopicJson(
        topic=topic.name,
        partitions=topic.partitions,
        events=topic.events,
        internal=topic.internal,
        bytes=topic.bytes,
        in_per_s=0.0 if inbound is None else round(inbound.per_s, 2),
        out_per_s=0.0 if outbound is None else round(outbound.per_s, 2),
    )


def _setting(setting: Setting) -> SettingJson:
    unit: Literal["ms", "bytes"] | None = None
    if setting.name.endswith((".ms", ".bytes")):
        unit = "ms" if setting.name.endswith(".ms") else "bytes"
    return SettingJson(
        name=setting.name,
        value=setting.value,
        is_default=setting.is_default,
        read_only=setting.read_only,
        doc=setting.doc,
        default=setting.default,
        type=setting.type,
        unit=unit,
        valid=setting.valid,
    )


def _bytes(info: TopicInfo) -> int | None:
    sizes = [partition.bytes for partition in info.partitions if partition.bytes is not None]
    return sum(sizes) if len(sizes) == len(info.partitions) else None


def _detail(call: Call, info: TopicInfo) -> TopicDetailJson:
    return TopicDetailJson(
        topic=info.name,
        id=info.id,
        internal=info.internal,
        events=sum(partition.end - partition.begin for partition in info.partitions),
        bytes=_bytes(info),
        partitions=[
            PartitionJson(
                partition=partition.partition,
                begin=partition.begin,
                end=partition.end,
                leader=partition.leader,
                replicas=list(partition.replicas),
                in_sync=list(partition.in_sync),
                bytes=partition.bytes,
            )
            for partition in info.partitions
        ],
        settings=[_setting(setting) for setting in info.settings],
        operations=call.operations_on(ResourceType.TOPIC, info.name),
    )


async def create_topic(call: Call) -> Response:
    """Create a topic."""
    body = await call.json_body(NewTopicJson)
    call.rights.require(Operation.DESCRIBE, ResourceType.TOPIC, body.topic)  # for the reply
    with audit.action(call, "create-topic", topic=body.topic, **_settings_detail(body.settings)) as line:
        await call.engine.create_topic(body.topic, partitions=body.partitions, settings=body.settings)
        info = await call.engine.topic(body.topic)
        line.count(partitions=len(info.partitions))
    return json_response(_detail(call, info), 201)


def _settings_detail(settings: Mapping[str, str | None]) -> dict[str, Any]:
    """Settings as a detail of an audit line."""
    texts = [f"{name}={'default' if value is None else value}" for name, value in settings.items()]
    return {"settings": ", ".join(texts)} if texts else {}


async def show_topic(call: Call) -> Response:
    """Show a topic with its partitions and settings."""
    return json_response(_detail(call, await call.engine.topic(call.path_parameter("topic"))))


async def delete_topic(call: Call) -> Response:
    """Delete a topic with all its events."""
    name, query = call.path_parameter("topic"), call.query
    with audit.action(call, "delete-topic", dry_run=query.dry_run, topic=name) as line:
        info = await call.engine.topic(name)
        events = sum(partition.end - partition.begin for partition in info.partitions)
        line.count(partitions=len(info.partitions), events=events)
        if not query.dry_run:
            await call.engine.delete_topic(name)
    return json_response(DeletedTopicJson(name, query.dry_run, len(info.partitions), events))


async def alter_topic(call: Call) -> Response:
    """Change settings of a topic, and show the topic afterwards."""
    name = call.path_parameter("topic")
    body = await call.json_body(SettingsJson)
    with audit.action(call, "change-settings", topic=name, **_settings_detail(body.settings)):
        await call.engine.alter_topic(name, body.settings)
    return json_response(_detail(call, await call.engine.topic(name)))


async def add_partitions(call: Call) -> Response:
    """Increase the number of partitions of a topic."""
    name = call.path_parameter("topic")
    body = await call.json_body(AddPartitionsJson)
    with audit.action(call, "add-partitions", topic=name) as line:
        line.count(partitions=body.total)
        await call.engine.add_partitions(name, body.total)
    return json_response(_detail(call, await call.engine.topic(name)))


_PROBLEMS = ("unknown-topic",)

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=TOPICS_PATH,
        handle=list_topics,
        rights=inside("lists the topics that one may DESCRIBE"),
        tag="topics",
        query=TopicsQuery,
        reply=TopicsJson,
        link_sources={"topic": "/topics/0/topic"},
    ),
    Endpoint(
        method="POST",
        path=TOPICS_PATH,
        handle=create_topic,
        rights=inside(
            "CREATE on the cluster or the topic, and DESCRIBE on the topic",
            (Operation.CREATE, ResourceType.TOPIC),
        ),
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
        rights=on_topic(Operation.DESCRIBE),
        tag="topics",
        reply=TopicDetailJson,
        problems=_PROBLEMS,
    ),
    Endpoint(
        method="DELETE",
        path=TOPIC_PATH,
        handle=delete_topic,
        rights=on_topic(Operation.DELETE),
        tag="topics",
        query=DryRunQuery,
        reply=DeletedTopicJson,
        problems=_PROBLEMS,
    ),
    Endpoint(
        method="PATCH",
        path=TOPIC_PATH + "/settings",
        handle=alter_topic,
        rights=on_topic(Operation.ALTER_CONFIGS, Operation.DESCRIBE),
        tag="topics",
        bodies={JSON: SettingsJson},
        reply=TopicDetailJson,
        problems=_PROBLEMS,
    ),
    Endpoint(
        method="POST",
        path=TOPIC_PATH + "/partitions",
        handle=add_partitions,
        rights=on_topic(Operation.ALTER),
        tag="topics",
        bodies={JSON: AddPartitionsJson},
        reply=TopicDetailJson,
        problems=_PROBLEMS,
    ),
)
