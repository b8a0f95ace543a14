"""`serve --secure`: what the first start sets up, that later ones keep it, and what is refused."""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import ssl
import stat
from base64 import b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from mainstem.access_contract import Operation, ScramMechanism
from mainstem.authentication.scram import proves
from mainstem.cli import common
from mainstem.cli.passwords import MECHANISMS, verifiers_of
from mainstem.cli.secure_line import say_secure
from mainstem.coordinator.access.access import AccessControl
from mainstem.coordinator.doctor import OfflineState
from mainstem.doors.net.address import HostPort
from mainstem.log.errors import StorageError
from mainstem.log.offline.doctor import FolderExamination
from mainstem.promise import Promise
from mainstem.serve import options
from mainstem.serve.errors import CannotServe
from mainstem.serve.private_files import tighten
from mainstem.serve.secure import SecureSummary
from mainstem.serve.server import Running, start
from tests.cli.conftest import CommandResult, command
from tests.support.access import allow, verifier

T = TypeVar("T")


def run(folder: Path, scenario: Callable[[Running], Awaitable[T]], **given: object) -> T:
    """Start a server with --secure in this process, run the scenario on it, close it."""
    flags: dict[str, object] = {
        "data": str(folder),
        "durability": "os",
        "secure": True,
        "kafka": "127.0.0.1:0",
        "http": "127.0.0.1:0",
    }

    async def body() -> T:
        running = await start(options.load(flags | given))
        try:
            return await scenario(running)
        finally:
            await running.close()

    return asyncio.run(asyncio.wait_for(body(), 60))


def summary_of(running: Running) -> SecureSummary:
    assert running.secure is not None
    return running.secure


async def summary(running: Running) -> SecureSummary:
    return summary_of(running)


async def status(address: HostPort, ca: Path, user: str = "", password: str = "") -> int:
    """The status of a request for the users, by TLS, with a login if there is a user."""

    def ask() -> int:
        context = ssl.create_default_context(cafile=str(ca))
        connection = http.client.HTTPSConnection("localhost", address.port, timeout=20, context=context)
        login = {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}
        try:
            connection.request("GET", "/api/v1/users", headers=login if user else {})
            return connection.getresponse().status
        finally:
            connection.close()

    return await asyncio.get_running_loop().run_in_executor(None, ask)


def test_the_first_start_makes_all_that_is_needed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "data"

    async def scenario(running: Running) -> SecureSummary:
        made = summary_of(running)
        assert made.ca is not None
        password = made.new_password
        assert password is not None
        (address,) = running.addresses["http"]
        await running.node.access.put_verifiers("bob", [verifier()])
        assert await status(address, made.ca) == 401
        assert await status(address, made.ca, "admin", "wrong") == 401
        assert await status(address, made.ca, "admin", password) == 200
        assert running.node.access.authorizer.is_on
        assert [(user.name, user.is_super) for user in running.node.access.users()] == [
            ("admin", True),
            ("bob", False),
        ]
        return made

    with caplog.at_level(logging.DEBUG):
        made = run(folder, scenario)
    secrets = folder / "secure"
    assert made.line == f"secure  user=admin password-file={secrets}/admin-password ca={secrets}/ca.pem"
    password = made.new_password
    assert password is not None
    assert len(password) == 24
    assert (secrets / "admin-password").read_text() == password + "\n"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    for path in secrets.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for text in (made.line, repr(made), caplog.text):
        assert password not in text
    with FolderExamination(str(folder)) as examination:
        state = OfflineState(examination.disk)
        findings = [*state.findings, *examination.run(lambda key: state.status(key) == "live")]
    assert findings == []
    assert state.user_count() == 2


def test_later_starts_keep_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = run(folder, summary)
    before = {path.name: path.read_bytes() for path in (folder / "secure").iterdir()}

    async def scenario(running: Running) -> SecureSummary:
        stored = running.node.access.verifier("admin", ScramMechanism.SHA_256)
        assert stored is not None
        assert proves(stored, str(first.new_password))
        return summary_of(running)

    second = run(folder, scenario)
    assert (second.new_password, second.line) == (None, first.line)
    assert {path.name: path.read_bytes() for path in (folder / "secure").iterdir()} == before
    (folder / "secure" / "admin-password").unlink()
    third = run(folder, summary)
    assert third.new_password is None
    assert "password-file=- ca=" in third.line


