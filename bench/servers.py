"""The servers that are measured: mainstem, and Apache Kafka where its jars are. For the others see peers.py.

Owns: starting them fresh, and the CPU time and memory of their processes. Linux only: reads /proc.
"""

from __future__ import annotations

import compileall
import contextlib
import functools
import importlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic
from tests.compat import apache_kafka
from tests.support.ports import free_port
from tests.support.server import Server

from bench.folders import data_folder

_TICKS = os.sysconf("SC_CLK_TCK")


class Missing(Exception):
    """This server cannot be installed here; the text gives the reason."""


@dataclass(slots=True)
class ServerUnderTest:
    """A server that accepts clients."""

    address: str
    pid: int
    began: float
    """When its process was started (time.perf_counter)."""
    ready_s: float
    """From then until it accepted clients."""
    folder: Path
    """Its data folder."""
    protocol: str = "kafka"
    """The module of bench.clients that speaks it."""

    def processes(self) -> list[int]:
        """The server and its children."""
        pids, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            pids.append(pid)
            with contextlib.suppress(FileNotFoundError):
                todo += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return pids

    def cpu_s(self) -> float:
        """CPU time used so far, user and system, helpers included."""
        ticks = 0
        for pid in self.processes():
            with contextlib.suppress(FileNotFoundError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / _TICKS

    def resident_mb(self, kind: str = "VmRSS") -> float:
        """Resident memory now (`VmHWM`: at most so far), helpers included; shared pages count for each
        process."""
        kilobytes = 0
        for pid in self.processes():
            with contextlib.suppress(FileNotFoundError):
                match = re.search(rf"{kind}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
                kilobytes += int(match[1]) if match else 0
        return kilobytes / 1024

    def forget_peak(self) -> None:
        """Reset `VmHWM` to what is resident now (proc_pid_clear_refs(5))."""
        for pid in self.processes():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def make_topics(self, partitions: int, *names: str) -> None:
        """Create topics (for Kafka's protocol) and wait for them."""
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        futures = admin.create_topics([NewTopic(name, partitions, 1) for name in names], operation_timeout=60)
        for future in futures.values():
            future.result(90)

    def forget_pages(self) -> None:
        """Drop its data from the page cache, so that the next reads come from the disk."""
        os.sync()
        for path in self.folder.rglob("*"):
            if path.is_file():
                with open(path, "rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def kill(self) -> None:
        """Kill it and its children."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@functools.cache
def _compile() -> None:
    """Compile the package, as an installation does: with PYTHONDONTWRITEBYTECODE set, each start would
    compile all sources again."""
    (folder,) = importlib.import_module("mainstem").__path__
    compileall.compile_dir(folder, quiet=2)


@contextlib.contextmanager
def mainstem(durability: str, folder: Path | None = None) -> Iterator[ServerUnderTest]:
    """A fresh `mainstem serve`, or one on an existing folder."""
    _compile()
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = stack.enter_context(data_folder()) / "data"
        server = Server(folder, durability=durability, log_level="warning")
        began = time.perf_counter()
        server.start(timeout_s=300)
        ready_s = time.perf_counter() - began
        assert server.process is not None
        try:
            yield ServerUnderTest(server.address, server.process.pid, began, ready_s, folder)
        finally:
            server.stop(timeout_s=300)


@contextlib.contextmanager
def apache(
    durability: str, folder: Path | None = None, *, settings_at: Callable[[int], str] = lambda port: ""
) -> Iterator[ServerUnderTest]:
    """A fresh Apache Kafka with stock settings and JVM flags, or one on an existing folder; `disk`: with
    flush.messages=1. `settings_at`: more lines of server.properties, by the port of clients."""
    _have_jars()
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = stack.enter_context(data_folder())
        folder.mkdir(exist_ok=True)
        port = free_port()
        text = apache_kafka.SETTINGS.format(port=port, controller=free_port(), folder=folder)
        if durability == "disk":
            text += "log.flush.interval.messages=1\n"
        settings = folder / "server.properties"
        settings.write_text(text + settings_at(port))
        stock = ["java", "-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]
        stock += ["-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"]
        stock += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{apache_kafka.JARS}/*"]
        if not (folder / "data").exists():
            tool = [*stock, "kafka.tools.StorageTool", "format", "--standalone"]
            tool += ["-t", "bWFpbnN0ZW0tY29tcGF0MQ", "-c", str(settings)]
            with open(folder / "server.log", "wb") as log:
                subprocess.run(tool, check=True, stdout=log, stderr=log)
        with running([*stock, "kafka.Kafka", str(settings)], folder, port) as server:
            yield server


def apache_version() -> str:
    """The versions of Kafka and of the Java that runs it."""
    (jar,) = apache_kafka.JARS.glob("kafka_2.13-*.jar")
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    return f"{jar.stem.removeprefix('kafka_2.13-')} on Java {java.split(chr(34))[1]}"


def _have_jars() -> None:
    if not shutil.which("java"):
        raise Missing("Java is not installed")
    if not list(apache_kafka.JARS.glob("kafka_2.13-*.jar")):
        if not shutil.which("mvn"):
            raise Missing("Maven, which fetches its jars, is not installed")
        fetch = ["mvn", "-B", "-q", "package"]
        subprocess.run(fetch, cwd=apache_kafka.JARS.parents[1], check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def running(
    command: list[str], folder: Path, port: int, protocol: str = "kafka", **environment: str
) -> Iterator[ServerUnderTest]:
    """Start a server by its command and wait until it accepts connections on `port`; kill it at the end."""
    with open(folder / "server.log", "ab") as log:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment)
        server = ServerUnderTest(f"127.0.0.1:{port}", process.pid, began, 0.0, folder, protocol)
        try:
            _wait_for(port, process, command[0])
            server.ready_s = time.perf_counter() - began
            yield server
        finally:
            server.kill()
            process.wait(60)


def _wait_for(port: int, process: subprocess.Popen[bytes], name: str) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.01)
    raise RuntimeError(f"{name} did not start")
