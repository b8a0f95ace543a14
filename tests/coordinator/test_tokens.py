"""API tokens: their state machine, and what their scopes leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mainstem.access_contract import (
    CLUSTER_NAME,
    ROLE,
    ApiToken,
    Operation,
    Principal,
    Resource,
    ResourceType,
    ScramMechanism,
)
from mainstem.coordinator.access import tokens
from mainstem.coordinator.access.scopes import scopes_allow, scopes_allow_any, scopes_problem
from mainstem.coordinator.errors import InvalidApiToken, UnknownApiToken
from tests.support.access import AccessRig, requester, verifier

TOPIC, GROUP, SUBSCRIPTION = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.SUBSCRIPTION
CLUSTER = Resource(ResourceType.CLUSTER, CLUSTER_NAME)


def token(id_: str = "a", user: str = "alice", scopes: tuple[str, ...] = (), **times: Any) -> ApiToken:
    times = {"created_ms": 1_000, "expires_ms": 9_000} | times
    return ApiToken(id=id_, user=user, name="for tests", scopes=frozenset(scopes), **times)


def digest(id_: str = "a") -> bytes:
    return id_.encode().ljust(32, b"\0")


@pytest.fixture
def rig() -> AccessRig:
    made = AccessRig()
    made.access.put_verifiers("alice", [verifier()])
    return made


def test_a_token_is_found_by_its_hash_and_survives_a_restart(rig: AccessRig) -> None:
    rig.tokens.add(token(scopes=("read-only", "topics:or")), digest()).result()
    rig.restart()
    assert rig.tokens.find(digest()) == token(scopes=("read-only", "topics:or"))
    assert rig.tokens.find(digest("b")) is None
    assert [known.id for known in rig.tokens.tokens()] == ["a"]
    rig.tokens.delete("a").result()
    rig.restart()
    assert rig.tokens.find(digest()) is None


def test_a_token_of_a_provider_needs_no_user_here_and_has_its_roles(rig: AccessRig) -> None:
    of_provider = replace(token("p", "eve"), roles=frozenset({Principal(ROLE, "ops")}), is_of_provider=True)
    rig.tokens.add(of_provider, digest("p")).result()
    rig.restart()
    assert rig.tokens.find(digest("p")) == of_provider
    rig.runtime.take_snapshot()
    rig.clock.run()
    rig.restart()
    assert rig.tokens.find(digest("p")) == of_provider
    with pytest.raises(InvalidApiToken, match="no user 'eve'"):
        rig.tokens.add(replace(of_provider, id="q", is_of_provider=False), digest("q")).result()


def test_deleting_a_token_is_reported_when_it_is_durable(rig: AccessRig) -> None:
    deleted: list[str] = []
    rig.tokens.on_deleted.append(deleted.append)
    rig.tokens.add(token(), digest())
    with pytest.raises(UnknownApiToken):
        rig.tokens.delete("b").result()
    rig.tokens.delete("a")
    assert deleted == ["a"]


def test_tokens_go_with_their_user_in_the_same_write(rig: AccessRig) -> None:
    rig.access.put_verifiers("alice", [verifier(ScramMechanism.SHA_512)])
    rig.access.put_verifiers("bob", [verifier()])
    rig.tokens.add(token(), digest())
    rig.tokens.add(token("b", "bob"), digest("b"))
    rig.access.delete_verifiers("alice", [ScramMechanism.SHA_512]).result()
    assert rig.tokens.find(digest()) is not None
    rig.access.delete_verifiers("alice", [ScramMechanism.SHA_256]).result()
    rig.restart()
    rig.access.put_verifiers("alice", [verifier()]).result()
    assert [known.id for known in rig.tokens.tokens()] == ["b"]


def test_expired_tokens_go_when_a_new_one_comes(rig: AccessRig) -> None:
    rig.tokens.add(token(), digest())
    rig.tokens.add(token("b", created_ms=9_000, expires_ms=10_000), digest("b"))
    assert [known.id for known in rig.tokens.tokens()] == ["b"]


@pytest.mark.parametrize(
    "change",
    [
        {"user": "stranger"},
        {"name": ""},
        {"name": "a\nb"},
        {"name": "x" * 101},
        {"expires_ms": 1_000},
        {"scopes": frozenset({"topics:"})},
        {"scopes": frozenset({"everything"})},
        {"scopes": frozenset({f"topics:{number}" for number in range(51)})},
    ],
)
def test_tokens_that_make_no_sense_are_refused(rig: AccessRig, change: dict[str, object]) -> None:
    with pytest.raises(InvalidApiToken):
        rig.tokens.add(replace(token(), **change), digest()).result()  # type: ignore[arg-type]


def test_the_number_of_tokens_is_bounded(rig: AccessRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "TOKENS_OF_USER_MAX", 2)
    for id_ in "ab":
        rig.tokens.add(token(id_), digest(id_)).result()
    with pytest.raises(InvalidApiToken, match="has 2 already"):
        rig.tokens.add(token("c"), digest("c")).result()


def test_no_secret_is_in_a_representation(rig: AccessRig) -> None:
    rig.tokens.add(token(), b"s" * 32)
    assert "sss" not in repr(list(rig.tokens.snapshot()))


# ----------------------------------------------------------------------------------------------------------
# scopes


@pytest.mark.parametrize(
    ("scopes", "operation", "resource", "expected"),
    [
        ((), Operation.DELETE, Resource(TOPIC, "a"), True),
        (("read-only",), Operation.READ, Resource(TOPIC, "a"), True),
        (("read-only",), Operation.DESCRIBE_CONFIGS, Resource(TOPIC, "a"), True),
        (("read-only",), Operation.DESCRIBE, CLUSTER, True),
        (("read-only",), Operation.WRITE, Resource(TOPIC, "a"), False),
        (("read-only",), Operation.READ, Resource(GROUP, "a"), False),
        (("read-only",), Operation.READ, Resource(SUBSCRIPTION, "a"), False),
        (("read-only",), Operation.ALTER, CLUSTER, False),
        (("topics:or",), Operation.WRITE, Resource(TOPIC, "orders"), True),
        (("topics:or",), Operation.WRITE, Resource(TOPIC, "refunds"), False),
        (("topics:or", "topics:re"), Operation.WRITE, Resource(TOPIC, "refunds"), True),
        (("topics:or",), Operation.READ, Resource(GROUP, "or"), False),
        (("topics:or",), Operation.CREATE, CLUSTER, False),
        (("topics:or",), Operation.DESCRIBE, CLUSTER, False),
        (("topics:or", "groups:g"), Operation.READ, Resource(GROUP, "g1"), True),
        (("read-only", "topics:or"), Operation.WRITE, Resource(TOPIC, "orders"), False),
        (("unknown",), Operation.READ, Resource(TOPIC, "orders"), False),
        (("unknown:",), Operation.READ, Resource(TOPIC, "orders"), False),
        (("topics:",), Operation.READ, Resource(TOPIC, "orders"), False),
    ],
)
def test_what_scopes_leave(
    scopes: tuple[str, ...], operation: Operation, resource: Resource, expected: bool
) -> None:
    assert scopes_allow(frozenset(scopes), operation, resource) is expected
    if expected:
        assert scopes_allow_any(frozenset(scopes), operation, resource.type)


def test_words_are_checked() -> None:
    assert scopes_problem(["read-only", "topics:a", "groups:b:c", "subscriptions:d"]) is None
    assert scopes_problem(["cluster:a"]) is not None


@pytest.mark.parametrize("is_on", [True, False])
def test_scopes_limit_super_users_and_hold_without_access_control(is_on: bool) -> None:
    from mainstem.settings import Settings

    rig = AccessRig(Settings(access_control=is_on, super_users="User:alice"))
    limited = replace(requester(), scopes=frozenset({"read-only"}))
    orders = Resource(TOPIC, "orders")
    assert rig.authorizer.allows(requester(), Operation.WRITE, orders)
    assert rig.authorizer.allows(limited, Operation.READ, orders)
    assert not rig.authorizer.allows(limited, Operation.WRITE, orders)
    assert rig.authorizer.decide(limited, Operation.WRITE, orders).reason.startswith("the scopes")
    assert rig.authorizer.allows_any(limited, Operation.READ, TOPIC)
    assert not rig.authorizer.allows_any(limited, Operation.WRITE, TOPIC)
