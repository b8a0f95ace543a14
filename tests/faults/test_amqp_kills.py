"""Sudden deaths of the server while clients of AMQP 0-9-1 publish with confirms, acknowledge and reject."""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError

from tests.support.server import Server

KILLS = 4
DELIVERIES_OF_LIFE = 300
UNANSWERED_MAX = 50
REJECTED_OF = 10
"""Each tenth order is rejected."""
SILENCE_S = 3.0
"""The queue is empty if nothing comes for this time."""


def connect(server: Server) -> pika.BlockingConnection:
    """A connection to the server as it runs now: after a start it may have another port."""
    match = re.search(r"amqp091=(\S+):(\d+)", server.ready_line)
    assert match is not None, server.ready_line
    return pika.BlockingConnection(pika.ConnectionParameters(match[1], int(match[2]), heartbeat=0))


def declare(channel: BlockingChannel) -> None:
    """Orders go to billing; what that rejects goes to the letters."""
    channel.exchange_declare("orders", "topic", durable=True)
    channel.exchange_declare("rejected", "fanout", durable=True)
    channel.queue_declare("letters", durable=True)
    channel.queue_bind("letters", "rejected")
    channel.queue_declare("billing", durable=True, arguments={"x-dead-letter-exchange": "rejected"})
    channel.queue_bind("billing", "orders", "order.*")


class OrderPublisher(threading.Thread):
    """Publishes orders, numbered, each after the confirm of the one before, until the server is killed."""

    def __init__(self, server: Server, first: int) -> None:
        super().__init__()
        self.connection = connect(server)
        self.next = first
        """All below are confirmed, and this one may have been stored."""

    def run(self) -> None:
        try:
            channel = self.connection.channel()
            channel.confirm_delivery()
            while True:
                channel.basic_publish("orders", "order.placed", b"%d" % self.next)
                self.next += 1
        except (AMQPError, OSError):
            pass


class OrderJudge:
    """Takes orders, and judges each delivery."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.highest = -1

    def work(self, channel: BlockingChannel, count: int) -> None:
        """Answer `count` deliveries, or until nothing comes."""
        channel.basic_qos(prefetch_count=UNANSWERED_MAX)
        for method, _, body in channel.consume("billing", inactivity_timeout=SILENCE_S):
            if method is None:
                break
            number = int(body)
            if number in self.seen:
                assert method.redelivered, f"order {number} comes again, and does not say so"
            else:
                assert number > self.highest, f"order {number} comes for the first time, after {self.highest}"
                self.highest = number
            self.seen.add(number)
            if number % REJECTED_OF:
                channel.basic_ack(method.delivery_tag)
            else:
                channel.basic_reject(method.delivery_tag, requeue=False)
            count -= 1
            if not count:
                break


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_sudden_deaths_lose_no_confirmed_message_and_what_comes_again_says_so(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", doors="kafka,amqp091", amqp091="127.0.0.1:0")
    consumer = OrderJudge()
    first = 0
    unconfirmed: set[int] = set()
    for _ in range(KILLS):
        server.start()
        connection = connect(server)
        channel = connection.channel()
        declare(channel)
        publisher = OrderPublisher(server, first)
        publisher.start()
        consumer.work(channel, DELIVERIES_OF_LIFE)
        server.kill()
        publisher.join(30)
        assert not publisher.is_alive()
        assert publisher.next > first, "something was confirmed"
        unconfirmed.add(publisher.next)
        first = publisher.next + 1
        with contextlib.suppress(AMQPError, OSError):
            connection.close()
    with server:
        connection = connect(server)
        channel = connection.channel()
        consumer.work(channel, first)
        channel.cancel()
        letters = set[int]()
        for method, properties, body in channel.consume("letters", inactivity_timeout=SILENCE_S):
            if method is None:
                break
            (death,) = properties.headers["x-death"]
            assert (death["queue"], death["reason"], death["exchange"]) == ("billing", "rejected", "orders")
            letters.add(int(body))
            channel.basic_ack(method.delivery_tag)
        connection.close()
    assert consumer.seen >= set(range(first)) - unconfirmed
    assert letters == {number for number in consumer.seen if number % REJECTED_OF == 0}
