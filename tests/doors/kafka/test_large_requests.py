"""Group requests that are larger than most: many offsets with metadata, subscriptions to many topics."""

from __future__ import annotations

from uuid import UUID

import pytest

from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.kafka_protocol.message import Message
from tests.coordinator.group_rig import subscription
from tests.doors.kafka.test_group_handlers import OK, GroupClients


def test_a_commit_and_a_join_above_a_megabyte_are_accepted() -> None:
    clients = GroupClients()
    clients.kit.topics.all.append(TopicMetadata("wide", UUID(int=103), 1_000, {}))
    partitions = [
        Message(partition_index=index, committed_offset=index, committed_metadata="m" * 1_100)
        for index in range(1_000)
    ]
    reply = clients.call(8, 8, group_id="g", topics=[Message(name="wide", partitions=partitions)])
    assert {partition.error_code for partition in reply.topics[0].partitions} == {OK}
    fetched = clients.call(9, 5, group_id="g", topics=None)
    assert {len(partition.metadata) for partition in fetched.topics[0].partitions} == {1_100}
    topics = [f"a-name-as-long-as-many-have-{index:05}" for index in range(8_000)]
    member = clients.member(
        3, protocols=[Message(name=name, metadata=subscription(*topics)) for name in "abcd"]
    )
    assert member.joined.error_code == OK


def test_a_commit_larger_than_a_record_is_refused_and_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mainstem.coordinator.groups.offsets.COMMIT_BYTES_MAX", 5_000)
    clients = GroupClients()
    partitions = [
        Message(partition_index=index, committed_offset=1, committed_metadata="m" * 2_000)
        for index in range(4)
    ]
    reply = clients.call(8, 8, group_id="g", topics=[Message(name="flights", partitions=partitions)])
    codes = {partition.error_code for partition in reply.topics[0].partitions}
    assert codes == {ErrorCode.INVALID_COMMIT_OFFSET_SIZE}
    assert clients.kit.offsets("g") == {}


def test_what_is_asked_for_many_times_is_answered_once() -> None:
    clients = GroupClients()
    clients.member(3, protocols=[Message(name="range", metadata=subscription("flights") + bytes(100_000))])
    reply = clients.call(15, 5, groups=["readers", "other"] * 1_000)
    assert [group.group_id for group in reply.groups] == ["readers", "other"]
    clients.call(
        8,
        8,
        group_id="g",
        topics=[
            Message(
                name="flights",
                partitions=[Message(partition_index=0, committed_offset=5, committed_metadata="m" * 4_000)],
            )
        ],
    )
    topics = [Message(name="flights", partition_indexes=[0] * 1_000)]
    reply = clients.call(9, 5, group_id="g", topics=topics)
    assert [partition.committed_offset for partition in reply.topics[0].partitions] == [5]
    reply = clients.call(9, 8, groups=[Message(group_id=name, topics=topics) for name in ["g", "h"] * 20])
    assert [group.group_id for group in reply.groups] == ["g", "h"]


def test_many_groups_are_described_in_many_turns() -> None:
    clients = GroupClients()
    for number in range(3):
        clients.kit.commit(group_id=f"g{number}")
    client = clients.client()
    names = [f"g{number}" for number in range(5_000)]
    client.feed(client.frame(15, 5, Message(groups=names)), run=False)
    turns = client.clock.run()
    (reply,) = client.replies()
    assert [group.group_id for group in reply.groups] == names
    assert [group.group_state for group in reply.groups[:4]] == ["Empty", "Empty", "Empty", "Dead"]
    assert turns >= 18
