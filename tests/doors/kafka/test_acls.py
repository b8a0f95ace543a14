"""DescribeAcls, CreateAcls and DeleteAcls."""

from __future__ import annotations

from typing import Any

import pytest

from mainstem.access_contract import (
    Acl,
    AclFilter,
    Operation,
    PatternType,
    Permission,
    Principal,
    ResourceType,
)
from mainstem.coordinator.access import acls as acls_module
from mainstem.doors.contract import Access
from mainstem.doors.kafka.handlers import k31_delete_acls
from mainstem.kafka_protocol.message import Message
from mainstem.settings import Settings
from tests.authentication.kit import authentication
from tests.doors.kafka.kit import DoorClient, MemoryNode
from tests.support.access import AccessRig

INVALID, POLICY_VIOLATION, CLUSTER_DENIED = 42, 44, 31
ENTRY = {
    "resource_type": int(ResourceType.TOPIC),
    "resource_name": "orders",
    "resource_pattern_type": int(PatternType.LITERAL),
    "principal": "User:alice",
    "host": "*",
    "operation": int(Operation.READ),
    "permission_type": int(Permission.ALLOW),
}
EVERYTHING = {
    "resource_type_filter": int(ResourceType.ANY),
    "resource_name_filter": None,
    "pattern_type_filter": int(PatternType.ANY),
    "principal_filter": None,
    "host_filter": None,
    "operation": int(Operation.ANY),
    "permission_type": int(Permission.ANY),
}


class AclClient(DoorClient):
    """An administrator of a server with access control, without sockets and disk."""

    def __init__(self, *, auto_commit: bool = True) -> None:
        settings = Settings(access_control=True, super_users="User:ANONYMOUS")
        self.rig = AccessRig(settings, auto_commit=auto_commit)
        runtime: Any = self.rig.runtime
        node = MemoryNode(clock=self.rig.clock, runtime=runtime)
        access = Access(
            authorizer=self.rig.authorizer,
            admin=self.rig.access,
            masks=self.rig.masks,
            authentication=authentication(self.rig.access),
        )
        super().__init__(node, access=access)

    def create(self, *changes: dict[str, Any], version: int = 3) -> list[tuple[int, str | None]]:
        """The error code and text of each entry, which is ENTRY with these changes."""
        creations = [Message(**{**ENTRY, **change}) for change in changes]
        results = self.call(30, version, Message(creations=creations)).results
        return [(result.error_code, result.error_message) for result in results]

    def describe(self, *, version: int = 3, **filter_: Any) -> set[tuple[int, str, int, str, str, int, int]]:
        reply = self.call(29, version, Message(**{**EVERYTHING, **filter_}))
        assert reply.error_code == 0
        patterns = [(item.resource_type, item.resource_name, item.pattern_type) for item in reply.resources]
        assert len(set(patterns)) == len(patterns), "the entries of a pattern are listed together"
        return {
            (
                item.resource_type,
                item.resource_name,
                item.pattern_type,
                acl.principal,
                acl.host,
                acl.operation,
                acl.permission_type,
            )
            for item in reply.resources
            for acl in item.acls
        }

    def delete(self, *filters: dict[str, Any], version: int = 3) -> list[tuple[int, list[tuple[str, str]]]]:
        """The error code of each filter, and (name, principal) of the entries that it matched."""
        messages = [Message(**{**EVERYTHING, **filter_}) for filter_ in filters]
        results = self.call(31, version, Message(filters=messages)).filter_results
        return [
            (result.error_code, [(acl.resource_name, acl.principal) for acl in result.matching_acls])
            for result in results
        ]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_entries_are_created_described_and_deleted(version: int) -> None:
    client = AclClient()
    prefixed = {"resource_name": "log-", "resource_pattern_type": int(PatternType.PREFIXED)}
    assert client.create({}, prefixed, {}, version=version) == [(0, None)] * 3
    orders = (2, "orders", 3, "User:alice", "*", 3, 3)
    assert client.describe(version=version) == {orders, (2, "log-", 4, "User:alice", "*", 3, 3)}
    assert client.describe(version=version, resource_name_filter="orders") == {orders}
    matching = {"resource_name_filter": "log-1", "pattern_type_filter": int(PatternType.MATCH)}
    assert client.delete(matching, matching, version=version) == [(0, [("log-", "User:alice")])] * 2
    assert client.describe(version=version) == {orders}
    assert client.delete({"principal_filter": "User:bob"}, version=version) == [(0, [])]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"resource_type": 0}, "Unknown resource type 0"),
        ({"resource_type": 99}, "Unknown resource type 99"),
        ({"resource_type": 100}, "Unknown resource type 100"),
        ({"resource_type": 1}, "of one type"),
        ({"resource_pattern_type": 1}, "literal or prefixed"),
        ({"resource_pattern_type": 2}, "literal or prefixed"),
        ({"resource_pattern_type": 9}, "Unknown pattern type 9"),
        ({"operation": 0}, "Unknown operation 0"),
        ({"operation": 1}, "ANY is for filters"),
        ({"operation": 77}, "Unknown operation 77"),
        ({"permission_type": 1}, "ANY is for filters"),
        ({"permission_type": 4}, "Unknown permission type 4"),
        ({"resource_name": ""}, "1 to"),
        ({"resource_name": "n" * 4097}, "1 to"),
        ({"principal": "alice"}, "not a principal"),
        ({"principal": "User:"}, "not a principal"),
        ({"principal": ""}, "not a principal"),
        ({"host": ""}, "1 to"),
        ({"resource_type": 4, "resource_name": "other"}, "kafka-cluster"),
    ],
)
def test_an_entry_that_kafka_would_refuse_has_its_own_error(change: dict[str, Any], text: str) -> None:
    client = AclClient()
    refused, created = client.create(change, {})
    assert refused[0] == INVALID
    assert text in (refused[1] or "")
    assert created == (0, None)
    assert len(client.describe()) == 1


