"""A server for all tests of a module, and the command line as a process with arguments and pipes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.support.server import Server


@dataclass(frozen=True)
class CommandResult:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """Standard output as tab-separated rows."""
        return [line.split("\t") for line in self.out.splitlines()]


Mainstem = Callable[..., CommandResult]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("cli") / "data") as running:
        yield running


def command(
    *arguments: str, stdin: str | bytes = b"", address: str | None = None, **environ: str
) -> CommandResult:
    """Run `mainstem` with arguments."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTEM_")}
    if address is not None:
        variables["MAINSTEM_AT"] = address
    done = subprocess.run(
        [sys.executable, "-m", "mainstem", *arguments],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        timeout=60,
        env=variables | environ,
    )
    return CommandResult(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def mainstem(server: Server) -> Mainstem:
    """`mainstem("topics", "list")` against the module's server."""

    def run(*arguments: str, stdin: str | bytes = b"", **environ: str) -> CommandResult:
        return command(*arguments, stdin=stdin, address=server.address, **environ)

    return run
