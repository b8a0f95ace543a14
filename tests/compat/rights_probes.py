"""Which requests of a user are refused, and where, in many situations of access control entries: the same on
Apache Kafka with its StandardAuthorizer and on mainstem.

    python -m tests.compat.rights_probes ADMIN_ADDRESS ALICE_ADDRESS [SITUATION…]      # prints the transcript

The administrator is anonymous and a super user; alice authenticates with SASL/PLAIN. Owns: situations,
requests, and what of the answers is compared: the codes of refusals and of unknown topics, with their places.
Used by test_rights_probes.py and by people.
"""

from __future__ import annotations

import contextlib
import struct
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias
from uuid import UUID

from mainstem.access_contract import Operation, PatternType, Permission, ResourceType
from mainstem.doors.kafka.handlers import discover
from mainstem.kafka_protocol.message import NO_UUID, Message
from tests.compat.share_lab import Caller
from tests.doors.kafka.access_kit import GROUP, TOPIC, error_codes, requests
from tests.doors.kafka.kit import receive_exactly


class Entry(NamedTuple):
    """An access control entry about alice."""

    kind: ResourceType
    name: str
    operation: Operation
    pattern: PatternType = PatternType.LITERAL
    permission: Permission = Permission.ALLOW


Answers: TypeAlias = dict[str, list[tuple[str, int]]]
"""Key and version -> the compared codes of its reply and their places, sorted."""

USER, PASSWORD = "alice", "alice-secret"
SHARE_GROUP = "secret-share"
CLUSTER_NAME = "kafka-cluster"
CREATED = "new-one", "new-two"
"""The topics that the requests create."""
CHANGING = {3, 19, 20, 42}
"""The keys that change what the others find."""
COMPARED = {3, 29, 30, 31, 53, 100}
"""Refusals, and unknown topics: what is refused must not be shown to be unknown. Metadata that creates a
topic is answered with the finished topic here, and with 3 by Kafka."""
SETTLE_S = 0.02
WAIT_S = 20.0

TOPICS = [
    Operation.READ,
    Operation.WRITE,
    Operation.CREATE,
    Operation.DELETE,
    Operation.ALTER,
    Operation.DESCRIBE,
    Operation.DESCRIBE_CONFIGS,
    Operation.ALTER_CONFIGS,
    Operation.ALL,
]
GROUPS = [
    Operation.READ,
    Operation.DELETE,
    Operation.DESCRIBE,
    Operation.DESCRIBE_CONFIGS,
    Operation.ALTER_CONFIGS,
    Operation.ALL,
]
CLUSTERS = [
    Operation.CREATE,
    Operation.ALTER,
    Operation.DESCRIBE,
    Operation.CLUSTER_ACTION,
    Operation.DESCRIBE_CONFIGS,
    Operation.ALTER_CONFIGS,
    Operation.IDEMPOTENT_WRITE,
    Operation.ALL,
]


def topic(operation: Operation, name: str = "*") -> Entry:
    return Entry(ResourceType.TOPIC, name, operation)


def group(operation: Operation, name: str = "*") -> Entry:
    return Entry(ResourceType.GROUP, name, operation)


def cluster(operation: Operation) -> Entry:
    return Entry(ResourceType.CLUSTER, CLUSTER_NAME, operation)


def denied(entry: Entry) -> Entry:
    return entry._replace(permission=Permission.DENY)


def prefixed(entry: Entry) -> Entry:
    return entry._replace(pattern=PatternType.PREFIXED)


