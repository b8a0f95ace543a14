"""The declaration of a route, and what the function of a route is called with.

Owns: `Endpoint`, from which the router and the OpenAPI document are made; `HttpContext`, which all routes
share; and `Call`, a request whose query parameters and body are checked against their declared types.
Refuses: bodies of a content type that the route does not declare.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mainstem.doors.http import bodies
from mainstem.doors.http.body_memory import BodyMemory
from mainstem.doors.http.problem import Problem
from mainstem.turns import next_turn

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from mainstem.clock import Clock
    from mainstem.contract import Engine
    from mainstem.doors.contract import DiskUsage, DoorStatus
    from mainstem.doors.http.sampler import Sampler
    from mainstem.doors.net.limits import MemoryBudget
    from mainstem.search.contract import Search

T = TypeVar("T")

JSON = "application/json"
NDJSON = "application/x-ndjson"

Method = Literal["GET", "POST", "PATCH", "DELETE"]


@dataclass(slots=True)
class SearchStats:
    """Counters of the searches of the HTTP door: those that are running, and totals since the start."""

    running: int = 0
    total: int = 0
    scanned_bytes: int = 0
    skipped_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpContext:
    """The objects and settings that all routes share."""

    engine: Engine
    clock: Clock
    sampler: Sampler
    max_body_bytes: int
    body_budget: MemoryBudget
    """The memory that the bodies of all requests share."""
    read_only: bool
    version: str
    """The version of mainstem."""
    kafka_address: str
    """HOST:PORT where Kafka clients connect."""
    disk_usage: Callable[[], DiskUsage] | None
    """Returns the disk usage of the log; None: the log is on another machine."""
    door_statuses: Callable[[], Sequence[DoorStatus]]
    """Returns the status of every door of the server, this one included."""
    search: Callable[[], Search]
    """Returns the search, which is created at the first call."""
    search_slots: asyncio.Semaphore
    """Has a slot for each search that may run at the same time."""
    running_replays: set[tuple[str, str]] = field(default_factory=set)
    """(topic, job) of each replay that is writing."""
    search_stats: SearchStats
    closing: asyncio.Event
    """Set when the server stops: streaming responses then end."""

    async def yield_to_loop(self) -> None:
        """Let all other tasks of the event loop run, slices of other responses too, before this one
        continues."""
        await next_turn(self.clock)

    async def pause(self, seconds: float) -> None:
        """Sleep, but not longer than until the server stops."""
        try:
            await asyncio.wait_for(self.closing.wait(), seconds)
        except TimeoutError:
            pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The declaration of a route: all that the router and the OpenAPI document need."""

    method: Method
    path: str
    """In starlette's notation: `/api/v1/topics/{topic}`."""
    handle: Callable[[Call], Awaitable[Response]]
    """Its docstring describes the route in the OpenAPI document, and its name is the operation's id."""
    tag: str
    query: type[msgspec.Struct] | None = None
    """The type of the query parameters; `Meta(description=…)` describes them."""
    bodies: Mapping[str, Any] = field(default_factory=dict)
    """The type of the body for each content type. Binary modes are `*/*` with bytes."""
    reply: Any = None
    """The type of the reply's JSON; for a stream, of each line or event."""
    media: str = JSON
    other_media: tuple[str, ...] = ()
    """Content types that the reply may have instead, as text."""
    problems: tuple[str, ...] = ()
    """Kinds of problems beyond those that every route has."""
    status: int = 200
    other_replies: Mapping[int, Any] = field(default_factory=dict)
    """The JSON type of replies with another status that are not problems."""
    link_sources: Mapping[str, str] = field(default_factory=dict)
    """Where the reply holds a value for the path of other routes, as a JSON pointer: {"topic":
    "/topics/0/topic"}."""


