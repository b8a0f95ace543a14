"""Requests for very many topics: how many are created, and that others have their turns meanwhile."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handlers import k03_metadata, k19_create_topics
from mainstem.kafka_protocol.message import Message
from mainstem.node import CREATED_PER_SECOND
from tests.doors.kafka.admin_kit import AdminClient, new_topic
from tests.doors.kafka.kit import DoorClient, MemoryNode
from tests.test_node import NodeRig

OK, LATER = 0, ErrorCode.LEADER_NOT_AVAILABLE
KEY, VERSION = 3, 9


def ask(client: DoorClient, *names: str) -> dict[str, int]:
    """Ask for topics, and let them be created. Returns the error code of each."""
    topics = [Message(name=name) for name in names]
    client.send(KEY, VERSION, Message(topics=topics, allow_auto_topic_creation=True))
    client.clock.advance(0.1)
    (reply,) = client.replies()
    return {topic.name: topic.error_code for topic in reply.topics}


def test_some_tens_of_missing_topics_are_created_and_the_others_have_to_be_asked_for_again() -> None:
    rig = NodeRig()
    node: Any = rig.node
    client = DoorClient(node)
    names = [f"t{number}" for number in range(3_000)]
    codes = ask(client, *names)
    assert list(codes) == names
    assert [name for name, code in codes.items() if code == OK] == names[:CREATED_PER_SECOND]
    assert set(codes.values()) == {OK, LATER}
    assert len(rig.node.topics.all()) == CREATED_PER_SECOND
    rig.clock.advance(0.9)
    codes = ask(client, *names)
    assert list(codes.values()).count(OK) == 2 * CREATED_PER_SECOND
    rig.clock.advance(0.9)
    assert ask(client, "a/b", names[200]) == {"a/b": ErrorCode.INVALID_TOPIC_EXCEPTION, names[200]: OK}


def test_the_rate_of_automatic_creation_is_one_for_all_connections() -> None:
    rig = NodeRig()
    node: Any = rig.node
    first = DoorClient(node)
    second = first.another()
    ask(first, *(f"t{number}" for number in range(CREATED_PER_SECOND)))
    codes = list(ask(second, *(f"s{number}" for number in range(20))).values())
    assert codes.count(OK) == CREATED_PER_SECOND // 10
    assert codes.count(LATER) == 20 - CREATED_PER_SECOND // 10
    assert ask(second, "t1") == {"t1": OK}, "what exists is described"
    created = rig.done(rig.node.topics.create("by-an-administrator"))
    assert created.name == "by-an-administrator"


def test_many_topics_are_described_in_many_turns() -> None:
    node = MemoryNode()
    for number in range(1_000):
        node.create(f"t{number:04}")
    client = DoorClient(node)
    client.feed(client.frame(KEY, VERSION, Message(topics=None)), run=False)
    turns = client.clock.run()
    (reply,) = client.replies()
    assert [topic.name for topic in reply.topics] == [f"t{number:04}" for number in range(1_000)]
    assert turns >= 1_000 // k03_metadata.TOPICS_PER_TURN


@pytest.mark.parametrize("version", [2, 5, 7])
def test_others_are_served_while_many_topics_are_created(version: int) -> None:
    client = AdminClient()
    other = client.another()
    count = 500
    topics = [new_topic(f"t{number}") for number in range(count)]
    request = Message(topics=topics, timeout=1000, validate_only=False)
    client.feed(client.frame(19, version, request), run=False)
    seen = []
    while client.clock.ready:
        seen.append(len(client.kit.topics.all()))
        other.feed(other.frame(18, 0, Message()), run=False)
        assert [reply.error_code for reply in other.replies()] == [OK]
        client.clock.turn()
    assert max(later - before for before, later in pairwise(seen)) <= (k19_create_topics.TOPICS_PER_TURN)
    (reply,) = client.replies()
    assert [topic.name for topic in reply.topics] == [f"t{number}" for number in range(count)]
    assert {topic.error_code for topic in reply.topics} == {OK}
    if version >= 5:
        assert {len(topic.configs) for topic in reply.topics} == {len(reply.topics[0].configs)}
        assert reply.topics[-1].configs[0] == reply.topics[0].configs[0]


def test_more_partitions_than_kafka_creates_at_once_are_refused() -> None:
    client = AdminClient()
    replies = client.create("a", "b", "c", num_partitions=4_000)
    assert {topic.error_code for topic in replies} == {ErrorCode.POLICY_VIOLATION}
    assert client.kit.topics.all() == []
    assert {topic.error_code for topic in client.create("a", "b", num_partitions=4_000)} == {OK}
