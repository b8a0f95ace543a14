"""The requests of groups as clients send them, in every version: bytes in, bytes out."""

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
from tests.doors.kafka.kit import LISTENER, DoorClient, MemoryNode
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

    def __init__(self, party: GroupClients, **change: Any) -> None:
        self.client = party.client()
        self.change = change
        self.id = ""
        self.generation = -1
        self.joined = Message()

    def ask_join(self, version: int) -> None:
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
        """Join as clients do: once more if an id is required. None if it has to wait."""
        self.ask_join(version)
        answers = self.client.replies()
        if answers and answers[0].error_code == ErrorCode.MEMBER_ID_REQUIRED:
            self.id = answers[0].member_id
            self.ask_join(version)
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
    """Only the fields that the version has."""
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
def test_the_coordinator_is_where_the_listener_says(version: int) -> None:
    if version < 4:
        found = GroupClients().call(10, version, key=GROUP)
    else:
        (found,) = GroupClients().call(10, version, coordinator_keys=[GROUP]).coordinators
        assert found.key == GROUP
    assert (found.error_code, found.node_id) == (OK, 1)
    assert (found.host, found.port) == (LISTENER.host, LISTENER.port)


def test_many_coordinators_are_found_at_once() -> None:
    answer = GroupClients().call(10, 4, coordinator_keys=["a", "b"])
    assert [one.key for one in answer.coordinators] == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "code", "word"),
    [
        (1, ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "transactions"),
        (2, ErrorCode.INVALID_REQUEST, "share groups"),
        (9, ErrorCode.INVALID_REQUEST, "coordinator type 9"),
    ],
)
def test_other_coordinators_are_refused_with_a_text(kind: int, code: int, word: str) -> None:
    (one,) = GroupClients().call(10, 6, key_type=kind, coordinator_keys=["x"]).coordinators
    assert (one.error_code, one.node_id) == (code, -1)
    assert word in one.error_message
    old = GroupClients().call(10, 2, key="x", key_type=kind)
    assert (old.error_code, old.port) == (code, -1)


# --- a member's life ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", versions(11))
def test_a_member_joins_syncs_lives_and_leaves_in_every_version(version: int) -> None:
    party = GroupClients()
    member = party.member(version)
    assert member.joined.error_code == OK
    assert member.joined.leader == member.id
    assert member.joined.protocol_name == "range"
    assert [one.metadata for one in member.joined.members] == [subscription("flights")]
    synced = member.sync(min(version, 5), mine=b"plan")
    assert (synced.error_code, synced.assignment) == (OK, b"plan")
    assert member.heartbeat(min(version, 4)) == OK
    leave = min(version, 5)
    fields = {"group_id": GROUP, "member_id": member.id}
    if leave >= 3:
        fields = {"group_id": GROUP, "members": [Message(member_id=member.id)]}  # type: ignore[dict-item]
    left = party.call(13, leave, **fields)
    assert left.error_code == OK
    assert member.heartbeat() == ErrorCode.UNKNOWN_MEMBER_ID


def test_version_0_rebalances_within_its_session_timeout() -> None:
    party = GroupClients()
    party.member(0)
    second = MemberClient(party)
    assert second.join(0) is None
    party.kit.advance_ms(SESSION_MS)
    (answer,) = second.client.replies()
    assert answer.error_code == OK


def test_a_join_that_waits_holds_up_its_connection_alone() -> None:
    party = GroupClients()
    first = party.member()
    first.sync(mine=b"all")
    second = MemberClient(party)
    assert second.join() is None
    assert first.heartbeat() == ErrorCode.REBALANCE_IN_PROGRESS
    first.ask_join(9)
    (leads,) = first.client.replies()
    (follows,) = second.client.replies()
    assert len(leads.members) == 2
    assert follows.members == []
    second.record(follows)
    first.record(leads)
    waiting = second.fields(14, 5, protocol_type="consumer", protocol_name="range", assignments=[])
    second.client.send(14, 5, waiting)
    assert second.client.replies() == []
    first.sync(mine=b"all")
    (empty,) = second.client.replies()
    assert (empty.error_code, empty.assignment) == (OK, b"\0\0\0\0\0\0\xff\xff\xff\xff")


def test_an_id_that_is_required_is_told() -> None:
    member = MemberClient(GroupClients())
    member.ask_join(4)
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
        ({"member_id": "somebody"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"protocols": []}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
    ],
)
def test_a_refused_join_is_a_whole_reply(version: int, change: dict[str, Any], code: int) -> None:
    member = GroupClients().member(version, **change)
    assert (member.joined.error_code, member.joined.generation_id) == (code, -1)
    assert member.joined.member_id == change.get("member_id", "")


def test_a_full_group_gives_no_id() -> None:
    party = GroupClients(group_max_size=1)
    party.member().sync(mine=b"all")
    told = party.member().joined
    assert (told.error_code, told.member_id) == (ErrorCode.GROUP_MAX_SIZE_REACHED, "")


