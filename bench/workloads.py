"""The workloads: each function does one thing to a running server and records figures.

Owns: sizes and counts, at scale 1; `Visit.scale` reduces them for a quick run that only shows that all works.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench.contestants import KAFKA, Contestant
from bench.figures import Better, Detail, Figures
from bench.servers import ServerUnderTest

MB = 1_000_000
EVENT_BYTES = 1024
"""Size of an event, unless a workload has its own."""


@dataclass(slots=True)
class Visit:
    """One contestant, running, and the figures to add to."""

    contestant: Contestant
    server: ServerUnderTest
    figures: Figures
    scale: float = 1.0

    def note(self, what: str, unit: str, better: Better, value: float) -> None:
        """Record a figure of this run."""
        self.figures.add(self.contestant.promise, self.contestant.name, what, unit, better, value)

    def sized(self, count: int, least: int = 1) -> int:
        """A count or size at the run's scale."""
        return max(least, round(count * self.scale))

    def many(self, count: int, least: int) -> int:
        """A count that is in the name of a figure: reduced only in a quick run."""
        return max(least, round(count * self.fullness))

    @property
    def fullness(self) -> float:
        """1, or less in a quick run."""
        return min(1.0, self.scale * 10)

    def make(self, topic: str, partitions: int = 1) -> None:
        """Create a topic, stream or queue."""
        if self.contestant.speaks_kafka:
            self.server.make_topics(partitions, topic)
        else:
            self.client("make", topic)

    def client(self, work: str, topic: str, *, via: str = "", **settings: Any) -> dict[str, float]:
        """Run `work` in a client process; `via`: the client module, if not that of the server's protocol."""
        with self.client_process(work, topic, via=via, **settings) as process:
            out, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{self.contestant.name}: the client failed at {work} {settings}")
        result: dict[str, float] = json.loads(out.splitlines()[-1])
        return result

    @contextlib.contextmanager
    def client_process(
        self, work: str, topic: str, *, via: str = "", **settings: Any
    ) -> Iterator[subprocess.Popen[str]]:
        """The process, for work that ends with a line on its standard input."""
        module = f"bench.clients.{via or self.server.protocol}"
        command = [sys.executable, "-m", module, work, self.server.address, topic, json.dumps(settings)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            yield process

    def timed(self, work: str, topic: str, what: str, **settings: Any) -> Timed:
        """Run `work` and record its details as `what`."""
        self.server.forget_peak()
        before = self.server.cpu_s()
        done = self.client(work, topic, **settings)
        gigabytes = (done.get("bytes") or done["records"] * EVENT_BYTES) / 1e9
        detail = Detail(
            gigabytes * 1000 / done["seconds"],
            done.get("p50_ms"),
            done.get("p99_ms"),
            done.get("p999_ms"),
            (self.server.cpu_s() - before) / gigabytes,
            self.server.resident_mb("VmHWM"),
        )
        self.figures.detail(self.contestant.promise, self.contestant.name, what, detail)
        return Timed(done, detail, done["client_cpu_s"] / gigabytes)

    def rated(self, work: str, topic: str, what: str, **settings: Any) -> Timed:
        """As `timed`; the rate is recorded as a figure too."""
        done = self.timed(work, topic, what, **settings)
        self.note(what, "MB/s", "more", done.detail.rate)
        return done

    def note_latency(self, what: str, done: dict[str, float]) -> None:
        """Record the percentiles of a result as figures."""
        for name, key in (("p50", "p50_ms"), ("p99", "p99_ms"), ("p99.9", "p999_ms")):
            self.note(f"{what}, {name}", "ms", "less", done[key])


class Timed(NamedTuple):
    """The result of a workload."""

    done: dict[str, float]
    """The client's own report."""
    detail: Detail
    client_cpu: float
    """CPU seconds per GB."""


Workload = Callable[[Visit], None]


def first_event(visit: Visit) -> None:
    """The time from the start of the process until its first event is acknowledged."""
    module = importlib.import_module(f"bench.clients.{visit.server.protocol}")
    deadline = time.monotonic() + 60
    for attempt in itertools.count():
        topic = f"first-{attempt}"
        try:
            if visit.contestant.speaks_kafka:
                visit.server.make_topics(1, topic)
            else:
                module.make(visit.server.address, topic)
            module.sync(visit.server.address, topic, count=1, warm=0)
            break
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    visit.note("start to first acknowledged event", "s", "less", time.perf_counter() - visit.server.began)


def idle(visit: Visit) -> None:
    """Memory at rest, two seconds after the first event."""
    time.sleep(2 * visit.fullness)
    visit.note("resident, idle", "MB", "less", visit.server.resident_mb())


PASSES = 20
"""So often are hot events read: once takes a twentieth of a second, and CPU time is counted by hundredths."""


def in_and_out(visit: Visit) -> None:
    """1 KB events in, pipelined, and out again while they are in the page cache."""
    visit.make("work")
    slow = 1 if visit.contestant.promise == "page cache" else 4
    total = visit.sized(200 * MB) // slow
    if not visit.contestant.speaks_kafka:
        total //= 2
    visit.client("produce", "work", total=visit.sized(64 * MB) // slow)
    into = visit.rated("produce", "work", "in, 1 KB events", total=total)
    visit.note("in, server CPU", "s/GB", "less", into.detail.cpu_s_per_gb)
    visit.note("in, client CPU", "s/GB", "less", into.client_cpu)
    shape = {"passes": PASSES} if visit.contestant.speaks_kafka else {}  # what is read from a queue is gone
    out = visit.rated("fetch", "work", "out, 1 KB events, hot", total=total, **shape)
    visit.note("out, server CPU", "s/GB", "less", out.detail.cpu_s_per_gb)
    visit.note("out, client CPU", "s/GB", "less", out.client_cpu)
    visit.note("in and out, server CPU", "s/GB", "less", into.detail.cpu_s_per_gb + out.detail.cpu_s_per_gb)
    visit.note("resident at most", "MB", "less", max(into.detail.peak_mb, out.detail.peak_mb))


def by_librdkafka(visit: Visit) -> None:
    """The same with confluent-kafka, which costs more than the servers."""
    if visit.contestant.speaks_kafka:
        visit.make("library")
        total = visit.sized(100 * MB)
        done = visit.client("produce", "library", via="confluent", total=total)
        visit.note("in, 1 KB events, confluent-kafka", "MB/s", "more", done["bytes"] / MB / done["seconds"])
        done = visit.client("fetch", "library", via="confluent", total=total)
        visit.note("out, 1 KB events, confluent-kafka", "MB/s", "more", done["bytes"] / MB / done["seconds"])


ONE = "one event acknowledged"
HUNDRED = "100 producers of single events"


def one_by_one(visit: Visit) -> None:
    """One event a request, the next when the last is acknowledged; then 100 such producers."""
    visit.make("single")
    count = visit.sized(3000, 200)
    done = visit.timed("sync", "single", ONE, count=count).done
    visit.note_latency(ONE, done)
    done = visit.timed("sync", "single", HUNDRED, count=2 * count, connections=100).done
    visit.note(HUNDRED, "1/s", "more", done["records"] / done["seconds"])
    visit.note_latency(HUNDRED, done)


def partitions(visit: Visit) -> None:
    """16 KB batches for 100 partitions, 1 MB a request."""
    if visit.contestant.speaks_kafka:
        visit.make("wide", 100)
        spread(visit, "wide", 100)


def spread(visit: Visit, topic: str, count: int) -> None:
    """16 KB batches for all partitions of a topic, 1 MB a request: the hardest case for the disk."""
    total = visit.sized(200 * MB)
    shape: dict[str, Any] = {"partitions": count, "spread": True, "records": 16}
    visit.client("produce", topic, total=total // 8, **shape)
    visit.rated("produce", topic, f"in, {count:,} partitions, 16 KB batches", total=total, **shape)


def end_to_end(visit: Visit) -> None:
    """From sending to having read, at the same three loads for all: 1, 30, 80 % of Kafka's top rate."""
    top = visit.figures.median(visit.contestant.promise, "in, 1 KB events", KAFKA) or 200.0
    for share in (1, 30, 80):
        visit.make(f"live-{share}")
        rate = max(1.0, top * share / 100)
        what = f"end to end at {share} % load"
        shape = {"bytes_a_second": rate * MB, "seconds": max(0.2, 3 * visit.scale)}
        visit.note_latency(what, visit.timed("latency", f"live-{share}", what, **shape).done)


DEFAULT: tuple[Workload, ...] = (first_event, idle, in_and_out, one_by_one, partitions)
AFTERWARDS: tuple[Workload, ...] = (end_to_end,)
"""They need figures of the default ones, and Kafka's protocol."""
