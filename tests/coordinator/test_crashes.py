"""Random runs of a whole node on the simulated disk: acknowledged changes of topics, settings, positions and
producer ids survive every crash, and nothing that was deleted reappears.

A seed determines a run: administration, appends, snapshots, failing syncs, kills, power cuts in the middle of
any call, clean stops. `python -m tests.coordinator.test_crashes --seeds 2000 [--first 0]` executes more runs;
a failure prints its seed, which repeats it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal, cast
from uuid import UUID

import msgspec
import pytest

from mainstem.coordinator.errors import UnknownTopicOrPartition
from mainstem.coordinator.groups.types import CommitRequest, NewOffset, OffsetsCommitted, TopicRef
from mainstem.coordinator.topics.topics import ConfigChange, TopicMetadata
from mainstem.log.disk.contract import Disk
from mainstem.log.errors import LogError
from mainstem.log.storage import record_batch as batches
from mainstem.node import Node
from mainstem.promise import Promise
from mainstem.settings import Settings
from tests.coordinator.seeds import Durability, main, run_seeds
from tests.support.clock import SimClock
from tests.support.simdisk import PowerCut, SimDisk

NAMES = ("a", "b", "c")
State = frozenset[bytes]


def state_of(node: Node) -> State:
    """The whole state of the coordinator, without tombstones, which no client can see, and without producer
    ids, of which a start may skip some."""
    facts: list[Any] = [
        (topic.name, topic.id, topic.partitions, sorted(topic.config.items())) for topic in node.topics.all()
    ]
    for record in node.groups.snapshot():
        if isinstance(record, OffsetsCommitted):
            facts += [("offset", record.group_id, *offset) for offset in record.offsets]
        else:
            facts.append(record)
    return frozenset(msgspec.msgpack.encode(fact) for fact in facts)


class CoordinatorRun:
    """The run of one seed."""

    def __init__(self, seed: int, durability: Durability) -> None:
        self.rng = random.Random(seed)
        self.durability = durability
        self.starts = 0
        self.answers = 0
        """Those that count for the runs that go on from this one."""
        self.crash: Literal["power", "kill"] = "kill"
        self.clock = SimClock()
        self.disk = SimDisk(self.clock, self.rng)
        self.tried: dict[int, set[State]] = {0: set()}
        """End of the state log -> the states that the coordinator may have had there."""
        self.acknowledged = 0
        """End of the state log that the last reply showed."""
        self.events: dict[UUID, int] = {}
        """Topic id -> acknowledged end of its partition 0."""
        self.deleted: dict[UUID, str] = {}
        self.deletion_asked: set[UUID] = set()
        self.producers: set[int] = set()
        self.server_ids: set[int | None] = set()
        self.node: Node

    def start(self) -> None:
        """Open and recover the node. A crash in the middle leads to another start."""
        while True:
            self.starts += 1
            clock = SimClock(wall_ms=1_356_998_400_000 + self.starts * 100_000)
            self.disk = self.disk.power_cut(clock) if self.crash == "power" else self.disk.kill(clock)
            self.clock = clock
            if self.rng.random() < 0.3:
                self.disk.cut_at = self.rng.randint(1, 60)
            try:
                settings = Settings(durability=self.durability)
                self.node = Node.open(settings, cast(Disk, self.disk), clock, self.rng).result()
            except PowerCut:
                self.choose_crash()
                continue
            self.disk.cut_at = -1
            self.judge()
            return

    def choose_crash(self) -> None:
        self.crash = "kill" if self.durability == "os" else self.rng.choice(("power", "kill"))

    def judge(self) -> None:
        """Check that nothing acknowledged is missing, and that the state is one that the requests led to."""
        node, end = self.node, self.node.log.state.high_watermark
        assert end >= self.acknowledged, "the state log lost what was acknowledged"
        state = state_of(node)
        if self.tried[0]:
            possible = set().union(
                *(states for end, states in self.tried.items() if end >= self.acknowledged)
            )
            assert state in possible, "the state never existed, or is older than an acknowledged one"
        self.tried = {0: {state}, end: {state}, node.runtime._end: {state}}
        self.acknowledged = end
        for topic_id, events in self.events.items():
            topic = node.topics.by_id(topic_id)
            assert topic is not None or topic_id in self.deletion_asked, "a topic is missing"
            if topic is not None:
                assert node.partition(topic, 0).high_watermark >= events, "acknowledged events are missing"
        for topic_id in self.deleted:
            assert node.topics.by_id(topic_id) is None, "a deleted topic reappeared"
        self.watch()

    def watch(self) -> None:
        """Note every state that a write leads to."""
        runtime, append = self.node.runtime, self.node.runtime._append

        def appended(records: Any) -> None:
            append(records)
            self.tried.setdefault(runtime._end, set()).add(state_of(self.node))

        runtime._append = appended  # type: ignore[method-assign]

    # --- what is done -------------------------------------------------------------------------------------

    def step(self) -> None:
        self.rng.choice(self.acts)(self)
        if self.rng.random() < 0.5:
            self.clock.advance(self.rng.random() * 0.01)

    def acknowledges(self, promise: Promise[Any], then: Callable[[Any], None] = lambda _: None) -> None:
        end = self.node.runtime._end

        def done(result: Promise[Any]) -> None:
            if result.error is None:
                self.acknowledged = max(self.acknowledged, end)
                then(result.result())

        promise.then(done)

    def create(self) -> None:
        config: dict[str, str | None] = {"retention.ms": "9"} if self.rng.random() < 0.3 else {}
        self.acknowledges(self.node.topics.create(self.rng.choice(NAMES), self.rng.randint(1, 2), config))

    def delete(self) -> None:
        def on_deleted(topic: TopicMetadata) -> None:
            self.deleted[topic.id] = topic.name

        name = self.rng.choice(NAMES)
        topic = self.node.topics.get(name)
        if topic is not None:
            self.deletion_asked.add(topic.id)
        self.acknowledges(self.node.topics.delete(name), on_deleted)

    def grow(self) -> None:
        self.acknowledges(self.node.topics.add_partitions(self.rng.choice(NAMES), self.rng.randint(2, 4)))

    def configure(self) -> None:
        change = ConfigChange("segment.ms", "set", str(self.rng.randint(1, 3)))
        self.acknowledges(self.node.topics.alter_config(self.rng.choice(NAMES), [change]))

    def commit(self) -> None:
        """Commit an offset up to the end, as consumers do. With durability=os a start may have to set it
        back."""
        topic = self.node.topics.get(self.rng.choice(NAMES))
        end = self.node.partition(topic, 0).high_watermark if topic is not None else 0
        new = NewOffset(0, self.rng.randint(0, end))
        name = topic.name if topic is not None else self.rng.choice(NAMES)
        commit = CommitRequest(group_id="g", topics=((TopicRef(name), (new,)),))
        self.acknowledges(self.node.groups.commit(commit))

    def producer(self) -> None:
        def on_allocated(producer: tuple[int, int]) -> None:
            assert producer[0] not in self.producers, "a producer id was allocated twice"
            self.server_ids.add(self.node.producer_ids.server_id)
            assert len(self.server_ids) == 1, "the server's own id changed while producers had ids"
            assert producer[0] not in self.server_ids, "the server's own id was allocated"
            self.producers.add(producer[0])

        for _ in range(self.rng.choice((1, 400))):
            self.acknowledges(self.node.producer_ids.allocate(), on_allocated)

    def append(self) -> None:
        topic = self.node.topics.get(self.rng.choice(NAMES))
        if topic is None:
            return
        try:
            partition = self.node.partition_to_append(topic, 0)
        except UnknownTopicOrPartition:
            return
        data = batches.build([(None, b"x" * self.rng.randint(1, 300), (), self.clock.wall_ms())])
        try:
            end = partition.append(memoryview(data)).next_offset
        except LogError:
            return
        topic_id = topic.id

        def done(result: Promise[None]) -> None:
            if result.error is None:
                self.events[topic_id] = max(self.events.get(topic_id, 0), end)

        partition.when_committed(end).then(done)

    def snapshot(self) -> None:
        self.node.runtime.take_snapshot()

    def wait(self) -> None:
        self.clock.advance(self.rng.random() * 0.5)

    acts = (create, create, delete, grow, configure, commit, producer, append, append, snapshot, wait)

    def run(self) -> None:
        self.disk.make_folder("")
        self.start()
        for _ in range(self.rng.randint(2, 5)):
            self.disk.sync_fails = (
                self.rng.choice((0.0, 0.0, 0.0, 0.02)) if self.durability == "disk" else 0.0
            )
            if self.rng.random() < 0.7:
                self.disk.cut_at = self.disk.calls + self.rng.randint(1, 250)
            try:
                for _ in range(self.rng.randint(5, 40)):
                    self.step()
                if self.rng.random() < 0.4:
                    self.node.close()
                    self.clock.advance(5)
                self.crash = "kill"
            except PowerCut:
                self.choose_crash()
            self.start()
        self.finish()

    def finish(self) -> None:
        """Check that the node finishes every deletion by itself."""
        self.disk.sync_fails = 0.0
        for _ in range(10):
            self.step()
        self.clock.advance(60)
        folders = self.disk.list("partitions") + self.disk.list("quarantine")
        for topic_id in self.deleted:
            assert not [name for name in folders if topic_id.hex in name], "files of a deleted topic are left"
        assert self.node.topics.tombstones() == []


@pytest.mark.parametrize("durability", ["disk", pytest.param("os", marks=pytest.mark.slow)])
def test_what_was_acknowledged_survives_every_crash(durability: Durability) -> None:
    run_seeds(CoordinatorRun, range(60), durability)


if __name__ == "__main__":
    main(CoordinatorRun)
