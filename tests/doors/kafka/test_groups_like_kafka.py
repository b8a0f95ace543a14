"""The same group requests to mainstem and to a real Apache Kafka have the same replies.

`normal` leaves out what may differ: random ids, addresses, error texts. Needs Java and the jars of
`make deps-all`.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from mainstem.kafka_protocol.message import NO_UUID, Message
from mainstem.kafka_protocol.schema import api
from tests.coordinator.group_rig import subscription
from tests.doors.kafka.kit import receive_reply, request_frame
from tests.support.server import Server

COMMIT, FETCH, FIND, JOIN, HEARTBEAT, LEAVE, SYNC, DESCRIBE, LIST, DELETE, DELETE_OFFSETS = (
    8, 9, 10, 11, 12, 13, 14, 15, 16, 42, 47,
)  # fmt: skip
NOT_COMPARED = {"throttle_time", "error_message", "host", "port", "node_id", "client_host", "metadata_text"}
RANGE = [Message(name="range", metadata=subscription("t"))]
STICKY = [Message(name="sticky", metadata=subscription("t"))]


class KafkaWire:
    """One raw connection to a server."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 30)
        self.requested: list[tuple[int, int]] = []

    def send(self, key: int, version: int, /, **fields: Any) -> None:
        known = {field.name for field in api(key).request.fields if field.in_version(version)}
        message = Message(**{name: value for name, value in fields.items() if name in known})
        self.requested.append((key, version))
        self.socket.sendall(request_frame(key, version, 1, message, client_id="c"))

    def receive(self) -> Message:
        return receive_reply(self.socket, *self.requested.pop(0))


class Conversation:
    """Named connections to one server, and the replies on all of them."""

    def __init__(self, address: str, group: str) -> None:
        self.address = address
        self.group = group
        self.wires: dict[str, KafkaWire] = {}
        self.names: dict[str, str] = {}
        self.replies: list[Any] = []

    def wire(self, who: str) -> KafkaWire:
        if who not in self.wires:
            self.wires[who] = KafkaWire(self.address)
        return self.wires[who]

    def send(self, who: str, key: int, version: int, /, **fields: Any) -> None:
        self.wire(who).send(key, version, **{"group_id": self.group, **fields})

    def receive(self, who: str) -> Message:
        key, version = self.wire(who).requested[0]
        answer = self.wire(who).receive()
        self.replies.append((who, key, version, self.normal(answer)))
        return answer

    def call(self, who: str, key: int, version: int, /, **fields: Any) -> Message:
        self.send(who, key, version, **fields)
        return self.receive(who)

    def normal(self, value: Any, field: str = "") -> Any:
        if isinstance(value, Message):
            return {
                name: self.normal(inner, name)
                for name, inner in vars(value).items()
                if name not in NOT_COMPARED and inner is not None
            }
        if field == "groups" and value and "group_type" in vars(value[0]):
            # Apache Kafka lists the groups of all tests, in no order.
            return [self.normal(group) for group in value if group.group_id == self.group]
        if isinstance(value, list | tuple):
            items = [self.normal(item, field) for item in value]
            # Apache Kafka keeps these in hash tables.
            return sorted(items, key=repr) if field in ("members", "results", "topics") else items
        if field in ("member_id", "leader") and value:
            return self.names.setdefault(value, f"member {len(self.names) + 1}")
        return "an id" if field == "topic_id" else value

    def close(self) -> None:
        for wire in self.wires.values():
            wire.socket.close()

    # --- what members do ----------------------------------------------------------------------------------

    def join_fields(self, **change: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "member_id": "",
            "session_timeout": 30_000,
            "rebalance_timeout": 20_000,
            "protocol_type": "consumer",
            "protocols": RANGE,
        }
        return {**fields, **change}

    def join(self, who: str, version: int = 9, **change: Any) -> Message:
        """Join and wait for the reply; again with the id if one is required."""
        answer = self.call(who, JOIN, version, **self.join_fields(**change))
        if answer.error_code == 79:
            change["member_id"] = answer.member_id
            answer = self.call(who, JOIN, version, **self.join_fields(**change))
        return answer

    def start_join(self, who: str, version: int = 9, **change: Any) -> None:
        """Get an id and send the join with it, without waiting for the reply."""
        if not change.get("member_id") and not change.get("group_instance_id") and version >= 4:
            answer = self.call(who, JOIN, version, **self.join_fields(**change))
            change["member_id"] = answer.member_id
        self.send(who, JOIN, version, **self.join_fields(**change))
        time.sleep(0.2)  # the reply waits on the server, which gives no sign that the request has arrived

    def as_member(self, joined: Message, **change: Any) -> dict[str, Any]:
        return {
            "member_id": joined.member_id,
            "generation_id": joined.generation_id,
            "generation_id_or_member_epoch": joined.generation_id,
            "protocol_type": "consumer",
            "protocol_name": "range",
            "assignments": [],
            **change,
        }

    def sync(self, who: str, joined: Message, version: int = 5, **change: Any) -> Message:
        return self.call(who, SYNC, version, **self.as_member(joined, **change))

    def heartbeat(self, who: str, joined: Message, **change: Any) -> Message:
        return self.call(who, HEARTBEAT, 4, **self.as_member(joined, **change))

    def commit(self, who: str, joined: Message | None = None, version: int = 9, **change: Any) -> Message:
        fields = {} if joined is None else self.as_member(joined)
        return self.call(who, COMMIT, version, **{**fields, "topics": [offset()], **change})

    def state(self) -> None:
        self.call("admin", DESCRIBE, 5, groups=[self.group])

    def pair(self) -> tuple[Message, Message]:
        """A stable group of two members, (leader, follower), on the connections a and b."""
        first = self.join("a")
        self.sync("a", first, assignments=[plan(first, b"all")])
        self.start_join("b")
        leader = self.join("a", member_id=first.member_id)
        follower = self.receive("b")
        self.send("b", SYNC, 5, **self.as_member(follower))
        self.sync("a", leader, assignments=[plan(leader, b"left"), plan(follower, b"right")])
        self.receive("b")
        return leader, follower


