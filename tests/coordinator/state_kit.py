"""Topics and producer ids on a state log in memory, whose commits a test makes succeed or fail."""

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
    """The machines; `restart()` opens them again on what is durable."""

    def __init__(self, *, auto: bool = True, settings: Settings | None = None, seed: int = 1) -> None:
        self.clock = SimClock()
        self.disk = FakeStateDisk()
        self.log = FakeStateLog(auto=auto)
        self.settings = settings or Settings()
        self.seed = seed
        self.open()

    def open(self) -> None:
        self.topics = Topics(self.settings, random.Random(self.seed))
        self.producer_ids = ProducerIds()
        self.runtime = Runtime(cast(Disk, self.disk), self.log, self.clock, (self.topics, self.producer_ids))
        self.topics.runtime = self.producer_ids.runtime = self.runtime
        self.runtime.load()

    def restart(self) -> None:
        """As after kill -9: what is not durable is gone."""
        self.log.fail()
        self.seed += 1
        self.open()

    def create(self, name: str, partitions: int = 1, config: Mapping[str, str | None] | None = None) -> None:
        done(self.topics.create(name, partitions, config or {}))

    def state(self) -> list[Any]:
        """All that is remembered."""
        return [*self.topics.snapshot(), *self.producer_ids.snapshot()]


def done(later: Promise[T]) -> T:
    """The value of what must be done."""
    assert later.done, "not done"
    return later.result()


def code(later: Promise[Any]) -> str:
    """Kafka's word for how it was refused."""
    assert later.done, "not done"
    assert isinstance(later.error, CoordinatorError), later.error
    return later.error.code
