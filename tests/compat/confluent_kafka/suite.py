"""confluent-kafka (librdkafka) against a server:
`python -m tests.compat.confluent_kafka.suite ADDRESS [CASE…]`."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import OffsetSpec

from tests.compat.cases import CODECS, case, eventually, fresh, main, same
from tests.compat.confluent_kafka import admin_cases, group_cases, share_cases
from tests.compat.confluent_kafka.client import (
    HOUR_MS,
    WAIT,
    admin,
    admin_offset,
    consumer,
    producer,
    read,
    send,
    take,
    topic,
)

__all__ = ["admin_cases", "group_cases", "share_cases"]


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
    name = topic("appendtime", config={"message.timestamp.type": "LogAppendTime"})
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
    name = topic("large", config={"max.message.bytes": "12000000"})
    value = bytes(range(256)) * 40_000
    send(name, [value], {"message.max.bytes": 12_000_000})
    same(read(name, 1)[0].value() == value, True, "10 MB value is equal")


@case("too-large-refused")
def _too_large() -> None:
    name = topic("toolarge", config={"max.message.bytes": "1000"})
    try:
        send(name, [b"x" * 5000])
    except AssertionError as error:
        same("MSG_SIZE_TOO_LARGE" in str(error), True, str(error))
    else:
        raise AssertionError("a record above max.message.bytes was taken")


@case("unknown-topic-refused")
def _unknown_topic() -> None:
    client = consumer(config={"allow.auto.create.topics": False})
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
    client = consumer(config={"auto.offset.reset": "latest"})
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
    positions = client.offsets_for_times([TopicPartition(name, 0, base + 4500)], WAIT)
    same(positions[0].offset, 5)
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


if __name__ == "__main__":
    main()
