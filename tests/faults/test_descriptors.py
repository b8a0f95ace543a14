"""No descriptors left for a real server: connections have taken all that it may have."""

from __future__ import annotations

import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.doors.kafka.kit import batch, fetch_request, produce_request
from tests.faults.attacks import SocketClient, descriptors, flood, limit_descriptors
from tests.support.server import Server

KAFKA_STORAGE_ERROR = 56


def produce(caller: SocketClient, topic: str) -> int:
    """The error code of one event."""
    answer = caller.call(0, 9, produce_request(topic, batch(b"x" * 100), timeout=20_000))
    return int(answer.responses[0].partition_responses[0].error_code)


def fetch(caller: SocketClient, topic: str) -> tuple[int, int]:
    """The error code of a fetch from the beginning, and how many bytes it returned."""
    partition = caller.call(1, 12, fetch_request((topic, 0, 0))).responses[0].partitions[0]
    return int(partition.error_code), len(partition.records or b"")


@pytest.mark.slow
def test_without_descriptors_clean_files_are_closed_for_others(tmp_path: Path) -> None:
    names = [f"t{number}" for number in range(60)]
    with Server(tmp_path / "data") as server:
        good = SocketClient(server)
        for name in names:
            good.create(name)
            assert produce(good, name) == 0
        good.close()
        server.restart()  # no segment is open
        good = SocketClient(server)
        assert fetch(good, names[0])[0] == 0
        limit_descriptors(server, descriptors(server) + 10)
        with flood(server, 40):
            time.sleep(0.5)
            assert [fetch(good, name)[0] for name in names * 2] == [0] * 120
        good.close()
        assert "Too many open files" in server.logs(), "there were enough of them: nothing was tested"
        assert "Traceback" not in server.logs(), server.logs()


@pytest.mark.slow
def test_without_any_descriptor_single_requests_fail_and_later_ones_succeed(tmp_path: Path) -> None:
    names = [f"t{number}" for number in range(60)]
    with Server(tmp_path / "data") as server:
        good = SocketClient(server)
        for name in names:
            good.create(name)
            assert produce(good, name) == 0
        good.close()
        server.restart()
        good = SocketClient(server)
        good.create(names[0])  # the first request loads the door's code
        limit_descriptors(server, descriptors(server) + 10)
        written = dict.fromkeys(names, 1)
        with flood(server, 40):
            time.sleep(0.5)
            refused = 0
            for name in names:
                code = produce(good, name)
                assert code in (0, KAFKA_STORAGE_ERROR)
                written[name] += code == 0
                refused += code != 0
                assert fetch(good, name)[0] in (0, KAFKA_STORAGE_ERROR)
                assert fetch(good, names[0])[0] in (0, KAFKA_STORAGE_ERROR)
            assert refused, "there were enough of them: nothing was tested"
        limit_descriptors(server, 4096)  # what is not synced stays open, and is more than that until then
        for name in names:
            assert produce(good, name) == 0, server.logs()
            code, fetched_bytes = fetch(good, name)
            assert (code, fetched_bytes % (written[name] + 1)) == (0, 0)
        logged = server.logs()
        assert "read-only" not in logged, logged
        assert "Traceback" not in logged, logged
        good.close()
        server.restart(kill=True)
        good = SocketClient(server)
        batch_bytes = fetch(good, names[0])[1] // (written[names[0]] + 1)
        assert [fetch(good, name) for name in names] == [
            (0, batch_bytes * (written[name] + 1)) for name in names
        ]
        good.close()


@pytest.mark.slow
def test_without_any_descriptor_http_answers_busy_and_later_requests_succeed(tmp_path: Path) -> None:
    with Server(tmp_path / "data", http="127.0.0.1:0") as server:
        client = HTTPConnection(server.http, timeout=10)

        def status(method: str, path: str, body: bytes | None = None) -> int:
            client.request(method, path, body, {"content-type": "application/json"} if body else {})
            reply = client.getresponse()
            members = reply.read()
            if reply.status == 503 and path == "/":
                assert b'"urn:mainstem:busy"' in members
                assert reply.headers["retry-after"] == "1"
            return reply.status

        assert status("GET", "/livez") == 200
        limit_descriptors(server, descriptors(server))
        assert [status("GET", path) for path in ("/metrics", "/api/v1/topics", "/readyz")] == [200] * 3
        assert status("GET", "/") == 503, "its file cannot be opened"
        assert status("POST", "/api/v1/search", b"{}") in (200, 503), "its workers cannot be started"
        assert status("POST", "/api/v1/topics/t/events", b'{"value": 1}') == 503
        limit_descriptors(server, 4096)
        assert status("GET", "/") == 200
        assert status("POST", "/api/v1/search", b"{}") == 200
        assert "Traceback" not in server.logs(), server.logs()
        client.close()
