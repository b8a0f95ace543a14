"""The raw Kafka client: sends prebuilt Produce frames, reads batches, decodes no record."""

from __future__ import annotations

import itertools
import selectors
import struct
import time
from collections import deque
from collections.abc import Sequence

from bench.clients import wire
from bench.clients.program import (
    Result,
    SingleRequestClient,
    main,
    one_by_one,
    payload,
    percentiles,
    wait_for_line,
)
from bench.events import TOPIC, Batches, Template, lines
from mainstem.log.storage import record_batch

IN_FLIGHT = 5
"""Requests under way at a time, as the producers of Java and librdkafka have by default."""
REQUEST_BYTES = 1 << 20
"""`max.request.size` of the Java producer."""


def batch_of(records: int, record_bytes: int, codec: str = "none") -> bytes:
    """A batch of equal records; with a codec, of real events (flights), joined until they are as long."""
    if codec == "none":
        return _batch([payload(record_bytes)] * records, codec)
    flights = itertools.cycle(lines("flights"))
    rows = []
    for _ in range(records):
        value = b""
        while len(value) < record_bytes:
            value += next(flights)
        rows.append(value[:record_bytes])
    return _batch(rows, codec)


def batch_of_real(kind: str, least_bytes: int, codec: str) -> tuple[bytes, int]:
    """A batch of real events, each as it is, and how many bytes of values it has."""
    rows: list[bytes] = []
    size = 0
    for line in itertools.cycle(lines(kind)):
        rows.append(line)
        size += len(line)
        if size >= least_bytes:
            break
    return _batch(rows, codec), size


def _batch(values: Sequence[bytes], codec: str) -> bytes:
    time_ms = now_ms()
    return bytes(record_batch.build([(None, value, (), time_ms) for value in values], codec=codec))


def now_ms() -> int:
    """The time, for events that are made now."""
    return time.time_ns() // 1_000_000


def accepted(connection: wire.RawConnection, request: bytes) -> None:
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


def check_reply(connection: wire.RawConnection) -> None:
    """Read the next Produce reply. RuntimeError: it has an error."""
    for answer in wire.produced(connection.reply()):
        if answer.error:
            raise RuntimeError(f"produce was refused: {answer}")


def produce_when_due(connection: wire.RawConnection, batches: Batches, due: float) -> tuple[float, Template]:
    """Produce the next batch at the time `due` of the performance counter, or now if that has passed. Returns
    how many ms after `due` it was acknowledged, and its template."""
    pause = due - time.perf_counter()
    if pause > 0:
        time.sleep(pause)
    buffer, template = batches.next(now_ms())
    connection.send(wire.produce(TOPIC, [(0, bytes(buffer))]))
    check_reply(connection)
    return (time.perf_counter() - due) * 1000, template


