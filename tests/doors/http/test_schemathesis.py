"""Schemathesis against a real server: every route of the OpenAPI document, with valid and with invalid data.

schemathesis.toml lists what deviates from the defaults, with the reasons; schemathesis_hooks.py adds lines of
JSON.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.server import Server

HERE = Path(__file__).parent
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "20")
"""Random requests of each operation; the run has the edges of each parameter beside them."""
SEED = os.environ.get("SCHEMATHESIS_SEED", "4711")


def fill(http: httpx.Client) -> None:
    """Create a topic with the name that is tried first, events in it and a subscription and a group,
    so that some requests succeed."""
    http.post("topics", json={"topic": "0", "partitions": 2}).raise_for_status()
    events = [{"key": "k", "value": {"a": 1}, "headers": [{"name": "n", "value": "v"}]}, {"value": "text"}]
    http.post("topics/0/events", json=events).raise_for_status()
    http.post("subscriptions", json={"subscription": "0", "topics": ["0"]}).raise_for_status()
    http.post("groups/0/reset", json={"to": "earliest", "topics": ["0"]}).raise_for_status()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_route_is_as_the_document_says(tmp_path: Path) -> None:
    if importlib.util.find_spec("schemathesis") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no schemathesis: make deps-all")
    with Server(tmp_path / "data", http="127.0.0.1:0") as server:
        with httpx.Client(base_url=f"http://{server.http}/api/v1/", timeout=30, trust_env=False) as http:
            fill(http)
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")]
        options = ["--checks", "all", "--max-examples", EXAMPLES, "--seed", SEED, "--no-color"]
        options += ["--generation-database", "none", "--request-timeout", "30"]
        done = subprocess.run(
            [*command, "run", f"http://{server.http}/openapi.json", *options],
            cwd=tmp_path,
            env=os.environ
            | {
                "SCHEMATHESIS_HOOKS": "tests.doors.http.schemathesis_hooks",
                "PYTHONPATH": str(HERE.parents[2]),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=380,
        )
        assert done.returncode == 0, done.stdout
        assert "Traceback" not in server.logs()
