"""Cases of confluent-kafka (librdkafka): the share consumer."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import AcknowledgeType, ShareConsumer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.compat.cases import Address, case, eventually, fresh, same
from tests.compat.confluent_kafka.client import WAIT, admin, done, send, topic


def group(**configs: str) -> str:
    """A share group that begins at the beginning."""
    name = fresh("share")
    chosen = {"share.auto.offset.reset": "earliest"}
    chosen |= {key.replace("_", "."): value for key, value in configs.items()}
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in chosen.items()
    ]
    resource = ConfigResource(ResourceType.GROUP, name, incremental_configs=entries)
    done(admin().incremental_alter_configs([resource]))
    return name


def share_consumer(name: str, where: str, **config: Any) -> ShareConsumer:
    settings = {"bootstrap.servers": Address.value, "group.id": name}
    client = ShareConsumer(settings | {key.replace("_", "."): value for key, value in config.items()})
    client.subscribe([where])
    return client


def some(client: ShareConsumer) -> list[Any]:
    """The messages of the first poll that brings some."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        if messages := client.poll(0.5):
            for message in messages:
                same(message.error(), None, "error of a message")
            return list(messages)
    return []


@case("share-implicit")
def _implicit() -> None:
    where, name = topic("share", 3), group()
    values = [b"%d" % i for i in range(60)]
    for partition in range(3):
        send(where, values[partition::3], partition=partition)
    seen: set[bytes] = set()
    client = share_consumer(name, where)

    def turn() -> bool:
        seen.update(message.value() for message in client.poll(0.5) or [])
        return seen == set(values)

    eventually(turn, "all messages came")
    client.commit_sync()
    client.close()
    again = share_consumer(name, where)
    same([message.value() for message in again.poll(2.0) or []], [], "messages after all were accepted")
    again.close()


@case("share-explicit")
def _explicit() -> None:
    where, name = topic("share"), group()
    send(where, [b"a", b"b", b"c"])
    client = share_consumer(name, where, share_acknowledgement_mode="explicit")
    messages = some(client)
    same([message.offset() for message in messages], [0, 1, 2], "offsets")
    for message, kind in zip(
        messages, (AcknowledgeType.ACCEPT, AcknowledgeType.RELEASE, AcknowledgeType.REJECT), strict=True
    ):
        client.acknowledge(message, kind)
    client.commit_sync()
    again = some(client)
    same([(message.offset(), message.delivery_count()) for message in again], [(1, 2)], "again")
    client.acknowledge(again[0])
    client.commit_sync()
    client.close()


@case("share-released-at-close")
def _closed() -> None:
    where, name = topic("share"), group()
    send(where, [b"a", b"b"])
    first = share_consumer(name, where, share_acknowledgement_mode="explicit")
    same(len(some(first)), 2, "messages of the first")
    first.close()
    second = share_consumer(name, where)
    same([(m.offset(), m.delivery_count()) for m in some(second)], [(0, 2), (1, 2)], "messages of the second")
    second.close()
