"""From RabbitMQ to mainstem: the definitions of a real server are imported, and its users log in."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from mainstem.cli import run
from tests.compat.rabbitmq.broker import missing, rabbitmq
from tests.compat.rabbitmq.suites import PYTHON
from tests.compat.suites import Suite, run_suite
from tests.support.server import Server

EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("vhosts/shop", {}),
    ("users/alice", {"password": "Zürich 8001", "tags": "monitoring"}),
    ("permissions/shop/alice", EVERYTHING),
    ("permissions/shop/guest", EVERYTHING),
    ("exchanges/shop/orders", {"type": "topic", "durable": True}),
    ("queues/shop/billing", {"durable": True, "arguments": {"x-dead-letter-exchange": "dead"}}),
    ("queues/shop/audit", {"durable": True, "arguments": {"x-queue-type": "quorum", "x-delivery-limit": 3}}),
    ("exchanges/shop/dead", {"type": "fanout", "durable": True}),
    ("policies/shop/short", {"pattern": "^bill", "definition": {"max-length": 100}, "apply-to": "queues"}),
)
CLIENT = Suite("migrated", (str(PYTHON), "-m", "tests.compat.rabbitmq.clients.migrated_suite"), PYTHON)


def exported() -> dict[str, Any]:
    """The definitions of a RabbitMQ with these users, exchanges, queues and bindings."""
    with (
        rabbitmq() as addresses,
        httpx.Client(
            base_url=f"http://{addresses.management}/api/",
            auth=("guest", "guest"),
            timeout=60,
            trust_env=False,
        ) as api,
    ):
        for path, body in REQUESTS:
            api.put(path, json=body).raise_for_status()
        binding = {"routing_key": "order.#", "arguments": {}}
        for queue in ("billing", "audit"):
            api.post(f"bindings/shop/e/orders/q/{queue}", json=binding).raise_for_status()
        document: dict[str, Any] = api.get("definitions").raise_for_status().json()
    return document


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_users_of_rabbitmq_find_everything_and_log_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = missing() or CLIENT.missing()
    if lacking:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(lacking)
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps(exported()))
    settings = {
        "http": "127.0.0.1:0",
        "amqp091": "SASL_PLAINTEXT://127.0.0.1:0",
        "rabbitmq_management": "SASL_PLAINTEXT://127.0.0.1:0",
        "access_control": True,
        "super_users": "User:ANONYMOUS",
        "doors": "kafka,http,amqp091,rabbitmq_management",
    }
    with Server(tmp_path / "data", **settings).start() as server:
        assert run(["import", "rabbitmq", str(file), "--at", f"http://{server.http}"]) == 4
        skipped = capsys.readouterr().err.splitlines()
        assert {line.partition(": ")[2].partition(":")[0] for line in skipped} == {
            "skipped users guest",
            "skipped permissions guest",
        }
        address = server.ready_line.partition("  amqp091=")[2].split()[0].rpartition("//")[2]
        result = run_suite(CLIENT, address)
    assert result.failed == {}, result.output[-6000:]
    assert result.passed == {"alice", "wrong-password"}
