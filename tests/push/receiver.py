"""An HTTP endpoint that a test scripts, and a pusher over a real engine on a real disk."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mainstem.clock import LoopClock
from mainstem.contract import NewEvent
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.log.disk.real_disk import RealDisk
from mainstem.node import Node
from mainstem.push.addresses import AllowedAddresses
from mainstem.push.client import PushClient
from mainstem.push.resolver import Resolve, SystemResolver
from mainstem.push.service import PushService
from mainstem.push.tokens import PushTokens
from mainstem.queue_contract import SubscriptionInfo, SubscriptionSettings
from mainstem.queues.push_settings import PushSettings
from mainstem.settings import Settings


@dataclass(frozen=True)
class Received:
    """A request. Names of headers are in lower case."""

    target: str
    headers: dict[str, str]
    body: bytes
    connection: int
    """The connection that it came by."""


Answer = Callable[[Received], Awaitable[bytes]]


def status(code: int, body: bytes = b"", *extra: bytes) -> bytes:
    """An answer with a status."""
    return b"".join(
        (
            b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n" % (code, len(body)),
            *(line + b"\r\n" for line in extra),
            b"\r\n",
            body,
        )
    )


class Receiver:
    """A server on a free port that answers each request as `answer` says: an empty one closes the
    connection."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.open = 0
        """Requests without an answer."""
        self.open_max = 0
        self.answer: Answer = self.succeed
        self.port = 0
        self.arrived = asyncio.Event()

    @staticmethod
    async def succeed(request: Received) -> bytes:
        return status(204)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def bodies(self) -> list[bytes]:
        return [request.body for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        connection = self.connections
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                pairs = (line.split(": ", 1) for line in lines[1:-2])
                headers = {name.lower(): value for name, value in pairs}
                body = await reader.readexactly(int(headers["content-length"]))
                request = Received(lines[0].split()[1], headers, body, connection)
                self.requests.append(request)
                self.arrived.set()
                self.open += 1
                self.open_max = max(self.open_max, self.open)
                try:
                    answer = await self.answer(request)
                finally:
                    self.open -= 1
                if not answer:
                    return
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.transport.abort()

    async def wait_for(self, count: int, limit_s: float = 20.0) -> None:
        """Wait until it has received as many requests."""
        async with asyncio.timeout(limit_s):
            while len(self.requests) < count:
                self.arrived.clear()
                await self.arrived.wait()


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        if hasattr(server, "close_clients"):
            server.close_clients()


class PushRig:
    """A running engine with a pusher. Its subscriptions are named like their topics."""

    def __init__(self, engine: EmbeddedEngine, pusher: PushService, tokens: PushTokens) -> None:
        self.tokens = tokens
        self.engine = engine
        self.pusher = pusher

    async def create(
        self, name: str, events: Sequence[NewEvent] = (), *, rules: Any = None, **push: Any
    ) -> None:
        """A topic with events, and a subscription of it that is pushed."""
        await self.engine.create_topic(name, partitions=1)
        if events:
            await self.engine.publish(name, events)
        settings = SubscriptionSettings(topics=(name,), push=PushSettings(**push), **(rules or {}))
        await self.engine.create_subscription(name, settings)

    async def info(self, name: str) -> SubscriptionInfo:
        return await self.engine.subscription(name)

    async def until(
        self, name: str, condition: Callable[[SubscriptionInfo], bool], limit_s: float = 20.0
    ) -> SubscriptionInfo:
        """Wait until the subscription is like that."""
        async with asyncio.timeout(limit_s):
            while not condition(info := await self.info(name)):
                await asyncio.sleep(0.01)
        return info


@asynccontextmanager
async def pushing(
    folder: Path,
    *,
    allow: str = "loopback",
    resolve: Resolve | None = None,
    tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    issuer: str | None = None,
) -> AsyncIterator[PushRig]:
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop)
    options = Settings(data=str(folder), durability="os", push_issuer=issuer)
    node = await Node.open(options, RealDisk(folder, loop), clock, random.Random(7))
    engine = EmbeddedEngine(node)
    allowed = AllowedAddresses.parse(allow)
    pusher = PushService(
        engine,
        clock,
        allowed,
        tokens := PushTokens(folder / "push" / "keys.json", issuer, clock),
        lambda: PushClient(clock, allowed, resolve or SystemResolver(), tls),
    )
    engine.attach_pusher(pusher)
    try:
        yield PushRig(engine, pusher, tokens)
    finally:
        await pusher.close()
        await engine.close()
        await node.close()
