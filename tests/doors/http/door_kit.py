"""A real HTTP door on a free port, over an embedded node, in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from mainstem.access_contract import ScramMechanism
from mainstem.authentication.scram import make_verifier
from mainstem.clock import LoopClock
from mainstem.contract import Engine
from mainstem.doors.contract import Access, DiskUsage
from mainstem.doors.http.server import HttpDoor
from mainstem.doors.net.security import SecurityProtocol
from mainstem.engines.authorized.engine import AuthorizedViews
from mainstem.engines.embedded.access_admin import TranslatedAdmin
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.engines.embedded.quota_admin import TranslatedQuotas
from mainstem.engines.embedded.token_store import TranslatedTokens
from mainstem.engines.read_only import read_only
from mainstem.log.disk.real_disk import RealDisk
from mainstem.log.disk.space_guard import SpaceGuard
from mainstem.node import Node
from mainstem.search.local.search import LogSearch
from mainstem.serve.authentication import ServerAuthentication
from mainstem.settings import Settings
from tests.support.listening import ListeningDoor
from tests.support.memory_masks import MemoryMasks
from tests.support.rule_authorizer import RuleAuthorizer

T = TypeVar("T")
MAX_BODY = 1 << 20
SEGMENT_BYTES = 1 << 20


class RunningHttpDoor:
    """A running door: `http` is a client of it; `run` calls a function with the engine, in the door's
    loop."""

    def __init__(self, folder: Path, options: dict[str, Any], wrap: Callable[[Engine], Engine]) -> None:
        self.folder = folder
        self._options = options
        self._wrap = wrap
        self._security = SecurityProtocol(options.pop("security", SecurityProtocol.PLAINTEXT))
        self._ready = threading.Event()
        self.loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self.rules = RuleAuthorizer()
        """Access control: off until a test adds a rule."""
        self.masks = MemoryMasks()
        """Masking rules: none until a test adds some."""
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="door", daemon=True)
        self._thread.start()
        assert self._ready.wait(30)
        if self._failed is not None:
            raise self._failed
        self.http = httpx.Client(base_url=f"http://{self.address}", timeout=30, trust_env=False)

    def _run(self) -> None:
        try:
            self.loop.run_until_complete(self._serve())
        except BaseException as error:
            self._failed = error
            self._ready.set()
        finally:
            self.loop.close()

    async def _serve(self) -> None:
        clock = LoopClock(self.loop)
        disk = RealDisk(self.folder, self.loop)
        self.node = await Node.open(
            Settings(data=str(self.folder), durability="os", log_segment_bytes=SEGMENT_BYTES),
            disk,
            clock,
            random.Random(7),
        )
        self.engine = EmbeddedEngine(self.node)
        options: dict[str, Any] = {
            "version": "1.2.3",
            "kafka_address": "127.0.0.1:9092",
            "max_body_bytes": MAX_BODY,
        } | self._options
        if "disk_usage" not in options:
            options["disk_usage"] = lambda: DiskUsage(used_bytes=1, free_bytes=2, total_bytes=3)
        self.search = LogSearch(self.engine, self.folder, clock, workers=1)
        self.authentication = ServerAuthentication(Settings(), self.node.access, clock, None)
        engine = self._wrap(self.engine)
        self.door = HttpDoor(
            engine,
            clock,
            access=Access(
                authorizer=self.rules,
                admin=TranslatedAdmin(self.node.access, engine is not self.engine),
                authentication=self.authentication,
                masks=self.masks,
                quotas=TranslatedQuotas(self.node.quotas, engine is not self.engine),
                api_tokens=TranslatedTokens(self.node.api_tokens, engine is not self.engine),
            ),
            views=AuthorizedViews(engine, lambda: self.search, self.rules, self.masks, clock),
            search=lambda: self.search,
            **options,
        )
        await self.door.start()
        mechanisms = ("PLAIN", "OAUTHBEARER") if self._security.authenticates else ()
        listening = ListeningDoor(self.door, clock, security=self._security, mechanisms=mechanisms)
        self.port = listening.address[1]
        self.address = f"127.0.0.1:{self.port}"
        self._ready.set()
        await self._stop.wait()
        await listening.close()
        self.authentication.close()
        await self.search.close()
        await self.engine.close()
        await self.node.close()

    def run(self, work: Callable[[EmbeddedEngine], Awaitable[T]]) -> T:
        """Call `work` with the engine."""

        async def inner() -> T:
            return await work(self.engine)

        return asyncio.run_coroutine_threadsafe(inner(), self.loop).result(30)

    def post(self, path: str, body: object) -> httpx.Response:
        """POST JSON below /api/v1/."""
        return self.http.post(f"/api/v1/{path}", json=body)

    def post_lines(self, path: str, body: object) -> list[dict[str, Any]]:
        """POST JSON below /api/v1/; returns the lines of the reply, which must be NDJSON."""
        reply = self.post(path, body)
        assert reply.status_code == 200, reply.text
        assert reply.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in reply.text.splitlines()]

    def get(self, path: str, **query: object) -> Any:
        """The JSON of a GET below /api/v1/, which must succeed."""
        reply = self.http.get(f"/api/v1/{path}", params={name: str(value) for name, value in query.items()})
        assert reply.status_code == 200, reply.text
        return reply.json()

    def create_topic(self, name: str, partitions: int = 1, **settings: str) -> str:
        """Create a topic; returns its name."""
        dotted = {name.replace("_", "."): value for name, value in settings.items()}
        reply = self.post("topics", {"topic": name, "partitions": partitions, "settings": dotted})
        assert reply.status_code == 201, reply.text
        return name

    def close(self) -> None:
        """Stop the door."""
        self.http.close()
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self._failed is not None:
            raise self._failed


@contextmanager
def running_door(folder: Path, *, changes: bool = True, **options: Any) -> Iterator[RunningHttpDoor]:
    """Run a door; with `changes=False`, one that refuses every change."""
    wrap: Callable[[Engine], Engine] = (lambda engine: engine) if changes else read_only
    door = RunningHttpDoor(folder, options | {"read_only": not changes}, wrap)
    try:
        yield door
    finally:
        door.close()


def add_user(door: RunningHttpDoor, user: str, password: str) -> None:
    """Set the password of a user."""
    verifier = make_verifier(ScramMechanism.SHA_256, password, user.encode() * 4, 4_096)

    async def put(_: EmbeddedEngine) -> None:
        await door.node.access.put_verifiers(user, [verifier])

    door.run(put)


def until(condition: Callable[[], bool], *, limit_s: float = 10.0) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "the condition is not met"
        time.sleep(0.01)


def problem(reply: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Assert that a reply is this problem; returns its members."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    members: dict[str, Any] = reply.json()
    assert members["type"] == f"urn:mainstem:{kind}"
    assert members["status"] == status
    assert members["title"]
    assert members["detail"]
    assert members["fix"]
    return members


@contextmanager
def full_disk(door: RunningHttpDoor) -> Iterator[None]:
    """Let topics refuse events because the disk is full; the periodic check cannot find it otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SpaceGuard, "_decide", lambda guard: None)
        door.node.space_guard.rejection_reason = "the disk is full"
        yield
        door.node.space_guard.rejection_reason = None


def refusal(reply: httpx.Response) -> str:
    """The reason for which a request was refused that its sender can correct."""
    assert 400 <= reply.status_code < 500
    return str(reply.json()["detail"])


def audit_fields(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The fields of the audit lines since the last call, except those of created topics."""
    lines = [record.__dict__["fields"] for record in caplog.records if record.name == "mainstem.audit"]
    caplog.clear()
    return [fields for fields in lines if fields["action"] != "create-topic"]


def create_orders(door: RunningHttpDoor, topic: str = "orders", **fields: str) -> None:
    """Create a topic of two partitions, with twenty events of alternating cities that also have `fields`."""
    door.create_topic(topic, 2)
    rows = [
        {
            "value": {"order": number, "city": "Zürich" if number % 2 else "Bern", **fields},
            "key": f"k{number % 3}",
            "timestamp_ms": 1_600_000_000_000 + number * 1000,
            "partition": number % 2,
        }
        for number in range(20)
    ]
    assert door.post(f"topics/{topic}/events", rows).status_code == 200
