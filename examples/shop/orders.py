"""The service orders: makes an order of a cart, and answers the customer.

Run by `mainstem run examples.shop.orders`.
"""

from __future__ import annotations

from examples.shop.events import Accepted, Cart, Order, carts, orders, same_id
from examples.shop.events import stream as stream  # what `mainstem run` runs
from mainstem import DeadLetter, Event

PRICES = {"coffee": 1_290, "filter": 450, "grinder": 18_900, "kettle": 6_950, "mug": 1_600, "scale": 3_990}


@carts.subscriber(group="orders", concurrency=16)
async def place(event: Event[Cart]) -> Accepted:
    """What is returned is the reply to the customer, who waits in `carts.request`."""
    cart = event.value
    unknown = [article for article in cart.articles if article not in PRICES]
    if unknown:
        raise DeadLetter(f"the shop does not have {', '.join(unknown)}")  # the customer gets RequestFailed
    order = Order(
        id=event.id,  # the customer's client chose it, and uses it again if it asks again
        customer=cart.customer,
        articles=cart.articles,
        total=sum(PRICES[article] * count for article, count in cart.articles.items()),
        card=cart.card,
        address=cart.address,
    )
    await orders.publish(order, headers=same_id(order.id))
    return Accepted(order.id, order.total)  # the order is durable: now it may be promised
