"""Attacks on HTTP/2 and gRPC over real sockets, at a server in a process of its own: it goes on to answer
others, and its memory is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mainstem.doors.pubsub import frames
from mainstem.doors.pubsub.frames import END_HEADERS, END_STREAM, H2Error
from mainstem.doors.pubsub.header_block import encode_headers
from tests.compat.pubsub.mainstem_server import pubsub_address, pubsub_server
from tests.doors.pubsub.h2_kit import Frame, frame, goaway_code, message
from tests.support.server import Server

pytestmark = pytest.mark.slow

LIST_TOPICS = "/google.pubsub.v1.Publisher/ListTopics"
REQUEST = b"\x0a\x10projects/airline"
"""A ListTopicsRequest."""
CALM = "ENHANCE_YOUR_CALM"
MB = 1 << 20


def call_block(*more: tuple[bytes, bytes]) -> bytes:
    head = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", LIST_TOPICS.encode())]
    return encode_headers([*head, (b"content-type", b"application/grpc"), (b"te", b"trailers"), *more])


CALL = call_block()


class Attacker:
    """A connection that has greeted, or began to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> bool:
        """Send bytes; whether the server still takes some."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            return False
        return not self.writer.is_closing()

    async def read_frame(self) -> Frame:
        head = await self.reader.readexactly(9)
        payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
        return Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)

    async def read_all(self) -> list[Frame]:
        """All frames until the server ends the connection."""
        answers = []
        try:
            while True:
                answers.append(await self.read_frame())
        except (asyncio.IncompleteReadError, ConnectionError):
            return answers


class Target:
    """The server."""

    def __init__(self, server: Server) -> None:
        assert server.process is not None
        self.process_id = server.process.pid
        self.host, _, port = pubsub_address(server).rpartition(":")
        self.port = int(port)

    @asynccontextmanager
    async def attacker(self, greeting: bytes | None = None) -> AsyncIterator[Attacker]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(frames.PREFACE + frames.settings_frame({}) if greeting is None else greeting)
            yield Attacker(reader, writer)
        finally:
            writer.close()

    async def answers(self) -> bool:
        """Whether a call of somebody else succeeds."""
        async with self.attacker() as client:
            await client.send(frame(frames.HEADERS, END_HEADERS, 1, CALL))
            await client.send(frame(frames.DATA, END_STREAM, 1, message(REQUEST)))
            while (answer := await client.read_frame()).kind != frames.DATA:
                assert answer.kind != frames.GOAWAY
            return answer.payload[:1] == b"\0"

    def forget_peak(self) -> None:
        """Begin to measure the peak of memory."""
        Path(f"/proc/{self.process_id}/clear_refs").write_text("5")

    def memory(self, line: str) -> int:
        """Bytes of memory: VmRSS now, VmHWM at the peak."""
        for text in Path(f"/proc/{self.process_id}/status").read_text().splitlines():
            if text.startswith(f"{line}:"):
                return int(text.split()[1]) << 10
        raise AssertionError(line)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("attacked")
    with pubsub_server(folder, first_request_timeout_ms=1_000).start() as server:
        yield Target(server)


async def flood(target: Target, pieces: Iterator[bytes] | list[bytes], code: str = CALM) -> None:
    """Send until the server ends the connection, on several at the same time."""

    async def attack(pieces: list[bytes]) -> None:
        async with target.attacker() as attacker:
            reading = asyncio.create_task(attacker.read_all())
            for piece in pieces:
                if not await attacker.send(piece) or reading.done():
                    break
            answers = await reading  # until the server has ended the connection
            reason = goaway_code(answers)
            assert reason is None or reason.name == code  # none: it was reset before it was read

    given = list(pieces)
    await asyncio.gather(*(attack(given) for _ in range(10)))


async def rapid_reset(target: Target) -> None:
    await flood(
        target,
        [
            b"".join(
                frame(frames.HEADERS, END_HEADERS, stream, CALL) + frames.reset_frame(stream, H2Error.CANCEL)
                for stream in range(first, first + 200, 2)
            )
            for first in range(1, 200_001, 200)
        ],
    )


async def made_to_reset(target: Target) -> None:
    await flood(
        target,
        [
            frame(frames.HEADERS, END_HEADERS, stream, CALL) + frames.window_update(stream, 0)
            for stream in range(1, 40_001, 2)
        ],
    )


async def continuation_flood(target: Target) -> None:
    await flood(
        target,
        [frame(frames.HEADERS, 0, 1, CALL), *[frame(frames.CONTINUATION, 0, 1, bytes(16_000))] * 10_000],
    )


async def header_bomb(target: Target) -> None:
    literal = b"\x40\x01x\x7f" + b"\xa1\x1e" + b"y" * 4_000
    await flood(
        target,
        [
            frame(frames.HEADERS, END_HEADERS, 1, literal + b"\xbe" * 12_000),
            *[frames.ping(bytes(8))] * 90_000,
        ],
    )


async def pings(target: Target) -> None:
    await flood(target, [frames.ping(bytes(8)) * 1_000] * 1_000)


async def settings(target: Target) -> None:
    await flood(target, [frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 1}) * 1_000] * 1_000)


async def empty_data(target: Target) -> None:
    await flood(
        target,
        [frame(frames.HEADERS, END_HEADERS, 1, CALL), *[frame(frames.DATA, 0, 1) * 1_000] * 1_000],
    )


async def unbounded_streams(target: Target) -> None:
    """10,000 calls that never end, each with part of a message."""
    call = b"".join(
        frame(frames.HEADERS, END_HEADERS, stream, CALL)
        + frame(frames.DATA, 0, stream, struct.pack(">BI", 0, 1_000) + bytes(400))
        for stream in range(1, 400, 2)
    )
    async with _many(target, 100) as attackers:
        for attacker in attackers:
            assert await attacker.send(call)
        assert await target.answers()
        refused = 0
        for attacker in attackers[:5]:
            while refused < 100 and (answer := await attacker.read_frame()):
                refused += answer.kind == frames.RST_STREAM
            assert refused == 100, "100 of 200 are refused"
            refused = 0


async def length_bombs(target: Target) -> None:
    """Prefixes that announce 4 GB."""
    async with _many(target, 20) as attackers:
        for attacker in attackers:
            for stream in range(1, 200, 2):
                await attacker.send(
                    frame(frames.HEADERS, END_HEADERS, stream, CALL)
                    + frame(frames.DATA, 0, stream, struct.pack(">BI", 0, 0xFFFFFFFF) + bytes(1_000))
                )
        assert await target.answers()


async def gzip_bombs(target: Target) -> None:
    """Messages of 100 KB that are 100 MB."""
    bomb = gzip.compress(bytes(100 * MB), compresslevel=9)
    body = struct.pack(">BI", 1, len(bomb)) + bomb
    pieces = [body[start : start + 16_384] for start in range(0, len(body), 16_384)]
    async with _many(target, 5) as attackers:
        for attacker in attackers:
            reading = asyncio.create_task(attacker.read_all())
            for stream in range(1, 20, 2):
                await attacker.send(
                    frame(frames.HEADERS, END_HEADERS, stream, call_block((b"grpc-encoding", b"gzip")))
                )
                for number, piece in enumerate(pieces, 1):
                    flags = END_STREAM if number == len(pieces) else 0
                    await attacker.send(frame(frames.DATA, flags, stream, piece))
            assert await target.answers()
            reading.cancel()


async def zero_windows(target: Target) -> None:
    """Clients that take nothing of what they ask for."""
    greeting = frames.PREFACE + frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 0})
    calls = b"".join(
        frame(frames.HEADERS, END_HEADERS, stream, CALL)
        + frame(frames.DATA, END_STREAM, stream, message(REQUEST))
        for stream in range(1, 400, 2)
    )
    async with _many(target, 100, greeting) as attackers:
        for attacker in attackers:
            assert await attacker.send(calls)
        assert await target.answers()


async def deaf_clients(target: Target) -> None:
    """Clients that send pings and read no answer: they are not read any more, or disconnected."""
    async with _many(target, 10) as attackers:
        for attacker in attackers:
            attacker.writer.transport.pause_reading()  # type: ignore[attr-defined] # asyncio's has it
            for _ in range(3_000):
                attacker.writer.write(frames.ping(bytes(8)) * 1_000)
        assert await target.answers()


async def slow_loris(target: Target) -> None:
    """Clients that do not come to the end of the preface, or of a request of HTTP/1.1."""
    async with _many(target, 100, frames.PREFACE[:9]) as first, _many(target, 100, b"GET / HT") as second:
        assert await target.answers()
        for attacker in (*first, *second):
            await attacker.read_all()


@asynccontextmanager
async def _many(target: Target, count: int, greeting: bytes | None = None) -> AsyncIterator[list[Attacker]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(target.attacker(greeting)) for _ in range(count)]


@pytest.mark.parametrize(
    ("attack", "limit_mb"),
    [
        (rapid_reset, 20),
        (made_to_reset, 20),
        (continuation_flood, 20),
        (header_bomb, 20),
        (pings, 20),
        (settings, 20),
        (empty_data, 20),
        (unbounded_streams, 60),
        (length_bombs, 20),
        (gzip_bombs, 80),
        (zero_windows, 60),
        (deaf_clients, 20),
        (slow_loris, 20),
    ],
)
def test_an_attack_is_survived_in_bounded_memory(
    target: Target, attack: Callable[[Target], Awaitable[None]], limit_mb: int
) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(120):
            assert await target.answers()
            before = target.memory("VmRSS")
            target.forget_peak()
            await attack(target)
            assert await target.answers()
            grown = (target.memory("VmHWM") - before) / MB
            print(f"{attack.__name__}: + {grown:.1f} MB at the peak")
            assert grown < limit_mb

    asyncio.run(scenario())
