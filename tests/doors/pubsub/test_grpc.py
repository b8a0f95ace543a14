"""Calls of gRPC on a connection without a socket."""

from __future__ import annotations

import asyncio
import gzip
import struct
import zlib
from base64 import b64decode
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import unquote

import pytest

from mainstem.contract import NotReachable, UnknownTopic
from mainstem.doors.pubsub import frames, grpc
from mainstem.doors.pubsub.calls import (
    MESSAGE_BYTES_MAX,
    Code,
    RpcCall,
    RpcError,
    RpcMethod,
    RpcRequests,
    RpcResponses,
)
from mainstem.doors.pubsub.frames import H2Error
from mainstem.doors.pubsub.subscriber import READS
from mainstem.promise import Promise
from mainstem.quota_contract import QuotaKey
from tests.doors.pubsub.h2_kit import ORDERS, Client, echo_stream, frame, message, reset_code, unary

ORDER = b'{"order":"A-1001","total":59.9}'


def failing(error: Exception) -> Callable[[RpcCall, bytes], bytes]:
    def fail(call: RpcCall, body: bytes) -> bytes:
        raise error

    return fail


METHODS = {
    ORDERS + "Echo": unary(lambda call, body: body),
    ORDERS + "EchoAll": RpcMethod(rights=(), stream=echo_stream),
}


def status(client: Client, stream: int) -> tuple[int, str]:
    """The status of a call, and its text."""
    headers = client.outcome(client.read(), stream)[1]
    assert headers[":status"] == "200"
    return int(headers["grpc-status"]), unquote(headers.get("grpc-message", ""))


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def body() -> None:
        async with asyncio.timeout(10):
            await scenario()

    asyncio.run(body())


async def turns(client: Client) -> None:
    for _ in range(6):
        await asyncio.sleep(0)
        client.settle()


def test_a_unary_call_is_answered_with_headers_message_and_status() -> None:
    client = Client(METHODS)
    client.call(ORDERS + "Echo", ORDER)
    first, data, last = client.read()
    assert client.headers(first) == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-accept-encoding": "identity,gzip",
    }
    assert (data.payload, data.flags) == (message(ORDER), 0)
    assert (client.headers(last), last.flags) == (
        {"grpc-status": "0"},
        frames.END_HEADERS | frames.END_STREAM,
    )
    assert not client.connection.calls


def test_a_message_may_come_in_any_pieces() -> None:
    client = Client(METHODS)
    body = message(ORDER)
    for cut in range(len(body) + 1):
        stream = client.open(ORDERS + "Echo")
        client.data(stream, body[:cut])
        client.data(stream, body[cut:], is_last=True)
        assert client.outcome(client.read(), stream)[0] == body


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (RpcError(Code.FAILED_PRECONDITION, "ü 100 %\nnext"), 9, "ü 100 %\nnext"),
        (UnknownTopic("there is no topic orders"), 5, "there is no topic orders"),
        (NotReachable("later"), 14, "later"),
        (KeyError("orders"), 13, "the server's log has the details"),
    ],
)
def test_errors_are_a_status(error: Exception, code: int, text: str) -> None:
    client = Client({ORDERS + "Fail": unary(failing(error))})
    stream = client.call(ORDERS + "Fail", ORDER)
    answers = client.read()
    assert len(answers) == 1, "the status is with the headers"
    headers = client.outcome(answers, stream)[1]
    assert (int(headers["grpc-status"]), unquote(headers["grpc-message"])) == (code, text)


def test_details_of_an_error_are_sent_unless_they_are_too_large() -> None:
    for details, is_sent in ((b"\x08\x05\x12\x02no", True), (bytes(10_000), False)):
        client = Client({ORDERS + "Fail": unary(failing(RpcError(Code.NOT_FOUND, "no", details)))})
        stream = client.call(ORDERS + "Fail", b"")
        headers = client.outcome(client.read(), stream)[1]
        assert ("grpc-status-details-bin" in headers) is is_sent
        if is_sent:
            assert b64decode(headers["grpc-status-details-bin"] + "==") == details


def test_methods_that_there_are_not() -> None:
    client = Client(METHODS)
    assert status(client, client.call(ORDERS + "Refund", ORDER)) == (
        12,
        "unknown method Refund for service shop.Orders",
    )
    assert status(client, client.call("/shop.Flights/List", ORDER)) == (12, "unknown service shop.Flights")
    assert client.dispatcher.counts == {("unknown", Code.UNIMPLEMENTED): 2}


