"""Google's client publishes an event, or receives one, for test_same_event.py; JSON on standard output.

python -m tests.compat.pubsub.clients.one_event publish|receive TOPIC SUBSCRIPTION
"""

from __future__ import annotations

import json
import sys
from typing import Any

from google.cloud import pubsub_v1

ORDER = '{"order": 4711, "shop": "grüße"}'
ATTRIBUTES = {"kind": "order", "größe": "XL", "empty": ""}


def publish(topic: str, subscription: str) -> dict[str, Any]:
    """Make both, and publish."""
    options = pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
    publisher = pubsub_v1.PublisherClient(publisher_options=options)
    publisher.create_topic(name=topic)
    pubsub_v1.SubscriberClient().create_subscription(name=subscription, topic=topic)
    future = publisher.publish(topic, ORDER.encode(), ordering_key="customer-7", **ATTRIBUTES)
    return {"id": future.result(20)}


def receive(topic: str, subscription: str) -> dict[str, Any]:
    """Pull one message, and acknowledge it."""
    subscriber = pubsub_v1.SubscriberClient()
    (received,) = subscriber.pull(subscription=subscription, max_messages=1, timeout=20).received_messages
    subscriber.acknowledge(subscription=subscription, ack_ids=[received.ack_id])
    message = received.message
    return {
        "id": message.message_id,
        "data": message.data.decode(),
        "attributes": dict(message.attributes),
        "ordering_key": message.ordering_key,
        "time_ms": round(message.publish_time.timestamp() * 1000),
    }


if __name__ == "__main__":
    action = {"publish": publish, "receive": receive}[sys.argv[1]]
    print(json.dumps(action(*sys.argv[2:])))
