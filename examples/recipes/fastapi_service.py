"""FastAPI with a mainstem stream: POST /orders publishes, a subscriber charges, GET /payments shows them.

pip install mainstem fastapi uvicorn; python examples/recipes/fastapi_service.py [HOST:PORT] [PORT]

`lifespan=stream.lifespan` connects when the application starts, runs the subscribers with it, and stops them
before it ends.
"""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

import mainstem


class NewOrder(BaseModel):
    """What a customer sends."""

    id: int
    customer: str
    total: float


class Charge(BaseModel):
    """What `payments` gets."""

    order: int
    state: str


stream = mainstem.connect(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092")
orders = stream.topic("orders", NewOrder, key=lambda order: order.customer)
payments = stream.topic("payments", Charge)
app = FastAPI(lifespan=stream.lifespan)


@app.post("/orders", status_code=202)
async def place(order: NewOrder) -> dict[str, int]:
    """Publish an order; the answer comes when it is durable."""
    position = await orders.publish(order)
    return {"offset": position.offset}


@app.get("/payments")
async def newest_payments() -> list[Charge]:
    """The newest payments."""
    return [event.value for event in await payments.last(20)]


@orders.subscriber(group="billing", concurrency=8)
async def bill(order: NewOrder) -> None:
    """Charge an order."""
    await payments.publish(Charge(order=order.id, state="paid"))


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]) if len(sys.argv) > 2 else 8000, log_level="warning")
