"""Logging in to the HTTP door: Basic and Bearer, what fails and how, and what ends with a user."""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mainstem.access_contract import Operation, Principal, ResourceType, ScramMechanism
from mainstem.authentication.attempts import PAIR_FREE
from mainstem.authentication.identity import BearerUnavailable, Identity
from mainstem.doors.http.endpoints import ENDPOINTS
from mainstem.doors.net.security import SecurityProtocol
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.promise import Promise
from tests.doors.http.door_kit import RunningHttpDoor, add_user, audit_fields, problem, running_door, until

PASSWORD = "wörd: of alice"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    """A door that asks for a login; its client is alice, who may do everything."""
    folder = tmp_path_factory.mktemp("http") / "data"
    with running_door(folder, security=SecurityProtocol.SASL_PLAINTEXT) as door:
        for user in ("alice", "bob"):
            add_user(door, user, PASSWORD)
        for resource_type in (ResourceType.TOPIC, ResourceType.GROUP, ResourceType.SUBSCRIPTION):
            door.rules.allow(resource_type, "*", Operation.ALL, user="alice")
        door.rules.allow_cluster(Operation.ALL, user="alice")
        door.http.auth = httpx.BasicAuth("alice", PASSWORD)
        door.create_topic("orders")
        yield door


@pytest.fixture(scope="module")
def plain(secured: RunningHttpDoor) -> Iterator[httpx.Client]:
    """A client without credentials."""
    with httpx.Client(base_url=f"http://{secured.address}", trust_env=False, verify=False) as client:
        yield client


def get(client: httpx.Client, path: str = "/api/v1/topics", **headers: str) -> httpx.Response:
    return client.get(path, headers=headers)


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_no_route_but_health_is_served_without_a_login(
    secured: RunningHttpDoor,
    plain: httpx.Client,
) -> None:
    for endpoint in ENDPOINTS:
        path = re.sub(r"{(?:partition|offset)}", "0", endpoint.path)
        path = re.sub(r"{topic}", "orders", path)
        path = re.sub(r"{\w+(?::\w+)?}", "x", path)
        reply = plain.request(endpoint.method, path)
        if endpoint.rights.login:
            members = problem(reply, 401, "unauthorized")
            assert "orders" not in members["detail"]
            assert reply.headers["www-authenticate"].startswith('Basic realm="mainstem"')
        else:
            is_of_provider = "/oidc" in endpoint.path or "/.well-known/" in endpoint.path
            expected = 404 if is_of_provider else 200  # it neither has a login provider nor is one
            assert reply.status_code == (415 if endpoint.handle.__name__ == "log_in" else expected)
            assert "PLAINTEXT" not in reply.text


def test_a_password_lets_in_and_the_rights_are_those_of_the_user(
    secured: RunningHttpDoor,
    plain: httpx.Client,
) -> None:
    assert secured.get("topics")["total"] == 1
    assert get(plain, **basic("bob", PASSWORD)).json()["total"] == 0
    problem(get(plain, "/api/v1/topics/orders", **basic("bob", PASSWORD)), 403, "forbidden")


def test_every_failure_looks_the_same(
    secured: RunningHttpDoor,
    plain: httpx.Client,
) -> None:
    refused = [
        get(plain, **headers)
        for headers in (
            basic("alice", "wrong"),
            basic("stranger", PASSWORD),
            basic("", ""),
            basic("a\0b", "x" * 5_000),
            {"authorization": "Basic !!!"},
            {"authorization": "Basic " + base64.b64encode(b"no colon").decode()},
            {"authorization": "Basic " + base64.b64encode(b"\xff\xfe:x").decode()},
            {"authorization": "Bearer nonsense"},
            {"authorization": "Negotiate x"},
            {"authorization": ""},
        )
    ]
    for reply in refused:
        problem(reply, 401, "unauthorized")
    assert len({reply.text for reply in refused}) == 1
    assert len({reply.headers["www-authenticate"] for reply in refused}) == 1


def test_a_browser_is_not_made_to_ask_for_a_password(
    secured: RunningHttpDoor,
    plain: httpx.Client,
) -> None:
    reply = get(plain, **{"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"})
    problem(reply, 401, "unauthorized")
    assert reply.headers["www-authenticate"] == 'Session realm="mainstem"'


def logins(secured: RunningHttpDoor) -> dict[str, float]:
    """The counters of logins in the metrics."""
    lines = secured.http.get("/metrics").text.splitlines()
    samples = (line.rsplit(" ", 1) for line in lines if line.startswith("mainstem_login"))
    return {name: float(number) for name, number in samples}


