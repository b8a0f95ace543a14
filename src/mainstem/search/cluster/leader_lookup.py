"""Asks the leaders of many partitions at once: bounds, offsets by time, ends of leader epochs and sizes.

Owns: sending one request to each leader, however many partitions it leads, and retrying while partitions have
no leader. Refuses: to fail because of one partition: its problem is part of the result. Blocking: for search
workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

from mainstem.kafka_protocol.message import ProtocolError
from mainstem.search.cluster import client_protocol as wire
from mainstem.search.cluster.broker_client import (
    PAUSE_S,
    RETRIABLE,
    RETRY_S,
    UNKNOWN_TOPIC,
    BrokerClient,
    BrokerConnection,
    ClusterError,
    refusal,
)
from mainstem.search.cluster.client_protocol import ClusterTopic, LookedUpOffset, TopicPartition
from mainstem.search.cluster.messages import (
    UNKNOWN,
    ClusterPartition,
    ListPartitionsRequest,
    LookUpOffsetsRequest,
)
from mainstem.search.contract import topic_is_requested

LookupResult: TypeAlias = LookedUpOffset | ClusterError
LookupCall: TypeAlias = Callable[
    [BrokerConnection, Mapping[TopicPartition, int]], dict[TopicPartition, LookedUpOffset]
]
"""A function that asks one broker about some of the partitions that it leads."""


def list_partitions(cluster: BrokerClient, request: ListPartitionsRequest) -> list[ClusterPartition]:
    """The partitions of the requested topics, with bounds and sizes. Raises ClusterError if no broker
    answers."""
    topics = [
        topic
        for topic in cluster.fetch_metadata(None).topics
        if topic.error != UNKNOWN_TOPIC
        and (request.globs or not topic.internal)
        and topic_is_requested(topic.name, request.globs, request.query_globs)
    ]
    partitions = [(topic.name, row.partition) for topic in topics for row in topic.partitions]
    begins = _ask_leaders(cluster, dict.fromkeys(partitions, wire.EARLIEST), _list_offsets)
    readable = [partition for partition, begin in begins.items() if isinstance(begin, LookedUpOffset)]
    ends = _ask_leaders(cluster, dict.fromkeys(readable, wire.LATEST), _list_offsets)
    sizes = _sizes(cluster, readable)
    return [
        _cluster_partition(
            topic,
            row.partition,
            begins[topic.name, row.partition],
            ends.get((topic.name, row.partition)),
            sizes.get((topic.name, row.partition), 0),
        )
        for topic in sorted(topics, key=lambda topic: topic.name)
        for row in sorted(topic.partitions)
        if (topic.name, row.partition) in begins
    ]


def _cluster_partition(
    topic: ClusterTopic, partition: int, begin: LookupResult, end: LookupResult | None, size: int
) -> ClusterPartition:
    """The description of a partition from the results of the look-ups of its bounds. `end`: None if the
    partition was deleted after `begin` was looked up; it is then described as empty."""
    end = begin if end is None else end
    problem = next((str(bound) for bound in (begin, end) if isinstance(bound, ClusterError)), "")
    return ClusterPartition(
        topic.name,
        topic.id.hex if topic.id is not None else "",
        topic.internal,
        partition,
        begin.offset if isinstance(begin, LookedUpOffset) else 0,
        end.offset if isinstance(end, LookedUpOffset) else 0,
        size,
        problem,
    )


def look_up_offsets(cluster: BrokerClient, request: LookUpOffsetsRequest) -> list[tuple[int, int]]:
    """The result of each look-up, in order: (time or epoch, offset), or (UNKNOWN, UNKNOWN). A request to a
    broker has each partition only once, so that several look-ups in one partition take several rounds."""
    call = _list_offsets if request.kind == "time" else _leader_epochs
    rounds: list[dict[TopicPartition, int]] = []
    lookups: list[tuple[int, TopicPartition]] = []
    rounds_of: dict[TopicPartition, int] = {}
    for topic, partition, value in request.lookups:
        number = rounds_of.get((topic, partition), 0)
        rounds_of[topic, partition] = number + 1
        if number == len(rounds):
            rounds.append({})
        rounds[number][topic, partition] = value
        lookups.append((number, (topic, partition)))
    results = [_ask_leaders(cluster, values, call) for values in rounds]
    pairs = []
    for number, where in lookups:
        result = results[number].get(where)
        if isinstance(result, LookedUpOffset):
            pairs.append((result.time_or_epoch, result.offset))
        else:
            pairs.append((UNKNOWN, UNKNOWN))
    return pairs


def _list_offsets(
    connection: BrokerConnection, times: Mapping[TopicPartition, int]
) -> dict[TopicPartition, LookedUpOffset]:
    return wire.list_offsets_reply(connection.call(wire.list_offsets_request(times)))


def _leader_epochs(
    connection: BrokerConnection, epochs: Mapping[TopicPartition, int]
) -> dict[TopicPartition, LookedUpOffset]:
    if not wire.supports(connection.versions, wire.LEADER_EPOCH, wire.LEADER_EPOCH_VERSION):
        return dict.fromkeys(epochs, LookedUpOffset(0, UNKNOWN, UNKNOWN))
    return wire.leader_epoch_reply(connection.call(wire.leader_epoch_request(epochs)))


def _log_dirs(
    connection: BrokerConnection, partitions: Mapping[TopicPartition, int]
) -> dict[TopicPartition, LookedUpOffset]:
    """The sizes of partitions on this broker, each in the field `offset` of a LookedUpOffset, so that all
    look-ups have one type."""
    if not wire.supports(connection.versions, wire.LOG_DIRS, wire.LOG_DIRS_VERSION):
        return {}
    sizes = wire.log_dirs_reply(connection.call(wire.log_dirs_request(partitions)))
    return {partition: LookedUpOffset(0, 0, size) for partition, size in sizes.items()}


def _ask_leaders(
    cluster: BrokerClient, values: Mapping[TopicPartition, int], call: LookupCall
) -> dict[TopicPartition, LookupResult]:
    """The results of `call` for all partitions, each from its leader. It is repeated for up to RETRY_S if
    there is no leader or it does not answer; a partition without a result then has a ClusterError. Deleted
    partitions are left out."""
    results: dict[TopicPartition, LookupResult] = {}
    pending = dict(values)
    deadline = cluster.clock.monotonic() + RETRY_S
    while pending:
        problems: dict[TopicPartition, LookupResult] = {}
        for group in _by_leader(cluster, pending, problems):
            answers = _ask_leader(cluster, group, call)
            for partition in group:
                answer = answers.get(partition) if isinstance(answers, dict) else answers
                if isinstance(answer, LookedUpOffset) and answer.error == 0:
                    results[partition] = answer
                elif isinstance(answer, LookedUpOffset) and answer.error not in RETRIABLE | {UNKNOWN_TOPIC}:
                    results[partition] = refusal(answer.error)
                elif isinstance(answer, ClusterError):
                    problems[partition] = answer
                else:
                    problems[partition] = ClusterError("the partition has no leader")
        if problems and cluster.clock.monotonic() >= deadline:
            return results | problems
        pending = {partition: pending[partition] for partition in problems}
        if pending:
            cluster.clock.sleep(PAUSE_S)
            pending = _drop_deleted(cluster, pending)
    return results


def _by_leader(
    cluster: BrokerClient,
    values: Mapping[TopicPartition, int],
    problems: dict[TopicPartition, LookupResult],
) -> list[dict[TopicPartition, int]]:
    """The partitions in groups with one leader each. Those without a leader are added to `problems`."""
    groups: dict[int, dict[TopicPartition, int]] = {}
    for partition, value in values.items():
        try:
            connection = cluster.leader(partition)
        except ClusterError as error:
            problems[partition] = error
        else:
            groups.setdefault(id(connection), {})[partition] = value
    return list(groups.values())


def _ask_leader(
    cluster: BrokerClient, group: Mapping[TopicPartition, int], call: LookupCall
) -> dict[TopicPartition, LookedUpOffset] | ClusterError:
    """The results of `call` for partitions with one leader, or the ClusterError if the leader does not
    answer."""
    try:
        connection = cluster.leader(next(iter(group)))
    except ClusterError as error:
        return error
    try:
        return call(connection, group)
    except (OSError, ProtocolError) as error:
        cluster.discard(connection)
        return ClusterError(f"the partition's broker did not answer: {error}")


def _drop_deleted(cluster: BrokerClient, values: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Returns these partitions without those of deleted topics, and updates the leaders of the others."""
    for partition in values:
        cluster.forget_leader(partition)
    deleted: set[str] = set()
    with suppress(ClusterError):
        topics = cluster.fetch_metadata(sorted({topic for topic, _ in values})).topics
        deleted = {topic.name for topic in topics if topic.error == UNKNOWN_TOPIC}
    return {partition: value for partition, value in values.items() if partition[0] not in deleted}


def _sizes(cluster: BrokerClient, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """The sizes of partitions on their leaders, in bytes. Brokers that do not answer are left out."""
    sizes: dict[TopicPartition, int] = {}
    for group in _by_leader(cluster, dict.fromkeys(partitions, 0), {}):
        answers = _ask_leader(cluster, group, _log_dirs)
        if isinstance(answers, dict):
            sizes |= {partition: answer.offset for partition, answer in answers.items()}
    return sizes
