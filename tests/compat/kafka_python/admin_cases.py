"""Cases of kafka-python 3: administration."""

from __future__ import annotations

import time
import uuid
from typing import Any

from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec, OffsetTimestamp
from kafka.consumer.subscription_state import OffsetAndMetadata
from kafka.errors import GroupIdNotFoundError, InvalidTopicError, TopicAlreadyExistsError

from tests.compat.cases import Address, case, eventually, fresh, same
from tests.compat.kafka_python.client import HOUR_MS, admin, consumer, offset_at, read, send, take, topic


@case("admin-create-topic")
def _create() -> None:
    name = topic("create", 5, config={"retention.ms": "60000"})
    same(len(admin().describe_topics([name])[0]["partitions"]), 5)
    checked = fresh("checked")
    admin().create_topics({checked: {"num_partitions": 1, "replication_factor": 1}}, validate_only=True)
    same(checked in admin().list_topics(), False, "made by validate_only")
    for bad, error in ((name, TopicAlreadyExistsError), ("no/such", InvalidTopicError)):
        try:
            admin().create_topics({bad: {"num_partitions": 1, "replication_factor": 1}})
        except error:
            continue
        raise AssertionError(f"topic {bad} was made")


@case("admin-describe-topic")
def _describe() -> None:
    name = topic("describe", 3)
    topic_info = admin().describe_topics([name])[0]
    same((topic_info["name"], topic_info["is_internal"], topic_info["error_code"]), (name, False, 0))
    parts = [(p["partition_index"], p["leader_id"], p["isr_nodes"]) for p in topic_info["partitions"]]
    same(parts, [(i, 1, [1]) for i in range(3)])
    by_id = admin().describe_topics([uuid.UUID(topic_info["topic_id"])])[0]
    same(by_id["name"], name, "described by id")
    paged = admin().describe_topic_partitions([name])
    same(len(paged["topics"][0]["partitions"]), 3, "DescribeTopicPartitions")


