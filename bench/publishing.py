"""How fast programs publish, by client library: `python -m bench.publishing [--events N]`.

All publish the same small dicts as JSON, with a key, to the same server (`mainstem serve --durability os`),
and wait until each event is acknowledged by all replicas (acks=all). mainstem, aiokafka, confluent-kafka and,
if it is installed, FastStream over both. Beside many events at once, single events, each awaited before the
next.

Rates are events per second of CPU time of this process, which does the work of the client and not that of
the server: medians of RUNS, the libraries in turn. A ratio is that of mainstem's rate to the library's in the
same run.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from tests.support.server import Server

import mainstem

RUNS = 5
PARTITIONS = 4
SINGLE_SHARE = 20
"""Of this number of events, one is published alone."""
LINGER_MS = 5
"""Of aiokafka and confluent-kafka, as mainstem has it, for many events. FastStream has its defaults."""
TOPIC = "measured"
Order: TypeAlias = dict[str, Any]
Publish: TypeAlias = Callable[[Sequence[Order]], Awaitable[None]]
Contestants: TypeAlias = dict[str, tuple[Publish, Publish | None]]
"""By name: what publishes many at once, and what publishes each alone; None: the library awaits no event."""


def encoded(orders: Sequence[Order]) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of each, as a program encodes them that has only bytes to give."""
    for order in orders:
        yield order["customer"].encode(), msgspec.json.encode(order)


async def by_mainstem(stream: mainstem.Stream) -> tuple[Publish, Publish]:
    topic = stream.topic(TOPIC, key=lambda order: order["customer"])

    async def many(orders: Sequence[Order]) -> None:
        await topic.publish_many(orders)

    async def single(orders: Sequence[Order]) -> None:
        for order in orders:
            await topic.publish(order)

    return many, single


async def by_aiokafka(address: str, stops: list[Callable[[], Awaitable[None]]]) -> tuple[Publish, Publish]:
    aiokafka: Any = import_module("aiokafka")

    async def many(orders: Sequence[Order]) -> None:
        sent = [await lingering.send(TOPIC, value, key) for key, value in encoded(orders)]
        await asyncio.gather(*sent)

    async def single(orders: Sequence[Order]) -> None:
        for key, value in encoded(orders):
            await at_once.send_and_wait(TOPIC, value, key)

    lingering, at_once = (
        aiokafka.AIOKafkaProducer(bootstrap_servers=address, acks="all", linger_ms=linger_ms)
        for linger_ms in (LINGER_MS, 0)
    )
    for producer in (lingering, at_once):
        await producer.start()
        stops.append(producer.stop)
    return many, single


async def by_confluent(address: str) -> tuple[Publish, None]:
    confluent: Any = import_module("confluent_kafka")
    producer = confluent.Producer(
        {"bootstrap.servers": address, "acks": "all", "linger.ms": LINGER_MS, "log_level": 0}
    )

    async def many(orders: Sequence[Order]) -> None:
        failed: list[Any] = []

        def on_delivery(error: Any, _: Any) -> None:
            if error is not None:
                failed.append(error)

        for key, value in encoded(orders):
            while True:
                with suppress(BufferError):
                    producer.produce(TOPIC, value, key, on_delivery=on_delivery)
                    break
                producer.poll(0.1)
        assert not producer.flush(60), "all events are acknowledged"
        assert not failed, failed

    return many, None


async def by_faststream(
    name: str, address: str, stops: list[Callable[[], Awaitable[None]]]
) -> tuple[Publish, Publish]:
    broker: Any = import_module(f"faststream.{name}").KafkaBroker(address, logger=None, acks="all")
    await broker.start()
    stops.append(broker.stop)

    async def many(orders: Sequence[Order]) -> None:
        for first in range(0, len(orders), 1_000):
            part = orders[first : first + 1_000]
            await asyncio.gather(
                *(broker.publish(order, topic=TOPIC, key=order["customer"].encode()) for order in part)
            )

    async def single(orders: Sequence[Order]) -> None:
        for order in orders:
            await broker.publish(order, topic=TOPIC, key=order["customer"].encode())

    return many, single


async def measure(contestants: Contestants, events: int) -> dict[str, tuple[float, float | None]]:
    """Events per second of CPU time, of each: many at once, and single ones."""
    orders = [{"id": n, "customer": f"c{n % 1000}", "total": n * 0.5} for n in range(events)]
    few = orders[: max(1, events // SINGLE_SHARE)]
    many: dict[str, list[float]] = {name: [] for name in contestants}
    single: dict[str, list[float]] = {name: [] for name in contestants}
    for run in range(RUNS + 1):
        for name, (publish_many, publish_single) in contestants.items():
            for rates, publish, values in (
                (many, publish_many, orders),
                (single, publish_single, few),
            ):
                if publish is not None:
                    begin = time.process_time()
                    await publish(values)
                    if run:  # the first one is to warm up
                        rates[name].append(len(values) / (time.process_time() - begin))
    return {
        name: (statistics.median(many[name]), statistics.median(single[name]) if single[name] else None)
        for name in contestants
    }


async def run(address: str, events: int) -> dict[str, tuple[float, float | None]]:
    """The rates of all libraries that are there."""
    stops: list[Callable[[], Awaitable[None]]] = []
    async with mainstem.connect(address) as stream:
        await stream.backend.engine.create_topic(TOPIC, partitions=PARTITIONS)
        contestants: Contestants = {
            "mainstem": await by_mainstem(stream),
            "aiokafka": await by_aiokafka(address, stops),
            "confluent-kafka": await by_confluent(address),
        }
        if find_spec("faststream") is not None:
            for name, library in (("kafka", "aiokafka"), ("confluent", "confluent-kafka")):
                contestants[f"FastStream, {library}"] = await by_faststream(name, address, stops)
        try:
            return await measure(contestants, events)
        finally:
            for stop in stops:
                await stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    events = parser.parse_args().events
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(Path(folder) / "data", http="127.0.0.1:0", durability="os") as server,
    ):
        rates = asyncio.run(run(server.address, events))
    ours = rates["mainstem"]
    print("| | many at once, /s | mainstem's ratio | each awaited, /s | mainstem's ratio |")
    print("|---|---:|---:|---:|---:|")
    for name, figures in rates.items():
        cells = [
            text
            for own, figure in zip(ours, figures, strict=True)
            for text in ((f"{figure:,.0f}", f"{own / figure:.1f}") if own and figure else ("", ""))
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
