"""Cases of kafka-python 3: consumer groups."""

from __future__ import annotations

from functools import partial
from typing import Any

from kafka import TopicPartition
from kafka.consumer.subscription_state import OffsetAndMetadata

from tests.compat.cases import case, eventually, fresh, same
from tests.compat.kafka_python.client import admin, consumer, send, take, topic


def _members(name: str, group: str, **config: Any) -> None:
    """Two members share 4 partitions; one leaves; the other has all again; every record is read."""
    first = consumer(group, heartbeat_interval_ms=300, **config)
    second = consumer(group, heartbeat_interval_ms=300, **config)
    seen: dict[int, set[bytes]] = {p: set() for p in range(4)}

    def turn(*clients: Any) -> bool:
        for client in clients:
            for where, records in client.poll(500).items():
                seen[where.partition].update(record.value for record in records)
        return True

    def shares() -> tuple[int, int]:
        return len(first.assignment()), len(second.assignment())

    first.subscribe([name])
    eventually(lambda: turn(first) and shares() == (4, 0), "first member has all 4 partitions")
    second.subscribe([name])
    eventually(lambda: turn(first, second) and shares() == (2, 2), "2 partitions each", 40)
    for partition in range(4):
        send(name, [b"shared%d" % i for i in range(10)], partition=partition)
    eventually(
        lambda: turn(first, second) and all(len(s) == 10 for s in seen.values()), "all 40 records read"
    )
    first.close()
    eventually(lambda: turn(second) and len(second.assignment()) == 4, "second member has all 4", 40)
    for partition in range(4):
        send(name, [b"last"], partition=partition)
    eventually(lambda: turn(second) and all(b"last" in s for s in seen.values()), "records after the leave")
    second.close()


@case("group-join-leave")
def _group() -> None:
    _members(topic("group", 4), fresh("g"))


def _has_both(client: Any) -> bool:
    client.poll(500)
    return len(client.assignment()) == 2


@case("group-static-member")
def _static_member() -> None:
    name, group = topic("static", 2), fresh("g")
    for _ in range(2):
        client = consumer(group, group_instance_id="one", session_timeout_ms=10_000)
        client.subscribe([name])
        eventually(partial(_has_both, client), "both partitions")
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
    committed = client.committed(where, metadata=True)
    same((committed.offset, committed.metadata), (4, "wörk"))
    client.close()
