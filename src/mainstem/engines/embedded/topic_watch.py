"""Reports the changes of topics, for the embedded engine.

Owns: who is called, and whether a topic is new. Refuses: to report what is not durable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.door_contract import TopicChange
from mainstem.engines.embedded.topics import format_id
from mainstem.node import Node


class TopicWatch:
    """The callbacks of one engine."""

    def __init__(self, node: Node) -> None:
        self._callbacks: dict[object, Callable[[TopicChange], None]] = {}
        self._known = {topic.id for topic in node.topics.all()}
        node.topics.on_grown.append(self._on_grown)
        node.topics.on_configured.append(lambda topic: self._report("changed", topic))
        node.topics.on_deleted.append(self._on_deleted)

    def watch(self, callback: Callable[[TopicChange], None]) -> Callable[[], None]:
        """See `WatchesTopics.watch_topics`."""
        key = object()
        self._callbacks[key] = callback

        def stop() -> None:
            self._callbacks.pop(key, None)

        return stop

    def _on_grown(self, topic: TopicMetadata) -> None:
        is_new = topic.id not in self._known
        self._known.add(topic.id)
        self._report("created" if is_new else "changed", topic)

    def _on_deleted(self, topic: TopicMetadata) -> None:
        self._known.discard(topic.id)
        self._report("deleted", topic)

    def _report(self, kind: Literal["created", "deleted", "changed"], topic: TopicMetadata) -> None:
        change = TopicChange(kind, topic.name, format_id(topic.id))
        for key, callback in list(self._callbacks.items()):
            if key in self._callbacks:
                callback(change)
