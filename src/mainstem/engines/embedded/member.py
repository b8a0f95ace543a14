"""A consumer group member in the same process as the coordinator, for the embedded engine.

Owns: joining, the assignment when this member is the leader, heartbeats and rejoining. It can share a group
with any Kafka client that offers the `range` assignor. Refuses: the rules of groups, which the coordinator
has, and commits after its partitions were assigned to other members.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from mainstem.contract import (
    NO_NOTES,
    AssignedPartition,
    MemberHooks,
    Position,
    ReadResult,
    StreamError,
    TopicPartition,
    UnknownTopic,
)
from mainstem.coordinator.errors import (
    CoordinatorError,
    IllegalGeneration,
    MemberIdRequired,
    RebalanceInProgress,
    UnknownMember,
)
from mainstem.coordinator.groups.types import (
    CONSUMER_PROTOCOL,
    CommitRequest,
    CommittedOffset,
    Heartbeat,
    JoinReply,
    JoinRequest,
    LeaveRequest,
    NewOffset,
    SyncReply,
    SyncRequest,
    TopicRef,
)
from mainstem.engines.embedded.errors import translate
from mainstem.engines.embedded.read import EmbeddedReader, FindPartition
from mainstem.kafka_protocol.subscription import (
    read_assignment,
    read_subscription,
    write_assignment,
    write_subscription,
)
from mainstem.log.partition.commit_wait import when_end_committed
from mainstem.node import Node
from mainstem.promise import gather

SESSION_TIMEOUT_MS = 45_000
REBALANCE_TIMEOUT_MS = 60_000
HEARTBEAT_INTERVAL_S = 3.0
ASSIGNOR = "range"


class EmbeddedMember:
    """Implements the contract's Member."""

    def __init__(
        self,
        node: Node,
        find_partition: FindPartition,
        group: str,
        topics: Sequence[str],
        start: Literal["earliest", "latest"],
        hooks: MemberHooks | None = None,
    ) -> None:
        self._hooks = hooks
        self._node = node
        self._find_partition = find_partition
        self._group = group
        self._topics = sorted(set(topics))
        self._start = start
        self._member_id = ""
        self._generation = -1
        self._reader = EmbeddedReader(node.clock, find_partition, ())
        self._joined = False
        self._expelled = False
        """The group has given the partitions to other members."""
        self._owned: tuple[TopicPartition, ...] = ()
        """Of which the hooks know."""
        self._closed = False
        self._positions: dict[TopicPartition, int] = {}
        """Partition -> the offset after the last event that `read` has returned in this generation. `commit`
        commits these offsets."""
        self._heartbeat_task: asyncio.Task[None] | None = None
        self._join_task: asyncio.Task[None] | None = None

    async def read(self, *, max_events: int = 1_000, wait_ms: int = 1_000) -> ReadResult:
        """See the contract. Returns nothing if a rebalance takes longer than `wait_ms`; the rebalance goes on
        in the background."""
        if not self._joined:
            if self._join_task is None:
                self._join_task = asyncio.create_task(self._join())
            done, _ = await asyncio.wait([self._join_task], timeout=wait_ms / 1000)
            if not done:
                return ReadResult()
            join_task, self._join_task = self._join_task, None
            try:
                join_task.result()
            except CoordinatorError as error:
                raise translate(error, f"group {self._group}") from None
        result = await self._reader.read(max_events=max_events, wait_ms=wait_ms)
        for position in self._reader.positions():
            self._positions[position.topic, position.partition] = position.offset
        return result

    async def commit(
        self, positions: Sequence[Position] | None = None, notes: Mapping[TopicPartition, str] = NO_NOTES
    ) -> None:
        """See the contract."""
        if positions is None:
            positions = [Position(*key, offset) for key, offset in self._positions.items()]
        if not positions:
            return
        topics = tuple(
            (
                TopicRef(position.topic),
                (
                    NewOffset(
                        position.partition,
                        position.offset,
                        metadata=notes.get((position.topic, position.partition), ""),
                    ),
                ),
            )
            for position in positions
        )
        request = CommitRequest(
            group_id=self._group, member_id=self._member_id, generation=self._generation, topics=topics
        )
        try:
            partition_errors = await self._node.groups.commit(request)
        except CoordinatorError as error:
            raise StreamError(
                f"group {self._group}: the partitions were reassigned to other members: {error}"
            ) from None
        for partition_error in itertools.chain.from_iterable(partition_errors):
            if partition_error is not None:
                raise translate(partition_error, f"group {self._group}")

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See the contract."""
        self._reader.pause(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """See the contract."""
        self._reader.resume(partitions)

    async def close(self) -> None:
        """See the contract."""
        if self._closed:
            return
        self._closed = True
        for task in (self._heartbeat_task, self._join_task):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await self._reader.close()
        if self._member_id:
            await self._node.groups.leave(self._group, [LeaveRequest(self._member_id)])

    # --- membership ---------------------------------------------------------------------------------------

    async def _join(self) -> None:
        """Join the group's next generation; retries until it succeeds."""
        await self._give_up()
        while True:
            try:
                join_reply = await self._node.groups.join(self._join_request())
                self._member_id, self._generation = join_reply.member_id, join_reply.generation
                sync_reply = await self._sync(join_reply)
                break
            except MemberIdRequired as error:
                self._member_id = error.member_id
            except UnknownMember:
                self._member_id = ""
            except (RebalanceInProgress, IllegalGeneration):
                pass
        assert self._generation >= 0, "a member that joined has a generation"
        assigned, positions = await self._start_positions(self._read(sync_reply.assignment))
        self._expelled = False
        self._owned = tuple((partition.topic, partition.partition) for partition in assigned)
        if self._hooks is not None and assigned:
            await self._hooks.assigned(assigned)
        self._reader.assign(positions)
        self._joined = True
        if self._heartbeat_task is None:
            self._heartbeat_task = asyncio.create_task(self._send_heartbeats())

    async def _give_up(self) -> None:
        """Have nothing of the last generation any more. The group waits for its members meanwhile, and takes
        commits of that generation."""
        owned, self._owned = self._owned, ()
        self._reader.assign(())
        if self._hooks is not None and owned:
            await (self._hooks.lost if self._expelled else self._hooks.revoked)(owned)
        self._positions.clear()

    def _read(self, assignment: bytes) -> tuple[TopicPartition, ...]:
        """The partitions that the group's leader, which may be any client, has assigned to this member."""
        assigned = read_assignment(assignment) if assignment else ()
        if assigned is None:
            raise StreamError(
                f"group {self._group}: the assignment of its leader cannot be read: {len(assignment)} bytes"
            )
        return assigned

    def _join_request(self) -> JoinRequest:
        return JoinRequest(
            group_id=self._group,
            member_id=self._member_id,
            client_id="mainstem",
            client_host="embedded",
            protocol_type=CONSUMER_PROTOCOL,
            protocols=((ASSIGNOR, write_subscription(self._topics)),),
            session_timeout_ms=SESSION_TIMEOUT_MS,
            rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
            requires_member_id=True,  # so that `close` can leave while the join still waits
        )

    async def _sync(self, join_reply: JoinReply) -> SyncReply:
        return await self._node.groups.sync(
            SyncRequest(
                group_id=self._group,
                member_id=self._member_id,
                generation=self._generation,
                protocol_type=CONSUMER_PROTOCOL,
                protocol=ASSIGNOR,
                assignments=self._assign(join_reply),
            )
        )

    def _assign(self, join_reply: JoinReply) -> tuple[tuple[str, bytes], ...]:
        """The assignment of each member by Kafka's RangeAssignor. Empty unless this member is the leader."""
        subscriptions = {
            member.member_id: read_subscription(member.metadata) or frozenset()
            for member in join_reply.members
        }
        assignments: dict[str, list[TopicPartition]] = {member_id: [] for member_id in subscriptions}
        for topic in sorted({topic for topics in subscriptions.values() for topic in topics}):
            metadata = self._node.topics.get(topic)
            count = metadata.partitions if metadata is not None else 0
            members = sorted(member_id for member_id, topics in subscriptions.items() if topic in topics)
            for i, member_id in enumerate(members):
                first, end = _range(count, len(members), i)
                assignments[member_id] += [(topic, index) for index in range(first, end)]
        return tuple(
            (member_id, write_assignment(partitions)) for member_id, partitions in assignments.items()
        )

    async def _start_positions(
        self, assigned: Sequence[TopicPartition]
    ) -> tuple[list[AssignedPartition], list[Position]]:
        """The partitions that are there, and where to start in each: at the group's position, or as `start`
        says if there is none."""
        committed: dict[TopicPartition, CommittedOffset] = {}
        for topic_offsets in await self._node.groups.fetch_offsets(self._group):
            for partition_offset in topic_offsets.partitions:
                if partition_offset.offset is not None:
                    key = topic_offsets.topic.name, partition_offset.partition
                    committed[key] = partition_offset.offset
        partitions = {}
        for key in assigned:
            with contextlib.suppress(UnknownTopic):  # deleted while the group rebalanced
                partitions[key] = self._find_partition(*key)
        # A position, or the latest, may be after events with acks=1 that are not committed yet.
        clock = self._node.clock
        await gather([when_end_committed(partition, clock) for partition in partitions.values()])
        described, positions = [], []
        for key, partition in partitions.items():
            begin, end = partition.log_start_offset, partition.high_watermark
            default = begin if self._start == "earliest" else end
            saved = committed.get(key)
            offset = default if saved is None else saved.offset
            positions.append(Position(*key, offset if begin <= offset <= end else default))
            described.append(
                AssignedPartition(*key, None, "")
                if saved is None
                else AssignedPartition(*key, saved.offset, saved.metadata)
            )
        return described, positions

    async def _send_heartbeats(self) -> None:
        """Send a heartbeat every HEARTBEAT_INTERVAL_S. If the group rebalances, the next read joins again."""
        while True:
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)
            if not self._joined:
                continue
            heartbeat = Heartbeat(
                group_id=self._group, member_id=self._member_id, generation=self._generation
            )
            try:
                await self._node.groups.heartbeat(heartbeat)
            except UnknownMember:
                self._member_id, self._joined, self._expelled = "", False, True
            except IllegalGeneration:
                self._joined, self._expelled = False, True
            except CoordinatorError:
                self._joined = False


def _range(partitions: int, members: int, i: int) -> tuple[int, int]:
    """The first partition of the `i`-th member, and the one after its last: RangeAssignor gives one partition
    more to the first members if they cannot be divided evenly."""
    quotient, remainder = divmod(partitions, members)
    first = quotient * i + min(i, remainder)
    return first, first + quotient + (i < remainder)
