"""The handlers of consumer groups, in every version, from the bytes of a request to the bytes of its
reply."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handlers import discover
from mainstem.kafka_protocol.message import Message
from mainstem.kafka_protocol.schema import api
from tests.coordinator.group_rig import (
    FLIGHTS,
    GROUP,
    SESSION_MS,
    FakeTopicLookup,
    GroupRig,
    group_rig,
    subscription,
)
from tests.doors.kafka.kit import ADVERTISED, DoorClient, MemoryNode
from tests.support.fake_state import FakeStateLog

OK = 0
HANDLERS = discover()


def versions(key: int, since: int = 0) -> list[int]:
    low, high = HANDLERS[key].versions
    return list(range(max(low, since), high + 1))


class GroupClients:
    """Clients of one server, each on its own connection."""

    def __init__(self, **change: Any) -> None:
        self.kit: GroupRig = group_rig(**change)
        topics: Any = FakeTopicLookup(*self.kit.topics.all)
        self.node = MemoryNode(
            settings=self.kit.settings, clock=self.kit.clock, topics=topics, groups=self.kit.groups
        )

    def client(self) -> DoorClient:
        return DoorClient(self.node)

    def call(self, key: int, version: int, /, **fields: Any) -> Message:
        return self.client().call(key, version, Message(**fields))

    def member(self, version: int = 9, **change: Any) -> MemberClient:
        member = MemberClient(self, **change)
        member.join(version)
        return member


class MemberClient:
    """A client that joins and syncs."""

    def __init__(self, clients: GroupClients, **change: Any) -> None:
        self.client = clients.client()
        self.change = change
        self.id = ""
        self.generation = -1
        self.joined = Message()

    def send_join(self, version: int) -> None:
        fields: dict[str, Any] = {
            "group_id": GROUP,
            "session_timeout": SESSION_MS,
            "rebalance_timeout": 60_000,
            "member_id": self.id,
            "protocol_type": "consumer",
            "protocols": [Message(name="range", metadata=subscription("flights"))],
            "reason": "asked to",
        }
        fields |= self.change
        self.client.send(11, version, Message(**strip(11, version, fields)))
        self.client.clock.advance(0)

    def join(self, version: int = 9) -> Message | None:
        """Join as clients do: again with the id if one is required. None if the reply has to wait."""
        self.send_join(version)
        answers = self.client.replies()
        if answers and answers[0].error_code == ErrorCode.MEMBER_ID_REQUIRED:
            self.id = answers[0].member_id
            self.send_join(version)
            answers = self.client.replies()
        return self.record(answers[0]) if answers else None

    def record(self, answer: Message) -> Message:
        self.joined = answer
        if answer.error_code == OK:
            self.id, self.generation = answer.member_id, answer.generation_id
        return answer

    def fields(self, key: int, version: int, **more: Any) -> Message:
        fields = {"group_id": GROUP, "member_id": self.id, "generation_id": self.generation}
        return Message(**strip(key, version, {**fields, **more}))

    def sync(self, version: int = 5, **assignments: bytes) -> Message:
        message = self.fields(
            14,
            version,
            protocol_type="consumer",
            protocol_name="range",
            assignments=[Message(member_id=self.id, assignment=data) for data in assignments.values()],
        )
        return self.client.call(14, version, message)

    def heartbeat(self, version: int = 4) -> int:
        code: int = self.client.call(12, version, self.fields(12, version)).error_code
        return code


def strip(key: int, version: int, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that the version has."""
    known = {field.name for field in api(key).request.fields if field.in_version(version)}
    return {name: value for name, value in fields.items() if name in known}


def test_all_keys_of_groups_are_offered_in_kafkas_versions() -> None:
    offered = {
        key: HANDLERS[key].versions for key in (8, 9, 10, 11, 12, 13, 14, 15, 16, 42, 47) if key in HANDLERS
    }
    assert offered == {
        8: (2, 10), 9: (1, 10), 10: (0, 6), 11: (0, 9), 12: (0, 4), 13: (0, 5), 14: (0, 5), 15: (0, 6),
        16: (0, 5), 42: (0, 2), 47: (0, 0),
    }  # fmt: skip


# --- FindCoordinator ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", versions(10))
def test_the_coordinator_has_the_advertised_address_of_the_listener(version: int) -> None:
    if version < 4:
        coordinator = GroupClients().call(10, version, key=GROUP)
    else:
        (coordinator,) = GroupClients().call(10, version, coordinator_keys=[GROUP]).coordinators
        assert coordinator.key == GROUP
    assert (coordinator.error_code, coordinator.node_id) == (OK, 1)
    assert (coordinator.host, coordinator.port) == (ADVERTISED.host, ADVERTISED.port)


