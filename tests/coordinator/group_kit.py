"""Groups on a state log in memory and a clock that tests move: members in a few words."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from uuid import UUID

from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.groups.groups import Groups
from mainstem.coordinator.groups.offsets import Verdicts
from mainstem.coordinator.groups.types import (
    Beat,
    Commit,
    Join,
    Joined,
    Leaving,
    NewOffset,
    Sync,
    Synced,
    TopicRef,
)
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.coordinator.topics.topics import Topic
from mainstem.promise import Later
from mainstem.settings import Settings
from tests.support.clock import SimClock
from tests.support.fake_state import FakeStateLog, MemoryDisk

T = TypeVar("T")

GROUP = "readers"
SESSION_MS = 10_000
REBALANCE_MS = 60_000


def subscription(*topics: str, user_data: bytes | None = None) -> bytes:
    """A consumer's subscription, version 1."""
    out = struct.pack(">hi", 1, len(topics))
    for topic in topics:
        out += struct.pack(">h", len(topic)) + topic.encode()
    out += struct.pack(">i", -1) if user_data is None else struct.pack(">i", len(user_data)) + user_data
    return out + struct.pack(">i", 0)


def code(later: Later[Any]) -> str | None:
    """Kafka's word for how it ended: None for well, "pending" for not yet."""
    if not later.done:
        return "pending"
    if later.error is None:
        return None
    assert isinstance(later.error, CoordinatorError), later.error
    return later.error.code


def codes(verdicts: list[CoordinatorError | None]) -> list[str | None]:
    """Kafka's words for verdicts."""
    return [None if verdict is None else verdict.code for verdict in verdicts]


class FakeTopics:
    """Topics by name and id."""

    def __init__(self, *topics: Topic) -> None:
        self.all = list(topics)

    def get(self, name: str) -> Topic | None:
        return next((topic for topic in self.all if topic.name == name), None)

    def by_id(self, topic_id: UUID) -> Topic | None:
        return next((topic for topic in self.all if topic.id == topic_id), None)


FLIGHTS = Topic("flights", UUID(int=101), 4, {})
WEATHER = Topic("weather", UUID(int=102), 2, {})


