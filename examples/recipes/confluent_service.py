"""confluent-kafka against a mainstem server, at least once: reads `orders`, publishes `payments`.

pip install confluent-kafka; python examples/recipes/confluent_service.py [HOST:PORT]
"""

from __future__ import annotations

import json
import signal
import sys

from confluent_kafka import Consumer, KafkaException, Producer


def main(server: str = "127.0.0.1:9092") -> None:
    """Charge orders until SIGTERM or Ctrl-C."""
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stopped.append(number))
    producer = Producer({"bootstrap.servers": server, "enable.idempotence": True})
    consumer = Consumer(
        {
            "bootstrap.servers": server,
            "group.id": "billing",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "topic.metadata.refresh.interval.ms": 5_000,  # a topic that is not there yet is seen this soon
        }
    )
    consumer.subscribe(["orders"])
    try:
        while not stopped:
            events = [event for event in consumer.consume(500, timeout=0.5) if event.error() is None]
            for event in events:
                order = json.loads(event.value() or b"")
                payment = json.dumps({"order": order["id"], "state": "paid"})
                producer.produce("payments", payment, key=order["customer"])
            if events:
                if producer.flush(30):
                    raise KafkaException("payments are not durable after 30 s")
                consumer.commit(asynchronous=False)
    finally:
        consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
