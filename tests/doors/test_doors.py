"""What a server does with its doors, shown with one more door: a folder, `tests/doors/echo`, and one line."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mainstem import doors
from mainstem.doors.contract import Door, Opener
from mainstem.doors.net.address import HostPort
from mainstem.kafka_protocol.message import Message
from mainstem.serve import listeners, options
from mainstem.serve.binding import plan_doors
from mainstem.serve.errors import CannotServe
from mainstem.serve.server import Running, start
from tests import docs_blocks
from tests.doors import echo
from tests.doors.kafka.kit import decode_reply, request_frame
from tests.support.ports import free_port

NAMES = ", ".join(sorted(door.name for door in (*doors.DOORS, echo.DOOR)))
Scenario = Callable[[Running], Awaitable[None]]


@pytest.fixture
def with_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line."""
    monkeypatch.setattr(doors, "DOORS", (*doors.DOORS, echo.DOOR))


def run(folder: Path, scenario: Scenario, **given: object) -> None:
    """Start a server in this process, run the scenario on it, close it."""

    async def body() -> None:
        flags = {"data": str(folder), "durability": "os", "kafka": "127.0.0.1:0", "http": "127.0.0.1:0"}
        running = await start(options.load({**flags, **given}))
        try:
            await scenario(running)
        finally:
            await running.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(body(), 60))


async def talk(address: HostPort, *sent: bytes) -> bytes:
    """What a server replies to these bytes, sent one after the other, until it pauses or closes."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        for data in sent:
            writer.write(data)
            await asyncio.sleep(0.05)
        return await asyncio.wait_for(reader.read(65536), 20)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def get(address: HostPort, path: str, host: str = "localhost") -> tuple[int, bytes]:
    """Status and body of a GET."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