@dataclass
class Kit:
    """Groups, and what they run on."""

    groups: Groups
    runtime: Runtime
    clock: SimClock
    state: FakeStateLog
    disk: MemoryDisk
    topics: FakeTopics
    settings: Settings

    def restart(self, topics: FakeTopics | None = None) -> Kit:
        """The same log in a new process; what was not durable is gone."""
        self.state.fail()
        return kit(
            settings=self.settings,
            state=self.state,
            disk=self.disk,
            clock=SimClock(self.clock.wall_ms()),
            topics=topics or self.topics,
        )

    def advance_ms(self, ms: int) -> None:
        self.clock.advance(ms / 1000)

    # --- requests, with what tests rarely change left out -------------------------------------------------

    def join(self, member_id: str = "", **change: Any) -> Later[Joined]:
        values: dict[str, Any] = {
            "group_id": GROUP,
            "member_id": member_id,
            "client_id": "client",
            "client_host": "127.0.0.1",
            "protocol_type": "consumer",
            "protocols": (("range", subscription("flights")),),
            "session_timeout_ms": SESSION_MS,
            "rebalance_timeout_ms": REBALANCE_MS,
        }
        later = self.groups.join(Join(**{**values, **change}))
        self.clock.advance(0)
        return later

    def sync(
        self, joined: Joined, assignments: dict[str, bytes] | None = None, **change: Any
    ) -> Later[Synced]:
        values: dict[str, Any] = {
            "group_id": GROUP,
            "member_id": joined.member_id,
            "generation": joined.generation,
            "assignments": tuple((assignments or {}).items()),
        }
        later = self.groups.sync(Sync(**{**values, **change}))
        self.clock.advance(0)
        return later

    def beat(self, joined: Joined, **change: Any) -> str | None:
        values = {"group_id": GROUP, "member_id": joined.member_id, "generation": joined.generation}
        return code(self.groups.heartbeat(Beat(**{**values, **change})))

    def leave(self, *members: Joined | Leaving, group_id: str = GROUP) -> list[str | None]:
        leaving = [one if isinstance(one, Leaving) else Leaving(one.member_id) for one in members]
        later = self.groups.leave(group_id, leaving)
        self.clock.advance(0)
        return codes(later.result())

    def commit(
        self,
        joined: Joined | None = None,
        offset: int = 1,
        *,
        topic: str | UUID = "flights",
        partition: int = 0,
        leader_epoch: int = -1,
        metadata: str = "",
        **change: Any,
    ) -> Later[Verdicts]:
        ref = TopicRef(name=topic) if isinstance(topic, str) else TopicRef(id=topic)
        values: dict[str, Any] = {
            "group_id": GROUP,
            "topics": ((ref, (NewOffset(partition, offset, leader_epoch, metadata),)),),
        }
        if joined is not None:
            values |= {"member_id": joined.member_id, "generation": joined.generation}
        return self.groups.commit(Commit(**{**values, **change}))

    def commit_code(self, joined: Joined | None = None, offset: int = 1, **change: Any) -> str | None:
        """How a commit of one offset ended, whether all of it or its partition was refused."""
        later = self.commit(joined, offset, **change)
        return code(later) or codes(later.result()[0])[0]

    def offsets(self, group_id: str = GROUP) -> dict[tuple[str, int], int]:
        """All committed offsets."""
        return {
            (topic.topic.name, one.partition): one.offset.offset
            for topic in self.groups.fetch_offsets(group_id).result()
            for one in topic.partitions
            if one.offset is not None
        }

    def state_of(self, group_id: str = GROUP) -> str | None:
        view = self.groups.describe([group_id]).result()[0]
        return None if view is None else view.state.value

    # --- scenes -------------------------------------------------------------------------------------------

    def first(self, **change: Any) -> Joined:
        """A group of one: joined, leads, not synced."""
        later = self.join(**change)
        self.advance_ms(self.settings.group_initial_rebalance_delay_ms)
        return later.result()

    def stable_one(self, **change: Any) -> Joined:
        """A stable group of one."""
        joined = self.first(**change)
        assert code(self.sync(joined, {joined.member_id: b"all"})) is None
        return joined

    def stable_two(self, **change: Any) -> tuple[Joined, Joined]:
        """A stable group of two: (leader, follower)."""
        first = self.stable_one(**change)
        second = self.join(**change)
        again = self.join(first.member_id, **change)
        leader, follower = again.result(), second.result()
        assert leader.leader == leader.member_id
        wait = self.sync(follower)
        assert code(wait) == "pending"
        plan = {leader.member_id: b"left", follower.member_id: b"right"}
        assert self.sync(leader, plan).result().assignment == b"left"
        assert wait.result().assignment == b"right"
        return leader, follower


def kit(
    *,
    settings: Settings | None = None,
    state: FakeStateLog | None = None,
    disk: MemoryDisk | None = None,
    clock: SimClock | None = None,
    topics: FakeTopics | None = None,
    **change: Any,
) -> Kit:
    """Groups that are loaded and run. `change`: settings."""
    settings = settings or Settings(**change)
    state = state or FakeStateLog()
    disk = disk or MemoryDisk()
    clock = clock or SimClock()
    topics = topics or FakeTopics(FLIGHTS, WEATHER)
    groups = Groups(settings, clock, random.Random(clock.wall_ms()), topics)
    runtime = Runtime(cast(Any, disk), cast(Any, state), clock, [groups])
    groups.runtime = runtime
    runtime.reloaded.append(groups.start)
    runtime.load()
    groups.start()
    return Kit(groups, runtime, clock, state, disk, topics, settings)