def test_what_is_no_grpc_gets_415() -> None:
    client = Client(METHODS)
    for method, content_type in (
        ("POST", "application/json"),
        ("GET", "application/grpc"),
        ("POST", "application/grpcx"),
    ):
        stream = client._next_stream
        client._next_stream += 2
        block = client.block(
            (":method", method),
            (":scheme", "http"),
            (":path", ORDERS + "Echo"),
            ("content-type", content_type),
        )
        client.send(frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, block))
        data, headers = client.outcome(client.read(), stream)
        assert headers[":status"] == "415"
        assert b"gRPC" in data


def test_what_is_no_grpc_is_answered_when_it_has_ended_or_is_long() -> None:
    client = Client(METHODS)
    kinds = (("content-type", "text/plain"), ("content-length", "8"))
    streams = []
    for headers in (kinds, kinds, kinds[:1]):
        block = client.block((":method", "POST"), (":scheme", "http"), (":path", "/"), *headers)
        streams.append(client._next_stream)
        client._next_stream += 2
        client.send(frame(frames.HEADERS, frames.END_HEADERS, streams[-1], block))
    whole, malformed, long = streams
    assert [answer.kind for answer in client.read()] == []
    client.data(whole, b"A-1001")
    client.data(whole, b"\r\n", is_last=True)
    assert client.outcome(client.read(), whole)[1][":status"] == "415"
    client.data(malformed, b"A-1001", is_last=True)
    assert reset_code(client.read(), malformed) == H2Error.PROTOCOL_ERROR
    body = frame(frames.DATA, 0, long, bytes(16_000))
    client.send(body * 3)
    answers = client.read()
    assert client.outcome(answers, long)[1][":status"] == "415"
    assert reset_code(answers, long) == H2Error.NO_ERROR


def test_compressed_messages() -> None:
    client = Client(METHODS)
    packed = gzip.compress(ORDER)
    framed = struct.pack(">BI", 1, len(packed)) + packed
    stream = client.open(ORDERS + "Echo", ("grpc-encoding", "gzip"))
    client.data(stream, framed, is_last=True)
    assert client.outcome(client.read(), stream)[0] == message(ORDER)
    stream = client.open(ORDERS + "Echo")
    client.data(stream, framed, is_last=True)
    assert status(client, stream)[0] == Code.INTERNAL
    stream = client.open(ORDERS + "Echo", ("grpc-encoding", "snappy"))
    assert status(client, stream)[0] == Code.UNIMPLEMENTED
    for broken in (packed[:-9], b"no gzip"):
        stream = client.open(ORDERS + "Echo", ("grpc-encoding", "gzip"))
        client.data(stream, struct.pack(">BI", 1, len(broken)) + broken, is_last=True)
        assert status(client, stream)[0] == Code.INVALID_ARGUMENT


def test_a_bomb_of_gzip_is_refused_before_it_is_whole() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    assert len(packed) < 100_000
    client = Client(METHODS)
    stream = client.open(ORDERS + "Echo", ("grpc-encoding", "gzip"))
    client.data(stream, struct.pack(">BI", 1, len(packed)) + packed, is_last=True)
    assert status(client, stream) == (3, f"a compressed message of more than {MESSAGE_BYTES_MAX} bytes")


def test_a_message_that_is_too_large_is_refused_by_its_prefix() -> None:
    client = Client(METHODS)
    stream = client.open(ORDERS + "Echo")
    client.data(stream, struct.pack(">BI", 0, 1 << 31))
    answers = client.read()
    assert client.outcome(answers, stream)[1]["grpc-status"] == "3"
    assert reset_code(answers, stream) == H2Error.NO_ERROR, "the client need not send the rest"
    client.data(stream, bytes(16_384))
    assert client.read() == []
    assert client.budget.used_bytes == 0


def test_a_method_may_take_less_than_others() -> None:
    async def take(call: RpcCall, requests: RpcRequests, responses: RpcResponses) -> None:
        async for _ in requests:
            pass

    async def scenario() -> None:
        single = RpcMethod(rights=(), unary=lambda call, body: body, bytes_max=100)
        many = RpcMethod(rights=(), stream=take, bytes_max=100)
        client = Client({ORDERS + "One": single, ORDERS + "Many": many})
        packed = gzip.compress(bytes(101))
        for path in (ORDERS + "One", ORDERS + "Many"):
            for body, code in (
                (message(bytes(100)), Code.OK),
                (message(bytes(101)), Code.INVALID_ARGUMENT),
                (struct.pack(">BI", 1, len(packed)) + packed, Code.INVALID_ARGUMENT),
            ):
                stream = client.open(path, ("grpc-encoding", "gzip"))
                client.data(stream, body, is_last=True)
                await turns(client)
                assert status(client, stream)[0] == code, (path, body[:20])

    run(scenario)


