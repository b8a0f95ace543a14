"""The servers under work: mainstem, and Apache Kafka with its stock settings where its jars are.

Owns: starting them fresh, and what the kernel says of their processes (CPU, memory). Linux only: reads /proc.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic
from tests.compat import apache_kafka
from tests.support.server import Server

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Running:
    """A server that accepts clients."""

    at: str
    pid: int
    ready_s: float
    """From the start of the process until it accepted clients."""

    def processes(self) -> list[int]:
        """The server and its children."""
        found, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            with contextlib.suppress(FileNotFoundError):
                todo += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def cpu_s(self) -> float:
        """CPU time used so far, user and system, helpers included."""
        ticks = 0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / _TICKS

    def resident_mb(self, kind: str = "VmRSS") -> float:
        """Resident memory now (`VmHWM`: at most so far), helpers included; shared pages count for each
        process."""
        kilobytes = 0
        for pid in self.processes():
            match = re.search(rf"{kind}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            kilobytes += int(match[1]) if match else 0
        return kilobytes / 1024

    def make_topic(self, name: str, partitions: int) -> None:
        """Create a topic and wait for it."""
        admin = AdminClient({"bootstrap.servers": self.at, "log_level": 0})
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result(60)


@contextlib.contextmanager
def mainstem(durability: str, folder: Path | None = None) -> Iterator[Running]:
    """A fresh `mainstem serve`, or one on a folder that is there."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))) / "data"
        server = Server(folder, durability=durability, log_level="warning")
        began = time.perf_counter()
        server.start(timeout_s=300)
        ready_s = time.perf_counter() - began
        assert server.process is not None
        try:
            yield Running(server.at, server.process.pid, ready_s)
        finally:
            server.stop(timeout_s=300)


def apache_kafka_is_here() -> bool:
    """Whether its jars are, which `make deps-all` fetches."""
    return bool(shutil.which("java")) and bool(list(apache_kafka.JARS.glob("kafka_2.13-*.jar")))


@contextlib.contextmanager
def apache(durability: str) -> Iterator[Running]:
    """A fresh Apache Kafka with stock settings and JVM flags; `disk`: with flush.messages=1."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        port = apache_kafka.free_port()
        text = apache_kafka.SETTINGS.format(port=port, controller=apache_kafka.free_port(), folder=folder)
        if durability == "disk":
            text += "log.flush.interval.messages=1\n"
        settings = Path(folder) / "server.properties"
        settings.write_text(text)
        stock = ["java", "-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]
        stock += ["-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"]
        stock += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{apache_kafka.JARS}/*"]
        tool = [
            *stock,
            "kafka.tools.StorageTool",
            "format",
            "--standalone",
            "-t",
            "bWFpbnN0ZW0tY29tcGF0MQ",
            "-c",
        ]
        with open(Path(folder) / "server.log", "wb") as log:
            subprocess.run([*tool, str(settings)], check=True, stdout=log, stderr=log)
            began = time.perf_counter()
            process = subprocess.Popen([*stock, "kafka.Kafka", str(settings)], stdout=log, stderr=log)
            try:
                _wait_for(port, process)
                yield Running(f"127.0.0.1:{port}", process.pid, time.perf_counter() - began)
            finally:
                process.terminate()
                process.wait(60)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.01)
    raise RuntimeError("Apache Kafka did not start")