class ReadyFrames:
    """A Produce frame for each group of partitions. The first 100 MB are built in advance, the rest on
    demand, to bound the memory."""

    def __init__(self, topic: str, groups: Sequence[Sequence[int]], batch: bytes) -> None:
        self._topic, self._groups, self._batch = topic, groups, batch
        size = len(groups[0]) * len(batch)
        self._made = [self._make(number) for number in range(min(len(groups), max(1, 100_000_000 // size)))]

    def __getitem__(self, number: int) -> bytes:
        return self._made[number] if number < len(self._made) else self._make(number)

    def _make(self, number: int) -> bytes:
        return wire.produce(self._topic, [(partition, self._batch) for partition in self._groups[number]])


def produce(
    address: str,
    topic: str,
    *,
    total: int,
    record_bytes: int = 1024,
    records: int = 1000,
    partitions: int = 1,
    spread: bool = False,
    codec: str = "none",
    kind: str = "",
) -> Result:
    """Pipelined produce of `total` bytes of values with acks=all. `spread`: each request carries a batch for
    every partition, as many as fit into 1 MB, the default of clients, and the requests alternate between the
    groups of partitions; else each request has one batch, and the requests alternate between the partitions.
    `kind`: real events of this kind, unpadded, in batches of about `records * record_bytes`."""
    size = records * record_bytes
    if kind:
        batch, size = batch_of_real(kind, size, codec)
    else:
        batch = batch_of(records, record_bytes, codec)
    per_request = min(partitions, max(1, REQUEST_BYTES // len(batch))) if spread else 1
    groups = [
        range(first, min(first + per_request, partitions)) for first in range(0, partitions, per_request)
    ]
    frames = ReadyFrames(topic, groups, batch)
    request_bytes = size * per_request
    count = -(-total // request_bytes)
    connection = wire.RawConnection(address)
    smallest = batch_of(1, 1)
    accepted(connection, wire.produce(topic, [(number, smallest) for number in range(partitions)]))
    sent: deque[float] = deque()
    latencies_ms: list[float] = []
    began = time.perf_counter()
    for number in range(count + IN_FLIGHT):
        if number < count:
            sent.append(time.perf_counter())
            connection.send(frames[number % len(groups)])
        if number >= IN_FLIGHT:
            check_reply(connection)
            latencies_ms.append((time.perf_counter() - sent.popleft()) * 1000)
    seconds = time.perf_counter() - began
    connection.close()
    return {"seconds": seconds, "bytes": count * request_bytes, **percentiles(latencies_ms)}


def fetch(
    address: str, topic: str, *, total: int, partitions: int = 1, groups: int = 1, passes: int = 1
) -> Result:
    """Read `total` bytes of batches from the start of the partitions, 1 MiB of each a request, as clients do
    by default; `groups` times, on connections of their own, in turn; all of it `passes` times over."""
    lines = [wire.RawConnection(address) for _ in range(groups)]
    offsets = [dict.fromkeys(range(partitions), 0) for _ in lines]
    read, read_again_at = 0, total * groups
    latencies_ms: list[float] = []
    began = time.perf_counter()
    while read < total * groups * passes:
        if read >= read_again_at:
            read_again_at = read + total * groups
            offsets = [dict.fromkeys(range(partitions), 0) for _ in lines]
        before, sent_at = read, time.perf_counter()
        for line, places in zip(lines, offsets, strict=True):
            line.send(wire.fetch(topic, list(places.items()), 50 << 20, 1 << 20))
        for line, places in zip(lines, offsets, strict=True):
            reply = line.reply()
            latencies_ms.append((time.perf_counter() - sent_at) * 1000)
            for answer in wire.fetched(reply):
                if answer.error:
                    raise RuntimeError(f"fetch was refused: {answer}")
                if answer.next_offset >= 0:
                    places[answer.partition] = answer.next_offset
                read += answer.bytes
        if read == before:
            raise RuntimeError(f"only {read} of {total * groups * passes} bytes are available")
    seconds = time.perf_counter() - began
    for line in lines:
        line.close()
    return {"seconds": seconds, "bytes": read, **percentiles(latencies_ms)}


class SingleRecordProducer:
    """A producer of single records."""

    def __init__(self, address: str, request: bytes) -> None:
        self.connection = wire.RawConnection(address)
        self._request = request

    def send_request(self) -> None:
        """Send one record."""
        self.connection.send(self._request)

    def await_reply(self) -> None:
        """Wait for its acknowledgement."""
        check_reply(self.connection)


def sync(
    address: str, topic: str, *, count: int, connections: int = 1, record_bytes: int = 1024, warm: int = 100
) -> Result:
    """One record a request, the next when the last is acknowledged, on each of `connections`."""
    request = wire.produce(topic, [(0, batch_of(1, record_bytes))])
    lines = [SingleRecordProducer(address, request) for _ in range(connections)]
    for _ in range(max(1, warm)):
        accepted(lines[0].connection, request)
    clients: list[SingleRequestClient] = list(lines)
    return one_by_one(clients, count)


def latency(
    address: str, topic: str, *, bytes_a_second: float, seconds: float, record_bytes: int = 1024
) -> Result:
    """From sending to having read, end to end: a batch every 2 ms, `bytes_a_second` in all, and one reader
    that is always waiting. A producer that falls behind keeps its schedule, so that the wait is measured too
    (no coordinated omission)."""
    period = 0.002
    records = max(1, round(bytes_a_second * period / record_bytes))
    request = wire.produce(topic, [(0, batch_of(records, record_bytes))])
    out, back = wire.RawConnection(address), wire.RawConnection(address)
    accepted(out, request)
    back.send(wire.fetch(topic, [(0, records)], 50 << 20, 1 << 20, wait_ms=10_000))
    sent: list[float] = []
    """When batch number offset // records - 1 was due."""
    arrived: list[float] = []
    began = time.perf_counter()
    count = int(seconds / period)
    with selectors.DefaultSelector() as waiting:
        for line in (out, back):
            waiting.register(line, selectors.EVENT_READ)
        while len(arrived) < count:
            due = began + len(sent) * period
            now = time.perf_counter()
            if len(sent) < count and now >= due:
                out.send(request)
                sent.append(due)
                continue
            pause = max(0.0, due - now) if len(sent) < count else 5.0
            for key, _ in waiting.select(pause):
                if key.fileobj is out:
                    check_reply(out)
                    continue
                (answer,) = wire.fetched(back.reply())
                now = time.perf_counter()
                upto = len(arrived) if answer.next_offset < 0 else answer.next_offset // records - 1
                arrived += [now] * (upto - len(arrived))
                place = (upto + 1) * records
                back.send(wire.fetch(topic, [(0, place)], 50 << 20, 1 << 20, wait_ms=10_000))
    latencies_ms = [(arrival - due) * 1000 for due, arrival in zip(sent, arrived, strict=False)]
    return {"seconds": arrived[-1] - began, "records": count * records, **percentiles(latencies_ms)}


def tail(address: str, topic: str, *, readers: int, count: int) -> Result:
    """`readers` connections wait at the end of one partition; `count` records are sent, one after the other;
    the time from sending a record until every reader has it."""
    request = wire.produce(topic, [(0, batch_of(1, 1024))])
    out = wire.RawConnection(address)
    out.send(request)
    (answer,) = wire.produced(out.reply())
    lines = [wire.RawConnection(address) for _ in range(readers)]
    latencies_ms = []
    for number in range(count):
        ask = wire.fetch(topic, [(0, answer.offset + 1 + number)], 1 << 20, 1 << 20, wait_ms=10_000)
        for line in lines:
            line.send(ask)
        time.sleep(0.05)
        began = time.perf_counter()
        out.send(request)
        check_reply(out)
        for line in lines:
            wire.fetched(line.reply())
        latencies_ms.append((time.perf_counter() - began) * 1000)
    return percentiles(latencies_ms)


def connections(address: str, topic: str, *, count: int) -> Result:
    """Open connections, ask for the versions on each, as every client does, and keep them open until a line
    arrives on standard input."""
    ask = wire.frame(wire.API_VERSIONS, 2, b"")
    lines = []
    for _ in range(count):
        line = wire.RawConnection(address)
        line.send(ask)
        line.reply()
        lines.append(line)
    wait_for_line()
    for line in lines:
        line.close()
    return {"open": len(lines)}


def join(address: str, topic: str, *, members: int) -> Result:
    """`members` join one group at once; the time until all have their assignment of the same generation. A
    member learns after 10 ms without replies, in place of its next heartbeat, that others joined after it."""
    group = f"bench-{time.time_ns()}"
    lines = [wire.RawConnection(address) for _ in range(members)]
    _have_coordinator(lines[0], group)
    joined: dict[int, wire.JoinResult] = {}
    names = [""] * members
    began = time.perf_counter()
    with selectors.DefaultSelector() as waiting:
        for number, line in enumerate(lines):
            waiting.register(line, selectors.EVENT_READ, number)
            line.send(wire.join_group(group, ""))
        while len(joined) < members or len({reply.generation for reply in joined.values()}) > 1:
            ready = waiting.select(0.01)
            for key, _ in ready:
                joined[key.data] = wire.joined(lines[key.data].reply())
                if joined[key.data].error:
                    raise RuntimeError(f"a member was refused: {joined[key.data]}")
                names[key.data] = joined[key.data].member
            for number in [] if ready else list(joined):
                del joined[number]
                lines[number].send(wire.join_group(group, names[number]))
            if time.perf_counter() - began > 60:
                raise RuntimeError("the group was not complete within 60 s")
    plan = [(name, struct.pack(">i", number)) for number, name in enumerate(names)]
    for number, name in enumerate(names):
        own = joined[number]
        lines[number].send(wire.sync_group(group, own.generation, name, plan if name == own.leader else []))
    for line in lines:
        if wire.sync_error(line.reply()):
            raise RuntimeError("an assignment was refused")
    seconds = time.perf_counter() - began
    for line in lines:
        line.close()
    return {"seconds": seconds}


def _have_coordinator(line: wire.RawConnection, group: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        line.send(wire.find_coordinator(group))
        if not wire.coordinator_error(line.reply()):
            line.send(wire.join_group(f"{group}-first", ""))
            if not wire.joined(line.reply()).error:
                return
        time.sleep(0.1)
    raise RuntimeError("there is no coordinator for groups")


if __name__ == "__main__":
    main(
        {
            "produce": produce,
            "fetch": fetch,
            "sync": sync,
            "latency": latency,
            "tail": tail,
            "connections": connections,
            "join": join,
        }
    )
