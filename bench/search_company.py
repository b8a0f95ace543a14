"""Measures searches in company: a needle beside a compare, an export and ten live tails, and a producer.

`python -m bench.search_company` prints the 95th percentile of the needle, the 99th of the producer's
acknowledgements at PRODUCED_MB_S, and the time of the compare: each alone, and all together. The clients run
in processes of their own, on the same cores as the server. How the system shares the cores is part of the
producer's figure, so it is measured beside a loop of the lowest priority on each core, too.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient, NewTopic
from tests.support.server import Server

from bench.clients import wire
from bench.clients.kafka import accepted, now_ms, produce_when_due
from bench.events import NEEDLE, TOPIC, Batches, lines, templates
from mainstem.log.storage.record_batch import build

FLIGHTS = "flights"
FLIGHT_COUNT = 336_776
FLIGHTS_A_BATCH = 2_000
NEEDLES = 200
TAILS = 10
TAIL_EVENTS_PER_S = 200
"""As the console asks for."""
PRODUCED_MB_S = 20.0
PRODUCED_ALONE_S = 15.0
FIELDS = ("origin", "dest", "carrier", "dep_delay", "distance", "tailnum")
COMPARE = {
    "selection": {"query": "carrier:UA", "topics": [FLIGHTS], "limit": None},
    "baseline": {"query": "", "topics": [FLIGHTS], "limit": None},
    "fields": FIELDS,
}
EXPORT = {"query": "", "topics": [FLIGHTS], "format": "ndjson"}
Say = Callable[[str, str], None]


def _request(address: str, path: str, body: dict[str, Any] | None) -> http.client.HTTPResponse:
    door = http.client.HTTPConnection(address, timeout=600)
    method = "GET" if body is None else "POST"
    door.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
    answer = door.getresponse()
    assert answer.status == 200, answer.read()
    return answer


def _publish_flights(server: Server) -> None:
    """Publish FLIGHT_COUNT flights and the needle."""
    admin = AdminClient({"bootstrap.servers": server.address, "log_level": 0})
    for future in admin.create_topics([NewTopic(FLIGHTS, 1, 1), NewTopic(TOPIC, 1, 1)]).values():
        future.result(60)
    sample = lines(FLIGHTS)
    connection = wire.RawConnection(server.address)
    for first in range(0, FLIGHT_COUNT, FLIGHTS_A_BATCH):
        numbers = range(first, min(FLIGHT_COUNT, first + FLIGHTS_A_BATCH))
        values = [sample[number % len(sample)] for number in numbers]
        if first == FLIGHT_COUNT // 2 // FLIGHTS_A_BATCH * FLIGHTS_A_BATCH:
            values[0] = f'{{"note":"{NEEDLE}"}}'.encode()
        rows = [(None, value, (), now_ms()) for value in values]
        accepted(connection, wire.produce(FLIGHTS, [(0, bytes(build(rows)))]))
    connection.close()


def needles(address: str, count: int) -> list[float]:
    """Seconds of each of `count` searches for the needle, one after the other."""
    seconds = []
    body = {"query": NEEDLE, "topics": [FLIGHTS], "limit": None}
    for _ in range(count):
        began = time.perf_counter()
        hits = sum(b'"hit"' in line for line in _request(address, "/api/v1/search", body))
        seconds.append(time.perf_counter() - began)
        assert hits == 1, "the needle is there once"
    return seconds


def compare(address: str) -> float:
    """Seconds of a compare of UA's flights with all."""
    began = time.perf_counter()
    assert b"carrier" in _request(address, "/api/v1/compare", COMPARE).read()
    return time.perf_counter() - began


# --- clients in processes of their own ----------------------------------------------------------------------


def _compare_again_and_again(address: str, pipe: Connection) -> None:
    while True:
        pipe.send(compare(address))


def _export_again_and_again(address: str, pipe: Connection) -> None:
    while True:
        answer, size = _request(address, "/api/v1/export", EXPORT), 0
        while part := answer.read1(1 << 16):
            size += len(part)
        pipe.send(size)


def _tail(address: str, pipe: Connection) -> None:
    answer = _request(address, f"/api/v1/topics/{TOPIC}/tail?rate={TAIL_EVENTS_PER_S}", None)
    while answer.read1(1 << 16):
        pass
    pipe.send(0)


