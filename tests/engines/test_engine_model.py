"""Every engine compared with lists: random publishing, reading, deletion, look-ups, groups, reopening."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mainstem.contract import Bounds, Engine, Event, NewEvent, Position, PositionOutOfRange, UnknownTopic
from tests.engines.conftest import Run
from tests.engines.test_contract import NOON, made, name, read

Result = TypeVar("Result")
PARTITIONS = 2
PICK = st.integers(0, 1000)
"""Chooses a topic, an offset or a number of events: taken modulo what there is."""
NEW_EVENTS = st.lists(
    st.builds(
        NewEvent,
        value=st.none() | st.binary(max_size=12),
        key=st.none() | st.binary(max_size=4),
        headers=st.lists(st.tuples(st.sampled_from("ab"), st.none() | st.binary(max_size=3)), max_size=2).map(
            tuple
        ),
        timestamp_ms=st.integers(NOON, NOON + 6),
        partition=st.integers(0, PARTITIONS - 1),
    ),
    min_size=1,
    max_size=8,
)


class ExpectedPartition:
    """What a partition should hold: the events that were ever published, and where it begins."""

    def __init__(self, topic: str, index: int) -> None:
        self.topic, self.index = topic, index
        self.events: list[Event] = []
        self.begin = 0

    def publish(self, new: NewEvent) -> Position:
        position = Position(self.topic, self.index, len(self.events))
        time_ms = new.timestamp_ms or 0
        self.events.append(
            Event(self.topic, self.index, position.offset, time_ms, new.key, new.value, new.headers)
        )
        return position

    def first_since(self, time_ms: int) -> int | None:
        return next(
            (event.offset for event in self.events[self.begin :] if event.timestamp_ms >= time_ms), None
        )


class ExpectedEngine:
    """What an engine should hold: the topics that exist, and the positions of one group."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.topics: dict[str, list[ExpectedPartition]] = {}
        self.positions: dict[tuple[str, int], int] = {}

    async def compare(self, engine: Engine) -> None:
        """Everything that the engine holds is what the model holds."""
        for topic, partitions in self.topics.items():
            for partition in partitions:
                end = len(partition.events)
                assert await engine.bounds(topic, partition.index) == Bounds(partition.begin, end)
                reader = await engine.reader([Position(topic, partition.index, partition.begin)])
                assert await read(reader, end - partition.begin) == partition.events[partition.begin :]
                await reader.close()
        if self.positions:
            positions = {(p.topic, p.partition): p for p in (await engine.group(self.group)).positions}
            for (topic, index), offset in self.positions.items():
                assert positions[topic, index].offset == offset
                assert positions[topic, index].end == len(self.topics[topic][index].events)


