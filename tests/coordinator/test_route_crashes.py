"""Random runs of a whole node with routed queues on the simulated disk: what was answered as published is in
each of its queues, once, in the order of publishing, and in no other; the index equals that of the log (I18).

A seed determines a run, as in test_crashes: publishing to random sets of queues, queues that come and go,
snapshots, the index being written, failing syncs, kills, power cuts in the middle of any call, clean stops.
`python -m tests.coordinator.test_route_crashes --seeds 2000 [--first 0]` executes more runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from mainstem.contract import NewEvent, Position
from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.queues.index_files import IndexFiles
from mainstem.coordinator.queues.routed_sequence import RoutedSequence
from mainstem.coordinator.queues.sequence_recovery import SequenceRecovery
from mainstem.coordinator.queues.topology import Namespace
from mainstem.engines.embedded.queues.routed_publish import RoutedPublish, RoutedPublisher
from mainstem.log.errors import LogError
from mainstem.log.storage.record_batch import build
from mainstem.promise import Promise
from mainstem.queues.index_page import Arrival
from mainstem.queues.runs import Run
from tests.coordinator.routed_rig import SPACE, create_queue, records_at, sequences_of
from tests.coordinator.seeds import Durability, main, run_seeds
from tests.coordinator.test_crashes import CoordinatorRun

QUEUES = ("x", "y", "z")


class NoFiles(IndexFiles):
    """Files that are not there."""

    def __init__(self) -> None:
        pass


def contents(sequence: RoutedSequence) -> tuple[list[Arrival], dict[int, list[Run]]]:
    queues = {queue: sequence.index.runs(queue, 0, 1 << 60)[0] for queue in sequence.index.queues()}
    routed = {number for runs in queues.values() for first, end in runs for number in range(first, end)}
    arrivals = [arrival for arrival in sequence.index.arrivals() if arrival.sequence in routed]
    return arrivals, {queue: runs for queue, runs in queues.items() if runs}


class RouteRun(CoordinatorRun):
    """The run of one seed."""

    def __init__(self, seed: int, durability: Durability) -> None:
        super().__init__(seed, durability)
        self.sent: dict[bytes, tuple[int, ...]] = {}
        """Event -> its queues."""
        self.published: set[bytes] = set()
        """Those that were answered."""
        self.sequences: set[int] = set()
        """All that any queue ever had."""
        self.queues_deleted: set[int] = set()

    def run(self) -> None:
        """See `CoordinatorRun`. Pages of the index have few entries."""
        with mock.patch("mainstem.queues.routed_index.PAGE_ENTRIES", 8):
            super().run()

    @property
    def space(self) -> Namespace | None:
        return self.node.subscriptions.topology.by_name(SPACE)

    def judge(self) -> None:
        self.node.log  # noqa: B018
        self.publisher = RoutedPublisher(self.node)
        self.clock.advance(0)
        self.check()

    def check(self) -> None:
        """Compare each queue with what was sent, and the index with the log."""
        space = self.space
        if space is None:
            assert not self.published, "the namespace is missing"
            return
        sequence = self.node.routed.of(space)
        if self.node.subscriptions.routing.deletion_in_flight(space) is not None:
            return  # whether the queue exists is not certain
        if self.node.producer_ids.server_id is None or sequence.problem or sequence.order.has_undecided:
            return
        order = list(self.sent)
        for queue in sorted(space.queues):
            numbers = sequences_of(sequence, queue)
            values = [record.value or b"" for record in records_at(self.node, sequence, numbers)]
            assert len(set(values)) == len(values), "an event is in a queue twice"
            assert all(queue in self.sent[value] for value in values), "a queue has an event of others"
            assert values == sorted(values, key=order.index), "a queue is not in the order of publishing"
            missing = {value for value in self.published if queue in self.sent[value]} - set(values)
            assert not missing, "a queue lost what was answered as published"
        sequence.drop_deleted_queues()
        again = RoutedSequence(space, NoFiles())
        for _ in SequenceRecovery(again, self.node.partition_at, self.node.producer_ids.server_id).read_log():
            pass
        assert contents(again) == contents(sequence), "the index is not that of the log"

    # --- what is done -------------------------------------------------------------------------------------

    def create_topic(self) -> None:
        self.node.topics.create("a", 2)

    def create_space(self) -> None:
        self.node.subscriptions.routing.create_namespace(SPACE)

    def create(self) -> None:
        if self.space is not None:
            create_queue(self.node, self.rng.choice(QUEUES))

    def delete(self) -> None:
        if self.rng.random() < 0.15:
            self.node.subscriptions.delete(f"{SPACE}/{self.rng.choice(QUEUES)}")

    def publish(self) -> None:
        topic, space = self.node.topics.get("a"), self.space
        if topic is None or space is None or self.node.topics.durable_partitions(topic) < 2:
            return
        count = self.rng.randint(0, len(space.queues))
        queues = tuple(sorted(self.rng.sample(sorted(space.queues), count)))
        value = b"%d" % len(self.sent)
        self.sent[value] = queues
        event = NewEvent(value + bytes(0), headers=(("size", bytes(self.rng.choice((0, 0, 700)))),))

        def on_published(done: Promise[Any]) -> None:
            if isinstance(done.result()[0], Position):
                self.published.add(value)
                self.answers += 1

        self.publisher.publish(space, [RoutedPublish(event, topic, self.rng.randrange(2), queues)]).then(
            on_published
        )

    def write_index(self) -> None:
        if self.space is not None:
            self.node.routed._store(self.node.routed.of(self.space))

    def take_snapshot(self) -> None:
        self.node.queue_runtime.take_snapshot()

    def foreign(self) -> None:
        """A client writes into the same partition."""
        topic = self.node.topics.get("a")
        if topic is not None:
            try:
                self.node.partition_to_append(topic, 0).append(memoryview(client_batch()))
            except (LogError, CoordinatorError):
                return

    def look(self) -> None:
        self.check()

    def step(self) -> None:
        for _ in range(3):
            self.rng.choice(ACTS)(self)
        if self.rng.random() < 0.5:
            self.clock.advance(self.rng.random() * 0.01)

    def finish(self) -> None:
        self.disk.sync_fails = 0.0
        self.clock.advance(60)
        self.check()


def client_batch() -> bytearray:
    return build([(None, b"foreign", [("mainstem-route", b"\x01\x02\x03\x00")], 1_356_998_400_000)])


ACTS: tuple[Callable[[RouteRun], None], ...] = (
    *(RouteRun.create_topic, RouteRun.create_space, RouteRun.create, RouteRun.create, RouteRun.delete),
    *(RouteRun.publish,) * 8,
    *(RouteRun.write_index, RouteRun.take_snapshot, RouteRun.foreign, CoordinatorRun.wait, RouteRun.look),
)


@pytest.mark.parametrize("durability", ["disk", "os"])
def test_what_was_published_is_in_its_queues_after_every_crash(durability: Durability) -> None:
    assert run_seeds(RouteRun, range(8), durability) > 50, "the runs publish something"


if __name__ == "__main__":
    main(RouteRun)
