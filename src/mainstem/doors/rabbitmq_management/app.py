"""Answers requests: finds the route, checks the right to it, and turns its result into a response.

Owns: the path prefixes, the order of checks, and the bytes of responses. Refuses: what the guard forbids, a
path without a route, a method that a path does not have, and every change on a server that refuses changes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

from mainstem.access_contract import Operation, ResourceType
from mainstem.amqp.errors import AmqpError
from mainstem.contract import NotAuthorized, StreamError
from mainstem.doors.net.http_guard import ForbiddenRequest, HttpGuard
from mainstem.doors.net.limits import MemoryBudget
from mainstem.doors.rabbitmq_management.accounting import charge, check_quota, handled
from mainstem.doors.rabbitmq_management.bodies import BUDGET_BYTES, BodyReader
from mainstem.doors.rabbitmq_management.callers import requester_of, shown_name
from mainstem.doors.rabbitmq_management.endpoints import ROUTES, ManagementRoutes
from mainstem.doors.rabbitmq_management.refusals import ApiRefusal, access_refused, not_in_api, refusal_of
from mainstem.doors.rabbitmq_management.request import (
    ApiAnswer,
    ManagementContext,
    ManagementRequest,
    Tag,
)
from mainstem.quota_contract import QuotaKey

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from mainstem.access_contract import Requester

log = logging.getLogger("mainstem.rabbitmq_management")
API = "/api"
METRICS = ("/metrics", "/metrics/per-object")
"""Paths beside the API."""
PREFIX = "/rabbitmq"
"""In front of the API's paths on the HTTP door."""
PEER_KEY = "management_peer"
"""Where the state of a request at the door's own address has its connection."""
REQUESTER_KEY = "requester"
"""Where the state of a request to the HTTP door has who sends it."""
FIELDS_MAX = 100
OPERATION_OF_TAG = {Tag.MONITORING: Operation.DESCRIBE, Tag.ADMINISTRATOR: Operation.ALTER}
HEADERS = [(b"cache-control", b"no-cache"), (b"x-content-type-options", b"nosniff")]


class ManagementApp:
    """The ASGI application."""

    def __init__(self, context: ManagementContext, guard: HttpGuard) -> None:
        self._context = context
        self._guard = guard
        self._table = ManagementRoutes(ROUTES)
        self._budget = MemoryBudget(context.door.clock, BUDGET_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        body = BodyReader(receive, self._budget)
        try:
            answer, content = await self._answer(scope, body)
            headers = [] if not content else [(b"content-type", answer.media.encode())]
            if answer.location is not None:
                headers.append((b"location", answer.location.encode()))
            status = answer.status
        except ApiRefusal as refusal:
            status, content = refusal.status, refusal.body
            headers = [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
            headers.append((b"content-type", b"application/json"))
        finally:
            body.close()
        if status != 204:
            headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": [*headers, *HEADERS]})
        is_head = scope["method"] == "HEAD"
        await send({"type": "http.response.body", "body": b"" if is_head else content})

    async def _answer(self, scope: Scope, body: BodyReader) -> tuple[ApiAnswer, bytes]:
        try:
            if PEER_KEY in scope.get("state", {}):  # else the HTTP door has checked it
                self._guard.check(scope["method"], scope["headers"])
            path = _api_path(scope)
            methods, parameters = self._table.find(path)
            route = methods.get("GET" if scope["method"] == "HEAD" else scope["method"])
            request = await self._request(scope, parameters, body)
            if not methods:
                raise not_in_api()
            if route is None:
                allow = ", ".join(sorted({*methods, "OPTIONS"}))
                raise ApiRefusal(405, "method_not_allowed", "Method Not Allowed", headers={"allow": allow})
            if route.changes and self._refuses_changes(scope):
                raise ApiRefusal(403, "read_only", "this server refuses changes")
            _check_tag(request, route.rights)
            check_quota(request, route)
            answer = await handled(request, route)
            content = _encoded(answer)
            charge(request, route, len(content) if route.quota is QuotaKey.FETCH else body.counted_bytes)
            return answer, content
        except ForbiddenRequest as error:
            raise ApiRefusal(403, error.kind, error.detail) from None
        except (AmqpError, StreamError) as error:
            raise refusal_of(error) from error
        except ApiRefusal:
            raise
        except Exception:
            log.exception("%s %s failed: the client got status 500", scope["method"], scope["path"])
            raise ApiRefusal(500, "internal_error", "the server's log has the details") from None

    def _refuses_changes(self, scope: Scope) -> bool:
        """Whether the server does: this door, or the HTTP door if the request came there."""
        door = self._context.door
        is_of_http = PEER_KEY not in scope.get("state", {})
        return door.read_only or (is_of_http and bool(door.settings.door_values["http_read_only"]))

    async def _request(self, scope: Scope, parameters: dict[str, str], body: BodyReader) -> ManagementRequest:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        credentials = headers.get(b"authorization")
        requester, is_anonymous = await self._requester(scope, credentials)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)[:FIELDS_MAX]
        return ManagementRequest(
            self._context,
            requester,
            shown_name(credentials, requester, is_anonymous=is_anonymous),
            parameters,
            dict(query),
            body,
            headers.get(b"x-reason", "")[:255],
            is_anonymous=is_anonymous,
        )

    async def _requester(self, scope: Scope, credentials: str | None) -> tuple[Requester, bool]:
        """Who sends the request, and whether nothing proves it."""
        state = scope.get("state", {})
        peer = state.get(PEER_KEY)
        if peer is None:
            requester: Requester = state[REQUESTER_KEY]
        else:
            requester = await requester_of(
                credentials,
                listener=peer.listener,
                host=peer.host,
                principal=peer.principal,
                authentication=self._context.door.access.authentication,
            )
        return requester, requester.principal.name == "ANONYMOUS"


def _api_path(scope: Scope) -> str:
    """The path below `/api`, or that of metrics, as it was sent."""
    raw = scope.get("raw_path") or scope["path"].encode()
    path: str = raw.decode("latin-1").partition("?")[0]
    path = path.removeprefix(PREFIX)
    if path in METRICS:
        return path
    if not path.startswith(API + "/") or path.removeprefix(API) in METRICS:
        raise not_in_api()
    return path.removeprefix(API)


def _check_tag(request: ManagementRequest, tag: Tag) -> None:
    """ApiRefusal unless the requester has the tag. The audit learns of it."""
    operation = OPERATION_OF_TAG.get(tag)
    if operation is None:
        return
    try:
        request.rights.require(operation, ResourceType.CLUSTER)
    except NotAuthorized:
        raise access_refused() from None


def _encoded(answer: ApiAnswer) -> bytes:
    if answer.value is None:
        return b""
    if isinstance(answer.value, str) and not answer.media.startswith("application/json"):
        return answer.value.encode()
    value: Any = answer.value
    return msgspec.json.encode(value)