SITUATIONS: dict[str, Sequence[Entry]] = {
    "nothing": (),
    **{f"topic {operation.name}": (topic(operation),) for operation in TOPICS},
    **{f"group {operation.name}": (group(operation),) for operation in GROUPS},
    **{f"cluster {operation.name}": (cluster(operation),) for operation in CLUSTERS},
    **{
        f"group READ and topic {operation.name}": (group(Operation.READ), topic(operation))
        for operation in (Operation.READ, Operation.DESCRIBE)
    },
    **{
        f"group {operation.name} and topic READ": (group(operation), topic(Operation.READ))
        for operation in (Operation.DELETE, Operation.DESCRIBE, Operation.ALL)
    },
    "another topic": (topic(Operation.ALL, "other"), group(Operation.ALL)),
    "secret things by their prefix": (
        prefixed(topic(Operation.ALL, "secret-")),
        prefixed(group(Operation.READ, "secret-")),
    ),
    "all but secret topics": (
        topic(Operation.ALL),
        group(Operation.ALL),
        denied(prefixed(topic(Operation.ALL, "secret-"))),
    ),
    "all but the secret groups": (
        topic(Operation.ALL),
        group(Operation.ALL),
        denied(prefixed(group(Operation.ALL, "secret-"))),
    ),
    **{
        f"all but to {operation.name} topics": (
            topic(Operation.ALL),
            group(Operation.ALL),
            denied(topic(operation)),
        )
        for operation in (Operation.DESCRIBE, Operation.READ, Operation.WRITE, Operation.CREATE)
    },
    "the cluster, but not the topic": (cluster(Operation.ALL), denied(topic(Operation.ALL, TOPIC))),
    "everything": (topic(Operation.ALL), group(Operation.ALL), cluster(Operation.ALL)),
}


def entry_message(entry: Entry) -> Message:
    return Message(
        resource_type=int(entry.kind),
        resource_name=entry.name,
        resource_pattern_type=int(entry.pattern),
        principal=f"User:{USER}",
        host="*",
        operation=int(entry.operation),
        permission_type=int(entry.permission),
    )


EVERYTHING = Message(
    resource_type_filter=1,
    resource_name_filter=None,
    pattern_type_filter=1,
    principal_filter=None,
    host_filter=None,
    operation=1,
    permission_type=1,
)