class Call:
    """One request, as the function of a route sees it. Its query parameters have been checked."""

    def __init__(self, context: HttpContext, endpoint: Endpoint, request: Request) -> None:
        self.context = context
        self.engine = context.engine
        self.body_memory = BodyMemory(context.body_budget, context.clock)
        self.request = request
        self._endpoint = endpoint
        self.media = content_type(request)
        self.query: Any = self._read_query()

    # ------------------------------------------------------------------------------------------------------
    # the address

    def path_parameter(self, name: str) -> str:
        """The value of a `{name}` in the route's path."""
        return str(self.request.path_params[name])

    def path_partition(self) -> int:
        """The partition number in the path."""
        text = self.path_parameter("partition")
        if not (text.isascii() and text.isdigit() and len(text) <= 10) or int(text) > 2**31 - 1:
            raise Problem("bad-path", f"{text!r} is not a partition number")
        return int(text)

    def _read_query(self) -> Any:
        declared = self._endpoint.query
        given = self.request.query_params
        fields = () if declared is None else msgspec.structs.fields(declared)
        types = {parameter.encode_name: parameter.type for parameter in fields}
        for name in given:
            if name not in types:
                similar = difflib.get_close_matches(name, types, n=1)
                known = ", ".join(sorted(types)) or "none"
                fix = f"Did you mean {similar[0]}?" if similar else f"The parameters are: {known}."
                raise Problem("invalid", f"there is no parameter {name!r}", fix=fix)
        if declared is None:
            return None
        values: dict[str, Any] = {}
        for name in given:
            texts = given.getlist(name)
            if _may_be(types[name], list):
                values[name] = [part for text in texts for part in text.split(",") if part]
            elif len(texts) > 1:
                raise Problem("invalid", f"the parameter {name!r} is given twice")
            elif texts[0] == "null" and not _may_be(types[name], str):
                raise Problem("invalid", f"the parameter {name!r} is null; omit it instead")
            else:
                values[name] = texts[0]
        try:
            return msgspec.convert(values, declared, strict=False)
        except msgspec.ValidationError as error:
            raise Problem("invalid", f"in the parameters: {error}") from None

    # ------------------------------------------------------------------------------------------------------
    # the body

    async def json_body(self, body_type: type[T]) -> T:
        """The whole JSON body as `body_type`, at most COMMAND_BYTES_MAX. An empty body counts as `{}`."""
        if self.media != JSON:
            raise unsupported_media_type(self.media, (JSON,))
        limit = min(bodies.COMMAND_BYTES_MAX, self.context.max_body_bytes)
        data = await bodies.read_whole(self.request, self.context.clock, self.body_memory, limit)
        return bodies.read_json(data or b"{}", body_type)

    async def whole_body(self) -> bytes:
        """The whole body. Raises the problem `body-too-large` above the limit `http_max_body_bytes`."""
        limit = self.context.max_body_bytes
        return await bodies.read_whole(self.request, self.context.clock, self.body_memory, limit)

    def body_chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, without a limit of its length. The caller counts what it holds of it in
        `body_memory`."""
        return bodies.chunks(self.request, self.context.clock, self.body_memory, endless=True)


class StreamedResponse(StreamingResponse):
    """A response that is made while it is sent. `release` is awaited at the end, even if the client left
    before the first byte."""

    def __init__(
        self,
        parts: AsyncIterator[bytes],
        media: str,
        release: Callable[[], Awaitable[None]] | None = None,
        **headers: str,
    ) -> None:
        all_headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        all_headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        super().__init__(parts, headers=all_headers, media_type=media)
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._release is not None:
                await self._release()


async def unless_client_leaves(call: Call, work: Awaitable[T]) -> T:
    """The result of `work`, which precedes the response. If the client closes the connection meanwhile, the
    work is cancelled, and the Problem that this raises reaches no client."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_client_has_left(call))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Problem("busy", "the client closed the connection")
        return working.result()
    finally:
        leaving.cancel()
        if working.cancel():
            await asyncio.wait((working,))


async def while_wanted(call: Call, work: Awaitable[T]) -> T | None:
    """The result of `work`; None if the client leaves or the server stops before there is a result, and then
    the work is cancelled."""
    working = asyncio.ensure_future(work)
    ends = (
        asyncio.ensure_future(_client_has_left(call)),
        asyncio.ensure_future(call.context.closing.wait()),
    )
    try:
        await asyncio.wait((working, *ends), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            await asyncio.wait((working,))
        return None if working.cancelled() else working.result()
    finally:
        for task in (working, *ends):
            task.cancel()


async def _client_has_left(call: Call) -> None:
    while (await call.request.receive())["type"] != "http.disconnect":
        pass


async def start_stream(
    call: Call, parts: AsyncGenerator[bytes, None], release: Callable[[], Awaitable[None]]
) -> tuple[AsyncIterator[bytes], Callable[[], Awaitable[None]]]:
    """Make the first of `parts`, so that an error at the beginning becomes a problem and not a broken
    response.

    Returns all the parts, and a function that ends them and then awaits `release`. It must be awaited in any
    case: it also writes the audit line that `parts` leaves at its end."""
    try:
        first = await unless_client_leaves(call, anext(parts, b""))
    except BaseException:
        await release()
        raise

    async def all_parts() -> AsyncIterator[bytes]:
        yield first
        async for part in parts:
            yield part

    async def end() -> None:
        try:
            await parts.aclose()
        finally:
            await release()

    return all_parts(), end


def json_response(value: object, status: int = 200) -> Response:
    """A response with a JSON body."""
    return Response(msgspec.json.encode(value), status, media_type=JSON)


_LINE_ENDS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))
"""Characters that some readers take for the end of a line, and their escape sequences in JSON."""


def json_line(value: object) -> bytes:
    """JSON on one line, without any character that a reader could take for a line end."""
    encoded = msgspec.json.encode(value)
    if encoded.isascii():
        return encoded
    for character, escaped in _LINE_ENDS:
        encoded = encoded.replace(character, escaped)
    return encoded


def content_type(request: Request) -> str:
    """The content type of the body, without parameters and in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def unsupported_media_type(media: str, supported: tuple[str, ...]) -> Problem:
    """The problem of a content type that is not among `supported`."""
    cause = (
        f"the content type {media!r} is not supported here" if media else "there is no Content-Type header"
    )
    return Problem("media-type", f"{cause}; send {' or '.join(supported)}")


def _may_be(declared: Any, expected: type) -> bool:
    """Whether a declared type is `expected`, or a union or annotation that contains it."""
    return (
        declared is expected
        or getattr(declared, "__origin__", None) is expected
        or any(_may_be(argument, expected) for argument in getattr(declared, "__args__", ()))
    )
