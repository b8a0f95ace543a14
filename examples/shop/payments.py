"""The service payments: charges cards, each order once.

Run by `mainstem run examples.shop.payments`.
"""

from __future__ import annotations

from examples.shop import bank
from examples.shop.events import Order, Payment, orders, payments, same_id
from examples.shop.events import stream as stream  # what `mainstem run` runs
from mainstem import Event, Retry


@orders.subscriber(
    group="payments",
    concurrency=16,
    timeout=10,
    # While the bank is down, `charge` raises BankIsDown, and the next attempts come after 1, 2, 4 and 8 s. If
    # it is down longer, the order is a dead letter in orders.payments.dead, until an operator redrives it.
    retry=Retry(max_attempts=5, initial_delay=1, max_delay=8),
)
async def pay(event: Event[Order]) -> None:
    """A card that is declined is no failure: it is an outcome, which others want to know."""
    order = event.value
    charge = await bank.charge(event.id, order.card, order.total)  # the id is the bank's idempotency key
    payment = Payment(
        order=order.id,
        customer=order.customer,
        total=order.total,
        state="paid" if charge.is_approved else "declined",
        address=order.address,
    )
    # Killed before this line, the service charges again when it is back, and gets the bank's first answer.
    await payments.publish(payment, headers=same_id(f"{event.id}/payment"))
