"""What searching costs producers, and how soon an event can be found.

A server that makes token filters (it has an HTTP door) beside one that does not. The client runs in
this process, on the same cores as the server. Used by `bench.search`.
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

from confluent_kafka.admin import AdminClient, NewTopic
from tests.support.server import Server

from bench.clients import wire
from bench.clients.kafka import accepted, taken
from bench.events import TOPIC, Batches, templates
from mainstem.log.batch import build

IN_FLIGHT = 5
WARM_S, TOP_S = 3.0, 6.0
INCOMING = 30_000
"""Events a second."""
STEADY_S = 12.0
Say = Callable[[str, str], None]


@contextmanager
def serving(*, filters: bool) -> Iterator[Server]:
    """A fresh server."""
    with tempfile.TemporaryDirectory(prefix="bench-") as parent:
        door = {"http": "127.0.0.1:0"} if filters else {}
        with Server(Path(parent) / "data", durability="os", **door) as server:
            admin = AdminClient({"bootstrap.servers": server.at, "log_level": 0})
            admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(60)
            yield server


def top_rate(server: Server, batches: Batches) -> float:
    """MB/s of payload that were acknowledged, as fast as it goes, once all processes have started."""
    connection = wire.Connection(server.at)
    accepted(connection, wire.produce(TOPIC, [(0, bytes(batches.next(_now_ms())[0]))]))
    on_their_way: deque[int] = deque()
    size = 0
    began = time.perf_counter()
    while (now := time.perf_counter()) - began < WARM_S + TOP_S:
        if len(on_their_way) < IN_FLIGHT:
            buffer, template = batches.next(_now_ms())
            connection.send(wire.produce(TOPIC, [(0, bytes(buffer))]))
            on_their_way.append(template.payload)
            continue
        taken(connection)
        acknowledged = on_their_way.popleft()
        size += acknowledged if now - began >= WARM_S else 0
    connection.close()
    return size / TOP_S / 1e6


def steady(server: Server, batches: Batches, *, look: bool) -> tuple[float, list[float]]:
    """At INCOMING events a second: the 99th percentile of the time to an acknowledgement in ms, and, with
    `look`, the seconds from an acknowledgement until its event was found. What waited counts from when it
    should have gone."""
    connection = wire.Connection(server.at)
    accepted(connection, wire.produce(TOPIC, [(0, bytes(batches.next(_now_ms())[0]))]))
    took: list[float] = []
    found: list[float] = []
    began = due = time.perf_counter()
    asked = began + 2.0
    while due - began < STEADY_S:
        pause = due - time.perf_counter()
        if pause > 0:
            time.sleep(pause)
        buffer, template = batches.next(_now_ms())
        connection.send(wire.produce(TOPIC, [(0, bytes(buffer))]))
        taken(connection)
        took.append((time.perf_counter() - due) * 1000)
        due += len(template.ids) / INCOMING
        if look and due > asked:
            # The incoming events wait meanwhile and are then sent at once: they are not counted as late.
            began_looking = time.perf_counter()
            found.append(_until_found(server, connection, f"mark{len(found)}x"))
            spent = time.perf_counter() - began_looking
            due, began, asked = due + spent, began + spent, asked + spent + 1.0
    connection.close()
    return statistics.quantiles(took, n=100)[98], found


def _until_found(server: Server, connection: wire.Connection, mark: str) -> float:
    row = (None, f'{{"mark":"{mark}"}}'.encode(), (), _now_ms())
    connection.send(wire.produce(TOPIC, [(0, bytes(build([row])))]))
    taken(connection)
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


def measure(repeats: int, samples: Path | None, say: Say) -> None:
    """Both servers in turn."""
    made = templates(samples)
    rates: dict[bool, list[float]] = {False: [], True: []}
    late: dict[bool, list[float]] = {False: [], True: []}
    found: list[float] = []
    for _ in range(repeats):
        for filters in (False, True):
            with serving(filters=filters) as server:
                rates[filters].append(top_rate(server, Batches(made)))
            with serving(filters=filters) as server:
                late[filters].append(steady(server, Batches(made), look=False)[0])
    with serving(filters=True) as server:
        found = steady(server, Batches(made), look=True)[1]
    without, beside = statistics.median(rates[False]), statistics.median(rates[True])
    say(
        "producer's top rate",
        f"{without:,.0f} MB/s, {beside:,.0f} while filters are made: {beside / without:.0%}",
    )
    without, beside = statistics.median(late[False]), statistics.median(late[True])
    say(f"p99 at {INCOMING:,}/s", f"{without:.2f} ms, {beside:.2f} while filters are made")
    say(
        "found after acknowledged",
        f"{statistics.median(found):.3f} s, at most {max(found):.3f}, {len(found)} tries",
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
