"""The door on real sockets, with a client that sends frames."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import hpack
import uvloop

from mainstem.doors.pubsub import frames
from mainstem.serve import options
from mainstem.serve.server import Running, start
from tests.doors.pubsub.h2_kit import Frame, frame, goaway_code, message

CALL = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/shop.Orders/Refund"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
]


def run(
    folder: Path, scenario: Callable[[Running], Awaitable[None]], *, closes: bool = True, **given: object
) -> None:
    """Start a server in this process, run the scenario on it, close it unless the scenario does."""

    async def body() -> None:
        flags = {"data": str(folder), "durability": "os", "kafka": "127.0.0.1:0", "http": "127.0.0.1:0"}
        running = await start(options.load({**flags, "pubsub": "127.0.0.1:0", **given}))
        try:
            async with asyncio.timeout(60):
                await scenario(running)
        finally:
            if closes:
                await running.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(body())


async def connect(running: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = running.addresses["pubsub"][0]
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(frames.PREFACE + frames.settings_frame({}))
    return reader, writer


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    head = await reader.readexactly(9)
    payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
    return Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)


def test_a_call_of_a_method_that_there_is_not_and_the_end_of_the_server(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        reader, writer = await connect(running)
        block = hpack.Encoder().encode(CALL)
        writer.write(frame(frames.HEADERS, frames.END_HEADERS, 1, block))
        writer.write(frame(frames.DATA, frames.END_STREAM, 1, message(b"A-1001")))
        while (answer := await read_frame(reader)).kind != frames.HEADERS:
            pass
        headers = {str(name): str(value) for name, value in hpack.Decoder().decode(answer.payload)}
        assert headers["grpc-status"] == "12"
        metrics = {
            sample[0]: sample
            for status in running.statuses()
            for sample in status.samples
            if "pubsub" in sample[0]
        }
        assert metrics["mainstem_pubsub_connections"][2] == 1
        assert metrics["mainstem_pubsub_calls_total"][1:] == (("unknown", "UNIMPLEMENTED"), 1)
        closing = asyncio.create_task(running.close())
        answers = []
        while (answer := await read_frame(reader)).kind != frames.PING:
            answers.append(answer)
        writer.write(frame(frames.PING, frames.ACK, 0, answer.payload))
        answers.append(await read_frame(reader))
        assert [a.kind for a in answers if a.kind == frames.GOAWAY] == [frames.GOAWAY] * 2
        assert await reader.read() == b""
        writer.close()
        await closing

    run(tmp_path, scenario, closes=False)


def test_other_protocols_are_refused(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        address = running.addresses["pubsub"][0]
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"\x00\x00\x00\x21\x00\x12\x00\x04")
        answers = []
        try:
            while True:
                answers.append(await read_frame(reader))
        except asyncio.IncompleteReadError:
            pass
        assert goaway_code(answers) == frames.H2Error.PROTOCOL_ERROR
        writer.close()

    run(tmp_path, scenario)
