"""What the clients share: being a program, and timing single requests on many connections.

Owns: the command line, the line of JSON, the percentiles. Refuses: any protocol.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

Result = dict[str, float]


class Line(Protocol):
    """A connection on which one request at a time is on its way."""

    def ask(self) -> None:
        """Send the request."""

    def answered(self) -> None:
        """Wait until it is acknowledged."""


LineType = TypeVar("LineType", bound=Line)


def main(works: Mapping[str, Callable[..., Result]]) -> None:
    """Do what the arguments say."""
    work = works[sys.argv[1]]
    result = work(sys.argv[2], sys.argv[3], **json.loads(sys.argv[4]))
    print(json.dumps({**result, "client_cpu_s": time.process_time()}), flush=True)


def until_told() -> None:
    """Say that all is set up, and wait for a line."""
    print(json.dumps({}), flush=True)
    sys.stdin.readline()


def one_by_one(lines: Sequence[Line], count: int) -> Result:
    """`count` requests in all, one on its way on each line; milliseconds from asking to the answer."""
    waiting: deque[tuple[Line, float]] = deque()
    took: list[float] = []
    began = time.perf_counter()
    for line in lines:
        waiting.append((line, time.perf_counter()))
        line.ask()
    for number in range(count):
        line, sent = waiting.popleft()
        line.answered()
        took.append((time.perf_counter() - sent) * 1000)
        if number + len(lines) < count:
            waiting.append((line, time.perf_counter()))
            line.ask()
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "records": count, **percentiles(took)}


def connect_and_do(connect: Callable[[int], Line], connections: int, count: int, warm: int) -> Result:
    """`one_by_one` on so many new lines, after `warm` requests on the first."""
    lines = [connect(number) for number in range(connections)]
    if warm:
        one_by_one(lines[:1], warm)
    return one_by_one(lines, count)


def percentiles(took: list[float]) -> Result:
    """p50, p99, p99.9 and the largest, of milliseconds."""
    took.sort()
    return {
        "p50_ms": took[len(took) // 2],
        "p99_ms": took[len(took) * 99 // 100],
        "p999_ms": took[len(took) * 999 // 1000],
        "max_ms": took[-1],
    }


def payload(record_bytes: int) -> bytes:
    """One record's value."""
    return (bytes(range(256)) * (record_bytes // 256 + 1))[:record_bytes]
