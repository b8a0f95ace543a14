"""The kill -9 loop of routed queues: as `queue_kills`, over a namespace whose queues pin what is not done,
while retention deletes and carries over all the time.

Owns: the part of a door, for which `routed_server` has routes. Between the events of the two queues are
others, for a queue without a consumer. `python -m tests.faults.routed_kills --kills 200` is the long run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.faults import queue_kills
from tests.faults.queue_history import QueueEvent
from tests.faults.queue_kills import KillRig, QueueApi, QueuePublisher

SPACE, TOPIC = "/", "exchange"
QUEUES: dict[str, dict[str, Any]] = {
    "ordered": {"in_key_order": True, "dead_letter_topic": "ordered-dead", "pin_ms": -1},
    "a b/ü": {"failures_max": 6, "dead_letter_topic": "plain-dead", "pin_ms": -1},
}
UNREAD = "unread"
RETENTION = {"segment.ms": "300", "retention.ms": "500"}


class RoutedKillPublisher(QueuePublisher):
    """Publishes to both queues, and others to the one without a consumer."""

    def send(self, events: Sequence[QueueEvent]) -> None:
        """See `QueuePublisher`."""
        rows: list[dict[str, object]] = []
        for event in events:
            rows.append({"key": event.key, "value": event.text, "queues": list(QUEUES)})
            if self.rng.random() < 0.3:
                rows.append({"key": event.key, "value": "unread", "queues": [UNREAD]})
        self.api.call("/routed:publish", {"namespace": SPACE, "topic": TOPIC, "events": rows})


def create(api: QueueApi) -> None:
    """The topics and queues."""
    api.call("/topics", {"topic": TOPIC, "partitions": 2, "settings": RETENTION})
    for settings in QUEUES.values():
        api.call("/topics", {"topic": settings["dead_letter_topic"], "partitions": 1})
    queues = {name: queue_kills.WAITS | settings for name, settings in QUEUES.items()}
    api.call("/routed:declare", {"namespace": SPACE, "queues": {**queues, UNREAD: {}}})


RIG = KillRig(
    subscriptions={f"%2F/{name}": settings for name, settings in QUEUES.items()},
    create=create,
    publisher=RoutedKillPublisher,
    module="tests.faults.routed_server",
    settings={"log_retention_check_interval_ms": 400},
)

if __name__ == "__main__":
    queue_kills.main(RIG)
