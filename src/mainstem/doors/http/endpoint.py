"""The declaration of a route, and what the function of a route is called with.

Owns: `Endpoint`, from which the router and the OpenAPI document are made; `HttpContext`, which all routes
share; and `Call`, a request whose query parameters and body are checked against their declared types.
Refuses: bodies of a content type that the route does not declare.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mainstem.access_contract import Operation, RequesterRights, ResourceType
from mainstem.doors.http import bodies
from mainstem.doors.http.body_memory import BodyMemory
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.requesters import HttpCaller, RequestAuthentication, RunningRequests
from mainstem.doors.http.rights import RouteRights
from mainstem.doors.http.waiting_slots import WaitingSlots
from mainstem.turns import next_turn

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from mainstem.access_contract import AccessAdmin, ApiTokenStore, Authorizer
    from mainstem.audit.trail import AuditTrail
    from mainstem.clock import Clock
    from mainstem.contract import Engine
    from mainstem.door_contract import PublishesTokenKeys
    from mainstem.doors.contract import DiskUsage, DoorStatus, RequesterViews
    from mainstem.doors.http.request_time import RequestTime
    from mainstem.doors.http.sampler import Sampler
    from mainstem.doors.http.visible_totals import VisibleTotals
    from mainstem.doors.net.limits import MemoryBudget
    from mainstem.masking.contract import Masks
    from mainstem.quota_contract import ClientQuotas
    from mainstem.search.contract import Search

T = TypeVar("T")

JSON = "application/json"
NDJSON = "application/x-ndjson"

MANAGED_OPERATIONS = (
    *(Operation.READ, Operation.WRITE, Operation.CREATE, Operation.DELETE, Operation.ALTER),
    *(Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS, Operation.ALTER_CONFIGS),
)
"""Operations for which the console offers something."""

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
    authorizer: Authorizer
    admin: AccessAdmin
    api_tokens: ApiTokenStore | None
    """None: no API tokens are kept."""
    masks: Masks
    views: RequesterViews
    """The engine and the search for each requester."""
    quotas: ClientQuotas
    authentication: RequestAuthentication
    running: RunningRequests
    audit: AuditTrail | None
    clock: Clock
    sampler: Sampler
    max_body_bytes: int
    body_budget: MemoryBudget
    """The memory that the bodies of all requests share."""
    read_only: bool
    oidc_redirect: str | None
    """The address at which the login provider sends browsers back; None: by their Host header."""
    open_metrics: bool
    """Whether metrics are for everybody."""
    version: str
    """The version of mainstem."""
    kafka_address: str
    """HOST:PORT where Kafka clients connect."""
    token_keys: PublishesTokenKeys | None
    """The keys of tokens that pushed events are sent with; None: nothing is pushed."""
    disk_usage: Callable[[], DiskUsage] | None
    """Returns the disk usage of the log; None: the log is on another machine."""
    door_statuses: Callable[[], Sequence[DoorStatus]]
    """Returns the status of every door of the server, this one included."""
    search: Callable[[], Search]
    """Returns the search of everything, which is created at the first call. Routes use that of the call."""
    search_slots: asyncio.Semaphore
    """Has a slot for each search that may run at the same time."""
    waiting: WaitingSlots = field(default_factory=WaitingSlots)
    """The requests that wait for events."""
    running_replays: set[tuple[str, str]] = field(default_factory=set)
    """(topic, job) of each replay that is writing."""
    search_stats: SearchStats
    visible_totals: VisibleTotals
    closing: asyncio.Event
    """Set when the server stops: streaming responses then end."""

    async def yield_to_loop(self) -> None:
        """Let all other tasks of the event loop run, slices of other responses too, before this one
        continues."""
        await next_turn(self.clock)

    async def pause(self, seconds: float) -> None:
        """Sleep, but not longer than until the server stops."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.closing.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The declaration of a route: all that the router and the OpenAPI document need."""

    method: Method
    path: str
    """In starlette's notation: `/api/v1/topics/{topic}`."""
    handle: Callable[[Call], Awaitable[Response]]
    """Its docstring describes the route in the OpenAPI document, and its name is the operation's id."""
    tag: str
    rights: RouteRights
    """What is needed of who asks."""
    query: type[msgspec.Struct] | None = None
    """The type of the query parameters; `Meta(description=…)` describes them."""
    ignores_parameters: bool = False
    """Whether query parameters that are not declared are ignored, because another server chose them."""
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

    def __init__(
        self,
        context: HttpContext,
        endpoint: Endpoint,
        request: Request,
        caller: HttpCaller,
        time: RequestTime | None = None,
    ) -> None:
        """`time` measures the request; None: no quota needs it."""
        self.context = context
        self._endpoint = endpoint
        self._time = time
        self.become(caller)
        self.body_memory = BodyMemory(context.body_budget, context.clock)
        self.request = request
        self.media = content_type(request)
        self.query: Any = self._read_query()

    def become(self, caller: HttpCaller) -> None:
        """Let this be a request of `caller`."""
        self.caller = caller
        self.requester = requester = caller.requester
        self.rights = RequesterRights(self.context.authorizer, requester)
        is_open = self._endpoint.rights.is_open(self.context.open_metrics)
        self.is_limited = self.context.views.limit(requester) and not is_open
        """Whether there may be something that the requester may not see or do."""
        self.masks = self.context.views.masks(requester)
        """What is masked for the requester."""
        self.engine = self.context.views.engine(requester) if self.is_limited else self.context.engine
        """The engine as the requester may use it."""

    def as_task(self, work: Awaitable[T]) -> asyncio.Future[T]:
        """Run work of this request as a task of its own, whose time is the request's."""
        return asyncio.ensure_future(work if self._time is None else self._time.measured(work))

    def search(self) -> Search:
        """The search of what the requester may read."""
        return self.context.views.search(self.requester) if self.is_limited else self.context.search()

    def operations_on(self, resource_type: ResourceType, name: str) -> list[str] | msgspec.UnsetType:
        """What the requester may do to a resource; unset if there is nothing that it may not do."""
        if not self.is_limited:
            return msgspec.UNSET
        return [
            operation.name
            for operation in MANAGED_OPERATIONS
            if self.rights.allows(operation, resource_type, name)
        ]

    def reads(self, topic: str) -> bool:
        """Whether the requester may read a topic. For choosing among topics; the engine checks it again."""
        return not self.is_limited or self.rights.allows(Operation.READ, ResourceType.TOPIC, topic)

    def sees(self, resource_type: ResourceType, name: str) -> bool:
        """Whether the requester may describe the resource of this name. For figures that are not the
        engine's."""
        return not self.is_limited or self.rights.allows(Operation.DESCRIBE, resource_type, name)

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
            if name not in types and not self._endpoint.ignores_parameters:
                similar = difflib.get_close_matches(name, types, n=1)
                known = ", ".join(sorted(types)) or "none"
                fix = f"Did you mean {similar[0]}?" if similar else f"The parameters are: {known}."
                raise Problem("invalid", f"there is no parameter {name!r}", fix=fix)
        if declared is None:
            return None
        values: dict[str, Any] = {}
        for name in filter(types.__contains__, given):
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
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        super().__init__(parts, headers={"x-accel-buffering": "no", **more}, media_type=media)
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
    working = call.as_task(work)
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
    working = call.as_task(work)
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


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response with a JSON body."""
    return Response(msgspec.json.encode(value), status, headers, media_type=JSON)


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
