"""The door on real sockets: hostile clients beside a good one, and the end of connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from mainstem.clock import LoopClock
from mainstem.doors.contract import Access
from mainstem.doors.kafka import server
from mainstem.doors.kafka.connection import KafkaConnection
from mainstem.doors.kafka.server import KafkaDoor
from mainstem.doors.net.security import SecurityProtocol
from mainstem.kafka_protocol.message import Message
from mainstem.settings import Settings
from tests.doors.kafka.access_kit import memory_access
from tests.doors.kafka.kit import (
    MemoryNode,
    batch,
    decode_reply,
    fetch_request,
    produce_request,
    request_frame,
)
from tests.support.listening import ListeningDoor

Scenario = Callable[["RunningDoor"], Awaitable[None]]


class MovedClock(LoopClock):
    """The real clock; once it is stopped, its monotonic time moves only when a test moves it, so that no test
    of a timeout depends on how fast the machine is."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._now: float | None = None

    def stop(self) -> None:
        self._now = self.monotonic()

    def advance(self, seconds: float) -> None:
        assert self._now is not None, "it is stopped first"
        self._now += seconds

    def monotonic(self) -> float:
        return super().monotonic() if self._now is None else self._now


class RunningDoor:
    """A door on a free port, with a topic t. With `mechanisms` clients have to authenticate, as users of
    `access`."""

    def __init__(
        self, settings: Settings, access: Access | None = None, mechanisms: tuple[str, ...] = ()
    ) -> None:
        self.clock = MovedClock(asyncio.get_running_loop())
        self.node = MemoryNode(settings=settings, clock=self.clock)
        self.topic = self.node.create("t")
        self.partition = self.node.partition(self.topic, 0)
        self.door = KafkaDoor(self.node, access or memory_access())  # type: ignore[arg-type]
        self.listening = ListeningDoor(
            self.door,
            self.node.clock,
            settings,
            warnings=self.door.dispatcher.warnings,
            security=SecurityProtocol.SASL_PLAINTEXT if mechanisms else SecurityProtocol.PLAINTEXT,
            mechanisms=mechanisms,
        )
        self.address = self.listening.address
        self._peers: list[RawPeer] = []

    async def connect(self) -> RawPeer:
        reader, writer = await asyncio.open_connection(*self.address)
        peer = RawPeer(reader, writer)
        self._peers.append(peer)
        return peer

    def close_peers(self) -> None:
        """Close the clients."""
        for peer in self._peers:
            peer.close()

    async def pass_time(self, seconds: float) -> None:
        """Move the stopped clock; before and after, let the door look for connections to end."""
        self._sweep()
        self.clock.advance(seconds)
        self._sweep()
        await asyncio.sleep(0.005)

    def _sweep(self) -> None:
        self.door.sockets._sweeper.cancel()
        self.door.sockets._sweep()

    async def received(self, count: int, call: asyncio.Future[Any] | None = None) -> None:
        """Wait until each connection has received this much of an unfinished frame (without its size), or
        may not receive more at present; or until the call is done."""
        while True:
            await asyncio.sleep(0.005)
            is_done = call is not None and call.done()
            if is_done or all(self._has_received(client, count) for client in self._connections()):
                return

    def received_bytes(self) -> int:
        """Bytes of unfinished frames that all connections have received."""
        return sum(client._frames.partial_bytes for client in self._connections())

    def _connections(self) -> list[KafkaConnection]:
        return [client._connection for client in self.door.sockets if client._connection is not None]

    @staticmethod
    def _has_received(connection: KafkaConnection, count: int) -> bool:
        return connection._paused or connection._frames.partial_bytes >= count


