"""rstream, RabbitMQ's stream client for Python: prints a line for each case. Argument: the port."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import rstream
from rstream import AMQPMessage, ConsumerOffsetSpecification, OffsetType

HOST = "127.0.0.1"
LOGIN: dict[str, Any] = {"username": "guest", "password": "guest"}
FIRST = ConsumerOffsetSpecification(OffsetType.FIRST, None)


async def consume(port: int, stream: str, count: int) -> list[tuple[int, Any]]:
    """The first messages of a stream with their offsets."""
    received: list[tuple[int, Any]] = []
    all_are_there = asyncio.Event()

    async def on_message(message: Any, context: Any) -> None:
        received.append((context.offset, message))
        if len(received) == count:
            all_are_there.set()

    consumer = rstream.Consumer(HOST, port=port, **LOGIN)
    await consumer.start()
    await consumer.subscribe(
        stream=stream, callback=on_message, decoder=rstream.amqp_decoder, offset_specification=FIRST
    )
    async with asyncio.timeout(60):
        await all_are_there.wait()
    await consumer.close()
    return received


async def roundtrip(port: int) -> None:
    confirmed = []

    async def on_confirm(confirmation: Any) -> None:
        confirmed.append(confirmation.is_confirmed)

    async with rstream.Producer(HOST, port=port, **LOGIN) as producer:
        await producer.create_stream("flights", arguments={"max-length-bytes": 10_000_000})
        await producer.create_stream("flights", arguments={"max-length-bytes": 10_000_000}, exists_ok=True)
        batch = [
            AMQPMessage(body=b"flight %d" % number, application_properties={"number": number})
            for number in range(2_000)
        ]
        await producer.send_batch(stream="flights", batch=batch, on_publish_confirm=on_confirm)
        await producer.send_wait(stream="flights", message=AMQPMessage(body=b"named"), publisher_name="shop")
        await producer.send_sub_entry(
            stream="flights",
            sub_entry_messages=[AMQPMessage(body=b"%d" % number) for number in range(10)],
            compression_type=rstream.CompressionType.Gzip,
        )
        received = await consume(port, "flights", 2_011)
        assert [offset for offset, _ in received] == list(range(2_011))
        assert bytes(received[1_999][1].body) == b"flight 1999"
        assert received[1_999][1].application_properties == {b"number": 1_999}
        assert all(confirmed)


async def offsets(port: int) -> None:
    async with rstream.Producer(HOST, port=port, **LOGIN) as producer:
        await producer.create_stream("offsets")
        await producer.send_wait(stream="offsets", message=AMQPMessage(body=b"1"))
        consumer = rstream.Consumer(HOST, port=port, **LOGIN)
        await consumer.start()
        await consumer.store_offset("offsets", subscriber_name="billing", offset=0)
        assert await consumer.query_offset("offsets", subscriber_name="billing") == 0
        try:
            await consumer.query_offset("offsets", subscriber_name="shipping")
        except rstream.OffsetNotFound:
            await consumer.close()
        else:
            raise AssertionError("an offset that was not stored")
        await producer.delete_stream("offsets")
        assert not await producer.stream_exists("offsets")


async def super_stream(port: int) -> None:
    async def routing_key(message: AMQPMessage) -> str:
        return str(message.application_properties["id"])

    producer = rstream.SuperStreamProducer(
        HOST,
        port=port,
        **LOGIN,
        routing_extractor=routing_key,
        routing=rstream.RouteType.Hash,
        super_stream="routes",
        super_stream_creation_option=rstream.SuperStreamCreationOption(n_partitions=3),
    )
    async with producer:
        for number in range(100):
            await producer.send(
                AMQPMessage(body=b"%d" % number, application_properties={"id": f"key{number}"})
            )
    received = []
    all_are_there = asyncio.Event()

    async def on_message(_: Any, context: Any) -> None:
        received.append(context.stream)
        if len(received) == 100:
            all_are_there.set()

    consumer = rstream.SuperStreamConsumer(host=HOST, port=port, **LOGIN, super_stream="routes")
    await consumer.start()
    await consumer.subscribe(callback=on_message, decoder=rstream.amqp_decoder, offset_specification=FIRST)
    async with asyncio.timeout(60):
        await all_are_there.wait()
    assert set(received) == {"routes-0", "routes-1", "routes-2"}
    await consumer.close()


CASES: tuple[Callable[[int], Awaitable[None]], ...] = (roundtrip, offsets, super_stream)


async def main(port: int) -> None:
    for case in CASES:
        try:
            await case(port)
        except Exception as error:
            print(f"FAIL {case.__name__}: {error!r}", flush=True)
        else:
            print(f"PASS {case.__name__}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