def test_many_coordinators_are_found_at_once() -> None:
    answer = GroupClients().call(10, 4, coordinator_keys=["a", "b"])
    assert [coordinator.key for coordinator in answer.coordinators] == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "code", "word"),
    [
        (1, ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "transactions"),
        (2, ErrorCode.INVALID_REQUEST, "group:topic id:partition"),
        (9, ErrorCode.INVALID_REQUEST, "coordinator type 9"),
    ],
)
def test_other_types_of_coordinators_are_refused_with_a_text(kind: int, code: int, word: str) -> None:
    (coordinator,) = GroupClients().call(10, 6, key_type=kind, coordinator_keys=["x"]).coordinators
    assert (coordinator.error_code, coordinator.node_id) == (code, -1)
    assert word in coordinator.error_message
    old = GroupClients().call(10, 2, key="x", key_type=kind)
    assert (old.error_code, old.port) == (code, -1)


# --- a member's life ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", versions(11))
def test_a_member_joins_syncs_beats_and_leaves_in_every_version(version: int) -> None:
    clients = GroupClients()
    member = clients.member(version)
    assert member.joined.error_code == OK
    assert member.joined.leader == member.id
    assert member.joined.protocol_name == "range"
    assert [member.metadata for member in member.joined.members] == [subscription("flights")]
    synced = member.sync(min(version, 5), mine=b"plan")
    assert (synced.error_code, synced.assignment) == (OK, b"plan")
    assert member.heartbeat(min(version, 4)) == OK
    leave = min(version, 5)
    fields = {"group_id": GROUP, "member_id": member.id}
    if leave >= 3:
        fields = {"group_id": GROUP, "members": [Message(member_id=member.id)]}  # type: ignore[dict-item]
    left = clients.call(13, leave, **fields)
    assert left.error_code == OK
    assert member.heartbeat() == ErrorCode.UNKNOWN_MEMBER_ID


def test_version_0_rebalances_within_its_session_timeout() -> None:
    clients = GroupClients()
    clients.member(0)
    second = MemberClient(clients)
    assert second.join(0) is None
    clients.kit.advance_ms(SESSION_MS)
    (answer,) = second.client.replies()
    assert answer.error_code == OK


def test_a_join_that_waits_delays_only_its_own_connection() -> None:
    clients = GroupClients()
    first = clients.member()
    first.sync(mine=b"all")
    second = MemberClient(clients)
    assert second.join() is None
    assert first.heartbeat() == ErrorCode.REBALANCE_IN_PROGRESS
    first.send_join(9)
    (leader_reply,) = first.client.replies()
    (follower_reply,) = second.client.replies()
    assert len(leader_reply.members) == 2
    assert follower_reply.members == []
    second.record(follower_reply)
    first.record(leader_reply)
    waiting = second.fields(14, 5, protocol_type="consumer", protocol_name="range", assignments=[])
    second.client.send(14, 5, waiting)
    assert second.client.replies() == []
    first.sync(mine=b"all")
    (empty,) = second.client.replies()
    assert (empty.error_code, empty.assignment) == (OK, b"\0\0\0\0\0\0\xff\xff\xff\xff")


def test_a_reply_that_requires_an_id_has_it() -> None:
    member = MemberClient(GroupClients())
    member.send_join(4)
    (answer,) = member.client.replies()
    assert answer.error_code == ErrorCode.MEMBER_ID_REQUIRED
    assert answer.member_id.startswith("test-")
    assert answer.generation_id == -1


@pytest.mark.parametrize("version", versions(11))
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"group_id": ""}, ErrorCode.INVALID_GROUP_ID),
        ({"session_timeout": 1}, ErrorCode.INVALID_SESSION_TIMEOUT),
        ({"member_id": "unknown"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"protocols": []}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
    ],
)
def test_a_refused_join_is_a_whole_reply(version: int, change: dict[str, Any], code: int) -> None:
    member = GroupClients().member(version, **change)
    assert (member.joined.error_code, member.joined.generation_id) == (code, -1)
    assert member.joined.member_id == change.get("member_id", "")


def test_a_full_group_gives_no_id() -> None:
    clients = GroupClients(group_max_size=1)
    clients.member().sync(mine=b"all")
    refused = clients.member().joined
    assert (refused.error_code, refused.member_id) == (ErrorCode.GROUP_MAX_SIZE_REACHED, "")


def test_sync_5_requires_type_and_name_of_the_protocol() -> None:
    member = GroupClients().member()
    answer = member.client.call(14, 5, member.fields(14, 5, assignments=[]))
    assert (answer.error_code, answer.assignment) == (ErrorCode.INCONSISTENT_GROUP_PROTOCOL, b"")


def test_a_refused_sync_has_a_code() -> None:
    member = GroupClients().member()
    member.generation += 1
    assert member.sync().error_code == ErrorCode.ILLEGAL_GENERATION


