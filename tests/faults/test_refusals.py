"""Clients that were refused are counted, by kind, where an operator looks: in /metrics."""

from __future__ import annotations

import re
import socket
import urllib.request
from pathlib import Path

from tests.faults.attacks import SocketClient
from tests.faults.client import wait_for
from tests.support.server import Server


def metrics(server: Server) -> dict[str, float]:
    """Each line, by its name and labels."""
    with urllib.request.urlopen(f"http://{server.http}/metrics") as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r"(?m)^([a-z_]+(?:\{.*\})?) (\S+)$", text)}


def test_connections_and_refusals_are_metrics(tmp_path: Path) -> None:
    with Server(tmp_path / "data", http="127.0.0.1:0", max_connections_per_ip=3) as server:
        count = "kafka_server_socket_server_metrics_connection_count"
        good = [SocketClient(server) for _ in range(3)]
        good[0].create("t")
        assert good[0].produce() == 0
        wait_for(lambda: metrics(server)[count] == 3, "not three connections")
        with socket.create_connection((server.host, server.port)) as one_more:
            assert one_more.recv(1) == b""
        assert metrics(server)['mainstem_kafka_refusals_total{kind="address"}'] == 1
        good.pop().close()
        wait_for(lambda: metrics(server)[count] == 2, "who left is counted")
        with socket.create_connection((server.host, server.port)) as browser:
            browser.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert browser.recv(1) == b""
        refusals = [name for name in metrics(server) if name.startswith("mainstem_kafka_refusals_total")]
        assert len(refusals) == 2
        for connection in good:
            connection.close()
