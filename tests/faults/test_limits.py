"""What one client, or all of them together, may take of the server; and that others are served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from mainstem.doors.kafka import server as doors
from mainstem.doors.kafka.frame import POOLED_BYTES, REMAINDER_BYTES, BufferPool
from mainstem.doors.net import client_sockets
from mainstem.doors.net.limits import ConnectionLimits, MemoryBudget
from mainstem.kafka_protocol.message import Message, ProtocolError, decode_request
from mainstem.kafka_protocol.writer import write_request
from mainstem.promise import Promise
from mainstem.settings import Settings
from tests.doors.kafka.kit import (
    DoorClient,
    MemoryNode,
    RecordingWaiter,
    batch,
    fetch_request,
    frame_reader,
    produce_request,
    request_frame,
)
from tests.doors.kafka.test_server import RawPeer, RunningDoor, run
from tests.support.clock import SimClock

MB = 1 << 20


def part_of_a_produce(size: int, there: int) -> bytes:
    """The beginning of a Produce request of `size` bytes."""
    return size.to_bytes(4, "big") + b"\0\0\0\x09" + bytes(there - 4)


class StillGroups:
    """Groups whose joins wait for ever."""

    def join(self, request: Any) -> Promise[Any]:
        return Promise()


# --- memory that all share ---------------------------------------------------------------------------------


def test_connections_without_memory_wait_and_are_woken_in_turn() -> None:
    clock = SimClock()
    budget = MemoryBudget(clock, 10 * MB)
    first, second, third, fourth = RecordingWaiter(), RecordingWaiter(), RecordingWaiter(), RecordingWaiter()
    assert budget.reserve(first, 10 * MB)
    assert budget.reserve(second, 5 * MB), "one may go on to its end whatever the others hold"
    assert budget.is_contended
    assert not budget.reserve(third, 1)
    assert not budget.reserve(fourth, 1)
    budget.release(5 * MB)
    budget.stop_waiting(second)
    clock.run()
    assert (third.woken, fourth.woken) == (1, 1)
    assert budget.reserve(third, 1), "now this one is favoured"
    assert not budget.reserve(fourth, 1)
    budget.release(10 * MB)
    clock.run()
    assert fourth.woken == 2
    assert budget.reserve(fourth, MB)


def test_a_connection_that_left_is_not_woken() -> None:
    clock = SimClock()
    budget = MemoryBudget(clock, MB)
    owners = [RecordingWaiter() for _ in range(3)]
    assert [budget.reserve(owner, MB) for owner in owners] == [True, True, False]
    budget.stop_waiting(owners[2])
    budget.release(2 * MB)
    clock.run()
    assert owners[2].woken == 0


def test_half_received_requests_never_deadlock() -> None:
    clock, pool = SimClock(), BufferPool()
    budget = MemoryBudget(clock, 4 * MB)
    size, done = 2 * MB, 0
    readers = [frame_reader(8 * MB, pool, budget, RecordingWaiter()) for _ in range(40)]
    left = dict.fromkeys(range(len(readers)), size + 4)
    data = part_of_a_produce(size, size)
    most = 0
    for _ in range(100_000):
        if not left:
            break
        for number in list(left):
            frames = readers[number]
            while left[number] and frames.prepare_receive():
                space = frames.receive_buffer()
                offset = len(data) - left[number]
                count = min(len(space), left[number], 100_000)
                space[:count] = data[offset : offset + count]
                space.release()
                frames.advance(count)
                left[number] -= count
                if (frame := frames.next()) is not None:
                    assert len(frame) == size
                    done += 1
                most = max(most, budget.used_bytes)
            if not left[number]:
                del left[number]
        clock.run()
    assert done == len(readers)
    assert budget.used_bytes == 0
    assert most <= 4 * MB + size + POOLED_BYTES


def test_unfinished_first_requests_use_no_more_than_the_budget() -> None:
    pool, budget = BufferPool(), MemoryBudget(SimClock(), 2 * MB)
    readers = [frame_reader(100 * MB, pool, budget, RecordingWaiter()) for _ in range(300)]
    for number, frames in enumerate(readers):
        data = part_of_a_produce((100 * MB, 100_000, 5_000)[number % 3], 4_900)
        while data and frames.prepare_receive():
            space = frames.receive_buffer()
            count = min(len(space), len(data))
            space[:count] = data[:count]
            space.release()
            data = data[count:]
            frames.advance(count)
            assert frames.next() is None
        frames.prepare_receive()
    assert budget.used_bytes <= 2 * MB + len(readers) * REMAINDER_BYTES
    held_bytes = sum(frames.held_bytes for frames in readers)
    assert held_bytes == budget.used_bytes
    for frames in readers:
        frames.close()
    assert budget.used_bytes == 0


def test_requests_behind_a_waiting_one_cost_their_length() -> None:
    node = MemoryNode()
    node.create("t")
    first = DoorClient(node)
    clients = [first, *(first.another() for _ in range(49))]
    for client in clients:
        client.send(1, 12, fetch_request(("t", 0, 0), max_wait=1000))
        client.send(18, 0, Message())
    assert clients[0].dispatcher.receiving.used_bytes == 0
    clients[0].clock.advance(2)
    for client in clients:
        assert len(client.replies()) == 2


def test_a_large_request_behind_a_waiting_one_arrives_whole() -> None:
    client = DoorClient()
    partition = client.node.partition(client.node.create("t"), 0)
    client.send(1, 12, fetch_request(("t", 0, 0), max_wait=1000))
    client.send(0, 9, produce_request("t", batch(b"x" * 600_000)))
    client.clock.advance(2)
    assert len(client.replies()) == 2
    assert partition.high_watermark == 1
    assert client.dispatcher.receiving.used_bytes == 0


def test_bytes_waiting_for_the_disk_are_bounded_and_small_requests_continue() -> None:
    node = MemoryNode(settings=Settings(queued_max_request_bytes=2 * MB, socket_request_max_bytes=MB))
    partition = node.partition(node.create("t"), 0)
    partition.auto = False
    first = DoorClient(node)
    clients = [first, *(first.another() for _ in range(7))]
    for client in clients:
        client.send(0, 9, produce_request("t", batch(b"x" * 500_000)))
    assert len(partition.batches) == 5, "as many as make it more than 2 MB"
    assert first.dispatcher.in_flight.is_full
    assert first.another().call(3, 9, Message(topics=[Message(name="t")])).topics
    for _ in range(3):
        partition.commit()
        node.clock.run()
    assert [len(client.replies()) for client in clients] == [1] * 8
    assert first.dispatcher.in_flight.used_bytes == 0


def test_a_connection_that_ends_releases_all_its_memory() -> None:
    node = MemoryNode()
    partition = node.partition(node.create("t"), 0)
    partition.auto = False
    client = DoorClient(node)
    for request in (produce_request("t", batch(b"x" * 9_000)), fetch_request(("t", 0, 0), max_wait=60_000)):
        client.send(0 if "acks" in vars(request) else 1, 9 if "acks" in vars(request) else 12, request)
    client.feed(part_of_a_produce(100_000, 50_000))
    door = client.dispatcher
    assert door.in_flight.used_bytes > 9_000
    assert door.parked.used_bytes > 0
    assert door.receiving.used_bytes >= 50_000
    client.connection.lost()
    assert (door.in_flight.used_bytes, door.parked.used_bytes, door.receiving.used_bytes) == (0, 0, 0)


# --- elements ----------------------------------------------------------------------------------------------


def test_elements_of_a_request_are_counted_over_all_its_arrays() -> None:
    topics = [Message(topic=f"t{n}", partitions=[Message(partition=m) for m in range(10)]) for n in range(10)]
    for version in (4, 12):
        body = memoryview(write_request(1, version, Message(topics=topics)))
        assert decode_request(1, version, body, max_elements=110).topics
        with pytest.raises(ProtocolError, match="more than 109 elements"):
            decode_request(1, version, body, max_elements=109)
        assert decode_request(1, version, body, max_elements=110).topics, "each request is counted anew"


def test_numbers_in_an_array_are_elements() -> None:
    body = memoryview(write_request(35, 1, Message(topics=[Message(topic="t", partitions=list(range(50)))])))
    with pytest.raises(ProtocolError, match="elements"):
        decode_request(35, 1, body, max_elements=50)
    assert decode_request(35, 1, body, max_elements=51)


def test_a_request_of_too_many_elements_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    client = DoorClient(MemoryNode(settings=Settings(request_max_elements=100)))
    client.send(3, 9, Message(topics=[Message(name="") for _ in range(200)]))
    assert client.transport.closed
    assert "more than 100 elements (request_max_elements)" in caplog.text


def test_a_request_above_the_setting_is_logged_as_that(caplog: pytest.LogCaptureFixture) -> None:
    client = DoorClient(MemoryNode(settings=Settings(socket_request_max_bytes=100_000)))
    client.feed((2 << 20).to_bytes(4, "big") + b"\0\x0b\0\x03")
    assert client.transport.closed
    assert "a request of 2097152 bytes is above socket.request.max.bytes (100000)" in caplog.text
    assert "protocol" not in caplog.text


def test_a_waiting_request_is_counted_as_what_it_holds() -> None:
    client = DoorClient(MemoryNode(groups=StillGroups()))
    protocols = [Message(name="range", metadata=b"x" * (20 << 20))]
    client.send(11, 3, Message(group_id="g", protocol_type="consumer", protocols=protocols))
    parked = client.dispatcher.parked
    assert 40 << 20 < parked.used_bytes < 60 << 20
    assert not parked.is_full, "others' fetches of many partitions begin"
    client.connection.lost()
    assert parked.used_bytes == 0


# --- connections -------------------------------------------------------------------------------------------


def test_connections_are_counted_by_address_and_in_all() -> None:
    guests = ConnectionLimits(SimClock(), 3, 2, 1000)
    assert [guests.admit("a"), guests.admit("a"), guests.admit("a")] == [True, True, False]
    assert not guests.is_full
    assert guests.admit("b")
    assert guests.is_full
    guests.release("a")
    assert guests.count == 2
    assert guests.admit("a")


def test_new_connections_in_a_second_are_limited() -> None:
    clock = SimClock()
    guests = ConnectionLimits(clock, 10_000, 10_000, 10)
    admitted = 0
    for _ in range(400):
        while not guests.delay_s():
            guests.admit("a")
            admitted += 1
        clock.advance(0.01)
    assert admitted == 10 + 39


@contextlib.contextmanager
def from_address(host: str, address: tuple[str, int]) -> Iterator[socket.socket]:
    """A connection whose own address is `host`."""
    with socket.create_connection(address, timeout=5, source_address=(host, 0)) as sock:
        yield sock


def refused(sock: socket.socket) -> bool:
    """Whether it is closed without a word."""
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


def answered(sock: socket.socket) -> bool:
    sock.sendall(request_frame(18, 0, 1, Message()))
    return len(sock.recv(4)) == 4


def test_one_address_cannot_use_all_connections(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(running: RunningDoor) -> None:
        with contextlib.ExitStack() as open_ones:
            for _ in range(2):
                client = open_ones.enter_context(from_address("127.0.0.7", running.address))
                assert await asyncio.to_thread(answered, client)
            late = open_ones.enter_context(from_address("127.0.0.7", running.address))
            assert await asyncio.to_thread(refused, late)
            other = open_ones.enter_context(from_address("127.0.0.8", running.address))
            assert await asyncio.to_thread(answered, other)
        while running.door.connections:
            await asyncio.sleep(0.01)
        with from_address("127.0.0.7", running.address) as again:
            assert await asyncio.to_thread(answered, again)

    run(scenario, Settings(max_connections_per_ip=2))
    assert "2 connections from 127.0.0.7 (max.connections.per.ip): one more refused" in caplog.text


def test_a_new_connection_must_send_a_request_soon() -> None:
    async def scenario(running: RunningDoor) -> None:
        running.clock.stop()
        silent, slow, good = [await running.connect() for _ in range(3)]
        await good.call(18, 0, Message())
        frame = request_frame(18, 0, 1, Message())
        for place in range(5):
            slow.send(frame[place : place + 1])
            while running.received_bytes() <= place:
                await asyncio.sleep(0.005)
            await running.pass_time(1.9)
        assert running.door.connections == 3, "not before the time is over"
        await running.pass_time(1)
        assert await silent.ended()
        assert await slow.ended()
        assert (await good.call(18, 0, Message())).error_code == 0
        for peer in (silent, slow, good):
            peer.close()

    run(scenario, Settings(first_request_timeout_ms=10_000))


def test_a_large_request_on_a_slow_line_may_take_its_time() -> None:
    async def scenario(running: RunningDoor) -> None:
        running.clock.stop()
        client = await running.connect()
        await client.call(18, 0, Message())
        frame = request_frame(0, 9, 2, produce_request("t", batch(b"x" * 900_000)))
        for offset in range(0, 900_000, 30_000):
            client.send(frame[offset : offset + 30_000])
            await running.received(offset + 30_000 - 4)
            await running.pass_time(doors.PARTIAL_SECONDS / 4)
        client.send(frame[900_000:])
        assert (await client.answer(0, 9)).responses[0].partition_responses[0].error_code == 0
        client.close()

    run(scenario)


def test_a_silent_connection_that_holds_memory_others_wait_for_is_closed() -> None:
    there = 150_000

    async def scenario(running: RunningDoor) -> None:
        running.clock.stop()
        begun = running.clock.monotonic()
        hostile: list[RawPeer] = []
        for _ in range(30):
            hostile.append(await running.connect())
            await hostile[-1].call(18, 0, Message())
            hostile[-1].send(part_of_a_produce(900_000, there))
        await running.received(there)
        receiving = running.door.dispatcher.receiving
        assert receiving.is_contended
        await running.pass_time(doors.PRESSED_SECONDS - 1)
        assert running.door.connections == 30, "not before the time is over"
        answer = None  # every client tries again
        while answer is None:
            good = await running.connect()
            produced = asyncio.ensure_future(good.call(0, 9, produce_request("t", batch(b"x" * 300_000))))
            while not produced.done():
                await running.received(there, produced)
                await running.pass_time(1)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                answer = produced.result()
            good.close()
        assert answer.responses[0].partition_responses[0].error_code == 0
        await running.received(there)
        while receiving.is_contended:
            await running.pass_time(1)
            await running.received(there)
        assert running.door.connections < 20, "those that hold what others wait for are gone"
        passed = running.clock.monotonic() - begun
        assert passed < doors.PARTIAL_SECONDS, "they go before a frame has to be finished"
        for peer in hostile:
            peer.close()
        assert running.partition.high_watermark == 1

    run(scenario, Settings(queued_max_request_bytes=2 * MB, socket_request_max_bytes=MB))


def test_unread_replies_of_all_clients_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_sockets, "UNSENT_ALL_BYTES", 3 * MB)

    async def scenario(running: RunningDoor) -> None:
        for n in range(20):
            running.partition.append(memoryview(batch(bytes([n]) * 500_000)))
        socks = []
        for n in range(12):
            sock = socket.create_connection(running.address)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            socks.append(sock)
            for m in range(20):
                sock.sendall(request_frame(1, 12, m, fetch_request(("t", 0, n))))
            await asyncio.sleep(0.02)
        while running.door.dispatcher.refusals.get("unsent", 0) == 0:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        unsent = sum(
            connection._transport.get_write_buffer_size()
            for connection in running.door.sockets
            if connection._transport
        )
        assert unsent <= 5 * MB
        for sock in socks:
            sock.close()

    run(scenario)


# --- lines in the log --------------------------------------------------------------------------------------


def test_each_other_protocol_has_its_own_line(caplog: pytest.LogCaptureFixture) -> None:
    first = DoorClient()
    for data in (b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01", b"POST / HTTP/1.1\r\n"):
        client = first.another()
        client.feed(data)
        assert client.transport.closed
    messages = [record.getMessage() for record in caplog.records]
    assert [line.partition(" by ")[0] for line in messages] == [
        "HTTP spoken on the Kafka port",
        "TLS spoken on the Kafka port, which is plaintext",
    ]


def test_suppressed_log_lines_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    client = DoorClient()
    warnings, clock = client.dispatcher.warnings, client.clock
    for number in range(4):
        client.dispatcher.warn_rate_limited("stuck", f"client {number}")
    warnings.log_suppressed()
    assert [record.getMessage() for record in caplog.records] == ["client 0"]
    clock.advance(11)
    warnings.log_suppressed()
    clock.advance(11)
    warnings.log_suppressed()
    client.dispatcher.warn_rate_limited("stuck", "client 4")
    assert [record.getMessage() for record in caplog.records] == [
        "client 0",
        "client 3 (2 more like it)",
        "client 4",
    ]
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    assert client.dispatcher.refusals == {"stuck": 5}
