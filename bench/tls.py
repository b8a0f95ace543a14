"""What TLS and a login cost: `python -m bench.tls [--scale X] [--kafka]`.

For each way to connect: memory of each of 2,000 idle connections that have sent a request; events of 1 KB in
and out by librdkafka in MB for each CPU second of the server; the median time of one event, acks=all. With
--kafka a real Apache Kafka by SASL_SSL too, where its jars are. CPU time is of all processes of the server.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer
from tests.support.certificates import server_files
from tests.support.ports import free_port
from tests.support.server import Server

from bench.folders import data_folder
from bench.servers import ServerUnderTest, apache
from mainstem.client_security import ClientSecurity
from mainstem.search.cluster.broker_client import BrokerConnection

CONNECTIONS = 2_000
EVENTS = 200_000
VALUE_BYTES = 1_024
SINGLE_EVENTS = 1_000
PASSWORD = "a password for this run"
WARM_UPS = 2
"""How often as many events are written and read before the figures count: a JVM compiles what runs often."""
SETTLED_S = 2.0
TICK_S = 0.01
"""The resolution of CPU times."""
TOPIC = "events"


def _users(data: Path) -> None:
    """Make the user alice in a new data folder."""
    secret = data.with_name("password")
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    command = [sys.executable, "-m", "mainstem", "users", "add", "alice", "--data", str(data)]
    subprocess.run([*command, "--new-password-file", str(secret)], check=True, capture_output=True)


@contextlib.contextmanager
def mainstem(protocol: str, parent: Path) -> Iterator[ServerUnderTest]:
    """A mainstem server whose Kafka door has this security protocol."""
    data, files = parent / "data", server_files()
    settings: dict[str, object] = {"security_protocol": protocol}
    if protocol != "PLAINTEXT":
        settings |= {"tls_cert": files.cert, "tls_key": files.key}
    if protocol.startswith("SASL"):
        _users(data)
    with Server(data, durability="os", **settings) as server:
        assert server.process is not None
        yield ServerUnderTest(f"127.0.0.1:{server.port}", server.process.pid, 0.0, 0.0, data)


@contextlib.contextmanager
def kafka(parent: Path) -> Iterator[ServerUnderTest]:
    """Apache Kafka with stock JVM flags, by SASL_SSL with SCRAM for clients."""
    files, both = server_files(), parent / "server.pem"
    both.write_text(files.key.read_text() + files.cert.read_text())
    login = f'required username="alice" password="{PASSWORD}" user_alice="{PASSWORD}"'
    modules = "org.apache.kafka.common.security"

    def settings_at(port: int) -> str:
        return f"""
listeners=SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{free_port()}
advertised.listeners=SASL_SSL://127.0.0.1:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL
inter.broker.listener.name=SASL_SSL
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config={modules}.plain.PlainLoginModule {login};
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={modules}.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={both}
ssl.truststore.type=PEM
ssl.truststore.location={files.ca}
"""

    with apache("os", parent / "kafka", settings_at=settings_at) as server:
        _kafka_user(server.address)
        yield server


def _kafka_user(address: str) -> None:
    from confluent_kafka.admin import (
        AdminClient,
        ScramCredentialInfo,
        ScramMechanism,
        UserScramCredentialUpsertion,
    )

    plain = ClientSecurity(
        protocol="SASL_SSL",
        ca=str(server_files().ca),
        mechanism="PLAIN",
        user="alice",
        password=PASSWORD,
    )
    admin = AdminClient({"bootstrap.servers": address, **plain.librdkafka()})
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    change = UserScramCredentialUpsertion("alice", info, PASSWORD.encode())
    for future in admin.alter_user_scram_credentials([change]).values():
        future.result()


def idle(server: ServerUnderTest, security: ClientSecurity, count: int) -> float:
    """Resident memory of each of `count` connections that have sent a request, KB."""
    host, _, port = server.address.rpartition(":")
    BrokerConnection(host, int(port), security=security).close()
    time.sleep(SETTLED_S)
    before = server.resident_mb()
    connections = [BrokerConnection(host, int(port), security=security) for _ in range(count)]
    time.sleep(SETTLED_S)
    after = server.resident_mb()
    for connection in connections:
        connection.close()
    return (after - before) * 1024 / count


def through(server: ServerUnderTest, config: Mapping[str, Any], count: int) -> tuple[float, float]:
    """MB for each CPU second of the server, of events written and of events read."""
    value = os.urandom(VALUE_BYTES)
    began = server.cpu_s()
    producer = Producer({**config, "linger.ms": 5, "queue.buffering.max.messages": 100_000})
    for _ in range(count):
        while True:
            try:
                producer.produce(TOPIC, value)
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush()
    written = server.cpu_s()
    consumer = Consumer({**config, "group.id": "bench", "auto.offset.reset": "earliest"})
    consumer.subscribe([TOPIC])
    read = 0
    while read < count:
        read += sum(message.error() is None for message in consumer.consume(10_000, 1.0))
    consumer.close()
    size_mb = count * VALUE_BYTES / 1e6
    ended = server.cpu_s()
    return size_mb / max(written - began, TICK_S), size_mb / max(ended - written, TICK_S)


def single(config: Mapping[str, Any], count: int) -> float:
    """The median time of one event, ms; acks=all is the default of librdkafka."""
    producer = Producer({**config, "linger.ms": 0})
    times = []
    for _ in range(count):
        began = time.perf_counter()
        producer.produce(TOPIC, b"x" * VALUE_BYTES)
        producer.flush()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def measure(name: str, server: ServerUnderTest, security: ClientSecurity, scale: float) -> str:
    """A row of the table."""
    config = {"bootstrap.servers": server.address, **security.librdkafka()}
    single(config, 20)  # makes the topic
    memory_kb = idle(server, security, max(round(CONNECTIONS * scale), 1))
    for _ in range(WARM_UPS):
        through(server, config, max(round(EVENTS * scale), 1))
    median_ms = single(config, max(round(SINGLE_EVENTS * scale), 1))
    in_mb, out_mb = through(server, config, max(round(EVENTS * scale), 1))
    return f"{name:28} {memory_kb:8.1f} {in_mb:12.0f} {out_mb:12.0f} {median_ms:10.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each way to connect, and print a line for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--kafka", action="store_true")
    options = parser.parse_args(arguments)
    ca = str(server_files().ca)
    ways = {
        "PLAINTEXT": ClientSecurity(),
        "SSL": ClientSecurity(protocol="SSL", ca=ca),
        "SASL_SSL": ClientSecurity(protocol="SASL_SSL", ca=ca, user="alice", password=PASSWORD),
    }
    print(f"{'':28} {'idle KB':>8} {'in MB/CPU s':>12} {'out MB/CPU s':>12} {'p50 ms':>10}")
    for protocol, security in ways.items():
        with data_folder() as parent, mainstem(protocol, parent) as server:
            print(measure(f"mainstem {protocol}", server, security, options.scale), flush=True)
    if options.kafka:
        with data_folder() as parent, kafka(parent) as server:
            print(measure("Apache Kafka SASL_SSL", server, ways["SASL_SSL"], options.scale), flush=True)


if __name__ == "__main__":
    main()
