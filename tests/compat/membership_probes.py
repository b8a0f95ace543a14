"""The probes of compare_with_kafka.py about share groups: membership, settings, listing, deleting.

kafka-python has no messages of share groups, so the frames are written and read by our own codec, whose bytes
golden vectors of a third implementation check. Apache Kafka 4.4 has share groups on by default.

Epochs are compared by what a member may send next, not by their numbers: Kafka raises them once more, when it
has initialized the partitions. For the same reason a probe waits until a member has its partitions. What
share fetches answer is compared by share_probes.py."""

from __future__ import annotations

import time
from typing import Any

from mainstem.kafka_protocol.message import Message, decode_reply, encode_request
from tests.compat.probing import ProbedServer, probe

GROUP = 32
SETTLE_TRIES = 60


def plain(value: Any) -> Any:
    """A message as dictionaries and lists."""
    if isinstance(value, Message):
        return {name: plain(field) for name, field in vars(value).items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def ask(server: ProbedServer, api_key: int, version: int, /, **fields: Any) -> Any:
    """The reply as a dictionary."""
    frame = encode_request(api_key, version, 1, "compare", Message(**fields))
    data = server.connection.exchange_bytes(frame)
    return plain(decode_reply(api_key, version, memoryview(data)))


def beat(server: ProbedServer, group: str, member: str, epoch: int, *topics: str, **more: Any) -> Any:
    fields = {"rack_id": None, "subscribed_topic_names": list(topics) or None, **more}
    return ask(server, 76, 1, group_id=group, member_id=member, member_epoch=epoch, **fields)


def code(reply: Any) -> int:
    return int(reply["error_code"])


def settled(server: ProbedServer, group: str, member: str, *topics: str) -> tuple[int, list[int]]:
    """(epoch, partitions of each topic) of a member that has joined and has its partitions."""
    reply = beat(server, group, member, 0, *topics)
    for _ in range(SETTLE_TRIES):
        if code(reply):
            return code(reply), []
        parts = reply["assignment"]["topic_partitions"] if reply["assignment"] else []
        if parts:
            return reply["member_epoch"], sorted(len(part["partitions"]) for part in parts)
        time.sleep(0.1)
        reply = beat(server, group, member, reply["member_epoch"], *topics)
    return -1, []


@probe("share-heartbeat-refusals")
def _refusals(server: ProbedServer) -> Any:
    topic = server.topic("shared")
    return [
        beat(server, "refused", "", 0, topic)["error_code"],
        beat(server, "refused", " ", 0, topic)["error_message"],
        beat(server, "", "m", 0, topic)["error_message"],
        beat(server, "refused", "m", 0, topic, rack_id="")["error_message"],
        beat(server, "refused", "m", 0)["error_message"],
        beat(server, "refused", "m", -2)["error_message"],
        code(beat(server, "refused", "m", 1)),
        code(beat(server, "refused", "m", -1)),
    ]


@probe("share-members")
def _members(server: ProbedServer) -> Any:
    topic = server.topic("shared-2", 2)
    first, alone = settled(server, "members", "m1", topic)
    second, _ = settled(server, "members", "m2", topic)
    _, part = settled(server, "members", "m1", topic)
    replies = [
        alone,
        part,
        [code(beat(server, "members", "m1", epoch)) for epoch in (first + 50, 99_999)],
        code(beat(server, "members", "m9", 1)),
        code(beat(server, "members", "m2", 0, topic)),
        code(beat(server, "members", "m9", -1)),
        second > first,
    ]
    left = [beat(server, "members", member, -1) for member in ("m1", "m2")]
    shown = ask(server, 77, 1, group_ids=["members", "none", ""], include_authorized_operations=True)
    groups = [
        {name: group[name] for name in ("error_code", "group_id", "group_state", "assignor_name", "members")}
        for group in sorted(shown["groups"], key=lambda group: str(group["group_id"]))
    ]
    return [*replies, left, groups]


@probe("share-members-described")
def _described(server: ProbedServer) -> Any:
    topic = server.topic("shared-2", 2)
    settled(server, "described", "m1", topic, "not-there")
    shown = ask(server, 77, 1, group_ids=["described"], include_authorized_operations=True)
    (group,) = shown["groups"]
    (member,) = group["members"]
    listed = [
        ask(server, 16, 5, states_filter=states, types_filter=types)
        for states, types in (
            ([], ["share"]),
            (["STABLE"], ["SHARE"]),
            (["empty"], ["share"]),
            ([], ["none"]),
        )
    ]
    for reply in listed:
        reply["groups"] = [entry for entry in reply["groups"] if entry["group_id"] == "described"]
    refused = ask(server, 42, 2, groups_names=["described", "none-such"])
    beat(server, "described", "m1", -1)
    deleted = ask(server, 42, 2, groups_names=["described"])
    del member["member_epoch"], member["assignment"]["topic_partitions"][0]["topic_id"]
    return [group["group_state"], group["authorized_operations"], member, listed, refused, deleted]


@probe("share-and-classic-groups")
def _kinds(server: ProbedServer) -> Any:
    topic = server.topic("shared")
    settled(server, "kind-share", "m", topic)
    join: dict[str, Any] = {
        "group_id": "kind-share",
        "session_timeout": 10_000,
        "rebalance_timeout": 10_000,
        "member_id": "",
        "group_instance_id": None,
        "protocol_type": "consumer",
        "protocols": [Message(name="range", metadata=b"\0\0\0\0\0\0\0\0\0\0")],
    }
    offset = Message(partition_index=0, committed_offset=1, committed_leader_epoch=-1, committed_metadata="")
    commit: dict[str, Any] = {
        "generation_id_or_member_epoch": -1,
        "member_id": "",
        "group_instance_id": None,
        "topics": [Message(name=topic, partitions=[offset])],
    }
    return [
        code(ask(server, 11, 5, **join)),
        ask(server, 8, 8, group_id="kind-share", **commit)["topics"][0]["partitions"],
        ask(server, 8, 8, group_id="kind-classic", **commit)["topics"][0]["partitions"],
        [beat(server, "kind-classic", "m", epoch, topic)["error_message"] for epoch in (0, 1, -1)],
        [
            (group["error_code"], group["error_message"])
            for group in ask(server, 15, 6, groups=["kind-share"], include_authorized_operations=False)[
                "groups"
            ]
        ],
        ask(server, 77, 1, group_ids=["kind-classic"], include_authorized_operations=False)["groups"][0][
            "error_message"
        ],
    ]


def alter(server: ProbedServer, group: str, name: str, value: str | None, operation: int = 0) -> Any:
    config = Message(name=name, config_operation=operation, value=value)
    resource = Message(resource_type=GROUP, resource_name=group, configs=[config])
    reply = ask(server, 44, 1, resources=[resource], validate_only=False)
    return [(result["error_code"], result["resource_name"]) for result in reply["responses"]]


SETTINGS: dict[str, list[str]] = {
    "share.auto.offset.reset": ["earliest", "by_duration:PT1H", "by_duration:-PT1H", "never"],
    "share.record.lock.duration.ms": ["20000", "999", "x"],
    "share.delivery.count.limit": ["7", "1"],
    "share.partition.max.record.locks": ["3000", "99"],
    "share.isolation.level": ["read_committed", "other"],
    "share.renew.acknowledge.enable": ["false", "maybe"],
    "errors.deadletterqueue.topic.name": ["dead", "__dead"],
    "errors.deadletterqueue.copy.record.enable": ["true"],
    "no.such.setting": ["1"],
}


@probe("share-group-settings")
def _settings(server: ProbedServer) -> Any:
    altered = [alter(server, "set", name, value) for name, values in SETTINGS.items() for value in values]
    altered += [alter(server, "", "share.isolation.level", "read_committed")]
    altered += [alter(server, "set", "share.isolation.level", "x", operation=2)]
    names = [name for name in SETTINGS if name != "no.such.setting"]
    resources = [
        Message(resource_type=GROUP, resource_name=name, configuration_keys=names)
        for name in ("set", "unset")
    ]
    shown = ask(server, 32, 4, resources=resources, include_synonyms=True, include_documentation=False)[
        "results"
    ]
    for result in shown:
        result["configs"].sort(key=lambda config: str(config["name"]))
    return [altered, shown, ask(server, 74, 1, resource_types=[GROUP])]


@probe("share-coordinators")
def _coordinators(server: ProbedServer) -> Any:
    settled(server, "kept", "m", server.topic("shared"))  # Kafka makes its topic of this state
    keys = ["g:AAAAAAAAAAAAAAAAAAAAAQ:0", "g", "g:x:0", ""]
    places = []
    for version in (5, 6):
        reply = ask(server, 10, version, key_type=2, coordinator_keys=keys)
        places.append(
            [(place["key"], place["error_code"], place["node_id"]) for place in reply["coordinators"]]
        )
    return places
