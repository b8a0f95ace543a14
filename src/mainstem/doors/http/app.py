"""The application: from a request to the function of its route, and from any outcome to an answer.

Owns: routing by path and method, and that every error is a problem. Refuses: to show a traceback. Made by
`server.py`; knows no noun, only the declarations it is given.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

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


class _Text(Convertor[str]):
    """`{name:text}`: any characters of a path, slashes and ends of lines too."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("text", _Text())


class PathRoute:
    """All methods of one path."""

    def __init__(self, context: HttpContext, endpoints: Sequence[Endpoint]) -> None:
        self._context = context
        self._by_method = {each.method: each for each in endpoints}
        assert len(self._by_method) == len(endpoints), "a method of a path is declared once"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        response = await self._answer(Request(scope, receive))
        try:
            await response(scope, receive, send)
        except ConnectionError:
            log.debug("the client of %s went away", scope["path"])

    async def _answer(self, request: Request) -> Response:
        # A HEAD is answered like its GET; the server leaves the body out.
        method = "GET" if request.method == "HEAD" else request.method
        found = next((each for each in self._by_method.values() if each.method == method), None)
        if found is None:
            allowed = ", ".join(sorted(self._by_method))
            detail = f"{request.method} is not for this address; it takes {allowed}"
            return Problem("method", detail, headers={"allow": allowed}).response()
        try:
            return await found.handle(Call(self._context, found, request))
        except Problem as error:
            return error.response()
        except contract.StreamError as error:
            return problem.from_error(error).response()
        except Exception:
            log.exception("%s %s failed", request.method, request.url.path)
            return Problem("failed", "an error that the server did not expect; its log has it").response()


class _EveryMethodRoute(Route):
    """A route whose place says itself which methods it does not take. The methods are told to starlette,
    too: a later path that takes the method goes first (a group may be named `a/reset`)."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


async def _nothing_there(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        told = Problem("not-found", f"there is nothing at {scope['path'][:200]}")
        await told.response()(scope, receive, send)


def build(context: HttpContext, endpoints: Sequence[Endpoint], extra: Sequence[BaseRoute] = ()) -> ASGIApp:
    """The application of these routes; `extra` are files, tried last."""
    by_path: dict[str, list[Endpoint]] = {}
    for each in endpoints:
        by_path.setdefault(each.path, []).append(each)
    routes: list[BaseRoute] = [
        _EveryMethodRoute(path, PathRoute(context, found), methods=[each.method for each in found])
        for path, found in by_path.items()
    ]
    return Router([*routes, *extra], redirect_slashes=False, default=_nothing_there)
