"""A rig with subscriptions on a state log in memory, whose commits a test completes or fails."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.queues.types import Settlement
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.coordinator.runtime.state_log import QUEUE_LOG
from mainstem.log.disk.contract import Disk
from mainstem.promise import Promise
from mainstem.queues.leases import DeliveryLease
from mainstem.queues.pages import PositionState
from mainstem.queues.runs import Run
from tests.coordinator.state_rig import done
from tests.support.clock import SimClock
from tests.support.fake_state import FakeStateDisk, FakeStateLog

TOPIC = UUID(int=77)


class QueueRig:
    """The machine and its runtime. `restart()` loads them again from what is durable."""

    def __init__(
        self,
        *,
        auto_commit: bool = True,
        seed: int = 1,
        log: FakeStateLog | None = None,
        disk: FakeStateDisk | None = None,
        clock: SimClock | None = None,
    ) -> None:
        self.clock = clock or SimClock()
        self.disk = disk or FakeStateDisk()
        self.log = log or FakeStateLog(auto_commit=auto_commit)
        self.seed = seed
        self.ends: dict[tuple[UUID, int], int] = {}
        """The ends of partitions that a restart finds."""
        self.open()

    def open(self) -> None:
        self.subscriptions = Subscriptions(self.clock, random.Random(self.seed))
        self.runtime = Runtime(cast(Disk, self.disk), self.log, self.clock, [self.subscriptions], QUEUE_LOG)
        self.subscriptions.runtime = self.runtime
        self.runtime.on_reloaded.append(self.started)
        self.runtime.load()
        self.started()

    def started(self) -> None:
        self.subscriptions.start(lambda topic_id, partition: self.ends.get((topic_id, partition), 1 << 62))

    def restart(self) -> None:
        """Load the state again as after kill -9: without what was not durable."""
        self.runtime.close()  # what is left of the process writes no more
        self.log.fail()
        self.seed += 1
        self.open()

    # --- shortcuts, for a log that commits at once ----------------------------------------------------------

    def view(self, scanned: int = 100, name: str = "mail", **settings: Any) -> SubscriptionView:
        """A view of partition 0 of a new subscription, with `scanned` events."""
        done(self.subscriptions.create(name, settings))
        view = done(self.subscriptions.open_view(name, TOPIC, 0, 0, scanned))
        view.sequence.scan(scanned)
        return view

    def known(self, name: str = "mail", partition: int = 0) -> SubscriptionView:
        """The view of a partition, as it is after a load."""
        (view,) = [view for view in self.subscriptions.views_of(name) if view.partition == partition]
        return view

    def lease(self, view: SubscriptionView, count: int, consumer: str = "c") -> DeliveryLease:
        lease = done(self.subscriptions.acquire(view, consumer, count))
        assert lease is not None
        return lease

    def answer(self, view: SubscriptionView, lease: DeliveryLease, *runs: Run, **answer: Any) -> Settlement:
        return Settlement(view.id, lease.id, self.subscriptions.epoch, runs or lease.runs, **answer)

    def settle(self, *answers: Settlement) -> list[list[Run]]:
        return done(self.subscriptions.settle(answers))


def uncommitted_rig() -> tuple[QueueRig, SubscriptionView]:
    """A rig in which a test commits the log itself, and a view of subscription `mail` with nine ready
    positions."""
    rig = QueueRig(auto_commit=False)
    rig.subscriptions.create("mail")
    opened = rig.subscriptions.open_view("mail", TOPIC, 0, 0, 9)
    rig.log.commit()
    view = done(opened)
    view.sequence.scan(9)
    return rig, view


def states(view: SubscriptionView, end: int) -> str:
    """The states of the positions below `end`, a letter each: the first of its name, but x for done."""
    letters = {PositionState.DONE: "x", PositionState.DYING: "d"}
    all_states = [view.sequence.state(position) for position in range(end)]
    return "".join(letters.get(state, state.name[0].lower()) for state in all_states)


def settled(promise: Promise[Sequence[list[Run]]]) -> list[list[Run]]:
    return [list(runs) for runs in done(promise)]
