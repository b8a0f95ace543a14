"""What the clients share: the command line, and the timing of single requests on many connections.

Owns: the arguments, the line of JSON, the percentiles. Refuses: any protocol.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

Result = dict[str, float]


class SingleRequestClient(Protocol):
    """A connection with at most one request under way."""

    def send_request(self) -> None:
        """Send the request."""

    def await_reply(self) -> None:
        """Wait until it is acknowledged."""


def main(works: Mapping[str, Callable[..., Result]]) -> None:
    """Run the workload that the command line names, and print its result as one line of JSON."""
    work = works[sys.argv[1]]
    result = work(sys.argv[2], sys.argv[3], **json.loads(sys.argv[4]))
    print(json.dumps({**result, "client_cpu_s": time.process_time()}), flush=True)


def wait_for_line() -> None:
    """Report that all is set up, and wait for a line on standard input."""
    print(json.dumps({}), flush=True)
    sys.stdin.readline()


def one_by_one(clients: Sequence[SingleRequestClient], count: int) -> Result:
    """Send `count` requests in all, at most one under way on each client; latencies from request to reply."""
    waiting: deque[tuple[SingleRequestClient, float]] = deque()
    latencies_ms: list[float] = []
    began = time.perf_counter()
    for client in clients:
        waiting.append((client, time.perf_counter()))
        client.send_request()
    for number in range(count):
        client, sent = waiting.popleft()
        client.await_reply()
        latencies_ms.append((time.perf_counter() - sent) * 1000)
        if number + len(clients) < count:
            waiting.append((client, time.perf_counter()))
            client.send_request()
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "records": count, **percentiles(latencies_ms)}


def connect_and_do(
    connect: Callable[[int], SingleRequestClient], connections: int, count: int, warm: int
) -> Result:
    """Run `one_by_one` on `connections` new clients, after `warm` requests on the first of them."""
    clients = [connect(number) for number in range(connections)]
    if warm:
        one_by_one(clients[:1], warm)
    return one_by_one(clients, count)


def percentiles(latencies_ms: list[float]) -> Result:
    """p50, p99, p99.9 and the largest, of milliseconds."""
    latencies_ms.sort()
    return {
        "p50_ms": latencies_ms[len(latencies_ms) // 2],
        "p99_ms": latencies_ms[len(latencies_ms) * 99 // 100],
        "p999_ms": latencies_ms[len(latencies_ms) * 999 // 1000],
        "max_ms": latencies_ms[-1],
    }


def payload(record_bytes: int) -> bytes:
    """One record's value."""
    return (bytes(range(256)) * (record_bytes // 256 + 1))[:record_bytes]
