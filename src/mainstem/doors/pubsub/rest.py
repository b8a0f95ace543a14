"""The API of Pub/Sub as REST: requests of HTTP/1.1 with JSON call the same methods as gRPC.

Owns: bodies and their limits, the form of answers and errors, and calls whose client is gone. Refuses: what
there is no rule for (`mainstem.pubsub.http_rules`), and to know what a method does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

from mainstem.doors.pubsub.calls import Code, RpcCall, RpcError
from mainstem.doors.pubsub.http1 import CALLER_KEY
from mainstem.pubsub.http_rules import RequestInvalid, find_rule, json_of, request_of

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from mainstem.doors.contract import DoorContext
    from mainstem.doors.pubsub.dispatcher import MethodDispatcher

BODY_BYTES_MAX = 20 << 20
"""The largest request of Pub/Sub has 10 MiB, which base64 makes a third longer."""
VALUES_MAX = 250_000
"""Objects, lists, texts and numbers in a body: the largest request has 1,000 messages with 100 attributes."""
BODIES_BYTES_MAX = 128 << 20
"""Memory of the bodies of all requests together."""
BODY_TIMEOUT_S = 30.0
"""How long a body may take to arrive."""
PARAMETERS_MAX = 100
WAIT_S = 9.0
"""How long the client of a call that waits is assumed to wait: some give up after 10 s, and say nothing of
it. The header `x-server-timeout` says otherwise, in seconds."""
WAIT_S_MAX = 900.0
HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
"""As google/rpc/code.proto has them."""


class ClientGone(Exception):
    """The error if the client has closed the connection, and reads no answer."""


class RestApp:
    """The ASGI application."""

    def __init__(self, context: DoorContext, dispatcher: MethodDispatcher) -> None:
        self._clock = context.clock
        self._dispatcher = dispatcher
        self._body_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        memory = _ReservedBytes(self)
        try:
            content = await self._answer(scope, receive, memory)
            status = 200
        except RpcError as error:
            status = HTTP_STATUS[error.code]
            content = error_body(error)
        except ClientGone:
            return
        finally:
            memory.free()
        data = msgspec.json.encode(content) + b"\n"
        headers = [
            (b"content-type", b"application/json; charset=UTF-8"),
            (b"content-length", b"%d" % len(data)),
        ]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    async def _answer(self, scope: Scope, receive: Receive, memory: _ReservedBytes) -> Any:
        """JSON of the answer. RpcError, ClientGone."""
        match = find_rule(scope["method"], scope["raw_path"].decode("latin-1"))
        if match is None:
            raise RpcError(Code.NOT_FOUND, "Method not found.")
        rule, values = match
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        requester = scope["state"][CALLER_KEY].requester(headers.get("authorization"))
        call = RpcCall(
            method=rule.path,
            metadata=headers,
            requester=await requester if hasattr(requester, "then") else requester,
            peer=":".join(map(str, (scope.get("client") or ("unknown",))[:2])),
            deadline=self._clock.monotonic() + _wait_s(headers),
        )
        memory.bytes_max = min(BODY_BYTES_MAX, 2 * self._dispatcher.find(rule.path).bytes_max)
        body = await _read_body(receive, memory, headers)
        try:
            query = parse_qsl(
                scope["query_string"].decode("latin-1"),
                keep_blank_values=True,
                max_num_fields=PARAMETERS_MAX,
                errors="strict",
            )
            request = request_of(rule, values, query, _json(body))
        except (RequestInvalid, ValueError) as error:
            raise RpcError(Code.INVALID_ARGUMENT, str(error)) from None
        answer = await self._call(call, request, receive)
        return json_of(rule.response_type, answer)

    async def _call(self, call: RpcCall, request: bytes, receive: Receive) -> bytes:
        """Call the method, until the client is gone: what is pulled then would be lost for a time."""
        calling = asyncio.ensure_future(self._dispatcher.call_unary(call, request))
        leaving = asyncio.ensure_future(_until_gone(receive))
        try:
            await asyncio.wait((calling, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not calling.done():
                raise ClientGone
            return calling.result()
        finally:
            for task in (calling, leaving):
                if not task.done():
                    task.cancel()
                    with suppress(asyncio.CancelledError, RpcError):
                        await task

    def reserve(self, count: int) -> bool:
        """Reserve memory for a body. False: there is none now."""
        if self._body_bytes + count > BODIES_BYTES_MAX:
            return False
        self._body_bytes += count
        return True

    def release(self, count: int) -> None:
        """Give memory back."""
        self._body_bytes -= count


class _ReservedBytes:
    """What is reserved for the body of a request."""

    def __init__(self, app: RestApp) -> None:
        self._app = app
        self._size = 0
        self.bytes_max = BODY_BYTES_MAX

    def add(self, count: int) -> None:
        """Reserve more. RpcError: the body is too large, or there is no memory now."""
        if self._size + count > self.bytes_max:
            text = f"Request payload size exceeds the limit: {self.bytes_max} bytes."
            raise RpcError(Code.INVALID_ARGUMENT, text)
        if not self._app.reserve(count):
            raise RpcError(Code.UNAVAILABLE, "other requests use all memory for bodies now")
        self._size += count

    def free(self) -> None:
        """Give it back."""
        self._app.release(self._size)
        self._size = 0


async def _read_body(receive: Receive, memory: _ReservedBytes, headers: dict[str, str]) -> bytes:
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise RpcError(Code.INVALID_ARGUMENT, f"the encoding {encoding[:50]} of the body is not supported")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                part = await receive()
                if part["type"] == "http.disconnect":
                    raise ClientGone
                chunk = part.get("body", b"")
                memory.add(len(chunk))
                body += chunk
                if not part.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise RpcError(Code.DEADLINE_EXCEEDED, "the body did not arrive in time") from None


async def _until_gone(receive: Receive) -> None:
    """Wait until the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _json(body: bytes) -> object:
    """The body; None: it is empty. RequestInvalid."""
    if not body.strip():
        return None
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RequestInvalid(f"Invalid JSON payload received. {error}") from None
    if not _is_small(content):
        raise RequestInvalid(f"Invalid JSON payload received. It has more than {VALUES_MAX:,} values.")
    return content


def _is_small(content: object) -> bool:
    """Whether it has at most VALUES_MAX values: the conversion to a message takes microseconds for each."""
    count, waiting = 0, [content]
    while waiting:
        value = waiting.pop()
        parts: Iterable[object] = ()
        if isinstance(value, dict):
            count, parts = count + len(value), value.values()
        elif isinstance(value, list):
            count, parts = count + len(value), value
        if count > VALUES_MAX:
            return False
        waiting += [part for part in parts if isinstance(part, dict | list)]
    return True


def _wait_s(headers: dict[str, str]) -> float:
    try:
        seconds = float(headers.get("x-server-timeout", ""))
    except ValueError:
        return WAIT_S
    return seconds if 0 < seconds <= WAIT_S_MAX else WAIT_S


def error_body(error: RpcError) -> dict[str, Any]:
    """Google's JSON of an error."""
    content: dict[str, Any] = {
        "code": HTTP_STATUS[error.code],
        "message": error.message,
        "status": error.code.name,
    }
    if error.details and (details := json_of("google.rpc.Status", error.details).get("details")):
        content["details"] = details
    return {"error": content}
