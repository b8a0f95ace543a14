"""The probes of compare_with_kafka.py that produce: bad batches of every kind, sequences.

A probe asks one server something and returns its replies. It makes what it needs by itself, under names of
its own: each can run alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.compat.probing import ATTRIBUTES_AT, HOUR_MS, ProbedServer, batch, patched, probe


def _wrong_crc() -> bytes:
    data = batch()
    data[-1] ^= 1
    return bytes(data)


BAD_BATCHES: dict[str, Callable[[], bytes | None]] = {
    "wrong-crc": _wrong_crc,
    "magic-0": lambda: patched(16, ">b", 0),
    "magic-1": lambda: patched(16, ">b", 1),
    "magic-3": lambda: patched(16, ">b", 3),
    "codec-5": lambda: patched(ATTRIBUTES_AT, ">h", 5),
    "says-gzip-is-not": lambda: patched(ATTRIBUTES_AT, ">h", 1),
    "control": lambda: patched(ATTRIBUTES_AT, ">h", 0x20),
    "transactional-without-id": lambda: patched(ATTRIBUTES_AT, ">h", 0x10),
    "count-too-high": lambda: patched(57, ">i", 7),
    "count-zero": lambda: patched(57, ">i", 0),
    "last-offset-delta-5": lambda: patched(23, ">i", 5),
    "base-offset-77": lambda: patched(0, ">q", 77),
    "length-too-high": lambda: patched(8, ">i", 4000),
    "length-3": lambda: patched(8, ">i", 3),
    "max-timestamp-too-low": lambda: patched(35, ">q", 5),
    "cut-in-header": lambda: bytes(batch()[:40]),
    "cut-in-records": lambda: bytes(batch()[:-3]),
    "too-large": lambda: bytes(batch(size=5000)),
    "two-batches": lambda: bytes(batch()) + bytes(batch()),
    "two-hours-ahead": lambda: bytes(batch(at_ms=int(time.time() * 1000) + 2 * HOUR_MS)),
    "no-timestamp": lambda: bytes(batch(at_ms=-1)),
    "empty": lambda: b"",
    "null": lambda: None,
    "good": lambda: bytes(batch(3)),
}


def _produce_probe(name: str, make: Callable[[], bytes | None]) -> None:
    @probe(f"produce-{name}")
    def ask(server: ProbedServer) -> Any:
        topic = server.topic(f"bad-{name}", max_message_bytes="2000")
        return [server.produce(topic, make()), server.offsets(topic, -1)]


for _name, _make in BAD_BATCHES.items():
    _produce_probe(_name, _make)


@probe("produce-unknown-topic-and-partition")
def _produce_unknown(server: ProbedServer) -> Any:
    topic = server.topic("known")
    good = bytes(batch())
    return [server.produce("nothere", good), server.produce(topic, good, partition=9)]


@probe("produce-acks-2")
def _produce_acks(server: ProbedServer) -> Any:
    return server.produce(server.topic("acks"), bytes(batch()), acks=2)


@probe("produce-versions-0-to-2")
def _produce_old(server: ProbedServer) -> Any:
    topic = server.topic("oldproduce")
    return [server.produce(topic, bytes(batch()), v=version) for version in (3, 5, 7, 12)]


@probe("produce-sequences")
def _sequences(server: ProbedServer) -> Any:
    topic = server.topic("sequences")
    identity, epoch = server.producer_id()

    def send(sequence: int, epoch: int = epoch, count: int = 1, identity: int = identity) -> Any:
        return server.produce(topic, bytes(batch(count, producer=(identity, epoch, sequence))))

    # in order, in order, duplicate, gap, older than five, a new producer that starts at 5, an old epoch
    replies = [send(0), send(1), send(0), send(5), *(send(i) for i in range(2, 9)), send(0)]
    replies += [
        send(5, identity=identity + 1000),
        send(0, epoch=epoch + 1),
        send(9),
        send(3, epoch=epoch + 2),
    ]
    return replies