def plan(joined: Message, data: bytes) -> Message:
    return Message(member_id=joined.member_id, assignment=data)


def offset(name: str = "t", partition: int = 0, metadata: str | None = "note") -> Message:
    committed = Message(partition_index=partition, committed_offset=7, committed_metadata=metadata)
    return Message(name=name, partitions=[committed])


# --- the conversations --------------------------------------------------------------------------------------


def one_member_in_every_version(conversation: Conversation) -> None:
    for version in range(10):
        joined = conversation.join("a", version)
        conversation.sync("a", joined, min(version, 5), assignments=[plan(joined, b"x")])
        conversation.call("a", HEARTBEAT, min(version, 4), **conversation.as_member(joined))
        conversation.call("admin", DESCRIBE, min(version, 6), groups=[conversation.group])
        leave = min(version, 5)
        conversation.call(
            "a", LEAVE, leave, member_id=joined.member_id, members=[Message(member_id=joined.member_id)]
        )
        conversation.state()


def offsets_in_every_version(conversation: Conversation) -> None:
    for version in range(2, 10):
        conversation.commit("a", version=version)
    for version in range(1, 10):
        topics = [Message(name="t", partition_indexes=[0, 1]), Message(name="nowhere", partition_indexes=[0])]
        groups = [
            Message(group_id=conversation.group, topics=topics),
            Message(group_id="missing-group", topics=topics),
        ]
        conversation.call("a", FETCH, version, topics=topics, groups=groups)
        if version >= 2:
            groups = [
                Message(group_id=conversation.group, topics=None),
                Message(group_id="missing-group", topics=None),
            ]
            conversation.call("a", FETCH, version, topics=None, groups=groups)


def offsets_by_topic_id(conversation: Conversation) -> None:
    wire = conversation.wire("a")
    wire.send(3, 12, topics=[Message(topic_id=NO_UUID, name="t")], allow_auto_topic_creation=False)
    known = wire.receive().topics[0].topic_id
    part = Message(partition_index=1, committed_offset=9, committed_leader_epoch=0, committed_metadata="note")
    for topic_id in (known, UUID(int=12345)):
        conversation.call("a", COMMIT, 10, topics=[Message(topic_id=topic_id, partitions=[part])])
        topics = [Message(topic_id=topic_id, partition_indexes=[0, 1, 99])]
        conversation.call("a", FETCH, 10, groups=[Message(group_id=conversation.group, topics=topics)])
    conversation.call("a", FETCH, 10, groups=[Message(group_id=conversation.group, topics=None)])


