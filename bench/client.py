"""The raw client: does one piece of work in a process of its own and prints the result as JSON.

    python -m bench.client produce|fetch|sync|connections HOST:PORT TOPIC JSON-SETTINGS

It replays prebuilt Produce frames and looks into no record that it fetches, so that the server is what is
measured.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable

from bench import wire
from mainstem.log import batch

IN_FLIGHT = 5
"""Requests on their way at once, as the producers of Java and librdkafka have by default."""


def batch_of(records: int, record_bytes: int) -> bytes:
    """A batch of equal records, not compressed."""
    value = bytes(range(256)) * (record_bytes // 256 + 1)
    now_ms = time.time_ns() // 1_000_000
    return bytes(batch.build([(None, value[:record_bytes], (), now_ms)] * records))


def accepted(connection: wire.Connection, request: bytes) -> None:
    """Send a Produce request until it is accepted: a new topic may take a moment. RuntimeError after 30 s."""
    deadline = time.monotonic() + 30
    while True:
        connection.send(request)
        answers = wire.produced(connection.reply())
        if not any(answer.error for answer in answers):
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"produce was refused: {answers}")
        time.sleep(0.05)


def produce(
    at: str, topic: str, *, partitions: int, spread: bool, records: int, record_bytes: int, total: int
) -> object:
    """Pipelined produce of `total` bytes with acks=all. `spread`: each request carries a batch for every
    partition; else each request has one batch, for the partitions in turn."""
    one = batch_of(records, record_bytes)
    if spread:
        everywhere = [wire.produce(topic, [(number, one) for number in range(partitions)])]
    else:  # made as they are needed when there are many: all together they would fill the memory
        everywhere = [wire.produce(topic, [(number, one)]) for number in range(min(partitions, 100))]
    count = max(1, total // len(everywhere[0]))
    connection = wire.Connection(at)
    accepted(connection, everywhere[0])
    began = time.perf_counter()
    for number in range(count + IN_FLIGHT):
        if number < count:
            turn = number % (1 if spread else partitions)
            ready = turn < len(everywhere)
            connection.send(everywhere[turn] if ready else wire.produce(topic, [(turn, one)]))
        if number >= IN_FLIGHT:
            for answer in wire.produced(connection.reply()):
                if answer.error:
                    raise RuntimeError(f"produce was refused: {answer}")
    seconds = time.perf_counter() - began
    connection.close()
    batches = count * (partitions if spread else 1)
    return {"seconds": seconds, "bytes": batches * len(one), "records": batches * records}


def fetch(at: str, topic: str, *, partitions: int, total: int) -> object:
    """Read `total` bytes from the start of the partitions, 1 MiB of each a request, as clients do by
    default."""
    offsets = dict.fromkeys(range(partitions), 0)
    connection = wire.Connection(at)
    read = 0
    began = time.perf_counter()
    while read < total:
        connection.send(wire.fetch(topic, list(offsets.items()), 50 << 20, 1 << 20))
        came = wire.fetched(connection.reply())
        for answer in came:
            if answer.error:
                raise RuntimeError(f"fetch was refused: {answer}")
            if answer.next_offset >= 0:
                offsets[answer.partition] = answer.next_offset
            read += answer.bytes
        if not any(answer.bytes for answer in came):
            raise RuntimeError(f"only {read} of {total} bytes are there")
    seconds = time.perf_counter() - began
    connection.close()
    return {"seconds": seconds, "bytes": read}


def sync(at: str, topic: str, *, record_bytes: int, count: int, connections: int) -> object:
    """Produce one record after the other on each of `connections`, each waiting for its answer;
    milliseconds."""
    request = wire.produce(topic, [(0, batch_of(1, record_bytes))])
    lines = [wire.Connection(at) for _ in range(connections)]
    waiting: deque[tuple[wire.Connection, float]] = deque()
    for _ in range(200):
        accepted(lines[0], request)
    took: list[float] = []
    began = time.perf_counter()
    for line in lines:
        waiting.append((line, time.perf_counter()))
        line.send(request)
    for number in range(count):
        line, sent = waiting.popleft()
        line.reply()
        took.append((time.perf_counter() - sent) * 1000)
        if number + connections < count:
            waiting.append((line, time.perf_counter()))
            line.send(request)
    seconds = time.perf_counter() - began
    took.sort()
    return {
        "seconds": seconds,
        "records": count,
        "p50_ms": took[len(took) // 2],
        "p99_ms": took[len(took) * 99 // 100],
        "max_ms": took[-1],
    }


def connections(at: str, topic: str, *, count: int) -> object:
    """Open connections, ask for the versions on each, as every client does, and keep them until a line
    comes in."""
    ask = wire.frame(wire.API_VERSIONS, 2, b"")
    lines = []
    for _ in range(count):
        line = wire.Connection(at)
        line.send(ask)
        line.reply()
        lines.append(line)
    print(json.dumps({"open": len(lines)}), flush=True)
    sys.stdin.readline()
    for line in lines:
        line.close()
    return {}


def main() -> None:
    """Do what the arguments say."""
    works: dict[str, Callable[..., object]] = {
        "produce": produce,
        "fetch": fetch,
        "sync": sync,
        "connections": connections,
    }
    work = works[sys.argv[1]]
    print(json.dumps(work(sys.argv[2], sys.argv[3], **json.loads(sys.argv[4]))), flush=True)


if __name__ == "__main__":
    main()
