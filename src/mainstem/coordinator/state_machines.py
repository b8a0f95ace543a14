"""The list of the coordinator's state machines.

Owns: which machines there are, and how they are created. The node runs them on the state log; `doctor` reads
their records without running them.
"""

from __future__ import annotations

import random
from typing import NamedTuple, get_type_hints

import msgspec

from mainstem.clock import Clock
from mainstem.coordinator.groups.groups import Groups
from mainstem.coordinator.producer_ids import ProducerIds
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.coordinator.topics.topics import Topics
from mainstem.settings import Settings


class StateMachines(NamedTuple):
    """All state machines of one coordinator. A new machine is a new field here."""

    topics: Topics
    producer_ids: ProducerIds
    groups: Groups

    @classmethod
    def create(cls, settings: Settings, clock: Clock, rng: random.Random) -> StateMachines:
        """Create the machines without any state. Call `connect` before the first request."""
        topics = Topics(settings, rng)
        return cls(topics, ProducerIds(rng), Groups(settings, clock, rng, topics))

    def connect(self, runtime: Runtime) -> None:
        """Set the runtime that writes the machines' records."""
        self.topics.runtime = self.producer_ids.runtime = self.groups.runtime = runtime

    @classmethod
    def record_types(cls) -> list[type[msgspec.Struct]]:
        """The types of all records of the state log."""
        return [record_type for machine in get_type_hints(cls).values() for record_type in machine.RECORDS]
