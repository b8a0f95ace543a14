"""The door where clients have to log in."""

from __future__ import annotations

from pathlib import Path

import pytest

from mainstem.access_contract import (
    ANY_HOST,
    USER,
    Acl,
    Operation,
    PatternType,
    Permission,
    Principal,
    ResourceType,
    ScramMechanism,
)
from mainstem.authentication.scram import make_verifier
from mainstem.contract import NewEvent
from mainstem.doors.rabbitmq_stream import commands
from mainstem.doors.rabbitmq_stream.commands import Key
from mainstem.doors.rabbitmq_stream.response_code import ResponseCode
from mainstem.serve.server import Running
from tests.doors.rabbitmq_stream.raw_client import connected, run

ACCESS = {
    "access_control": True,
    "super_users": "User:ANONYMOUS",
    "rabbitmq_stream": "SASL_PLAINTEXT://127.0.0.1:0",
    "connection_failed_authentication_delay_ms": 1,
}
REFUSED = ResponseCode.ACCESS_REFUSED


async def add_user(running: Running, name: str) -> None:
    verifier = make_verifier(ScramMechanism.SHA_256, "secret", b"salt-of-a-test", 4_096)
    await running.node.access.put_verifiers(name, [verifier])


async def allow(running: Running, name: str, operation: Operation, topic: str) -> None:
    """Add an entry for a topic."""
    entry = Acl(
        ResourceType.TOPIC,
        topic,
        PatternType.LITERAL,
        Principal(USER, name),
        ANY_HOST,
        operation,
        Permission.ALLOW,
    )
    await running.node.access.create_acls([entry])


def test_a_wrong_password_is_refused_and_the_connection_ends(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        async with connected(running, is_open=False) as client:
            assert await client.log_in(user="alice") == ResponseCode.AUTHENTICATION_FAILURE
            with pytest.raises(EOFError):
                await client.frame()

    run(tmp_path / "data", scenario, **ACCESS)


def test_clients_do_what_their_rights_allow(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        await add_user(running, "alice")
        await running.engine.create_topic("orders", partitions=1)
        async with connected(running, is_open=False) as client:
            assert await client.log_in(user="alice") == ResponseCode.OK
            assert await client.create("flights") == REFUSED
            assert await client.subscribe(1, "orders") != ResponseCode.OK
            await allow(running, "alice", Operation.READ, "orders")
            assert await client.subscribe(1, "orders") == ResponseCode.OK
            assert await client.declare(1, "orders") == REFUSED
            await running.engine.publish("orders", [NewEvent(b"1")])
            assert len((await client.chunk()).messages) == 1
            await allow(running, "alice", Operation.WRITE, "orders")
            assert await client.declare(1, "orders") == ResponseCode.OK
            assert await client.authenticate("alice") == ResponseCode.OK
            await add_user(running, "bob")
            assert await client.authenticate("bob") == ResponseCode.AUTHENTICATION_FAILURE

    run(tmp_path / "data", scenario, **ACCESS)


def test_scram_needs_two_messages(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        await add_user(running, "alice")
        async with connected(running, is_open=False) as client:
            await client.ask(
                commands.PropertiesReply, commands.PeerProperties(correlation_id=0, properties={})
            )
            offered = await client.ask(commands.MechanismsReply, commands.SaslHandshake(correlation_id=0))
            assert "SCRAM-SHA-256" in offered.mechanisms
            first = commands.SaslAuthenticate(
                correlation_id=0, mechanism="SCRAM-SHA-256", data=b"n,,n=alice,r=abcdefgh"
            )
            client.send(first)
            challenge = commands.decode(
                commands.ChallengeReply, await client.receive(Key.SASL_AUTHENTICATE | commands.RESPONSE)
            )
            assert challenge.code == ResponseCode.SASL_CHALLENGE
            assert challenge.data.startswith(b"r=abcdefgh")

    run(tmp_path / "data", scenario, **ACCESS)
