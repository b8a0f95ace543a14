"""The handlers that describe the server (Metadata, ApiVersions, DescribeLogDirs, DescribeProducers), and
their registration."""

from __future__ import annotations

import pkgutil
from uuid import UUID

import pytest

from mainstem.access_contract import ResourceType
from mainstem.doors.kafka import handlers
from mainstem.doors.kafka.authorized_operations import ALL_OPERATIONS, NOT_REQUESTED
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.kafka_protocol.message import Message
from mainstem.settings import Settings
from tests.doors.kafka.kit import DoorClient, MemoryNode


@pytest.fixture
def node() -> MemoryNode:
    node = MemoryNode()
    node.create("b", 2)
    node.create("a")
    node.create("__consumer_offsets", internal=True)
    return node


@pytest.fixture
def client(node: MemoryNode) -> DoorClient:
    return DoorClient(node)


def named(*names: str, **more: object) -> Message:
    return Message(topics=[Message(name=name) for name in names], **more)


@pytest.mark.parametrize("version", range(14))
def test_all_topics_are_described(client: DoorClient, node: MemoryNode, version: int) -> None:
    answer = client.call(3, version, Message(topics=[] if version == 0 else None))
    assert [topic.name for topic in answer.topics] == ["__consumer_offsets", "a", "b"]
    broker = answer.brokers[0]
    assert (broker.node_id, broker.host, broker.port) == (1, "example.test", 1234)
    topic = answer.topics[2]
    assert [p.partition_index for p in topic.partitions] == [0, 1]
    assert all(
        p.leader_id == 1 and list(p.replica_nodes) == [1] == list(p.isr_nodes) for p in topic.partitions
    )
    if version >= 1:
        assert answer.controller_id == 1
        assert [topic.is_internal for topic in answer.topics] == [True, False, False]
    if version >= 2:
        assert answer.cluster_id == node.log.cluster_id
    if version >= 10:
        assert topic.topic_id == node.topics.by_name["b"].id


@pytest.mark.parametrize("version", range(9, 14))
def test_all_topics_as_librdkafka_asks_for_them(client: DoorClient, version: int) -> None:
    frame = client.frame(3, version, Message(topics=None, allow_auto_topic_creation=True))
    body = 5 if version <= 10 else 4
    wrong = frame[:-body] + b"\0\0\0" + frame[-body:]
    client.feed((len(wrong) - 4).to_bytes(4, "big") + wrong[4:])
    (answer,) = client.replies()
    assert [topic.name for topic in answer.topics] == ["__consumer_offsets", "a", "b"]


@pytest.mark.parametrize("version", range(1, 14))
def test_an_empty_list_describes_no_topics(client: DoorClient, version: int) -> None:
    assert client.call(3, version, Message(topics=[])).topics == []


@pytest.mark.parametrize("version", range(14))
def test_a_missing_topic_is_created_if_server_and_request_allow_it(node: MemoryNode, version: int) -> None:
    client = DoorClient(node)
    answer = client.call(3, version, named("new", "a", "new"))
    assert [(topic.name, topic.error_code) for topic in answer.topics] == [("new", 0), ("a", 0)]
    assert len(answer.topics[0].partitions) == 1
    if version >= 4:
        answer = client.call(3, version, named("newer", allow_auto_topic_creation=False))
        assert answer.topics[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    node.settings = Settings(auto_create_topics=False)
    answer = client.call(3, version, named("newest", "bad name"))
    assert [topic.error_code for topic in answer.topics] == [
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
    ]


def test_an_invalid_name_is_refused(client: DoorClient) -> None:
    answer = client.call(3, 12, named("no good", ""))
    assert [topic.error_code for topic in answer.topics] == [ErrorCode.INVALID_TOPIC_EXCEPTION] * 2


@pytest.mark.parametrize("version", [12, 13])
def test_topics_are_described_by_id(client: DoorClient, node: MemoryNode, version: int) -> None:
    known, unknown = node.topics.by_name["a"].id, UUID(int=7)
    topics = [Message(name=None, topic_id=known), Message(name=None, topic_id=unknown)]
    topic, missing = client.call(3, version, Message(topics=topics)).topics
    assert (topic.name, topic.error_code) == ("a", 0)
    assert (missing.name, missing.topic_id, missing.error_code) == (None, unknown, ErrorCode.UNKNOWN_TOPIC_ID)


def test_operations_are_described_if_they_are_requested(client: DoorClient) -> None:
    request = named("a", include_topic_authorized_operations=True, include_cluster_authorized_operations=True)
    answer = client.call(3, 8, request)
    assert answer.cluster_authorized_operations == ALL_OPERATIONS[ResourceType.CLUSTER] == 8096
    assert answer.topics[0].topic_authorized_operations == ALL_OPERATIONS[ResourceType.TOPIC] == 3576
    answer = client.call(3, 8, named("a"))
    assert (
        answer.cluster_authorized_operations == answer.topics[0].topic_authorized_operations == NOT_REQUESTED
    )


@pytest.mark.parametrize("version", range(5))
def test_api_versions_are_those_of_the_handlers(client: DoorClient, version: int) -> None:
    request = Message(client_software_name="test", client_software_version="1.0")
    answer = client.call(18, version, request)
    table = {key.api_key: (key.min_version, key.max_version) for key in answer.api_keys}
    assert table.keys() == client.dispatcher.handlers.keys()
    assert table[0] == (0, 13)
    assert table[1] == (4, 18)
    assert all(
        table[key] == handler.versions for key, handler in client.dispatcher.handlers.items() if key != 0
    )


def test_api_versions_refuses_what_kafka_refuses(client: DoorClient) -> None:
    answer = client.call(18, 3, Message(client_software_name="bad name", client_software_version="1"))
    assert answer.error_code == ErrorCode.INVALID_REQUEST


def test_a_key_registered_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = [module for module in pkgutil.iter_modules(handlers.__path__) if module.name.startswith("k")]
    monkeypatch.setattr(pkgutil, "iter_modules", lambda path: [*modules, modules[0]])
    with pytest.raises(RuntimeError, match="twice"):
        handlers.discover()


@pytest.mark.parametrize("version", range(1, 6))
def test_the_data_folder_is_described(client: DoorClient, node: MemoryNode, version: int) -> None:
    every = client.call(35, version, Message(topics=None)).results[0]
    assert [(topic.name, len(topic.partitions)) for topic in every.topics] == [
        ("__consumer_offsets", 1),
        ("a", 1),
        ("b", 2),
    ]
    some = [Message(topic="b", partitions=[1, 5]), Message(topic="none", partitions=[0])]
    (topic,) = client.call(35, version, Message(topics=some)).results[0].topics
    assert [p.partition_index for p in topic.partitions] == [1]


def test_producers_of_a_partition_are_described(client: DoorClient) -> None:
    request = Message(topics=[Message(name="b", partition_indexes=[0, 9])])
    partition, missing = client.call(61, 0, request).topics[0].partitions
    assert (partition.error_code, partition.active_producers) == (0, [])
    assert missing.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
