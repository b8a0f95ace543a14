"""Faust-streaming against a mainstem server: reads `orders`, publishes `payments`.

pip install faust-streaming; python examples/recipes/faust_service.py [HOST:PORT]
"""

from __future__ import annotations

import sys

import faust


class OrderRecord(faust.Record):
    """What `orders` has."""

    id: int
    customer: str
    total: float


class PaymentRecord(faust.Record, include_metadata=False):
    """What `payments` gets."""

    order: int
    state: str


server = sys.argv.pop(1) if len(sys.argv) > 1 else "127.0.0.1:9092"
app = faust.App(
    "billing",
    broker=f"kafka://{server}",
    topic_partitions=4,  # of the topics that Faust makes itself
    web_enabled=False,
)
orders = app.topic("orders", value_type=OrderRecord)
payments = app.topic("payments", value_type=PaymentRecord, key_type=str)


@app.agent(orders)
async def bill(stream: faust.StreamT[OrderRecord]) -> None:
    """Charge orders."""
    async for order in stream:
        await payments.send(key=order.customer, value=PaymentRecord(order=order.id, state="paid"))


if __name__ == "__main__":
    sys.argv[1:] = ["worker", "--loglevel", "warn"]
    app.main()
