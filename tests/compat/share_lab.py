"""A share group of a server, driven by raw requests: its topic, its members, their sessions.

Owns: the requests, and what of the answers is compared: error codes, acquired ranges, deliveries. Texts of
errors are not. Used by share_probes.py and bench/share_groups.py.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from mainstem.kafka_protocol.message import Message
from mainstem.log.storage.record_batch import build, iter_batches
from tests.doors.kafka.kit import receive_reply, request_frame

GAP, ACCEPT, RELEASE, REJECT, RENEW = range(5)
Acks = Mapping[int, Sequence[tuple[int, int, list[int]]]]


class Caller:
    """One connection, with one request at a time."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, 30)
        self.correlation = 0

    def send(self, key: int, version: int, message: Message) -> None:
        self.correlation += 1
        self.socket.sendall(request_frame(key, version, self.correlation, message))

    def call(self, key: int, version: int, message: Message) -> Message:
        self.send(key, version, message)
        return receive_reply(self.socket, key, version)

    def close(self) -> None:
        self.socket.close()


class Lab:
    """A topic and a share group that begins at its beginning."""

    def __init__(self, address: str, name: str, partitions: int = 2) -> None:
        host, port = address.rsplit(":", 1)
        self.address = host, int(port)
        self.name = f"{name}-{uuid4().hex[:8]}"
        self.admin = Caller(self.address)
        self.callers = [self.admin]
        topic = Message(
            name=self.name, num_partitions=partitions, replication_factor=1, assignments=[], configs=[]
        )
        made = self.admin.call(19, 7, Message(topics=[topic], timeout=20_000, validate_only=False))
        self.topic_id: UUID = made.topics[0].topic_id
        # Kafka makes its topic of the groups when it is asked for a coordinator.
        self.admin.call(10, 6, Message(key_type=0, coordinator_keys=[self.name]))
        self.configure({"share.auto.offset.reset": "earliest"})
        self.keeper = self.join("keeper")

    def configure(self, configs: Mapping[str, str], group: str | None = None) -> int:
        """Set configs of the group. The error code."""
        settings = [Message(name=k, config_operation=0, value=v) for k, v in configs.items()]
        resource = Message(resource_type=32, resource_name=group or self.name, configs=settings)
        reply = self.admin.call(44, 1, Message(resources=[resource], validate_only=False))
        code: int = reply.responses[0].error_code
        return code

    def join(self, member: str, group: str | None = None) -> Caller:
        """Join the group, and wait until all partitions are assigned, which makes Kafka initialize them."""
        caller = self.connect()
        epoch = 0
        for _ in range(300):
            reply = caller.call(
                76,
                1,
                Message(
                    group_id=group or self.name,
                    member_id=member,
                    member_epoch=epoch,
                    rack_id=None,
                    subscribed_topic_names=[self.name],
                ),
            )
            if reply.error_code == 0:
                epoch = reply.member_epoch
                if reply.assignment is not None and reply.assignment.topic_partitions:
                    return caller
            time.sleep(0.1)
        raise AssertionError(f"no assignment: {reply}")

    def leave(self, member: str = "keeper") -> None:
        """Leave the group."""
        self.keeper.call(
            76,
            1,
            Message(
                group_id=self.name,
                member_id=member,
                member_epoch=-1,
                rack_id=None,
                subscribed_topic_names=None,
            ),
        )

    def connect(self) -> Caller:
        caller = Caller(self.address)
        self.callers.append(caller)
        return caller

    def member(self, name: str, group: str | None = None) -> LabMember:
        return LabMember(self, name, group or self.name)

    def produce(self, *counts: int, partition: int = 0, size: int = 5) -> None:
        """Produce batches with these numbers of records."""
        for count in counts:
            now_ms = int(time.time() * 1000)
            records = build([(None, b"x" * size, (), now_ms) for _ in range(count)])
            part = Message(index=partition, records=bytes(records))
            topic = Message(topic_id=self.topic_id, partition_data=[part])
            request = Message(transactional_id=None, acks=-1, timeout=20_000, topic_data=[topic])
            for _ in range(50):
                reply = self.admin.call(0, 13, request)
                if reply.responses[0].partition_responses[0].error_code == 0:
                    break
                time.sleep(0.1)

    def close(self) -> None:
        for caller in self.callers:
            caller.close()


