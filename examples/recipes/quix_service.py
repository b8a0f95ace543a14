"""Quix Streams against a mainstem server: reads `orders`, publishes `payments` with sums by customer.

pip install quixstreams; python examples/recipes/quix_service.py [HOST:PORT]

The sums are state of Quix, a RocksDB in ./state. Its changelog would be a compacted topic, which a mainstem
server does not have yet, so the state is on this disk only.
"""

from __future__ import annotations

import sys
from typing import Any

from quixstreams import Application, State


def pay(order: dict[str, Any], state: State) -> dict[str, Any]:
    """The payment of an order."""
    spent = state.get("spent", 0.0) + order["total"]
    state.set("spent", spent)
    return {"order": order["id"], "state": "paid", "spent": spent}


def main(server: str = "127.0.0.1:9092") -> None:
    """Charge orders until SIGTERM or Ctrl-C."""
    app = Application(
        broker_address=server,
        consumer_group="billing",
        auto_offset_reset="earliest",
        use_changelog_topics=False,
    )
    orders = app.topic("orders", value_deserializer="json")
    payments = app.topic("payments", value_serializer="json")
    app.dataframe(orders).apply(pay, stateful=True).to_topic(payments)
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
