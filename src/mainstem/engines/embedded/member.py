"""A member of a consumer group inside the server, for the embedded engine.

Owns: the member's life (join, assign as leader, heartbeat, rejoin) and the two small messages that
consumers of the classic protocol exchange through it (ConsumerProtocolSubscription and
ConsumerProtocolAssignment, version 0). It shares a group with any Kafka client that offers the `range`
assignor. Used by `embedded.py` only.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from mainstem.contract import Position, ReadResult, StreamError, UnknownTopic
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
    Heartbeat,
    JoinReply,
    JoinRequest,
    LeaveRequest,
    NewOffset,
    SyncRequest,
    TopicRef,
)
from mainstem.engines.embedded.errors import translate
from mainstem.engines.embedded.read import EmbeddedReader
from mainstem.log.partition.partition import Partition

if TYPE_CHECKING:
    from mainstem.node import Node

SESSION_TIMEOUT_MS = 45_000
REBALANCE_TIMEOUT_MS = 60_000
HEARTBEAT_S = 3.0
ASSIGNOR = "range"

Assigned = tuple[tuple[str, int], ...]


class EmbeddedMember:
    """The contract's Member."""

    def __init__(
        self,
        node: Node,
        find: Callable[[str, int], Partition],
        group: str,
        topics: Sequence[str],
        start: Literal["earliest", "latest"],
    ) -> None:
        self._node = node
        self._find = find
        self._group = group
        self._topics = sorted(set(topics))
        self._start = start
        self._member_id = ""
        self._generation = -1
        self._reader = EmbeddedReader(node.clock, find, ())
        self._joined = False
        self._closed = False
        self._given: dict[tuple[str, int], int] = {}
        self._heart: asyncio.Task[None] | None = None
        self._joining: asyncio.Task[None] | None = None

    async def read(self, *, max_events: int = 1_000, wait_ms: int = 1_000) -> ReadResult:
        """See the contract. A rebalance that lasts longer than `wait_ms` goes on meanwhile: nothing is
        read."""
        if not self._joined:
            if self._joining is None:
                self._joining = asyncio.create_task(self._join())
            done, _ = await asyncio.wait([self._joining], timeout=wait_ms / 1000)
            if not done:
                return ReadResult()
            joining, self._joining = self._joining, None
            try:
                joining.result()
            except CoordinatorError as error:
                raise translate(error, f"group {self._group}") from None
        found = await self._reader.read(max_events=max_events, wait_ms=wait_ms)
        self._given.update(((each.topic, each.partition), each.offset) for each in self._reader.positions())
        return found

    async def commit(self) -> None:
        """See the contract."""
        if not self._given:
            return
        topics = tuple(
            (TopicRef(topic), (NewOffset(partition, offset),))
            for (topic, partition), offset in self._given.items()
        )
        request = CommitRequest(
            group_id=self._group, member_id=self._member_id, generation=self._generation, topics=topics
        )
        try:
            verdicts = await self._node.groups.commit(request)
        except CoordinatorError as error:
            raise StreamError(f"group {self._group}: the partitions were given to others: {error}") from None
        for verdict in itertools.chain.from_iterable(verdicts):
            if verdict is not None:
                raise translate(verdict, f"group {self._group}")

    async def close(self) -> None:
        """See the contract."""
        if self._closed:
            return
        self._closed = True
        for task in (self._heart, self._joining):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await self._reader.close()
        if self._member_id:
            await self._node.groups.leave(self._group, [LeaveRequest(self._member_id)])

    # --- life ---------------------------------------------------------------------------------------------

    async def _join(self) -> None:
        """Into the group's next generation, until it holds."""
        self._given.clear()
        while True:
            try:
                joined = await self._node.groups.join(
                    JoinRequest(
                        group_id=self._group,
                        member_id=self._member_id,
                        client_id="mainstem",
                        client_host="embedded",
                        protocol_type=CONSUMER_PROTOCOL,
                        protocols=((ASSIGNOR, write_subscription(self._topics)),),
                        session_timeout_ms=SESSION_TIMEOUT_MS,
                        rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
                        requires_member_id=True,  # before the wait, so that `close` can leave in it
                    )
                )
                self._member_id, self._generation = joined.member_id, joined.generation
                synced = await self._node.groups.sync(
                    SyncRequest(
                        group_id=self._group,
                        member_id=self._member_id,
                        generation=self._generation,
                        protocol_type=CONSUMER_PROTOCOL,
                        protocol=ASSIGNOR,
                        assignments=self._assign(joined),
                    )
                )
                break
            except MemberIdRequired as error:
                self._member_id = error.member_id
            except UnknownMember:
                self._member_id = ""
            except (RebalanceInProgress, IllegalGeneration):
                pass
        self._reader.assign(await self._starts(read_assignment(synced.assignment)))
        self._joined = True
        if self._heart is None:
            self._heart = asyncio.create_task(self._beat())

    def _assign(self, joined: JoinReply) -> tuple[tuple[str, bytes], ...]:
        """As the leader: who reads what, by Kafka's RangeAssignor."""
        wants = {each.member_id: read_subscription(each.metadata) for each in joined.members}
        shares: dict[str, list[tuple[str, int]]] = {member: [] for member in wants}
        for topic in sorted({topic for topics in wants.values() for topic in topics}):
            known = self._node.topics.get(topic)
            members = sorted(member for member, topics in wants.items() if topic in topics)
            for at, member in enumerate(members):
                count = known.partitions if known is not None else 0
                low, high = _range(count, len(members), at)
                shares[member] += [(topic, index) for index in range(low, high)]
        return tuple((member, write_assignment(share)) for member, share in shares.items())

    async def _starts(self, assigned: Assigned) -> list[Position]:
        """Where to read each partition from: the group's position, else by `start`."""
        known: dict[tuple[str, int], int] = {}
        for topic in await self._node.groups.fetch_offsets(self._group):
            for one in topic.partitions:
                if one.offset is not None:
                    known[topic.topic.name, one.partition] = one.offset.offset
        starts = []
        for where in assigned:
            try:
                partition = self._find(*where)
            except UnknownTopic:
                continue  # deleted while the group rebalanced
            begin, end = partition.log_start_offset, partition.high_watermark
            other = begin if self._start == "earliest" else end
            offset = known.get(where, other)
            starts.append(Position(*where, offset if begin <= offset <= end else other))
        return starts

    async def _beat(self) -> None:
        """Say that it lives; when the group rebalances, the next read joins again."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if not self._joined:
                continue
            beat = Heartbeat(group_id=self._group, member_id=self._member_id, generation=self._generation)
            try:
                await self._node.groups.heartbeat(beat)
            except UnknownMember:
                self._member_id, self._joined = "", False
            except CoordinatorError:
                self._joined = False


def _range(partitions: int, members: int, at: int) -> tuple[int, int]:
    """RangeAssignor: the first members get one more."""
    each, more = divmod(partitions, members)
    low = each * at + min(at, more)
    return low, low + each + (at < more)


# --- the consumers' own messages --------------------------------------------------------------------------


def write_subscription(topics: Iterable[str]) -> bytes:
    """ConsumerProtocolSubscription v0: the topics that a member wants."""
    names = [topic.encode() for topic in topics]
    body = b"".join(struct.pack(f">h{len(name)}s", len(name), name) for name in names)
    return struct.pack(">hi", 0, len(names)) + body + struct.pack(">i", -1)


def read_subscription(data: bytes) -> set[str]:
    """The topics of a ConsumerProtocolSubscription of any version. Empty for what is none."""
    try:
        return set(_Reader(data, at=2).names())
    except (struct.error, UnicodeDecodeError):
        return set()


def write_assignment(assigned: Sequence[tuple[str, int]]) -> bytes:
    """ConsumerProtocolAssignment v0."""
    by_topic: dict[str, list[int]] = {}
    for topic, partition in assigned:
        by_topic.setdefault(topic, []).append(partition)
    parts = [struct.pack(">hi", 0, len(by_topic))]
    for topic, partitions in by_topic.items():
        name = topic.encode()
        parts.append(struct.pack(f">h{len(name)}si", len(name), name, len(partitions)))
        parts.append(struct.pack(f">{len(partitions)}i", *partitions))
    return b"".join(parts) + struct.pack(">i", -1)


def read_assignment(data: bytes) -> Assigned:
    """What a ConsumerProtocolAssignment of any version assigns, sorted. Empty for what is none."""
    reader = _Reader(data, at=2)
    assigned: list[tuple[str, int]] = []
    try:
        for _ in range(reader.count()):
            topic = reader.name()
            assigned += [(topic, reader.number()) for _ in range(reader.count())]
    except (struct.error, UnicodeDecodeError):
        return ()
    return tuple(sorted(assigned))


class _Reader:
    """Kafka's oldest encoding: big-endian numbers, counted strings and arrays. struct.error past the end."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def number(self) -> int:
        (value,) = struct.unpack_from(">i", self._data, self._at)
        self._at += 4
        return int(value)

    def count(self) -> int:
        """A number of elements, each of at least 2 bytes."""
        count = self.number()
        if count * 2 > len(self._data) - self._at:
            raise struct.error("more elements than bytes")
        return max(0, count)

    def name(self) -> str:
        (length,) = struct.unpack_from(">h", self._data, self._at)
        (raw,) = struct.unpack_from(f">{max(0, length)}s", self._data, self._at + 2)
        self._at += 2 + max(0, length)
        return bytes(raw).decode()

    def names(self) -> list[str]:
        return [self.name() for _ in range(self.count())]