class SaslCaller(Caller):
    """A connection that has authenticated with SASL/PLAIN."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address)
        mechanism = b"PLAIN"
        self._raw(17, struct.pack(">h", len(mechanism)) + mechanism)
        message = f"\0{USER}\0{PASSWORD}".encode()
        self._raw(36, struct.pack(">i", len(message)) + message)

    def _raw(self, key: int, body: bytes) -> None:
        """Send a request in version 1 and check that its error code is 0."""
        self.correlation += 1
        frame = struct.pack(">hhihb", key, 1, self.correlation, 1, ord("p")) + body
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)
        (size,) = struct.unpack(">i", receive_exactly(self.socket, 4))
        reply = receive_exactly(self.socket, size)
        assert reply[4:6] == b"\0\0", f"key {key}: {reply!r}"


class World:
    """A server with the topic and the groups that the requests name."""

    def __init__(self, admin: str, alice: str) -> None:
        self.admin = Caller(_pair(admin))
        self._alice = _pair(alice)
        self.alice = SaslCaller(self._alice)
        self.make_topic()
        self.make_groups()

    def close(self) -> None:
        self.admin.close()
        self.alice.close()

    def set_entries(self, entries: Iterable[Entry]) -> None:
        """Replace all access control entries, and wait until the server decides by them."""
        wanted = [entry_message(entry) for entry in entries]
        self.admin.call(31, 3, Message(filters=[EVERYTHING]))
        if wanted:
            reply = self.admin.call(30, 3, Message(creations=wanted))
            assert [result.error_code for result in reply.results] == [0] * len(wanted)
        deadline = time.monotonic() + WAIT_S
        while True:
            reply = self.admin.call(29, 3, EVERYTHING)
            if sum(len(resource.acls) for resource in reply.resources) == len(wanted):
                return
            assert time.monotonic() < deadline, "the entries do not come into force"
            time.sleep(SETTLE_S)

    def ask(self, key: int, version: int) -> list[tuple[str, int]]:
        """What alice is answered."""
        topic_id = self.make_topic()
        request = requests(topic_id, SHARE_GROUP)[key]
        try:
            reply = self.alice.call(key, version, request)
        except (ConnectionError, TimeoutError) as error:
            self.alice.close()
            self.alice = SaslCaller(self._alice)
            return [(type(error).__name__, 0)]
        compared = COMPARED - {3} if key == 3 else COMPARED
        codes = sorted((path, code) for path, code in error_codes(reply) if code in compared)
        if key in CHANGING:
            self._restore(key, reply)
        return codes

    def answers(self) -> Answers:
        """What alice is answered to each key, in its first and last version."""
        return {
            f"{key} v{version}": self.ask(key, version)
            for key, handler in discover().items()
            if key in requests(NO_UUID)
            for version in sorted(set(handler.versions))
        }

    def make_topic(self) -> UUID:
        """Create the topic if it is not there. Its id."""
        deadline = time.monotonic() + WAIT_S
        while True:
            described = self._describe()
            if described.error_code == 0 and described.partitions[0].leader_id >= 0:
                topic_id: UUID = described.topic_id
                return topic_id
            if described.error_code == 3:
                self._create(TOPIC)
            assert time.monotonic() < deadline, "the topic is not there"
            time.sleep(SETTLE_S)

    def _describe(self) -> Message:
        """The topic, as Metadata describes it."""
        named = Message(name=TOPIC, topic_id=NO_UUID)
        reply = self.admin.call(3, 12, Message(topics=[named], allow_auto_topic_creation=False))
        (described,) = reply.topics
        assert isinstance(described, Message)
        return described

    def _create(self, name: str) -> None:
        new = Message(name=name, num_partitions=1, replication_factor=1, assignments=[], configs=[])
        self.admin.call(19, 7, Message(topics=[new], timeout=20_000, validate_only=False))

    def make_groups(self) -> None:
        """A classic group with an offset, and a share group with a member that has the partition."""
        deadline = time.monotonic() + WAIT_S * 3
        epoch, is_assigned = 0, False
        made = requests(self.make_topic(), SHARE_GROUP)
        settings = {"group_id": GROUP, "generation_id_or_member_epoch": -1, "member_id": ""}
        part = Message(partition_index=0, committed_offset=0, committed_metadata="")
        commit = Message(**settings, topics=[Message(name=TOPIC, partitions=[part])])
        codes: dict[int, int] = {}
        while time.monotonic() < deadline:
            self.admin.call(10, 6, Message(key_type=0, coordinator_keys=[GROUP, SHARE_GROUP]))
            codes[8] = self.admin.call(8, 9, commit).topics[0].partitions[0].error_code
            reply = self.admin.call(76, 1, Message(**{**vars(made[76]), "member_epoch": epoch}))
            codes[76] = reply.error_code
            epoch = 0 if reply.error_code else reply.member_epoch
            is_assigned |= reply.assignment is not None and bool(reply.assignment.topic_partitions)
            if codes == {8: 0, 76: 0} and is_assigned:
                return
            time.sleep(0.1)
        raise AssertionError(f"the groups are not there: {codes}")

    def _restore(self, key: int, reply: Message) -> None:
        """Undo what alice may have changed."""
        if key in (3, 19):
            self.admin.call(20, 3, Message(topic_names=list(CREATED), timeout=20_000))
        if key == 20 and any(code == 0 for _, code in error_codes(reply)):
            deadline = time.monotonic() + WAIT_S
            while self._describe().error_code == 0:
                assert time.monotonic() < deadline, "the topic is still there"
                time.sleep(SETTLE_S)
            self.make_topic()
            self.make_groups()
        if key == 42:
            self.make_groups()


def _pair(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host, int(port)


def transcript(admin: str, alice: str, names: Iterable[str] = SITUATIONS) -> Mapping[str, Answers]:
    """What alice is answered in each situation."""
    out = {}
    with contextlib.closing(World(admin, alice)) as world:
        for name in names:
            world.make_groups()
            world.set_entries(SITUATIONS[name])
            out[name] = world.answers()
    return out


if __name__ == "__main__":
    for situation, answers in transcript(sys.argv[1], sys.argv[2], sys.argv[3:] or SITUATIONS).items():
        print(f"== {situation}")
        for question, codes in answers.items():
            print(f"{question}: {codes}")
