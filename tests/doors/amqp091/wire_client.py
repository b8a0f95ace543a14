"""A client at a real socket, and a server with the AMQP 0-9-1 door in this process."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from mainstem.amqp.properties import Properties
from mainstem.amqp.properties_codec import encode_properties
from mainstem.doors.amqp091 import frames
from mainstem.doors.amqp091.control_methods import (
    ChannelOpen,
    ChannelOpenOk,
    ConnectionOpen,
    ConnectionOpenOk,
    ConnectionStart,
    ConnectionStartOk,
    ConnectionTune,
    ConnectionTuneOk,
)
from mainstem.doors.amqp091.method import Method
from mainstem.doors.amqp091.method_codec import decode_method
from mainstem.doors.amqp091.methods import BasicPublish
from mainstem.serve import options
from mainstem.serve.server import Running, start


class WireClient:
    """Sends and receives frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, running: Running, tls: ssl.SSLContext | None = None) -> WireClient:
        """A client that has sent nothing yet."""
        (address,) = running.addresses["amqp091"]
        host, _, port = str(address).rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port), ssl=tls))

    @classmethod
    async def opened(cls, running: Running, *channels: int, heartbeat_s: int = 0) -> WireClient:
        """A client with an open connection and these channels."""
        client = await cls.connect(running)
        client.writer.write(frames.PROTOCOL_HEADER)
        await client.expect(0, ConnectionStart)
        capabilities = {"authentication_failure_close": True, "connection.blocked": True}
        client.send(0, ConnectionStartOk({"capabilities": dict(capabilities)}, "PLAIN", b"\0guest\0guest"))
        await client.expect(0, ConnectionTune)
        client.send(0, ConnectionTuneOk(2_047, 131_072, heartbeat_s))
        client.send(0, ConnectionOpen("/"))
        await client.expect(0, ConnectionOpenOk)
        for channel in channels:
            client.send(channel, ChannelOpen())
            await client.expect(channel, ChannelOpenOk)
        return client

    def send(self, channel: int, method: Method) -> None:
        """Send a method."""
        self.writer.write(frames.method_frame(channel, method))

    def publish(self, channel: int, publish: BasicPublish, properties: Properties, body: bytes) -> None:
        """Send a message."""
        self.send(channel, publish)
        content = frames.content_frames(channel, encode_properties(properties), body, 131_072)
        self.writer.write(b"".join(content))

    async def frame(self) -> tuple[int, int, bytes]:
        """The next frame: type, channel, payload. IncompleteReadError: the server has closed."""
        kind, channel, size = frames.head.unpack(await self.reader.readexactly(frames.HEAD_BYTES))
        payload = await self.reader.readexactly(size + 1)
        assert payload[-1:] == frames.END
        return kind, channel, payload[:-1]

    async def method(self, channel: int) -> Method:
        """The next frame, which is a method on this channel."""
        kind, number, payload = await self.frame()
        assert (kind, number) == (frames.METHOD, channel)
        return decode_method(payload)

    async def expect(self, channel: int, kind: type[Method]) -> Method:
        """The next frame, which is this method."""
        method = await self.method(channel)
        assert isinstance(method, kind), method
        return method

    async def body(self, channel: int) -> bytes:
        """The content that follows a method."""
        kind, number, payload = await self.frame()
        assert (kind, number) == (frames.HEADER, channel)
        _, _, size = frames.content_head.unpack_from(payload)
        data = b""
        while len(data) < size:
            kind, number, payload = await self.frame()
            assert (kind, number) == (frames.BODY, channel)
            data += payload
        return data

    async def is_at_end(self) -> bool:
        """Whether the server sends nothing more and closes."""
        return await self.reader.read() == b""

    async def close(self) -> None:
        """Close the socket."""
        self.writer.close()
        await self.writer.wait_closed()


def with_door(folder: Path, scenario: Callable[[Running], Awaitable[None]], **given: object) -> None:
    """Start a server in this process, run the scenario on it, close it."""

    async def body() -> None:
        flags = {"data": str(folder), "durability": "os", "kafka": "127.0.0.1:0", "amqp091": "127.0.0.1:0"}
        running = await start(options.load({**flags, "doors": "kafka,amqp091", **given}))
        try:
            await scenario(running)
        finally:
            await running.close()

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await body()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())
