"""The service notifications: writes to customers.

Run by `mainstem run examples.shop.notifications`.
"""

from __future__ import annotations

import msgspec

from examples.shop.events import Payment, Shipment, payments, shipments
from examples.shop.events import stream as stream  # what `mainstem run` runs
from examples.shop.ledger import Book
from mainstem import Event


class Mail(msgspec.Struct, frozen=True):
    """A mail that was sent."""

    order: str
    customer: str
    subject: str


mails = Book("mails", Mail)


@payments.subscriber(group="notifications", concurrency=4)
def on_payment(event: Event[Payment]) -> None:
    """A function that is not async runs in a thread, as most libraries for mail want it."""
    payment = event.value
    amount = f"{payment.total / 100:,.2f}"
    subject = f"Thank you for {amount}" if payment.state == "paid" else f"Your card was declined for {amount}"
    mails.once(event.id, Mail(payment.order, payment.customer, subject))


@shipments.subscriber(group="notifications", batch=50, max_wait=0.1)
def on_shipments(batch: list[Event[Shipment]]) -> None:
    """Lists, as a connection to a mail server is worth more than one mail. A list that fails comes again as a
    whole, so `once` is needed here, too."""
    for event in batch:
        parcel = event.value
        mail = Mail(parcel.order, parcel.customer, f"Parcel {parcel.tracking} is on its way to {parcel.town}")
        mails.once(event.id, mail)
