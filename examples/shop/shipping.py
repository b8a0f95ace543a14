"""The service shipping: sends parcels for orders that are paid.

Run by `mainstem run examples.shop.shipping`.
"""

from __future__ import annotations

from examples.shop import carrier
from examples.shop.events import Payment, Shipment, payments, same_id, shipments
from examples.shop.events import stream as stream  # what `mainstem run` runs
from mainstem import DeadLetter, Event


@payments.subscriber(group="shipping", concurrency=16)
async def ship(event: Event[Payment]) -> None:
    """A town that the carrier does not know stays unknown however often it is tried: a dead letter at once,
    for somebody to look at. Later, `redrive` delivers it again, to this group alone."""
    payment = event.value
    if payment.state != "paid":
        return
    try:
        label = await carrier.buy_label(event.id, payment.order, payment.address)
    except carrier.UnknownTown as error:
        raise DeadLetter(str(error)) from error
    shipment = Shipment(payment.order, payment.customer, label.tracking, payment.address.town)
    await shipments.publish(shipment, headers=same_id(f"{payment.order}/shipment"))
