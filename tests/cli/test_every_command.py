"""Every command with `--at` against servers that ask for TLS and a login.

These are `mainstem serve --secure` and a real Apache Kafka. A command works with the credentials of a file of
properties, and without them it is refused, with a reason.
"""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest

from mainstem.cli import mainstem as command_line
from mainstem.cli import run
from mainstem.cli.exit_codes import ExitCode
from tests.compat.apache_kafka import JARS
from tests.compat.secured_kafka import GUEST, GUEST_PASSWORD, secured_kafka

LINES = '{"id":"1","text":"anna","card":"4111"}\n{"id":"2","text":"ben","card":"5500"}\n'
READY = re.compile(r"mainstem ready .* kafka=SASL_SSL://(\S+) ")
SILENT = "does not answer as a Kafka server in"
REFUSED = re.compile(
    "authorization failed|not authorized|not permitted|may not [A-Z]|is there|no topic|not exist", re.I
)
ELSEWHERE = {"console", "import rabbitmq", "run"}
"""They run until they are stopped: see `check_subscribers`, and tests/compat/test_console_access.py."""
PROGRAM = """
import mainstem
stream = mainstem.connect()

@stream.subscriber("orders", group="readers")
async def show(order: dict[str, object]) -> None:
    print(order["text"], flush=True)
"""


@dataclass(frozen=True)
class Case:
    """A command line that works with credentials."""

    line: str
    """Its arguments; {password}, {users} and {token}: see `Servers`."""
    shows: str = ""
    """What is in its standard output."""
    stdin: str = ""
    is_read: bool = False
    """Whether the account without rights gets an empty answer, and no refusal."""


ANY_CLUSTER = (
    Case("topics create orders --partitions 2"),
    Case("topics create again"),
    Case("topics list", "orders", is_read=True),
    Case("topics describe orders", "orders"),
    Case("topics alter orders --config retention.ms=86400000"),
    Case("produce orders --key id", stdin=LINES),
    Case("tail orders --from earliest --until latest", "anna"),
    Case("tail orders --group billing --from earliest -n 1"),
    Case("search anna --json", '"topic":"orders"', is_read=True),
    Case("trace anna", "anna", is_read=True),
    Case("export --topic orders", "ben"),
    Case("replay text:anna --topic orders --to again --yes"),
    Case("groups list", "billing", is_read=True),
    Case("groups describe billing", "orders"),
    Case("groups reset billing --to earliest --execute"),
    Case("groups delete billing --yes"),
)
"""Commands for mainstem and for any Kafka cluster, in an order in which each finds what it needs."""
MAINSTEM = (
    Case("users add bob --new-password-file {password}"),
    Case("users passwd bob --new-password-file {password}"),
    Case("users import {users}"),
    Case("users list", "bob"),
    Case("acls add --allow bob --operation read --topic orders", "READ"),
    Case("acls list", "User:bob"),
    Case("acls test bob read --topic orders", "User:bob"),
    Case("acls delete --principal bob --yes", "User:bob"),
    Case("quotas set --for-user bob --producer-byte-rate 1000000", "bob"),
    Case("quotas list", "bob"),
    Case("quotas delete --for-user bob --yes"),
    Case("masking-rules add cards --topic orders --path card --kind hidden", "cards"),
    Case("masking-rules list", "cards"),
    Case("masking-rules preview orders --path card --kind hidden", "[hidden]"),
    Case("masking-rules delete cards --yes", "cards"),
    Case("tokens add bob --name ci", "mst_"),
    Case("tokens list", "bob"),
    Case("tokens delete {token} --yes", "deleted"),
    Case("users delete bob carol --yes", "deleted"),
    Case("queues create jobs --topic orders --from earliest --failures-max 2 --dead-letter-topic again"),
    Case("queues list", "jobs"),
    Case("queues describe jobs", "orders"),
    Case("queues browse jobs", "anna"),
    Case("queues alter jobs --failures-max 3"),
    Case("queues snapshot jobs before"),
    Case("queues wake jobs --all"),
    Case("work jobs --until-empty -- true"),
    Case("queues seek jobs --to earliest --execute"),
    Case("queues cancel jobs --all --yes"),
    Case("queues redrive jobs --all --dry-run"),
    Case("queues purge jobs --yes"),
    Case("queues delete jobs --yes"),
)
"""Commands that need the HTTP door of a mainstem server."""
LAST = (Case("topics delete orders again --yes"),)


