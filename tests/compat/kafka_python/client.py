"""What the cases of kafka-python 3 are made of: clients, topics, sending and reading."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.net.sasl.oauth import AbstractTokenProvider

from tests.compat.cases import LOGIN, Address, fresh, same

WAIT = 20.0
WAIT_MS = 20_000
HOUR_MS = 3_600_000


def login() -> dict[str, Any]:
    """LOGIN as arguments of the clients."""
    if not LOGIN:
        return {}
    arguments: dict[str, Any] = {
        "security_protocol": LOGIN["security"],
        "sasl_mechanism": LOGIN["mechanism"],
        "sasl_plain_username": LOGIN.get("user"),
        "sasl_plain_password": LOGIN.get("password"),
    }
    if "ca" in LOGIN:
        arguments["ssl_cafile"] = LOGIN["ca"]
    if "token" in LOGIN:
        arguments["sasl_oauth_token_provider"] = _Tokens()
    return arguments


class _Tokens(AbstractTokenProvider):  # type: ignore[misc]
    def token(self) -> str:
        return LOGIN["token"]


@cache
def admin() -> Any:
    return KafkaAdminClient(bootstrap_servers=Address.value, **login())


def topic(prefix: str, partitions: int = 1, config: dict[str, str] | None = None) -> str:
    name = fresh(prefix)
    options = {"num_partitions": partitions, "replication_factor": 1, "configs": config or {}}
    admin().create_topics({name: options}, wait_for_metadata=True)
    return name


def consumer(group: str | None = None, **config: Any) -> Any:
    base = {"bootstrap_servers": Address.value, "group_id": group, **login()}
    return KafkaConsumer(**(base | {"auto_offset_reset": "earliest", "enable_auto_commit": False} | config))


def send(name: str, values: list[Any], config: dict[str, Any] | None = None, **fields: Any) -> list[Any]:
    """Produce the values and wait for the acknowledgements."""
    producer = KafkaProducer(
        **({"bootstrap_servers": Address.value, "linger_ms": 5, **login()} | (config or {}))
    )
    futures = [producer.send(name, value, **fields) for value in values]
    producer.flush(WAIT)
    results = [future.get(WAIT) for future in futures]
    producer.close(WAIT)
    return results


def take(client: Any, count: int) -> list[Any]:
    """Exactly `count` records."""
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
