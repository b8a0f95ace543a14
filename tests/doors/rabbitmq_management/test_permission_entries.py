"""RabbitMQ's permissions as entries of access control, and back."""

from __future__ import annotations

import pytest

from mainstem.access_contract import Operation, PatternType, ResourceType
from mainstem.doors.rabbitmq_management.permission_entries import (
    UserPermissions,
    entries_of,
    own_entries,
    patterns_of,
    permissions_of,
)

LITERAL, PREFIXED = PatternType.LITERAL, PatternType.PREFIXED


@pytest.mark.parametrize(
    ("regex", "patterns"),
    [
        ("", []),
        ("^$", []),
        (".*", [(PREFIXED, "")]),
        ("^.*$", [(PREFIXED, "")]),
        ("^orders$", [(LITERAL, "orders")]),
        ("^orders", [(PREFIXED, "orders")]),
        ("^orders.*", [(PREFIXED, "orders")]),
        (r"^amq\.gen.*$", [(PREFIXED, "amq.gen")]),
        ("^(orders|amq\\.default)$", [(LITERAL, "orders"), (LITERAL, "amq.default")]),
        ("^orders$|^billing-.*", [(LITERAL, "orders"), (PREFIXED, "billing-")]),
    ],
)
def test_what_can_be_entries(regex: str, patterns: list[tuple[PatternType, str]]) -> None:
    assert patterns_of(regex) == patterns


@pytest.mark.parametrize(
    "regex", ["orders", "orders$", "^or.ers$", "^[a-z]+$", r"^\w+$", "^a|b", "^(a", "^a{2}$", r"^a\d.*"]
)
def test_what_no_entry_can_say_is_refused(regex: str) -> None:
    with pytest.raises(ValueError, match="cannot be access control entries"):
        patterns_of(regex)


def test_permissions_are_read_back() -> None:
    permissions = UserPermissions(configure="^billing\\-.*", write=".*", read="^billing$|^orders$")
    entries = entries_of("alice", "%2F/", permissions)
    assert permissions_of(entries, "%2F/") == permissions
    assert permissions_of(entries, "shop/") is None
    assert own_entries(entries, "%2F/") == entries
    assert {entry.operation for entry in entries if entry.name == "%2F/billing-"} == {
        Operation.CREATE,
        Operation.DELETE,
        Operation.ALTER,
    }
    assert {entry.resource_type for entry in entries} == {ResourceType.SUBSCRIPTION, ResourceType.EXCHANGE}


def test_no_permission_but_to_know_of_the_virtual_host() -> None:
    nothing = UserPermissions(configure="", write="^$", read="")
    entries = entries_of("alice", "shop/", nothing)
    assert [(entry.operation, entry.name) for entry in entries] == [(Operation.DESCRIBE, "shop/")]
    assert permissions_of(entries, "shop/") == UserPermissions(configure="", write="", read="")
