"""A real Apache Kafka for comparison runs: one node, KRaft, from the jars that `make deps-all` laid in
java/target/lib.

    python -m tests.compat.apache_kafka [PORT]      # prints the ready line, serves until Ctrl-C

Owns: the folder, the process and the settings of that broker. Refuses to start when the jars are missing.
For tests and for people who write them; no part of mainstem uses it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.ports import free_port

JARS = Path(__file__).parent / "java" / "target" / "lib"
START_SECONDS_MAX = 90.0
SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/data
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""


def java(heap: str, *arguments: str) -> list[str]:
    """The command line of one JVM with Kafka's class path."""
    level = os.environ.get("KAFKA_LOG", "warn")
    return [
        "java",
        f"-Xmx{heap}",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        f"-Dorg.slf4j.simpleLogger.defaultLogLevel={level}",
        "-cp",
        f"{JARS}/*",
        *arguments,
    ]


def _wait_until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"Apache Kafka ended at its start with code {server.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.2)
    raise RuntimeError(f"Apache Kafka did not open port {port} in {START_SECONDS_MAX:.0f} s")


@contextlib.contextmanager
def apache_kafka(port: int = 0, extra: str = "") -> Iterator[str]:
    """Run a fresh Apache Kafka; yields its HOST:PORT. `extra`: more lines of server.properties."""
    if not list(JARS.glob("kafka_2.13-*.jar")):
        raise RuntimeError(f"no Apache Kafka in {JARS}: run `make deps-all`")
    port = port or free_port()
    with socket.socket() as probe:  # or the wait below would take another server for this one
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
    folder = tempfile.mkdtemp(prefix="apache-kafka-")
    settings = Path(folder) / "server.properties"
    settings.write_text(SETTINGS.format(port=port, controller=free_port(), folder=folder) + extra)
    log = (Path(folder) / "server.log").open("wb")
    try:
        format_it = java("128m", "kafka.tools.StorageTool", "format", "--standalone")
        cluster = "bWFpbnN0ZW0tY29tcGF0MQ"
        subprocess.run([*format_it, "-t", cluster, "-c", str(settings)], check=True, stdout=log, stderr=log)
        server = subprocess.Popen(java("768m", "kafka.Kafka", str(settings)), stdout=log, stderr=log)
        try:
            _wait_until_open(port, server)
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    except Exception:
        log.flush()
        print((Path(folder) / "server.log").read_text()[-4000:], file=sys.stderr)
        raise
    finally:
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Serve until the process gets a signal."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with apache_kafka(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as address:
        print(f"apache kafka ready at {address}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
