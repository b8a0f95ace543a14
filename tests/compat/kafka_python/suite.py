"""kafka-python 3 against a server: `python -m tests.compat.kafka_python.suite ADDRESS [CASE…]`.

No cooperative rebalance here: with two members in one thread, kafka-python 3.0.12 stops reading after it,
with Apache Kafka too.
"""

from __future__ import annotations

import time

from kafka import KafkaProducer, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import MessageSizeTooLargeError, UnknownTopicOrPartitionError

from tests.compat.cases import CODECS, Address, case, eventually, fresh, main, same
from tests.compat.kafka_python import admin_cases, group_cases
from tests.compat.kafka_python.client import (
    HOUR_MS,
    WAIT,
    admin,
    consumer,
    offset_at,
    read,
    send,
    take,
    topic,
)

__all__ = ["admin_cases", "group_cases"]


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
    producers = admin().describe_producers([TopicPartition(name, 0)])[TopicPartition(name, 0)]
    same((len(producers.active_producers), producers.active_producers[0].last_sequence), (1, 99))


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
    name = topic("appendtime", config={"message.timestamp.type": "LogAppendTime"})
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
    name = topic("toolarge", config={"max.message.bytes": "1000"})
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
    answer = client.offsets_for_times({where: base + 3500})[where]
    same((answer.offset, answer.timestamp), (4, base + 4000))
    same(client.offsets_for_times({where: base + HOUR_MS})[where], None)
    same((client.beginning_offsets([where])[where], client.end_offsets([where])[where]), (0, 6))
    client.close()


@case("offset-out-of-range-resets")
def _out_of_range() -> None:
    name = topic("range")
    send(name, [b"a", b"b"])
    same([r.value for r in read(name, 2, offset=500)], [b"a", b"b"])


if __name__ == "__main__":
    main()
