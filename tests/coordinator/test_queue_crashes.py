"""Random runs of a whole node on the simulated disk: what was answered as acknowledged is never delivered
again, and after a crash at any byte a subscription is what the records up to some place made it (invariants
I5 and I6).

A seed determines a run, as in test_crashes: appends, deliveries, answers, seeks, redrives, snapshots of the
state log of queues, failing syncs, kills, power cuts in the middle of any call, clean stops.
`python -m tests.coordinator.test_queue_crashes --seeds 2000 [--first 0]` executes more runs; a failure prints
its seed, which repeats it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal
from uuid import UUID

import msgspec
import pytest

from mainstem.coordinator.queues.types import Settlement
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.node import Node
from mainstem.promise import Promise
from mainstem.queues.leases import DeliveryLease
from mainstem.queues.pages import PositionState
from mainstem.queues.view import SequenceView
from tests.coordinator.seeds import Durability, main, run_seeds
from tests.coordinator.test_crashes import CoordinatorRun

NAMES = ("mail", "bills")
Event = tuple[int, UUID, int]
"""A subscription's id, a topic's id and an offset of its partition 0."""
Fact = tuple[UUID | None, bytes]
"""The topic, if it is about a view, and what is true."""


END = 500
"""Each partition of a run has fewer events."""


def facts_of(view: SubscriptionView) -> Any:
    """What of a view survives, once the log is scanned again and all waits are over."""
    copied = view.sequence.snapshot()
    sequence = SequenceView.restore(view.sequence.rules, copied.head, copied.pages, copied.waiting)
    sequence.scan(END)
    sequence.wake_due(1 << 60)
    positions = [
        (position, sequence.state(position), sequence.failures(position))
        for position in range(sequence.start, END)
        if sequence.state(position) is not PositionState.DONE
    ]
    return (view.id, view.place, sequence.start, positions)


class QueueRun(CoordinatorRun):
    """The run of one seed."""

    def __init__(self, seed: int, durability: Durability) -> None:
        super().__init__(seed, durability)
        self.acked: set[Event] = set()
        """Events that were answered as acknowledged, and that were not asked for again."""
        self.leases: list[tuple[int, DeliveryLease, int]] = []
        self.asked_again = 0
        """Rises with each request to deliver events again."""
        self.reached: dict[int, set[frozenset[Fact]]] = {0: set()}
        """End of the state log of queues -> the states that the subscriptions may have had there."""

    def state_of(self, node: Node) -> frozenset[Fact]:
        """The state of subscriptions."""
        facts: set[Fact] = {
            (None, msgspec.msgpack.encode((known.id, known.name))) for known in node.subscriptions.all()
        }
        for view in node.subscriptions.views.all():
            facts.add((view.topic_id, msgspec.msgpack.encode(facts_of(view))))
        return frozenset(facts)

    def of_living(self, state: frozenset[Fact]) -> frozenset[Fact]:
        """Without the views of topics whose deletion was asked for: a start may have ended them."""
        return frozenset(fact for fact in state if fact[0] not in self.deletion_asked)

    def judge(self) -> None:
        node, end = self.node, self.node.log.queue_state.high_watermark
        assert end >= self.acknowledged, "the state log lost what was acknowledged"
        self.clock.advance(0)
        state = self.state_of(node)
        if self.reached[0]:
            possible = {
                self.of_living(state)
                for end, states in self.reached.items()
                if end >= self.acknowledged
                for state in states
            }
            assert self.of_living(state) in possible, (
                "the state never existed, or is older than an acknowledged one"
            )
        self.leases.clear()
        self.deliver_all()
        self.reached = {end: {self.state_of(node)}}
        self.reached.setdefault(0, set()).add(state)
        self.acknowledged = end
        self.watch()

    def deliver_all(self) -> None:
        """Check that no acknowledged event is delivered again, and that no event is forgotten."""
        topics = {topic.id for topic in self.node.topics.all()}
        for view in self.node.subscriptions.views.all():
            assert view.topic_id in topics, "a view of a topic that does not exist"
            self.scan_view(view)
            for first, last in view.sequence.runs_in(PositionState.READY):
                for offset in range(first, last):
                    event = view.subscription, view.topic_id, offset
                    assert event not in self.acked, "an acknowledged event is delivered again"

    def scan_view(self, view: SubscriptionView) -> None:
        topic = self.node.topics.by_id(view.topic_id)
        if topic is not None:
            end = self.node.partition(topic, 0).high_watermark
            assert end < END
            if end > view.sequence.scanned:
                view.sequence.scan(end)

    def watch(self) -> None:
        runtime, append = self.node.queue_runtime, self.node.queue_runtime._append

        def appended(records: Any) -> None:
            append(records)
            self.reached.setdefault(runtime._end, set()).add(self.state_of(self.node))

        runtime._append = appended  # type: ignore[method-assign]

    def view(self) -> SubscriptionView | None:
        views = self.node.subscriptions.views.all()
        return self.rng.choice(views) if views else None

    def acknowledges(self, promise: Promise[Any], then: Any = lambda _: None) -> None:
        """Note, once it is there, what the reply of a subscription shows."""
        end = self.node.queue_runtime._end

        def done(result: Promise[Any]) -> None:
            if result.error is None:
                self.acknowledged = max(self.acknowledged, end)
                then(result.result())

        promise.then(done)

    # --- what is done -------------------------------------------------------------------------------------

    def subscribe(self) -> None:
        settings = self.rng.choice(({}, {"failures_max": 2}, {"backoff_min_ms": 20}))
        self.acknowledges(self.node.subscriptions.create(self.rng.choice(NAMES), settings))

    def unsubscribe(self) -> None:
        if self.rng.random() < 0.2:
            self.acknowledges(self.node.subscriptions.delete(self.rng.choice(NAMES)))

    def open_view(self) -> None:
        topic = self.node.topics.get(self.rng.choice(("a", "b")))
        if topic is not None and self.node.topics.durable_partitions(topic):
            opened = self.node.subscriptions.open_view(self.rng.choice(NAMES), topic.id, 0, 0, 0)
            self.acknowledges(opened)

    def acquire(self) -> None:
        view = self.view()
        if view is None:
            return
        self.scan_view(view)
        view.sequence.wake_due(self.clock.wall_ms())
        epoch = self.node.subscriptions.epoch

        def on_leased(lease: DeliveryLease | None) -> None:
            for first, end in lease.runs if lease is not None else ():
                for offset in range(first, end):
                    event = view.subscription, view.topic_id, offset
                    assert event not in self.acked, "an acknowledged event is delivered again"
            if lease is not None:
                self.leases.append((view.id, lease, epoch))

        leased = self.node.subscriptions.acquire(view, "c", self.rng.randint(1, 6))
        self.acknowledges(leased, on_leased)

    def settle(self) -> None:
        if not self.leases:
            return
        view_id, lease, epoch = self.rng.choice(self.leases[-3:])
        view = self.node.subscriptions.views.get(view_id)
        if view is None:
            return
        first, end = self.rng.choice(lease.runs)
        verb: Literal["ack", "nack", "reject"] = self.rng.choice(("ack", "ack", "ack", "nack", "reject"))
        runs = ((self.rng.randint(first, end - 1), end),)
        asked_again = self.asked_again
        answer = Settlement(view_id, lease.id, epoch, runs, verb)

        def on_settled(settled: list[list[tuple[int, int]]]) -> None:
            self.answers += len(settled[0])
            is_final = verb == "ack" and asked_again == self.asked_again
            for low, high in settled[0] if is_final else ():
                self.acked |= {(view.subscription, view.topic_id, offset) for offset in range(low, high)}

        self.acknowledges(self.node.subscriptions.settle([answer]), on_settled)

    def expire(self) -> None:
        self.clock.advance(31)
        self.acknowledges(self.node.subscriptions.release_expired())

    def redrive(self) -> None:
        view = self.view()
        if view is not None and self.rng.random() < 0.3:
            self.asked_again += 1
            first = self.rng.randint(0, 10)
            self.acked -= {(view.subscription, view.topic_id, offset) for offset in range(first, first + 3)}
            self.acknowledges(self.node.subscriptions.changes.redrive(view, [(first, first + 3)]))

    def seek(self) -> None:
        view = self.view()
        if view is not None and self.rng.random() < 0.3:
            self.asked_again += 1
            topic = self.node.topics.by_id(view.topic_id)
            end = self.node.partition(topic, 0).high_watermark if topic is not None else 0
            position = self.rng.randint(0, end)
            self.acked = {
                event
                for event in self.acked
                if event[:2] != (view.subscription, view.topic_id) or event[2] < position
            }
            self.acknowledges(self.node.subscriptions.changes.seek(view, position))

    def create(self) -> None:
        self.node.topics.create(self.rng.choice(("a", "b")), self.rng.randint(1, 2))

    def delete(self) -> None:
        topic = self.node.topics.get(self.rng.choice(("a", "b")))
        if topic is not None and self.rng.random() < 0.2:
            self.deletion_asked.add(topic.id)
            self.node.topics.delete(topic.name)

    def snapshot(self) -> None:
        self.node.queue_runtime.take_snapshot()

    def step(self) -> None:
        for _ in range(2):
            self.rng.choice(ACTS if self.node.subscriptions.views.all() else FIRST_ACTS)(self)
        if self.rng.random() < 0.5:
            self.clock.advance(self.rng.random() * 0.01)

    def finish(self) -> None:
        """Check that what is not done is delivered."""
        self.disk.sync_fails = 0.0
        self.clock.advance(60)
        self.deliver_all()


FIRST_ACTS: tuple[Callable[[QueueRun], None], ...] = (
    *(QueueRun.create, CoordinatorRun.append, CoordinatorRun.wait),
    *(QueueRun.subscribe, QueueRun.open_view, QueueRun.open_view),
)
ACTS: tuple[Callable[[QueueRun], None], ...] = (
    *(QueueRun.create, CoordinatorRun.append, CoordinatorRun.append, CoordinatorRun.append),
    *(CoordinatorRun.wait, QueueRun.delete, QueueRun.subscribe, QueueRun.open_view, QueueRun.open_view),
    *(QueueRun.acquire, QueueRun.acquire, QueueRun.acquire, QueueRun.settle, QueueRun.settle),
    *(QueueRun.settle, QueueRun.settle, QueueRun.unsubscribe, QueueRun.expire, QueueRun.redrive),
    *(QueueRun.seek, QueueRun.snapshot),
)


@pytest.mark.parametrize("durability", ["disk", "os"])
def test_what_was_answered_survives_every_crash(durability: Durability) -> None:
    assert run_seeds(QueueRun, range(25), durability) > 100, "the runs settle something"


if __name__ == "__main__":
    main(QueueRun)
