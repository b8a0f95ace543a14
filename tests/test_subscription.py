"""Subscriptions and assignments of consumers, also against the encoder of aiokafka."""

from __future__ import annotations

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from mainstem.kafka_protocol.subscription import (
    EMPTY_ASSIGNMENT,
    read_assignment,
    read_subscription,
    write_assignment,
    write_subscription,
)
from tests.coordinator.group_rig import subscription

TOPICS = ["flights", "weather-é"]
ASSIGNED = [("flights", [0, 1, 7]), ("weather", [2])]
PARTITIONS = (("flights", 0), ("flights", 1), ("flights", 7), ("weather", 2))


@pytest.mark.parametrize(
    ("metadata", "topics"),
    [
        (subscription(), frozenset()),
        (subscription("a", "b"), frozenset({"a", "b"})),
        (subscription("a", user_data=b"xyz"), frozenset({"a"})),
        (subscription("a")[:-9], None),
        (b"", None),
        (b"\x00\x00\xff\xff\xff\xff", None),
        (b"\x00\x00\x7f\xff\xff\xff", None),
        (b"\x00\x00\x00\x00\x00\x01\xff\xff", None),
        (b"\x00\x00\x00\x00\x00\x01\x00\x01\xff", None),
    ],
)
def test_a_subscription_is_decoded_or_refused(metadata: bytes, topics: frozenset[str] | None) -> None:
    assert read_subscription(metadata) == topics


def test_subscriptions_are_those_of_aiokafka() -> None:
    theirs = ConsumerProtocolMemberMetadata(0, TOPICS, b"user data").encode()
    assert read_subscription(theirs) == frozenset(TOPICS)
    decoded = ConsumerProtocolMemberMetadata.decode(write_subscription(TOPICS))
    assert (decoded.version, decoded.subscription) == (0, TOPICS)


def test_assignments_are_those_of_aiokafka() -> None:
    theirs = ConsumerProtocolMemberAssignment(0, ASSIGNED, b"user data").encode()
    assert read_assignment(theirs) == PARTITIONS
    decoded = ConsumerProtocolMemberAssignment.decode(write_assignment(PARTITIONS))
    assert (decoded.version, decoded.assignment) == (0, ASSIGNED)
    empty = ConsumerProtocolMemberAssignment.decode(EMPTY_ASSIGNMENT)
    assert (empty.version, empty.assignment) == (0, [])


def test_incomplete_bytes_are_refused() -> None:
    subscribed = ConsumerProtocolMemberMetadata(0, TOPICS, b"").encode()[:-4]
    assigned = ConsumerProtocolMemberAssignment(0, ASSIGNED, b"").encode()[:-4]
    assert read_subscription(subscribed) == frozenset(TOPICS)
    assert read_assignment(assigned) == PARTITIONS
    for end in range(len(subscribed)):
        assert read_subscription(subscribed[:end]) is None
    for end in range(len(assigned)):
        assert read_assignment(assigned[:end]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00\xff\xff\xff\xff",
        b"\x00\x00\x7f\xff\xff\xff",
        b"\x00\x00\x00\x00\x00\x01\xff\xff\x00\x00\x00\x00",
        b"\x00\x00\x00\x00\x00\x01\x00\x01a\xff\xff\xff\xff",
        b"\x00\x00\x00\x00\x00\x01\x00\x01\xff\x00\x00\x00\x00",
    ],
)
def test_an_invalid_assignment_is_empty(data: bytes) -> None:
    assert read_assignment(data) is None
