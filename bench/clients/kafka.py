"""The raw Kafka client: prebuilt Produce frames out, batches in, no record looked into."""

from __future__ import annotations

import itertools
import selectors
import struct
import time
from collections import deque
from collections.abc import Sequence

from bench.clients import wire
from bench.clients.program import Line, Result, main, one_by_one, payload, percentiles, until_told
from bench.events import lines
from mainstem.log.storage import record_batch

IN_FLIGHT = 5
"""Requests on their way at once, as the producers of Java and librdkafka have by default."""
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
    now_ms = time.time_ns() // 1_000_000
    return bytes(record_batch.build([(None, value, (), now_ms) for value in values], codec=codec))


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


def taken(connection: wire.Connection) -> None:
    """The next answer. RuntimeError: it is a refusal."""
    for answer in wire.produced(connection.reply()):
        if answer.error:
            raise RuntimeError(f"produce was refused: {answer}")


class ReadyFrames:
    """A Produce frame for each group of partitions: made before, the first 100 MB of them; the rest when
    asked for, or they would fill the memory."""

    def __init__(self, topic: str, groups: Sequence[Sequence[int]], one: bytes) -> None:
        self._topic, self._groups, self._one = topic, groups, one
        size = len(groups[0]) * len(one)
        self._made = [self._make(number) for number in range(min(len(groups), max(1, 100_000_000 // size)))]

    def __getitem__(self, number: int) -> bytes:
        return self._made[number] if number < len(self._made) else self._make(number)

    def _make(self, number: int) -> bytes:
        return wire.produce(self._topic, [(each, self._one) for each in self._groups[number]])


def produce(
    at: str,
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
    every partition, for as many as fit into 1 MB, the default of clients, and the requests take turns; else
    each request has one batch, for the partitions in turn. `kind`: real events of this kind, as long as they
    are, in batches as large as so many records."""
    size = records * record_bytes
    if kind:
        one, size = batch_of_real(kind, size, codec)
    else:
        one = batch_of(records, record_bytes, codec)
    each = min(partitions, max(1, REQUEST_BYTES // len(one))) if spread else 1
    groups = [range(first, min(first + each, partitions)) for first in range(0, partitions, each)]
    frames = ReadyFrames(topic, groups, one)
    a_request = size * each
    count = -(-total // a_request)
    connection = wire.Connection(at)
    smallest = batch_of(1, 1)
    accepted(connection, wire.produce(topic, [(number, smallest) for number in range(partitions)]))
    sent: deque[float] = deque()
    took: list[float] = []
    began = time.perf_counter()
    for number in range(count + IN_FLIGHT):
        if number < count:
            sent.append(time.perf_counter())
            connection.send(frames[number % len(groups)])
        if number >= IN_FLIGHT:
            taken(connection)
            took.append((time.perf_counter() - sent.popleft()) * 1000)
    seconds = time.perf_counter() - began
    connection.close()
    return {"seconds": seconds, "bytes": count * a_request, **percentiles(took)}


def fetch(at: str, topic: str, *, total: int, partitions: int = 1, groups: int = 1) -> Result:
    """Read `total` bytes of batches from the start of the partitions, 1 MiB of each a request, as clients do
    by default; `groups` times, on connections of their own, in turn."""
    lines = [wire.Connection(at) for _ in range(groups)]
    offsets = [dict.fromkeys(range(partitions), 0) for _ in lines]
    read = 0
    took: list[float] = []
    began = time.perf_counter()
    while read < total * groups:
        before, asked = read, time.perf_counter()
        for line, places in zip(lines, offsets, strict=True):
            line.send(wire.fetch(topic, list(places.items()), 50 << 20, 1 << 20))
        for line, places in zip(lines, offsets, strict=True):
            reply = line.reply()
            took.append((time.perf_counter() - asked) * 1000)
            for answer in wire.fetched(reply):
                if answer.error:
                    raise RuntimeError(f"fetch was refused: {answer}")
                if answer.next_offset >= 0:
                    places[answer.partition] = answer.next_offset
                read += answer.bytes
        if read == before:
            raise RuntimeError(f"only {read} of {total * groups} bytes are there")
    seconds = time.perf_counter() - began
    for line in lines:
        line.close()
    return {"seconds": seconds, "bytes": read, **percentiles(took)}


class Sync:
    """A producer of single records."""

    def __init__(self, at: str, request: bytes) -> None:
        self.connection = wire.Connection(at)
        self._request = request

    def ask(self) -> None:
        """One record on its way."""
        self.connection.send(self._request)

    def answered(self) -> None:
        """It is acknowledged."""
        taken(self.connection)


def sync(
    at: str, topic: str, *, count: int, connections: int = 1, record_bytes: int = 1024, warm: int = 100
) -> Result:
    """One record a request, the next when the last is acknowledged, on each of `connections`."""
    request = wire.produce(topic, [(0, batch_of(1, record_bytes))])
    lines = [Sync(at, request) for _ in range(connections)]
    for _ in range(max(1, warm)):
        accepted(lines[0].connection, request)
    asked: list[Line] = list(lines)
    return one_by_one(asked, count)


def latency(
    at: str, topic: str, *, bytes_a_second: float, seconds: float, record_bytes: int = 1024
) -> Result:
    """From sending to having read, end to end: every 2 ms a batch, so many bytes a second in all, one reader
    that is always waiting. A producer that is behind does not slow its clock: what waited counts
    (coordinated omission)."""
    period = 0.002
    records = max(1, round(bytes_a_second * period / record_bytes))
    request = wire.produce(topic, [(0, batch_of(records, record_bytes))])
    out, back = wire.Connection(at), wire.Connection(at)
    accepted(out, request)
    back.send(wire.fetch(topic, [(0, records)], 50 << 20, 1 << 20, wait_ms=10_000))
    sent: list[float] = []
    """When the batch with each offset // records - 1 should have gone."""
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
                    taken(out)
                    continue
                (answer,) = wire.fetched(back.reply())
                now = time.perf_counter()
                upto = len(arrived) if answer.next_offset < 0 else answer.next_offset // records - 1
                arrived += [now] * (upto - len(arrived))
                place = (upto + 1) * records
                back.send(wire.fetch(topic, [(0, place)], 50 << 20, 1 << 20, wait_ms=10_000))
    took = [(there - gone) * 1000 for gone, there in zip(sent, arrived, strict=False)]
    return {"seconds": arrived[-1] - began, "records": count * records, **percentiles(took)}


def tail(at: str, topic: str, *, readers: int, count: int) -> Result:
    """`readers` connections wait at the end of one partition; `count` records come, one after the other; from
    sending one until each reader has it."""
    request = wire.produce(topic, [(0, batch_of(1, 1024))])
    out = wire.Connection(at)
    out.send(request)
    (answer,) = wire.produced(out.reply())
    lines = [wire.Connection(at) for _ in range(readers)]
    took = []
    for number in range(count):
        ask = wire.fetch(topic, [(0, answer.offset + 1 + number)], 1 << 20, 1 << 20, wait_ms=10_000)
        for line in lines:
            line.send(ask)
        time.sleep(0.05)
        began = time.perf_counter()
        out.send(request)
        taken(out)
        for line in lines:
            wire.fetched(line.reply())
        took.append((time.perf_counter() - began) * 1000)
    return percentiles(took)


def connections(at: str, topic: str, *, count: int) -> Result:
    """Open connections, ask for the versions on each, as every client does, and keep them until told."""
    ask = wire.frame(wire.API_VERSIONS, 2, b"")
    lines = []
    for _ in range(count):
        line = wire.Connection(at)
        line.send(ask)
        line.reply()
        lines.append(line)
    until_told()
    for line in lines:
        line.close()
    return {"open": len(lines)}


def join(at: str, topic: str, *, members: int) -> Result:
    """So many members join one group at once; until all have their assignment of the same generation. A
    member learns after 10 ms of silence, in place of its next heartbeat, that others came after it."""
    group = f"bench-{time.time_ns()}"
    lines = [wire.Connection(at) for _ in range(members)]
    _have_coordinator(lines[0], group)
    joined: dict[int, wire.Joined] = {}
    names = [b""] * members
    began = time.perf_counter()
    with selectors.DefaultSelector() as waiting:
        for number, line in enumerate(lines):
            waiting.register(line, selectors.EVENT_READ, number)
            line.send(wire.join_group(group, b""))
        while len(joined) < members or len({each.generation for each in joined.values()}) > 1:
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
                raise RuntimeError("the group did not come together in 60 s")
    plan = [(name, struct.pack(">i", number)) for number, name in enumerate(names)]
    for number, name in enumerate(names):
        its = joined[number]
        lines[number].send(wire.sync_group(group, its.generation, name, plan if name == its.leader else []))
    for line in lines:
        if wire.sync_error(line.reply()):
            raise RuntimeError("an assignment was refused")
    seconds = time.perf_counter() - began
    for line in lines:
        line.close()
    return {"seconds": seconds}


def _have_coordinator(line: wire.Connection, group: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        line.send(wire.find_coordinator(group))
        if not wire.coordinator_error(line.reply()):
            line.send(wire.join_group(f"{group}-first", b""))
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