@pytest.mark.parametrize("body", [b"", message(ORDER)[:-1], message(ORDER) * 2, message(ORDER) + b"\0"])
def test_a_unary_call_has_one_message(body: bytes) -> None:
    client = Client(METHODS)
    stream = client.open(ORDERS + "Echo")
    client.data(stream, body, is_last=True)
    assert status(client, stream)[0] == Code.INVALID_ARGUMENT


def test_metadata_is_seen_and_answered() -> None:
    seen: list[RpcCall] = []

    def handle(call: RpcCall, body: bytes) -> bytes:
        seen.append(call)
        call.response_headers = {"x-order": "A-1001"}
        call.response_trailers = {"x-total-bin": "AAE"}
        return body

    client = Client({ORDERS + "Echo": unary(handle)})
    client.call(ORDERS + "Echo", ORDER, ("x-goog-request-params", "a"), ("x-goog-request-params", "b"))
    first, _, last = client.read()
    assert client.headers(first)["x-order"] == "A-1001"
    assert client.headers(last) == {"grpc-status": "0", "x-total-bin": "AAE"}
    assert seen[0].metadata["x-goog-request-params"] == "a,b"
    assert (seen[0].principal, seen[0].peer) == ("User:ANONYMOUS", "127.0.0.1:40112")


@pytest.mark.parametrize(
    ("text", "seconds"), [("59999812u", 59.999812), ("1H", 3600), ("5m", 0.005), ("0n", 0)]
)
def test_timeouts(text: str, seconds: float) -> None:
    assert grpc.parse_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "S", "123456789S", "1.5S", "-1S", "1s", "1 S", "١S"])
def test_timeouts_that_are_none(text: str) -> None:
    with pytest.raises(RpcError):
        grpc.parse_timeout(text)


def test_a_call_ends_at_its_deadline() -> None:
    waiting: Promise[bytes] = Promise()
    client = Client({ORDERS + "Wait": unary(lambda call, body: waiting)})
    stream = client.call(ORDERS + "Wait", ORDER, ("grpc-timeout", "2S"))
    client.clock.advance(1.9)
    assert client.read() == []
    client.clock.advance(0.2)
    assert status(client, stream)[0] == Code.DEADLINE_EXCEEDED
    assert len(client.connection.calls) == 1, "its function still runs"
    waiting.resolve(b"")
    assert client.read() == []
    assert not client.connection.calls


def test_an_awaited_answer_and_one_that_fails() -> None:
    async def answer(call: RpcCall, body: bytes) -> bytes:
        await asyncio.sleep(0)
        if not body:
            raise RpcError(Code.ABORTED, "no order")
        return body

    async def scenario() -> None:
        client = Client({ORDERS + "Echo": unary(answer)})
        good, bad = client.call(ORDERS + "Echo", ORDER), client.call(ORDERS + "Echo", b"")
        await turns(client)
        answers = client.read()
        headers = {s: client.outcome([a for a in answers if a.stream == s], s) for s in (good, bad)}
        assert headers[good][0] == message(ORDER)
        assert headers[bad][1]["grpc-status"] == "10"
        assert not client.connection.calls

    run(scenario)


def test_a_stream_echoes_until_the_client_has_sent_its_last() -> None:
    async def scenario() -> None:
        client = Client(METHODS)
        stream = client.open(ORDERS + "EchoAll")
        client.data(stream, message(b"1") + message(b"2") + message(b"3")[:3])
        await turns(client)
        assert client.outcome(client.read(), stream)[0] == message(b"1") + message(b"2")
        client.data(stream, message(b"3")[3:], is_last=True)
        await turns(client)
        data, headers = client.outcome(client.read(), stream)
        assert (data, headers["grpc-status"]) == (message(b"3"), "0")
        assert not client.connection.calls

    run(scenario)


