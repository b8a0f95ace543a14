"""Delivery tags: what an answer is about, and what is an error."""

from __future__ import annotations

import pytest

from mainstem.amqp.errors import AmqpError
from mainstem.amqp.topology import AmqpQueue
from mainstem.doors.amqp091.unanswered import DeliverySource, UnansweredDeliveries

QUEUE = AmqpQueue("orders", "%2F/orders", durable=True, exclusive=False, auto_delete=False, arguments={})
ORDERS = DeliverySource(QUEUE, ())


def delivered(count: int) -> UnansweredDeliveries:
    """This number of deliveries, whose tokens are t1, t2 …"""
    deliveries = UnansweredDeliveries()
    for number in range(1, count + 1):
        assert deliveries.add(f"t{number}", ORDERS, 0.0) == number
    return deliveries


def test_a_tag_is_answered_once() -> None:
    deliveries = delivered(2)
    assert [delivery.token for delivery in deliveries.take(2, False)] == ["t2"]
    for tag in (2, 3, 0):
        with pytest.raises(AmqpError, match=f"^PRECONDITION_FAILED - unknown delivery tag {tag}$"):
            deliveries.take(tag, False)


def test_multiple_answers_all_up_to_a_tag_and_with_0_all() -> None:
    deliveries = delivered(5)
    deliveries.take(2, False)
    assert [delivery.token for delivery in deliveries.take(4, True)] == ["t1", "t3", "t4"]
    with pytest.raises(AmqpError, match="unknown delivery tag 4"):
        deliveries.take(4, True)
    assert [delivery.token for delivery in deliveries.take(0, True)] == ["t5"]
    assert list(deliveries.take(0, True)) == []


def test_tags_count_deliveries_that_need_no_answer() -> None:
    deliveries = delivered(1)
    assert deliveries.next_tag() == 2
    assert deliveries.add("t3", ORDERS, 0.0) == 3
    assert len(deliveries) == 2


def test_what_is_put_back_is_in_the_order_of_tags_again() -> None:
    deliveries = delivered(4)
    taken = deliveries.take(3, False)
    deliveries.put_back(taken)
    assert [delivery.tag for delivery in deliveries.take(4, True)] == [1, 2, 3, 4]
