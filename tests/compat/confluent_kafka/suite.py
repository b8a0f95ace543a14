"""confluent-kafka (librdkafka) against a server: `python -m tests.compat.confluent_kafka.suite ADDRESS [CASE…]`."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from tests.compat.cases import CODECS, Address, case, eventually, fresh, main, same

WAIT = 20.0
HOUR_MS = 3_600_000


@cache
def admin() -> AdminClient:
    """The one admin client: its futures fail when it is collected before they are done."""
    return AdminClient({"bootstrap.servers": Address.value})


def done(futures: dict[Any, Any]) -> list[Any]:
    """The results of an admin call, in order."""
    return [future.result(WAIT) for future in futures.values()]


def topic(prefix: str, partitions: int = 1, **config: str) -> str:
    name = fresh(prefix)
    done(admin().create_topics([NewTopic(name, partitions, 1, config=config)]))
    return name


def producer(**config: Any) -> Producer:
    return Producer({"bootstrap.servers": Address.value, "linger.ms": 5} | config)


def consumer(group: str | None = None, **config: Any) -> Consumer:
    base = {"bootstrap.servers": Address.value, "group.id": group or fresh("g")}
    return Consumer(base | {"auto.offset.reset": "earliest", "enable.auto.commit": False} | config)


def send(name: str, values: list[Any], config: dict[str, Any] | None = None, **fields: Any) -> list[Message]:
    """Produce the values and wait for the acknowledgements; returns the delivered messages."""
    reports: list[Message] = []
    failures: list[Any] = []

    def report(error: Any, message: Message) -> None:
        (failures if error else reports).append(error or message)

    client = producer(**(config or {}))
    for value in values:
        client.produce(name, value, on_delivery=report, **fields)
    same(client.flush(WAIT), 0, "messages left after flush")
    same(failures, [], "delivery errors")
    return reports


def take(client: Consumer, count: int, seconds: float = WAIT) -> list[Message]:
    """Exactly so many messages."""
    messages: list[Message] = []
    deadline = time.monotonic() + seconds
    while len(messages) < count and time.monotonic() < deadline:
        for message in client.consume(count - len(messages), 0.2):
            if message.error():
                raise KafkaException(message.error())
            messages.append(message)
    same(len(messages), count, "messages read")
    return messages


def read(name: str, count: int, partition: int = 0, offset: int = OFFSET_BEGINNING) -> list[Message]:
    client = consumer()
    client.assign([TopicPartition(name, partition, offset)])
    messages = take(client, count)
    client.close()
    return messages


def _codec(codec: str) -> None:
    name = topic("codec")
    values = [f"{i:04d}".encode() * 250 for i in range(200)]
    send(name, values, {"compression.type": codec, "linger.ms": 50})
    same([m.value() for m in read(name, 200)], values)


for _name in CODECS:
    case(f"produce-{_name}")(lambda codec=_name: _codec(codec))  # type: ignore[misc]


@case("headers")
def _headers() -> None:
    name = topic("headers")
    headers = [("a", b"1"), ("a", b"2"), ("empty", b""), ("null", None), ("ünï", "välue".encode())]
    send(name, [b"x"], headers=headers)
    same(read(name, 1)[0].headers(), headers)


@case("null-key")
def _null_key() -> None:
    name = topic("nullkey")
    send(name, [b"x"], key=None)
    send(name, [b"y"], key=b"")
    same([m.key() for m in read(name, 2)], [None, b""])


@case("null-value")
def _null_value() -> None:
    name = topic("nullvalue")
    send(name, [None], key=b"k")
    same([(m.key(), m.value()) for m in read(name, 1)], [(b"k", None)])


@case("empty-value")
def _empty_value() -> None:
    name = topic("emptyvalue")
    send(name, [b"", b""])
    same([m.value() for m in read(name, 2)], [b"", b""])


@case("idempotent-producer")
def _idempotent() -> None:
    name = topic("idempotent", 3)
    client = producer(**{"enable.idempotence": True, "linger.ms": 0})
    failures: list[Any] = []
    for i in range(1000):
        client.produce(
            name, b"%d" % i, partition=i % 3, on_delivery=lambda e, m: failures.append(e) if e else None
        )
        client.poll(0)
    same((client.flush(WAIT), failures), (0, []))
    for partition in range(3):
        expected = [b"%d" % i for i in range(partition, 1000, 3)]
        same([m.value() for m in read(name, len(expected), partition)], expected)


@case("explicit-partition")
def _explicit_partition() -> None:
    name = topic("explicit", 4)
    for partition in (3, 1):
        sent = send(name, [b"p%d" % partition], partition=partition)
        same((sent[0].partition(), sent[0].offset()), (partition, 0))
        same([m.value() for m in read(name, 1, partition)], [b"p%d" % partition])


@case("record-timestamp")
def _timestamp() -> None:
    name = topic("timestamp")
    stamp = int(time.time() * 1000) - 5 * HOUR_MS
    send(name, [b"x"], timestamp=stamp)
    same(read(name, 1)[0].timestamp(), (1, stamp))


@case("log-append-time")
def _log_append_time() -> None:
    name = topic("appendtime", **{"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000)
    send(name, [b"x"], timestamp=before - 5 * HOUR_MS)
    kind, stamp = read(name, 1)[0].timestamp()
    same((kind, abs(stamp - before) < 60_000), (2, True))


@case("acks-0-and-1")
def _acks() -> None:
    name = topic("acks")
    send(name, [b"zero"], {"acks": 0})
    eventually(lambda: admin_offset(name, OffsetSpec.latest()) == 1, "the acks=0 record is there")
    send(name, [b"one"], {"acks": 1})
    same([m.value() for m in read(name, 2)], [b"zero", b"one"])


@case("large-record")
def _large() -> None:
    name = topic("large", **{"max.message.bytes": "12000000"})
    value = bytes(range(256)) * 40_000
    send(name, [value], {"message.max.bytes": 12_000_000})
    same(read(name, 1)[0].value() == value, True, "10 MB value is equal")


@case("too-large-refused")
def _too_large() -> None:
    name = topic("toolarge", **{"max.message.bytes": "1000"})
    try:
        send(name, [b"x" * 5000])
    except AssertionError as error:
        assert "MSG_SIZE_TOO_LARGE" in str(error), error
    else:
        raise AssertionError("a record above max.message.bytes was taken")


@case("unknown-topic-refused")
def _unknown_topic() -> None:
    client = consumer(**{"allow.auto.create.topics": False})
    name = fresh("nothere")
    client.subscribe([name])
    message = client.poll(WAIT)
    same(message and message.error().name(), "UNKNOWN_TOPIC_OR_PART")
    client.close()
    same(name in admin().list_topics(timeout=WAIT).topics, False, "made by looking")


@case("auto-create-topic")
def _auto_create() -> None:
    name = fresh("auto")
    send(name, [b"x"])
    same([m.value() for m in read(name, 1)], [b"x"])


@case("consume-earliest")
def _earliest() -> None:
    name = topic("earliest")
    send(name, [b"a", b"b"])
    client = consumer()
    client.subscribe([name])
    same([m.value() for m in take(client, 2)], [b"a", b"b"])
    client.close()


@case("consume-latest")
def _latest() -> None:
    name = topic("latest")
    send(name, [b"old"])
    client = consumer(**{"auto.offset.reset": "latest"})
    client.assign([TopicPartition(name, 0, OFFSET_END)])
    same(client.poll(2.0), None, "something before the new record")
    send(name, [b"new"])
    same([m.value() for m in take(client, 1)], [b"new"])
    client.close()


@case("consume-from-offset")
def _from_offset() -> None:
    name = topic("offset")
    send(name, [b"%d" % i for i in range(100)])
    same([m.value() for m in read(name, 3, offset=57)], [b"57", b"58", b"59"])
    client = consumer()
    client.assign([TopicPartition(name, 0, 90)])
    take(client, 1)
    client.seek(TopicPartition(name, 0, 5))
    same(take(client, 1)[0].offset(), 5)
    client.close()


@case("consume-from-time")
def _from_time() -> None:
    name = topic("time")
    base = int(time.time() * 1000) - HOUR_MS
    for i in range(10):
        send(name, [b"%d" % i], timestamp=base + i * 1000)
    client = consumer()
    found = client.offsets_for_times([TopicPartition(name, 0, base + 4500)], WAIT)
    same(found[0].offset, 5)
    after_all = client.offsets_for_times([TopicPartition(name, 0, base + HOUR_MS)], WAIT)
    same(after_all[0].offset, OFFSET_END)
    client.close()
    same([m.value() for m in read(name, 1, offset=5)], [b"5"])


@case("offset-out-of-range-resets")
def _out_of_range() -> None:
    name = topic("range")
    send(name, [b"a", b"b"])
    client = consumer()
    client.assign([TopicPartition(name, 0, 500)])
    same([m.value() for m in take(client, 2)], [b"a", b"b"])
    client.close()


def _members(name: str, group: str, config: dict[str, Any], seen: dict[int, set[bytes]]) -> None:
    """Two members share 4 partitions; one leaves; the other has all again; every record is read."""
    first, second = consumer(group, **config), consumer(group, **config)

    def turn(*clients: Consumer) -> None:
        for client in clients:
            for message in client.consume(50, 0.1):
                if not message.error():
                    seen[message.partition()].add(message.value())

    def owned(client: Consumer) -> int:
        return len(client.assignment())

    first.subscribe([name])
    eventually(lambda: turn(first) or owned(first) == 4, "first member has all 4 partitions")
    second.subscribe([name])
    eventually(
        lambda: turn(first, second) or (owned(first), owned(second)) == (2, 2), "2 partitions each", 40
    )
    send(name, [b"shared%d" % i for i in range(40)], key=None)
    eventually(lambda: turn(first, second) or sum(map(len, seen.values())) >= 40, "all 40 records read")
    first.close()
    eventually(lambda: turn(second) or owned(second) == 4, "second member has all 4 partitions", 40)
    for partition in range(4):
        send(name, [b"last"], partition=partition)
    eventually(lambda: turn(second) or all(b"last" in seen[p] for p in range(4)), "records after the leave")
    second.close()


@case("group-join-leave")
def _group() -> None:
    _members(topic("group", 4), fresh("g"), {}, {p: set() for p in range(4)})


@case("group-cooperative")
def _cooperative() -> None:
    config = {"partition.assignment.strategy": "cooperative-sticky"}
    _members(topic("coop", 4), fresh("g"), config, {p: set() for p in range(4)})


@case("group-static-member")
def _static_member() -> None:
    name, group = topic("static", 2), fresh("g")
    config = {"group.instance.id": "one", "session.timeout.ms": 10_000}
    for _ in range(2):
        client = consumer(group, **config)
        client.subscribe([name])
        eventually(
            lambda c=client: c.poll(0.1) or len(c.assignment()) == 2, "static member has both partitions"
        )  # type: ignore[misc]
        client.close()
    described = done(admin().describe_consumer_groups([group]))[0]
    same([m.group_instance_id for m in described.members], ["one"], "static member stays after close")


@case("group-commits-survive")
def _commits() -> None:
    name, group = topic("commit"), fresh("g")
    send(name, [b"%d" % i for i in range(10)])
    client = consumer(group)
    client.subscribe([name])
    take(client, 4)
    client.commit(offsets=[TopicPartition(name, 0, 4, "wörk")], asynchronous=False)
    client.close()
    client = consumer(group)
    client.subscribe([name])
    same(take(client, 1)[0].value(), b"4")
    kept = client.committed([TopicPartition(name, 0)], WAIT)[0]
    same((kept.offset, kept.metadata), (4, "wörk"))
    client.close()


@case("admin-create-topic")
def _create() -> None:
    name = topic("create", 5, **{"retention.ms": "60000"})
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
    from confluent_kafka import TopicCollection

    name = topic("describe", 3)
    found = done(admin().describe_topics(TopicCollection([name])))[0]
    same((found.name, len(found.partitions), found.is_internal), (name, 3, False))
    same(
        [(p.id, p.leader.id, [n.id for n in p.isr]) for p in found.partitions],
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
    found: dict[str, Any] = done(admin().describe_configs([ConfigResource(ResourceType.TOPIC, name)]))[0]
    return found


@case("admin-describe-configs")
def _describe_configs() -> None:
    found = _config(topic("configs", **{"retention.ms": "123456"}))
    same((found["retention.ms"].value, found["retention.ms"].is_default), ("123456", False))
    same((found["cleanup.policy"].value, found["cleanup.policy"].is_default), ("delete", True))
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
    client = consumer(group, **{"client.id": "who"})
    client.subscribe([name])
    eventually(lambda: client.poll(0.1) or len(client.assignment()) == 2, "assigned")
    found = done(admin().describe_consumer_groups([group]))[0]
    same((found.group_id, found.state.name, found.partition_assignor), (group, "STABLE", "range"))
    member = found.members[0]
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


def admin_offset(name: str, spec: OffsetSpec) -> int:
    offset: int = done(admin().list_offsets({TopicPartition(name, 0): spec}))[0].offset
    return offset


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
    found = admin().describe_cluster().result(WAIT)
    same((len(found.nodes), found.controller.id, bool(found.cluster_id)), (1, 1, True))
    same(f"{found.nodes[0].host}:{found.nodes[0].port}", Address.value)


if __name__ == "__main__":
    main()
