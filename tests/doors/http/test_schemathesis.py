"""Schemathesis against a real server: every route of the OpenAPI document, with valid and with invalid data.

schemathesis.toml lists what deviates from the defaults, with the reasons; schemathesis_hooks.py adds lines of
JSON.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from mainstem.access_contract import Operation, ResourceType
from mainstem.doors.http.endpoints import ENDPOINTS
from mainstem.doors.http.openapi import document
from mainstem.doors.net.security import SecurityProtocol
from tests.doors.http.door_kit import add_user, running_door
from tests.support.server import Server

HERE = Path(__file__).parent
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "20")
"""Random requests of each operation; the run has the edges of each parameter beside them."""
LOGIN_EXAMPLES = os.environ.get("SCHEMATHESIS_LOGIN_EXAMPLES", "2")
SEED = os.environ.get("SCHEMATHESIS_SEED", "4711")


def fill(http: httpx.Client) -> None:
    """Create a topic with the name that is tried first, events in it and a subscription and a group,
    so that some requests succeed."""
    http.post("topics", json={"topic": "0", "partitions": 2}).raise_for_status()
    events = [{"key": "k", "value": {"a": 1}, "headers": [{"name": "n", "value": "v"}]}, {"value": "text"}]
    http.post("topics/0/events", json=events).raise_for_status()
    http.post("subscriptions", json={"subscription": "0", "topics": ["0"]}).raise_for_status()
    http.post("groups/0/reset", json={"to": "earliest", "topics": ["0"]}).raise_for_status()


def run(folder: Path, schema: str, *options: str) -> None:
    """Run schemathesis with the document at this address, or in this file."""
    if importlib.util.find_spec("schemathesis") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no schemathesis: make deps-all")
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")]
    always = ["--checks", "all", "--seed", SEED, "--no-color", "--generation-database", "none"]
    done = subprocess.run(
        [*command, "run", schema, *always, "--request-timeout", "30", *options],
        cwd=folder,
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


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_route_is_as_the_document_says(tmp_path: Path) -> None:
    with Server(tmp_path / "data", http="127.0.0.1:0") as server:
        with httpx.Client(base_url=f"http://{server.http}/api/v1/", timeout=30, trust_env=False) as http:
            fill(http)
        # At a listener that asks for no login, credentials are not looked at.
        options = ("--max-examples", EXAMPLES, "--exclude-checks", "ignored_auth")
        run(tmp_path, f"http://{server.http}/openapi.json", *options)
        assert "Traceback" not in server.logs()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("user", ["bob", "", "token"])
def test_a_door_that_asks_for_logins_is_as_the_document_says(
    tmp_path: Path, user: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user who may do nothing, without a login, and with a token that may look at one topic. As one who
    may do everything, see above."""
    with running_door(tmp_path / "data", security=SecurityProtocol.SASL_PLAINTEXT) as door:
        # It guesses often, and expects 401 each time.
        monkeypatch.setattr(door.authentication.attempts, "delay_s", lambda user, host: 0.0)
        for name in ("alice", "bob"):
            add_user(door, name, "password")
        for resource_type in (ResourceType.TOPIC, ResourceType.GROUP, ResourceType.SUBSCRIPTION):
            door.rules.allow(resource_type, "*", Operation.ALL, user="alice")
        door.rules.allow_cluster(Operation.ALL, user="alice")
        base = f"http://{door.address}/api/v1/"
        with httpx.Client(base_url=base, auth=("alice", "password"), timeout=30, trust_env=False) as http:
            fill(http)
            scopes = ["read-only", "topics:0"]
            body = {"name": "n", "expires_in_ms": 3_600_000, "scopes": scopes}
            token = http.post("tokens", json=body).json()["token"]
        schema = tmp_path / "openapi.json"
        schema.write_text(json.dumps(document(ENDPOINTS, "1")))
        credentials = {
            "bob": ["--auth", "bob:password"],
            "token": ["--header", f"Authorization: Bearer {token}"],
        }.get(user, [])
        url = ["--url", f"http://{door.address}"]
        run(tmp_path, str(schema), *url, "--max-examples", LOGIN_EXAMPLES, *credentials)
    assert "Traceback" not in caplog.text
