"""Google's client goes on by itself when its server is stopped, or killed, and started again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.compat.pubsub.mainstem_server import pubsub_server
from tests.compat.pubsub.suites import PYTHON, environment
from tests.compat.suites import ROOT
from tests.support.ports import free_port

RESTARTS = (False, True)
"""Whether the server is killed."""
SUITE = "tests.compat.pubsub.clients.restart_suite"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_client_loses_nothing_when_its_server_is_restarted(tmp_path: Path) -> None:
    if not PYTHON.exists():
        assert not os.environ.get("CI"), "Google's client is missing: make deps-all"
        pytest.skip("Google's client is missing: make deps-all")
    address = f"127.0.0.1:{free_port()}"
    with (
        pubsub_server(tmp_path, pubsub=address).start() as server,
        subprocess.Popen(
            [str(PYTHON), "-m", SUITE, address],
            cwd=ROOT,
            env={**os.environ, **environment(address, tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as client,
    ):
        assert client.stdout is not None
        try:
            for kill in RESTARTS:
                assert client.stdout.readline() == "PUBLISHED\n"
                server.restart(kill=kill)
            output = client.stdout.read()
        finally:
            client.kill()
    assert "PASS nothing-is-lost\n" in output, output[-4_000:]
