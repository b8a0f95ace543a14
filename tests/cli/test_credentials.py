"""Every kind of credentials of commands, against a server with TLS and a login."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mainstem as library
from mainstem.cli.exit_codes import ExitCode
from mainstem.client_security import ClientSecurity
from tests.cli.conftest import CommandResult, command
from tests.support.certificates import client_files, server_files
from tests.support.server import Server

pytestmark = pytest.mark.slow

PASSWORD = "a secret, with = and ,"
PROGRAM = """
import os, signal, mainstem
stream = mainstem.connect()

@stream.subscriber("greetings", group="run")
async def greet(text: str) -> None:
    print(text, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

class Greeter:
    name = "greeter"

    async def run(self, log):
        await stream.publish("greetings", "hello")

stream.services.append(Greeter())
"""


class Secured:
    """A server, and the options by which commands reach it."""

    def __init__(self, address: str, options: list[str]) -> None:
        self.address = address
        self.options = options

    def __call__(self, *arguments: str, stdin: str = "") -> CommandResult:
        return command(*arguments, *self.options, stdin=stdin, address=self.address)


@pytest.fixture(scope="module")
def password_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secrets") / "password"
    path.write_text(PASSWORD + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, password_file: Path) -> Iterator[Secured]:
    data = tmp_path_factory.mktemp("secured") / "data"
    added = command("users", "add", "alice", "--data", str(data), "--new-password-file", str(password_file))
    assert added.code == ExitCode.DONE, added.err
    files = server_files()
    settings = {
        "security_protocol": "SASL_SSL",
        "tls_cert": files.cert,
        "tls_key": files.key,
    }
    options = ["--ca", str(files.ca), "--user", "alice", "--password-file", str(password_file)]
    with Server(data, http="127.0.0.1:0", **settings) as server:
        yield Secured(f"127.0.0.1:{server.port}", options)


def use(secured: Secured) -> None:
    """Write, read and search by commands."""
    assert secured("topics", "create", "orders").code == 0
    done = secured(
        "produce", "orders", "--key", "id", stdin='{"id":"1","text":"anna"}\n{"id":"2","text":"ben"}\n'
    )
    assert done.code == 0, done.err
    assert '"anna"' in secured("tail", "orders", "--from", "earliest", "--until", "latest").out
    done = secured("search", "anna", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out.splitlines()[0])["topic"] == "orders"
    assert secured("groups", "list").code == 0


def test_commands_log_in_to_mainstem_by_tls_and_scram(secured: Secured, password_file: Path) -> None:
    use(secured)
    assert "slower" not in secured("search", "anna").err  # through the HTTP door, which needs a login too
    done = secured("queues", "create", "work", "--topic", "orders")
    assert done.code == 0, done.err
    for mechanism in ("SCRAM-SHA-256", "PLAIN"):
        done = secured("topics", "list", "--sasl-mechanism", mechanism)
        assert done.code == 0, done.err
        assert "orders" in [row[0] for row in done.rows]


def test_who_cannot_log_in_is_told_apart_from_a_silent_server(
    secured: Secured, tmp_path: Path, password_file: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    wrong.chmod(0o600)
    ca = ["--ca", str(server_files().ca)]
    for options, message in (
        ([*ca, "--user", "alice", "--password-file", str(wrong)], "the login as alice is refused"),
        (["--user", "alice", "--password-file", str(password_file)], "it expects TLS: --ca FILE"),
        (["--at", f"SSL://{secured.address}"], "its certificate is not trusted"),
        (ca, "it expects a login, by SCRAM-SHA-"),
    ):
        done = command("topics", "list", *options, address=secured.address)
        assert done.code == ExitCode.NOT_REACHABLE
        assert message in done.err
        assert PASSWORD not in done.err


def test_a_file_of_properties_and_variables_are_enough(
    secured: Secured, tmp_path: Path, password_file: Path
) -> None:
    config = tmp_path / "client.properties"
    config.write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n"
        "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required"
        f' username="alice" password="{PASSWORD}";\n'
        f"ssl.truststore.type=PEM\nssl.truststore.location={server_files().ca}\n"
    )
    config.chmod(0o600)
    assert command("topics", "list", "--client-config", str(config), address=secured.address).code == 0
    variables = {
        "MAINSTEM_CA": str(server_files().ca),
        "MAINSTEM_USER": "alice",
        "MAINSTEM_PASSWORD_FILE": str(password_file),
    }
    assert command("topics", "list", address=f"SASL_SSL://{secured.address}", **variables).code == 0


def test_the_python_api_logs_in(secured: Secured) -> None:
    security = ClientSecurity(protocol="SASL_SSL", ca=str(server_files().ca), user="alice", password=PASSWORD)

    async def publish() -> None:
        async with library.connect(secured.address, security=security) as stream:
            position = await stream.publish("api", "x")
            assert position.topic == "api"

    asyncio.run(publish())


def test_a_program_logs_in_by_variables_and_by_options_of_the_command(
    secured: Secured, password_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("program.py").write_text(PROGRAM)
    variables = {
        "MAINSTEM_CA": str(server_files().ca),
        "MAINSTEM_USER": "alice",
        "MAINSTEM_PASSWORD_FILE": str(password_file),
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTEM_")}
    python = [sys.executable, "-m", "mainstem", "run", "program", "--at", secured.address]
    for command_line, more in ((python, variables), ([*python, *secured.options], {})):
        done = subprocess.run(
            command_line, env={**environment, **more}, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout) == (ExitCode.DONE, "hello\n"), done.stderr
    refused = subprocess.run(python, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == ExitCode.NOT_REACHABLE, refused.stderr


def test_a_certificate_is_enough_where_it_is_asked_for(tmp_path: Path) -> None:
    files, alice = server_files(), client_files("alice")
    settings = {
        "security_protocol": "SSL",
        "tls_cert": files.cert,
        "tls_key": files.key,
        "tls_client_ca": files.ca,
        "tls_client_auth": "required",
    }
    options = ["--ca", str(files.ca), "--cert", str(alice.cert), "--cert-key", str(alice.key)]
    with Server(tmp_path / "data", http="127.0.0.1:0", **settings) as server:
        use(Secured(f"127.0.0.1:{server.port}", options))
        without = command("topics", "list", "--ca", str(files.ca), address=f"127.0.0.1:{server.port}")
        assert without.code == ExitCode.NOT_REACHABLE