class RawPeer:
    """A raw client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def call(self, key: int, version: int, message: Message) -> Message:
        self.send(request_frame(key, version, 1, message))
        return await self.answer(key, version)

    async def answer(self, key: int, version: int) -> Message:
        size = int.from_bytes(await self.reader.readexactly(4), "big")
        return decode_reply(key, version, memoryview(await self.reader.readexactly(size)))

    async def ended(self) -> bool:
        """Whether the server closes without a word."""
        try:
            return await asyncio.wait_for(self.reader.read(1), 10) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.writer.transport.abort()


def run(
    scenario: Scenario,
    settings: Settings | None = None,
    loop: Any = uvloop.new_event_loop,
    access: Access | None = None,
    mechanisms: tuple[str, ...] = (),
) -> None:
    """Run a scenario against a door of its own."""

    async def body() -> None:
        running = RunningDoor(settings or Settings(), access, mechanisms)
        try:
            await scenario(running)
        finally:
            running.close_peers()
            await running.listening.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(body(), 60))


HOSTILE = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff\0\0",
    b"\0\0\0\0",
    b"\0\0\0\x0e" + b"\0\x03\0\1\0\0\0\1\0\0" + b"\xff\xff\xff\xf0",
    b"\0\0\0\x0e" + b"\0\x03\0\1\0\0\0\1\0\0" + b"\x7f\xff\xff\xff",
    request_frame(3, 12, 1, Message(topics=None))[:-1] + b"\xff",
    b"\0\0\0\x0a\x7f\xff\0\0\0\0\0\1\xff\xff",
    b"\0\0\0\x0a\0\1\x7f\xff\0\0\0\1\xff\xff",
    b"\x07\x00\x00\x00\x00\x03" + b"x" * 10_000,
]


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_hostile_clients_beside_a_good_one(loop: Any) -> None:
    async def scenario(running: RunningDoor) -> None:
        good = await running.connect()
        for data in HOSTILE:
            bad = await running.connect()
            bad.send(data)
            assert await bad.ended()
            bad.close()
            answer = await good.call(3, 12, Message(topics=None))
            assert answer.topics[0].name == "t"
        large = [b"\x05\0\0\0\0" + key + b"y" * 9000 for key in (b"\0", b"\x03")]
        for data in (b"", b"\0", b"\0\0\0", b"\0\0\0\x0a\0", *large):
            half = await running.connect()
            half.send(data)
            await asyncio.sleep(0.01)
            half.close()
        assert (await good.call(18, 0, Message())).error_code == 0
        good.close()

    run(scenario, loop=loop)


def test_a_failure_to_receive_is_logged_with_its_cause(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """uvloop reports only that `get_buffer` raised something."""

    def no_buffer(connection: KafkaConnection) -> memoryview:
        raise BufferError("an invented cause")

    async def scenario(running: RunningDoor) -> None:
        good = await running.connect()
        assert (await good.call(18, 0, Message())).error_code == 0
        with monkeypatch.context() as patch:
            patch.setattr(KafkaConnection, "receive_buffer", no_buffer)
            bad = await running.connect()
            bad.send(b"\0\0\0\x0a")
            assert await bad.ended()
            bad.close()
        assert (await good.call(18, 0, Message())).error_code == 0
        good.close()

    run(scenario)
    assert "an invented cause" in caplog.text


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
@pytest.mark.parametrize("size", [100, 200_000, 1_000_000])
def test_what_is_produced_is_fetched(loop: Any, size: int) -> None:
    async def scenario(running: RunningDoor) -> None:
        client = await running.connect()
        sent = [batch(bytes([n]) * size) for n in range(5)]
        for records in sent:
            client.send(request_frame(0, 9, 1, produce_request("t", records)))
        for offset in range(5):
            answer = await client.answer(0, 9)
            assert answer.responses[0].partition_responses[0].base_offset == offset
        fetched = b""
        while len(fetched) < sum(map(len, sent)):
            offset = len(fetched) // len(sent[0])
            answer = await client.call(1, 12, fetch_request(("t", 0, offset)))
            fetched += bytes(answer.responses[0].partitions[0].records)
        assert fetched == b"".join(data for _, _, data in running.partition.batches)
        client.close()

    run(scenario, loop=loop)


def test_a_client_that_does_not_read_costs_only_itself() -> None:
    async def scenario(running: RunningDoor) -> None:
        for n in range(20):
            running.partition.append(memoryview(batch(bytes([n]) * 500_000)))
        sock = socket.create_connection(running.address)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for n in range(200):
            sock.send(request_frame(1, 12, n, fetch_request(("t", 0, n % 20))))
        good = await running.connect()
        for _ in range(20):
            assert (await good.call(18, 0, Message())).error_code == 0
        context = running.door.dispatcher.context
        assert context.slow_clients == 1
        unsent = sum(
            link._transport.get_write_buffer_size() for link in running.door.sockets if link._transport
        )
        assert unsent < 16 << 20
        sock.close()
        while running.door.connections > 1:
            await asyncio.sleep(0.01)
        assert context.slow_clients == 0
        good.close()

    run(scenario)


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_client_that_goes_while_it_waits_is_noticed(loop: Any) -> None:
    async def scenario(running: RunningDoor) -> None:
        peer = await running.connect()
        peer.send(request_frame(1, 12, 1, fetch_request(("t", 0, 0), max_wait=600_000)))
        while not running.partition.watchers:
            await asyncio.sleep(0.01)
        peer.close()
        while running.partition.watchers or running.door.connections:
            await asyncio.sleep(0.01)

    run(scenario, loop=loop)


def test_a_connection_over_the_limit_waits_until_one_ends() -> None:
    async def scenario(running: RunningDoor) -> None:
        peers = [await running.connect() for _ in range(3)]
        for peer in peers:
            await peer.call(18, 0, Message())
        late = await running.connect()
        answer = asyncio.ensure_future(late.call(18, 0, Message()))
        for peer in peers:
            assert (await peer.call(18, 0, Message())).error_code == 0
        assert not answer.done()
        peers.pop().close()
        assert (await answer).error_code == 0
        for peer in (*peers, late):
            peer.close()

    run(scenario, Settings(max_connections=3))


def test_silent_connections_end_but_waiting_ones_stay() -> None:
    async def scenario(running: RunningDoor) -> None:
        running.clock.stop()
        silent, waiting = await running.connect(), await running.connect()
        await silent.call(18, 0, Message())
        waiting.send(request_frame(1, 12, 1, fetch_request(("t", 0, 0), max_wait=600_000)))
        while not running.partition.watchers:
            await asyncio.sleep(0.005)
        await running.pass_time(599)
        assert (await silent.call(18, 0, Message())).error_code == 0
        await running.pass_time(601)
        assert await silent.ended()
        running.partition.append(memoryview(batch(b"x")))
        assert (await waiting.answer(1, 12)).error_code == 0
        silent.close()
        waiting.close()

    run(scenario, Settings(connections_max_idle_ms=600_000))


def test_a_frame_that_is_never_finished_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(server, "PARTIAL_SECONDS", 0.2)

    async def scenario(running: RunningDoor) -> None:
        slow, idle = await running.connect(), await running.connect()
        slow.send(b"\0\0\0\x0a\0\x12")
        assert await slow.ended()
        assert (await idle.call(18, 0, Message())).error_code == 0
        slow.close()
        idle.close()

    run(scenario)


def test_a_client_that_stops_reading_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(server, "STUCK_SECONDS", 0.2)

    async def scenario(running: RunningDoor) -> None:
        for n in range(20):
            running.partition.append(memoryview(batch(bytes([n]) * 500_000)))
        with socket.create_connection(running.address) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for n in range(20):
                sock.send(request_frame(1, 12, n, fetch_request(("t", 0, n))))
            while not running.door.connections:
                await asyncio.sleep(0.01)
            while running.door.connections:
                await asyncio.sleep(0.01)

    run(scenario)


def test_closing_finishes_commits_and_drops_waits() -> None:
    async def scenario(running: RunningDoor) -> None:
        running.partition.auto = False
        producer, consumer, idle = [await running.connect() for _ in range(3)]
        await idle.call(18, 0, Message())
        producer.send(request_frame(0, 9, 1, produce_request("t", batch(b"x"))))
        consumer.send(request_frame(1, 12, 1, fetch_request(("t", 0, 0), max_wait=60_000)))
        while not (running.partition.waiters and running.partition.watchers):
            await asyncio.sleep(0.01)
        closing = asyncio.ensure_future(running.listening.close())
        assert await consumer.ended()
        assert await idle.ended()
        running.partition.commit()
        answer = await producer.answer(0, 9)
        assert answer.responses[0].partition_responses[0].error_code == 0
        assert await producer.ended()
        await closing
        with pytest.raises(OSError):
            await running.connect()
        for peer in (producer, consumer, idle):
            peer.close()

    run(scenario)


def test_the_listeners_address_is_told_unless_another_is_advertised() -> None:
    async def scenario(running: RunningDoor) -> None:
        client = await running.connect()
        broker = (await client.call(3, 12, Message(topics=[]))).brokers[0]
        assert (broker.host, broker.port) == running.address
        other = ListeningDoor(running.door, running.node.clock, advertised=("events.example", 7))
        peer = RawPeer(*await asyncio.open_connection(*other.address))
        broker = (await peer.call(3, 12, Message(topics=[]))).brokers[0]
        assert (broker.host, broker.port) == ("events.example", 7)
        peer.close()
        client.close()
        await other.close()

    run(scenario)
