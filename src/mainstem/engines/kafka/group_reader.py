"""Lists and describes consumer groups with our own client of Kafka's protocol. Blocking: for a thread.

librdkafka decodes the assignment of every member and aborts the process at bytes that are not one (`00`),
although a coordinator takes any bytes and Kafka Connect and schema registries use others. It also lists no
groups of other protocol types.

Owns: the requests FindCoordinator, ListGroups, DescribeGroups, ConsumerGroupDescribe (KIP-848),
ShareGroupDescribe and DescribeShareGroupOffsets (KIP-932), and their retries. Refuses: TLS and
authentication, like the engine.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError

from mainstem.client_security import PLAINTEXT, ClientSecurity
from mainstem.clock import BlockingClock
from mainstem.contract import GroupSummary, MemberInfo, NotReachable, StreamError, UnknownGroup
from mainstem.engines.group_members import member_info
from mainstem.engines.kafka.errors import translate
from mainstem.kafka_protocol.message import Message, ProtocolError
from mainstem.search.cluster.broker_client import BrokerClient, BrokerConnection, ClusterError
from mainstem.search.cluster.client_protocol import BrokerAddress, BrokerRequest

FIND_COORDINATOR, DESCRIBE_GROUPS, LIST_GROUPS, CONSUMER_GROUP_DESCRIBE = 10, 15, 16, 69
SHARE_GROUP_DESCRIBE, DESCRIBE_SHARE_GROUP_OFFSETS = 77, 90
NEWEST = {
    FIND_COORDINATOR: 3,
    DESCRIBE_GROUPS: 5,
    LIST_GROUPS: 5,
    CONSUMER_GROUP_DESCRIBE: 0,
    SHARE_GROUP_DESCRIBE: 1,
    DESCRIBE_SHARE_GROUP_OFFSETS: 1,
}
"""The newest version of each request that is sent."""
PAUSE_S = 0.1
"""Seconds between two attempts while a group has no coordinator."""
RETRIABLE = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)
LISTED_TYPES = ("classic", "consumer", "share")
"""Not those of Kafka Streams (KIP-1071)."""


@dataclass(frozen=True, slots=True)
class SharedPartition:
    """A partition that a share group reads. `start`: its first record that is not done; `lag`: how many are
    not. None: not known."""

    topic: str
    partition: int
    start: int | None
    lag: int | None


@dataclass(frozen=True, slots=True)
class DescribedGroup:
    """A group as its coordinator describes it, without positions."""

    state: str
    protocol_type: str
    assignor: str
    members: tuple[MemberInfo, ...]
    shared: tuple[SharedPartition, ...] = ()
    """Of a share group: how far it is."""


class GroupReader:
    """Reads the groups of the cluster at `addresses`, for any number of threads, of which each waits for the
    others. `timeout_s` is how long to retry."""

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        clock: BlockingClock,
        timeout_s: float,
        security: ClientSecurity = PLAINTEXT,
    ) -> None:
        self._cluster = BrokerClient(addresses, clock, timeout_s, security)
        self._clock = clock
        self._timeout_s = timeout_s
        self._lock = threading.Lock()

    def list(self) -> list[GroupSummary]:
        """All groups, sorted by name. Brokers that do not answer are left out; NotReachable if none does."""
        groups: list[GroupSummary] = []
        problems: list[StreamError] = []
        with self._lock:
            brokers = self._brokers()
            request = Message(types_filter=LISTED_TYPES)
            for broker in brokers:
                try:
                    reply = self._call(broker.host, broker.port, LIST_GROUPS, request)
                    _check(reply.error_code, f"broker {broker.host}:{broker.port}")
                except StreamError as error:
                    problems.append(error)
                    continue
                groups += [
                    GroupSummary(group.group_id, group.group_state or "Unknown", group.protocol_type)
                    for group in reply.groups
                ]
        if problems and len(problems) == len(brokers):
            raise problems[0]
        return sorted(groups, key=lambda group: group.name)

    def describe(self, name: str) -> DescribedGroup:
        """One group with its members. UnknownGroup, NotReachable, NotAllowed."""
        subject = f"group {name}"
        deadline = self._clock.monotonic() + self._timeout_s
        while True:
            with self._lock:
                described = self._try_to_describe(name, subject)
            if isinstance(described, DescribedGroup):
                return described
            if self._clock.monotonic() >= deadline:
                raise described
            self._clock.sleep(PAUSE_S)

    def _try_to_describe(self, name: str, subject: str) -> DescribedGroup | StreamError:
        """The group, or the error of its coordinator if a later attempt may succeed."""
        brokers = self._brokers()
        if not brokers:
            raise NotReachable("the cluster has no broker")
        request = Message(key=name, key_type=0)
        coordinator = self._call(brokers[0].host, brokers[0].port, FIND_COORDINATOR, request)
        if coordinator.error_code in RETRIABLE:
            return translate(KafkaError(coordinator.error_code), subject)
        _check(coordinator.error_code, subject)
        host, port = coordinator.host, coordinator.port
        reply = self._call(host, port, DESCRIBE_GROUPS, Message(groups=[name]))
        group = _only_group(reply, subject)
        if group.error_code in RETRIABLE:
            return translate(KafkaError(group.error_code), subject)
        _check(group.error_code, subject)
        if group.group_state != "Dead":
            return _classic_group(group)
        offered = self._connection(host, port).versions
        if CONSUMER_GROUP_DESCRIBE in offered:
            reply = self._call(host, port, CONSUMER_GROUP_DESCRIBE, Message(group_ids=[name]))
            group = _only_group(reply, subject)
            if group.error_code != KafkaError.GROUP_ID_NOT_FOUND or SHARE_GROUP_DESCRIBE not in offered:
                _check(group.error_code, subject)
                return _assigned_group(group, "consumer")
        if SHARE_GROUP_DESCRIBE not in offered:
            raise UnknownGroup(f"{subject}: there is no such group")
        return self._share_group(host, port, name, subject)

    def _share_group(self, host: str, port: int, name: str, subject: str) -> DescribedGroup:
        reply = self._call(host, port, SHARE_GROUP_DESCRIBE, Message(group_ids=[name]))
        group = _only_group(reply, subject)
        _check(group.error_code, subject)
        request = Message(groups=[Message(group_id=name, topics=None)])
        offsets = _only_group(self._call(host, port, DESCRIBE_SHARE_GROUP_OFFSETS, request), subject)
        _check(offsets.error_code, subject)
        shared = tuple(
            SharedPartition(
                topic.topic_name,
                partition.partition_index,
                partition.start_offset if partition.start_offset >= 0 else None,
                partition.lag if partition.lag >= 0 else None,
            )
            for topic in offsets.topics
            for partition in topic.partitions
            if not partition.error_code
        )
        return _assigned_group(group, "share", shared)

    def _brokers(self) -> Sequence[BrokerAddress]:
        try:
            return self._cluster.fetch_metadata([]).brokers
        except ClusterError as error:
            raise NotReachable(str(error)) from None

    def _connection(self, host: str, port: int) -> BrokerConnection:
        try:
            return self._cluster.connection(host, port)
        except ClusterError as error:
            raise NotReachable(str(error)) from None

    def _call(self, host: str, port: int, key: int, message: Message) -> Message:
        """The reply of a broker. A connection that was idle may have been closed: a second one is tried."""
        for attempt in range(2):
            connection = self._connection(host, port)
            least, largest = connection.versions.get(key, (0, 0))
            request = BrokerRequest(key, max(least, min(largest, NEWEST[key])), message)
            try:
                return connection.call(request)
            except ProtocolError as error:
                self._cluster.discard(connection)
                raise StreamError(f"broker {host}:{port}: a reply that cannot be read: {error}") from None
            except OSError as error:
                self._cluster.discard(connection)
                if attempt:
                    raise NotReachable(f"broker {host}:{port} does not answer ({error})") from None
        raise AssertionError("the second attempt returns or raises")

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._cluster.close()


def _check(code: int, subject: str) -> None:
    if code:
        raise translate(KafkaError(code), subject)


def _only_group(reply: Message, subject: str) -> Message:
    if len(reply.groups) != 1:
        raise StreamError(f"{subject}: its coordinator described {len(reply.groups)} groups instead of one")
    group: Message = reply.groups[0]
    return group


def _classic_group(group: Message) -> DescribedGroup:
    members = tuple(
        member_info(
            group.protocol_type,
            member.member_id,
            member.client_id,
            member.client_host,
            member.group_instance_id,
            bytes(member.member_assignment or b""),
        )
        for member in group.members
    )
    return DescribedGroup(group.group_state, group.protocol_type, group.protocol_data, members)


def _assigned_group(
    group: Message, protocol_type: str, shared: tuple[SharedPartition, ...] = ()
) -> DescribedGroup:
    """A group whose coordinator itself assigns partitions (KIP-848, KIP-932)."""
    members = tuple(
        MemberInfo(
            member.member_id,
            member.client_id,
            member.client_host,
            getattr(member, "instance_id", None),
            tuple(
                sorted(
                    (topic.topic_name, partition)
                    for topic in member.assignment.topic_partitions
                    for partition in topic.partitions
                )
            ),
        )
        for member in group.members
    )
    return DescribedGroup(group.group_state, protocol_type, group.assignor_name, members, shared)
