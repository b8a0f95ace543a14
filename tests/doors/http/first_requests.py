"""Sends the first request of every route to a server in this process, and prints the modules that it imported
for them, as JSON: `python -m tests.doors.http.first_requests FOLDER`."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection

from mainstem.doors import DOORS
from mainstem.doors.http.endpoint import Endpoint
from mainstem.doors.http.endpoints import ENDPOINTS
from mainstem.event_loop import loop_factory
from mainstem.serve.server import Running, start
from mainstem.settings import load

TOPIC, GROUP, SUBSCRIPTION, SNAPSHOT, USER = "first", "readers", "workers", "kept", "alice"
TOKEN = "A" * 27
"""A token that no subscription has."""
VERIFIER = {
    "mechanism": "SCRAM-SHA-256",
    "salt": "c2FsdA==",
    "iterations": 4096,
    "stored_key": "a" * 43 + "=",
    "server_key": "a" * 43 + "=",
}
ACL = {
    "resource_type": "TOPIC",
    "name": "orders",
    "principal": "User:alice",
    "operation": "READ",
    "permission": "ALLOW",
}
BODIES: dict[str, object] = {
    "create_topic": {"topic": TOPIC},
    "alter_topic": {"settings": {"retention.ms": "3600000"}},
    "add_partitions": {"total": 2},
    "delete_records": {"partition": 0, "before": 0, "dry_run": True},
    "preview_settings": {"settings": {"retention.ms": "3600000"}},
    "publish": [{"key": "a", "value": {"n": 1}, "timestamp": "2013-06-01T12:00:00Z"}, {"value": "text"}],
    "search": {"query": "n:1", "topics": [TOPIC]},
    "facets": {"query": "", "topics": [TOPIC], "fields": ["n"]},
    "compare": {"selection": {"query": "n:1"}, "baseline": {"query": ""}},
    "export": {"query": "", "topics": [TOPIC], "format": "csv"},
    "replay": {"to": TOPIC, "events": [{"topic": TOPIC, "partition": 0, "offset": 0}]},
    "reset_group": {"topics": [TOPIC], "to": "earliest"},
    "create_subscription": {"subscription": SUBSCRIPTION, "topics": [TOPIC]},
    "make_token": {"name": "n", "expires_in_ms": 60000, "user": "u"},
    "log_in": {"user": "u", "password": "p"},
    "alter_subscription": {"settings": {"lock_ms": 20_000}},
    "pull_events": {"consumer": "c"},
    "ack_events": {"tokens": [TOKEN]},
    "nack_events": {"tokens": [TOKEN]},
    "reject_events": {"tokens": [TOKEN]},
    "extend_leases": {"tokens": [TOKEN], "lock_ms": 1_000},
    "take_snapshot": {"snapshot": SNAPSHOT},
    "seek_subscription": {"to": "earliest"},
    "purge_subscription": {},
    "wake_events": {},
    "cancel_events": {"dry_run": True},
    "add_user": {"user": USER, "verifiers": [VERIFIER]},
    "change_user": {"verifiers": [VERIFIER]},
    "add_acls": {"acls": [ACL]},
    "delete_acls": {"acls": [ACL]},
    "test_access": {
        "principal": "User:alice",
        "operation": "READ",
        "resource_type": "TOPIC",
        "name": "orders",
    },
    "put_masking_rule": {"rule": "cards", "topic": "masked", "path": "card", "kind": "hidden"},
    "set_quota": {"user": USER, "producer_byte_rate": 1e9},
    "delete_quota": {"user": USER},
    "preview_masking_rule": {
        "rule": {"rule": "cards", "topic": TOPIC, "path": "card", "kind": "last4"},
        "topic": TOPIC,
    },
    "redrive_subscription": {"positions": [{"topic": TOPIC, "partition": 0, "offset": 0}]},
}
QUERIES = {
    "read_events": "time=2013-06-01",
    "tail": "from=begin&q=n:1",
    "histogram": f"topics={TOPIC}",
    "trace": f"value=a&topics={TOPIC}",
    "check_query": "q=n:1",
    "query_fields": f"topic={TOPIC}",
}
FIRST = ("create_topic", "add_user", "publish", "create_subscription", "take_snapshot")
LAST = (
    "delete_masking_rule",
    "delete_user",
    "delete_snapshot",
    "delete_subscription",
    "delete_group",
    "delete_topic",
)
ORDER = (*FIRST, "", *LAST)
"""The routes that come first and last; the others are between them."""
OTHERS = (("GET", "/"), ("GET", "/static/app.js"), ("GET", "/nothing"), ("BREW", "/livez"))


def requests() -> Iterator[tuple[str, str, bytes | None]]:
    """Method, path and body of each request; topic, group and subscription exist until the end."""
    for endpoint in sorted(ENDPOINTS, key=_place):
        yield _request_of(endpoint)
    for method, path in OTHERS:
        yield method, path, None


def _place(endpoint: Endpoint) -> int:
    name = endpoint.handle.__name__
    return ORDER.index(name if name in ORDER else "")


def _request_of(endpoint: Endpoint) -> tuple[str, str, bytes | None]:
    name = endpoint.handle.__name__
    path = endpoint.path.replace("{topic}", TOPIC).replace("{group:text}", GROUP).replace("{partition}", "0")
    path = path.replace("{subscription:word}", SUBSCRIPTION).replace("{offset}", "0")
    path = path.replace("{snapshot:word}", SNAPSHOT).replace("{token:word}", "t").replace("{user:text}", USER)
    path = path.replace("{rule:word}", "cards")
    body = BODIES.get(name)
    return (
        endpoint.method,
        f"{path}?{QUERIES[name]}" if name in QUERIES else path,
        None if body is None else json.dumps(body).encode(),
    )


def _send(address: str, replies: dict[str, int]) -> None:
    for method, path, body in requests():
        connection = HTTPConnection(address, timeout=30)
        connection.request(method, path, body, {} if body is None else {"content-type": "application/json"})
        reply = connection.getresponse()
        if not path.startswith(f"/api/v1/topics/{TOPIC}/tail"):  # which never ends
            reply.read()
        replies[f"{method} {path}"] = reply.status
        connection.close()


async def _main(folder: str) -> None:
    values = {"data": folder, "kafka": "127.0.0.1:0", "http": "127.0.0.1:0"}
    values["push_issuer"] = "http://127.0.0.1:8080"
    running: Running = await start(
        load(values, of_doors=[setting for door in DOORS for setting in door.definitions])
    )
    replies: dict[str, int] = {}
    while any(slot.opened is None for slot in running._listeners._slots.values()):
        await asyncio.sleep(0.01)
    before = set(sys.modules)
    client = threading.Thread(target=_send, args=(str(running.addresses["http"][0]), replies))
    client.start()
    while client.is_alive():
        await asyncio.sleep(0.01)
    print(json.dumps({"imported": sorted(set(sys.modules) - before), "replies": replies}))
    await running.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_main(sys.argv[1]))
