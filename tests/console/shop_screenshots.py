"""Takes the screenshots of the shop (examples/shop) in the console, from a `make demo` that runs.

Owns: which pages, and when: while the bank is down. Refuses: data of its own.

    python -m tests.console.shop_screenshots ADDRESS OUT [NAME…]      ADDRESS: http://127.0.0.1:18080
"""

from __future__ import annotations

import sys
from typing import Any

from tests.console.screenshots import SCREENSHOTS, shoot, waiting

SIZE = {"width": 1300, "height": 830}
RETRIES_S = 120


def of_a_retried_order(page: Any) -> None:
    """The trace of an order that the bank charged at a later attempt."""
    address = page.url.partition("#")[0]
    reply = page.request.get(f"{address}api/v1/topics/orders.payments.dead/partitions/0/events?limit=1")
    order = reply.json()["events"][0]["value"]["id"]
    page.goto(f"{address}#/trace?value={order}&since=1h")
    page.wait_for_timeout(3_000)


def while_the_bank_is_down(page: Any) -> None:
    """When events of payments wait for another attempt."""
    page.wait_for_timeout(6_000)


SCREENSHOTS |= {
    "shop-orders": ("#/topics/orders?tab=tail", "light", SIZE, waiting(8_000)),
    "shop-payments": ("#/subscriptions/orders.payments", "light", SIZE, while_the_bank_is_down),
    "shop-dead-letters": ("#/subscriptions/orders.payments?tab=dead", "dark", SIZE, waiting(3_000)),
    "shop-shipping": ("#/subscriptions/payments.shipping?tab=dead", "light", SIZE, waiting(3_000)),
    "shop-trace": ("#/trace", "light", SIZE | {"height": 420}, of_a_retried_order),
    "shop-overview": ("#/overview", "light", SIZE, waiting(3_000)),
}

if __name__ == "__main__":
    shoot(*sys.argv[1:])