def test_entries_of_every_type_operation_and_permission_of_kafka_are_accepted() -> None:
    client = AclClient()
    changes = [
        {
            "resource_type": kind,
            "resource_name": "kafka-cluster",
            "operation": operation,
            "permission_type": by,
        }
        for kind in range(2, 8)
        for operation in range(2, 16)
        for by in (2, 3)
    ]
    assert set(client.create(*changes)) == {(0, None)}
    assert len(client.describe()) == len(changes)


def test_resources_that_kafka_does_not_have_are_neither_shown_nor_deleted() -> None:
    client = AclClient()
    acl = Acl(
        ResourceType.SUBSCRIPTION,
        "mail",
        PatternType.LITERAL,
        Principal("User", "alice"),
        "*",
        Operation.READ,
        Permission.ALLOW,
    )
    assert client.rig.access.create_acls([acl]).done
    assert client.describe() == set()
    assert client.delete({}) == [(0, [])]
    assert client.rig.access.acls(AclFilter()) == [acl]
    reply = client.call(29, 3, Message(**{**EVERYTHING, "resource_type_filter": 100}))
    assert (reply.error_code, reply.resources) == (INVALID, [])


@pytest.mark.parametrize(
    "change",
    [
        {"resource_type_filter": 0},
        {"pattern_type_filter": 7},
        {"operation": -1},
        {"permission_type": 9},
    ],
)
def test_a_filter_with_an_unknown_number_is_refused_and_the_others_are_served(change: dict[str, Any]) -> None:
    client = AclClient()
    client.create({})
    assert client.call(29, 3, Message(**{**EVERYTHING, **change})).error_code == INVALID
    assert client.delete(change, {}) == [(INVALID, []), (0, [("orders", "User:alice")])]


def test_a_filter_by_what_is_no_principal_matches_nothing() -> None:
    client = AclClient()
    client.create({})
    assert client.describe(principal_filter="alice") == set()
    assert client.delete({"principal_filter": "alice"}) == [(0, [])]


def test_a_request_with_too_many_entries_or_filters_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acls_module, "ACLS_OF_WRITE_MAX", 3)
    monkeypatch.setattr(k31_delete_acls, "ACLS_OF_WRITE_MAX", 3)
    monkeypatch.setattr(k31_delete_acls, "FILTERS_MAX", 2)
    client = AclClient()
    many = [{"resource_name": f"t{number}"} for number in range(4)]
    assert [code for code, _ in client.create(*many)] == [POLICY_VIOLATION] * 4
    assert client.create(*many[:3]) == client.create(many[3]) * 3
    assert client.delete({}) == [(POLICY_VIOLATION, [])]
    assert client.delete({}, {}, {}) == [(POLICY_VIOLATION, [])] * 3
    assert len(client.describe()) == 4


def test_the_replies_wait_until_the_entries_are_durable() -> None:
    client = AclClient(auto_commit=False)
    client.send(30, 3, Message(creations=[Message(**ENTRY)]))
    assert client.replies() == []
    client.rig.log.commit()
    assert client.replies()[0].results[0].error_code == 0
    client.send(31, 3, Message(filters=[Message(**EVERYTHING)]))
    client.rig.log.commit()
    client.clock.run()
    assert len(client.replies()[0].filter_results[0].matching_acls) == 1


def test_an_entry_that_denies_holds_from_the_next_request_on() -> None:
    """An administrator who is no super user can lock themselves out, as in Kafka."""
    client = AclClient()
    client.rig.authorizer.super_users = frozenset()
    assert client.call(29, 3, Message(**EVERYTHING)).error_code == CLUSTER_DENIED
    assert client.create({})[0][0] == CLUSTER_DENIED
    assert client.delete({}) == [(CLUSTER_DENIED, [])]
