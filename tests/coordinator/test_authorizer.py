"""The decisions: Kafka's rules, compared with a naive reading of them; the cache; and what fails closed."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from mainstem.access_contract import (
    ANY_HOST,
    ANY_NAME,
    ROLE,
    USER,
    AccessDecision,
    Acl,
    Operation,
    PatternType,
    Permission,
    Principal,
    Requester,
    Resource,
    ResourceType,
)
from mainstem.coordinator.access import authorizer as module
from mainstem.coordinator.access.authorizer import canonical_host, parse_super_users
from mainstem.coordinator.runtime import runtime
from mainstem.settings import Settings
from tests.coordinator.state_rig import done
from tests.support.access import ALICE, BOB, EVERYBODY, AccessRig, allow, deny, requester

ORDERS = Resource(ResourceType.TOPIC, "orders")
ADMIN = Principal(USER, "admin")
OPS = Principal(ROLE, "ops")

NAMES = st.sampled_from(["a", "ab", "abc", "b", "*", "*a"])
HOSTS = ["10.0.0.1", "10.0.0.2"]
PRINCIPALS = [ALICE, BOB, OPS]
OPERATIONS = [operation for operation in Operation if operation not in (Operation.ANY, Operation.ALL)]
TYPES = [ResourceType.TOPIC, ResourceType.GROUP]
ACLS = st.builds(
    Acl,
    st.sampled_from(TYPES),
    NAMES,
    st.sampled_from([PatternType.LITERAL, PatternType.PREFIXED]),
    st.sampled_from([*PRINCIPALS, EVERYBODY]),
    st.sampled_from([*HOSTS, ANY_HOST]),
    st.sampled_from([*OPERATIONS, Operation.ALL]),
    st.sampled_from([Permission.ALLOW, Permission.DENY]),
)
QUESTIONS = st.tuples(
    st.builds(
        Requester,
        principal=st.sampled_from([ALICE, BOB]),
        roles=st.sampled_from([frozenset(), frozenset((OPS,))]),
        host=st.sampled_from(HOSTS),
    ),
    st.sampled_from(OPERATIONS),
    st.builds(Resource, st.sampled_from(TYPES), NAMES),
)


ALLOWABLE = tuple(operation for operation in Operation if operation not in (Operation.ANY, Operation.ALL))


def naive(acls: list[Acl], question: tuple[Requester, Operation, Resource], default: bool) -> bool:
    """Kafka's rules, read over all entries."""
    asker, operation, resource = question
    about = [
        acl
        for acl in acls
        if acl.resource_type == resource.type
        and (
            resource.name.startswith(acl.name)
            if acl.pattern is PatternType.PREFIXED
            else acl.name in (resource.name, ANY_NAME)
        )
    ]
    if not about:
        return default
    its_own = [
        acl
        for acl in about
        if acl.principal in (asker.principal, EVERYBODY, *asker.roles) and acl.host in (asker.host, ANY_HOST)
    ]
    implied = {
        Operation.DESCRIBE: "READ WRITE DELETE ALTER",
        Operation.DESCRIBE_CONFIGS: "ALTER_CONFIGS",
    }
    denied = any(
        acl.permission is Permission.DENY and acl.operation in (operation, Operation.ALL) for acl in its_own
    )
    allowed = any(
        acl.permission is Permission.ALLOW
        and (
            acl.operation in (operation, Operation.ALL)
            or acl.operation.name in implied.get(operation, "").split()
        )
        for acl in its_own
    )
    return allowed and not denied


@given(st.lists(ACLS, max_size=12), st.lists(QUESTIONS, min_size=1, max_size=8), st.booleans(), st.data())
@bounds(max_examples=60, deadline=None)
def test_decisions_are_those_of_a_naive_reading(
    acls: list[Acl],
    questions: list[tuple[Requester, Operation, Resource]],
    default: bool,
    data: st.DataObject,
) -> None:
    rig = AccessRig(Settings(access_control=True, allow_everyone_if_no_acl_found=default))
    done(rig.access.create_acls(acls))
    removed = data.draw(st.lists(st.sampled_from(acls)) if acls else st.just([]))
    for left in (acls, [acl for acl in acls if acl not in removed]):
        for question in questions * 2:  # the second time from the cache
            decision = rig.authorizer.decide(*question)
            assert decision.allowed == naive(left, question, default)
            assert (decision.acl is None) == bool(decision.reason)
            assert decision.acl is None or decision.acl in left
            asker, _, resource = question
            expected = tuple(item for item in ALLOWABLE if naive(left, (asker, item, resource), default))
            assert rig.authorizer.allowed_operations(asker, ALLOWABLE, resource) == expected
        done(rig.access.delete_acls(removed))


