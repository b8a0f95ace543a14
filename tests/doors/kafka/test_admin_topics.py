"""The handlers that create, change, delete and describe topics, on topics in memory."""

from __future__ import annotations

import pytest

from mainstem.kafka_protocol.message import NO_UUID, Message
from tests.doors.kafka.admin_kit import (
    INVALID_CONFIG,
    INVALID_PARTITIONS,
    INVALID_REPLICA_ASSIGNMENT,
    INVALID_REPLICATION_FACTOR,
    INVALID_REQUEST,
    INVALID_TOPIC,
    OFFSET_OUT_OF_RANGE,
    OK,
    STORAGE_ERROR,
    TOPIC_EXISTS,
    UNKNOWN_TOPIC,
    UNKNOWN_TOPIC_ID,
    AdminClient,
    config,
    new_topic,
)
from tests.doors.kafka.kit import batch


def codes(items: list[Message]) -> list[tuple[str, int]]:
    return [(item.name, item.error_code) for item in items]


@pytest.mark.parametrize("version", range(2, 8))
def test_topics_are_created_in_every_version(version: int) -> None:
    admin = AdminClient()
    made = admin.create("a", "b", version=version, num_partitions=3)
    assert codes(made) == [("a", OK), ("b", OK)]
    assert made[0].error_message is None
    topic = admin.kit.topics.get("a")
    assert topic is not None
    assert topic.partitions == 3
    if version >= 5:
        assert (made[0].num_partitions, made[0].replication_factor) == (3, 1)
        shown = {entry.name: (entry.value, entry.config_source, entry.read_only) for entry in made[0].configs}
        assert shown["retention.ms"] == ("604800000", 5, False)
    if version >= 7:
        assert made[0].topic_id == topic.id


def test_each_topic_has_its_own_error_code_in_the_order_of_the_request() -> None:
    admin = AdminClient()
    admin.create("there")
    topics = [
        new_topic("z"),
        new_topic("there"),
        new_topic("bad name"),
        new_topic("replicas", replication_factor=3),
        new_topic("parts", num_partitions=0),
        new_topic("nonsense", configs=[config("no.such", "1")]),
        new_topic("twice"),
        new_topic(
            "nodes",
            num_partitions=-1,
            replication_factor=-1,
            assignments=[Message(partition_index=0, broker_ids=[9])],
        ),
        new_topic("twice"),
        new_topic("a", num_partitions=-1, replication_factor=-1, configs=[config("retention.ms", "5")]),
    ]
    answer = admin.call(19, 7, Message(topics=topics, timeout=1, validate_only=False)).topics
    assert codes(answer) == [
        ("z", OK),
        ("there", TOPIC_EXISTS),
        ("bad name", INVALID_TOPIC),
        ("replicas", INVALID_REPLICATION_FACTOR),
        ("parts", INVALID_PARTITIONS),
        ("nonsense", INVALID_CONFIG),
        ("twice", INVALID_REQUEST),
        ("nodes", INVALID_REPLICA_ASSIGNMENT),
        ("a", OK),
    ]
    assert answer[1].error_message == "Topic 'there' already exists."
    assert answer[5].error_message == "Unknown topic config name: no.such"
    assert answer[6].error_message == "Duplicate topic name."
    assert (answer[3].num_partitions, answer[3].replication_factor, answer[3].topic_id) == (-1, -1, NO_UUID)
    shown = {entry.name: (entry.value, entry.config_source) for entry in answer[8].configs}
    assert shown["retention.ms"] == ("5", 1)
    assert [topic.name for topic in admin.kit.topics.all()] == ["a", "there", "z"]


def test_validate_only_creates_nothing() -> None:
    admin = AdminClient()
    answer = admin.call(19, 7, Message(topics=[new_topic("a")], timeout=1, validate_only=True))
    assert codes(answer.topics) == [("a", OK)]
    assert admin.kit.topics.get("a") is None


def test_a_request_without_topics_creates_none() -> None:
    assert AdminClient().create() == []


def test_the_reply_waits_for_the_disk() -> None:
    admin = AdminClient(auto=False)
    admin.send(19, 7, Message(topics=[new_topic("a"), new_topic("b")], timeout=1, validate_only=False))
    assert admin.replies() == []
    admin.kit.log.commit()
    admin.clock.run()
    assert codes(admin.replies()[0].topics) == [("a", OK), ("b", OK)]