async def api_versions(address: HostPort) -> Message:
    """The reply of a Kafka server to ApiVersions."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(request_frame(18, 0, 1, Message()))
    size = int.from_bytes(await reader.readexactly(4), "big")
    reply = decode_reply(18, 0, memoryview(await reader.readexactly(size)))
    writer.close()
    return reply


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


# --- a folder and a line ---


def test_a_door_of_a_folder_and_a_line_is_in_the_command_and_its_ready_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.doors.echo", "serve"]
    usage = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "--echo HOST:PORT" in usage.stdout
    assert "--echo-prefix TEXT" in usage.stdout
    flags = ["--data", str(tmp_path / "data"), "--durability", "os", "--kafka", "127.0.0.1:0"]
    flags += ["--http", "127.0.0.1:0", "--echo", "127.0.0.1:0", "--echo-prefix", "you said: "]
    with subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        match = re.search(r"  kafka=\S+  http=\S+  echo=127\.0\.0\.1:(\d+)  data=", ready)
        assert match is not None, ready
        with socket.create_connection(("127.0.0.1", int(match[1])), 30) as client:
            client.sendall(b"ECHO hello")
            assert client.recv(100) == b"you said: ECHO hello"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_it_is_in_health_cluster_and_metrics(tmp_path: Path, with_echo: None) -> None:
    async def scenario(running: Running) -> None:
        (address,), (http,) = running.addresses["echo"], running.addresses["http"]
        _, ready = await get(http, "/readyz")
        assert json.loads(ready)["doors"]["echo"] == str(address)
        _, cluster = await get(http, "/api/v1/cluster")
        assert json.loads(cluster)["doors"][-1] == {
            "name": "echo",
            "title": "Echo",
            "addresses": [str(address)],
            "off_reason": "",
            "flag": "--echo",
        }
        assert await talk(address, b"ECHO x") == b"ECHO x"
        _, metrics = await get(http, "/metrics")
        assert b"# TYPE mainstem_echo_bytes_total counter\nmainstem_echo_bytes_total 6.0\n" in metrics
        assert b'mainstem_door_connections{door="echo"} ' in metrics
        await talk(address, echo.BREAK)
        status, ready = await get(http, "/readyz")
        assert (status, json.loads(ready)["reasons"]) == (503, ["Echo door: a client broke it"])

    run(tmp_path / "data", scenario, echo="127.0.0.1:0")


def test_it_is_in_the_settings_and_in_the_docs(with_echo: None) -> None:
    settings = options.load({}, {"MAINSTEM_ECHO": "127.0.0.1:7", "MAINSTEM_ECHO_PREFIX": "p"})
    assert (settings.door_values["echo"], settings.door_values["echo_prefix"]) == ("127.0.0.1:7", "p")
    warnings = list(options.unknown_variables({"MAINSTEM_ECHO_PREFIXX": "p"}))
    assert warnings == [
        "environment variable MAINSTEM_ECHO_PREFIXX is no setting; did you mean MAINSTEM_ECHO_PREFIX?"
    ]
    assert "| Echo | `echo` | `--echo HOST:PORT` | 7007 | no |" in docs_blocks.door_table()
    assert "`--echo HOST:PORT`, `--echo-prefix TEXT`" in docs_blocks.server_flags()
    assert "| `echo` | `127.0.0.1:7007` |  |" in docs_blocks.settings_table()
    assert "| `mainstem_echo_bytes_total` | counter |" in docs_blocks.http_metrics()


# --- listeners ---


def test_doors_at_one_address_get_the_connections_that_speak_their_protocol(
    tmp_path: Path, with_echo: None, caplog: pytest.LogCaptureFixture
) -> None:
    shared = HostPort("127.0.0.1", free_port())

    async def scenario(running: Running) -> None:
        assert running.addresses == dict.fromkeys(("kafka", "http", "echo"), (shared,))
        assert (await get(shared, "/livez"))[0] == 200
        assert await talk(shared, b"ECHO x") == b"ECHO x"
        assert await talk(shared, b"E", b"CHO y") == b"ECHO y", "the first byte is not enough"
        assert (await api_versions(shared)).api_keys
        assert await talk(shared, b"SSH-2.0-x\r\n") == b""

    run(tmp_path / "data", scenario, kafka=str(shared), http=str(shared), echo=str(shared))
    assert f"127.0.0.1 does not speak Kafka or HTTP or Echo at {shared}: connection closed" in caplog.text


def test_a_connection_that_sends_nothing_is_closed_and_one_at_the_end_too(
    tmp_path: Path, with_echo: None
) -> None:
    shared = HostPort("127.0.0.1", free_port())

    async def scenario(running: Running) -> None:
        assert await talk(shared) == b""
        assert await talk(shared, b"EC") == b""

    run(tmp_path / "data", scenario, http=str(shared), echo=str(shared), first_request_timeout_ms=200)


def test_a_door_at_two_addresses(tmp_path: Path, with_echo: None) -> None:
    async def scenario(running: Running) -> None:
        first, second = running.addresses["echo"]
        assert (first.host, second.host) == ("127.0.0.1", "127.0.0.2")
        for address in (first, second):
            assert await talk(address, b"ECHO x") == b"ECHO x"
        assert f"echo={first},{second}" in running.doors_text()
        for address in running.addresses["kafka"]:
            assert (await api_versions(address)).api_keys

    addresses = "127.0.0.1:0, 127.0.0.2:0"
    run(tmp_path / "data", scenario, echo=addresses, kafka=addresses)


# --- which doors are on ---


def test_all_leaves_out_a_door_whose_usual_port_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = port_of(taken)
        door = dataclasses.replace(echo.DOOR, port=port)
        monkeypatch.setattr(doors, "DOORS", (*doors.DOORS, door))

        async def scenario(running: Running) -> None:
            assert "echo" not in running.addresses
            assert f"  echo=off (port {port} in use)" in running.doors_text()
            (http,) = running.addresses["http"]
            status, ready = await get(http, "/readyz")
            assert (status, json.loads(ready)["doors"]["echo"]) == (200, f"off (port {port} in use)")
            _, cluster = await get(http, "/api/v1/cluster")
            assert json.loads(cluster)["doors"][-1]["off_reason"] == f"port {port} in use"

        run(tmp_path / "data", scenario, doors="all")
        assert "the Echo door is off: cannot listen on 127.0.0.1" in caplog.text
        assert "--echo HOST:PORT gives it another port" in caplog.text

        async def not_reached(running: Running) -> None:
            raise AssertionError("it started")

        with pytest.raises(CannotServe, match="give --echo another port") as refused:
            run(tmp_path / "data", not_reached, doors="all", echo=f"127.0.0.1:{port}")
        assert refused.value.reason == "address"


def names(**given: object) -> list[str]:
    """The doors that these settings turn on."""
    return [plan.door.name for plan in plan_doors(options.load(given), doors.DOORS)]


def test_which_doors_are_on(with_echo: None) -> None:
    assert names() == ["kafka", "http"]
    assert names(doors="kafka") == ["kafka"]
    assert names(doors="http, echo") == ["http", "echo"]
    assert names(doors="all") == [door.name for door in doors.DOORS]
    assert names(echo="127.0.0.1:0") == ["kafka", "http", "echo"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"doors": "kafak"}, "--doors: there is no door kafak; did you mean kafka?"),
        ({"doors": "x"}, f"--doors: there is no door x; there are {NAMES}, or all"),
        ({"doors": ","}, f"--doors names no door; give some of {NAMES}, or all"),
        (
            {"doors": "kafka", "echo": "127.0.0.1:7"},
            "--echo 127.0.0.1:7 contradicts --doors kafka, which leaves that door off: add echo to --doors",
        ),
        ({"echo": "7"}, "--echo: '7' is not HOST:PORT (IPv6: [HOST]:PORT)"),
    ],
)
def test_doors_that_make_no_sense_are_refused(with_echo: None, given: dict[str, Any], message: str) -> None:
    with pytest.raises(CannotServe) as refused:
        names(**given)
    assert (refused.value.reason, str(refused.value)) == ("usage", message)


def test_bind_moves_the_doors_without_an_address(with_echo: None) -> None:
    settings = options.load({"bind": "127.0.0.2", "echo": "127.0.0.1:7", "doors": "all"})
    plans = plan_doors(settings, doors.DOORS)
    assert [str(address) for plan in plans for address in plan.addresses] == [
        *(f"127.0.0.2:{door.port}" for door in doors.DOORS if door is not echo.DOOR),
        "127.0.0.1:7",
    ]
    with pytest.raises(CannotServe, match=r"--bind 0\.0\.0\.0:9092 is open to others"):
        names(bind="0.0.0.0")
    with pytest.raises(CannotServe, match="add --advertise"):
        names(bind="0.0.0.0", allow_anonymous=True)


# --- paths on the HTTP door ---


def test_a_door_answers_its_paths_on_the_http_door_behind_the_guard(tmp_path: Path, with_echo: None) -> None:
    async def scenario(running: Running) -> None:
        (http,) = running.addresses["http"]
        assert await get(http, "/echo/a") == (200, b"> /echo/a")
        assert (await get(http, "/echo"))[0] == 404
        status, body = await get(http, "/echo/a", host="evil.example")
        assert (status, json.loads(body)["type"]) == (403, "urn:mainstem:forbidden-host")

    run(tmp_path / "data", scenario, echo="127.0.0.1:0", echo_prefix="> ")

    async def without(running: Running) -> None:
        assert (await get(running.addresses["http"][0], "/echo/a"))[0] == 404

    run(tmp_path / "data", without)


def test_a_path_of_a_door_that_cannot_be_opened_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> Opener:
        raise ImportError("no such library")

    replaced(monkeypatch, load)

    async def scenario(running: Running) -> None:
        status, body = await get(running.addresses["http"][0], "/echo/a")
        assert (status, json.loads(body)["type"]) == (500, "urn:mainstem:failed")

    run(tmp_path / "data", scenario, echo="127.0.0.1:0")


# --- a door is opened by its first connection ---


def replaced(monkeypatch: pytest.MonkeyPatch, load: Callable[[], Opener]) -> None:
    door: Door = dataclasses.replace(echo.DOOR, load=load)
    monkeypatch.setattr(doors, "DOORS", (*doors.DOORS, door))


def test_code_is_imported_at_the_first_connection_while_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported, may_end = threading.Event(), threading.Event()

    def load() -> Opener:
        imported.set()
        assert may_end.wait(30)
        return echo.DOOR.load()

    replaced(monkeypatch, load)

    async def scenario(running: Running) -> None:
        (kafka,), (address,) = running.addresses["kafka"], running.addresses["echo"]
        await api_versions(kafka)
        assert not imported.is_set()
        early = [asyncio.create_task(talk(address, b"ECHO early")) for _ in range(3)]
        await asyncio.to_thread(imported.wait, 30)
        assert (await api_versions(kafka)).api_keys, "others are served while it is imported"
        assert not any(task.done() for task in early)
        may_end.set()
        assert await asyncio.gather(*early) == [b"ECHO early"] * 3

    run(tmp_path / "data", scenario, echo="127.0.0.1:0")


def test_a_door_that_cannot_be_opened_closes_its_connections_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [ImportError("no such library")]

    def load() -> Opener:
        if failures:
            raise failures.pop()
        return echo.DOOR.load()

    replaced(monkeypatch, load)

    async def scenario(running: Running) -> None:
        (address,) = running.addresses["echo"]
        assert await talk(address, b"ECHO x") == b""
        assert await talk(address, b"ECHO x") == b"ECHO x"

    run(tmp_path / "data", scenario, echo="127.0.0.1:0")
    assert "the Echo door cannot be opened: its connections are closed" in caplog.text


# --- start and close ---


def test_without_descriptors_for_its_code_a_door_lets_its_connections_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [OSError(errno.EMFILE, "Too many open files") for _ in range(3)]

    def load() -> Opener:
        if failures:
            raise failures.pop()
        return echo.DOOR.load()

    replaced(monkeypatch, load)
    monkeypatch.setattr(listeners, "RETRY_SECONDS", 0.01)

    async def scenario(running: Running) -> None:
        (address,) = running.addresses["echo"]
        assert await talk(address, b"ECHO early") == b"ECHO early"

    run(tmp_path / "data", scenario, echo="127.0.0.1:0")
    assert failures == []
    assert "connections have to wait: Too many open files" in caplog.text


def test_a_server_in_this_process_starts_again_and_leaves_nothing_open(tmp_path: Path) -> None:
    addresses: list[HostPort] = []

    async def first(running: Running) -> None:
        addresses.append(running.addresses["kafka"][0])
        assert (await api_versions(addresses[0])).api_keys
        other = options.load({"data": str(tmp_path / "data"), "kafka": "127.0.0.1:0", "http": "127.0.0.1:0"})
        with pytest.raises(CannotServe) as refused:
            await start(other)
        assert refused.value.reason == "locked"

    async def second(running: Running) -> None:
        assert running.addresses["kafka"] == (addresses[0],)
        assert (await api_versions(addresses[0])).api_keys

    run(tmp_path / "data", first)
    with pytest.raises(OSError), suppress(TimeoutError):
        socket.create_connection((addresses[0].host, addresses[0].port), 5)
    run(tmp_path / "data", second, kafka=str(addresses[0]))