def test_sync_5_requires_type_and_name_of_the_protocol() -> None:
    member = GroupClients().member()
    answer = member.client.call(14, 5, member.fields(14, 5, assignments=[]))
    assert (answer.error_code, answer.assignment) == (ErrorCode.INCONSISTENT_GROUP_PROTOCOL, b"")


def test_a_refused_sync_has_a_code() -> None:
    member = GroupClients().member()
    member.generation += 1
    assert member.sync().error_code == ErrorCode.ILLEGAL_GENERATION


def test_members_leave_together_and_by_instance_id() -> None:
    party = GroupClients()
    party.member(group_instance_id="w-1").sync(mine=b"all")
    gone = [Message(member_id="", group_instance_id="w-1", reason="done"), Message(member_id="nobody")]
    answer = party.call(13, 5, group_id=GROUP, members=gone)
    assert answer.error_code == OK
    assert [(one.group_instance_id, one.error_code) for one in answer.members] == [
        ("w-1", OK),
        (None, ErrorCode.UNKNOWN_MEMBER_ID),
    ]
    assert party.call(13, 2, group_id=GROUP, member_id="x").error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_static_leader_that_comes_back_skips_the_assignment_from_version_9_on() -> None:
    party = GroupClients()
    party.member(group_instance_id="w-1").sync(mine=b"all")
    back = party.member(9, group_instance_id="w-1")
    assert (back.joined.skip_assignment, back.joined.leader) == (True, back.id)
    old = party.member(8, group_instance_id="w-1")
    assert old.joined.leader == back.id
    assert old.joined.members == []


# --- views --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", versions(15))
def test_a_group_is_described(version: int) -> None:
    party = GroupClients()
    member = party.member(group_instance_id="w-1")
    member.sync(mine=b"plan")
    (group,) = party.call(15, version, groups=[GROUP]).groups
    assert (group.error_code, group.group_state) == (OK, "Stable")
    assert (group.protocol_type, group.protocol_data) == ("consumer", "range")
    (one,) = group.members
    assert (one.member_id, one.client_id, one.client_host) == (member.id, "test", "/198.51.100.1")
    assert (one.member_metadata, one.member_assignment) == (subscription("flights"), b"plan")
    if version >= 4:
        assert one.group_instance_id == "w-1"


@pytest.mark.parametrize("version", versions(15))
def test_an_unknown_group_is_dead(version: int) -> None:
    (group,) = GroupClients().call(15, version, groups=["nobodies"]).groups
    assert group.group_state == "Dead"
    assert group.error_code == (ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else OK)
    if version >= 6:
        assert group.error_message == "Group nobodies not found."


def test_operations_are_told_to_who_asks() -> None:
    (group,) = GroupClients().call(15, 5, groups=["g"], include_authorized_operations=True).groups
    assert group.authorized_operations == 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11
    (group,) = GroupClients().call(15, 5, groups=["g"], include_authorized_operations=False).groups
    assert group.authorized_operations == -(1 << 31)


@pytest.mark.parametrize("version", versions(16))
def test_groups_are_listed(version: int) -> None:
    party = GroupClients()
    party.member().sync(mine=b"all")
    party.kit.commit(group_id="a-simple-one")
    groups = party.call(16, version).groups
    assert [(one.group_id, one.protocol_type) for one in groups] == [
        ("a-simple-one", ""),
        (GROUP, "consumer"),
    ]
    if version >= 4:
        assert [one.group_state for one in groups] == ["Empty", "Stable"]
        assert [one.group_id for one in party.call(16, version, states_filter=["stable"]).groups] == [GROUP]
    if version >= 5:
        assert {one.group_type for one in groups} == {"classic"}
        assert len(party.call(16, version, types_filter=["Classic"]).groups) == 2
        assert party.call(16, version, types_filter=["consumer"]).groups == []


@pytest.mark.parametrize("version", versions(42))
def test_groups_are_deleted_each_with_its_own_code(version: int) -> None:
    party = GroupClients()
    party.member()
    party.kit.commit(group_id="simple")
    results = party.call(42, version, groups_names=[GROUP, "simple", "nobodies", "simple"]).results
    assert [(one.group_id, one.error_code) for one in results] == [
        (GROUP, ErrorCode.NON_EMPTY_GROUP),
        ("simple", OK),
        ("nobodies", ErrorCode.GROUP_ID_NOT_FOUND),
    ]


# --- offsets ------------------------------------------------------------------------------------------------


def topic_fields(version: int, name: str = "flights") -> dict[str, Any]:
    return {"topic_id": FLIGHTS.id if name == "flights" else UUID(int=9)} if version >= 10 else {"name": name}


