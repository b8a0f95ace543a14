"""Google's client goes on when the server is killed and started again: what was confirmed is not lost, and no
message comes again whose acknowledgement was confirmed."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.compat.pubsub.mainstem_server import pubsub_address, pubsub_server
from tests.compat.pubsub.suites import PYTHON, environment
from tests.support.ports import free_port

KILLS = 6


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_googles_client_loses_nothing_over_sudden_deaths_with_exactly_once(tmp_path: Path) -> None:
    if not PYTHON.exists():
        assert not os.environ.get("CI"), "Google's Python client is missing: make deps-all"
        pytest.skip("Google's Python client is missing: make deps-all")
    with (
        pubsub_server(tmp_path, pubsub=f"127.0.0.1:{free_port()}").start() as server,
        (tmp_path / "client.log").open("wb") as log,
    ):
        program = subprocess.Popen(
            [str(PYTHON), "-m", "tests.compat.pubsub.clients.through_kills"],
            env={**os.environ, **environment(pubsub_address(server), tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "started\n", (tmp_path / "client.log").read_text()
            for _ in range(KILLS):
                time.sleep(2.0)  # messages are on their way
                server.restart(kill=True)
            output, _ = program.communicate("\n", timeout=300)
        finally:
            program.kill()
            program.communicate()
    answer = json.loads(output)
    assert answer["lost"] == [], answer
    assert answer["again"] == [], answer
    assert answer["stream_is_open"], answer
    assert answer["published"] > KILLS, answer
