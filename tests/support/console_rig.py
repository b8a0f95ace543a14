"""A console in front of a cluster, in this process, and requests to it as some user."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mainstem.access_contract import USER, Operation, Principal, ResourceType, ScramMechanism
from mainstem.authentication.scram import make_verifier
from mainstem.client_security import PLAINTEXT, ClientSecurity
from mainstem.serve.console import ConsoleSettings, RunningConsole, serving
from tests.support.access import allow

LOGIN = "SASL_PLAINTEXT://127.0.0.1:0"
SUPER = "root"


class Answer(NamedTuple):
    """A reply: the status, and the JSON of the body, or of each of its lines."""

    status: int
    body: Any


class ConsoleRig:
    """A console that runs. Each user's password is their name."""

    def __init__(self, running: RunningConsole, ca: Path | None = None) -> None:
        self.running = running
        self.ca = ca
        """Trusted authority, if the console has TLS."""
        self.passwords: dict[str, str] = {}

    async def add_user(self, name: str) -> None:
        """Add a user, whose password is the name."""
        assert self.running.own is not None
        made = make_verifier(ScramMechanism.SHA_256, name, b"salt of a test", 4_096)
        await self.running.own.node.access.put_verifiers(name, [made])

    async def allow(
        self, user: str, operation: Operation, name: str, kind: ResourceType = ResourceType.TOPIC
    ) -> None:
        """Add an entry that allows something."""
        assert self.running.own is not None
        acl = allow(operation, name, Principal(USER, user))._replace(resource_type=kind)
        await self.running.own.node.access.create_acls([acl])

    async def request(self, user: str, method: str, path: str, body: object = None) -> Answer:
        """Send a request as a user; an empty name: without a login."""
        return await asyncio.get_running_loop().run_in_executor(None, self._ask, user, method, path, body)

    def _ask(self, user: str, method: str, path: str, body: object) -> Answer:
        port = self.running.address.port
        if self.ca is not None:
            context = ssl.create_default_context(cafile=str(self.ca))
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "localhost", port, timeout=30, context=context
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {"Content-Type": "application/json"}
        if user.startswith("Bearer "):
            headers["Authorization"] = user
        elif user:
            login = f"{user}:{self.passwords.get(user, user)}"
            headers["Authorization"] = "Basic " + b64encode(login.encode()).decode()
        try:
            connection.request(method, f"/api/v1/{path}", json.dumps(body) if body else None, headers)
            reply = connection.getresponse()
            text = reply.read().decode()
        finally:
            connection.close()
        if reply.headers.get_content_type() == "application/x-ndjson":
            return Answer(reply.status, [json.loads(line) for line in text.splitlines()])
        return Answer(reply.status, json.loads(text) if text else None)


@asynccontextmanager
async def console(
    cluster: str,
    data: Path,
    *,
    http: str = LOGIN,
    security: ClientSecurity = PLAINTEXT,
    **flags: object,
) -> AsyncIterator[ConsoleRig]:
    """A console in front of `cluster`, whose own folder is `data`, with a super user."""
    given: dict[str, object] = {"durability": "os", "super_users": f"User:{SUPER}", **flags}
    settings = ConsoleSettings(
        cluster_address=cluster, http=http, data=str(data), flags=given, security=security
    )
    async with serving(settings) as running:
        rig = ConsoleRig(running)
        if running.own is not None:
            await rig.add_user(SUPER)
        yield rig