def test_a_failed_commit_is_a_storage_error_for_each_topic() -> None:
    admin = AdminClient(auto=False)
    admin.send(19, 7, Message(topics=[new_topic("a"), new_topic("b")], timeout=1, validate_only=False))
    admin.kit.log.fail()
    admin.clock.run()
    assert codes(admin.replies()[0].topics) == [("a", STORAGE_ERROR), ("b", STORAGE_ERROR)]


# --- DeleteTopics -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", range(1, 7))
def test_topics_are_deleted_by_name_in_every_version(version: int) -> None:
    admin = AdminClient()
    admin.create("a", "b")
    names = ["a", "none", "b/d"]
    request = Message(topic_names=names, timeout=1)
    if version == 6:
        request = Message(topics=[Message(name=name, topic_id=NO_UUID) for name in names], timeout=1)
    answer = admin.call(20, version, request).responses
    # As in Kafka, an invalid name is an unknown topic here.
    assert codes(answer) == [("a", OK), ("none", UNKNOWN_TOPIC), ("b/d", UNKNOWN_TOPIC)]
    assert [topic.name for topic in admin.kit.topics.all()] == ["b"]
    if version >= 5:
        assert "does not host" in answer[1].error_message


def test_topics_are_deleted_by_id() -> None:
    admin = AdminClient()
    ids = [topic.topic_id for topic in admin.create("a", "b", "c")]
    unknown = ids[0].__class__(int=12345)
    requested = [
        (None, ids[0]),
        (None, unknown),
        ("b", ids[1]),
        (None, NO_UUID),
        ("c", NO_UUID),
        (None, ids[2]),
    ]
    topics = [Message(name=name, topic_id=topic_id) for name, topic_id in requested]
    answer = admin.call(20, 6, Message(topics=topics, timeout=1)).responses
    assert codes(answer) == [
        ("a", OK),
        (None, UNKNOWN_TOPIC_ID),
        ("b", INVALID_REQUEST),
        (None, INVALID_REQUEST),
        ("c", INVALID_REQUEST),
        (None, INVALID_REQUEST),
    ]
    assert answer[2].error_message == "You may not specify both topic name and topic id."
    assert answer[0].topic_id == ids[0]
    assert answer[1].topic_id == unknown
    assert [topic.name for topic in admin.kit.topics.all()] == ["b", "c"]


def test_a_topic_named_twice_is_not_deleted() -> None:
    admin = AdminClient()
    admin.create("a")
    answer = admin.call(20, 5, Message(topic_names=["a", "a"], timeout=1)).responses
    assert codes(answer) == [("a", INVALID_REQUEST)]
    assert admin.kit.topics.get("a") is not None


# --- CreatePartitions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", range(4))
def test_partitions_are_added_in_every_version(version: int) -> None:
    admin = AdminClient()
    admin.create("a", "b", "c", "d")
    requested = [
        ("a", 3, None),
        ("b", 1, None),
        ("none", 3, None),
        ("c", 2, [[1]]),
        ("d", 2, [[2]]),
        ("d", 3, None),
    ]
    topics = [
        Message(
            name=name,
            count=count,
            assignments=None if nodes is None else [Message(broker_ids=node_ids) for node_ids in nodes],
        )
        for name, count, nodes in requested
    ]
    answer = admin.call(37, version, Message(topics=topics, timeout=1, validate_only=False)).results
    assert codes(answer) == [
        ("a", OK),
        ("b", INVALID_PARTITIONS),
        ("none", UNKNOWN_TOPIC),
        ("c", OK),
        ("d", INVALID_REQUEST),
    ]
    assert answer[1].error_message == "Topic already has 1 partition(s)."
    assert [topic.partitions for topic in admin.kit.topics.all()] == [3, 1, 2, 1]


def test_validate_only_adds_no_partitions() -> None:
    admin = AdminClient()
    admin.create("a")
    topics = [Message(name="a", count=3, assignments=None)]
    answer = admin.call(37, 3, Message(topics=topics, timeout=1, validate_only=True)).results
    assert codes(answer) == [("a", OK)]
    assert [topic.partitions for topic in admin.kit.topics.all()] == [1]