def test_members_leave_together_and_by_instance_id() -> None:
    clients = GroupClients()
    clients.member(group_instance_id="w-1").sync(mine=b"all")
    members = [Message(member_id="", group_instance_id="w-1", reason="done"), Message(member_id="unknown")]
    answer = clients.call(13, 5, group_id=GROUP, members=members)
    assert answer.error_code == OK
    assert [(member.group_instance_id, member.error_code) for member in answer.members] == [
        ("w-1", OK),
        (None, ErrorCode.UNKNOWN_MEMBER_ID),
    ]
    assert clients.call(13, 2, group_id=GROUP, member_id="x").error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_static_leader_that_joins_again_skips_the_assignment_from_version_9_on() -> None:
    clients = GroupClients()
    clients.member(group_instance_id="w-1").sync(mine=b"all")
    back = clients.member(9, group_instance_id="w-1")
    assert (back.joined.skip_assignment, back.joined.leader) == (True, back.id)
    old = clients.member(8, group_instance_id="w-1")
    assert old.joined.leader == back.id
    assert old.joined.members == []


# --- views --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", versions(15))
def test_a_group_is_described(version: int) -> None:
    clients = GroupClients()
    member = clients.member(group_instance_id="w-1")
    member.sync(mine=b"plan")
    (group,) = clients.call(15, version, groups=[GROUP]).groups
    assert (group.error_code, group.group_state) == (OK, "Stable")
    assert (group.protocol_type, group.protocol_data) == ("consumer", "range")
    (described,) = group.members
    assert (described.member_id, described.client_id, described.client_host) == (
        member.id,
        "test",
        "/198.51.100.1",
    )
    assert (described.member_metadata, described.member_assignment) == (subscription("flights"), b"plan")
    if version >= 4:
        assert described.group_instance_id == "w-1"


@pytest.mark.parametrize("version", versions(15))
def test_an_unknown_group_is_described_as_dead(version: int) -> None:
    (group,) = GroupClients().call(15, version, groups=["missing-group"]).groups
    assert group.group_state == "Dead"
    assert group.error_code == (ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else OK)
    if version >= 6:
        assert group.error_message == "Group missing-group not found."


def test_operations_are_described_if_they_are_requested() -> None:
    (group,) = GroupClients().call(15, 5, groups=["g"], include_authorized_operations=True).groups
    assert group.authorized_operations == 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11
    (group,) = GroupClients().call(15, 5, groups=["g"], include_authorized_operations=False).groups
    assert group.authorized_operations == -(1 << 31)


@pytest.mark.parametrize("version", versions(16))
def test_groups_are_listed(version: int) -> None:
    clients = GroupClients()
    clients.member().sync(mine=b"all")
    clients.kit.commit(group_id="a-simple-one")
    groups = clients.call(16, version).groups
    assert [(group.group_id, group.protocol_type) for group in groups] == [
        ("a-simple-one", ""),
        (GROUP, "consumer"),
    ]
    if version >= 4:
        assert [group.group_state for group in groups] == ["Empty", "Stable"]
        (stable,) = clients.call(16, version, states_filter=["stable"]).groups
        assert stable.group_id == GROUP
    if version >= 5:
        assert {group.group_type for group in groups} == {"classic"}
        assert len(clients.call(16, version, types_filter=["Classic"]).groups) == 2
        assert clients.call(16, version, types_filter=["consumer"]).groups == []


@pytest.mark.parametrize("version", versions(42))
def test_groups_are_deleted_each_with_its_own_code(version: int) -> None:
    clients = GroupClients()
    clients.member()
    clients.kit.commit(group_id="simple")
    results = clients.call(42, version, groups_names=[GROUP, "simple", "missing-group", "simple"]).results
    assert [(group.group_id, group.error_code) for group in results] == [
        (GROUP, ErrorCode.NON_EMPTY_GROUP),
        ("simple", OK),
        ("missing-group", ErrorCode.GROUP_ID_NOT_FOUND),
    ]


# --- offsets ------------------------------------------------------------------------------------------------


def topic_fields(version: int, name: str = "flights") -> dict[str, Any]:
    return {"topic_id": FLIGHTS.id if name == "flights" else UUID(int=9)} if version >= 10 else {"name": name}


def commit(clients: GroupClients, version: int, name: str = "flights", **fields: Any) -> int:
    epoch = {"committed_leader_epoch": 7} if version >= 6 else {}
    partition = Message(partition_index=1, committed_offset=42, committed_metadata="note", **epoch)
    topics = [Message(partitions=[partition], **topic_fields(version, name))]
    (topic,) = clients.call(8, version, group_id=GROUP, topics=topics, **fields).topics
    (committed,) = topic.partitions
    assert committed.partition_index == 1
    assert topic.topic_id == FLIGHTS.id if version >= 10 and name == "flights" else True
    code: int = committed.error_code
    return code


