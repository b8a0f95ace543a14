"""ConsoleSessions of the console: the cookie, forged requests, and when a session ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from mainstem.access_contract import USER, Operation, Principal, ResourceType, ScramMechanism
from mainstem.authentication.identity import Identity
from mainstem.doors.contract import Listener
from mainstem.doors.http import sessions
from mainstem.doors.http.requesters import cookie_name
from mainstem.doors.http.sessions import SWEEP_S, ConsoleSession, ConsoleSessions
from mainstem.doors.net.address import HostPort
from mainstem.doors.net.security import SecurityProtocol
from mainstem.engines.embedded.engine import EmbeddedEngine
from tests.doors.http.door_kit import RunningHttpDoor, add_user, problem, running_door
from tests.support.clock import SimClock

PASSWORD = "of alice"
CONSOLE = {"x-mainstem-console": "active"}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    folder = tmp_path_factory.mktemp("http") / "data"
    with running_door(folder, security=SecurityProtocol.SASL_PLAINTEXT) as door:
        add_user(door, "alice", PASSWORD)
        door.rules.allow(ResourceType.TOPIC, "*", Operation.READ, Operation.CREATE, user="alice")
        door.rules.allow_cluster(Operation.CREATE, user="bob")
        with browser(door) as client:
            client.post("topics", json={"topic": "orders"}, headers=CONSOLE).raise_for_status()
        yield door


@contextmanager
def browser(door: RunningHttpDoor, user: str = "alice") -> Iterator[httpx.Client]:
    """A client that has logged in and keeps the cookie."""
    base = f"http://{door.address}/api/v1/"
    with httpx.Client(base_url=base, trust_env=False, verify=False, timeout=30) as client:
        client.post("session", json={"user": user, "password": PASSWORD}).raise_for_status()
        yield client


def test_a_login_sets_a_cookie_that_scripts_and_other_sites_do_not_get(secured: RunningHttpDoor) -> None:
    with browser(secured) as client:
        login = {"user": "alice", "password": PASSWORD}
        reply = client.post("session", json=login, headers=CONSOLE)
        cookie = reply.headers["set-cookie"]
        assert cookie.startswith(f"mainstem-session-{secured.port}=")
        assert {"HttpOnly", "Path=/", "SameSite=strict", "Max-Age=43200"} <= set(cookie.split("; "))
        assert client.get("topics").json()["total"] == 1
        assert PASSWORD not in reply.text


def test_with_tls_the_cookie_is_for_this_host_and_tls_alone() -> None:
    address = HostPort("127.0.0.1", 8443)
    listener = Listener(
        name="SASL_SSL",
        address=address,
        advertised=address,
        doors=("http",),
        security=SecurityProtocol.SASL_SSL,
    )
    assert cookie_name(listener) == "__Host-mainstem-session-8443"


def test_a_login_that_fails_looks_as_any_other(secured: RunningHttpDoor) -> None:
    base = f"http://{secured.address}/api/v1/"
    with httpx.Client(base_url=base, trust_env=False, verify=False) as client:
        bodies = [("alice", "wrong"), ("stranger", PASSWORD), ("", "")]
        replies = [client.post("session", json={"user": u, "password": p}) for u, p in bodies]
        for reply in replies:
            problem(reply, 401, "unauthorized")
            assert "set-cookie" not in reply.headers
        assert len({reply.text for reply in replies}) == 1


def test_a_cookie_alone_changes_nothing(secured: RunningHttpDoor) -> None:
    with browser(secured) as client:
        for method, path in (("POST", "topics"), ("DELETE", "topics/orders"), ("DELETE", "session")):
            reply = client.request(method, path, headers={"content-type": "application/json"})
            problem(reply, 403, "forbidden-origin")
        for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
            reply = client.post("topics", json={"topic": "forged"}, headers=CONSOLE | headers)
            problem(reply, 403, "forbidden-origin")
        assert client.get("topics").json()["total"] == 1


def test_a_cookie_of_no_session_is_no_login(secured: RunningHttpDoor) -> None:
    name = f"mainstem-session-{secured.port}"
    for token in ("x", "", "A" * 5_000, "é"):
        headers = {b"cookie": f"{name}={token}".encode()}
        reply = httpx.get(f"http://{secured.address}/api/v1/topics", headers=headers, trust_env=False)
        problem(reply, 401, "unauthorized")


def test_me_says_who_is_logged_in_and_what_they_may_do(secured: RunningHttpDoor) -> None:
    base = f"http://{secured.address}/api/v1/"
    with httpx.Client(base_url=base, trust_env=False, verify=False) as stranger:
        me = stranger.get("me").json()
        assert (me["principal"], me["needs_login"], me["rights"]) == (None, True, {})
    with browser(secured) as client:
        me = client.get("me").json()
        assert (me["principal"], me["has_session"], me["access_control"]) == ("User:alice", True, True)
        assert me["rights"]["cluster"] == []
        assert {"READ", "CREATE"} <= set(me["rights"]["topic"])
        operations = client.get("topics/orders").json()["operations"]
        assert "READ" in operations
        assert "DELETE" not in operations


def test_logging_out_ends_the_session_and_its_streams(secured: RunningHttpDoor) -> None:
    with browser(secured) as client, browser(secured) as other:
        ended = threading.Event()
        with client.stream("GET", "topics/orders/tail") as tail:

            def follow() -> None:
                try:
                    list(tail.iter_bytes())
                except httpx.TransportError:
                    ended.set()

            following = threading.Thread(target=follow)
            following.start()
            cookie = dict(client.cookies)
            reply = client.delete("session", headers=CONSOLE)
            assert reply.json() == {"logged_out": True}
            following.join(5)
            assert ended.is_set()
        client.cookies.update(cookie)
        problem(client.get("topics"), 401, "unauthorized")
        assert other.get("topics").status_code == 200


@pytest.mark.parametrize("change", ["password", "deletion"])
def test_sessions_end_when_the_password_changes_or_the_user_is_deleted(
    secured: RunningHttpDoor, change: str
) -> None:
    user = f"of-{change}"
    add_user(secured, user, PASSWORD)
    with browser(secured, user) as client:
        assert client.get("topics").status_code == 200
        if change == "password":
            add_user(secured, user, "another")
        else:

            async def delete(_: EmbeddedEngine) -> None:
                await secured.node.access.delete_verifiers(user, [ScramMechanism.SHA_256])

            secured.run(delete)
        problem(client.get("topics"), 401, "unauthorized")


def test_a_door_without_logins_has_no_sessions(door: RunningHttpDoor) -> None:
    problem(door.post("session", {"user": "a", "password": "b"}), 404, "not-offered")
    me = door.get("me")
    assert (me["principal"], me["needs_login"], me["access_control"]) == ("User:ANONYMOUS", False, False)
    assert "DELETE" in me["rights"]["topic"]


# ----------------------------------------------------------------------------------------------------------
# times and numbers


class SessionRig:
    def __init__(self) -> None:
        self.clock = SimClock()
        self.ended: list[ConsoleSession] = []
        self.count = 0
        self.sessions = ConsoleSessions(
            self.clock, self._random, idle_s=60, age_max_s=600, on_end=self.ended.append
        )

    def _random(self, size: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(size, "big")

    def begin(self, user: str = "alice") -> str:
        identity = Identity(principal=Principal(USER, user), mechanism="PLAIN")
        return self.sessions.begin(identity)

    def lives(self, token: str, *, is_active: bool = False) -> bool:
        return self.sessions.find(token, is_active=is_active) is not None


def test_a_session_ends_when_its_person_does_nothing() -> None:
    rig = SessionRig()
    token = rig.begin()
    for _ in range(3):
        rig.clock.advance(50)
        assert rig.lives(token, is_active=True)
    for _ in range(5):
        rig.clock.advance(10)
        assert rig.lives(token)  # polls of an open page are no sign
    rig.clock.advance(10)
    assert not rig.lives(token)


def test_a_session_ends_after_its_time_in_any_case() -> None:
    rig = SessionRig()
    token = rig.begin()
    for _ in range(59):
        rig.clock.advance(10)
        assert rig.lives(token, is_active=True)
    rig.clock.advance(10)
    assert not rig.lives(token, is_active=True)


def test_sessions_that_nothing_asks_for_end_too() -> None:
    rig = SessionRig()
    rig.begin()
    rig.clock.advance(60 + SWEEP_S)
    assert len(rig.ended) == 1
    assert len(rig.sessions) == 0


def test_the_number_of_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 5)
    monkeypatch.setattr(sessions, "SESSIONS_OF_USER_MAX", 2)
    rig = SessionRig()
    first, second, third = rig.begin(), rig.begin(), rig.begin()
    assert [rig.lives(token) for token in (first, second, third)] == [False, True, True]
    tokens = [rig.begin(f"user-{number}") for number in range(10)]
    assert len(rig.sessions) == 5
    assert [rig.lives(token) for token in tokens] == [False] * 5 + [True] * 5
