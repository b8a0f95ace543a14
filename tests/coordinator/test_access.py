"""Users and access control entries: what is accepted, what survives, and that no secret is shown."""

from __future__ import annotations

import dataclasses
import logging

import pytest

from mainstem.access_contract import (
    ANY_HOST,
    CLUSTER_NAME,
    AclFilter,
    Operation,
    PatternType,
    Permission,
    Principal,
    ResourceType,
    ScramMechanism,
)
from mainstem.coordinator.access import acls as acls_module
from mainstem.coordinator.access import users as users_module
from mainstem.coordinator.access.users import UserVerifierSet
from tests.coordinator.state_rig import code, done
from tests.support.access import ALICE, BOB, EVERYBODY, AccessRig, allow, deny, verifier

BOTH = tuple(ScramMechanism)


def test_users_survive_a_restart_and_a_snapshot() -> None:
    rig = AccessRig()
    done(rig.access.put_verifiers("alice", [verifier(mechanism) for mechanism in BOTH]))
    done(rig.access.put_verifiers("bob", [verifier(secret=b"old")]))
    done(rig.access.put_verifiers("bob", [verifier(secret=b"new")]))
    done(rig.access.put_verifiers("admin", [verifier()]))
    for _ in range(2):
        rig.restart()
        users = {user.name: user for user in rig.access.users()}
        assert list(users) == ["admin", "alice", "bob"]
        assert users["alice"].mechanisms == dict.fromkeys(BOTH, 4096)
        assert [user.is_super for user in users.values()] == [True, False, False]
        assert rig.access.verifier("bob", ScramMechanism.SHA_256) == verifier(secret=b"new")
        assert rig.access.verifier("bob", ScramMechanism.SHA_512) is None
        assert rig.access.verifier("carol", ScramMechanism.SHA_256) is None
        rig.runtime.take_snapshot()
        rig.clock.run()


def test_a_user_without_a_verifier_is_deleted_and_that_is_reported_when_it_is_durable() -> None:
    rig = AccessRig(auto_commit=False)
    deleted: list[str] = []
    changes: list[int] = []
    rig.access.on_user_deleted.append(deleted.append)
    changed: list[str] = []
    rig.access.on_credentials_changed.append(changed.append)
    rig.authorizer.on_change.append(lambda: changes.append(rig.authorizer.version))
    rig.access.put_verifiers("alice", [verifier(mechanism) for mechanism in BOTH])
    rig.log.commit()
    assert len(changes) == 1
    assert code(rig.access.delete_verifiers("bob", BOTH)) == "RESOURCE_NOT_FOUND"
    assert code(rig.access.delete_verifiers("alice", ())) == "RESOURCE_NOT_FOUND"
    rig.access.delete_verifiers("alice", [ScramMechanism.SHA_256, ScramMechanism.SHA_256])
    rig.log.commit()
    assert rig.access.users()[0].mechanisms == {ScramMechanism.SHA_512: 4096}
    last = rig.access.delete_verifiers("alice", BOTH)
    assert (last.done, deleted) == (False, [])
    rig.log.commit()
    assert (done(last), deleted, rig.access.users()) == (None, ["alice"], [])
    assert changed == ["alice"] * 3
    assert len(changes) == 3
    assert changes == sorted(set(changes))


def test_verifiers_that_protect_too_little_are_refused() -> None:
    rig = AccessRig()
    good = verifier()
    for bad in (
        dataclasses.replace(good, iterations=4095),
        dataclasses.replace(good, iterations=16_385),
        dataclasses.replace(good, salt=b""),
        dataclasses.replace(good, salt=bytes(257)),
        dataclasses.replace(good, stored_key=bytes(31)),
        dataclasses.replace(good, server_key=bytes(64)),
        dataclasses.replace(good, mechanism=ScramMechanism.SHA_512),
    ):
        assert code(rig.access.put_verifiers("alice", [good, bad])) == "UNACCEPTABLE_CREDENTIAL"
    for name in ("", "a" * 256, "a\nb", "a\0", " a", "a ", "ﬁ", "\u00ad"):
        assert code(rig.access.put_verifiers(name, [good])) == "UNACCEPTABLE_CREDENTIAL"
    assert rig.access.users() == []
    done(rig.access.put_verifiers("Zoë Müller,=:", [good]))


