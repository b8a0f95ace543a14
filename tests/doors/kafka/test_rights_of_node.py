"""Access control of a real node through Kafka's protocol: entries, requests of a user, restarts."""

from __future__ import annotations

import dataclasses

from mainstem.access_contract import Principal
from mainstem.kafka_protocol.message import Message
from tests.doors.kafka.access_kit import memory_access
from tests.doors.kafka.kit import DoorClient, batch, fetch_request, produce_request
from tests.doors.kafka.test_acls import ENTRY, EVERYTHING
from tests.test_node import NodeRig

ALICE = Principal("User", "alice")
READ, WRITE, DENY = 3, 4, 2
DENIED, CLUSTER_DENIED = 29, 31


class UserRig:
    """A node with the topic `orders`, an administrator and alice."""

    def __init__(self) -> None:
        # No journal: it is 128 MB of zeros in memory.
        self.rig = NodeRig(durability="os", access_control=True, super_users="User:admin")
        self.rig.create("orders")
        self.connect()

    def connect(self) -> None:
        node = self.rig.node
        access = dataclasses.replace(memory_access(), authorizer=node.access.authorizer, admin=node.access)
        self.admin = DoorClient(node, access=access)  # type: ignore[arg-type]
        self.admin.connection.identify(Principal("User", "admin"))
        self.alice = self.admin.another()
        self.alice.connection.identify(ALICE)

    def call(self, client: DoorClient, key: int, version: int, message: Message) -> Message:
        client.send(key, version, message)
        self.rig.settle()
        (reply,) = client.replies()
        return reply

    def allow(self, operation: int, **change: object) -> None:
        entry = Message(**{**ENTRY, "operation": operation, **change})
        reply = self.call(self.admin, 30, 3, Message(creations=[entry]))
        assert reply.results[0].error_code == 0

    def produce(self) -> int:
        reply = self.call(self.alice, 0, 9, produce_request("orders", batch(b"x"), acks=1))
        return int(reply.responses[0].partition_responses[0].error_code)

    def fetch(self) -> int:
        reply = self.call(self.alice, 1, 12, fetch_request(("orders", 0, 0), session_epoch=-1))
        return int(reply.responses[0].partitions[0].error_code)


def test_entries_hold_for_open_connections_and_after_a_restart() -> None:
    users = UserRig()
    assert (users.produce(), users.fetch()) == (DENIED, DENIED)
    users.allow(WRITE)
    assert (users.produce(), users.fetch()) == (0, DENIED)
    users.allow(READ)
    assert (users.produce(), users.fetch()) == (0, 0)
    users.allow(READ, permission_type=DENY, host="198.51.100.1")
    assert (users.produce(), users.fetch()) == (0, DENIED)
    users.rig.restart()
    users.connect()
    assert (users.produce(), users.fetch()) == (0, DENIED)
    deleted = users.call(users.admin, 31, 3, Message(filters=[Message(**EVERYTHING)]))
    assert len(deleted.filter_results[0].matching_acls) == 3
    assert (users.produce(), users.fetch()) == (DENIED, DENIED)


def test_a_fetch_that_waits_ends_when_its_entry_is_deleted() -> None:
    users = UserRig()
    users.allow(READ)
    waiting = fetch_request(("orders", 0, 0), max_wait=60_000, min_bytes=1, session_epoch=-1)
    users.alice.send(1, 12, waiting)
    users.rig.settle(5)
    assert users.alice.replies() == []
    users.call(users.admin, 31, 3, Message(filters=[Message(**EVERYTHING)]))
    (reply,) = users.alice.replies()
    assert reply.responses[0].partitions[0].error_code == DENIED


def test_a_user_without_rights_to_the_cluster_sees_and_changes_no_entries() -> None:
    users = UserRig()
    users.allow(READ)
    assert users.call(users.alice, 29, 3, Message(**EVERYTHING)).error_code == CLUSTER_DENIED
    entry = Message(**{**ENTRY, "principal": "User:alice", "operation": WRITE})
    created = users.call(users.alice, 30, 3, Message(creations=[entry]))
    assert created.results[0].error_code == CLUSTER_DENIED
    deleted = users.call(users.alice, 31, 3, Message(filters=[Message(**EVERYTHING)]))
    assert (deleted.filter_results[0].error_code, deleted.filter_results[0].matching_acls) == (
        CLUSTER_DENIED,
        [],
    )
    assert (users.produce(), users.fetch()) == (DENIED, 0)
