"""Sends the same requests to a real Apache Kafka and to mainstem and prints where the replies differ.

    .cache/compat/python/bin/python -m tests.compat.compare_with_kafka KAFKA_ADDRESS MAINSTEM_ADDRESS [PROBE…]

Both servers should be fresh. kafka-python's codec writes and reads the frames. Owns: the connection, the
comparison, what is left out of it. The probes are in produce_probes.py,
admin_probes.py, cluster_probes.py and membership_probes.py. A tool for people; no test asserts on it.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from typing import Any

from tests.compat import admin_probes, cluster_probes, membership_probes, produce_probes
from tests.compat.probing import PROBES, ProbedServer, request_class, response_class

__all__ = ["admin_probes", "cluster_probes", "membership_probes", "produce_probes"]

IGNORED = {
    "throttle_time_ms",
    "cluster_id",
    "port",
    "topic_id",
    "log_append_time_ms",
    "log_start_offset",
    "authorized_operations",
    "finalized_features_epoch",
    "documentation",
    "log_dir",
    "producer_id",
    "error_message",
    "partition_size",
    "total_bytes",
    "usable_bytes",
}
"""Fields that may differ between any two servers, or are text for people."""


class ProbeConnection:
    """One connection; a frame out, a frame in. What was asked last is kept for messages."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self.address = (host, int(port))
        self.socket: socket.socket | None = None
        self.correlation = 0

    def ask(self, name: str, version: int, fields: dict[str, Any]) -> Any:
        """The reply as a dictionary, `closed` when the server closed the connection instead."""
        request = build(request_class(name), version, fields)
        self.correlation += 1
        request.with_header(correlation_id=self.correlation, client_id="compare")
        return self.exchange(request.encode(header=True, framed=True), name, version)

    def exchange(self, frame: bytes, name: str, version: int) -> Any:
        """Send these bytes and decode what comes back as that reply."""
        try:
            data = self.exchange_bytes(frame)
        except (ConnectionError, EOFError):
            return "closed"
        reply = response_class(name).decode(data, version=version, header=True)
        return json.loads(json.dumps(reply.to_dict(), default=str))

    def exchange_bytes(self, frame: bytes) -> bytes:
        """Send these bytes; the frame that comes back, without its length. ConnectionError, EOFError: the
        server closes the connection."""
        if self.socket is None:
            self.socket = socket.create_connection(self.address, 8)
        try:
            self.socket.sendall(frame)
            return self._read(struct.unpack(">i", self._read(4))[0])
        except (ConnectionError, EOFError):
            self.close()
            raise

    def close(self) -> None:
        """Drop the connection; the next request makes a new one."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def _read(self, count: int) -> bytes:
        assert self.socket is not None
        parts = b""
        while len(parts) < count:
            part = self.socket.recv(count - len(parts))
            if not part:
                raise EOFError
            parts += part
        return parts


def build(kind: Any, version: int, fields: dict[str, Any]) -> Any:
    """kafka-python's message of this kind from plain dictionaries and lists."""
    return _struct(kind, kind._struct, version, fields)


def _struct(kind: Any, shape: Any, version: int, fields: dict[str, Any]) -> Any:
    known = {field.name: field for field in shape._fields}
    values = {}
    for name, value in fields.items():
        inner: Any = getattr(kind, known[name].type_str, None)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = [_struct(inner, inner._struct, version, item) for item in value]
        values[name] = value
    return kind(version=version, **values)


def differences(kafka: Any, ours: Any, where: str = "") -> list[str]:
    """`path: Kafka's value | ours` for each place where they differ."""
    if isinstance(kafka, dict) and isinstance(ours, dict):
        different = []
        for name in sorted(kafka.keys() | ours.keys()):
            if name not in IGNORED:
                different += differences(
                    kafka.get(name, "absent"), ours.get(name, "absent"), f"{where}.{name}"
                )
        return different
    if isinstance(kafka, list) and isinstance(ours, list):
        return _list_differences(kafka, ours, where)
    return [] if kafka == ours else [f"{where or 'reply'}: {kafka!r} | {ours!r}"]


def _list_differences(kafka: list[Any], ours: list[Any], where: str) -> list[str]:
    def by_key(all_of_it: list[Any]) -> dict[str, Any]:
        names = ("name", "api_key", "resource_name", "partition_index", "index", "group_id")
        keys = [
            name for name in names if all_of_it and isinstance(all_of_it[0], dict) and name in all_of_it[0]
        ]
        if not keys:
            return {str(i): item for i, item in enumerate(all_of_it)}
        return {str(item[keys[0]]): item for item in all_of_it}

    theirs, mine = by_key(kafka), by_key(ours)
    different = []
    if missing := sorted(theirs.keys() - mine.keys()):
        different.append(f"{where}: only Kafka has {missing}")
    if more := sorted(mine.keys() - theirs.keys()):
        different.append(f"{where}: only we have {more}")
    for key in sorted(theirs.keys() & mine.keys()):
        different += differences(theirs[key], mine[key], f"{where}[{key}]")
    return different


def main() -> None:
    """Run the probes against both, one after another."""
    kafka, ours = (ProbedServer(ProbeConnection(address)) for address in sys.argv[1:3])
    only, different = sys.argv[3:], 0
    for server in (kafka, ours):
        server.warm_up()
    for name, probe in PROBES.items():
        if only and name not in only:
            continue
        replies = []
        for server in (kafka, ours):
            try:
                replies.append(probe(server))
            except Exception as error:
                server.connection.close()
                replies.append(f"{type(error).__name__}: {error}")
        lines = differences(*replies)
        different += bool(lines)
        print(f"{'SAME' if not lines else 'DIFF'} {name}")
        for line in lines:
            print(f"     {line[:400]}")
    print(f"{different} of {len(PROBES)} probes differ")


if __name__ == "__main__":
    main()
