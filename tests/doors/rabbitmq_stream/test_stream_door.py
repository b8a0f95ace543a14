"""What a client of the stream protocol sees, and what other doors see of it."""

from __future__ import annotations

import asyncio
import gzip
import struct
from pathlib import Path

import pytest

from mainstem.contract import NewEvent, Position
from mainstem.doors.rabbitmq_stream import commands
from mainstem.doors.rabbitmq_stream.commands import RESPONSE, Key
from mainstem.doors.rabbitmq_stream.response_code import ResponseCode
from mainstem.serve.server import Running
from tests.doors.rabbitmq_stream.raw_client import connected, publish_frame, run

ORDER = b'{"order":17,"item":"lamp"}'


def data(payload: bytes) -> bytes:
    """A message with nothing but a payload."""
    return b"\x00\x53\x75\xa0" + bytes((len(payload),)) + payload


def test_messages_are_confirmed_and_delivered_in_order(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        async with connected(running) as client:
            assert await client.create("orders") == ResponseCode.OK
            assert await client.declare(1, "orders") == ResponseCode.OK
            sent = [(number, data(b"%d" % number)) for number in range(3_000)]
            client.write(publish_frame(1, sent[:2_000]))
            client.write(publish_frame(1, sent[2_000:]))
            assert await client.confirms(3_000) == list(range(3_000))
            assert await client.subscribe(7, "orders", (4, 500)) == ResponseCode.OK
            assert await client.messages(2_500) == [message for _, message in sent[500:]]

    run(tmp_path / "data", scenario)


def test_a_consumer_gets_no_more_chunks_than_its_credit(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        async with connected(running) as client:
            await client.create("orders")
            await client.declare(1, "orders")
            await client.subscribe(7, "orders", (3, 0), credit=1)
            for number in range(3):
                client.write(publish_frame(1, [(number, data(b"%d" % number))]))
                await client.confirms(1)
            assert (await client.chunk()).messages == [data(b"0")]
            assert await client.code(commands.StreamStats(correlation_id=0, stream="orders")) == 1
            assert [frame for frame in client.waiting if frame[1] == Key.DELIVER] == []
            client.send(commands.Credit(subscription_id=7, credit=1))
            assert (await client.chunk()).messages == [data(b"1"), data(b"2")]
            client.send(commands.Credit(subscription_id=9, credit=1))
            refused = await client.next(commands.CreditError)
            assert (refused.code, refused.subscription_id) == (4, 9)

    run(tmp_path / "data", scenario)


def test_events_pass_between_the_doors(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        async with connected(running) as client:
            await client.create("orders")
            await client.declare(1, "orders")
            sections = bytes.fromhex("005373 c0 0a 01 a1 07") + b"order-1"  # a message id
            client.write(publish_frame(1, [(0, sections + data(ORDER))]))
            await client.confirms(1)
            await running.engine.publish("orders", [NewEvent(b"by Kafka", b"17", (("source", b"shop"),))])
            reader = await running.engine.reader([Position("orders", 0, 0)])
            first, second = (await reader.read()).events
            await reader.close()
            assert (first.value, first.headers) == (ORDER, (("mainstem-amqp", sections),))
            await client.subscribe(7, "orders")
            own, foreign = await client.messages(2)
            assert own == sections + data(ORDER)
            assert foreign == bytes.fromhex("005374 d1 0000001b 00000004") + (
                b"\xa1\x03key\xa1\x0217\xa1\x06source\xa1\x04shop" + data(b"by Kafka")
            )
            assert second.value == b"by Kafka"

    run(tmp_path / "data", scenario)


def test_what_a_named_publisher_sends_again_is_confirmed_and_not_stored(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        async with connected(running) as client:
            await client.create("orders")
            assert await client.declare(1, "orders", "shop") == ResponseCode.OK
            assert await client.declare(2, "orders", "shop") == ResponseCode.PRECONDITION_FAILED
            client.write(publish_frame(1, [(5, data(b"five")), (9, data(b"nine"))]))
            client.write(publish_frame(1, [(9, data(b"nine")), (12, data(b"twelve"))]))
            assert sorted(await client.confirms(4)) == [5, 9, 9, 12]
        async with connected(running) as client:
            query = commands.QueryPublisherSequence(correlation_id=0, reference="shop", stream="orders")
            assert (await client.ask(commands.SequenceReply, query)).sequence == 12
            await client.declare(1, "orders", "shop")
            client.write(publish_frame(1, [(12, data(b"twelve")), (13, data(b"thirteen"))]))
            assert sorted(await client.confirms(2)) == [12, 13]
            await client.subscribe(7, "orders")
            texts = [message[5:] for message in await client.messages(4)]
            assert texts == [b"five", b"nine", b"twelve", b"thirteen"]

    run(tmp_path / "data", scenario)


def sub_batch(publishing_id: int, messages: list[bytes], codec: int = 0) -> bytes:
    """An entry of a Publish with several messages."""
    inner = b"".join(struct.pack(">I", len(message)) + message for message in messages)
    packed = gzip.compress(inner) if codec == 1 else inner
    head = struct.pack(">QBHII", publishing_id, 0x80 | codec << 4, len(messages), len(inner), len(packed))
    return head + packed


def publish_of(publisher_id: int, *entries: bytes) -> bytes:
    """A Publish of these entries."""
    body = struct.pack(">HHBI", Key.PUBLISH, 1, publisher_id, len(entries)) + b"".join(entries)
    return struct.pack(">I", len(body)) + body


def test_sub_entry_batches_are_unpacked(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        async with connected(running) as client:
            await client.create("orders")
            await client.declare(1, "orders")
            good = sub_batch(0, [data(b"a"), data(b"b")], codec=1)
            bad = sub_batch(1, [data(b"c")])[:-1] + b"\xff" * 9
            bad = bad[:11] + struct.pack(">II", len(bad) - 19, len(bad) - 19) + bad[19:]
            plain = struct.pack(">QI", 2, 1) + b"x"
            client.write(publish_of(1, good, bad, plain))
            assert await client.confirms(1) == [0]
            assert await client.errors() == [(1, 17), (2, 17)]
            await client.subscribe(7, "orders")
            assert await client.messages(2) == [data(b"a"), data(b"b")]

    run(tmp_path / "data", scenario)


def test_the_messages_of_a_numbered_sub_entry_batch_are_stored_once(tmp_path: Path) -> None:
    sections = bytes.fromhex("005373 c0 0a 01 a1 07") + b"order-1"

    async def scenario(running: Running) -> None:
        async with connected(running) as client:
            await client.create("orders")
            await client.declare(1, "orders", "shop")
            many = [sections + data(b"%d" % number) for number in range(2_500)]
            client.write(publish_of(1, sub_batch(3, many[:2]), sub_batch(4, many[2:])))
            assert sorted(await client.confirms(2)) == [3, 4]
        async with connected(running) as client:
            await client.declare(1, "orders", "shop")
            client.write(
                publish_of(1, sub_batch(3, many[:2]), sub_batch(4, many[2:]), sub_batch(5, many[:1]))
            )
            assert sorted(await client.confirms(3)) == [3, 4, 5]
            await client.subscribe(7, "orders")
            assert await client.messages(2_501) == [*many, many[0]]

    run(tmp_path / "data", scenario)


def test_stored_offsets_are_positions_of_a_group(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        async with connected(running) as client:
            await client.create("orders")
            await running.engine.publish("orders", [NewEvent(b"%d" % number) for number in range(10)])
            query = commands.QueryOffset(correlation_id=0, reference="billing", stream="orders")
            assert await client.code(query) == ResponseCode.NO_OFFSET
            for offset in (3, 6):
                client.send(commands.StoreOffset(reference="billing", stream="orders", offset=offset))
            assert (await client.ask(commands.OffsetReply, query)).offset == 6
            async with asyncio.timeout(20):
                while (await client.ask(commands.OffsetReply, query)).offset != 6 or not (
                    await running.engine.groups()
                ):
                    await asyncio.sleep(0.01)
            (position,) = (await running.engine.group("billing")).positions
            assert (position.topic, position.offset, position.lag) == ("orders", 7, 3)
        async with connected(running) as client:
            assert (await client.ask(commands.OffsetReply, query)).offset == 6

    run(tmp_path / "data", scenario)


def test_super_streams_are_topics_with_partitions(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        async with connected(running) as client:
            create = commands.CreateSuperStream(
                correlation_id=0,
                name="invoices",
                partitions=["invoices-0", "invoices-1"],
                binding_keys=["0", "1"],
                arguments={"max-age": "7D"},
            )
            assert await client.code(create) == ResponseCode.OK
            assert await client.code(create) == ResponseCode.STREAM_ALREADY_EXISTS
            topic = await running.engine.topic("invoices")
            assert len(topic.partitions) == 2
            assert ("retention.ms", "604800000") in [
                (setting.name, setting.value) for setting in topic.settings
            ]
            partitions = commands.PartitionsRequest(correlation_id=0, super_stream="invoices")
            answer = await client.ask(commands.PartitionsReply, partitions)
            assert answer.streams == ["invoices-0", "invoices-1"]
            route = commands.RouteRequest(correlation_id=0, routing_key="1", super_stream="invoices")
            assert (await client.ask(commands.RouteReply, route)).streams == ["invoices-1"]
            metadata = await client.ask(
                commands.MetadataReply,
                commands.QueryMetadata(correlation_id=0, streams=["invoices-1", "invoices-2", "invoices"]),
            )
            (address,) = running.addresses["rabbitmq_stream"]
            assert metadata.brokers == [(0, address.host, address.port)]
            assert [code for _, code, _, _ in metadata.streams] == [1, 2, 2]
            await client.declare(1, "invoices-1")
            client.write(publish_frame(1, [(0, data(ORDER))]))
            await client.confirms(1)
            assert (await running.engine.bounds("invoices", 1)).end == 1
            delete = commands.DeleteSuperStream(correlation_id=0, name="invoices")
            assert await client.code(delete) == ResponseCode.OK
            update = await client.next(commands.MetadataUpdate)
            assert (update.code, update.stream) == (6, "invoices-1")
            client.write(publish_frame(1, [(1, data(ORDER))]))
            assert await client.errors() == [(1, ResponseCode.PUBLISHER_DOES_NOT_EXIST)]

    run(tmp_path / "data", scenario)


def test_of_single_active_consumers_one_is_sent_events(tmp_path: Path) -> None:
    single = {"single-active-consumer": "true", "name": "billing"}

    async def scenario(running: Running) -> None:
        async with connected(running) as first, connected(running) as second:
            await first.create("orders")
            await running.engine.publish("orders", [NewEvent(b"0"), NewEvent(b"1")])
            assert await first.subscribe(1, "orders", (1, 0), properties=single) == ResponseCode.OK
            asked = await first.next(commands.ConsumerUpdate)
            assert (asked.subscription_id, asked.active) == (1, 1)
            first.send(
                commands.ConsumerUpdateReply(correlation_id=asked.correlation_id, code=1, offset_spec=(4, 1))
            )
            assert (await first.chunk()).messages == [data(b"1")]
            assert await second.subscribe(2, "orders", (1, 0), properties=single) == ResponseCode.OK
            second.send(commands.Credit(subscription_id=2, credit=1))
            assert (await second.next(commands.CreditError)).code == ResponseCode.PRECONDITION_FAILED
            await first.close()
            asked = await second.next(commands.ConsumerUpdate)
            assert asked.active == 1
            second.send(
                commands.ConsumerUpdateReply(correlation_id=asked.correlation_id, code=1, offset_spec=(0, 0))
            )
            assert (await second.chunk()).messages == [data(b"0"), data(b"1")]

    run(tmp_path / "data", scenario)


def test_chunks_without_an_event_of_the_filter_are_left_out(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        async with connected(running) as client:
            versions = commands.ExchangeCommandVersions(correlation_id=0, commands=[(Key.DELIVER, 1, 2)])
            answer = await client.ask(commands.CommandVersionsReply, versions)
            assert [key for key, _, _ in answer.commands] == list(range(1, 32))
            await client.create("orders")
            await client.declare(1, "orders")
            await client.subscribe(7, "orders", properties={"filter.0": "emea"})
            for number, value in enumerate(("apac", None, "emea")):
                client.write(publish_frame(1, [(number, data(b"%d" % number))], [value]))
                await client.confirms(1)
            chunk = await client.chunk()
            assert data(b"2") in chunk.messages
            assert chunk.committed is not None

    run(tmp_path / "data", scenario)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"max_age": "5x"}, ResponseCode.PRECONDITION_FAILED),
        ({"max_length_bytes": "-1"}, ResponseCode.PRECONDITION_FAILED),
        ({"max_length_bytes": "1000000"}, ResponseCode.PRECONDITION_FAILED),
        ({}, ResponseCode.STREAM_ALREADY_EXISTS),
    ],
)
def test_a_stream_is_not_created_twice(tmp_path: Path, given: dict[str, str], code: ResponseCode) -> None:
    async def scenario(running: Running) -> None:
        async with connected(running) as client:
            assert await client.create("orders") == ResponseCode.OK
            assert await client.create("orders", **given) == code

    run(tmp_path / "data", scenario)


def test_what_does_not_exist_is_refused_by_its_code(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        async with connected(running) as client:
            missing = ResponseCode.STREAM_DOES_NOT_EXIST
            assert await client.declare(1, "orders") == missing
            assert await client.subscribe(1, "orders") == missing
            assert await client.code(commands.DeleteStream(correlation_id=0, stream="orders")) == missing
            assert await client.code(commands.StreamStats(correlation_id=0, stream="a b")) == missing
            assert await client.create("a b") == ResponseCode.PRECONDITION_FAILED
            stats = commands.StreamStats(correlation_id=0, stream="orders")
            assert (await client.ask(commands.StreamStatsReply, stats)).stats == []
            query = commands.QueryOffset(correlation_id=0, reference="billing", stream="orders")
            assert (await client.ask(commands.OffsetReply, query)).code == missing
            unsubscribe = commands.Unsubscribe(correlation_id=0, subscription_id=3)
            assert await client.code(unsubscribe) == ResponseCode.SUBSCRIPTION_ID_DOES_NOT_EXIST
            await client.create("orders")
            assert await client.subscribe(1, "orders") == ResponseCode.OK
            assert await client.subscribe(1, "orders") == ResponseCode.SUBSCRIPTION_ID_ALREADY_EXISTS

    run(tmp_path / "data", scenario)


def test_an_unknown_command_closes_the_connection_with_its_code(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        async with connected(running) as client:
            client.write(bytes.fromhex("00000008 0063 0001 00000001"))
            closing = await client.next(commands.CloseRequest)
            assert closing.code == ResponseCode.UNKNOWN_FRAME
            client.send(
                commands.StreamReply(correlation_id=closing.correlation_id, code=1), commands.Key.CLOSE
            )
            with pytest.raises(EOFError):
                await client.frame()

    run(tmp_path / "data", scenario)


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff\xff\xff\xff\x00\x11\x00\x01",
        b"\x00\x00\x00\x03\x00\x11\x00",
        bytes.fromhex("0000000d 0001 0001 00000001 01 0000 0000"),
        bytes.fromhex("0000000c 0011 0001 00000001 7fffffff"),
    ],
)
def test_before_it_is_open_a_connection_is_closed_at_what_is_wrong(tmp_path: Path, frame: bytes) -> None:
    async def scenario(running: Running) -> None:
        async with connected(running, is_open=False) as client:
            client.write(frame)
            with pytest.raises(EOFError):
                await client.frame()

    run(tmp_path / "data", scenario)


def test_another_virtual_host_is_refused(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        async with connected(running, is_open=False) as client:
            assert await client.log_in("/shop") == ResponseCode.VHOST_ACCESS_FAILURE
            with pytest.raises(EOFError):
                await client.frame()

    run(tmp_path / "data", scenario)


def test_a_client_may_answer_tune_as_a_request(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        async with connected(running, is_open=False) as client:
            assert await client.log_in(tune_key=Key.TUNE | RESPONSE) == ResponseCode.OK

    run(tmp_path / "data", scenario)


def test_close_is_answered(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        async with connected(running) as client:
            request = commands.CloseRequest(correlation_id=0, code=1, reason="done")
            assert await client.code(request) == ResponseCode.OK
            with pytest.raises(EOFError):
                await client.frame()

    run(tmp_path / "data", scenario)
