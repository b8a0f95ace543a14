"""Client quotas on a state log in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from mainstem.coordinator.access.quota_usage import QuotaUsage
from mainstem.coordinator.access.quotas import Quotas
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.log.disk.contract import Disk
from mainstem.quota_contract import QuotaEntity, QuotaKey
from tests.coordinator.state_rig import done
from tests.support.clock import SimClock
from tests.support.fake_state import FakeStateDisk, FakeStateLog


class QuotaRig:
    """Quotas, and what clients have used. `restart()` loads the quotas from what is durable."""

    def __init__(self, clock: SimClock | None = None) -> None:
        self.clock = clock or SimClock()
        self.disk, self.log = FakeStateDisk(), FakeStateLog()
        self.open()

    def open(self) -> None:
        self.quotas = Quotas()
        self.usage = QuotaUsage(self.clock, self.quotas)
        self.runtime = Runtime(cast(Disk, self.disk), self.log, self.clock, (self.quotas,))
        self.quotas.runtime = self.runtime
        self.runtime.load()

    def restart(self) -> None:
        self.runtime.close()
        self.open()

    def set(self, entity: QuotaEntity, key: QuotaKey, value: float | None) -> None:
        done(self.quotas.alter(entity, {key: value}))

    def all(self) -> Mapping[QuotaEntity, Mapping[QuotaKey, float]]:
        return dict(self.quotas.quotas())
