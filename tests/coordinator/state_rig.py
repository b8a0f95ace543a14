"""A rig with topics and producer ids on a state log in memory, whose commits a test completes or fails."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.producer_ids import ProducerIds
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.coordinator.topics.topics import Topics
from mainstem.log.disk.contract import Disk
from mainstem.promise import Promise
from mainstem.settings import Settings
from tests.support.clock import SimClock
from tests.support.fake_state import FakeStateDisk, FakeStateLog

T = TypeVar("T")


class StateRig:
    """The two state machines and their runtime. `restart()` loads them again from what is durable."""

    def __init__(self, *, auto_commit: bool = True, settings: Settings | None = None, seed: int = 1) -> None:
        self.clock = SimClock()
        self.disk = FakeStateDisk()
        self.log = FakeStateLog(auto_commit=auto_commit)
        self.settings = settings or Settings()
        self.seed = seed
        self.open()

    def open(self) -> None:
        self.topics = Topics(self.settings, random.Random(self.seed))
        self.producer_ids = ProducerIds(random.Random(self.seed))
        self.runtime = Runtime(cast(Disk, self.disk), self.log, self.clock, (self.topics, self.producer_ids))
        self.topics.runtime = self.producer_ids.runtime = self.runtime
        self.runtime.load()

    def restart(self) -> None:
        """Load the state again as after kill -9: without what was not durable."""
        self.runtime.close()  # what is left of the process writes no more
        self.log.fail()
        self.seed += 1
        self.open()

    def create(self, name: str, partitions: int = 1, config: Mapping[str, str | None] | None = None) -> None:
        done(self.topics.create(name, partitions, config or {}))

    def state(self) -> list[Any]:
        """The records of the whole state."""
        return [*self.topics.snapshot(), *self.producer_ids.snapshot()]


def done(promise: Promise[T]) -> T:
    """The value of a promise that must be done."""
    assert promise.done, "not done"
    return promise.result()


def code(promise: Promise[Any]) -> str:
    """Kafka's error code of a promise that must have failed."""
    assert promise.done, "not done"
    assert isinstance(promise.error, CoordinatorError), promise.error
    return promise.error.code
