"""The admin keys about what a cluster has and one node has not: elections, reassignments, log folders, a
quorum; access rules and users, which do not exist yet; filters of quotas. The codes are those of Apache Kafka
with one broker and without an authorizer."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.kafka_protocol.message import Message
from mainstem.kafka_protocol.schema import api
from tests.doors.kafka.kit import DoorClient
from tests.test_node import NodeRig

NO_PARTITION = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
WRONG_REPLICAS = ErrorCode.INVALID_REPLICA_ASSIGNMENT
DISABLED = ErrorCode.SECURITY_DISABLED

Call = Callable[..., Message]


@pytest.fixture(scope="module")
def call() -> Call:
    """Sends a request to a node with the topic `t` of two partitions."""
    rig = NodeRig(data="data")
    rig.create("t", 2)
    rig.settle()
    client = DoorClient(rig.node)  # type: ignore[arg-type]
    return lambda key, version, **fields: client.call(key, version, Message(**fields))


def versions(key: int) -> range:
    low, high = api(key).request.versions
    return range(low, high + 1)


def test_no_partition_needs_an_election(call: Call) -> None:
    wanted = [Message(topic="t", partitions=[0, 1, 9]), Message(topic="none", partitions=[0])]
    for version in versions(43):
        for kind in (0, 1) if version else (0,):
            answer = call(43, version, election_type=kind, topic_partitions=wanted, timeout=1)
            assert version == 0 or answer.error_code == 0
            codes = [
                (result.topic, partition.partition_id, partition.error_code)
                for result in answer.replica_election_results
                for partition in result.partition_result
            ]
            not_needed = ErrorCode.ELECTION_NOT_NEEDED
            assert codes == [
                ("t", 0, not_needed), ("t", 1, not_needed), ("t", 9, NO_PARTITION), ("none", 0, NO_PARTITION),
            ]  # fmt: skip
        (of_all,) = call(43, version, topic_partitions=None, timeout=1).replica_election_results
        assert (of_all.topic, of_all.partition_result) == ("t", [])


def test_an_unknown_type_of_election_is_refused(call: Call) -> None:
    answer = call(43, 2, election_type=7, topic_partitions=[Message(topic="t", partitions=[0])], timeout=1)
    assert answer.error_code == ErrorCode.INVALID_REQUEST
    assert answer.replica_election_results[0].partition_result[0].error_code == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("replicas", "code"),
    [
        (None, ErrorCode.NO_REASSIGNMENT_IN_PROGRESS),
        ([1], ErrorCode.NONE),
        ([2], WRONG_REPLICAS),
        ([1, 2], WRONG_REPLICAS),
        ([1, 1], WRONG_REPLICAS),
        ([], WRONG_REPLICAS),
        ([-1], WRONG_REPLICAS),
    ],
)
def test_a_partition_can_be_assigned_only_to_where_it_is(
    call: Call, replicas: list[int] | None, code: int
) -> None:
    for version in versions(45):
        for name, index, expected in (("t", 1, code), ("t", 2, NO_PARTITION), ("none", 0, NO_PARTITION)):
            topic = Message(name=name, partitions=[Message(partition_index=index, replicas=replicas)])
            answer = call(45, version, timeout=1, topics=[topic])
            assert answer.error_code == 0
            assert answer.responses[0].partitions[0].error_code == expected


def test_no_reassignment_is_listed(call: Call) -> None:
    named = [Message(name="t", partition_indexes=[0, 9]), Message(name="none", partition_indexes=[0])]
    for topics in (None, [], named):
        answer = call(46, 0, timeout=1, topics=topics)
        assert (answer.error_code, answer.topics) == (0, [])


@pytest.mark.parametrize("version", versions(34))
def test_a_partition_can_be_moved_only_to_the_folder_that_it_is_in(call: Call, version: int) -> None:
    def move(path: str, name: str, index: int) -> int:
        topic = Message(name=name, partitions=[index])
        (result,) = call(34, version, dirs=[Message(path=path, topics=[topic])]).results
        code: int = result.partitions[0].error_code
        return code

    folder = os.path.abspath("data")
    assert move(folder, "t", 0) == 0
    assert move(folder, "t", 9) == move(folder, "none", 0) == NO_PARTITION
    for elsewhere in ("/other", "data", "", "../data"):
        assert move(elsewhere, "t", 0) == ErrorCode.LOG_DIR_NOT_FOUND


def test_a_topic_that_is_named_for_two_folders_is_listed_once(call: Call) -> None:
    topics = [Message(name="t", partitions=[0])]
    (result,) = call(34, 2, dirs=[Message(path=path, topics=topics) for path in ("/a", "/b")]).results
    assert [partition.partition_index for partition in result.partitions] == [0, 0]


@pytest.mark.parametrize("version", versions(55))
def test_the_one_node_is_the_quorum(call: Call, version: int) -> None:
    def quorum(name: str, index: int) -> tuple[Message, Any]:
        topic = Message(topic_name=name, partitions=[Message(partition_index=index)])
        answer = call(55, version, topics=[topic])
        return answer, answer.topics[0].partitions[0]

    answer, partition = quorum("__cluster_metadata", 0)
    assert (answer.error_code, partition.error_code, partition.leader_id) == (0, 0, 1)
    (voter,) = partition.current_voters
    assert (voter.replica_id, partition.observers) == (1, [])
    assert 0 < partition.high_watermark <= voter.log_end_offset
    if version >= 2:
        assert [node.node_id for node in answer.nodes] == [1]
    for name, index in (("__cluster_metadata", 1), ("t", 0)):
        answer, partition = quorum(name, index)
        assert (answer.error_code, partition.error_code) == (0, NO_PARTITION)
        assert partition.current_voters == []


ACL_FILTER: dict[str, Any] = {
    "resource_type_filter": 1,
    "resource_name_filter": None,
    "pattern_type_filter": 1,
    "principal_filter": None,
    "host_filter": None,
    "operation": 1,
    "permission_type": 1,
}
ACL = Message(
    resource_type=2, resource_name="t", resource_pattern_type=3, principal="User:a", host="*", operation=3,
    permission_type=3,
)  # fmt: skip


@pytest.mark.parametrize("version", versions(29))
def test_without_access_control_its_entries_are_refused_and_not_stored(call: Call, version: int) -> None:
    described = call(29, version, **ACL_FILTER)
    assert (described.error_code, described.resources) == (DISABLED, [])
    created = call(30, version, creations=[ACL, ACL]).results
    deleted = call(31, version, filters=[Message(**ACL_FILTER)]).filter_results
    assert [result.error_code for result in (*created, *deleted)] == [DISABLED] * 3
    for result in (described, *created, *deleted):
        assert "access_control" in result.error_message


def component(kind: str, match_type: int, match: str | None) -> Message:
    return Message(entity_type=kind, match_type=match_type, match=match)


@pytest.mark.parametrize(
    ("components", "code"),
    [
        ([], 0),
        ([component("user", 0, "a")], 0),
        ([component("user", 1, None), component("client-id", 2, None)], 0),
        ([component("ip", 0, "10.0.0.1")], 0),
        ([component("colour", 2, None)], ErrorCode.UNSUPPORTED_VERSION),
        ([component("", 2, None)], ErrorCode.INVALID_REQUEST),
        ([component("user", 9, None)], ErrorCode.INVALID_REQUEST),
        ([component("user", 0, None)], ErrorCode.INVALID_REQUEST),
        ([component("user", 1, "a")], ErrorCode.INVALID_REQUEST),
        ([component("user", 0, "a")] * 2, ErrorCode.INVALID_REQUEST),
        ([component("ip", 0, "a"), component("user", 0, "a")], ErrorCode.INVALID_REQUEST),
    ],
)
def test_a_filter_of_quotas_is_checked_as_by_kafka(call: Call, components: list[Message], code: int) -> None:
    for version in versions(48):
        answer = call(48, version, components=components, strict=False)
        assert (answer.error_code, answer.entries) == (code, None if code else [])