def with_address(group: click.Group, path: str = "") -> Iterator[str]:
    """The commands with `--at`, by their words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from with_address(command, f"{path}{name} ")
        elif command is not None and any(parameter.name == "address" for parameter in command.params):
            yield f"{path}{name}"


def test_the_table_has_every_command() -> None:
    lines = [case.line for case in (*ANY_CLUSTER, *MAINSTEM, *LAST)]
    commands = set(with_address(command_line))
    assert {name for name in commands if not any(f"{line} ".startswith(f"{name} ") for line in lines)} == (
        ELSEWHERE
    )


@dataclass
class SecuredServer:
    """A server, and what its command lines are filled with."""

    address: str
    ca: Path
    properties: Path
    """Of the account that may do everything."""
    guest: Path
    """Of an account that may do nothing."""
    texts: dict[str, str] = field(default_factory=dict)


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """`call(line, options, stdin)` in this process: exit code, standard output, standard error."""

    def run_line(line: str, *options: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin.encode()))))
        words = line.split()
        split = words.index("--") if "--" in words else len(words)
        code = run([*words[:split], *options, *words[split:]])
        printed = capfd.readouterr()
        return code, printed.out, printed.err

    return run_line


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def texts(folder: Path) -> dict[str, str]:
    verifier = "SCRAM-SHA-256=[name=carol,iterations=4096,password=of carol]"
    return {
        "password": str(private(folder / "new-password", "of bob")),
        "users": str(private(folder / "users", f"{verifier}\n")),
    }


def properties(path: Path, address: str, ca: Path, user: str, password: str) -> Path:
    return private(
        path,
        f"bootstrap.servers={address}\nsecurity.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n"
        f"sasl.username={user}\nsasl.password={password}\nssl.ca.location={ca}\n",
    )


@pytest.fixture
def secure_server(call: Call, tmp_path: Path) -> Iterator[SecuredServer]:
    data = tmp_path / "data"
    options = ["--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data", str(data), "--secure"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mainstem", "serve", *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("secure  user=admin ")
        ready = READY.match(process.stdout.readline())
        assert ready is not None
        address, ca = ready[1], data / "secure" / "ca.pem"
        password = (data / "secure" / "admin-password").read_text().strip()
        admin = properties(tmp_path / "admin.properties", address, ca, "admin", password)
        guest = properties(tmp_path / "guest.properties", address, ca, GUEST, GUEST_PASSWORD)
        file = private(tmp_path / "guest", GUEST_PASSWORD)
        place = SecuredServer(address, ca, admin, guest, texts(tmp_path))
        check_works(call, place, (Case(f"users add {GUEST} --new-password-file {file}"),))
        yield place
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        process.stdout.close()


def check_refused(call: Call, place: SecuredServer, cases: tuple[Case, ...]) -> None:
    """Without credentials each command ends, and says which are missing."""
    for case in cases:
        line = case.line.format(**place.texts)
        code, out, error = call(line, "--at", place.address, stdin=case.stdin)
        assert (code, out) == (ExitCode.NOT_REACHABLE, ""), case
        assert f"mainstem: {place.address}: it expects TLS: --ca FILE names its authority" in error, case
        assert "Traceback" not in error, case
    code, _, error = call("topics list", "--at", place.address, "--ca", str(place.ca))
    assert code == ExitCode.NOT_REACHABLE
    assert "it expects a login, by " in error
    assert "add --user NAME and --password-file FILE" in error


def check_guest(call: Call, place: SecuredServer, cases: tuple[Case, ...]) -> None:
    """A command refuses an account that may do nothing, or shows it nothing."""
    for case in cases:
        code, out, error = call(
            case.line.format(**place.texts), "--client-config", str(place.guest), stdin=case.stdin
        )
        assert out == "", case
        if not case.is_read:
            assert code in (ExitCode.FAILED, ExitCode.USAGE), (case, error)
            assert REFUSED.search(error), (case, error)


def check_works(call: Call, place: SecuredServer, cases: tuple[Case, ...]) -> None:
    for case in cases:
        line = case.line.format(**place.texts)
        for _ in range(3):  # a machine that is busy for 5 s is no failure: nothing has been asked yet
            code, out, error = call(line, "--client-config", str(place.properties), stdin=case.stdin)
            if SILENT not in error:
                break
        assert code == 0, (line, out, error)
        assert case.shows in out, (line, out, error)
        if line == "tokens list":
            place.texts["token"] = out.split("\t")[0]


def check_subscribers(place: SecuredServer, folder: Path) -> None:
    """`mainstem run` is refused without credentials; with them its workers receive events."""
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mainstem", "run", "program"]
    refused = subprocess.run(
        [*command, "--at", place.address], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == ExitCode.NOT_REACHABLE
    assert "it expects TLS: --ca FILE" in refused.stderr
    process = subprocess.Popen(
        [*command, "--client-config", str(place.properties), "--workers", "2"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert {process.stdout.readline() for _ in range(2)} == {"anna\n", "ben\n"}
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == ExitCode.DONE
        process.stdout.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_on_a_secure_mainstem(call: Call, secure_server: SecuredServer, tmp_path: Path) -> None:
    place = secure_server
    check_works(call, place, ANY_CLUSTER)
    check_subscribers(place, tmp_path)
    check_works(call, place, MAINSTEM)
    place.texts.setdefault("token", "x")
    check_refused(call, place, (*ANY_CLUSTER, *MAINSTEM, *LAST))
    check_guest(call, place, (*ANY_CLUSTER, *MAINSTEM, *LAST))
    check_works(call, place, LAST)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not list(JARS.glob("kafka_2.13-*.jar")), reason="no Apache Kafka: make deps-all")
def test_on_apache_kafka(call: Call, tmp_path: Path) -> None:
    with secured_kafka(tmp_path) as kafka:
        own = kafka.write_properties(tmp_path / "alice.properties")
        guest = kafka.write_properties(tmp_path / "guest.properties", GUEST, GUEST_PASSWORD)
        place = SecuredServer(kafka.address, kafka.ca, own, guest, texts(tmp_path) | {"token": "x"})
        check_works(call, place, ANY_CLUSTER)
        check_subscribers(place, tmp_path)
        check_refused(call, place, (*ANY_CLUSTER, *LAST))
        check_guest(call, place, (*ANY_CLUSTER, *LAST))
        for case in MAINSTEM:
            line = case.line.format(**place.texts)
            code, _, error = call(line, "--client-config", str(own), stdin=case.stdin)
            assert code == ExitCode.FAILED, line
            assert error.endswith("this command needs the HTTP door of a mainstem server\n"), line
        check_works(call, place, LAST)