@case("admin-delete-topic")
def _delete() -> None:
    name = topic("delete")
    admin().delete_topics([name])
    eventually(lambda: name not in admin().list_topics(), "the topic is gone")
    admin().create_topics({name: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    send(name, [b"anew"])
    same([(r.offset, r.value) for r in read(name, 1)], [(0, b"anew")])


@case("admin-create-partitions")
def _create_partitions() -> None:
    name = topic("grow", 2)
    admin().create_partitions({name: 6})
    eventually(lambda: len(admin().describe_topics([name])[0]["partitions"]) == 6, "6 partitions")
    send(name, [b"x"], partition=5)
    same([r.value for r in read(name, 1, 5)], [b"x"])


def _config(name: str, which: str = "all") -> dict[str, Any]:
    resource = ConfigResource(ConfigResourceType.TOPIC, name)
    settings: dict[str, Any] = admin().describe_configs([resource], config_filter=which)["topic"][name]
    return settings


@case("admin-describe-configs")
def _describe_configs() -> None:
    name = topic("configs", config={"retention.ms": "123456"})
    settings = _config(name)
    for key, expected in (
        ("retention.ms", ("123456", "DYNAMIC_TOPIC_CONFIG", "LONG")),
        ("cleanup.policy", ("delete", "DEFAULT_CONFIG", "LIST")),
    ):
        entry = settings[key]
        same((entry["value"], entry["config_source"], entry["config_type"]), expected, key)
    same(list(_config(name, "modified")), ["retention.ms"])


@case("admin-alter-configs")
def _alter_configs() -> None:
    name = topic("alter")

    def change(incremental: bool, **configs: Any) -> Any:
        named = {key.replace("_", "."): value for key, value in configs.items()}
        resource = ConfigResource(ConfigResourceType.TOPIC, name, named)
        answer = admin().alter_configs([resource], raise_on_unknown=False, incremental=incremental)
        return answer["topic"][name]

    same(change(True, retention_ms="777000"), "OK")
    eventually(lambda: _config(name)["retention.ms"]["value"] == "777000", "retention.ms is set")
    same(change(False, segment_bytes="2097152"), "OK")
    eventually(lambda: _config(name)["segment.bytes"]["value"] == "2097152", "segment.bytes is set")
    same(change(True, retention_ms=("DELETE", None)), "OK")
    eventually(lambda: _config(name)["retention.ms"]["value"] == "604800000", "retention.ms is the default")
    for bad in ({"no_such_key": "1"}, {"retention_ms": "soon"}):
        same("40" in change(True, **bad) or "nvalid" in change(True, **bad), True, f"{bad} refused")


def _group_with_commit() -> tuple[str, str]:
    """A topic and a group without members that committed offset 2 of it."""
    name, group = topic("grp"), fresh("grp")
    send(name, [b"a", b"b", b"c"])
    client = consumer(group)
    client.subscribe([name])
    take(client, 2)
    client.commit({TopicPartition(name, 0): OffsetAndMetadata(2, "", -1)})
    client.close()
    return name, group


@case("admin-list-groups")
def _list_groups() -> None:
    _, group = _group_with_commit()
    same([g["group_state"] for g in admin().list_groups() if g["group_id"] == group], ["Empty"])
    stable = admin().list_groups(states_filter=["Stable"])
    same([g for g in stable if g["group_id"] == group], [], "filtered by state")


@case("admin-describe-group")
def _describe_group() -> None:
    name, group = topic("grp", 2), fresh("grp")
    client = consumer(group, client_id="who")
    client.subscribe([name])
    eventually(lambda: client.poll(100) or len(client.assignment()) == 2, "assigned")
    group_info = admin().describe_groups([group])[group]
    same(
        (group_info["error"], group_info["group_state"], group_info["protocol_data"]),
        (None, "Stable", "range"),
    )
    member = group_info["members"][0]
    same((member["client_id"], bool(member["client_host"])), ("who", True))
    client.close()


@case("admin-delete-group")
def _delete_group() -> None:
    _, group = _group_with_commit()
    admin().delete_groups([group])
    same([g for g in admin().list_groups() if g["group_id"] == group], [])
    again = admin().delete_groups([group])
    same(again[group], GroupIdNotFoundError.__name__, "deleted twice")


@case("admin-group-offsets")
def _group_offsets() -> None:
    name, group = _group_with_commit()
    where = TopicPartition(name, 0)
    same(admin().list_group_offsets([group])[group][where].offset, 2)
    admin().reset_group_offsets(group, {where: OffsetSpec.EARLIEST})
    same(admin().list_group_offsets([group])[group][where].offset, 0)
    admin().delete_group_offsets(group, [where])
    same(admin().list_group_offsets([group])[group], {}, "after delete_group_offsets")


@case("admin-delete-records")
def _delete_records() -> None:
    name = topic("trim")
    where = TopicPartition(name, 0)
    send(name, [b"%d" % i for i in range(10)])
    answer = admin().delete_records({where: 4})[where]
    same((answer["error_code"], answer["low_watermark"]), (0, 4))
    same([r.value for r in read(name, 1, offset=4)], [b"4"])
    same(offset_at(name, OffsetSpec.EARLIEST).offset, 4)
    admin().delete_records({where: -1})
    same(offset_at(name, OffsetSpec.EARLIEST).offset, 10)


@case("admin-offsets-by-time")
def _offsets_by_time() -> None:
    name = topic("offsets")
    base = int(time.time() * 1000) - HOUR_MS
    for i in (0, 5, 3):
        send(name, [b"x"], timestamp_ms=base + i * 1000)
    same(offset_at(name, OffsetSpec.LATEST).offset, 3)
    same(offset_at(name, OffsetTimestamp(base + 1))[:2], (1, base + 5000))
    same(offset_at(name, OffsetSpec.MAX_TIMESTAMP)[:2], (1, base + 5000))


@case("admin-describe-cluster")
def _describe_cluster() -> None:
    cluster = admin().describe_cluster()
    same((len(cluster["brokers"]), cluster["controller_id"], bool(cluster["cluster_id"])), (1, 1, True))
    broker = cluster["brokers"][0]
    same(f"{broker['host']}:{broker['port']}", Address.value)


@case("admin-log-dirs")
def _log_dirs() -> None:
    name = topic("dirs")
    send(name, [b"x" * 1000])
    folder = admin().describe_log_dirs({name: [0]})[0]["log_dirs"][0]
    sizes = {t["name"]: t["partitions"][0]["partition_size"] for t in folder["topics"]}
    same((folder["error_code"], list(sizes), sizes[name] > 1000), (0, [name], True))


@case("admin-config-resources")
def _config_resources() -> None:
    name = topic("listed")
    same(name in admin().list_config_resources(["TOPIC"])["topic"], True)
