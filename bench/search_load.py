"""What searching costs producers, and how soon an event can be found.

A server without an HTTP door, one that has a door but cannot write token filters, and one that makes them, in
turns. The client runs in this process, on the same cores as the server. Used by `bench.search`.
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
from bench.clients.kafka import accepted, check_reply
from bench.events import TOPIC, Batches, templates
from mainstem.log.storage.record_batch import build

IN_FLIGHT = 5
WARM_S, TOP_S = 3.0, 6.0
INCOMING = 30_000
"""Events a second."""
STEADY_S = 12.0
ALONE, DOOR, FILTERS = MODES = ("no HTTP door", "HTTP door", "filters are made")
Say = Callable[[str, str], None]


class TopRate(NamedTuple):
    """A producer's top rate, and what the server had of the processors meanwhile."""

    rate: float
    """MB/s of payload."""
    cpu: float
    """Seconds of processor for each GB."""
    waited: float
    """Seconds that it was ready and waited for a processor, for each second."""


@contextmanager
def serving(mode: str) -> Iterator[Server]:
    """A fresh server."""
    with tempfile.TemporaryDirectory(prefix="bench-") as parent:
        door = {} if mode == ALONE else {"http": "127.0.0.1:0"}
        with Server(Path(parent) / "data", durability="os", **door) as server:
            if mode == DOOR:
                # A file where their folder should be: after one that failed none is tried for a minute.
                (server.data / "search").write_bytes(b"")
            admin = AdminClient({"bootstrap.servers": server.at, "log_level": 0})
            admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(60)
            yield server


def top_rate(server: Server, batches: Batches) -> TopRate:
    """As fast as it goes, once all processes have started."""
    connection = wire.RawConnection(server.at)
    accepted(connection, wire.produce(TOPIC, [(0, bytes(batches.next(_now_ms())[0]))]))
    on_their_way: deque[int] = deque()
    size = 0
    used: tuple[float, float] | None = None
    began = time.perf_counter()
    while (now := time.perf_counter()) - began < WARM_S + TOP_S:
        if used is None and now - began >= WARM_S:
            used = _processor(server)
        if len(on_their_way) < IN_FLIGHT:
            buffer, template = batches.next(_now_ms())
            connection.send(wire.produce(TOPIC, [(0, bytes(buffer))]))
            on_their_way.append(template.payload)
            continue
        check_reply(connection)
        acknowledged = on_their_way.popleft()
        size += acknowledged if now - began >= WARM_S else 0
    cpu, waited = _processor(server)
    connection.close()
    assert used is not None
    return TopRate(size / TOP_S / 1e6, (cpu - used[0]) / (size / 1e9), (waited - used[1]) / TOP_S)


def _processor(server: Server) -> tuple[float, float]:
    """Seconds that the server's main thread had a processor, and waited for one."""
    assert server.process is not None
    ran, waited, _ = Path(f"/proc/{server.process.pid}/schedstat").read_text().split()
    return int(ran) / 1e9, int(waited) / 1e9


def steady(server: Server, batches: Batches, *, look: bool) -> tuple[float, list[float]]:
    """At INCOMING events a second: the 99th percentile of the time to an acknowledgement in ms, and, with
    `look`, the seconds from an acknowledgement until its event was found. What waited counts from when it
    should have gone."""
    connection = wire.RawConnection(server.at)
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
        check_reply(connection)
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


def _until_found(server: Server, connection: wire.RawConnection, mark: str) -> float:
    row = (None, f'{{"mark":"{mark}"}}'.encode(), (), _now_ms())
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
    """All modes in turn."""
    made = templates()
    tops: dict[str, list[TopRate]] = {mode: [] for mode in MODES}
    late: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(repeats):
        for mode in MODES:
            with serving(mode) as server:
                tops[mode].append(top_rate(server, Batches(made)))
            with serving(mode) as server:
                late[mode].append(steady(server, Batches(made), look=False)[0])
    with serving(FILTERS) as server:
        found = steady(server, Batches(made), look=True)[1]
    alone = statistics.median(top.rate for top in tops[ALONE])
    for mode in MODES:
        rate, cpu, waited = (statistics.median(each) for each in zip(*tops[mode], strict=True))
        p99 = statistics.median(late[mode])
        say(
            f"producer, {mode}",
            f"{rate:,.0f} MB/s at most ({rate / alone:.0%}), {cpu:.2f} s of the server for each GB, "
            f"{waited:.0%} of the time it waits for a processor; p99 at {INCOMING:,}/s {p99:.2f} ms",
        )
    say(
        "found after acknowledged",
        f"{statistics.median(found):.3f} s, at most {max(found):.3f}, {len(found)} tries",
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
