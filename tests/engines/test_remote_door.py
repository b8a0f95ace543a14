"""The client of the HTTP door: how it decodes replies, that closing it cancels the work of the server, and
which connections it uses again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager

import h11
import pytest

from mainstem.client_security import ClientSecurity
from mainstem.contract import InvalidArgument, NewEvent, NotReachable, UnknownTopic
from mainstem.engines.kafka.server_info import ServerInfo
from mainstem.engines.remote.door import cluster_id, find_door
from mainstem.engines.remote.http_client import HttpDoorClient, HttpReply
from mainstem.engines.remote.search import RemoteSearch
from mainstem.search.contract import Done, Hit, SearchRequest
from mainstem.search.query.errors import QueryError
from tests.doors.http.door_kit import SEGMENT_BYTES, RunningHttpDoor, running_door


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    with running_door(tmp_path_factory.mktemp("remote") / "data") as running:
        yield running


def test_leaving_cancels_the_search_in_the_server(door: RunningHttpDoor) -> None:
    topic = door.create_topic("large")
    event = NewEvent(b"word " * 200, headers=(("h", b"\xff"), ("h", None)))
    for _ in range(30):
        door.run(lambda engine: engine.publish(topic, [event] * (SEGMENT_BYTES // 2_000)))
    room = door.door.context.search_slots
    before = room._value

    async def first() -> Hit:
        request = SearchRequest(query="word", topics=[topic], limit=None)
        async with aclosing(RemoteSearch(HttpDoorClient(door.address)).search(request)) as updates:
            async for update in updates:
                if isinstance(update, Hit):
                    assert room._value == before - 1
                    return update
        raise AssertionError("nothing was found")

    event_found = asyncio.run(first()).event
    assert (event_found.value, event_found.headers, event_found.key) == (event.value, event.headers, None)
    deadline = time.monotonic() + 10
    while room._value < before and time.monotonic() < deadline:
        door.get("cluster")
    assert room._value == before


def test_a_search_returns_all_matches(door: RunningHttpDoor) -> None:
    topic = door.create_topic("all")
    door.run(lambda engine: engine.publish(topic, [NewEvent(b"%d" % number) for number in range(500)]))

    async def every() -> list[object]:
        request = SearchRequest(topics=[topic], limit=None, newest_first=False)
        return [update async for update in RemoteSearch(HttpDoorClient(door.address)).search(request)]

    updates = asyncio.run(every())
    assert [update.event.offset for update in updates if isinstance(update, Hit)] == list(range(500))
    assert isinstance(updates[-1], Done)
    assert (updates[-1].reason, updates[-1].totals.matches) == ("complete", 500)


def test_refusals_are_errors_of_the_contract(door: RunningHttpDoor) -> None:
    async def refused(request: SearchRequest) -> None:
        async for _ in RemoteSearch(HttpDoorClient(door.address)).search(request):
            pass

    with pytest.raises(QueryError) as wrong:
        asyncio.run(refused(SearchRequest(query="a:(b")))
    assert wrong.value.column == 2
    with pytest.raises(InvalidArgument, match="resume"):
        asyncio.run(refused(SearchRequest(resume="nonsense")))


def test_the_door_of_another_cluster_is_not_used(door: RunningHttpDoor) -> None:
    async def ask(about: ServerInfo) -> tuple[str | None, str]:
        return await find_door("127.0.0.1:9092", about)

    ours = asyncio.run(cluster_id(HttpDoorClient(door.address)))
    assert asyncio.run(ask(ServerInfo(ours, door.address))) == (door.address, "")
    assert asyncio.run(ask(ServerInfo(ours, f"0.0.0.0:{door.port}"))) == (door.address, "")
    none, why = asyncio.run(ask(ServerInfo("another", door.address)))
    assert (none, why) == (
        None,
        f"the server's HTTP door is not reachable from here: {door.address} is another server's",
    )
    assert asyncio.run(ask(ServerInfo(ours, "127.0.0.1:1")))[0] is None
    assert asyncio.run(ask(ServerInfo(ours, "")))[1] == "the server at 127.0.0.1:9092 serves no HTTP"
    assert asyncio.run(ask(ServerInfo(ours, None)))[1] == (
        "127.0.0.1:9092 is not a mainstem server, or asking for its HTTP door is not permitted"
    )


HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@asynccontextmanager
async def replying(reply: bytes, *, close: bool = True) -> AsyncIterator[str]:
    """HOST:PORT of a server that sends the same reply to every client."""

    writers: list[asyncio.StreamWriter] = []

    async def serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read(10_000)
        writer.write(reply)
        if close:
            writer.close()

    async with await asyncio.start_server(serve_connection, "127.0.0.1", 0) as server:
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            for writer in writers:
                writer.transport.abort()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"", "broke the connection"),
        (b"SSH-2.0-OpenSSH_9\r\n", "broke the connection"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", "status 302"),
        (HEAD, "broke the connection"),
        (HEAD + b"0\r\n\r\n", "ended the search before it was done"),
        (HEAD + b'10\r\n{"progress":null', "broke the connection"),
        (HEAD + b"4\r\nno!\n\r\n0\r\n\r\n", "is not that of a mainstem server"),
    ],
)
def test_a_malformed_reply_is_reported_in_a_line(reply: bytes, message: str) -> None:
    async def ask() -> None:
        async with replying(reply) as address:
            async for _ in RemoteSearch(HttpDoorClient(address)).search(SearchRequest()):
                pass

    with pytest.raises(NotReachable, match=message):
        asyncio.run(ask())


def test_a_silent_server_times_out() -> None:
    async def ask() -> None:
        async with (
            replying(b"", close=False) as address,
            HttpDoorClient(address).send("GET", "/api/v1/cluster", silence_timeout_s=0.2),
        ):
            pass

    with pytest.raises(NotReachable, match=r"sent nothing for 0\.2 s"):
        asyncio.run(ask())


def test_requests_that_can_be_repeated_use_a_connection_again(door: RunningHttpDoor) -> None:
    async def ask() -> None:
        client = HttpDoorClient(door.address, keeps_connections=True)
        for _ in range(3):
            await client.request_json("GET", "/api/v1/cluster", None, dict, repeatable=True)
        (spare,) = client._spare
        assert spare.was_used
        with pytest.raises(UnknownTopic):
            await client.request_json("GET", "/api/v1/topics/none", None, dict, repeatable=True)
        await client.request_json("GET", "/api/v1/cluster", None, dict, repeatable=True)
        await client.request_json("GET", "/api/v1/cluster", None, dict)
        (after_refusal,) = client._spare
        assert after_refusal is not spare  # what a refusal leaves in the connection is not looked at
        path = "/api/v1/cluster"
        await asyncio.gather(
            *[client.request_json("GET", path, None, dict, repeatable=True) for _ in range(12)]
        )
        assert 0 < len(client._spare) <= 8
        client.close()
        assert client._spare == []

    asyncio.run(ask())


def test_a_connection_that_the_server_has_closed_is_replaced() -> None:
    replies = 0

    async def serve_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers a request, and breaks the connection when it has read the next one."""
        nonlocal replies
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        replies += 1
        await reader.read(1)
        writer.transport.abort()

    async def ask() -> None:
        async with await asyncio.start_server(serve_twice, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            client = HttpDoorClient(f"127.0.0.1:{port}", keeps_connections=True)
            for _ in range(3):
                assert await client.request_json("GET", "/", None, dict, repeatable=True) == {}
            client.close()
            await asyncio.sleep(0.01)  # for the last connection of the server

    asyncio.run(ask())
    assert replies == 3


@pytest.mark.parametrize("turns", range(5))
def test_a_reply_that_arrives_in_the_turn_of_a_cancellation_does_not_undo_it(turns: int) -> None:
    """A subscriber that stopped while it received its last events waited for ever."""

    async def ask() -> None:
        reader, parser = asyncio.StreamReader(), h11.Connection(our_role=h11.CLIENT)
        parser.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
        parser.send(h11.EndOfMessage())
        reply = HttpReply("a:1", reader, parser, 60)
        task = asyncio.ensure_future(reply.receive_head())
        await asyncio.sleep(0)
        reader.feed_data(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(turns):
            await asyncio.sleep(0)
        is_received = task.done()
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled() != is_received

    asyncio.run(ask())


def test_a_cancelled_request_closes_its_connection() -> None:
    ended = asyncio.Event()

    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await reader.read()  # to the end, or until it is reset
        except OSError:
            pass
        writer.transport.abort()
        ended.set()

    async def ask() -> None:
        async with await asyncio.start_server(stay_silent, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            client = HttpDoorClient(f"127.0.0.1:{port}", keeps_connections=True)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.request_json("POST", "/", {}, dict, repeatable=True)
            await asyncio.wait_for(ended.wait(), 5)
            assert client._spare == []

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("address", "is_sent"),
    [
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("https://192.0.2.1:1", True),
        ("192.0.2.1:1", False),
        ("localhost.example:1", False),
        ("0.0.0.0:1", False),
    ],
)
def test_no_secret_goes_to_another_machine_without_tls(address: str, is_sent: bool) -> None:
    client = HttpDoorClient(address, ClientSecurity(user="ann", password="secret"))
    assert (client._authorization() is not None) == is_sent