def _produce(address: str, pipe: Connection) -> None:
    """Produce PRODUCED_MB_S. Sends each acknowledgement's time in ms, counted from when its batch was due."""
    connection = wire.RawConnection(address)
    batches = Batches(templates())
    due = time.perf_counter()
    while True:
        latency_ms, template = produce_when_due(connection, batches, due)
        pipe.send(latency_ms)
        due += template.payload / (PRODUCED_MB_S * 1e6)


def _compute(_: str, pipe: Connection) -> None:
    """Compute without end at the lowest priority: what any process costs the producer that keeps a core
    busy."""
    os.nice(19)
    while not pipe.closed:
        pass


@contextmanager
def client(work: Callable[[str, Connection], None], address: str) -> Iterator[Callable[[], list[Any]]]:
    """A process that works until the end of the context. The function returns what it has sent so far."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=work, args=(address, sender), daemon=True)
    process.start()
    sender.close()
    results: list[Any] = []

    def so_far() -> list[Any]:
        while receiver.poll():
            assert process.is_alive(), f"{work.__name__} has failed"
            results.append(receiver.recv())
        return results

    try:
        yield so_far
        assert process.is_alive(), f"{work.__name__} has failed"
    finally:
        process.terminate()
        process.join()


def _wait(seconds: float, *clients: Callable[[], list[Any]]) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        time.sleep(0.05)
        for results in clients:
            results()  # or their pipes would be full


def _p(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def measure(count: int, say: Say) -> None:
    """Measure all of it on a new server."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as parent,
        Server(Path(parent) / "data", durability="os", http="127.0.0.1:0") as server,
    ):
        _publish_flights(server)
        time.sleep(5.0)  # token filters are built
        needles(server.http, 10)
        alone = needles(server.http, count)
        say("needle alone", f"p50 {_p(alone, 50):.3f} s, p95 {_p(alone, 95):.3f} s")
        compare_alone_s = min(compare(server.http) for _ in range(2))
        say("compare alone", f"{compare_alone_s:.1f} s")
        with client(_produce, server.address) as latencies_ms:
            _wait(3.0, latencies_ms)
            latencies_ms().clear()
            _wait(PRODUCED_ALONE_S, latencies_ms)
            p99_ms = _p(latencies_ms(), 99)
            say("producer without searches", f"{PRODUCED_MB_S:.0f} MB/s, p99 {p99_ms:.2f} ms")
            with ExitStack() as busy:
                for _ in range(os.cpu_count() or 1):
                    busy.enter_context(client(_compute, server.http))
                _wait(1.0, latencies_ms)
                latencies_ms().clear()
                _wait(PRODUCED_ALONE_S, latencies_ms)
                busy_p99_ms = _p(latencies_ms(), 99)
            say("producer beside busy loops", f"p99 {busy_p99_ms:.2f} ms, {busy_p99_ms / p99_ms:.1f} times")
            with ExitStack() as company:
                compares = company.enter_context(client(_compare_again_and_again, server.http))
                exports = company.enter_context(client(_export_again_and_again, server.http))
                for _ in range(TAILS):
                    company.enter_context(client(_tail, server.http))
                _wait(2.0, latencies_ms)
                latencies_ms().clear()
                together = []
                for _ in range(count // 10):
                    together += needles(server.http, 10)
                    latencies_ms()
                searched_p99_ms = _p(latencies_ms(), 99)
                while not compares() or not exports():
                    _wait(0.5, latencies_ms)
                say("needle in company", f"p50 {_p(together, 50):.3f} s, p95 {_p(together, 95):.3f} s")
                say(
                    "producer beside searches",
                    f"p99 {searched_p99_ms:.2f} ms, {searched_p99_ms / p99_ms:.1f} times",
                )
                compare_s = statistics.median(compares())
                say("compare in company", f"{compare_s:.1f} s, {compare_s / compare_alone_s:.1f} times")


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.search_company", description=__doc__)
    parser.add_argument("--needles", type=int, default=NEEDLES, help="number of searches")
    options = parser.parse_args()

    def say(what: str, figure: str) -> None:
        print(f"{what:28} {figure}", flush=True)

    say("machine", f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")
    measure(options.needles, say)


if __name__ == "__main__":
    main()
