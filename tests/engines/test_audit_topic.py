"""The topic of audit events: written by the server alone, read as any other, and durable."""

from __future__ import annotations

import json

import pytest

from mainstem.access_contract import AccessDecision, Operation, Principal, Requester, Resource, ResourceType
from mainstem.audit.trail import AuditTrail
from mainstem.contract import InvalidArgument, NewEvent, NotAllowed, Position
from mainstem.coordinator.topics.types import AUDIT_TOPIC
from mainstem.engines.embedded.audit_topic import AuditTopic
from tests.engines.queue_server import SimulatedServer, simulated

ALICE = Requester(principal=Principal("User", "alice"), host="10.0.0.7")
ORDERS = Resource(ResourceType.TOPIC, "orders")


async def stored(server: SimulatedServer) -> list[dict[str, object]]:
    """The events of the topic."""
    reader = await server.drive(server.engine.reader([Position(AUDIT_TOPIC, 0, 0)]))
    result = await server.drive(reader.read(wait_ms=0))
    await reader.close()
    return [json.loads(event.value or b"null") for event in result.events]


def test_events_are_in_the_topic_and_survive_a_power_cut() -> None:
    async def test(server: SimulatedServer) -> None:
        trail = AuditTrail(server.clock, [AuditTopic(server.node)])
        for operation in (Operation.READ, Operation.WRITE):
            trail.decided(ALICE, operation, ORDERS, AccessDecision(False, reason="no entry matches"))
        await server.pass_time(1)
        await server.crash(power=True)
        assert [(row["principal"], row["action"], row["outcome"]) for row in await stored(server)] == [
            ("User:alice", "read", "denied"),
            ("User:alice", "write", "denied"),
        ]

    simulated(test)


def test_clients_cannot_write_change_or_delete_it() -> None:
    async def test(server: SimulatedServer) -> None:
        trail = AuditTrail(server.clock, [AuditTopic(server.node)])
        trail.decided(ALICE, Operation.READ, ORDERS, AccessDecision(False))
        await server.pass_time(1)
        with pytest.raises(InvalidArgument, match="only the server writes to it"):
            await server.drive(server.engine.publish(AUDIT_TOPIC, [NewEvent(b"forged")]))
        with pytest.raises((InvalidArgument, NotAllowed), match="server's own"):
            await server.drive(server.engine.delete_topic(AUDIT_TOPIC))
        assert len(await stored(server)) == 1

    simulated(test)


def test_events_wait_while_the_server_rejects_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: SimulatedServer) -> None:
        trail = AuditTrail(server.clock, [AuditTopic(server.node)])
        trail.decided(ALICE, Operation.READ, ORDERS, AccessDecision(False))
        await server.pass_time(1)
        monkeypatch.setattr(server.disk, "free_bytes", lambda: 0)
        await server.pass_time(5)
        assert server.node.rejection_reason is not None
        trail.decided(ALICE, Operation.WRITE, ORDERS, AccessDecision(False))
        await server.pass_time(5)
        assert len(await stored(server)) == 1
        monkeypatch.undo()
        await server.pass_time(5)
        assert len(await stored(server)) == 2

    simulated(test)
