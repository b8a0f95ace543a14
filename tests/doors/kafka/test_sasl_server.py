"""Authentication on real sockets: clients that do not authenticate in time, and users that are deleted."""

from __future__ import annotations

import asyncio
import dataclasses

from mainstem.access_contract import ScramMechanism
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.kafka_protocol.message import Message
from mainstem.settings import Settings
from tests.authentication.kit import MemoryAdmin
from tests.doors.kafka.access_kit import memory_access
from tests.doors.kafka.kit import fetch_request, request_frame
from tests.doors.kafka.test_server import RawPeer, RunningDoor, run

MECHANISMS = ("PLAIN",)
SETTINGS = dataclasses.replace(Settings(), connections_max_reauth_ms=60_000)


async def log_in(door: RunningDoor, user: str, password: str = "pw") -> tuple[RawPeer, Message]:
    """A client, and the reply to its token."""
    peer = await door.connect()
    await peer.call(17, 1, Message(mechanism="PLAIN"))
    reply = await peer.call(36, 2, Message(auth_bytes=f"\0{user}\0{password}".encode()))
    return peer, reply


def test_clients_that_do_not_authenticate_in_time_are_disconnected() -> None:
    async def scenario(door: RunningDoor) -> None:
        idle = await door.connect()
        await idle.call(17, 1, Message(mechanism="PLAIN"))
        good, _ = await log_in(door, "alice")
        door.clock.stop()
        await door.pass_time(10.1)
        assert await idle.ended()
        assert (await good.call(18, 0, Message())).error_code == 0

    run(scenario, SETTINGS, access=memory_access(users=MemoryAdmin(alice="pw")), mechanisms=MECHANISMS)


def test_the_connections_of_a_user_that_is_deleted_end_and_no_others() -> None:
    admin = MemoryAdmin(alice="pw", bob="pw")

    async def scenario(door: RunningDoor) -> None:
        waiting, _ = await log_in(door, "alice")
        second, _ = await log_in(door, "alice")
        bob, _ = await log_in(door, "bob")
        admin.delete_verifiers("alice", list(ScramMechanism))
        assert await waiting.ended()
        assert await second.ended()
        assert (await bob.call(18, 0, Message())).error_code == 0
        again, reply = await log_in(door, "alice")
        assert reply.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
        assert await again.ended()

    run(scenario, SETTINGS, access=memory_access(users=admin), mechanisms=MECHANISMS)


def test_a_request_that_waits_beyond_the_end_of_the_session_is_ended() -> None:
    async def scenario(door: RunningDoor) -> None:
        peer, reply = await log_in(door, "alice")
        assert reply.session_lifetime == 60_000
        idle, _ = await log_in(door, "alice")
        peer.send(request_frame(1, 4, 1, fetch_request(("t", 0, 0), max_wait=600_000)))
        door.clock.stop()
        while all(connection.is_idle for connection in door._connections()):
            await asyncio.sleep(0.005)
        await door.pass_time(61)
        assert await peer.ended()
        await idle.call(17, 1, Message(mechanism="PLAIN"))
        assert (await idle.call(36, 2, Message(auth_bytes=b"\0alice\0pw"))).error_code == 0

    run(scenario, SETTINGS, access=memory_access(users=MemoryAdmin(alice="pw")), mechanisms=MECHANISMS)