def commit(party: GroupClients, version: int, name: str = "flights", **fields: Any) -> int:
    epoch = {"committed_leader_epoch": 7} if version >= 6 else {}
    partition = Message(partition_index=1, committed_offset=42, committed_metadata="note", **epoch)
    topics = [Message(partitions=[partition], **topic_fields(version, name))]
    (topic,) = party.call(8, version, group_id=GROUP, topics=topics, **fields).topics
    (one,) = topic.partitions
    assert one.partition_index == 1
    assert topic.topic_id == FLIGHTS.id if version >= 10 and name == "flights" else True
    code: int = one.error_code
    return code


def fetch(
    party: GroupClients, version: int, topics: list[Message] | None, group_id: str = GROUP
) -> list[Message]:
    if version >= 8:
        groups = [Message(group_id=group_id, topics=topics)]
        (answer,) = party.call(9, version, groups=groups, require_stable=True).groups
        assert answer.group_id == group_id
    else:
        answer = party.call(9, version, group_id=group_id, topics=topics)
    if version >= 2:
        assert answer.error_code == OK
    return list(answer.topics)


@pytest.mark.parametrize("version", versions(8))
def test_offsets_are_committed_in_every_version(version: int) -> None:
    party = GroupClients()
    assert commit(party, version) == OK
    assert party.kit.offsets() == {("flights", 1): 42}
    unknown = ErrorCode.UNKNOWN_TOPIC_ID if version >= 10 else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert commit(party, version, "nowhere") == unknown
    gone: dict[str, Any] = {"generation_id_or_member_epoch": 3, "member_id": "gone"}
    assert commit(party, version, **gone) == ErrorCode.UNKNOWN_MEMBER_ID


@pytest.mark.parametrize("version", versions(9))
def test_offsets_are_told_in_every_version(version: int) -> None:
    party = GroupClients()
    commit(party, 9)
    (topic,) = fetch(party, version, [Message(partition_indexes=[1, 0], **topic_fields(version))])
    found, missing = topic.partitions
    assert (found.partition_index, found.committed_offset, found.metadata) == (1, 42, "note")
    assert (missing.partition_index, missing.committed_offset, missing.metadata) == (0, -1, "")
    assert (found.error_code, missing.error_code) == (OK, OK)
    if version >= 5:
        assert (found.committed_leader_epoch, missing.committed_leader_epoch) == (7, -1)
    assert topic.topic_id == FLIGHTS.id if version >= 10 else topic.name == "flights"


@pytest.mark.parametrize("version", versions(9, since=2))
def test_all_offsets_are_told_in_every_version(version: int) -> None:
    party = GroupClients()
    commit(party, 9)
    (topic,) = fetch(party, version, None)
    assert [one.partition_index for one in topic.partitions] == [1]
    assert fetch(party, version, None, "nobodies") == []


def test_offsets_of_many_groups_are_told_at_once() -> None:
    party = GroupClients()
    commit(party, 9)
    groups = [Message(group_id=name, topics=None) for name in (GROUP, "nobodies")]
    first, second = party.call(9, 8, groups=groups).groups
    assert (len(first.topics), len(second.topics)) == (1, 0)


def test_an_unknown_topic_id_is_told() -> None:
    (topic,) = fetch(GroupClients(), 10, [Message(partition_indexes=[0], **topic_fields(10, "nowhere"))])
    (one,) = topic.partitions
    assert (one.error_code, one.committed_offset) == (ErrorCode.UNKNOWN_TOPIC_ID, -1)


def test_an_error_of_the_group_stands_at_every_partition() -> None:
    party = GroupClients()
    party.member().sync(mine=b"all")
    assert commit(party, 9) == ErrorCode.UNKNOWN_MEMBER_ID


def test_offsets_are_deleted_or_refused() -> None:
    party = GroupClients()
    party.member().sync(mine=b"all")
    topics = [
        Message(name=name, partitions=[Message(partition_index=0)]) for name in ("flights", "weather", "no")
    ]
    answer = party.call(47, 0, group_id=GROUP, topics=topics)
    assert answer.error_code == OK
    assert [(one.name, one.partitions[0].error_code) for one in answer.topics] == [
        ("flights", ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC),
        ("weather", OK),
        ("no", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ]
    missing = party.call(47, 0, group_id="nobodies", topics=topics)
    assert (missing.error_code, missing.topics) == (ErrorCode.GROUP_ID_NOT_FOUND, [])


# --- the disk fails -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2, 7, 8, 10])
def test_while_the_state_is_read_again_clients_look_for_the_coordinator(version: int) -> None:
    party = GroupClients(state=FakeStateLog(auto_commit=False))
    party.kit.commit()
    topics = [Message(partition_indexes=[0], **topic_fields(version))]
    fields = (
        {"groups": [Message(group_id=GROUP, topics=topics)]}
        if version >= 8
        else {"group_id": GROUP, "topics": topics}
    )
    client = party.client()
    client.send(9, version, Message(**fields))
    assert client.replies() == []
    party.kit.state.fail()
    (answer,) = client.replies()
    if version >= 8:
        (answer,) = answer.groups
    if version == 1:
        answer = answer.topics[0].partitions[0]
    assert answer.error_code == ErrorCode.NOT_COORDINATOR