@given(st.lists(ACLS, max_size=12), QUESTIONS, st.booleans())
@bounds(max_examples=60, deadline=None)
def test_whether_any_resource_is_allowed_agrees_with_the_decisions(
    acls: list[Acl], question: tuple[Requester, Operation, Resource], default: bool
) -> None:
    asker, operation, (resource_type, _) = question
    rig = AccessRig(Settings(access_control=True, allow_everyone_if_no_acl_found=default))
    done(rig.access.create_acls(acls))
    names = {acl.name for acl in acls}
    names |= {f"{name}~" for name in names if name != ANY_NAME} | {"unheard-of"}
    some = any(naive(acls, (asker, operation, Resource(resource_type, name)), default) for name in names)
    assert rig.authorizer.allows_any(asker, operation, resource_type) == some


def test_without_access_control_everything_is_allowed() -> None:
    rig = AccessRig(Settings())
    done(rig.access.create_acls([deny(Operation.ALL, "*", EVERYBODY)]))
    assert rig.authorizer.allows(requester(), Operation.READ, ORDERS)
    assert rig.authorizer.allows_any(requester(), Operation.WRITE, ResourceType.TOPIC)
    assert rig.authorizer.decide(requester(), Operation.READ, ORDERS).reason == "access control is off"


def test_super_users_and_super_roles_may_do_what_is_denied() -> None:
    rig = AccessRig(Settings(access_control=True, super_users="User:admin; Role:ops;"))
    done(rig.access.create_acls([deny(Operation.ALL, "*", EVERYBODY)]))
    for asker in (requester(ADMIN), requester(BOB, roles=[OPS])):
        assert rig.authorizer.decide(asker, Operation.DELETE, ORDERS).reason == "a super user"
        assert rig.authorizer.allows_any(asker, Operation.WRITE, ResourceType.TOPIC)
    for asker in (requester(), requester(Principal(USER, "Admin")), requester(Principal(ROLE, "admin"))):
        assert not rig.authorizer.allows(asker, Operation.DELETE, ORDERS)


def test_super_users_that_cannot_be_read() -> None:
    assert parse_super_users("") == frozenset()
    assert parse_super_users("User:a:b;User:c") == {Principal(USER, "a:b"), Principal(USER, "c")}
    for text in ("admin", "User:", ":admin", "User:a;b"):
        with pytest.raises(ValueError, match="is not a principal"):
            parse_super_users(text)


def test_a_change_holds_for_the_next_question() -> None:
    rig = AccessRig()
    assert not rig.authorizer.allows(requester(), Operation.READ, ORDERS)
    done(rig.access.create_acls([allow(Operation.READ, "orders")]))
    assert rig.authorizer.allows(requester(), Operation.READ, ORDERS)
    done(rig.access.create_acls([deny(Operation.READ, "ord", EVERYBODY, prefixed=True)]))
    assert rig.authorizer.decide(requester(), Operation.READ, ORDERS) == AccessDecision(
        False, deny(Operation.READ, "ord", EVERYBODY, prefixed=True)
    )


def test_hosts_are_compared_as_addresses() -> None:
    rig = AccessRig()
    local = allow(Operation.READ, "orders")._replace(host="0:0:0:0:0:0:0:1")
    mapped = allow(Operation.READ, "orders")._replace(host="::ffff:10.0.0.1")
    done(rig.access.create_acls([local, mapped]))
    for host, allowed in (("::1", True), ("10.0.0.1", True), ("::ffff:10.0.0.1", True), ("10.0.0.2", False)):
        assert rig.authorizer.allows(requester(host=host), Operation.READ, ORDERS) == allowed
    assert canonical_host("no address") == "no address"


