"""What a route is, and what its function is given.

Owns: the declaration (`Endpoint`), from which the router and the OpenAPI document are made, and `Call`: the
request with its query and body already checked against their types. Refuses: bodies of other content types.
Used by every noun of this door.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mainstem.doors.http import bodies
from mainstem.doors.http.problem import Problem
from mainstem.promise import Promise

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from mainstem.clock import Clock
    from mainstem.contract import Engine
    from mainstem.doors.http.sampler import Sampler
    from mainstem.search.contract import Search

T = TypeVar("T")

JSON = "application/json"
NDJSON = "application/x-ndjson"

Method = Literal["GET", "POST", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUsage:
    """Bytes: of the log's files, and of the file system that they are on."""

    used_bytes: int
    free_bytes: int
    total_bytes: int


MetricSample = tuple[str, tuple[str, ...], float]
"""Of a metric: its name, the values of its labels, the number."""


@dataclass(slots=True)
class SearchStats:
    """What searches have done since the start."""

    running: int = 0
    total: int = 0
    scanned_bytes: int = 0
    skipped_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpContext:
    """What all routes share."""

    engine: Engine
    clock: Clock
    sampler: Sampler
    max_body_bytes: int
    read_only: bool
    version: str
    """Of mainstem."""
    kafka_address: str
    """Where the stream is: HOST:PORT of Kafka's protocol."""
    disk_usage: Callable[[], DiskUsage] | None
    """None: the log is elsewhere."""
    kafka_metrics: Callable[[], Iterable[MetricSample]]
    """What the Kafka door beside this one tells of itself."""
    search: Callable[[], Search]
    """The search, made when it is first asked for."""
    search_slots: asyncio.Semaphore
    """One for each search that may run at once."""
    running_replays: set[tuple[str, str]] = field(default_factory=set)
    """Topic and job of those that are writing."""
    search_stats: SearchStats
    closing: asyncio.Event
    """Set when the server stops: what streams comes to its end."""

    async def yield_to_loop(self) -> None:
        """Let everything else on the loop have its turn."""
        later: Promise[None] = Promise()
        self.clock.call_soon(lambda: later.resolve(None))
        await later

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the server's end."""
        try:
            await asyncio.wait_for(self.closing.wait(), seconds)
        except TimeoutError:
            pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A route, declared: everything that router and OpenAPI document need to know of it."""

    method: Method
    path: str
    """As starlette writes it: `/api/v1/topics/{topic}`."""
    handle: Callable[[Call], Awaitable[Response]]
    """Its docstring is the route's text, its name the operation's id."""
    tag: str
    query: type[msgspec.Struct] | None = None
    """The parameters after `?`; their docs stand in Meta(description=…)."""
    bodies: Mapping[str, Any] = field(default_factory=dict)
    """Type of the body by content type. Binary modes are `*/*` with bytes."""
    reply: Any = None
    """Type of the answer's JSON (or of each line or event, if it streams)."""
    media: str = JSON
    other_media: tuple[str, ...] = ()
    """What the answer may be instead, as text."""
    problems: tuple[str, ...] = ()
    """Kinds that this route has beside those that every route has."""
    status: int = 200
    other_replies: Mapping[int, Any] = field(default_factory=dict)
    """Type of the JSON of answers with another status that are no problems."""
    link_sources: Mapping[str, str] = field(default_factory=dict)
    """Where in the answer a part of other routes' paths stands: {"topic": "/topics/0/topic"}."""


