"""The shop's events and topics: what its services agree on, and all that they share.

The key of every event is the customer: what happens to one customer happens in its order, in every service,
while other customers pass. Money is in cents.
"""

from __future__ import annotations

from typing import Literal

import msgspec

import mainstem

stream = mainstem.connect()  # where MAINSTEM_AT says; nothing connects before the services run


class PostalAddress(msgspec.Struct, frozen=True):
    """Where a parcel goes."""

    street: str
    town: str


class Cart(msgspec.Struct, frozen=True):
    """What a customer wants to buy: articles, and how many of each."""

    customer: str
    articles: dict[str, int]
    card: str
    address: PostalAddress


class Accepted(msgspec.Struct, frozen=True):
    """The reply to a cart. From here on the shop owes the customer this order."""

    order: str
    total: int


class Order(msgspec.Struct, frozen=True):
    """A cart with a price."""

    id: str
    customer: str
    articles: dict[str, int]
    total: int
    card: str
    address: PostalAddress


class Payment(msgspec.Struct, frozen=True):
    """What came of charging an order's card."""

    order: str
    customer: str
    total: int
    state: Literal["paid", "declined"]
    address: PostalAddress


class Shipment(msgspec.Struct, frozen=True):
    """A parcel that is on its way."""

    order: str
    customer: str
    tracking: str
    town: str


carts = stream.topic("carts", Cart, key=lambda cart: cart.customer)
orders = stream.topic("orders", Order, key=lambda order: order.customer)
payments = stream.topic("payments", Payment, key=lambda payment: payment.customer)
shipments = stream.topic("shipments", Shipment, key=lambda shipment: shipment.customer)


def same_id(name: str) -> dict[str, str]:
    """Headers for an event that is published again under the same id if its handler runs again.

    Delivery is at least once: a service that is killed after it published, and before its own event was
    acknowledged, publishes a second time. Subscribers recognise the copy, for `event.id` is this header.
    """
    return {"message-id": name}