class LabMember:
    """A share consumer: its connection and its session."""

    def __init__(self, lab: Lab, name: str, group: str) -> None:
        self.lab = lab
        self.name = name
        self.group = group
        self.caller = lab.connect()
        self.epoch = 0
        self._before = 0
        self._version = 2

    def _epoch(self, epoch: int | None) -> int:
        self._before = self.epoch
        if epoch is not None:
            return epoch
        self.epoch += 1
        return self._before

    def _topics(self, partitions: Iterable[int], acks: Acks, topic_id: UUID | None) -> list[Message]:
        parts = [
            Message(
                partition_index=index,
                acknowledgement_batches=[
                    Message(first_offset=first, last_offset=last, acknowledge_types=types)
                    for first, last, types in acks.get(index, ())
                ],
            )
            for index in partitions
        ]
        return [Message(topic_id=topic_id or self.lab.topic_id, partitions=parts)] if parts else []

    def send_fetch(
        self,
        partitions: Iterable[int] = (0,),
        acks: Acks | None = None,
        *,
        epoch: int | None = None,
        topic_id: UUID | None = None,
        version: int = 2,
        **fields: Any,
    ) -> None:
        message = Message(
            **{
                "group_id": self.group,
                "member_id": self.name,
                "share_session_epoch": self._epoch(epoch),
                "max_wait": 500,
                "min_bytes": 1,
                "max_bytes": 1 << 20,
                "max_records": 500,
                "batch_size": 500,
                "share_acquire_mode": 0,
                "is_renew_ack": False,
                "forgotten_topics_data": [],
                "topics": self._topics(partitions, acks or {}, topic_id),
                **fields,
            }
        )
        self.caller.send(78, version, message)
        self._version = version

    def fetch(self, partitions: Iterable[int] = (0,), acks: Acks | None = None, **fields: Any) -> Any:
        """What was acquired: (error,) or {partition: ...}."""
        self.send_fetch(partitions, acks, **fields)
        return self.fetched()

    def take(self, partitions: Iterable[int] = (0,), acks: Acks | None = None, **fields: Any) -> Any:
        """As `fetch`, where something is to come: again until it does. Kafka may say nothing while it loads
        the partition, and other threads do what follows from a request."""
        fetched = self.fetch(partitions, acks, **{"max_wait": 2_000, **fields})
        for _ in range(5):
            if fetched:
                break
            fetched = self.fetch(partitions, **{"max_wait": 2_000, **fields})
        return fetched

    def fetched(self) -> Any:
        reply = receive_reply(self.caller.socket, 78, self._version)
        if reply.error_code:
            self.epoch = self._before  # the request was not taken
            return ("error", reply.error_code)
        parts_of: dict[int, Any] = {}
        for topic in reply.responses:
            for part in topic.partitions:
                runs = [
                    [run.first_offset, run.last_offset, run.delivery_count] for run in part.acquired_records
                ]
                codes = (part.error_code, part.acknowledge_error_code)
                bases = [header.base_offset for _, header in iter_batches(part.records or b"")]
                if runs or codes != (0, 0) or bases:
                    parts_of[part.partition_index] = (codes, _merged(runs), bases)
        return dict(sorted(parts_of.items()))

    def acknowledge(
        self, acks: Acks, *, epoch: int | None = None, renew: bool = False, topic_id: UUID | None = None
    ) -> Any:
        message = Message(
            group_id=self.group,
            member_id=self.name,
            share_session_epoch=self._epoch(epoch),
            is_renew_ack=renew,
            topics=self._topics(acks, acks, topic_id),
        )
        reply = self.caller.call(79, 2, message)
        if reply.error_code:
            return ("error", reply.error_code)
        parts = [part for topic in reply.responses for part in topic.partitions]
        return {part.partition_index: part.error_code for part in sorted(parts, key=index_of)}


def index_of(part: Message) -> int:
    index: int = part.partition_index
    return index


def _merged(runs: list[list[int]]) -> list[list[int]]:
    """Ranges that touch and have the same deliveries as one: how they are cut is not compared."""
    merged: list[list[int]] = []
    for first, last, deliveries in sorted(runs):
        if merged and merged[-1][1] + 1 == first and merged[-1][2] == deliveries:
            merged[-1][1] = last
        else:
            merged.append([first, last, deliveries])
    return merged