# --- DeleteRecords ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", range(3))
def test_records_are_deleted_in_every_version(version: int) -> None:
    admin = AdminClient()
    admin.create("a", num_partitions=3)
    topic = admin.kit.topics.get("a")
    assert topic is not None
    for index in range(3):
        admin.node.partition(topic, index).append(memoryview(batch(b"1", b"2", b"3")))
    requested = [("a", [(0, 2), (1, -1), (2, 4), (3, 0)]), ("none", [(0, 0)])]
    topics = [
        Message(
            name=name, partitions=[Message(partition_index=index, offset=offset) for index, offset in parts]
        )
        for name, parts in requested
    ]
    answer = admin.call(21, version, Message(topics=topics, timeout=1)).topics
    shown = [
        (topic.name, part.partition_index, part.low_watermark, part.error_code)
        for topic in answer
        for part in topic.partitions
    ]
    assert shown == [
        ("a", 0, 2, OK),
        ("a", 1, 3, OK),
        ("a", 2, -1, OFFSET_OUT_OF_RANGE),
        ("a", 3, -1, UNKNOWN_TOPIC),
        ("none", 0, -1, UNKNOWN_TOPIC),
    ]


# --- DescribeTopicPartitions --------------------------------------------------------------------------------


def describe(
    admin: AdminClient, names: list[str], limit: int = 2000, cursor: tuple[str, int] | None = None
) -> Message:
    after = None if cursor is None else Message(topic_name=cursor[0], partition_index=cursor[1])
    topics = [Message(name=name) for name in names]
    return admin.call(75, 0, Message(topics=topics, response_partition_limit=limit, cursor=after))


def all_pages(admin: AdminClient, names: list[str], limit: int) -> list[list[tuple[str, list[int]]]]:
    cursor: tuple[str, int] | None = None
    pages = []
    for _ in range(20):
        answer = describe(admin, names, limit, cursor)
        pages.append(
            [(topic.name, [part.partition_index for part in topic.partitions]) for topic in answer.topics]
        )
        if answer.next_cursor is None:
            return pages
        cursor = answer.next_cursor.topic_name, answer.next_cursor.partition_index
    raise AssertionError("the cursor does not end")


def test_partitions_are_described() -> None:
    admin = AdminClient()
    (made,) = admin.create("a", num_partitions=2)
    (topic,) = describe(admin, ["a"]).topics
    assert (topic.error_code, topic.topic_id, topic.is_internal) == (OK, made.topic_id, False)
    assert topic.topic_authorized_operations == 3576
    first = topic.partitions[0]
    assert (first.leader_id, first.leader_epoch) == (1, 0)
    assert (first.replica_nodes, first.isr_nodes, first.offline_replicas) == ([1], [1], [])


def test_pages_cover_every_partition_once() -> None:
    admin = AdminClient()
    for name, partitions in (("b", 3), ("a", 2), ("c", 1)):
        admin.create(name, num_partitions=partitions)
    assert all_pages(admin, [], 100) == [[("a", [0, 1]), ("b", [0, 1, 2]), ("c", [0])]]
    assert all_pages(admin, [], 2) == [[("a", [0, 1])], [("b", [0, 1])], [("b", [2]), ("c", [0])]]
    assert all_pages(admin, ["c", "b", "b"], 2) == [[("b", [0, 1])], [("b", [2]), ("c", [0])]]
    assert all_pages(admin, [], 5) == [[("a", [0, 1]), ("b", [0, 1, 2])], [("c", [0])]]
    assert len(all_pages(admin, [], 0)) == 6, "a page has one partition at least"


def test_a_cursor_whose_topic_was_deleted_continues_with_the_next_topic() -> None:
    admin = AdminClient()
    admin.create("a", "c")
    answer = describe(admin, [], 10, ("b", 7))
    assert [topic.name for topic in answer.topics] == ["c"]
    assert [part.partition_index for part in answer.topics[0].partitions] == [0]


def test_unknown_topics_have_their_own_error() -> None:
    admin = AdminClient()
    admin.create("b")
    answer = describe(admin, ["b", "none", "bad name"])
    assert codes(answer.topics) == [("b", OK), ("bad name", INVALID_TOPIC), ("none", UNKNOWN_TOPIC)]


def test_a_cursor_before_the_first_partition_is_refused() -> None:
    answer = describe(AdminClient(), ["b"], 10, ("b", -1))
    assert codes(answer.topics) == [("b", INVALID_REQUEST)]
