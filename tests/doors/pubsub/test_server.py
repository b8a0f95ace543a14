"""The door on real sockets, with a client that sends frames."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import hpack
import pytest
import uvloop

from mainstem.doors.pubsub import frames
from mainstem.pubsub.messages import message as message_type
from mainstem.serve import options
from mainstem.serve.server import Running, start
from tests.doors.pubsub.h2_kit import Frame, frame, goaway_code, message
from tests.support.certificates import client_context, server_files

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


async def connect(
    running: Running, context: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = running.addresses["pubsub"][0]
    reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
    writer.write(frames.PREFACE + frames.settings_frame({}))
    return reader, writer


async def refund(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, str]:
    """The headers of the answer to CALL, which is the first of the connection."""
    block = hpack.Encoder().encode(CALL)
    writer.write(frame(frames.HEADERS, frames.END_HEADERS, 1, block))
    writer.write(frame(frames.DATA, frames.END_STREAM, 1, message(b"A-1001")))
    while (answer := await read_frame(reader)).kind != frames.HEADERS:
        pass
    return {str(name): str(value) for name, value in hpack.Decoder().decode(answer.payload)}


async def http1(
    running: Running, method: str, path: str, host: str = "localhost", context: ssl.SSLContext | None = None
) -> tuple[int, bytes]:
    """Status and body of a request of HTTP/1.1, whose first byte comes alone."""
    address = running.addresses["pubsub"][0]
    reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
    request = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    writer.write(request[:1])
    await asyncio.sleep(0)
    writer.write(request[1:])
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    head = await reader.readexactly(9)
    payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
    return Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)


def test_a_call_of_a_method_that_there_is_not_and_the_end_of_the_server(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        reader, writer = await connect(running)
        assert (await refund(reader, writer))["grpc-status"] == "12"
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


def test_http1_at_the_same_port(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(running: Running) -> None:
        port = running.addresses["pubsub"][0].port
        assert f"Server started, listening on {port}" in caplog.messages
        assert await http1(running, "GET", "/") == (200, b"Ok\n")
        assert await http1(running, "HEAD", "/") == (200, b"")
        status, body = await http1(running, "POST", "/v1/nothing")
        assert (status, json.loads(body)["error"]["status"]) == (404, "NOT_FOUND")
        status, body = await http1(running, "POST", "/", "rebound.example")
        assert (status, json.loads(body)["error"]["status"]) == (403, "PERMISSION_DENIED")
        status, body = await http1(running, "GET", "/ of what")
        assert (status, json.loads(body)["error"]["status"]) == (400, "INVALID_ARGUMENT")

    with caplog.at_level(logging.INFO, "mainstem.serve.listeners"):
        run(tmp_path, scenario)


def test_tls_with_either_protocol(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        grpc, web = client_context(), client_context()
        grpc.set_alpn_protocols(["h2"])
        web.set_alpn_protocols(["http/1.1"])
        reader, writer = await connect(running, grpc)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        assert (await refund(reader, writer))["grpc-status"] == "12"
        writer.close()
        assert await http1(running, "GET", "/", context=web) == (200, b"Ok\n")

    files = server_files()
    run(tmp_path, scenario, tls_cert=str(files.cert), tls_key=str(files.key), pubsub="SSL://127.0.0.1:0")


def test_a_server_with_an_open_stream_stops(tmp_path: Path) -> None:
    topic, name = "projects/airline/topics/orders", "projects/airline/subscriptions/billing"
    calls = {
        "Publisher/CreateTopic": message_type("google.pubsub.v1.Topic")(name=topic),
        "Subscriber/CreateSubscription": message_type("google.pubsub.v1.Subscription")(
            name=name, topic=topic
        ),
        "Subscriber/StreamingPull": message_type("google.pubsub.v1.StreamingPullRequest")(
            subscription=name, stream_ack_deadline_seconds=10, protocol_version=1
        ),
    }

    async def scenario(running: Running) -> None:
        reader, writer = await connect(running)
        encoder, decoder = hpack.Encoder(), hpack.Decoder()

        async def answer_on(stream: int, field: str) -> str:
            while True:
                answer = await read_frame(reader)
                if answer.kind == frames.PING:
                    writer.write(frame(frames.PING, frames.ACK, 0, answer.payload))
                elif answer.kind == frames.HEADERS:
                    fields = {str(key): str(value) for key, value in decoder.decode(answer.payload)}
                    if answer.stream == stream and field in fields:
                        return fields[field]

        for stream, (method, request) in zip((1, 3, 5), calls.items(), strict=True):
            head = [(key, value) for key, value in CALL if key != ":path"]
            block = encoder.encode([*head[:2], (":path", f"/google.pubsub.v1.{method}"), *head[2:]])
            writer.write(frame(frames.HEADERS, frames.END_HEADERS, stream, block))
            flags = 0 if stream == 5 else frames.END_STREAM
            writer.write(frame(frames.DATA, flags, stream, message(request.SerializeToString())))
            if stream != 5:
                assert await answer_on(stream, "grpc-status") == "0"
        writer.write(frame(frames.DATA, 0, 5, message(b"")))
        while (answer := await read_frame(reader)).kind != frames.DATA or answer.stream != 5:
            if answer.kind == frames.HEADERS:
                decoder.decode(answer.payload)
        closing = asyncio.create_task(running.close())
        assert await answer_on(5, "grpc-status") == "14"
        writer.close()
        await closing

    run(tmp_path, scenario, closes=False)


def test_a_connection_that_sends_nothing_does_not_keep_the_server_from_its_end(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        address = running.addresses["pubsub"][0]
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"P")
        while running.statuses()[-1].connections < 1:
            await asyncio.sleep(0.01)
        await running.close()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()

    run(tmp_path, scenario, closes=False)
