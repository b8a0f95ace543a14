"""The ASGI application: calls the function of a request's route, and turns every outcome into a response.

Owns: routing by path and method, and turning every error into a problem. Refuses: to show a traceback to a
client. Knows only the declarations of routes that it is given.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router

from mainstem import contract
from mainstem.doors.http import problem
from mainstem.doors.http.endpoint import Call, Endpoint, HttpContext
from mainstem.doors.http.problem import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger("mainstem.http")


class _AnyText(Convertor[str]):
    """Matches `{name:text}` in a path: any characters, including slashes and line ends."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _WithoutColon(_AnyText):
    """Matches `{name:word}` in a path: one part of it without a colon, as `/{name:word}:verb` is another
    path."""

    regex = "[^/:]+"


register_url_convertor("text", _AnyText())
register_url_convertor("word", _WithoutColon())


def _check_utf8(scope: Scope) -> None:
    """Raise a problem if the path or the query string is not UTF-8. Otherwise its bytes would be replaced,
    and the request would mean another topic, group or text than it names."""
    for kind, text in (("bad-path", scope["raw_path"]), ("invalid", scope["query_string"])):
        try:
            unquote_to_bytes(text).decode()
        except UnicodeDecodeError:
            what = "path" if kind == "bad-path" else "query string"
            raise Problem(kind, f"the percent-encoded bytes in the {what} are not UTF-8") from None


class PathRoute:
    """The ASGI application of one path: it calls the endpoint of the request's method."""

    def __init__(self, context: HttpContext, endpoints: Sequence[Endpoint]) -> None:
        self._context = context
        self._by_method = {endpoint.method: endpoint for endpoint in endpoints}
        assert len(self._by_method) == len(endpoints), "a method of a path is declared once"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response of the endpoint that serves the request's method on this path, or a problem."""
        response = await self._respond(Request(scope, receive))
        try:
            await response(scope, receive, send)
        except ConnectionError:
            log.debug("%s: the client closed the connection before the end of the response", scope["path"])

    async def _respond(self, request: Request) -> Response:
        # A HEAD is handled like a GET; the server omits the body.
        method = "GET" if request.method == "HEAD" else request.method
        match = next((endpoint for endpoint in self._by_method.values() if endpoint.method == method), None)
        if match is None:
            allowed = ", ".join(sorted(self._by_method))
            detail = f"this path does not accept {request.method}; use {allowed}"
            return Problem("method", detail, headers={"allow": allowed}).response()
        call = None
        try:
            _check_utf8(request.scope)
            call = Call(self._context, match, request)
            return await match.handle(call)
        except Problem as error:
            return error.response()
        except contract.StreamError as error:
            return problem.from_error(error).response()
        except Exception as error:
            return problem.from_failure(error, request.scope).response()
        finally:
            if call is not None:
                call.body_memory.close()


class _EveryMethodRoute(Route):
    """A route whose application itself refuses the methods that it does not have. Starlette still needs the
    list of methods: if another path also matches and has the method, that path is used (a group may have the
    name `a/reset`)."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        refusal = Problem("not-found", f"there is nothing at {scope['path'][:200]}")
        await refusal.response()(scope, receive, send)


def build(context: HttpContext, endpoints: Sequence[Endpoint], extra: Sequence[BaseRoute] = ()) -> ASGIApp:
    """The application with these routes; the `extra` ones, which serve files, are tried last."""
    by_path: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, []).append(endpoint)
    routes: list[BaseRoute] = [
        _EveryMethodRoute(
            path, PathRoute(context, same_path), methods=[endpoint.method for endpoint in same_path]
        )
        for path, same_path in by_path.items()
    ]
    return Router([*routes, *extra], redirect_slashes=False, default=_not_found)
