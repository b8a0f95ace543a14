"""The server is killed under clients that reconnect by themselves, and started again: they go on."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.compat.rabbitmq.suites import CLIENT_SUITES, HERE, JAVA_COMMAND, PYTHON
from tests.compat.suites import ROOT
from tests.support.ports import free_port
from tests.support.server import Server

SECONDS_MAX = 120
_PYTHON = (str(PYTHON), "-m", "tests.compat.rabbitmq.clients.restart_suite")
_JAVA = (*JAVA_COMMAND, "mainstem.compat.rabbitmq.Restart")
PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "aio_pika": _PYTHON,
    "kombu": _PYTHON,
    "celery": _PYTHON,
    "java": _JAVA,
    "spring": _JAVA,
    "bunny": ("ruby", str(HERE / "ruby" / "restart.rb")),
}
"""By the names in CLIENT_SUITES; a program gets HOST:PORT and the name."""


def lines_until(process: subprocess.Popen[bytes], word: str, output: bytearray) -> bool:
    """Read what the process prints until a line begins with the word, or it ends, or for SECONDS_MAX."""
    assert process.stdout is not None
    deadline = time.monotonic() + SECONDS_MAX
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not any(line.startswith(word.encode()) for line in output.split(b"\n")[:-1]):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return False
            data = os.read(process.stdout.fileno(), 65_536)
            if not data:
                return False
            output += data
    return True


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("client", PROGRAMS)
def test_a_client_goes_on_when_the_server_was_killed(client: str, tmp_path: Path) -> None:
    lacking = CLIENT_SUITES[client].missing()
    if lacking:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{client} needs {lacking}")
    address = f"127.0.0.1:{free_port()}"
    server = Server(tmp_path / "data", http="127.0.0.1:0", amqp091=address, doors="kafka,http,amqp091")
    output = bytearray()
    with server.start():
        process = subprocess.Popen(
            [*PROGRAMS[client], address, client],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        with process:
            try:
                assert lines_until(process, "READY", output), output.decode(errors="replace")[-6000:]
                server.restart(kill=True)
                assert process.stdin is not None
                process.stdin.write(b"it is there again\n")
                process.stdin.flush()
                passed = lines_until(process, f"PASS {client}", output)
                assert passed, output.decode(errors="replace")[-6000:] + server.logs()[-2000:]
            finally:
                process.kill()
