"""Membership and settings of share groups, from the bytes of a request to those of its reply."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.kafka_protocol.message import Message
from tests.coordinator.test_share_groups import ShareNodeRig
from tests.doors.kafka.kit import ADVERTISED, DoorClient

GROUP = 32
LOCK_DURATION = "share.record.lock.duration.ms"


class ShareClient:
    """A client of a node with the topics `a`, of two partitions, and `b`, of one."""

    def __init__(self) -> None:
        self.rig = ShareNodeRig()
        self.client = DoorClient(self.rig.node)  # type: ignore[arg-type]

    def call(self, api_key: int, version: int, /, **fields: Any) -> Message:
        self.client.send(api_key, version, Message(**fields))
        for _ in range(100):
            if replies := self.client.replies():
                return replies[0]
            self.rig.settle(0.01)
        raise AssertionError("no reply")

    def beat(self, member: str, epoch: int, *topics: str, group: str = "g") -> Message:
        return self.call(
            76,
            1,
            group_id=group,
            member_id=member,
            member_epoch=epoch,
            rack_id=None,
            subscribed_topic_names=topics or None,
        )

    def alter(
        self, name: str, value: str | None, operation: int = 0, group: str = "g"
    ) -> tuple[int, str | None]:
        configs = [Message(name=name, config_operation=operation, value=value)]
        resource = Message(resource_type=GROUP, resource_name=group, configs=configs)
        (reply,) = self.call(44, 1, resources=[resource], validate_only=False).responses
        return reply.error_code, reply.error_message


@pytest.fixture
def client() -> ShareClient:
    return ShareClient()


def partitions_of(reply: Message) -> dict[UUID, list[int]] | None:
    if reply.assignment is None:
        return None
    return {part.topic_id: list(part.partitions) for part in reply.assignment.topic_partitions}


def test_a_member_joins_stays_and_leaves(client: ShareClient) -> None:
    joined = client.beat("m1", 0, "a")
    assert (joined.error_code, joined.error_message, joined.member_id) == (0, None, "m1")
    assert (joined.member_epoch, joined.heartbeat_interval) == (2, 5_000)
    assert partitions_of(joined) == {client.rig.topic_a.id: [0, 1]}
    assert partitions_of(client.beat("m1", 2)) is None
    left = client.beat("m1", -1)
    assert (left.error_code, left.member_id, left.member_epoch, left.assignment) == (0, "m1", -1, None)
    assert client.beat("m1", 2).error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_refusal_has_kafkas_code_and_text(client: ShareClient) -> None:
    refused = client.beat("m1", 1)
    assert (refused.error_code, refused.error_message) == (
        ErrorCode.GROUP_ID_NOT_FOUND,
        "Group g not found.",
    )
    client.beat("m1", 0, "a")
    assert client.beat("m1", 7).error_code == ErrorCode.FENCED_MEMBER_EPOCH
    assert client.beat("", 0, "a").error_code == ErrorCode.INVALID_REQUEST


def test_groups_are_described(client: ShareClient) -> None:
    client.beat("m1", 0, "a")
    described = client.call(77, 1, group_ids=["g", "none", "", "g"], include_authorized_operations=True)
    group, missing, unnamed = described.groups
    assert (group.error_code, group.group_state, group.assignor_name) == (0, "Stable", "simple")
    assert (group.group_epoch, group.assignment_epoch, group.authorized_operations) == (2, 2, 3400)
    (member,) = group.members
    assert (member.member_id, member.client_id, member.client_host) == ("m1", "test", "/198.51.100.1")
    assert (member.member_epoch, list(member.subscribed_topic_names)) == (2, ["a"])
    (part,) = member.assignment.topic_partitions
    assert (part.topic_id, part.topic_name, list(part.partitions)) == (client.rig.topic_a.id, "a", [0, 1])
    assert (missing.error_code, missing.error_message) == (
        ErrorCode.GROUP_ID_NOT_FOUND,
        "Group none not found.",
    )
    assert (unnamed.error_code, unnamed.group_id) == (ErrorCode.INVALID_GROUP_ID, "")
    classic = client.call(15, 6, groups=["g"], include_authorized_operations=False).groups[0]
    assert (classic.error_code, classic.error_message) == (
        ErrorCode.GROUP_ID_NOT_FOUND,
        "Group g is not a classic group.",
    )


def test_share_groups_are_listed_with_their_type_and_deleted(client: ShareClient) -> None:
    client.beat("m1", 0, "a")
    (listed,) = client.call(16, 5, states_filter=[], types_filter=["share"]).groups
    shown = listed.group_id, listed.protocol_type, listed.group_state, listed.group_type
    assert shown == ("g", "share", "Stable", "share")
    assert list(client.call(16, 5, states_filter=[], types_filter=["classic"]).groups) == []
    assert [group.group_id for group in client.call(16, 0).groups] == ["g"]
    assert client.call(42, 2, groups_names=["g"]).results[0].error_code == ErrorCode.NON_EMPTY_GROUP
    client.beat("m1", -1)
    results = client.call(42, 2, groups_names=["g", "none"]).results
    assert [result.error_code for result in results] == [0, ErrorCode.GROUP_ID_NOT_FOUND]
    assert list(client.call(16, 5, states_filter=[], types_filter=[]).groups) == []


def test_this_server_keeps_the_state_of_share_groups(client: ShareClient) -> None:
    keys = ["g:AAAAAAAAAAAAAAAAAAAAAQ:0", "g:h:AAAAAAAAAAAAAAAAAAAAAQ:12", "g", "g:AAAA:0", "g:x:y"]
    places = client.call(10, 6, key_type=2, coordinator_keys=keys).coordinators
    assert [place.error_code for place in places] == [0, 0, *[ErrorCode.INVALID_REQUEST] * 3]
    assert (places[0].key, places[0].node_id, places[0].port) == (keys[0], 1, ADVERTISED.port)
    (early,) = client.call(10, 5, key_type=2, coordinator_keys=keys[:1]).coordinators
    assert early.error_code == ErrorCode.INVALID_REQUEST


def test_share_groups_are_among_the_features(client: ShareClient) -> None:
    versions = client.call(18, 4, client_software_name="x", client_software_version="1")
    (feature,) = versions.finalized_features
    assert (feature.name, feature.min_version_level, feature.max_version_level) == ("share.version", 2, 2)
    (supported,) = versions.supported_features
    assert (supported.name, supported.min_version, supported.max_version) == ("share.version", 1, 2)


# --- settings ---------------------------------------------------------------------------------------------


def test_settings_of_a_group_are_set_shown_and_listed(client: ShareClient) -> None:
    assert client.alter(LOCK_DURATION, "20000") == (0, None)
    names = [LOCK_DURATION, "share.isolation.level", "none"]
    resource = Message(resource_type=GROUP, resource_name="g", configuration_keys=names)
    described = client.call(
        32, 4, resources=[resource], include_synonyms=True, include_documentation=True
    ).results[0]
    lock, isolation = described.configs
    assert (lock.name, lock.value, lock.config_source, lock.config_type) == (LOCK_DURATION, "20000", 8, 3)
    assert (lock.read_only, lock.is_sensitive) == (False, False)
    assert lock.documentation
    assert [(synonym.name, synonym.value, synonym.source) for synonym in lock.synonyms] == [
        (LOCK_DURATION, "20000", 8),
        ("group.share.record.lock.duration.ms", "30000", 5),
    ]
    assert (isolation.value, isolation.config_source) == ("read_uncommitted", 5)
    listed = client.call(74, 1, resource_types=[GROUP]).config_resources
    assert [(group.resource_name, group.resource_type) for group in listed] == [("g", GROUP)]
    assert client.alter(LOCK_DURATION, None, operation=1) == (0, None)
    assert list(client.call(74, 1, resource_types=[GROUP]).config_resources) == []


def test_invalid_settings_of_a_group_are_refused(client: ShareClient) -> None:
    assert client.alter(LOCK_DURATION, "9")[0] == ErrorCode.INVALID_CONFIG
    assert client.alter("none", "9") == (ErrorCode.INVALID_CONFIG, "Unknown group config name: none")
    assert client.alter(LOCK_DURATION, "1", operation=2)[0] == ErrorCode.INVALID_CONFIG
    assert client.alter(LOCK_DURATION, "20000", group="") == (
        ErrorCode.INVALID_REQUEST,
        "Default group resources are not allowed.",
    )
    unnamed = Message(resource_type=GROUP, resource_name="", configuration_keys=None)
    described = client.call(
        32, 4, resources=[unnamed], include_synonyms=False, include_documentation=False
    ).results[0]
    assert (described.error_code, described.error_message) == (
        ErrorCode.INVALID_REQUEST,
        "Group name must not be empty",
    )


def test_all_settings_of_a_group_are_replaced(client: ShareClient) -> None:
    client.alter(LOCK_DURATION, "20000")
    configs = [Message(name="share.delivery.count.limit", value="7")]
    resource = Message(resource_type=GROUP, resource_name="g", configs=configs)
    (replaced,) = client.call(33, 2, resources=[resource], validate_only=False).responses
    assert replaced.error_code == 0
    settings = client.rig.node.group_settings.of("g")
    assert (settings.lock_ms, settings.failures_max) == (30_000, 7)