def test_while_the_entries_are_loaded_again_only_super_users_are_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runtime, "READ_BYTES", 1)
    rig = AccessRig(auto_commit=False)
    rig.access.create_acls([allow(Operation.ALL, "*", EVERYBODY)])
    rig.access.create_acls([allow(Operation.READ, name) for name in "abc"])
    rig.access.create_acls([deny(Operation.READ, "d")])
    rig.log.commit()
    changes: list[int] = []
    rig.authorizer.on_change.append(lambda: changes.append(1))
    assert rig.authorizer.allows(requester(), Operation.READ, ORDERS)
    rig.access.create_acls([deny(Operation.READ, "orders")])
    assert not rig.authorizer.allows(requester(), Operation.READ, ORDERS)
    rig.log.fail()
    reasons = []
    while rig.runtime.fenced is not None:
        reasons.append(rig.authorizer.decide(requester(), Operation.READ, ORDERS).reason)
        if reasons[-1]:
            assert not rig.authorizer.allows_any(requester(), Operation.READ, ResourceType.TOPIC)
            assert rig.authorizer.allows(requester(ADMIN), Operation.READ, ORDERS)
            assert rig.authorizer.allowed_operations(requester(), ALLOWABLE, ORDERS) == ()
            assert rig.authorizer.allowed_operations(requester(ADMIN), ALLOWABLE, ORDERS) == ALLOWABLE
        rig.clock.turn()
    assert rig.authorizer.allows(requester(), Operation.READ, ORDERS), "the denial was not durable"
    assert reasons.count("the access control entries are being loaded again") > 1
    assert changes


def test_the_audit_learns_of_denials_of_changes_and_of_what_is_new() -> None:
    rig = AccessRig()
    done(rig.access.create_acls([allow(Operation.READ, "orders"), allow(Operation.ALTER, "orders")]))
    heard: list[tuple[Operation, bool]] = []

    def on_decision(_: Requester, operation: Operation, __: Resource, decision: AccessDecision) -> None:
        heard.append((operation, decision.allowed))

    rig.authorizer.on_decision = on_decision
    for operation in (Operation.READ, Operation.WRITE, Operation.ALTER) * 2:
        rig.authorizer.allows(requester(), operation, ORDERS)
        rig.authorizer.allows(requester(BOB), operation, ORDERS, is_filter=True)
    assert heard == [
        (Operation.READ, True),
        (Operation.WRITE, False),
        (Operation.ALTER, True),
        (Operation.WRITE, False),
        (Operation.ALTER, True),
    ]


def test_the_cache_of_decisions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHED_MAX", 10)
    rig = AccessRig()
    for number in range(30):
        rig.authorizer.allows(requester(), Operation.READ, Resource(ResourceType.GROUP, f"g{number}"))
        rig.authorizer.allows(requester(), Operation.READ, Resource(ResourceType.GROUP, "g" * 301))
        rig.authorizer.allowed_operations(
            requester(host=f"10.0.1.{number}"), ALLOWABLE, Resource(ResourceType.GROUP, "g")
        )
    assert len(rig.authorizer._cache) == len(rig.authorizer._by_patterns) == 10


def test_names_that_the_same_patterns_are_about_share_an_answer() -> None:
    rig = AccessRig()
    done(
        rig.access.create_acls(
            [allow(Operation.READ, "orders-", prefixed=True), deny(Operation.READ, "orders-5")]
        )
    )
    for number in range(10):
        resource = Resource(ResourceType.TOPIC, f"orders-{number}")
        allowed = rig.authorizer.allowed_operations(requester(), ALLOWABLE, resource)
        assert (Operation.READ in allowed) == (number != 5)
    assert len(rig.authorizer._by_patterns) == 2
    scoped = dataclasses.replace(requester(), scopes=frozenset({"topic:other:read"}))
    assert rig.authorizer.allowed_operations(scoped, ALLOWABLE, resource) == ()
    done(rig.access.create_acls([deny(Operation.ALL, "*")]))
    assert rig.authorizer.allowed_operations(requester(), ALLOWABLE, resource) == ()
