"""Google's client publishes and receives with exactly-once delivery while the server is killed: what it saw.

python -m tests.compat.pubsub.clients.through_kills     # until a line comes in; JSON on standard output
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from google.cloud import pubsub_v1

DRAIN_S_MAX = 120.0
TOPIC, SUBSCRIPTION = "projects/mainstem/topics/payments", "projects/mainstem/subscriptions/ledger"


class Witness:
    """What was confirmed, and what should not have come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.published: set[str] = set()
        """Data whose publishing was confirmed."""
        self.booked: set[str] = set()
        """Data that was acknowledged, and confirmed."""
        self.confirmed_ids: set[str] = set()
        self.again: list[str] = []
        """Ids of messages that came after their acknowledgement was confirmed."""
        self.unconfirmed = 0

    def on_published(self, data: str, future: Any) -> None:
        if future.exception() is None:
            with self._lock:
                self.published.add(data)

    def on_message(self, message: Any) -> None:
        with self._lock:
            if message.message_id in self.confirmed_ids:
                self.again.append(message.message_id)
        try:
            message.ack_with_response().result(60)
        except Exception:  # not confirmed: it may come again
            with self._lock:
                self.unconfirmed += 1
            return
        with self._lock:
            self.confirmed_ids.add(message.message_id)
            self.booked.add(message.data.decode())

    def is_complete(self) -> bool:
        with self._lock:
            return self.published <= self.booked


def publish_until(stop: threading.Event, witness: Witness) -> None:
    """Publish 100 messages a second, each with its number."""
    publisher = pubsub_v1.PublisherClient()
    futures: list[Any] = []
    while not stop.is_set():
        data = str(len(futures))
        future = publisher.publish(TOPIC, data.encode())
        future.add_done_callback(lambda done, data=data: witness.on_published(data, done))
        futures.append(future)
        time.sleep(0.01)  # its rate
    for future in futures:
        future.exception(DRAIN_S_MAX)


def main() -> None:
    """Run until a line is read, then until all that was published is booked."""
    witness, stop = Witness(), threading.Event()
    pubsub_v1.PublisherClient().create_topic(name=TOPIC)
    subscriber = pubsub_v1.SubscriberClient()
    subscriber.create_subscription(
        {"name": SUBSCRIPTION, "topic": TOPIC, "enable_exactly_once_delivery": True}
    )
    pulling = subscriber.subscribe(SUBSCRIPTION, witness.on_message)
    publishing = threading.Thread(target=publish_until, args=(stop, witness))
    publishing.start()
    print("started", flush=True)
    sys.stdin.readline()
    stop.set()
    publishing.join()
    deadline = time.monotonic() + DRAIN_S_MAX
    while not witness.is_complete() and time.monotonic() < deadline:
        time.sleep(0.1)
    is_open = pulling.running()
    pulling.cancel()
    answer = {
        "published": len(witness.published),
        "lost": sorted(witness.published - witness.booked),
        "again": witness.again,
        "unconfirmed": witness.unconfirmed,
        "stream_is_open": is_open,
    }
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
