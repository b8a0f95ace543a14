"""The same requests of groups to mainstem and to a real Apache Kafka: the replies must be the same.

What may differ is listed in `normal`: ids that are random, addresses, texts of errors. Needs Java and the
jars of `make deps-all`.
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
from tests.doors.kafka.kit import decode_reply, request_frame
from tests.support.server import Server

COMMIT, FETCH, FIND, JOIN, BEAT, LEAVE, SYNC, DESCRIBE, LIST, DELETE, DELETE_OFFSETS = (
    8, 9, 10, 11, 12, 13, 14, 15, 16, 42, 47,
)  # fmt: skip
NOT_COMPARED = {"throttle_time", "error_message", "host", "port", "node_id", "client_host", "metadata_text"}
RANGE = [Message(name="range", metadata=subscription("t"))]
STICKY = [Message(name="sticky", metadata=subscription("t"))]


class KafkaWire:
    """One connection."""

    def __init__(self, at: str) -> None:
        host, _, port = at.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 30)
        self.asked: list[tuple[int, int]] = []

    def send(self, key: int, version: int, /, **fields: Any) -> None:
        known = {field.name for field in api(key).request.fields if field.in_version(version)}
        message = Message(**{name: value for name, value in fields.items() if name in known})
        self.asked.append((key, version))
        self.socket.sendall(request_frame(key, version, 1, message, client_id="c"))

    def receive(self) -> Message:
        size = int.from_bytes(self._take(4), "big")
        return decode_reply(*self.asked.pop(0), memoryview(self._take(size)))

    def _take(self, count: int) -> bytes:
        out = b""
        while len(out) < count:
            more = self.socket.recv(count - len(out))
            assert more, "the server hung up"
            out += more
        return out


class Conversation:
    """A conversation with one server, and what it said."""

    def __init__(self, at: str, group: str) -> None:
        self.at = at
        self.group = group
        self.wires: dict[str, KafkaWire] = {}
        self.names: dict[str, str] = {}
        self.replies: list[Any] = []

    def wire(self, who: str) -> KafkaWire:
        if who not in self.wires:
            self.wires[who] = KafkaWire(self.at)
        return self.wires[who]

    def send(self, who: str, key: int, version: int, /, **fields: Any) -> None:
        self.wire(who).send(key, version, **{"group_id": self.group, **fields})

    def receive(self, who: str) -> Message:
        key, version = self.wire(who).asked[0]
        answer = self.wire(who).receive()
        self.replies.append((who, key, version, self.normal(answer)))
        return answer

    def call(self, who: str, key: int, version: int, /, **fields: Any) -> Message:
        self.send(who, key, version, **fields)
        return self.receive(who)

    def normal(self, value: Any, field: str = "") -> Any:
        if isinstance(value, Message):
            return {
                name: self.normal(one, name)
                for name, one in vars(value).items()
                if name not in NOT_COMPARED and one is not None
            }
        if field == "groups" and value and "group_type" in vars(value[0]):
            # Apache Kafka lists groups in no order.
            return [self.normal(one) for one in value if one.group_id == self.group]
        if isinstance(value, list | tuple):
            items = [self.normal(one, field) for one in value]
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
        """Join and wait for the answer, once more if an id is required."""
        answer = self.call(who, JOIN, version, **self.join_fields(**change))
        if answer.error_code == 79:
            change["member_id"] = answer.member_id
            answer = self.call(who, JOIN, version, **self.join_fields(**change))
        return answer

    def start_join(self, who: str, version: int = 9, **change: Any) -> None:
        """Join and do not wait, but for the id."""
        if not change.get("member_id") and not change.get("group_instance_id") and version >= 4:
            answer = self.call(who, JOIN, version, **self.join_fields(**change))
            change["member_id"] = answer.member_id
        self.send(who, JOIN, version, **self.join_fields(**change))
        time.sleep(0.2)  # it waits there: nothing tells when it has come

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

    def beat(self, who: str, joined: Message, **change: Any) -> Message:
        return self.call(who, BEAT, 4, **self.as_member(joined, **change))

    def commit(self, who: str, joined: Message | None = None, version: int = 9, **change: Any) -> Message:
        fields = {} if joined is None else self.as_member(joined)
        return self.call(who, COMMIT, version, **{**fields, "topics": [offset()], **change})

    def state(self) -> None:
        self.call("admin", DESCRIBE, 5, groups=[self.group])

    def pair(self) -> tuple[Message, Message]:
        """A stable group of two; a leads."""
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
    one = Message(partition_index=partition, committed_offset=7, committed_metadata=metadata)
    return Message(name=name, partitions=[one])


# --- the conversations --------------------------------------------------------------------------------------


def one_member_in_every_version(talk: Conversation) -> None:
    for version in range(10):
        joined = talk.join("a", version)
        talk.sync("a", joined, min(version, 5), assignments=[plan(joined, b"x")])
        talk.call("a", BEAT, min(version, 4), **talk.as_member(joined))
        talk.call("admin", DESCRIBE, min(version, 6), groups=[talk.group])
        leave = min(version, 5)
        talk.call(
            "a", LEAVE, leave, member_id=joined.member_id, members=[Message(member_id=joined.member_id)]
        )
        talk.state()


def offsets_in_every_version(talk: Conversation) -> None:
    for version in range(2, 10):
        talk.commit("a", version=version)
    for version in range(1, 10):
        topics = [Message(name="t", partition_indexes=[0, 1]), Message(name="nowhere", partition_indexes=[0])]
        groups = [Message(group_id=talk.group, topics=topics), Message(group_id="nobodies", topics=topics)]
        talk.call("a", FETCH, version, topics=topics, groups=groups)
        if version >= 2:
            groups = [Message(group_id=talk.group, topics=None), Message(group_id="nobodies", topics=None)]
            talk.call("a", FETCH, version, topics=None, groups=groups)


def offsets_by_topic_id(talk: Conversation) -> None:
    wire = talk.wire("a")
    wire.send(3, 12, topics=[Message(topic_id=NO_UUID, name="t")], allow_auto_topic_creation=False)
    known = wire.receive().topics[0].topic_id
    part = Message(partition_index=1, committed_offset=9, committed_leader_epoch=0, committed_metadata="note")
    for topic_id in (known, UUID(int=12345)):
        talk.call("a", COMMIT, 10, topics=[Message(topic_id=topic_id, partitions=[part])])
        topics = [Message(topic_id=topic_id, partition_indexes=[0, 1, 99])]
        talk.call("a", FETCH, 10, groups=[Message(group_id=talk.group, topics=topics)])
    talk.call("a", FETCH, 10, groups=[Message(group_id=talk.group, topics=None)])


def coordinators_and_lists(talk: Conversation) -> None:
    talk.commit("a")
    for version in range(7):
        talk.call("a", FIND, version, key=talk.group, coordinator_keys=[talk.group])
    for version in range(6):
        talk.call("a", LIST, version, states_filter=["Empty", "nonsense"], types_filter=["classic"])
    talk.call("a", LIST, 5, states_filter=["stable"])
    talk.call("a", LIST, 5, types_filter=["consumer"])
    for version in range(7):
        talk.call("a", DESCRIBE, version, groups=["nobodies", talk.group])
    for version in range(3):
        talk.call("a", DELETE, version, groups_names=["nobodies", talk.group])
        talk.commit("a")


def refusals(talk: Conversation) -> None:
    stranger = Message(member_id="stranger", generation_id=1)
    for version in (0, 5, 9):
        talk.call("a", JOIN, version, **talk.join_fields(member_id="stranger"))
        talk.call("a", JOIN, version, **talk.join_fields(session_timeout=1))
        talk.call("a", JOIN, version, **talk.join_fields(group_id=""))
        talk.call("a", JOIN, version, **talk.join_fields(protocols=[]))
        talk.call("a", JOIN, version, **talk.join_fields(protocol_type=""))
    for version in (0, 3, 5):
        talk.sync("a", stranger, version)
        talk.sync("a", stranger, version, group_id="")
    talk.beat("a", stranger)
    talk.beat("a", stranger, group_id="")
    for version in (0, 2, 3, 5):
        gone = [Message(member_id="stranger"), Message(member_id="", group_instance_id="w")]
        talk.call("a", LEAVE, version, member_id="stranger", members=gone)
        talk.call("a", LEAVE, version, group_id="", member_id="stranger", members=gone)
    talk.commit("a", stranger, version=8, group_id="nobodies")
    talk.commit("a", topics=[offset("nowhere"), offset(partition=99), offset("u", metadata="m" * 5_000)])
    talk.commit("a", topics=[offset(metadata=None)])
    topics = [Message(name=name, partitions=[Message(partition_index=0)]) for name in ("t", "nowhere")]
    talk.call("a", DELETE_OFFSETS, 0, topics=topics)
    talk.call("a", DELETE_OFFSETS, 0, topics=topics, group_id="nobodies")


def refusals_of_a_group_with_members(talk: Conversation) -> None:
    joined = talk.join("a")
    talk.commit("a", joined)
    talk.beat("a", joined)
    changes: list[dict[str, Any]]
    changes = [{"generation_id": 9}, {"member_id": "x"}, {"group_instance_id": "w"}]
    for change in changes:
        talk.sync("a", joined, **change)
        talk.beat("a", joined, **change)
    talk.sync("a", joined, protocol_name="sticky")
    talk.sync("a", joined, protocol_type="connect")
    talk.sync("a", joined, protocol_type=None)
    talk.sync("a", joined, assignments=[plan(joined, b"mine")])
    changes = [{"protocol_type": "connect"}, {"protocols": STICKY}, {"member_id": "x"}]
    for change in changes:
        talk.call("b", JOIN, 9, **talk.join_fields(**change))
    talk.commit("a", joined)
    talk.commit("a")
    talk.commit("a", joined, generation_id_or_member_epoch=5)
    talk.commit("a", joined, generation_id_or_member_epoch=-1)
    talk.commit("a", joined, member_id="x")
    talk.commit("a", joined, group_instance_id="w")
    talk.call("a", DELETE, 2, groups_names=[talk.group])
    topics = [Message(name=name, partitions=[Message(partition_index=0)]) for name in ("t", "u")]
    talk.call("a", DELETE_OFFSETS, 0, topics=topics)
    talk.call("a", LEAVE, 5, members=[Message(member_id="x"), Message(member_id=joined.member_id)])
    talk.call("a", DELETE_OFFSETS, 0, topics=topics)
    talk.state()


def two_members(talk: Conversation) -> None:
    leader, follower = talk.pair()
    talk.state()
    talk.join("b", member_id=follower.member_id)
    talk.sync("b", follower)
    talk.start_join("a", member_id=leader.member_id)
    talk.state()
    talk.beat("b", follower)
    talk.commit("b", follower)
    talk.sync("b", follower)
    follower = talk.join("b", member_id=follower.member_id)
    leader = talk.receive("a")
    talk.state()
    talk.beat("b", follower)
    talk.commit("b", follower)
    talk.join("a", member_id=leader.member_id)
    talk.send("b", SYNC, 5, **talk.as_member(follower))
    talk.start_join("c")
    talk.receive("b")
    talk.start_join("b", member_id=follower.member_id)
    talk.call("admin", LEAVE, 5, members=[Message(member_id=follower.member_id)])
    talk.receive("b")
    talk.state()
    talk.join("a", member_id=leader.member_id)
    talk.receive("c")
    talk.state()


def static_members(talk: Conversation) -> None:
    one: dict[str, Any] = {"group_instance_id": "w-1"}
    two: dict[str, Any] = {"group_instance_id": "w-2"}
    first = talk.join("a", **one)
    talk.sync("a", first, **one, assignments=[plan(first, b"all")])
    talk.start_join("b", **two)
    leader = talk.join("a", member_id=first.member_id, **one)
    follower = talk.receive("b")
    talk.send("b", SYNC, 5, **talk.as_member(follower, **two))
    talk.sync("a", leader, **one, assignments=[plan(leader, b"left"), plan(follower, b"right")])
    talk.receive("b")
    back = talk.join("b2", **two)
    talk.sync("b2", back, **two)
    for action in (talk.sync, talk.beat, talk.commit):
        action("b", follower, **two)
    talk.join("b", member_id=follower.member_id, **two)
    again = talk.join("a2", 9, **one)
    talk.sync("a2", again, **one)
    older = talk.join("a3", 8, **one)
    talk.sync("a3", older, **one)
    talk.state()
    gone = [
        Message(member_id="", **two),
        Message(member_id="x", **one),
        Message(member_id="", group_instance_id="z"),
    ]
    talk.call("admin", LEAVE, 5, members=gone)
    talk.beat("a3", older, **one)
    talk.join("a3", member_id=older.member_id, **one)
    talk.state()


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
        for at in (ours.at, real_kafka):
            make = Message(name="t", num_partitions=2, replication_factor=1, assignments=[], configs=[])
            other = Message(name="u", num_partitions=2, replication_factor=1, assignments=[], configs=[])
            with contextlib.closing(Conversation(at, "x")) as talk:
                talk.wire("a").send(19, 5, topics=[make, other], timeout=20_000, validate_only=False)
                talk.receive("a")
                find(talk)
        yield ours.at, real_kafka


def find(talk: Conversation) -> None:
    """Wait until the coordinator is there: Apache Kafka makes its topic first."""
    for _ in range(200):
        found = talk.call("a", FIND, 3, key="x", key_type=0)
        if found.error_code == 0 and talk.commit("a").topics[0].partitions[0].error_code == 0:
            return
        time.sleep(0.1)
    raise AssertionError("no coordinator")


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("converse", CONVERSATIONS, ids=lambda converse: converse.__name__)
def test_the_replies_are_those_of_apache_kafka(
    servers: tuple[str, str], converse: Callable[[Conversation], None]
) -> None:
    said = []
    for at in servers:
        talk = Conversation(at, converse.__name__)
        with contextlib.closing(talk):
            converse(talk)
        said.append(talk.replies)
    ours, theirs = said
    for step, (mine, kafkas) in enumerate(zip(ours, theirs, strict=True)):
        assert mine == kafkas, f"step {step}: {mine}\n{kafkas}"
