"""What every command says if the address that the cluster gives its clients leads nowhere."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstem.cli import run
from mainstem.cli.exit_codes import ExitCode
from tests.cli.conftest import command
from tests.support.server import Server

COMMANDS = {
    "topics": ("topics", "list"),
    "produce": ("produce", "t"),
    "tail": ("tail", "t", "-n", "1"),
    "search": ("search", "word"),
    "replay": ("replay", "word", "--to", "t", "--yes"),
}


@pytest.fixture(scope="module")
def misadvertised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a server, and the one that it gives its clients, at which nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, so that no other test listens there
        advertised = f"127.0.0.1:{unused.getsockname()[1]}"
        folder = tmp_path_factory.mktemp("misadvertised")
        with Server(folder / "data", advertise=advertised) as running:
            yield running.address, advertised


def expected(address: str, advertised: str) -> str:
    return (
        f"mainstem: {address} gives clients the address {advertised} (--advertise), which cannot be reached"
        " from here: connection refused\n"
    )


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_an_advertised_address_that_leads_nowhere_is_named(
    misadvertised: tuple[str, str],
    arguments: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([*arguments, "--at", misadvertised[0]]) == ExitCode.NOT_REACHABLE
    assert capsys.readouterr().err.endswith(expected(*misadvertised))


def test_a_console_in_front_of_such_a_cluster_says_it_too(misadvertised: tuple[str, str]) -> None:
    done = command("console", "--http", "127.0.0.1:0", address=misadvertised[0])
    assert (done.code, done.err) == (ExitCode.NOT_REACHABLE, expected(*misadvertised))


@pytest.mark.slow  # waits for the client library's time-out
def test_an_advertised_address_at_which_something_else_listens_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as another service at that port, or a proxy that accepts every connection."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        advertised = f"127.0.0.1:{silent.getsockname()[1]}"
        with Server(tmp_path / "data", advertise=advertised) as running:
            assert run(["topics", "list", "--at", running.address]) == ExitCode.NOT_REACHABLE
            assert capsys.readouterr().err == (
                f"mainstem: {running.address} gives clients the address {advertised} (--advertise), which"
                " cannot be reached from here: what listens there does not answer as a Kafka server\n"
            )
