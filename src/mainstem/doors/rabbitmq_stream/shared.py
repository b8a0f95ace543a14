"""What the connections of the stream door share.

Owns: the messages in flight of all clients, the groups of single active consumers, who is to be notified of a
deleted stream, and the counts for the metrics. Refuses: sockets.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from mainstem.doors.net.limits import InFlightLimit
from mainstem.doors.rabbitmq_stream.single_active import SingleActiveGroups

if TYPE_CHECKING:
    from mainstem.clock import Clock
    from mainstem.door_contract import TopicChange
    from mainstem.doors.contract import DoorContext

IN_FLIGHT_BYTES_MAX = 256 << 20
"""Most bytes of messages that all clients have sent and that are not confirmed."""

log = logging.getLogger("mainstem.rabbitmq_stream")


class StreamDoorState:
    """The state of one door."""

    def __init__(self, context: DoorContext) -> None:
        self.context = context
        self.clock: Clock = context.clock
        self.version = context.version
        self.in_flight = InFlightLimit(context.clock, IN_FLIGHT_BYTES_MAX)
        self.groups = SingleActiveGroups()
        self.publishers = self.consumers = self.published = self.delivered = 0
        self._watchers: dict[str, dict[Callable[[str], None], None]] = {}

    def warn(self, kind: str, text: str) -> None:
        """Log a warning about a client, limited in rate."""
        self.context.warnings.warn(kind, text)

    def log_fault(self, text: str, error: BaseException) -> None:
        """Log an error that is the server's."""
        log.error("%s", text, exc_info=error)

    def watch(self, topic: str, callback: Callable[[str], None]) -> None:
        """Call `callback(topic)` when this topic is deleted. Idempotent."""
        self._watchers.setdefault(topic, {})[callback] = None

    def unwatch(self, topic: str, callback: Callable[[str], None]) -> None:
        """End `watch`. Idempotent."""
        callbacks = self._watchers.get(topic)
        if callbacks is not None:
            callbacks.pop(callback, None)
            if not callbacks:
                del self._watchers[topic]

    def on_topic_change(self, change: TopicChange) -> None:
        """Notify those who watch a topic that is deleted."""
        if change.kind == "deleted":
            for callback in self._watchers.pop(change.topic, {}):
                callback(change.topic)