def test_a_password_that_a_crash_left_in_the_file_becomes_that_of_the_user(tmp_path: Path) -> None:
    secrets = tmp_path / "data" / "secure"
    secrets.mkdir(parents=True)
    (secrets / "admin-password").write_text("left\n")
    (secrets / "admin-password").chmod(0o600)

    async def scenario(running: Running) -> None:
        stored = running.node.access.verifier("admin", ScramMechanism.SHA_512)
        assert stored is not None
        assert proves(stored, "left")
        assert summary_of(running).new_password is None

    run(tmp_path / "data", scenario)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"allow_anonymous": True}, "--secure contradicts --allow-anonymous"),
        ({"security_protocol": "SSL"}, "--secure contradicts --security-protocol SSL"),
        ({"kafka": "PLAINTEXT://127.0.0.1:0"}, "--secure contradicts the address 127.0.0.1:0"),
        ({"http": "SSL://127.0.0.1:0"}, "--secure contradicts the address SSL://127.0.0.1:0"),
    ],
)
def test_what_contradicts_it_is_refused(tmp_path: Path, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(CannotServe, match=reason):
        run(tmp_path / "data", summary, **given)


def test_an_admin_that_the_disk_refuses_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: Promise[None] = Promise.failed(StorageError("no space"))
    monkeypatch.setattr(AccessControl, "put_verifiers", lambda *_: refused)
    with pytest.raises(CannotServe, match="the user admin cannot be stored: no space"):
        run(tmp_path / "data", summary)


@pytest.mark.parametrize("name", ["admin-password", "server-key.pem", "ca-key.pem"])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, name: str) -> None:
    secrets = tmp_path / "data" / "secure"
    secrets.mkdir(parents=True)
    (secrets / name).write_text("secret")
    (secrets / name).chmod(0o640)
    with pytest.raises(CannotServe, match=f"{name} can be read by other users") as refused:
        run(tmp_path / "data", summary)
    assert refused.value.reason == "refused"


def test_the_password_is_shown_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for is_terminal, password, shown in ((False, "p", ""), (True, "p", " password=p"), (True, None, "")):
        monkeypatch.setattr(common, "is_terminal", lambda value=is_terminal: value)
        made = SecureSummary(Path("/f"), Path("/c"), password)
        say_secure(made)
        assert capsys.readouterr().out == f"secure  user=admin password-file=/f ca=/c{shown}\n"


def test_files_with_verifiers_are_made_private_at_a_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    run(folder, summary)
    assert tighten(folder) == 0
    snapshots = folder / "state"
    (snapshots / "snapshot-00000000000000000009").write_bytes(b"")
    os.chmod(snapshots / "snapshot-00000000000000000009", 0o644)
    os.chmod(folder / "journal", 0o755)
    assert tighten(folder) == 2
    assert "2 files with verifiers of passwords could be read by other users" in caplog.text
    assert stat.S_IMODE((folder / "journal").stat().st_mode) == 0o700
    assert tighten(folder) == 0


@pytest.mark.slow
def test_a_client_of_kafka_logs_in(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        made = summary_of(running)
        (address,) = running.addresses["kafka"]

        def topics(mechanism: str, password: str) -> list[str]:
            client = AdminClient(
                {
                    "bootstrap.servers": f"localhost:{address.port}",
                    "security.protocol": "SASL_SSL",
                    "ssl.ca.location": str(made.ca),
                    "sasl.mechanism": mechanism,
                    "sasl.username": "admin",
                    "sasl.password": password,
                }
            )
            return sorted(client.list_topics(timeout=3).topics)

        loop = asyncio.get_running_loop()
        await running.node.topics.create("orders", 1, {})
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"):
            seen = await loop.run_in_executor(None, topics, mechanism, str(made.new_password))
            assert "orders" in seen
        with pytest.raises(KafkaException):
            await loop.run_in_executor(None, topics, "SCRAM-SHA-512", "wrong")

    run(tmp_path / "data", scenario)


@pytest.mark.slow
def test_the_commands_as_a_user_with_a_right_to_read(tmp_path: Path) -> None:
    (tmp_path / "alice").write_text("pw")
    (tmp_path / "alice").chmod(0o600)

    async def scenario(running: Running) -> None:
        made = summary_of(running)
        (address,) = running.addresses["kafka"]
        place = f"localhost:{address.port}"
        await running.node.access.put_verifiers("alice", verifiers_of("pw", tuple(MECHANISMS), 4096))
        await running.node.access.create_acls([allow(Operation.READ, "orders")])
        await running.node.topics.create("orders", 1, {})

        async def call(user: str, file: object, *arguments: str, stdin: str = "") -> CommandResult:
            login = ("--ca", str(made.ca), "--user", user, "--password-file", str(file), "--at", place)
            return await asyncio.to_thread(command, *arguments, *login, stdin=stdin)

        denied = await call("alice", tmp_path / "alice", "produce", "orders", stdin="a\n")
        assert denied.code == 1
        assert "Traceback" not in denied.err
        produced = await call("admin", made.password_file, "produce", "orders", stdin="a\n")
        assert produced.code == 0
        tail = ("tail", "orders", "--from", "earliest", "-n", "1")
        shown = await call("alice", tmp_path / "alice", *tail)
        assert (shown.code, shown.out.endswith("\ta\n")) == (0, True), shown.err
        queues = await call("alice", tmp_path / "alice", "queues", "list")
        assert queues.code == 1
        assert "asking for its HTTP door is not permitted" in queues.err

    run(tmp_path / "data", scenario)