class EngineMachine(RuleBasedStateMachine):
    """Each rule does the same to the engine and to the model. Hypothesis runs it in a thread of its own."""

    engine: Engine
    loop: asyncio.AbstractEventLoop
    models: list[ExpectedEngine]

    def wait(self, call: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(call, self.loop).result(60)

    def partition(self, pick: int) -> ExpectedPartition:
        partitions = [partition for topic in self.model.topics.values() for partition in topic]
        return partitions[pick % len(partitions)]

    @initialize()
    def begin(self) -> None:
        self.model = ExpectedEngine(name("group"))
        self.models.append(self.model)
        self.create()

    @precondition(lambda self: len(self.model.topics) < 3)
    @rule()
    def create(self) -> None:
        topic = self.wait(made(self.engine, PARTITIONS, retention_ms="-1"))
        self.model.topics[topic] = [ExpectedPartition(topic, index) for index in range(PARTITIONS)]

    @precondition(lambda self: len(self.model.topics) > 1)
    @rule(pick=PICK)
    def delete_topic(self, pick: int) -> None:
        topic = self.partition(pick).topic
        self.wait(self.engine.delete_topic(topic))
        del self.model.topics[topic]
        self.model.positions = {
            key: offset for key, offset in self.model.positions.items() if key[0] != topic
        }
        with pytest.raises(UnknownTopic):
            self.wait(self.engine.delete_topic(topic))

    @rule(pick=PICK, events=NEW_EVENTS)
    def publish(self, pick: int, events: list[NewEvent]) -> None:
        topic = self.partition(pick).topic
        expected = [self.model.topics[topic][event.partition or 0].publish(event) for event in events]
        assert self.wait(self.engine.publish(topic, events)) == expected

    @rule(pick=PICK, number=PICK, count=PICK)
    def read_at(self, pick: int, number: int, count: int) -> None:
        partition = self.partition(pick)
        offset = number % (len(partition.events) + 2)
        reader = self.wait(self.engine.reader([Position(partition.topic, partition.index, offset)]))
        if partition.begin <= offset <= len(partition.events):
            expected = partition.events[offset:][: count % 10]
            assert self.wait(read(reader, len(expected))) == expected
        else:
            with pytest.raises(PositionOutOfRange):
                self.wait(read(reader, 1))
        self.wait(reader.close())

    @rule(time_ms=st.integers(NOON - 1, NOON + 7))
    def offset_for_time(self, time_ms: int) -> None:
        for partition in [partition for topic in self.model.topics.values() for partition in topic]:
            offset = self.wait(self.engine.offset_for_time(partition.topic, partition.index, time_ms))
            assert offset == partition.first_since(time_ms)

    @rule(pick=PICK, number=PICK)
    def delete_records(self, pick: int, number: int) -> None:
        partition = self.partition(pick)
        before = number % (len(partition.events) + 3) - 1
        call = self.engine.delete_records(partition.topic, partition.index, before)
        if before > len(partition.events):
            with pytest.raises(PositionOutOfRange):
                self.wait(call)
        else:
            partition.begin = max(partition.begin, len(partition.events) if before == -1 else before)
            assert self.wait(call) == partition.begin

    @rule(pick=PICK, number=PICK)
    def set_position(self, pick: int, number: int) -> None:
        partition = self.partition(pick)
        offset = number % (len(partition.events) + 1)
        self.wait(
            self.engine.set_positions(self.model.group, [Position(partition.topic, partition.index, offset)])
        )
        self.model.positions[partition.topic, partition.index] = offset

    @rule(pick=PICK, number=PICK)
    def consume(self, pick: int, number: int) -> None:
        """A member of the group reads up to ten events of a topic, and commits."""
        topic = self.partition(pick).topic
        partitions = self.model.topics[topic]
        starts = [self.model.positions.get((topic, index), 0) for index in range(PARTITIONS)]
        if any(start < partition.begin for start, partition in zip(starts, partitions, strict=True)):
            return  # such a position is out of range: another test shows what a member does
        unread = sum(len(partition.events) for partition in partitions) - sum(starts)
        if not unread:
            return  # the join of a member that reads nothing may not have ended when it leaves: that is slow
        member = self.wait(self.engine.join(self.model.group, [topic], start="earliest"))
        for event in self.wait(read(member, min(unread, 1 + number % 10))):
            offset = self.model.positions.get((topic, event.partition), 0)
            assert event == partitions[event.partition].events[offset]
            self.model.positions[topic, event.partition] = offset + 1
        self.wait(member.commit())
        self.wait(member.close())

    @rule()
    def compare(self) -> None:
        self.wait(self.model.compare(self.engine))

    def teardown(self) -> None:
        self.compare()


def test_an_engine_agrees_with_lists_and_so_does_the_next_one(run: Run) -> None:
    models: list[ExpectedEngine] = []

    async def random_calls(engine: Engine) -> None:
        loop = asyncio.get_running_loop()
        machine = type("Machine", (EngineMachine,), {"engine": engine, "loop": loop, "models": models})
        limits = settings(
            max_examples=8,
            stateful_step_count=25,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        await asyncio.to_thread(run_state_machine_as_test, machine, settings=limits)

    async def compare_all(engine: Engine) -> None:
        assert models
        for model in models:
            await model.compare(engine)

    run(random_calls)
    run(compare_all)
