"""A client of the stream protocol that sends and receives frames, and a server for it."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import uvloop

from mainstem.doors.net.address import HostPort
from mainstem.doors.rabbitmq_stream import commands
from mainstem.doors.rabbitmq_stream.commands import RESPONSE, Key, StreamFrame, StreamReply, StreamRequest
from mainstem.doors.rabbitmq_stream.response_code import ResponseCode
from mainstem.doors.rabbitmq_stream.wire import U32
from mainstem.serve import options
from mainstem.serve.server import Running, start

TIMEOUT_S = 60
F = TypeVar("F", bound=StreamFrame)


def run(folder: Path, scenario: Callable[[Running], Awaitable[None]], **given: object) -> None:
    """Start a server in this process, run the scenario on it, close it."""

    async def body() -> None:
        flags = {"data": str(folder), "durability": "os", "kafka": "127.0.0.1:0", "http": "127.0.0.1:0"}
        flags["rabbitmq_stream"] = "127.0.0.1:0"
        running = await start(options.load({**flags, **given}))
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await scenario(running)
        finally:
            await running.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(body())


class Chunk(NamedTuple):
    """A Deliver, decoded."""

    subscription_id: int
    committed: int | None
    first_offset: int
    messages: list[bytes]


def decode_chunk(frame: bytes) -> Chunk:
    """The chunk of a Deliver without its length."""
    position, committed = 5, None
    if frame[2:4] == b"\x00\x02":
        committed, position = int.from_bytes(frame[5:13], "big"), 13
    head = struct.unpack_from(">BBHIqQQIIII", frame, position)
    magic, _, entries, records, _, _, first, checksum, length, _, _ = head
    data = frame[position + struct.calcsize(">BBHIqQQIIII") :]
    assert (magic, entries, len(data), zlib.crc32(data)) == (0x50, records, length, checksum)
    messages, position = [], 0
    for _ in range(entries):
        size = int.from_bytes(data[position : position + 4], "big")
        messages.append(data[position + 4 : position + 4 + size])
        position += 4 + size
    assert position == length
    return Chunk(frame[4], committed, first, messages)


def publish_frame(
    publisher_id: int, messages: Sequence[tuple[int, bytes]], filters: Sequence[str | None] | None = None
) -> bytes:
    """A Publish; with filters one of version 2."""
    body = struct.pack(">HHBI", Key.PUBLISH, 1 if filters is None else 2, publisher_id, len(messages))
    for number, (id_, message) in enumerate(messages):
        body += struct.pack(">Q", id_)
        if filters is not None:
            value = filters[number]
            body += struct.pack(">h", -1 if value is None else len(value)) + (value or "").encode()
        body += struct.pack(">I", len(message)) + message
    return struct.pack(">I", len(body)) + body


class RawStreamClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._correlation_id = 0
        self.waiting: list[bytes] = []
        """Frames that were received and not asked for yet."""

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def send(self, frame: StreamFrame, key: int | None = None) -> None:
        self.write(commands.encode(frame, key))

    async def frame(self) -> bytes:
        """The next frame, without its length; EOFError at the end of the connection."""
        size = int.from_bytes(await self._reader.readexactly(4), "big")
        return await self._reader.readexactly(size)

    async def receive(self, key: int) -> bytes:
        """The next frame of this key; others wait."""
        for position, frame in enumerate(self.waiting):
            if frame[:2] == key.to_bytes(2, "big"):
                return self.waiting.pop(position)
        while True:
            frame = await self.frame()
            if frame[:2] == key.to_bytes(2, "big"):
                return frame
            self.waiting.append(frame)

    async def next(self, kind: type[F]) -> F:
        """The next frame of this kind."""
        key = kind.KEY | RESPONSE if issubclass(kind, StreamReply) else kind.KEY
        return commands.decode(kind, await self.receive(key))

    async def code(self, request: StreamRequest) -> int:
        """The code that answers a request."""
        frame = await self._answer(request)
        return int.from_bytes(frame[8:10], "big")

    async def ask(self, kind: type[F], request: StreamRequest) -> F:
        """The answer to a request."""
        return commands.decode(kind, await self._answer(request))

    async def _answer(self, request: StreamRequest) -> bytes:
        self._correlation_id += 1
        request.correlation_id = self._correlation_id
        self.send(request)
        frame = await self.receive(request.KEY | RESPONSE)
        assert U32.read(frame, 4)[0] == self._correlation_id
        return frame

    async def chunk(self) -> Chunk:
        """The next chunk."""
        return decode_chunk(await self.receive(Key.DELIVER))

    async def confirms(self, count: int) -> list[int]:
        """The next publishing ids that are confirmed."""
        ids: list[int] = []
        while len(ids) < count:
            frame = await self.receive(Key.PUBLISH_CONFIRM)
            ids += struct.unpack_from(f">{(len(frame) - 9) // 8}Q", frame, 9)
        return ids

    async def errors(self) -> list[tuple[int, int]]:
        """The next PublishError: (publishing id, code)."""
        frame = await self.receive(Key.PUBLISH_ERROR)
        return [struct.unpack_from(">QH", frame, position) for position in range(9, len(frame), 10)]

    async def log_in(self, vhost: str = "/", tune_key: int = Key.TUNE, user: str = "guest") -> int:
        """The whole handshake; the code that answers Open, or the login if that is refused. `tune_key`: of
        what answers the server's Tune."""
        await self.ask(
            commands.PropertiesReply,
            commands.PeerProperties(correlation_id=0, properties={"connection_name": "raw"}),
        )
        await self.ask(commands.MechanismsReply, commands.SaslHandshake(correlation_id=0))
        code = await self.authenticate(user)
        if code != ResponseCode.OK:
            return code
        self.send(await self.next(commands.Tune), tune_key)
        return await self.code(commands.OpenVhost(correlation_id=0, vhost=vhost))

    async def authenticate(self, user: str, password: str = "secret") -> int:
        """The code that answers PLAIN with this name and password."""
        token = f"\0{user}\0{password}".encode()
        return await self.code(commands.SaslAuthenticate(correlation_id=0, mechanism="PLAIN", data=token))

    async def create(self, stream: str, **arguments: str) -> int:
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        return await self.code(commands.CreateStream(correlation_id=0, stream=stream, arguments=arguments))

    async def declare(self, publisher_id: int, stream: str, reference: str = "") -> int:
        return await self.code(
            commands.DeclarePublisher(
                correlation_id=0, publisher_id=publisher_id, reference=reference, stream=stream
            )
        )

    async def subscribe(
        self,
        subscription_id: int,
        stream: str,
        offset_spec: tuple[int, int] = (1, 0),
        credit: int = 10,
        properties: dict[str, str] | None = None,
    ) -> int:
        return await self.code(
            commands.Subscribe(
                correlation_id=0,
                subscription_id=subscription_id,
                stream=stream,
                offset_spec=offset_spec,
                credit=credit,
                properties=properties or {},
            )
        )

    async def messages(self, count: int) -> list[bytes]:
        """The messages of the next chunks, each of which is answered with a credit."""
        received: list[bytes] = []
        while len(received) < count:
            chunk = await self.chunk()
            received += chunk.messages
            self.send(commands.Credit(subscription_id=chunk.subscription_id, credit=1))
        return received

    async def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def connected(running: Running, *, is_open: bool = True) -> AsyncIterator[RawStreamClient]:
    """A client of the server; by default after the handshake."""
    (address,) = running.addresses["rabbitmq_stream"]
    async with connected_to(address, is_open=is_open) as client:
        yield client


@asynccontextmanager
async def connected_to(address: HostPort, *, is_open: bool = True) -> AsyncIterator[RawStreamClient]:
    """See `connected`."""
    client = RawStreamClient(*await asyncio.open_connection(address.host, address.port))
    try:
        if is_open:
            assert await client.log_in() == ResponseCode.OK
        yield client
    finally:
        await client.close()
