"""The audit of a server: on with access control, in the topic and the file, and off without either."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mainstem.access_contract import Operation, Principal, Requester, Resource, ResourceType
from mainstem.contract import Position, UnknownTopic
from mainstem.coordinator.topics.types import AUDIT_TOPIC
from mainstem.serve.errors import CannotServe
from mainstem.serve.server import Running, start
from mainstem.settings import Settings, load

ALICE = Requester(principal=Principal("User", "alice"), host="127.0.0.1", client_id="billing")
ORDERS = Resource(ResourceType.TOPIC, "orders")


def settings(tmp_path: Path, **values: Any) -> Settings:
    from mainstem.doors import DOORS

    flags = {
        "data": str(tmp_path / "data"),
        "doors": "kafka",
        "kafka": "127.0.0.1:0",
        "durability": "os",
        **values,
    }
    return load(flags, of_doors=[definition for door in DOORS for definition in door.definitions])


async def in_topic(server: Running) -> list[dict[str, Any]]:
    reader = await server.engine.reader([Position(AUDIT_TOPIC, 0, 0)])
    result = await reader.read(wait_ms=0)
    await reader.close()
    return [json.loads(event.value or b"null") for event in result.events]


def test_decisions_are_in_the_topic_and_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    values = settings(tmp_path, access_control=True, audit_file=str(file))

    async def run() -> None:
        server = await start(values)
        assert not server.node.access.authorizer.allows(ALICE, Operation.READ, ORDERS)
        await server.close()
        server = await start(values)
        rows = await in_topic(server)
        await server.close()
        assert [(row["principal"], row["client_id"], row["outcome"]) for row in rows] == [
            ("User:alice", "billing", "denied")
        ]
        assert [json.loads(line) for line in file.read_text().splitlines()] == rows

    asyncio.run(run())


def test_without_access_control_there_is_no_audit(tmp_path: Path) -> None:
    async def run() -> None:
        server = await start(settings(tmp_path))
        assert server.node.access.authorizer.allows(ALICE, Operation.READ, ORDERS)
        assert server.node.access.authorizer.on_decision is None
        with pytest.raises(UnknownTopic):
            await server.engine.bounds(AUDIT_TOPIC, 0)
        await server.close()

    asyncio.run(run())


def test_a_file_that_others_may_read_refuses_the_start(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.touch()
    file.chmod(0o640)

    async def run() -> None:
        with pytest.raises(CannotServe, match=r"audit file .*: others may read it: chmod 600 "):
            await start(settings(tmp_path, audit_file=str(file)))

    asyncio.run(run())
