"""Replay: counts the cancelled flights of each day, from any day on, without a group.

Nothing that others do with the topic changes by it: an event stays after it was read.

    python examples/replay.py 2013-06-01 [HOST:PORT] [TOPIC]
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from datetime import UTC, datetime

from confluent_kafka import Consumer, TopicPartition


def starts(consumer: Consumer, topic: str, start_ms: int) -> list[TopicPartition]:
    """For each partition of the topic, the first event at or after a time."""
    partitions = consumer.list_topics(topic).topics[topic].partitions
    return consumer.offsets_for_times([TopicPartition(topic, number, start_ms) for number in partitions])


def main(day: str, server: str = "127.0.0.1:9092", topic: str = "flights") -> None:
    """Read to the end and print one line a day."""
    consumer = Consumer({"bootstrap.servers": server, "group.id": "unused", "enable.partition.eof": True})
    begin_ms = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)
    unread = starts(consumer, topic, begin_ms)
    consumer.assign(unread)
    cancelled: Counter[str] = Counter()
    left = len(unread)
    while left:
        event = consumer.poll(1.0)
        if event is None:
            continue
        if event.error():
            left -= 1  # the end of one partition
            continue
        flight = json.loads(event.value())
        cancelled[flight["time_hour"][:10]] += flight["dep_time"] is None
    consumer.close()
    for date, count in sorted(cancelled.items()):
        print(date, count)


if __name__ == "__main__":
    main(*sys.argv[1:])