def test_logins_and_lockouts_are_counted(secured: RunningHttpDoor, plain: httpx.Client) -> None:
    add_user(secured, "dora", PASSWORD)
    before = logins(secured)
    get(plain, **basic("dora", PASSWORD)).raise_for_status()
    for _ in range(PAIR_FREE + 1):
        get(plain, **basic("dora", "guess"))
    get(plain, authorization="Bearer mst_of-somebody")
    after = logins(secured)
    grown = {name: count - before.get(name, 0) for name, count in after.items()}

    def of(mechanism: str, outcome: str) -> float:
        labels = f'door="http",mechanism="{mechanism}",outcome="{outcome}"'
        return grown[f"mainstem_logins_total{{{labels}}}"]

    assert of("PLAIN", "failed") == PAIR_FREE
    assert of("PLAIN", "locked") == 1
    assert of("PLAIN", "success") >= 1
    assert of("API_TOKEN", "failed") == 1
    assert grown['mainstem_login_lockouts_total{by="user_at_address"}'] == 1


def test_who_guesses_is_locked_out_for_a_while(
    secured: RunningHttpDoor,
    plain: httpx.Client,
) -> None:
    add_user(secured, "carol", PASSWORD)
    for _ in range(PAIR_FREE):
        problem(get(plain, **basic("carol", "guess")), 401, "unauthorized")
    reply = get(plain, **basic("carol", PASSWORD))
    problem(reply, 429, "too-many-attempts")
    assert 1 <= int(reply.headers["retry-after"]) <= 2


def test_a_token_lets_in_until_it_expires(
    secured: RunningHttpDoor, plain: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_ms = int(time.time() * 1000) + 700

    def check(token: str, host: str, *, door: str) -> Promise[Identity]:
        if token != "good":
            return Promise.failed(BearerUnavailable("the keys are too old"))
        alice = Principal("User", "alice")
        return Promise.resolved(Identity(principal=alice, expires_at_ms=ends_ms, mechanism="OAUTHBEARER"))

    monkeypatch.setattr(secured.authentication, "check_bearer", check)
    token = {"authorization": "Bearer good"}
    assert get(plain, **token).json()["total"] == 1
    with plain.stream("GET", "/api/v1/topics/orders/tail", headers=token) as reply:
        assert reply.status_code == 200
        with pytest.raises(httpx.TransportError):
            list(reply.iter_bytes())
    problem(get(plain, authorization="Bearer x"), 401, "unauthorized")
    monkeypatch.setattr(type(secured.authentication), "accepts_tokens", True)
    problem(get(plain, authorization="Bearer x"), 503, "no-keys")


def test_streams_of_a_user_end_when_it_is_deleted(
    secured: RunningHttpDoor,
    plain: httpx.Client,
) -> None:
    add_user(secured, "dave", PASSWORD)
    secured.rules.allow(ResourceType.TOPIC, "orders", Operation.READ, user="dave")
    streams = [
        httpx.Client(trust_env=False, auth=(user, PASSWORD), timeout=None, verify=False)
        for user in ("dave", "alice")
    ]
    ended: list[Any] = []
    url = f"http://{secured.address}/api/v1/topics/orders/tail"
    with streams[0].stream("GET", url) as of_dave, streams[1].stream("GET", url) as of_alice:
        assert (of_dave.status_code, of_alice.status_code) == (200, 200)

        def follow() -> None:
            try:
                list(of_dave.iter_bytes())
            except httpx.TransportError as error:
                ended.append(error)

        following = threading.Thread(target=follow)
        following.start()

        async def delete(_: EmbeddedEngine) -> None:
            await secured.node.access.delete_verifiers("dave", [ScramMechanism.SHA_256])

        secured.run(delete)
        following.join(5)
        assert ended
        assert b": tail" in next(of_alice.iter_bytes())
    for client in streams:
        client.close()
    problem(get(plain, **basic("dave", PASSWORD)), 401, "unauthorized")
    until(lambda: not secured.door.context.running._callers)


def test_audit_lines_name_the_principal(
    secured: RunningHttpDoor, plain: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    secured.create_topic("short")
    audit_fields(caplog)
    assert secured.http.delete("/api/v1/topics/short").status_code == 200
    assert plain.delete("/api/v1/groups/g", headers=basic("bob", PASSWORD)).status_code == 403
    (line,) = audit_fields(caplog)
    assert line["principal"] == "User:alice"
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("path", ["/metrics", "/metrics/per-object"])
def test_metrics_can_be_opened_for_everybody(
    secured: RunningHttpDoor, plain: httpx.Client, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    problem(get(plain, path), 401, "unauthorized")
    problem(get(plain, path, **basic("bob", PASSWORD)), 403, "forbidden")
    assert secured.http.get(path).status_code == 200
    context = secured.door.context
    object.__setattr__(context, "open_metrics", True)
    try:
        assert get(plain, path).status_code == 200
    finally:
        object.__setattr__(context, "open_metrics", False)
