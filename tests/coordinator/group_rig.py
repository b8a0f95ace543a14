"""A rig with the groups on a state log in memory and a simulated clock, and short forms of the requests."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from uuid import UUID

from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.groups.groups import Groups
from mainstem.coordinator.groups.offsets import PartitionErrors
from mainstem.coordinator.groups.types import (
    CommitRequest,
    Heartbeat,
    JoinReply,
    JoinRequest,
    LeaveRequest,
    NewOffset,
    SyncReply,
    SyncRequest,
    TopicRef,
)
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.promise import Promise
from mainstem.settings import Settings
from tests.support.clock import SimClock
from tests.support.fake_state import FakeStateDisk, FakeStateLog

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


def code(promise: Promise[Any]) -> str | None:
    """Kafka's error code of a promise: None if it succeeded, "pending" if it is not done."""
    if not promise.done:
        return "pending"
    if promise.error is None:
        return None
    assert isinstance(promise.error, CoordinatorError), promise.error
    return promise.error.code


def codes(errors: list[CoordinatorError | None]) -> list[str | None]:
    """Kafka's error codes of some errors; None where there is no error."""
    return [None if error is None else error.code for error in errors]


class FakeTopicLookup:
    """Finds topics by name and id."""

    def __init__(self, *topics: TopicMetadata) -> None:
        self.all = list(topics)

    def get(self, name: str) -> TopicMetadata | None:
        return next((topic for topic in self.all if topic.name == name), None)

    def by_id(self, topic_id: UUID) -> TopicMetadata | None:
        return next((topic for topic in self.all if topic.id == topic_id), None)


FLIGHTS = TopicMetadata("flights", UUID(int=101), 4, {})
WEATHER = TopicMetadata("weather", UUID(int=102), 2, {})


@dataclass
class GroupRig:
    """The groups with their runtime, clock, state log and disk."""

    groups: Groups
    runtime: Runtime
    clock: SimClock
    state: FakeStateLog
    disk: FakeStateDisk
    topics: FakeTopicLookup
    settings: Settings

    def restart(self, topics: FakeTopicLookup | None = None) -> GroupRig:
        """Load the same log as a new process would: without what was not durable."""
        self.state.fail()
        return group_rig(
            settings=self.settings,
            state=self.state,
            disk=self.disk,
            clock=SimClock(self.clock.wall_ms()),
            topics=topics or self.topics,
        )

    def advance_ms(self, ms: int) -> None:
        self.clock.advance(ms / 1000)

    # --- requests, with what tests rarely change left out -------------------------------------------------

    def join(self, member_id: str = "", **change: Any) -> Promise[JoinReply]:
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
        promise = self.groups.join(JoinRequest(**{**values, **change}))
        self.clock.advance(0)
        return promise

    def sync(
        self, joined: JoinReply, assignments: dict[str, bytes] | None = None, **change: Any
    ) -> Promise[SyncReply]:
        values: dict[str, Any] = {
            "group_id": GROUP,
            "member_id": joined.member_id,
            "generation": joined.generation,
            "assignments": tuple((assignments or {}).items()),
        }
        promise = self.groups.sync(SyncRequest(**{**values, **change}))
        self.clock.advance(0)
        return promise

    def heartbeat(self, joined: JoinReply, **change: Any) -> str | None:
        values = {"group_id": GROUP, "member_id": joined.member_id, "generation": joined.generation}
        return code(self.groups.heartbeat(Heartbeat(**{**values, **change})))

    def leave(self, *members: JoinReply | LeaveRequest, group_id: str = GROUP) -> list[str | None]:
        requests = [
            member if isinstance(member, LeaveRequest) else LeaveRequest(member.member_id)
            for member in members
        ]
        promise = self.groups.leave(group_id, requests)
        self.clock.advance(0)
        return codes(promise.result())

    def commit(
        self,
        joined: JoinReply | None = None,
        offset: int = 1,
        *,
        topic: str | UUID = "flights",
        partition: int = 0,
        leader_epoch: int = -1,
        metadata: str = "",
        **change: Any,
    ) -> Promise[PartitionErrors]:
        ref = TopicRef(name=topic) if isinstance(topic, str) else TopicRef(id=topic)
        values: dict[str, Any] = {
            "group_id": GROUP,
            "topics": ((ref, (NewOffset(partition, offset, leader_epoch, metadata),)),),
        }
        if joined is not None:
            values |= {"member_id": joined.member_id, "generation": joined.generation}
        return self.groups.commit(CommitRequest(**{**values, **change}))

    def commit_code(self, joined: JoinReply | None = None, offset: int = 1, **change: Any) -> str | None:
        """Commit one offset. Returns the error code of the request or of the partition."""
        promise = self.commit(joined, offset, **change)
        return code(promise) or codes(promise.result()[0])[0]

    def offsets(self, group_id: str = GROUP) -> dict[tuple[str, int], int]:
        """All committed offsets, by (topic, partition)."""
        return {
            (topic.topic.name, partition.partition): partition.offset.offset
            for topic in self.groups.fetch_offsets(group_id).result()
            for partition in topic.partitions
            if partition.offset is not None
        }

    def state_of(self, group_id: str = GROUP) -> str | None:
        view = self.groups.describe([group_id]).result()[0]
        return None if view is None else view.state.value

    # --- scenes -------------------------------------------------------------------------------------------

    def first(self, **change: Any) -> JoinReply:
        """Join as the first member, without a sync."""
        promise = self.join(**change)
        self.advance_ms(self.settings.group_initial_rebalance_delay_ms)
        return promise.result()

    def stable_one(self, **change: Any) -> JoinReply:
        """Make a stable group of one member."""
        joined = self.first(**change)
        assert code(self.sync(joined, {joined.member_id: b"all"})) is None
        return joined

    def stable_two(self, **change: Any) -> tuple[JoinReply, JoinReply]:
        """Make a stable group of two members. Returns (leader, follower)."""
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


def group_rig(
    *,
    settings: Settings | None = None,
    state: FakeStateLog | None = None,
    disk: FakeStateDisk | None = None,
    clock: SimClock | None = None,
    topics: FakeTopicLookup | None = None,
    **change: Any,
) -> GroupRig:
    """A rig with loaded groups. `change`: settings."""
    settings = settings or Settings(**change)
    state = state or FakeStateLog()
    disk = disk or FakeStateDisk()
    clock = clock or SimClock()
    topics = topics or FakeTopicLookup(FLIGHTS, WEATHER)
    groups = Groups(settings, clock, random.Random(clock.wall_ms()), topics)
    runtime = Runtime(cast(Any, disk), cast(Any, state), clock, [groups])
    groups.runtime = runtime
    runtime.on_reloaded.append(groups.start)
    runtime.load()
    groups.start()
    return GroupRig(groups, runtime, clock, state, disk, topics, settings)