class Call:
    """One request, on its way through a route's function."""

    def __init__(self, context: HttpContext, endpoint: Endpoint, request: Request) -> None:
        self.context = context
        self.engine = context.engine
        self.request = request
        self._endpoint = endpoint
        self.media = content_type(request)
        self.query: Any = self._read_query()

    # ------------------------------------------------------------------------------------------------------
    # the address

    def path_parameter(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def path_partition(self) -> int:
        """The partition of the path."""
        text = self.path_parameter("partition")
        if not (text.isascii() and text.isdigit() and len(text) <= 10) or int(text) > 2**31 - 1:
            raise Problem("bad-path", f"{text!r} is not the number of a partition")
        return int(text)

    def _read_query(self) -> Any:
        wanted = self._endpoint.query
        given = self.request.query_params
        names = set(wanted.__struct_encode_fields__) if wanted is not None else set()
        for name in given:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = (
                    f"Did you mean {near[0]}?" if near else f"It takes {', '.join(sorted(names)) or 'none'}."
                )
                raise Problem("invalid", f"there is no parameter {name!r} here", fix=hint)
        if wanted is None:
            return None
        declared = {each.encode_name: each.type for each in msgspec.structs.fields(wanted)}
        lists = {name for name, kind in declared.items() if _has(kind, list)}
        texts = {name for name, kind in declared.items() if _has(kind, str)}
        values: dict[str, Any] = {}
        for name in given:
            found = given.getlist(name)
            if name in lists:
                values[name] = [part for text in found for part in text.split(",") if part]
            elif len(found) > 1:
                raise Problem("invalid", f"the parameter {name!r} is given twice")
            elif found[0] == "null" and name not in texts:
                raise Problem("invalid", f"the parameter {name!r} is null; leave it out")
            else:
                values[name] = found[0]
        try:
            return msgspec.convert(values, wanted, strict=False)
        except msgspec.ValidationError as error:
            raise Problem("invalid", f"in the parameters: {error}") from None

    # ------------------------------------------------------------------------------------------------------
    # the body

    async def json_body(self, kind: type[T]) -> T:
        """The whole JSON body as `kind`, up to COMMAND_BYTES_MAX; an empty body counts as `{}`."""
        if self.media != JSON:
            raise unsupported_media_type(self.media, (JSON,))
        limit = min(bodies.COMMAND_BYTES_MAX, self.context.max_body_bytes)
        data = await bodies.read_whole(self.request, self.context.clock, limit)
        return bodies.read_json(data or b"{}", kind)

    async def whole_body(self) -> bytes:
        """All of the body, up to the limit."""
        return await bodies.read_whole(self.request, self.context.clock, self.context.max_body_bytes)

    def body_chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, for as long as it comes."""
        return bodies.chunks(self.request, self.context.clock, endless=True)


class StreamedResponse(StreamingResponse):
    """An answer that is made while it is sent. `release` is awaited at the end, also when nobody came to read
    the beginning."""

    def __init__(
        self,
        parts: AsyncIterator[bytes],
        media: str,
        release: Callable[[], Awaitable[None]] | None = None,
        **headers: str,
    ) -> None:
        told = {"cache-control": "no-store", "x-accel-buffering": "no"}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        super().__init__(parts, headers=told, media_type=media)
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._release is not None:
                await self._release()


def json_response(value: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(value), status, media_type=JSON)


_LINE_ENDS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))
"""What some readers of lines take for the end of one, and how JSON writes it otherwise."""


def json_line(value: object) -> bytes:
    """JSON in one line, whatever is in it and whoever splits it."""
    encoded = msgspec.json.encode(value)
    if encoded.isascii():
        return encoded
    for plain, escaped in _LINE_ENDS:
        encoded = encoded.replace(plain, escaped)
    return encoded


def content_type(request: Request) -> str:
    """The body's content type without parameters, in small letters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def unsupported_media_type(media: str, wanted: tuple[str, ...]) -> Problem:
    """The problem of a content type that is not among `wanted`."""
    given = f"the content type {media!r} is not taken here" if media else "there is no Content-Type header"
    return Problem("media-type", f"{given}; send {' or '.join(wanted)}")


def _has(kind: Any, wanted: type) -> bool:
    """Whether a declared type is, or may be, `wanted`."""
    return (
        kind is wanted
        or getattr(kind, "__origin__", None) is wanted
        or any(_has(each, wanted) for each in getattr(kind, "__args__", ()))
    )
