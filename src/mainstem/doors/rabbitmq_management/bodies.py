"""The bodies of requests to the management API: received within limits, and read as RabbitMQ reads them.

Owns: those limits, and the words for what is missing or of another type. Refuses: bodies that are too large,
too slow, or no JSON object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from mainstem.doors.rabbitmq_management.refusals import ApiRefusal, bad_request

if TYPE_CHECKING:
    from starlette.types import Receive

    from mainstem.doors.net.limits import MemoryBudget

BODY_BYTES_MAX = 1 << 20
LARGE_BODY_BYTES_MAX = 16 << 20
"""Of definitions and of published messages."""
BODY_TIMEOUT_S = 30.0
"""How long a body may take to arrive."""
BUDGET_BYTES = 64 << 20
"""Memory of the bodies of all requests together."""
DEPTH_MAX = 64
"""How deep values of a body may be nested."""


class BodyReader:
    """Receives one body. Its memory is counted until `close`."""

    def __init__(self, receive: Receive, budget: MemoryBudget) -> None:
        self._receive = receive
        self._budget = budget
        self._counted_bytes = 0

    @property
    def counted_bytes(self) -> int:
        """How much was read."""
        return self._counted_bytes

    async def read(self, limit: int) -> bytes:
        """The whole body. ApiRefusal: it is larger than `limit`, takes longer than BODY_TIMEOUT_S, or there
        is no memory for it."""
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                while True:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise bad_request("the client closed the connection")
                    chunk = message.get("body", b"")
                    if len(body) + len(chunk) > limit:
                        raise ApiRefusal(413, "payload_too_large", f"the body is larger than {limit} bytes")
                    self._count(len(chunk))
                    body += chunk
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise ApiRefusal(408, "request_timeout", "the body took too long to arrive") from None

    def _count(self, count: int) -> None:
        if not self._budget.reserve(self, count):
            raise ApiRefusal(503, "service_unavailable", "the bodies of other requests hold all memory")
        self._counted_bytes += count

    def on_capacity(self) -> None:
        """Called by the budget; a refused request does not wait for memory."""

    def close(self) -> None:
        """The request has ended: its memory is free."""
        self._budget.stop_waiting(self)
        self._budget.release(self._counted_bytes)
        self._counted_bytes = 0


def json_object(data: bytes) -> dict[str, Any]:
    """The body as a JSON object; an empty one counts as `{}`."""
    try:
        value = msgspec.json.decode(data or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_request("not_json") from None
    if not isinstance(value, dict) or not _is_shallow(value, DEPTH_MAX):
        raise bad_request("not_json")
    return value


def _is_shallow(value: Any, depth: int) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return True
    return depth > 0 and all(_is_shallow(item, depth - 1) for item in value)


def require_keys(body: Mapping[str, Any], *names: str) -> None:
    """ApiRefusal if one of these members is not there."""
    missing = [name for name in names if name not in body]
    if missing:
        raise bad_request("[" + ",".join(f"{{key_missing,{name}}}" for name in missing) + "]")


def boolean(body: Mapping[str, Any], name: str, default: bool = False) -> bool:
    """A member that is true or false, or one of these words as text."""
    value = body.get(name, default)
    if value is True or value == "true":
        return True
    if value is False or value == "false":
        return False
    raise bad_request(["not_boolean", str(value)])


def text(body: Mapping[str, Any], name: str, default: str = "") -> str:
    """A member that is text."""
    value = body.get(name, default)
    if not isinstance(value, str):
        raise bad_request(["not_string", name])
    return value


def whole_number(body: Mapping[str, Any], name: str, default: int) -> int:
    """A member that is a whole number, also as digits in text."""
    value = body.get(name, default)
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_request(["not_int", name])
    return value


def table(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A member that is an object; an empty array, as Erlang writes an empty one, counts as one."""
    value = body.get(name) or {}
    if not isinstance(value, dict):
        raise bad_request(["not_object", name])
    return value
