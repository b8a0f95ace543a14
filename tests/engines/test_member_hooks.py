"""What the contract promises of a member's hooks, notes and pauses, with every engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import pytest

from mainstem.contract import (
    AssignedPartition,
    Engine,
    InvalidArgument,
    Member,
    NewEvent,
    Position,
    StreamError,
    TopicPartition,
)
from mainstem.engines.embedded import member
from mainstem.engines.kafka.read import CONSUMER_SETTINGS
from tests.engines.conftest import Run
from tests.engines.test_contract import made, name, read, values

pytestmark = pytest.mark.parametrize(
    "run",
    ["embedded", *(pytest.param(cluster, marks=pytest.mark.slow) for cluster in ("kafka", "apache-kafka"))],
    indirect=True,
)


@pytest.fixture(autouse=True)
def quick_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member hears of a rebalance at its next heartbeat."""
    monkeypatch.setattr(member, "HEARTBEAT_INTERVAL_S", 0.05)
    monkeypatch.setitem(CONSUMER_SETTINGS, "heartbeat.interval.ms", 50)


class Recorder:
    """Hooks that record their calls, and commit what is revoked if a member is set."""

    def __init__(self) -> None:
        self.assignments: list[AssignedPartition] = []
        self.owned: set[TopicPartition] = set()
        self.revocations: list[TopicPartition] = []
        self.member: Member | None = None
        self.at_revoke: dict[TopicPartition, tuple[int, str]] = {}

    async def assigned(self, partitions: Sequence[AssignedPartition]) -> None:
        self.assignments += partitions
        self.owned |= {(partition.topic, partition.partition) for partition in partitions}

    async def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        await asyncio.sleep(0.01)  # the group waits
        self.revocations += partitions
        self.owned -= set(partitions)
        given = {key: self.at_revoke[key] for key in partitions if key in self.at_revoke}
        if self.member is not None and given:
            await self.member.commit(
                [Position(*key, offset) for key, (offset, _) in given.items()],
                {key: text for key, (_, text) in given.items()},
            )

    async def lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.owned -= set(partitions)


def test_a_commit_of_positions_has_notes_which_the_next_owner_gets(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic, group = await made(engine, partitions=2), name("group")
        await engine.publish(topic, [NewEvent(b"%d" % number, partition=number % 2) for number in range(10)])
        hooks = Recorder()
        joined = await engine.join(group, [topic], start="earliest", hooks=hooks)
        await read(joined, 10)
        assert sorted((part.partition, part.offset, part.notes) for part in hooks.assignments) == [
            (0, None, ""),
            (1, None, ""),
        ]
        notes = "~" * 4_000
        await joined.commit([Position(topic, 0, 3), Position(topic, 1, 0)], {(topic, 0): notes})
        with pytest.raises(InvalidArgument):
            await joined.commit([Position(topic, 1, 5)], {(topic, 1): notes + notes})
        await joined.close()
        assert not hooks.revocations, "no hook is called while a member closes"
        with pytest.raises(StreamError):
            await joined.commit([Position(topic, 0, 4)])

        again = Recorder()
        joined = await engine.join(group, [topic], start="latest", hooks=again)
        assert len(await read(joined, 7)) == 7, "the one is continued at 3, the other at its begin"
        assert sorted((part.partition, part.offset, part.notes) for part in again.assignments) == [
            (0, 3, notes),
            (1, 0, ""),
        ]
        await joined.close()

    run(work)


def test_a_paused_partition_gives_no_events_until_it_is_resumed(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic, group = await made(engine, partitions=2), name("group")
        await engine.publish(topic, [NewEvent(b"a", partition=0), NewEvent(b"b", partition=1)])
        joined = await engine.join(group, [topic], start="earliest", hooks=Recorder())
        assert len(await read(joined, 2)) == 2
        joined.pause([(topic, 0), (topic, 7)])
        await engine.publish(topic, [NewEvent(b"c", partition=0), NewEvent(b"d", partition=1)])
        assert values(await read(joined, 1)) == [b"d"]
        assert not await joined.read(wait_ms=50)
        joined.resume([(topic, 0)])
        assert values(await read(joined, 1)) == [b"c"]
        await joined.close()

    run(work)


def test_the_revoked_hook_is_awaited_and_may_commit(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic, group = await made(engine, partitions=2), name("group")
        await engine.publish(topic, [NewEvent(b"%d" % number, partition=number % 2) for number in range(6)])
        hooks, others = Recorder(), Recorder()
        first = await engine.join(group, [topic], start="earliest", hooks=hooks)
        hooks.member = first
        await read(first, 6)
        hooks.at_revoke = {(topic, 0): (2, "zero"), (topic, 1): (1, "one")}
        second = await engine.join(group, [topic], start="latest", hooks=others)
        deadline = time.monotonic() + 40
        while not (hooks.owned and others.owned) and time.monotonic() < deadline:
            await asyncio.gather(first.read(wait_ms=50), second.read(wait_ms=50))
        (moved,) = others.assignments
        key = (moved.topic, moved.partition)
        assert key in hooks.revocations
        assert (moved.offset, moved.notes) == hooks.at_revoke[key]
        assert hooks.owned == {(topic, 1 - moved.partition)}
        await first.close()
        await second.close()

    run(work)


def test_members_share_each_topic_and_have_the_same_numbers_of_all(run: Run) -> None:
    """A cooperative assignor that shares all partitions at once gave a member all of a topic, and the other
    all of its retries: half of the members of a group were idle."""

    async def work(engine: Engine) -> None:
        topic, retries, group = (
            await made(engine, partitions=4),
            await made(engine, partitions=4),
            name("group"),
        )
        both = topic, retries
        everything = {(shared, number) for shared in both for number in range(4)}
        hooks, others = Recorder(), Recorder()
        first = await engine.join(group, both, start="earliest", hooks=hooks)
        await until_owned([first], lambda: hooks.owned == everything)
        await first.commit([Position(retries, number, 0) for number in range(4)], {(retries, 3): "three"})
        second = await engine.join(group, both, start="latest", hooks=others)
        await until_owned([first, second], lambda: len(hooks.owned) == len(others.owned) == 4)
        assert hooks.owned | others.owned == everything
        for owner in (hooks, others):
            numbers = [{number for where, number in owner.owned if where == shared} for shared in both]
            assert numbers[0] == numbers[1]
            assert len(numbers[0]) == 2
        assert {part.offset for part in others.assignments if part.topic == retries} == {0}
        moved = next(iter(number for _, number in others.owned))
        await engine.publish(retries, [NewEvent(b"again", partition=moved)])
        assert values(await read(second, 1)) == [b"again"]
        await second.commit([Position(retries, moved, 1)], {(retries, moved): "read"})
        await second.close()
        await until_owned([first], lambda: hooks.owned == everything)
        latest = {
            part.partition: (part.offset, part.notes) for part in hooks.assignments if part.topic == retries
        }
        assert latest[moved] == (1, "read")
        await first.close()

    run(work)


async def until_owned(members: Sequence[Member], is_so: Callable[[], bool]) -> None:
    """Read, as a member has to, until the partitions have come."""
    async with asyncio.timeout(40):
        while not is_so():
            await asyncio.gather(*(joined.read(wait_ms=50) for joined in members))
