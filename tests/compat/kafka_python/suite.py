"""kafka-python 3 against a server: `python -m tests.compat.kafka_python.suite ADDRESS [CASE…]`.

No cooperative rebalance here: with two members in one thread, kafka-python 3.0.12 stops reading after it, with Apache
Kafka too.
"""

from __future__ import annotations

import time
import uuid
from functools import cache
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec, OffsetTimestamp
from kafka.consumer.subscription_state import OffsetAndMetadata
from kafka.errors import (
    GroupIdNotFoundError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

from tests.compat.cases import CODECS, Address, case, eventually, fresh, main, same

WAIT = 20.0
WAIT_MS = 20_000
HOUR_MS = 3_600_000


@cache
def admin() -> Any:
    return KafkaAdminClient(bootstrap_servers=Address.value)


def topic(prefix: str, partitions: int = 1, **config: str) -> str:
    name = fresh(prefix)
    options = {"num_partitions": partitions, "replication_factor": 1, "configs": config}
    admin().create_topics({name: options}, wait_for_metadata=True)
    return name


def consumer(group: str | None = None, **config: Any) -> Any:
    base = {"bootstrap_servers": Address.value, "group_id": group}
    return KafkaConsumer(**(base | {"auto_offset_reset": "earliest", "enable_auto_commit": False} | config))


def send(name: str, values: list[Any], config: dict[str, Any] | None = None, **fields: Any) -> list[Any]:
    """Produce the values and wait for the acknowledgements."""
    producer = KafkaProducer(**({"bootstrap_servers": Address.value, "linger_ms": 5} | (config or {})))
    futures = [producer.send(name, value, **fields) for value in values]
    producer.flush(WAIT)
    results = [future.get(WAIT) for future in futures]
    producer.close(WAIT)
    return results


def take(client: Any, count: int) -> list[Any]:
    """Exactly so many records."""
    records: list[Any] = []
    deadline = time.monotonic() + WAIT
    while len(records) < count and time.monotonic() < deadline:
        for some in client.poll(200, max_records=count - len(records)).values():
            records.extend(some)
    same(len(records), count, "records read")
    return records


def read(name: str, count: int, partition: int = 0, offset: int = 0) -> list[Any]:
    client = consumer()
    where = TopicPartition(name, partition)
    client.assign([where])
    client.seek(where, offset)
    records = take(client, count)
    client.close()
    return records


def offset_at(name: str, spec: Any) -> Any:
    where = TopicPartition(name, 0)
    return admin().list_partition_offsets({where: spec})[where]


def _codec(codec: str) -> None:
    name = topic("codec")
    values = [f"{i:04d}".encode() * 250 for i in range(200)]
    send(name, values, {"compression_type": None if codec == "none" else codec, "linger_ms": 50})
    same([r.value for r in read(name, 200)], values)


for _name in CODECS:
    case(f"produce-{_name}")(lambda codec=_name: _codec(codec))  # type: ignore[misc]


@case("headers")
def _headers() -> None:
    name = topic("headers")
    headers = [("a", b"1"), ("a", b"2"), ("empty", b""), ("ünï", "välue".encode())]
    send(name, [b"x"], headers=headers)
    same(list(read(name, 1)[0].headers), headers)


@case("null-key")
def _null_key() -> None:
    name = topic("nullkey")
    send(name, [b"x"], key=None)
    send(name, [b"y"], key=b"")
    same([r.key for r in read(name, 2)], [None, b""])


@case("null-value")
def _null_value() -> None:
    name = topic("nullvalue")
    send(name, [None], key=b"k")
    same([(r.key, r.value) for r in read(name, 1)], [(b"k", None)])


@case("empty-value")
def _empty_value() -> None:
    name = topic("emptyvalue")
    send(name, [b"", b""])
    same([r.value for r in read(name, 2)], [b"", b""])


@case("idempotent-producer")
def _idempotent() -> None:
    name = topic("idempotent", 3)
    client = KafkaProducer(bootstrap_servers=Address.value, enable_idempotence=True, linger_ms=0)
    futures = [client.send(name, b"%d" % i, partition=i % 3) for i in range(300)]
    client.flush(WAIT)
    same({future.get(WAIT).topic for future in futures}, {name})
    client.close(WAIT)
    for partition in range(3):
        same([r.value for r in read(name, 100, partition)], [b"%d" % i for i in range(partition, 300, 3)])
    found = admin().describe_producers([TopicPartition(name, 0)])[TopicPartition(name, 0)]
    same((len(found.active_producers), found.active_producers[0].last_sequence), (1, 99))


@case("explicit-partition")
def _explicit_partition() -> None:
    name = topic("explicit", 4)
    for partition in (3, 1):
        sent = send(name, [b"p%d" % partition], partition=partition)
        same((sent[0].partition, sent[0].offset), (partition, 0))
        same([r.value for r in read(name, 1, partition)], [b"p%d" % partition])


@case("record-timestamp")
def _timestamp() -> None:
    name = topic("timestamp")
    stamp = int(time.time() * 1000) - 5 * HOUR_MS
    send(name, [b"x"], timestamp_ms=stamp)
    record = read(name, 1)[0]
    same((record.timestamp_type, record.timestamp), (0, stamp))


@case("log-append-time")
def _log_append_time() -> None:
    name = topic("appendtime", **{"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000)
    sent = send(name, [b"x"], timestamp_ms=before - 5 * HOUR_MS)[0]
    record = read(name, 1)[0]
    same((record.timestamp_type, record.timestamp), (1, sent.timestamp))
    same(abs(sent.timestamp - before) < 60_000, True, "the server's time")


@case("acks-0-and-1")
def _acks() -> None:
    name = topic("acks")
    send(name, [b"zero"], {"acks": 0, "enable_idempotence": False})
    eventually(lambda: offset_at(name, OffsetSpec.LATEST).offset == 1, "the acks=0 record is there")
    send(name, [b"one"], {"acks": 1, "enable_idempotence": False})
    same([r.value for r in read(name, 2)], [b"zero", b"one"])


@case("too-large-refused")
def _too_large() -> None:
    name = topic("toolarge", **{"max.message.bytes": "1000"})
    try:
        send(name, [b"x" * 5000])
    except MessageSizeTooLargeError:
        return
    raise AssertionError("a record above max.message.bytes was taken")


@case("unknown-topic-refused")
def _unknown_topic() -> None:
    name = fresh("nothere")
    client = consumer(allow_auto_create_topics=False)
    same(client.partitions_for_topic(name) or None, None)
    client.close()
    same(name in admin().list_topics(), False, "made by looking")
    try:
        admin().delete_topics([name])
    except UnknownTopicOrPartitionError:
        return
    raise AssertionError("an unknown topic was deleted")


@case("auto-create-topic")
def _auto_create() -> None:
    name = fresh("auto")
    send(name, [b"x"])
    same([r.value for r in read(name, 1)], [b"x"])


@case("consume-earliest")
def _earliest() -> None:
    name = topic("earliest")
    send(name, [b"a", b"b"])
    client = consumer(fresh("g"))
    client.subscribe([name])
    same([r.value for r in take(client, 2)], [b"a", b"b"])
    client.close()


@case("consume-latest")
def _latest() -> None:
    name = topic("latest")
    send(name, [b"old"])
    client = consumer(auto_offset_reset="latest")
    client.assign([TopicPartition(name, 0)])
    same(client.poll(1000), {}, "something before the new record")
    send(name, [b"new"])
    same([r.value for r in take(client, 1)], [b"new"])
    client.close()


@case("consume-from-offset")
def _from_offset() -> None:
    name = topic("offset")
    send(name, [b"%d" % i for i in range(100)])
    same([r.value for r in read(name, 3, offset=57)], [b"57", b"58", b"59"])
    client = consumer()
    where = TopicPartition(name, 0)
    client.assign([where])
    client.seek(where, 90)
    take(client, 1)
    client.seek_to_beginning(where)
    same((take(client, 1)[0].offset, client.position(where)), (0, 1))
    same(client.highwater(where), 100)
    client.close()


@case("consume-from-time")
def _from_time() -> None:
    name = topic("time")
    base = int(time.time() * 1000) - HOUR_MS
    for i in range(6):
        send(name, [b"%d" % i], timestamp_ms=base + i * 1000)
    client, where = consumer(), TopicPartition(name, 0)
    found = client.offsets_for_times({where: base + 3500})[where]
    same((found.offset, found.timestamp), (4, base + 4000))
    same(client.offsets_for_times({where: base + HOUR_MS})[where], None)
    same((client.beginning_offsets([where])[where], client.end_offsets([where])[where]), (0, 6))
    client.close()


@case("offset-out-of-range-resets")
def _out_of_range() -> None:
    name = topic("range")
    send(name, [b"a", b"b"])
    same([r.value for r in read(name, 2, offset=500)], [b"a", b"b"])


def _members(name: str, group: str, **config: Any) -> None:
    """Two members share 4 partitions; one leaves; the other has all again; every record is read."""
    first = consumer(group, heartbeat_interval_ms=300, **config)
    second = consumer(group, heartbeat_interval_ms=300, **config)
    seen: dict[int, set[bytes]] = {p: set() for p in range(4)}

    def turn(*clients: Any) -> None:
        for client in clients:
            for where, records in client.poll(500).items():
                seen[where.partition].update(record.value for record in records)

    def shares() -> tuple[int, int]:
        return len(first.assignment()), len(second.assignment())

    first.subscribe([name])
    eventually(lambda: turn(first) or shares() == (4, 0), "first member has all 4 partitions")
    second.subscribe([name])
    eventually(lambda: turn(first, second) or shares() == (2, 2), "2 partitions each", 40)
    for partition in range(4):
        send(name, [b"shared%d" % i for i in range(10)], partition=partition)
    eventually(lambda: turn(first, second) or all(len(s) == 10 for s in seen.values()), "all 40 records read")
    first.close()
    eventually(lambda: turn(second) or len(second.assignment()) == 4, "second member has all 4", 40)
    for partition in range(4):
        send(name, [b"last"], partition=partition)
    eventually(lambda: turn(second) or all(b"last" in s for s in seen.values()), "records after the leave")
    second.close()


@case("group-join-leave")
def _group() -> None:
    _members(topic("group", 4), fresh("g"))


@case("group-static-member")
def _static_member() -> None:
    name, group = topic("static", 2), fresh("g")
    for _ in range(2):
        client = consumer(group, group_instance_id="one", session_timeout_ms=10_000)
        client.subscribe([name])
        eventually(lambda c=client: c.poll(100) or len(c.assignment()) == 2, "both partitions")  # type: ignore[misc]
        client.close()
    members = admin().describe_groups([group])[group]["members"]
    same([m["group_instance_id"] for m in members], ["one"], "static member stays after close")


@case("group-commits-survive")
def _commits() -> None:
    name, group = topic("commit"), fresh("g")
    where = TopicPartition(name, 0)
    send(name, [b"%d" % i for i in range(10)])
    client = consumer(group)
    client.subscribe([name])
    take(client, 4)
    client.commit({where: OffsetAndMetadata(4, "wörk", -1)})
    client.close()
    client = consumer(group)
    client.subscribe([name])
    same(take(client, 1)[0].value, b"4")
    kept = client.committed(where, metadata=True)
    same((kept.offset, kept.metadata), (4, "wörk"))
    client.close()


@case("admin-create-topic")
def _create() -> None:
    name = topic("create", 5, **{"retention.ms": "60000"})
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
    found = admin().describe_topics([name])[0]
    same((found["name"], found["is_internal"], found["error_code"]), (name, False, 0))
    parts = [(p["partition_index"], p["leader_id"], p["isr_nodes"]) for p in found["partitions"]]
    same(parts, [(i, 1, [1]) for i in range(3)])
    by_id = admin().describe_topics([uuid.UUID(found["topic_id"])])[0]
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
    found: dict[str, Any] = admin().describe_configs([resource], config_filter=which)["topic"][name]
    return found


@case("admin-describe-configs")
def _describe_configs() -> None:
    name = topic("configs", **{"retention.ms": "123456"})
    found = _config(name)
    for key, expected in (
        ("retention.ms", ("123456", "DYNAMIC_TOPIC_CONFIG", "LONG")),
        ("cleanup.policy", ("delete", "DEFAULT_CONFIG", "LIST")),
    ):
        entry = found[key]
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
    found = admin().describe_groups([group])[group]
    same((found["error"], found["group_state"], found["protocol_data"]), (None, "Stable", "range"))
    member = found["members"][0]
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
    found = admin().describe_cluster()
    same((len(found["brokers"]), found["controller_id"], bool(found["cluster_id"])), (1, 1, True))
    broker = found["brokers"][0]
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


if __name__ == "__main__":
    main()
