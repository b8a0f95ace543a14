"""Cases of confluent-kafka (librdkafka): consumer groups."""

from __future__ import annotations

from functools import partial
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from tests.compat.cases import case, eventually, fresh, same
from tests.compat.confluent_kafka.client import WAIT, admin, consumer, done, send, take, topic


def _members(name: str, group: str, config: dict[str, Any], seen: dict[int, set[bytes]]) -> None:
    """Two members share 4 partitions; one leaves; the other has all again; every record is read."""
    first, second = consumer(group, config), consumer(group, config)

    def turn(*clients: Consumer) -> bool:
        for client in clients:
            for message in client.consume(50, 0.1):
                if not message.error():
                    seen[message.partition()].add(message.value())
        return True

    def owned(client: Consumer) -> int:
        return len(client.assignment())

    first.subscribe([name])
    eventually(lambda: turn(first) and owned(first) == 4, "first member has all 4 partitions")
    second.subscribe([name])
    eventually(
        lambda: turn(first, second) and (owned(first), owned(second)) == (2, 2), "2 partitions each", 40
    )
    send(name, [b"shared%d" % i for i in range(40)], key=None)
    eventually(lambda: turn(first, second) and sum(map(len, seen.values())) >= 40, "all 40 records read")
    first.close()
    eventually(lambda: turn(second) and owned(second) == 4, "second member has all 4 partitions", 40)
    for partition in range(4):
        send(name, [b"last"], partition=partition)
    eventually(lambda: turn(second) and all(b"last" in seen[p] for p in range(4)), "records after the leave")
    second.close()


@case("group-join-leave")
def _group() -> None:
    _members(topic("group", 4), fresh("g"), {}, {p: set() for p in range(4)})


@case("group-cooperative")
def _cooperative() -> None:
    config = {"partition.assignment.strategy": "cooperative-sticky"}
    _members(topic("coop", 4), fresh("g"), config, {p: set() for p in range(4)})


def _has_both(client: Consumer) -> bool:
    client.poll(0.1)
    return len(client.assignment()) == 2


@case("group-static-member")
def _static_member() -> None:
    name, group = topic("static", 2), fresh("g")
    config = {"group.instance.id": "one", "session.timeout.ms": 10_000}
    for _ in range(2):
        client = consumer(group, config)
        client.subscribe([name])
        eventually(partial(_has_both, client), "static member has both partitions")
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
    committed = client.committed([TopicPartition(name, 0)], WAIT)[0]
    same((committed.offset, committed.metadata), (4, "wörk"))
    client.close()
