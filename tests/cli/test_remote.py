"""The command line's HTTP client: how it decodes replies, and that closing it cancels the work of the
server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager

import pytest

from mainstem.cli import http_client
from mainstem.cli.http_door import find_door
from mainstem.cli.remote_search import RemoteSearch, cluster_id
from mainstem.contract import InvalidArgument, NewEvent, NotReachable
from mainstem.engines.kafka.server_info import ServerInfo
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
        async with aclosing(RemoteSearch(door.address).search(request)) as updates:
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
        return [update async for update in RemoteSearch(door.address).search(request)]

    updates = asyncio.run(every())
    assert [update.event.offset for update in updates if isinstance(update, Hit)] == list(range(500))
    assert isinstance(updates[-1], Done)
    assert (updates[-1].reason, updates[-1].totals.matches) == ("complete", 500)


def test_refusals_are_errors_of_the_contract(door: RunningHttpDoor) -> None:
    async def refused(request: SearchRequest) -> None:
        async for _ in RemoteSearch(door.address).search(request):
            pass

    with pytest.raises(QueryError) as wrong:
        asyncio.run(refused(SearchRequest(query="a:(b")))
    assert wrong.value.column == 2
    with pytest.raises(InvalidArgument, match="resume"):
        asyncio.run(refused(SearchRequest(resume="nonsense")))


def test_the_door_of_another_cluster_is_not_used(door: RunningHttpDoor) -> None:
    async def ask(about: ServerInfo) -> tuple[str | None, str]:
        return await find_door("127.0.0.1:9092", about)

    ours = asyncio.run(cluster_id(door.address))
    assert asyncio.run(ask(ServerInfo(ours, door.address))) == (door.address, "")
    assert asyncio.run(ask(ServerInfo(ours, f"0.0.0.0:{door.port}"))) == (door.address, "")
    none, why = asyncio.run(ask(ServerInfo("another", door.address)))
    assert (none, why) == (
        None,
        f"the server's HTTP door is not reachable from here: {door.address} is another server's",
    )
    assert asyncio.run(ask(ServerInfo(ours, "127.0.0.1:1")))[0] is None
    assert asyncio.run(ask(ServerInfo(ours, "")))[1] == "the server at 127.0.0.1:9092 serves no HTTP"
    assert asyncio.run(ask(ServerInfo(ours, None)))[1] == "127.0.0.1:9092 is not a mainstem server"


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
            async for _ in RemoteSearch(address).search(SearchRequest()):
                pass

    with pytest.raises(NotReachable, match=message):
        asyncio.run(ask())


def test_a_silent_server_times_out() -> None:
    async def ask() -> None:
        async with (
            replying(b"", close=False) as address,
            http_client.send_request(address, "GET", "/api/v1/cluster", silence_timeout_s=0.2),
        ):
            pass

    with pytest.raises(NotReachable, match=r"sent nothing for 0\.2 s"):
        asyncio.run(ask())
