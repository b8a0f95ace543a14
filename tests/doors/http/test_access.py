"""Users and access control entries by HTTP."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mainstem.access_contract import ANONYMOUS, Operation, ScramMechanism
from mainstem.http_api.access import VerifierJson
from mainstem.settings import Settings
from tests.coordinator.state_rig import done
from tests.doors.http.door_kit import RunningHttpDoor, problem, running_door
from tests.support.access import AccessRig, allow, verifier


def verifier_body(mechanism: str = "SCRAM-SHA-256", **changes: object) -> dict[str, Any]:
    """A verifier whose keys have the length of their hash."""
    key = b64encode(b"k" * (32 if mechanism.endswith("256") else 64)).decode()
    salt = b64encode(b"salt").decode()
    keys = {"mechanism": mechanism, "salt": salt, "iterations": 4096, "stored_key": key, "server_key": key}
    return {**keys, **changes}


def acl_body(name: str, **changes: object) -> dict[str, Any]:
    body = {"resource_type": "TOPIC", "name": name, "principal": "User:alice", "operation": "READ"}
    return {**body, "permission": "ALLOW", "pattern": "LITERAL", "host": "*", **changes}


@pytest.fixture(autouse=True)
def nothing_left(door: RunningHttpDoor) -> Iterator[None]:
    yield
    for user in door.get("users")["users"]:
        door.http.delete(f"/api/v1/users/{user['user']}").raise_for_status()
    if acls := door.get("acls")["acls"]:
        door.post("acls:delete", {"acls": acls}).raise_for_status()


def test_a_user_is_added_changed_and_deleted(door: RunningHttpDoor) -> None:
    added = door.post("users", {"user": "a/ü", "verifiers": [verifier_body()]})
    assert added.status_code == 201
    row = {
        "user": "a/ü",
        "mechanisms": [{"mechanism": "SCRAM-SHA-256", "iterations": 4096}],
        "super": False,
    }
    assert added.json() == row
    again = door.post("users", {"user": "a/ü", "verifiers": [verifier_body(salt="bmV3")]})
    problem(again, 409, "user-exists")
    stored = door.node.access.verifier("a/ü", ScramMechanism.SHA_256)
    assert stored is not None
    assert stored.salt == b"salt"
    changed = door.http.patch(
        "/api/v1/users/a%2F%C3%BC", json={"verifiers": [verifier_body("SCRAM-SHA-512", iterations=8192)]}
    )
    row["mechanisms"] = [{"mechanism": "SCRAM-SHA-512", "iterations": 8192}]
    assert changed.json() == row
    assert door.get("users") == {"users": [row], "next": None}
    dry = door.http.delete("/api/v1/users/a%2F%C3%BC?dry_run=true")
    assert dry.json() == {"user": "a/ü", "dry_run": True}
    assert door.http.delete("/api/v1/users/a%2F%C3%BC").json() == {"user": "a/ü", "dry_run": False}
    problem(door.http.delete("/api/v1/users/a%2F%C3%BC"), 404, "unknown-user")
    problem(door.http.patch("/api/v1/users/b", json={"verifiers": [verifier_body()]}), 404, "unknown-user")


def test_users_are_listed_by_pages(door: RunningHttpDoor) -> None:
    for name in ("c", "a", "b"):
        door.post("users", {"user": name, "verifiers": [verifier_body()]}).raise_for_status()
    first = door.get("users", limit=2)
    assert ([user["user"] for user in first["users"]], first["next"]) == (["a", "b"], "b")
    second = door.get("users", limit=2, after="b")
    assert ([user["user"] for user in second["users"]], second["next"]) == (["c"], None)


@pytest.mark.parametrize(
    ("verifiers", "status"),
    [
        ([], 400),
        ([verifier_body(iterations=4095)], 400),
        ([verifier_body(mechanism="PLAIN")], 400),
        ([verifier_body(salt="?")], 422),
        ([verifier_body(stored_key="c2hvcnQ=")], 422),
        ([{**verifier_body(), "password": "p"}], 400),
    ],
)
def test_verifiers_that_are_refused(
    door: RunningHttpDoor, verifiers: list[dict[str, Any]], status: int
) -> None:
    refused = door.post("users", {"user": "a", "verifiers": verifiers})
    assert refused.status_code == status
    assert door.get("users")["users"] == []


def test_no_reply_and_no_repr_shows_a_verifier(door: RunningHttpDoor) -> None:
    body = verifier_body()
    replies = [
        door.post("users", {"user": "a", "verifiers": [body]}),
        door.http.get("/api/v1/users"),
        door.http.patch("/api/v1/users/a", json={"verifiers": [body]}),
    ]
    for reply in replies:
        reply.raise_for_status()
        assert body["stored_key"] not in reply.text
        assert body["salt"] not in reply.text
    assert body["stored_key"] not in repr(VerifierJson(**body))
    assert body["salt"] not in repr(VerifierJson(**body))


def test_entries_are_added_found_and_deleted(door: RunningHttpDoor) -> None:
    orders = acl_body("orders")
    prefix = acl_body("or", pattern="PREFIXED", operation="ALL", permission="DENY", host="10.0.0.9")
    preview = door.post("acls", {"acls": [orders, prefix], "dry_run": True}).json()
    assert preview == {"acls": [orders, prefix], "dry_run": True}
    assert door.get("acls")["acls"] == []
    assert door.post("acls", {"acls": [orders]}).json()["acls"] == [orders]
    assert door.post("acls", {"acls": [orders, prefix]}).json()["acls"] == [prefix]
    assert door.get("acls", name="orders")["acls"] == [orders]
    assert door.get("acls", name="orders", pattern="MATCH")["acls"] == [prefix, orders]
    assert door.get("acls", permission="DENY", principal="User:alice")["acls"] == [prefix]
    assert door.get("acls", resource_type="GROUP")["acls"] == []
    page = door.get("acls", limit=1)
    assert (page["acls"], page["next"]) == ([prefix], 1)
    assert door.get("acls", limit=1, skip=1) == {"acls": [orders], "next": None}
    absent = acl_body("absent")
    assert door.post("acls:delete", {"acls": [orders, absent]}).json()["acls"] == [orders]
    assert door.get("acls")["acls"] == [prefix]


def test_entries_that_are_refused(door: RunningHttpDoor) -> None:
    for bad, status in (
        (acl_body("a", host="myhost"), 422),
        (acl_body("a", resource_type="CLUSTER"), 422),
        (acl_body("a", principal="alice"), 400),
        (acl_body("a", operation="ANY"), 400),
        (acl_body(""), 400),
    ):
        assert door.post("acls", {"acls": [acl_body("good"), bad]}).status_code == status
    assert door.get("acls")["acls"] == []


def test_whether_somebody_may_do_something_is_said_with_what_decides(door: RunningHttpDoor) -> None:
    rig = AccessRig(Settings(access_control=True, super_users=f"{ANONYMOUS.text};Role:ops"))
    done(rig.access.create_acls([allow(Operation.READ, "orders")]))
    attempts: list[Any] = []

    def answer(**changes: object) -> dict[str, Any]:
        question = {"principal": "User:alice", "operation": "DESCRIBE", "resource_type": "TOPIC"}
        reply = door.post("acls:test", {**question, "name": "orders", **changes})
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    context, usual = door.door.context, door.door.context.authorizer
    object.__setattr__(context, "authorizer", rig.authorizer)
    try:
        assert answer() == {"allowed": True, "acl": acl_body("orders"), "reason": ""}
        rig.authorizer.on_decision = lambda *decision: attempts.append(decision)
        refused = {"allowed": False, "acl": None}
        assert answer(name="bills") == {**refused, "reason": "there is no entry about this resource"}
        assert answer(operation="WRITE") == {**refused, "reason": "no entry allows it"}
        assert answer(operation="WRITE", roles=["Role:ops"])["reason"] == "a super user"
    finally:
        object.__setattr__(context, "authorizer", usual)
    assert {decision[0].principal for decision in attempts} <= {ANONYMOUS}, "a question is no attempt"
    assert answer()["reason"] == ""
    problem(door.post("acls:test", {"principal": "alice"}), 400, "invalid")


def test_a_read_only_door_changes_nothing(tmp_path: Path) -> None:
    with running_door(tmp_path / "data", changes=False) as door:
        door.loop.call_soon_threadsafe(door.node.access.put_verifiers, "a", [verifier()])
        problem(door.post("users", {"user": "b", "verifiers": [verifier_body()]}), 403, "not-allowed")
        problem(door.http.delete("/api/v1/users/a"), 403, "not-allowed")
        problem(door.post("acls", {"acls": [acl_body("a")]}), 403, "not-allowed")
        assert [user["user"] for user in door.get("users")["users"]] == ["a"]
