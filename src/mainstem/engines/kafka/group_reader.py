"""Lists and describes consumer groups with our own client of Kafka's protocol. Blocking: for a thread.

librdkafka decodes the assignment of every member and aborts the process at bytes that are not one (`00`),
although a coordinator takes any bytes and Kafka Connect and schema registries use others. It also lists no
groups of other protocol types.

Owns: the requests FindCoordinator, ListGroups, DescribeGroups and ConsumerGroupDescribe (KIP-848), and their
retries. Refuses: TLS and authentication, like the engine.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError

from mainstem.clock import BlockingClock
from mainstem.contract import GroupSummary, MemberInfo, NotReachable, StreamError, UnknownGroup
from mainstem.engines.group_members import member_info
from mainstem.engines.kafka.errors import translate
from mainstem.kafka_protocol.message import Message, ProtocolError
from mainstem.search.cluster.broker_client import BrokerClient, BrokerConnection, ClusterError
from mainstem.search.cluster.client_protocol import BrokerAddress, BrokerRequest

FIND_COORDINATOR, DESCRIBE_GROUPS, LIST_GROUPS, CONSUMER_GROUP_DESCRIBE = 10, 15, 16, 69
NEWEST = {FIND_COORDINATOR: 3, DESCRIBE_GROUPS: 5, LIST_GROUPS: 5, CONSUMER_GROUP_DESCRIBE: 0}
"""The newest version of each request that is sent."""
PAUSE_S = 0.1
"""Seconds between two attempts while a group has no coordinator."""
RETRIABLE = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)
LISTED_TYPES = ("classic", "consumer")
"""The types of groups whose members share partitions (KIP-848); not share groups."""


@dataclass(frozen=True, slots=True)
class DescribedGroup:
    """A group as its coordinator describes it, without positions."""

    state: str
    protocol_type: str
    assignor: str
    members: tuple[MemberInfo, ...]


class GroupReader:
    """Reads the groups of the cluster at `addresses`, for any number of threads, of which each waits for the
    others. `timeout_s` is how long to retry."""

    def __init__(self, addresses: Sequence[tuple[str, int]], clock: BlockingClock, timeout_s: float) -> None:
        self._cluster = BrokerClient(addresses, clock, timeout_s)
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
                    GroupSummary(group.group_id, group.group_state or "Unknown") for group in reply.groups
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
        connection = self._connection(host, port)
        if CONSUMER_GROUP_DESCRIBE not in connection.versions:
            raise UnknownGroup(f"{subject}: there is no such group")
        reply = self._call(host, port, CONSUMER_GROUP_DESCRIBE, Message(group_ids=[name]))
        group = _only_group(reply, subject)
        _check(group.error_code, subject)
        return _consumer_group(group)

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


def _consumer_group(group: Message) -> DescribedGroup:
    """A group of the protocol of KIP-848, in which the coordinator itself assigns partitions."""
    members = tuple(
        MemberInfo(
            member.member_id,
            member.client_id,
            member.client_host,
            member.instance_id,
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
    return DescribedGroup(group.group_state, "consumer", group.assignor_name, members)
