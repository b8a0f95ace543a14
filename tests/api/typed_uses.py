"""Right and wrong uses of the Python API, as a type checker sees them; nothing here runs.

Every line that has to be refused ends with an ignore comment, which is an error itself where nothing is
refused. So the checker of this project tests the types, and test_typing.py has others check the same lines
against the package as users install it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict, assert_type

import mainstem
from mainstem import Event, Position, Stream, Topic


@dataclass
class Booking:
    """A model."""

    id: int
    customer: str


class BookingPayment(TypedDict):
    """Another model."""

    booking: int
    state: str


stream = mainstem.connect("127.0.0.1:9092", security=mainstem.ClientSecurity(user="ann", password="x"))
own = mainstem.open(":memory:")
bookings = stream.topic("bookings", Booking, key=lambda booking: booking.customer)
payments = stream.topic("payments", BookingPayment)
anything = stream.topic("anything")
assert_type(stream, Stream)
assert_type(own, Stream)
assert_type(bookings, Topic[Booking])
assert_type(payments, Topic[BookingPayment])
assert_type(anything, Topic[Any])

stream.topic("bookings", Booking, key=lambda booking: booking.nothing)  # type: ignore[attr-defined]
stream.topic("bookings", Booking, key=lambda booking: booking.id)  # type: ignore[arg-type,return-value]


async def publishing() -> None:
    assert_type(await bookings.publish(Booking(1, "ann"), delay=timedelta(minutes=5)), Position)
    assert_type(await bookings.publish(Booking(1, "ann"), key="k", headers={"a": b"b"}), Position)
    assert_type(await payments.publish({"booking": 1, "state": "paid"}), Position)
    assert_type(await stream.publish("anything", {"id": 1}), Position)
    assert_type(await bookings.publish_many([Booking(1, "ann")]), int)
    assert_type(await stream.publish_many("a", [{"id": 1}], key=lambda value: str(value["id"])), int)
    await bookings.publish({"id": 1})  # type: ignore[arg-type]
    await payments.publish({"booking": 1})  # type: ignore[typeddict-item]
    await payments.publish(Booking(1, "ann"))  # type: ignore[arg-type]
    await bookings.publish_many([1, 2])  # type: ignore[list-item]
    await bookings.publish(Booking(1, "ann"), key=1)  # type: ignore[arg-type]


async def reading() -> None:
    assert_type(bookings.read(since="2h"), AsyncGenerator[Event[Booking], None])
    async for event in bookings.read(follow=True):
        assert_type(event.value, Booking)
        assert_type(event.key, str | None)
    assert_type(await payments.last(5), list[Event[BookingPayment]])
    assert_type(await stream.last("anything"), list[Event[Any]])
    async for hit in stream.search("id:1", since=timedelta(days=1)):
        assert_type(hit, Event[Any])
    bookings.read(since=3600)  # type: ignore[arg-type]


async def requesting() -> None:
    assert_type(await bookings.request(Booking(1, "ann"), BookingPayment, timeout=2), BookingPayment)
    assert_type(await stream.request("bookings", {"id": 1}, int), int)
    await bookings.request(1, BookingPayment)  # type: ignore[arg-type]


@bookings.subscriber(group="one-by-one", concurrency=32, retry=mainstem.Retry(max_attempts=3))
async def handle_value(booking: Booking) -> BookingPayment:
    return {"booking": booking.id, "state": "paid"}


@bookings.subscriber(group="events")
def handle_event(event: Event[Booking]) -> None:
    assert_type(event.value.customer, str)


@bookings.subscriber(group="lists", batch=100, max_wait=timedelta(seconds=1))
async def handle_list(batch: list[Booking]) -> None: ...


@bookings.subscriber(group="lists-of-events", batch=100)
async def handle_events(batch: list[Event[Booking]]) -> None: ...


@stream.subscriber("bookings", group="untyped")
async def handle_any(booking: dict[str, object]) -> None: ...


@stream.subscriber("bookings", group="untyped-lists", batch=10)
def handle_any_list(batch: list[Event[Booking]]) -> None: ...


async def handlers_are_what_they_were() -> None:
    assert_type(await handle_value(Booking(1, "ann")), BookingPayment)
    await handle_value(1)  # type: ignore[arg-type]


@bookings.subscriber(group="wrong-model")  # type: ignore[arg-type]
async def wrong_model(payment: BookingPayment) -> None: ...


@bookings.subscriber(group="wrong-event")  # type: ignore[arg-type]
async def wrong_event(event: Event[BookingPayment]) -> None: ...


@bookings.subscriber(group="two")  # type: ignore[arg-type]
async def two_parameters(booking: Booking, other: int) -> None: ...


@bookings.subscriber(group="no-list", batch=10)  # type: ignore[arg-type]
async def no_list(booking: Booking) -> None: ...


@bookings.subscriber(group="no-batch")  # type: ignore[arg-type]
async def no_batch(batch: list[Booking]) -> None: ...


@bookings.subscriber()  # type: ignore[call-overload,untyped-decorator]
async def no_group(booking: Booking) -> None: ...


@bookings.subscriber(group="both", batch=10, concurrency=4)  # type: ignore[call-overload,untyped-decorator]
async def both(batch: list[Booking]) -> None: ...


def waiting() -> None:
    with stream.sync as blocking:
        assert_type(blocking.publish("anything", 1), Position)
        topic = blocking.topic("bookings", Booking)
        assert_type(topic.read(), Generator[Event[Booking], None, None])
        assert_type([event.value for event in topic.last(3)], list[Booking])
        topic.publish(1)  # type: ignore[arg-type]
