"""A console in front of a cluster, with users, rights, masked fields, tokens and an audit of its own.

The cluster is a mainstem server; `tests/compat/test_console_access.py` has an Apache Kafka in its place.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mainstem.access_contract import CLUSTER_NAME, Operation, ResourceType
from mainstem.contract import NewEvent
from mainstem.coordinator.doctor import OfflineState
from mainstem.log.offline.doctor import FolderExamination
from mainstem.log.paths import CLUSTER_FILTERS
from mainstem.serve import options
from mainstem.serve.console import ConsoleSettings, serving
from mainstem.serve.errors import CannotServe
from mainstem.serve.server import Running, start
from tests.support.console_rig import SUPER, ConsoleRig, console

CARD = {"id": "1", "card": "4111111111111111"}
EVENTS = "topics/orders/partitions/0/events"
AUDIT_EVENTS = "topics/__mainstem_audit/partitions/0/events"


def run(tmp_path: Path, scenario: Callable[[Running, ConsoleRig], Awaitable[None]], **flags: Any) -> None:
    """Run a scenario on a server with two topics, and on a console in front of it."""

    async def body() -> None:
        given = {"data": str(tmp_path / "cluster"), "doors": "kafka", "kafka": "127.0.0.1:0"}
        server = await start(options.load({**given, "durability": "os"}))
        try:
            await server.engine.publish("orders", [NewEvent(json.dumps(CARD).encode(), key=b"k")])
            await server.engine.publish("secrets", [NewEvent(b"{}")])
            (address,) = server.addresses["kafka"]
            async with console(str(address), tmp_path / "own", **flags) as rig:
                await scenario(server, rig)
        finally:
            await server.close()

    asyncio.run(asyncio.wait_for(body(), 60))


async def topics(rig: ConsoleRig, user: str) -> list[str]:
    return [topic["topic"] for topic in (await rig.request(user, "GET", "topics")).body["topics"]]


def test_each_request_is_checked_masked_and_audited_before_the_cluster_is_asked(tmp_path: Path) -> None:
    async def scenario(server: Running, rig: ConsoleRig) -> None:
        for user in ("alice", "bob"):
            await rig.add_user(user)
        await rig.allow("alice", Operation.READ, "orders")

        assert (await rig.request("", "GET", "topics")).status == 401
        assert await topics(rig, SUPER) == ["orders", "secrets"]
        assert await topics(rig, "alice") == ["orders"]
        assert await topics(rig, "bob") == []

        assert (await rig.request("alice", "GET", EVENTS)).body["events"][0]["value"] == CARD
        refused = [
            await rig.request("bob", "GET", EVENTS),
            await rig.request("alice", "POST", "topics/orders/events", {"value": 1}),
            await rig.request("alice", "POST", "topics", {"topic": "mine"}),
            await rig.request("alice", "DELETE", "topics/orders"),
            await rig.request("alice", "POST", "topics/orders/delete-records", {"partition": 0, "before": 1}),
            await rig.request("alice", "PATCH", "topics/orders/settings", {"retention.ms": "1"}),
            await rig.request("alice", "GET", "users"),
            await rig.request("alice", "GET", AUDIT_EVENTS),
        ]
        assert [answer.status for answer in refused] == [403] * 8
        assert {topic.name for topic in await server.engine.topics()} == {"orders", "secrets"}
        assert (await server.engine.bounds("orders", 0)).end == 1

        rule = {"rule": "cards", "topic": "orders", "path": "card", "kind": "last4"}
        assert (await rig.request(SUPER, "POST", "masking-rules", rule)).status == 200
        seen = (await rig.request("alice", "GET", EVENTS)).body["events"][0]["value"]
        assert seen == {"id": "1", "card": "…1111"}
        assert (await rig.request(SUPER, "GET", EVENTS)).body["events"][0]["value"] == CARD

        audit = (await rig.request(SUPER, "GET", AUDIT_EVENTS)).body["events"]
        denials = {
            (row["principal"], row["action"], row["resource"])
            for row in (event["value"] for event in audit)
            if row["outcome"] == "denied"
        }
        assert ("User:bob", "read", "orders") in denials
        assert ("User:alice", "delete", "orders") in denials
        assert (await rig.request(SUPER, "DELETE", "topics/__mainstem_audit")).status == 403

    run(tmp_path, scenario)


def test_users_entries_and_tokens_outlive_a_restart_and_hold_without_any_flag(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made: dict[str, Any] = {}

    async def first(server: Running, rig: ConsoleRig) -> None:
        await rig.add_user("alice")
        await rig.allow("alice", Operation.READ, "orders")
        body = {"name": "ci", "expires_in_ms": 600_000}
        made.update((await rig.request("alice", "POST", "tokens", body)).body)

    async def second(server: Running, rig: ConsoleRig) -> None:
        token = f"Bearer {made['token']}"
        assert (await rig.request(token, "GET", EVENTS)).status == 200
        assert (await rig.request(token, "GET", "topics/secrets/partitions/0/events")).status == 403
        assert (await rig.request(SUPER, "DELETE", "users/alice")).status == 200
        assert (await rig.request(token, "GET", EVENTS)).status == 401
        assert (await rig.request("alice", "GET", EVENTS)).status == 401

    async def without_login(server: Running, rig: ConsoleRig) -> None:
        assert (await rig.request("", "GET", EVENTS)).status == 403
        assert await topics(rig, "") == []
        await rig.allow("ANONYMOUS", Operation.READ, "orders")
        assert (await rig.request("", "GET", EVENTS)).status == 200

    run(tmp_path, first)
    run(tmp_path, second)
    run(tmp_path, without_login, http="127.0.0.1:0", super_users="")
    assert "this console has no login" in caplog.text
    (tmp_path / "own" / CLUSTER_FILTERS).mkdir()
    with FolderExamination(str(tmp_path / "own")) as examination:
        state = OfflineState(examination.disk)
        assert [*state.findings, *examination.run(lambda key: state.status(key) == "live")] == []


@pytest.mark.slow
def test_a_read_only_console_changes_neither_the_cluster_nor_its_users(tmp_path: Path) -> None:
    async def scenario(server: Running, rig: ConsoleRig) -> None:
        await rig.add_user("alice")
        await rig.allow("alice", Operation.ALTER, CLUSTER_NAME, ResourceType.CLUSTER)
        rule = {"rule": "cards", "topic": "orders", "path": "card", "kind": "hidden"}
        assert (await rig.request(SUPER, "POST", "topics/orders/events", {"value": 1})).status == 403
        assert (await rig.request("alice", "POST", "masking-rules", rule)).status == 403
        assert (await rig.request("alice", "DELETE", "users/alice")).status == 403

    run(tmp_path, scenario, http_read_only=True)


@pytest.mark.slow
def test_without_a_folder_there_are_no_users_and_no_limits(tmp_path: Path) -> None:
    async def scenario(server: Running, rig: ConsoleRig) -> None:
        assert rig.running.own is None
        assert (await rig.request("", "GET", EVENTS)).status == 200
        assert (await rig.request("", "GET", "users")).body["users"] == []
        assert not (tmp_path / "own" / "meta.properties").exists()

    run(tmp_path, scenario, http="127.0.0.1:0")


@pytest.mark.parametrize(
    "given",
    [
        {"secure": True},
        {"access_control": True},
        {"audit_file": "audit.jsonl"},
        {"http": "SASL_SSL://[::1]:0"},
    ],
    ids=lambda given: next(iter(given)),
)
def test_what_needs_users_needs_a_folder(given: dict[str, Any]) -> None:
    http = given.pop("http", "127.0.0.1:0")

    async def body() -> None:
        async with serving(ConsoleSettings(cluster_address="127.0.0.1:1", http=http, flags=given)):
            raise AssertionError("it started")

    with pytest.raises(CannotServe, match="needs --data DIR, the folder for users") as refused:
        asyncio.run(body())
    assert refused.value.reason == "usage"
