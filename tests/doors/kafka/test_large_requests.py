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
