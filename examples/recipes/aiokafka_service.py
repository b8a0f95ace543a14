"""aiokafka against a mainstem server, at least once: reads `orders`, publishes `payments`.

pip install aiokafka; python examples/recipes/aiokafka_service.py [HOST:PORT]
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


async def main(server: str = "127.0.0.1:9092") -> None:
    """Charge orders until SIGTERM or Ctrl-C."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    consumer = AIOKafkaConsumer(
        "orders",
        bootstrap_servers=server,
        group_id="billing",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = AIOKafkaProducer(bootstrap_servers=server, acks="all", enable_idempotence=True)
    async with consumer, producer:
        while not stopped.is_set():
            batches = await consumer.getmany(timeout_ms=500)
            for event in (event for events in batches.values() for event in events):
                order = json.loads(event.value)
                payment = json.dumps({"order": order["id"], "state": "paid"}).encode()
                await producer.send_and_wait("payments", payment, key=order["customer"].encode())
            if batches:
                await consumer.commit()  # after the payments are durable: a crash repeats, and loses nothing


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