def coordinators_and_lists(conversation: Conversation) -> None:
    conversation.commit("a")
    for version in range(7):
        conversation.call("a", FIND, version, key=conversation.group, coordinator_keys=[conversation.group])
    for version in range(6):
        conversation.call("a", LIST, version, states_filter=["Empty", "nonsense"], types_filter=["classic"])
    conversation.call("a", LIST, 5, states_filter=["stable"])
    conversation.call("a", LIST, 5, types_filter=["consumer"])
    for version in range(7):
        conversation.call("a", DESCRIBE, version, groups=["missing-group", conversation.group])
    for version in range(3):
        conversation.call("a", DELETE, version, groups_names=["missing-group", conversation.group])
        conversation.commit("a")


def refusals(conversation: Conversation) -> None:
    stranger = Message(member_id="stranger", generation_id=1)
    for version in (0, 5, 9):
        conversation.call("a", JOIN, version, **conversation.join_fields(member_id="stranger"))
        conversation.call("a", JOIN, version, **conversation.join_fields(session_timeout=1))
        conversation.call("a", JOIN, version, **conversation.join_fields(group_id=""))
        conversation.call("a", JOIN, version, **conversation.join_fields(protocols=[]))
        conversation.call("a", JOIN, version, **conversation.join_fields(protocol_type=""))
    for version in (0, 3, 5):
        conversation.sync("a", stranger, version)
        conversation.sync("a", stranger, version, group_id="")
    conversation.heartbeat("a", stranger)
    conversation.heartbeat("a", stranger, group_id="")
    for version in (0, 2, 3, 5):
        members = [Message(member_id="stranger"), Message(member_id="", group_instance_id="w")]
        conversation.call("a", LEAVE, version, member_id="stranger", members=members)
        conversation.call("a", LEAVE, version, group_id="", member_id="stranger", members=members)
    conversation.commit("a", stranger, version=8, group_id="missing-group")
    conversation.commit(
        "a", topics=[offset("nowhere"), offset(partition=99), offset("u", metadata="m" * 5_000)]
    )
    conversation.commit("a", topics=[offset(metadata=None)])
    topics = [Message(name=name, partitions=[Message(partition_index=0)]) for name in ("t", "nowhere")]
    conversation.call("a", DELETE_OFFSETS, 0, topics=topics)
    conversation.call("a", DELETE_OFFSETS, 0, topics=topics, group_id="missing-group")


def refusals_of_a_group_with_members(conversation: Conversation) -> None:
    joined = conversation.join("a")
    conversation.commit("a", joined)
    conversation.heartbeat("a", joined)
    changes: list[dict[str, Any]]
    changes = [{"generation_id": 9}, {"member_id": "x"}, {"group_instance_id": "w"}]
    for change in changes:
        conversation.sync("a", joined, **change)
        conversation.heartbeat("a", joined, **change)
    conversation.sync("a", joined, protocol_name="sticky")
    conversation.sync("a", joined, protocol_type="connect")
    conversation.sync("a", joined, protocol_type=None)
    conversation.sync("a", joined, assignments=[plan(joined, b"mine")])
    changes = [{"protocol_type": "connect"}, {"protocols": STICKY}, {"member_id": "x"}]
    for change in changes:
        conversation.call("b", JOIN, 9, **conversation.join_fields(**change))
    conversation.commit("a", joined)
    conversation.commit("a")
    conversation.commit("a", joined, generation_id_or_member_epoch=5)
    conversation.commit("a", joined, generation_id_or_member_epoch=-1)
    conversation.commit("a", joined, member_id="x")
    conversation.commit("a", joined, group_instance_id="w")
    conversation.call("a", DELETE, 2, groups_names=[conversation.group])
    topics = [Message(name=name, partitions=[Message(partition_index=0)]) for name in ("t", "u")]
    conversation.call("a", DELETE_OFFSETS, 0, topics=topics)
    conversation.call("a", LEAVE, 5, members=[Message(member_id="x"), Message(member_id=joined.member_id)])
    conversation.call("a", DELETE_OFFSETS, 0, topics=topics)
    conversation.state()


