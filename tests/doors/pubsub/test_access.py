"""The door where clients have to log in: who makes a call, and what they may do."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import hpack
import httpx

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
from mainstem.doors.pubsub import frames
from mainstem.doors.pubsub.calls import Code
from mainstem.pubsub.messages import message as message_type
from mainstem.serve.server import Running
from tests.doors.pubsub.h2_kit import frame, message
from tests.doors.pubsub.test_server import connect, read_frame, run

PUBLISHER = "/google.pubsub.v1.Publisher/"
TOPIC = "projects/mainstem/topics/orders"


class LoginClient:
    """A client that makes one call after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self._stream = -1

    async def call(self, method: str, request: bytes, credentials: str = "") -> Code:
        """The status of a call of the Publisher."""
        self._stream += 2
        head = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", PUBLISHER + method),
            ("content-type", "application/grpc"),
        ]
        if credentials:
            head.append(("authorization", credentials))
        block = self._encoder.encode(head)
        self._writer.write(frame(frames.HEADERS, frames.END_HEADERS, self._stream, block))
        self._writer.write(frame(frames.DATA, frames.END_STREAM, self._stream, message(request)))
        while True:
            answer = await read_frame(self._reader)
            if answer.kind == frames.HEADERS:
                headers = self._decoder.decode(answer.payload)
                fields = {str(name): str(value) for name, value in headers}
                if "grpc-status" in fields:
                    return Code(int(fields["grpc-status"]))

    async def publish(self, credentials: str = "") -> Code:
        request = message_type("google.pubsub.v1.PublishRequest")(topic=TOPIC)
        request.messages.add().data = b"A-1001"
        return await self.call("Publish", request.SerializeToString(), credentials)


@asynccontextmanager
async def connected(running: Running) -> AsyncIterator[LoginClient]:
    reader, writer = await connect(running)
    try:
        yield LoginClient(reader, writer)
    finally:
        writer.close()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


ALICE = basic("alice", "secret")


async def prepare(running: Running) -> None:
    """A topic, and alice, who may do nothing yet."""
    verifier = make_verifier(ScramMechanism.SHA_256, "secret", b"salt-of-a-test", 4_096)
    await running.node.access.put_verifiers("alice", [verifier])
    async with http(running) as api:
        (await api.post("topics", json={"topic": "orders"})).raise_for_status()


def http(running: Running) -> httpx.AsyncClient:
    """The HTTP door as somebody who may do everything."""
    (address,) = running.addresses["http"]
    return httpx.AsyncClient(base_url=f"http://{address}/api/v1/", trust_env=False)


async def allow(running: Running, operation: Operation) -> None:
    """Let alice do this to the topic."""
    who = Principal(USER, "alice")
    literal, allowed = PatternType.LITERAL, Permission.ALLOW
    entry = Acl(ResourceType.TOPIC, "orders", literal, who, ANY_HOST, operation, allowed)
    await running.node.access.create_acls([entry])


def test_a_call_needs_a_login_and_rights(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        await prepare(running)
        async with connected(running) as client:
            for credentials in (
                "",
                "Basic !",
                basic("alice", "wrong"),
                basic("bob", "secret"),
                "Bearer mst_x",
            ):
                assert await client.publish(credentials) == Code.UNAUTHENTICATED, credentials
            assert await client.publish(ALICE) == Code.PERMISSION_DENIED
            await allow(running, Operation.WRITE)
            assert await client.publish(ALICE) == Code.OK
            assert await client.publish() == Code.UNAUTHENTICATED, "a login is of its call"
            async with http(running) as api:
                made = {"name": "of a test", "expires_in_ms": 3_600_000, "user": "alice"}
                whole = (await api.post("tokens", json=made)).json()["token"]
                limited = (await api.post("tokens", json=made | {"scopes": ["read-only"]})).json()["token"]
                assert await client.publish(f"Bearer {whole}") == Code.OK
                assert await client.publish(f"Bearer {limited}") == Code.PERMISSION_DENIED
                (await api.delete("users/alice")).raise_for_status()
            assert await client.publish(ALICE) == Code.UNAUTHENTICATED, "the connection does not remember her"

    run(
        tmp_path,
        scenario,
        access_control=True,
        super_users="User:ANONYMOUS",
        pubsub="SASL_PLAINTEXT://127.0.0.1:0",
        connection_failed_authentication_delay_ms=1,
    )