def fetch(
    clients: GroupClients, version: int, topics: list[Message] | None, group_id: str = GROUP
) -> list[Message]:
    if version >= 8:
        groups = [Message(group_id=group_id, topics=topics)]
        (answer,) = clients.call(9, version, groups=groups, require_stable=True).groups
        assert answer.group_id == group_id
    else:
        answer = clients.call(9, version, group_id=group_id, topics=topics)
    if version >= 2:
        assert answer.error_code == OK
    return list(answer.topics)


@pytest.mark.parametrize("version", versions(8))
def test_offsets_are_committed_in_every_version(version: int) -> None:
    clients = GroupClients()
    assert commit(clients, version) == OK
    assert clients.kit.offsets() == {("flights", 1): 42}
    unknown = ErrorCode.UNKNOWN_TOPIC_ID if version >= 10 else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert commit(clients, version, "nowhere") == unknown
    unknown_member: dict[str, Any] = {"generation_id_or_member_epoch": 3, "member_id": "unknown"}
    assert commit(clients, version, **unknown_member) == ErrorCode.UNKNOWN_MEMBER_ID


@pytest.mark.parametrize("version", versions(9))
def test_offsets_are_fetched_in_every_version(version: int) -> None:
    clients = GroupClients()
    commit(clients, 9)
    (topic,) = fetch(clients, version, [Message(partition_indexes=[1, 0], **topic_fields(version))])
    committed, missing = topic.partitions
    assert (committed.partition_index, committed.committed_offset, committed.metadata) == (1, 42, "note")
    assert (missing.partition_index, missing.committed_offset, missing.metadata) == (0, -1, "")
    assert (committed.error_code, missing.error_code) == (OK, OK)
    if version >= 5:
        assert (committed.committed_leader_epoch, missing.committed_leader_epoch) == (7, -1)
    assert topic.topic_id == FLIGHTS.id if version >= 10 else topic.name == "flights"


@pytest.mark.parametrize("version", versions(9, since=2))
def test_all_offsets_are_fetched_in_every_version(version: int) -> None:
    clients = GroupClients()
    commit(clients, 9)
    (topic,) = fetch(clients, version, None)
    assert [partition.partition_index for partition in topic.partitions] == [1]
    assert fetch(clients, version, None, "missing-group") == []


def test_offsets_of_several_groups_are_fetched_at_once() -> None:
    clients = GroupClients()
    commit(clients, 9)
    groups = [Message(group_id=name, topics=None) for name in (GROUP, "missing-group")]
    first, second = clients.call(9, 8, groups=groups).groups
    assert (len(first.topics), len(second.topics)) == (1, 0)


def test_an_unknown_topic_id_is_an_error_of_its_partitions() -> None:
    (topic,) = fetch(GroupClients(), 10, [Message(partition_indexes=[0], **topic_fields(10, "nowhere"))])
    (partition,) = topic.partitions
    assert (partition.error_code, partition.committed_offset) == (ErrorCode.UNKNOWN_TOPIC_ID, -1)


def test_an_error_of_the_group_is_repeated_for_every_partition() -> None:
    clients = GroupClients()
    clients.member().sync(mine=b"all")
    assert commit(clients, 9) == ErrorCode.UNKNOWN_MEMBER_ID


def test_offsets_are_deleted_or_refused() -> None:
    clients = GroupClients()
    clients.member().sync(mine=b"all")
    topics = [
        Message(name=name, partitions=[Message(partition_index=0)]) for name in ("flights", "weather", "no")
    ]
    answer = clients.call(47, 0, group_id=GROUP, topics=topics)
    assert answer.error_code == OK
    assert [(topic.name, topic.partitions[0].error_code) for topic in answer.topics] == [
        ("flights", ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC),
        ("weather", OK),
        ("no", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ]
    missing = clients.call(47, 0, group_id="missing-group", topics=topics)
    assert (missing.error_code, missing.topics) == (ErrorCode.GROUP_ID_NOT_FOUND, [])


# --- the disk fails -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2, 7, 8, 10])
def test_clients_look_for_the_coordinator_while_its_state_is_read_again(version: int) -> None:
    clients = GroupClients(state=FakeStateLog(auto_commit=False))
    clients.kit.commit()
    topics = [Message(partition_indexes=[0], **topic_fields(version))]
    fields = (
        {"groups": [Message(group_id=GROUP, topics=topics)]}
        if version >= 8
        else {"group_id": GROUP, "topics": topics}
    )
    client = clients.client()
    client.send(9, version, Message(**fields))
    assert client.replies() == []
    clients.kit.state.fail()
    (answer,) = client.replies()
    if version >= 8:
        (answer,) = answer.groups
    if version == 1:
        answer = answer.topics[0].partitions[0]
    assert answer.error_code == ErrorCode.NOT_COORDINATOR
