"""Addresses of direct replies."""

from __future__ import annotations

from itertools import count

from mainstem.amqp.properties import Properties
from mainstem.doors.amqp091.direct_replies import DirectReplies, is_reply_address


def test_an_answer_goes_to_its_address_and_to_no_other() -> None:
    ids = count(1)
    replies = DirectReplies(lambda: f"id{next(ids)}")
    received: list[tuple[str, str, bytes]] = []
    address = replies.add(lambda exchange, key, _, body: received.append((exchange, key, body)))
    assert address == "amq.rabbitmq.reply-to.id1"
    assert replies.has(address)
    assert replies.deliver(address, Properties(correlation_id="7"), b"confirmed")
    assert received == [("", address, b"confirmed")]
    replies.remove(address)
    assert not replies.has(address)
    assert not replies.deliver(address, Properties(), b"late")
    assert len(received) == 1


def test_names_of_the_pseudo_queue() -> None:
    assert is_reply_address("amq.rabbitmq.reply-to")
    assert is_reply_address("amq.rabbitmq.reply-to.id1")
    assert not is_reply_address("amq.rabbitmq.reply-tomorrow")
