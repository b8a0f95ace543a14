"""What the probes of compare_with_kafka.py are made of: registering one, a server to ask, batches to send."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import kafka.protocol.admin
import kafka.protocol.consumer
import kafka.protocol.metadata
import kafka.protocol.producer
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.util import calc_crc32c

HOUR_MS = 3_600_000
CRC_AT, ATTRIBUTES_AT = 17, 21


class Asking(Protocol):
    """The methods of `compare_with_kafka.ProbeConnection` that a probe uses."""

    def ask(self, name: str, version: int, fields: dict[str, Any]) -> Any: ...
    def exchange(self, frame: bytes, name: str, version: int) -> Any: ...
    def exchange_bytes(self, frame: bytes) -> bytes: ...
    def close(self) -> None: ...


Probe = Callable[["ProbedServer"], Any]
PROBES: dict[str, Probe] = {}


@cache
def _classes() -> dict[str, Any]:
    modules = (
        kafka.protocol.admin,
        kafka.protocol.consumer,
        kafka.protocol.metadata,
        kafka.protocol.producer,
    )
    return {name: value for module in modules for name, value in vars(module).items()}


def request_class(name: str) -> Any:
    return _classes()[f"{name}Request"]


def response_class(name: str) -> Any:
    return _classes()[f"{name}Response"]


class ProbedServer:
    """One of the two, and what most probes need of it."""

    def __init__(self, connection: Asking) -> None:
        self.connection = connection

    def ask(self, name: str, version: int, **fields: Any) -> Any:
        return self.connection.ask(name, version, fields)

    def warm_up(self) -> None:
        """Until Kafka has made its topic of the groups: before, it says "loading" to everything."""
        for _ in range(200):
            code = self.ask("FindCoordinator", 2, key="warm", key_type=0)["error_code"]
            fetched = self.ask("OffsetFetch", 7, group_id="warm", topics=None, require_stable=False)
            if code == fetched["error_code"] == 0 and self.producer_id()[0] >= 0:
                return
            time.sleep(0.2)

    def topic(self, name: str, partitions: int = 1, **configs: str) -> str:
        """Make it (if it is not there) and wait until it can be written to."""
        given = [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()]
        topic = {"name": name, "num_partitions": partitions, "replication_factor": 1, "configs": given}
        self.ask("CreateTopics", 5, topics=[topic], timeout_ms=20_000)
        for _ in range(100):
            reply = self.offsets(name, -1)
            if reply["topics"][0]["partitions"][0]["error_code"] == 0:
                break
            time.sleep(0.1)
        return name

    def produce(
        self, topic: str, records: bytes | None, *, acks: int = -1, partition: int = 0, v: int = 9
    ) -> Any:
        data = [{"name": topic, "partition_data": [{"index": partition, "records": records}]}]
        return self.ask("Produce", v, transactional_id=None, acks=acks, timeout_ms=20_000, topic_data=data)

    def offsets(self, topic: str, timestamp: int, partition: int = 0, version: int = 7) -> Any:
        part = {"partition_index": partition, "timestamp": timestamp, "current_leader_epoch": -1}
        topics = [{"name": topic, "partitions": [part]}]
        return self.ask("ListOffsets", version, replica_id=-1, isolation_level=0, topics=topics)

    def producer_id(self) -> tuple[int, int]:
        reply = self.ask("InitProducerId", 4, transactional_id=None, transaction_timeout_ms=60_000)
        return reply["producer_id"], reply["producer_epoch"]


def probe(name: str) -> Callable[[Probe], Probe]:
    def register(function: Probe) -> Probe:
        PROBES[name] = function
        return function

    return register


def batch(
    values: int = 1,
    *,
    at_ms: int | None = None,
    size: int = 10,
    producer: tuple[int, int, int] = (-1, -1, -1),
) -> bytearray:
    """A good v2 batch without compression."""
    builder = DefaultRecordBatchBuilder(2, 0, False, *producer, 1 << 24)
    at_ms = int(time.time() * 1000) if at_ms is None else at_ms
    for i in range(values):
        builder.append(i, at_ms + i, b"key", b"v" * size, [])
    return bytearray(builder.build())


def sealed(data: bytearray) -> bytes:
    """With the checksum made right again after a change."""
    struct.pack_into(">I", data, CRC_AT, calc_crc32c(memoryview(data)[ATTRIBUTES_AT:]))
    return bytes(data)


def patched(position: int, form: str, value: int, **given: Any) -> bytes:
    data = batch(**given)
    struct.pack_into(form, data, position, value)
    return sealed(data)