def test_a_stream_that_the_client_leaves_is_cancelled() -> None:
    ends: list[str] = []

    async def wait(call: RpcCall, requests: RpcRequests, responses: RpcResponses) -> None:
        try:
            await anext(aiter(requests))
        except asyncio.CancelledError:
            ends.append(call.method)
            raise

    async def scenario() -> None:
        client = Client({ORDERS + "Wait": RpcMethod(rights=(), stream=wait)})
        stream = client.open(ORDERS + "Wait")
        client.open(ORDERS + "Wait")
        await turns(client)
        client.send(frames.reset_frame(stream, H2Error.CANCEL))
        await turns(client)
        assert (len(ends), len(client.connection.calls)) == (1, 1)
        client.connection.lost()
        await turns(client)
        assert (len(ends), len(client.connection.calls)) == (2, 0)

    run(scenario)


def test_a_stream_waits_for_room_and_its_requests_for_being_taken() -> None:
    sent: list[int] = []

    async def tail(call: RpcCall, requests: RpcRequests, responses: RpcResponses) -> None:
        for number in range(20):
            responses.send(bytes(10_000))
            sent.append(number)
            await responses.ready()

    async def scenario() -> None:
        client = Client({ORDERS + "Tail": RpcMethod(rights=(), stream=tail), **METHODS})
        stream = client.open(ORDERS + "Tail")
        for _ in range(10):
            await turns(client)
        assert len(sent) == 7, "65,535 bytes are what a window has at first"
        client.send(frames.window_update(stream, 1 << 20) + frames.window_update(0, 1 << 20))
        for _ in range(20):
            await turns(client)
        assert len(sent) == 20
        untaken = client.open(ORDERS + "Tail")
        client.data(untaken, message(bytes(1000)) * 500)
        assert not [a for a in client.read() if a.kind == frames.WINDOW_UPDATE and a.stream == untaken]
        client.connection.lost()
        await turns(client)

    run(scenario)


def test_several_tasks_of_a_stream_may_wait_for_room() -> None:
    ready: list[str] = []

    async def tail(call: RpcCall, requests: RpcRequests, responses: RpcResponses) -> None:
        async def wait(name: str) -> None:
            await responses.ready()
            ready.append(name)

        responses.send(bytes(100_000))
        await asyncio.gather(wait("deliveries"), wait("answers"))

    async def scenario() -> None:
        client = Client({ORDERS + "Tail": RpcMethod(rights=(), stream=tail), **METHODS})
        stream = client.open(ORDERS + "Tail")
        await turns(client)
        assert ready == []
        client.send(frames.window_update(stream, 1 << 20) + frames.window_update(0, 1 << 20))
        for _ in range(10):
            await turns(client)
        assert sorted(ready) == ["answers", "deliveries"]
        client.connection.lost()
        await turns(client)

    run(scenario)


def test_streams_end_with_unavailable_when_the_door_closes() -> None:
    async def scenario() -> None:
        client = Client(METHODS)
        stream = client.open(ORDERS + "EchoAll")
        await turns(client)
        client.connection.drain()
        late = client.open(ORDERS + "EchoAll")
        answers = client.read()
        assert [answer.kind for answer in answers[:2]] == [frames.GOAWAY, frames.PING]
        for expected, answer in zip(
            (stream, late), [a for a in answers if a.kind == frames.HEADERS], strict=True
        ):
            headers = client.headers(answer)
            assert (answer.stream, headers["grpc-status"]) == (expected, "14")
            assert "shutdownNow" not in headers["grpc-message"]
        await turns(client)

    run(scenario)


def test_a_quota_that_is_used_up_refuses_what_is_pulled_but_not_what_is_acknowledged() -> None:
    charged: list[tuple[QuotaKey, int]] = []

    def charge(key: QuotaKey, user: str, client_id: str, count: int) -> int:
        charged.append((key, count))
        return 0

    path = "/google.pubsub.v1.Subscriber/"
    method = RpcMethod(rights=READS, unary=lambda call, body: body)
    client = Client({path + name: method for name in ("Pull", "Acknowledge", "ModifyAckDeadline")})
    excess = {QuotaKey.FETCH: 1_000}
    quotas = SimpleNamespace(is_on=True, excess_ms=lambda key, *_: excess.get(key, 0), charge=charge)
    cast(Any, client.dispatcher.context).access.quotas = quotas
    assert status(client, client.call(path + "Pull", ORDER))[0] == Code.RESOURCE_EXHAUSTED
    assert not charged
    for name in ("Acknowledge", "ModifyAckDeadline"):
        assert status(client, client.call(path + name, ORDER))[0] == Code.OK
    excess.clear()
    charged.clear()
    assert status(client, client.call(path + "Pull", ORDER))[0] == Code.OK
    assert charged == [(QuotaKey.FETCH, len(ORDER))]
