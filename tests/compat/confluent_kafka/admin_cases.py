"""Cases of confluent-kafka (librdkafka): administration."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import (
    OFFSET_END,
    ConsumerGroupTopicPartitions,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from tests.compat.cases import Address, case, eventually, fresh, same
from tests.compat.confluent_kafka.client import (
    HOUR_MS,
    WAIT,
    admin,
    admin_offset,
    consumer,
    done,
    read,
    send,
    take,
    topic,
)


@case("admin-create-topic")
def _create() -> None:
    name = topic("create", 5, config={"retention.ms": "60000"})
    same(len(admin().list_topics(name, WAIT).topics[name].partitions), 5)
    future = admin().create_topics([NewTopic(name, 1, 1)])[name]
    try:
        future.result(WAIT)
    except KafkaException as error:
        same(error.args[0].name(), "TOPIC_ALREADY_EXISTS")
    else:
        raise AssertionError("the same topic was made twice")
    checked = fresh("checked")
    done(admin().create_topics([NewTopic(checked, 1, 1)], validate_only=True))
    same(checked in admin().list_topics(timeout=WAIT).topics, False, "made by validate_only")


@case("admin-describe-topic")
def _describe() -> None:
    name = topic("describe", 3)
    topic_info = done(admin().describe_topics(TopicCollection([name])))[0]
    same((topic_info.name, len(topic_info.partitions), topic_info.is_internal), (name, 3, False))
    same(
        [(p.id, p.leader.id, [n.id for n in p.isr]) for p in topic_info.partitions],
        [(i, 1, [1]) for i in range(3)],
    )


@case("admin-delete-topic")
def _delete() -> None:
    name = topic("delete")
    done(admin().delete_topics([name]))
    eventually(lambda: name not in admin().list_topics(timeout=WAIT).topics, "the topic is gone")
    done(admin().create_topics([NewTopic(name, 1, 1)]))
    send(name, [b"anew"])
    same([(m.offset(), m.value()) for m in read(name, 1)], [(0, b"anew")])


@case("admin-create-partitions")
def _create_partitions() -> None:
    name = topic("grow", 2)
    done(admin().create_partitions([NewPartitions(name, 6)]))
    eventually(lambda: len(admin().list_topics(name, WAIT).topics[name].partitions) == 6, "6 partitions")
    send(name, [b"x"], partition=5)
    same([m.value() for m in read(name, 1, 5)], [b"x"])


def _config(name: str) -> dict[str, Any]:
    settings: dict[str, Any] = done(admin().describe_configs([ConfigResource(ResourceType.TOPIC, name)]))[0]
    return settings


@case("admin-describe-configs")
def _describe_configs() -> None:
    settings = _config(topic("configs", config={"retention.ms": "123456"}))
    same((settings["retention.ms"].value, settings["retention.ms"].is_default), ("123456", False))
    same((settings["cleanup.policy"].value, settings["cleanup.policy"].is_default), ("delete", True))
    broker = done(admin().describe_configs([ConfigResource(ResourceType.BROKER, "1")]))[0]
    same("log.retention.ms" in broker or "log.retention.hours" in broker, True, "broker configs")


@case("admin-alter-configs")
def _alter_configs() -> None:
    name = topic("alter")

    def change(key: str, value: str | None, operation: AlterConfigOpType) -> None:
        entry = ConfigEntry(key, value, incremental_operation=operation)
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
        done(admin().incremental_alter_configs([resource]))

    change("retention.ms", "777000", AlterConfigOpType.SET)
    eventually(lambda: _config(name)["retention.ms"].value == "777000", "retention.ms is set")
    change("retention.ms", None, AlterConfigOpType.DELETE)
    eventually(
        lambda: _config(name)["retention.ms"].value == "604800000", "retention.ms is the default again"
    )
    for key, value in (("no.such.key", "1"), ("retention.ms", "soon")):
        try:
            change(key, value, AlterConfigOpType.SET)
        except KafkaException as error:
            same(error.args[0].name(), "INVALID_CONFIG")
        else:
            raise AssertionError(f"{key}={value} was taken")


def _group_with_commit(state_topic: str | None = None) -> tuple[str, str]:
    """A topic and a group without members that committed offset 2 of it."""
    name, group = state_topic or topic("grp"), fresh("grp")
    send(name, [b"a", b"b", b"c"])
    client = consumer(group)
    client.subscribe([name])
    take(client, 2)
    client.commit(offsets=[TopicPartition(name, 0, 2)], asynchronous=False)
    client.close()
    return name, group


@case("admin-list-groups")
def _list_groups() -> None:
    _, group = _group_with_commit()
    listed = admin().list_consumer_groups().result(WAIT)
    same([g.state.name for g in listed.valid if g.group_id == group], ["EMPTY"])
    same(listed.errors, [])


@case("admin-describe-group")
def _describe_group() -> None:
    name, group = topic("grp", 2), fresh("grp")
    client = consumer(group, config={"client.id": "who"})
    client.subscribe([name])
    eventually(lambda: client.poll(0.1) or len(client.assignment()) == 2, "assigned")
    group_info = done(admin().describe_consumer_groups([group]))[0]
    same(
        (group_info.group_id, group_info.state.name, group_info.partition_assignor),
        (group, "STABLE", "range"),
    )
    member = group_info.members[0]
    parts = [(p.topic, p.partition) for p in member.assignment.topic_partitions]
    same((member.client_id, bool(member.host), parts), ("who", True, [(name, 0), (name, 1)]))
    client.close()


@case("admin-delete-group")
def _delete_group() -> None:
    _, group = _group_with_commit()
    done(admin().delete_consumer_groups([group]))
    listed = admin().list_consumer_groups().result(WAIT)
    same([g for g in listed.valid if g.group_id == group], [])
    try:
        done(admin().delete_consumer_groups([group]))
    except KafkaException as error:
        same(error.args[0].name(), "GROUP_ID_NOT_FOUND")


@case("admin-group-offsets")
def _group_offsets() -> None:
    name, group = _group_with_commit()
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(name, 0)])
    same(done(admin().list_consumer_group_offsets([asked]))[0].topic_partitions[0].offset, 2)
    change = ConsumerGroupTopicPartitions(group, [TopicPartition(name, 0, 1)])
    done(admin().alter_consumer_group_offsets([change]))
    everything = ConsumerGroupTopicPartitions(group)
    same(done(admin().list_consumer_group_offsets([everything]))[0].topic_partitions[0].offset, 1)


@case("admin-delete-records")
def _delete_records() -> None:
    name = topic("trim")
    send(name, [b"%d" % i for i in range(10)])
    same(done(admin().delete_records([TopicPartition(name, 0, 4)]))[0].low_watermark, 4)
    same([m.value() for m in read(name, 1)], [b"4"])
    same(admin_offset(name, OffsetSpec.earliest()), 4)
    done(admin().delete_records([TopicPartition(name, 0, OFFSET_END)]))
    same(admin_offset(name, OffsetSpec.earliest()), 10)


@case("admin-offsets-by-time")
def _offsets_by_time() -> None:
    name = topic("offsets")
    base = int(time.time() * 1000) - HOUR_MS
    for i in (0, 5, 3):
        send(name, [b"x"], timestamp=base + i * 1000)
    same(admin_offset(name, OffsetSpec.earliest()), 0)
    same(admin_offset(name, OffsetSpec.latest()), 3)
    same(admin_offset(name, OffsetSpec.for_timestamp(base + 1)), 1)
    same(admin_offset(name, OffsetSpec.max_timestamp()), 1)
    same(admin_offset(name, OffsetSpec.for_timestamp(base + HOUR_MS)), -1)


@case("admin-describe-cluster")
def _describe_cluster() -> None:
    cluster = admin().describe_cluster().result(WAIT)
    same((len(cluster.nodes), cluster.controller.id, bool(cluster.cluster_id)), (1, 1, True))
    same(f"{cluster.nodes[0].host}:{cluster.nodes[0].port}", Address.value)