def two_members(conversation: Conversation) -> None:
    leader, follower = conversation.pair()
    conversation.state()
    conversation.join("b", member_id=follower.member_id)
    conversation.sync("b", follower)
    conversation.start_join("a", member_id=leader.member_id)
    conversation.state()
    conversation.heartbeat("b", follower)
    conversation.commit("b", follower)
    conversation.sync("b", follower)
    follower = conversation.join("b", member_id=follower.member_id)
    leader = conversation.receive("a")
    conversation.state()
    conversation.heartbeat("b", follower)
    conversation.commit("b", follower)
    conversation.join("a", member_id=leader.member_id)
    conversation.send("b", SYNC, 5, **conversation.as_member(follower))
    conversation.start_join("c")
    conversation.receive("b")
    conversation.start_join("b", member_id=follower.member_id)
    conversation.call("admin", LEAVE, 5, members=[Message(member_id=follower.member_id)])
    conversation.receive("b")
    conversation.state()
    conversation.join("a", member_id=leader.member_id)
    conversation.receive("c")
    conversation.state()


def static_members(conversation: Conversation) -> None:
    first_id: dict[str, Any] = {"group_instance_id": "w-1"}
    second_id: dict[str, Any] = {"group_instance_id": "w-2"}
    first = conversation.join("a", **first_id)
    conversation.sync("a", first, **first_id, assignments=[plan(first, b"all")])
    conversation.start_join("b", **second_id)
    leader = conversation.join("a", member_id=first.member_id, **first_id)
    follower = conversation.receive("b")
    conversation.send("b", SYNC, 5, **conversation.as_member(follower, **second_id))
    conversation.sync("a", leader, **first_id, assignments=[plan(leader, b"left"), plan(follower, b"right")])
    conversation.receive("b")
    back = conversation.join("b2", **second_id)
    conversation.sync("b2", back, **second_id)
    for action in (conversation.sync, conversation.heartbeat, conversation.commit):
        action("b", follower, **second_id)
    conversation.join("b", member_id=follower.member_id, **second_id)
    again = conversation.join("a2", 9, **first_id)
    conversation.sync("a2", again, **first_id)
    older = conversation.join("a3", 8, **first_id)
    conversation.sync("a3", older, **first_id)
    conversation.state()
    members = [
        Message(member_id="", **second_id),
        Message(member_id="x", **first_id),
        Message(member_id="", group_instance_id="z"),
    ]
    conversation.call("admin", LEAVE, 5, members=members)
    conversation.heartbeat("a3", older, **first_id)
    conversation.join("a3", member_id=older.member_id, **first_id)
    conversation.state()


CONVERSATIONS: list[Callable[[Conversation], None]] = [
    one_member_in_every_version,
    offsets_in_every_version,
    offsets_by_topic_id,
    coordinators_and_lists,
    refusals,
    refusals_of_a_group_with_members,
    two_members,
    static_members,
]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, real_kafka: str) -> Iterator[tuple[str, str]]:
    folder: Path = tmp_path_factory.mktemp("like-kafka")
    with Server(folder / "data").start() as ours:
        for address in (ours.address, real_kafka):
            make = Message(name="t", num_partitions=2, replication_factor=1, assignments=[], configs=[])
            other = Message(name="u", num_partitions=2, replication_factor=1, assignments=[], configs=[])
            with contextlib.closing(Conversation(address, "x")) as conversation:
                conversation.wire("a").send(19, 5, topics=[make, other], timeout=20_000, validate_only=False)
                conversation.receive("a")
                find(conversation)
        yield ours.address, real_kafka


def find(conversation: Conversation) -> None:
    """Wait until the coordinator answers: Apache Kafka creates its topic first."""
    for _ in range(200):
        coordinator = conversation.call("a", FIND, 3, key="x", key_type=0)
        if coordinator.error_code == 0 and conversation.commit("a").topics[0].partitions[0].error_code == 0:
            return
        time.sleep(0.1)
    raise AssertionError("no coordinator")


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("converse", CONVERSATIONS, ids=lambda converse: converse.__name__)
def test_the_replies_are_those_of_apache_kafka(
    servers: tuple[str, str], converse: Callable[[Conversation], None]
) -> None:
    replies = []
    for address in servers:
        conversation = Conversation(address, converse.__name__)
        with contextlib.closing(conversation):
            converse(conversation)
        replies.append(conversation.replies)
    ours, theirs = replies
    for step, (mine, kafkas) in enumerate(zip(ours, theirs, strict=True)):
        assert mine == kafkas, f"step {step}: {mine}\n{kafkas}"
