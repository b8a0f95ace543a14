"""A client that stops reading while the server sends to it: it costs bounded memory, is closed after a while,
and other clients are not slowed down."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.doors.kafka.kit import batch, produce_request
from tests.faults.attacks import MB, SocketClient, status
from tests.support.server import Server

GREEDY = """
import socket, sys
from tests.doors.kafka.kit import fetch_request, request_frame
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
for number in range(200):
    sock.sendall(request_frame(1, 12, number, fetch_request(("t", 0, 0))))
print(len(sock.recv(1)), flush=True)
while sock.recv(1 << 16):
    pass
"""


@pytest.mark.slow
def test_a_stopped_client_costs_bounded_memory_and_is_closed(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        good = SocketClient(server)
        good.create("t")
        for _ in range(40):
            answer = good.call(0, 9, produce_request("t", batch(b"x" * 900_000), timeout=20_000))
            assert answer.responses[0].partition_responses[0].error_code == 0
        memory = status(server, "VmRSS")
        clients = [
            subprocess.Popen(
                [sys.executable, "-c", GREEDY, server.host, str(server.port)], stdout=subprocess.PIPE
            )
            for _ in range(4)
        ]
        try:
            for client in clients:
                assert client.stdout is not None
                assert client.stdout.readline() == b"1\n"
                client.send_signal(signal.SIGSTOP)
            durations_s: list[float] = []
            began = time.monotonic()
            while "has not read for" not in server.logs():
                asked = time.monotonic()
                assert asked - began < 60, "the client that does not read is not closed"
                good.produce()
                durations_s.append(time.monotonic() - asked)
                time.sleep(0.05)
            assert status(server, "VmHWM") - memory < 4 * 64 * MB, "bounded, not 200 replies each"
            durations_s.sort()
            median_ms = durations_s[len(durations_s) // 2] * 1000
            print(f"{len(durations_s)} requests meanwhile: median {median_ms:.1f} ms,", end=" ")
            print(f"slowest {durations_s[-1] * 1000:.0f} ms")
        finally:
            for client in clients:
                client.kill()
                client.wait()
                if client.stdout is not None:
                    client.stdout.close()
        good.close()
        assert "Traceback" not in server.logs(), server.logs()
