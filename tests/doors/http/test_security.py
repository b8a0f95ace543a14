"""No route accepts a page of another site, another host name or a wrong content type; GET changes nothing."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import httpx
import pytest

from mainstem.contract import NewEvent, Position
from mainstem.doors.http.endpoint import Endpoint
from mainstem.doors.http.endpoints import ENDPOINTS
from mainstem.doors.http.openapi import path_of
from mainstem.doors.http.security import HEADERS
from mainstem.doors.net.http_guard import ForbiddenRequest, HttpGuard
from tests.doors.http.door_kit import MAX_BODY, RunningHttpDoor, problem, running_door

EVERY_ROUTE = pytest.mark.parametrize(
    "endpoint", ENDPOINTS, ids=lambda endpoint: f"{endpoint.method} {path_of(endpoint)}"
)
CHANGING_ROUTES = [endpoint for endpoint in ENDPOINTS if endpoint.method != "GET"]


def send(door: RunningHttpDoor, endpoint: Endpoint, **headers: str) -> httpx.Response:
    path = re.sub(r"{\w+}", "1", path_of(endpoint))
    body = "{}" if endpoint.method in ("POST", "PATCH") else None
    if body is not None:
        headers.setdefault("content-type", "application/json")
    return door.http.request(endpoint.method, path, content=body, headers=headers)


@EVERY_ROUTE
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.io"]
)
def test_no_route_answers_under_another_name(door: RunningHttpDoor, endpoint: Endpoint, host: str) -> None:
    problem(send(door, endpoint, host=host), 403, "forbidden-host")


@EVERY_ROUTE
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "http://127.0.0.1"])
def test_no_route_answers_a_page_of_another_origin(
    door: RunningHttpDoor, endpoint: Endpoint, origin: str
) -> None:
    problem(send(door, endpoint, origin=origin), 403, "forbidden-origin")


@EVERY_ROUTE
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_no_route_answers_a_request_that_a_browser_marks_as_cross_site(
    door: RunningHttpDoor, endpoint: Endpoint, site: str
) -> None:
    headers = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
    problem(send(door, endpoint, **headers), 403, "forbidden-origin")


@EVERY_ROUTE
def test_neither_a_browser_nor_a_proxy_keeps_a_reply(door: RunningHttpDoor, endpoint: Endpoint) -> None:
    for headers in ({}, {"host": "evil.example"}):
        if (endpoint.handle.__name__, headers) != ("tail", {}):
            assert send(door, endpoint, **headers).headers["cache-control"] == "no-store"


@pytest.mark.parametrize(("method", "path"), [("GET", "/nothing"), ("HEAD", "/livez"), ("BREW", "/livez")])
def test_nor_one_that_no_route_makes(door: RunningHttpDoor, method: str, path: str) -> None:
    assert door.http.request(method, path).headers["cache-control"] == "no-store"
    assert door.http.get("/static/app.js").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/nothing"])
def test_files_and_unknown_paths_are_guarded_as_well(door: RunningHttpDoor, path: str) -> None:
    problem(door.http.get(path, headers={"host": "evil.example"}), 403, "forbidden-host")
    problem(door.http.get(path, headers={"origin": "http://evil.example"}), 403, "forbidden-origin")


def test_a_link_of_another_site_may_open_the_console_but_change_nothing(door: RunningHttpDoor) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert door.http.get("/livez", headers=headers).status_code == 200
    problem(door.http.post("/api/v1/topics", headers=headers, json={"topic": "a"}), 403, "forbidden-origin")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:{port}", "127.0.0.1:{port}", "[::1]:{port}", "localhost:9999"]
)
def test_the_names_of_loopback_are_served_whatever_the_port(door: RunningHttpDoor, host: str) -> None:
    assert door.http.get("/livez", headers={"host": host.format(port=door.port)}).status_code == 200


def test_the_doors_own_page_may_send_requests(door: RunningHttpDoor) -> None:
    headers = {"origin": f"http://{door.address}", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
    assert door.http.post("/api/v1/topics", headers=headers, json={"topic": "own-page"}).status_code == 201


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("shop.example", True),
        ("SHOP.example:8080", True),
        ("192.0.2.7:8080", True),
        ("[2001:db8::1]:8080", True),
        ("evil.example", False),
        ("192.0.2.7.evil.example", False),
        ("192.0.2.7:8080:1", False),
        ("[2001:db8::1]evil", False),
        ("", False),
    ],
)
def test_a_public_server_accepts_its_names_and_any_address(host: str, served: bool) -> None:
    guard = HttpGuard(["shop.example"], any_address=True)
    if served:
        guard.check("GET", [(b"host", host.encode())])
    else:
        with pytest.raises(ForbiddenRequest):
            guard.check("GET", [(b"host", host.encode())])


def test_two_hosts_or_none_are_refused(door: RunningHttpDoor) -> None:
    for head in (f"Host: {door.address}\r\nHost: {door.address}\r\n", "Host: \r\n"):
        with socket.create_connection(("127.0.0.1", door.port)) as sock:
            sock.sendall(f"GET /livez HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
            assert sock.recv(65536).split(b" ")[1] in (b"400", b"403")


@EVERY_ROUTE
def test_every_answer_has_the_headers(door: RunningHttpDoor, endpoint: Endpoint) -> None:
    if endpoint.media == "text/event-stream":
        with door.http.stream("GET", re.sub(r"{\w+}", "none", path_of(endpoint))) as reply:
            headers = dict(reply.headers)
    else:
        headers = dict(send(door, endpoint).headers)
    assert {name: headers.get(name) for name in HEADERS} == HEADERS
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "endpoint",
    [endpoint for endpoint in CHANGING_ROUTES if endpoint.bodies],
    ids=lambda endpoint: endpoint.path,
)
@pytest.mark.parametrize(
    "media", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_content_types_that_a_form_can_send_are_refused(
    door: RunningHttpDoor, endpoint: Endpoint, media: str
) -> None:
    refusal = problem(send(door, endpoint, **{"content-type": media}), 415, "media-type")
    assert "application/json" in refusal["detail"]


@pytest.mark.parametrize(
    "endpoint",
    [endpoint for endpoint in CHANGING_ROUTES if endpoint.bodies],
    ids=lambda endpoint: endpoint.path,
)
def test_a_body_is_limited_with_and_without_content_length(door: RunningHttpDoor, endpoint: Endpoint) -> None:
    path = re.sub(r"{\w+}", "1", path_of(endpoint))
    body = b"[" + b" " * MAX_BODY + b"]"
    headers = {"content-type": "application/json"}
    problem(door.http.request(endpoint.method, path, content=body, headers=headers), 413, "body-too-large")
    in_chunks = (body[start : start + 65536] for start in range(0, len(body), 65536))
    problem(
        door.http.request(endpoint.method, path, content=in_chunks, headers=headers), 413, "body-too-large"
    )


@pytest.mark.parametrize(
    "endpoint", CHANGING_ROUTES, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}"
)
def test_nothing_is_changed_by_get(door: RunningHttpDoor, endpoint: Endpoint) -> None:
    others = {other.method for other in ENDPOINTS if other.path == endpoint.path}
    reply = door.http.get(re.sub(r"{\w+}", "1", path_of(endpoint)))
    if "GET" not in others and not path_of(endpoint).startswith("/api/v1/groups/"):
        refusal = problem(reply, 405, "method")
        assert reply.headers["allow"] == ", ".join(sorted(others))
        assert endpoint.method in refusal["detail"]
    else:
        assert reply.status_code in (200, 404)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "topics", {"topic": "new"}),
        ("DELETE", "topics/kept", None),
        ("PATCH", "topics/kept/settings", {"settings": {"retention.ms": "1"}}),
        ("POST", "topics/kept/partitions", {"total": 5}),
        ("POST", "topics/kept/events", {"value": 1}),
        ("POST", "topics/kept/delete-records", {"partition": 0, "before": -1}),
        ("POST", "groups/g/reset", {"to": "earliest", "topics": ["kept"]}),
        ("DELETE", "groups/kept", None),
    ],
)
def test_a_read_only_door_changes_nothing_at_all(
    tmp_path: Path, method: str, path: str, body: object
) -> None:
    with running_door(tmp_path / "data", changes=False) as door:
        door.run(lambda engine: engine.create_topic("kept"))
        door.run(lambda engine: engine.publish("kept", [NewEvent(b"1")]))
        door.run(lambda engine: engine.set_positions("kept", [Position("kept", 0, 0)]))

        def state() -> tuple[object, ...]:
            return (
                door.get("topics/kept"),
                door.get("groups/kept")["positions"][0]["offset"],
                [topic["topic"] for topic in door.get("topics")["topics"]],  # rates change by themselves
            )

        before = state()
        problem(door.http.request(method, f"/api/v1/{path}", json=body), 403, "not-allowed")
        assert state() == before
        assert door.get("cluster")["read_only"] is True
        dry = {"partition": 0, "before": -1, "dry_run": True}
        assert door.post("topics/kept/delete-records", dry).json()["gone"]["events"] == 1
