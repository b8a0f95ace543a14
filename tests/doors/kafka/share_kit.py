"""Share groups by raw requests, on a whole node with a simulated disk and clock."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, cast
from uuid import UUID

from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.doors.kafka.dispatch import Dispatcher
from mainstem.doors.kafka.handler import HandlerContext
from mainstem.doors.kafka.handlers import discover
from mainstem.doors.kafka.share_sessions import ShareSessions
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.kafka_protocol.message import Message
from mainstem.log.disk.contract import Disk
from mainstem.log.storage.record_batch import iter_batches
from mainstem.node import Node
from mainstem.settings import Settings
from tests.coordinator.seeds import small
from tests.doors.kafka.access_kit import MemoryAuthorizer, memory_access
from tests.doors.kafka.kit import DoorClient, batch, produce_request
from tests.support.clock import SimClock
from tests.support.memory_masks import MemoryMasks
from tests.support.simdisk import SimDisk

GROUP = "mail"
GAP, ACCEPT, RELEASE, REJECT, RENEW = range(5)
SHARE_FETCH, SHARE_ACKNOWLEDGE = 78, 79
Acks = Mapping[int, Iterable[tuple[int, int, list[int]]]]
"""Partition -> (first offset, last offset, acknowledge types)."""
NO_ACKS: Acks = MappingProxyType({})


class ShareRig:
    """A node with topic `t` of two partitions, and a share group that begins at its beginning."""

    def __init__(self, **configs: str) -> None:
        self.rng = random.Random(3)
        self.clock = SimClock()
        self.disk = SimDisk(self.clock, self.rng)
        self.sessions_max = 10
        self.authorizer = MemoryAuthorizer()
        self.open()
        self.wait(self.node.topics.create("t", 2))
        self.topic_id: UUID = self.node.topics.get("t").id  # type: ignore[union-attr]
        self.group = self.make_group(**configs)

    def open(self) -> None:
        with small():
            self.node = Node.open(Settings(), cast(Disk, self.disk), self.clock, self.rng).result()
        self.engine = EmbeddedEngine(self.node)
        self.sessions = ShareSessions(self.engine.batch_queues, self.sessions_max)
        self.node.share_groups.on_member_gone.append(self.sessions.end_of_member)
        self.masks = MemoryMasks()
        access = memory_access(self.authorizer, masks=self.masks)
        context = HandlerContext(node=self.node, access=access, share_sessions=self.sessions)
        self.dispatcher = Dispatcher(context, discover())
        self.clock.run()

    def kill(self) -> None:
        """End the server with kill -9 and start it again. Clients have to connect again."""
        clock = SimClock(wall_ms=self.clock.wall_ms() + 1)
        self.disk, self.clock = self.disk.kill(clock), clock
        self.open()

    def wait(self, promise: Any) -> Any:
        for _ in range(1000):
            if promise.done:
                return promise.result()
            self.clock.run()
            self.clock.advance(0.001)
        raise AssertionError("nothing came of it")

    def make_group(self, name: str = GROUP, **configs: str) -> SubscriptionMetadata:
        """A share group without members that begins at the beginning. `configs`: with _ in place of dots."""
        chosen = {"share.auto.offset.reset": "earliest"}
        chosen |= {config.replace("_", "."): value for config, value in configs.items()}
        self.wait(self.node.group_settings.replace(name, chosen))
        self.wait(self.node.share_groups.begin_without_members(name, ["t"]))
        group = self.node.share_groups.find(name)
        assert group is not None
        return group

    def member(self, name: str = "m1", group: str = GROUP) -> ShareMember:
        return ShareMember(self, name, group)

    def produce(self, *values: bytes, index: int = 0, **options: Any) -> None:
        """Produce one batch."""
        reply = self.call(0, 13, produce_request(self.topic_id, batch(*values, **options), index=index))
        assert reply.responses[0].partition_responses[0].error_code == 0

    def call(self, key: int, version: int, message: Message) -> Message:
        """The reply to a request on a connection of its own."""
        client = self.member().client
        client.send(key, version, message)
        for _ in range(1000):
            if replies := client.replies():
                client.connection.close()
                return replies[0]
            self.clock.advance(0.001)
        raise AssertionError("there is no reply")

    def states(self, end: int, index: int = 0) -> str:
        """The states of the offsets below `end`, a letter each; x: done."""
        view = self.node.subscriptions.views.find((self.group.id, self.topic_id, index))
        assert view is not None
        names = [view.sequence.state(position).name for position in range(end)]
        return "".join("x" if name == "DONE" else name[0].lower() for name in names)


class ShareMember:
    """A member's connection, and its share session."""

    def __init__(self, rig: ShareRig, name: str, group: str) -> None:
        self.rig = rig
        self.name = name
        self.group = group
        self.epoch = 0
        self.client = DoorClient(rig.node, dispatcher=rig.dispatcher)  # type: ignore[arg-type]

    def _topics(self, partitions: Iterable[int], acks: Acks) -> list[Message]:
        return [
            Message(
                topic_id=self.rig.topic_id,
                partitions=[
                    Message(
                        partition_index=index,
                        acknowledgement_batches=[
                            Message(first_offset=first, last_offset=last, acknowledge_types=types)
                            for first, last, types in acks.get(index, ())
                        ],
                    )
                    for index in partitions
                ],
            )
        ]

    def _take_epoch(self, epoch: int | None) -> int:
        if epoch is not None:
            return epoch
        taken, self.epoch = self.epoch, self.epoch + 1
        return taken

    def send_fetch(
        self,
        partitions: Iterable[int] = (0,),
        acks: Acks = NO_ACKS,
        *,
        epoch: int | None = None,
        **fields: Any,
    ) -> None:
        chosen = {
            "max_wait": 0,
            "min_bytes": 1,
            "max_bytes": 1 << 20,
            "max_records": 500,
            "batch_size": 500,
            "share_acquire_mode": 0,
            "is_renew_ack": False,
            "forgotten_topics_data": [],
            **fields,
        }
        message = Message(
            group_id=self.group,
            member_id=self.name,
            share_session_epoch=self._take_epoch(epoch),
            topics=self._topics(partitions, acks),
            **chosen,
        )
        self.client.send(SHARE_FETCH, 2, message)

    def fetch(self, partitions: Iterable[int] = (0,), acks: Acks = NO_ACKS, **fields: Any) -> Fetched:
        self.send_fetch(partitions, acks, **fields)
        return Fetched(self.reply())

    def acknowledge(
        self, acks: Acks, *, epoch: int | None = None, renew: bool = False, version: int = 2
    ) -> tuple[int, dict[int, int]]:
        """The top-level error code, and that of each partition."""
        message = Message(
            group_id=self.group,
            member_id=self.name,
            share_session_epoch=self._take_epoch(epoch),
            is_renew_ack=renew,
            topics=self._topics(acks, acks),
        )
        self.client.send(SHARE_ACKNOWLEDGE, version, message)
        reply = self.reply()
        partitions = [part for topic in reply.responses for part in topic.partitions]
        return reply.error_code, {part.partition_index: part.error_code for part in partitions}

    def reply(self) -> Message:
        """The next reply."""
        for _ in range(1000):
            if replies := self.client.replies():
                assert len(replies) == 1
                return replies[0]
            self.rig.clock.advance(0.001)
        raise AssertionError("there is no reply")

    def fetch_reply(self) -> Fetched:
        """The next reply, to a ShareFetch."""
        return Fetched(self.reply())

    def has_reply(self) -> bool:
        self.rig.clock.run()
        return len(self.client.transport.sent) > self.client._read

    def close(self) -> None:
        """Lose the connection."""
        self.client.connection.lost()
        self.rig.clock.run()


class Fetched:
    """What a ShareFetch brought."""

    def __init__(self, reply: Message) -> None:
        self.error = reply.error_code
        self.lock_ms = reply.acquisition_lock_timeout
        self.parts = {part.partition_index: part for topic in reply.responses for part in topic.partitions}

    def acquired(self, index: int = 0) -> list[tuple[int, int, int]]:
        """(first, last, deliveries) of a partition."""
        if index not in self.parts:
            return []
        return [
            (run.first_offset, run.last_offset, run.delivery_count)
            for run in self.parts[index].acquired_records
        ]

    def batches(self, index: int = 0) -> list[int]:
        """The base offsets of the batches of a partition."""
        return [header.base_offset for _, header in iter_batches(self.parts[index].records)]

    def errors(self) -> dict[int, tuple[int, int]]:
        """(fetch error, acknowledge error) of the partitions."""
        return {index: (part.error_code, part.acknowledge_error_code) for index, part in self.parts.items()}
