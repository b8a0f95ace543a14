"""API tokens over HTTP: who may make them, what they open, and when they end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from mainstem.access_contract import (
    ROLE,
    USER,
    Operation,
    Principal,
    Requester,
    ResourceType,
    ScramMechanism,
)
from mainstem.authentication.identity import Identity
from mainstem.doors.http.routes.provider_login import _end_tokens_beyond
from mainstem.doors.net.security import SecurityProtocol
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.http_api.tokens import NewApiTokenJson, new_token
from tests.doors.http.door_kit import RunningHttpDoor, add_user, audit_fields, problem, running_door

PASSWORD = "of alice"
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    """A door with admin, who may do everything, and alice, who may use topics."""
    folder = tmp_path_factory.mktemp("http") / "data"
    with running_door(folder, security=SecurityProtocol.SASL_PLAINTEXT) as door:
        for user in ("admin", "alice", "bob"):
            add_user(door, user, PASSWORD)
        for user in ("admin", "alice"):
            door.rules.allow(ResourceType.TOPIC, "*", Operation.ALL, user=user)
        door.rules.allow_cluster(Operation.ALL, user="admin")
        door.http.auth = ("admin", PASSWORD)
        door.create_topic("orders")
        door.create_topic("refunds")
        yield door


@pytest.fixture(scope="module")
def plain(secured: RunningHttpDoor) -> Iterator[httpx.Client]:
    base = f"http://{secured.address}/api/v1/"
    with httpx.Client(base_url=base, trust_env=False, verify=False, timeout=30) as client:
        yield client


def make(plain: httpx.Client, by: str = "alice", **fields: Any) -> dict[str, Any]:
    """Make a token as this user."""
    body = {"name": "for tests", "expires_in_ms": HOUR_MS} | fields
    reply = plain.post("tokens", json=body, auth=(by, PASSWORD))
    assert reply.status_code == 201, reply.text
    made: dict[str, Any] = reply.json()
    return made


def bearer(made: dict[str, Any]) -> dict[str, str]:
    return {"authorization": f"Bearer {made['token']}"}


def test_a_token_has_the_rights_of_its_user_within_its_scopes(plain: httpx.Client) -> None:
    whole, limited = make(plain), make(plain, scopes=["read-only", "topics:or"])
    assert whole["token"].startswith("mst_")
    assert plain.get("topics", headers=bearer(whole)).json()["total"] == 2
    assert plain.get("topics", headers=bearer(limited)).json()["total"] == 1
    problem(plain.get("topics/refunds", headers=bearer(limited)), 403, "forbidden")
    reply = plain.post("topics/orders/events", json={"value": 1}, headers=bearer(limited))
    problem(reply, 403, "forbidden")
    plain.post("topics/orders/events", json={"value": 1}, headers=bearer(whole)).raise_for_status()
    me = plain.get("me", headers=bearer(limited)).json()
    assert me["principal"] == "User:alice"
    assert set(me["rights"]["topic"]) <= {"READ", "DESCRIBE", "DESCRIBE_CONFIGS"}


def test_a_token_is_shown_once_and_nowhere_else(
    plain: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    audit_fields(caplog)
    made = make(plain)
    listed = plain.get("tokens", auth=("alice", PASSWORD))
    assert made["about"]["id"] in listed.text
    assert made["token"][4:] not in listed.text
    assert made["token"][4:] not in caplog.text
    (line,) = audit_fields(caplog)
    assert (line["action"], line["user"], line["principal"]) == ("make-token", "alice", "User:alice")


@pytest.mark.parametrize("byte", [0x00, 0xF8, 0xFF])
def test_the_id_of_a_token_is_no_option_of_a_command(byte: int) -> None:
    body = NewApiTokenJson(name="t", expires_in_ms=HOUR_MS)
    _, token, _ = new_token(body, "ann", 0, lambda size: bytes([byte]) * size)
    assert token.id.isalnum()


def test_everybody_manages_their_own_and_an_admin_all(plain: httpx.Client) -> None:
    of_alice = make(plain)["about"]
    of_bob = make(plain, "bob")["about"]
    make(plain, "admin", user="bob")

    def listed(user: str) -> set[str]:
        rows = plain.get("tokens", auth=(user, PASSWORD)).json()["tokens"]
        return {row["user"] for row in rows}

    assert listed("alice") == {"alice"}
    assert listed("bob") == {"bob"}
    assert listed("admin") >= {"alice", "bob"}
    body = {"name": "n", "expires_in_ms": HOUR_MS, "user": "alice"}
    problem(plain.post("tokens", json=body, auth=("bob", PASSWORD)), 403, "forbidden")
    missing = plain.delete("tokens/none", auth=("bob", PASSWORD))
    foreign = plain.delete(f"tokens/{of_alice['id']}", auth=("bob", PASSWORD))
    problem(missing, 404, "unknown-token")
    problem(foreign, 404, "unknown-token")
    assert plain.delete(f"tokens/{of_bob['id']}", auth=("bob", PASSWORD)).status_code == 200
    assert plain.delete(f"tokens/{of_alice['id']}", auth=("admin", PASSWORD)).status_code == 200


def test_the_list_says_when_a_token_was_last_used(plain: httpx.Client) -> None:
    made = make(plain)

    def used() -> Any:
        rows = plain.get("tokens", auth=("alice", PASSWORD)).json()["tokens"]
        return next(row["last_used"] for row in rows if row["id"] == made["about"]["id"])

    assert (made["about"]["last_used"], used()) == (None, None)
    plain.get("topics", headers=bearer(made)).raise_for_status()
    assert used() >= made["about"]["created"]


def test_a_token_makes_no_token(plain: httpx.Client) -> None:
    body = {"name": "n", "expires_in_ms": 365 * 86_400_000}
    reply = plain.post("tokens", json=body, headers=bearer(make(plain, scopes=["read-only"])))
    problem(reply, 403, "forbidden")


@pytest.mark.parametrize(
    "fields",
    [{"expires_in_ms": 1}, {"expires_in_ms": 10**13}, {"scopes": ["all"]}, {"name": ""}, {"token": "mst_x"}],
)
def test_a_token_that_makes_no_sense_is_refused(plain: httpx.Client, fields: dict[str, Any]) -> None:
    body = {"name": "n", "expires_in_ms": HOUR_MS} | fields
    assert plain.post("tokens", json=body, auth=("alice", PASSWORD)).status_code in (400, 422)


def test_no_token_but_a_good_one_is_accepted(
    plain: httpx.Client, secured: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(plain)
    token = made["token"]
    for wrong in (token[:-1], token + "A", token.upper(), "mst_", "mst_" + "A" * 43, token[4:]):
        refused = plain.get("topics", headers={"authorization": f"Bearer {wrong}"})
        problem(refused, 401, "unauthorized")
    problem(plain.get("topics", auth=("alice", token)), 401, "unauthorized")
    clock = secured.door.context.authentication._clock
    later_ms = clock.wall_ms() + HOUR_MS
    monkeypatch.setattr(clock, "wall_ms", lambda: later_ms)
    problem(plain.get("topics", headers=bearer(made)), 401, "unauthorized")


@pytest.mark.parametrize("change", ["token", "user"])
def test_streams_end_with_their_token_and_its_user(
    plain: httpx.Client, secured: RunningHttpDoor, change: str
) -> None:
    user = f"of-{change}"
    add_user(secured, user, PASSWORD)
    secured.rules.allow(ResourceType.TOPIC, "orders", Operation.READ, user=user)
    made = make(plain, user)
    ended = threading.Event()
    with plain.stream("GET", "topics/orders/tail", headers=bearer(made)) as tail:
        assert tail.status_code == 200

        def follow() -> None:
            try:
                list(tail.iter_bytes())
            except httpx.TransportError:
                ended.set()

        following = threading.Thread(target=follow)
        following.start()
        if change == "token":
            path = f"/api/v1/tokens/{made['about']['id']}"
            assert secured.http.delete(path).status_code == 200
        else:

            async def delete(_: EmbeddedEngine) -> None:
                await secured.node.access.delete_verifiers(user, [ScramMechanism.SHA_256])

            secured.run(delete)
        following.join(5)
    assert ended.is_set()
    problem(plain.get("topics", headers=bearer(made)), 401, "unauthorized")
    add_user(secured, user, PASSWORD)
    problem(plain.get("topics", headers=bearer(made)), 401, "unauthorized")


def test_a_token_deletes_none(plain: httpx.Client) -> None:
    first, other = make(plain), make(plain, scopes=["read-only"])
    path = f"tokens/{first['about']['id']}"
    for token in (first, other):
        problem(plain.delete(path, headers=bearer(token)), 403, "forbidden")
    assert plain.get("topics", headers=bearer(first)).status_code == 200


# ----------------------------------------------------------------------------------------------------------
# of people who log in by a provider


def log_in_by_provider(door: RunningHttpDoor, *roles: str) -> dict[str, str]:
    """The headers of the console of eve, who is no user of this server."""
    identity = Identity(
        principal=Principal(USER, "eve"),
        roles=frozenset(Principal(ROLE, role) for role in roles),
        mechanism="OAUTHBEARER",
    )

    async def begin(_: EmbeddedEngine) -> str:
        return door.door._sessions.begin(identity, by_provider=True)

    cookie = f"mainstem-session-{door.port}={door.run(begin)}"
    return {"cookie": cookie, "x-mainstem-console": "active"}


def test_who_logs_in_by_a_provider_makes_tokens_with_the_roles_of_the_login(
    secured: RunningHttpDoor, plain: httpx.Client
) -> None:
    body = {"name": "ci", "expires_in_ms": HOUR_MS}
    headers = log_in_by_provider(secured, "ops")
    made = plain.post("tokens", json=body, headers=headers).json()
    assert (made["about"]["user"], made["about"]["roles"]) == ("eve", ["Role:ops"])
    me = plain.get("me", headers=bearer(made)).json()
    assert me["principal"] == "User:eve"
    asked: list[Requester] = []
    allows = secured.rules.allows

    def note(requester: Requester, *arguments: Any, **options: Any) -> bool:
        asked.append(requester)
        return allows(requester, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secured.rules, "allows", note)
        plain.get("topics", headers=bearer(made))
    assert {requester.roles for requester in asked} == {frozenset({Principal(ROLE, "ops")})}
    too_long = plain.post("tokens", json=body | {"expires_in_ms": 31 * 24 * HOUR_MS}, headers=headers)
    assert "30 days at most" in problem(too_long, 422, "unfit")["detail"]
    another = plain.post("tokens", json=body | {"user": "alice"}, headers=headers)
    problem(another, 403, "forbidden")
    by_token = plain.post("tokens", json=body, headers=bearer(made))
    problem(by_token, 403, "forbidden")


def test_a_login_without_a_role_of_a_token_ends_the_token(
    secured: RunningHttpDoor, plain: httpx.Client
) -> None:
    body = {"name": "ci", "expires_in_ms": HOUR_MS}
    with_role = plain.post("tokens", json=body, headers=log_in_by_provider(secured, "admins")).json()
    without = plain.post("tokens", json=body, headers=log_in_by_provider(secured)).json()
    lesser = Identity(principal=Principal(USER, "eve"), roles=frozenset(), mechanism="OAUTHBEARER")

    async def log_in(_: EmbeddedEngine) -> None:
        call = SimpleNamespace(context=secured.door.context)
        await _end_tokens_beyond(cast(Any, call), lesser)

    secured.run(log_in)
    problem(plain.get("topics", headers=bearer(with_role)), 401, "unauthorized")
    assert plain.get("topics", headers=bearer(without)).status_code == 200
