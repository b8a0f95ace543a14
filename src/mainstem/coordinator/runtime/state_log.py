"""The state logs of one server: which there are, and where each keeps its snapshots.

Owns: which there are, and their names in messages. Acknowledgements of events are many and the rest is rare,
so queues have a log of their own: neither makes the other write snapshots. Refuses: which state machines a
log has (`state_machines.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from mainstem.log import paths


@dataclass(frozen=True, slots=True)
class StateLogKind:
    """One of the state logs."""

    topic_id: UUID
    """The log is partition 0 of this topic id."""
    title: str
    """Its name in messages."""
    contents: str
    """What is remembered there, for messages."""

    @property
    def folder(self) -> str:
        """The folder of its snapshots, in the data folder."""
        return paths.STATE_FOLDERS[self.topic_id]

    @property
    def key(self) -> tuple[UUID, int]:
        """The topic id and the index of its partition."""
        return self.topic_id, 0


STATE_LOG = StateLogKind(paths.STATE_TOPIC, "state log", "topics, groups and committed offsets")
QUEUE_LOG = StateLogKind(paths.QUEUE_STATE_TOPIC, "state log of queues", "subscriptions and acknowledgements")
STATE_LOGS = (STATE_LOG, QUEUE_LOG)
"""All state logs, in the order in which they are loaded and copied."""
