"""Measures what token filters cost producers, and how soon an acknowledged event is found.

It compares a server without an HTTP door, one with a door that cannot write token filters, and one that
builds them, in turns. The client runs in this process, on the same cores as the server.
"""

from __future__ import annotations

import http.client
import json
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from confluent_kafka.admin import AdminClient, NewTopic
from tests.support.server import Server

from bench.clients import wire
from bench.clients.kafka import accepted, check_reply, now_ms, produce_when_due
from bench.events import TOPIC, Batches, templates
from mainstem.log.storage.record_batch import build

IN_FLIGHT = 5
WARM_S, TOP_S = 3.0, 6.0
INCOMING = 30_000
"""Events a second."""
STEADY_S = 12.0
ALONE, DOOR, FILTERS = MODES = ("no HTTP door", "HTTP door", "token filters")
Say = Callable[[str, str], None]


class TopRate(NamedTuple):
    """The top rate of a producer, and the processor time of the server during it."""

    rate: float
    """MB/s of payload."""
    cpu: float
    """Processor seconds of the server for each GB."""
    waited: float
    """Share of the time in which the server was ready to run and waited for a processor."""


@contextmanager
def serving(mode: str) -> Iterator[Server]:
    """A new server with an empty topic."""
    with tempfile.TemporaryDirectory(prefix="bench-") as parent:
        door = {} if mode == ALONE else {"http": "127.0.0.1:0"}
        with Server(Path(parent) / "data", durability="os", **door) as server:
            if mode == DOOR:
                # A file in place of the filters' folder: after a failure, no filter is built for a minute.
                (server.data / "search").write_bytes(b"")
            admin = AdminClient({"bootstrap.servers": server.address, "log_level": 0})
            admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(60)
            yield server


def top_rate(server: Server, batches: Batches) -> TopRate:
    """Produce as fast as possible, and measure after WARM_S, when all processes have started."""
    connection = wire.RawConnection(server.address)
    accepted(connection, wire.produce(TOPIC, [(0, bytes(batches.next(now_ms())[0]))]))
    in_flight: deque[int] = deque()
    size = 0
    used: tuple[float, float] | None = None
    began = time.perf_counter()
    while (now := time.perf_counter()) - began < WARM_S + TOP_S:
        if used is None and now - began >= WARM_S:
            used = _processor(server)
        if len(in_flight) < IN_FLIGHT:
            buffer, template = batches.next(now_ms())
            connection.send(wire.produce(TOPIC, [(0, bytes(buffer))]))
            in_flight.append(template.payload)
            continue
        check_reply(connection)
        acknowledged = in_flight.popleft()
        size += acknowledged if now - began >= WARM_S else 0
    cpu, waited = _processor(server)
    connection.close()
    assert used is not None
    return TopRate(size / TOP_S / 1e6, (cpu - used[0]) / (size / 1e9), (waited - used[1]) / TOP_S)


def _processor(server: Server) -> tuple[float, float]:
    """Seconds that the server's main thread has run, and seconds that it has waited for a processor."""
    assert server.process is not None
    ran, waited, _ = Path(f"/proc/{server.process.pid}/schedstat").read_text().split()
    return int(ran) / 1e9, int(waited) / 1e9


def steady(server: Server, batches: Batches, *, search: bool) -> tuple[float, list[float]]:
    """Produce INCOMING events a second. Returns the 99th percentile of the time to an acknowledgement, in ms,
    counted from the moment at which a batch was due; and with `search`, the seconds from an acknowledgement
    until a search finds the event."""
    connection = wire.RawConnection(server.address)
    accepted(connection, wire.produce(TOPIC, [(0, bytes(batches.next(now_ms())[0]))]))
    latencies_ms: list[float] = []
    search_s: list[float] = []
    began = due = time.perf_counter()
    next_search = began + 2.0
    while due - began < STEADY_S:
        latency_ms, template = produce_when_due(connection, batches, due)
        latencies_ms.append(latency_ms)
        due += len(template.ids) / INCOMING
        if search and due > next_search:
            # No events are sent during the search, and those after it are not counted as late.
            search_began = time.perf_counter()
            search_s.append(_seconds_until_found(server, connection, f"mark{len(search_s)}x"))
            paused_s = time.perf_counter() - search_began
            due, began, next_search = due + paused_s, began + paused_s, next_search + paused_s + 1.0
    connection.close()
    return statistics.quantiles(latencies_ms, n=100)[98], search_s


def _seconds_until_found(server: Server, connection: wire.RawConnection, mark: str) -> float:
    row = (None, f'{{"mark":"{mark}"}}'.encode(), (), now_ms())
    connection.send(wire.produce(TOPIC, [(0, bytes(build([row])))]))
    check_reply(connection)
    acknowledged = time.perf_counter()
    body = json.dumps({"query": mark, "limit": 1})
    while time.perf_counter() - acknowledged < 60:
        door = http.client.HTTPConnection(server.http)
        door.request("POST", "/api/v1/search", body, {"Content-Type": "application/json"})
        answer = door.getresponse()
        assert answer.status == 200, answer.read()
        for line in answer:
            if mark.encode() in line and b'"value"' in line:
                door.close()
                return time.perf_counter() - acknowledged
        door.close()
    raise AssertionError("an acknowledged event was not found")


def measure(repeats: int, say: Say) -> None:
    """Measure all modes, in turns."""
    batch_templates = templates()
    tops: dict[str, list[TopRate]] = {mode: [] for mode in MODES}
    p99s_ms: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(repeats):
        for mode in MODES:
            with serving(mode) as server:
                tops[mode].append(top_rate(server, Batches(batch_templates)))
            with serving(mode) as server:
                p99s_ms[mode].append(steady(server, Batches(batch_templates), search=False)[0])
    with serving(FILTERS) as server:
        search_s = steady(server, Batches(batch_templates), search=True)[1]
    alone = statistics.median(top.rate for top in tops[ALONE])
    for mode in MODES:
        rate, cpu, waited = (statistics.median(values) for values in zip(*tops[mode], strict=True))
        p99_ms = statistics.median(p99s_ms[mode])
        say(
            f"producer, {mode}",
            f"{rate:,.0f} MB/s at most ({rate / alone:.0%}), {cpu:.2f} s of the server for each GB, "
            f"{waited:.0%} of the time it waits for a processor; p99 at {INCOMING:,}/s {p99_ms:.2f} ms",
        )
    say(
        "found after acknowledged",
        f"{statistics.median(search_s):.3f} s, at most {max(search_s):.3f} s, {len(search_s)} searches",
    )