def test_the_number_of_users_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users_module, "USERS_MAX", 1)
    rig = AccessRig()
    done(rig.access.put_verifiers("alice", [verifier()]))
    assert code(rig.access.put_verifiers("bob", [verifier()])) == "POLICY_VIOLATION"
    done(rig.access.put_verifiers("alice", [verifier(secret=b"n")]))


def test_no_repr_no_error_and_no_line_of_the_log_shows_a_verifier(caplog: pytest.LogCaptureFixture) -> None:
    rig = AccessRig()
    secret = verifier(secret=b"SECRET")
    with caplog.at_level(logging.DEBUG):
        done(rig.access.put_verifiers("alice", [secret]))
        short = dataclasses.replace(secret, stored_key=b"SECRET")
        refused = rig.access.put_verifiers("alice", [short]).error
        rig.log.fail()
        rig.restart()
    record = next(iter(rig.users.snapshot()))
    assert isinstance(record, UserVerifierSet)
    for text in (repr(record), repr(secret), str(refused), repr(rig.access.users()), caplog.text):
        assert "SECRET" not in text
        assert "salt" not in text.replace("a salt has", "")


def test_entries_survive_a_restart_and_a_snapshot_and_are_found_by_filters() -> None:
    rig = AccessRig()
    orders = allow(Operation.READ, "orders")
    prefix = deny(Operation.ALL, "or", BOB, prefixed=True)
    every = allow(Operation.DESCRIBE, "*", EVERYBODY)._replace(host="10.0.0.9")
    group = orders._replace(resource_type=ResourceType.GROUP)
    done(rig.access.create_acls([orders, prefix, orders]))
    done(rig.access.create_acls([orders, every, group]))
    topics = AclFilter(resource_type=ResourceType.TOPIC)
    for _ in range(2):
        rig.restart()
        assert len(rig.access.acls(AclFilter())) == 4
        assert set(rig.access.acls(topics)) == {orders, prefix, every}
        assert rig.access.acls(topics._replace(name="orders")) == [orders]
        assert set(rig.access.acls(topics._replace(name="orders", pattern=PatternType.MATCH))) == {
            orders,
            prefix,
            every,
        }
        assert rig.access.acls(AclFilter(pattern=PatternType.PREFIXED)) == [prefix]
        assert rig.access.acls(AclFilter(principal=BOB)) == [prefix]
        assert rig.access.acls(AclFilter(host="10.0.0.9")) == [every]
        assert rig.access.acls(AclFilter(operation=Operation.ALL)) == [prefix]
        assert rig.access.acls(AclFilter(permission=Permission.DENY)) == [prefix]
        rig.runtime.take_snapshot()
        rig.clock.run()
    done(rig.access.delete_acls([orders, orders, deny(Operation.READ, "no such")]))
    rig.restart()
    assert set(rig.access.acls(AclFilter())) == {prefix, every, group}


def test_entries_that_kafka_does_not_accept_are_refused_and_none_is_added() -> None:
    rig = AccessRig()
    good = allow(Operation.READ, "orders")
    for bad in (
        good._replace(resource_type=ResourceType.ANY),
        good._replace(pattern=PatternType.MATCH),
        good._replace(operation=Operation.ANY),
        good._replace(permission=Permission.ANY),
        good._replace(name=""),
        good._replace(host=""),
        good._replace(name="n" * 4097),
        good._replace(principal=Principal("User", "")),
        good._replace(resource_type=ResourceType.CLUSTER, name="other"),
    ):
        assert code(rig.access.create_acls([good, bad])) == "INVALID_REQUEST"
    assert rig.access.acls(AclFilter()) == []
    done(rig.access.create_acls([good._replace(resource_type=ResourceType.CLUSTER, name=CLUSTER_NAME)]))


def test_the_number_of_entries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acls_module, "ACLS_MAX", 3)
    monkeypatch.setattr(acls_module, "ACLS_OF_WRITE_MAX", 2)
    rig = AccessRig()
    entries = [allow(Operation.READ, name, ALICE) for name in "abcd"]
    assert code(rig.access.create_acls(entries[:3])) == "POLICY_VIOLATION"
    done(rig.access.create_acls(entries[:2]))
    assert code(rig.access.create_acls(entries[2:])) == "POLICY_VIOLATION"
    done(rig.access.create_acls([*entries[:2], entries[2]]))
    assert code(rig.access.delete_acls(entries)) == "POLICY_VIOLATION"
    done(rig.access.delete_acls(entries[1:]))
    assert [(acl.name, acl.host) for acl in rig.access.acls(AclFilter())] == [("a", ANY_HOST)]
