"""FastStream against a mainstem server, with retries and dead letters: reads `orders`, publishes `payments`.

pip install "mainstem" "faststream[kafka]"; python examples/recipes/faststream_service.py [HOST:PORT]

An order with a negative total fails three times and goes to `orders.billing.dead`.
"""

from __future__ import annotations

import asyncio
import sys

from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker, KafkaMessage
from pydantic import BaseModel

from mainstem.faststream import DeadLetters

broker = KafkaBroker(
    sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092",
    middlewares=[DeadLetters.after(3, initial_delay_s=0.1)],
)
app = FastStream(broker)


class PlacedOrder(BaseModel):
    """What `orders` has."""

    id: int
    customer: str
    total: float


@broker.subscriber(
    "orders",
    "orders.billing.retry",  # where dead letters come from again: mainstem replay orders.billing.dead --to …
    group_id="billing",
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.NACK_ON_ERROR,  # the default commits before the handler has run
)
async def bill(order: PlacedOrder, message: KafkaMessage) -> None:
    """Charge an order."""
    if order.total < 0:
        raise ValueError(f"order {order.id} has a total of {order.total}")
    payment = {"order": order.id, "state": "paid"}
    await broker.publish(payment, "payments", key=order.customer.encode())


if __name__ == "__main__":
    asyncio.run(app.run())
