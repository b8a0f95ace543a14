"""The door as `mainstem serve` and `mainstem console` run it."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from mainstem.cli.exit_codes import ExitCode
from mainstem.doors import DOORS
from mainstem.doors.contract import Door
from mainstem.doors.http import DOOR as HTTP
from mainstem.doors.kafka import DOOR as KAFKA
from mainstem.serve.binding import BoundListener, bind_listeners, plan_doors
from mainstem.serve.errors import CannotServe
from mainstem.settings import load
from tests.doors.http.door_kit import problem
from tests.support.server import Server


@contextmanager
def occupied_address() -> Iterator[str]:
    """An address on which another socket is listening."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield f"127.0.0.1:{sock.getsockname()[1]}"


def client(address: str) -> httpx.Client:
    return httpx.Client(base_url=f"http://{address}", timeout=30, trust_env=False)


def test_the_ready_line_and_kafka_clients_get_its_address(tmp_path: Path) -> None:
    with Server(tmp_path / "data", http="127.0.0.1:0") as server, client(server.http) as http:
        assert http.get("/readyz").json()["ready"] is True
        assert http.get("/api/v1/cluster").json()["at"] == server.address
        admin = AdminClient({"bootstrap.servers": server.address})
        resource = ConfigResource(ResourceType.BROKER, "1")
        settings = admin.describe_configs([resource])[resource].result(timeout=10)
        assert settings["mainstem.http.listener"].value == server.http
        made = http.post("/api/v1/topics/orders/events", json={"value": {"id": 4711}})
        assert made.status_code == 200
        reply = http.post("/api/v1/search", json={"query": "4711"})
        assert '"offset":0' in reply.text
        assert '"reason":"complete"' in reply.text
        assert http.get("/api/v1/stats").json()["disk"]["free_bytes"] > 0


def test_it_is_not_served_unless_it_is_on(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        assert "http=" not in server.ready_line
        admin = AdminClient({"bootstrap.servers": server.address})
        resource = ConfigResource(ResourceType.BROKER, "1")
        settings = admin.describe_configs([resource])[resource].result(timeout=10)
        assert not settings["mainstem.http.listener"].value


def bind(doors: tuple[Door, ...] = DOORS, **given: object) -> tuple[list[BoundListener], dict[str, str]]:
    """Bind the doors as a start does, Kafka's on a free port."""
    definitions = [definition for door in doors for definition in door.definitions]
    settings = load({"kafka": "127.0.0.1:0", **given}, of_doors=definitions)
    with ExitStack() as sockets:
        return bind_listeners(settings, plan_doors(settings, doors), sockets)


def test_the_usual_port_must_be_free() -> None:
    with occupied_address() as address:
        usual = dataclasses.replace(HTTP, port=int(address.rpartition(":")[2]))
        with pytest.raises(CannotServe, match=f"cannot listen on {address}") as refused:
            bind((KAFKA, usual))
    assert refused.value.reason == "address"
    assert "give --http another port" in str(refused.value)


def test_an_address_that_was_given_must_be_free() -> None:
    with (
        occupied_address() as address,
        pytest.raises(CannotServe, match="give --http another port") as refused,
    ):
        bind(http=address)
    assert refused.value.reason == "address"


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
def test_a_public_address_is_refused_without_allow_anonymous(address: str) -> None:
    with pytest.raises(CannotServe, match=r"--http .* there is no authentication") as refused:
        bind(http=address)
    assert refused.value.reason == "refused"


def test_a_public_door_accepts_its_names(tmp_path: Path) -> None:
    settings = {"http": "0.0.0.0:0", "allow_anonymous": "true", "http_hosts": "shop.example, other.example"}
    with (
        Server(tmp_path / "data", **settings) as server,
        client(server.http.replace("0.0.0.0", "127.0.0.1")) as http,
    ):
        for host in ("shop.example", "other.example:80", "192.0.2.1", "localhost"):
            assert http.get("/livez", headers={"host": host}).status_code == 200
        problem(http.get("/livez", headers={"host": "evil.example"}), 403, "forbidden-host")


def test_read_only_and_the_limit_of_bodies_are_settings(tmp_path: Path) -> None:
    settings = {"http": "127.0.0.1:0", "http_read_only": "true", "http_max_body_bytes": "2000"}
    with Server(tmp_path / "data", **settings) as server, client(server.http) as http:
        problem(http.post("/api/v1/topics", json={"topic": "a"}), 403, "not-allowed")
        problem(http.post("/api/v1/search", json={"query": "x" * 3000}), 413, "body-too-large")


def test_it_stops_cleanly_while_a_client_follows(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", http="127.0.0.1:0").start()
    with client(server.http) as http:
        http.post("/api/v1/topics", json={"topic": "t"})
        with http.stream("GET", "/api/v1/topics/t/tail") as reply:
            lines = reply.iter_lines()
            next(lines)
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            for _ in lines:
                pass
            stopping.join(30)
    assert server.process is None
    assert "stopped cleanly" in server.logs()
    assert "Traceback" not in server.logs()


@pytest.mark.slow
def test_the_console_in_front_of_a_cluster(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mainstem", "console", "--http", "127.0.0.1:0"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTEM_")}
    with (
        Server(tmp_path / "data") as server,
        subprocess.Popen(
            [*command, "--at", server.address],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        ready = re.fullmatch(
            r"mainstem console ready  http://(\S+)/  kafka=(\S+)\n", process.stdout.readline()
        )
        assert ready is not None
        assert ready[2] == server.address
        with client(ready[1]) as http:
            rows = [{"value": {"id": number}} for number in range(5)]
            assert http.post("/api/v1/topics/far/events", json=rows).json()["published"] == 5
            read = http.get("/api/v1/topics/far/partitions/0/events?offset=-2").json()
            assert [row["value"]["id"] for row in read["events"]] == [3, 4]
            assert '"id":3' in http.post("/api/v1/search", json={"query": "id:3"}).text
            assert http.get("/api/v1/cluster").json()["embedded"] is False
            change = {"settings": {"retention.ms": "-1"}}
            preview = http.post("/api/v1/topics/far/settings/preview", json=change).json()
            assert (preview["exact"], preview["events"], preview["bytes"]) == (False, 0, None)
            assert http.get("/").headers["content-type"].startswith("text/html")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == ExitCode.DONE


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--http", "0.0.0.0:0"], ExitCode.REFUSED, "there is no authentication"),
        (["--http", "nonsense"], ExitCode.USAGE, "is not HOST:PORT"),
        (["--data", ""], ExitCode.FOLDER, "--data has no name"),
        (["--http", "127.0.0.1:0", "--at", "127.0.0.1:1"], ExitCode.NOT_REACHABLE, "127.0.0.1:1"),
    ],
)
def test_a_console_that_cannot_start_is_reported(arguments: list[str], code: int, message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mainstem", "console", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
