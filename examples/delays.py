"""Average delay of each airline: a service on aiokafka, in its own group, so that it sees every event too.

python examples/delays.py [HOST:PORT] [TOPIC]
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict

from aiokafka import AIOKafkaConsumer


async def main(server: str = "127.0.0.1:9092", topic: str = "flights") -> None:
    """Print the table after each batch of events that arrived."""
    flights: dict[str, int] = defaultdict(int)
    minutes: dict[str, int] = defaultdict(int)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=server,
        group_id="delays",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        while True:
            batches = await consumer.getmany(timeout_ms=1000)
            for flight in (json.loads(event.value) for events in batches.values() for event in events):
                if flight["dep_delay"] is not None:
                    flights[flight["carrier"]] += 1
                    minutes[flight["carrier"]] += flight["dep_delay"]
            if batches:
                averages = (f"{name} {minutes[name] / flights[name]:+.1f} min" for name in sorted(flights))
                print("  ".join(averages), flush=True)
                await consumer.commit()  # only what was counted is remembered as read
    finally:
        await consumer.stop()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        pass
