"""The REST form of the API, at a running server."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from mainstem.access_contract import ANONYMOUS, Requester
from mainstem.doors.pubsub import rest
from mainstem.doors.pubsub.acknowledging import SOME_INVALID, failure_details
from mainstem.doors.pubsub.calls import Code, RpcCall, RpcError, RpcMethod
from mainstem.doors.pubsub.dispatcher import MethodDispatcher
from mainstem.doors.pubsub.http1 import CALLER_KEY
from mainstem.doors.pubsub.rest import RestApp
from mainstem.quota_contract import NoQuotas
from mainstem.serve.server import Running
from tests.doors.pubsub.test_server import run
from tests.support.clock import SimClock

PROJECT = "/v1/projects/mainstem"
TOPIC, NAME = f"{PROJECT}/topics/flights", f"{PROJECT}/subscriptions/gates"


def with_client(folder: Path, scenario: Callable[[Running, httpx.AsyncClient], Awaitable[None]]) -> None:
    async def body(running: Running) -> None:
        url = f"http://{running.addresses['pubsub'][0]}"
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            await scenario(running, client)

    run(folder, body)


async def succeed(client: httpx.AsyncClient, method: str, path: str, body: object = None) -> Any:
    response = await client.request(method, path, json=body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json; charset=UTF-8"
    return response.json()


def test_a_message_from_publish_to_acknowledge(tmp_path: Path) -> None:
    async def scenario(running: Running, client: httpx.AsyncClient) -> None:
        topic, name = TOPIC.removeprefix("/v1/"), NAME.removeprefix("/v1/")
        made = await succeed(client, "PUT", TOPIC, {"name": topic, "labels": {"team": "gates"}})
        assert made == {"name": topic, "labels": {"team": "gates"}, "state": "ACTIVE"}
        subscription = {"topic": topic, "ackDeadlineSeconds": 30, "enableMessageOrdering": True}
        made = await succeed(client, "PUT", NAME, subscription)
        assert (made["name"], made["messageRetentionDuration"]) == (name, "604800s")
        changes = {"topic": {"labels": {"team": "desk"}}, "updateMask": "labels"}
        assert (await succeed(client, "PATCH", TOPIC, changes))["labels"] == {"team": "desk"}
        data = b64encode(b"LH 7 \xff\xfe").decode()
        message = {"data": data, "attributes": {"to": "Köln"}, "orderingKey": "gate-7"}
        ids = (await succeed(client, "POST", f"{TOPIC}:publish", {"messages": [message]}))["messageIds"]
        pulled = await succeed(client, "POST", f"{NAME}:pull", {"maxMessages": 10})
        (received,) = pulled["receivedMessages"]
        assert received["message"].pop("publishTime").endswith("Z")
        assert received["message"] == {**message, "messageId": ids[0]}
        assert await succeed(client, "POST", f"{NAME}:acknowledge", {"ackIds": [received["ackId"]]}) == {}
        assert await succeed(client, "GET", f"{TOPIC}/subscriptions") == {"subscriptions": [name]}
        listed = await succeed(client, "GET", f"{PROJECT}/topics?pageSize=5&prettyPrint=false")
        assert [item["name"] for item in listed["topics"]] == [topic]
        assert await succeed(client, "DELETE", TOPIC) == {}

    with_client(tmp_path, scenario)


def test_errors_have_googles_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "BODY_BYTES_MAX", 1 << 20)

    async def scenario(running: Running, client: httpx.AsyncClient) -> None:
        await succeed(client, "PUT", TOPIC)
        for method, path, content, status, code in (
            ("GET", f"{TOPIC}s", b"", 404, "NOT_FOUND"),
            ("PUT", TOPIC, b"{}", 409, "ALREADY_EXISTS"),
            ("POST", f"{TOPIC}:publish", b'{"messages": [{}]}', 400, "INVALID_ARGUMENT"),
            ("POST", f"{TOPIC}:publish", b'{"messages": [{"data": "x"}]}', 400, "INVALID_ARGUMENT"),
            ("POST", f"{TOPIC}:publish", b'{"messages": ', 400, "INVALID_ARGUMENT"),
            ("POST", f"{TOPIC}:publish", b"[" * 100_000, 400, "INVALID_ARGUMENT"),
            ("POST", f"{TOPIC}:publish", b" " * (2 << 20), 400, "INVALID_ARGUMENT"),
            ("POST", f"{TOPIC}:shout", b"{}", 404, "NOT_FOUND"),
            ("GET", "/v2/topics", b"", 404, "NOT_FOUND"),
            ("GET", f"{TOPIC}?a=%ff", b"", 400, "INVALID_ARGUMENT"),
            ("GET", f"{TOPIC}?" + "&".join(["a=1"] * 101), b"", 400, "INVALID_ARGUMENT"),
        ):
            response = await client.request(method, path, content=content)
            error = response.json()["error"]
            assert (response.status_code, error["code"], error["status"]) == (status, status, code), error
            assert error["message"]
            assert ".." not in error["message"]
            assert response.text.endswith("}\n")  # for people with curl
        response = await client.put(f"{TOPIC}2", content=b"x", headers={"content-encoding": "br"})
        assert response.status_code == 400

    with_client(tmp_path, scenario)


def test_an_error_has_its_details() -> None:
    details = failure_details(["gone"], ["taken"])
    content = rest.error_body(RpcError(Code.INVALID_ARGUMENT, SOME_INVALID, details))
    assert content["error"]["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "EXACTLY_ONCE_ACKID_FAILURE",
            "domain": "pubsub.googleapis.com",
            "metadata": {"gone": "PERMANENT_FAILURE_INVALID_ACK_ID", "taken": "TRANSIENT_FAILURE_RETRY"},
        }
    ]
    assert content["error"]["code"] == 400


def test_a_pull_answers_before_its_client_gives_up(tmp_path: Path) -> None:
    async def scenario(running: Running, client: httpx.AsyncClient) -> None:
        await succeed(client, "PUT", TOPIC)
        await succeed(client, "PUT", NAME, {"topic": TOPIC.removeprefix("/v1/")})
        headers = {"x-server-timeout": "0.1"}
        response = await client.post(f"{NAME}:pull", json={"maxMessages": 1}, headers=headers)
        assert (response.status_code, response.json()) == (200, {})

    with_client(tmp_path, scenario)


def test_a_call_ends_with_its_client() -> None:
    async def scenario() -> None:
        began, ended, path = asyncio.Event(), asyncio.Event(), "/google.pubsub.v1.Subscriber/Pull"

        async def pull(call: RpcCall, data: bytes) -> bytes:
            assert call.deadline is not None
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return b""

        context: Any = SimpleNamespace(
            clock=SimClock(),
            read_only=False,
            views=SimpleNamespace(limit=lambda _: False),
            access=SimpleNamespace(quotas=NoQuotas()),
        )
        dispatcher = MethodDispatcher(context, {path: RpcMethod(unary=pull, rights=())})
        parts = iter([{"type": "http.request", "body": b"{}", "more_body": False}])

        async def receive() -> Any:
            for part in parts:
                return part
            await began.wait()
            return {"type": "http.disconnect"}

        async def send(_: Any) -> None:
            raise AssertionError("an answer")

        caller = SimpleNamespace(requester=lambda _: Requester(principal=ANONYMOUS, host="127.0.0.1"))
        scope = {
            "method": "POST",
            "raw_path": f"{NAME}:pull".encode(),
            "query_string": b"",
            "headers": [],
            "state": {CALLER_KEY: caller},
        }
        await RestApp(context, dispatcher)(scope, receive, send)
        assert ended.is_set()
        assert dispatcher.counts == {(path, Code.CANCELLED): 1}

    asyncio.run(scenario())


def test_a_body_of_many_values_or_for_a_small_method_is_refused(tmp_path: Path) -> None:
    """Four millions of empty messages would occupy the server for ten seconds."""

    async def scenario(running: Running, client: httpx.AsyncClient) -> None:
        await succeed(client, "PUT", TOPIC)
        many = b'{"messages":[' + b"{}," * rest.VALUES_MAX + b"{}]}"
        response = await client.post(f"{TOPIC}:publish", content=many)
        assert (response.status_code, "more than" in response.text) == (400, True)
        response = await client.put(f"{TOPIC}s", content=b" " * (5 << 20))
        assert (response.status_code, "exceeds the limit" in response.text) == (400, True)
        items = [{"data": "", "attributes": {f"k{i}": "" for i in range(100)}}] * 1_000
        await succeed(client, "POST", f"{TOPIC}:publish", {"messages": items})

    with_client(tmp_path, scenario)
