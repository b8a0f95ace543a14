"""The audit in a topic of its own, which is searched and read as any other by those who have the right.

Owns: the topic, which only the server writes and changes. Refuses: to wait: what is not
accepted now is given again later.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mainstem.audit.events import AuditEvent
from mainstem.audit.trail import AuditSinkError
from mainstem.contract import NewEvent, StreamError
from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.coordinator.topics.types import AUDIT_TOPIC
from mainstem.engines.embedded.publish import append, results_of
from mainstem.log import paths
from mainstem.log.errors import StorageError
from mainstem.node import Node

HEADERS = (("content-type", b"application/json"),)


class AuditTopic:
    """Implements `AuditSink`."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._encoder = msgspec.json.Encoder()

    @property
    def name(self) -> str:
        """See `AuditSink`."""
        return f"topic {AUDIT_TOPIC}"

    async def write(self, batch: Sequence[AuditEvent]) -> None:
        """See `AuditSink`."""
        try:
            topic = await self._topic()
            refusal = self._node.rejection_reason or self._node.refusal_of(topic)
            if refusal is not None:
                raise AuditSinkError(refusal)
            partition = self._node.partition(topic, 0)
        except (CoordinatorError, StorageError) as error:
            raise AuditSinkError(str(error)) from None
        new = [
            NewEvent(key=event.principal.encode(), value=self._encoder.encode(event), headers=HEADERS)
            for event in batch
        ]
        promises = append(AUDIT_TOPIC, partition, new, self._node.clock.wall_ms())
        for results in await results_of(promises):
            for result in results:
                if isinstance(result, StreamError):
                    raise AuditSinkError(str(result))

    def close(self) -> None:
        """See `AuditSink`."""

    async def _topic(self) -> TopicMetadata:
        """The topic, which is made if it does not exist. Errors of the coordinator."""
        topic = self._node.topics.get(AUDIT_TOPIC)
        if topic is None:
            config = {"retention.ms": str(self._node.settings.audit_retention_ms)}
            topic = await self._node.topics.create(AUDIT_TOPIC, 1, config, reserved_id=paths.AUDIT_TOPIC)
        return await self._node.runtime.read(topic)
