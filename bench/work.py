"""The work that is measured: each function does one thing and gives figures.

Owns: sizes and counts. Each figure is the median of `repeats` runs, with the spread beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from bench import servers

MB = 1_000_000
Start = Callable[[str], AbstractContextManager[servers.Running]]
"""Durability -> a fresh server."""


@dataclass(slots=True)
class Figure:
    """One row: what, in which unit, and what each run gave."""

    what: str
    unit: str
    better: str
    """`more` or `less`."""
    bar: str = ""
    """What the project set out to reach, as a text."""
    runs: dict[str, list[float]] = field(default_factory=dict)
    """Server -> value of each run."""

    def add(self, server: str, value: float) -> None:
        """One more run."""
        self.runs.setdefault(server, []).append(value)

    def median(self, server: str) -> float | None:
        """The middle of its runs."""
        return statistics.median(self.runs[server]) if self.runs.get(server) else None


class Table(dict[str, Figure]):
    """Figures by what they are of, in the order in which they first came."""

    def figure(self, what: str, unit: str, better: str, bar: str = "") -> Figure:
        """The row, made if it is new."""
        return self.setdefault(what, Figure(what, unit, better, bar))


def client(work: str, at: str, topic: str, **settings: object) -> dict[str, float]:
    """Do `work` in a process of its own."""
    command = [sys.executable, "-m", "bench.client", work, at, topic, json.dumps(settings)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def in_and_out(table: Table, name: str, start: Start, durability: str, total: int) -> None:
    """Batches of 1 MB with 1 KB records into one partition, and out again."""
    with start(durability) as server:
        server.make_topic("work", 1)
        shape = {"partitions": 1, "spread": False, "records": 1000, "record_bytes": 1024}
        client("produce", server.at, "work", total=64 * MB, **shape)
        before = server.cpu_s()
        done = client("produce", server.at, "work", total=total, **shape)
        rate, cpu = done["bytes"] / done["seconds"] / MB, (server.cpu_s() - before) / done["bytes"] * 1e9
        table.figure(f"in, 1 KB records, {durability}", "MB/s", "more", _bar(durability, "300")).add(
            name, rate
        )
        table.figure(f"in, CPU, {durability}", "s/GB", "less").add(name, cpu)
        if durability == "os":
            before = server.cpu_s()
            done = client("fetch", server.at, "work", partitions=1, total=total)
            table.figure("out, 1 KB records, hot", "MB/s", "more", "400").add(
                name, done["bytes"] / done["seconds"] / MB
            )
            cpu = (server.cpu_s() - before) / done["bytes"] * 1e9
            table.figure("out, CPU, hot", "s/GB", "less").add(name, cpu)
            table.figure("resident at most, after that", "MB", "less").add(name, server.resident_mb("VmHWM"))


def _bar(durability: str, text: str) -> str:
    return text if durability == "os" else ""


def many_partitions(table: Table, name: str, start: Start, durability: str, total: int) -> None:
    """100 partitions in each request, 16 KB for each; then 100 partitions in turn, 1 MB for each."""
    with start(durability) as server:
        server.make_topic("work", 100)
        shape = {"partitions": 100, "spread": True, "records": 16, "record_bytes": 1024}
        client("produce", server.at, "work", total=64 * MB, **shape)
        done = client("produce", server.at, "work", total=total, **shape)
        rate = done["bytes"] / done["seconds"] / MB
        bar = _bar(durability, "half of one partition")
        table.figure(f"in, 100 partitions, 16 KB batches, {durability}", "MB/s", "more", bar).add(name, rate)
        shape = {"partitions": 100, "spread": False, "records": 1000, "record_bytes": 1024}
        done = client("produce", server.at, "work", total=total, **shape)
        rate = done["bytes"] / done["seconds"] / MB
        table.figure(f"in, 100 partitions, 1 MB batches, {durability}", "MB/s", "more", bar).add(name, rate)


def one_by_one(table: Table, name: str, start: Start, durability: str, count: int) -> None:
    """One record a request, the next when the last is acknowledged; then 100 such producers."""
    with start(durability) as server:
        server.make_topic("work", 1)
        done = client("sync", server.at, "work", record_bytes=1024, count=count, connections=1)
        bar = _bar(durability, "0.150")
        table.figure(f"one record, acknowledged, {durability}, p50", "ms", "less", bar).add(
            name, done["p50_ms"]
        )
        table.figure(f"one record, acknowledged, {durability}, p99", "ms", "less").add(name, done["p99_ms"])
        done = client("sync", server.at, "work", record_bytes=1024, count=count * 2, connections=100)
        rate = done["records"] / done["seconds"]
        table.figure(f"100 producers of single records, {durability}", "1/s", "more").add(name, rate)


def idle(table: Table, name: str, start: Start) -> None:
    """Ready on an empty folder, memory at rest, memory of an idle connection."""
    with start("disk") as server:
        bar = "0.4"
        table.figure("ready, empty folder", "s", "less", bar).add(name, server.ready_s)
        time.sleep(2)
        before = server.resident_mb()
        table.figure("resident, idle", "MB", "less", "80").add(name, before)
        count = 1000
        command = [
            sys.executable,
            "-m",
            "bench.client",
            "connections",
            server.at,
            "-",
            json.dumps({"count": count}),
        ]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as opened:
            assert opened.stdout is not None
            opened.stdout.readline()
            time.sleep(1)
            after = server.resident_mb()
            opened.communicate(b"\n")
        kilobytes = (after - before) * 1024 / count
        table.figure("an idle connection", "KB", "less", "20").add(name, kilobytes)


def kept(table: Table, total: int) -> None:
    """Ready with 1,000 partitions and much data: after a clean stop, and after kill -9."""
    with tempfile.TemporaryDirectory(prefix="bench-") as parent:
        folder = Path(parent) / "data"
        shape = {"partitions": 1000, "spread": False, "records": 1000, "record_bytes": 1024}
        with servers.mainstem("disk", folder) as server:
            server.make_topic("work", 1000)
            client("produce", server.at, "work", total=total, **shape)
        size = f"1,000 partitions, {total / 1e9:.0f} GB"
        with servers.mainstem("disk", folder) as server:
            table.figure(f"ready, {size}", "s", "less", "1").add("mainstem", server.ready_s)
            table.figure(f"resident, {size}", "MB", "less").add("mainstem", server.resident_mb())
            client("produce", server.at, "work", total=200 * MB, **shape)
            os.kill(server.pid, 9)
        with contextlib.suppress(AssertionError), servers.mainstem("disk", folder) as server:
            table.figure(f"ready after kill -9, {size}", "s", "less").add("mainstem", server.ready_s)


def machine(table: Table) -> None:
    """What the disk itself gives: the limits beside which the rest stands."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        descriptor = os.open(Path(folder) / "raw", os.O_RDWR | os.O_CREAT)
        try:
            appended, overwritten = _raw(descriptor, 1000)
        finally:
            os.close(descriptor)
    table.figure("write + fdatasync of 1 KB, growing file", "ms", "less").add("the disk", appended)
    table.figure("write + fdatasync of 4 KB, written before", "ms", "less").add("the disk", overwritten)


def _raw(descriptor: int, count: int) -> tuple[float, float]:
    def one(data: bytes, position: int) -> float:
        began = time.perf_counter()
        os.pwrite(descriptor, data, position)
        os.fdatasync(descriptor)
        return (time.perf_counter() - began) * 1000

    grown = [one(bytes(1024), number * 1024) for number in range(count)]
    os.pwrite(descriptor, bytes(4096 * count), 0)
    os.fsync(descriptor)
    again = [one(bytes(4096), number * 4096) for number in range(count)]
    return statistics.median(grown), statistics.median(again)
